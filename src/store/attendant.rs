//! Hearing of what other processes do to the same jobs, and letting the engine do its own work meanwhile.

use std::sync::Arc;

use super::{Moved, Publish, cache::Cache, claims::Claims};
use crate::engine::{Elsewhere, Engine, MovedElsewhere};

/// What attends to the engine; there is one.
pub struct Attendant {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) cache: Arc<Cache>,
    pub(super) publish: Arc<dyn Publish>,
    pub(super) claims: Arc<Claims>,
}

impl Attendant {
    /// Attends for as long as it is polled.
    pub async fn run(self) {
        self.engine.attend(&|elsewhere| self.tell(elsewhere)).await;
    }

    pub(crate) fn tell(&self, elsewhere: Elsewhere) {
        match elsewhere {
            Elsewhere::Moved(MovedElsewhere { key, is_end, has_news, queued }) => {
                // A change that is decided on what memory has would be refused by the engine, and decided and committed once more.
                self.cache.doubt(&key);
                self.publish.publish(&key, Moved { is_end, has_news });
                if let Some(kind) = queued {
                    self.claims.has_come(key.tenant, &kind);
                }
            }
            Elsewhere::Anything => {
                self.publish.publish_all();
                self.claims.may_have_come();
            }
        }
    }
}
