//! The admin sockets: probes and metrics, control, and the public key set. None of them is the proxy's.
//!
//! | socket | who may call | serves |
//! | --- | --- | --- |
//! | `admin.listen` | anybody, by any name | `/livez`, `/startupz`, `/readyz`, `/metrics` |
//! | `admin.control` | programs on this machine | `/api/v1/status`, `/.well-known/jwks.json` |
//! | | those that show the control key | `POST /-/drain`, `POST /-/reload` |
//! | `admin.jwks_listen` | anybody, by any name | `/.well-known/jwks.json` |
//!
//! Everything else, and everything on the wrong socket, is 404. Nothing here waits for the
//! authorization server or the LMS, and no answer holds a token, a key or a secret.

pub mod build;
mod control;
mod guard;
mod key_set;
mod metrics;
mod process;
mod readiness;
mod reload;
mod reply;
mod routes;
mod server;
mod signing_keys;
mod status;

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus::Registry;

use crate::{
    clock::Clock,
    keys::{KeyView, PublicKeySet},
    secret::AccessKeys,
    socket::Address,
    telemetry::{DropCounter, LogQuota},
    token::{Readiness, TokenView},
};
use metrics::AdminMetrics;
use readiness::Report;
pub use reload::{Changes, NotReloaded, Reason, ReloadProblem, Reloaded};
pub use server::{Addresses, BindError, Listeners, bind, serve};
use status::Refused;
pub use status::{About, UpstreamAbout};

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminParams {
    /// Probes and metrics.
    pub listen: SocketAddr,
    /// API and key set; on this machine.
    pub control: Address,
    /// Who shows one of them may POST; without any, nobody may.
    pub control_keys: Option<AccessKeys>,
    /// The public key set and nothing else.
    pub jwks_listen: Option<SocketAddr>,
    /// What makes `/readyz` say yes.
    pub ready_needs: ReadyNeeds,
}

/// `admin.ready_needs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadyNeeds {
    /// Every warm token once; a later loss does not unready.
    #[default]
    FirstToken,
    /// Every warm token now.
    Token,
    /// Nothing.
    Nothing,
}

/// What the admin sockets ask of the running process, each time anew.
pub trait AdminState: Send + Sync + 'static {
    /// How far the process has come.
    fn phase(&self) -> Phase;

    /// Whether the warm tokens are there.
    fn readiness(&self) -> Readiness;

    /// What people may know about the tokens.
    fn tokens(&self) -> Vec<TokenView>;

    /// The public halves of the keys that sign, have just signed, or will soon.
    fn key_set(&self) -> CurrentKeys;

    /// What people may know about those keys.
    fn signing_keys(&self) -> Vec<KeyView>;

    /// Begins the drain, as SIGTERM does. Once it has begun nothing more happens.
    fn drain(&self);

    /// Reads the configuration again, and puts all of it into force or nothing.
    fn reload(&self) -> Reloading<'_>;
}

/// The public key set at one moment.
#[derive(Clone, Debug)]
pub struct CurrentKeys {
    /// The keys.
    pub set: PublicKeySet,
    /// The shortest `jwks_max_age` of the credentials that it is for.
    pub max_age: Duration,
}

/// What comes of a reload, later.
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send + 'a>>;

/// The life of the process, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The proxy's listeners are not up yet.
    Starting,
    /// Requests are served.
    Serving,
    /// Shutdown has begun; requests in flight are finished.
    Draining,
}

/// How many refused attempts to control get a log line at once, and one in how long later.
const REFUSALS_AT_ONCE: u32 = 5;
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that the admin sockets answer from.
pub struct Admin {
    configuration: Arc<ArcSwap<Configuration>>,
    /// The last reload, if it was refused.
    refused: ArcSwapOption<Refused>,
    state: Arc<dyn AdminState>,
    registry: Registry,
    metrics: AdminMetrics,
    clock: Arc<dyn Clock>,
    started_at: Duration,
    /// For refused attempts to control.
    refusals: LogQuota,
}

/// What one generation of the configuration makes the admin sockets say.
pub struct Configuration {
    ready_needs: ReadyNeeds,
    control_keys: Option<AccessKeys>,
    about: About,
    loaded_at: Duration,
}

/// Why the admin sockets have nothing to answer from: a bug, not a matter of configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// A metric family of the same name is registered already.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Configuration {
    /// `loaded_at`: since the Unix epoch.
    #[must_use]
    pub fn new(params: AdminParams, about: About, loaded_at: Duration) -> Self {
        Self {
            ready_needs: params.ready_needs,
            control_keys: params.control_keys,
            about,
            loaded_at,
        }
    }
}

impl Admin {
    /// Registers its own metric families into `registry`, and serves all that is registered there.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub fn new(
        configuration: Configuration,
        state: Arc<dyn AdminState>,
        registry: Registry,
        log_drops: DropCounter,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, AdminError> {
        let started_at = clock.now().wall;
        let configuration = Arc::new(ArcSwap::from_pointee(configuration));
        let readiness = {
            let (state, configuration) = (Arc::clone(&state), Arc::clone(&configuration));
            move || Report::new(configuration.load().ready_needs, &*state)
        };
        let signing_keys = {
            let state = Arc::clone(&state);
            move || state.signing_keys()
        };
        let metrics =
            AdminMetrics::register(&registry, readiness, signing_keys, log_drops, started_at)?;
        metrics.describe(&configuration.load());
        Ok(Arc::new(Self {
            configuration,
            refused: ArcSwapOption::empty(),
            state,
            registry,
            metrics,
            clock,
            started_at,
            refusals: LogQuota::new(REFUSALS_AT_ONCE, REFUSAL_INTERVAL),
        }))
    }

    /// Whether these are the keys that are asked for on the control socket.
    #[must_use]
    pub fn asks_for(&self, control_keys: Option<&AccessKeys>) -> bool {
        AccessKeys::is_same(
            self.configuration.load().control_keys.as_ref(),
            control_keys,
        )
    }

    /// Speaks of another configuration from now on. The sockets stay where they are.
    pub fn reloaded(&self, configuration: Configuration) {
        self.metrics.describe(&configuration);
        self.metrics.count_reload(Ok(configuration.loaded_at));
        self.configuration.store(Arc::new(configuration));
        self.refused.store(None);
    }

    /// A configuration was read that did not get into force.
    pub fn not_reloaded(&self, why: &NotReloaded) {
        self.metrics.count_reload(Err(()));
        let problems = why.problems.iter().map(ToString::to_string).collect();
        self.refused.store(Some(Arc::new(Refused::new(
            self.clock.now().wall,
            why.reason,
            problems,
        ))));
    }

    fn readiness(&self) -> Report {
        Report::new(self.configuration.load().ready_needs, &*self.state)
    }
}
