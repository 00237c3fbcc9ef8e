//! What is counted of the jobs of a kind beyond how many there are: how long they take, and how many come and go.
//!
//! Promises: takes a bounded amount of memory, however many jobs there are, and each of them costs the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{Job, Outcome, State, Status, Timestamp};

/// Counts of one kind, up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How long the attempts took that completed their jobs.
    pub durations: Spans,
    /// How long jobs that have ended had waited in the queue for their last attempt.
    pub waits: Spans,
    /// What came and went in each minute since the epoch, of the last hour in which there was something.
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

/// A histogram of the last one to two thousand spans.
///
/// Buckets are as those of HdrHistogram with four bits: sixteen for each power of two, so that a span is told with an error of
/// three percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    buckets: BTreeMap<u16, u32>,
}

/// So many minutes are kept.
const MINUTES: u64 = 60;
/// With so many spans, every other one is forgotten.
const SPANS: u32 = 2000;
const MINUTE_MS: u64 = 60_000;
/// Bits of a span that its bucket tells apart below the highest.
const BITS: u32 = 4;

impl Tally {
    /// Counts a job that was made then.
    pub fn made(&mut self, at: Timestamp) {
        self.count(at, |flow| flow.created += 1);
    }

    /// Counts a job that has ended; of one that has not there is nothing to count.
    pub fn ended(&mut self, job: &Job) {
        let State::Done(end) = job.state else { return };
        self.count(end.at, |flow| match end.outcome.status() {
            Status::Completed => flow.completed += 1,
            Status::Cancelled => flow.cancelled += 1,
            Status::Queued | Status::Processing | Status::Failed => flow.failed += 1,
        });
        let Some(started_at) = job.started_at else { return };
        self.waits.record(started_at.0.saturating_sub(job.queued_at.0));
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

    fn count(&mut self, at: Timestamp, add: impl FnOnce(&mut Flow)) {
        let minute = at.0 / MINUTE_MS;
        let newest = self.minutes.last_key_value().map_or(minute, |(newest, _)| minute.max(*newest));
        let first = (newest + 1).saturating_sub(MINUTES);
        if minute >= first {
            add(self.minutes.entry(minute).or_default());
        }
        while self.minutes.first_key_value().is_some_and(|(oldest, _)| *oldest < first) {
            self.minutes.pop_first();
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
        *self.buckets.entry(bucket(milliseconds)).or_default() += 1;
        if self.count() >= SPANS {
            self.halve();
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.buckets.values().sum()
    }

    /// The span in milliseconds that this share of all is no longer than, from 0 to 1; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = (f64::from(self.count()) * share).ceil().max(1.0);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            f64::from(seen) >= rank
        });
        found.map(|(bucket, _)| middle(*bucket))
    }

    /// Forgets every other span, in the order of their lengths, so that what is left is as long.
    fn halve(&mut self) {
        let mut odd = 0;
        self.buckets.retain(|_, count| {
            let with_odd = *count + odd;
            odd = with_odd % 2;
            *count = with_odd / 2;
            *count > 0
        });
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
        fn quantiles_are_those_of_the_spans(
            spans in prop::collection::vec(0..200_000_u64, 1..1500), share in 0.0..=1.0_f64
        ) {
            let mut histogram = Spans::default();
            spans.iter().for_each(|span| histogram.record(*span));
            let mut sorted = spans;
            sorted.sort_unstable();
            let rank = ((sorted.len() as f64 * share).ceil() as usize).max(1);
            let (told, exact) = (histogram.quantile(share).unwrap(), sorted[rank - 1]);
            prop_assert!(told.abs_diff(exact) <= exact / 32, "{} of {}", told, exact);
        }

        #[test]
        fn what_is_forgotten_leaves_the_quantiles(spans in prop::collection::vec(1000..2000_u64, 1999)) {
            let mut histogram = Spans::default();
            spans.iter().for_each(|span| histogram.record(*span));
            let before = [0.05, 0.5, 0.95].map(|share| histogram.quantile(share).unwrap());
            histogram.record(1500);
            prop_assert_eq!(histogram.count(), 1000);
            for (share, before) in [0.05, 0.5, 0.95].into_iter().zip(before) {
                let after = histogram.quantile(share).unwrap();
                prop_assert!(after.abs_diff(before) <= 128, "{}: {} and {}", share, before, after);
            }
        }

        #[test]
        fn flows_are_those_of_the_last_minutes(
            moments in prop::collection::vec(0..3 * MINUTES * MINUTE_MS, 0..200), minutes in 1..=MINUTES
        ) {
            let mut moments = moments;
            moments.sort_unstable();
            let mut tally = Tally::default();
            moments.iter().for_each(|at| tally.made(Timestamp(*at)));
            prop_assert!(tally.minutes.len() as u64 <= MINUTES);
            let now = moments.last().copied().unwrap_or_default();
            let first = (now / MINUTE_MS + 1).saturating_sub(minutes) * MINUTE_MS;
            let expected = moments.iter().filter(|at| **at >= first).count() as u64;
            prop_assert_eq!(tally.flow(Timestamp(now), minutes).created, expected);
            prop_assert_eq!(tally.flow(Timestamp(now + 2 * MINUTES * MINUTE_MS), MINUTES), Flow::default());
        }
    }

    #[test]
    fn what_is_over_for_long_is_not_counted_among_the_last() {
        let mut tally = Tally::default();
        tally.made(Timestamp(10_000 * MINUTE_MS));
        tally.made(Timestamp(9_000 * MINUTE_MS));
        assert_eq!(tally.minutes.len(), 1);
        // A clock that was set back counts where it stands.
        tally.made(Timestamp(9_990 * MINUTE_MS));
        assert_eq!(tally.flow(Timestamp(10_000 * MINUTE_MS), 60).created, 2);
        assert_eq!(Spans::default().quantile(0.5), None);
    }
}
