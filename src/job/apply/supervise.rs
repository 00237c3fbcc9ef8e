//! Claims, and what happens to a job that nobody asks for: leases that run out, attempts and waits that take too long,
//! workers that do not stop.

use super::{Applied, Rejection, Step};
use crate::job::{
    Job,
    change::{Claim, Sweep},
    json::Json,
    log::{Lines, LogLine},
    state::{Outcome, State, Status},
    supervision::{SILENT_LOSSES_MAX, Supervision},
};

impl Step<'_> {
    /// Gives a queued job to a worker.
    pub(super) fn claim(&self, claim: &Claim) -> Result<Applied, Rejection> {
        match self.job.state {
            State::Queued => {}
            State::Processing => {
                return Err(Rejection::InvalidTransition { from: Status::Processing, change: "claim" });
            }
            State::Done(_) => return Err(Rejection::AlreadyFinished(self.job.status())),
        }
        let mut next = self.job.clone();
        next.start(self.now);
        next.worker = Some(claim.worker.clone());
        next.supervision.lease_seconds = Some(claim.lease_seconds);
        next.supervision.is_silent = true;
        next.renew_lease(self.now);
        Ok(self.done(next, Vec::new(), 0))
    }

    /// Does what is due by now, which may be nothing: whoever writes meanwhile may have renewed the lease.
    pub(super) fn sweep(&self, sweep: Sweep) -> Applied {
        let job = self.job;
        let is_due = |at: Option<_>| at.is_some_and(|at| at <= self.now);
        let (next, lines) = match job.state {
            State::Queued if is_due(job.deadline()) => {
                self.end(Outcome::Expired, "it has waited longer than it may for a worker")
            }
            State::Processing if is_due(job.supervision.cancel_by) => {
                self.end(Outcome::Cancelled, "its worker did not stop in time")
            }
            State::Processing if is_due(job.timeout_at()) => {
                self.lose(Outcome::TimedOut, "the attempt has taken longer than it may")
            }
            State::Processing if is_due(job.lease_expires_at) => match self.granted(sweep) {
                Some(next) => (next, Vec::new()),
                None => self.lose(Outcome::Lost, "its worker has not renewed the lease"),
            },
            // What is done goes as a whole, which is for the store.
            State::Queued | State::Processing | State::Done(_) => (job.clone(), Vec::new()),
        };
        self.done(next, lines, 0)
    }

    /// The job with the rest of a lease that could not be renewed for its whole length, if that is not over yet.
    fn granted(&self, sweep: Sweep) -> Option<Job> {
        let until = sweep.open_since.after(self.job.lease_seconds()?);
        (until > self.now).then(|| Job { lease_expires_at: Some(until), ..self.job.clone() })
    }

    /// Takes the attempt from its worker. The job goes back to the queue if it may be attempted once more.
    fn lose(&self, outcome: Outcome, why: &str) -> (Job, Vec<LogLine>) {
        if self.job.cancel_requested {
            return self.end(Outcome::Cancelled, why);
        }
        let Supervision { is_silent, mut losses, mut silent_losses, .. } = self.job.supervision;
        if is_silent && silent_losses < SILENT_LOSSES_MAX {
            silent_losses += 1;
        } else {
            losses = losses.saturating_add(1);
        }
        if losses >= self.job.spec.max_attempts {
            return self.end(outcome, why);
        }
        let mut next = self.job.clone();
        next.requeue(self.now);
        next.supervision = Supervision { losses, silent_losses, ..next.supervision };
        (next, Vec::new())
    }

    /// Ends the job in its worker's stead, and says so where readers look.
    fn end(&self, outcome: Outcome, why: &str) -> (Job, Vec<LogLine>) {
        let mut next = self.job.clone();
        let mut line = Lines::default();
        line.push(&format!("❌ {why}"), self.limits);
        let lines = next.log.append(&line.texts, next.attempt, self.limits, self.now);
        let error = serde_json::json!({"reason": outcome, "message": why});
        next.error = Json::try_from(&error).ok();
        next.finish(outcome, self.limits, self.now);
        (next, lines)
    }
}
