//! Against frames that carry nothing (R20): PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM and unknown ones.
//!
//! h2 bears any number of them, one connection at the cost of the others on its worker. Here they have a budget. It grows with time and
//! with what is exchanged, so that only who sends nothing else can run out of it. (h2 itself bounds empty DATA and
//! CONTINUATION frames, and streams that are reset before they were looked at.)

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::proxy::{
    frames::{self, Heads},
    preface,
};

/// Frames at the start. When they are used up, time makes up for as many: one per interval since they were counted last.
const AT_ONCE: u32 = 1000;
const INTERVAL: Duration = Duration::from_millis(10);

/// Each request: the application may prioritise it, make room for its answer, cancel it, and ask whether we are there.
const PER_REQUEST: u32 = 4;

/// Each DATA frame of an answer: room is made for it on the stream and on the connection, and a PING measures how long that
/// takes (as gRPC does).
const PER_DATA: u32 = 3;

/// What can be earned ahead: an application may take note of hundreds of megabytes all at once.
const MOST: u32 = 65_536;

/// A connection that notes which frames come and go, and that fails once those that carry nothing are too many.
#[derive(Debug)]
pub(super) struct Calm<S> {
    stream: S,
    received: Heads,
    sent: Heads,
    budget: Budget,
    /// The last stream that the application has begun.
    last_stream: u32,
}

impl<S> Calm<S> {
    /// Watches `stream`, which begins with the preface.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            received: Heads::after(preface::LENGTH),
            sent: Heads::after(0),
            budget: Budget::new(),
            last_stream: 0,
        }
    }

    /// Whether it has failed because there were too many frames.
    pub(super) const fn is_flooded(&self) -> bool {
        self.budget.is_overdrawn
    }

    /// What to say at the end, and the connection itself. Nothing where there is nothing to be said, and in the middle of
    /// another frame.
    pub(super) fn into_last_word(self) -> (Option<[u8; 17]>, S) {
        let is_said = self.is_flooded() && self.sent.is_between();
        let calm = is_said.then(|| frames::calm_down(self.last_stream));
        (calm, self.stream)
    }

    fn note_received(&mut self, bytes: &[u8]) {
        let Self {
            received,
            budget,
            last_stream,
            ..
        } = self;
        received.read(bytes, |head| match head.kind {
            frames::DATA => {}
            frames::HEADERS => {
                *last_stream = head.stream.max(*last_stream);
                budget.earn(PER_REQUEST);
            }
            _ => budget.spend(),
        });
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        let Self { sent, budget, .. } = self;
        sent.read(bytes, |head| {
            if head.kind == frames::DATA {
                budget.earn(PER_DATA);
            }
        });
    }
}

/// How many frames that carry nothing may still come.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// Until when time has been turned into frames. The clock is asked only when there are none left.
    until: Instant,
    is_overdrawn: bool,
}

impl Budget {
    fn new() -> Self {
        Self {
            left: AT_ONCE,
            until: Instant::now(),
            is_overdrawn: false,
        }
    }

    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(MOST);
    }

    fn spend(&mut self) {
        if self.left == 0 {
            let now = Instant::now();
            let intervals = (now - self.until).as_millis() / INTERVAL.as_millis();
            self.left = u32::try_from(intervals).map_or(AT_ONCE, |frames| frames.min(AT_ONCE));
            if self.left > 0 {
                self.until = now;
            }
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.is_overdrawn = true,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        self.note_received(bytes);
        if self.is_flooded() {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.note_sent(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let of_it = slice.get(..left.min(slice.len())).unwrap_or_default();
            self.note_sent(of_it);
            left -= of_it.len();
        }
        Poll::Ready(Ok(written))
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
    use std::io::Cursor;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::advance,
    };

    fn frames(kind: u8, count: usize) -> Vec<u8> {
        [0, 0, 1, kind, 0, 0, 0, 0, 1, 0].repeat(count)
    }

    const PING: u8 = 6;

    async fn takes(calm: &mut Calm<Cursor<Vec<u8>>>, bytes: Vec<u8>) -> bool {
        calm.stream = Cursor::new(bytes);
        let read = calm.read_to_end(&mut Vec::new()).await;
        read.is_ok()
    }

    async fn opened() -> Calm<Cursor<Vec<u8>>> {
        let mut calm = Calm::new(Cursor::default());
        assert!(takes(&mut calm, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).await);
        calm
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_carry_nothing_have_a_budget_that_grows_with_time() {
        let mut calm = opened().await;
        assert!(takes(&mut calm, frames(PING, 1000)).await);
        advance(Duration::from_secs(1)).await;
        assert!(takes(&mut calm, frames(PING, 100)).await);
        advance(Duration::from_secs(3600)).await;
        assert!(takes(&mut calm, frames(PING, 1000)).await);
        assert!(!calm.is_flooded());
        assert!(!takes(&mut calm, frames(PING, 1)).await);
        assert!(calm.is_flooded());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_a_second_may_come_for_ever_and_two_hundred_may_not() {
        let mut calm = opened().await;
        for _ in 0..100_000 {
            advance(Duration::from_millis(10)).await;
            assert!(takes(&mut calm, frames(PING, 1)).await);
        }
        let mut taken = 0;
        while takes(&mut calm, frames(PING, 2)).await {
            advance(Duration::from_millis(10)).await;
            taken += 2;
        }
        assert!((1000..3000).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_answers_make_room_for_more() {
        let mut calm = opened().await;
        assert!(takes(&mut calm, frames(frames::HEADERS, 100)).await);
        assert!(takes(&mut calm, frames(PING, 1400)).await);
        calm.note_sent(&frames(frames::DATA, 100));
        assert!(takes(&mut calm, frames(PING, 300)).await);
        assert!(!takes(&mut calm, frames(PING, 1)).await);
    }

    #[tokio::test]
    async fn what_was_written_is_noted_as_it_was_taken() {
        let (ours, mut theirs) = tokio::io::duplex(25);
        let mut calm = Calm::new(ours);
        let answer = frames(frames::DATA, 4);
        let (head, rest) = answer.split_at(13);
        let slices = [IoSlice::new(head), IoSlice::new(rest)];
        let taken = calm.write_vectored(&slices).await.unwrap();
        assert!((1..=25).contains(&taken));
        let reading = async {
            let mut all = vec![0; answer.len()];
            theirs.read_exact(&mut all).await.unwrap();
        };
        let (written, ()) = tokio::join!(calm.write_all(&answer[taken..]), reading);
        written.unwrap();
        assert_eq!(calm.budget.left, AT_ONCE + 4 * PER_DATA);
        assert!(calm.sent.is_between());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_word_names_the_last_stream_and_never_cuts_into_another_frame() {
        for (sent, is_said) in [(&[][..], true), (&[0, 0, 1, 6][..], false)] {
            let mut calm = opened().await;
            takes(&mut calm, frames(frames::HEADERS, 1)).await;
            calm.note_sent(sent);
            assert!(!takes(&mut calm, frames(PING, 2000)).await);
            let (word, _) = calm.into_last_word();
            let expected = frames::calm_down(1);
            assert_eq!(word, is_said.then_some(expected));
        }
        let (word, _) = opened().await.into_last_word();
        assert_eq!(word, None);
    }
}
