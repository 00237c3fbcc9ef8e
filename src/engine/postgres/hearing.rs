//! Telling other processes that something was committed, and hearing it from them.
//!
//! Promises: it only ever makes the tail of the feed look sooner: what is not heard is found with the next look. Notifications go
//! out after their commits and beside them, as they hold a lock of the whole server for a moment, and never more often than each few
//! milliseconds.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    select,
    sync::Notify,
    time::{Duration, Instant, sleep},
};
use tokio_postgres::AsyncMessage;

use super::{Postgres, error::fault};
use crate::engine::EngineError;

/// Between two notifications.
const CALM: Duration = Duration::from_millis(5);
/// Between two attempts to listen, or to notify.
const PAUSE: Duration = Duration::from_secs(1);
/// What beginning to listen may take, and a notification until its own sender hears it; a pooler may have lost it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether and when something was heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// There is something to tell.
    committed: Notify,
    /// There is something to look for.
    heard: Notify,
    deaf: Mutex<Deaf>,
}

/// Since when something has not been heard that should have been.
#[derive(Debug, Default)]
struct Deaf {
    /// Since when nobody listens.
    unlistened: Option<Instant>,
    /// Since when the first notification is under way that was not heard here yet.
    unheard: Option<Instant>,
}

impl Hearing {
    /// Says that something was committed here.
    pub(super) fn has_committed(&self) {
        self.committed.notify_one();
    }

    /// Returns once something was committed somewhere, or there may have been.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Whether what is sent is heard, as far as is known.
    pub(super) fn hears(&self) -> bool {
        let Deaf { unlistened, unheard } = &*self.deaf();
        [unlistened, unheard].into_iter().flatten().all(|since| since.elapsed() < PATIENCE)
    }

    fn deaf(&self) -> MutexGuard<'_, Deaf> {
        self.deaf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Postgres {
    /// Tells of what is committed here, for as long as it is polled.
    pub(super) async fn notify(&self) {
        loop {
            self.hearing.committed.notified().await;
            self.hearing.deaf().unheard.get_or_insert_with(Instant::now);
            // Whoever does not hear of it finds it.
            if let Err(error) = self.connections.rows("SELECT pg_notify($1, '')", &[&self.channel]).await {
                tracing::debug!(%error, "nobody was notified of a commit");
                // Whether it would have been heard is not known until it is sent.
                self.hearing.committed.notify_one();
                sleep(PAUSE).await;
            }
            sleep(CALM).await;
        }
    }

    /// Listens, for as long as it is polled.
    pub(super) async fn listen(&self) {
        loop {
            self.hearing.deaf().unlistened.get_or_insert_with(Instant::now);
            let Err(error) = self.hear().await;
            tracing::debug!(%error, "not listening for what others commit");
            sleep(PAUSE).await;
        }
    }

    /// Listens over a connection of its own, until that ends.
    async fn hear(&self) -> Result<Infallible, EngineError> {
        let ended = || EngineError::Unavailable("the connection that listens has ended".into());
        let (client, mut connection) = self.connections.own().await?;
        let text = format!("LISTEN \"{}\"", self.channel);
        let mut listen = pin!(client.batch_execute(&text));
        let mut is_asked = false;
        loop {
            select! {
                // The connection does everything while it is polled.
                message = poll_fn(|context| connection.poll_message(context)) => {
                    let message = message.ok_or_else(ended)?.map_err(|error| fault(&error))?;
                    if matches!(message, AsyncMessage::Notification(_)) {
                        self.hearing.deaf().unheard = None;
                        self.hearing.heard.notify_one();
                    }
                }
                listening = &mut listen, if !is_asked => {
                    listening.map_err(|error| fault(&error))?;
                    is_asked = true;
                    *self.hearing.deaf() = Deaf::default();
                    // Something may have been committed before.
                    self.hearing.heard.notify_one();
                    // One that commits nothing would never find out that it hears nothing, as behind a pooler.
                    self.hearing.committed.notify_one();
                }
            }
        }
    }
}
