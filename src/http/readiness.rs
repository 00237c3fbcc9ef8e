//! Whether the service wants new work.

use tokio::sync::watch;

/// Ready until the service begins to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    draining: watch::Sender<bool>,
}

impl Readiness {
    /// Ready.
    pub fn new() -> Self {
        Self { draining: watch::Sender::new(false) }
    }

    /// Says that the service is going down: `/readyz` answers 503 and streams come to their end.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the service is going down.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns once the service is going down.
    pub async fn draining(&self) {
        let mut draining = self.draining.subscribe();
        // Fails only when the sender is gone, and this is one.
        let _gone = draining.wait_for(|draining| *draining).await;
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}
