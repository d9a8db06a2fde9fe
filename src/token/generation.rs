//! The credentials and warm tokens of one generation of the configuration.
//!
//! What the generation in force has and the next one needs too is taken over with its tokens. What the next one does not name
//! is let go of: its tokens live on for the requests that began with them, and end with the last of those.

use std::sync::Arc;

use super::{
    Credential,
    cell::TokenCell,
    issuer::{Change, Issuer, Origin},
    pool::{Members, Pool},
};
use crate::{oauth::TokenSource, scope::ScopeSet};

/// A generation in the making.
pub struct Generation<S> {
    pool: Arc<Pool<S>>,
    members: Members<S>,
}

impl<S: TokenSource> Generation<S> {
    /// Names nothing yet.
    #[must_use]
    pub fn new(pool: &Arc<Pool<S>>) -> Self {
        Self {
            pool: Arc::clone(pool),
            members: Members::default(),
        }
    }

    /// Names a credential. `origin` is asked where its tokens come from, if it is new or if that has changed.
    pub fn issuer(
        &mut self,
        credential: &Arc<Credential>,
        origin: impl FnOnce(&Credential) -> Origin<S>,
    ) -> Arc<Issuer<S>> {
        let named = |issuer: &&Arc<Issuer<S>>| issuer.name == credential.name;
        if let Some(issuer) = self.members.issuers.iter().find(named) {
            return Arc::clone(issuer);
        }
        let former = self.pool.members();
        let now = self.pool.now().wall;
        let known = former.issuers.iter().find(named);
        let issuer = match known.map(|issuer| (issuer, issuer.change(credential, now))) {
            Some((issuer, Change::None)) => {
                issuer.renew(credential, None, false);
                Arc::clone(issuer)
            }
            Some((issuer, Change::Later)) => {
                issuer.renew(credential, Some(origin(credential)), false);
                Arc::clone(issuer)
            }
            Some((issuer, Change::Proof)) => {
                issuer.renew(credential, Some(origin(credential)), true);
                for cell in self.pool.cells_of(issuer) {
                    issuer.renew_cell(&cell);
                }
                Arc::clone(issuer)
            }
            Some((_, Change::Client)) | None => {
                Arc::new(self.pool.new_issuer(credential, origin(credential)))
            }
        };
        self.members.issuers.push(Arc::clone(&issuer));
        issuer
    }

    /// Names a token that is kept warm; one that is not there yet is asked for at once.
    pub fn warm(&mut self, issuer: &Issuer<S>, scopes: Option<ScopeSet>) -> Arc<TokenCell> {
        let key = Pool::key(issuer, scopes, None);
        let former = self.pool.members();
        let mut known = self.members.warm.iter().chain(&former.warm);
        let cell = match known.find(|(other, _)| *other == key) {
            Some((_, cell)) => Arc::clone(cell),
            None => self.pool.cell(issuer, key.scopes.clone(), None),
        };
        if self.members.warm.iter().all(|(other, _)| *other != key) {
            self.members.warm.push((key, Arc::clone(&cell)));
        }
        cell
    }

    /// Puts it into force: the world is told of this one from now on.
    pub fn enter(&self) {
        self.pool.enter(self.members.clone());
    }
}
