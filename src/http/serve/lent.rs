//! A connection that is lent to hyper, and may be had back.
//!
//! Promises: says when all that hyper wrote is with the kernel; gives the next reader what was read too early; fails when
//! the client has gone while that matters.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{handover::Handover, presence::Presence};

/// What a client may send ahead while an answer goes on; with more it is not noticed that it has gone.
const EARLY_BYTES_MAX: usize = 4096;

pub(super) struct Lent<T> {
    stream: T,
    handover: Handover,
    presence: Presence,
    /// Something was written, and perhaps not all that was to be.
    is_behind: bool,
    /// What the client has sent ahead.
    early: BytesMut,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Lent<T> {
    pub(super) fn new(stream: T, handover: Handover, presence: Presence) -> Self {
        Self { stream, handover, presence, is_behind: false, early: BytesMut::new() }
    }

    /// Whether the client has been sent whole answers only.
    pub(super) fn is_between_answers(&self) -> bool {
        !self.is_behind
    }

    /// Gives back what hyper has read and not used.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let rest = self.early.split();
        self.early.extend_from_slice(bytes);
        self.early.unsplit(rest);
    }

    /// Returns when the client has gone. What it sends before that is kept for the next reader.
    pub(super) async fn gone(&mut self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.early.len() < EARLY_BYTES_MAX {
            match ready!(pin!(self.stream.read_buf(&mut self.early)).poll(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Writes it as a chunk (RFC 9112, section 7.1). An empty one is the last.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn write_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut size = [0; CHUNK_HEAD_BYTES_MAX];
        let head = chunk_head(chunk.len(), &mut size);
        let mut slices = &mut [IoSlice::new(head), IoSlice::new(chunk), IoSlice::new(b"\r\n")][..];
        while !slices.is_empty() {
            let written = self.stream.write_vectored(slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }
}

/// Hexadecimal digits of a length and the end of the line.
const CHUNK_HEAD_BYTES_MAX: usize = 2 * size_of::<usize>() + 2;

fn chunk_head(length: usize, into: &mut [u8; CHUNK_HEAD_BYTES_MAX]) -> &[u8] {
    let digits = (length.max(1).ilog2() / 4 + 1) as usize;
    for (place, byte) in into[..digits].iter_mut().rev().enumerate() {
        *byte = b"0123456789abcdef"[(length >> (4 * place)) & 0xf];
    }
    into[digits..digits + 2].copy_from_slice(b"\r\n");
    &into[..digits + 2]
}

impl<T: AsyncRead + Unpin> AsyncRead for Lent<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lent<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_behind = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_behind = true;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all it had, and whenever something has happened.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.is_behind = false;
        self.handover.flushed();
        if self.presence.does_matter() && self.poll_gone(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has gone")));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_chunk_is_hexadecimal() {
        for length in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, 65_536, usize::MAX] {
            let mut into = [0; CHUNK_HEAD_BYTES_MAX];
            assert_eq!(chunk_head(length, &mut into), format!("{length:x}\r\n").as_bytes());
        }
    }

    #[tokio::test]
    async fn a_client_is_between_answers_when_all_is_flushed() {
        let (server, mut client) = tokio::io::duplex(4);
        let mut server = Lent::new(server, Handover::default(), Presence::default());
        assert!(server.is_between_answers());
        assert_eq!(server.write(b"half an answer").await.unwrap(), 4);
        assert!(!server.is_between_answers());
        client.read_exact(&mut [0; 4]).await.unwrap();
        server.flush().await.unwrap();
        assert!(server.is_between_answers());
    }

    #[tokio::test]
    async fn what_was_read_too_early_comes_first() {
        let (server, mut client) = tokio::io::duplex(64);
        let mut server = Lent::new(server, Handover::default(), Presence::default());
        client.write_all(b"three").await.unwrap();
        drop(client);
        server.gone().await;
        server.unread(b"one two ");
        let mut all = String::new();
        server.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "one two three");
    }
}
