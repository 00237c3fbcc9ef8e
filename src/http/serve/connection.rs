//! The life of one connection.
//!
//! Promises: hyper answers its requests; while an answer goes on the connection is without hyper, whose buffers it then
//! does not need, and where a change costs a write and no more; after it the connection is hyper's again. When the
//! service goes down, it ends with the answer that is under way.

use std::{convert::Infallible, future::poll_fn, io, pin::Pin, task::Poll, time::SystemTime};

use axum::{Router, body::Body, response::Response};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request,
    body::Incoming,
    header::{CONNECTION, UPGRADE},
    server::conn::http1,
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    select,
};
use tower::Service as _;
use tracing::debug;

use super::{
    Afterlife,
    handover::{Answering, Handover, Rest},
    lent::Lent,
    presence::Presence,
};
use crate::tasks::Stop;

/// What a connection needs of its server.
pub(super) struct Connection {
    pub(super) http: http1::Builder,
    pub(super) routes: Router,
    pub(super) stop: Stop,
}

/// Why a connection ended early.
#[derive(Debug, Error)]
enum Broken {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn serve<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(mut self, stream: T) {
        let (afterlife, handover, presence) = (Afterlife::default(), Handover::default(), Presence::default());
        let mut next = Some(Lent::new(stream, handover.clone(), presence.clone()));
        while let Some(stream) = next.take() {
            let service = Service {
                routes: self.routes.clone(),
                afterlife: afterlife.clone(),
                handover: handover.clone(),
                presence: presence.clone(),
            };
            match self.speak(stream, service).await {
                Ok(stream) => next = stream,
                Err(error) => debug!(%error, "a connection ended early"),
            }
        }
        if let Some(afterlife) = afterlife.take() {
            afterlife.await;
        }
    }

    /// Until the connection is over, or has served an answer that went on and serves on.
    async fn speak<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &mut self,
        stream: Lent<T>,
        service: Service,
    ) -> Result<Option<Lent<T>>, Broken> {
        // Not part of this task's future: it is much larger than what an answer that goes on needs.
        let left = Box::pin(speak_http(&self.http, stream, service, &mut self.stop)).await?;
        let Some((stream, rest)) = left else { return Ok(None) };
        let Some(mut stream) = go_on(stream, rest.body).await? else { return Ok(None) };
        if rest.is_last || self.stop.is_requested() {
            stream.shutdown().await?;
            return Ok(None);
        }
        Ok(Some(stream))
    }
}

/// Until the connection is over, or an answer goes on: then with what is to come of it.
async fn speak_http<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    http: &http1::Builder,
    stream: Lent<T>,
    service: Service,
    stop: &mut Stop,
) -> Result<Option<(Lent<T>, Rest)>, Broken> {
    let handover = service.handover.clone();
    let mut connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let rest = select! {
        biased;
        rest = served(&mut connection, &handover) => rest,
        () = stop.requested() => {
            Pin::new(&mut connection).graceful_shutdown();
            served(&mut connection, &handover).await
        }
    };
    let Some(parts) = connection.into_parts() else { return rest.map(|_| None).map_err(Broken::from) };
    let mut stream = parts.io.into_inner();
    match rest {
        Ok(rest) => Ok(rest.map(|rest| {
            stream.unread(&parts.read_buf);
            (stream, rest)
        })),
        Err(error) => {
            // A connection on which nothing has begun is only idle.
            if error.is_timeout() && !parts.read_buf.is_empty() && stream.is_between_answers() {
                refuse_slow_headers(&mut stream).await?;
            }
            Err(error.into())
        }
    }
}

/// Says what hyper closes the connection for without a word (RFC 9110, section 15.5.9).
async fn refuse_slow_headers(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let answer =
        format!("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Until hyper is done, or has written the head of an answer that goes on.
async fn served(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    handover: &Handover,
) -> hyper::Result<Option<Rest>> {
    poll_fn(|context| match Pin::new(&mut *connection).poll(context) {
        Poll::Ready(served) => Poll::Ready(served.map(|()| None)),
        Poll::Pending => handover.take().map_or(Poll::Pending, |rest| Poll::Ready(Ok(Some(rest)))),
    })
    .await
}

/// Sends what is to come. Gives the connection back when that was all; not when it broke off, or the client has gone.
async fn go_on<T: AsyncRead + AsyncWrite + Unpin>(mut stream: Lent<T>, mut body: Body) -> io::Result<Option<Lent<T>>> {
    loop {
        let frame = select! {
            biased;
            frame = body.frame() => frame,
            () = stream.gone() => return Ok(None),
        };
        match frame {
            Some(Ok(frame)) => {
                // An empty chunk would be the last.
                if let Some(piece) = frame.data_ref().filter(|piece| !piece.is_empty()) {
                    stream.write_chunk(piece).await?;
                }
            }
            // Without its last chunk the client can tell it from a whole one.
            Some(Err(_)) => return Ok(None),
            None => {
                stream.write_chunk(&[]).await?;
                return Ok(Some(stream));
            }
        }
    }
}

/// The router as hyper calls it for one connection.
struct Service {
    routes: Router,
    afterlife: Afterlife,
    handover: Handover,
    presence: Presence,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut is_last = false;
        // Most requests say nothing about it.
        if request.headers().contains_key(CONNECTION) {
            is_last = wants_close(request.headers());
            if request.headers().contains_key(UPGRADE) {
                request.extensions_mut().insert(self.afterlife.clone());
            }
        }
        request.extensions_mut().insert(self.presence.clone());
        let handover = Handover::suits(&request).then(|| (self.handover.clone(), is_last));
        // A router is always ready, and a clone of it is a count.
        let route = self.routes.clone().call(request.map(Body::new));
        Answering::new(route, self.presence.clone(), handover)
    }
}

/// Whether this is the last request of its connection (RFC 9112, section 9.6).
fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}
