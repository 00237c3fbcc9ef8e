//! Servers in processes of their own, to be killed.
//!
//! Promises: a process that was started here is dead and buried when its handle is gone, whatever a test did; processes
//! are stopped by their own id and nothing else. Waiting is for events, with a bound.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::{select, sync::oneshot, time};

/// How long anything that a test waits for may take on a very busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a server.
pub(crate) struct Launch {
    command: Command,
    log: PathBuf,
}

/// A server that may not serve yet.
pub(super) struct Starting {
    process: Process,
    first_line: oneshot::Receiver<Option<String>>,
    begun: Instant,
}

/// A server that serves.
pub(crate) struct Server {
    process: Process,
    /// `http://127.0.0.1:PORT`
    pub(super) url: String,
    /// From its start to the line that says where it listens.
    pub(super) start_time: Duration,
}

struct Process {
    child: Child,
    /// Closed when its standard output is, which is when it ends.
    ended: Option<oneshot::Receiver<()>>,
    log: PathBuf,
}

impl Launch {
    /// `milepost serve` on a store; what it logs is added to the file.
    pub(crate) fn serve(store: &Path, log: &Path) -> Self {
        Self::under(&[], store, log)
    }

    /// The same, under another program, which must become the server in the end.
    pub(super) fn under(program: &[&str], store: &Path, log: &Path) -> Self {
        let milepost = [env!("CARGO_BIN_EXE_milepost"), "serve", "--store"];
        let mut words = program.iter().chain(&milepost);
        let mut command = isolated(words.next().expect("a program"));
        command.args(words).arg(store).env("MILEPOST_LOG_REQUESTS", "none").env("MILEPOST_LOG_FORMAT", "json");
        command.env("MILEPOST_LISTEN", "127.0.0.1:0");
        Self { command, log: log.to_owned() }
    }

    /// On this address and not on a port that is free.
    pub(crate) fn at(self, address: &str) -> Self {
        self.env("MILEPOST_LISTEN", address)
    }

    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.command.env(name, value.to_string());
        self
    }

    pub(super) fn start(mut self) -> Starting {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let begun = Instant::now();
        let mut child = self.command.spawn().expect("the server starts");
        let (line, first_line) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let stdout = child.stdout.take().expect("its output is piped");
        thread::spawn(move || watch_output(stdout, line, end));
        Starting { process: Process { child, ended: Some(ended), log: self.log }, first_line, begun }
    }

    /// Starts it and returns when it serves.
    pub(crate) async fn listening(self) -> Server {
        self.start().listening().await.unwrap_or_else(|(status, log)| panic!("it ended with {status}: {log}"))
    }
}

/// A program that no configuration of the service reaches through the environment.
fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MILEPOST_")) {
        command.env_remove(name);
    }
    command
}

fn watch_output(output: ChildStdout, line: oneshot::Sender<Option<String>>, end: oneshot::Sender<()>) {
    let mut output = BufReader::new(output);
    let mut first = String::new();
    let read = output.read_line(&mut first).is_ok_and(|bytes| bytes > 0);
    // Whoever started it may have killed it already.
    let _unheard = line.send(read.then(|| first.trim_end().to_owned()));
    let _rest = output.read_to_end(&mut Vec::new());
    let _unheard = end.send(());
}

/// Runs a program to its end, which must come.
pub(super) async fn run(program: &str, words: &[&str]) -> Output {
    let mut command = isolated(program);
    command.args(words);
    output_of(command, PATIENCE).await
}

/// Runs it to its end, which must come within this time.
pub(super) async fn output_of(mut command: Command, patience: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let id = child.id();
    let (end, ended) = oneshot::channel();
    thread::spawn(move || end.send(child.wait_with_output()));
    match time::timeout(patience, ended).await {
        Ok(output) => output.expect("its end is told").expect("it can be waited for"),
        Err(_) => {
            signal(id, "KILL");
            panic!("{command:?} has not ended within {patience:?}");
        }
    }
}

/// The shell's own `kill` is everywhere.
fn signal(id: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
    assert!(sent.expect("a shell").success(), "SIG{name} to {id}");
}

impl Starting {
    /// The server when it serves, or how it ended and what it logged.
    pub(super) async fn listening(mut self) -> Result<Server, (ExitStatus, String)> {
        let line = time::timeout(PATIENCE, &mut self.first_line).await;
        let line = line.unwrap_or_else(|_| panic!("no line within {PATIENCE:?}: {}", self.process.logged()));
        match line.ok().flatten() {
            Some(line) => {
                let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("first line: {line}"));
                Ok(Server { url: url.to_owned(), start_time: self.begun.elapsed(), process: self.process })
            }
            None => Err((self.process.end().await, self.process.logged())),
        }
    }

    /// Returns when it serves or something else has happened, whichever is first.
    pub(super) async fn serves_before(&mut self, event: impl Future<Output = ()>) {
        select! {
            _line = &mut self.first_line => {}
            () = event => {}
        }
    }

    /// Kills it, however far it has come.
    pub(super) fn kill(self) -> Killed {
        self.process.kill()
    }
}

impl Server {
    /// Sends it the signal that nobody survives.
    pub(crate) fn kill(self) -> Killed {
        self.process.kill()
    }

    /// The id of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Asks it to stop and returns how it ended.
    pub(super) async fn stop(mut self) -> ExitStatus {
        signal(self.process.child.id(), "TERM");
        self.process.end().await
    }
}

/// A server that is about to be dead.
pub(crate) struct Killed(Process);

impl Killed {
    /// Returns when it is dead.
    pub(crate) fn dead(mut self) {
        self.0.child.wait().expect("it can be waited for");
    }
}

impl Process {
    fn kill(mut self) -> Killed {
        // An error means that it has ended already.
        let _ended = self.child.kill();
        Killed(self)
    }

    async fn end(&mut self) -> ExitStatus {
        if let Some(ended) = &mut self.ended {
            let waited = time::timeout(PATIENCE, ended).await;
            assert!(waited.is_ok(), "it has not ended within {PATIENCE:?}: {}", self.logged());
            self.ended = None;
        }
        self.child.wait().expect("it can be waited for")
    }

    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
