//! The access tokens that were issued.

use std::{collections::HashMap, time::Duration};

use super::grants::GrantId;
use crate::{clock::Moment, scope::ScopeSet};

/// When there are more tokens than this, the dead ones are forgotten. Until then they are kept, so that
/// [`AccessTokens::stand_in`] knows them.
const MAX_TOKENS: usize = 1_000;

/// All of them, by their text.
#[derive(Debug, Default)]
pub(super) struct AccessTokens {
    tokens: HashMap<String, Issued>,
    issued: u64,
}

/// What a living token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// What may be done with it.
    pub(super) granted: ScopeSet,
    /// Who agreed to that; `None`: it is the application's own.
    pub(super) owner: Option<Owner>,
}

/// The person whose consent a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u64,
    pub(super) grant: GrantId,
}

#[derive(Debug)]
struct Issued {
    /// Counts from 1.
    number: u64,
    holder: Holder,
    expires: Moment,
    revoked: bool,
}

impl Holder {
    /// The application itself.
    pub(super) fn application(granted: ScopeSet) -> Self {
        Self {
            granted,
            owner: None,
        }
    }
}

impl AccessTokens {
    /// Remembers a token.
    pub(super) fn add(&mut self, token: String, holder: Holder, expires: Moment, now: Moment) {
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.retain(|_, issued| issued.is_alive(now));
        }
        self.issued += 1;
        let issued = Issued {
            number: self.issued,
            holder,
            expires,
            revoked: false,
        };
        self.tokens.insert(token, issued);
    }

    /// What a token stands for, if it is known and lives.
    pub(super) fn holder(&self, token: &str, now: Moment) -> Option<&Holder> {
        self.tokens
            .get(token)
            .filter(|issued| issued.is_alive(now))
            .map(|issued| &issued.holder)
    }

    /// The token that was issued last, if it lives, and how long still.
    pub(super) fn newest(&self, now: Moment) -> Option<(String, Duration)> {
        let mut issued = self.tokens.iter();
        let (token, newest) = issued.find(|(_, issued)| issued.number == self.issued)?;
        let remaining = newest.expires.remaining(now);
        newest.is_alive(now).then(|| (token.clone(), remaining))
    }

    /// Ends every one of them.
    pub(super) fn revoke_all(&mut self) {
        self.revoke(|_, _| true);
    }

    /// Ends those that a grant has brought.
    pub(super) fn revoke_of(&mut self, grant: GrantId) {
        self.revoke(|_, holder| holder.owner.is_some_and(|owner| owner.grant == grant));
    }

    /// Ends those that any grant has brought.
    pub(super) fn revoke_of_all_grants(&mut self) {
        self.revoke(|_, holder| holder.owner.is_some());
    }

    /// Ends one.
    pub(super) fn revoke_one(&mut self, token: &str) {
        self.revoke(|known, _| known == token);
    }

    fn revoke(&mut self, condemned: impl Fn(&str, &Holder) -> bool) {
        for (token, issued) in &mut self.tokens {
            issued.revoked |= condemned(token, &issued.holder);
        }
    }

    /// Which one it is, counted from 1.
    pub(super) fn number(&self, token: &str) -> Option<u64> {
        self.tokens.get(token).map(|issued| issued.number)
    }

    /// Whether the text holds one, be it dead.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        self.tokens.keys().any(|token| text.contains(token))
    }
}

impl Issued {
    fn is_alive(&self, now: Moment) -> bool {
        !self.revoked && !self.expires.is_reached(now)
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

    fn holder(grant: Option<GrantId>) -> Holder {
        Holder {
            granted: ScopeSet::default(),
            owner: grant.map(|grant| Owner { user: 1001, grant }),
        }
    }

    #[test]
    fn a_token_dies_with_its_lifetime_or_when_it_is_revoked() {
        let mut tokens = AccessTokens::default();
        tokens.add("one".to_owned(), holder(None), at(10), at(0));
        assert!(tokens.holder("one", at(9)).is_some());
        assert!(tokens.holder("one", at(10)).is_none());
        tokens.revoke_all();
        assert!(tokens.holder("one", at(9)).is_none());
        assert!(tokens.stand_in("a log line with one in it"));
    }

    #[test]
    fn the_tokens_of_a_grant_end_together_and_no_others() {
        let mut tokens = AccessTokens::default();
        for (name, grant) in [("a", Some(1)), ("b", Some(1)), ("c", Some(2)), ("d", None)] {
            tokens.add(name.to_owned(), holder(grant), at(10), at(0));
        }
        tokens.revoke_of(1);
        tokens.revoke_one("d");
        let alive = |name: &&str| tokens.holder(name, at(0)).is_some();
        let alive: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(alive).collect();
        assert_eq!(alive, ["c"]);
    }

    #[test]
    fn dead_tokens_are_forgotten_when_there_are_too_many() {
        let mut tokens = AccessTokens::default();
        for number in 0..MAX_TOKENS {
            tokens.add(number.to_string(), holder(None), at(10), at(0));
        }
        tokens.add("last".to_owned(), holder(None), at(30), at(20));
        assert_eq!(tokens.tokens.len(), 1);
    }
}
