//! The keys of one client: which one signs now, and which ones the AS must be able to see.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{
    Algorithm, KeyStart, KeyState, SigningKey,
    timeline::{Stage, Timeline, Turn},
};

/// The keys of one client, all that were there when it was configured.
///
/// Which of them signs follows from the clock alone, so replicas that share a directory agree without a word, and nothing needs
/// to be written down. The one thing beyond the clock: where it is known what the world sees of the key set
/// ([`observe`](Self::observe)), a key that cannot be seen is not used as long as an older one can.
#[derive(Debug)]
pub struct KeyRing {
    timeline: Timeline<Arc<SigningKey>>,
    terms: KeyTerms,
    directory: Option<PathBuf>,
    /// The ids in the key set as it was last seen at `jwks_url`.
    seen: ArcSwapOption<BTreeSet<String>>,
}

/// How long others may need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// How long an assertion is good for.
    pub assertion_lifetime: Duration,
    /// How long the AS may use a key set before it fetches it again.
    pub max_age: Duration,
}

/// What people may know about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its id.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// `next`, `active`, `retired`, `expired`; `unpublished`: it is its turn, but the key set that the world sees lacks it.
    pub state: &'static str,
    /// When it begins to sign; for a key that stands alone, when its file was written.
    pub start: KeyStart,
    /// When the next key takes over.
    pub signs_until: Option<KeyStart>,
    /// When it is withdrawn from the key set.
    pub published_until: Option<KeyStart>,
}

impl KeyTerms {
    /// How long a key stays published after its turn (R82): until the last assertion that it signed is worthless, and every copy of
    /// a key set that lacks it has been replaced, should a clock be set back.
    #[must_use]
    pub const fn overlap(self) -> Duration {
        self.assertion_lifetime.saturating_add(self.max_age)
    }
}

impl KeyRing {
    /// One key for ever (`private_key_file`). `since`: when its file was written.
    #[must_use]
    pub fn single(key: Arc<SigningKey>, since: KeyStart, terms: KeyTerms) -> Self {
        let timeline = Timeline::of_one(Turn { start: since, key }, terms.overlap());
        Self::over(timeline, terms, None)
    }

    /// The keys of `directory` (`keys_dir`); `None` where there is none.
    #[must_use]
    pub fn new(
        keys: Vec<Turn<Arc<SigningKey>>>,
        terms: KeyTerms,
        directory: PathBuf,
    ) -> Option<Self> {
        let timeline = Timeline::new(keys, terms.overlap())?;
        Some(Self::over(timeline, terms, Some(directory)))
    }

    fn over(
        timeline: Timeline<Arc<SigningKey>>,
        terms: KeyTerms,
        directory: Option<PathBuf>,
    ) -> Self {
        Self {
            timeline,
            terms,
            directory,
            seen: ArcSwapOption::empty(),
        }
    }

    /// The key that signs at `now` (time since the Unix epoch).
    ///
    /// It is the active one; but if the world is known not to see that one, it is the youngest older one that the world does see.
    #[must_use]
    pub fn signing(&self, now: Duration) -> Arc<SigningKey> {
        let seen = self.seen.load();
        let is_seen = |key: &SigningKey| seen.as_ref().is_none_or(|seen| seen.contains(key.kid()));
        let mut turns = self
            .timeline
            .at(now)
            .into_iter()
            .rev()
            .skip_while(|stage| stage.state == KeyState::Next)
            .map(|stage| &stage.turn.key);
        let active = turns.next().unwrap_or_else(|| &self.timeline.first().key);
        let chosen = if is_seen(active) {
            active
        } else {
            turns.find(|key| is_seen(key)).unwrap_or(active)
        };
        Arc::clone(chosen)
    }

    /// The keys whose public halves belong into the key set at `now`, the oldest first.
    #[must_use]
    pub fn published(&self, now: Duration) -> Vec<Arc<SigningKey>> {
        let signing = self.signing(now);
        self.timeline
            .at(now)
            .iter()
            .filter(|stage| stage.state.is_published() || stage.turn.key.kid() == signing.kid())
            .map(|stage| Arc::clone(&stage.turn.key))
            .collect()
    }

    /// Every key as it stands at `now`, the oldest first.
    #[must_use]
    pub fn views(&self, now: Duration) -> Vec<KeyView> {
        let signing = self.signing(now);
        let seen = self.seen.load();
        let state = |stage: &Stage<'_, Arc<SigningKey>>| {
            let kid = stage.turn.key.kid();
            let is_seen = seen.as_ref().is_none_or(|seen| seen.contains(kid));
            match stage.state {
                KeyState::Active if !is_seen => "unpublished",
                _ if kid == signing.kid() => KeyState::Active.as_str(),
                state => state.as_str(),
            }
        };
        self.timeline
            .at(now)
            .into_iter()
            .map(|stage| KeyView {
                kid: stage.turn.key.kid().to_owned(),
                algorithm: stage.turn.key.algorithm(),
                state: state(&stage),
                start: stage.turn.start,
                signs_until: stage.signs_until,
                published_until: stage.published_until,
            })
            .collect()
    }

    /// Takes note of the ids that the key set at `jwks_url` holds; `None`: not known (any more).
    pub fn observe(&self, seen: Option<BTreeSet<String>>) {
        self.seen.store(seen.map(Arc::new));
    }

    /// Takes over what `former`, in whose place this one comes, knew of what the world sees.
    pub fn follow(&self, former: &Self) {
        self.seen.store(former.seen.load_full());
    }

    /// What is scheduled.
    #[must_use]
    pub const fn timeline(&self) -> &Timeline<Arc<SigningKey>> {
        &self.timeline
    }

    /// How long others may need its keys.
    #[must_use]
    pub const fn terms(&self) -> KeyTerms {
        self.terms
    }

    /// Where the keys come from, if not from a file of its own.
    #[must_use]
    pub const fn directory(&self) -> Option<&PathBuf> {
        self.directory.as_ref()
    }
}

impl PartialEq for KeyRing {
    /// Whether the same keys sign at the same times. What the world sees of them makes no difference, nor when the file of a
    /// single key was written: a Secret volume is written anew as a whole.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            timeline,
            terms,
            directory,
            seen: _,
        } = self;
        let is_same_timeline = match directory {
            Some(_) => *timeline == other.timeline,
            None => timeline.first().key == other.timeline.first().key,
        };
        is_same_timeline && *terms == other.terms && *directory == other.directory
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Rings for the tests of those who use them.

    use super::*;
    use crate::keys::generate;

    /// A minute and an hour.
    pub(crate) const TERMS: KeyTerms = KeyTerms {
        assertion_lifetime: Duration::from_secs(60),
        max_age: Duration::from_secs(3_600),
    };

    /// A ring of this key.
    pub(crate) fn ring_of(key: SigningKey) -> Arc<KeyRing> {
        let start = KeyStart::at(Duration::ZERO);
        Arc::new(KeyRing::single(Arc::new(key), start, TERMS))
    }

    /// New keys that begin at these moments, and their ids.
    pub(crate) fn ring(starts: &[u64]) -> (Arc<KeyRing>, Vec<String>) {
        let turn = |start: &u64| Turn {
            start: KeyStart::at(Duration::from_secs(*start)),
            key: Arc::new(
                SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap(),
            ),
        };
        let turns: Vec<_> = starts.iter().map(turn).collect();
        let ids = turns.iter().map(|turn| turn.key.kid().to_owned()).collect();
        (ring_over(turns), ids)
    }

    /// A ring of these keys.
    pub(crate) fn ring_over(turns: Vec<Turn<Arc<SigningKey>>>) -> Arc<KeyRing> {
        Arc::new(KeyRing::new(turns, TERMS, PathBuf::from("keys")).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{TERMS, ring},
        *,
    };
    use crate::keys::generate;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn published(ring: &KeyRing, now: u64) -> Vec<String> {
        let keys = ring.published(seconds(now));
        keys.iter().map(|key| key.kid().to_owned()).collect()
    }

    fn states(ring: &KeyRing, now: u64) -> Vec<&'static str> {
        let views = ring.views(seconds(now));
        views.iter().map(|view| view.state).collect()
    }

    #[test]
    fn a_single_key_is_the_same_whenever_its_file_was_written_and_scheduled_ones_are_not() {
        let key = || {
            let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
            Arc::new(SigningKey::from_pem(&pem.into(), None, None).unwrap())
        };
        let at = |start| KeyStart::at(seconds(start));
        let single = |start| KeyRing::single(key(), at(start), TERMS);
        assert!(single(1) == single(2));
        let scheduled = |start| {
            let turn = Turn {
                start: at(start),
                key: key(),
            };
            KeyRing::new(vec![turn], TERMS, PathBuf::from("keys")).unwrap()
        };
        assert!(scheduled(1) == scheduled(1));
        assert!(scheduled(1) != scheduled(2));
        assert!(scheduled(1) != single(1));
        let (one, _) = ring(&[1_000]);
        let (other, _) = ring(&[1_000]);
        assert!(one != other);
    }

    #[test]
    fn the_clock_decides_who_signs_and_who_is_published() {
        let (ring, ids) = ring(&[1_000, 10_000]);
        for (now, signs, expected) in [
            (0, 0, &ids[..]),
            (9_999, 0, &ids[..]),
            (10_000, 1, &ids[..]),
            (13_659, 1, &ids[..]),
            (13_660, 1, &ids[1..]),
        ] {
            assert_eq!(ring.signing(seconds(now)).kid(), ids[signs], "at {now}");
            assert_eq!(published(&ring, now), expected, "at {now}");
        }
    }

    #[test]
    fn a_key_that_the_world_does_not_see_waits_behind_an_older_one_that_it_sees() {
        let (ring, ids) = ring(&[1_000, 10_000]);
        ring.observe(Some(BTreeSet::from([ids[0].clone()])));
        assert_eq!(ring.signing(seconds(10_000)).kid(), ids[0]);
        assert_eq!(states(&ring, 10_000), ["active", "unpublished"]);
        // However long that takes: who signs stays published by us as well.
        assert_eq!(ring.signing(seconds(90_000)).kid(), ids[0]);
        assert_eq!(published(&ring, 90_000), ids);

        ring.observe(Some(ids.iter().cloned().collect()));
        assert_eq!(ring.signing(seconds(10_000)).kid(), ids[1]);
        assert_eq!(states(&ring, 10_000), ["retired", "active"]);
    }

    #[test]
    fn of_several_older_keys_the_youngest_that_is_seen_signs() {
        let (ring, ids) = ring(&[1_000, 2_000, 3_000, 4_000]);
        ring.observe(Some(BTreeSet::from([
            ids[0].clone(),
            ids[1].clone(),
            ids[3].clone(),
        ])));
        assert_eq!(ring.signing(seconds(3_500)).kid(), ids[1]);
        assert_eq!(
            states(&ring, 3_500),
            ["retired", "active", "unpublished", "next"]
        );
    }

    #[test]
    fn where_the_world_sees_none_of_them_the_active_one_signs_all_the_same() {
        let (ring, ids) = ring(&[1_000, 10_000]);
        ring.observe(Some(BTreeSet::new()));
        assert_eq!(ring.signing(seconds(20_000)).kid(), ids[1]);
        assert_eq!(states(&ring, 20_000), ["expired", "unpublished"]);
        // A key that waits is never used before its time, seen or not.
        ring.observe(Some(BTreeSet::from([ids[1].clone()])));
        assert_eq!(ring.signing(seconds(5_000)).kid(), ids[0]);
        // Nothing known: the clock alone decides again.
        ring.observe(None);
        assert_eq!(states(&ring, 20_000), ["expired", "active"]);
    }

    #[test]
    fn a_single_key_signs_at_any_time() {
        let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
        let ring = KeyRing::single(Arc::new(key), KeyStart::at(seconds(5_000)), TERMS);
        assert_eq!(states(&ring, 0), ["active"]);
        assert_eq!(states(&ring, 1_000_000_000), ["active"]);
        assert_eq!(ring.published(seconds(0)).len(), 1);
    }
}
