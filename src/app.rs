//! The composition root: builds the service from its parts and takes it down again.
//!
//! Promises: when [`App::start`] returns, clients are served; after a clean [`Running::shutdown`] every acknowledged change
//! is durable, every request that was under way has its answer, and nothing of the service is left.
//! Knows nothing of signals, of the command line and of what the parts do.

mod settings;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{select, time};
use tracing::info;

use crate::{
    clock::Clock,
    config::{Config, StoreUrl},
    engine::{Engine, EngineError, postgres::Postgres, sqlite::Sqlite},
    http::{self, Api, Readiness, serve::Server},
    metrics::Metrics,
    publish::{Hub, Publisher, Streams},
    store::JobStore,
    sweep::Sweeper,
    tasks::{self, About, Death, Ended, Reactor, Tasks, Unfinished},
};

pub use self::settings::server as server_settings;

/// How long the last commits, and then the engine, may take; a commit takes milliseconds.
const CLOSE_GRACE: Duration = Duration::from_secs(10);
/// What the engine's own work may take to be given up.
const ATTENDANT_GRACE: Duration = Duration::from_secs(1);
/// What waking the last readers may take.
const PUBLISHER_GRACE: Duration = Duration::from_secs(1);
/// What the sweeper may take to stand still; what it has asked for is done all the same.
const SWEEPER_GRACE: Duration = Duration::from_secs(1);
/// What cutting connections may take after the drain time is over.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// What a service is made of, before it runs.
pub struct App {
    config: Config,
    engine: Arc<dyn Engine>,
    clock: Clock,
}

/// A service that serves. Dropping it stops it at once, as a crash would.
pub struct Running {
    address: SocketAddr,
    tasks: Tasks,
    readiness: Readiness,
    hub: Arc<Hub>,
    store: JobStore,
    engine: Arc<dyn Engine>,
}

/// Why a service could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The address could not be listened on.
    #[error("{address} cannot be listened on: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// What a service that was told to stop could not bring to its end.
#[derive(Debug, Error)]
pub enum StopError {
    /// A task could not finish.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// The engine could not be closed.
    #[error("the store could not be closed: {0}")]
    Engine(#[from] EngineError),
    /// The engine took too long.
    #[error("the store was not closed in time")]
    Overdue,
}

/// The engine that a configuration names.
///
/// # Errors
/// When its store cannot be opened, or another process has it.
pub async fn open_engine(config: &Config, clock: Clock) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match &config.store.url {
        StoreUrl::Directory(directory) => Arc::new(Sqlite::open(directory, settings::sqlite(config), clock)?),
        StoreUrl::Postgres(url) => Arc::new(Postgres::open(settings::postgres(config, url), clock).await?),
    })
}

/// Makes the settings of every part, for fuzzers; see `fuzzing.rs`.
#[cfg(any(test, fuzzing))]
pub(crate) fn settle(config: &Config) {
    let _settings =
        (settings::store(config), settings::http(config), settings::sweep(config), settings::sqlite(config));
    let _settings = (settings::streams(config), settings::server(config));
    if let StoreUrl::Postgres(url) = &config.store.url {
        let _settings = settings::postgres(config, url);
    }
}

impl App {
    /// Opens the store that a configuration names and serves it.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(config: Config) -> Result<Running, StartError> {
        Self::open(config, Clock::system()).await?.serve().await
    }

    /// The service of a configuration, at the time of this clock.
    ///
    /// # Errors
    /// [`StartError::Engine`]
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let engine = open_engine(&config, clock.clone()).await?;
        Ok(Self::new(config, engine, clock))
    }

    /// The service of a configuration, on an engine that is open already.
    pub fn new(config: Config, engine: Arc<dyn Engine>, clock: Clock) -> Self {
        Self { config, engine, clock }
    }

    /// Starts serving.
    ///
    /// # Errors
    /// [`StartError::Listen`]
    pub async fn serve(self) -> Result<Running, StartError> {
        let Self { config, engine, clock } = self;
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::new();
        let hub = Arc::new(Hub::new());
        let (store, committer, attendant) =
            JobStore::new(engine.clone(), settings::store(&config), clock, metrics.store.clone(), hub.clone());
        let api = Api {
            store: store.clone(),
            metrics: metrics.clone(),
            settings: Arc::new(settings::http(&config)),
            readiness: readiness.clone(),
            streams: Streams::new(hub.clone(), store.clone(), settings::streams(&config)),
        };
        let listen = config.http.listen;
        let refused = |cause| StartError::Listen { address: listen, cause };
        let server =
            Server::bind(listen, http::router(api), settings::server(&config), &metrics.http).map_err(refused)?;
        let address = server.address().map_err(refused)?;

        // They end in reverse: first the server, so that whatever it still answers can be committed.
        let mut tasks = Tasks::new();
        let closing = store.clone();
        let reactor = if engine.is_remote() { Reactor::Own } else { Reactor::Shared };
        tasks.vital_thread(About { name: "committer", grace: CLOSE_GRACE }, move || closing.close(), reactor, async {
            committer.run().await;
            Ended::Complete
        });
        let (stopper, mut stop) = tasks::stop();
        tasks.vital(About { name: "attendant", grace: ATTENDANT_GRACE }, move || stopper.stop(), async move {
            select! {
                () = stop.requested() => {}
                () = attendant.run() => {}
            }
            Ended::Complete
        });
        let (stopper, stop) = tasks::stop();
        let publisher = Publisher::new(hub.clone(), Duration::from_millis(config.push.calm_milliseconds.into()));
        tasks.vital(About { name: "publisher", grace: PUBLISHER_GRACE }, move || stopper.stop(), async {
            publisher.run(stop).await;
            Ended::Complete
        });
        let (stopper, stop) = tasks::stop();
        let sweeper = Sweeper::new(store.clone(), settings::sweep(&config), metrics.sweep.clone());
        tasks.vital(About { name: "sweeper", grace: SWEEPER_GRACE }, move || stopper.stop(), async {
            sweeper.run(stop).await;
            Ended::Complete
        });
        let (stopper, stop) = tasks::stop();
        let drain = Duration::from_secs(config.http.drain_seconds.into());
        let about = About { name: "server", grace: drain + CUT_GRACE };
        tasks.vital(about, move || stopper.stop(), server.run(stop));
        Ok(Running { address, tasks, readiness, hub, store, engine })
    }
}

impl Running {
    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a part dies without which it cannot serve.
    pub async fn death(&mut self) -> Death {
        self.tasks.death().await
    }

    /// Takes it down in order: it is no longer ready, stops accepting, answers what is under way, commits what is
    /// acknowledged and lets go of the store.
    ///
    /// # Errors
    /// The first thing that was not brought to its end; the rest is done all the same.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.readiness.drain();
        self.hub.close();
        self.store.end_waiting();
        let finished = self.tasks.shutdown().await.map_err(StopError::from);
        let closed = match time::timeout(CLOSE_GRACE, self.engine.close()).await {
            Ok(closed) => closed.map_err(StopError::from),
            Err(_) => Err(StopError::Overdue),
        };
        finished.and(closed)?;
        info!("stopped");
        Ok(())
    }
}
