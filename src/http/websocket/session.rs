//! One WebSocket, from its upgrade to its close.
//!
//! Promises: it is closed with a code that says why; a client that reads nothing, or that answers no ping, holds it only
//! so long; when the service goes down it does not hold it up.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    select,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    http::context::Context,
    metrics::{Held, StreamKind},
    publish::{Interrupted, Reader, Step},
};

/// What a client may say at once; there is nothing that it has to say.
const MESSAGE_BYTES_MAX: usize = 4096;
/// What is read, and collected for one write.
const BUFFER_BYTES: usize = 4096;
/// How long a client may take to answer that the connection is closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A WebSocket and what it is told.
pub(super) struct Session {
    reader: Reader,
    frames: Counter,
    ping_every: Duration,
    _open: Held,
}

/// Why a WebSocket comes to its end.
enum Ending {
    /// It is closed with a word.
    Closed(CloseCode, &'static str),
    /// The client has closed it, has gone or does not answer.
    Gone,
}

impl From<tungstenite::Error> for Ending {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::{Error, error::CapacityError};
        if matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. })) {
            Self::Closed(CloseCode::Size, "there is nothing to say here")
        } else if matches!(error, Error::Protocol(_) | Error::Utf8(_)) {
            Self::Closed(CloseCode::Protocol, "that breaks RFC 6455")
        } else {
            Self::Gone
        }
    }
}

impl Session {
    pub(super) fn new(context: &Context, reader: Reader) -> Self {
        let metrics = context.push_metrics();
        Self {
            reader,
            frames: metrics.frames(StreamKind::WebSocket),
            ping_every: Duration::from_secs(context.settings().stream.comment_seconds.into()),
            _open: Held::new(metrics.open(StreamKind::WebSocket)),
        }
    }

    /// Tells what there is to tell, and closes.
    pub(super) async fn run(mut self, upgraded: Upgraded) {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        if let Ending::Closed(code, reason) = self.talk(&mut socket).await {
            let _late = timeout(CLOSE_PATIENCE, close(&mut socket, code, reason)).await;
        }
    }

    async fn talk(&mut self, socket: &mut Socket) -> Ending {
        let mut pings = pings(self.ping_every);
        let mut is_answered = true;
        loop {
            let told = select! {
                biased;
                heard = socket.next() => match heard {
                    Some(Ok(_)) => {
                        is_answered = true;
                        Ok(())
                    }
                    Some(Err(error)) => Err(error),
                    None => return Ending::Gone,
                },
                step = self.reader.next() => match step {
                    Ok(Some(step)) => {
                        self.frames.inc_by(step.frames());
                        tell(socket, &step).await
                    }
                    Ok(None) => return Ending::Closed(CloseCode::Normal, "nothing follows"),
                    Err(Interrupted::Closing) => {
                        return Ending::Closed(CloseCode::Away, "the service is going down");
                    }
                    Err(Interrupted::Store(cause)) => {
                        tracing::warn!(%cause, "a stream broke off");
                        return Ending::Closed(CloseCode::Error, "come back later");
                    }
                },
                _ = pings.tick() => {
                    if !std::mem::replace(&mut is_answered, false) {
                        return Ending::Gone;
                    }
                    socket.send(Message::Ping(Bytes::new())).await
                }
            };
            if let Err(error) = told {
                return error.into();
            }
        }
    }
}

async fn tell(socket: &mut Socket, step: &Step) -> Result<(), tungstenite::Error> {
    for text in step.texts() {
        socket.feed(Message::Text(Utf8Bytes::try_from(text.clone())?)).await?;
    }
    socket.flush().await
}

fn pings(every: Duration) -> Interval {
    let mut pings = interval_at(Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

/// Says why, and waits for the client to close, too: if what it has sent were left unread, it might not see why.
async fn close(socket: &mut Socket, code: CloseCode, reason: &'static str) -> Result<(), tungstenite::Error> {
    socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
    while let Some(Ok(_)) = socket.next().await {}
    let stream = socket.get_mut();
    stream.shutdown().await?;
    let mut nothing = [0; 1024];
    while stream.read(&mut nothing).await? > 0 {}
    Ok(())
}
