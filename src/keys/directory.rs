//! A directory of keys (`keys_dir`): each file is one key, and its name says when it begins to sign.
//!
//! The directory is all the state that there is. It may be mounted read-only and shared by replicas: who runs reads, and only
//! `bursar keys` writes.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Mode, OFlags},
};

use super::{Algorithm, KeyError, KeyStart, SigningKey, timeline::Turn};
use crate::{
    random,
    secret::{self, ExposeSecret as _, SecretFileError, SecretFiles, SecretString},
};

/// What was found in a directory.
#[derive(Debug, Default)]
pub struct KeyFiles {
    /// The keys, in no order.
    pub keys: Vec<Turn<Arc<SigningKey>>>,
    /// Files that others can read, where [`SecretFiles::Any`] let that pass: worth a warning each.
    pub exposures: Vec<SecretFileError>,
    /// Files that belong neither to us nor to root, and their owners, who chose the keys in them: worth a warning each.
    pub strangers: Vec<(PathBuf, u32)>,
}

/// What is wrong with a directory, or with one of its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// There is no key in it.
    #[error("there is no key in {0}")]
    Empty(PathBuf),
    /// A name that is not a time.
    #[error("the name of {0} does not say when the key begins to sign")]
    Name(PathBuf),
    /// A file that cannot be read, or that others can read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Not a key, or one of another kind than `signing_alg` wants.
    #[error("{path}: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// One key under two names: it would be retired and active at once.
    #[error("{path} holds the same key as {other}")]
    Twice {
        /// One file.
        path: PathBuf,
        /// The name of the other.
        other: String,
    },
}

/// Reads every key in `directory`.
///
/// Only `*.pem` are keys; hidden files and all others (`..data` of a Kubernetes mount, what editors leave behind, a README) are not
/// looked at. Symbolic links are followed, as Kubernetes mounts secrets as such.
///
/// # Errors
///
/// Everything that is wrong, at once.
pub fn read(
    directory: &Path,
    rule: SecretFiles,
    algorithm: Option<Algorithm>,
) -> Result<KeyFiles, Vec<KeyFileError>> {
    read_as(
        rustix::process::geteuid().as_raw(),
        directory,
        rule,
        algorithm,
    )
}

/// The same as the user `us`.
fn read_as(
    us: u32,
    directory: &Path,
    rule: SecretFiles,
    algorithm: Option<Algorithm>,
) -> Result<KeyFiles, Vec<KeyFileError>> {
    let unreadable = |source| {
        vec![KeyFileError::Directory {
            path: directory.to_owned(),
            source,
        }]
    };
    let mut found = KeyFiles::default();
    let mut errors = Vec::new();
    for name in names(directory).map_err(unreadable)? {
        match read_one(directory, &name, rule, algorithm) {
            Ok(Some(OneKey {
                turn,
                exposure,
                owner,
            })) => {
                let is_same = |known: &&Turn<Arc<SigningKey>>| known.key.kid() == turn.key.kid();
                match found.keys.iter().find(is_same) {
                    Some(known) => errors.push(KeyFileError::Twice {
                        path: directory.join(&name),
                        other: known.start.file_name(),
                    }),
                    None => found.keys.push(turn),
                }
                found.exposures.extend(exposure);
                if owner != 0 && owner != us {
                    found.strangers.push((directory.join(&name), owner));
                }
            }
            // Deleted between the listing and the reading, by a rotation or by a mount that changes.
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    if found.keys.is_empty() && errors.is_empty() {
        errors.push(KeyFileError::Empty(directory.to_owned()));
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(errors)
    }
}

/// The names of the files that are meant to be keys, sorted.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        // A name that is not Unicode is none of ours.
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
            && name.ends_with(".pem")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A key, and what is known of its file.
struct OneKey {
    turn: Turn<Arc<SigningKey>>,
    exposure: Option<SecretFileError>,
    owner: u32,
}

/// `None`: it is not there any more.
fn read_one(
    directory: &Path,
    name: &str,
    rule: SecretFiles,
    algorithm: Option<Algorithm>,
) -> Result<Option<OneKey>, KeyFileError> {
    let path = directory.join(name);
    let Some(start) = KeyStart::from_file_name(name) else {
        return Err(KeyFileError::Name(path));
    };
    let file = match secret::read_with_exposure(&path, rule) {
        Ok(file) => file,
        Err(SecretFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    match SigningKey::from_pem(&file.secret, algorithm, None) {
        Ok(key) => {
            let key = Arc::new(key);
            Ok(Some(OneKey {
                turn: Turn { start, key },
                exposure: file.exposure,
                owner: file.owner,
            }))
        }
        Err(error) => Err(KeyFileError::Key { path, error }),
    }
}

/// A directory of keys that is about to be changed. What it is called may change meanwhile; it stays the same directory.
#[derive(Debug)]
pub struct KeyDirectory {
    directory: OwnedFd,
}

impl KeyDirectory {
    /// Opens a directory, which must not be a symbolic link.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// The same; makes it, mode 0700, if it is not there.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn open_or_make(path: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Self::open(path),
        }
    }

    /// Writes a key that signs from `start` on, mode 0600. All of it is there under its name, or nothing is; a key that is there
    /// already stays.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn add(&self, start: KeyStart, pem: &SecretString) -> io::Result<()> {
        // Hidden, so that nobody takes it for a key before it is whole.
        let draft = format!(".{}", random::id128());
        let added = self
            .write(&draft, pem)
            .and_then(|()| self.publish(&draft, &start.file_name()));
        // Done or failed, the draft has no further use.
        let removed = rustix::fs::unlinkat(&self.directory, &draft, AtFlags::empty());
        added?;
        removed?;
        self.sync()
    }

    fn write(&self, name: &str, pem: &SecretString) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = fs::File::from(file);
        file.write_all(pem.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// By a link: unlike a rename it never replaces what is there.
    fn publish(&self, draft: &str, name: &str) -> io::Result<()> {
        let directory = &self.directory;
        rustix::fs::linkat(directory, draft, directory, name, AtFlags::empty())?;
        Ok(())
    }

    /// Deletes the key that signs, or would have signed, from `start` on. One that is gone already is no failure.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn remove(&self, start: KeyStart) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, start.file_name(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        time::Duration,
    };

    use super::*;
    use crate::keys::generate;

    fn key() -> SecretString {
        generate(Algorithm::EdDsa).unwrap()
    }

    fn start(seconds: u64) -> KeyStart {
        KeyStart::at(Duration::from_secs(seconds))
    }

    fn directory_with(starts: &[u64]) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        let directory = KeyDirectory::open_or_make(&path).unwrap();
        for seconds in starts {
            directory.add(start(*seconds), &key()).unwrap();
        }
        (parent, path)
    }

    fn starts(path: &Path) -> Vec<u64> {
        let found = read(path, SecretFiles::Private, None).unwrap();
        let mut starts: Vec<_> = found
            .keys
            .iter()
            .map(|turn| turn.start.wall().as_secs())
            .collect();
        starts.sort_unstable();
        starts
    }

    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_added_is_found_whole_and_for_its_owner_only() {
        let (_parent, path) = directory_with(&[1_000, 2_000]);
        assert_eq!(starts(&path), [1_000, 2_000]);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("19700101T001640Z.pem")), 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no draft stays");
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let (_parent, path) = directory_with(&[1_000]);
        let before = fs::read(path.join("19700101T001640Z.pem")).unwrap();
        let directory = KeyDirectory::open(&path).unwrap();
        let refused = directory.add(start(1_000), &key()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path.join("19700101T001640Z.pem")).unwrap(), before);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_removed_key_is_gone_and_removing_it_again_is_no_failure() {
        let (_parent, path) = directory_with(&[1_000, 2_000]);
        let directory = KeyDirectory::open(&path).unwrap();
        directory.remove(start(1_000)).unwrap();
        directory.remove(start(1_000)).unwrap();
        assert_eq!(starts(&path), [2_000]);
    }

    #[test]
    fn a_symbolic_link_is_not_written_through() {
        let (parent, path) = directory_with(&[1_000]);
        let link = parent.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(KeyDirectory::open(&link).is_err());
        assert!(KeyDirectory::open_or_make(&link).is_err());
        // But it is read through.
        assert_eq!(starts(&link), [1_000]);
    }

    #[test]
    fn a_kubernetes_mount_is_read_through_its_links() {
        let (parent, real) = directory_with(&[1_000, 2_000]);
        let mount = parent.path().join("mount");
        let data = mount.join("..2026_11_27_10_15_00.123456789");
        fs::create_dir(&mount).unwrap();
        fs::rename(&real, &data).unwrap();
        symlink(data.file_name().unwrap(), mount.join("..data")).unwrap();
        for name in ["19700101T001640Z.pem", "19700101T003320Z.pem"] {
            symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
        }
        assert_eq!(starts(&mount), [1_000, 2_000]);
        // A link that the kubelet has not cleared away yet.
        symlink(
            "..data/19700101T010000Z.pem",
            mount.join("19700101T010000Z.pem"),
        )
        .unwrap();
        assert_eq!(starts(&mount), [1_000, 2_000]);
    }

    #[test]
    fn files_that_are_not_keys_are_not_looked_at() {
        let (_parent, path) = directory_with(&[1_000]);
        for name in [
            ".19700101T003320Z.pem.swp",
            ".hidden.pem",
            "19700101T003320Z.pem~",
            "#19700101T003320Z.pem#",
            "19700101T003320Z.pem.bak",
            "README",
            "lost+found",
        ] {
            write(&path.join(name), "not a key");
        }
        fs::create_dir(path.join("..data")).unwrap();
        assert_eq!(starts(&path), [1_000]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let (_parent, path) = directory_with(&[1_000, 5_000]);
        write(&path.join("2026-a.pem"), key().expose_secret());
        write(&path.join("19700101T003320Z.pem"), "no key");
        let shown = path.join("19700101T005000Z.pem");
        write(&shown, key().expose_secret());
        fs::set_permissions(&shown, fs::Permissions::from_mode(0o644)).unwrap();
        fs::copy(
            path.join("19700101T001640Z.pem"),
            path.join("19700101T003000Z.pem"),
        )
        .unwrap();
        fs::create_dir(path.join("19700101T010000Z.pem")).unwrap();

        let errors = read(&path, SecretFiles::Private, None).unwrap_err();
        let told: Vec<&str> = errors
            .iter()
            .map(|error| match error {
                KeyFileError::Twice { other, .. } => {
                    assert_eq!(other, "19700101T001640Z.pem");
                    "twice"
                }
                KeyFileError::Key { .. } => "key",
                KeyFileError::File(SecretFileError::Readable { .. }) => "readable",
                KeyFileError::File(SecretFileError::Content { .. }) => "content",
                KeyFileError::Name(_) => "name",
                _ => "other",
            })
            .collect();
        assert_eq!(told, ["twice", "key", "readable", "content", "name"]);
        let told = format!("{errors:?}");
        let body: String = key().expose_secret().lines().skip(1).take(1).collect();
        assert!(!told.contains("PRIVATE") && !told.contains(&body[..16]));
    }

    #[test]
    fn a_file_that_others_can_read_is_a_warning_where_that_is_wanted() {
        let (_parent, path) = directory_with(&[1_000]);
        let file = path.join("19700101T001640Z.pem");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let found = read(&path, SecretFiles::Any, None).unwrap();
        assert_eq!((found.keys.len(), found.exposures.len()), (1, 1));
    }

    #[test]
    fn a_key_that_neither_we_nor_root_own_is_told_with_its_owner() {
        let (_parent, path) = directory_with(&[1_000, 2_000]);
        let file = path.join("19700101T001640Z.pem");
        let mut us = rustix::process::geteuid().as_raw();
        if us == 0 {
            // Root can give a file away; everybody else can be taken for another user.
            us = 4_711;
            for name in ["19700101T001640Z.pem", "19700101T003320Z.pem"] {
                std::os::unix::fs::chown(path.join(name), Some(us), None).unwrap();
            }
        }
        let strangers = |reader| {
            let found = read_as(reader, &path, SecretFiles::Private, None).unwrap();
            assert_eq!(found.keys.len(), 2, "it is no reason to refuse them");
            found.strangers
        };
        assert_eq!(strangers(us), []);
        assert_eq!(
            strangers(us + 1),
            [(file, us), (path.join("19700101T003320Z.pem"), us)]
        );
    }

    #[test]
    fn an_algorithm_that_does_not_fit_one_of_the_keys_is_told_with_its_file() {
        let (_parent, path) = directory_with(&[1_000]);
        let errors = read(&path, SecretFiles::Private, Some(Algorithm::Rs256)).unwrap_err();
        assert!(matches!(
            &errors[..],
            [KeyFileError::Key { path, error: KeyError::Algorithm(_) }] if path.ends_with("19700101T001640Z.pem")
        ));
    }

    #[test]
    fn no_directory_and_an_empty_one_are_told_apart() {
        let parent = tempfile::tempdir().unwrap();
        let errors = read(parent.path(), SecretFiles::Private, None).unwrap_err();
        assert!(matches!(&errors[..], [KeyFileError::Empty(_)]));
        let absent = parent.path().join("absent");
        let errors = read(&absent, SecretFiles::Private, None).unwrap_err();
        assert!(matches!(&errors[..], [KeyFileError::Directory { .. }]));
    }
}
