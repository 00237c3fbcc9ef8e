//! What earlier runs have left on the disk is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{
    RunError, block_on, complain,
    options::FlushOptions,
    outbox::{Left, Outbox},
    report::{Heard, Reporter},
};
use crate::client::{Base, Client};

/// A lease that is of no concern: what is left is told without a pause.
const LEASE: Duration = Duration::from_secs(60);

/// `milepost flush`: tells what earlier runs have left.
///
/// # Errors
/// When there is something left.
pub fn flush(options: &FlushOptions) -> Result<ExitCode, RunError> {
    block_on(async {
        let patience = Duration::from_secs(options.flush_seconds);
        let mut left = 0;
        for directory in left_in(&options.spool()) {
            match Outbox::left_in(&directory) {
                // Somebody is at it.
                Ok(None) => {}
                Ok(Some(outbox)) => left += usize::from(!tell(&outbox, LEASE, patience).await),
                Err(cause) => complain_of(&directory, &cause),
            }
        }
        if left == 0 { Ok(ExitCode::SUCCESS) } else { Err(RunError::StillLeft(left)) }
    })
}

/// The same beside a run, for as long as it lasts; what cannot be told then is left to the next one.
pub(super) async fn earlier(spool: &Path, lease: Duration) {
    for directory in left_in(spool) {
        // What cannot be read is said by `milepost flush`.
        if let Ok(Some(outbox)) = Outbox::left_in(&directory) {
            tell(&outbox, lease, Duration::MAX).await;
        }
    }
}

/// Tells what is in an outbox whose command is gone; false when it is still there.
async fn tell(outbox: &Outbox, lease: Duration, patience: Duration) -> bool {
    let book = outbox.book();
    let Ok(base) = book.server.parse::<Base>() else { return false };
    let heard = watch::Sender::new(Heard::default());
    let mut client = Client::new(base);
    let _in_time = timeout(patience, Reporter::new(&mut client, outbox, &heard, lease).report_rest()).await;
    if let Some(why) = &heard.borrow().lost {
        complain(format_args!("the job {} was not told what an earlier run has left: {why}", book.id));
    }
    matches!(outbox.leave(), Left::Nothing)
}

/// The directories of runs, the oldest first: their names begin with the time.
fn left_in(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool).into_iter().flatten().filter_map(Result::ok);
    let mut directories: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn complain_of(directory: &Path, cause: &io::Error) {
    complain(format_args!("{} cannot be read: {cause}", directory.display()));
}
