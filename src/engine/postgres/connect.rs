//! Connections: a pool of those that ask and answer, each set up alike.
//!
//! Promises: nobody waits longer for a connection than is configured.

use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    Client, Config, Connection, Row, Socket,
    types::{FromSql, ToSql},
};

use super::{
    Settings,
    error::{fault, no_connection},
    hosts::{Hosts, TlsStream},
    tls,
};
use crate::engine::EngineError;

/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Every statement here finds its rows by their keys. Plans are made once for each connection, perhaps when the tables are
/// still empty, and must not read whole tables later. Behind a pooler these are for the role to have, see docs/operating.md.
const SETUP: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
     SET plan_cache_mode = force_generic_plan; SET timezone = 'UTC'";
/// A transaction of a process that is cut off holds its locks until PostgreSQL ends it, by itself after hours. After so many times
/// of what a statement may take it is: an export, whose reader may be slow, has asked for more by then.
const IDLE_IN_TRANSACTION: u64 = 4;

/// Connections for one purpose.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    hosts: Hosts,
    statement: Duration,
}

impl Connections {
    /// Those of whoever commits, which wait for nobody, and those of everybody else. They are made when they are asked for, and
    /// each lives in the runtime of whoever was the first to ask for it.
    ///
    /// # Errors
    /// When the settings make no pool, or there are no authorities.
    pub(super) fn new(settings: &Settings) -> Result<(Self, Self), EngineError> {
        let config = config(settings);
        let connect = Duration::from_secs(settings.connect_seconds.into());
        let hosts = Hosts::new(&config, tls::connector(&settings.trust)?, connect);
        let statement = Duration::from_secs(settings.statement_seconds.into());
        let of = |size| Ok(Self { pool: pool(settings, &config, &hosts, size)?, hosts: hosts.clone(), statement });
        Ok((of(1)?, of(settings.connections_max.saturating_sub(1).max(1))?))
    }

    /// A connection of the caller's own for a while.
    pub(super) async fn get(&self) -> Result<Object, EngineError> {
        self.pool.get().await.map_err(|error| no_connection(&error))
    }

    /// A connection outside the pool, which does everything while it is polled.
    pub(super) async fn own(&self) -> Result<(Client, Connection<Socket, TlsStream>), EngineError> {
        let connected = timeout(self.hosts.patience(), self.hosts.connect()).await;
        let silent = || EngineError::Unavailable("PostgreSQL has not answered in time".into());
        connected.map_err(|_| silent())?.map_err(|error| fault(&error))
    }

    /// The rows that a statement gives.
    pub(super) async fn rows(&self, text: &str, params: Params<'_>) -> Result<Vec<Row>, EngineError> {
        let mut lent = Lent(Some(self.get().await?));
        lent.rows(text, params, self.statement).await
    }

    /// The row that a statement gives, and how long that took once there was a connection.
    pub(super) async fn timed(&self, text: &str) -> Result<(Option<Row>, Duration), EngineError> {
        let mut lent = Lent(Some(self.get().await?));
        let asked = Instant::now();
        let row = lent.rows(text, &[], self.statement).await?.pop();
        Ok((row, asked.elapsed()))
    }

    /// The row that a statement gives, if it gives one.
    pub(super) async fn row(&self, text: &str, params: Params<'_>) -> Result<Option<Row>, EngineError> {
        Ok(self.rows(text, params).await?.pop())
    }

    /// Lets go of all connections; no more are made.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// A connection that goes back to its pool once its statement is answered, and else is closed: whoever got it next would wait for
/// that answer.
struct Lent(Option<Object>);

impl Lent {
    async fn rows(&mut self, text: &str, params: Params<'_>, within: Duration) -> Result<Vec<Row>, EngineError> {
        let Some(connection) = &self.0 else { return Ok(Vec::new()) };
        let asked = async {
            let statement = connection.prepare_cached(text).await?;
            connection.query(&statement, params).await
        };
        let answered = timeout(within, asked).await.map_err(|_| {
            EngineError::Unavailable(format!("PostgreSQL has not answered within {} s", within.as_secs()))
        })?;
        // Back to its pool.
        drop(self.0.take());
        answered.map_err(|error| fault(&error))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

fn pool(settings: &Settings, config: &Config, hosts: &Hosts, size: usize) -> Result<Pool, EngineError> {
    let wait = Duration::from_secs(settings.connect_seconds.into());
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(config.clone(), hosts.clone(), recycling);
    let idle = u64::from(settings.statement_seconds) * IDLE_IN_TRANSACTION;
    let set_up = Hook::async_fn(move |client: &mut ClientWrapper, _| {
        Box::pin(async move {
            let settings = format!("{SETUP}; SET idle_in_transaction_session_timeout = '{idle}s'");
            match timeout(wait, client.batch_execute(&settings)).await {
                Ok(done) => done.map_err(HookError::Backend),
                Err(_) => Err(HookError::message("PostgreSQL has not answered in time")),
            }
        })
    });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(wait))
        .create_timeout(Some(hosts.patience()))
        .recycle_timeout(Some(wait))
        .post_create(set_up)
        .build()
        .map_err(|error| EngineError::Unavailable(error.to_string()))
}

/// How to connect, with what the URL leaves open.
fn config(settings: &Settings) -> Config {
    let mut config = settings.url.clone();
    let connect = Duration::from_secs(settings.connect_seconds.into());
    if config.get_application_name().is_none() {
        config.application_name("milepost");
    }
    // A machine that is gone says nothing: what it has not acknowledged, or a connection on which nothing comes, ends in time.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(connect);
    }
    config.keepalives_idle(connect).keepalives_interval(Duration::from_secs(1)).keepalives_retries(3);
    config
}

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, EngineError> {
    row.try_get(at).map_err(|error| EngineError::Corrupt(format!("column {at} of an answer: {error}")))
}
