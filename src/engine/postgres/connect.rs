//! Connections: a pool of those that ask and answer, each set up alike.
//!
//! Promises: nobody waits longer for a connection than is configured.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Row, Socket,
    tls::MakeTlsConnect,
    types::{FromSql, ToSql},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Settings,
    error::{fault, no_connection},
    tls,
};
use crate::engine::EngineError;

/// What carries a connection.
pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Every statement here finds its rows by their keys. Plans are made once for each connection, perhaps when the tables are
/// still empty, and must not read whole tables later.
const SETUP: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
     SET plan_cache_mode = force_generic_plan; SET timezone = 'UTC'";

/// The pool.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    config: Config,
    tls: MakeRustlsConnect,
    statement: Duration,
}

impl Connections {
    /// Connects when it is asked to.
    ///
    /// # Errors
    /// When the settings make no pool.
    pub(super) fn new(settings: &Settings) -> Result<Self, EngineError> {
        let connect = Duration::from_secs(settings.connect_seconds.into());
        let config = config(&settings.url, connect);
        let tls = tls::connector(&settings.trust)?;
        let manager = Manager::from_config(
            config.clone(),
            tls.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let set_up = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move { client.batch_execute(SETUP).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(settings.connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect))
            .create_timeout(Some(connect))
            .recycle_timeout(Some(connect))
            .post_create(set_up)
            .build()
            .map_err(|error| EngineError::Unavailable(error.to_string()))?;
        Ok(Self { pool, config, tls, statement: Duration::from_secs(settings.statement_seconds.into()) })
    }

    /// A connection of the caller's own for a while.
    pub(super) async fn get(&self) -> Result<Object, EngineError> {
        self.pool.get().await.map_err(|error| no_connection(&error))
    }

    /// A connection outside the pool, which does everything while it is polled.
    pub(super) async fn own(&self) -> Result<(Client, Connection<Socket, TlsStream>), EngineError> {
        self.config.connect(self.tls.clone()).await.map_err(|error| fault(&error))
    }

    /// The rows that a statement gives.
    pub(super) async fn rows(&self, text: &str, params: Params<'_>) -> Result<Vec<Row>, EngineError> {
        let connection = self.get().await?;
        let asked = async {
            let statement = connection.prepare_cached(text).await?;
            connection.query(&statement, params).await
        };
        match timeout(self.statement, asked).await {
            Ok(answered) => answered.map_err(|error| fault(&error)),
            Err(_) => {
                // Whoever got it next would wait for the same answer.
                drop(Object::take(connection));
                Err(self.too_slow())
            }
        }
    }

    /// The row that a statement gives, if it gives one.
    pub(super) async fn row(&self, text: &str, params: Params<'_>) -> Result<Option<Row>, EngineError> {
        Ok(self.rows(text, params).await?.pop())
    }

    fn too_slow(&self) -> EngineError {
        EngineError::Unavailable(format!("PostgreSQL has not answered within {} s", self.statement.as_secs()))
    }

    /// Lets go of all connections; no more are made.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// How to connect, with what the URL leaves open.
fn config(url: &Config, connect: Duration) -> Config {
    let mut config = url.clone();
    if config.get_application_name().is_none() {
        config.application_name("milepost");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect);
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
