//! The backend `file`: one sealed file for each record.

use std::{
    fs::{File, TryLockError},
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest;
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    KeyFile, Record, StoreError, StoreKey, Version,
    directory::{Directory, system},
    key::RecordName,
    record,
    seal::{SealingKeys, Shut},
    turns::{Turn, Turns},
};
use crate::random;

/// How often the lock of another process is tried. It is held for one token request.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// How often it is looked whether a record has changed.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// So many look each in its own time; more of them look less often.
const CROWD: usize = 100;

/// The least that is reserved: most records are a quarter of it.
const RESERVED: usize = 16 * 1024;

/// The store of one directory.
pub(super) struct FileStore {
    directory: PathBuf,
    key_file: KeyFile,
    turns: Turns,
    /// How many wait for a change.
    watchers: Arc<()>,
}

/// The right to change one record.
pub(super) struct Locked(Arc<Mutex<Holder>>);

/// Does the work of a lock, on threads that may wait for a disk.
struct Holder {
    directory: Directory,
    key_file: KeyFile,
    key: StoreKey,
    name: RecordName,
    /// What the file was when it was read or written last.
    seen: Option<Contents>,
    /// Room for the next record, and the keys to seal it with.
    reserved: Option<(File, SealingKeys)>,
    /// Released when they are closed; in this order.
    _lock: Arc<File>,
    _turn: Turn,
}

/// Tells what is in a file from what was; `None`: there is no file.
type Contents = Option<[u8; digest::SHA256_OUTPUT_LEN]>;

impl FileStore {
    pub(super) fn new(directory: &Path, key_file: KeyFile) -> Self {
        Self {
            directory: directory.to_owned(),
            key_file,
            turns: Turns::default(),
            watchers: Arc::default(),
        }
    }

    pub(super) async fn read(
        self: &Arc<Self>,
        key: &StoreKey,
    ) -> Result<Option<Record>, StoreError> {
        let (store, name) = (Arc::clone(self), key.record_name());
        blocking(move || {
            let Some(directory) = Directory::open(&store.directory)? else {
                return Ok(None);
            };
            let Some(sealed) = directory.read(&name.state_file())? else {
                return Ok(None);
            };
            let (_key, record) = open(&directory, &name, &sealed, &store.key_file)?;
            Ok(Some(record))
        })
        .await
    }

    pub(super) async fn lock(self: &Arc<Self>, key: &StoreKey) -> Result<Locked, StoreError> {
        let name = key.record_name();
        let turn = self.turns.wait(&name).await;
        let (directory, lock) = {
            let (store, name) = (Arc::clone(self), name.clone());
            blocking(move || {
                let directory = Directory::open_or_make(&store.directory)?;
                let lock = directory.lock_file(&name.lock_file())?;
                Ok((directory, Arc::new(lock)))
            })
            .await?
        };
        // Not waited for in the system, where the wait could not be given up.
        let path = directory.path_of(&name.lock_file());
        loop {
            let (lock, path) = (Arc::clone(&lock), path.clone());
            let locked = blocking(move || match lock.try_lock() {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(system("lock", &path)(error)),
            });
            if locked.await? {
                break;
            }
            sleep(LOCK_PAUSE).await;
        }
        let holder = Holder {
            directory,
            key_file: self.key_file.clone(),
            key: key.clone(),
            name,
            seen: None,
            reserved: None,
            _lock: lock,
            _turn: turn,
        };
        let locked = Locked(Arc::new(Mutex::new(holder)));
        locked.work(|holder| holder.clean()).await?;
        Ok(locked)
    }

    /// Whether somebody holds the lock of a record, in this process or another. Changes nothing; who waits for the lock waits for one
    /// more [`LOCK_PAUSE`] at most.
    pub(super) async fn is_locked(self: &Arc<Self>, key: &StoreKey) -> Result<bool, StoreError> {
        let (store, name) = (Arc::clone(self), key.record_name());
        blocking(move || {
            let Some(directory) = Directory::open(&store.directory)? else {
                return Ok(false);
            };
            let file_name = name.lock_file();
            let Some(lock) = directory.existing_lock_file(&file_name)? else {
                return Ok(false);
            };
            match lock.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => {
                    Err(system("lock", &directory.path_of(&file_name))(error))
                }
            }
        })
        .await
    }

    pub(super) async fn changed(self: &Arc<Self>, key: &StoreKey, known: Option<&Version>) {
        let name = key.record_name();
        let watchers = Arc::clone(&self.watchers);
        let mut last = None;
        loop {
            let (store, name) = (Arc::clone(self), name.clone());
            let identity = blocking(move || match Directory::open(&store.directory)? {
                Some(directory) => directory.identity(&name.state_file()),
                None => Ok(None),
            });
            if let Ok(identity) = identity.await
                && last != Some(identity)
                && let Ok(record) = self.read(key).await
            {
                if record.map(|record| record.version).as_ref() != known {
                    return;
                }
                last = Some(identity);
            }
            sleep(watch_pause(Arc::strong_count(&watchers))).await;
        }
    }

    pub(super) async fn list(
        self: &Arc<Self>,
    ) -> Result<Vec<Result<(StoreKey, Record), StoreError>>, StoreError> {
        let store = Arc::clone(self);
        blocking(move || {
            let Some(directory) = Directory::open(&store.directory)? else {
                return Ok(Vec::new());
            };
            let read = |name: &RecordName| match directory.read(&name.state_file()) {
                Ok(Some(sealed)) => Some(open(&directory, name, &sealed, &store.key_file)),
                // Forgotten since the directory was listed.
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            };
            let names = directory.names()?;
            let names = names
                .iter()
                .filter_map(|file| RecordName::of_state_file(file));
            Ok(names.filter_map(|name| read(&name)).collect())
        })
        .await
    }
}

impl Locked {
    pub(super) async fn current(&self) -> Result<Option<Record>, StoreError> {
        self.work(Holder::current).await
    }

    pub(super) async fn reserve(&self) -> Result<(), StoreError> {
        self.work(Holder::reserve).await
    }

    pub(super) async fn note(&self, record: Record) -> Result<(), StoreError> {
        self.work(move |holder| {
            holder.check_unchanged()?;
            let keys = holder.key_file.read_or_make()?;
            let file_name = holder.name.draft_file();
            let draft = holder.directory.create(&file_name)?;
            holder.write(draft, &keys, &file_name, &record)
        })
        .await
    }

    pub(super) async fn commit(&self, record: Record) -> Result<(), StoreError> {
        self.work(move |holder| {
            holder.check_unchanged()?;
            holder.write_into_reserved(&record)
        })
        .await
    }

    pub(super) async fn replace(&self, record: Record) -> Result<(), StoreError> {
        self.work(move |holder| holder.write_into_reserved(&record))
            .await
    }

    pub(super) async fn forget(&self) -> Result<bool, StoreError> {
        self.work(|holder| {
            let removed = holder.directory.remove(&holder.name.state_file())?;
            holder.seen = Some(None);
            holder.directory.sync()?;
            Ok(removed)
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Holder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let holder = Arc::clone(&self.0);
        blocking(move || work(&mut holder.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl Holder {
    fn current(&mut self) -> Result<Option<Record>, StoreError> {
        // What cannot be read has not been seen: it is not replaced by a rotation.
        self.seen = None;
        let Some(sealed) = self.directory.read(&self.name.state_file())? else {
            self.seen = Some(None);
            return Ok(None);
        };
        let (_key, record) = open(&self.directory, &self.name, &sealed, &self.key_file)?;
        self.seen = Some(contents(&sealed));
        Ok(Some(record))
    }

    fn reserve(&mut self) -> Result<(), StoreError> {
        // Two of what is there now: the next record may have longer tokens.
        let current = self.directory.read(&self.name.state_file())?;
        let current = current.map_or(0, |sealed| sealed.len());
        let size = current.saturating_mul(2).max(RESERVED);
        let keys = self.key_file.read_or_make()?;
        let file_name = self.name.reserved_file();
        let mut file = self.directory.create(&file_name)?;
        // Random, so that a file system that compresses takes the room too; written and synced, so that one that promises room
        // late, or over a network, keeps its promise now.
        let mut filling = vec![0; size];
        random::fill(&mut filling);
        file.write_all(&filling)
            .and_then(|()| file.sync_all())
            .map_err(system(
                "reserve room in",
                &self.directory.path_of(&file_name),
            ))?;
        self.reserved = Some((file, keys));
        Ok(())
    }

    fn write_into_reserved(&mut self, record: &Record) -> Result<(), StoreError> {
        let name = self.name.reserved_file();
        let (file, keys) = match self.reserved.take() {
            Some(reserved) => reserved,
            None => (self.directory.create(&name)?, self.key_file.read_or_make()?),
        };
        self.write(file, &keys, &name, record)
    }

    /// Writes a record into `file`, which is called `file_name`, and gives it the record's name.
    fn write(
        &mut self,
        mut file: File,
        keys: &SealingKeys,
        file_name: &str,
        record: &Record,
    ) -> Result<(), StoreError> {
        let path = self.directory.path_of(file_name);
        let sealed = keys
            .seal(&self.name, record::encode(&self.key, record))
            .ok_or_else(|| system("seal", &path)(std::io::ErrorKind::Other.into()))?;
        file.rewind()
            .and_then(|()| file.write_all(&sealed))
            .and_then(|()| file.set_len(sealed.len() as u64))
            .and_then(|()| file.sync_all())
            .map_err(system("write", &path))?;
        self.directory.rename(file_name, &self.name.state_file())?;
        self.seen = Some(contents(&sealed));
        self.directory.sync()
    }

    /// Compare-and-set: what is replaced is what was read.
    fn check_unchanged(&self) -> Result<(), StoreError> {
        let state_file = self.name.state_file();
        let found = self.directory.read(&state_file)?;
        let found = found.as_deref().and_then(contents);
        if self.seen == Some(found) {
            return Ok(());
        }
        Err(StoreError::Changed {
            path: self.directory.path_of(&state_file),
        })
    }

    /// Removes what a process that was killed has left behind. It held this lock: nobody else uses it.
    fn clean(&self) -> Result<(), StoreError> {
        self.directory.remove(&self.name.draft_file())?;
        self.directory.remove(&self.name.reserved_file())?;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.reserved.is_some() {
            // Room for a record that was not written. If this fails, the next who locks removes it.
            let _ = self.directory.remove(&self.name.reserved_file());
        }
    }
}

fn open(
    directory: &Directory,
    name: &RecordName,
    sealed: &[u8],
    key_file: &KeyFile,
) -> Result<(StoreKey, Record), StoreError> {
    let path = || directory.path_of(&name.state_file());
    let content = |reason| StoreError::Content {
        path: path(),
        reason,
    };
    let opened = key_file.read()?.open(name, sealed);
    let opened = opened.map_err(|shut| match shut {
        Shut::NoKey(id) => StoreError::NoKey { path: path(), id },
        Shut::Content(reason) => content(reason),
    })?;
    let (key, record) = record::decode(&opened)
        .ok_or_else(|| content("was written by another version of bursar"))?;
    if key.record_name() == *name {
        Ok((key, record))
    } else {
        Err(content("is the record of another credential"))
    }
}

/// How long one of so many waits between two looks: whoever names people that nobody knows keeps no disk busy with it.
fn watch_pause(watchers: usize) -> Duration {
    let crowds = u32::try_from(watchers / CROWD).unwrap_or(u32::MAX);
    WATCH_PAUSE.saturating_mul(crowds.saturating_add(1))
}

fn contents(sealed: &[u8]) -> Contents {
    let digest = digest::digest(&digest::SHA256, sealed);
    digest.as_ref().try_into().ok()
}

/// On a thread that may wait for a disk. What has begun there is finished, whoever waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(StoreError::Ending),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_looks_less_often_so_that_all_together_look_no_more_than_a_hundred_times_a_second() {
        assert_eq!(watch_pause(1), WATCH_PAUSE);
        assert_eq!(watch_pause(99), WATCH_PAUSE);
        for watchers in [100, 1_000, 10_000] {
            let looks = watchers as f64 / watch_pause(watchers).as_secs_f64();
            assert!(looks <= 100.0, "{watchers}: {looks}");
        }
    }
}
