//! The log lines of one token: each event that matters once, and an outage not once per attempt. No line holds a
//! byte of a token or of an answer.

use std::{sync::Arc, time::Duration};

use super::{skew, status::LastFailure};
use crate::{
    oauth::{Cause, LoginNeeded, OAuthError},
    scope::{Scope, ScopeSet},
};

/// Where these lines are filtered: `log.level = "info,bursar::token=debug"`.
const TARGET: &str = "bursar::token";

/// A failure that repeats is said again at least so often.
const REMINDER: Duration = Duration::from_secs(60);

/// What was said of a token so far, so that it is not said again and again.
pub struct Journal {
    credential: Arc<str>,
    /// What is asked for, ready to print.
    scopes: String,
    /// It is one person's, where each has one.
    is_personal: bool,
    last_said: Option<(Cause, Duration)>,
    lifetime_assumed: bool,
    told_of_gap: bool,
    /// The client proves itself with something that has not brought a token yet.
    unproved: bool,
    lost: Vec<Scope>,
}

impl Journal {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(credential: Arc<str>, asked: Option<&ScopeSet>, is_personal: bool) -> Self {
        Self {
            credential,
            scopes: asked.map(ToString::to_string).unwrap_or_default(),
            is_personal,
            last_said: None,
            lifetime_assumed: false,
            told_of_gap: false,
            unproved: false,
            lost: Vec::new(),
        }
    }

    /// A token arrived, after `failures` in a row.
    pub fn received(&mut self, generation: u64, lifetime: Duration, failures: u32) {
        let (credential, lifetime_seconds) = (&*self.credential, lifetime.as_secs());
        self.last_said = None;
        if std::mem::take(&mut self.unproved) {
            tracing::info!(target: TARGET, credential, generation, lifetime_seconds, "the changed credential is good: a token was received with it");
        } else if failures > 0 {
            tracing::info!(target: TARGET, credential, generation, lifetime_seconds, failures, "recovered: a token was received");
        } else if generation == 1 {
            tracing::info!(target: TARGET, credential, generation, lifetime_seconds, "first token received");
        } else {
            tracing::debug!(target: TARGET, credential, generation, lifetime_seconds, "token renewed");
        }
    }

    /// The next token request is the first with another secret, key or CA.
    pub fn asks_with_another_proof(&mut self) {
        self.last_said = None;
        self.unproved = true;
    }

    /// A token request failed. `skew`: how far our clock is off, as known now; `kid`: the key that signed it, if one did.
    pub fn failed(
        &mut self,
        failure: &LastFailure,
        now: Duration,
        skew: Option<f64>,
        kid: Option<&str>,
    ) {
        let credential = &*self.credential;
        let scopes = self.scopes.as_str();
        let LastFailure {
            cause,
            parked,
            in_a_row: failures,
            retry_at,
        } = failure;
        let retry_in_seconds = retry_at.saturating_sub(now).as_secs_f64();
        if self.is_expected(cause) {
            tracing::debug!(target: TARGET, credential, %cause, "a request was refused: its person has to log in first");
            return;
        }
        if !self.is_worth_saying(cause, *failures, now) {
            tracing::debug!(target: TARGET, credential, failures, retry_in_seconds, %cause, "token request failed again");
            return;
        }
        self.last_said = Some((cause.clone(), now));
        // Of no other refusal the key or the clock can be the reason.
        let is_client_refused = *cause == Cause::Rejected(OAuthError::InvalidClient);
        let kid = kid.filter(|_| is_client_refused);
        let clock_skew_seconds = skew.filter(|_| kid.is_some());
        let hint = hint(cause, skew, kid.is_some());
        if let Cause::LoginNeeded(_) = cause {
            tracing::error!(target: TARGET, credential, %cause, "a person has to log in: run `bursar login` with the name of the credential; once no usable token is left, requests are refused with reauthorization_required");
        } else if *parked {
            tracing::error!(target: TARGET, credential, scopes, failures, retry_in_seconds, %cause, kid, clock_skew_seconds, hint, "token parked: the configuration here or the registration there has to change; `bursar check` tells more");
        } else {
            tracing::warn!(target: TARGET, credential, scopes, failures, retry_in_seconds, %cause, hint, "token request failed");
        }
    }

    /// Whether the last answer named no lifetime, so that `assumed` was taken.
    pub fn lifetime(&mut self, is_assumed: bool, assumed: Duration) {
        if is_assumed && !self.lifetime_assumed {
            let (credential, assumed_seconds) = (&*self.credential, assumed.as_secs());
            tracing::warn!(target: TARGET, credential, assumed_seconds, "the answer has no expires_in: default_lifetime is assumed");
        }
        self.lifetime_assumed = is_assumed;
    }

    /// The answer brought the token that was held already, and it ends when it would have. `gap`: how long there is no token to
    /// inject at that end; requests wait for up to `wait`.
    pub fn handed_out_again(&mut self, gap: Duration, wait: Duration) {
        let credential = &*self.credential;
        let gap_seconds = gap.as_secs_f64();
        if gap >= wait && !self.told_of_gap {
            self.told_of_gap = true;
            let hint = "set safety_margin some seconds below wait";
            tracing::warn!(target: TARGET, credential, gap_seconds, hint, "the authorization server hands out one token until it expires, and safety_margin holds it back for longer than requests wait");
        } else {
            tracing::debug!(target: TARGET, credential, gap_seconds, "the authorization server handed out the same token again; the next one is asked for when it has expired");
        }
    }

    /// The scopes that were asked for and not granted.
    pub fn lost_scopes(&mut self, lost: Vec<Scope>) {
        if lost == self.lost {
            return;
        }
        let credential = &*self.credential;
        if lost.is_empty() {
            tracing::info!(target: TARGET, credential, "every scope asked for is granted again");
        } else {
            let scopes = ScopeSet::from_iter(lost.iter().cloned());
            tracing::warn!(target: TARGET, credential, %scopes, "scopes asked for were not granted: routes that need them are refused");
        }
        self.lost = lost;
    }

    /// The clock has turned out to be far off.
    pub fn clock_is_off(&self, skew_seconds: f64) {
        let credential = &*self.credential;
        tracing::warn!(target: TARGET, credential, skew_seconds, "the local clock differs from the authorization server's (positive: ahead)");
    }

    /// Where each person has a login, anybody may be named who has none: that is no event, and each would be one.
    fn is_expected(&self, cause: &Cause) -> bool {
        self.is_personal && *cause == Cause::LoginNeeded(LoginNeeded::Never)
    }

    /// Of failures with one cause the 1st, 2nd, 4th, 8th …, and one in each minute.
    fn is_worth_saying(&self, cause: &Cause, failures: u32, now: Duration) -> bool {
        let Some((said, at)) = &self.last_said else {
            return true;
        };
        said != cause || failures.is_power_of_two() || now.saturating_sub(*at) >= REMINDER
    }
}

/// What a person should look at first.
fn hint(cause: &Cause, skew: Option<f64>, is_signed: bool) -> Option<&'static str> {
    let hint = match cause {
        Cause::Rejected(OAuthError::InvalidClient) if skew.is_some_and(skew::is_large) => {
            "the local clock is far off, and assertions carry its time: set it (NTP); else compare client_id and secret or key with what is registered"
        }
        Cause::Rejected(OAuthError::InvalidClient) if is_signed => {
            "see whether the key set that the authorization server fetches holds this kid (`bursar keys list`, `bursar check`), then compare client_id and audience with what is registered there"
        }
        Cause::Rejected(OAuthError::InvalidClient) => {
            "compare client_id, secret and audience with what is registered at the authorization server"
        }
        Cause::Rejected(OAuthError::UnauthorizedClient | OAuthError::UnsupportedGrantType) => {
            "let the registration of this client allow the credential's grant and auth_method"
        }
        Cause::Rejected(OAuthError::InvalidGrant) => {
            "compare the assertion's client_id, subject, audience and key with what is registered at the authorization server"
        }
        Cause::Rejected(OAuthError::InvalidScope) => {
            "register the scopes for this client, or take them out of the upstream's `scopes`"
        }
        Cause::Rejected(OAuthError::InvalidRequest) => {
            "compare token_url, auth_method and token_params with the documentation of the authorization server"
        }
        Cause::Store(_) => {
            "make the directory of `state` readable and writable for this user, and see whether its disk is full"
        }
        Cause::Unreachable(_) => {
            "see whether token_url is right and reachable from here: `bursar check`"
        }
        Cause::Timeout(_) => {
            "the authorization server is slow, or a firewall drops packets: `bursar check` shows how far it gets"
        }
        Cause::InvalidResponse(_) | Cause::Status(_) => {
            "see whether token_url is right; a proxy or a login page may answer in its place"
        }
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::Captured;

    fn said(causes: &[(Cause, u64)]) -> Vec<bool> {
        let mut journal = Journal::new("d2l".into(), None, false);
        let mut in_a_row = 0;
        causes
            .iter()
            .map(|(cause, at)| {
                in_a_row += 1;
                let now = Duration::from_secs(*at);
                let worth = journal.is_worth_saying(cause, in_a_row, now);
                let failure = LastFailure {
                    cause: cause.clone(),
                    parked: false,
                    in_a_row,
                    retry_at: now,
                };
                journal.failed(&failure, now, None, None);
                worth
            })
            .collect()
    }

    #[test]
    fn a_failure_that_repeats_is_said_at_each_doubling_and_once_a_minute() {
        let down = Cause::Status(503);
        let attempts: Vec<_> = [0, 1, 2, 5, 10, 20, 40, 66, 120, 130]
            .map(|at| (down.clone(), at))
            .into();
        assert_eq!(
            said(&attempts),
            [
                true, true, false, true, false, false, false, true, false, true
            ]
        );
    }

    #[test]
    fn another_cause_is_said_at_once() {
        let attempts = [
            (Cause::Status(503), 0),
            (Cause::Status(503), 1),
            (Cause::Throttled(429), 2),
        ];
        assert_eq!(said(&attempts), [true, true, true]);
    }

    #[test]
    fn a_refused_client_with_a_clock_far_off_is_told_about_the_clock() {
        let refused = Cause::Rejected(OAuthError::InvalidClient);
        assert!(hint(&refused, Some(-31.0), true).unwrap().contains("clock"));
        assert!(!hint(&refused, Some(29.0), true).unwrap().contains("clock"));
    }

    #[test]
    fn a_refused_client_that_signs_is_sent_to_its_key_set_and_no_other_is() {
        let refused = Cause::Rejected(OAuthError::InvalidClient);
        assert!(hint(&refused, None, true).unwrap().contains("kid"));
        assert!(!hint(&refused, None, false).unwrap().contains("kid"));
    }

    #[test]
    fn a_person_who_has_never_logged_in_is_no_event_and_a_login_that_ended_is_one() {
        let text = |cause, is_personal| {
            let (log, _guard) = Captured::listen(tracing::Level::INFO);
            let failure = LastFailure {
                cause: Cause::LoginNeeded(cause),
                parked: true,
                in_a_row: 1,
                retry_at: Duration::ZERO,
            };
            let mut journal = Journal::new("d2l".into(), None, is_personal);
            journal.failed(&failure, Duration::ZERO, None, None);
            log.text()
        };
        // What others have logged at the same time may settle whether a line is of interest; the second time it is known.
        for _ in 0..2 {
            text(LoginNeeded::Refused, true);
        }
        assert_eq!(text(LoginNeeded::Never, true), "");
        assert!(text(LoginNeeded::Refused, true).contains("a person has to log in"));
        assert!(text(LoginNeeded::Never, false).contains("a person has to log in"));
    }
}
