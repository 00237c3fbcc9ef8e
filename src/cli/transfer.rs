//! `milepost export`, `import`, `backup`, `verify` and `migrate`: jobs out of a store and into one, what is wrong with one, and
//! stores from one version to the next.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
    pin::pin,
};

use futures_util::StreamExt;
use thiserror::Error;
use tokio::runtime::{self, Runtime};

use crate::{
    app,
    clock::Clock,
    config::{Config, StoreUrl},
    engine::{
        EngineError,
        sqlite::{self, Verified},
    },
    store::portable::{self, ImportError, Imported, Importer},
    telemetry::{self, TelemetryError},
};

/// Why jobs could not be brought out of a store or into it.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The system gave no threads.
    #[error("no runtime: {0}")]
    Runtime(#[source] io::Error),
    /// There is no log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file to read from or write to failed.
    #[error("{file}: {cause}")]
    File {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Only a store of the embedded engine is a file; what is done with one on PostgreSQL.
    #[error("a store on PostgreSQL is {0}")]
    NotEmbedded(&'static str),
    /// The store is damaged.
    #[error("faults found: {0}")]
    Damaged(u64),
    /// The import ended early.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// What an import has done, as a sentence.
pub(super) struct Done(Imported);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "imported {} jobs with {} log lines", self.0.jobs, self.0.lines)
    }
}

/// A store without damage, as a sentence.
pub(super) struct Whole(Verified);

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing is damaged: {} jobs with {} log lines", self.0.jobs, self.0.lines)
    }
}

/// Writes everything to a file, or to stdout; reads the store beside a service that may be running.
pub(super) fn export(config: &Config, output: Option<&Path>) -> Result<(), TransferError> {
    let _log = telemetry::start(&config.log)?;
    match output {
        Some(path) => {
            let failed = |cause| TransferError::File { file: path.display().to_string(), cause };
            let file = File::create(path).map_err(failed)?;
            write_export(config, &file, failed)?;
            file.sync_all().map_err(failed)
        }
        None => write_export(config, io::stdout().lock(), |cause| TransferError::File { file: "stdout".into(), cause }),
    }
}

fn write_export(
    config: &Config,
    out: impl Write,
    failed: impl Fn(io::Error) -> TransferError,
) -> Result<(), TransferError> {
    let mut out = BufWriter::new(out);
    runtime()?.block_on(async {
        let clock = Clock::system();
        let now = clock.now();
        let pieces = match &config.store.url {
            // Beside the process that has it open.
            StoreUrl::Directory(directory) => sqlite::export(directory)?,
            StoreUrl::Postgres(_) => app::open_engine(config, clock).await?.export().await?,
        };
        let mut text = pin!(portable::stream(pieces, now));
        while let Some(chunk) = text.next().await {
            out.write_all(&chunk?).map_err(&failed)?;
        }
        out.flush().map_err(&failed)
    })
}

/// Reads an export into the store. A file is read twice: first to see that nothing will stop the import half-way.
pub(super) fn import(config: &Config, file: &Path) -> Result<Done, TransferError> {
    let _log = telemetry::start(&config.log)?;
    let open = || {
        File::open(file)
            .map(BufReader::new)
            .map_err(|cause| TransferError::File { file: file.display().to_string(), cause })
    };
    let from_stdin = file == "-";
    let first = if from_stdin { None } else { Some(open()?) };
    runtime()?.block_on(async {
        let clock = Clock::system();
        let engine = app::open_engine(config, clock.clone()).await?;
        let importer = Importer::new(&*engine);
        let imported = match first {
            None => importer.import(io::stdin().lock()).await,
            Some(file) => {
                importer.check(file, clock.now()).await?;
                importer.import(open()?).await
            }
        };
        let closed = engine.close().await;
        let imported = imported?;
        closed?;
        Ok(Done(imported))
    })
}

/// Opens the store, which brings it up to date, and closes it.
pub(super) fn migrate(config: &Config) -> Result<(), TransferError> {
    let _log = telemetry::start(&config.log)?;
    runtime()?.block_on(async { Ok(app::open_engine(config, Clock::system()).await?.close().await?) })
}

/// Copies the store into a file.
pub(super) fn backup(config: &Config, file: &Path) -> Result<(), TransferError> {
    let _log = telemetry::start(&config.log)?;
    match &config.store.url {
        StoreUrl::Directory(directory) => Ok(sqlite::backup(directory, file)?),
        StoreUrl::Postgres(_) => Err(TransferError::NotEmbedded(
            "backed up with PostgreSQL's own tools, such as pg_dump; or use `milepost export`",
        )),
    }
}

/// Looks through the store, and says what is damaged, a line for each fault.
pub(super) fn verify(config: &Config, say: &mut dyn FnMut(&str)) -> Result<Whole, TransferError> {
    let _log = telemetry::start(&config.log)?;
    match &config.store.url {
        StoreUrl::Directory(directory) => {
            let verified = sqlite::verify(directory, say)?;
            if verified.faults == 0 { Ok(Whole(verified)) } else { Err(TransferError::Damaged(verified.faults)) }
        }
        StoreUrl::Postgres(_) => {
            Err(TransferError::NotEmbedded("looked through with PostgreSQL's own tools: data checksums and pg_amcheck"))
        }
    }
}

fn runtime() -> Result<Runtime, TransferError> {
    runtime::Builder::new_multi_thread().enable_all().build().map_err(TransferError::Runtime)
}
