//! The client that sends requests to one LMS, for one worker.
//!
//! Everything here lives on one thread: no lock of our own, and no atomic but those of the metrics (and of
//! hyper's hook for interim responses). Over HTTP/1.1 a connection carries one request at a time, and over
//! HTTP/2 each request has a stream and a window of its own: what one application does cannot reach
//! another's exchange.
//!
//! What is sent again, and what never is:
//!
//! | what happened | what follows |
//! | --- | --- |
//! | a pooled connection closed before a byte of the request left | sent on another one, whatever the method |
//! | the LMS says that it has not processed the request (HTTP/2: REFUSED_STREAM, or a GOAWAY that names an earlier stream; RFC 9113 section 8.7) | sent again up to twice, whatever the method, unless the body was streaming |
//! | a pooled connection died after that, with no byte of an answer | a GET, HEAD or OPTIONS without a streaming body is sent once more, on another connection (RFC 9110 section 9.2.2) |
//! | the LMS wants it over HTTP/1.1 (HTTP_1_1_REQUIRED) | a GET, HEAD or OPTIONS without a streaming body is sent again over that; other methods are an error. All further requests go over HTTP/1.1 |
//! | anything else, and everything on a new connection | an error |
//!
//! Interim responses (1xx) are passed over. Over HTTP/1.1 their number is bounded; over HTTP/2 hyper drops them
//! one by one without telling, and `response_timeout` bounds them.

mod attempt;
mod connection;
mod ear;
mod error;
mod framing;
mod http2;
mod idle;
mod metrics;
mod pool;
mod raw;
mod request_body;
mod resend;
mod switched;
mod upload;
mod upstream_body;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header::UPGRADE};
use tokio::time::{Instant, timeout_at};

pub use error::{BodyFault, ErrorKind, UpstreamError, Violation};
pub use metrics::{RetryReason, UpstreamFamilies, UpstreamMetrics};
pub use raw::{Io, Raw};
pub use request_body::RequestBody;
pub use switched::{Place, Switched};
pub use upstream_body::UpstreamBody;

use super::{Http2, UpstreamParams};
use crate::{
    clock::Clock,
    dial::{DialError, Dialer},
    random,
};
use attempt::{Asked, Failure, Limits};
use connection::Connection;
use http2::Target;
use idle::later;
use pool::{Late, Lease, Link, Pool, Right, Speaks, Want};
use resend::{Attempt, Resend, Resends};

/// Age at which a connection is no longer used: a name that moved to another address is noticed
/// within this time.
const MAX_AGE: Duration = Duration::from_secs(300);

/// By how much of itself `MAX_AGE` varies, either way, so that connections do not all end at once.
const AGE_JITTER: f64 = 0.2;

/// The connections of one worker to one upstream. Belongs to one thread, and must be used inside
/// a tokio `LocalRuntime` (or `LocalSet`). Dropping it closes the idle connections.
pub struct UpstreamClient {
    dialer: Dialer,
    http2: Cell<Http2>,
    target: Target,
    limits: Limits,
    pool: Rc<Pool>,
    metrics: UpstreamMetrics,
    shape: Shape,
}

/// What a client is made from: one of the same shape does as well.
#[derive(PartialEq)]
struct Shape {
    dialer: Dialer,
    http2: Http2,
    response_timeout: Duration,
    idle_timeout: Duration,
    pool_idle_timeout: Duration,
    max_connections: usize,
}

impl Shape {
    /// `max_connections`: of one worker.
    fn of(params: &UpstreamParams, max_connections: usize) -> Self {
        let UpstreamParams {
            name: _,
            dialer,
            hosts: _,
            listen: _,
            response_timeout,
            idle_timeout,
            pool_idle_timeout,
            max_connections: _,
            http2,
            cookies: _,
            catalogue: _,
            pace: _,
        } = params;
        Self {
            dialer: dialer.clone(),
            http2: *http2,
            response_timeout: *response_timeout,
            idle_timeout: *idle_timeout,
            pool_idle_timeout: *pool_idle_timeout,
            max_connections,
        }
    }
}

impl UpstreamClient {
    /// `max_connections`: this worker's share of the upstream's ceiling; at least 1 is used.
    #[must_use]
    pub fn new(
        params: &UpstreamParams,
        max_connections: usize,
        clock: Arc<dyn Clock>,
        metrics: &UpstreamMetrics,
    ) -> Self {
        let speaks = match params.http2 {
            Http2::Only => Speaks::Http2(http2::MAX_STREAMS),
            Http2::Auto if params.dialer.origin.tls => Speaks::Unknown,
            Http2::Auto | Http2::Never => Speaks::Http1,
        };
        Self {
            dialer: params.dialer.clone(),
            http2: Cell::new(params.http2),
            target: Target::of(&params.dialer.origin),
            limits: Limits {
                response: params.response_timeout,
                idle: params.idle_timeout,
            },
            pool: Pool::new(
                max_connections,
                params.pool_idle_timeout,
                speaks,
                clock,
                metrics.clone(),
            ),
            metrics: metrics.clone(),
            shape: Shape::of(params, max_connections),
        }
    }

    /// Whether one made for `params` would be no different: then its connections stay in use.
    #[must_use]
    pub fn suits(&self, params: &UpstreamParams, max_connections: usize) -> bool {
        self.shape == Shape::of(params, max_connections)
    }

    /// Sends one request and waits for the head of its response. The fields are already right:
    /// Host, no hop-by-hop; the target is in origin-form. Framing fields are set here, from the body as it is then.
    /// `authorize` adds the credential: before each attempt, when there is a connection for it, so that
    /// none goes out that has expired while the request waited. `again` makes the same request once more,
    /// where its body is at hand: for one that was lost or refused, and may be sent again.
    ///
    /// A request with `Upgrade` goes out over HTTP/1.1 and may be answered with a 101 that names the same
    /// protocol. The body of that response is [`switched`](UpstreamBody::switched).
    ///
    /// Dropping the future ends the exchange at once, and so does dropping the response's body before its
    /// end: over HTTP/1.1 by closing the connection, over HTTP/2 by resetting the stream.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; it has been counted. [`UpstreamError::Body`] is the application's fault.
    /// What `authorize` says is passed on, and then nothing has been sent, or not again.
    pub async fn send_with<E: From<UpstreamError>>(
        &self,
        mut request: Request<RequestBody>,
        mut authorize: impl AsyncFnMut(&mut Request<RequestBody>) -> Result<(), E>,
        again: impl Fn() -> Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, E> {
        let protocol = request.headers().get(UPGRADE).cloned();
        let want = match protocol {
            None => Want::Any,
            Some(_) => Want::Own,
        };
        let safe = changes_nothing(request.method());
        let failed = |error: UpstreamError| {
            self.metrics.failed(&error);
            E::from(error)
        };
        let mut deadline = self.connect_deadline();
        let mut lease = self.lease(want, deadline).await.map_err(failed)?;
        let mut resends = Resends::default();
        loop {
            let (mut link, reused) = match lease {
                Lease::Link(link) => (link, true),
                // Rare, and too large to make room for in every request.
                Lease::Right(right) => {
                    let opening = Box::pin(self.connect(right, want, deadline));
                    (opening.await.map_err(failed)?, false)
                }
            };
            authorize(&mut request).await?;
            framing::declare(&mut request);
            let upload = request.body().upload();
            let attempt = Attempt {
                reused,
                shared: link.is_shared(),
                safe,
            };
            let asked = Asked {
                upload: upload.as_deref(),
                protocol: protocol.as_ref(),
                limits: self.limits,
            };
            let mut raw = None;
            let sent = match &mut link {
                Link::Own(own) => {
                    let connection = own.connection();
                    raw = protocol.is_some().then(|| connection.raw());
                    attempt::head(connection, request, asked).await
                }
                // As above: the way over HTTP/1.1 shall not carry it along.
                Link::Shared(stream) => Box::pin(stream.connection().head(request, asked)).await,
            };
            let failure = match sent {
                Ok((response, took)) => {
                    self.metrics.answered(took);
                    let has_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    return Ok(response.map(|body| match raw.filter(|_| has_switched) {
                        Some(raw) => UpstreamBody::none(body, Switched::new(raw, link)),
                        None => UpstreamBody::new(body, link, self.limits.idle, upload),
                    }));
                }
                Err(Failure::NeedsHttp1(error)) if !self.fall_back() => {
                    Failure::Failed(UpstreamError::Reset(error))
                }
                Err(failure) => failure,
            };
            request = match resends.after(failure, attempt).map_err(failed)? {
                Resend::Same(request) => {
                    self.metrics.retried(RetryReason::Unsent);
                    *request
                }
                Resend::Anew(reason, error) => {
                    let request = again().ok_or_else(|| failed(error))?;
                    self.metrics.retried(reason);
                    request
                }
            };
            deadline = self.connect_deadline();
            lease = match link {
                Link::Own(own) => own.replace(resends.may_use_pooled()),
                Link::Shared(stream) => {
                    drop(stream);
                    Box::pin(self.lease(want, deadline)).await.map_err(failed)?
                }
            };
        }
    }

    fn connect_deadline(&self) -> Instant {
        later(Instant::now(), self.dialer.timeout)
    }

    async fn lease(&self, want: Want, deadline: Instant) -> Result<Lease, UpstreamError> {
        Pool::acquire(&self.pool, want, deadline)
            .await
            .map_err(|late| match late {
                Late::Saturated => UpstreamError::Saturated,
                Late::Opening => UpstreamError::Timeout(self.dialer.timeout),
            })
    }

    /// Opens the connection that there is a right to.
    async fn connect(
        &self,
        right: Right,
        want: Want,
        deadline: Instant,
    ) -> Result<Link, UpstreamError> {
        let http2 = match want {
            Want::Any => self.http2.get(),
            Want::Own => Http2::Never,
        };
        let dialled = match timeout_at(deadline, self.dialer.dial(http2.offer())).await {
            Ok(dialled) => dialled,
            Err(_elapsed) => Err(DialError::Timeout(self.dialer.timeout)),
        };
        let (stream, phases) = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                self.metrics.connect_failed(&error);
                right.could_not_open();
                return Err(error.into());
            }
        };
        self.metrics.connected(phases, self.dialer.origin.tls);
        let pool = Rc::downgrade(&self.pool);
        let retire_at = later(Instant::now(), age());
        if http2.is_spoken_on(&stream) {
            let notice = move |notice| {
                if let Some(pool) = pool.upgrade() {
                    Pool::noticed(&pool, notice);
                }
            };
            let connection = http2::Connection::open(stream, self.target.clone(), notice)
                .await
                .map_err(UpstreamError::Reset)?;
            return Ok(Link::Shared(right.share(connection, retire_at)));
        }
        let on_close = move || {
            if let Some(pool) = pool.upgrade() {
                pool.forget_closed();
            }
        };
        let connection = Connection::open(stream, retire_at, on_close)
            .await
            .map_err(UpstreamError::Reset)?;
        Ok(Link::Own(right.put(connection)))
    }

    /// The LMS wants HTTP/1.1: from now on it gets that. Unless it must not: then this is `false`.
    fn fall_back(&self) -> bool {
        if self.http2.get() == Http2::Auto {
            self.http2.set(Http2::Never);
            tracing::warn!(
                upstream = self.target.authority(),
                "the LMS asks for HTTP/1.1 (HTTP_1_1_REQUIRED); it is spoken to in that from now on"
            );
            self.pool.learn(Speaks::Http1);
            self.pool.retire_shared();
        }
        self.http2.get() != Http2::Only
    }
}

impl Drop for UpstreamClient {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// Whether a repetition changes nothing (safe methods, RFC 9110 section 9.2.1).
fn changes_nothing(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn age() -> Duration {
    MAX_AGE.mul_f64(1.0 + AGE_JITTER * (2.0 * random::fraction() - 1.0))
}
