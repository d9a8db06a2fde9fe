//! `/api/v1/status`: what people may know about a running bursar.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{Addresses, Admin, Configuration, Phase, Reason, build, readiness::Check};
use crate::{socket::Address, token::TokenView};

/// What is fixed for the life of a configuration.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The file that the configuration was read from.
    pub config_path: Option<PathBuf>,
    /// A short hash of the configuration, secrets left out.
    pub config_hash: String,
    /// Where applications connect.
    pub listen: Vec<Address>,
    /// Where the admin sockets are.
    pub admin: Addresses,
    /// In the order of the configuration.
    pub upstreams: Vec<UpstreamAbout>,
}

/// One upstream.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamAbout {
    /// Its name in the configuration.
    pub name: String,
    /// `base_url`.
    pub base_url: String,
    /// The name of its credential.
    pub credential: String,
    /// The names of those that routes have for themselves.
    pub route_credentials: Vec<String>,
    /// `enforce` or `report`.
    pub mode: &'static str,
}

/// The last reload, which was refused.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refused {
    /// Unix seconds.
    at: f64,
    reason: &'static str,
    problems: Vec<String>,
}

impl Refused {
    pub(super) fn new(at: Duration, reason: Reason, problems: Vec<String>) -> Self {
        Self {
            at: at.as_secs_f64(),
            reason: reason.as_str(),
            problems,
        }
    }
}

/// The document.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    revision: &'static str,
    phase: Phase,
    ready: bool,
    checks: Vec<Check>,
    /// Unix seconds.
    started_at: f64,
    /// Unix seconds.
    config_loaded_at: f64,
    /// The last reload, if it was refused.
    reload_refused: Option<Refused>,
    #[serde(flatten)]
    about: About,
    tokens: Vec<TokenView>,
}

impl Admin {
    pub(super) fn status(&self) -> Status {
        let report = self.readiness();
        let configuration = self.configuration.load();
        let Configuration {
            about, loaded_at, ..
        } = &**configuration;
        Status {
            version: build::VERSION,
            revision: build::REVISION,
            phase: self.state.phase(),
            ready: report.is_ready(),
            checks: report.checks,
            started_at: self.started_at.as_secs_f64(),
            config_loaded_at: loaded_at.as_secs_f64(),
            reload_refused: self.refused.load().as_deref().cloned(),
            about: about.clone(),
            tokens: self.state.tokens(),
        }
    }
}
