//! Exports: everything from one consistent moment, read over a connection of its own.

use deadpool_postgres::Transaction;
use tokio::sync::mpsc;
use tokio_postgres::IsolationLevel;

use super::{
    connect::{Connections, column},
    error::fault,
    read,
};
use crate::{
    engine::{
        EngineError, Exported, Stored,
        record::{self, LogRow, Table, sql},
    },
    job::{Attempt, History, Json, LogLine},
};

/// Pieces read ahead of whoever takes them. Each is a job, or a row of a log.
const AHEAD: usize = 4;
/// Jobs, and rows of a log, read with one statement.
const JOBS: i64 = 100;
const LOG_ROWS: i64 = 100;

type Pieces = mpsc::Sender<Result<Exported, EngineError>>;

/// Starts reading; ends early when nobody takes the pieces any more.
pub(super) async fn start(
    connections: &Connections,
) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
    let mut connection = connections.get().await?;
    let (pieces, taken) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let exported = async {
            let transaction = connection
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await
                .map_err(|error| fault(&error))?;
            jobs(&transaction, &pieces).await
        };
        if let Err(error) = exported.await {
            // Whoever took the pieces may be gone.
            let _gone = pieces.send(Err(error)).await;
        }
    });
    Ok(taken)
}

async fn jobs(transaction: &Transaction<'_>, pieces: &Pieces) -> Result<(), EngineError> {
    const NEXT: &str = "SELECT h.job, h.revision, h.body, d.body, d.result, d.input
         FROM (SELECT * FROM heads WHERE job > $1 ORDER BY job LIMIT $2) AS h
         LEFT JOIN details AS d ON d.job = h.job ORDER BY h.job";
    let mut after: i64 = 0;
    loop {
        let rows = transaction.query(NEXT, &[&after, &JOBS]).await.map_err(|error| fault(&error))?;
        for row in &rows {
            after = column(row, 0)?;
            let stored = read::job(row, 0)?;
            let number = stored.place.number;
            let input =
                column::<Option<&[u8]>>(row, 5)?.map(|body| read::json(Table::Inputs, number, body)).transpose()?;
            if !job(transaction, pieces, stored, input).await? {
                return Ok(());
            }
        }
        if rows.is_empty() {
            let _gone = pieces.send(Ok(Exported::End)).await;
            return Ok(());
        }
    }
}

/// Gives a job and its lines; whether anybody takes them.
async fn job(
    transaction: &Transaction<'_>,
    pieces: &Pieces,
    stored: Stored,
    input: Option<Json>,
) -> Result<bool, EngineError> {
    const ATTEMPTS: &str = "SELECT body FROM attempts WHERE job = $1 ORDER BY attempt";
    const ENTRIES: &str = "SELECT last, body FROM timeline_rows WHERE job = $1 ORDER BY last";
    const LINES: &str = "SELECT last, body FROM log_rows WHERE job = $1 AND last > $2 ORDER BY last LIMIT $3";
    let number = stored.place.number;
    let mut history = History::default();
    if stored.job.attempt > Attempt::FIRST {
        let rows = transaction.query(ATTEMPTS, &[&sql(number)]).await.map_err(|error| fault(&error))?;
        history.attempts = rows.iter().map(|row| read::attempt(number, row, 0)).collect::<Result<_, _>>()?;
    }
    for row in transaction.query(ENTRIES, &[&sql(number)]).await.map_err(|error| fault(&error))? {
        history.timeline.extend(read::timeline(number, &row, 0)?);
    }
    let dropped = stored.job.log.dropped;
    let has_lines = stored.job.log.count > dropped;
    if pieces.send(Ok(Exported::Job(stored.job, input, history))).await.is_err() {
        return Ok(false);
    }
    let mut last = sql(dropped);
    if !has_lines {
        return Ok(true);
    }
    loop {
        let rows = transaction.query(LINES, &[&sql(number), &last, &LOG_ROWS]).await.map_err(|error| fault(&error))?;
        for row in &rows {
            last = column(row, 0)?;
            let body: LogRow<'_> = record::open(Table::LogRows, number, column(row, 1)?)?;
            let mut lines: Vec<LogLine> = body.newest_first().filter(|line| line.seq > dropped).collect();
            lines.reverse();
            if pieces.send(Ok(Exported::Lines(lines))).await.is_err() {
                return Ok(false);
            }
        }
        if (rows.len() as i64) < LOG_ROWS {
            return Ok(true);
        }
    }
}
