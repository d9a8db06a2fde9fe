//! The only door to a token.
//!
//! One state machine per credential and scope set, run by one task of its own ([`driver`]), so that there is
//! never more than one token request under way for it. Requests read the current token with one atomic
//! load ([`cell`]); only where there is none do they wait, with a deadline.
//!
//! # States
//!
//! | state | what it means | requests |
//! | --- | --- | --- |
//! | `absent` | no token yet, nothing tried | wait |
//! | `requesting` | the first token, or one after an expiry, is being asked for | wait |
//! | `fresh` | usable, renewal not due | served |
//! | `refresh_ahead` | usable, renewal due or under way | served |
//! | `expired` | inside its safety margin or past its expiry | wait |
//! | `failing` | the last token request failed; another follows | served while a token is usable, else wait |
//! | `parked` | the AS refuses this client; asked again every minute | served while a token is usable, else refused |
//! | `login_needed` | a person has to log in | served while a token is usable, else refused |
//!
//! # Files
//!
//! [`broker`] checks the permit and picks the cell, [`pool`] holds the cells of each [`issuer`] from one [`generation`] of
//! the configuration to the next, [`cell`] is the side that requests see,
//! [`driver`] the side that talks to the AS; [`status`] is what the driver tells the requests. [`freshness`] decides
//! when a token is served and renewed. [`subject`] is for whom. [`supplier`] is where
//! the tokens of a credential come from: an AS, asked as [`login`] says with what [`custody`] keeps. [`skew`], [`journal`], [`metrics`], [`gauges`] and [`view`] watch.

pub mod broker;
pub mod cell;
pub mod custody;
pub mod driver;
pub mod freshness;
pub mod gauges;
pub mod generation;
pub mod issuer;
pub mod journal;
pub mod login;
pub mod metrics;
pub mod pool;
pub mod skew;
pub mod status;
pub mod subject;
pub mod supplier;
#[cfg(test)]
mod tests;
pub mod user_key;
pub mod view;

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use crate::{
    clock::Moment,
    oauth::{Cause, ClientParams, Injection, LoginNeeded},
    scope::ScopeSet,
};
pub use broker::{Broker, BrokerGeneration, Brokers, Claim};
pub use custody::Rotations;
pub use login::{LoginParams, RefreshRules};
pub use metrics::TokenMetrics;
pub use subject::{Subject, SubjectError};
pub use user_key::UserKeyParams;
pub use view::{Readiness, TokenView};

/// A credential as configured.
#[derive(Clone, PartialEq)]
pub struct Credential {
    /// Its name in the configuration: a metric label, and what tells it from the others.
    pub name: Arc<str>,
    /// `grant`, for `bursar_credential_info`.
    pub grant: &'static str,
    /// `auth_method`, for `bursar_credential_info`.
    pub auth_method: &'static str,
    /// Where tokens come from.
    pub source: Source,
    /// When they are renewed.
    pub timing: Timing,
    /// The request field that names the person whose token it gets (`subject_header`); `None`: all requests get the same.
    pub subject_header: Option<HeaderName>,
}

/// Where the tokens of a credential come from.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// `client_credentials`: asked from an AS.
    Client(Box<ClientParams>),
    /// `authorization_code`: asked from an AS with what a person's login has brought.
    Login(Box<LoginParams>),
    /// `id_key`: requests are signed, with the key that a person's consent has brought.
    UserKey(Box<UserKeyParams>),
    /// `static`: as configured; never expires.
    Static(Injection),
}

/// When tokens are renewed, and how long requests wait for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Lifetime where the answer has no `expires_in`.
    pub default_lifetime: Duration,
    /// When to renew.
    pub refresh_ahead: RefreshAhead,
    /// A token with less life than this is never injected; at most a quarter of its lifetime as received.
    pub safety_margin: Duration,
    /// How long a request waits when there is no usable token.
    pub wait: Duration,
}

/// How long before its expiry a token is renewed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RefreshAhead {
    /// A share of its lifetime, `0.0..1.0`.
    Share(f64),
    /// A fixed time.
    Before(Duration),
}

/// What an upstream asks its credential for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The scopes of the shared token (`token_scope = "upstream"`).
    pub scopes: ScopeSet,
    /// `request_scopes`: whether a `scope` parameter is sent at all.
    pub send: bool,
    /// `token_scope = "route"`: one token per needed scope set, made on demand.
    pub per_route: bool,
}

/// A token that may be injected. No way to print it.
pub struct AccessToken {
    /// What goes onto a request.
    pub(crate) injection: Injection,
    /// Counts the tokens of this cell from 1; what logs and 401 handling speak of.
    pub generation: u64,
    /// What the AS granted, where that does not cover all that was asked for.
    pub granted: Option<ScopeSet>,
    /// When it was asked for: not later than it was issued.
    pub issued: Moment,
    /// When it expires; `None`: never (static).
    pub expires: Option<Moment>,
    /// From here on it is not injected any more: its expiry less the safety margin.
    pub usable_until: Option<Moment>,
}

/// Why there is no token for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Transient: none was to be had before the deadline.
    #[error("no valid token within the time a request may wait")]
    Unavailable {
        /// Of the last token request, if one has failed.
        cause: Option<Cause>,
        /// When the next one goes out: whole seconds, at least one.
        retry_after: Duration,
    },
    /// Parked: only a changed configuration (here or at the AS) can cure it.
    #[error("the authorization server refuses this client")]
    Configuration {
        /// Its word.
        cause: Cause,
        /// When it is tried again all the same: whole seconds, at least one.
        retry_after: Duration,
    },
    /// Parked: a person has to log in.
    #[error("a login is needed: {why}")]
    LoginNeeded {
        /// The credential's name.
        credential: Arc<str>,
        /// Whether each person has a login of their own.
        is_personal: bool,
        /// Why.
        why: LoginNeeded,
    },
    /// Transient: the store of refresh tokens could not take the next one, so none was asked for.
    #[error("the token store is not available")]
    StoreUnavailable {
        /// Of the last attempt.
        cause: Cause,
        /// When it is looked at again: whole seconds, at least one.
        retry_after: Duration,
    },
}

impl Source {
    /// The client, where tokens are asked from an AS.
    #[must_use]
    pub fn client(&self) -> Option<&ClientParams> {
        match self {
            Self::Client(client) => Some(client),
            Self::Login(login) => Some(&login.client),
            Self::UserKey(_) | Self::Static(_) => None,
        }
    }

    /// Whether a token request can ask for fewer scopes than another.
    #[must_use]
    pub const fn can_narrow(&self) -> bool {
        match self {
            Self::Client(_) => true,
            Self::Login(login) => login.refresh.names_scopes,
            Self::UserKey(_) | Self::Static(_) => false,
        }
    }
}

impl Credential {
    /// Whether a token of one is a token of the other: the same client asks the same AS for the same. What it proves itself
    /// with, and how it is reached, may differ.
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        let Self {
            name,
            grant,
            auth_method,
            source,
            timing: _,
            subject_header,
        } = self;
        let is_same_source = match (source, &other.source) {
            (Source::Client(one), Source::Client(other)) => one.is_same_client(other),
            (Source::Login(one), Source::Login(other)) => one.is_same_client(other),
            (Source::UserKey(one), Source::UserKey(other)) => one == other,
            (Source::Static(_), Source::Static(_)) => true,
            (Source::Client(_) | Source::Login(_) | Source::UserKey(_) | Source::Static(_), _) => {
                false
            }
        };
        *name == other.name
            && *grant == other.grant
            && *auth_method == other.auth_method
            && subject_header.is_some() == other.subject_header.is_some()
            && is_same_source
    }
}

impl Credential {
    /// Whether a token request at `now` (time since the Unix epoch) would be the same with both.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self, now: Duration) -> bool {
        match (&self.source, &other.source) {
            (Source::Client(one), Source::Client(other)) => one.asks_the_same(other, now),
            (Source::Login(one), Source::Login(other)) => one.asks_the_same(other, now),
            (one, other) => one == other,
        }
    }

    /// Goes on from `former`, in whose place this one comes.
    pub fn follow(&self, former: &Self) {
        if let (Some(one), Some(former)) = (self.source.client(), former.source.client()) {
            one.follow(former);
        }
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AccessToken")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
