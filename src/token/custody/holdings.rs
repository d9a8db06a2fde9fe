//! What only this process knows of its logins.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    secret::{self, SecretString},
    store::{Record, StoreKey, Version},
};

/// One for each record that has been read.
#[derive(Default)]
pub(super) struct Holdings(Mutex<HashMap<StoreKey, Holding>>);

#[derive(Default)]
struct Holding {
    /// What was read last.
    seen: Option<Version>,
    /// The access token that was handed out last, by what was asked for.
    served: HashMap<Option<String>, SecretString>,
    /// An attempt whose intent stands open on the disk, though nothing was presented.
    unspent: Option<String>,
    /// What the disk does not take.
    afloat: Option<Record>,
}

impl Holdings {
    /// Which state of the record was read last; `None`: there was none.
    pub(super) fn seen(&self, key: &StoreKey) -> Option<Version> {
        self.all().get(key)?.seen.clone()
    }

    /// Keeps in mind that this was read.
    pub(super) fn saw(&self, key: &StoreKey, version: Option<&Version>) {
        let mut all = self.all();
        match version {
            Some(version) => all.entry(key.clone()).or_default().seen = Some(version.clone()),
            // Whoever made the name up, nothing is kept of it.
            None => {
                all.remove(key);
            }
        }
    }

    /// Whether `token` is what was handed out last to who asked for `asked`: whoever asks again needs another.
    pub(super) fn was_served(
        &self,
        key: &StoreKey,
        asked: Option<&String>,
        token: &SecretString,
    ) -> bool {
        let all = self.all();
        let served = all.get(key).and_then(|its| its.served.get(&asked.cloned()));
        served.is_some_and(|served| secret::is_same(served, token))
    }

    /// Keeps in mind what is handed out; gives back what was before.
    pub(super) fn serve(
        &self,
        key: &StoreKey,
        asked: Option<String>,
        token: Option<SecretString>,
    ) -> Option<SecretString> {
        let mut all = self.all();
        let served = &mut all.entry(key.clone()).or_default().served;
        match token {
            Some(token) => served.insert(asked, token),
            None => served.remove(&asked),
        }
    }

    /// Whether nothing was presented in `attempt`, whatever the disk says.
    pub(super) fn is_unspent(&self, key: &StoreKey, attempt: &str) -> bool {
        let all = self.all();
        let unspent = all.get(key).and_then(|its| its.unspent.as_deref());
        unspent == Some(attempt)
    }

    /// Keeps in mind that nothing was presented in `attempt`.
    pub(super) fn set_unspent(&self, key: &StoreKey, attempt: String) {
        self.all().entry(key.clone()).or_default().unspent = Some(attempt);
    }

    /// The record that should be on the disk.
    pub(super) fn afloat(&self, key: &StoreKey) -> Option<Record> {
        self.all().get(key)?.afloat.clone()
    }

    /// Keeps what should be on the disk; `None`: it is there now.
    pub(super) fn set_afloat(&self, key: &StoreKey, record: Option<Record>) {
        self.all().entry(key.clone()).or_default().afloat = record;
    }

    fn all(&self) -> MutexGuard<'_, HashMap<StoreKey, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
