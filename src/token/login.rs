//! A client whose tokens a person has agreed to (`authorization_code`).

use std::{sync::Arc, time::Duration};

use crate::{
    oauth::{ClientParams, authorization::AuthorizationParams},
    store::{Intent, StoreKey},
};

/// How often one refresh token may be presented in all, where `refresh_reuse_grace` allows more than once.
const PRESENTATIONS: u32 = 2;

/// As configured.
#[derive(Clone, PartialEq)]
pub struct LoginParams {
    /// The client. Its grant is [`Grant::Login`](crate::oauth::Grant::Login).
    pub client: ClientParams,
    /// How a person agrees.
    pub authorization: AuthorizationParams,
    /// How its refresh tokens are used.
    pub refresh: RefreshRules,
}

/// What an authorization server makes of its refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshRules {
    /// One refresh token is good for ever (Canvas). Else each is good for one use, and brings its successor.
    pub is_reusable: bool,
    /// `refresh_reuse_grace`: how long a spent one is accepted once more; zero: none is ever presented twice.
    pub reuse_grace: Duration,
    /// Whether a refresh names the scopes. Where it does not (Canvas), every token has those of the login.
    pub names_scopes: bool,
}

impl RefreshRules {
    /// Whether a refresh token may be presented whose presentations so far are `intent`. `now`: Unix time.
    #[must_use]
    pub fn may_present_again(&self, intent: &Intent, now: Duration) -> bool {
        // `None`: the clock was stepped back, and nobody knows how much time has passed.
        let since = now.checked_sub(intent.first);
        self.is_reusable
            || (intent.presented < PRESENTATIONS
                && since.is_some_and(|since| since < self.reuse_grace))
    }
}

impl LoginParams {
    /// As [`ClientParams::is_same_client`].
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.client.is_same_client(&other.client) && self.refresh == other.refresh
    }

    /// As [`ClientParams::asks_the_same`]. How a person agrees is no matter of a token request.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self, now: Duration) -> bool {
        self.client.asks_the_same(&other.client, now)
    }

    /// Under what the login of the credential called `credential` is stored; `subject`: whose it is, where each person has one.
    #[must_use]
    pub fn store_key(&self, credential: &Arc<str>, subject: Option<&Arc<str>>) -> StoreKey {
        let origin = &self.client.dialer.origin;
        let scheme = if origin.tls { "https" } else { "http" };
        StoreKey {
            credential: Arc::clone(credential),
            token_url: format!(
                "{scheme}://{}{}",
                origin.authority(),
                self.client.token_path
            ),
            client_id: self.client.client_id.clone(),
            subject: subject.cloned(),
        }
    }
}
