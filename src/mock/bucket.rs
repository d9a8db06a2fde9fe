//! Canvas's throttle: a leaky bucket per access token, as `RequestThrottle` has it.
//!
//! Each request in flight holds a deposit, which is replaced by its true cost when it ends; what is in the bucket leaks out.

use std::{collections::HashMap, time::Duration};

use crate::clock::Moment;

/// What leaks out in a second.
const OUTFLOW: f64 = 10.0;

/// What a request in flight holds.
const DEPOSIT: f64 = 50.0;

/// How much more than the limit goes into a bucket.
const OVERFLOW: f64 = 200.0;

/// Above this number, those that have run empty are forgotten.
const MAX_BUCKETS: usize = 1_000;

/// All buckets, each by whom it is for.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<String, Bucket>);

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    content: f64,
    /// When it was last looked at, on the boot clock.
    at: Duration,
}

impl Buckets {
    /// Puts a deposit in; `false`: the bucket is full.
    pub(super) fn enter(&mut self, whose: &str, limit: f64, now: Moment) -> bool {
        if self.0.len() >= MAX_BUCKETS {
            self.0.retain(|_, bucket| bucket.at(now).content > 0.0);
        }
        let bucket = self.0.entry(whose.to_owned()).or_default();
        *bucket = bucket.at(now);
        if bucket.content >= limit {
            return false;
        }
        bucket.add(DEPOSIT, limit);
        true
    }

    /// Replaces the deposit by the true cost; what may still be spent.
    pub(super) fn leave(&mut self, whose: &str, cost: f64, limit: f64, now: Moment) -> f64 {
        let bucket = self.0.entry(whose.to_owned()).or_default();
        *bucket = bucket.at(now);
        bucket.add(cost - DEPOSIT, limit);
        (limit - bucket.content).max(0.0)
    }
}

impl Bucket {
    fn at(self, now: Moment) -> Self {
        let elapsed = now.boot.saturating_sub(self.at).as_secs_f64();
        Self {
            content: (self.content - elapsed * OUTFLOW).max(0.0),
            at: now.boot,
        }
    }

    fn add(&mut self, amount: f64, limit: f64) {
        self.content = (self.content + amount).clamp(0.0, limit + OVERFLOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: Duration::from_secs(1_000_000 + seconds),
            boot: Duration::from_secs(1_000 + seconds),
        }
    }

    const LIMIT: f64 = 600.0;

    #[test]
    fn three_token_requests_in_a_row_fill_a_bucket_and_time_empties_it() {
        let mut buckets = Buckets::default();
        for left in [400.0, 200.0, 0.0] {
            assert!(buckets.enter("host", LIMIT, at(0)));
            let remaining = buckets.leave("host", 200.0, LIMIT, at(0));
            assert!((remaining - left).abs() < 1e-9, "{remaining}");
        }
        assert!(!buckets.enter("host", LIMIT, at(0)));
        assert!(buckets.enter("other", LIMIT, at(0)));
        assert!(buckets.enter("host", LIMIT, at(1)));
    }

    #[test]
    fn what_is_in_flight_counts_until_it_ends() {
        let mut buckets = Buckets::default();
        for _ in 0..12 {
            assert!(buckets.enter("token", LIMIT, at(0)));
        }
        assert!(!buckets.enter("token", LIMIT, at(0)));
        let remaining = buckets.leave("token", 1.0, LIMIT, at(0));
        assert!((remaining - 49.0).abs() < 1e-9, "{remaining}");
        assert!(buckets.enter("token", LIMIT, at(0)));
    }

    #[test]
    fn buckets_that_ran_empty_make_room() {
        let mut buckets = Buckets::default();
        for number in 0..MAX_BUCKETS {
            buckets.enter(&number.to_string(), LIMIT, at(0));
        }
        buckets.enter("last", LIMIT, at(60));
        assert_eq!(buckets.0.len(), 1);
    }
}
