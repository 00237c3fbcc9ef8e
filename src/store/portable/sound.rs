//! What a job of an export must be beyond what its members must be each: as if it had come about here, so that it can be
//! told, changed and exported again.

use super::record::BadMember;
use crate::job::{History, Job, Json, Seconds, Spec, Supervision, TimelineEnd, Timestamp};

/// What counts goes on counting: for as long as every client can tell a number from its neighbours.
const COUNT_MAX: u64 = 1 << 53;
/// The same of attempts, at which nobody will arrive either.
const ATTEMPTS_MAX: u32 = 1 << 30;
/// The year 9000: what follows from a moment must come before the year 10,000, which cannot be written down.
const MOMENT_MAX: Timestamp = Timestamp(221_845_392_000_000);

/// Names a member of a job that does not fit the others.
pub(super) fn check(job: &Job, history: &History) -> Result<(), BadMember> {
    let unless = |holds: bool, member, rule| if holds { Ok(()) } else { Err(BadMember::new(member, rule)) };
    let Spec { max_attempts, created_at, .. } = *job.spec;
    let Supervision { losses, silent_losses, .. } = job.supervision;
    let (attempt, timeline) = (job.attempt, &history.timeline);
    let rises = 1 <= job.version && job.version <= job.revision && job.revision <= COUNT_MAX;
    unless(rises, "version", "1 or more, no more than revision, and both able to rise")?;
    unless(job.result_version <= job.version, "result_version", "no more than version")?;
    unless((1..=ATTEMPTS_MAX).contains(&attempt.0), "attempt", "1 or more, and able to rise")?;
    unless(max_attempts >= 1, "max_attempts", "1 or more")?;
    unless(losses.max(silent_losses) <= ATTEMPTS_MAX, "losses", "no more than attempts there can be")?;

    let ended_at = job.state.end().map(|end| end.at);
    let moments = [Some(created_at), Some(job.queued_at), job.started_at, Some(job.updated_at), ended_at];
    unless(moments.into_iter().flatten().all(|at| at < MOMENT_MAX), "updated_at", "a moment before the year 9000")?;
    unless(job.expected_seconds != Some(Seconds(0)), "expected_seconds", "left out where it is not known")?;
    unless(job.error.as_ref().is_none_or(is_object), "error", "an object")?;

    let log = &job.log;
    let marks_rise = log.marks.windows(2).all(|pair| pair[0].seq < pair[1].seq && pair[0].written <= pair[1].written);
    let begins = log.marks.first().is_none_or(|first| first.seq > 0);
    let ends = log.marks.last().is_none_or(|last| last.seq <= log.count && last.written <= log.written);
    let counts = log.dropped <= log.count && log.count.max(log.written) <= COUNT_MAX;
    let writers_count = log.writers.iter().all(|(_, lines)| *lines <= COUNT_MAX);
    unless(marks_rise && begins && ends && counts && writers_count, "log", "counters that fit together")?;

    let attempts = &history.attempts;
    let rise = attempts.windows(2).all(|pair| pair[0].attempt < pair[1].attempt);
    let are_over = attempts.last().is_none_or(|last| last.attempt < attempt);
    unless(rise && are_over, "attempts", "in order and before the job's own")?;

    let TimelineEnd { count, .. } = job.timeline;
    let rise = timeline.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].attempt <= pair[1].attempt);
    let is_of_job = timeline.iter().all(|entry| entry.attempt.0 > 0 && entry.attempt <= attempt);
    let is_past = timeline.last().is_none_or(|last| last.at <= job.updated_at);
    let is_in_order = rise && is_of_job && is_past;
    unless(is_in_order, "timeline", "in order, up to the job's own attempt and its last change")?;
    unless(count <= COUNT_MAX, "timeline", "of a number of entries that can rise")
}

fn is_object(json: &Json) -> bool {
    json.as_str().starts_with('{')
}
