//! Clocks that a test moves.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use super::{Clock, Moment};

/// Clocks for tests: they follow tokio's (which tests can pause), and can be stepped apart.
#[derive(Debug)]
pub(crate) struct ManualClock {
    origin: tokio::time::Instant,
    wall_offset_ms: AtomicI64,
    boot_offset_ms: AtomicI64,
}

/// 2026-01-01T00:00:00Z, where a [`ManualClock`] starts.
const MANUAL_EPOCH_MS: i64 = 1_767_225_600_000;

/// How long a machine with a [`ManualClock`] has been up when it starts.
const MANUAL_UPTIME_MS: i64 = 1_000_000_000;

impl ManualClock {
    /// Starts on 2026-01-01. Needs a tokio runtime.
    pub(crate) fn new() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            wall_offset_ms: AtomicI64::new(MANUAL_EPOCH_MS),
            boot_offset_ms: AtomicI64::new(MANUAL_UPTIME_MS),
        }
    }

    /// Steps the wall clock alone, as NTP or a person does.
    pub(crate) fn step_wall(&self, milliseconds: i64) {
        self.wall_offset_ms
            .fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Suspends the machine: both clocks go on, tokio's timers do not.
    pub(crate) fn suspend(&self, duration: Duration) {
        let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.wall_offset_ms
            .fetch_add(milliseconds, Ordering::Relaxed);
        self.boot_offset_ms
            .fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let elapsed = self.origin.elapsed();
        let at = |offset: &AtomicI64| {
            let milliseconds = u64::try_from(offset.load(Ordering::Relaxed)).unwrap_or(0);
            Duration::from_millis(milliseconds).saturating_add(elapsed)
        };
        Moment {
            wall: at(&self.wall_offset_ms),
            boot: at(&self.boot_offset_ms),
        }
    }
}
