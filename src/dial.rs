//! Opening a connection to a configured origin: name, TCP, TLS. The last guard sits here: what is
//! dialled comes from configuration only, and TLS is verified before a byte is sent.

mod http_proxy;
mod stream;
mod way;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use http_proxy::{HttpProxy, ProxyError};
pub use stream::Stream;
pub use way::{Connect, Way};

/// Scheme, host and port of a configured server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `https`.
    pub tls: bool,
    /// A DNS name in lower case, or an IP literal (IPv6 without brackets).
    pub host: Arc<str>,
    /// The port, the scheme's default filled in.
    pub port: u16,
}

impl Origin {
    /// The value of a Host field: the default port left out, IPv6 in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port {
            self.bracketed()
        } else {
            self.host_and_port()
        }
    }

    /// The target of a CONNECT: the port in any case, IPv6 in brackets.
    fn host_and_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        let host = &self.host;
        if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_string()
        }
    }
}

/// The versions of HTTP that are offered over TLS (ALPN, RFC 7301). The server chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2, and HTTP/1.1 for those who do not speak it.
    Both,
    /// HTTP/2 only.
    Http2,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        let (h1, h2) = (b"http/1.1".to_vec(), H2.to_vec());
        match self {
            Self::Http1 => vec![h1],
            Self::Both => vec![h2, h1],
            Self::Http2 => vec![h2],
        }
    }
}

/// HTTP/2 over TLS, as ALPN writes it (RFC 9113 section 3.2).
const H2: &[u8] = b"h2";

/// How to reach one origin.
#[derive(Clone)]
pub struct Dialer {
    /// Where to.
    pub origin: Origin,
    /// Verification of the server; `Some` exactly when `origin.tls`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Limit for name, TCP and TLS together, and for the proxy's answer.
    pub timeout: Duration,
    /// By which way.
    pub way: Way,
}

impl PartialEq for Dialer {
    /// Whether both reach the same server in the same way. One TLS configuration is made per content of its files
    /// ([`tls::client_config`](crate::tls::client_config)), so that the same one is the same object.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            origin,
            tls,
            timeout,
            way,
        } = self;
        let is_same_tls = match (tls, &other.tls) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        *origin == other.origin && *timeout == other.timeout && *way == other.way && is_same_tls
    }
}

/// Where dialling failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Dns(#[source] io::Error),
    /// Nobody accepts the connection.
    #[error("the connection was not accepted")]
    Connect(#[source] io::Error),
    /// TLS failed: certificate, protocol, or the peer hung up in the handshake.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The server speaks none of the versions of HTTP offered.
    #[error("the server refuses the version of HTTP that was offered")]
    Alpn(#[source] io::Error),
    /// There is a proxy in between, and it does not let us through.
    #[error("no way through http_proxy")]
    Proxy(#[source] ProxyError),
    /// It took longer than the timeout.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// How long the parts of a successful dial took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Resolving the name.
    pub dns: Duration,
    /// The TCP handshake, and through a proxy its answer.
    pub tcp: Duration,
    /// The TLS handshake; zero without TLS.
    pub tls: Duration,
}

impl Dialer {
    /// Opens a connection. Over TLS, [`Stream::is_http2`] tells what the server has chosen from `offer`.
    ///
    /// # Errors
    ///
    /// [`DialError`], telling name, connection and TLS apart.
    pub async fn dial(&self, offer: Offer) -> Result<(Stream, Phases), DialError> {
        timeout(self.timeout, self.open(offer))
            .await
            .unwrap_or(Err(DialError::Timeout(self.timeout)))
    }

    async fn open(&self, offer: Offer) -> Result<(Stream, Phases), DialError> {
        let mut phases = Phases::default();
        let started = Instant::now();
        if let Way::Memory(connect) = &self.way {
            // It would have to be verified like any other peer, and cannot be.
            return match self.tls {
                None => Ok((Stream::Memory(connect()), phases)),
                Some(_) => Err(DialError::Tls(io::ErrorKind::Unsupported.into())),
            };
        }

        let blame = |error| self.blame(error);
        let addresses = self.resolve().await.map_err(blame)?;
        phases.dns = started.elapsed();

        let mut tcp = self.connect(&addresses, started).await.map_err(blame)?;
        if let Some(proxy) = self.way.proxy() {
            // Rare, and too large to make room for in every dial.
            let tunnel = Box::pin(proxy.tunnel(tcp, &self.origin));
            tcp = tunnel.await.map_err(DialError::Proxy)?;
        }
        phases.tcp = started.elapsed().saturating_sub(phases.dns);

        let Some(config) = &self.tls else {
            return Ok((Stream::Plain(tcp), phases));
        };
        let handshake = Instant::now();
        let tls = self.secure(tcp, config, offer).await.map_err(tls_failure)?;
        phases.tls = handshake.elapsed();
        let stream = Stream::Tls(Box::new(tls));
        if offer == Offer::Http2 && !stream.is_http2() {
            // A server without ALPN says nothing, and would be spoken to in a language it does not know.
            return Err(DialError::Alpn(io::ErrorKind::Unsupported.into()));
        }
        Ok((stream, phases))
    }

    /// Whose failure it is to be reached: the proxy resolves the origin's name, and connects to it.
    fn blame(&self, error: DialError) -> DialError {
        match error {
            DialError::Dns(cause) if self.way.proxy().is_some() => {
                DialError::Proxy(ProxyError::Dns(cause))
            }
            DialError::Connect(cause) if self.way.proxy().is_some() => {
                DialError::Proxy(ProxyError::Connect(cause))
            }
            error => error,
        }
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let next = match self.way.proxy() {
            Some(proxy) => (&*proxy.host, proxy.port),
            None => (&*self.origin.host, self.origin.port),
        };
        let addresses: Vec<_> = lookup_host(next).await.map_err(DialError::Dns)?.collect();
        if addresses.is_empty() {
            return Err(DialError::Dns(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses)
    }

    /// Tries one address after the other. Each gets its share of the time that is left, so that a
    /// dead one does not use up the time of those behind it.
    async fn connect(
        &self,
        addresses: &[SocketAddr],
        started: Instant,
    ) -> Result<TcpStream, DialError> {
        let mut outcome = DialError::Timeout(self.timeout);
        let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            let left = self.timeout.saturating_sub(started.elapsed());
            match timeout(left / untried.max(1), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Heads and bodies are written whole: waiting to fill a segment only delays them.
                    stream.set_nodelay(true).map_err(DialError::Connect)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => outcome = DialError::Connect(error),
                Err(_) => outcome = DialError::Timeout(self.timeout),
            }
            untried = untried.saturating_sub(1);
        }
        Err(outcome)
    }

    async fn secure(
        &self,
        tcp: TcpStream,
        config: &Arc<rustls::ClientConfig>,
        offer: Offer,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.origin.host.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(Arc::clone(config))
            .with_alpn(offer.protocols())
            .connect(name, tcp)
            .await
    }
}

fn tls_failure(error: io::Error) -> DialError {
    let refused = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    if cause == Some(&refused) {
        DialError::Alpn(error)
    } else {
        DialError::Tls(error)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn origin(tls: bool, host: &str, port: u16) -> Origin {
        Origin {
            tls,
            host: host.into(),
            port,
        }
    }

    impl Dialer {
        /// Without TLS and without a proxy.
        pub(super) fn plain(host: &str, port: u16, timeout: Duration) -> Self {
            Self {
                origin: origin(false, host, port),
                tls: None,
                timeout,
                way: Way::Direct,
            }
        }
    }

    fn plain(port: u16, timeout: Duration) -> Dialer {
        Dialer::plain("127.0.0.1", port, timeout)
    }

    #[test]
    fn an_authority_leaves_the_default_port_out_and_brackets_ipv6() {
        assert_eq!(origin(true, "lms.test", 443).authority(), "lms.test");
        assert_eq!(origin(true, "lms.test", 80).authority(), "lms.test:80");
        assert_eq!(origin(false, "lms.test", 80).authority(), "lms.test");
        assert_eq!(origin(false, "::1", 8080).authority(), "[::1]:8080");
    }

    #[tokio::test]
    async fn a_plain_connection_carries_bytes_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = plain(
            listener.local_addr().unwrap().port(),
            Duration::from_secs(5),
        );
        let peer = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut word = [0; 4];
            peer.read_exact(&mut word).await.unwrap();
            peer.write_all(&word).await.unwrap();
        });
        let (mut stream, phases) = dialer.dial(Offer::Http1).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
        assert_eq!(phases.tls, Duration::ZERO);
        peer.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_in_this_process_is_reached_without_a_network_and_never_over_tls() {
        let (sender, mut accepted) = tokio::sync::mpsc::unbounded_channel();
        let mut dialer = plain(1, Duration::from_secs(5));
        dialer.way = Way::Memory(Arc::new(move || {
            let (ours, theirs) = tokio::io::duplex(64);
            sender.send(theirs).unwrap();
            ours
        }));
        assert!(dialer == dialer.clone());
        let (mut stream, _) = dialer.dial(Offer::Http1).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        let peer = &mut accepted.try_recv().unwrap();
        peer.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");

        dialer.tls = Some(crate::tls::client_config(&crate::tls::Trust::default()).unwrap());
        let dialled = dialer.dial(Offer::Both).await;
        assert!(matches!(dialled, Err(DialError::Tls(_))));
        assert!(accepted.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_closed_port_is_a_refused_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = plain(
            listener.local_addr().unwrap().port(),
            Duration::from_secs(5),
        );
        drop(listener);
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Connect(_))
        ));
    }

    #[tokio::test]
    async fn a_host_that_is_no_name_does_not_resolve() {
        let mut dialer = plain(80, Duration::from_secs(5));
        // No resolver is asked for a name with a NUL in it.
        dialer.origin.host = "no\0name".into();
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Dns(_))
        ));
    }

    #[tokio::test]
    async fn a_peer_that_is_silent_in_the_handshake_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut dialer = plain(
            listener.local_addr().unwrap().port(),
            Duration::from_millis(50),
        );
        dialer.origin.tls = true;
        dialer.tls = Some(crate::tls::client_config(&crate::tls::Trust::default()).unwrap());
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Timeout(_))
        ));
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses_or_is_dead() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = refusing.local_addr().unwrap();
        drop(refusing);
        let (dead, _full) = dead_address();
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = live.local_addr().map(|address| (live, address)).unwrap();

        let dialer = plain(live.1.port(), Duration::from_millis(600));
        let stream = dialer
            .connect(&[refused, dead, live.1], Instant::now())
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.1);
    }

    #[tokio::test]
    async fn only_dead_addresses_are_a_timeout() {
        let (dead, _full) = dead_address();
        let dialer = plain(dead.port(), Duration::from_millis(50));
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Timeout(_))
        ));
    }

    /// A listener whose queue is full: the kernel drops further connection attempts unanswered.
    fn dead_address() -> (SocketAddr, Vec<socket2::Socket>) {
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let filler =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // In progress is as good as done here.
            drop(filler.connect(&address));
            sockets.push(filler);
        }
        (address.as_socket().unwrap(), sockets)
    }
}
