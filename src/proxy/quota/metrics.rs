//! The families of `/metrics` that speak of the LMS's quota, and of the requests that are held because of it.

use std::{sync::OnceLock, time::Duration};

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{Quota, Wait};
use crate::{
    clock::Clock,
    series::{self, Labels},
};

const HOLD_BUCKETS: [f64; 9] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// The families; one set per process. Cheap to clone.
#[derive(Clone)]
pub(in crate::proxy) struct QuotaFamilies {
    throttled: IntCounterVec,
    throttled_until: GaugeVec,
    remaining: GaugeVec,
    reset: GaugeVec,
    cost: CounterVec,
    paced: IntCounterVec,
    waiters: IntGaugeVec,
    wait: HistogramVec,
}

/// The series of one upstream. What depends on a field that not every LMS sends exists from the first one on: a 0 that nobody
/// has said would be an alarm.
pub(in crate::proxy) struct QuotaSeries {
    throttled: IntCounter,
    throttled_until: OnceLock<Gauge>,
    remaining: OnceLock<Gauge>,
    reset: OnceLock<Gauge>,
    cost: OnceLock<Counter>,
    pace: OnceLock<PaceSeries>,
    name: String,
    families: QuotaFamilies,
}

/// The series of the requests that are held.
#[derive(Clone)]
pub(in crate::proxy) struct PaceSeries {
    /// Those that are held now.
    pub(in crate::proxy) waiters: IntGauge,
    /// How long they were.
    pub(in crate::proxy) wait: Histogram,
    /// Sent when their turn came.
    pub(in crate::proxy) held: IntCounter,
    /// Sent on because the wait would be, or was, longer than a request is held.
    pub(in crate::proxy) too_long: IntCounter,
    /// Sent on because there were too many already.
    pub(in crate::proxy) full: IntCounter,
    /// The application left before.
    pub(in crate::proxy) abandoned: IntCounter,
}

impl QuotaFamilies {
    /// Makes the families and registers them.
    ///
    /// # Errors
    ///
    /// When `registry` has a family of one of the names already.
    pub(in crate::proxy) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let upstream = &["upstream"];
        let families = Self {
            throttled: IntCounterVec::new(
                Opts::new(
                    "bursar_upstream_throttled_total",
                    "Answers by which the LMS asks for fewer requests.",
                ),
                upstream,
            )?,
            throttled_until: GaugeVec::new(
                Opts::new(
                    "bursar_upstream_throttled_until_timestamp_seconds",
                    "Until when the LMS last said to wait.",
                ),
                upstream,
            )?,
            remaining: GaugeVec::new(
                Opts::new(
                    "bursar_upstream_rate_limit_remaining",
                    "The last X-Rate-Limit-Remaining of the LMS.",
                ),
                upstream,
            )?,
            reset: GaugeVec::new(
                Opts::new(
                    "bursar_upstream_rate_limit_reset_timestamp_seconds",
                    "When the LMS's quota is whole again, by its last X-Rate-Limit-Reset.",
                ),
                upstream,
            )?,
            cost: CounterVec::new(
                Opts::new(
                    "bursar_upstream_request_cost_total",
                    "What requests have cost of the LMS's quota, by its X-Request-Cost.",
                ),
                upstream,
            )?,
            paced: IntCounterVec::new(
                Opts::new(
                    "bursar_upstream_paced_total",
                    "Requests that came while the LMS asked for fewer, by what became of them.",
                ),
                &["upstream", "outcome"],
            )?,
            waiters: IntGaugeVec::new(
                Opts::new(
                    "bursar_upstream_pace_waiters",
                    "Requests being held back for the LMS's quota.",
                ),
                upstream,
            )?,
            wait: HistogramVec::new(
                HistogramOpts::new(
                    "bursar_upstream_pace_wait_duration_seconds",
                    "How long requests were held back for the LMS's quota.",
                )
                .buckets(HOLD_BUCKETS.to_vec()),
                upstream,
            )?,
        };
        registry.register(Box::new(families.throttled.clone()))?;
        registry.register(Box::new(families.throttled_until.clone()))?;
        registry.register(Box::new(families.remaining.clone()))?;
        registry.register(Box::new(families.reset.clone()))?;
        registry.register(Box::new(families.cost.clone()))?;
        registry.register(Box::new(families.paced.clone()))?;
        registry.register(Box::new(families.waiters.clone()))?;
        registry.register(Box::new(families.wait.clone()))?;
        Ok(families)
    }

    /// Takes off the series of upstreams that `is_configured` does not know.
    pub(in crate::proxy) fn retain(&self, is_configured: impl Fn(&str) -> bool) {
        let keep = |labels: &Labels<'_>| is_configured(labels.get("upstream"));
        series::retain(&self.throttled, keep);
        series::retain(&self.throttled_until, keep);
        series::retain(&self.remaining, keep);
        series::retain(&self.reset, keep);
        series::retain(&self.cost, keep);
        series::retain(&self.paced, keep);
        series::retain(&self.waiters, keep);
        series::retain(&self.wait, keep);
    }

    /// The series of the upstream `name`; those of held requests too, if it `paces`.
    pub(in crate::proxy) fn upstream(&self, name: &str, paces: bool) -> QuotaSeries {
        let series = QuotaSeries {
            throttled: self.throttled.with_label_values(&[name]),
            throttled_until: OnceLock::new(),
            remaining: OnceLock::new(),
            reset: OnceLock::new(),
            cost: OnceLock::new(),
            pace: OnceLock::new(),
            name: name.to_owned(),
            families: self.clone(),
        };
        if paces {
            series.pace();
        }
        series
    }
}

impl QuotaSeries {
    /// Notes what an answer says that has just come.
    pub(in crate::proxy) fn note(&self, quota: &Quota, clock: &dyn Clock) {
        let at = |wait: Duration| clock.now().after(wait).wall.as_secs_f64();
        let families = &self.families;
        let name = &[&self.name];
        if quota.is_throttled {
            self.throttled.inc();
        }
        if let Some(left) = quota.remaining {
            let remaining = || families.remaining.with_label_values(name);
            self.remaining.get_or_init(remaining).set(left);
        }
        if let Some(cost) = quota.cost {
            let total = || families.cost.with_label_values(name);
            self.cost.get_or_init(total).inc_by(cost);
        }
        if let Some(reset) = quota.reset {
            let gauge = || families.reset.with_label_values(name);
            self.reset.get_or_init(gauge).set(at(reset));
        }
        if let Some(Wait::For(wait)) = quota.wait() {
            let gauge = || families.throttled_until.with_label_values(name);
            self.throttled_until.get_or_init(gauge).set(at(wait));
        }
    }

    /// The series of its held requests.
    pub(in crate::proxy) fn pace(&self) -> &PaceSeries {
        self.pace.get_or_init(|| {
            let name = &self.name;
            let families = &self.families;
            let paced = |outcome| families.paced.with_label_values(&[name.as_str(), outcome]);
            PaceSeries {
                waiters: families.waiters.with_label_values(&[name]),
                wait: families.wait.with_label_values(&[name]),
                held: paced("held"),
                too_long: paced("too_long"),
                full: paced("full"),
                abandoned: paced("abandoned"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use prometheus::TextEncoder;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Moment {
            let noon = Duration::from_secs(1_000);
            Moment {
                wall: noon,
                boot: noon,
            }
        }
    }

    fn scrape(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn what_the_lms_has_not_said_has_no_series() {
        let registry = Registry::new();
        let families = QuotaFamilies::register(&registry).unwrap();
        let series = families.upstream("lms", false);
        series.note(&Quota::default(), &Noon);
        assert_eq!(
            scrape(&registry)
                .lines()
                .filter(|line| !line.starts_with('#'))
                .collect::<Vec<_>>(),
            [r#"bursar_upstream_throttled_total{upstream="lms"} 0"#]
        );
    }

    #[test]
    fn costs_add_up_and_times_are_timestamps() {
        let registry = Registry::new();
        let families = QuotaFamilies::register(&registry).unwrap();
        let series = families.upstream("lms", false);
        let quota = Quota {
            remaining: Some(0.5),
            cost: Some(0.75),
            reset: Some(Duration::from_secs(45)),
            ..Quota::default()
        };
        for _ in 0..2 {
            series.note(&quota, &Noon);
        }
        let text = scrape(&registry);
        for line in [
            r#"bursar_upstream_rate_limit_remaining{upstream="lms"} 0.5"#,
            r#"bursar_upstream_request_cost_total{upstream="lms"} 1.5"#,
            r#"bursar_upstream_rate_limit_reset_timestamp_seconds{upstream="lms"} 1045"#,
            r#"bursar_upstream_throttled_until_timestamp_seconds{upstream="lms"} 1045"#,
            r#"bursar_upstream_throttled_total{upstream="lms"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_series_of_held_requests_exist_from_the_start_where_requests_are_held() {
        let registry = Registry::new();
        let families = QuotaFamilies::register(&registry).unwrap();
        let _series = families.upstream("lms", true);
        let text = scrape(&registry);
        for outcome in ["held", "too_long", "full", "abandoned"] {
            let line =
                format!(r#"bursar_upstream_paced_total{{outcome="{outcome}",upstream="lms"}} 0"#);
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(text.contains(r#"bursar_upstream_pace_waiters{upstream="lms"} 0"#));
        families.retain(|_| false);
        assert!(!scrape(&registry).contains("lms"));
    }
}
