//! Where bursar listens: TCP ports and Unix sockets behind one type.

mod tcp;
mod unix;

use std::{
    fmt, io,
    net::{self, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use serde::{Serialize, Serializer};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use unix::{Bound, SocketFile};
pub use unix::{MAX_PATH, is_us_or_root};

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; 0 becomes a free one.
    Tcp(SocketAddr),
    /// A file.
    Unix(Arc<Path>),
}

/// A connection.
pub type Stream = Either<TcpStream, UnixStream>;

/// What the system says of the process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Nothing.
    Tcp,
    /// Its user id when it connected; `None`: the system did not say.
    Unix(Option<u32>),
}

/// A bound socket. Connections queue up from now on.
#[derive(Debug)]
pub struct Listener(Kind<net::TcpListener, Bound>);

/// The same in the hands of a runtime.
#[derive(Debug)]
pub struct Acceptor(Kind<TcpListener, (UnixListener, Arc<SocketFile>)>);

#[derive(Debug)]
enum Kind<T, U> {
    Tcp(T),
    Unix(U),
}

impl Address {
    /// The port that a URL names; `None` on a Unix socket.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// The IP address and port, where it has them.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Where a program on this machine connects to reach it: a port on every address is reached by loopback.
    #[must_use]
    pub fn to_reach(&self) -> Self {
        let mut reached = self.clone();
        if let Self::Tcp(address) = &mut reached
            && address.ip().is_unspecified()
        {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        reached
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// As it stands in a configuration: `127.0.0.1:8080`, `unix:/run/bursar/proxy.sock`.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Listener {
    /// Binds an address. `mode`: the permissions of a Unix socket; whoever may write to it may connect.
    ///
    /// # Errors
    ///
    /// The system's word. A Unix socket on which a process listens is [`io::ErrorKind::AddrInUse`]; one that a dead process
    /// has left is replaced.
    pub fn bind(address: &Address, mode: u32) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(address) => {
                let (listener, address) = tcp::bind(*address)?;
                Ok((Self(Kind::Tcp(listener)), address.into()))
            }
            Address::Unix(path) => {
                let bound = unix::bind(path, mode)?;
                Ok((Self(Kind::Unix(bound)), address.clone()))
            }
        }
    }

    /// Binds an address for several threads. On TCP each gets a socket of its own, and the kernel spreads connections over
    /// them (`SO_REUSEPORT`). A Unix socket is one queue, from which the threads take as they are free.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_each(
        address: &Address,
        threads: usize,
        mode: u32,
    ) -> io::Result<(Vec<Self>, Address)> {
        match address {
            Address::Tcp(address) => {
                let (listeners, address) = tcp::bind_each(*address, threads)?;
                let listeners = listeners.into_iter().map(|one| Self(Kind::Tcp(one)));
                Ok((listeners.collect(), address.into()))
            }
            Address::Unix(path) => {
                let bound = unix::bind(path, mode)?;
                let others = (1..threads).map(|_| bound.try_clone());
                let mut all = others.collect::<io::Result<Vec<_>>>()?;
                all.push(bound);
                let listeners = all.into_iter().map(|one| Self(Kind::Unix(one)));
                Ok((listeners.collect(), address.clone()))
            }
        }
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Kind::Unix(bound) => Ok(Address::Unix(bound.path())),
        }
    }

    /// Hands it to the runtime of this thread.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(Acceptor(match self.0 {
            Kind::Tcp(listener) => Kind::Tcp(TcpListener::from_std(listener)?),
            Kind::Unix(bound) => {
                let (listener, file) = bound.into_parts();
                Kind::Unix((UnixListener::from_std(listener)?, file))
            }
        }))
    }
}

impl Acceptor {
    /// The next connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// The system's word.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => listener.accept().await.map(|(stream, _)| of_tcp(stream)),
            Kind::Unix((listener, _)) => listener.accept().await.map(|(stream, _)| of_unix(stream)),
        }
    }

    /// Those whom the kernel has let in already, and then closes the socket, which would reset them.
    pub fn into_the_last(self) -> impl Iterator<Item = io::Result<(Stream, Peer)>> {
        let listener = match self.0 {
            Kind::Tcp(listener) => listener.into_std().map(Kind::Tcp),
            Kind::Unix((listener, file)) => {
                // Nobody new finds it from here on.
                drop(file);
                listener.into_std().map(Kind::Unix)
            }
        };
        let mut listener = listener.ok();
        std::iter::from_fn(move || {
            let next = match listener.as_ref()? {
                Kind::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    TcpStream::from_std(stream).map(of_tcp)
                }),
                Kind::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    UnixStream::from_std(stream).map(of_unix)
                }),
            };
            if next
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            {
                listener = None;
                return None;
            }
            Some(next)
        })
    }
}

/// Connects to where a bursar listens.
///
/// # Errors
///
/// The system's word.
pub async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(Either::Left),
        Address::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
    }
}

fn of_tcp(stream: TcpStream) -> (Stream, Peer) {
    // Without it an answer in two writes waits for a delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    (Either::Left(stream), Peer::Tcp)
}

fn of_unix(stream: UnixStream) -> (Stream, Peer) {
    let peer = Peer::Unix(stream.peer_cred().ok().map(|peer| peer.uid()));
    (Either::Right(stream), peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_configured() {
        let tcp = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let unix = Address::Unix(Path::new("/run/bursar/proxy.sock").into());
        assert_eq!(tcp.to_string(), "127.0.0.1:8080");
        assert_eq!(unix.to_string(), "unix:/run/bursar/proxy.sock");
        assert_eq!(
            serde_json::to_string(&unix).unwrap(),
            "\"unix:/run/bursar/proxy.sock\""
        );
        assert!(tcp.is_local() && unix.is_local());
        assert_eq!((tcp.port(), unix.port()), (Some(8080), None));
    }

    #[tokio::test]
    async fn a_unix_socket_is_one_queue_for_all_threads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = Address::Unix(path.as_path().into());
        let (listeners, bound) = Listener::bind_each(&address, 2, 0o600).unwrap();
        assert_eq!(bound, address);
        let acceptors: Vec<_> = listeners
            .into_iter()
            .map(|listener| listener.into_acceptor().unwrap())
            .collect();
        let _client = connect(&address).await.unwrap();
        let (_, peer) = tokio::select! {
            accepted = acceptors[0].accept() => accepted.unwrap(),
            accepted = acceptors[1].accept() => accepted.unwrap(),
        };
        assert_eq!(peer, Peer::Unix(Some(rustix::process::geteuid().as_raw())));
    }

    #[tokio::test]
    async fn those_in_the_queue_are_still_let_in_and_nobody_after_them() {
        let directory = tempfile::tempdir().unwrap();
        let unix = Address::Unix(directory.path().join("socket").into());
        for address in [SocketAddr::from(([127, 0, 0, 1], 0)).into(), unix] {
            let (listener, address) = Listener::bind(&address, 0o600).unwrap();
            let acceptor = listener.into_acceptor().unwrap();
            let _clients = [
                connect(&address).await.unwrap(),
                connect(&address).await.unwrap(),
            ];
            let last: Vec<_> = acceptor.into_the_last().collect();
            assert_eq!(last.len(), 2);
            assert!(last.iter().all(Result::is_ok));
            assert!(connect(&address).await.is_err(), "{address}");
        }
    }
}
