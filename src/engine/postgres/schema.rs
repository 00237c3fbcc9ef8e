//! The format of a store, and how it is brought up to date.
//!
//! Promises: one process at a time does it, in one transaction for each step; a store that a newer program has made unfit
//! for this one is refused.

use tokio::time::{Duration, sleep};
use tokio_postgres::{Client, Error, error::SqlState};

use super::error::fault;
use crate::engine::EngineError;

/// The steps from an empty schema to the format of this program; the format number is how many have been made.
const MIGRATIONS: &[&str] =
    &[include_str!("../../../migrations/postgres/0001.sql"), include_str!("../../../migrations/postgres/0002.sql")];
/// The oldest program, by its format, that can work on what this one writes. A step that an older program would stumble over
/// raises it, says so in the changelog, and makes what such a program calls to commit fail: it takes a second to see that it is unfit.
const OLDEST: i32 = 2;

/// A step that needs a table for itself waits so long for those who read it, an export or pg_dump perhaps, and lets others go first
/// for a while when they do not end: whoever came after the step would wait as long as it does.
/// That a table is there already is no news.
const SETTINGS: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL client_min_messages = warning";
const PAUSE: Duration = Duration::from_secs(2);
const TRIES_MAX: u32 = 30;

/// Brings the store up to date that the connection's schema has; an empty schema becomes an empty store.
///
/// # Errors
/// [`EngineError::Format`] when it is of a program that this one does not understand, or what PostgreSQL says.
pub(super) async fn migrate(client: &mut Client) -> Result<(), EngineError> {
    if known(client).await? == Some(MIGRATIONS.len()) {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        match step(client).await {
            Ok(Some(format)) => tracing::info!(format, "store format is up to date"),
            Ok(None) => return Ok(()),
            Err(Stuck::Locked(error)) if tries < TRIES_MAX => {
                tries += 1;
                tracing::warn!(%error, "somebody uses the tables that are to be brought up to date; it is tried again");
                sleep(PAUSE).await;
            }
            Err(Stuck::Locked(error) | Stuck::For(error)) => return Err(error),
        }
    }
}

/// Makes the next step; the format that the store has then. `None`: there is no further one.
async fn step(client: &mut Client) -> Result<Option<i32>, Stuck> {
    const LOCK: &str = "SELECT pg_advisory_xact_lock(1297107027, hashtext(current_schema()))";
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS store(
         is_one bool PRIMARY KEY DEFAULT true CHECK (is_one), format int4 NOT NULL, oldest int4 NOT NULL)";
    const MARK: &str = "INSERT INTO store(format, oldest) VALUES ($1, $2)
         ON CONFLICT (is_one) DO UPDATE SET format = $1, oldest = $2";
    let step = client.transaction().await?;
    // Whoever makes steps is waited for, however long that takes.
    step.batch_execute(LOCK).await?;
    step.batch_execute(SETTINGS).await?;
    step.batch_execute(TABLE).await?;
    let done = format(step.client()).await.map_err(Stuck::For)?;
    let Some(next) = MIGRATIONS.get(done) else {
        step.commit().await?;
        return Ok(None);
    };
    let number = i32::try_from(done + 1).unwrap_or(i32::MAX);
    step.batch_execute(next).await?;
    step.execute(MARK, &[&number, &OLDEST]).await?;
    step.commit().await?;
    Ok(Some(number))
}

/// Why a step was not made.
enum Stuck {
    /// Others have what it needs.
    Locked(EngineError),
    /// Anything else.
    For(EngineError),
}

impl From<Error> for Stuck {
    fn from(error: Error) -> Self {
        let locked = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        let is_locked = error.code().is_some_and(|code| locked.contains(code));
        if is_locked { Self::Locked(fault(&error)) } else { Self::For(fault(&error)) }
    }
}

/// The format of the store, if there is one, looked up without a lock.
async fn known(client: &Client) -> Result<Option<usize>, EngineError> {
    const THERE: &str = "SELECT to_regclass('store') IS NOT NULL";
    let row = client.query_one(THERE, &[]).await.map_err(|error| fault(&error))?;
    if row.get::<_, bool>(0) { format(client).await.map(Some) } else { Ok(None) }
}

/// The format of the store; 0: it is empty.
async fn format(client: &Client) -> Result<usize, EngineError> {
    let row = client.query_opt("SELECT format, oldest FROM store", &[]).await.map_err(|error| fault(&error))?;
    let Some(row) = row else { return Ok(0) };
    let (format, oldest): (i32, i32) = (row.get(0), row.get(1));
    check_oldest(format, oldest)?;
    Ok(usize::try_from(format).unwrap_or_default())
}

/// Whether a store is, by what it says of itself, one that this program has brought up to date.
///
/// # Errors
/// [`EngineError::Format`] when it is not.
pub(super) fn check_fitness(format: Option<i32>, oldest: Option<i32>) -> Result<(), EngineError> {
    match (format, oldest) {
        (Some(format), Some(oldest)) if usize::try_from(format).is_ok_and(|done| done >= MIGRATIONS.len()) => {
            check_oldest(format, oldest)
        }
        _ => Err(EngineError::Format("the store is older than when this was started: start it again".into())),
    }
}

/// Whether this program is new enough for a store that says which format is the oldest one to know.
fn check_oldest(format: i32, oldest: i32) -> Result<(), EngineError> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if oldest <= known {
        return Ok(());
    }
    Err(EngineError::Format(format!(
        "the store has format {format}, which programs that know format {oldest} can use, and this one knows formats up \
         to {known}: use the newer version that wrote it"
    )))
}
