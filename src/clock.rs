//! The two clocks that decide whether a token still lives.
//!
//! The wall clock can be stepped; the boot clock cannot, and unlike [`std::time::Instant`] it goes
//! on while the machine is suspended. A token is dead as soon as *either* says so.

pub mod fields;
#[cfg(test)]
mod manual;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

#[cfg(test)]
pub(crate) use manual::ManualClock;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since the Unix epoch, as the wall clock has it.
    pub wall: Duration,
    /// Time since boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot: Duration,
}

impl Moment {
    /// The moment `duration` later on both clocks. Saturates.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self {
            wall: self.wall.saturating_add(duration),
            boot: self.boot.saturating_add(duration),
        }
    }

    /// The moment `duration` earlier on both clocks. Saturates at zero.
    #[must_use]
    pub const fn before(self, duration: Duration) -> Self {
        Self {
            wall: self.wall.saturating_sub(duration),
            boot: self.boot.saturating_sub(duration),
        }
    }

    /// What is left until this moment by the less generous of the two clocks; zero if either has passed it.
    #[must_use]
    pub fn remaining(self, now: Self) -> Duration {
        let wall = self.wall.saturating_sub(now.wall);
        let boot = self.boot.saturating_sub(now.boot);
        wall.min(boot)
    }

    /// Whether either clock has reached this moment.
    #[must_use]
    pub fn is_reached(self, now: Self) -> bool {
        self.wall <= now.wall || self.boot <= now.boot
    }
}

/// Where the time comes from wherever it decides something.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Moment;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment {
            wall: read(ClockId::Realtime),
            boot: read(ClockId::Boottime),
        }
    }
}

fn read(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    // A wall clock before 1970 reads as 1970: every token is then dead or unborn, never immortal.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, boot: u64) -> Moment {
        Moment {
            wall: Duration::from_secs(wall),
            boot: Duration::from_secs(boot),
        }
    }

    #[test]
    fn a_moment_is_reached_as_soon_as_either_clock_says_so() {
        let expiry = moment(1_000, 50);
        assert!(!expiry.is_reached(moment(999, 49)));
        assert!(expiry.is_reached(moment(1_000, 49)));
        assert!(expiry.is_reached(moment(10, 50)));
    }

    #[test]
    fn what_remains_is_what_the_less_generous_clock_leaves() {
        let expiry = moment(1_000, 50);
        assert_eq!(expiry.remaining(moment(990, 20)), Duration::from_secs(10));
        assert_eq!(expiry.remaining(moment(10, 49)), Duration::from_secs(1));
        assert_eq!(expiry.remaining(moment(2_000, 1)), Duration::ZERO);
    }

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        let far = moment(1, 1).after(Duration::MAX);
        assert_eq!(far.wall, Duration::MAX);
        assert_eq!(moment(1, 1).before(Duration::MAX).boot, Duration::ZERO);
    }

    #[test]
    fn the_system_clocks_are_read() {
        let now = SystemClock.now();
        assert!(now.wall > Duration::from_secs(1_700_000_000));
        assert!(now.boot > Duration::ZERO);
    }
}
