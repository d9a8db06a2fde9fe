//! Whether, or when, the LMS was heard on a connection, and what it was told.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What remembers that something came, or went.
pub(super) trait Memory {
    /// Something came.
    fn note(&self);

    /// This went.
    fn note_sent(&self, _bytes: &[u8]) {}
}

/// Whether it did.
impl Memory for Rc<Cell<bool>> {
    fn note(&self) {
        self.set(true);
    }
}

/// A stream that notes what passes.
pub(super) struct Ear<S, M> {
    stream: S,
    memory: M,
}

impl<S, M> Ear<S, M> {
    pub(super) const fn new(stream: S, memory: M) -> Self {
        Self { stream, memory }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin, M: Memory + Unpin> AsyncRead for Ear<S, M> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.memory.note();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin, M: Memory + Unpin> AsyncWrite for Ear<S, M> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.memory
            .note_sent(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let of_it = slice.get(..left.min(slice.len())).unwrap_or_default();
            this.memory.note_sent(of_it);
            left -= of_it.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
