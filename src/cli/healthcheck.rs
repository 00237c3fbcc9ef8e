//! `milepost healthcheck`: for container images, which have no curl.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use thiserror::Error;

use crate::config::Config;

/// How long the service may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the service counts as not ready.
#[derive(Debug, Error)]
pub enum Unwell {
    /// It did not answer.
    #[error("no answer from http://{address}/readyz: {cause}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It answered something else than 200.
    #[error("http://{address}/readyz answered `{answer}`")]
    NotReady {
        /// Where it was asked.
        address: SocketAddr,
        /// The first line of its answer.
        answer: String,
    },
    /// The port is known only to the process that took it.
    #[error("http.listen has port 0: nobody knows where the service listens")]
    AnyPort,
}

/// Asks the service whether it is ready.
pub(super) fn run(config: &Config) -> Result<(), Unwell> {
    let address = reachable(config.http.listen);
    if address.port() == 0 {
        return Err(Unwell::AnyPort);
    }
    let answer = ask(address).map_err(|cause| Unwell::Silent { address, cause })?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(Unwell::NotReady { address, answer: status.escape_debug().to_string() })
    }
}

/// A service that listens on all addresses is asked on the loopback address.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    listen
}

/// The beginning of the answer, with the status line.
fn ask(address: SocketAddr) -> io::Result<String> {
    const ANSWER_BYTES: u64 = 1024;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
