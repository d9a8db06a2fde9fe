//! Holds GETs back while the LMS asks for fewer requests (`upstreams.NAME.pace`), instead of sending a burst into its 429.
//!
//! What makes the line close is what an answer says (`Quota::wait`), whatever the method of its request.
//! While it is closed, GET and HEAD wait, first come first served over all workers; how they go afterwards is in [`line`].
//! Everything is bounded: one waits for at most as long as it is told, and at most `line::MOST_WAITING` do. Who would wait longer goes out at
//! once, and whose time is up then: what the LMS says to that passes unchanged. Other methods are never held: nobody
//! knows whether what they change can wait. An application that leaves frees its place.
//!
//! While the line is open a request reads one atomic, and an answer touches nothing.

mod line;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::quota::{PaceSeries, Wait};
use crate::clock::Clock;
use line::{Arrival, Before, Line};

/// Nobody is held longer, whatever `response_timeout` is: no wait that the LMS asks for is believed to be longer either.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// The pace at which one upstream is sent GETs. All workers share it, and every generation of the configuration.
pub struct Pacer {
    clock: Arc<dyn Clock>,
    /// What [`Line::is_open`] says; read without the lock.
    is_open: AtomicBool,
    line: Mutex<Line>,
    /// Tells those that wait that a line that moved is closed again.
    closed_again: Notify,
}

/// A request whose turn it was. When it is over, others may go.
#[must_use = "it is over when this is dropped"]
pub(super) struct Turn {
    pacer: Arc<Pacer>,
    is_answered: bool,
}

/// A place in the line.
struct Place {
    pacer: Arc<Pacer>,
    ticket: u64,
    /// How it has ended.
    ended: Option<Ended>,
    since: Instant,
    series: PaceSeries,
    /// Counts it, as long as it is there.
    _counted: Counted,
}

/// One in a gauge.
struct Counted(IntGauge);

#[derive(Clone, Copy)]
enum Ended {
    /// Its turn came.
    InTurn,
    /// It did not come in time.
    TooLate,
}

impl Pacer {
    /// One whose line is open.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            is_open: AtomicBool::new(true),
            line: Mutex::new(Line::open()),
            closed_again: Notify::new(),
        }
    }

    /// Whether a request may go without asking for its turn.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Waits for the turn of a request, for at most `longest`. `None`: it goes without one.
    pub(super) async fn turn(
        pacer: &Arc<Self>,
        longest: Duration,
        series: &PaceSeries,
    ) -> Option<Turn> {
        let longest = longest.min(LONGEST_HOLD);
        let (ticket, turn) = match pacer.update(|line, now| line.arrive(now, longest)) {
            Arrival::Free => return None,
            Arrival::Out => return Some(Turn::new(pacer)),
            Arrival::TooLong => {
                series.too_long.inc();
                return None;
            }
            Arrival::Full => {
                series.full.inc();
                return None;
            }
            Arrival::Waits { ticket, turn } => (ticket, turn),
        };
        let place = Place {
            pacer: Arc::clone(pacer),
            ticket,
            ended: None,
            since: Instant::now(),
            series: series.clone(),
            _counted: Counted::one_in(&series.waiters),
        };
        place.wait(turn, longest).await
    }

    /// An answer asks for a wait. `true`: that has closed the line, which was open.
    pub(super) fn close(&self, wait: Wait) -> bool {
        let before = self.update(|line, now| line.close(wait, now));
        if before == Before::Moving {
            self.closed_again.notify_waiters();
        }
        before == Before::Open
    }

    fn opens_in(&self) -> Duration {
        self.update(|line, now| line.opens_in(now))
    }

    /// Whatever happens to the line, who may go afterwards goes.
    fn update<T>(&self, change: impl FnOnce(&mut Line, Duration) -> T) -> T {
        let now = self.clock.now().boot;
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut line, now);
        line.advance(now);
        self.is_open.store(line.is_open(), Ordering::Relaxed);
        outcome
    }
}

impl Place {
    /// Every one in the line looks by itself when it may move: it hangs on nobody who could leave.
    async fn wait(mut self, mut turn: oneshot::Receiver<()>, longest: Duration) -> Option<Turn> {
        let deadline = self.since + longest;
        let pacer = Arc::clone(&self.pacer);
        loop {
            // Listens before it looks: it misses nothing.
            let mut closed_again = pin!(pacer.closed_again.notified());
            closed_again.as_mut().enable();
            let look = match pacer.opens_in() {
                // Now it is those in front that have to come back.
                Duration::ZERO => deadline,
                wait => deadline.min(Instant::now() + wait),
            };
            tokio::select! {
                biased;
                _told = &mut turn => {
                    self.ended = Some(Ended::InTurn);
                    return Some(Turn::new(&pacer));
                }
                () = &mut closed_again => {}
                () = sleep_until(look) => {
                    if look >= deadline {
                        return self.give_up();
                    }
                }
            }
        }
    }

    fn give_up(mut self) -> Option<Turn> {
        let ticket = self.ticket;
        let was_waiting = self.pacer.update(|line, _now| line.leave(ticket));
        self.ended = Some(match was_waiting {
            true => Ended::TooLate,
            false => Ended::InTurn,
        });
        (!was_waiting).then(|| Turn::new(&self.pacer))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.series.wait.observe(self.since.elapsed().as_secs_f64());
        match self.ended {
            Some(Ended::InTurn) => self.series.held.inc(),
            Some(Ended::TooLate) => self.series.too_long.inc(),
            None => {
                self.series.abandoned.inc();
                self.pacer.update(|line, now| {
                    if !line.leave(self.ticket) {
                        line.come_back(now, false);
                    }
                });
            }
        }
    }
}

impl Turn {
    fn new(pacer: &Arc<Pacer>) -> Self {
        Self {
            pacer: Arc::clone(pacer),
            is_answered: false,
        }
    }

    /// The request has an answer, or is known to get none. Only dropped, it says nothing of the LMS: the application has left.
    pub(super) fn finish(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pacer
            .update(|line, now| line.come_back(now, self.is_answered));
    }
}

impl Counted {
    fn one_in(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
