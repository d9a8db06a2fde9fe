//! Tokens that a person has agreed to: where they come from is a refresh token, and it must not be lost.
//!
//! Where each refresh token is good for one use, its successor is the only copy of the login. So one is presented only by who holds the
//! lock of its [record](crate::store), and in this order:
//!
//! 1. read the record: whoever has rotated meanwhile has left an access token there, which is adopted in place of a rotation;
//! 2. take the room for the answer ([`Guard::reserve`](crate::store::Guard::reserve)): a full disk shows before anything is lost;
//! 3. write down durably that this refresh token is being presented (the *intent*);
//! 4. ask the authorization server;
//! 5. write the answer down durably;
//! 6. hand the access token out.
//!
//! Steps 1 to 6 are a task of their own that no timeout, no aborted request and no reload ends, and that a shutdown waits for.
//!
//! # What an end without an answer means
//!
//! | what is known | the refresh token | what follows |
//! | --- | --- | --- |
//! | nothing was sent, or the AS refused for another reason | unspent | the intent is closed; the next attempt is free |
//! | `invalid_grant` | no good | a record that is newer by now is used; else it is kept, marked, and a person must log in |
//! | anything else: a timeout, a reset, a gateway, half an answer | perhaps spent | the intent stays open; `refresh_reuse_grace` may allow one more presentation, else a person must log in |
//! | a good answer that cannot be written | spent | it is served from memory and written as soon as that works; until then nothing is asked for |
//!
//! # Files
//!
//! `rotation` is the order above, `fate` the table, `adoption` the way from a record to a token and back, `holdings` what only
//! this process knows, `rotations` what a shutdown waits for, and `trouble` how often a store that fails is spoken of.

mod adoption;
mod fate;
mod holdings;
mod rotation;
mod rotations;
#[cfg(test)]
mod tests;
mod trouble;

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    TokenMetrics,
    login::{LoginParams, RefreshRules},
};
use crate::{
    clock::{Clock, Moment},
    oauth::{
        Answer, Cause, Failure, LoginGrant, LoginNeeded, TokenEndpoint, TokenRequest, TokenSource,
    },
    store::{Store, StoreKey},
};
use adoption::Asked;
use holdings::Holdings;
pub use rotations::Rotations;
use trouble::Trouble;

/// The `target` of everything that is logged here, beside what the journal of the token says.
const TARGET: &str = "bursar::token";

/// What another process may take beyond a token request of its own, until it lets go of a record.
const WRITING: Duration = Duration::from_secs(5);

/// What all logins of the process have in common.
pub struct Custodian {
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Arc<TokenMetrics>,
    holdings: Holdings,
    rotations: Arc<Rotations>,
}

/// Who redeems refresh tokens. [`TokenEndpoint`] is the real one; tests script their own.
pub trait Redeem: Send + Sync + 'static {
    /// As [`TokenSource::kid`].
    fn kid(&self, _now: Moment) -> Option<String> {
        None
    }

    /// Makes one token request with what a login has brought.
    fn redeem(
        &self,
        grant: &LoginGrant,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// The tokens of one credential with a login, or with one for each person.
pub struct Custody<R>(Arc<Keeper<R>>);

struct Keeper<R> {
    custodian: Arc<Custodian>,
    redeemer: R,
    credential: Arc<str>,
    /// Of the login without a subject.
    key: StoreKey,
    rules: RefreshRules,
    /// Of one token request.
    timeout: Duration,
    default_lifetime: Duration,
    store_trouble: Trouble,
}

impl Custodian {
    /// Keeps what `store` holds.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, metrics: Arc<TokenMetrics>) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            metrics,
            holdings: Holdings::default(),
            rotations: Arc::default(),
        })
    }

    /// Where logins are kept.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What a shutdown waits for.
    #[must_use]
    pub fn rotations(&self) -> Arc<Rotations> {
        Arc::clone(&self.rotations)
    }
}

/// The access token that the login `key` was given last: what can be shown without a rotation.
///
/// # Errors
///
/// A [`Cause`] that says why there is none.
pub async fn stored(store: &Store, key: &StoreKey, now: Duration) -> Result<Answer, Cause> {
    let read = store.read(key).await;
    let record = read.map_err(|error| Cause::Store(error.summary()))?;
    let record = record.ok_or(Cause::LoginNeeded(LoginNeeded::Never))?;
    let asked = Asked::new(None, &record, false);
    let access = record.access.as_ref();
    access
        .and_then(|access| adoption::adopt(access, &asked, now))
        .ok_or(Cause::NotSent(
            "what is stored is due for renewal, and only a running bursar renews it",
        ))
}

impl<R> Custody<R> {
    /// Of the credential called `credential`. `default_lifetime`: that of a token whose answer does not say.
    #[must_use]
    pub fn new(
        custodian: &Arc<Custodian>,
        redeemer: R,
        credential: &Arc<str>,
        params: &LoginParams,
        default_lifetime: Duration,
    ) -> Self {
        Self(Arc::new(Keeper {
            custodian: Arc::clone(custodian),
            redeemer,
            credential: Arc::clone(credential),
            key: params.store_key(credential, None),
            rules: params.refresh,
            timeout: params.client.timeout,
            default_lifetime,
            store_trouble: Trouble::default(),
        }))
    }

    /// The longest that a token of it can take: another process's turn, then a token request and what is written around it.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let turn = self.0.lock_limit();
        turn.saturating_add(turn)
    }
}

impl<R> Keeper<R> {
    /// How long the lock of a record is waited for.
    const fn lock_limit(&self) -> Duration {
        self.timeout.saturating_add(WRITING)
    }

    fn key_of(&self, subject: Option<Arc<str>>) -> StoreKey {
        StoreKey {
            subject,
            ..self.key.clone()
        }
    }
}

impl<R: Redeem> TokenSource for Custody<R> {
    fn kid(&self, now: Moment) -> Option<String> {
        self.0.redeemer.kid(now)
    }

    async fn request(&self, request: TokenRequest) -> Result<Answer, Failure> {
        let (reply, replied) = oneshot::channel();
        let work = Arc::clone(&self.0).serve(request, reply);
        if !self.0.custodian.rotations.begin(work) {
            return Err(Cause::NotSent("bursar is shutting down").into());
        }
        replied.await.unwrap_or_else(|_panicked| {
            let cause =
                Cause::InvalidResponse("bursar failed in the middle of it; please report this");
            Err(cause.into())
        })
    }

    async fn cured(&self, subject: Option<&str>) {
        let custodian = &self.0.custodian;
        let key = self.0.key_of(subject.map(Into::into));
        let known = custodian.holdings.seen(&key);
        custodian.store.changed(&key, known.as_ref()).await;
    }
}

impl Redeem for TokenEndpoint {
    fn kid(&self, now: Moment) -> Option<String> {
        TokenSource::kid(self, now)
    }

    async fn redeem(&self, grant: &LoginGrant, request: &TokenRequest) -> Result<Answer, Failure> {
        Self::redeem(self, grant, request).await
    }
}
