//! Where the tokens of a configured credential come from.

use std::{sync::Arc, time::Duration};

use super::{
    Credential, Source,
    custody::{Custodian, Custody},
    issuer::Origin,
    user_key::UserKeys,
};
use crate::{
    clock::Moment,
    oauth::{Answer, ClientParams, Failure, TokenEndpoint, TokenRequest, TokenSource},
};

/// What a token request may take beyond its own timeout before it is given up from outside.
const GRACE: Duration = Duration::from_secs(1);

/// Who is asked for tokens.
pub enum Supplier {
    /// The AS, with the client's proof of itself.
    Client(TokenEndpoint),
    /// The AS, with what a login has brought.
    Login(Custody<TokenEndpoint>),
    /// Nobody: what a login has brought signs requests itself.
    UserKey(UserKeys),
}

impl Supplier {
    /// Who is asked for those of `credential`.
    pub fn of(credential: &Credential, custodian: &Arc<Custodian>) -> Origin<Self> {
        match &credential.source {
            Source::Client(params) => {
                let endpoint = TokenEndpoint::new(ClientParams::clone(params));
                let limit = params.timeout.saturating_add(GRACE);
                Origin::Source(Arc::new(Self::Client(endpoint)), limit)
            }
            Source::Login(params) => {
                let endpoint = TokenEndpoint::new(params.client.clone());
                let lifetime = credential.timing.default_lifetime;
                let custody = Custody::new(custodian, endpoint, &credential.name, params, lifetime);
                let limit = custody.limit().saturating_add(GRACE);
                Origin::Source(Arc::new(Self::Login(custody)), limit)
            }
            Source::UserKey(params) => {
                let keys = UserKeys::new(custodian.store().clone(), &credential.name, params);
                Origin::Source(Arc::new(Self::UserKey(keys)), GRACE)
            }
            Source::Static(token) => Origin::Fixed(token.clone()),
        }
    }
}

impl TokenSource for Supplier {
    fn kid(&self, now: Moment) -> Option<String> {
        match self {
            Self::Client(endpoint) => TokenSource::kid(endpoint, now),
            Self::Login(custody) => custody.kid(now),
            Self::UserKey(keys) => keys.kid(now),
        }
    }

    async fn request(&self, request: TokenRequest) -> Result<Answer, Failure> {
        match self {
            Self::Client(endpoint) => endpoint.request(request).await,
            Self::Login(custody) => custody.request(request).await,
            Self::UserKey(keys) => keys.request(request).await,
        }
    }

    async fn cured(&self, subject: Option<&str>) {
        match self {
            Self::Client(endpoint) => endpoint.cured(subject).await,
            Self::Login(custody) => custody.cured(subject).await,
            Self::UserKey(keys) => keys.cured(subject).await,
        }
    }
}
