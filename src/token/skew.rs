//! How far our wall clock is off, as the `Date` fields of an AS show. One per credential.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From here on a person is told: assertions begin to be refused.
const WORTH_A_WARNING: f64 = 30.0;

/// Local minus server, in seconds; unknown until a first answer came.
#[derive(Debug)]
pub struct Skew {
    /// The bits of an `f64`; NaN: unknown.
    bits: AtomicU64,
    large: AtomicBool,
}

impl Skew {
    /// Nothing is known yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            bits: AtomicU64::new(f64::NAN.to_bits()),
            large: AtomicBool::new(false),
        }
    }

    /// What was learned last.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let seconds = f64::from_bits(self.bits.load(Ordering::Relaxed));
        (!seconds.is_nan()).then_some(seconds)
    }

    /// Keeps a new measurement. True when it has just become worth a warning: once per crossing, not once per answer.
    pub fn learn(&self, seconds: f64) -> bool {
        if !seconds.is_finite() {
            return false;
        }
        self.bits.store(seconds.to_bits(), Ordering::Relaxed);
        let large = is_large(seconds);
        let was_large = self.large.swap(large, Ordering::Relaxed);
        large && !was_large
    }
}

/// Whether a clock that is off by so much is worth naming where a token request was refused.
#[must_use]
pub fn is_large(seconds: f64) -> bool {
    seconds.abs() > WORTH_A_WARNING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(Skew::unknown().seconds(), None);
    }

    #[test]
    fn a_large_skew_is_worth_one_warning_per_crossing() {
        let skew = Skew::unknown();
        let warnings: Vec<bool> = [2.0, -31.0, 40.0, 1.0, 31.0]
            .into_iter()
            .map(|seconds| skew.learn(seconds))
            .collect();
        assert_eq!(warnings, [false, true, false, false, true]);
        assert_eq!(skew.seconds(), Some(31.0));
    }

    #[test]
    fn nonsense_is_not_learned() {
        let skew = Skew::unknown();
        skew.learn(3.0);
        assert!(!skew.learn(f64::NAN));
        assert!(!skew.learn(f64::INFINITY));
        assert_eq!(skew.seconds(), Some(3.0));
    }
}
