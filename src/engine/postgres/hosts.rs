//! Which of the hosts of a URL is talked to.
//!
//! Promises: one that is gone, takes connections and says nothing, or is not what is wanted costs its share of the time to
//! connect, and leaves the others theirs. The one that answered last is asked first. Where none is what is wanted they are not
//! asked again at once, however many wait: a database that comes back is not held up by those who ask whether it is back.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::{Client, Config, Connection, Error, Socket, config::Host, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What carries a connection.
pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How long nobody is asked once nobody was what is wanted.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module. Clones share what they know.
#[derive(Clone)]
pub(super) struct Hosts(Arc<Inner>);

struct Inner {
    each: Vec<Config>,
    tls: MakeRustlsConnect,
    /// What one of them may take.
    share: Duration,
    first: AtomicUsize,
    /// When they may be asked again.
    again: Mutex<Option<Instant>>,
}

impl Inner {
    fn again(&self) -> MutexGuard<'_, Option<Instant>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosts {
    /// Those of a URL, which may take so long together.
    pub(super) fn new(url: &Config, tls: MakeRustlsConnect, connect: Duration) -> Self {
        let each: Vec<_> = (0..url.get_hosts().len().max(url.get_hostaddrs().len())).map(|at| one(url, at)).collect();
        let count = u32::try_from(each.len()).unwrap_or(1).max(1);
        let share = (connect / count).max(Duration::from_secs(1));
        Self(Arc::new(Inner { each, tls, share, first: AtomicUsize::new(0), again: Mutex::new(None) }))
    }

    /// What connecting takes at the most, when one after the other has its share, and a moment to take note of that.
    pub(super) fn patience(&self) -> Duration {
        2 * PAUSE + self.0.share * u32::try_from(self.0.each.len()).unwrap_or(1)
    }

    /// Connects to one of them. Never returns when none of them says anything: the time is the caller's.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), Error> {
        let Inner { each, tls, share, first, .. } = &*self.0;
        let pause = *self.0.again();
        if let Some(until) = pause {
            sleep_until(until).await;
        }
        let begin = first.load(Ordering::Relaxed);
        let mut refused = None;
        for at in (0..each.len()).map(|nth| (begin + nth) % each.len()) {
            match timeout(*share, each[at].connect(tls.clone())).await {
                Ok(Ok(connected)) => {
                    first.store(at, Ordering::Relaxed);
                    *self.0.again() = None;
                    return Ok(connected);
                }
                Ok(Err(error)) => refused = Some(error),
                Err(_) => tracing::debug!(host = ?each[at].get_hosts(), "PostgreSQL says nothing"),
            }
        }
        *self.0.again() = Some(Instant::now() + PAUSE);
        match refused {
            Some(error) => Err(error),
            None => pending().await,
        }
    }
}

impl Connect for Hosts {
    fn connect(&self, _url: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            let (client, connection) = Self::connect(self).await?;
            // It ends with its client, which is the pool's.
            let carrier = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to PostgreSQL has ended");
                }
            });
            Ok((client, carrier))
        })
    }
}

/// A URL with one of its hosts.
fn one(url: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match url.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = url.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    if let Some(port) = url.get_ports().get(at).or_else(|| url.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = url.get_user() {
        one.user(user);
    }
    if let Some(password) = url.get_password() {
        one.password(password);
    }
    if let Some(name) = url.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = url.get_options() {
        one.options(options);
    }
    if let Some(name) = url.get_application_name() {
        one.application_name(name);
    }
    if let Some(wait) = url.get_connect_timeout() {
        one.connect_timeout(*wait);
    }
    if let Some(wait) = url.get_tcp_user_timeout() {
        one.tcp_user_timeout(*wait);
    }
    if let Some(interval) = url.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = url.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(url.get_keepalives())
        .keepalives_idle(url.get_keepalives_idle())
        .ssl_mode(url.get_ssl_mode())
        .ssl_negotiation(url.get_ssl_negotiation())
        .channel_binding(url.get_channel_binding())
        .target_session_attrs(url.get_target_session_attrs())
        .load_balance_hosts(url.get_load_balance_hosts());
    one
}
