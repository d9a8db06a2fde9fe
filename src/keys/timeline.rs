//! Who signs when: pure arithmetic over the moments at which keys begin.

use std::{cmp::Ordering, time::Duration};

use serde::Serialize;

use super::KeyStart;

/// Keys in the order in which they sign, and how long each stays published when its turn is over.
///
/// ```text
///            made        next.start                         next.start + overlap
///   active -----------------|------------ retired ------------------|-- expired
///   next        ------------|------------ active -------------------------------
///               |<- lead -->|
/// ```
///
/// At every moment exactly one key is active. The first one is, too, before its own start: a clock that is behind, or that was
/// stepped back, must not leave a client without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline<K> {
    first: Turn<K>,
    /// By start, none before the first.
    later: Vec<Turn<K>>,
    overlap: Duration,
}

/// A key and the moment at which its turn begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn<K> {
    /// From here on it signs.
    pub start: KeyStart,
    /// The key.
    pub key: K,
}

/// Where a key stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, and waits for its turn.
    Next,
    /// Signs.
    Active,
    /// Signs no more; published until nobody needs it.
    Retired,
    /// Of no use to anybody: not published.
    Expired,
}

/// A key at some moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Stage<'a, K> {
    /// The key and its start.
    pub turn: &'a Turn<K>,
    /// Where it stands.
    pub state: KeyState,
    /// When the next key takes over; `None`: there is none yet.
    pub signs_until: Option<KeyStart>,
    /// When it is withdrawn; `None`: not before there is a successor.
    pub published_until: Option<KeyStart>,
}

impl<K> Timeline<K> {
    /// Puts keys in order. `overlap`: how long a key stays published after its turn. `None` where there is no key.
    #[must_use]
    pub fn new(mut turns: Vec<Turn<K>>, overlap: Duration) -> Option<Self> {
        turns.sort_by_key(|turn| turn.start);
        let mut turns = turns.into_iter();
        Some(Self {
            first: turns.next()?,
            later: turns.collect(),
            overlap,
        })
    }

    /// One key, for ever.
    #[must_use]
    pub const fn of_one(turn: Turn<K>, overlap: Duration) -> Self {
        Self {
            first: turn,
            later: Vec::new(),
            overlap,
        }
    }

    /// Every key, the oldest first, as it stands at `now` (time since the Unix epoch).
    #[must_use]
    pub fn at(&self, now: Duration) -> Vec<Stage<'_, K>> {
        // How many of the later ones have begun; the first is number 0, so this is the number of the last that has.
        let active = self.later.partition_point(|turn| turn.start.wall() <= now);
        let turns = std::iter::once(&self.first).chain(&self.later);
        turns
            .enumerate()
            .map(|(number, turn)| {
                let signs_until = self.later.get(number).map(|successor| successor.start);
                let published_until =
                    signs_until.map(|end| KeyStart::at(end.wall().saturating_add(self.overlap)));
                let state = match number.cmp(&active) {
                    Ordering::Greater => KeyState::Next,
                    Ordering::Equal => KeyState::Active,
                    Ordering::Less if published_until.is_some_and(|end| end.wall() <= now) => {
                        KeyState::Expired
                    }
                    Ordering::Less => KeyState::Retired,
                };
                Stage {
                    turn,
                    state,
                    signs_until,
                    published_until,
                }
            })
            .collect()
    }

    /// When the next key takes over, if one waits.
    #[must_use]
    pub fn next_start(&self, now: Duration) -> Option<KeyStart> {
        self.at(now)
            .iter()
            .find(|stage| stage.state == KeyState::Next)
            .map(|stage| stage.turn.start)
    }

    /// The oldest key.
    #[must_use]
    pub const fn first(&self) -> &Turn<K> {
        &self.first
    }
}

impl KeyState {
    /// Whether the public half is in the key set.
    #[must_use]
    pub const fn is_published(self) -> bool {
        !matches!(self, Self::Expired)
    }

    /// The state's name, as metrics and `bursar keys list` have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Expired => "expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: u64 = 60;
    const MAX_AGE: u64 = 3_600;
    const OVERLAP: Duration = Duration::from_secs(LIFETIME + MAX_AGE);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timeline(starts: &[u64]) -> Timeline<usize> {
        let turns = starts.iter().enumerate().map(|(key, start)| Turn {
            start: KeyStart::at(seconds(*start)),
            key,
        });
        Timeline::new(turns.collect(), OVERLAP).unwrap()
    }

    fn states(timeline: &Timeline<usize>, now: u64) -> Vec<KeyState> {
        let stages = timeline.at(seconds(now));
        stages.iter().map(|stage| stage.state).collect()
    }

    #[test]
    fn a_key_waits_signs_and_stays_published_until_nobody_needs_it() {
        use KeyState::{Active, Expired, Next, Retired};
        let keys = timeline(&[1_000, 10_000]);
        assert_eq!(states(&keys, 9_999), [Active, Next]);
        assert_eq!(states(&keys, 10_000), [Retired, Active]);
        assert_eq!(states(&keys, 13_659), [Retired, Active]);
        assert_eq!(states(&keys, 13_660), [Expired, Active]);
    }

    #[test]
    fn before_its_start_the_first_key_signs_all_the_same() {
        let keys = timeline(&[1_000, 10_000]);
        assert_eq!(states(&keys, 0), [KeyState::Active, KeyState::Next]);
    }

    #[test]
    fn a_clock_that_is_set_back_across_a_change_finds_the_key_of_that_time_still_published() {
        let keys = timeline(&[1_000, 10_000]);
        let published_after_the_change = states(&keys, 10_030);
        assert!(
            published_after_the_change
                .iter()
                .all(|state| state.is_published())
        );
        assert_eq!(states(&keys, 9_990), [KeyState::Active, KeyState::Next]);
    }

    #[test]
    fn no_key_makes_no_timeline() {
        assert!(Timeline::<()>::new(Vec::new(), OVERLAP).is_none());
    }

    /// Rotations as `bursar keys rotate` makes them: each key is made `lead` before its start, and never while another waits.
    fn rotations() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let gaps = prop::collection::vec((0_u64..20_000, MAX_AGE..3 * MAX_AGE), 1..8);
        gaps.prop_map(|gaps| {
            let mut made = 1_000_000_u64;
            let mut keys = vec![(made, made)];
            for (gap, lead) in gaps {
                made += gap;
                keys.push((made, made + lead));
                made += lead;
            }
            keys
        })
    }

    proptest! {
        #[test]
        fn at_every_moment_exactly_one_key_is_active_and_the_order_holds(
            mut starts in prop::collection::vec(0_u64..100_000, 1..10),
            now in 0_u64..200_000,
        ) {
            let keys = timeline(&starts);
            let states = states(&keys, now);
            let active = states.iter().filter(|state| **state == KeyState::Active);
            prop_assert_eq!(active.count(), 1);
            let rank = |state: &KeyState| match state {
                KeyState::Expired => 0,
                KeyState::Retired => 1,
                KeyState::Active => 2,
                KeyState::Next => 3,
            };
            prop_assert!(states.is_sorted_by_key(rank));

            // The active one is the last that has begun.
            starts.sort_unstable();
            let active = keys.at(seconds(now)).into_iter().find(|stage| stage.state == KeyState::Active).unwrap();
            let expected = starts.iter().rfind(|start| **start <= now).or_else(|| starts.first());
            prop_assert_eq!(active.turn.start.wall().as_secs(), *expected.unwrap());
        }

        #[test]
        fn what_signs_at_some_moment_was_published_for_max_age_and_stays_so_for_lifetime_and_max_age(
            keys in rotations(),
            after in 0_u64..100_000,
        ) {
            let starts: Vec<u64> = keys.iter().map(|(_, start)| *start).collect();
            let now = 1_000_000 + after;
            let signs = |now: u64, made: &[(u64, u64)]| {
                let known: Vec<u64> = made.iter().filter(|(made, _)| *made <= now).map(|(_, start)| *start).collect();
                let timeline = timeline(&known);
                let stages: Vec<_> = timeline.at(seconds(now)).iter().map(|stage| (stage.turn.start, stage.state)).collect();
                stages
            };
            let (signing, _) = signs(now, &keys).into_iter().find(|(_, state)| *state == KeyState::Active).unwrap();
            // Published already `max_age` earlier, by a process that saw only the files that were there then.
            if signing.wall().as_secs() != starts[0] {
                let earlier = signs(now - MAX_AGE, &keys);
                prop_assert!(earlier.iter().any(|(start, state)| *start == signing && state.is_published()));
            }
            // Still published when the last of its assertions, cached for as long as may be, is verified.
            let later = signs(now + LIFETIME + MAX_AGE - 1, &keys);
            prop_assert!(later.iter().any(|(start, state)| *start == signing && state.is_published()));
        }

        #[test]
        fn what_has_expired_never_comes_back_as_time_goes_on(
            starts in prop::collection::vec(0_u64..100_000, 1..10),
            now in 0_u64..200_000,
            later in 0_u64..200_000,
        ) {
            let keys = timeline(&starts);
            let (before, after) = (states(&keys, now), states(&keys, now + later));
            for (before, after) in before.iter().zip(after) {
                prop_assert!(*before != KeyState::Expired || after == KeyState::Expired);
            }
        }
    }
}
