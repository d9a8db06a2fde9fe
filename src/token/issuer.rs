//! A credential in use: what its tokens have in common.
//!
//! A reload may bring another secret, key or CA for the same client. Its tokens are no worse for that, so they stay; where
//! the next ones come from is replaced under them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::{
    Credential, Timing,
    cell::{CellParams, TokenCell},
    driver::{self, Supply},
    metrics::CredentialMetrics,
    skew::Skew,
};
use crate::{
    clock::Clock,
    oauth::{Injection, TokenSource},
    scope::ScopeSet,
};

/// Where the tokens of a credential really come from.
pub enum Origin<S> {
    /// From an AS; the second is the longest that one token request may take.
    Source(Arc<S>, Duration),
    /// It is one token for ever.
    Fixed(Injection),
}

/// A credential in use.
pub struct Issuer<S> {
    /// Tells it from every other, also from one that had the same name earlier and asked for something else.
    pub id: u64,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// How far the clock is off.
    pub skew: Arc<Skew>,
    credential: ArcSwap<Credential>,
    timing: Arc<ArcSwap<Timing>>,
    wellspring: Wellspring<S>,
    metrics: Arc<CredentialMetrics>,
}

enum Wellspring<S> {
    Asked(Arc<ArcSwap<Supply<S>>>),
    Fixed(ArcSwap<Injection>),
}

/// What a changed configuration means for a credential in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or nothing that a token depends on.
    None,
    /// Its tokens stay, and the next token request is as good as the last one: only keys that do not sign now are others, such as
    /// one that was made for later. To ask for a token because of it would prove nothing about that key, and with many replicas
    /// of many clients it would be many token requests at once.
    Later,
    /// Its tokens stay, and what proves the client is another: the next token request is to show whether it is good.
    Proof,
    /// It is another client: nothing of it can be used on.
    Client,
}

impl<S: TokenSource> Issuer<S> {
    /// Puts `credential` to use.
    pub fn new(
        credential: &Arc<Credential>,
        origin: Origin<S>,
        metrics: CredentialMetrics,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let wellspring = match origin {
            Origin::Source(source, limit) => {
                let supply = Supply {
                    source,
                    limit,
                    proof: 0,
                };
                Wellspring::Asked(Arc::new(ArcSwap::from_pointee(supply)))
            }
            Origin::Fixed(token) => Wellspring::Fixed(ArcSwap::from_pointee(token)),
        };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: Arc::clone(&credential.name),
            skew: Arc::new(Skew::unknown()),
            credential: ArcSwap::new(Arc::clone(credential)),
            timing: Arc::new(ArcSwap::from_pointee(credential.timing)),
            wellspring,
            metrics: Arc::new(metrics),
        }
    }

    /// What it would mean to go on with `credential` at `now` (time since the Unix epoch).
    pub fn change(&self, credential: &Credential, now: Duration) -> Change {
        let current = self.credential.load();
        if !current.is_same_client(credential) {
            Change::Client
        } else if current.source == credential.source {
            Change::None
        } else if current.asks_the_same(credential, now) {
            Change::Later
        } else {
            Change::Proof
        }
    }

    /// Goes on with `credential`, which is for the same client. `origin`: where its tokens come from, if that is another
    /// place now; `is_proof`: whether the next token request has to show that it is good.
    pub fn renew(&self, credential: &Arc<Credential>, origin: Option<Origin<S>>, is_proof: bool) {
        self.credential.store(Arc::clone(credential));
        self.timing.store(Arc::new(credential.timing));
        match (&self.wellspring, origin) {
            (Wellspring::Asked(supply), Some(Origin::Source(source, limit))) => {
                let proof = supply.load().proof.wrapping_add(is_proof.into());
                supply.store(Arc::new(Supply {
                    source,
                    limit,
                    proof,
                }));
            }
            (Wellspring::Fixed(current), Some(Origin::Fixed(token))) => {
                current.store(Arc::new(token));
            }
            // The same client has tokens of the same kind.
            _ => {}
        }
    }

    /// Makes `cell`, which is one of its own, follow its last renewal.
    pub fn renew_cell(&self, cell: &TokenCell) {
        match &self.wellspring {
            Wellspring::Asked(_) => cell.begin_anew(),
            Wellspring::Fixed(token) => cell.fix(Injection::clone(&token.load())),
        }
    }

    /// A new cell for `scopes` (and `subject`), renewed on `runtime`.
    pub fn cell(
        &self,
        scopes: Option<ScopeSet>,
        subject: Option<Arc<str>>,
        clock: &Arc<dyn Clock>,
        runtime: &Handle,
    ) -> Arc<TokenCell> {
        let params = CellParams {
            credential: Arc::clone(&self.name),
            scopes,
            subject,
            timing: Arc::clone(&self.timing),
            clock: Arc::clone(clock),
            metrics: Arc::clone(&self.metrics),
            skew: Arc::clone(&self.skew),
        };
        match &self.wellspring {
            Wellspring::Asked(supply) => driver::spawn(params, Arc::clone(supply), runtime),
            Wellspring::Fixed(token) => {
                let cell = TokenCell::empty(params);
                cell.fix(Injection::clone(&token.load()));
                Arc::new(cell)
            }
        }
    }
}

impl<S> Issuer<S> {
    /// As configured now.
    pub fn credential(&self) -> Arc<Credential> {
        self.credential.load_full()
    }
}
