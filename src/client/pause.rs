//! How long to wait before a request is repeated.

use std::time::Duration;

use uuid::Uuid;

use super::ClientError;

/// The first pause; each is twice the one before it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a service that is back is found soon.
const LONGEST: Duration = Duration::from_secs(2);
/// A longer `Retry-After` is not believed: a lease may be running.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15);

/// The pauses between the tries of one request.
#[derive(Debug, Default)]
pub struct Pauses(u32);

impl Pauses {
    /// The pause after this failure, a little different for everyone, so that all do not come back together.
    pub fn next(&mut self, error: &ClientError) -> Duration {
        let asked = error.refusal().and_then(|refusal| refusal.retry_after).unwrap_or_default().min(RETRY_AFTER_MAX);
        let pause = FIRST.saturating_mul(1 << self.0.min(10)).min(LONGEST).max(asked);
        self.0 += 1;
        let jitter = f64::from(Uuid::new_v4().as_bytes()[0]) / 1024.0;
        pause.mul_f64(1.0 + jitter)
    }

    /// There was an answer: the next failure is a first one.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}
