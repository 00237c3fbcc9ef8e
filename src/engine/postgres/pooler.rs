//! Poolers, which may give each transaction whatever connection is free.
//!
//! Promises: a start through one that does not keep prepared statements fails, as far as a look can tell. There a statement's name
//! would stand for nothing, or for what another process has prepared under it.

use tokio::{
    select,
    time::{Duration, sleep, timeout},
};
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

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
/// [`EngineError::Unavailable`] when statements are not kept, or no second connection answers within that time; or what PostgreSQL
/// says.
pub(super) async fn check(connections: &Connections, within: Duration) -> Result<(), EngineError> {
    let asking = connections.get().await?;
    let (other, mut wire) = connections.own().await?;
    let is_shared = select! {
        is_shared = compare(&asking, &other) => is_shared?,
        // A pooler that has one connection for all never gives another one.
        () = sleep(within) => {
            let text = format!("PostgreSQL has not answered over two connections at once within {} s", within.as_secs());
            return Err(EngineError::Unavailable(text));
        }
        // It carries what is asked for as long as it is polled.
        ended = &mut wire => return Err(ended.map_or_else(
            |error| fault(&error),
            |()| EngineError::Unavailable("PostgreSQL has ended a connection".into()),
        )),
    };
    if is_shared {
        tracing::info!("a pooler shares the connections to PostgreSQL");
    }
    // It says goodbye; that it could not is no fault of what was found.
    drop(other);
    let _ended = timeout(within, wire).await;
    Ok(())
}

/// Whether connections are shared.
async fn compare(asking: &Client, other: &Client) -> Result<bool, EngineError> {
    let told = |error: Error| fault(&error);
    let statement = asking.prepare(WHO).await.map_err(told)?;
    let before = asked(asking, &statement).await?;
    // A pooler gives whoever comes next what was last in use, if nobody else has come.
    other.batch_execute("BEGIN").await.map_err(told)?;
    let is_taken = who(other).await.map_err(told)?.as_ref() == Some(&before);
    let now = asked(asking, &statement).await?;
    other.batch_execute("ROLLBACK").await.map_err(told)?;
    // Somebody else has it: what was answered is not what was asked.
    if is_taken && now == before { Err(forgetful()) } else { Ok(now != before) }
}

/// Who answers, by a statement that was prepared.
async fn asked(client: &Client, statement: &Statement) -> Result<String, EngineError> {
    let row = client.query_one(statement, &[]).await.map_err(|error| fault(&error))?;
    // Under that name there may be something else by now.
    row.try_get(0).map_err(|_| forgetful())
}

fn forgetful() -> EngineError {
    EngineError::Unavailable(FORGETFUL.into())
}

/// Who answers, without a statement that is prepared.
async fn who(client: &Client) -> Result<Option<String>, Error> {
    let said = client.simple_query(WHO).await?;
    let row = said.iter().find_map(|said| if let SimpleQueryMessage::Row(row) = said { Some(row) } else { None });
    Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
}
