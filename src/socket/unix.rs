//! Unix sockets: files with permissions, which outlive the process that made them.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that wait to be accepted.
pub(super) const BACKLOG: i32 = 4096;

/// Longest path in bytes: the system's `sun_path` without its final zero (unix(7)).
pub const MAX_PATH: usize = 107;

/// How often, and how often at most, the directory's lock is asked for.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const LOCK_ATTEMPTS: usize = 200;

/// A bound socket, and its file as long as somebody holds it.
#[derive(Debug)]
pub(super) struct Bound {
    listener: UnixListener,
    file: Arc<SocketFile>,
}

/// The file of a socket. Removed when the last one who listens there lets go of it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: Arc<Path>,
    /// Device and inode: the name may be another process's by then.
    identity: (u64, u64),
}

/// Whether `peer` is a user that could do all that we can anyway.
#[must_use]
pub fn is_us_or_root(peer: u32) -> bool {
    peer == 0 || peer == rustix::process::geteuid().as_raw()
}

/// Binds, and listens.
pub(super) fn bind(path: &Arc<Path>, mode: u32) -> io::Result<Bound> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    // Of two that find a dead socket at the same time, one must not remove the live one of the other.
    let _lock = lock(directory)?;
    remove_dead(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file is made with the mode of its socket, less the umask: there is no moment at which more may connect.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = hold(path)?;
    let file = Arc::new(SocketFile {
        path: Arc::clone(path),
        identity: identity_of(&made.metadata()?),
    });
    restore(&made, mode)?;
    socket.listen(BACKLOG)?;
    Ok(Bound {
        listener: socket.into(),
        file,
    })
}

impl Bound {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.try_clone()?,
            file: Arc::clone(&self.file),
        })
    }

    pub(super) fn path(&self) -> Arc<Path> {
        Arc::clone(&self.file.path)
    }

    pub(super) fn into_parts(self) -> (UnixListener, Arc<SocketFile>) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next one that binds.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    Ok(identity_of(&fs::symlink_metadata(path)?))
}

fn identity_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The socket that has the name. Where others can write to the directory, the name may have become another file's since, or a
/// link to one: what is held stays the same, and is no link.
fn hold(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.file_type().is_socket() {
        Ok(file)
    } else {
        Err(io::Error::other(
            "somebody has put another file in the place of the new socket",
        ))
    }
}

/// Gives the permissions back that the umask has taken away. By the file that is held, not by its name; what is held like
/// this has no mode of its own to change but through /proc (proc(5)).
fn restore(held: &File, mode: u32) -> io::Result<()> {
    if held.metadata()?.mode() & 0o7777 == mode {
        return Ok(());
    }
    let itself = format!("/proc/self/fd/{}", held.as_raw_fd());
    fs::set_permissions(itself, fs::Permissions::from_mode(mode))
}

/// The directory itself is the lock: nothing is left behind. Anybody who can read it can hold it, so it is not waited for
/// without end.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot use the directory {}: {error}", directory.display()),
        )
    })?;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "another process holds the lock of the directory {}",
            directory.display()
        ),
    ))
}

/// Removes a socket on which nobody listens any more; anything else that has the name stays, and is an error.
fn remove_dead(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name which is no socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue is an answer too; it must not keep us waiting.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on the socket",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn place() -> (tempfile::TempDir, Arc<Path>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket").into();
        (directory, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_file_has_the_mode_that_was_asked_for_and_goes_with_the_last_listener() {
        let (_directory, path) = place();
        let bound = bind(&path, 0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
        let other = bound.try_clone().unwrap();
        drop(bound);
        assert!(UnixStream::connect(&path).is_ok());
        drop(other);
        assert!(!path.exists());
        // Whatever the umask is: the usual one takes the right to connect from the group and from others.
        for asked in [0o660, 0o666] {
            let _bound = bind(&path, asked).unwrap();
            assert_eq!(mode(&path), asked);
        }
    }

    #[test]
    fn a_file_that_took_the_name_of_the_new_socket_is_left_as_it_is() {
        let (directory, path) = place();
        let target = directory.path().join("target");
        let _other = bind(&target.as_path().into(), 0o600).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let error = hold(&path).unwrap_err().to_string();
        assert!(error.contains("another file"), "{error}");

        // What is held is what changes, whoever has the name by then.
        fs::remove_file(&path).unwrap();
        let bound = bind(&path, 0o600).unwrap();
        let held = hold(&path).unwrap();
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        restore(&held, 0o666).unwrap();
        assert_eq!((mode(&moved), mode(&target)), (0o666, 0o600));
        drop(bound);
        assert!(path.is_symlink(), "the name is not ours to remove any more");
    }

    #[test]
    fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_refused() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&path, 0o600).unwrap();
        let error = bind(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the first one lives on");
        drop(bound);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let (_directory, path) = place();
        fs::write(&path, "precious").unwrap();
        let error = bind(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_socket_of_a_successor_is_left_alone() {
        let (_directory, path) = place();
        let first = bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path, 0o600).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_that_find_a_dead_socket_exactly_one_gets_it() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let racers: Vec<_> = (0..8)
            .map(|_| {
                let path = Arc::clone(&path);
                thread::spawn(move || bind(&path, 0o600))
            })
            .collect();
        let results: Vec<_> = racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_path_in_a_directory_that_is_not_there_is_an_error_that_names_it() {
        let path = Path::new("/does/not/exist/socket").into();
        let error = bind(&path, 0o600).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist"), "{error}");
    }

    #[test]
    fn we_and_root_are_trusted() {
        let ours = rustix::process::geteuid().as_raw();
        assert!(is_us_or_root(0) && is_us_or_root(ours));
        assert!(!is_us_or_root(ours + 1));
    }
}
