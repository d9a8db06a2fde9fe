//! All cells of the process: shared between upstreams that ask the same credential for the same.
//!
//! The tokens of whole upstreams are kept warm for ever. Narrowed ones are made on demand, bounded in number, and
//! dropped after an hour without a request; their driver ends with them. moka does no more than that: it knows
//! nothing of the lifetimes of tokens.

use std::{
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use moka::{Equivalent, sync::Cache};
use tokio::{runtime::Handle, time::sleep};

use super::{
    Credential, TokenMetrics,
    cell::{CellParams, Snapshot, TokenCell},
    driver,
    gauges::{CredentialGauges, WarmGauges, Watched},
    metrics::CredentialMetrics,
    skew::Skew,
    view::{self, Readiness, TokenView},
};
use crate::{
    clock::{Clock, Moment},
    oauth::TokenSource,
    scope::ScopeSet,
};

/// How long a narrowed token is kept without a request.
const NARROWED_IDLE: Duration = Duration::from_secs(3_600);

/// How often idle narrowed tokens are looked for: moka drops nothing while nobody calls it.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// The cells, whose tokens come from an `S`.
pub struct Pool<S> {
    runtime: Handle,
    clock: Arc<dyn Clock>,
    metrics: Arc<TokenMetrics>,
    issuers: RwLock<Vec<Arc<Issuer<S>>>>,
    warm: RwLock<Vec<(TokenKey, Arc<TokenCell>)>>,
    narrowed: Cache<TokenKey, Arc<Slot>>,
}

/// What moka holds of a cell. moka frees evicted memory at some later time; an evicted slot is emptied at once, so that the cell
/// lives on only for the requests that have it already, and its driver does not go on renewing for nobody.
struct Slot(ArcSwapOption<TokenCell>);

/// A credential in use.
pub struct Issuer<S> {
    credential: Arc<Credential>,
    origin: Origin<S>,
    metrics: Arc<CredentialMetrics>,
    skew: Arc<Skew>,
}

/// Where the tokens of a credential really come from.
pub enum Origin<S> {
    /// From an AS; the second is the longest that one token request may take.
    Source(Arc<S>, Duration),
    /// It is one token for ever.
    Fixed(HeaderValue),
}

/// What makes two tokens the same one. Structured: a text joined of its parts could be the same for different parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// The credential's name, which stands for AS, client, client authentication and all other parameters of the token request:
    /// the configuration has no name twice.
    pub credential: Arc<str>,
    /// The scopes asked for, in order; `None`: no `scope` parameter, whatever the allowlist says.
    pub scopes: Option<ScopeSet>,
}

/// A key that is only looked up, so that a request clones nothing.
#[derive(Hash)]
struct BorrowedKey<'a> {
    credential: &'a str,
    scopes: Option<&'a ScopeSet>,
}

impl Equivalent<TokenKey> for BorrowedKey<'_> {
    fn equivalent(&self, key: &TokenKey) -> bool {
        *self.credential == *key.credential && self.scopes == key.scopes.as_ref()
    }
}

impl<S: TokenSource> Pool<S> {
    /// An empty pool with room for `narrowed` narrowed tokens. Token requests run on `runtime`.
    #[must_use]
    pub fn new(
        runtime: Handle,
        clock: Arc<dyn Clock>,
        metrics: Arc<TokenMetrics>,
        narrowed: u64,
    ) -> Arc<Self> {
        let narrowed = Cache::builder()
            .max_capacity(narrowed)
            .time_to_idle(NARROWED_IDLE)
            .eviction_listener(|_key, slot: Arc<Slot>, _cause| slot.empty())
            .build();
        let pool = Arc::new(Self {
            runtime,
            clock,
            metrics,
            issuers: RwLock::default(),
            warm: RwLock::default(),
            narrowed,
        });
        let watched: Weak<dyn Watched> = Arc::<Self>::downgrade(&pool);
        pool.metrics.watch(watched);
        pool.runtime.spawn(keep_house(Arc::downgrade(&pool)));
        pool
    }

    /// The credential of that name; `origin` is asked once, when it is new.
    pub fn issuer(
        &self,
        credential: &Arc<Credential>,
        origin: impl FnOnce(&Credential) -> Origin<S>,
    ) -> Arc<Issuer<S>> {
        let mut issuers = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(issuer) = issuers
            .iter()
            .find(|issuer| issuer.credential.name == credential.name)
        {
            return Arc::clone(issuer);
        }
        let issuer = Arc::new(Issuer {
            credential: Arc::clone(credential),
            origin: origin(credential),
            metrics: Arc::new(self.metrics.credential(&credential.name)),
            skew: Arc::new(Skew::unknown()),
        });
        issuers.push(Arc::clone(&issuer));
        issuer
    }

    /// The cell for `scopes`, asked for at once and kept for ever.
    pub fn warm(&self, issuer: &Issuer<S>, scopes: Option<ScopeSet>) -> Arc<TokenCell> {
        let key = issuer.key(scopes);
        let mut warm = self.warm.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cell)) = warm.iter().find(|(known, _)| *known == key) {
            return Arc::clone(cell);
        }
        let cell = self.cell(issuer, key.scopes.clone());
        warm.push((key, Arc::clone(&cell)));
        cell
    }

    /// The cell for `scopes`, made now if need be, and kept while it is used.
    pub fn narrowed(&self, issuer: &Issuer<S>, scopes: Option<&ScopeSet>) -> Arc<TokenCell> {
        let borrowed = BorrowedKey {
            credential: &issuer.credential.name,
            scopes: scopes.filter(|scopes| !scopes.is_empty()),
        };
        if let Some(cell) = self.narrowed.get(&borrowed).and_then(|slot| slot.cell()) {
            return cell;
        }
        let key = issuer.key(borrowed.scopes.cloned());
        let make = || {
            let warm = self.warm_cells();
            let known = warm.into_iter().find(|(known, _)| *known == key);
            known.map_or_else(|| self.cell(issuer, key.scopes.clone()), |(_, cell)| cell)
        };
        let mut made = None;
        let slot = self.narrowed.get_with(key.clone(), || {
            let cell = make();
            made = Some(Arc::clone(&cell));
            Arc::new(Slot(ArcSwapOption::new(Some(cell))))
        });
        // Evicted again already: then the cell is for this request alone.
        made.or_else(|| slot.cell()).unwrap_or_else(make)
    }

    fn cell(&self, issuer: &Issuer<S>, scopes: Option<ScopeSet>) -> Arc<TokenCell> {
        let params = CellParams {
            credential: Arc::clone(&issuer.credential.name),
            scopes,
            timing: issuer.credential.timing,
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&issuer.metrics),
            skew: Arc::clone(&issuer.skew),
        };
        match &issuer.origin {
            Origin::Source(source, limit) => {
                driver::spawn(params, Arc::clone(source), *limit, &self.runtime)
            }
            Origin::Fixed(field) => Arc::new(TokenCell::fixed(params, field.clone())),
        }
    }
}

impl<S> Pool<S> {
    /// The time that decides about its tokens.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// For `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let now = self.clock.now();
        let warm: Vec<Snapshot> = self
            .warm_cells()
            .iter()
            .map(|(_, cell)| cell.snapshot(now))
            .collect();
        Readiness {
            first_token: warm.iter().all(|cell| cell.held.is_some()),
            token: warm.iter().all(Snapshot::is_usable),
        }
    }

    /// What people may know: the warm ones first, in the order of the configuration.
    #[must_use]
    pub fn views(&self) -> Vec<TokenView> {
        let now = self.clock.now();
        let warm = self.warm_cells();
        let narrowed = self
            .narrowed
            .iter()
            .filter(|(key, _)| warm.iter().all(|(known, _)| *known != **key));
        warm.iter()
            .map(|(_, cell)| TokenView::new(cell, now, true))
            .chain(
                narrowed
                    .filter_map(|(_, slot)| slot.cell())
                    .map(|cell| TokenView::new(&cell, now, false)),
            )
            .collect()
    }

    fn warm_cells(&self) -> Vec<(TokenKey, Arc<TokenCell>)> {
        self.warm
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        for (_, slot) in &self.narrowed {
            slot.empty();
        }
    }
}

impl Slot {
    fn cell(&self) -> Option<Arc<TokenCell>> {
        self.0.load_full()
    }

    fn empty(&self) {
        self.0.store(None);
    }
}

impl<S: Send + Sync> Watched for Pool<S> {
    fn credentials(&self) -> Vec<CredentialGauges> {
        let now = self.clock.now();
        let warm = self.warm_cells();
        let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
        issuers
            .iter()
            .map(|issuer| {
                let name = &issuer.credential.name;
                let cells = warm.iter().filter(|(key, _)| key.credential == *name);
                CredentialGauges {
                    credential: Arc::clone(name),
                    grant: issuer.credential.grant,
                    auth_method: issuer.credential.auth_method,
                    warm: cells
                        .map(|(_, cell)| view::gauges(&cell.snapshot(now), now))
                        .reduce(WarmGauges::and),
                    clock_skew: issuer.skew.seconds().unwrap_or(0.0),
                }
            })
            .collect()
    }
}

impl<S> Issuer<S> {
    /// A set of no scopes is asked for like no set: `scope` must not be empty (RFC 6749 section 3.3).
    fn key(&self, scopes: Option<ScopeSet>) -> TokenKey {
        TokenKey {
            credential: Arc::clone(&self.credential.name),
            scopes: scopes.filter(|scopes| !scopes.is_empty()),
        }
    }
}

async fn keep_house<S>(pool: Weak<Pool<S>>) {
    while let Some(pool) = pool.upgrade() {
        pool.narrowed.run_pending_tasks();
        drop(pool);
        sleep(HOUSEKEEPING).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        oauth::TokenEndpoint,
        token::{RefreshAhead, Source, Timing},
    };

    // moka may keep the memory of an evicted entry for as long as other threads look at other entries.
    #[tokio::test(start_paused = true)]
    async fn an_evicted_cell_is_let_go_of_before_its_memory_is_freed() {
        let metrics = TokenMetrics::new(&prometheus::Registry::new()).unwrap();
        let pool = Pool::<TokenEndpoint>::new(
            Handle::current(),
            Arc::new(ManualClock::new()),
            Arc::new(metrics),
            10,
        );
        let field = HeaderValue::from_static("Bearer fixed");
        let credential = Arc::new(Credential {
            name: "fixed".into(),
            grant: "static",
            auth_method: "none",
            source: Source::Static(field.clone()),
            timing: Timing {
                default_lifetime: Duration::from_secs(300),
                refresh_ahead: RefreshAhead::Share(0.2),
                safety_margin: Duration::from_secs(30),
                wait: Duration::from_secs(10),
            },
        });
        let issuer = pool.issuer(&credential, |_| Origin::Fixed(field));
        let cell = Arc::downgrade(&pool.narrowed(&issuer, None));
        let slot = pool.narrowed.get(&issuer.key(None)).unwrap();
        assert!(cell.upgrade().is_some());

        pool.narrowed.invalidate_all();
        pool.narrowed.run_pending_tasks();
        assert!(cell.upgrade().is_none());
        assert!(slot.cell().is_none());
    }
}
