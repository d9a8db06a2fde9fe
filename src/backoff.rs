//! Exponential backoff with full jitter.

use std::time::Duration;

/// Once the ceiling has stopped growing, jitter takes at most this share of it. Full jitter would halve the mean
/// wait: with `max` at a minute, an outage of ten minutes would cost 25 calls instead of at most 20, and by then
/// the waits before have spread the callers already.
const JITTER_AT_MAX: f64 = 0.25;

/// How long to wait after the n-th failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait; it doubles with each failure.
    pub base: Duration,
    /// The ceiling of every wait.
    pub max: Duration,
    /// The floor of every wait: what is asked is never hammered, whatever the jitter says.
    pub min: Duration,
}

impl Backoff {
    /// The wait after `failures` in a row (1 is the first), `fraction` in `0.0..1.0` being the jitter.
    #[must_use]
    pub fn delay(&self, failures: u32, fraction: f64) -> Duration {
        let fraction = fraction.clamp(0.0, 1.0);
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1_u32 << doublings);
        let delay = if ceiling < self.max {
            ceiling.mul_f64(fraction)
        } else {
            self.max
                .mul_f64(1.0 - JITTER_AT_MAX + JITTER_AT_MAX * fraction)
        };
        delay.max(self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        min: Duration::from_secs(1),
    };

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let ceilings: Vec<u64> = (1..=8).map(|n| BACKOFF.delay(n, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_spreads_over_the_whole_range_above_the_floor_while_the_ceiling_grows() {
        assert_eq!(BACKOFF.delay(6, 0.0), Duration::from_secs(1));
        assert_eq!(BACKOFF.delay(6, 0.5), Duration::from_secs(16));
    }

    #[test]
    fn jitter_spreads_over_the_last_quarter_at_the_maximum() {
        assert_eq!(BACKOFF.delay(7, 0.0), Duration::from_secs(45));
        assert_eq!(BACKOFF.delay(40, 0.5), Duration::from_millis(52_500));
    }

    #[test]
    fn ten_minutes_of_failure_cost_at_most_20_calls_even_with_the_shortest_waits() {
        let mut at = Duration::ZERO;
        let mut calls = 0;
        while at <= Duration::from_secs(600) {
            calls += 1;
            at += BACKOFF.delay(calls, 0.0);
        }
        assert_eq!(calls, 20);
    }

    #[test]
    fn nonsense_neither_panics_nor_escapes_the_bounds() {
        for failures in [0, 1, 31, 32, u32::MAX] {
            for fraction in [-1.0, 0.0, 2.0, f64::MAX] {
                let delay = BACKOFF.delay(failures, fraction);
                assert!(delay >= BACKOFF.min && delay <= BACKOFF.max);
            }
        }
    }
}
