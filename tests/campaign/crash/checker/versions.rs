//! Content: every version is the work of one request, and shows what that request made of the version before.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    Findings, Kind,
    book::{Book, Job, JobSight, Op},
    log::Log,
    order::{GONE, Item, acknowledged},
};
use crate::campaign::crash::{
    history::{Answer, Facts, Lines, OpId, Status, Tick, What},
    words::Mark,
};

/// Checks the versions of one job.
pub(super) fn check(book: &Book<'_>, job: &Job<'_>, items: &[Item], log: &Log<'_>, found: &mut Findings) {
    for sight in &job.sights {
        marks(book, job, sight, found);
        completed(book, job, sight, found);
    }
    finished(book, job, found);
    let mut made_by = claims(book, job, found);
    attribute(book, job, items, log, &mut made_by, found);
    replay(book, job, &made_by, found);
}

/// What a state shows was asked for, of this job, before.
fn marks(book: &Book<'_>, job: &Job<'_>, sight: &JobSight<'_>, found: &mut Findings) {
    let facts = &sight.seen.facts;
    for (member, mark) in [("stage", &facts.stage), ("result", &facts.result)] {
        let op = match mark {
            None | Some(Mark::Nothing) => continue,
            Some(Mark::Of(op)) => book.op(*op),
            Some(Mark::Foreign(_)) => None,
        };
        let fits = |op: &&Op<'_>| {
            let sets = matches!(op.request.what, What::Patch(patch) if patch.result || member == "stage");
            sets && op.request.job.as_ref() == Some(&job.id) && op.may_apply && op.began < sight.until
        };
        if op.filter(fits).is_none() {
            let what = format!("version {} at {} has a {member} of {mark:?}", sight.seen.version, sight.until);
            found.add(Kind::Phantom, &job.id, what);
        }
    }
}

/// What completes a job here always brings its result.
fn completed(book: &Book<'_>, job: &Job<'_>, sight: &JobSight<'_>, found: &mut Findings) {
    let facts = &sight.seen.facts;
    if facts.status != Some(Status::Completed) {
        return;
    }
    let completes = |op: &Op<'_>| matches!(op.request.what, What::Patch(p) if p.status == Some(Status::Completed));
    let has_result = match &facts.result {
        None => true,
        Some(Mark::Of(op)) => book.op(*op).is_some_and(completes),
        Some(Mark::Nothing | Mark::Foreign(_)) => false,
    };
    if !has_result || facts.progress.is_some_and(|progress| progress != 10_000) {
        let what = format!("version {} at {}: {facts:?}", sight.seen.version, sight.until);
        found.add(Kind::CompletedWithoutResult, &job.id, what);
    }
}

/// After a request was refused because the job is done, it stays done.
fn finished(book: &Book<'_>, job: &Job<'_>, found: &mut Findings) {
    let answers = job.ops.iter().filter_map(|id| book.op(*id)).flat_map(|op| &op.answers);
    let refused = answers.filter(|answered| matches!(answered.answer, Answer::Finished)).map(|answered| answered.at);
    let Some(refused) = refused.min() else { return };
    let undone = |sight: &&JobSight<'_>| {
        sight.since > refused && sight.seen.facts.status.is_some_and(|status| !status.is_done())
    };
    if let Some(sight) = job.sights.iter().find(undone) {
        let what = format!("was done at {refused} and is {:?} at {}", sight.seen.facts.status, sight.until);
        found.add(Kind::EndUndone, &job.id, what);
    }
}

/// The versions of which it is certain which request made them.
fn claims(book: &Book<'_>, job: &Job<'_>, found: &mut Findings) -> BTreeMap<u64, OpId> {
    let mut made_by: BTreeMap<u64, OpId> = BTreeMap::new();
    if let Some(origin) = job.origin {
        made_by.insert(1, origin);
    }
    for op in job.ops.iter().filter_map(|id| book.op(*id)) {
        let Some(Item { version, .. }) = acknowledged(op) else { continue };
        let other = *made_by.entry(version).or_insert(op.id);
        if other != op.id {
            let what = format!("version {version} is the work of request {other} and of {}", op.id);
            found.add(Kind::VersionTwice, &job.id, what);
        }
        if op.request.what.makes() && version != 1 {
            found.add(Kind::VersionGap, &job.id, format!("request {} made the job at version {version}", op.id));
        }
        if let What::Patch(patch) = op.request.what
            && patch.expect.is_some_and(|expected| expected + 1 != version)
        {
            let what = format!("request {} was to change version {:?} and made {version}", op.id, patch.expect);
            found.add(Kind::GuardIgnored, &job.id, what);
        }
    }
    made_by
}

/// A request that may have made one of the versions after `above` and up to `until`.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    op: OpId,
    above: u64,
    until: u64,
    /// Whether it certainly made one.
    certain: bool,
}

/// Finds requests without an answer for the versions that no acknowledgement explains, and versions for those that left
/// a trace.
fn attribute(
    book: &Book<'_>,
    job: &Job<'_>,
    items: &[Item],
    log: &Log<'_>,
    made_by: &mut BTreeMap<u64, OpId>,
    found: &mut Findings,
) {
    let Some(last) = items.iter().map(|item| item.version).filter(|version| *version != GONE).max() else { return };
    let claimed: BTreeSet<OpId> = made_by.values().copied().collect();
    let bounds = Bounds::of(items);
    let ops = job.ops.iter().filter_map(|id| book.op(*id));
    let open = ops.filter(|op| {
        let changes = matches!(op.request.what, What::Patch(_) | What::Append(_));
        changes && op.may_apply && !claimed.contains(&op.id)
    });
    let mut candidates: Vec<_> = open.map(|op| candidate(op, job, log, &bounds, last)).collect();
    let mut free: BTreeSet<u64> = (1..=last).filter(|version| !made_by.contains_key(version)).collect();
    if let Err(version) = cover(&free, &candidates) {
        found.add(Kind::VersionGap, &job.id, format!("version {version} of {last} is no request's"));
        return;
    }
    let certain: Vec<_> = candidates.iter().filter(|candidate| candidate.certain).copied().collect();
    if let Err(candidate) = place(&free, &certain) {
        found.add(
            Kind::VersionTwice,
            &job.id,
            format!("{candidate:?} has had an effect, but no version is left for it"),
        );
        return;
    }
    // Whoever has but one version to have made has made it.
    loop {
        let only = candidates.iter().enumerate().find_map(|(index, candidate)| {
            let mut fitting = free.range(candidate.above + 1..=candidate.until.max(candidate.above + 1));
            let one = fitting.next().filter(|version| **version <= candidate.until)?;
            (candidate.certain && fitting.next().is_none()).then_some((index, *one))
        });
        let Some((index, version)) = only else { return };
        made_by.insert(version, candidates.swap_remove(index).op);
        free.remove(&version);
    }
}

fn candidate(op: &Op<'_>, job: &Job<'_>, log: &Log<'_>, bounds: &Bounds, last: u64) -> Candidate {
    let mine = |sight: &&JobSight<'_>| sight.seen.facts.stage == Some(Mark::Of(op.id));
    let shown = job.sights.iter().filter(mine).map(|sight| sight.seen.version).min();
    let certain = op.applied || shown.is_some() || log.shows(op);
    let mut above = bounds.before(op.began);
    let mut until = bounds.after(op.ended).min(last);
    if let Some(shown) = shown {
        until = until.min(shown);
        // A stage is set once: a version with another one before it was shown is older than it.
        let others = job.sights.iter().filter(|sight| sight.seen.facts.stage.is_some() && !mine(sight));
        above = others.map(|sight| sight.seen.version).filter(|version| *version < shown).fold(above, u64::max);
    }
    Candidate { op: op.id, above, until, certain }
}

/// Which versions a moment lies between.
struct Bounds {
    /// By the end of an item, the highest version of all that had ended by then.
    ended: Vec<(Tick, u64)>,
    /// By the beginning of an item, the lowest version of all that began then or later.
    began: Vec<(Tick, u64)>,
}

impl Bounds {
    fn of(items: &[Item]) -> Self {
        let mut ended: Vec<_> = items.iter().map(|item| (item.ended, item.version)).collect();
        ended.retain(|(_, version)| *version != GONE);
        ended.sort_unstable();
        let mut highest = 0;
        ended.iter_mut().for_each(|(_, version)| {
            highest = highest.max(*version);
            *version = highest;
        });
        let mut began: Vec<_> = items.iter().map(|item| (item.began, item.version)).collect();
        began.sort_unstable();
        let mut lowest = GONE;
        began.iter_mut().rev().for_each(|(_, version)| {
            lowest = lowest.min(*version);
            *version = lowest;
        });
        Self { ended, began }
    }

    /// The highest version that was there before a moment.
    fn before(&self, moment: Tick) -> u64 {
        let count = self.ended.partition_point(|(ended, _)| *ended < moment);
        count.checked_sub(1).map_or(0, |last| self.ended[last].1)
    }

    /// The lowest version that was there after a moment.
    fn after(&self, moment: Tick) -> u64 {
        let first = self.began.partition_point(|(began, _)| *began <= moment);
        self.began.get(first).map_or(GONE, |(_, version)| *version)
    }
}

/// Gives each version a candidate of its own, the most urgent one first; the first version that gets none.
fn cover(versions: &BTreeSet<u64>, candidates: &[Candidate]) -> Result<(), u64> {
    let mut coming = candidates.to_vec();
    coming.sort_unstable_by_key(|candidate| Reverse(candidate.above));
    let mut urgent = BinaryHeap::new();
    for version in versions {
        while let Some(candidate) = coming.pop_if(|candidate| candidate.above < *version) {
            urgent.push(Reverse(candidate.until));
        }
        loop {
            match urgent.pop() {
                None => return Err(*version),
                Some(Reverse(until)) if until < *version => {}
                Some(_) => break,
            }
        }
    }
    Ok(())
}

/// Gives each candidate a version of its own, the most urgent one first; the first candidate that gets none.
fn place(versions: &BTreeSet<u64>, candidates: &[Candidate]) -> Result<(), Candidate> {
    let mut free = versions.clone();
    let mut urgent = candidates.to_vec();
    // The lowest version that is left is what those with a later end can do without best.
    urgent.sort_unstable_by_key(|candidate| (candidate.until, candidate.above));
    for candidate in urgent {
        let version = free.range(candidate.above + 1..).next().copied().filter(|version| *version <= candidate.until);
        match version {
            Some(version) => free.remove(&version),
            None => return Err(candidate),
        };
    }
    Ok(())
}

/// Plays the requests over the versions they made, and compares with what was seen.
fn replay(book: &Book<'_>, job: &Job<'_>, made_by: &BTreeMap<u64, OpId>, found: &mut Findings) {
    let mut sights: BTreeMap<u64, Vec<&JobSight<'_>>> = BTreeMap::new();
    for sight in &job.sights {
        sights.entry(sight.seen.version).or_default().push(sight);
    }
    let versions: BTreeSet<u64> = made_by.keys().chain(sights.keys()).copied().collect();
    let mut before = (0, Facts::default());
    for version in versions {
        if before.0 + 1 != version {
            forget(&mut before.1);
        }
        let made_by = made_by.get(&version).and_then(|op| book.op(*op));
        let mut facts = match made_by {
            Some(op) => {
                if before.1.is_done() && matches!(op.request.what, What::Patch(_)) {
                    let what = format!("request {} made version {version} of a job that was done", op.id);
                    found.add(Kind::EndUndone, &job.id, what);
                }
                step(&before.1, op)
            }
            None => {
                forget(&mut before.1);
                before.1.clone()
            }
        };
        let mut shown = Facts::default();
        for sight in sights.get(&version).into_iter().flatten() {
            let seen = &sight.seen.facts;
            let at = format!("version {version} at {}", sight.until);
            if let Some(member) = shown.contradicts(seen) {
                found.add(Kind::VersionTwice, &job.id, format!("{at}, {member}: {shown:?} and {seen:?}"));
                return;
            }
            if let Some(member) = facts.contradicts(seen) {
                let done = before.1.is_done() && member != "log_count";
                let kind = if done { Kind::EndUndone } else { Kind::WrongContent };
                let maker = made_by.map(|op| (op.id, op.request.what));
                found.add(kind, &job.id, format!("{at}, {member}: {seen:?} instead of {facts:?}, by {maker:?}"));
                return;
            }
            shown.learn(seen);
        }
        facts.learn(&shown);
        before = (version, facts);
    }
}

/// What is still known after a version of which nothing is known.
fn forget(facts: &mut Facts) {
    facts.log_count = None;
    if !facts.is_done() {
        *facts = Facts { origin: facts.origin.take(), ..Facts::default() };
    }
}

/// What a request makes of a job.
fn step(before: &Facts, op: &Op<'_>) -> Facts {
    let mut after = before.clone();
    let lines = op.request.what.lines();
    // Of a writer that counts, the log may have had some.
    let appended = if matches!(lines, Lines::Counted { .. }) { appended(op) } else { Some(lines.count()) };
    after.log_count = before.log_count.zip(appended).map(|(count, more)| count + more);
    match op.request.what {
        What::Create { .. } | What::Ensure { .. } => Facts {
            status: Some(Status::Queued),
            progress: Some(0),
            stage: Some(Mark::Nothing),
            result: Some(Mark::Nothing),
            origin: Some(Mark::Of(op.id)),
            log_count: Some(lines.count()),
        },
        What::Patch(patch) => {
            after.stage = Some(Mark::Of(op.id));
            after.progress = patch.progress.or(after.progress);
            if patch.result {
                after.result = Some(Mark::Of(op.id));
            }
            after.status = patch.status.or(after.status);
            if patch.status == Some(Status::Completed) {
                after.progress = Some(10_000);
            }
            after
        }
        What::Append(_) | What::Delete => after,
    }
}

/// How many lines a request brought, as its answer says.
fn appended(op: &Op<'_>) -> Option<u64> {
    op.answers.iter().find_map(|answered| {
        if let Answer::Appended { duplicates, .. } = answered.answer {
            return op.request.what.lines().count().checked_sub(*duplicates);
        }
        // The answer to a repeat has none of the lines that came the first time.
        let Answer::Changed(seen) = answered.answer else { return None };
        seen.lines.as_ref().filter(|_| op.sendings == 1).map(|lines| lines.len() as u64)
    })
}
