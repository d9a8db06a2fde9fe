//! Where a connection from an application stands, seen from its bytes.
//!
//! hyper tells neither when a head begins nor when a peer stops reading, and hides a part of the request
//! line. The socket tells all of it ([`Observed`](super::observed::Observed)).

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    arriving::{Arrival, Reception},
    in_flight::{Carrier, InFlight},
};

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
    reception: Rc<Reception>,
    /// Bytes of the next head have come while a request is in flight.
    early: Cell<bool>,
    /// Who is to look again, once the request in flight has ended, for the end that was kept back.
    kept_back: RefCell<Option<Waker>>,
    /// The connection began with the preface of HTTP/2.
    is_http2: Cell<bool>,
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
            reception: Rc::default(),
            is_http2: Cell::new(false),
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

    /// hyper has a whole head. `has_body`: something follows it.
    pub(super) fn begin(this: &Rc<Self>, has_body: bool) -> InFlight {
        this.reception.set_arrival(if has_body {
            Arrival::Ahead
        } else {
            Arrival::Whole
        });
        let had_fragment = this.line.get() == Line::Seen { fragment: true };
        this.enter(Phase::InFlight);
        let carrier = Rc::clone(this) as Rc<dyn Carrier>;
        InFlight::new(carrier, Rc::clone(&this.reception), had_fragment)
    }

    /// Whether the connection turned out to be one of HTTP/2, and its bytes none of HTTP/1's business.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.get()
    }

    /// Its first bytes were the preface.
    pub(super) fn found_http2(&self) {
        self.is_http2.set(true);
    }

    /// The end of what the application says was kept back; `connection` asks again.
    pub(super) fn keep_back(&self, connection: Waker) {
        self.kept_back.replace(Some(connection));
    }

    /// Whether the connection ends while the application may still be sending.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Whether a request is in flight and nobody waits for more of it.
    pub(super) fn awaits_answer(&self) -> bool {
        self.phase.get() == Phase::InFlight && self.reception.arrival() != Arrival::Awaited
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// These bytes have come.
    pub(super) fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let received = self.received.get().saturating_add(bytes.len() as u64);
        self.received.set(received);
        match self.phase.get() {
            Phase::InFlight if self.reception.arrival() == Arrival::Whole => {
                if !self.early.replace(true) {
                    self.line.set(Line::Before);
                }
                self.scan(bytes);
            }
            // At hand now, and mostly a piece of the body for whoever waits for it. (A piece of a chunk's size
            // is none; an application that leaves there is noticed by the body's idle timeout.)
            Phase::InFlight => self.reception.set_arrival(Arrival::Ahead),
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

    /// A write has come to this.
    pub(super) fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled.set(None);
        } else if self.stalled.get().is_none() {
            self.stalled.set(Some(Instant::now()));
        }
        result
    }
}

impl Carrier for Progress {
    fn received(&self) -> u64 {
        self.received.get()
    }

    fn leave_unread(&self) {
        self.unread.set(true);
    }

    fn end(&self) {
        if self.early.replace(false) {
            self.enter(Phase::Head);
        } else {
            self.enter(Phase::Idle);
            self.line.set(Line::Before);
        }
        self.received.set(0);
        if let Some(connection) = self.kept_back.take() {
            connection.wake();
        }
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

        let in_flight = Progress::begin(&progress, true);
        assert_eq!(left(&progress), None);

        drop(in_flight);
        assert_eq!(left(&progress), Some((60, Expiry::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_stops_reading_has_a_clock_until_it_reads_again() {
        let progress = progress();
        let _in_flight = Progress::begin(&progress, true);
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
            Progress::begin(&progress, true).had_fragment()
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
        drop(Progress::begin(&progress, true));
        progress.read(b"GET /a HTTP/1.1\r\n\r\n");
        assert!(!Progress::begin(&progress, true).had_fragment());
    }

    #[tokio::test]
    async fn a_head_that_comes_while_a_request_is_in_flight_has_its_clock_and_its_look_at() {
        let progress = progress();
        progress.read(b"GET /a HTTP/1.1\r\n\r\n");
        let in_flight = Progress::begin(&progress, false);
        progress.read(b"GET /b#");
        assert_eq!(left(&progress), None);
        drop(in_flight);
        assert_eq!(left(&progress), Some((9, Expiry::Head)));
        assert!(Progress::begin(&progress, false).had_fragment());
    }

    #[tokio::test]
    async fn bytes_are_counted_for_the_request_that_they_belong_to() {
        let progress = progress();
        progress.read(b"GET /");
        progress.read(b" HTTP/1.1\r\n\r\n");
        let in_flight = Progress::begin(&progress, true);
        progress.read(b"body");
        assert_eq!(in_flight.received(), 22);
        drop(in_flight);
        assert_eq!(Progress::begin(&progress, true).received(), 0);
    }
}
