//! Connections whose client does not read.
//!
//! Promises: a write that makes no progress for the given time fails, so that a client that reads nothing holds its
//! connection, and what waits to be sent on it, only so long. Costs nothing while writes make progress.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrayvec::ArrayVec;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

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
#[derive(Debug)]
pub(super) struct Stalling<T> {
    stream: T,
    patience: Duration,
    /// Those that were given up.
    cut: Counter,
    /// Runs from the first write that made no progress.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Stalling<T> {
    pub(super) fn new(stream: T, patience: Duration, cut: Counter) -> Self {
        Self { stream, patience, cut, stalled: None }
    }

    /// What a write comes to, with regard to how long none has made progress.
    fn patient<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        self.cut.inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
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

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (server, _client) = tokio::io::duplex(16);
        let (begun, cut) = (time::Instant::now(), Counter::default());
        let error = Stalling::new(server, PATIENCE, cut.clone()).write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
        assert_eq!(cut.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_served() {
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Stalling::new(server, PATIENCE, Counter::default());
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
