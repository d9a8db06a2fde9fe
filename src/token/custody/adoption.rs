//! From the access token in a record to an answer, and back.

use std::time::Duration;

use crate::{
    oauth::{Answer, Injection},
    scope::{Scope, ScopeSet},
    secret::SecretString,
    store::{Access, Record},
};

/// A stored token with less than this share of its lifetime left is not worth adopting: its renewal is due.
const WORTH_ADOPTING: u32 = 5;

/// A token that was stored so far in the future comes from another clock, and says nothing about how long it is good for.
const TOLERATED_STEP: Duration = Duration::from_secs(60);

/// What is asked for in one token request, and what it means where the answer names no scopes.
pub(super) struct Asked {
    /// What the requester wants.
    pub(super) wanted: Option<ScopeSet>,
    /// What goes into the token request: of what is wanted, that which the person has agreed to. More would be `invalid_scope`,
    /// and cost the token for the rest (RFC 6749 section 6).
    pub(super) sent: Option<ScopeSet>,
    /// What the login has, as far as is known.
    agreed: Option<ScopeSet>,
}

impl Asked {
    /// `names_scopes`: whether a token request names any.
    pub(super) fn new(wanted: Option<&ScopeSet>, record: &Record, names_scopes: bool) -> Self {
        let agreed = record.scopes.as_deref().and_then(parse);
        let sent = wanted.filter(|_| names_scopes).map(|wanted| match &agreed {
            Some(agreed) => covered(wanted, agreed),
            None => wanted.clone(),
        });
        Self {
            wanted: wanted.cloned(),
            sent: sent.filter(|sent| !sent.is_empty()),
            agreed,
        }
    }

    /// What a token has whose answer names no scopes; `None`: all that is wanted.
    fn implied(&self) -> Option<ScopeSet> {
        let implied = self.sent.as_ref().or(self.agreed.as_ref())?;
        (self.wanted.as_ref() != Some(implied)).then(|| implied.clone())
    }

    /// Says of an answer what it left unsaid.
    pub(super) fn complete(&self, answer: &mut Answer) {
        if answer.granted.is_none() {
            answer.granted = self.implied();
        }
    }
}

/// The stored access token as the answer that it once was, if it still has some life in it at `now`.
pub(super) fn adopt(access: &Access, asked: &Asked, now: Duration) -> Option<Answer> {
    let lifetime = access.expires.saturating_sub(access.issued);
    let left = access.expires.saturating_sub(now);
    let is_of_our_time = access.issued <= now.saturating_add(TOLERATED_STEP);
    if left <= lifetime / WORTH_ADOPTING || !is_of_our_time {
        return None;
    }
    let mut answer = Answer {
        injection: Injection::bearer(&access.token)?,
        expires_in: Some(lifetime),
        kept_for: Some(now.saturating_sub(access.issued)),
        granted: access.granted.as_deref().and_then(parse),
        refresh_token: None,
        refresh_expires_in: None,
        account: None,
        skew_seconds: None,
    };
    asked.complete(&mut answer);
    Some(answer)
}

/// What is stored of an answer that came for a token request sent at `sent`.
pub(super) fn store(
    answer: &Answer,
    asked: Option<String>,
    sent: Duration,
    default_lifetime: Duration,
) -> Option<Access> {
    let lifetime = answer.expires_in.unwrap_or(default_lifetime);
    Some(Access {
        token: token_of(answer)?,
        asked,
        granted: answer.granted.as_ref().map(ScopeSet::to_string),
        issued: sent,
        expires: sent.saturating_add(lifetime),
    })
}

/// The access token of an answer.
pub(super) fn token_of(answer: &Answer) -> Option<SecretString> {
    let text = std::str::from_utf8(answer.injection.secret()).ok()?;
    Some(SecretString::from(text))
}

fn parse(list: &str) -> Option<ScopeSet> {
    ScopeSet::parse(list).ok()
}

fn covered(wanted: &ScopeSet, agreed: &ScopeSet) -> ScopeSet {
    let covered = wanted.iter().filter(|scope| agreed.covers(scope));
    covered
        .cloned()
        .collect::<Vec<Scope>>()
        .into_iter()
        .collect()
}
