//! Who gets which token: a permit goes in, a token comes out.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName};
use tokio::runtime::Handle;

use super::{
    AccessToken, Ask, Credential, Readiness, Subject, SubjectError, TokenError, TokenMetrics,
    TokenView,
    cell::TokenCell,
    custody::{Custodian, Rotations},
    generation::Generation,
    issuer::Issuer,
    pool::Pool,
    supplier::Supplier,
};
use crate::{
    clock::{Clock, Moment},
    policy::Permit,
    scope::ScopeSet,
    store::Store,
};

/// Narrowed tokens of the whole process. More scope sets than routes there cannot be; this bounds what a mistake costs.
const MAX_NARROWED: u64 = 10_000;

/// All cells of the process, shared between upstreams that ask the same credential for the same.
pub struct Brokers {
    pool: Arc<Pool<Supplier>>,
    custodian: Arc<Custodian>,
}

/// The brokers of one generation, in the making.
pub struct BrokerGeneration {
    pool: Arc<Pool<Supplier>>,
    custodian: Arc<Custodian>,
    generation: Generation<Supplier>,
}

/// The tokens of one upstream, or of one route with a credential of its own.
pub struct Broker {
    pool: Arc<Pool<Supplier>>,
    issuer: Arc<Issuer<Supplier>>,
    tokens: Tokens,
    subject_header: Option<HeaderName>,
}

/// What a token is handed out for: a permitted request, and whose it is.
pub struct Claim<'a> {
    permit: &'a Permit,
    subject: Option<Subject>,
}

/// Which of them a request gets.
enum Tokens {
    /// All the same one.
    Shared(Arc<TokenCell>),
    /// Each person another one, with these scopes; `None`: no `scope` parameter.
    Personal(Option<ScopeSet>),
    /// The one with just the scopes it needs.
    Narrowed,
}

impl Brokers {
    /// `runtime`: where token requests run. `store`: where logins are kept.
    #[must_use]
    pub fn new(
        runtime: Handle,
        clock: Arc<dyn Clock>,
        metrics: Arc<TokenMetrics>,
        store: Store,
    ) -> Self {
        let custodian = Custodian::new(store, Arc::clone(&clock), Arc::clone(&metrics));
        Self {
            pool: Pool::new(runtime, clock, metrics, MAX_NARROWED),
            custodian,
        }
    }

    /// The rotations of refresh tokens under way. The process must not end before they have.
    #[must_use]
    pub fn rotations(&self) -> Arc<Rotations> {
        self.custodian.rotations()
    }

    /// Begins the brokers of one generation of the configuration.
    #[must_use]
    pub fn generation(&self) -> BrokerGeneration {
        BrokerGeneration {
            pool: Arc::clone(&self.pool),
            custodian: Arc::clone(&self.custodian),
            generation: Generation::new(&self.pool),
        }
    }

    /// Takes off the series that requests of earlier generations have brought back.
    pub fn forget_others(&self) {
        self.pool.forget_others();
    }

    /// For `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.pool.readiness()
    }

    /// For `bursar status` and `/api/v1/status`.
    #[must_use]
    pub fn views(&self) -> Vec<TokenView> {
        self.pool.views()
    }
}

impl BrokerGeneration {
    /// The broker of one upstream. Its shared token, if it has one and nobody has asked for it yet, is asked for at once.
    pub fn broker(&mut self, credential: &Arc<Credential>, ask: Ask) -> Arc<Broker> {
        let custodian = &self.custodian;
        let origin = |credential: &Credential| Supplier::of(credential, custodian);
        let issuer = self.generation.issuer(credential, origin);
        let subject_header = credential.subject_header.clone();
        let is_issued = credential.source.client().is_some();
        let ask = Ask {
            per_route: ask.per_route && credential.source.can_narrow(),
            ..ask
        };
        let tokens = match Choice::new(is_issued, ask) {
            Choice::Shared(scopes) if subject_header.is_some() => Tokens::Personal(scopes),
            Choice::Shared(scopes) => Tokens::Shared(self.generation.warm(&issuer, scopes)),
            Choice::Narrowed => Tokens::Narrowed,
        };
        Arc::new(Broker {
            pool: Arc::clone(&self.pool),
            issuer,
            tokens,
            subject_header,
        })
    }

    /// Puts them into force: readiness, status and metrics speak of these from now on.
    pub fn enter(&self) {
        self.generation.enter();
    }
}

impl Broker {
    /// What a permitted request with these fields may ask a token for.
    ///
    /// # Errors
    ///
    /// [`SubjectError`], where each person has a grant of their own and the request does not say whose it is.
    pub fn claim<'a>(
        &self,
        permit: &'a Permit,
        headers: &HeaderMap,
    ) -> Result<Claim<'a>, SubjectError> {
        let field = self.subject_header.as_ref();
        let subject = field.map(|field| Subject::of(headers, field)).transpose()?;
        Ok(Claim { permit, subject })
    }

    /// The field that names the person, where each has a grant of their own. It is for bursar alone.
    #[must_use]
    pub const fn subject_header(&self) -> Option<&HeaderName> {
        self.subject_header.as_ref()
    }

    /// The token for a permitted request: one atomic load, or a wait with a deadline.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn token(&self, claim: &Claim<'_>) -> Result<Arc<AccessToken>, TokenError> {
        let token = self.cell(claim).token().await;
        token.map_err(|mut error| {
            if let TokenError::LoginNeeded { is_personal, .. } = &mut error {
                *is_personal = self.subject_header.is_some();
            }
            error
        })
    }

    /// The time that decides about its tokens.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.pool.now()
    }

    /// Notes how far our clock is off the LMS's, where the LMS says so (local minus LMS, in seconds).
    pub fn learn_skew(&self, seconds: f64) {
        self.issuer.skew.learn(seconds);
    }

    /// Whether a token that a request has had for a while may still be injected.
    #[must_use]
    pub fn is_usable(&self, token: &AccessToken) -> bool {
        let reached = |end: Moment| end.is_reached(self.pool.now());
        !token.usable_until.is_some_and(reached)
    }

    /// The token after the LMS answered 401 to `rejected`: a newer one if there is one by now or a forced refresh brings
    /// one; `None`: pass the 401 on (forced not long ago, refresh failed, or the same token again).
    pub async fn token_after_401(
        &self,
        claim: &Claim<'_>,
        rejected: &AccessToken,
    ) -> Option<Arc<AccessToken>> {
        self.cell(claim).token_after_401(rejected).await
    }

    /// As above for a request that cannot be replayed: starts the refresh, waits for nothing.
    pub fn note_401(&self, claim: &Claim<'_>, rejected: &AccessToken) {
        self.cell(claim).note_401(rejected);
    }

    fn cell(&self, claim: &Claim<'_>) -> Cow<'_, Arc<TokenCell>> {
        let scopes = match &self.tokens {
            Tokens::Shared(cell) => return Cow::Borrowed(cell),
            Tokens::Personal(scopes) => scopes.as_ref(),
            Tokens::Narrowed => Some(claim.permit.needed()),
        };
        let subject = claim.subject.as_ref().map(Subject::shared);
        Cow::Owned(self.pool.narrowed(&self.issuer, scopes, subject.as_ref()))
    }
}

impl Claim<'_> {
    /// The request's permit.
    #[must_use]
    pub const fn permit(&self) -> &Permit {
        self.permit
    }
}

/// Which tokens an upstream uses.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// One for all requests, with these scopes; `None`: no `scope` parameter.
    Shared(Option<ScopeSet>),
    /// One for each scope set that requests need.
    Narrowed,
}

impl Choice {
    /// `is_issued`: by an AS, which can be asked for scopes. A static token has the scopes it has: upstreams share it whatever
    /// their allowlists, and so they do where no `scope` is sent.
    fn new(is_issued: bool, ask: Ask) -> Self {
        if !(is_issued && ask.send) {
            Self::Shared(None)
        } else if ask.per_route {
            Self::Narrowed
        } else {
            Self::Shared(Some(ask.scopes))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        oauth::Injection,
        store::{StoreMetrics, StoreParams},
    };

    fn ask(send: bool, per_route: bool) -> Ask {
        Ask {
            scopes: ScopeSet::parse("a b").unwrap(),
            send,
            per_route,
        }
    }

    #[test]
    fn an_upstream_asks_for_its_allowlist_or_each_request_for_what_it_needs() {
        let allowlist = ScopeSet::parse("a b").unwrap();
        assert_eq!(
            Choice::new(true, ask(true, false)),
            Choice::Shared(Some(allowlist))
        );
        assert_eq!(Choice::new(true, ask(true, true)), Choice::Narrowed);
    }

    #[test]
    fn where_no_scope_can_be_asked_for_all_requests_share_one_token() {
        for (is_issued, send) in [(true, false), (false, true), (false, false)] {
            for per_route in [false, true] {
                let choice = Choice::new(is_issued, ask(send, per_route));
                assert_eq!(choice, Choice::Shared(None));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upstreams_share_a_static_credential_whatever_they_allow() {
        let metrics = TokenMetrics::new(&prometheus::Registry::new()).unwrap();
        let clock = Arc::new(crate::clock::ManualClock::new());
        let store = StoreMetrics::new(&prometheus::Registry::new()).unwrap();
        let store = Store::new(&StoreParams::Memory, Arc::new(store));
        let brokers = Brokers::new(Handle::current(), clock, Arc::new(metrics), store);
        let credential = Arc::new(Credential {
            name: "fixed".into(),
            grant: "static",
            auth_method: "none",
            source: crate::token::Source::Static(Injection::Bearer(
                http::HeaderValue::from_static("Bearer fixed"),
            )),
            subject_header: None,
            timing: crate::token::Timing {
                default_lifetime: Duration::from_secs(300),
                refresh_ahead: crate::token::RefreshAhead::Share(0.2),
                safety_margin: Duration::from_secs(30),
                wait: Duration::from_secs(10),
            },
        });
        let mut generation = brokers.generation();
        let _one = generation.broker(&credential, ask(true, false));
        let _other = generation.broker(&credential, ask(true, true));
        generation.enter();
        let views = brokers.views();
        assert_eq!(views.len(), 1);
        assert_eq!((views[0].state, views[0].usable), ("fresh", true));
        assert!(brokers.readiness().token);
    }
}
