//! What one worker thread has for itself.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use http::HeaderValue;

use super::{
    LogRequests, Proxy, Upstream,
    headers::{RequestRules, Via},
    request_id::RequestIds,
    upstream::{UpstreamClient, UpstreamMetrics},
};
use crate::{random, telemetry::LogQuota};

/// How many requests without the caller key get a log line at once, and one in how long later.
const STRANGERS_AT_ONCE: u32 = 10;
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

/// How often a dead token is worth a line.
const DEAD_TOKEN_INTERVAL: Duration = Duration::from_secs(60);

/// Our name in `Via` (RFC 9110 section 7.6.3): random, so that two bursars in a row are no loop.
#[derive(Clone, Debug)]
pub(super) struct Pseudonym(Arc<str>);

/// The state of one worker under one generation of the configuration. Belongs to its thread.
pub(super) struct Worker {
    /// What it shares with the other workers.
    pub(super) proxy: Arc<Proxy>,
    /// By the number of the upstream.
    pub(super) lanes: Vec<Lane>,
    /// Ours.
    pub(super) pseudonym: Pseudonym,
    /// Numbers the requests.
    pub(super) ids: RequestIds,
    /// Counts the requests of which one in so many is logged.
    sampled: Cell<u32>,
    /// For requests without the caller key.
    strangers: LogQuota,
}

/// The way to one upstream.
pub(super) struct Lane {
    /// Its settings, policy and tokens.
    pub(super) upstream: Arc<Upstream>,
    /// This worker's connections to it. A later generation that reaches it in the same way goes on with them.
    pub(super) client: Rc<UpstreamClient>,
    /// What that client counts.
    pub(super) metrics: UpstreamMetrics,
    /// What becomes of the fields of its requests.
    pub(super) rules: RequestRules,
    /// For tokens that the LMS says are dead, and that nobody but a person can replace.
    pub(super) dead_tokens: LogQuota,
}

impl Pseudonym {
    /// A new one, for the whole process.
    pub(super) fn random() -> Self {
        let id = random::id128();
        Self(format!("bursar-{}", id.get(..8).unwrap_or_default()).into())
    }

    /// As it stands in `Via`.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Worker {
    /// One of `proxy.server.workers`.
    pub(super) fn new(proxy: Arc<Proxy>, pseudonym: Pseudonym) -> Self {
        Self::succeeding(&[], proxy, pseudonym)
    }

    /// The same worker under the next generation.
    pub(super) fn next(&self, proxy: Arc<Proxy>) -> Self {
        Self::succeeding(&self.lanes, proxy, self.pseudonym.clone())
    }

    fn succeeding(former: &[Lane], proxy: Arc<Proxy>, pseudonym: Pseudonym) -> Self {
        let workers = proxy.server.workers.max(1);
        let subject_headers = proxy.subject_headers();
        let lane = |upstream: &Arc<Upstream>| {
            let params = &upstream.params;
            let share = (params.max_connections / workers).max(1);
            let kept = former.iter().find(|lane| {
                lane.upstream.params.name == params.name && lane.client.suits(params, share)
            });
            let (client, metrics) = match kept {
                Some(lane) => (Rc::clone(&lane.client), lane.metrics.clone()),
                None => {
                    let metrics = proxy.metrics.connections(&params.name);
                    let clock = Arc::clone(&proxy.clock);
                    let client = UpstreamClient::new(params, share, clock, &metrics);
                    (Rc::new(client), metrics)
                }
            };
            Lane {
                upstream: Arc::clone(upstream),
                client,
                metrics,
                rules: RequestRules {
                    host: field_value(params.dialer.origin.authority()),
                    via: Via::new(pseudonym.as_str()),
                    cookies: params.cookies,
                    subject_headers: subject_headers.clone(),
                },
                dead_tokens: LogQuota::new(1, DEAD_TOKEN_INTERVAL),
            }
        };
        Self {
            lanes: proxy.upstreams.iter().map(lane).collect(),
            ids: RequestIds::new(),
            sampled: Cell::new(0),
            strangers: LogQuota::new(STRANGERS_AT_ONCE, STRANGER_INTERVAL),
            pseudonym,
            proxy,
        }
    }

    /// Whether a request without the caller key gets a log line, and how many have got none since the last one. Whoever
    /// guesses keys must not fill the log with it.
    pub(super) fn admits_stranger_to_log(&self) -> Option<u64> {
        self.strangers.take(self.proxy.clock.now().boot)
    }

    /// Whether a request gets a log line; `notable`: it was denied or failed.
    pub(super) fn is_logged(&self, notable: bool) -> bool {
        notable
            || match self.proxy.server.log_requests {
                LogRequests::Denied => false,
                LogRequests::All => true,
                LogRequests::OneIn(many) => {
                    let count = self.sampled.get().wrapping_add(1);
                    self.sampled.set(count);
                    count.checked_rem(many) == Some(0)
                }
            }
    }
}

/// `text` is a host name with a port: always a field value.
fn field_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_a_token_and_differs_between_processes() {
        let pseudonym = Pseudonym::random();
        assert_eq!(pseudonym.as_str().len(), "bursar-".len() + 8);
        assert_ne!(pseudonym.as_str(), Pseudonym::random().as_str());
    }
}
