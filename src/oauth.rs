//! The OAuth 2.0 client: one token request (RFC 6749 section 4.4, RFC 7523 section 2.1), and what its answer means.
//!
//! Knows the protocol, not the policy: no cache, no retries, no clock of its own but the one it is given.

mod answer;
mod assertion;
pub mod authorization;
mod client_auth;
mod dialect;
mod endpoint;
mod grant;
mod injection;
mod key_set;
mod revocation;
mod same;
mod transport;

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use crate::{
    clock::Moment,
    dial::Dialer,
    keys::{HmacKey, KeyRing},
    scope::ScopeSet,
    secret::SecretString,
};
pub use dialect::{Dialect, LtiaasParams};
pub use endpoint::TokenEndpoint;
pub use injection::Injection;
pub use key_set::{KeySetError, KeySetUrl, PublishedKeys};
pub use revocation::Revocation;

/// A client of one authorization server, as configured.
#[derive(Clone, PartialEq)]
pub struct ClientParams {
    /// `client_id`.
    pub client_id: String,
    /// What it asks with.
    pub grant: Grant,
    /// How the client proves itself.
    pub auth: ClientAuth,
    /// Where the token endpoint is.
    pub dialer: Dialer,
    /// Its path and query, as configured.
    pub token_path: http::uri::PathAndQuery,
    /// Further form fields. None of those that bursar itself sends: `grant_type`, `scope`, `client_id`, `client_assertion…`.
    pub token_params: Vec<(String, String)>,
    /// Further header fields.
    pub token_headers: HeaderMap,
    /// Limit of one token request, from the name to the last byte of the body.
    pub timeout: Duration,
    /// How the endpoint is spoken to.
    pub dialect: Dialect,
    /// Where the granted scopes stand.
    pub scope_source: ScopeSource,
    /// Where the AS fetches the key set, if that is configured (`jwks_url`).
    pub key_set: Option<KeySetUrl>,
}

/// What a token request asks with (RFC 6749 section 1.3).
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Grant {
    /// `client_credentials` (RFC 6749 section 4.4): nothing but the client's proof of itself.
    ClientCredentials,
    /// `jwt_bearer` (RFC 7523 section 2.1): an assertion about the user for whom the client acts.
    JwtBearer {
        /// The keys, of which one signs it.
        keys: Arc<KeyRing>,
        /// Its `sub`.
        subject: String,
        /// What it says of itself.
        assertion: AssertionParams,
    },
    /// What a person has consented to (RFC 6749 section 4.1). Each token request brings a [`LoginGrant`] of its own.
    Login,
}

/// What a login has brought: good for one token request, or for one after the other.
#[derive(Clone)]
pub enum LoginGrant {
    /// `authorization_code` (RFC 6749 section 4.1.3).
    AuthorizationCode {
        /// The code.
        code: SecretString,
        /// As the authorization request had it.
        redirect_uri: String,
        /// `code_verifier` (RFC 7636 section 4.5), if the authorization request had its challenge.
        verifier: Option<SecretString>,
    },
    /// `refresh_token` (RFC 6749 section 6).
    RefreshToken(SecretString),
}

/// Client authentication (RFC 6749 section 2.3, OpenID Connect Core section 9).
#[derive(Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`.
    SecretBasic {
        /// The secret.
        secret: SecretString,
        /// How id and secret are written into the pair.
        encoding: BasicEncoding,
    },
    /// `client_secret_post`: id and secret are form fields.
    SecretPost {
        /// The secret.
        secret: SecretString,
    },
    /// `client_secret_jwt`: an assertion with a MAC in place of a signature (OpenID Connect Core section 9).
    SecretJwt {
        /// The secret as a key.
        key: Arc<HmacKey>,
        /// What the assertion says of itself.
        assertion: AssertionParams,
    },
    /// `private_key_jwt` (RFC 7523 section 2.2).
    PrivateKeyJwt {
        /// The keys, of which one signs at any moment.
        keys: Arc<KeyRing>,
        /// What the assertion says of itself.
        assertion: AssertionParams,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 section 2): the certificate of the connection is the proof.
    Tls,
    /// A key in `Authorization: Bearer` (LTIAAS).
    ApiKey {
        /// The key.
        key: SecretString,
    },
    /// `none`: the client names itself and proves nothing; what the grant brings is the proof.
    None,
}

/// How `client_secret_basic` writes the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Form-urlencoded before base64, as RFC 6749 section 2.3.1 wants it.
    #[default]
    Form,
    /// As it is: the Instructure identity service (facts: a `#` in the id must stay one).
    Raw,
}

/// Settings of an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionParams {
    /// The one pinned `aud`.
    pub audience: String,
    /// `aud` as an array of one.
    pub audience_as_array: bool,
    /// `exp - iat`; at most 300 s.
    pub lifetime: Duration,
    /// `typ` of the JWS header.
    pub typ: String,
}

/// Where the granted scopes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScopeSource {
    /// The answer's `scope` (RFC 6749 section 5.1); absent: as asked.
    #[default]
    Answer,
    /// The answer's `scope`, else the `scope` claim of the token if it is a JWT, else as asked (Brightspace).
    AnswerOrToken,
    /// Nowhere: the field is a description (Instructure). As asked.
    Nowhere,
}

/// A successful answer, checked.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What goes onto requests.
    pub injection: Injection,
    /// `expires_in`, clamped to 24 h; `None` when the answer has none.
    pub expires_in: Option<Duration>,
    /// The granted scopes; `None`: as asked.
    pub granted: Option<ScopeSet>,
    /// What the next token is asked for with, where the answer has one (RFC 6749 section 6).
    pub refresh_token: Option<SecretString>,
    /// How long that is good for, where the answer says so (`refresh_token_expires_in`).
    pub refresh_expires_in: Option<Duration>,
    /// How long ago the answer came, where it is an earlier one that was kept; its lifetime counts from then.
    pub kept_for: Option<Duration>,
    /// Who has logged in, where the answer says so (Canvas): for people to read.
    pub account: Option<String>,
    /// Local minus server, in seconds, from the answer's `Date`.
    pub skew_seconds: Option<f64>,
}

/// A token request that brought no token.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// `Retry-After`, seconds or date, capped at 10 minutes.
    pub retry_after: Option<Duration>,
    /// Local minus server, in seconds, from the answer's `Date`.
    pub skew_seconds: Option<f64>,
    /// Whether a byte of the token request may have left. Where none did, nothing that it held is spent.
    pub is_sent: bool,
}

/// What happened to a token request. Texts never hold a byte of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The AS refused with an OAuth error code (RFC 6749 section 5.2).
    #[error("the authorization server refused: {0}")]
    Rejected(OAuthError),
    /// 429, or 503 with `Retry-After`.
    #[error("the authorization server throttles (HTTP {0})")]
    Throttled(u16),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection: `dns`, `connect`, `tls`, the proxy's, or it was closed (`reset`).
    #[error("the authorization server cannot be reached ({0})")]
    Unreachable(Unreachable),
    /// An answer that is no token answer.
    #[error("the answer is not usable: {0}")]
    InvalidResponse(&'static str),
    /// Another status than 200 without a known error code.
    #[error("the authorization server answered HTTP {0}")]
    Status(u16),
    /// Nothing was sent: the request could not be made. A fault of bursar's own side.
    #[error("the token request cannot be made: {0}")]
    NotSent(&'static str),
    /// Nobody has logged in, or the login is worth nothing any more: a person has to log in.
    #[error("a login is needed: {0}")]
    LoginNeeded(LoginNeeded),
    /// Nothing was sent: the store of refresh tokens cannot be read, or could not take the answer.
    #[error("the token store is not available: {0}")]
    Store(&'static str),
}

/// Why a person has to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginNeeded {
    /// Nobody has, yet.
    #[error("nobody has logged in yet")]
    Never,
    /// The AS says that the refresh token is not good (`invalid_grant`).
    #[error("the authorization server no longer accepts the login")]
    Refused,
    /// The refresh token was sent once, and what came of it is not known: it may be spent.
    #[error("a refresh token was sent, its answer was lost, and it must not be sent twice")]
    Lost,
    /// The refresh token has expired.
    #[error("the login has expired")]
    Expired,
}

/// Where the way to the AS ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Its name does not resolve.
    Dns,
    /// Nobody accepts the connection.
    Connect,
    /// TLS failed; no credential was sent.
    Tls,
    /// `http_proxy` cannot be reached, or does not answer; no credential was sent.
    Proxy,
    /// `http_proxy` refuses the tunnel with this status; no credential was sent.
    ProxyRefused(u16),
    /// The connection was closed before the answer was complete.
    Reset,
}

/// The error codes of RFC 6749 section 5.2 (and the two of 4.1.2.1 that token endpoints use); a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum OAuthError {
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    UnauthorizedClient,
    UnsupportedGrantType,
    TemporarilyUnavailable,
    ServerError,
    Other,
}

impl Answer {
    /// What is left of its lifetime, as it stands when it is handed over; `None`: not stated.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let age = self.kept_for.unwrap_or_default();
        Some(self.expires_in?.saturating_sub(age))
    }
}

impl ClientParams {
    /// The private keys that it signs with, for its client assertions or for its grant. They are one and the same: a credential
    /// has one set of keys.
    #[must_use]
    pub const fn keys(&self) -> Option<&Arc<KeyRing>> {
        match (&self.auth, &self.grant) {
            (ClientAuth::PrivateKeyJwt { keys, .. }, _) | (_, Grant::JwtBearer { keys, .. }) => {
                Some(keys)
            }
            _ => None,
        }
    }

    /// The settings of its assertions, if it makes any.
    #[must_use]
    pub const fn assertion(&self) -> Option<&AssertionParams> {
        match (&self.auth, &self.grant) {
            (
                ClientAuth::PrivateKeyJwt { assertion, .. }
                | ClientAuth::SecretJwt { assertion, .. },
                _,
            )
            | (_, Grant::JwtBearer { assertion, .. }) => Some(assertion),
            _ => None,
        }
    }
}

impl Cause {
    /// Whether only a person can cure it, here or at the AS: the token is parked.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::LoginNeeded(_)
                | Self::Rejected(
                    OAuthError::InvalidClient
                        | OAuthError::UnauthorizedClient
                        | OAuthError::UnsupportedGrantType
                        | OAuthError::InvalidScope
                        | OAuthError::InvalidRequest
                )
        )
    }

    /// The `result` label of `bursar_token_refreshes_total`, of an [exchange](Failure::is_exchange).
    #[must_use]
    pub const fn result(&self) -> &'static str {
        match self {
            Self::Rejected(_) | Self::LoginNeeded(_) => "rejected",
            Self::Throttled(_) => "throttled",
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            // The labels are a closed set; the last one has no better place.
            Self::InvalidResponse(_) | Self::Status(_) | Self::NotSent(_) | Self::Store(_) => {
                "invalid_response"
            }
        }
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Proxy => "no way through http_proxy",
            Self::ProxyRefused(status) => return write!(formatter, "http_proxy answered {status}"),
            Self::Reset => "reset",
        })
    }
}

impl Failure {
    /// Whether the token endpoint was asked, be it that the way there was closed. Where there was nothing to ask it with, or no
    /// place to keep its answer, it was not.
    #[must_use]
    pub const fn is_exchange(&self) -> bool {
        self.is_sent
            || !matches!(
                self.cause,
                Cause::NotSent(_) | Cause::LoginNeeded(_) | Cause::Store(_)
            )
    }
}

impl From<Cause> for Failure {
    /// A failure without an answer that could say more.
    fn from(cause: Cause) -> Self {
        Self {
            is_sent: !matches!(
                cause,
                Cause::NotSent(_) | Cause::LoginNeeded(_) | Cause::Store(_)
            ),
            cause,
            retry_after: None,
            skew_seconds: None,
        }
    }
}

impl OAuthError {
    /// Reads `error`; what is not in the set is not kept.
    pub(crate) fn parse(code: &str) -> Self {
        const KNOWN: [OAuthError; 8] = [
            OAuthError::InvalidClient,
            OAuthError::InvalidGrant,
            OAuthError::InvalidRequest,
            OAuthError::InvalidScope,
            OAuthError::UnauthorizedClient,
            OAuthError::UnsupportedGrantType,
            OAuthError::TemporarilyUnavailable,
            OAuthError::ServerError,
        ];
        KNOWN
            .into_iter()
            .find(|known| known.as_str() == code)
            .unwrap_or(Self::Other)
    }

    /// The code as the RFC spells it; `other` for all that is not in the set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One token request.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What to ask for; `None` sends no `scope` parameter.
    pub scopes: Option<ScopeSet>,
    /// For whom, where each person has a grant of their own.
    pub subject: Option<Arc<str>>,
    /// When it is made.
    pub now: Moment,
    /// Local minus server as learned so far, for the times in an assertion.
    pub skew_seconds: f64,
    /// The LMS has rejected the newest token: one that was received earlier is of no use, however long it has to live.
    pub is_forced: bool,
}

/// Who can be asked for a token. [`TokenEndpoint`] is the real one; tests script their own.
pub trait TokenSource: Send + Sync + 'static {
    /// The id of the key that signs a request made at `now`, if one does: what a person compares with what is registered.
    fn kid(&self, _now: Moment) -> Option<String> {
        None
    }

    /// Makes one token request.
    fn request(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Comes to an end when a failure that only a person can cure may have been cured: somebody has logged in. `subject` is
    /// whose failure it was.
    fn cured(&self, _subject: Option<&str>) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}
