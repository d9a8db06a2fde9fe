//! The counters and histograms of the `bursar_token_*` families. The gauges are in [`super::gauges`].
//!
//! The children of a credential are looked up once, when it is first used: the hot path only adds.

use std::sync::Weak;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tokio::time::Instant;

use super::gauges::{Gauges, Watched};
use crate::{
    oauth::Cause,
    series::{self, Labels},
};

/// Token requests and waits: from a fast AS to the longest `timeout` and `wait` that make sense.
const BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0];

/// `result` of a rotation: its refresh token is on the disk.
const PERSISTED: &str = "persisted";

/// `result` of a rotation: its refresh token is in memory only.
const PERSIST_FAILED: &str = "persist_failed";

/// The `bursar_token_*` families.
pub struct TokenMetrics {
    refreshes: IntCounterVec,
    refresh_duration: HistogramVec,
    lookups: IntCounterVec,
    wait_duration: HistogramVec,
    waiters: IntGaugeVec,
    rotations: IntCounterVec,
    gauges: Gauges,
}

/// The children of one credential.
pub struct CredentialMetrics {
    refreshes: Refreshes,
    refresh_duration: Histogram,
    /// Requests that got a token at once.
    pub hit: IntCounter,
    /// Requests that got at once a token whose renewal is due.
    pub soft_expired: IntCounter,
    /// Requests that got a token after a wait.
    pub waited: IntCounter,
    /// Requests that got none.
    pub failed: IntCounter,
    wait_duration: Histogram,
    waiters: IntGauge,
}

/// One counter per `result`.
struct Refreshes {
    success: IntCounter,
    rejected: IntCounter,
    throttled: IntCounter,
    timeout: IntCounter,
    unreachable: IntCounter,
    invalid_response: IntCounter,
}

/// A request that is held back for a token, for as long as this lives: a caller that goes away stops being counted.
pub struct Waiter<'a> {
    metrics: &'a CredentialMetrics,
    since: Instant,
}

impl TokenMetrics {
    /// Registers the families.
    ///
    /// # Errors
    ///
    /// When `registry` holds one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            refreshes: IntCounterVec::new(
                Opts::new(
                    "bursar_token_refreshes_total",
                    "Token requests by their result.",
                ),
                &["credential", "result"],
            )?,
            refresh_duration: HistogramVec::new(
                HistogramOpts::new(
                    "bursar_token_refresh_duration_seconds",
                    "How long token requests took.",
                )
                .buckets(BUCKETS.to_vec()),
                &["credential"],
            )?,
            lookups: IntCounterVec::new(
                Opts::new(
                    "bursar_token_lookups_total",
                    "How requests got their token.",
                ),
                &["credential", "outcome"],
            )?,
            wait_duration: HistogramVec::new(
                HistogramOpts::new(
                    "bursar_token_wait_duration_seconds",
                    "How long requests were held back for a token.",
                )
                .buckets(BUCKETS.to_vec()),
                &["credential"],
            )?,
            waiters: IntGaugeVec::new(
                Opts::new(
                    "bursar_token_waiters",
                    "Requests held back for a token now.",
                ),
                &["credential"],
            )?,
            rotations: IntCounterVec::new(
                Opts::new(
                    "bursar_refresh_token_rotations_total",
                    "New refresh tokens by whether they could be written down.",
                ),
                &["credential", "result"],
            )?,
            gauges: Gauges::new()?,
        };
        registry.register(Box::new(metrics.refreshes.clone()))?;
        registry.register(Box::new(metrics.refresh_duration.clone()))?;
        registry.register(Box::new(metrics.lookups.clone()))?;
        registry.register(Box::new(metrics.wait_duration.clone()))?;
        registry.register(Box::new(metrics.waiters.clone()))?;
        registry.register(Box::new(metrics.rotations.clone()))?;
        registry.register(Box::new(metrics.gauges.clone()))?;
        Ok(metrics)
    }

    /// The children of the credential `name`, made at 0 where they are new.
    #[must_use]
    pub fn credential(&self, name: &str) -> CredentialMetrics {
        let result = |result| self.refreshes.with_label_values(&[name, result]);
        let outcome = |outcome| self.lookups.with_label_values(&[name, outcome]);
        // Only a credential with a login has any; the others say so with a 0.
        for result in [PERSISTED, PERSIST_FAILED] {
            self.rotations.with_label_values(&[name, result]);
        }
        CredentialMetrics {
            refreshes: Refreshes {
                success: result("success"),
                rejected: result("rejected"),
                throttled: result("throttled"),
                timeout: result("timeout"),
                unreachable: result("unreachable"),
                invalid_response: result("invalid_response"),
            },
            refresh_duration: self.refresh_duration.with_label_values(&[name]),
            hit: outcome("hit"),
            soft_expired: outcome("soft_expired"),
            waited: outcome("waited"),
            failed: outcome("failed"),
            wait_duration: self.wait_duration.with_label_values(&[name]),
            waiters: self.waiters.with_label_values(&[name]),
        }
    }

    /// Takes off the series of credentials that `is_configured` does not know.
    pub fn retain(&self, is_configured: impl Fn(&str) -> bool) {
        let keep = |labels: &Labels<'_>| is_configured(labels.get("credential"));
        series::retain(&self.refreshes, keep);
        series::retain(&self.refresh_duration, keep);
        series::retain(&self.lookups, keep);
        series::retain(&self.wait_duration, keep);
        series::retain(&self.waiters, keep);
        series::retain(&self.rotations, keep);
    }

    /// Counts an attempt to write down a new refresh token of the credential `name`.
    pub fn count_rotation(&self, name: &str, is_persisted: bool) {
        let result = if is_persisted {
            PERSISTED
        } else {
            PERSIST_FAILED
        };
        self.rotations.with_label_values(&[name, result]).inc();
    }

    /// Reads the gauges from `watched` at each scrape, for as long as it lives.
    pub fn watch(&self, watched: Weak<dyn Watched>) {
        self.gauges.watch(watched);
    }
}

impl CredentialMetrics {
    /// Counts a token request that began at `since`; `failure` is `None` for one that brought a token.
    pub fn count_refresh(&self, since: Instant, failure: Option<&Cause>) {
        let refreshes = &self.refreshes;
        let counter = match failure.map(Cause::result) {
            None => &refreshes.success,
            Some("rejected") => &refreshes.rejected,
            Some("throttled") => &refreshes.throttled,
            Some("timeout") => &refreshes.timeout,
            Some("unreachable") => &refreshes.unreachable,
            Some(_) => &refreshes.invalid_response,
        };
        counter.inc();
        self.refresh_duration.observe(since.elapsed().as_secs_f64());
    }

    /// Counts a request as held back until the guard is dropped.
    #[must_use]
    pub fn hold_back(&self) -> Waiter<'_> {
        self.waiters.inc();
        Waiter {
            metrics: self,
            since: Instant::now(),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.metrics.waiters.dec();
        self.metrics
            .wait_duration
            .observe(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::oauth::{OAuthError, Unreachable};

    fn scrape(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn the_families_of_a_credential_are_there_at_zero_before_anything_happens() {
        let registry = Registry::new();
        let metrics = TokenMetrics::new(&registry).unwrap();
        let _d2l = metrics.credential("d2l");
        let text = scrape(&registry);
        for result in [
            "success",
            "rejected",
            "throttled",
            "timeout",
            "unreachable",
            "invalid_response",
        ] {
            let sample =
                format!("bursar_token_refreshes_total{{credential=\"d2l\",result=\"{result}\"}} 0");
            assert!(text.contains(&sample), "{sample}\n{text}");
        }
        for outcome in ["hit", "soft_expired", "waited", "failed"] {
            let sample =
                format!("bursar_token_lookups_total{{credential=\"d2l\",outcome=\"{outcome}\"}} 0");
            assert!(text.contains(&sample), "{sample}\n{text}");
        }
        for sample in [
            "bursar_token_waiters{credential=\"d2l\"} 0",
            "bursar_refresh_token_rotations_total{credential=\"d2l\",result=\"persisted\"} 0",
            "bursar_refresh_token_rotations_total{credential=\"d2l\",result=\"persist_failed\"} 0",
            "bursar_token_refresh_duration_seconds_bucket{credential=\"d2l\",le=\"0.05\"} 0",
            "bursar_token_refresh_duration_seconds_bucket{credential=\"d2l\",le=\"30\"} 0",
            "bursar_token_wait_duration_seconds_count{credential=\"d2l\"} 0",
        ] {
            assert!(text.contains(sample), "{sample}\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_cause_is_counted_under_its_result() {
        let registry = Registry::new();
        let metrics = TokenMetrics::new(&registry).unwrap();
        let d2l = metrics.credential("d2l");
        let causes = [
            None,
            Some(Cause::Rejected(OAuthError::InvalidScope)),
            Some(Cause::Throttled(429)),
            Some(Cause::Timeout(std::time::Duration::from_secs(1))),
            Some(Cause::Unreachable(Unreachable::Dns)),
            Some(Cause::InvalidResponse("no JSON")),
            Some(Cause::Status(500)),
        ];
        for cause in &causes {
            d2l.count_refresh(Instant::now(), cause.as_ref());
        }
        let text = scrape(&registry);
        for (result, count) in [
            ("success", 1),
            ("rejected", 1),
            ("throttled", 1),
            ("timeout", 1),
            ("unreachable", 1),
            ("invalid_response", 2),
        ] {
            let sample = format!("result=\"{result}\"}} {count}\n");
            assert!(text.contains(&sample), "{sample}\n{text}");
        }
    }
}
