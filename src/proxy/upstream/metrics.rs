//! The `bursar_upstream_*` families. The children of each configured upstream are made at start,
//! at zero, and are looked up once.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::error::{ErrorKind, UpstreamError};
use crate::{
    dial::{DialError, Phases},
    series::{self, Labels},
};

const CONNECT_BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

const RESPONSE_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The families; one set per process. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamFamilies {
    errors: IntCounterVec,
    retries: IntCounterVec,
    connections: IntGaugeVec,
    connects: IntCounterVec,
    connect_duration: HistogramVec,
    response_duration: HistogramVec,
}

/// The children of one upstream. Cheap to clone: all workers share them.
#[derive(Clone)]
pub struct UpstreamMetrics(Arc<Children>);

/// The label `reason` of `bursar_upstream_retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The request came back unsent from a pooled connection that had closed.
    Unsent,
    /// A pooled connection died before a byte of an answer.
    Reset,
    /// The LMS said that it had not processed the request (HTTP/2: REFUSED_STREAM, GOAWAY).
    Refused,
    /// The LMS answered 401 to our token, and a fresh token was tried.
    Unauthorized,
    /// The LMS's clock differs from ours, and its time was signed.
    Clock,
}

struct Children {
    errors: Errors,
    retries: Retries,
    connects: Connects,
    phases: PhaseDurations,
    response_duration: Histogram,
    idle: IntGauge,
    active: IntGauge,
}

struct Errors {
    dns: IntCounter,
    connect: IntCounter,
    tls: IntCounter,
    timeout: IntCounter,
    reset: IntCounter,
    protocol: IntCounter,
    saturated: IntCounter,
}

struct Retries {
    unsent: IntCounter,
    reset: IntCounter,
    refused: IntCounter,
    unauthorized: IntCounter,
    clock: IntCounter,
}

struct Connects {
    success: IntCounter,
    dns: IntCounter,
    connect: IntCounter,
    tls: IntCounter,
    timeout: IntCounter,
}

struct PhaseDurations {
    dns: Histogram,
    tcp: Histogram,
    tls: Histogram,
}

impl UpstreamFamilies {
    /// Makes the families and registers them.
    ///
    /// # Errors
    ///
    /// When `registry` has a family of one of the names already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let families = Self {
            errors: IntCounterVec::new(
                Opts::new(
                    "bursar_upstream_errors_total",
                    "Requests that the LMS did not answer, or not wholly.",
                ),
                &["upstream", "kind"],
            )?,
            retries: IntCounterVec::new(
                Opts::new(
                    "bursar_upstream_retries_total",
                    "Requests sent to the LMS once more.",
                ),
                &["upstream", "reason"],
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "bursar_upstream_connections",
                    "Open connections to the LMS.",
                ),
                &["upstream", "state"],
            )?,
            connects: IntCounterVec::new(
                Opts::new(
                    "bursar_upstream_connects_total",
                    "Attempts to connect to the LMS.",
                ),
                &["upstream", "result"],
            )?,
            connect_duration: HistogramVec::new(
                HistogramOpts::new(
                    "bursar_upstream_connect_duration_seconds",
                    "Time that the parts of connecting to the LMS took.",
                )
                .buckets(CONNECT_BUCKETS.to_vec()),
                &["upstream", "phase"],
            )?,
            response_duration: HistogramVec::new(
                HistogramOpts::new(
                    "bursar_upstream_response_duration_seconds",
                    "Time from sending a request to the head of the LMS's response.",
                )
                .buckets(RESPONSE_BUCKETS.to_vec()),
                &["upstream"],
            )?,
        };
        registry.register(Box::new(families.errors.clone()))?;
        registry.register(Box::new(families.retries.clone()))?;
        registry.register(Box::new(families.connections.clone()))?;
        registry.register(Box::new(families.connects.clone()))?;
        registry.register(Box::new(families.connect_duration.clone()))?;
        registry.register(Box::new(families.response_duration.clone()))?;
        Ok(families)
    }

    /// Takes off the series of upstreams that `is_configured` does not know.
    pub fn retain(&self, is_configured: impl Fn(&str) -> bool) {
        let keep = |labels: &Labels<'_>| is_configured(labels.get("upstream"));
        series::retain(&self.errors, keep);
        series::retain(&self.retries, keep);
        series::retain(&self.connections, keep);
        series::retain(&self.connects, keep);
        series::retain(&self.connect_duration, keep);
        series::retain(&self.response_duration, keep);
    }

    /// The children of the upstream `name`, a name from the configuration.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let error = |kind| self.errors.with_label_values(&[name, kind]);
        let retry = |reason| self.retries.with_label_values(&[name, reason]);
        let connect = |result| self.connects.with_label_values(&[name, result]);
        let phase = |phase| self.connect_duration.with_label_values(&[name, phase]);
        UpstreamMetrics(Arc::new(Children {
            errors: Errors {
                dns: error("dns"),
                connect: error("connect"),
                tls: error("tls"),
                timeout: error("timeout"),
                reset: error("reset"),
                protocol: error("protocol"),
                saturated: error("saturated"),
            },
            retries: Retries {
                unsent: retry("unsent"),
                reset: retry("reset"),
                refused: retry("refused"),
                unauthorized: retry("unauthorized"),
                clock: retry("clock"),
            },
            connects: Connects {
                success: connect("success"),
                dns: connect("dns"),
                connect: connect("connect"),
                tls: connect("tls"),
                timeout: connect("timeout"),
            },
            phases: PhaseDurations {
                dns: phase("dns"),
                tcp: phase("tcp"),
                tls: phase("tls"),
            },
            response_duration: self.response_duration.with_label_values(&[name]),
            idle: self.connections.with_label_values(&[name, "idle"]),
            active: self.connections.with_label_values(&[name, "active"]),
        }))
    }
}

impl UpstreamMetrics {
    /// A request was sent once more.
    pub fn retried(&self, reason: RetryReason) {
        let retries = &self.0.retries;
        match reason {
            RetryReason::Unsent => &retries.unsent,
            RetryReason::Reset => &retries.reset,
            RetryReason::Refused => &retries.refused,
            RetryReason::Unauthorized => &retries.unauthorized,
            RetryReason::Clock => &retries.clock,
        }
        .inc();
    }

    /// An exchange failed. Faults of the application are not counted here.
    pub(super) fn failed(&self, error: &UpstreamError) {
        let errors = &self.0.errors;
        let Some(kind) = error.kind() else {
            return;
        };
        match kind {
            ErrorKind::Dns => &errors.dns,
            ErrorKind::Connect => &errors.connect,
            ErrorKind::Tls => &errors.tls,
            ErrorKind::Timeout => &errors.timeout,
            ErrorKind::Reset => &errors.reset,
            ErrorKind::Protocol => &errors.protocol,
            ErrorKind::Saturated => &errors.saturated,
        }
        .inc();
    }

    /// The head of a response came `duration` after its request was sent.
    pub(super) fn answered(&self, duration: Duration) {
        self.0.response_duration.observe(duration.as_secs_f64());
    }

    /// A connection was opened.
    pub(super) fn connected(&self, phases: Phases, tls: bool) {
        self.0.connects.success.inc();
        let durations = &self.0.phases;
        durations.dns.observe(phases.dns.as_secs_f64());
        durations.tcp.observe(phases.tcp.as_secs_f64());
        if tls {
            durations.tls.observe(phases.tls.as_secs_f64());
        }
    }

    /// A connection could not be opened.
    pub(super) fn connect_failed(&self, error: &DialError) {
        let connects = &self.0.connects;
        match error {
            DialError::Dns(_) => &connects.dns,
            DialError::Connect(_) | DialError::Proxy(_) => &connects.connect,
            DialError::Tls(_) | DialError::Alpn(_) => &connects.tls,
            DialError::Timeout(_) => &connects.timeout,
        }
        .inc();
    }

    /// Connections that wait for a request.
    pub(super) fn idle(&self) -> &IntGauge {
        &self.0.idle
    }

    /// Connections with a request on them, those being opened included.
    pub(super) fn active(&self) -> &IntGauge {
        &self.0.active
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn every_child_of_an_upstream_exists_at_zero_from_the_start() {
        let registry = Registry::new();
        let families = UpstreamFamilies::new(&registry).unwrap();
        let _metrics = families.upstream("lms");
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for kind in [
            "dns",
            "connect",
            "tls",
            "timeout",
            "reset",
            "protocol",
            "saturated",
        ] {
            let line =
                format!("bursar_upstream_errors_total{{kind=\"{kind}\",upstream=\"lms\"}} 0\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        for line in [
            "bursar_upstream_retries_total{reason=\"unsent\",upstream=\"lms\"} 0\n",
            "bursar_upstream_retries_total{reason=\"refused\",upstream=\"lms\"} 0\n",
            "bursar_upstream_connections{state=\"idle\",upstream=\"lms\"} 0\n",
            "bursar_upstream_connects_total{result=\"success\",upstream=\"lms\"} 0\n",
            "bursar_upstream_connect_duration_seconds_count{phase=\"tcp\",upstream=\"lms\"} 0\n",
            "bursar_upstream_response_duration_seconds_count{upstream=\"lms\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn the_families_can_be_registered_once_only() {
        let registry = Registry::new();
        UpstreamFamilies::new(&registry).unwrap();
        assert!(UpstreamFamilies::new(&registry).is_err());
    }

    #[test]
    fn a_fault_of_the_application_is_not_counted_against_the_lms() {
        let families = UpstreamFamilies::new(&Registry::new()).unwrap();
        let metrics = families.upstream("lms");
        metrics.failed(&UpstreamError::Body(super::super::BodyFault::Aborted));
        metrics.failed(&UpstreamError::Saturated);
        let count = |kind| families.errors.with_label_values(&["lms", kind]).get();
        assert_eq!(count("saturated"), 1);
        assert_eq!(count("reset"), 0);
    }
}
