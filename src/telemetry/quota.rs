//! How often one kind of line may be written: what somebody else can cause at will must not fill the log.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Lets a number of lines through at once, then one in so often; counts the others.
#[derive(Debug)]
pub struct LogQuota {
    interval: u64,
    burst: u64,
    /// When the lines written so far would all have been due, in nanoseconds since boot (GCRA's theoretical arrival time).
    due: AtomicU64,
    withheld: AtomicU64,
}

impl LogQuota {
    /// `burst` lines at once, and one per `interval`.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        let interval = nanoseconds(interval);
        Self {
            interval,
            burst: interval.saturating_mul(u64::from(burst)),
            due: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written at `now` (since boot), and how many have been withheld since the last one.
    pub fn take(&self, now: Duration) -> Option<u64> {
        let now = nanoseconds(now);
        let next = |due: u64| {
            let due = due.max(now).saturating_add(self.interval);
            (due.saturating_sub(now) <= self.burst).then_some(due)
        };
        if self
            .due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
        {
            Some(self.withheld.swap(0, Ordering::Relaxed))
        } else {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_pass_at_once_then_one_per_interval_which_says_how_many_did_not() {
        let quota = LogQuota::new(2, Duration::from_secs(10));
        let at = Duration::from_secs;
        assert_eq!(quota.take(at(1_000)), Some(0));
        assert_eq!(quota.take(at(1_000)), Some(0));
        for _ in 0..3 {
            assert_eq!(quota.take(at(1_005)), None);
        }
        assert_eq!(quota.take(at(1_010)), Some(3));
        assert_eq!(quota.take(at(1_011)), None);
        assert_eq!(quota.take(at(2_000)), Some(1), "a new burst");
        assert_eq!(quota.take(at(2_000)), Some(0));
        assert_eq!(quota.take(at(2_000)), None);
    }
}
