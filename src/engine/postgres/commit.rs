//! Commits: a batch in one call, and finding out what became of it when the answer is lost.
//!
//! Promises: a batch is applied once, however often it has to be sent; what is reported as committed is durable as far as
//! PostgreSQL is set up to make it so; what nobody can know is said to be indeterminate, after a bounded time.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::{Error, types::ToSql};
use uuid::Uuid;

use super::{
    Postgres,
    batch::{Batch, PARAMS},
    connect::column,
    error::{Failed, fault, text},
};
use crate::{
    engine::{
        EngineError, Found, Outcome, Place, Put, Write,
        record::{OWN_BITS, numbered, sql},
    },
    job::Timestamp,
};

/// Parameters before those of the batch.
const FIRST_PARAMS: usize = 3;
/// The pause before a batch is sent again, and by how much longer each next one is, up to the last.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

impl Postgres {
    pub(super) async fn commit_batch(&self, writes: &[Write]) -> Result<Vec<Outcome>, EngineError> {
        let now = self.clock.now();
        let kinds = self.kinds.of(&self.committing, writes, self.settings.kinds_max).await?;
        let made = writes.iter().zip(&kinds).filter(|(write, kind)| is_new(write) && kind.is_some()).count();
        let mut numbers = self.numbers(made).await?.into_iter();
        let mut writes_of_jobs: Vec<_> = writes.iter().zip(kinds).enumerate().collect();
        // In the order in which every batch locks jobs; those that are made come first and stay in theirs.
        writes_of_jobs.sort_by_key(|(_, (write, _))| write.before.as_ref().map(|before| before.place.number));
        let mut batch = Batch::default();
        let mut places = vec![None; writes.len()];
        for (at, (write, kind)) in writes_of_jobs {
            let Some(kind) = kind else { continue };
            let number = match &write.before {
                _ if is_new(write) => {
                    let own = numbers.next().ok_or_else(|| EngineError::Corrupt("too few numbers for jobs".into()))?;
                    numbered(write.key.tenant, own, OWN_BITS, "jobs")?
                }
                Some(before) => before.place.number,
                None => 0,
            };
            places[at] = Some((number, batch.add(write, number, kind, now)?));
        }
        // Readers of the feed are told in the order in which it came.
        for (write, place) in writes.iter().zip(&places) {
            if let Some((number, _)) = place {
                batch.feed(write, *number)?;
            }
        }
        let refused = self.send(&batch, now).await?;
        self.counts.add(batch.counted(&refused));
        self.outcomes(writes, &places, &refused).await
    }

    /// Numbers for jobs that are made, in this order.
    async fn numbers(&self, count: usize) -> Result<Vec<u64>, EngineError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let rows = self.committing.rows("SELECT nextval('job_numbers') FROM generate_series(1, $1)", &[&count]).await?;
        rows.iter().map(|row| column::<i64>(row, 0).map(i64::cast_unsigned)).collect()
    }

    /// Sends a batch until it is known what became of it; the jobs whose writes were refused.
    async fn send(&self, batch: &Batch, now: Timestamp) -> Result<Vec<i64>, EngineError> {
        let id = Uuid::now_v7();
        let deadline = Instant::now() + Duration::from_secs(self.settings.commit_seconds.into());
        // Why nobody knows what became of a call.
        let mut lost = None;
        let mut pause = PAUSE;
        loop {
            // What may have been committed is found out about all the same.
            if lost.is_none() {
                self.standing.check_fitness()?;
            }
            match self.try_send(id, batch, now, deadline).await {
                Ok(refused) => return Ok(refused),
                Err(Unsent::Again) => {}
                Err(Unsent::Lost(why)) => {
                    tracing::warn!(batch = %id, why, "the answer to a commit is lost; it is looked for");
                    // What comes of it is told by the tail, whenever it comes.
                    self.renew_origin();
                    lost = Some(why);
                }
                // As long as a call may have been committed this is no answer.
                Err(Unsent::Not(error)) if lost.is_none() => return Err(error),
                Err(Unsent::Not(error)) => {
                    tracing::warn!(batch = %id, %error, "what became of a commit is not known yet")
                }
            }
            if Instant::now() + pause >= deadline {
                return Err(match lost {
                    Some(why) => EngineError::Indeterminate(why),
                    None => EngineError::Unavailable("PostgreSQL kept refusing a batch because of others".into()),
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a batch once.
    async fn try_send(&self, id: Uuid, batch: &Batch, now: Timestamp, deadline: Instant) -> Result<Vec<i64>, Unsent> {
        let slow = || EngineError::Unavailable("there was no connection to PostgreSQL in time".into());
        let connection = timeout_at(deadline, self.committing.get()).await;
        let connection = connection.unwrap_or_else(|_| Err(slow())).map_err(Unsent::Not)?;
        let origin = self.origin();
        let now = sql(now.0);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&id, &origin, &now];
        params.extend(batch.params());
        let call = async {
            let statement = connection.prepare_cached(&self.commit_call).await?;
            connection.query_one(&statement, &params).await
        };
        let called = async {
            match call.await {
                Ok(row) => column(&row, 0).map_err(Unsent::Not),
                Err(error) => self.unsent(&connection, id, &error).await,
            }
        };
        let called = timeout_at(deadline, called).await;
        called.unwrap_or_else(|_| {
            // Not cancelled: whatever waits for a standby then would be reported as committed.
            drop(Object::take(connection));
            Err(Unsent::Lost("PostgreSQL has not answered a commit in time".into()))
        })
    }

    async fn unsent(&self, connection: &Object, id: Uuid, error: &Error) -> Result<Vec<i64>, Unsent> {
        match Failed::of(error) {
            Failed::Again => Err(Unsent::Again),
            Failed::For => Err(Unsent::Not(fault(error))),
            Failed::Unknown => Err(Unsent::Lost(text(error))),
            Failed::Before => {
                const OUTCOME: &str = "SELECT refused FROM batches WHERE batch = $1";
                let found = connection.query_opt(OUTCOME, &[&id]).await.map_err(|error| Unsent::Not(fault(&error)))?;
                match found {
                    Some(row) => column(&row, 0).map_err(Unsent::Not),
                    // Something else stood twice.
                    None => Err(Unsent::Not(fault(error))),
                }
            }
        }
    }

    /// What became of each write; of those that were refused, what was found instead.
    async fn outcomes(
        &self,
        writes: &[Write],
        places: &[Option<(u64, Place)>],
        refused: &[i64],
    ) -> Result<Vec<Outcome>, EngineError> {
        let is_refused = |number: u64| refused.contains(&sql(number));
        let met: Vec<_> =
            writes.iter().zip(places).filter(|(_, place)| place.is_some_and(|(n, _)| is_refused(n))).collect();
        let keys: Vec<_> = met.iter().map(|(write, _)| write.key.clone()).collect();
        let mut found = if keys.is_empty() { Vec::new() } else { self.found(&keys).await }.into_iter();
        let mut outcomes = Vec::with_capacity(writes.len());
        for (write, place) in writes.iter().zip(places) {
            outcomes.push(match place {
                None => Outcome::TooManyKinds,
                Some((number, _)) if is_refused(*number) => {
                    match found.next().unwrap_or(Ok(Found::Missing)) {
                        Ok(found) => met_instead(write, found, self.clock.now()),
                        // What is committed is so all the same.
                        Err(error) => Outcome::Unread(error),
                    }
                }
                Some((_, place)) => Outcome::Committed(*place),
            });
        }
        Ok(outcomes)
    }
}

/// Why a batch that was sent has no answer.
enum Unsent {
    /// It was not committed, and is to be sent again.
    Again,
    /// It may have been committed.
    Lost(String),
    /// It was not committed by this.
    Not(EngineError),
}

/// The statement that commits a batch.
pub(super) fn commit_call() -> String {
    let params: Vec<_> = (1..=PARAMS + FIRST_PARAMS).map(|number| format!("${number}")).collect();
    format!("SELECT commit_batch({})", params.join(","))
}

fn is_new(write: &Write) -> bool {
    matches!(write.put, Put::New { .. })
}

/// Why a write was refused that found this.
fn met_instead(write: &Write, found: Found, now: Timestamp) -> Outcome {
    let stands_as_expected = match (&found, &write.before) {
        (Found::Job(found), Some(before)) => {
            found.place.number == before.place.number && found.job.revision == before.job.revision
        }
        (Found::Reserved(until), None) => *until <= now,
        (Found::Missing, None) => true,
        (Found::Job(_), None) | (Found::Reserved(_) | Found::Missing, Some(_)) => false,
    };
    if stands_as_expected && write.once.is_some() { Outcome::KeyTaken } else { Outcome::Conflict(found) }
}
