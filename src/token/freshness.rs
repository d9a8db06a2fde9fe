//! When a token is served and when it is renewed. Pure, and every operation saturates.
//!
//! ```text
//! issued                     refresh_at      usable_until     expires
//!   |------------ fresh ----------|- refresh ahead -|--- never injected ---|
//!                                 |<---- lead ----->|<------ margin ------>|
//! ```

use std::time::Duration;

use super::{RefreshAhead, Timing};
use crate::clock::Moment;

/// A token is used for at least a tenth of its lifetime, whatever `refresh_ahead` says: a fixed time longer
/// than the lifetime would otherwise ask for the next token in a loop.
const LONGEST_AHEAD: f64 = 0.9;

/// Renewal starts at least so long before the margin that one slow token request can end in between; for short
/// tokens a third of the lifetime. Without it a token whose `refresh_ahead` equals its margin would make requests
/// wait at every renewal.
const LEAD: Duration = Duration::from_secs(10);

/// Replicas that started together spread their renewals over this share of `refresh_ahead`, both ways.
const JITTER: f64 = 0.1;

/// Two answers about one end of a token may differ by so much, or by a quarter of what is left: `expires_in` is in whole seconds,
/// and is counted from before a token request that may have been slow.
const SAME_END: Duration = Duration::from_secs(10);

/// A token that is handed out until its end has no successor before, and `expires_in` is rounded down.
const PAST_END: Duration = Duration::from_secs(1);

/// The moments of one token that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its end, as the answer has it.
    pub expires: Moment,
    /// From here on it is not injected any more.
    pub usable_until: Moment,
    /// From here on its successor is asked for.
    pub refresh_at: Moment,
}

/// What a token is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and ask for its successor.
    RefreshAhead,
    /// Never serve it.
    Expired,
}

impl Schedule {
    /// The schedule of a token that was asked for at `issued` and lives for `lifetime`; `fraction` in `0.0..1.0` is the jitter.
    #[must_use]
    pub fn new(issued: Moment, lifetime: Duration, timing: &Timing, fraction: f64) -> Self {
        let jittered = |duration| scaled(duration, 1.0 - JITTER + 2.0 * JITTER * fraction);
        let margin = margin_in_force(lifetime, timing.safety_margin);
        let asked = match timing.refresh_ahead {
            RefreshAhead::Share(share) => scaled(lifetime, share),
            RefreshAhead::Before(fixed) => fixed,
        };
        let longest = scaled(lifetime, LONGEST_AHEAD);
        let lead = LEAD.min(lifetime / 3);
        let ahead = jittered(asked.min(longest)).max(margin.saturating_add(jittered(lead)));
        let expires = issued.after(lifetime);
        Self {
            expires,
            usable_until: expires.before(margin),
            refresh_at: expires.before(ahead),
        }
    }

    /// The schedule of a token that was asked for at `sent` and had been received before; `self` is what the answer alone would
    /// make of it, `earlier` what is in force. `None`: its end has moved, so it is as good as a new one.
    ///
    /// Some servers have one token per client and hand it out until it expires (Blackboard). To ask for it ahead of its end again
    /// brings the same token with less to live, so the next token request waits for that end.
    #[must_use]
    pub fn handed_out_again(&self, earlier: &Self, sent: Moment) -> Option<Self> {
        let same = SAME_END.min(self.expires.remaining(sent) / 4);
        if self.expires.boot > earlier.expires.boot.saturating_add(same) {
            return None;
        }
        let past_end = self.expires.after(PAST_END);
        // A 401 may have forced this token request. Then the planned one is still worth making.
        let is_ahead_of_plan =
            !earlier.refresh_at.is_reached(sent) && earlier.refresh_at.boot < past_end.boot;
        Some(Self {
            expires: self.expires,
            // The margin is that of the lifetime as first received: what is left now is no lifetime.
            usable_until: self.expires.before(earlier.margin().max(self.margin())),
            refresh_at: if is_ahead_of_plan {
                earlier.refresh_at
            } else {
                past_end
            },
        })
    }

    /// For how long there is no token to inject before its successor is asked for.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.refresh_at.boot.saturating_sub(self.usable_until.boot)
    }

    fn margin(&self) -> Duration {
        self.expires.boot.saturating_sub(self.usable_until.boot)
    }

    /// What the token is good for at `now`. Either clock is enough to end it.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        if self.usable_until.is_reached(now) {
            Freshness::Expired
        } else if self.refresh_at.is_reached(now) {
            Freshness::RefreshAhead
        } else {
            Freshness::Fresh
        }
    }
}

/// The safety margin that applies to a token: a margin longer than a quarter of its life would leave too little of it.
fn margin_in_force(lifetime: Duration, configured: Duration) -> Duration {
    configured.min(lifetime / 4)
}

/// `duration * factor`; a factor that is no sensible number counts as 0.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment {
        wall: Duration::from_secs(1_767_225_600),
        boot: Duration::from_secs(1_000_000),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn timing(refresh_ahead: RefreshAhead, safety_margin: Duration) -> Timing {
        Timing {
            default_lifetime: seconds(300),
            refresh_ahead,
            safety_margin,
            wait: seconds(10),
        }
    }

    fn defaults() -> Timing {
        timing(RefreshAhead::Share(0.2), seconds(30))
    }

    /// Seconds after `NOW`.
    fn at(moment: Moment) -> f64 {
        moment.remaining(NOW).as_secs_f64()
    }

    #[test]
    fn an_hour_long_token_is_renewed_at_four_fifths_and_served_until_its_margin() {
        let schedule = Schedule::new(NOW, seconds(3_600), &defaults(), 0.5);
        assert!((at(schedule.refresh_at) - 2_880.0).abs() < 0.001);
        assert!((at(schedule.usable_until) - 3_570.0).abs() < 0.001);
    }

    #[test]
    fn jitter_moves_the_renewal_by_a_tenth_of_the_time_ahead_either_way() {
        let early = Schedule::new(NOW, seconds(3_600), &defaults(), 1.0);
        let late = Schedule::new(NOW, seconds(3_600), &defaults(), 0.0);
        assert!((at(early.refresh_at) - 2_808.0).abs() < 0.001);
        assert!((at(late.refresh_at) - 2_952.0).abs() < 0.001);
    }

    #[test]
    fn a_margin_takes_at_most_a_quarter_of_the_lifetime() {
        let schedule = Schedule::new(NOW, seconds(60), &defaults(), 0.5);
        assert!((at(schedule.usable_until) - 45.0).abs() < 0.001);
    }

    #[test]
    fn a_short_token_is_renewed_early_enough_for_a_token_request_to_end_before_the_margin() {
        let schedule = Schedule::new(NOW, seconds(8), &defaults(), 0.0);
        let lead = at(schedule.usable_until) - at(schedule.refresh_at);
        assert!(lead >= 2.0, "{lead}");
    }

    #[test]
    fn a_fixed_time_ahead_that_exceeds_the_lifetime_still_lets_the_token_be_used() {
        let greedy = timing(RefreshAhead::Before(seconds(86_400)), seconds(30));
        let schedule = Schedule::new(NOW, seconds(600), &greedy, 0.5);
        assert!(at(schedule.refresh_at) >= 59.9);
    }

    #[test]
    fn a_token_goes_from_fresh_over_refresh_ahead_to_expired() {
        let schedule = Schedule::new(NOW, seconds(3_600), &defaults(), 0.5);
        let states: Vec<_> = [0, 2_879, 2_880, 3_569, 3_570, 3_600]
            .map(|n| schedule.freshness(NOW.after(seconds(n))))
            .into();
        use Freshness::{Expired, Fresh, RefreshAhead};
        assert_eq!(
            states,
            [Fresh, Fresh, RefreshAhead, RefreshAhead, Expired, Expired]
        );
    }

    /// The schedule after another answer with the same token: `left` seconds to live at `n` seconds after the first.
    fn again(n: u64, left: u64) -> Option<Schedule> {
        let first = Schedule::new(NOW, seconds(3_600), &defaults(), 0.5);
        let sent = NOW.after(seconds(n));
        let fresh = Schedule::new(sent, seconds(left), &defaults(), 0.5);
        fresh.handed_out_again(&first, sent)
    }

    // F7.
    #[test]
    fn a_token_that_is_handed_out_again_is_asked_for_when_it_has_expired_and_keeps_its_margin() {
        // Counted from a slow token request the end may seem later by some seconds.
        for left in [715, 719, 720, 728] {
            let again = again(2_880, left).unwrap();
            let end = 2_880.0 + left as f64;
            assert!((at(again.refresh_at) - end - 1.0).abs() < 0.001);
            assert!((at(again.usable_until) - (end - 30.0)).abs() < 0.001);
            assert_eq!(again.gap(), seconds(31));
        }
    }

    #[test]
    fn a_token_that_is_handed_out_again_inside_its_margin_is_not_injected() {
        let sent = NOW.after(seconds(3_580));
        assert_eq!(
            again(3_580, 20).unwrap().freshness(sent),
            Freshness::Expired
        );
    }

    #[test]
    fn the_same_token_with_a_later_end_is_as_good_as_a_new_one() {
        assert_eq!(again(2_880, 3_600), None);
        assert_eq!(again(2_880, 760), None);
    }

    #[test]
    fn a_forced_request_that_brings_the_same_token_leaves_the_planned_one_in_place() {
        let again = again(100, 3_500).unwrap();
        assert!((at(again.refresh_at) - 2_880.0).abs() < 0.001);
    }

    #[test]
    fn a_wall_clock_that_was_stepped_does_not_end_a_token_that_was_handed_out_again_since() {
        let first = Schedule::new(NOW, seconds(3_600), &defaults(), 0.5);
        let mut sent = NOW.after(seconds(600));
        sent.wall += seconds(86_400);
        assert_eq!(first.freshness(sent), Freshness::Expired);
        let fresh = Schedule::new(sent, seconds(3_000), &defaults(), 0.5);
        let again = fresh.handed_out_again(&first, sent).unwrap();
        assert_eq!(again.freshness(sent), Freshness::Fresh);
    }

    #[test]
    fn either_clock_alone_ends_a_token() {
        let schedule = Schedule::new(NOW, seconds(3_600), &defaults(), 0.5);
        let (mut wall_only, mut boot_only) = (NOW, NOW);
        wall_only.wall += seconds(3_570);
        boot_only.boot += seconds(3_570);
        assert_eq!(schedule.freshness(wall_only), Freshness::Expired);
        assert_eq!(schedule.freshness(boot_only), Freshness::Expired);
    }

    fn any_refresh_ahead() -> impl Strategy<Value = RefreshAhead> {
        prop_oneof![
            (0.0..=1.0).prop_map(RefreshAhead::Share),
            any::<f64>().prop_map(RefreshAhead::Share),
            (0_u64..100_000).prop_map(|n| RefreshAhead::Before(seconds(n))),
            Just(RefreshAhead::Before(Duration::MAX)),
        ]
    }

    proptest! {
        // F7, F22.
        #[test]
        fn whatever_the_lifetime_and_the_settings_a_token_is_renewed_before_its_margin_and_used_before_it_is_renewed(
            lifetime_ms in 0_u64..72_000_000,
            refresh_ahead in any_refresh_ahead(),
            margin in prop_oneof![(0_u64..100_000).prop_map(seconds), Just(Duration::MAX)],
            fraction in 0.0..1.0,
        ) {
            let lifetime = Duration::from_millis(lifetime_ms);
            let timing = timing(refresh_ahead, margin);
            let schedule = Schedule::new(NOW, lifetime, &timing, fraction);

            let (refresh_at, usable_until) = (at(schedule.refresh_at), at(schedule.usable_until));
            let lifetime = lifetime.as_secs_f64();
            prop_assert!(usable_until <= lifetime && usable_until >= lifetime * 0.75 - 1e-6);
            prop_assert!(usable_until <= lifetime - margin.as_secs_f64().min(lifetime / 4.0) + 1e-6);
            prop_assert!(refresh_at <= usable_until);
            prop_assert!(usable_until - refresh_at >= (lifetime / 3.0).min(10.0) * 0.9 - 1e-6);
            prop_assert!(refresh_at >= lifetime * 0.009);
        }

        #[test]
        fn no_lifetime_however_long_overflows(lifetime in any::<u64>(), refresh_ahead in any_refresh_ahead()) {
            let schedule = Schedule::new(NOW, seconds(lifetime), &timing(refresh_ahead, seconds(30)), 0.999);
            let _ = schedule.freshness(NOW);
        }
    }
}
