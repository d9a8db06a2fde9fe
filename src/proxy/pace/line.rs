//! Who waits for the LMS, in which order, and when the next may go. No clock, no lock and no waiting in here.
//!
//! | the line is | who comes | until |
//! | --- | --- | --- |
//! | open | goes | the LMS asks for fewer requests |
//! | closed | waits | the LMS has said so long |
//! | moving | goes if fewer are out than `window`, and nobody waits before | one has come back, and nobody waits |
//!
//! `window` is 1 after each closing. Each that comes back without having been asked to wait makes it wider by one and leaves its place:
//! one goes, then two, then four. What an LMS can take is not known; this finds it out without a burst.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use crate::proxy::quota::Wait;

/// How many may wait at once.
pub(super) const MOST_WAITING: usize = 1_000;

/// The first wait where the LMS does not say how long. It doubles with each further one in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest of those.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The line before one upstream. Times are of the boot clock.
#[derive(Debug)]
pub(super) struct Line {
    /// `None`: open. In the past: moving.
    closed_until: Option<Duration>,
    /// How often in a row the LMS has not said how long.
    guesses: u32,
    window: usize,
    /// Those that went as their turn came, and are not back.
    out: usize,
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// Dropped or told when it may go.
    go: oneshot::Sender<()>,
}

/// What becomes of one that comes.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Nothing is in its way.
    Free,
    /// It goes, and has to be counted back in.
    Out,
    /// It has to wait for its turn.
    Waits {
        ticket: u64,
        turn: oneshot::Receiver<()>,
    },
    /// The line stays closed for longer than it may wait.
    TooLong,
    /// Too many wait already.
    Full,
}

/// What the line was before the LMS asked for a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Open,
    Moving,
    Closed,
}

impl Line {
    pub(super) fn open() -> Self {
        Self {
            closed_until: None,
            guesses: 0,
            window: 1,
            out: 0,
            waiting: VecDeque::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed_until.is_none()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How long it stays closed.
    pub(super) fn opens_in(&self, now: Duration) -> Duration {
        let until = self.closed_until.unwrap_or_default();
        until.saturating_sub(now)
    }

    /// The LMS asks for a wait. Those that are out may hear the same: what is not said is guessed once for all of them.
    pub(super) fn close(&mut self, wait: Wait, now: Duration) -> Before {
        let before = match self.closed_until {
            None => Before::Open,
            Some(until) if until <= now => Before::Moving,
            Some(_) => Before::Closed,
        };
        let wait = match wait {
            Wait::For(wait) => wait,
            Wait::ForAWhile if before == Before::Closed => return before,
            Wait::ForAWhile => {
                let doublings = self.guesses.min(5);
                self.guesses = self.guesses.saturating_add(1);
                FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
            }
        };
        let until = now.saturating_add(wait);
        self.closed_until = self.closed_until.max(Some(until));
        self.window = 1;
        before
    }

    /// One comes that may wait for `longest`.
    pub(super) fn arrive(&mut self, now: Duration, longest: Duration) -> Arrival {
        if self.is_open() {
            return Arrival::Free;
        }
        let opens_in = self.opens_in(now);
        if opens_in > longest {
            return Arrival::TooLong;
        }
        if opens_in.is_zero() && self.waiting.is_empty() && self.out < self.window {
            self.out += 1;
            return Arrival::Out;
        }
        if self.waiting.len() >= MOST_WAITING {
            return Arrival::Full;
        }
        let (go, turn) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(Waiter { ticket, go });
        Arrival::Waits { ticket, turn }
    }

    /// One does not wait any longer. `false`: its turn has come before, so that it is out.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let place = self
            .waiting
            .binary_search_by_key(&ticket, |waiter| waiter.ticket);
        place.is_ok_and(|place| self.waiting.remove(place).is_some())
    }

    /// One that was out is back. `is_answered`: something came of it; if the LMS had asked for a wait, that was said
    /// before.
    pub(super) fn come_back(&mut self, now: Duration, is_answered: bool) {
        self.out = self.out.saturating_sub(1);
        if !is_answered || self.is_open() || !self.opens_in(now).is_zero() {
            return;
        }
        self.window = self.window.saturating_add(1);
        if self.waiting.is_empty() {
            self.closed_until = None;
            self.guesses = 0;
        }
    }

    /// Lets go whose turn it is.
    pub(super) fn advance(&mut self, now: Duration) {
        while self.opens_in(now).is_zero() && self.out < self.window {
            let Some(first) = self.waiting.pop_front() else {
                return;
            };
            self.out += 1;
            // One that leaves in this moment finds out that it is out, and comes back.
            let _ = first.go.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn closed(seconds: u64) -> Line {
        let mut line = Line::open();
        line.close(Wait::For(Duration::from_secs(seconds)), at(0));
        line
    }

    fn waits(line: &mut Line, now: Duration) -> (u64, oneshot::Receiver<()>) {
        match line.arrive(now, LONG) {
            Arrival::Waits { ticket, turn } => (ticket, turn),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_comes_while_it_is_closed_waits_unless_that_is_too_long_or_too_many_do() {
        let mut line = closed(30);
        let _turns: Vec<_> = (0..MOST_WAITING).map(|_| waits(&mut line, at(1))).collect();
        assert!(matches!(line.arrive(at(1), LONG), Arrival::Full));
        let short = Duration::from_secs(28);
        assert!(matches!(line.arrive(at(1), short), Arrival::TooLong));
        assert_eq!(line.len(), MOST_WAITING);
    }

    #[test]
    fn one_goes_first_and_each_that_comes_back_lets_two_more_go() {
        let mut line = closed(10);
        let mut turns: Vec<_> = (0..20).map(|_| waits(&mut line, at(1)).1).collect();
        line.advance(at(9));
        assert_eq!(line.len(), 20, "it is closed");
        line.advance(at(10));
        assert_eq!(line.len(), 19);
        for (round, left) in [(1, 17), (2, 13), (4, 5)] {
            for _ in 0..round {
                line.come_back(at(10), true);
                line.advance(at(10));
            }
            assert_eq!(line.len(), left);
        }
        for (place, turn) in turns.iter_mut().enumerate() {
            assert_eq!(
                turn.try_recv().is_ok(),
                place < 15,
                "in the order they came"
            );
        }
    }

    #[test]
    fn it_is_open_again_when_one_is_back_and_nobody_waits() {
        let mut line = closed(10);
        let _turn = waits(&mut line, at(1));
        line.advance(at(10));
        assert!(!line.is_open(), "nothing is known yet");
        line.come_back(at(11), true);
        assert!(line.is_open());
        assert!(matches!(line.arrive(at(11), LONG), Arrival::Free));
    }

    #[test]
    fn one_that_comes_to_a_moving_line_goes_if_it_is_the_first_and_waits_behind_others() {
        let mut line = closed(10);
        assert!(matches!(line.arrive(at(10), LONG), Arrival::Out));
        let _turn = waits(&mut line, at(10));
        line.come_back(at(10), false);
        line.advance(at(10));
        assert_eq!(line.len(), 0, "its place was free");
        assert!(!line.is_open());
    }

    #[test]
    fn another_refusal_closes_it_again_and_makes_it_narrow() {
        let mut line = closed(10);
        let _turns: Vec<_> = (0..10).map(|_| waits(&mut line, at(1))).collect();
        line.advance(at(10));
        line.come_back(at(10), true);
        line.advance(at(10));
        assert_eq!(line.len(), 7);
        line.close(Wait::For(Duration::from_secs(5)), at(11));
        line.come_back(at(11), true);
        line.come_back(at(11), true);
        line.advance(at(15));
        assert_eq!(line.len(), 7);
        line.advance(at(16));
        assert_eq!(line.len(), 6, "one at a time again");
    }

    #[test]
    fn a_shorter_wait_does_not_take_a_longer_one_back() {
        let mut line = closed(30);
        line.close(Wait::For(Duration::from_secs(1)), at(0));
        assert_eq!(line.opens_in(at(0)), Duration::from_secs(30));
    }

    #[test]
    fn what_the_lms_does_not_say_is_guessed_and_doubles_once_per_closing() {
        let mut line = Line::open();
        let mut now = at(0);
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            for _ in 0..50 {
                line.close(Wait::ForAWhile, now);
            }
            assert_eq!(line.opens_in(now), Duration::from_secs(expected));
            now += Duration::from_secs(expected);
        }
        assert!(matches!(line.arrive(now, LONG), Arrival::Out));
        line.come_back(now, true);
        line.close(Wait::ForAWhile, now);
        assert_eq!(line.opens_in(now), Duration::from_secs(1));
    }

    #[test]
    fn who_leaves_is_out_of_the_line_and_who_was_told_to_go_is_not_in_it() {
        let mut line = closed(10);
        let (first, _turn) = waits(&mut line, at(1));
        let (second, _turn) = waits(&mut line, at(1));
        line.advance(at(10));
        assert!(!line.leave(first));
        assert!(line.leave(second));
        assert!(!line.leave(second));
        line.come_back(at(10), true);
        assert!(line.is_open());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Close(u64),
        Arrive,
        Leave(usize),
        ComeBack(bool),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0_u64..20).prop_map(Event::Close),
            Just(Event::Arrive),
            Just(Event::Arrive),
            (0_usize..8).prop_map(Event::Leave),
            any::<bool>().prop_map(Event::ComeBack),
            (0_u64..20).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever happens: never more out than one may know of, first come first served, and nobody is forgotten.
        #[test]
        fn nobody_is_overtaken_or_forgotten(events in prop::collection::vec(event(), 0..200)) {
            let mut line = Line::open();
            let mut now = at(0);
            let mut waiting: Vec<(u64, oneshot::Receiver<()>)> = Vec::new();
            let mut out = 0_usize;
            for event in events {
                match event {
                    Event::Close(seconds) => {
                        line.close(Wait::For(Duration::from_secs(seconds)), now);
                    }
                    Event::Arrive => match line.arrive(now, LONG) {
                        Arrival::Waits { ticket, turn } => waiting.push((ticket, turn)),
                        Arrival::Out => {
                            prop_assert!(waiting.is_empty());
                            out += 1;
                        }
                        Arrival::Free => prop_assert!(waiting.is_empty()),
                        Arrival::TooLong | Arrival::Full => {}
                    },
                    Event::Leave(place) if place < waiting.len() => {
                        let (ticket, _) = waiting.remove(place);
                        prop_assert!(line.leave(ticket));
                    }
                    Event::ComeBack(is_answered) if out > 0 => {
                        out -= 1;
                        line.come_back(now, is_answered);
                    }
                    Event::Pass(seconds) => now += Duration::from_secs(seconds),
                    Event::Leave(_) | Event::ComeBack(_) => {}
                }
                let before = line.len();
                line.advance(now);
                let gone = before - line.len();
                prop_assert!(gone == 0 || line.opens_in(now).is_zero());
                for (_, mut turn) in waiting.drain(..gone) {
                    prop_assert!(turn.try_recv().is_ok());
                }
                for (_, turn) in &mut waiting {
                    prop_assert!(turn.try_recv().is_err());
                }
                out += gone;
                prop_assert_eq!(line.len(), waiting.len());
                let moves = line.opens_in(now).is_zero();
                prop_assert!(waiting.is_empty() || !moves || out > 0, "someone is out who will move it");
            }
        }
    }
}
