//! What people have agreed to, and the refresh tokens that speak for it (RFC 6749 section 6).
//!
//! A *grant* is one consent of one person. All its tokens end with it: its refresh tokens, of which each replaces the one before
//! when they rotate, and the access tokens that were bought with them.

mod codes;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

pub(super) use codes::{Asked, Codes, Presented, Unredeemed};

use crate::{clock::Moment, random, scope::ScopeSet};

/// Refresh tokens beyond this number push out the oldest: a long-lived mock must not grow for ever.
const MAX_TOKENS: usize = 20_000;

/// Which grant; counts from 1.
pub(super) type GrantId = u64;

/// What a person agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consent {
    /// Who, as the LMS numbers its users.
    pub(super) user: u64,
    pub(super) scopes: ScopeSet,
}

/// All grants.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// Those that have not been revoked.
    alive: BTreeMap<GrantId, Consent>,
    last_grant: GrantId,
    tokens: HashMap<String, RefreshToken>,
    /// The tokens, the oldest first.
    by_age: VecDeque<String>,
    last_token: u64,
}

#[derive(Debug)]
struct RefreshToken {
    /// Counts from 1.
    number: u64,
    grant: GrantId,
    /// The token in whose place it was issued.
    replaces: Option<String>,
    spent: Option<Moment>,
    /// One of those that replaced it has been presented, so nobody is still waiting for them.
    successor_used: bool,
}

/// What a refresh token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It may be used.
    Good(GrantId),
    /// It was used before.
    Spent(GrantId),
    /// It was never issued, or its grant is revoked.
    Nothing,
}

impl Grants {
    /// A person has agreed.
    pub(super) fn open(&mut self, consent: Consent) -> GrantId {
        self.last_grant += 1;
        self.alive.insert(self.last_grant, consent);
        self.last_grant
    }

    /// What was agreed to; `None`: it is revoked.
    pub(super) fn consent(&self, grant: GrantId) -> Option<&Consent> {
        self.alive.get(&grant)
    }

    /// Ends a grant; `false`: it had ended already.
    pub(super) fn close(&mut self, grant: GrantId) -> bool {
        self.alive.remove(&grant).is_some()
    }

    /// Ends them all.
    pub(super) fn close_all(&mut self) {
        self.alive.clear();
    }

    /// A new refresh token, and its number. `replaces` names the one that was presented for it.
    pub(super) fn issue(&mut self, grant: GrantId, replaces: Option<&str>) -> (String, u64) {
        if self.by_age.len() >= MAX_TOKENS
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        self.last_token += 1;
        let token = format!("{}{}", random::id128(), random::id128());
        self.by_age.push_back(token.clone());
        self.tokens.insert(
            token.clone(),
            RefreshToken {
                number: self.last_token,
                grant,
                replaces: replaces.map(str::to_owned),
                spent: None,
                successor_used: false,
            },
        );
        (token, self.last_token)
    }

    /// Which refresh token it is.
    pub(super) fn number(&self, token: &str) -> Option<u64> {
        self.tokens.get(token).map(|known| known.number)
    }

    /// Judges a token without spending it.
    pub(super) fn worth(&self, token: &str, grace: Duration, now: Moment) -> Worth {
        let Some(known) = self.tokens.get(token) else {
            return Worth::Nothing;
        };
        if !self.alive.contains_key(&known.grant) {
            return Worth::Nothing;
        }
        let forgiven = |spent: Moment| !known.successor_used && !spent.after(grace).is_reached(now);
        match known.spent {
            Some(spent) if !forgiven(spent) => Worth::Spent(known.grant),
            _ => Worth::Good(known.grant),
        }
    }

    /// Spends a token. Grace counts from the first time.
    pub(super) fn spend(&mut self, token: &str, now: Moment) {
        let Some(known) = self.tokens.get_mut(token) else {
            return;
        };
        known.spent.get_or_insert(now);
        if let Some(replaced) = known.replaces.clone()
            && let Some(replaced) = self.tokens.get_mut(&replaced)
        {
            replaced.successor_used = true;
        }
    }

    /// Whether the text holds a refresh token.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        self.tokens.keys().any(|token| text.contains(token))
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

    fn opened() -> (Grants, GrantId, String) {
        let mut grants = Grants::default();
        let scopes = ScopeSet::parse("a:b:c").unwrap();
        let grant = grants.open(Consent { user: 1001, scopes });
        let (token, number) = grants.issue(grant, None);
        assert_eq!((number, grants.number(&token)), (1, Some(1)));
        (grants, grant, token)
    }

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_refresh_token_is_good_once() {
        let (mut grants, grant, token) = opened();
        assert_eq!(
            grants.worth(&token, Duration::ZERO, at(0)),
            Worth::Good(grant)
        );
        grants.spend(&token, at(0));
        assert_eq!(
            grants.worth(&token, Duration::ZERO, at(0)),
            Worth::Spent(grant)
        );
        assert_eq!(
            grants.worth("made up", Duration::ZERO, at(0)),
            Worth::Nothing
        );
    }

    #[test]
    fn grace_counts_from_the_first_use_and_ends_when_the_successor_is_used() {
        let (mut grants, grant, token) = opened();
        grants.spend(&token, at(0));
        let (next, _) = grants.issue(grant, Some(&token));
        assert_eq!(grants.worth(&token, GRACE, at(9)), Worth::Good(grant));
        grants.spend(&token, at(9));
        assert_eq!(grants.worth(&token, GRACE, at(10)), Worth::Spent(grant));
        grants.spend(&next, at(9));
        assert_eq!(grants.worth(&token, GRACE, at(9)), Worth::Spent(grant));
    }

    #[test]
    fn with_its_grant_a_refresh_token_ends() {
        let (mut grants, grant, token) = opened();
        assert!(grants.close(grant) && !grants.close(grant));
        assert_eq!(grants.worth(&token, Duration::ZERO, at(0)), Worth::Nothing);
        assert_eq!(grants.consent(grant), None);
        assert!(grants.stand_in(&format!("a line with {token} in it")));
    }

    #[test]
    fn the_oldest_tokens_make_room() {
        let (mut grants, grant, token) = opened();
        for _ in 0..MAX_TOKENS {
            grants.issue(grant, None);
        }
        assert_eq!(grants.number(&token), None);
        assert_eq!(grants.tokens.len(), MAX_TOKENS);
    }
}
