//! The life of the process: what was asked, what is configured, serving, the signal, draining, the exit code.

use std::{panic, process::ExitCode};

use milepost::{
    app::App,
    cli::{self, Cli, CliError},
    config::Config,
    descriptors, telemetry,
};
use tokio::{
    runtime, select,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // A panic has been logged; what is left to say is the exit code.
    let ended = panic::catch_unwind(|| cli.run(serve)).unwrap_or(Err(CliError::Panic));
    match ended {
        Ok(code) => code,
        Err(error) => {
            cli::complain(&error);
            error.exit_code()
        }
    }
}

fn serve(config: Config) -> Result<(), CliError> {
    let _log = telemetry::start(&config.log)?;
    descriptors::raise(config.http.connections_max);
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::system("no threads"))?;
    let lived = runtime.block_on(live(config));
    // Nothing of ours is left but what did not end in its time.
    runtime.shutdown_background();
    lived
}

async fn live(config: Config) -> Result<(), CliError> {
    // First of all, so that a signal that comes while the store is opened is kept and obeyed then.
    let mut signals = Signals::new()?;
    let mut running = App::start(config).await?;
    let listening = format!("listening on http://{}", running.address());
    info!("{listening}");
    if let Err(error) = cli::say(listening) {
        warn!("{error}");
    }
    let died = select! {
        name = signals.next() => {
            info!(signal = name, "stopping");
            Ok(())
        }
        death = running.death() => Err(death),
    };
    select! {
        stopped = running.shutdown() => Ok(died.and(Ok(stopped?))?),
        _ = signals.next() => Err(CliError::Impatience),
    }
}

/// The signals that ask for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::system("signals"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
