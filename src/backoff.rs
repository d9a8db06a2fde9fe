//! Waits after failures in a row: a schedule, and jitter on top of it.

use std::time::Duration;

/// Jitter makes a wait longer by up to this share. It never makes one shorter, so how often something is asked in the worst
/// case can be read off the schedule.
const JITTER: f64 = 0.25;

/// How long to wait after the n-th failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait after each failure, in order. The last one goes on for ever.
    pub waits: &'static [Duration],
    /// No wait is longer.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failures` in a row (1 is the first), `fraction` in `0.0..1.0` being the jitter.
    #[must_use]
    pub fn delay(&self, failures: u32, fraction: f64) -> Duration {
        let place = failures.saturating_sub(1) as usize;
        let scheduled = self.waits.get(place).or_else(|| self.waits.last());
        let shortest = scheduled.map_or(self.longest, |wait| *wait.min(&self.longest));
        let room = shortest.mul_f64(JITTER).min(self.longest - shortest);
        shortest + room.mul_f64(fraction.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        waits: &[
            Duration::from_secs(1),
            Duration::from_secs(4),
            Duration::from_secs(56),
        ],
        longest: Duration::from_secs(60),
    };

    #[test]
    fn the_last_wait_of_the_schedule_goes_on_for_ever() {
        let waits: Vec<u64> = (1..=5).map(|n| BACKOFF.delay(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 4, 56, 56, 56]);
        assert_eq!(BACKOFF.delay(u32::MAX, 0.0), Duration::from_secs(56));
    }

    #[test]
    fn jitter_adds_up_to_a_quarter_and_never_more_than_the_longest_wait() {
        assert_eq!(BACKOFF.delay(1, 1.0), Duration::from_millis(1_250));
        assert_eq!(BACKOFF.delay(2, 0.5), Duration::from_millis(4_500));
        assert_eq!(BACKOFF.delay(3, 0.5), Duration::from_secs(58));
        assert_eq!(BACKOFF.delay(3, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn nonsense_neither_panics_nor_escapes_the_bounds() {
        let nothing = Backoff {
            waits: &[],
            ..BACKOFF
        };
        for failures in [0, 1, 31, 32, u32::MAX] {
            for fraction in [-1.0, 0.0, 2.0, f64::MAX] {
                for backoff in [BACKOFF, nothing] {
                    let delay = backoff.delay(failures, fraction);
                    assert!(delay >= BACKOFF.waits[0] && delay <= BACKOFF.longest);
                }
            }
        }
    }
}
