//! The authorization request (RFC 6749 section 4.1.1) with PKCE (RFC 7636), and what the browser comes back with.
//!
//! A [`Flow`] is one attempt of one person: it knows what it asked whom for, and it is used up by the first callback that bears
//! its `state`. Codes, states and verifiers are never in `Debug`, an error or a log.

mod callback;
mod redirect;

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use url::Url;
use zeroize::Zeroizing;

pub use callback::{Callback, CallbackError};
pub use redirect::{InvalidRedirectUri, RedirectUri};

use super::LoginGrant;
use crate::{
    id_key::{IdKey, consent},
    random,
    scope::ScopeSet,
    secret::{self, ExposeSecret, SecretString},
};

/// Where a person is sent to agree, and how they come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationParams {
    /// The authorization endpoint. A query that it has is kept (RFC 6749 section 3.1).
    pub authorize_url: Url,
    /// Where the browser comes back to, as registered.
    pub redirect_uri: RedirectUri,
    /// When set, the callback's `iss` must be there and equal (RFC 9207 section 2.4).
    pub issuer: Option<String>,
    /// Whether a code challenge is sent (RFC 7636, S256).
    pub pkce: bool,
    /// Set where a relay makes the authorization request itself (LTIAAS): the browser is sent to `authorize_url` as it is, and comes
    /// back with this parameter in place of `code`. There is no `state` then: the first that comes is taken for the answer, and any
    /// page can have sent it (RFC 6749 section 10.12), so a person must say that it is theirs before it is used.
    pub relay_parameter: Option<String>,
}

/// One attempt: from the authorization request to the callback that answers it.
pub struct Flow {
    params: AuthorizationParams,
    state: SecretString,
    verifier: Option<SecretString>,
    /// Brightspace's consent for ID keys: the application, whose key signs the request.
    signer: Option<Arc<IdKey>>,
}

/// Why a callback that belongs to the flow brings no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizationError {
    /// With ID keys: it says a key, and not whose.
    #[error("it does not say whose key it brings (x_a is missing)")]
    UserMissing,
    /// It belongs to another flow, or somebody made it up.
    #[error("its state is not the one that was sent")]
    ForeignState,
    /// The authorization server, or the person, says no (RFC 6749 section 4.1.2.1).
    #[error(transparent)]
    Refused(#[from] AuthorizationRefusal),
    /// `issuer` is set, and there is no `iss`.
    #[error("it does not say which authorization server it is from (iss is missing)")]
    IssuerMissing,
    /// The answer is another server's: a mix-up attack, or a wrong `issuer`.
    #[error("it is from another authorization server than `issuer` names")]
    IssuerDiffers,
}

/// The `error` of a callback, in the server's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization server says {error:?}{}", because(.description.as_deref()))]
pub struct AuthorizationRefusal {
    /// `error`; nothing in it acts on a terminal.
    pub error: String,
    /// `error_description`, likewise, and cut off where it gets too long.
    pub description: Option<String>,
}

fn because(description: Option<&str>) -> String {
    description.map_or_else(String::new, |text| format!(": {text}"))
}

impl Flow {
    /// Begins an attempt. `redirect_uri`: that of `params` with the port that is really listened on.
    #[must_use]
    pub fn begin(params: AuthorizationParams) -> Self {
        let verifier = (params.pkce && params.relay_parameter.is_none()).then(random_text);
        Self {
            params,
            state: random_text(),
            verifier,
            signer: None,
        }
    }

    /// Begins one that asks for a user's ID key instead of a code: `app` signs the request, `authorize_url` is the LMS's consent
    /// page.
    #[must_use]
    pub fn for_user_key(params: AuthorizationParams, app: Arc<IdKey>) -> Self {
        Self {
            signer: Some(app),
            ..Self::begin(params)
        }
    }

    /// The authorization request: what a browser is sent to. Whoever knows it can answer in the place of the authorization
    /// server, so it goes to the person and their browser only.
    #[must_use]
    pub fn url(&self, client_id: &str, scopes: Option<&ScopeSet>) -> Url {
        if let Some(app) = &self.signer {
            return self.consent_url(app);
        }
        let mut url = self.params.authorize_url.clone();
        if self.params.relay_parameter.is_none() {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", client_id)
                .append_pair("redirect_uri", self.params.redirect_uri.as_str());
            if let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) {
                query.append_pair("scope", &scopes.to_string());
            }
            query.append_pair("state", self.state.expose_secret());
            if let Some(verifier) = &self.verifier {
                query
                    .append_pair("code_challenge", &challenge(verifier))
                    .append_pair("code_challenge_method", "S256");
            }
        }
        url
    }

    /// The target is signed, the state in it too.
    fn consent_url(&self, app: &IdKey) -> Url {
        let (target, state) = (
            self.params.redirect_uri.as_str(),
            self.state.expose_secret(),
        );
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}state={state}");
        let endpoint = &self.params.authorize_url;
        let url = consent::url(endpoint.as_str(), app, &target, consent::Display::Browser);
        // Of a URL and escaped text a URL comes.
        Url::parse(&url).unwrap_or_else(|_| endpoint.clone())
    }

    /// Where the browser comes back to.
    #[must_use]
    pub const fn redirect_uri(&self) -> &RedirectUri {
        &self.params.redirect_uri
    }

    /// The parameter that brings the code.
    #[must_use]
    pub fn code_parameter(&self) -> &str {
        match &self.signer {
            Some(_) => "x_b",
            None => self.params.relay_parameter.as_deref().unwrap_or("code"),
        }
    }

    /// Whether the callback answers this flow. What does not is no reason to end it: anybody can call a loopback port. So an
    /// `error` ends no flow of a relay, where no `state` tells whose it is.
    #[must_use]
    pub fn is_answered_by(&self, callback: &Callback) -> bool {
        if self.params.relay_parameter.is_some() {
            return callback.result.is_ok();
        }
        let state = callback.state.as_ref();
        state.is_some_and(|state| secret::is_same(state, &self.state))
    }

    /// Whether it asks for a user's ID key.
    #[must_use]
    pub const fn is_for_user_key(&self) -> bool {
        self.signer.is_some()
    }

    /// The user's key that the callback brings. The flow is used up, whatever that is.
    ///
    /// # Errors
    ///
    /// [`AuthorizationError`].
    pub fn conclude_with_user_key(self, callback: Callback) -> Result<IdKey, AuthorizationError> {
        if !self.is_answered_by(&callback) {
            return Err(AuthorizationError::ForeignState);
        }
        let key = callback.result?;
        let user = callback.user.ok_or(AuthorizationError::UserMissing)?;
        Ok(IdKey::new(user, key))
    }

    /// What the callback brings. The flow is used up, whatever that is.
    ///
    /// # Errors
    ///
    /// [`AuthorizationError`]. The issuer is looked at before anything else that a server says (RFC 9207 section 2.4).
    pub fn conclude(self, callback: Callback) -> Result<LoginGrant, AuthorizationError> {
        if !self.is_answered_by(&callback) {
            return Err(AuthorizationError::ForeignState);
        }
        if let Some(issuer) = &self.params.issuer {
            match &callback.issuer {
                Some(theirs) if theirs == issuer => {}
                Some(_) => return Err(AuthorizationError::IssuerDiffers),
                None => return Err(AuthorizationError::IssuerMissing),
            }
        }
        Ok(LoginGrant::AuthorizationCode {
            code: callback.result?,
            redirect_uri: self.params.redirect_uri.as_str().to_owned(),
            verifier: self.verifier,
        })
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Flow")
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// 256 random bits in 43 unreserved characters: the least that RFC 7636 section 4.1 allows, and all that it advises.
fn random_text() -> SecretString {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random::fill(&mut *bytes);
    URL_SAFE_NO_PAD.encode(bytes.as_slice()).into()
}

/// `S256` (RFC 7636 section 4.2).
fn challenge(verifier: &SecretString) -> String {
    let hash = digest::digest(&digest::SHA256, verifier.expose_secret().as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

#[cfg(test)]
mod tests;
