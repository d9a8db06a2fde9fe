//! What was said of a store that fails, so that neither each attempt nor each person says it again.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What goes on is said again so often.
const REMINDER: Duration = Duration::from_secs(60);

/// What was said last, and when by the boot clock.
#[derive(Default)]
pub(super) struct Trouble(Mutex<Option<(&'static str, Duration)>>);

impl Trouble {
    /// Whether it is another trouble than the last one, or that was said long ago; then it counts as said.
    pub(super) fn is_worth_saying(&self, summary: &'static str, now: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_said =
            last.is_some_and(|(said, at)| said == summary && now.saturating_sub(at) < REMINDER);
        if !was_said {
            *last = Some((summary, now));
        }
        !was_said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_stays_away_is_spoken_of_once_a_minute_and_another_trouble_at_once() {
        let trouble = Trouble::default();
        let said = [
            ("full", 0),
            ("full", 1),
            ("full", 59),
            ("full", 60),
            ("full", 61),
            ("gone", 62),
        ]
        .map(|(summary, at)| trouble.is_worth_saying(summary, Duration::from_secs(at)));
        assert_eq!(said, [true, false, false, true, false, true]);
    }
}
