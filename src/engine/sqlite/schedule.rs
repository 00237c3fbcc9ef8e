//! Which jobs wait for a worker, and when something is due: each in the order in which it is asked for.
//!
//! Promises: a job that is queued stands in its kind's queue; a job with a deadline is armed no later than that. Renewing a
//! lease touches neither table: what is armed too early is armed anew when it comes up.

use rusqlite::Connection;

use super::{
    error::fault,
    read::{self, statement},
    view::View,
};
use crate::{
    engine::{
        EngineError, QueueQuery, Stored,
        record::{Head, queue_place, sql},
    },
    job::{Job, JobKey, Timestamp},
};

/// Moves a job from where it was armed to where it is.
pub(super) fn arm(
    connection: &Connection,
    number: u64,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<(), EngineError> {
    const DISARM: &str = "DELETE FROM deadlines WHERE at = ?1 AND job = ?2";
    const ARM: &str = "INSERT INTO deadlines VALUES (?1, ?2)";
    if from == to {
        return Ok(());
    }
    for (text, at) in [(DISARM, from), (ARM, to)] {
        if let Some(at) = at {
            statement(connection, text)?.execute((sql(at.0), sql(number))).map_err(fault)?;
        }
    }
    Ok(())
}

/// Moves a job from where it stood in its kind's queue to where it stands.
pub(super) fn queue(
    connection: &Connection,
    number: u64,
    kind: i64,
    before: Option<&Job>,
    job: Option<&Job>,
) -> Result<(), EngineError> {
    const LEAVE: &str = "DELETE FROM queue WHERE kind = ?1 AND rank = ?2 AND queued_at = ?3 AND job = ?4";
    const ENTER: &str = "INSERT INTO queue VALUES (?1, ?2, ?3, ?4)";
    let (from, to) = (before.and_then(queue_place), job.and_then(queue_place));
    if from == to {
        return Ok(());
    }
    for (text, place) in [(LEAVE, from), (ENTER, to)] {
        if let Some((rank, queued_at)) = place {
            statement(connection, text)?.execute((kind, rank, queued_at, sql(number))).map_err(fault)?;
        }
    }
    Ok(())
}

/// The first jobs of some queues, see [`Engine::queued`](crate::engine::Engine::queued).
pub(super) fn queued(view: &View<'_>, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
    let text = "SELECT rank, queued_at, job FROM queue JOIN kinds USING (kind) WHERE tenant = ?1 AND name = ?2
         ORDER BY rank, queued_at, job LIMIT ?3";
    let mut select = statement(view, text)?;
    let jobs_max = i64::try_from(query.jobs_max).unwrap_or(i64::MAX);
    let mut first = Vec::new();
    for kind in &query.kinds {
        let columns = (query.tenant.0, kind.as_str(), jobs_max);
        let rows = select.query_map(columns, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(fault)?;
        for row in rows {
            let place: (i64, i64, i64) = row.map_err(fault)?;
            first.push(place);
        }
    }
    first.sort_unstable();
    first.truncate(query.jobs_max);
    let mut jobs = Vec::with_capacity(first.len());
    for (_, _, number) in first {
        match read::job(view, number as u64, true) {
            Ok(stored) => jobs.extend(stored),
            // Nobody can work at it, and those behind it need not wait for that.
            Err(EngineError::Corrupt(damage)) => tracing::error!(%damage, "a queued job cannot be claimed"),
            Err(error) => return Err(error),
        }
    }
    Ok(jobs)
}

/// Jobs that may have come to a deadline, see [`Engine::due`](crate::engine::Engine::due).
pub(super) fn due(view: &View<'_>, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
    let mut select = statement(view, "SELECT job FROM deadlines WHERE at <= ?1 ORDER BY at, job")?;
    let mut rows = select.query([sql(now.0)]).map_err(fault)?;
    let mut keys = Vec::new();
    // What cannot be read is passed by, so that it is not in the way of others.
    while keys.len() < jobs_max
        && let Some(row) = rows.next().map_err(fault)?
    {
        let number: i64 = row.get(0).map_err(fault)?;
        match read::job(view, number as u64, false) {
            Ok(stored) => keys.extend(stored.map(|stored| stored.job.key().clone())),
            // Said whenever somebody reads it, which is less often.
            Err(EngineError::Corrupt(damage)) => tracing::debug!(%damage, "what is due of a job cannot be done"),
            Err(error) => return Err(error),
        }
    }
    Ok(keys)
}

/// Puts every job of a store that had no such tables where it belongs.
pub(super) fn fill(connection: &Connection) -> Result<(), EngineError> {
    let text = "SELECT kind, job FROM lists ORDER BY job";
    let view = View::of_tables(connection);
    let mut select = statement(connection, text)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(fault)?;
    for row in rows {
        let (kind, number): (i64, i64) = row.map_err(fault)?;
        let number = number as u64;
        // With its result, since the head says whether there is one.
        let Some(Stored { job, mut place }) = read::sound_job(&view, number, true)? else { continue };
        queue(connection, number, kind, None, Some(&job))?;
        place.armed_at = job.deadline();
        if place.armed_at.is_some() {
            let mut head = Vec::new();
            Head::seal(&job, place, &mut head)?;
            let columns = (&head, sql(number));
            statement(connection, "UPDATE heads SET body = ?1 WHERE job = ?2")?.execute(columns).map_err(fault)?;
            arm(connection, number, None, place.armed_at)?;
        }
    }
    Ok(())
}
