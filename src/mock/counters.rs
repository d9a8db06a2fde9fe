//! What has reached the mock, counted.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;

/// The oldest make room beyond this number.
const MAX_REFRESH_TOKENS: usize = 20_000;

/// What has reached the mock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Token requests that arrived, those at a closed [`Gate`](super::Gate) included.
    pub token_requests: u64,
    /// Token requests that were answered with a token.
    pub tokens_issued: u64,
    /// Requests to the authorization endpoint and its consent page.
    pub authorization_requests: u64,
    /// Codes that a consent has brought.
    pub codes_issued: u64,
    /// How often each refresh token came to the token endpoint, by its number: they are counted from 1 as they are issued, with 0 times;
    /// under 0 are those that were never issued.
    pub refresh_tokens: BTreeMap<u64, u64>,
    /// Refresh tokens that came again after they were spent.
    pub refresh_token_reuses: u64,
    /// Grants that ended because a refresh token or a code came again.
    pub grants_revoked: u64,
    /// Requests to the revocation endpoint.
    pub revocations: u64,
    /// Client assertions that were accepted.
    pub assertions: u64,
    /// All other requests by status.
    pub api_calls: BTreeMap<u16, u64>,
    /// How often the client's key set was asked for.
    pub key_set_requests: u64,
    /// Requests for pre-signed objects (DAP).
    pub object_requests: u64,
    /// Requests to which a fault has happened.
    pub faults: u64,
    /// Requests with what must never be sent: a credential at the server of pre-signed objects.
    pub violations: u64,
}

impl Counters {
    /// API calls that were answered with `status`.
    #[must_use]
    pub fn api_calls_with(&self, status: StatusCode) -> u64 {
        self.api_calls.get(&status.as_u16()).copied().unwrap_or(0)
    }

    /// All API calls.
    #[must_use]
    pub fn api_calls_total(&self) -> u64 {
        self.api_calls.values().sum()
    }

    /// Refresh tokens that came to the token endpoint more than once, those that were never issued left out.
    #[must_use]
    pub fn refresh_tokens_presented_again(&self) -> usize {
        let known = self.refresh_tokens.range(1..);
        known.filter(|(_, times)| **times > 1).count()
    }

    pub(super) fn note_refresh_token(&mut self, number: u64, times: u64) {
        if self.refresh_tokens.len() >= MAX_REFRESH_TOKENS {
            self.refresh_tokens.pop_first();
        }
        *self.refresh_tokens.entry(number).or_default() += times;
    }

    pub(super) fn count_api_call(&mut self, status: StatusCode) {
        *self.api_calls.entry(status.as_u16()).or_default() += 1;
    }
}
