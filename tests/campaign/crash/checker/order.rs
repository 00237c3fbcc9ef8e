//! Real time: every version was the present one at a moment between the beginning and the end of each request that made
//! or saw it, and these moments come in the order of the versions.

use super::{
    Findings, Kind,
    book::{Answered, Book, Job, Op},
};
use crate::campaign::crash::history::{Answer, OpId, Tick, What};

/// Stands for the state after the last version of a deleted job.
pub(super) const GONE: u64 = u64::MAX;

/// A version that was the present one at some moment between `began` and `ended`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) version: u64,
    pub(super) began: Tick,
    pub(super) ended: Tick,
    /// The request that made it, when this is its acknowledgement.
    pub(super) made_by: Option<OpId>,
}

/// Checks the order of one job and returns what it looked at.
pub(super) fn check(book: &Book<'_>, job: &Job<'_>, found: &mut Findings) -> Vec<Item> {
    let mut items: Vec<Item> = job.ops.iter().filter_map(|id| book.op(*id)).filter_map(acknowledged).collect();
    let seen = |&(began, ended, version): &(Tick, Tick, u64)| Item { version, began, ended, made_by: None };
    items.extend(job.versions.iter().map(seen));
    items.extend(job.gone.iter().map(|&(began, ended)| Item { version: GONE, began, ended, made_by: None }));
    items.sort_by_key(|item| (item.version, item.made_by.is_none(), item.began));
    gone(book, job, found);
    match out_of_order(&items) {
        Some(Disorder::Overtaken { first, later }) => {
            let kind = match first.made_by {
                _ if first.version == GONE => Kind::Resurrected,
                Some(_) => Kind::AcknowledgementLost,
                None => Kind::WentBack,
            };
            found.add(kind, &job.id, format!("{first:?} had ended before {later:?} began"));
        }
        Some(Disorder::Early { first, later }) => {
            found.add(Kind::Phantom, &job.id, format!("{first:?} was seen by {later:?} before it was asked for"));
        }
        None => {}
    }
    items
}

/// The acknowledgement of a request that certainly made a version of its own.
pub(super) fn acknowledged(op: &Op<'_>) -> Option<Item> {
    op.answers.iter().find_map(|Answered { sent, at, answer }| {
        let (seen, certain) = match answer {
            Answer::Made(seen) => (seen, true),
            // Had it been sent before, that may have been what changed the job.
            Answer::Changed(seen) => (seen, op.sendings == 1),
            Answer::Appended { seen, duplicates } => (seen, *duplicates < op.request.what.lines().count()),
            Answer::Stood(_)
            | Answer::Deleted
            | Answer::Gone
            | Answer::Finished
            | Answer::Moved(_)
            | Answer::Gap(_)
            | Answer::Busy
            | Answer::Strange(_) => return None,
        };
        certain.then_some(Item { version: seen.version, began: *sent, ended: *at, made_by: Some(op.id) })
    })
}

enum Disorder {
    /// `first` was over before something began that shows no later version.
    Overtaken { first: Item, later: Item },
    /// `first` had not even begun when `later` had seen it.
    Early { first: Item, later: Item },
}

/// The items come sorted by version, makers before those who saw.
fn out_of_order(items: &[Item]) -> Option<Disorder> {
    // Of all earlier versions, what began last.
    let mut latest: Option<Item> = None;
    for same in items.chunk_by(|one, other| one.version == other.version) {
        let maker = same.iter().find(|item| item.made_by.is_some());
        for item in same {
            if let Some(later) = latest.filter(|latest| latest.began > item.ended) {
                return Some(Disorder::Overtaken { first: *item, later });
            }
            if let Some(first) = maker.filter(|maker| maker.began > item.ended) {
                return Some(Disorder::Early { first: *first, later: *item });
            }
        }
        latest = latest.iter().chain(same).max_by_key(|item| item.began).copied();
    }
    None
}

/// A job that has gone was told to go, and the request to do so still stood when it was last there.
fn gone(book: &Book<'_>, job: &Job<'_>, found: &mut Findings) {
    let Some(first_gone) = job.gone_at else { return };
    let last_there = job.versions.iter().map(|(since, _, _)| *since).max().unwrap_or(0);
    let deletions = || {
        let ops = job.ops.iter().filter_map(|id| book.op(*id));
        ops.filter(|op| op.request.what == What::Delete && op.may_apply && op.began < first_gone)
    };
    if deletions().next().is_none() {
        let what = format!("was there, is not at {first_gone}, and nobody had asked for that");
        found.add(Kind::AcknowledgementLost, &job.id, what);
    } else if !deletions().any(|op| op.ended >= last_there) {
        let asked: Vec<_> = deletions().map(|op| (op.id, op.began, op.ended)).collect();
        let what =
            format!("outlived {asked:?}, all requests to delete it, by {last_there}, and was gone by {first_gone}");
        found.add(Kind::Phantom, &job.id, what);
    }
}
