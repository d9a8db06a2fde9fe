//! What may be spent in a stretch of time that begins anew when it is over.

use std::time::Duration;

use crate::clock::Moment;

/// A fixed window, which begins with the first thing that is spent.
#[derive(Debug)]
pub(super) struct Allowance {
    window: Duration,
    start: Option<Duration>,
    spent: u32,
}

impl Allowance {
    pub(super) const fn per(window: Duration) -> Self {
        Self {
            window,
            start: None,
            spent: 0,
        }
    }

    /// Spends `cost` of `limit`; what is left.
    ///
    /// # Errors
    ///
    /// It does not suffice, and nothing is spent: the seconds, rounded up, until the next window begins.
    pub(super) fn spend(&mut self, cost: u32, limit: u32, now: Moment) -> Result<u32, u64> {
        let elapsed = self.start.map(|start| now.boot.saturating_sub(start));
        let elapsed = match elapsed.filter(|elapsed| *elapsed < self.window) {
            Some(elapsed) => elapsed,
            None => {
                self.start = Some(now.boot);
                self.spent = 0;
                Duration::ZERO
            }
        };
        let after = self.spent.saturating_add(cost);
        if after > limit {
            let left = self.window.saturating_sub(elapsed).as_millis();
            return Err(left.div_ceil(1_000).try_into().unwrap_or(u64::MAX));
        }
        self.spent = after;
        Ok(limit - after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: Duration::ZERO,
            boot: Duration::from_secs(100 + seconds),
        }
    }

    #[test]
    fn what_is_spent_comes_back_when_the_window_is_over() {
        let mut day = Allowance::per(Duration::from_hours(24));
        assert_eq!(day.spend(1, 2, at(0)), Ok(1));
        assert_eq!(day.spend(1, 2, at(10)), Ok(0));
        assert_eq!(day.spend(1, 2, at(10)), Err(86_390));
        assert_eq!(day.spend(1, 2, at(86_400)), Ok(1));
    }
}
