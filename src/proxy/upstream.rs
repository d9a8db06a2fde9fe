//! The client that sends requests to one LMS, for one worker.
//!
//! Everything here lives on one thread: no lock, and no atomic but those of the metrics (and of
//! hyper's hook for interim responses). A connection carries one request at a time and is shared
//! by nobody, so what one application does cannot reach another's exchange.
//!
//! What is sent again, and what never is:
//!
//! | what happened | what follows |
//! | --- | --- |
//! | a pooled connection closed before a byte of the request left | sent on another one, whatever the method |
//! | a pooled connection died after that, with no byte of an answer | a GET, HEAD or OPTIONS without a streaming body is sent once more, on a new connection (RFC 9110 section 9.2.2) |
//! | anything else, and everything on a new connection | an error |

mod attempt;
mod connection;
mod error;
mod framing;
mod idle;
mod metrics;
mod pool;
mod raw;
mod request_body;
mod switched;
mod upload;
mod upstream_body;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::UPGRADE};
use tokio::time::{Instant, timeout_at};

pub use error::{BodyFault, ErrorKind, UpstreamError, Violation};
pub use metrics::{RetryReason, UpstreamFamilies, UpstreamMetrics};
pub use raw::{Io, Raw};
pub use request_body::RequestBody;
pub use switched::{Place, Switched};
pub use upstream_body::UpstreamBody;

use super::UpstreamParams;
use crate::{clock::Clock, dial::Dialer, random};
use attempt::{Asked, Limits};
use connection::Connection;
use idle::later;
use pool::Pool;

/// Age at which a connection is no longer used: a name that moved to another address is noticed
/// within this time.
const MAX_AGE: Duration = Duration::from_secs(300);

/// By how much of itself `MAX_AGE` varies, either way, so that connections do not all end at once.
const AGE_JITTER: f64 = 0.2;

/// How many further pooled connections are tried for a request that came back unsent, before a new
/// one is opened for it.
const POOLED_RESENDS: u32 = 2;

/// The connections of one worker to one upstream. Belongs to one thread, and must be used inside
/// a tokio `LocalRuntime` (or `LocalSet`). Dropping it closes the idle connections.
pub struct UpstreamClient {
    dialer: Dialer,
    limits: Limits,
    pool: Rc<Pool>,
    metrics: UpstreamMetrics,
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
        Self {
            dialer: params.dialer.clone(),
            limits: Limits {
                response: params.response_timeout,
                idle: params.idle_timeout,
            },
            pool: Pool::new(
                max_connections,
                params.pool_idle_timeout,
                clock,
                metrics.clone(),
            ),
            metrics: metrics.clone(),
        }
    }

    /// Sends one request and waits for the head of its response. The fields are already right:
    /// Host, no hop-by-hop; the target is in origin-form. Framing fields are set here, from the body.
    /// `authorize` adds the credential: before each attempt, when there is a connection for it, so that
    /// none goes out that has expired while the request waited. `again` makes the same request once more,
    /// where its body is at hand: for one that was lost on a connection that had been closed meanwhile.
    ///
    /// A request with `Upgrade` may be answered with a 101 that names the same protocol. The body of that
    /// response is [`switched`](UpstreamBody::switched).
    ///
    /// Dropping the future closes the connection at once, and so does dropping the response's body
    /// before its end.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; it has been counted. [`UpstreamError::Body`] is the application's fault.
    /// What `authorize` says is passed on, and then nothing has been sent, or not again.
    pub async fn send_with<E: From<UpstreamError>>(
        &self,
        mut request: Request<RequestBody>,
        mut authorize: impl AsyncFnMut(&mut HeaderMap) -> Result<(), E>,
        again: impl Fn() -> Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, E> {
        framing::declare(&mut request);
        let protocol = request.headers().get(UPGRADE).cloned();
        let failed = |error: UpstreamError| {
            self.metrics.failed(&error);
            E::from(error)
        };
        let mut deadline = later(Instant::now(), self.dialer.timeout);
        let mut lease = Pool::acquire(&self.pool, deadline)
            .await
            .ok_or_else(|| failed(UpstreamError::Saturated))?;
        let mut came_back = 0;
        loop {
            let (mut connection, reused) = match lease.take() {
                Some(pooled) => (pooled, true),
                // Rare, and too large to make room for in every request.
                None => (
                    Box::pin(self.connect(deadline)).await.map_err(failed)?,
                    false,
                ),
            };
            authorize(request.headers_mut()).await?;
            let may_be_lost = reused && changes_nothing(request.method());
            let upload = request.body().upload();
            let raw = protocol.is_some().then(|| connection.raw());
            let asked = Asked {
                upload: upload.as_deref(),
                protocol: protocol.as_ref(),
                limits: self.limits,
            };
            let result = attempt::head(&mut connection, request, asked).await;
            request = match result {
                Ok((response, took)) => {
                    self.metrics.answered(took);
                    lease.put(connection);
                    let has_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    return Ok(response.map(|body| match raw.filter(|_| has_switched) {
                        Some(raw) => UpstreamBody::none(body, Switched::new(raw, lease)),
                        None => UpstreamBody::new(body, lease, self.limits.idle, upload),
                    }));
                }
                Err(attempt::Failure::Unsent(request, _)) if reused => {
                    self.metrics.retried(RetryReason::Unsent);
                    came_back += 1;
                    if came_back <= POOLED_RESENDS {
                        lease.take_idle();
                    }
                    *request
                }
                Err(failure @ attempt::Failure::Silent(_)) if may_be_lost => {
                    let mut request = again().ok_or_else(|| failed(failure.into()))?;
                    self.metrics.retried(RetryReason::Reset);
                    framing::declare(&mut request);
                    request
                }
                Err(failure) => return Err(failed(failure.into())),
            };
            drop(connection);
            deadline = later(Instant::now(), self.dialer.timeout);
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, UpstreamError> {
        let dialled = match timeout_at(deadline, self.dialer.dial()).await {
            Ok(dialled) => dialled,
            Err(_elapsed) => Err(crate::dial::DialError::Timeout(self.dialer.timeout)),
        };
        let (stream, phases) = dialled.inspect_err(|error| self.metrics.connect_failed(error))?;
        self.metrics.connected(phases, self.dialer.origin.tls);
        let pool = Rc::downgrade(&self.pool);
        let on_close = move || {
            if let Some(pool) = pool.upgrade() {
                pool.forget_closed();
            }
        };
        Connection::open(stream, later(Instant::now(), age()), on_close)
            .await
            .map_err(UpstreamError::Reset)
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
