//! How many connections, or requests, there may be at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The seats that are taken, of the whole process.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Seats);

impl Seats {
    /// One of `number`.
    pub(super) fn take(&self, number: usize) -> Option<Seat> {
        let one_more = |taken: usize| (taken < number).then_some(taken + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Seat(self.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
