//! The backend `memory`: records that end with the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    Record, StoreError, StoreKey, Version,
    turns::{Turn, Turns},
};

/// The records.
pub(super) struct MemoryStore {
    records: Mutex<BTreeMap<StoreKey, Record>>,
    turns: Turns,
    /// Told of every write.
    written: watch::Sender<()>,
}

/// The right to change one of them.
pub(super) struct Locked {
    store: Arc<MemoryStore>,
    key: StoreKey,
    _turn: Turn,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            turns: Turns::default(),
            written: watch::Sender::new(()),
        }
    }
}

impl MemoryStore {
    pub(super) fn read(&self, key: &StoreKey) -> Option<Record> {
        self.records().get(key).cloned()
    }

    pub(super) async fn lock(self: &Arc<Self>, key: &StoreKey) -> Locked {
        Locked {
            store: Arc::clone(self),
            key: key.clone(),
            _turn: self.turns.wait(&key.record_name()).await,
        }
    }

    pub(super) fn is_locked(&self, key: &StoreKey) -> bool {
        self.turns.is_taken(&key.record_name())
    }

    pub(super) async fn changed(&self, key: &StoreKey, known: Option<&Version>) {
        let mut written = self.written.subscribe();
        let is_another = |()| self.records().get(key).map(|record| &record.version) != known;
        // The sender is ours: it does not end.
        let _ = written.wait_for(|_| is_another(())).await;
    }

    pub(super) fn list(&self) -> Vec<(StoreKey, Record)> {
        let records = self.records();
        let pairs = records.iter();
        pairs
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect()
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<StoreKey, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    pub(super) fn current(&self) -> Option<Record> {
        self.store.read(&self.key)
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), StoreError> {
        // The lock is real and nobody can go round it: there is nothing to compare with.
        self.replace(record);
        Ok(())
    }

    pub(super) fn replace(&self, record: &Record) {
        self.store
            .records()
            .insert(self.key.clone(), record.clone());
        self.store.written.send_replace(());
    }

    pub(super) fn forget(&self) -> bool {
        let removed = self.store.records().remove(&self.key).is_some();
        self.store.written.send_replace(());
        removed
    }
}
