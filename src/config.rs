//! The configuration: a [`Config`] that exists is valid.
//!
//! 1. [`locate`] finds the one file: `--config`, `BURSAR_CONFIG`, `./bursar.toml`, XDG, `/etc`.
//! 2. `document` reads it with byte spans and goes on after syntax errors.
//! 3. `environment` turns variables with `__` into settings.
//! 4. figment merges the two and remembers where each value came from (`layers`).
//! 5. `reader` hands out typed values by the table of keys and defaults in `schema`, and notes
//!    each setting with its source. What nobody asked for is an unknown key.
//! 6. `resolve` makes the parameters of the layers below: files read, keys loaded, policies built.
//!
//! `json_schema` tells editors about the table of keys.
//! Which files were read is noted on the way, by content (`inputs`): that is how a running bursar learns that it should read
//! them again. What it cannot take over then is in [`restart`].
//!
//! No step stops at a problem: all of them are reported at once, with key, place, cause and remedy,
//! and never with a secret's value ([`problem`], `redact`).

mod document;
mod environment;
mod inputs;
mod json_schema;
mod layers;
pub mod load;
pub mod locate;
pub mod problem;
mod reader;
mod redact;
mod resolve;
pub mod restart;
mod schema;
pub mod settings;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    admin::AdminParams,
    oauth::Revocation,
    policy::PolicySpec,
    proxy::{ServerParams, UpstreamParams},
    store::StoreParams,
    telemetry::LogParams,
    token::{Ask, Credential},
};

pub use inputs::Inputs;
pub use json_schema::json_schema;
pub use load::{Control, load, load_control};
pub use locate::LoadOptions;
pub use problem::{Problem, ProblemCode, Problems};
pub use settings::{Setting, SettingSource, Settings};

/// A configuration and what is worth knowing about it.
pub struct Loaded {
    /// Valid.
    pub config: Config,
    /// Every setting with its source, secrets left out: for `bursar config show`.
    pub settings: Settings,
    /// What works but deserves a look.
    pub warnings: Vec<Problem>,
    /// The file it was read from; `None`: environment only, or text handed in.
    pub path: Option<PathBuf>,
    /// The files that it was read from, the secrets among them.
    pub inputs: Inputs,
    /// What to read it again with.
    pub options: LoadOptions,
}

/// The whole configuration, checked and resolved: files read, keys loaded, policies built.
pub struct Config {
    /// `[server]`.
    pub server: ServerParams,
    /// `[admin]`.
    pub admin: AdminParams,
    /// `[log]`.
    pub log: LogParams,
    /// `[state]`.
    pub state: StoreParams,
    /// `[credentials.*]`, in the order of the file.
    pub credentials: Vec<Arc<Credential>>,
    /// How logins are taken back, by the credential's name, where somebody knows.
    pub revocations: BTreeMap<Arc<str>, Revocation>,
    /// `[upstreams.*]`, in the order of the file.
    pub upstreams: Vec<UpstreamConfig>,
}

/// One upstream, checked.
pub struct UpstreamConfig {
    /// For the data path.
    pub params: UpstreamParams,
    /// The policy was built from this once already, so building it again cannot fail.
    pub policy: PolicySpec,
    /// Its own credential.
    pub tokens: CredentialUse,
    /// Those that its routes name, in the order of [`Policy::route_credentials`](crate::policy::Policy::route_credentials).
    pub route_tokens: Vec<CredentialUse>,
}

/// A credential and what an upstream asks it for.
pub struct CredentialUse {
    /// The credential.
    pub credential: Arc<Credential>,
    /// What it is asked for.
    pub ask: Ask,
}

impl UpstreamConfig {
    /// All its credentials, its own first.
    pub fn credentials(&self) -> impl Iterator<Item = &CredentialUse> {
        std::iter::once(&self.tokens).chain(&self.route_tokens)
    }
}
