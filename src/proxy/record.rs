//! What is known of a request, written down when it is over: metrics, and a log line.
//!
//! A [`Record`] lives exactly as long as its request, first in the handler, then in the answer's body.
//! Whatever ends the request drops the record, and dropping it writes: nothing is lost (P6).

mod recorded;

pub(super) use recorded::Recorded;

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    Upstream,
    in_flight::InFlight,
    metrics::{Decision, UpstreamSeries},
    reject::Rejection,
    request_id::RequestId,
    worker::Worker,
};
use crate::{
    code::Code,
    policy::{CredentialChoice, Denial, Permit, Reason, UNMATCHED},
    scope::{Scope, ScopeSet},
};

/// Longest string of the application's that is logged (R87).
const LONGEST_TEXT: usize = 256;

/// One request.
pub(super) struct Record {
    worker: Rc<Worker>,
    in_flight: InFlight,
    id: RequestId,
    method: Method,
    started: Instant,
    /// Spent waiting for the application, a token or the LMS.
    away: Duration,
    /// The part of it that was spent waiting for the LMS.
    upstream: Duration,
    upstream_index: Option<usize>,
    route: Option<Arc<str>>,
    label_index: Option<usize>,
    template: Option<Arc<str>>,
    credential: CredentialChoice,
    decision: Option<(Decision, Reason)>,
    missing: Vec<Scope>,
    /// What enforcing would have answered, of a request that report mode let through.
    would_be: Option<Code>,
    code: Option<Code>,
    cause: Option<Box<str>>,
    status: Option<StatusCode>,
    token_generation: Option<u64>,
    sent: u64,
    /// Bytes from the application after the end of HTTP.
    tunnelled: u64,
    has_left_unread: bool,
    ending: Ending,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With its last byte.
    Complete,
    /// The application went away, or drain's deadline came.
    Abandoned,
    /// The LMS did not send all of it.
    BrokenOff,
}

impl Ending {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Abandoned => "abandoned",
            Self::BrokenOff => "broken_off",
        }
    }
}

impl Record {
    /// Of a request whose head has just been read.
    pub(super) fn begin(worker: &Rc<Worker>, in_flight: InFlight, method: &Method) -> Self {
        Self {
            worker: Rc::clone(worker),
            in_flight,
            id: worker.ids.next(),
            method: method.clone(),
            started: Instant::now(),
            away: Duration::ZERO,
            upstream: Duration::ZERO,
            upstream_index: None,
            route: None,
            label_index: None,
            template: None,
            credential: CredentialChoice::Upstream,
            decision: None,
            missing: Vec::new(),
            would_be: None,
            code: None,
            cause: None,
            status: None,
            token_generation: None,
            sent: 0,
            tunnelled: 0,
            has_left_unread: false,
            ending: Ending::Abandoned,
        }
    }

    /// `Bursar-Request-Id`.
    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// The connection that it came on.
    pub(super) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Its body will not be read to the end, or may not be: the connection has to end with care.
    pub(super) fn leaves_unread(&mut self) {
        self.has_left_unread = true;
        self.in_flight.leave_unread();
    }

    /// Whether that was said.
    pub(super) fn has_left_unread(&self) -> bool {
        self.has_left_unread
    }

    /// Its Host selected this upstream.
    pub(super) fn chose_upstream(&mut self, index: usize) {
        self.upstream_index = Some(index);
        self.series().in_flight.inc();
    }

    /// The policy allows it, or report mode does.
    pub(super) fn permitted(&mut self, permit: &Permit) {
        let route = permit.route();
        self.route = Some(Arc::clone(&route.label));
        self.label_index = route.label_index;
        self.credential = route.credential;
        match permit.reported() {
            None => {
                self.template = Some(Arc::clone(&route.template));
                self.decision = Some((Decision::Allow, Reason::Ok));
            }
            Some(denial) => {
                self.template.clone_from(&denial.template);
                self.reported(denial);
            }
        }
    }

    /// Report mode lets it through, against this denial.
    pub(super) fn reported(&mut self, denial: &Denial) {
        self.decision = Some((Decision::Report, denial.reason));
        self.missing.clone_from(&denial.missing);
        self.would_be = Some(denial.code);
    }

    /// The policy does not.
    pub(super) fn denied(&mut self, denial: &Denial) {
        self.label_index = denial.label_index;
        self.credential = denial.credential;
        self.template.clone_from(&denial.template);
    }

    /// The same, as what is answered.
    pub(super) fn denial(&mut self, denial: Denial) -> Rejection {
        self.denied(&denial);
        denial.into()
    }

    /// The token that goes with it.
    pub(super) fn uses_token(&mut self, generation: u64) {
        self.token_generation = Some(generation);
    }

    /// Waits for the application or for a token: time that bursar does not add.
    pub(super) async fn waiting<T>(&mut self, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let output = work.await;
        self.away += since.elapsed();
        output
    }

    /// Waits for the LMS.
    pub(super) async fn waiting_for_lms<T>(&mut self, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let output = work.await;
        let waited = since.elapsed();
        self.away += waited;
        self.upstream += waited;
        output
    }

    /// bursar answers. The route is named to the application as well, as far as it is known.
    pub(super) fn rejected(&mut self, rejection: &mut Rejection) {
        if rejection.route.is_none() {
            rejection.route = self.route.take();
        }
        if rejection.route.is_none() && self.upstream_index.is_some() {
            rejection.route = Some(UNMATCHED.into());
        }
        self.route.clone_from(&rejection.route);
        self.code = Some(rejection.code);
        if let Some(reason) = rejection.reason {
            self.decision = Some((Decision::Deny, reason));
            self.missing.clone_from(&rejection.missing);
            self.would_be = None;
        }
        self.cause = rejection.cause.take();
    }

    /// The head of the answer is ready; what bursar itself took until here is its overhead.
    pub(super) fn answers(&mut self, status: StatusCode) {
        self.status = Some(status);
        let overhead = self.started.elapsed().saturating_sub(self.away);
        self.series().overhead.observe(overhead.as_secs_f64());
    }

    /// What passed through the tunnel that it became.
    pub(super) fn carried(&mut self, from_application: u64, from_lms: u64) {
        self.tunnelled = self.tunnelled.saturating_add(from_application);
        self.sent = self.sent.saturating_add(from_lms);
    }

    /// Nothing is missing.
    pub(super) fn completes(&mut self) {
        self.ending = Ending::Complete;
    }

    /// The LMS leaves in the middle.
    pub(super) fn breaks_off(&mut self) {
        self.ending = Ending::BrokenOff;
    }

    /// Bytes that the application has sent.
    fn received(&self) -> u64 {
        self.in_flight.received().saturating_add(self.tunnelled)
    }

    /// The series of its upstream.
    pub(super) fn series(&self) -> &UpstreamSeries {
        self.worker.proxy.metrics.upstream(self.upstream_index)
    }

    fn count(&self, duration: Duration) {
        let series = self.series();
        if self.upstream_index.is_some() {
            series.in_flight.dec();
        }
        series.duration.observe(duration.as_secs_f64());
        series.request_bytes.inc_by(self.received());
        series.response_bytes.inc_by(self.sent);
        series.count_request(self.label_index, self.status);
        let Some((decision, reason)) = self.decision else {
            return;
        };
        series.count_decision(self.label_index, decision, reason);
        if let (Decision::Deny, Some(upstream)) = (decision, self.upstream_of()) {
            for scope in &self.missing {
                series.scope_denied(upstream.credential(self.credential), scope);
            }
        }
    }

    fn upstream_of(&self) -> Option<&Upstream> {
        let lane = self.worker.lanes.get(self.upstream_index?)?;
        Some(&lane.upstream)
    }

    /// Denied, reported or failed.
    fn is_notable(&self) -> bool {
        self.code.is_some()
            || self.would_be.is_some()
            || self.ending != Ending::Complete
            || self.status.is_none_or(|status| status.is_server_error())
    }

    /// `withheld`: how many lines like this one have not been written.
    fn log(&self, duration: Duration, is_notable: bool, withheld: Option<u64>) {
        let upstream = self.upstream_of();
        let (decision, reason) = self.decision.unzip();
        let missing_scopes = (!self.missing.is_empty())
            .then(|| ScopeSet::from_iter(self.missing.iter().cloned()).to_string());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "bursar::access",
                    request_id = self.id.as_str(),
                    upstream = upstream.map(|upstream| &*upstream.params.name),
                    route = self.route.as_deref(),
                    method = capped(self.method.as_str()),
                    path = self.template.as_deref(),
                    status = self.status.map(|status| status.as_u16()),
                    code = self.code.map(Code::as_str),
                    decision = decision.map(Decision::as_str),
                    reason = reason.map(Reason::as_str),
                    would_be = self.would_be.map(Code::as_str),
                    missing_scopes,
                    cause = self.cause.as_deref(),
                    ending = self.ending.as_str(),
                    duration_ms = milliseconds(duration),
                    upstream_ms = milliseconds(self.upstream),
                    bytes_in = self.received(),
                    bytes_out = self.sent,
                    credential = upstream.map(|upstream| &**upstream.credential(self.credential)),
                    token_generation = self.token_generation,
                    lines_withheld = withheld,
                    "request"
                )
            };
        }
        if is_notable {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.count(duration);
        let is_notable = self.is_notable();
        let mut withheld = None;
        if self.code == Some(Code::ClientUnauthenticated) {
            withheld = self.worker.admits_stranger_to_log();
            if withheld.is_none() {
                return;
            }
        }
        if self.worker.is_logged(is_notable) {
            self.log(duration, is_notable, withheld.filter(|lines| *lines > 0));
        }
    }
}

/// A head that never became a request (or a connection for which there was no seat): counted and logged
/// all the same.
pub(super) fn refused(worker: &Worker, id: RequestId, code: Code, reason: Option<Reason>) {
    let series = worker.proxy.metrics.upstream(None);
    series.count_request(None, Some(code.status()));
    if let Some(reason) = reason {
        series.count_decision(None, Decision::Deny, reason);
    }
    let mut withheld = None;
    if code == Code::ClientUnauthenticated {
        withheld = worker.admits_stranger_to_log();
        if withheld.is_none() {
            return;
        }
    }
    tracing::warn!(
        target: "bursar::access",
        request_id = id.as_str(),
        status = code.status().as_u16(),
        code = code.as_str(),
        decision = reason.map(|_| "deny"),
        reason = reason.map(Reason::as_str),
        lines_withheld = withheld.filter(|lines| *lines > 0),
        "request"
    );
}

/// A method is a token (RFC 9110 section 5.6.2): visible ASCII, so that only its length needs care.
fn capped(text: &str) -> &str {
    text.get(..LONGEST_TEXT).unwrap_or(text)
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Records for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::{
        clock::SystemClock,
        proxy::{
            LogRequests, Proxy, ServerParams,
            metrics::ProxyMetrics,
            progress::{Limits, Progress},
            worker::Pseudonym,
        },
    };
    use prometheus::Registry;
    use std::net::SocketAddr;

    pub(in crate::proxy) fn worker(log_requests: LogRequests) -> Rc<Worker> {
        let second = Duration::from_secs(1);
        let proxy = Proxy {
            server: ServerParams {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
                socket_mode: 0o600,
                allowed_uids: None,
                caller_keys: None,
                hosts: Vec::new(),
                workers: 1,
                max_connections: 1,
                header_timeout: second,
                idle_timeout: second,
                drain_timeout: second,
                log_requests,
            },
            upstreams: Vec::new(),
            metrics: ProxyMetrics::new(&Registry::new(), &[]).unwrap(),
            clock: Arc::new(SystemClock),
        };
        Rc::new(Worker::new(Arc::new(proxy), Pseudonym::random()))
    }

    pub(in crate::proxy) fn record(worker: &Rc<Worker>) -> Record {
        let second = Duration::from_secs(1);
        let progress = Rc::new(Progress::new(Limits {
            header: second,
            idle: second,
        }));
        let mut record = Record::begin(worker, Progress::begin(&progress, false), &Method::GET);
        record.status = Some(StatusCode::OK);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use crate::proxy::LogRequests;

    #[tokio::test]
    async fn which_requests_are_logged_is_a_setting_but_failures_always_are() {
        let worker_of = |setting| worker(setting);
        assert!(!worker_of(LogRequests::Denied).is_logged(false));
        assert!(worker_of(LogRequests::Denied).is_logged(true));
        assert!(worker_of(LogRequests::All).is_logged(false));
        let sampling = worker_of(LogRequests::OneIn(3));
        let logged = (0..9).filter(|_| sampling.is_logged(false)).count();
        assert_eq!(logged, 3);
        assert!(!worker_of(LogRequests::OneIn(0)).is_logged(false));
    }

    #[tokio::test]
    async fn denied_abandoned_and_failed_requests_are_notable() {
        let worker = worker(LogRequests::Denied);
        let complete = || {
            let mut record = record(&worker);
            record.ending = Ending::Complete;
            record
        };
        assert!(!complete().is_notable());

        let mut failed = complete();
        failed.status = Some(StatusCode::BAD_GATEWAY);
        assert!(failed.is_notable());

        let mut denied = complete();
        denied.code = Some(Code::RouteDenied);
        assert!(denied.is_notable());

        assert!(record(&worker).is_notable());
    }

    #[tokio::test]
    async fn a_route_that_is_known_is_named_to_the_application() {
        let worker = worker(LogRequests::Denied);
        let mut record = record(&worker);
        record.route = Some("grades".into());
        let mut rejection = Rejection::new(Code::UpstreamReset, "Gone.");
        record.rejected(&mut rejection);
        assert_eq!(rejection.route.as_deref(), Some("grades"));
        assert_eq!(record.code, Some(Code::UpstreamReset));
    }
}
