//! A clock that is wrong: an LMS's whose time nobody looks after.

use std::time::Duration;

use crate::clock::{Clock, Moment, SystemClock};

/// This machine's clock, the wall clock shifted.
#[derive(Clone, Copy, Debug)]
pub struct ShiftedClock {
    by: Duration,
    is_ahead: bool,
}

impl ShiftedClock {
    /// Ahead of this machine's.
    #[must_use]
    pub const fn ahead(by: Duration) -> Self {
        Self { by, is_ahead: true }
    }

    /// Behind this machine's.
    #[must_use]
    pub const fn behind(by: Duration) -> Self {
        let is_ahead = false;
        Self { by, is_ahead }
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Moment {
        let now = SystemClock.now();
        let wall = match self.is_ahead {
            true => now.wall.saturating_add(self.by),
            false => now.wall.saturating_sub(self.by),
        };
        Moment { wall, ..now }
    }
}
