//! A simulated LMS with its authorization server, for demonstrations and for the tests of applications.
//!
//! As [`Lms::Brightspace`] it speaks the server-to-server flow as the real one does on the wire: `client_credentials` with
//! a client assertion (RFC 7523) or a secret, scopes narrowed without a word, the routes and scopes of
//! D2L's public table, and its 401, 403, 404 and 429 answers. It judges with rules of its own,
//! `catalogue` and `scopes`, instead of borrowing those of bursar's policy: a second opinion is
//! worth having only if it is independent. It takes calls that are signed with ID keys as well, and hands out a user's key.
//! As [`Lms::Dap`] it is Instructure's identity service and query API, with the pre-signed objects on another origin; as
//! [`Lms::Blackboard`], [`Lms::Canvas`] and [`Lms::Moodle`] those systems' web services; as [`Lms::Ltiaas`] a Brightspace whose tokens a
//! third party hands out.
//!
//! [`Mock::start`] runs it inside a test, `bursar mock` on its own. [`Control`] steers it, or over HTTP its control endpoint
//! (`remote`): both order [`Fault`]s, which `serve` lets happen. [`Counters`] say what reached it.
//! It is reachable on loopback only, and nothing that it issues is worth anything.
//!
//! Where nothing is publicly known about the real service, the mock takes the stricter reading: what
//! passes here should pass there.

mod access;
mod allowance;
mod api;
mod arrived;
mod assertion;
mod authorize;
mod blackboard;
mod bucket;
mod canvas;
mod canvas_site;
mod catalogue;
mod client_auth;
mod consent;
mod control;
mod counters;
mod cut;
mod dap;
mod endpoints;
mod exchange;
mod fault;
mod grants;
mod id_keys;
mod instead;
mod keys;
mod login;
mod login_page;
mod ltiaas;
mod ltiaas_site;
mod moodle;
mod record;
mod refusal;
mod remote;
mod reply;
mod resources;
mod revocation;
mod scopes;
mod serve;
mod shifted;
mod signature;
mod store;
#[cfg(test)]
mod tests;
mod token_endpoint;
mod url_scopes;
mod warehouse;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    clock::{Clock, SystemClock},
    scope::ScopeSet,
    secret::SecretString,
};
pub use canvas_site::CanvasParams;
pub use control::{Control, Gate};
pub use counters::Counters;
pub use exchange::exchange;
pub use fault::{Fault, FaultError, Place};
pub use id_keys::RegisteredIdKeys;
pub use keys::{KeySet, KeySetError, KeySource};
pub use login::{LoginParams, RedirectUri, RedirectUriError, RefreshTokens};
pub use ltiaas_site::LtiaasParams;
pub use moodle::TOKEN as MOODLE_TOKEN;
use record::Tokens as _;
use serve::{Door, serve};
pub use shifted::ShiftedClock;
use store::State;

/// The path of Brightspace's token endpoint, the real one's.
pub const TOKEN_PATH: &str = "/core/connect/token";

/// The path of Brightspace's authorization endpoint, the real one's.
pub const AUTHORIZE_PATH: &str = "/oauth2/auth";

/// The path of Brightspace's revocation endpoint: a guess, as none is publicly known.
pub const REVOCATION_PATH: &str = "/core/connect/revocation";

/// Which LMS is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lms {
    /// D2L Brightspace and its authorization server.
    Brightspace,
    /// Instructure's identity service and Data Access Platform.
    Dap,
    /// Blackboard Learn.
    Blackboard,
    /// Moodle's web services.
    Moodle,
    /// Canvas.
    Canvas,
    /// LTIAAS, with a Brightspace behind it on the same origin.
    Ltiaas,
}

impl Lms {
    /// The path of its token endpoint, the real one's.
    const fn token_path(self) -> &'static str {
        match self {
            Self::Brightspace => TOKEN_PATH,
            Self::Dap => dap::TOKEN_PATH,
            Self::Blackboard => blackboard::TOKEN_PATH,
            Self::Moodle => moodle::TOKEN_PATH,
            Self::Canvas => canvas::TOKEN_PATH,
            Self::Ltiaas => ltiaas::TOKEN_PATH,
        }
    }

    /// The path where people agree; of LTIAAS how it begins.
    const fn authorize_path(self) -> Option<&'static str> {
        match self {
            Self::Brightspace => Some(AUTHORIZE_PATH),
            Self::Canvas => Some(canvas::AUTHORIZE_PATH),
            Self::Ltiaas => Some(ltiaas::START_PATH),
            Self::Dap | Self::Blackboard | Self::Moodle => None,
        }
    }
}

/// What is simulated.
#[derive(Clone)]
pub struct MockParams {
    /// The LMS.
    pub lms: Lms,
    /// Where to listen: loopback; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where pre-signed objects are served (DAP); port 0 takes a free one.
    pub objects: SocketAddr,
    /// Where faults are ordered and requests looked at; `None`: nowhere.
    pub control: Option<SocketAddr>,
    /// The one application that is registered.
    pub client: RegisteredClient,
    /// How people log in (the authorization code grant).
    pub login: LoginParams,
    /// What the Canvas is like.
    pub canvas: CanvasParams,
    /// What the LTIAAS account is like.
    pub ltiaas: LtiaasParams,
    /// How long a token lives. Brightspace allows 30 minutes to 20 hours; here anything from a second up.
    pub token_lifetime: Duration,
    /// Whether calls are not counted against any limit.
    pub is_unlimited: bool,
    /// Faults that are ordered from the start.
    pub faults: Vec<Fault>,
    /// Credits that the application may spend in a minute; a call costs 10.
    pub credits_per_minute: u32,
    /// Calls that the application may make in a day (Blackboard).
    pub calls_per_day: u32,
    /// What signed calls are verified with (Brightspace).
    pub id_keys: RegisteredIdKeys,
    /// The token that an administrator has made (Moodle).
    pub static_token: SecretString,
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
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            lms: Lms::Brightspace,
            listen: free,
            objects: free,
            control: None,
            client,
            login: LoginParams::default(),
            canvas: CanvasParams::default(),
            ltiaas: LtiaasParams::default(),
            is_unlimited: false,
            faults: Vec::new(),
            token_lifetime: Duration::from_mins(30),
            credits_per_minute: 50_000,
            calls_per_day: blackboard::CALLS_PER_DAY,
            id_keys: RegisteredIdKeys::default(),
            static_token: MOODLE_TOKEN.into(),
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
    control: Option<SocketAddr>,
    servers: Vec<JoinHandle<()>>,
    stop: DropGuard,
}

impl Mock {
    /// Starts on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The address is not loopback ([`io::ErrorKind::InvalidInput`]) or cannot be bound.
    pub async fn start(params: MockParams) -> io::Result<Self> {
        let bind = async |address: SocketAddr| {
            if !address.ip().is_loopback() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a simulated LMS listens on loopback only",
                ));
            }
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (lms, address) = bind(params.listen).await?;
        let mut doors = vec![(lms, Door::Lms)];
        let mut objects = None;
        if params.lms == Lms::Dap {
            let (listener, address) = bind(params.objects).await?;
            doors.push((listener, Door::Objects));
            objects = Some(address);
        }
        let mut control = None;
        if let Some(address) = params.control {
            let (listener, address) = bind(address).await?;
            doors.push((listener, Door::Control));
            control = Some(address);
        }
        let state = Arc::new(State::new(params, address, objects));
        let stop = CancellationToken::new();
        let servers = doors.into_iter().map(|(listener, door)| {
            let server = serve(listener, door, Arc::clone(&state), stop.clone());
            tokio::spawn(server)
        });
        Ok(Self {
            servers: servers.collect(),
            state,
            control,
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

    /// The token endpoint: `token_url` of a credential. That of LTIAAS is followed by a platform's id.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.state.token_url()
    }

    /// The authorization endpoint: `authorize_url` of a credential, where the LMS has one.
    #[must_use]
    pub fn authorize_url(&self) -> Option<String> {
        let path = self.state.authorize_path()?;
        Some(format!("{}{path}", self.origin()))
    }

    /// Where its control endpoint is, if it has one.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
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

    /// Whether `text` holds an access token, a refresh token or a code that this mock has issued, be it dead by now, or one of the last
    /// thousand signatures that it has accepted: for proofs that nothing leaks.
    #[must_use]
    pub fn finds_token_in(&self, text: &str) -> bool {
        self.state.store().stand_in(text)
    }

    /// Stops, and returns when the port is free again.
    pub async fn stop(self) {
        drop(self.stop);
        for server in self.servers {
            // It was not aborted and cannot panic on input; and there is nobody left to tell.
            let _ = server.await;
        }
    }
}
