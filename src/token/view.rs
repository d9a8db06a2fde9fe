//! What people and machines may know about tokens: readiness, status, scrapes. Never a token.

use std::time::Duration;

use super::{
    cell::{Snapshot, TokenCell},
    gauges::{NEVER, WarmGauges},
};
use crate::{
    clock::Moment,
    scope::{Scope, ScopeSet},
};

/// Whether the warm tokens are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Every warm token has been held at least once.
    pub first_token: bool,
    /// Every warm token is usable now.
    pub token: bool,
    /// The credentials whose warm tokens wait for a person to log in.
    pub awaiting_login: Vec<String>,
}

/// What people may know about one token, or about those of people who are in one state. Serialized into `/api/v1/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TokenView {
    /// The credential's name.
    pub credential: String,
    /// `absent`, `requesting`, `fresh`, `refresh_ahead`, `expired`, `failing`, `parked`, `login_needed`.
    pub state: &'static str,
    /// Whether a request would get it now.
    pub usable: bool,
    /// Count of tokens so far.
    pub generation: u64,
    /// Asked for.
    pub scopes_asked: Vec<String>,
    /// Granted, where the AS granted less.
    pub scopes_granted: Option<Vec<String>>,
    /// Unix seconds.
    pub issued_at: Option<f64>,
    /// Unix seconds.
    pub expires_at: Option<f64>,
    /// Seconds until the next token request.
    pub next_request_in_seconds: Option<f64>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// What the last failure was, in words without secrets.
    pub last_failure: Option<String>,
    /// Local minus server.
    pub clock_skew_seconds: Option<f64>,
    /// Kept warm without traffic.
    pub warm: bool,
    /// Where each person has a token: of how many this speaks, of the worst of them in each respect. Never of whom.
    pub people: Option<u64>,
}

/// What is scraped of one warm token.
#[must_use]
pub fn gauges(snapshot: &Snapshot, now: Moment) -> WarmGauges {
    WarmGauges {
        valid: snapshot.is_usable(),
        expiry: snapshot
            .held
            .as_ref()
            .map_or(Duration::ZERO, |held| held.expiry(now).unwrap_or(NEVER)),
        issued: snapshot
            .held
            .as_ref()
            .map_or(Duration::ZERO, |held| held.token.issued.wall),
        last_success: snapshot.status.last_success.unwrap_or_default(),
        consecutive_failures: snapshot.failures(),
        needs_login: snapshot.status.login_needed().is_some(),
    }
}

impl TokenView {
    /// Reads it from its cell.
    #[must_use]
    pub fn new(cell: &TokenCell, now: Moment, warm: bool) -> Self {
        let snapshot = cell.snapshot(now);
        let failure = snapshot.status.failure.as_ref();
        let held = snapshot.held.as_ref();
        let token = held.map(|held| &held.token);
        let renewal = held
            .and_then(|held| held.schedule)
            .map(|schedule| schedule.refresh_at.remaining(now));
        let retry = failure.map(|last| last.retry_at.saturating_sub(now.boot));
        Self {
            credential: cell.params().credential.to_string(),
            state: snapshot.status.state(snapshot.freshness),
            usable: snapshot.is_usable(),
            generation: token.map_or(0, |token| token.generation),
            scopes_asked: cell.params().scopes.as_ref().map(texts).unwrap_or_default(),
            scopes_granted: token.and_then(|token| token.granted.as_ref()).map(texts),
            issued_at: token.map(|token| token.issued.wall.as_secs_f64()),
            expires_at: held
                .and_then(|held| held.expiry(now))
                .map(|expiry| expiry.as_secs_f64()),
            next_request_in_seconds: retry.or(renewal).map(|left| left.as_secs_f64()),
            consecutive_failures: snapshot.failures(),
            last_failure: failure.map(|last| last.cause.to_string()),
            clock_skew_seconds: cell.params().skew.seconds(),
            warm,
            people: cell.params().subject.is_some().then_some(1),
        }
    }

    /// Puts those of people that only their times tell apart into one: anybody can be named in a request, and a row for each
    /// would show more than it says.
    pub fn of_people(views: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for view in views {
            match rows.iter_mut().find(|row| row.is_like(&view)) {
                Some(row) => row.absorb(&view),
                None => rows.push(view),
            }
        }
        rows
    }

    fn is_like(&self, other: &Self) -> bool {
        self.people.is_some()
            && other.people.is_some()
            && self.credential == other.credential
            && self.state == other.state
            && self.last_failure == other.last_failure
            && self.scopes_asked == other.scopes_asked
            && self.scopes_granted == other.scopes_granted
    }

    fn absorb(&mut self, other: &Self) {
        self.people = self.people.zip(other.people).map(|(one, more)| one + more);
        self.usable &= other.usable;
        self.generation = self.generation.max(other.generation);
        self.issued_at = earlier(self.issued_at, other.issued_at);
        self.expires_at = earlier(self.expires_at, other.expires_at);
        self.next_request_in_seconds =
            earlier(self.next_request_in_seconds, other.next_request_in_seconds);
        self.consecutive_failures = self.consecutive_failures.max(other.consecutive_failures);
    }
}

fn earlier(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::min)
}

fn texts(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(Scope::to_string).collect()
}
