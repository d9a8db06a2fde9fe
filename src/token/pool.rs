//! All cells of the process: shared between upstreams that ask the same credential for the same.
//!
//! The tokens of whole upstreams are kept warm for ever. Narrowed ones are made on demand, bounded in number, and
//! dropped after an hour without a request; their driver ends with them. moka does no more than that: it knows
//! nothing of the lifetimes of tokens.

use std::{
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use moka::{Equivalent, sync::Cache};
use tokio::{runtime::Handle, time::sleep};

use super::{
    Credential, TokenMetrics,
    cell::TokenCell,
    gauges::{CredentialGauges, WarmGauges, Watched},
    issuer::{Issuer, Origin},
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
    /// Of the generation in force; `None` before the first.
    members: RwLock<Option<Members<S>>>,
    /// Every warm token of a generation has been held: a later generation that waits for another one takes that not back.
    has_been_complete: AtomicBool,
    narrowed: Cache<TokenKey, Arc<Slot>>,
}

/// What moka holds of a cell. moka frees evicted memory at some later time; an evicted slot is emptied at once, so that the cell
/// lives on only for the requests that have it already, and its driver does not go on renewing for nobody.
struct Slot(ArcSwapOption<TokenCell>);

/// What one generation of the configuration names: its credentials and the tokens that are kept warm, in its order.
pub struct Members<S> {
    /// The credentials.
    pub issuers: Vec<Arc<Issuer<S>>>,
    /// The tokens.
    pub warm: Vec<(TokenKey, Arc<TokenCell>)>,
}

/// What makes two tokens the same one. Structured: a text joined of its parts could be the same for different parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// The credential in use, which stands for AS, client and all other parameters of the token request. Not its name: a later
    /// generation may call another client the same.
    pub issuer: u64,
    /// The scopes asked for, in order; `None`: no `scope` parameter, whatever the allowlist says.
    pub scopes: Option<ScopeSet>,
    /// For whom, where each person has a grant of their own.
    pub subject: Option<Arc<str>>,
}

/// A key that is only looked up, so that a request clones nothing.
#[derive(Hash)]
struct BorrowedKey<'a> {
    issuer: u64,
    scopes: Option<&'a ScopeSet>,
    subject: Option<&'a str>,
}

impl Equivalent<TokenKey> for BorrowedKey<'_> {
    fn equivalent(&self, key: &TokenKey) -> bool {
        self.issuer == key.issuer
            && self.scopes == key.scopes.as_ref()
            && self.subject == key.subject.as_deref()
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
            members: RwLock::default(),
            has_been_complete: AtomicBool::new(false),
            narrowed,
        });
        let watched: Weak<dyn Watched> = Arc::<Self>::downgrade(&pool);
        pool.metrics.watch(watched);
        pool.runtime.spawn(keep_house(Arc::downgrade(&pool)));
        pool
    }

    /// Puts a credential to use.
    #[must_use]
    pub fn new_issuer(&self, credential: &Arc<Credential>, origin: Origin<S>) -> Issuer<S> {
        let metrics = self.metrics.credential(&credential.name);
        Issuer::new(credential, origin, metrics)
    }

    /// A new cell, and what drives it.
    #[must_use]
    pub fn cell(
        &self,
        issuer: &Issuer<S>,
        scopes: Option<ScopeSet>,
        subject: Option<Arc<str>>,
    ) -> Arc<TokenCell> {
        issuer.cell(scopes, subject, &self.clock, &self.runtime)
    }

    /// The cell for `scopes` and `subject`, made now if need be, and kept while it is used.
    pub fn narrowed(
        &self,
        issuer: &Issuer<S>,
        scopes: Option<&ScopeSet>,
        subject: Option<&Arc<str>>,
    ) -> Arc<TokenCell> {
        let borrowed = BorrowedKey {
            issuer: issuer.id,
            scopes: scopes.filter(|scopes| !scopes.is_empty()),
            subject: subject.map(|subject| &**subject),
        };
        if let Some(cell) = self.narrowed.get(&borrowed).and_then(|slot| slot.cell()) {
            return cell;
        }
        let key = Self::key(issuer, borrowed.scopes.cloned(), subject.cloned());
        let make = || {
            let warm = self.members().warm;
            let known = warm.into_iter().find(|(known, _)| *known == key);
            let new = || self.cell(issuer, key.scopes.clone(), key.subject.clone());
            known.map_or_else(new, |(_, cell)| cell)
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
        let members = self.members();
        let mut warm = members.warm.iter().map(|(_, cell)| cell.snapshot(now));
        let first_token = self.has_been_complete.load(Ordering::Relaxed) || members.is_complete();
        let awaiting_login = members.awaiting_login();
        Readiness {
            first_token,
            awaiting_login,
            token: warm.all(|cell| cell.is_usable() || cell.awaits_first_login()),
        }
    }

    /// What people may know: the warm ones first, in the order of the configuration; those of people by their state.
    #[must_use]
    pub fn views(&self) -> Vec<TokenView> {
        let now = self.clock.now();
        let members = self.members();
        let narrowed = self.narrowed.iter().filter(|(key, _)| {
            let warm = &members.warm;
            members.has_issuer(key.issuer) && warm.iter().all(|(known, _)| *known != **key)
        });
        let warm = members
            .warm
            .iter()
            .map(|(_, cell)| TokenView::new(cell, now, true));
        let narrowed = narrowed
            .filter_map(|(_, slot)| slot.cell())
            .map(|cell| TokenView::new(&cell, now, false));
        TokenView::of_people(warm.chain(narrowed))
    }

    /// What the generation in force names.
    #[must_use]
    pub fn members(&self) -> Members<S> {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or_default()
    }

    /// Every token that there is of a credential.
    #[must_use]
    pub fn cells_of(&self, issuer: &Issuer<S>) -> Vec<Arc<TokenCell>> {
        let warm = self.members().warm.into_iter();
        let warm = warm.filter(|(key, _)| key.issuer == issuer.id);
        let narrowed = self.narrowed.iter();
        let narrowed = narrowed.filter(|(key, _)| key.issuer == issuer.id);
        warm.map(|(_, cell)| cell)
            .chain(narrowed.filter_map(|(_, slot)| slot.cell()))
            .collect()
    }

    /// What makes a token of a credential differ from its others.
    #[must_use]
    pub fn key(
        issuer: &Issuer<S>,
        scopes: Option<ScopeSet>,
        subject: Option<Arc<str>>,
    ) -> TokenKey {
        TokenKey {
            issuer: issuer.id,
            // A set of no scopes is asked for like no set: `scope` must not be empty (RFC 6749 section 3.3).
            scopes: scopes.filter(|scopes| !scopes.is_empty()),
            subject,
        }
    }

    /// Puts a generation into force.
    pub fn enter(&self, members: Members<S>) {
        let former = {
            let mut current = self.members.write().unwrap_or_else(PoisonError::into_inner);
            current.replace(members)
        };
        if former.is_some_and(|former| former.is_complete()) {
            self.has_been_complete.store(true, Ordering::Relaxed);
        }
        self.forget_others();
    }

    /// Lets go of what no credential of the generation in force needs: narrowed tokens, and series. Those that are still in
    /// flight may bring some of it back.
    pub fn forget_others(&self) {
        let members = self.members();
        for (key, _) in &self.narrowed {
            if !members.has_issuer(key.issuer) {
                self.narrowed.invalidate(&*key);
            }
        }
        let is_named = |name: &str| members.issuers.iter().any(|issuer| *issuer.name == *name);
        self.metrics.retain(is_named);
    }
}

impl<S> Members<S> {
    fn has_issuer(&self, id: u64) -> bool {
        self.issuers.iter().any(|issuer| issuer.id == id)
    }

    /// The credentials of which a warm token waits for a login, each once.
    fn awaiting_login(&self) -> Vec<String> {
        let waiting = self
            .warm
            .iter()
            .filter(|(_, cell)| cell.status().borrow().login_needed().is_some());
        let mut names: Vec<String> = waiting
            .map(|(_, cell)| cell.params().credential.to_string())
            .collect();
        names.dedup();
        names
    }

    /// Whether every warm token has been held. One that awaits a login is not waited for: that may take days.
    fn is_complete(&self) -> bool {
        let is_settled = |cell: &TokenCell| {
            cell.held().is_some() || cell.status().borrow().login_needed().is_some()
        };
        self.warm.iter().all(|(_, cell)| is_settled(cell))
    }
}

impl<S> Default for Members<S> {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            warm: Vec::new(),
        }
    }
}

impl<S> Clone for Members<S> {
    fn clone(&self) -> Self {
        Self {
            issuers: self.issuers.clone(),
            warm: self.warm.clone(),
        }
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
        let members = self.members();
        members
            .issuers
            .iter()
            .map(|issuer| {
                let cells = members.warm.iter();
                let cells = cells.filter(|(key, _)| key.issuer == issuer.id);
                let credential = issuer.credential();
                CredentialGauges {
                    credential: Arc::clone(&issuer.name),
                    grant: credential.grant,
                    auth_method: credential.auth_method,
                    warm: cells
                        .map(|(_, cell)| view::gauges(&cell.snapshot(now), now))
                        .reduce(WarmGauges::and),
                    clock_skew: issuer.skew.seconds().unwrap_or(0.0),
                }
            })
            .collect()
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
    use http::HeaderValue;

    use super::*;
    use crate::{
        clock::ManualClock,
        oauth::{Injection, TokenEndpoint},
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
        let field = Injection::Bearer(HeaderValue::from_static("Bearer fixed"));
        let credential = Arc::new(Credential {
            name: "fixed".into(),
            grant: "static",
            auth_method: "none",
            subject_header: None,
            source: Source::Static(field.clone()),
            timing: Timing {
                default_lifetime: Duration::from_secs(300),
                refresh_ahead: RefreshAhead::Share(0.2),
                safety_margin: Duration::from_secs(30),
                wait: Duration::from_secs(10),
            },
        });
        let issuer = pool.new_issuer(&credential, Origin::Fixed(field));
        let cell = Arc::downgrade(&pool.narrowed(&issuer, None, None));
        let slot = pool.narrowed.get(&Pool::key(&issuer, None, None)).unwrap();
        assert!(cell.upgrade().is_some());

        pool.narrowed.invalidate_all();
        pool.narrowed.run_pending_tasks();
        assert!(cell.upgrade().is_none());
        assert!(slot.cell().is_none());
    }
}
