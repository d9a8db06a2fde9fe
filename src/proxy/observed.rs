//! The socket of a connection from an application: whatever passes through it is noted.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{preface::Opening, progress::Progress};

/// A socket whose bytes are noted in a [`Progress`].
#[derive(Debug)]
pub(super) struct Observed<S> {
    stream: S,
    progress: Rc<Progress>,
    opening: Opening,
    /// What was read while it was open, and has not been passed on.
    held: BytesMut,
}

impl<S> Observed<S> {
    /// Notes what passes through `stream`.
    pub(super) fn new(stream: S, progress: Rc<Progress>) -> Self {
        Self {
            stream,
            progress,
            opening: Opening::Open,
            held: BytesMut::new(),
        }
    }

    /// The socket itself, and what was read from it but not passed on: of a connection of HTTP/2, all.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.held.freeze())
    }
}

impl<S: AsyncRead + Unpin> Observed<S> {
    /// Looks for the preface in the bytes that hyper's own read has brought. There is no read more than
    /// without that, and no copy unless they begin like one.
    fn poll_opening(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.opening == Opening::Open {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let bytes = buffer.filled().get(before..).unwrap_or_default();
            let has_ended = bytes.is_empty();
            self.progress.read(bytes);
            if self.held.is_empty() {
                self.opening = Opening::of(bytes);
                if has_ended || self.opening == Opening::Http1 {
                    return Poll::Ready(Ok(()));
                }
            }
            self.held.extend_from_slice(bytes);
            buffer.set_filled(before);
            self.opening = match Opening::of(&self.held) {
                Opening::Open if has_ended => Opening::Http1,
                opening => opening,
            };
        }
        if self.opening == Opening::Http2 {
            // hyper waits for ever; the connection is taken out of its hands.
            self.progress.found_http2();
            return Poll::Pending;
        }
        let count = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let is_opening = self.opening != Opening::Http1 || !self.held.is_empty();
        if is_opening {
            ready!(self.poll_opening(context, buffer))?;
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() && self.progress.awaits_answer() {
            // It has said all it wants to say, and may well be waiting for its answer. hyper, which
            // reads on so that a connection that was reset is noticed, would take it for gone. Should
            // the body turn out to lack something, its reader makes hyper come here again.
            self.progress.keep_back(context.waker().clone());
            return Poll::Pending;
        }
        if !is_opening {
            self.progress.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.progress.wrote(result)
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
    use super::*;
    use crate::proxy::{arriving::Arrival, progress::Limits};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn progress() -> Rc<Progress> {
        let second = Duration::from_secs(1);
        Rc::new(Progress::new(Limits {
            header: second,
            idle: second,
        }))
    }

    #[tokio::test]
    async fn the_end_of_what_an_application_says_is_kept_back_while_it_awaits_its_answer() {
        let progress = progress();
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let mut socket = Observed::new(ours, Rc::clone(&progress));
        let mut ends = async || {
            let mut byte = [0];
            let reading = AsyncReadExt::read(&mut socket, &mut byte);
            tokio::time::timeout(Duration::from_millis(1), reading)
                .await
                .is_ok()
        };

        let in_flight = Progress::begin(&progress, true);
        for (arrival, seen) in [
            (Arrival::Ahead, false),
            (Arrival::Awaited, true),
            (Arrival::Whole, false),
        ] {
            in_flight.reception().set_arrival(arrival);
            assert_eq!(ends().await, seen, "{arrival:?}");
        }
        drop(in_flight);
        assert!(ends().await);
    }

    #[tokio::test]
    async fn what_only_begins_like_the_preface_is_passed_on_whole_whatever_the_buffer() {
        for (pieces, room) in [
            (&["PRI * HTTP/2", ".0\r\n\r\nXX and more"][..], 64),
            (&["PRI * HTTP/2", ".0\r\n\r\nXX and more"], 5),
            (&["P", "OST / HTTP/1.1\r\n"], 3),
            (&["PRI"], 64),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut socket = Observed::new(ours, progress());
            let sending = async move {
                for piece in pieces {
                    theirs.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reading = async {
                let (mut whole, mut buffer) = (Vec::new(), vec![0; room]);
                loop {
                    match socket.read(&mut buffer).await.unwrap() {
                        0 => break whole,
                        count => whole.extend_from_slice(&buffer[..count]),
                    }
                }
            };
            let (whole, ()) = tokio::join!(reading, sending);
            assert_eq!(whole, pieces.concat().as_bytes());
        }
    }
}
