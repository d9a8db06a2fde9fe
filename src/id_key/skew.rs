//! How far the LMS's clock is from ours, as its answers show.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::Moment;

/// No clock is off by more. What claims it is a page that repeats what it was sent, and would have signatures dated far ahead, good
/// for long.
const MAX_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// The LMS's clock minus ours; zero until the LMS complains. One per LMS, shared by all who sign for it.
#[derive(Debug, Default)]
pub struct Skew {
    milliseconds: AtomicI64,
}

impl Skew {
    /// Takes the time that the LMS has `now`, and returns by how many seconds it is ahead of us; `None`: that cannot be.
    pub fn learn(&self, server: Duration, now: Moment) -> Option<f64> {
        if server.abs_diff(now.wall) > MAX_SKEW {
            return None;
        }
        let skew = milliseconds(server).saturating_sub(milliseconds(now.wall));
        self.milliseconds.store(skew, Ordering::Relaxed);
        Some(seconds(skew))
    }

    /// By how many seconds the LMS is ahead of us, as far as is known.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        seconds(self.milliseconds.load(Ordering::Relaxed))
    }

    /// The time that the LMS has `now`, in Unix seconds, to the nearest.
    pub(super) fn server_seconds(&self, now: Moment) -> u64 {
        let skew = self.milliseconds.load(Ordering::Relaxed);
        let server = milliseconds(now.wall).saturating_add(skew);
        u64::try_from(server)
            .unwrap_or(0)
            .saturating_add(500)
            .div_euclid(1_000)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for a quarter of a million years"
)]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1_000.0
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment {
            wall: Duration::from_millis(milliseconds),
            boot: Duration::ZERO,
        }
    }

    #[test]
    fn our_own_clock_is_taken_until_the_lms_says_otherwise() {
        let skew = Skew::default();
        assert_eq!(skew.server_seconds(at(1_700_000_000_499)), 1_700_000_000);
        assert_eq!(skew.server_seconds(at(1_700_000_000_500)), 1_700_000_001);
        let ahead = skew
            .learn(Duration::from_secs(1_700_000_090), at(1_700_000_000_250))
            .unwrap();
        assert!((ahead - 89.75).abs() < f64::EPSILON, "{ahead}");
        assert_eq!(skew.server_seconds(at(1_700_000_000_250)), 1_700_000_090);
    }

    #[test]
    fn a_clock_before_the_epoch_reads_as_the_epoch() {
        let skew = Skew::default();
        skew.learn(Duration::ZERO, at(86_000_000)).unwrap();
        assert_eq!(skew.server_seconds(at(1_000)), 0);
    }

    // An application can have the LMS repeat a query value in a refusal.
    #[test]
    fn a_clock_that_is_off_by_more_than_a_day_is_not_believed() {
        let skew = Skew::default();
        let (now, day) = (1_700_000_000, 24 * 60 * 60);
        for server in [0, now - day - 1, now + day + 1, u64::MAX] {
            assert_eq!(
                skew.learn(Duration::from_secs(server), at(now * 1_000)),
                None
            );
        }
        assert!(skew.seconds().abs() < f64::EPSILON);
        assert!(
            skew.learn(Duration::from_secs(now + day), at(now * 1_000))
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn what_was_learned_is_what_is_said(now: u64, ahead in -90_000_i64..90_000, later: u64) {
            let server = (now / 1_000).saturating_add_signed(ahead);
            let skew = Skew::default();
            let learned = skew.learn(Duration::from_secs(server), at(now));
            if server < 1 << 40 && now < 1 << 50 && learned.is_some() {
                prop_assert_eq!(skew.server_seconds(at(now)), server);
            }
            // Saturates instead of panicking.
            skew.server_seconds(at(later));
        }
    }
}
