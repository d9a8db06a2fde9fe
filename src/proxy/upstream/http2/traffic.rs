//! What is noted of the bytes of a connection.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::time::Instant;

use super::super::ear::Memory;
use crate::proxy::{
    frames::{self, Heads},
    preface,
};

/// When the LMS was heard, and how many streams it was told that we gave up.
pub(super) struct Traffic {
    heard: Cell<Instant>,
    sent: RefCell<Heads>,
    resets: Cell<u32>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            heard: Cell::new(Instant::now()),
            sent: RefCell::new(Heads::after(preface::LENGTH)),
            resets: Cell::new(0),
        }
    }

    /// When the LMS last said anything.
    pub(super) fn last_heard(&self) -> Instant {
        self.heard.get()
    }

    /// How many RST_STREAM have gone out.
    pub(super) fn resets_sent(&self) -> u32 {
        self.resets.get()
    }
}

impl Memory for Rc<Traffic> {
    fn note(&self) {
        self.heard.set(Instant::now());
    }

    fn note_sent(&self, bytes: &[u8]) {
        self.sent.borrow_mut().read(bytes, |head| {
            if head.kind == frames::RST_STREAM {
                self.resets.set(self.resets.get().saturating_add(1));
            }
        });
    }
}
