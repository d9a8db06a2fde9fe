//! The metric families of the process itself. What can change is computed when scraped.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, PullingGauge, Registry,
    core::{Collector, Desc},
    proto::{Counter, Metric, MetricFamily, MetricType},
};

use super::{
    Configuration, build, process::ProcessCollector, readiness::Report, signing_keys::SigningKeys,
};
use crate::{keys::KeyView, series, telemetry::DropCounter};

/// The families that are set or counted; the others live in the registry alone.
pub(super) struct AdminMetrics {
    config_info: IntGaugeVec,
    jwks_requests: IntCounterVec,
    reloads: IntCounterVec,
    last_reload_successful: IntGauge,
    last_reload_success: Gauge,
}

impl AdminMetrics {
    /// Registers all families into `registry`.
    pub(super) fn register(
        registry: &Registry,
        readiness: impl Fn() -> Report + Clone + Send + Sync + 'static,
        signing_keys: impl Fn() -> Vec<KeyView> + Send + Sync + 'static,
        log_drops: DropCounter,
        started_at: Duration,
    ) -> Result<Self, prometheus::Error> {
        let build_info = info(
            registry,
            "bursar_build_info",
            "What this binary is.",
            &["version", "revision", "crypto"],
        )?;
        build_info
            .with_label_values(&[build::VERSION, build::REVISION, build::CRYPTO])
            .set(1);

        let is_ready = readiness.clone();
        pulled(
            registry,
            "bursar_ready",
            "Whether /readyz says yes (1) or no (0).",
            move || is_ready().is_ready(),
        )?;
        pulled(
            registry,
            "bursar_draining",
            "Whether shutdown has begun (1) or not (0).",
            move || readiness().is_draining,
        )?;

        let jwks_requests = IntCounterVec::new(
            Opts::new(
                "bursar_jwks_requests_total",
                "Requests for the public key set, by status.",
            ),
            &["code"],
        )?;
        registry.register(Box::new(jwks_requests.clone()))?;
        for code in ["200", "304", "404"] {
            jwks_requests.with_label_values(&[code]);
        }

        registry.register(Box::new(SigningKeys::new(signing_keys)?))?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "bursar_config_reloads_total",
                "Configurations read again, by what came of it.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]);
        }
        let last_reload_successful = IntGauge::new(
            "bursar_config_last_reload_successful",
            "Whether the configuration that was read last is in force (1) or was refused (0).",
        )?;
        registry.register(Box::new(last_reload_successful.clone()))?;
        last_reload_successful.set(1);
        let last_reload_success = Gauge::new(
            "bursar_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
        )?;
        registry.register(Box::new(last_reload_success.clone()))?;
        last_reload_success.set(started_at.as_secs_f64());

        registry.register(Box::new(LogDropped::new(log_drops)?))?;
        registry.register(Box::new(ProcessCollector::new(started_at)?))?;
        Ok(Self {
            config_info: info(
                registry,
                "bursar_config_info",
                "The running configuration.",
                &["hash"],
            )?,
            jwks_requests,
            reloads,
            last_reload_successful,
            last_reload_success,
        })
    }

    /// Says which configuration runs.
    pub(super) fn describe(&self, configuration: &Configuration) {
        let hash = &configuration.about.config_hash;
        self.config_info.with_label_values(&[hash]).set(1);
        series::retain(&self.config_info, |labels| labels.get("hash") == hash);
    }

    /// Counts a reload: when it succeeded, or that it did not.
    pub(super) fn count_reload(&self, outcome: Result<Duration, ()>) {
        let result = if outcome.is_ok() {
            "success"
        } else {
            "failure"
        };
        self.reloads.with_label_values(&[result]).inc();
        self.last_reload_successful.set(outcome.is_ok().into());
        if let Ok(at) = outcome {
            self.last_reload_success.set(at.as_secs_f64());
        }
    }

    /// Counts an answer about the key set.
    pub(super) fn count_key_set_answer(&self, status: StatusCode) {
        self.jwks_requests
            .with_label_values(&[status.as_str()])
            .inc();
    }
}

fn info(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn pulled(
    registry: &Registry,
    name: &str,
    help: &str,
    value: impl Fn() -> bool + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let value = move || if value() { 1.0 } else { 0.0 };
    registry.register(Box::new(PullingGauge::new(name, help, Box::new(value))?))
}

/// `bursar_log_dropped_total`: the log writer counts, this reads.
struct LogDropped {
    desc: Desc,
    drops: DropCounter,
}

impl LogDropped {
    fn new(drops: DropCounter) -> Result<Self, prometheus::Error> {
        Ok(Self {
            desc: Desc::new(
                "bursar_log_dropped_total".to_owned(),
                "Log lines lost because stderr was blocked or could not be written.".to_owned(),
                Vec::new(),
                std::collections::HashMap::new(),
            )?,
            drops,
        })
    }
}

impl Collector for LogDropped {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut value = Counter::default();
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 lines")]
        value.set_value(self.drops.get() as f64);
        let mut metric = Metric::default();
        metric.set_counter(value);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
