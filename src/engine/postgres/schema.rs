//! The format of a store, and how it is brought up to date.
//!
//! Promises: one process at a time does it, in one transaction for each step; a store that a newer program has made unfit
//! for this one is refused.

use tokio_postgres::Client;

use super::error::fault;
use crate::engine::EngineError;

/// The steps from an empty schema to the format of this program; the format number is how many have been made.
const MIGRATIONS: &[&str] =
    &[include_str!("../../../migrations/postgres/0001.sql"), include_str!("../../../migrations/postgres/0002.sql")];
/// The oldest program, by its format, that can work on what this one writes. A step that an older program would stumble over
/// raises it, and says so in docs/operating.md.
const OLDEST: i32 = 2;

/// Brings the store up to date that the connection's schema has; an empty schema becomes an empty store.
///
/// # Errors
/// [`EngineError::Format`] when it is of a program that this one does not understand, or what PostgreSQL says.
pub(super) async fn migrate(client: &mut Client) -> Result<(), EngineError> {
    const LOCK: &str = "SELECT pg_advisory_xact_lock(1297107027, hashtext(current_schema()))";
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS store(
         is_one bool PRIMARY KEY DEFAULT true CHECK (is_one), format int4 NOT NULL, oldest int4 NOT NULL)";
    if known(client).await? == Some(MIGRATIONS.len()) {
        return Ok(());
    }
    loop {
        let step = client.transaction().await.map_err(|error| fault(&error))?;
        step.batch_execute(LOCK).await.map_err(|error| fault(&error))?;
        step.batch_execute(TABLE).await.map_err(|error| fault(&error))?;
        let done = format(step.client()).await?;
        let Some(next) = MIGRATIONS.get(done) else {
            return step.commit().await.map_err(|error| fault(&error));
        };
        let number = i32::try_from(done + 1).unwrap_or(i32::MAX);
        const MARK: &str = "INSERT INTO store(format, oldest) VALUES ($1, $2)
             ON CONFLICT (is_one) DO UPDATE SET format = $1, oldest = $2";
        step.batch_execute(next).await.map_err(|error| fault(&error))?;
        step.execute(MARK, &[&number, &OLDEST]).await.map_err(|error| fault(&error))?;
        step.commit().await.map_err(|error| fault(&error))?;
        tracing::info!(format = number, "store format is up to date");
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
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if oldest > known {
        return Err(EngineError::Format(format!(
            "the store has format {format}, which programs that know format {oldest} can use, and this one knows formats up \
             to {known}: use the newer version that wrote it"
        )));
    }
    Ok(usize::try_from(format).unwrap_or_default())
}
