//! Where the keys of the store come from.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    StoreError,
    directory::{make_directory, parent_of, sync_directory, system},
    seal::SealingKeys,
};
use crate::{
    random,
    secret::{self, SecretFile, SecretFileError, SecretFiles},
};

/// The file with the keys (`key_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// As configured. It may be a link, as Kubernetes mounts secrets.
    Given {
        /// Where it is.
        path: PathBuf,
        /// Who else may read it.
        rule: SecretFiles,
    },
    /// Our own, in a directory where other files of ours are (`$XDG_CONFIG_HOME/bursar`): made when something is first stored.
    Own {
        /// Where it is.
        path: PathBuf,
    },
}

impl KeyFile {
    /// The keys, for opening; of our own there may be none yet.
    pub(super) fn read(&self) -> Result<SealingKeys, StoreError> {
        let (path, rule) = match self {
            Self::Given { path, rule } => (path, *rule),
            Self::Own { path } => (path, SecretFiles::Private),
        };
        let file = match (secret::read_with_exposure(path, rule), self) {
            (Ok(file), _) => file,
            (Err(SecretFileError::Read { source, .. }), Self::Own { .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(SealingKeys::none());
            }
            (Err(error), _) => return Err(StoreError::KeyFile(error)),
        };
        if let Self::Own { path } = self {
            check_owner(path, &file)?;
        }
        SealingKeys::parse(&file.secret).map_err(|fault| StoreError::KeyText {
            path: path.clone(),
            line: fault.line,
            reason: fault.reason,
        })
    }

    /// Whether the keys can be used, as far as there are any. Makes none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.read().map(drop)
    }

    /// The keys, for sealing; our own are made if there are none yet.
    pub(super) fn read_or_make(&self) -> Result<SealingKeys, StoreError> {
        let keys = self.read()?;
        match self {
            Self::Own { path } if keys.is_empty() => {
                make(path)?;
                self.read()
            }
            _ => Ok(keys),
        }
    }
}

/// Who could write it could have chosen the key.
fn check_owner(path: &Path, file: &SecretFile) -> Result<(), StoreError> {
    let us = rustix::process::geteuid().as_raw();
    if file.owner == us {
        return Ok(());
    }
    Err(StoreError::Owner {
        path: path.to_owned(),
        owner: file.owner,
        us,
    })
}

/// Makes a key file with one key in it. Where another process makes one at the same time, one of the two is the one, for both.
fn make(path: &Path) -> Result<(), StoreError> {
    let parent = parent_of(path);
    if !parent.exists() {
        make_directory(parent)?;
    }
    let mut key = Zeroizing::new([0_u8; 32]);
    random::fill(&mut *key);
    let mut line = Zeroizing::new(STANDARD.encode(key.as_slice()));
    line.push('\n');
    // Whole and durable before it has the name: nobody ever reads half a key, or loses one that has sealed something.
    let draft = parent.join(format!(".{}", random::id128()));
    let written = write(&draft, line.as_bytes());
    // A link never replaces what is there.
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // Done or failed, the draft has no further use.
    let removed = fs::remove_file(&draft);
    linked.and(removed).map_err(system("write", path))?;
    sync_directory(parent)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
        thread,
    };

    use super::*;
    use crate::store::Severity;

    fn own(directory: &tempfile::TempDir) -> (KeyFile, PathBuf) {
        let path = directory.path().join("config/bursar/state.key");
        (KeyFile::Own { path: path.clone() }, path)
    }

    #[test]
    fn our_own_key_is_made_once_private_and_only_for_sealing() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, path) = own(&directory);
        assert!(keys.read().unwrap().is_empty());
        assert!(!path.exists());

        keys.read_or_make().unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        keys.read_or_make().unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn the_directory_of_our_own_key_may_be_readable_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, path) = own(&directory);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(keys.read_or_make().is_ok());
    }

    #[test]
    fn of_many_that_make_the_key_at_once_all_get_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, path) = own(&directory);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| keys.read_or_make().unwrap());
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, path) = own(&directory);
        keys.read_or_make().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = keys.read().err().unwrap();
        assert_eq!(error.severity(), Severity::Exposed);
    }

    #[test]
    fn a_configured_key_must_be_there_and_is_never_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let keys = KeyFile::Given {
            path: path.clone(),
            rule: SecretFiles::Private,
        };
        assert!(matches!(
            keys.read_or_make().err().unwrap(),
            StoreError::KeyFile(_)
        ));
        assert!(!path.exists());

        fs::write(&path, "secret words").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = keys.read().err().unwrap();
        assert!(matches!(error, StoreError::KeyText { line: 1, .. }));
        assert!(!format!("{error:?} {error}").contains("secret words"));
    }
}
