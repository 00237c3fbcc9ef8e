//! One command, from its start to the moment when its job has been told its end, or nobody waits for that any more.
//!
//! Promises: telling never keeps the command waiting. A cancel ends it: SIGTERM, and SIGKILL after the grace.

use std::{
    fs::OpenOptions,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{process::Signal, stdio::dup2_stdout};
use serde_json::json;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    RunError,
    child::{Changes, Child, Exit, Start},
    end_of,
    gauge::Gauge,
    listener::Listener,
    options::TrackOptions,
    outbox::{Left, Outbox},
    outputs::Outputs,
    pump::Pump,
    report::{Heard, Reporter, listen},
    signals::Signals,
    terminal::Size,
};
use crate::client::Client;

/// How long what a command has written may take to arrive once it has ended, while somebody holds its output open.
const ARRIVAL: Duration = Duration::from_millis(300);
/// How often it is looked whether the terminal has another size: its signal goes to the command alone.
const SIZE_PERIOD: Duration = Duration::from_millis(200);
/// How long it may take to have what is killed gone.
const DEATH: Duration = Duration::from_secs(2);

/// What ends a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// It is stopped when its job is not its own any more.
    pub(super) stops_when_lost: bool,
    /// A signal gives its job back, and stops it.
    pub(super) gives_back: bool,
}

/// A command that is to be run and told of.
pub(super) struct Track<'a> {
    pub(super) options: &'a TrackOptions,
    pub(super) policy: Policy,
    pub(super) start: Start<'a>,
    pub(super) outbox: Arc<Outbox>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Tracked {
    /// How the command ended, or why it could not be started.
    pub(super) ended: io::Result<Exit>,
    /// Why the job was not the command's any more.
    pub(super) lost: Option<String>,
    /// What was not told.
    pub(super) left: Left,
    /// How many lines could not wait.
    pub(super) dropped: u64,
    /// A signal has ended it.
    pub(super) was_stopped: bool,
}

/// Why a command is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    GivenBack,
    Lost,
}

impl Track<'_> {
    /// Runs it. `earlier` is done meanwhile, and dropped at the end.
    pub(super) async fn run(
        self,
        client: &mut Client,
        signals: &mut Signals,
        earlier: impl Future<Output = ()>,
    ) -> Result<Tracked, RunError> {
        let heard = watch::Sender::new(Heard::default());
        let id = self.outbox.book().id;
        let listener = client.sibling();
        let mut telling = pin!(Reporter::new(client, &self.outbox, &heard, self.options.lease()).report());
        let mut is_told = false;
        let mut beside = pin!(async {
            tokio::join!(earlier, listen(listener, &id, &heard));
        });

        let mut stop = None;
        let ended = {
            let mut command = pin!(self.command(signals, heard.subscribe(), &mut stop));
            loop {
                select! {
                    ended = &mut command => break ended?,
                    () = &mut telling, if !is_told => is_told = true,
                    () = &mut beside => {}
                }
            }
        };
        self.outbox.end(match stop {
            Some(Stop::Cancelled) => json!({"status": "cancelled"}),
            Some(Stop::GivenBack) => json!({"status": "queued"}),
            // It is not the job's fault, and the next one would fare the same.
            Some(Stop::Lost) | None if self.policy.gives_back && ended.is_err() => json!({"status": "queued"}),
            Some(Stop::Lost) | None => end_of(&ended),
        });
        if !is_told {
            let patience = sleep(Duration::from_secs(self.options.flush_seconds));
            select! {
                () = &mut telling => {}
                () = patience => {}
                () = impatience(signals) => {}
            }
        }
        let lost = heard.borrow().lost.clone();
        let (left, dropped) = (self.outbox.leave(), self.outbox.dropped());
        Ok(Tracked { ended, lost, left, dropped, was_stopped: stop == Some(Stop::GivenBack) })
    }

    /// The command alone, until all that it has written is handed on.
    async fn command(
        &self,
        signals: &mut Signals,
        heard: watch::Receiver<Heard>,
        stop: &mut Option<Stop>,
    ) -> Result<io::Result<Exit>, RunError> {
        let Outputs { all, mut sizes, stdout, stderr } =
            Outputs::like_ours().map_err(RunError::system("its output"))?;
        let (child, changes) = match Child::start(&self.start, (stdout, stderr)) {
            Ok(started) => started,
            Err(cause) => return Ok(Err(cause)),
        };
        let gauge = Arc::new(Mutex::new(Gauge::new(self.options.reading())));
        let mut pumps = Vec::new();
        for output in all {
            let listener = Listener::new(output.name, &gauge, &self.outbox);
            pumps.push(Pump::start(output, listener).map_err(RunError::system("no thread"))?);
        }
        let exit = self.exit(&child, changes, signals, heard, &mut sizes, stop).await;
        let arrived = arrive(&mut pumps);
        select! {
            () = arrived => {}
            // Nobody reads what we write, and somebody is tired of that: the threads go with the process.
            () = impatience(signals) => return Ok(Ok(exit)),
        }
        pumps.into_iter().for_each(Pump::join);
        if !self.policy.gives_back {
            end_stdout();
        }
        Ok(Ok(exit))
    }

    /// Waits for the end of the command, and brings it about when that is asked for.
    async fn exit(
        &self,
        child: &Child,
        mut changes: Changes,
        signals: &mut Signals,
        mut heard: watch::Receiver<Heard>,
        sizes: &mut [Size],
        stop: &mut Option<Stop>,
    ) -> Exit {
        let grace = Duration::from_secs(self.options.grace_seconds);
        let mut kill = pin!(sleep_until(Instant::now()));
        let mut is_dying = false;
        let mut begin = |why: Stop, kill: Pin<&mut tokio::time::Sleep>| {
            if stop.is_none() {
                *stop = Some(why);
                child.terminate();
                kill.reset(Instant::now() + grace);
            }
            stop.is_some()
        };
        let exit = loop {
            select! {
                exit = child.wait(&mut changes) => break exit,
                signal = signals.next() => {
                    if self.policy.gives_back && ends(signal) {
                        is_dying = begin(Stop::GivenBack, kill.as_mut());
                    } else {
                        child.signal(signal);
                    }
                }
                Ok(()) = heard.changed() => {
                    let Heard { cancel_requested, lost, .. } = heard.borrow_and_update().clone();
                    if cancel_requested {
                        is_dying = begin(Stop::Cancelled, kill.as_mut());
                    } else if lost.is_some() && self.policy.stops_when_lost {
                        is_dying = begin(Stop::Lost, kill.as_mut());
                    }
                }
                () = &mut kill, if is_dying => {
                    child.kill();
                    is_dying = false;
                }
                () = sleep(SIZE_PERIOD), if !sizes.is_empty() => {
                    if sizes.iter_mut().filter_map(|size| size.follow().then_some(())).count() > 0 {
                        child.signal(Signal::WINCH);
                    }
                }
            }
        };
        if self.policy.gives_back && stop.is_none() && child.was_interrupted(exit) {
            *stop = Some(Stop::GivenBack);
            // What it has started may not have heard of it.
            child.terminate();
        }
        if is_dying {
            // What it has started has the rest of the grace.
            select! {
                () = child.group_ended() => {}
                () = &mut kill => child.kill(),
            }
        }
        if stop.is_some() {
            // What does not die by that is in the kernel's hands.
            let _undead = timeout(DEATH, child.group_ended()).await;
        }
        exit
    }
}

/// Whoever reads what the command has written sees its end now, and not only when its job has been told.
fn end_stdout() {
    if let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") {
        // At the worst they wait a little.
        let _waits = dup2_stdout(nowhere);
    }
}

/// Returns when what was written is handed on; what somebody else goes on to write is not waited for.
async fn arrive(pumps: &mut [Pump]) {
    let deadline = Instant::now() + ARRIVAL;
    for pump in pumps {
        select! {
            () = pump.ended() => continue,
            () = sleep_until(deadline) => {}
        }
        pump.no_more();
        pump.ended().await;
    }
}

/// Whether a signal asks for an end.
fn ends(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal)
}

/// Returns when somebody wants an end.
pub(super) async fn impatience(signals: &mut Signals) {
    while !ends(signals.next().await) {}
}
