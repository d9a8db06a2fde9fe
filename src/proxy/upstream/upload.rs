//! How far a streaming request body has got: the body tells, the clocks of the exchange look.

use std::{cell::Cell, task::Waker};

use tokio::{task::AbortHandle, time::Instant};

use super::error::BodyFault;

/// How far a streaming body has got, for those who watch the clock.
pub(super) struct Upload {
    phase: Cell<Phase>,
    fault: Cell<Option<BodyFault>>,
    /// Whom to wake when the body has been sent.
    sent: Cell<Option<Waker>>,
    /// What sends it, where that is a task of its own (HTTP/2).
    task: Cell<Option<AbortHandle>>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The application's: the connection would take more.
    Waiting,
    /// The LMS's: the connection took a piece then, and has not asked for the next one.
    Taken(Instant),
    /// The LMS's: the connection has had the whole body since then.
    Sent(Instant),
}

impl Upload {
    pub(super) const fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Waiting),
            fault: Cell::new(None),
            sent: Cell::new(None),
            task: Cell::new(None),
        }
    }

    /// The request is being sent from now on.
    pub(super) fn start(&self) {
        self.move_on(Phase::Taken(Instant::now()));
    }

    pub(super) fn move_on(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// When this half of the exchange last moved. While the application is awaited it is not the
    /// LMS that stands still, so that is "now".
    pub(super) fn last_moved(&self) -> Instant {
        match self.phase.get() {
            Phase::Waiting => Instant::now(),
            Phase::Taken(at) | Phase::Sent(at) => at,
        }
    }

    pub(super) fn fail(&self, fault: BodyFault) {
        self.fault.set(Some(fault));
    }

    pub(super) fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// `task` sends the body.
    pub(super) fn runs_in(&self, task: AbortHandle) {
        self.task.set(Some(task));
    }

    /// Nobody wants the exchange any more. A task of its own that sends the body ends here; where it
    /// has none, it ends with the connection.
    pub(super) fn give_up(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    pub(super) fn wake_when_sent(&self, waker: &Waker) {
        self.sent.set(Some(waker.clone()));
    }

    /// The connection has had the whole body, or wants no more of it.
    pub(super) fn finish(&self) {
        if !matches!(self.phase.get(), Phase::Sent(_)) {
            self.phase.set(Phase::Sent(Instant::now()));
            if let Some(waker) = self.sent.take() {
                waker.wake();
            }
        }
    }
}
