//! Exports: everything from one consistent moment, read over a connection of its own.

use std::collections::{HashMap, VecDeque};

use deadpool_postgres::Transaction;
use tokio::sync::mpsc;
use tokio_postgres::{IsolationLevel, Row, types::ToSql};

use super::{
    connect::{Connections, column},
    error::fault,
    read,
    timeline::Timeline,
};
use crate::{
    engine::{
        EngineError, Exported,
        record::{self, LogRow, Table, sql},
    },
    job::{History, LogLine, PastAttempt, Seq},
};

/// Pieces read ahead of whoever takes them. Each is a job, or a row of a log.
const AHEAD: usize = 4;
/// Jobs, and rows of logs, read with one statement.
const JOBS: i64 = 200;
const LOG_ROWS: i64 = 200;

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
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            let _gone = pieces.send(Ok(Exported::End)).await;
            return Ok(());
        };
        let range = (column(first, 0)?, column(last, 0)?);
        let mut histories = histories(transaction, range).await?;
        let mut lines = Lines { transaction, at: (range.0, 0), last: range.1, rows: VecDeque::new(), is_over: false };
        for row in &rows {
            let stored = read::job(row, 0)?;
            let number = stored.place.number;
            let input =
                column::<Option<&[u8]>>(row, 5)?.map(|body| read::json(Table::Inputs, number, body)).transpose()?;
            let dropped = stored.job.log.dropped;
            let history = match histories.remove(&number) {
                Some((attempts, timeline)) => {
                    let timeline = timeline.finish(stored.place.timeline.entries)?;
                    History { attempts, timeline, ..History::default() }
                }
                None => History::default(),
            };
            if pieces.send(Ok(Exported::Job(stored.job, input, history))).await.is_err() {
                return Ok(());
            }
            while let Some(lines) = lines.next(number, dropped).await? {
                if pieces.send(Ok(Exported::Lines(lines))).await.is_err() {
                    return Ok(());
                }
            }
        }
        after = range.1;
    }
}

/// What is remembered of the jobs from this number to that: their attempts and timelines.
async fn histories(
    transaction: &Transaction<'_>,
    (first, last): (i64, i64),
) -> Result<HashMap<u64, (Vec<PastAttempt>, Timeline)>, EngineError> {
    const ATTEMPTS: &str = "SELECT job, body FROM attempts WHERE job >= $1 AND job <= $2 ORDER BY job, attempt";
    const ENTRIES: &str = "SELECT job, last, body FROM timeline_rows WHERE job >= $1 AND job <= $2
         UNION ALL SELECT job, $3, recent FROM heads WHERE job >= $1 AND job <= $2 ORDER BY job, last";
    let mut histories = HashMap::new();
    let nothing = |number| (Vec::new(), Timeline::new(number, u64::MAX));
    for row in transaction.query(ATTEMPTS, &[&first, &last]).await.map_err(|error| fault(&error))? {
        let number = column::<i64>(&row, 0)?.cast_unsigned();
        let (attempts, _) = histories.entry(number).or_insert_with(|| nothing(number));
        attempts.push(read::attempt(number, &row, 1)?);
    }
    for row in transaction.query(ENTRIES, &[&first, &last, &i64::MAX]).await.map_err(|error| fault(&error))? {
        let number = column::<i64>(&row, 0)?.cast_unsigned();
        let (_, timeline) = histories.entry(number).or_insert_with(|| nothing(number));
        timeline.add(column(&row, 1)?, column(&row, 2)?)?;
    }
    Ok(histories)
}

/// The rows of the logs of some jobs, one after the other.
struct Lines<'a> {
    transaction: &'a Transaction<'a>,
    /// The job and last line of the last row that was read.
    at: (i64, i64),
    /// The last job.
    last: i64,
    rows: VecDeque<Row>,
    is_over: bool,
}

impl Lines<'_> {
    /// The next lines of a job after those that were dropped; `None` when it has no more.
    async fn next(&mut self, number: u64, dropped: Seq) -> Result<Option<Vec<LogLine>>, EngineError> {
        const NEXT: &str = "SELECT job, last, body FROM log_rows WHERE (job, last) > ($1, $2) AND job <= $3
             ORDER BY job, last LIMIT $4";
        loop {
            if self.rows.is_empty() && !self.is_over {
                let (job, last) = self.at;
                let params: [&(dyn ToSql + Sync); 4] = [&job, &last, &self.last, &LOG_ROWS];
                let rows = self.transaction.query(NEXT, &params).await.map_err(|error| fault(&error))?;
                self.is_over = (rows.len() as i64) < LOG_ROWS;
                self.rows = rows.into();
            }
            let Some(row) = self.rows.front() else { return Ok(None) };
            let job = column::<i64>(row, 0)?;
            if job > sql(number) {
                return Ok(None);
            }
            self.at = (job, column(row, 1)?);
            let body: LogRow<'_> = record::open(Table::LogRows, job.cast_unsigned(), column(row, 2)?)?;
            let mut lines: Vec<_> = body.newest_first().filter(|line| line.seq > dropped).collect();
            lines.reverse();
            self.rows.pop_front();
            // Of a job that is gone, or trimmed: to be freed.
            if job == sql(number) && !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }
}
