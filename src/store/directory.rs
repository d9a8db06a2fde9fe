//! A directory that is ours alone, and its files, opened so that nobody can slip us another.
//!
//! What is checked is what has been opened, never a name: regular file, our own, private, not too large. The directory is opened once for
//! each operation, and its files relative to it.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, Mode, OFlags},
    io::Errno,
};

use super::StoreError;

/// Far more than a record needs: two tokens and a list of scopes.
const SIZE_LIMIT: u64 = 256 * 1024;

/// Most records fit, and are read at once.
const ROOM: usize = 8 * 1024;

/// Of a file: read and write, for us.
const FILE_MODE: u32 = 0o600;

/// Of the directory: everything, for us. A set-group-id bit may come with it from its parent.
const DIRECTORY_MODE: u32 = 0o700;

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    us: u32,
}

/// Tells a file from the one that had its name before. A replaced record is another file; nothing writes to one in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Directory {
    /// Opens it; `None`: it is not there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        Self::open_as(rustix::process::geteuid().as_raw(), path)
    }

    /// The same as the user `us`.
    fn open_as(us: u32, path: &Path) -> Result<Option<Self>, StoreError> {
        // A slash at the end would make the system follow a link.
        let path: PathBuf = path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(StoreError::Kind {
                    path,
                    reason: "is not a directory, or is a symbolic link to one",
                });
            }
            Err(errno) => return Err(system("open", &path)(errno.into())),
        };
        let directory = Self { fd, path, us };
        let stat =
            rustix::fs::fstat(&directory.fd).map_err(|errno| directory.failed("look at")(errno))?;
        directory.check_owner(&directory.path, stat.st_uid)?;
        check_mode(&directory.path, stat.st_mode & 0o777, DIRECTORY_MODE)?;
        Ok(Some(directory))
    }

    /// Opens it; makes it first, and what is missing above it, if need be.
    pub(super) fn open_or_make(path: &Path) -> Result<Self, StoreError> {
        if let Some(directory) = Self::open(path)? {
            return Ok(directory);
        }
        make_directory(path)?;
        Self::open(path)?.ok_or_else(|| system("open", path)(io::ErrorKind::NotFound.into()))
    }

    /// What is in a file; `None`: it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        // A pipe must not keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(file) = self.open_file(name, flags)? else {
            return Ok(None);
        };
        let mut content = Vec::with_capacity(ROOM);
        file.take(SIZE_LIMIT)
            .read_to_end(&mut content)
            .map_err(system("read", &self.path.join(name)))?;
        Ok(Some(content))
    }

    /// Tells whether a file is still the same; `None`: it is not there.
    pub(super) fn identity(&self, name: &str) -> Result<Option<Identity>, StoreError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity {
                device: stat.st_dev,
                inode: stat.st_ino,
                changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed_at("look at", name)(errno)),
        }
    }

    /// A new, empty file. One of that name, left behind by a process that was killed, is removed.
    pub(super) fn create(&self, name: &str) -> Result<File, StoreError> {
        self.remove(name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        match rustix::fs::openat(&self.fd, name, flags, mode) {
            Ok(file) => Ok(File::from(file)),
            Err(errno) => Err(self.failed_at("create", name)(errno)),
        }
    }

    /// The file that processes lock; made, if it is not there.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open_file(name, flags)?
            .ok_or_else(|| self.failed_at("create", name)(Errno::NOENT))
    }

    /// The same for a look at its lock; `None`: nobody has made it yet.
    pub(super) fn existing_lock_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        self.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Gives a file the name of another, which it replaces.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| self.failed_at("replace", to)(errno))
    }

    /// Removes a file. Whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed_at("remove", name)(errno)),
        }
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.failed("sync")(errno))
    }

    /// The names in it that are text, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = Dir::read_from(&self.fd).map_err(|errno| self.failed("list")(errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| self.failed("list")(errno))?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a file of it is, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, StoreError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let refused = |reason| {
            Err(StoreError::Kind {
                path: self.path.join(name),
                reason,
            })
        };
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(FILE_MODE)) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return refused("is a symbolic link"),
            // As the system calls a directory, and a socket or a device without a driver.
            Err(Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
                return refused("is not a regular file");
            }
            Err(errno) => return Err(self.failed_at("open", name)(errno)),
        };
        let path = self.path.join(name);
        let metadata = file.metadata().map_err(system("look at", &path))?;
        if !metadata.is_file() {
            return refused("is not a regular file");
        }
        self.check_owner(&path, metadata.uid())?;
        check_mode(&path, metadata.mode() & 0o7777, FILE_MODE)?;
        if metadata.len() > SIZE_LIMIT {
            return refused("is larger than 256 KiB");
        }
        Ok(Some(file))
    }

    fn check_owner(&self, path: &Path, owner: u32) -> Result<(), StoreError> {
        if owner == self.us {
            return Ok(());
        }
        Err(StoreError::Owner {
            path: path.to_owned(),
            owner,
            us: self.us,
        })
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(Errno) -> StoreError {
        let failed = system(operation, &self.path);
        move |errno| failed(errno.into())
    }

    fn failed_at(&self, operation: &'static str, name: &str) -> impl FnOnce(Errno) -> StoreError {
        let failed = system(operation, &self.path.join(name));
        move |errno| failed(errno.into())
    }
}

/// The system's word about `operation` on `path`.
pub(super) fn system(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::System {
        operation,
        path,
        source,
    }
}

fn check_mode(path: &Path, mode: u32, wanted: u32) -> Result<(), StoreError> {
    if mode == wanted {
        return Ok(());
    }
    Err(StoreError::Mode {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

/// Makes a directory, and those above it that are missing, private and durable.
pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    let parent = parent_of(path);
    if !parent.exists() {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        // By another process that had the same thought.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(system("create", path)(error)),
        Ok(()) => sync_directory(parent),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(system("sync", path))
}

/// The directory that holds `path`.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;
    use crate::store::Severity;

    fn directory() -> (tempfile::TempDir, Directory) {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_make(&parent.path().join("state")).unwrap();
        (parent, directory)
    }

    fn write(directory: &Directory, name: &str, mode: u32) -> PathBuf {
        let path = directory.path_of(name);
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn reason(error: StoreError) -> &'static str {
        match error {
            StoreError::Kind { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_made_private_with_those_above_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/state");
        assert!(Directory::open(&path).unwrap().is_none());
        Directory::open_or_make(&path).unwrap();
        for path in [
            &path,
            &parent.path().join("a/b"),
            &parent.path().join("a/b/"),
        ] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
        assert!(Directory::open(&path).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        for mode in [0o755, 0o710, 0o770] {
            let (_parent, directory) = directory();
            fs::set_permissions(&directory.path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Directory::open(&directory.path).unwrap_err();
            assert_eq!(error.severity(), Severity::Exposed, "{error}");
        }
        let (_parent, directory) = directory();
        fs::set_permissions(&directory.path, fs::Permissions::from_mode(0o2700)).unwrap();
        assert!(Directory::open(&directory.path).is_ok());
    }

    #[test]
    fn a_link_to_a_directory_is_refused_with_a_slash_behind_it_too() {
        let (parent, directory) = directory();
        let link = parent.path().join("link");
        symlink(&directory.path, &link).unwrap();
        for path in [link.clone(), link.join("")] {
            let error = Directory::open(&path).unwrap_err();
            assert_eq!(
                reason(error),
                "is not a directory, or is a symbolic link to one"
            );
        }
    }

    #[test]
    fn a_directory_or_file_of_another_user_is_refused() {
        let (_parent, mut directory) = directory();
        write(&directory, "f", 0o600);
        let us = directory.us;
        let error = Directory::open_as(us + 1, &directory.path).unwrap_err();
        assert!(matches!(error, StoreError::Owner { owner, .. } if owner == us));
        directory.us += 1;
        let error = directory.read("f").unwrap_err();
        assert!(matches!(error, StoreError::Owner { .. }));
        assert_eq!(error.severity(), Severity::Refused);
    }

    #[test]
    fn a_file_must_be_private_to_the_bit() {
        let (_parent, directory) = directory();
        for mode in [0o644, 0o640, 0o604, 0o400, 0o700, 0o4600] {
            write(&directory, "f", mode);
            let error = directory.read("f").unwrap_err();
            assert!(
                matches!(error, StoreError::Mode { mode: found, .. } if found == mode),
                "{error}"
            );
        }
        write(&directory, "f", 0o600);
        assert_eq!(directory.read("f").unwrap().unwrap(), b"content");
    }

    #[test]
    fn what_is_not_a_small_regular_file_is_refused_and_never_waited_for() {
        let (_parent, directory) = directory();
        let path = write(&directory, "target", 0o600);
        symlink(&path, directory.path_of("link")).unwrap();
        assert_eq!(
            reason(directory.read("link").unwrap_err()),
            "is a symbolic link"
        );
        assert_eq!(
            reason(directory.lock_file("link").unwrap_err()),
            "is a symbolic link"
        );

        let fifo = directory.path_of("fifo");
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        for error in [
            directory.read("fifo").unwrap_err(),
            directory.lock_file("fifo").unwrap_err(),
        ] {
            assert_eq!(reason(error), "is not a regular file");
        }
        fs::create_dir(directory.path_of("directory")).unwrap();
        assert_eq!(
            reason(directory.lock_file("directory").unwrap_err()),
            "is not a regular file"
        );

        let large = File::options().write(true).open(&path).unwrap();
        large.set_len(100 * 1024 * 1024).unwrap();
        assert_eq!(
            reason(directory.read("target").unwrap_err()),
            "is larger than 256 KiB"
        );
    }

    #[test]
    fn a_new_file_takes_the_place_of_what_a_killed_process_left_behind() {
        let (parent, directory) = directory();
        let elsewhere = parent.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        symlink(&elsewhere, directory.path_of("draft")).unwrap();
        let draft = directory.create("draft").unwrap();
        assert_eq!(draft.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert!(directory.remove("draft").unwrap());
        assert!(!directory.remove("draft").unwrap());
    }

    #[test]
    fn a_replaced_file_is_another_one() {
        let (_parent, directory) = directory();
        assert_eq!(directory.identity("f").unwrap(), None);
        write(&directory, "f", 0o600);
        let first = directory.identity("f").unwrap().unwrap();
        assert_eq!(directory.identity("f").unwrap(), Some(first));
        write(&directory, "new", 0o600);
        directory.rename("new", "f").unwrap();
        assert_ne!(directory.identity("f").unwrap(), Some(first));
        assert_eq!(directory.names().unwrap(), [".", "..", "f"]);
    }
}
