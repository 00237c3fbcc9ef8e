//! The signals that come to this process and are meant for its command.

use std::{fs, io};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// What is passed on.
const PASSED_ON: [Signal; 8] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CONT];

/// The signals that come.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// From now on they come here. What this process was told to ignore, as by nohup, it ignores, and so does its command.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let heeded = PASSED_ON.into_iter().filter(|signal| ignored >> (signal.as_raw() - 1) & 1 == 0);
        let listen = |kind: Signal| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?));
        Ok(Self(heeded.map(listen).collect::<io::Result<_>>()?))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        let each = self.0.iter_mut().map(|(kind, signals)| async { signals.recv().await.map(|()| *kind) });
        let mut each: FuturesUnordered<_> = each.collect();
        match each.next().await {
            Some(Some(kind)) => kind,
            // Cannot be: the streams of tokio have no end.
            Some(None) | None => std::future::pending().await,
        }
    }
}

/// The signals that are ignored, a bit for each.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
