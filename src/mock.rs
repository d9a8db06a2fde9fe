//! A simulated Brightspace with its authorization server, for demonstrations and for the tests of applications.
//!
//! It speaks the server-to-server flow as the real one does on the wire: `client_credentials` with a
//! client assertion (RFC 7523) or a secret, scopes narrowed without a word, the routes and scopes of
//! D2L's public table, and its 401, 403, 404 and 429 answers. It judges with rules of its own,
//! `catalogue` and `scopes`, instead of borrowing those of bursar's policy: a second opinion is
//! worth having only if it is independent.
//!
//! [`Mock::start`] runs it inside a test, `bursar mock` on its own. [`Control`] steers it, [`Counters`]
//! say what reached it. It is reachable on loopback only, and nothing that it issues is worth anything.
//!
//! Where nothing is publicly known about the real service, the mock takes the stricter reading: what
//! passes here should pass there.

mod api;
mod assertion;
mod catalogue;
mod client_auth;
mod control;
mod counters;
mod exchange;
mod keys;
mod refusal;
mod reply;
mod resources;
mod scopes;
mod store;
#[cfg(test)]
mod tests;
mod token_endpoint;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    clock::{Clock, SystemClock},
    scope::ScopeSet,
    secret::SecretString,
};
pub use control::{Control, Gate};
pub use counters::Counters;
pub use exchange::exchange;
pub use keys::{KeySet, KeySetError, KeySource};
use store::State;

/// The path of the token endpoint, the real one's.
pub const TOKEN_PATH: &str = "/core/connect/token";

/// What is simulated.
#[derive(Clone)]
pub struct MockParams {
    /// Where to listen: loopback; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one application that is registered.
    pub client: RegisteredClient,
    /// How long a token lives. Brightspace allows 30 minutes to 20 hours; here anything from a second up.
    pub token_lifetime: Duration,
    /// Credits that the application may spend in a minute; a call costs 10.
    pub credits_per_minute: u32,
    /// What an assertion's `aud` may be, besides the mock's own token URL.
    pub audiences: Vec<String>,
    /// What decides about the lives of tokens and assertions.
    pub clock: Arc<dyn Clock>,
}

/// An application as its LMS administrator registers it.
#[derive(Clone)]
pub struct RegisteredClient {
    /// `client_id`.
    pub id: String,
    /// For `client_secret_basic`; `None` refuses it.
    pub secret: Option<SecretString>,
    /// What `private_key_jwt` is verified with.
    pub keys: KeySource,
    /// The most that a token is granted.
    pub scopes: ScopeSet,
}

impl MockParams {
    /// The mock for `client` on a free port of 127.0.0.1, otherwise as Brightspace is by default: 50,000
    /// credits a minute, tokens of 30 minutes, and both audiences that are seen in the wild.
    #[must_use]
    pub fn new(client: RegisteredClient) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            client,
            token_lifetime: Duration::from_mins(30),
            credits_per_minute: 50_000,
            audiences: vec![
                "https://auth.brightspace.com/core/connect/token".to_owned(),
                "https://api.brightspace.com/auth/token".to_owned(),
            ],
            clock: Arc::new(SystemClock),
        }
    }
}

/// A running mock. Ends, with all its connections, when it is dropped.
pub struct Mock {
    state: Arc<State>,
    server: JoinHandle<()>,
    stop: DropGuard,
}

impl Mock {
    /// Starts on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The address is not loopback ([`io::ErrorKind::InvalidInput`]) or cannot be bound.
    pub async fn start(params: MockParams) -> io::Result<Self> {
        if !params.listen.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a simulated LMS listens on loopback only",
            ));
        }
        let listener = TcpListener::bind(params.listen).await?;
        let state = Arc::new(State::new(params, listener.local_addr()?));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, Arc::clone(&state), stop.clone()));
        Ok(Self {
            state,
            server,
            stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// The LMS's origin: `base_url` of an upstream.
    #[must_use]
    pub fn origin(&self) -> String {
        self.state.origin()
    }

    /// The token endpoint: `token_url` of a credential.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.state.token_url()
    }

    /// Steers it while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.state))
    }

    /// What has reached it so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.counters.borrow().clone()
    }

    /// Waits until what has reached it meets `condition`: a test's way to know without a sleep.
    pub async fn until(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut counters = self.state.counters.subscribe();
        match counters.wait_for(condition).await {
            Ok(met) => met.clone(),
            // The sender lives in `self.state`, so the channel cannot close while we wait.
            Err(_closed) => self.counters(),
        }
    }

    /// Whether `text` holds a token that this mock has issued, be it dead by now: for proofs that nothing leaks.
    #[must_use]
    pub fn finds_token_in(&self, text: &str) -> bool {
        self.state.store().finds_token_in(text)
    }

    /// Stops, and returns when the port is free again.
    pub async fn stop(self) {
        drop(self.stop);
        // It was not aborted and cannot panic on input; and there is nobody left to tell.
        let _ = self.server.await;
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&state)));
                }
                // Out of file descriptors, most likely: give it a moment instead of spinning.
                Err(_exhausted) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    // Without it small answers wait for the peer's delayed acknowledgements; no harm where it fails.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    // A connection that ends badly is the peer's affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let method = request.method().clone();
    // Without the query: its values are nobody's business, not even in a simulation.
    let path = request.uri().path().to_owned();
    let response = if path == TOKEN_PATH {
        token_endpoint::answer(state, request).await
    } else {
        let response = api::answer(state, request).await;
        state.count(|counters| counters.count_api_call(response.status()));
        response
    };
    tracing::info!(status = response.status().as_u16(), "{method} {path}");
    response
}
