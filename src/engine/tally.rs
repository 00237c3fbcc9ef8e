//! What is counted of the jobs of a kind beyond how many there are: how long they take, and how many come and go.
//!
//! Promises: takes a bounded amount of memory, however many jobs there are, and each of them costs the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{JobEnd, Outcome, Status, Timestamp};

/// Counts of one kind, up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How long the attempts took that completed their jobs.
    pub durations: Spans,
    /// How long jobs that have ended had waited in the queue for their last attempt.
    pub waits: Spans,
    /// What came and went in each minute since the epoch, of the hour before the last count.
    minutes: BTreeMap<u64, Flow>,
}

/// Jobs that came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Jobs that were made.
    pub created: u64,
    /// Jobs that were completed.
    pub completed: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
}

/// A histogram of the last one to two thousand spans: a generation of a thousand and the one that grows.
///
/// Buckets are as those of HdrHistogram with four bits: sixteen for each power of two, so that a span is told with an error of
/// three percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    current: Generation,
    previous: Generation,
}

/// Spans by bucket.
type Generation = BTreeMap<u16, u32>;

/// So many minutes are kept.
const MINUTES: u64 = 60;
/// Spans of a generation.
const SPANS: u32 = 1000;
const MINUTE_MS: u64 = 60_000;
/// Bits of a span that its bucket tells apart below the highest.
const BITS: u32 = 4;

impl Tally {
    /// Counts a job that was made then.
    pub fn made(&mut self, at: Timestamp, now: Timestamp) {
        self.count(at, now, |flow| flow.created += 1);
    }

    /// Counts the end of a job.
    pub fn ended(&mut self, end: &JobEnd, now: Timestamp) {
        self.count(end.at, now, |flow| match end.outcome.status() {
            Status::Completed => flow.completed += 1,
            Status::Cancelled => flow.cancelled += 1,
            Status::Queued | Status::Processing | Status::Failed => flow.failed += 1,
        });
        let Some(started_at) = end.started_at else { return };
        self.waits.record(started_at.0.saturating_sub(end.queued_at.0));
        if end.outcome == Outcome::Succeeded {
            self.durations.record(end.at.0.saturating_sub(started_at.0));
        }
    }

    /// What came and went in the minute of this moment and in those before it, so many in all, up to 60.
    pub fn flow(&self, now: Timestamp, minutes: u64) -> Flow {
        let minute = now.0 / MINUTE_MS;
        let from = (minute + 1).saturating_sub(minutes);
        self.minutes.range(from..=minute).fold(Flow::default(), |sum, (_, flow)| sum.plus(*flow))
    }

    /// Counts what happened then, unless that is more than an hour ago. What a clock that was set back has left of later
    /// times goes.
    fn count(&mut self, at: Timestamp, now: Timestamp, add: impl FnOnce(&mut Flow)) {
        let minute = |moment: Timestamp| moment.0 / MINUTE_MS;
        let last = (minute(now) + 1).saturating_sub(MINUTES)..=minute(now);
        self.minutes.retain(|minute, _| last.contains(minute));
        let minute = minute(at.min(now));
        if last.contains(&minute) {
            add(self.minutes.entry(minute).or_default());
        }
    }
}

impl Flow {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            created: self.created + other.created,
            completed: self.completed + other.completed,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

impl Spans {
    fn record(&mut self, milliseconds: u64) {
        *self.current.entry(bucket(milliseconds)).or_default() += 1;
        if self.current.values().sum::<u32>() >= SPANS {
            self.previous = std::mem::take(&mut self.current);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.current.values().chain(self.previous.values()).sum()
    }

    /// The span in milliseconds that this share of all is no longer than, from 0 to 1; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = (f64::from(self.count()) * share).ceil().max(1.0);
        let mut all = self.previous.clone();
        for (bucket, count) in &self.current {
            *all.entry(*bucket).or_default() += count;
        }
        let mut seen = 0;
        let found = all.iter().find(|(_, count)| {
            seen += **count;
            f64::from(seen) >= rank
        });
        found.map(|(bucket, _)| middle(*bucket))
    }
}

/// The bucket of a span.
fn bucket(milliseconds: u64) -> u16 {
    let exponent = milliseconds.max(1).ilog2().saturating_sub(BITS);
    // Never near the bound: 64 powers of sixteen buckets.
    (u64::from(exponent << BITS) + (milliseconds >> exponent)) as u16
}

/// The span in the middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let exponent = (u32::from(bucket) >> BITS).saturating_sub(1);
    let steps = u64::from(bucket) - u64::from(exponent << BITS);
    (steps << exponent) + ((1 << exponent) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_tells_a_span_within_its_error(span in prop_oneof![0..5000_u64, 0..1_u64 << 40, any::<u64>()]) {
            let told = middle(bucket(span));
            prop_assert!(told.abs_diff(span) <= span / 32, "{} is told as {}", span, told);
        }

        #[test]
        fn quantiles_are_those_of_the_last_spans(
            spans in prop::collection::vec(0..200_000_u64, 1..4500), share in 0.0..=1.0_f64
        ) {
            let mut histogram = Spans::default();
            spans.iter().for_each(|span| histogram.record(*span));
            let count = histogram.count() as usize;
            prop_assert!(count == spans.len() || (1000..2000).contains(&count), "{} of {}", count, spans.len());
            let mut last = spans[spans.len() - count..].to_vec();
            last.sort_unstable();
            let rank = ((last.len() as f64 * share).ceil() as usize).max(1);
            let (told, exact) = (histogram.quantile(share).unwrap(), last[rank - 1]);
            prop_assert!(told.abs_diff(exact) <= exact / 32, "{} of {}", told, exact);
        }

        #[test]
        fn flows_are_those_of_the_last_minutes(
            moments in prop::collection::vec((0..3 * MINUTES * MINUTE_MS, 0..2 * MINUTES * MINUTE_MS), 0..200),
            minutes in 1..=MINUTES,
        ) {
            // Each is counted some time after it happened; the clock goes on.
            let mut moments: Vec<_> = moments.into_iter().map(|(at, later)| (at + later, at)).collect();
            moments.sort_unstable();
            let mut tally = Tally::default();
            moments.iter().for_each(|(now, at)| tally.made(Timestamp(*at), Timestamp(*now)));
            prop_assert!(tally.minutes.len() as u64 <= MINUTES);
            let now = moments.last().map_or(0, |(now, _)| *now);
            let first = |now: u64, minutes: u64| (now / MINUTE_MS + 1).saturating_sub(minutes) * MINUTE_MS;
            let is_counted = |(then, at): &&(u64, u64)| *at >= first(*then, MINUTES) && *at >= first(now, minutes);
            let expected = moments.iter().filter(is_counted).count() as u64;
            prop_assert_eq!(tally.flow(Timestamp(now), minutes).created, expected);
            prop_assert_eq!(tally.flow(Timestamp(now + 2 * MINUTES * MINUTE_MS), MINUTES), Flow::default());
        }
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let at = |minute: u64| Timestamp(minute * MINUTE_MS);
        let mut tally = Tally::default();
        tally.made(at(10_000), at(10_000));
        // Its job's own time is still that.
        tally.made(at(10_000), at(5_000));
        assert_eq!(tally.flow(at(5_000), 1).created, 1);
        assert_eq!(tally.minutes.len(), 1, "what was counted for later goes");
        tally.made(at(4_900), at(5_000));
        assert_eq!(tally.flow(at(5_000), 60).created, 1, "what is long ago came not lately");
        assert_eq!(Spans::default().quantile(0.5), None);
    }
}
