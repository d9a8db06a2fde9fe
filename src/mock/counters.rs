//! What has reached the mock, counted.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;

/// What has reached the mock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Token requests that arrived, those at a closed [`Gate`](super::Gate) included.
    pub token_requests: u64,
    /// Token requests that were answered with a token.
    pub tokens_issued: u64,
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

    pub(super) fn count_api_call(&mut self, status: StatusCode) {
        *self.api_calls.entry(status.as_u16()).or_default() += 1;
    }
}
