//! A client of the service's own API: what `run`, `watch` and the other commands for people and workers speak through.
//!
//! Promises: every answer is a success, a [`Refusal`] with its problem, or a fault of the way there, and none of them is
//! waited for longer than its request says. One connection is kept; it is driven by whoever waits for an answer, so
//! nothing runs in the background. A request may arrive twice when its connection breaks: all that is asked here may.
//! Must not know what the requests are for, nor anything of the server's side.

mod base;
mod error;
mod options;
mod pause;
mod request;
mod stream;
mod wire;

use http_body_util::{BodyExt, Limited};
use hyper::{Response, body::Incoming};
use tokio::time::timeout;

use self::wire::Wire;
pub use self::{
    base::{BadServer, Base},
    error::{ClientError, Refusal},
    options::ServerOptions,
    pause::Pauses,
    request::{Answer, Request, segment},
    stream::{Event, EventReader, Stream},
};

/// The longest answer that is read: documents have at most 1 MiB of log, pages 10,000 lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One connection to one service; for one request at a time.
pub struct Client {
    base: Base,
    kept: Option<Wire>,
}

impl Client {
    /// A client of the service there, which connects when there is something to ask.
    pub fn new(base: Base) -> Self {
        Self { base, kept: None }
    }

    /// Another one, with a connection of its own.
    pub fn sibling(&self) -> Self {
        Self::new(self.base.clone())
    }

    /// Where it asks.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Asks, and reads the answer to its end.
    ///
    /// # Errors
    /// What was refused, or why there is no answer.
    pub async fn call(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let answered = timeout(request.patience(), async {
            let (wire, response) = self.send(request).await?;
            whole(wire, response).await
        });
        let (wire, answer) = answered.await.map_err(|_elapsed| ClientError::Silent(request.patience()))??;
        self.kept = Some(wire);
        if answer.status < 400 { Ok(answer) } else { Err(Refusal::of(&answer).into()) }
    }

    /// Asks for something that is sent bit by bit.
    ///
    /// # Errors
    /// What was refused, or why there is no answer.
    pub async fn open(&mut self, request: &Request) -> Result<Stream, ClientError> {
        let begun = timeout(request.patience(), async {
            let (wire, response) = self.send(request).await?;
            if response.status().as_u16() < 400 {
                return Ok(Stream::new(wire, response));
            }
            let (_, answer) = whole(wire, response).await?;
            Err(Refusal::of(&answer).into())
        });
        begun.await.map_err(|_elapsed| ClientError::Silent(request.patience()))?
    }

    /// The head of the answer, on the connection that is kept; where that has died meanwhile, on a new one.
    async fn send(&mut self, request: &Request) -> Result<(Wire, Response<Incoming>), ClientError> {
        if let Some(mut wire) = self.kept.take()
            && let Ok(response) = wire.send(request.on(&self.base)?).await
        {
            return Ok((wire, response));
        }
        let mut wire = Wire::connect(&self.base).await?;
        let response = wire.send(request.on(&self.base)?).await?;
        Ok((wire, response))
    }
}

/// The answer with all of its body, and the connection that it came on.
async fn whole(mut wire: Wire, response: Response<Incoming>) -> Result<(Wire, Answer), ClientError> {
    let (head, body) = response.into_parts();
    let read = wire.drive(Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
    let body = read.map_err(|cause| ClientError::Cut(cause.to_string()))?.to_bytes();
    Ok((wire, Answer { status: head.status.as_u16(), headers: head.headers, body }))
}
