//! Poolers, which may give each transaction whatever connection is free.
//!
//! Promises: a store is not served through one that does not keep prepared statements. There a statement's name would stand for
//! nothing, or for what another process has prepared under it.

use tokio::select;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::{connect::Connections, error::fault};
use crate::engine::EngineError;

/// Who answers on PostgreSQL's side.
const WHO: &str = "SELECT pg_backend_pid()::text";
/// What is amiss.
pub(super) const FORGETFUL: &str = "a pooler that shares connections has to keep prepared statements, as PgBouncer does with \
     max_prepared_statements";

/// Finds out what is between here and PostgreSQL.
///
/// # Errors
/// [`EngineError::Unavailable`] when statements are not kept, or what PostgreSQL says.
pub(super) async fn check(connections: &Connections) -> Result<(), EngineError> {
    let asking = connections.get().await?;
    let (other, mut wire) = connections.own().await?;
    select! {
        checked = compare(&asking, &other) => checked,
        // It carries what is asked for as long as it is polled.
        ended = &mut wire => Err(ended.map_or_else(
            |error| fault(&error),
            |()| EngineError::Unavailable("PostgreSQL has ended a connection".into()),
        )),
    }
}

async fn compare(asking: &Client, other: &Client) -> Result<(), EngineError> {
    let told = |error: Error| fault(&error);
    let statement = asking.prepare(WHO).await.map_err(told)?;
    let before: String = asking.query_one(&statement, &[]).await.map_err(told)?.get(0);
    // Whoever comes next is given what was last in use. Only a pooler gives both the same.
    other.batch_execute("BEGIN").await.map_err(told)?;
    if who(other).await.map_err(told)?.as_ref() != Some(&before) {
        return Ok(());
    }
    let again = asking.query_one(&statement, &[]).await.map_err(told)?;
    match again.try_get::<_, String>(0) {
        Ok(now) if now != before => {
            tracing::info!("a pooler shares the connections to PostgreSQL");
            Ok(())
        }
        // Another process has prepared something else under that name.
        Ok(_) | Err(_) => Err(EngineError::Unavailable(FORGETFUL.into())),
    }
}

/// Who answers, without a statement that is prepared.
async fn who(client: &Client) -> Result<Option<String>, Error> {
    let said = client.simple_query(WHO).await?;
    let row = said.iter().find_map(|said| if let SimpleQueryMessage::Row(row) = said { Some(row) } else { None });
    Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
}
