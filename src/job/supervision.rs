//! What an attempt is held to, and when something happens to a job that nobody asks for.

use super::{
    Job, Spec,
    progress::Progress,
    state::State,
    time::{Seconds, Timestamp},
};

/// What is known of a job's workers beyond what readers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// How long a write of the attempt renews its lease for, as its claim has it; `None`: as the job was created.
    pub lease_seconds: Option<Seconds>,
    /// Until when a worker that was asked to stop is waited for.
    pub cancel_by: Option<Timestamp>,
    /// Whether the attempt was claimed and its worker has written nothing since.
    pub is_silent: bool,
    /// Attempts lost since the creation or the last retry, but for those of the next.
    pub losses: u32,
    /// Attempts lost before their worker wrote anything, which do not count.
    pub silent_losses: u32,
}

/// So many attempts may be lost before their worker wrote anything, as those of a worker that dies of the very claim, before
/// they count like others.
pub(super) const SILENT_LOSSES_MAX: u32 = 3;

impl Job {
    /// How long a write of the attempt renews its lease for, if it has one.
    pub(super) fn lease_seconds(&self) -> Option<Seconds> {
        self.supervision.lease_seconds.or(self.spec.lease_seconds)
    }

    /// When the current attempt has taken longer than it may.
    pub(super) fn timeout_at(&self) -> Option<Timestamp> {
        Some(self.started_at?.after(self.spec.timeout_seconds?))
    }

    /// Takes note of how long attempts at jobs of its kind usually take, if this one has just begun.
    pub fn expect(&mut self, before: Option<&Self>, usual_seconds: impl FnOnce(&Spec) -> Option<Seconds>) {
        let begun_at = |job: &Self| job.started_at.map(|at| (job.attempt, at));
        if self.state == State::Processing && before.and_then(begun_at) != begun_at(self) {
            self.expected_seconds = usual_seconds(&self.spec);
        }
    }

    /// How long the attempt will still take after the job's last change, in whole seconds, rounded up: at the pace it has had,
    /// or before it has come anywhere as long as was expected of it; `None` while nothing is known.
    pub fn eta_seconds(&self) -> Option<u64> {
        let (State::Processing, Some(started_at)) = (self.state, self.started_at) else { return None };
        let done = u64::from(self.progress.hundredths());
        let left = u64::from(Progress::FULL.hundredths()) - done;
        let elapsed_ms = self.updated_at.0.saturating_sub(started_at.0);
        if done > 0 {
            // Never near the bound: it is what is left of 58,000 years.
            return Some(elapsed_ms.saturating_mul(left).div_ceil(done * 1000));
        }
        let expected_ms = u64::from(self.expected_seconds?.0) * 1000;
        Some(expected_ms.saturating_sub(elapsed_ms).div_ceil(1000))
    }

    /// The next moment at which something happens to it that nobody asks for; it may be past. Moves with each renewal of
    /// a lease.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Queued => self.spec.queue_ttl_seconds.map(|span| self.queued_at.after(span)),
            State::Processing => {
                let all = [self.lease_expires_at, self.timeout_at(), self.supervision.cancel_by];
                all.into_iter().flatten().min()
            }
            State::Done(end) => end.expires_at,
        }
    }
}
