//! A connection, driven by whoever waits for something on it.

use std::{
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Base, ClientError};

/// How long connecting may take, TLS included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Driver = Pin<Box<Connection<TokioIo<Box<dyn Duplex>>, Full<Bytes>>>>;

pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    /// None once the connection is over; what it had received can still be read.
    driver: Option<Driver>,
}

impl Wire {
    pub(super) async fn connect(base: &Base) -> Result<Self, ClientError> {
        let unreachable = |cause| {
            let url = base.url().to_owned();
            if is_distrust(&cause) {
                ClientError::Untrusted { url, cause }
            } else {
                ClientError::Unreachable { url, cause }
            }
        };
        let connected = timeout(CONNECT_PATIENCE, reach(base)).await;
        let duplex = connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        let (sender, connection) = http1::handshake(TokioIo::new(duplex)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection)) })
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let Self { sender, driver } = self;
        let answered = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        Ok(beside(driver, answered).await?)
    }

    /// Does what needs the connection to go on meanwhile, such as reading from it.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        beside(&mut self.driver, work).await
    }
}

async fn beside<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        // Why the connection ended is told to whoever waits for its answer.
        if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
            *driver = None;
        }
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn reach(base: &Base) -> io::Result<Box<dyn Duplex>> {
    let stream = TcpStream::connect((base.host.as_str(), base.port)).await?;
    stream.set_nodelay(true)?;
    Ok(match &base.secure {
        None => Box::new(stream),
        Some(secure) => Box::new(TlsConnector::from(secure.config.clone()).connect(secure.name.clone(), stream).await?),
    })
}

/// Whether there was somebody, whose certificate is not trusted.
fn is_distrust(cause: &io::Error) -> bool {
    let cause = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}
