//! Where a connection from an application stands, seen from its bytes.
//!
//! hyper tells neither when a head begins nor when a peer stops reading. A wrapper around the socket
//! sees both, and what hyper hides of the request line.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::arriving::Arrival;

/// The clocks of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From a head's first byte to its last; also from the connection to the first byte.
    pub(super) header: Duration,
    /// From one exchange to the next; also for an application that stops reading an answer.
    pub(super) idle: Duration,
}

/// Which of the clocks has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// No request came.
    Idle,
    /// A head began and did not end.
    Head,
    /// The application does not read its answer.
    Stalled,
}

/// Where a connection stands. Shared by the connection, its socket and the request in flight.
#[derive(Debug)]
pub(super) struct Progress {
    limits: Limits,
    phase: Cell<Phase>,
    /// When the phase began.
    since: Cell<Instant>,
    line: Cell<Line>,
    /// Since when a write has been waiting for the application.
    stalled: Cell<Option<Instant>>,
    /// Bytes read since the last request ended.
    received: Cell<u64>,
    /// The connection ends while the application may still be sending.
    unread: Cell<bool>,
    /// How far the body of the request in flight has come.
    arrival: Rc<Cell<Arrival>>,
    /// Bytes of the next head have come while a request is in flight.
    early: Cell<bool>,
    /// Who is to look again, once the request in flight has ended, for the end that was kept back.
    kept_back: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet at all.
    New,
    /// Between exchanges.
    Idle,
    /// A head has begun.
    Head,
    /// A request is being served.
    InFlight,
}

/// What has been seen of the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// At most the empty lines that may stand before it (RFC 9112 section 2.2).
    Before,
    /// Some of the method, which may hold a `#`.
    Method,
    /// Some of the target.
    Target,
    /// Enough of it. With a `#` in the target?
    Seen { fragment: bool },
}

impl Progress {
    /// Of a connection that was just accepted.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Cell::new(Phase::New),
            since: Cell::new(Instant::now()),
            line: Cell::new(Line::Before),
            stalled: Cell::new(None),
            received: Cell::new(0),
            unread: Cell::new(false),
            arrival: Rc::default(),
            early: Cell::new(false),
            kept_back: RefCell::default(),
        }
    }

    /// When which clock runs out, as things stand. A request in flight has none of ours: its body and
    /// its upstream have their own.
    pub(super) fn deadline(&self) -> Option<(Instant, Expiry)> {
        let Limits { header, idle } = self.limits;
        let (since, limit, expiry) = match self.phase.get() {
            Phase::New => (self.since.get(), header, Expiry::Idle),
            Phase::Idle => (self.since.get(), idle, Expiry::Idle),
            Phase::Head => (self.since.get(), header, Expiry::Head),
            Phase::InFlight => (self.stalled.get()?, idle, Expiry::Stalled),
        };
        Some((since.checked_add(limit)?, expiry))
    }

    /// Whether the connection ends while the application may still be sending.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Whether a request is in flight and nobody waits for more of it.
    fn awaits_answer(&self) -> bool {
        self.phase.get() == Phase::InFlight && self.arrival.get() != Arrival::Awaited
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let received = self.received.get().saturating_add(bytes.len() as u64);
        self.received.set(received);
        match self.phase.get() {
            Phase::InFlight if self.arrival.get() == Arrival::Whole => {
                if !self.early.replace(true) {
                    self.line.set(Line::Before);
                }
                self.scan(bytes);
            }
            // At hand now, and mostly a piece of the body for whoever waits for it. (A piece of a chunk's size
            // is none; an application that leaves there is noticed by the body's idle timeout.)
            Phase::InFlight => self.arrival.set(Arrival::Ahead),
            Phase::Head => self.scan(bytes),
            Phase::New | Phase::Idle => {
                self.enter(Phase::Head);
                self.scan(bytes);
            }
        }
    }

    /// Looks for a `#` in the request line, once per byte of it and no further.
    ///
    /// hyper cuts a fragment off without a word. Nothing leaks by that: what the policy sees is what
    /// is sent (P2). It is refused all the same (R30), as the application means another path than it
    /// gets. A head that comes in one piece with the end of the request before (pipelined) is not
    /// seen here, and is served without its fragment.
    fn scan(&self, bytes: &[u8]) {
        let mut line = self.line.get();
        for byte in bytes {
            line = match (line, byte) {
                (Line::Before, b'\r' | b'\n') => Line::Before,
                (Line::Before | Line::Method, b' ') => Line::Target,
                (Line::Target, b'#') => Line::Seen { fragment: true },
                (Line::Method | Line::Target, b'\n') => Line::Seen { fragment: false },
                (Line::Before | Line::Method, _) => Line::Method,
                (Line::Target, _) => Line::Target,
                (Line::Seen { .. }, _) => break,
            };
        }
        self.line.set(line);
    }

    fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled.set(None);
        } else if self.stalled.get().is_none() {
            self.stalled.set(Some(Instant::now()));
        }
        result
    }
}

/// Marks its connection as serving a request; when it is dropped, the request has ended.
#[derive(Debug)]
pub(super) struct InFlight {
    progress: Rc<Progress>,
    had_fragment: bool,
}

impl InFlight {
    /// hyper has a whole head. `has_body`: something follows it.
    pub(super) fn begin(progress: &Rc<Progress>, has_body: bool) -> Self {
        progress.arrival.set(if has_body {
            Arrival::Ahead
        } else {
            Arrival::Whole
        });
        let had_fragment = progress.line.get() == Line::Seen { fragment: true };
        progress.enter(Phase::InFlight);
        Self {
            progress: Rc::clone(progress),
            had_fragment,
        }
    }

    /// Whether the request line held a `#`.
    pub(super) fn had_fragment(&self) -> bool {
        self.had_fragment
    }

    /// Where the request's body tells how far it has come.
    pub(super) fn arrival(&self) -> &Rc<Cell<Arrival>> {
        &self.progress.arrival
    }

    /// Bytes that the application has sent for this request, its head included.
    pub(super) fn received(&self) -> u64 {
        self.progress.received.get()
    }

    /// The connection is going to end without the rest of the request's body having been read.
    pub(super) fn leave_unread(&self) {
        self.progress.unread.set(true);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.progress.early.replace(false) {
            self.progress.enter(Phase::Head);
        } else {
            self.progress.enter(Phase::Idle);
            self.progress.line.set(Line::Before);
        }
        self.progress.received.set(0);
        if let Some(connection) = self.progress.kept_back.take() {
            connection.wake();
        }
    }
}

/// A socket whose bytes are noted in a [`Progress`].
#[derive(Debug)]
pub(super) struct Observed<S> {
    stream: S,
    progress: Rc<Progress>,
}

impl<S> Observed<S> {
    /// Notes what passes through `stream`.
    pub(super) fn new(stream: S, progress: Rc<Progress>) -> Self {
        Self { stream, progress }
    }

    /// The socket itself.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() && self.progress.awaits_answer() {
            // It has said all it wants to say, and may well be waiting for its answer. hyper, which
            // reads on so that a connection that was reset is noticed, would take it for gone. Should
            // the body turn out to lack something, its reader makes hyper come here again.
            self.progress
                .kept_back
                .replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        self.progress.read(bytes);
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

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    fn progress() -> Rc<Progress> {
        Rc::new(Progress::new(LIMITS))
    }

    fn left(progress: &Progress) -> Option<(u64, Expiry)> {
        let (deadline, expiry) = progress.deadline()?;
        Some(((deadline - Instant::now()).as_secs(), expiry))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_clock() {
        let progress = progress();
        assert_eq!(left(&progress), Some((10, Expiry::Idle)));

        progress.read(b"GET / HT");
        tokio::time::advance(Duration::from_secs(4)).await;
        progress.read(b"TP/1.1\r\n");
        assert_eq!(left(&progress), Some((6, Expiry::Head)));

        let in_flight = InFlight::begin(&progress, true);
        assert_eq!(left(&progress), None);

        drop(in_flight);
        assert_eq!(left(&progress), Some((60, Expiry::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_stops_reading_has_a_clock_until_it_reads_again() {
        let progress = progress();
        let _in_flight = InFlight::begin(&progress, true);
        assert!(progress.wrote::<usize>(Poll::Pending).is_pending());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(progress.wrote::<usize>(Poll::Pending).is_pending());
        assert_eq!(left(&progress), Some((40, Expiry::Stalled)));

        assert!(progress.wrote(Poll::Ready(Ok(1))).is_ready());
        assert_eq!(left(&progress), None);
    }

    #[tokio::test]
    async fn a_fragment_is_seen_in_the_request_line_only() {
        let fragment = |pieces: &[&str]| {
            let progress = progress();
            for piece in pieces {
                progress.read(piece.as_bytes());
            }
            InFlight::begin(&progress, true).had_fragment()
        };
        assert!(fragment(&["GET /a#b HTTP/1.1\r\n\r\n"]));
        assert!(fragment(&["\r\n", "\r\nGET /a", "", "#b HTTP/1.1\r\n\r\n"]));
        assert!(!fragment(&["GET /a HTTP/1.1\r\nx: #\r\n\r\n"]));
        assert!(!fragment(&["GET /a HTTP/1.1\r\n", "x: #\r\n\r\n"]));
        assert!(
            !fragment(&["G#T /a HTTP/1.1\r\n\r\n"]),
            "a method may hold one"
        );
    }

    #[tokio::test]
    async fn the_next_request_line_is_looked_at_again() {
        let progress = progress();
        progress.read(b"GET /a#b HTTP/1.1\r\n\r\n");
        drop(InFlight::begin(&progress, true));
        progress.read(b"GET /a HTTP/1.1\r\n\r\n");
        assert!(!InFlight::begin(&progress, true).had_fragment());
    }

    #[tokio::test]
    async fn a_head_that_comes_while_a_request_is_in_flight_has_its_clock_and_its_look_at() {
        let progress = progress();
        progress.read(b"GET /a HTTP/1.1\r\n\r\n");
        let in_flight = InFlight::begin(&progress, false);
        progress.read(b"GET /b#");
        assert_eq!(left(&progress), None);
        drop(in_flight);
        assert_eq!(left(&progress), Some((9, Expiry::Head)));
        assert!(InFlight::begin(&progress, false).had_fragment());
    }

    #[tokio::test]
    async fn the_end_of_what_an_application_says_is_kept_back_while_it_awaits_its_answer() {
        let progress = progress();
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let mut socket = Observed::new(ours, Rc::clone(&progress));
        let mut ends = async || {
            let mut byte = [0];
            let reading = tokio::io::AsyncReadExt::read(&mut socket, &mut byte);
            tokio::time::timeout(Duration::from_millis(1), reading)
                .await
                .is_ok()
        };

        let in_flight = InFlight::begin(&progress, true);
        for (arrival, seen) in [
            (Arrival::Ahead, false),
            (Arrival::Awaited, true),
            (Arrival::Whole, false),
        ] {
            in_flight.arrival().set(arrival);
            assert_eq!(ends().await, seen, "{arrival:?}");
        }
        drop(in_flight);
        assert!(ends().await);
    }

    #[tokio::test]
    async fn bytes_are_counted_for_the_request_that_they_belong_to() {
        let progress = progress();
        progress.read(b"GET /");
        progress.read(b" HTTP/1.1\r\n\r\n");
        let in_flight = InFlight::begin(&progress, true);
        progress.read(b"body");
        assert_eq!(in_flight.received(), 22);
        drop(in_flight);
        assert_eq!(InFlight::begin(&progress, true).received(), 0);
    }
}
