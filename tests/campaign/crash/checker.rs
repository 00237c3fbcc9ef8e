//! What the store promised and did not keep, found in a record of what was asked and heard.
//!
//! Promises: pure, and complete for what it looks at. Each job is a register whose versions show the order of its
//! changes, so no search is needed: sorted by version, everything must have had a moment between its beginning and its
//! end (`order`), every version must be the work of one request with what that request asked for (`versions`), and the
//! log must be what the requests brought (`log`).
//! Knows nothing of servers and HTTP.

mod book;
mod log;
mod order;
mod versions;

use std::{collections::BTreeSet, fmt};

use self::book::Book;
use super::history::{Event, History, Id};

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) job: Option<Id>,
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Something acknowledged is not there any more.
    AcknowledgementLost,
    /// Something is there that nobody asked for, or before it was asked for.
    Phantom,
    /// A version that is no request's.
    VersionGap,
    /// A version that shows two states, or is the work of two requests.
    VersionTwice,
    /// A job is not as the request left it that made this version.
    WrongContent,
    /// A part of a request is there without the rest.
    Torn,
    /// A reader saw a job older than another one before it.
    WentBack,
    /// A done job is not done any more, or another way.
    EndUndone,
    /// A completed job without what completed it.
    CompletedWithoutResult,
    /// A change that was to be made to one version was made to another.
    GuardIgnored,
    /// A number without a line, or a line of a writer's count that is missing.
    LogHole,
    /// A line that is in the log twice.
    LineTwice,
    /// Lines of one writer in another order.
    LinesReordered,
    /// A number that had another line before.
    LineChanged,
    /// One Idempotency-Key made more than one job, or one request did.
    TwoJobsOfOneKey,
    /// A deleted job is there again.
    Resurrected,
    /// An answer that must not be.
    StrangeAnswer,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?} {}: {}", self.kind, self.job.as_deref().unwrap_or("-"), self.what);
        // As short as a precision says.
        f.pad(&text)
    }
}

/// Everything that is wrong with a record.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Findings::default();
    let book = Book::of(history, &mut found);
    for job in book.jobs.values() {
        let items = order::check(&book, job, &mut found);
        let lines = log::check(&book, job, &mut found);
        versions::check(&book, job, &items, &lines, &mut found);
    }
    lists(history, &book, &mut found);
    let strange = |what: &String| Violation { kind: Kind::StrangeAnswer, job: None, what: what.clone() };
    found.0.extend(history.strange.iter().map(strange));
    found.0
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, kind: Kind, job: &Id, what: String) {
        self.0.push(Violation { kind, job: Some(job.clone()), what });
    }
}

/// A list of all jobs has those that were there all the time it was made, each once, and none that was gone before.
fn lists(history: &History, book: &Book<'_>, found: &mut Findings) {
    for (until, event) in history.events.iter().enumerate() {
        let Event::Listed { since, jobs } = event else { continue };
        let listed: BTreeSet<&Id> = jobs.iter().collect();
        if listed.len() < jobs.len() {
            let what = format!("a job is in the list at {until} twice");
            found.0.push(Violation { kind: Kind::StrangeAnswer, job: None, what });
        }
        for (id, job) in &book.jobs {
            let there =
                job.known_from.is_some_and(|known| known < *since) && job.deleted_from.is_none_or(|at| at > until);
            if there && !listed.contains(id) {
                found.add(Kind::AcknowledgementLost, id, format!("is not in the list of all jobs at {until}"));
            }
            if job.gone_at.is_some_and(|gone| gone < *since) && listed.contains(id) {
                found.add(Kind::Resurrected, id, format!("is in the list of all jobs at {until}"));
            }
        }
    }
}
