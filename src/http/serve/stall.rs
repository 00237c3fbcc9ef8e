//! Connections whose client does not read.
//!
//! Promises: a write that makes no progress for the given time fails, so that a client that reads nothing holds its
//! connection, and what waits to be sent on it, only so long; less when the service goes down. Costs nothing while writes
//! make progress.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrayvec::ArrayVec;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    select, time,
};

use crate::tasks::Stop;

/// How long a write may make no progress once the service goes down.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Up to which size copying slices together costs less than to have the kernel gather them: a microsecond less for a
/// frame of a stream, measured. For a head and a body, which are two slices, it is no gain.
const TOGETHER_BYTES_MAX: usize = 2048;

/// The slices of a small chunk as one.
fn together(slices: &[IoSlice<'_>]) -> Option<ArrayVec<u8, TOGETHER_BYTES_MAX>> {
    if slices.len() < 3 {
        return None;
    }
    let mut bytes = ArrayVec::new();
    slices.iter().try_for_each(|slice| bytes.try_extend_from_slice(slice)).ok()?;
    Some(bytes)
}

/// A stream whose writes may stall only so long.
pub(super) struct Stalling<T> {
    stream: T,
    patience: Duration,
    stop: Stop,
    /// Those that were given up.
    cut: Counter,
    /// Begins with the first write that makes no progress, and is over when it has made none for too long.
    stalled: Option<BoxFuture<'static, ()>>,
}

impl<T> Stalling<T> {
    pub(super) fn new(stream: T, patience: Duration, stop: Stop, cut: Counter) -> Self {
        Self { stream, patience, stop, cut, stalled: None }
    }

    /// What a write comes to, with regard to how long none has made progress.
    fn patient<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let (patience, stop) = (self.patience, &self.stop);
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(too_long(patience, stop.clone())));
        ready!(stalled.as_mut().poll(context));
        self.cut.inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

/// Over after `patience`, or soon after the service is told to stop.
async fn too_long(patience: Duration, mut stop: Stop) {
    select! {
        () = time::sleep(patience) => {}
        () = async {
            stop.requested().await;
            time::sleep(LAST_PATIENCE).await;
        } => {}
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stalling<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stalling<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patient(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let written = match together(slices) {
            Some(bytes) => stream.poll_write(context, &bytes),
            None => stream.poll_write_vectored(context, slices),
        };
        self.patient(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::tasks;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (server, _client) = tokio::io::duplex(16);
        let (begun, cut, (_stopper, stop)) = (time::Instant::now(), Counter::default(), tasks::stop());
        let error = Stalling::new(server, PATIENCE, stop, cut.clone()).write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
        assert_eq!(cut.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_does_not_hold_the_service_up() {
        let (server, _client) = tokio::io::duplex(16);
        let (begun, (stopper, stop)) = (time::Instant::now(), tasks::stop());
        let mut server = Stalling::new(server, PATIENCE, stop, Counter::default());
        let stopped_at = async {
            time::sleep(PATIENCE / 3).await;
            stopper.stop();
            begun.elapsed()
        };
        let (written, stopped_at) = tokio::join!(server.write_all(&[0; 17]), stopped_at);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let held = begun.elapsed() - stopped_at;
        assert!(held >= LAST_PATIENCE && held < 2 * LAST_PATIENCE, "{held:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_served() {
        let (server, mut client) = tokio::io::duplex(16);
        let (_stopper, stop) = tasks::stop();
        let mut server = Stalling::new(server, PATIENCE, stop, Counter::default());
        let bytes = [7; 16 * 5];
        let read = async {
            let mut all = Vec::new();
            while all.len() < bytes.len() {
                // Time stands still but for this, so it is no waiting.
                time::advance(PATIENCE / 2).await;
                let mut some = [0; 16];
                let count = client.read(&mut some).await.unwrap();
                all.extend_from_slice(&some[..count]);
            }
            all
        };
        let (written, read) = tokio::join!(server.write_all(&bytes), read);
        written.unwrap();
        assert_eq!(read, bytes);
    }
}
