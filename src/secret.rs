//! Secrets: kept in memory that is wiped, never printed, and read from files with safe permissions.

mod access;

pub use access::{AccessKeys, InvalidAccessKey};
pub use secrecy::{ExposeSecret, SecretString};

use std::{
    fs::{File, Metadata, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Who else may read a secret's file (`server.secret_files`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretFiles {
    /// No bits for others; group read only when root owns the file (Kubernetes `fsGroup`).
    #[default]
    Private,
    /// Anything, with a warning.
    Any,
}

/// Why a secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// It cannot be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Others may read it (exit code 77).
    #[error("{path} has mode {mode:04o}: {who} can read it")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// `others` or `the group`.
        who: &'static str,
    },
    /// Not a regular file, empty, too large or not UTF-8.
    #[error("{path} {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a predicate.
        reason: &'static str,
    },
}

/// What was in a secret's file.
#[derive(Debug)]
pub struct SecretFile {
    /// The secret, its trailing newline dropped.
    pub secret: SecretString,
    /// [`SecretFileError::Readable`] where [`SecretFiles::Any`] let it pass: worth a warning.
    pub exposure: Option<SecretFileError>,
    /// The user who owns the file.
    pub owner: u32,
    /// When it was written last, as its file system has it.
    pub modified: SystemTime,
}

/// Larger than any key or token; a device or a wrong file ends here.
const SIZE_LIMIT: u64 = 64 * 1024;

/// Reads a secret; one trailing newline is dropped. The permissions are those of the opened file, not of its name.
///
/// # Errors
///
/// [`SecretFileError`]; never with a byte of the content.
pub fn read(path: &Path, rule: SecretFiles) -> Result<SecretString, SecretFileError> {
    read_with_exposure(path, rule).map(|file| file.secret)
}

/// Like [`read`], and says who else can read the file where the rule tolerates it.
///
/// # Errors
///
/// [`SecretFileError`]; never with a byte of the content.
pub fn read_with_exposure(path: &Path, rule: SecretFiles) -> Result<SecretFile, SecretFileError> {
    let unreadable = |source| SecretFileError::Read {
        path: path.to_owned(),
        source,
    };
    let content = |reason| SecretFileError::Content {
        path: path.to_owned(),
        reason,
    };

    // Symlinks are followed: Kubernetes mounts secrets as such. A FIFO must not keep us waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(content("is not a regular file"));
    }

    let exposure = match (rule, exposure_of(path, &metadata)) {
        (SecretFiles::Private, Some(exposure)) => return Err(exposure),
        (_, exposure) => exposure,
    };

    let bytes = read_limited(&file).map_err(unreadable)?;
    let bytes = bytes.ok_or_else(|| content("is larger than 64 KiB"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| content("is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(content("is empty"));
    }
    Ok(SecretFile {
        secret: SecretString::from(text),
        exposure,
        owner: metadata.uid(),
        // Every file system of a Unix keeps it.
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// Whether both are the same, in a time that tells nothing about where they differ.
#[must_use]
pub fn is_same(one: &SecretString, other: &SecretString) -> bool {
    let (one, other) = (one.expose_secret(), other.expose_secret());
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// [`SecretFileError::Readable`] where others can read a file that turned out to hold a secret.
#[must_use]
pub fn exposure(path: &Path) -> Option<SecretFileError> {
    exposure_of(path, &path.metadata().ok()?)
}

fn exposure_of(path: &Path, metadata: &Metadata) -> Option<SecretFileError> {
    let who = readers(metadata.mode(), metadata.uid() == 0)?;
    Some(SecretFileError::Readable {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        who,
    })
}

/// Who but the owner can read a file of this mode.
const fn readers(mode: u32, owned_by_root: bool) -> Option<&'static str> {
    const GROUP: u32 = 0o070;
    const GROUP_READ: u32 = 0o040;
    if mode & 0o007 != 0 {
        return Some("others");
    }
    match mode & GROUP {
        0 => None,
        GROUP_READ if owned_by_root => None,
        _ => Some("the group"),
    }
}

/// `None` when there is more than the limit. The buffer never grows, so no copy of the secret is left behind.
fn read_limited(file: &File) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let limit = usize::try_from(SIZE_LIMIT).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
    file.take(SIZE_LIMIT.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn one_trailing_newline_is_dropped_and_nothing_else() {
        let (_directory, path) = file(b" s3cret \n\n", 0o600);
        let secret = read(&path, SecretFiles::Private).unwrap();
        assert_eq!(secret.expose_secret(), " s3cret \n");
        let (_directory, path) = file(b"s3cret\r\n", 0o600);
        let secret = read(&path, SecretFiles::Private).unwrap();
        assert_eq!(secret.expose_secret(), "s3cret");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_or_noted() {
        let (_directory, path) = file(b"s3cret", 0o644);
        let error = read(&path, SecretFiles::Private).unwrap_err();
        assert!(matches!(
            error,
            SecretFileError::Readable {
                mode: 0o644,
                who: "others",
                ..
            }
        ));
        let noted = read_with_exposure(&path, SecretFiles::Any).unwrap();
        assert!(noted.exposure.is_some());
        assert_eq!(noted.secret.expose_secret(), "s3cret");
    }

    #[test]
    fn the_group_may_read_only_what_root_owns() {
        assert_eq!(readers(0o100_600, false), None);
        assert_eq!(readers(0o100_400, false), None);
        assert_eq!(readers(0o100_440, true), None);
        assert_eq!(readers(0o100_640, true), None);
        assert_eq!(readers(0o100_440, false), Some("the group"));
        assert_eq!(readers(0o100_660, true), Some("the group"));
        assert_eq!(readers(0o100_604, true), Some("others"));
        assert_eq!(readers(0o100_601, false), Some("others"));
    }

    #[test]
    fn symlinks_are_followed_because_kubernetes_mounts_secrets_as_such() {
        let (directory, path) = file(b"s3cret", 0o600);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link, SecretFiles::Private).is_ok());
    }

    #[test]
    fn what_is_not_a_small_text_file_is_refused() {
        let reason = |path: &Path| match read(path, SecretFiles::Private) {
            Err(SecretFileError::Content { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let (directory, path) = file(b"", 0o600);
        assert_eq!(reason(&path), "is empty");
        assert_eq!(reason(directory.path()), "is not a regular file");
        let (_directory, path) = file(b"\n", 0o600);
        assert_eq!(reason(&path), "is empty");
        let (_directory, path) = file(&[0xff, 0xfe], 0o600);
        assert_eq!(reason(&path), "is not UTF-8 text");
        let (_directory, path) = file(&vec![b'a'; 64 * 1024 + 1], 0o600);
        assert_eq!(reason(&path), "is larger than 64 KiB");
        let (_directory, path) = file(&vec![b'a'; 64 * 1024], 0o600);
        assert!(read(&path, SecretFiles::Private).is_ok());
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_hang() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            read(&path, SecretFiles::Private),
            Err(SecretFileError::Content { .. })
        ));
    }

    #[test]
    fn an_error_holds_no_byte_of_the_content() {
        let (_directory, path) = file(b"canary", 0o644);
        let error = read(&path, SecretFiles::Private).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}
