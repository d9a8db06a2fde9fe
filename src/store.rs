//! Custody of what must outlive the process: rotated refresh tokens, and the keys of users.
//!
//! A refresh token that is good for one use is lost for ever when its successor is: so a record is replaced all at once and durably, or
//! not at all, and whoever replaces it holds a lock that reaches across processes.
//!
//! # One record
//!
//! One [`Record`] for each [`StoreKey`]: credential, token endpoint, client and, where the credential serves many people, subject. What
//! is stored for one can be used for no other: a changed token URL is another credential, and asks for another login.
//!
//! # On disk
//!
//! A directory (0700) holds, for each record, three names that begin the same, with the credential's name and a digest of the key:
//!
//! | file | what it is |
//! | --- | --- |
//! | `….state` | the record, sealed (AES-256-GCM-SIV) for this very name: it opens under no other |
//! | `….lock` | empty; whoever changes the record holds a lock on it |
//! | `….draft`, `….reserved` | a record in the making, and the room for the next one; left behind by a kill, removed by the next writer |
//!
//! Nothing is written but by a login or a rotation.
//!
//! # Files
//!
//! `key` names a record, `record` is what it holds, `seal` what hides it and `key_file` where the keys for that come from.
//! `directory` opens files so that nobody can slip us another, `file` and `memory` are the two backends. `turns` queues the tasks
//! of one process, `metrics` counts, `error` says what went wrong and what to do.

mod directory;
mod error;
mod file;
mod key;
mod key_file;
mod memory;
mod metrics;
mod record;
mod seal;
#[cfg(test)]
mod tests;
mod turns;

use std::{path::PathBuf, sync::Arc};

pub use error::{Severity, StoreError};
pub use key::StoreKey;
pub use key_file::KeyFile;
pub use metrics::StoreMetrics;
pub use record::{Access, Granted, Intent, Record, Version};

use file::FileStore;
use memory::MemoryStore;
use metrics::Operation;

/// Where records are kept (`[state]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreParams {
    /// `file`: sealed files, shared by all processes of one user on one machine.
    File {
        /// `path`: the directory.
        directory: PathBuf,
        /// `key_file`.
        key_file: KeyFile,
    },
    /// `memory`: nothing is written, and nothing outlives the process.
    Memory,
}

/// The one store of the process.
///
/// Making one touches nothing: the directory and the keys are looked at anew by each operation, so that a volume that is mounted late,
/// or a key that is replaced, needs no reload.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    metrics: Arc<StoreMetrics>,
}

#[derive(Clone)]
enum Backend {
    File(Arc<FileStore>),
    Memory(Arc<MemoryStore>),
}

/// The right to change one record. Nobody else has it, in this process or another, until this is dropped.
///
/// An operation that has begun is finished even if the one who waits for it goes away; the lock is held for so long.
pub struct Guard {
    held: Held,
    metrics: Arc<StoreMetrics>,
}

enum Held {
    File(file::Locked),
    Memory(memory::Locked),
}

impl Store {
    /// The store that `params` describe.
    #[must_use]
    pub fn new(params: &StoreParams, metrics: Arc<StoreMetrics>) -> Self {
        let backend = match params {
            StoreParams::File {
                directory,
                key_file,
            } => Backend::File(Arc::new(FileStore::new(directory, key_file.clone()))),
            StoreParams::Memory => Backend::Memory(Arc::default()),
        };
        let store = Self { backend, metrics };
        store.metrics.prepare(store.backend());
        store
    }

    /// The backend's name, as the configuration has it.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        match &self.backend {
            Backend::File(_) => "file",
            Backend::Memory(_) => "memory",
        }
    }

    /// The record of `key` as it is now; `None`: nobody has logged in. Needs no lock: a record is replaced all at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let read = match &self.backend {
            Backend::File(store) => store.read(key).await,
            Backend::Memory(store) => Ok(store.read(key)),
        };
        self.metrics.count(self.backend(), Operation::Read, read)
    }

    /// Waits for the right to change the record of `key`, without end: whoever cannot wait so long drops the future.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn lock(&self, key: &StoreKey) -> Result<Guard, StoreError> {
        let held = match &self.backend {
            Backend::File(store) => store.lock(key).await.map(Held::File),
            Backend::Memory(store) => Ok(Held::Memory(store.lock(key).await)),
        };
        let held = self.metrics.count(self.backend(), Operation::Lock, held)?;
        Ok(Guard {
            held,
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Whether somebody is changing the record of `key`: a rotation or a login is under way. By the time that the answer is read, it may
    /// be over.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn is_locked(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let locked = match &self.backend {
            Backend::File(store) => store.is_locked(key).await,
            Backend::Memory(store) => Ok(store.is_locked(key)),
        };
        self.metrics.count(self.backend(), Operation::Lock, locked)
    }

    /// Resolves when the record of `key` is another than `known` (`None`: there was none): somebody has logged in, or another process
    /// has rotated. A store that cannot be read is waited for.
    pub async fn changed(&self, key: &StoreKey, known: Option<&Version>) {
        match &self.backend {
            Backend::File(store) => store.changed(key, known).await,
            Backend::Memory(store) => store.changed(key, known).await,
        }
    }

    /// Every record, in the order of their names, and what is wrong with those that cannot be read.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if not even the directory or the keys can be read.
    pub async fn list(&self) -> Result<Vec<Result<(StoreKey, Record), StoreError>>, StoreError> {
        let listed = match &self.backend {
            Backend::File(store) => store.list().await,
            Backend::Memory(store) => Ok(store.list().into_iter().map(Ok).collect()),
        };
        self.metrics.count(self.backend(), Operation::Read, listed)
    }
}

impl Guard {
    /// The record as it is now. What is written next replaces this one, and no other.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn current(&self) -> Result<Option<Record>, StoreError> {
        let read = match &self.held {
            Held::File(locked) => locked.current().await,
            Held::Memory(locked) => Ok(locked.current()),
        };
        self.count(Operation::Read, read)
    }

    /// Takes the room for the next [`commit`](Self::commit), so that a full or read-only disk shows now, while nothing is lost yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reserve(&self) -> Result<(), StoreError> {
        let reserved = match &self.held {
            Held::File(locked) => locked.reserve().await,
            Held::Memory(_) => Ok(()),
        };
        self.count(Operation::Reserve, reserved)
    }

    /// Writes down what is about to happen: the current record with its intent opened, or closed again. The reserved room stays.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Changed`] if the record is not what [`current`](Self::current) has shown.
    pub async fn note(&self, record: &Record) -> Result<(), StoreError> {
        let written = match &self.held {
            Held::File(locked) => locked.note(record.clone()).await,
            Held::Memory(locked) => locked.write(record),
        };
        self.count(Operation::Intent, written)
    }

    /// Replaces the record by its successor, durably: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Changed`] if the record is not what [`current`](Self::current) has shown.
    pub async fn commit(&self, record: &Record) -> Result<(), StoreError> {
        let written = match &self.held {
            Held::File(locked) => locked.commit(record.clone()).await,
            Held::Memory(locked) => locked.write(record),
        };
        self.count(Operation::Commit, written)
    }

    /// As [`commit`](Self::commit), whatever is there, be it that it cannot be read: a person has logged in.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn replace(&self, record: &Record) -> Result<(), StoreError> {
        let written = match &self.held {
            Held::File(locked) => locked.replace(record.clone()).await,
            Held::Memory(locked) => {
                locked.replace(record);
                Ok(())
            }
        };
        self.count(Operation::Commit, written)
    }

    /// Removes the record, whatever it is: a person has logged out. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn forget(&self) -> Result<bool, StoreError> {
        let removed = match &self.held {
            Held::File(locked) => locked.forget().await,
            Held::Memory(locked) => Ok(locked.forget()),
        };
        self.count(Operation::Forget, removed)
    }

    fn count<T>(
        &self,
        operation: Operation,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let backend = match &self.held {
            Held::File(_) => "file",
            Held::Memory(_) => "memory",
        };
        self.metrics.count(backend, operation, result)
    }
}
