//! The listening socket and its connections.
//!
//! Promises: never more than `connections_max` connections, the next ones wait in the kernel's queue; running out of file
//! descriptors pauses accepting and ends nothing; when told to stop, requests that are under way get their answers within
//! the drain time, and then everything is closed. No connection outlives [`Server::run`].
//! Knows nothing of routes and jobs.

mod afterlife;
mod connection;
mod handover;
mod lent;
mod presence;
mod stall;

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    task::JoinSet,
    time,
};
use tracing::{debug, info, warn};

pub(super) use self::{afterlife::Afterlife, handover::GoesOn, presence::Presence};
use self::{connection::Connection, stall::Stalling};
use crate::{
    metrics::HttpMetrics,
    tasks::{Ended, Stop},
};

/// Connections that wait in the kernel's queue, if the kernel allows as many (net.core.somaxconn).
const BACKLOG: u32 = 4096;
/// What a connection reads ahead and holds back in memory, but for headers that may be larger.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long accepting rests after an error that the next connection would meet as well.
const PAUSE: Duration = Duration::from_millis(100);

/// Bounds of the connections; all of them are configuration.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Connections open at once.
    pub connections_max: usize,
    /// Bytes of a request's line and headers. Over it: 431.
    pub header_bytes_max: usize,
    /// How long a client may take for its headers, and how long a connection may be idle.
    pub header_read_seconds: u32,
    /// How long a client may read nothing of its answer; less once the server is told to stop.
    pub write_stall_seconds: u32,
    /// Bytes of an answer that the kernel holds and cannot send yet, on Linux.
    pub unsent_bytes_max: u32,
    /// How long open requests may take to end.
    pub drain_seconds: u32,
}

/// Serves a router on a socket.
pub struct Server {
    listener: TcpListener,
    http: http1::Builder,
    routes: Router,
    settings: ServerSettings,
    connections: JoinSet<()>,
    open: Gauge,
    stalled: Counter,
}

impl Server {
    /// Takes the address, so that clients can connect from now on; they are answered once the server runs.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(
        address: SocketAddr,
        router: Router,
        settings: ServerSettings,
        metrics: &HttpMetrics,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of the last run to be forgotten by the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        // The connections inherit it.
        #[cfg(target_os = "linux")]
        SockRef::from(&listener).set_tcp_notsent_lowat(settings.unsent_bytes_max)?;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(settings.header_read_seconds.into()))
            // Whether a client that says no more has gone is for `presence` to decide.
            .half_close(true)
            .max_header_size(settings.header_bytes_max)
            .max_buf_size(settings.header_bytes_max.max(BUFFER_BYTES_MAX));
        // Not `pipeline_flush`: it holds an answer back as long as there is more to read, so a 431 would never be sent, and
        // the answer before a request that is only half there would wait for the other half.
        // With its state given, axum makes the routes now and not with each request.
        let routes = router.with_state(());
        let (open, stalled) = (metrics.connections.clone(), metrics.stalled.clone());
        Ok(Self { listener, http, routes, settings, connections: JoinSet::new(), open, stalled })
    }

    /// The address that is listened on, with the port that was taken.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts and serves until told to stop, then drains.
    pub async fn run(mut self, mut stop: Stop) -> Ended {
        loop {
            let has_room = self.connections.len() < self.settings.connections_max;
            select! {
                () = stop.requested() => break,
                stream = accept(&self.listener), if has_room => self.serve(stream, &stop),
                Some(_) = self.connections.join_next() => {}
            }
            self.open.set(self.connections.len() as i64);
        }
        self.drain().await
    }

    fn serve(&mut self, stream: TcpStream, stop: &Stop) {
        // Answers are written whole; waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection was gone before it was served");
            return;
        }
        let patience = Duration::from_secs(self.settings.write_stall_seconds.into());
        let stream = Stalling::new(stream, patience, stop.clone(), self.stalled.clone());
        let connection = Connection { http: self.http.clone(), routes: self.routes.clone(), stop: stop.clone() };
        self.connections.spawn(connection.serve(stream));
    }

    /// No new connections; those that are open end when their request has its answer, or else with the drain time.
    async fn drain(mut self) -> Ended {
        drop(self.listener);
        let drain = Duration::from_secs(self.settings.drain_seconds.into());
        info!(connections = self.connections.len(), "draining");
        let drained = time::timeout(drain, async { while self.connections.join_next().await.is_some() {} }).await;
        let cut = self.connections.len();
        self.connections.shutdown().await;
        self.open.set(0);
        match drained {
            Ok(()) => Ended::Complete,
            Err(_) => {
                warn!(connections = cut, "cut the connections that were still open after http.drain_seconds");
                Ended::CutShort
            }
        }
    }
}

/// The next connection. Errors of single connections are theirs; others, such as too many open files, pass.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted")
            }
            Err(error) => {
                if !told {
                    warn!(%error, "no connection can be accepted at the moment; trying again");
                    told = true;
                }
                time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
