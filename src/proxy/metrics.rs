//! The request, policy and upstream families of `/metrics`.
//!
//! Every label value comes from the configuration or from a closed set, so the number of series is
//! bounded (R89). A request finds its counters by number: after the first use of each there is no
//! label to hash and no lock to take.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

use super::{
    quota::{QuotaFamilies, QuotaSeries},
    upstream::{UpstreamFamilies, UpstreamMetrics},
};
use crate::{
    policy::{Mode, Reason, UNMATCHED},
    scope::Scope,
    series::{self, Labels},
};

/// Before an upstream is chosen.
const NO_UPSTREAM: &str = "_none";

/// An application that left before it was answered; nginx's number for it.
const ABANDONED: &str = "499";

const DURATION_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

const OVERHEAD_BUCKETS: [f64; 11] = [
    50e-6, 100e-6, 250e-6, 500e-6, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
];

/// The statuses with a place of their own: 100 to 599.
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 500;

/// How many reasons there are.
const REASONS: usize = 12;

/// What the metrics need to know of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLabels<'a> {
    /// Its name.
    pub name: &'a str,
    /// What becomes of requests that its policy does not allow.
    pub mode: Mode,
    /// The labels of its policy, by their index.
    pub routes: &'a [Arc<str>],
    /// How many of `routes`, from the first, are of explicit routes: their series exist from the start.
    pub explicit: usize,
    /// Whether requests are held while the LMS asks for fewer.
    pub paces: bool,
}

/// The `decision` label of `bursar_policy_decisions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The policy allows it.
    Allow,
    /// The policy does not.
    Deny,
    /// The policy does not, and report mode lets it through.
    Report,
}

impl Decision {
    /// The label's value.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Report => "report",
        }
    }
}

/// The `bursar_http_*`, `bursar_policy_*` and `bursar_upstream_*` families, and the series of one generation of the configuration.
pub struct ProxyMetrics {
    families: Families,
    connections: UpstreamFamilies,
    none: UpstreamSeries,
    upstreams: Vec<UpstreamSeries>,
}

/// The series of one upstream, or of the requests for which none was chosen.
pub(super) struct UpstreamSeries {
    /// `bursar_http_request_duration_seconds`.
    pub(super) duration: Histogram,
    /// `bursar_http_requests_in_flight`.
    pub(super) in_flight: IntGauge,
    /// `bursar_http_request_bytes_total`.
    pub(super) request_bytes: IntCounter,
    /// `bursar_http_response_bytes_total`.
    pub(super) response_bytes: IntCounter,
    /// `bursar_overhead_duration_seconds`.
    pub(super) overhead: Histogram,
    /// `bursar_upstream_unauthorized_total`.
    pub(super) unauthorized: IntCounter,
    /// What speaks of the LMS's quota.
    pub(super) quota: QuotaSeries,
    name: String,
    mode: Mode,
    families: Families,
    routes: Vec<RouteSeries>,
    unmatched: RouteSeries,
}

/// The counters of one route label, each made at its first use.
struct RouteSeries {
    label: Arc<str>,
    by_status: OnceLock<Box<[OnceLock<IntCounter>]>>,
    abandoned: OnceLock<IntCounter>,
    /// For statuses that HTTP does not know.
    strange: OnceLock<IntCounter>,
    by_reason: [OnceLock<IntCounter>; REASONS],
    reported: [OnceLock<IntCounter>; REASONS],
}

/// Cheap to clone: each family is a reference.
#[derive(Clone)]
struct Families {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    overhead: HistogramVec,
    decisions: IntCounterVec,
    scope_denials: IntCounterVec,
    mode: IntGaugeVec,
    unauthorized: IntCounterVec,
    quota: QuotaFamilies,
}

impl ProxyMetrics {
    /// Makes the families, registers them, and makes the series of `upstreams`.
    ///
    /// # Errors
    ///
    /// When `registry` has a family of one of the names already.
    pub fn new(registry: &Registry, upstreams: &[UpstreamLabels<'_>]) -> prometheus::Result<Self> {
        let families = Families::register(registry)?;
        let connections = UpstreamFamilies::new(registry)?;
        Ok(Self::of(families, connections, upstreams))
    }

    /// The same families for the next generation. The series of what stays are the same ones; those of what is new begin at 0.
    #[must_use]
    pub fn next(&self, upstreams: &[UpstreamLabels<'_>]) -> Self {
        Self::of(self.families.clone(), self.connections.clone(), upstreams)
    }

    fn of(
        families: Families,
        connections: UpstreamFamilies,
        upstreams: &[UpstreamLabels<'_>],
    ) -> Self {
        let none = UpstreamLabels {
            name: NO_UPSTREAM,
            mode: Mode::Enforce,
            routes: &[],
            explicit: 0,
            paces: false,
        };
        Self {
            connections,
            none: UpstreamSeries::new(&families, &none),
            upstreams: upstreams
                .iter()
                .map(|labels| {
                    families
                        .mode
                        .with_label_values(&[labels.name, labels.mode.as_str()])
                        .set(1);
                    UpstreamSeries::new(&families, labels)
                })
                .collect(),
            families,
        }
    }

    /// Takes off what earlier generations counted and this one does not name: upstreams, routes, modes, and credentials that
    /// `has_credential` does not know.
    pub fn forget_others(&self, has_credential: impl Fn(&str) -> bool) {
        let known = |labels: &Labels<'_>| self.named(labels.get("upstream"));
        let Families {
            requests,
            duration,
            in_flight,
            request_bytes,
            response_bytes,
            overhead,
            decisions,
            scope_denials,
            mode,
            unauthorized,
            quota,
        } = &self.families;
        for by_route in [requests, decisions] {
            series::retain(by_route, |labels| {
                known(labels).is_some_and(|series| series.has_route(labels.get("route")))
            });
        }
        let is_known = |labels: &Labels<'_>| known(labels).is_some();
        for by_upstream in [request_bytes, response_bytes, unauthorized] {
            series::retain(by_upstream, is_known);
        }
        series::retain(duration, is_known);
        series::retain(overhead, is_known);
        series::retain(in_flight, is_known);
        series::retain(mode, |labels| {
            known(labels).is_some_and(|series| series.mode.as_str() == labels.get("mode"))
        });
        quota.retain(|name| self.named(name).is_some());
        series::retain(scope_denials, |labels| {
            has_credential(labels.get("credential"))
        });
        self.connections.retain(|name| self.named(name).is_some());
    }

    fn named(&self, name: &str) -> Option<&UpstreamSeries> {
        let all = self.upstreams.iter().chain([&self.none]);
        all.into_iter().find(|series| series.name == name)
    }

    /// The series of the connections to the upstream called `name`.
    pub(super) fn connections(&self, name: &str) -> UpstreamMetrics {
        self.connections.upstream(name)
    }

    /// The series of the upstream with this number, or of no upstream.
    pub(super) fn upstream(&self, index: Option<usize>) -> &UpstreamSeries {
        index
            .and_then(|index| self.upstreams.get(index))
            .unwrap_or(&self.none)
    }
}

impl UpstreamSeries {
    fn new(families: &Families, labels: &UpstreamLabels<'_>) -> Self {
        let name = &[labels.name];
        let series = Self {
            duration: families.duration.with_label_values(name),
            in_flight: families.in_flight.with_label_values(name),
            request_bytes: families.request_bytes.with_label_values(name),
            response_bytes: families.response_bytes.with_label_values(name),
            overhead: families.overhead.with_label_values(name),
            unauthorized: families.unauthorized.with_label_values(name),
            quota: families.quota.upstream(labels.name, labels.paces),
            name: labels.name.to_owned(),
            mode: labels.mode,
            families: families.clone(),
            routes: labels
                .routes
                .iter()
                .map(|label| RouteSeries::new(Arc::clone(label)))
                .collect(),
            unmatched: RouteSeries::new(UNMATCHED.into()),
        };
        for index in 0..labels.explicit.min(labels.routes.len()) {
            series.requests(Some(index), Some(StatusCode::OK));
            series.decisions(Some(index), Decision::Allow, Reason::Ok);
            let lacking = match labels.mode {
                Mode::Enforce => Decision::Deny,
                Mode::Report => Decision::Report,
            };
            series.decisions(Some(index), lacking, Reason::Scope);
        }
        series
    }

    /// Counts a request in `bursar_http_requests_total`, by what the application was answered. No
    /// status: it left before.
    pub(super) fn count_request(&self, route: Option<usize>, status: Option<StatusCode>) {
        self.requests(route, status).inc();
    }

    /// Counts a decision in `bursar_policy_decisions_total`.
    pub(super) fn count_decision(&self, route: Option<usize>, decision: Decision, reason: Reason) {
        self.decisions(route, decision, reason).inc();
    }

    fn requests(&self, route: Option<usize>, status: Option<StatusCode>) -> &IntCounter {
        let route = self.route(route);
        let (slot, code) = match &status {
            Some(status) => match route.status(*status) {
                Some(slot) => (slot, status.as_str()),
                None => (&route.strange, "other"),
            },
            None => (&route.abandoned, ABANDONED),
        };
        slot.get_or_init(|| {
            let labels = [&self.name, &*route.label, code];
            self.families.requests.with_label_values(&labels)
        })
    }

    fn decisions(&self, route: Option<usize>, decision: Decision, reason: Reason) -> &IntCounter {
        let route = self.route(route);
        // One reason alone goes with `allow`.
        let slots = match decision {
            Decision::Allow | Decision::Deny => &route.by_reason,
            Decision::Report => &route.reported,
        };
        // Every reason has a place; a test counts them.
        let slot = slots.get(reason as usize);
        slot.unwrap_or(&route.strange).get_or_init(|| {
            let labels = [
                &self.name,
                &*route.label,
                decision.as_str(),
                reason.as_str(),
            ];
            self.families.decisions.with_label_values(&labels)
        })
    }

    /// Counts a scope that was missing, in `bursar_policy_scope_denials_total`.
    pub(super) fn scope_denied(&self, credential: &str, scope: &Scope) {
        self.families
            .scope_denials
            .with_label_values(&[credential, scope.as_str()])
            .inc();
    }

    fn has_route(&self, label: &str) -> bool {
        let mut labels = self.routes.iter().chain([&self.unmatched]);
        labels.any(|route| *route.label == *label)
    }

    fn route(&self, index: Option<usize>) -> &RouteSeries {
        index
            .and_then(|index| self.routes.get(index))
            .unwrap_or(&self.unmatched)
    }
}

impl RouteSeries {
    fn new(label: Arc<str>) -> Self {
        Self {
            label,
            by_status: OnceLock::new(),
            abandoned: OnceLock::new(),
            strange: OnceLock::new(),
            by_reason: [const { OnceLock::new() }; REASONS],
            reported: [const { OnceLock::new() }; REASONS],
        }
    }

    fn status(&self, status: StatusCode) -> Option<&OnceLock<IntCounter>> {
        let slots = self
            .by_status
            .get_or_init(|| (0..STATUSES).map(|_| OnceLock::new()).collect());
        let place = status.as_u16().checked_sub(FIRST_STATUS)?;
        slots.get(usize::from(place))
    }
}

impl Families {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let int_gauge = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(registry, HistogramVec::new(options, &["upstream"])?)
        };
        Ok(Self {
            requests: counter(
                "bursar_http_requests_total",
                "Requests answered to applications, by HTTP status; 499: the application left before.",
                &["upstream", "route", "code"],
            )?,
            duration: histogram(
                "bursar_http_request_duration_seconds",
                "Time from a request's head to the last byte of its answer.",
                &DURATION_BUCKETS,
            )?,
            in_flight: int_gauge(
                "bursar_http_requests_in_flight",
                "Requests being served.",
                &["upstream"],
            )?,
            request_bytes: counter(
                "bursar_http_request_bytes_total",
                "Bytes of requests read from applications, heads included.",
                &["upstream"],
            )?,
            response_bytes: counter(
                "bursar_http_response_bytes_total",
                "Bytes of the bodies answered to applications.",
                &["upstream"],
            )?,
            overhead: histogram(
                "bursar_overhead_duration_seconds",
                "Time added by bursar itself, without waiting for the application, a token or the LMS.",
                &OVERHEAD_BUCKETS,
            )?,
            decisions: counter(
                "bursar_policy_decisions_total",
                "Decisions of policy about requests.",
                &["upstream", "route", "decision", "reason"],
            )?,
            scope_denials: counter(
                "bursar_policy_scope_denials_total",
                "Requests refused because of this scope.",
                &["credential", "scope"],
            )?,
            mode: int_gauge(
                "bursar_policy_mode",
                "1 for the mode in force.",
                &["upstream", "mode"],
            )?,
            unauthorized: counter(
                "bursar_upstream_unauthorized_total",
                "Answers of the LMS that say that a token of ours is no good.",
                &["upstream"],
            )?,
            quota: QuotaFamilies::register(registry)?,
        })
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    fn metrics() -> (Registry, ProxyMetrics) {
        let registry = Registry::new();
        let routes: [Arc<str>; 2] = ["grades".into(), "catalogue:users".into()];
        let labels = UpstreamLabels {
            name: "lms",
            mode: Mode::Enforce,
            routes: &routes,
            explicit: 1,
            paces: false,
        };
        let metrics = ProxyMetrics::new(&registry, &[labels]).unwrap();
        (registry, metrics)
    }

    fn scrape(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn the_series_of_explicit_routes_exist_from_the_start_and_no_others() {
        let (registry, _metrics) = metrics();
        let text = scrape(&registry);
        assert!(
            text.contains(
                r#"bursar_http_requests_total{code="200",route="grades",upstream="lms"} 0"#
            )
        );
        assert!(text.contains(
            r#"bursar_policy_decisions_total{decision="allow",reason="ok",route="grades",upstream="lms"} 0"#
        ));
        assert!(text.contains(r#"bursar_policy_mode{mode="enforce",upstream="lms"} 1"#));
        assert!(!text.contains("catalogue:users"));
        assert!(!text.contains("bursar_upstream_rate_limit_remaining{"));
    }

    #[test]
    fn a_series_is_found_again_by_its_numbers() {
        let (registry, metrics) = metrics();
        let series = metrics.upstream(Some(0));
        for _ in 0..2 {
            series.count_request(Some(1), Some(StatusCode::NOT_FOUND));
            series.count_decision(None, Decision::Deny, Reason::NoRoute);
            series.count_decision(None, Decision::Report, Reason::NoRoute);
        }
        let text = scrape(&registry);
        assert!(text.contains(
            r#"bursar_http_requests_total{code="404",route="catalogue:users",upstream="lms"} 2"#
        ));
        for decision in ["deny", "report"] {
            let sample = format!(
                r#"decisions_total{{decision="{decision}",reason="no_route",route="_unmatched",upstream="lms"}} 2"#
            );
            assert!(text.contains(&sample), "{text}");
        }
    }

    #[test]
    fn what_has_no_upstream_no_status_or_a_strange_one_has_a_series_too() {
        let (registry, metrics) = metrics();
        metrics.upstream(None).count_request(None, None);
        let strange = StatusCode::from_u16(999).unwrap();
        metrics
            .upstream(Some(9))
            .count_request(Some(9), Some(strange));
        let text = scrape(&registry);
        assert!(text.contains(r#"{code="499",route="_unmatched",upstream="_none"} 1"#));
        assert!(text.contains(r#"{code="other",route="_unmatched",upstream="_none"} 1"#));
    }

    #[test]
    fn every_reason_has_a_place() {
        let reasons = [
            Reason::Ok,
            Reason::NoRoute,
            Reason::Method,
            Reason::Scope,
            Reason::Path,
            Reason::Deny,
            Reason::Query,
            Reason::Host,
            Reason::Browser,
            Reason::Framing,
            Reason::Destination,
            Reason::Caller,
        ];
        assert_eq!(reasons.len(), REASONS);
        for reason in reasons {
            assert!((reason as usize) < REASONS);
        }
    }

    #[test]
    fn missing_scopes_are_counted_by_the_credential() {
        let (registry, metrics) = metrics();
        let scope = Scope::parse("a:b:c").unwrap();
        metrics.upstream(Some(0)).scope_denied("d2l", &scope);
        let text = scrape(&registry);
        assert!(
            text.contains(r#"bursar_policy_scope_denials_total{credential="d2l",scope="a:b:c"} 1"#)
        );
    }

    #[test]
    fn a_registry_takes_the_families_once() {
        let (registry, _metrics) = metrics();
        assert!(ProxyMetrics::new(&registry, &[]).is_err());
    }
}
