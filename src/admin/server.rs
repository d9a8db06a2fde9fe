//! The three listeners, and what keeps slow or many peers from exhausting them.

use std::{
    collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Admin, AdminParams,
    control::Caller,
    routes::{self, Socket},
};
use crate::socket::{Acceptor, Address, Listener, Peer, Stream};

/// What one socket gives its peers.
#[derive(Clone, Copy)]
struct Limits {
    /// At a time. Each lives for milliseconds unless its peer is slow.
    connections: usize,
    /// For everything on a connection: its head, our answer, and the peer's reading of it.
    connection_time: Duration,
}

const LIMITS: Limits = Limits {
    connections: 256,
    connection_time: Duration::from_secs(5),
};

/// Of a Unix socket: nobody but us, and root.
const CONTROL_MODE: u32 = 0o600;

/// After a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound sockets. Connections queue up from now on, and are answered once they are served.
#[derive(Debug)]
pub struct Listeners {
    listen: Listener,
    control: Listener,
    jwks_listen: Option<Listener>,
    addresses: Addresses,
}

/// Where the admin sockets are; with the port that the system chose where 0 was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Probes and metrics.
    pub listen: SocketAddr,
    /// API and key set.
    pub control: Address,
    /// The public key set and nothing else.
    pub jwks_listen: Option<SocketAddr>,
}

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key})")]
pub struct BindError {
    /// The setting that names it.
    pub key: &'static str,
    /// The address.
    pub address: Address,
    /// The system's word.
    pub source: io::Error,
}

/// Binds the admin sockets.
///
/// # Errors
///
/// [`BindError`] for the first address that is taken or not ours.
pub fn bind(params: &AdminParams) -> Result<Listeners, BindError> {
    let (listen, listen_address) = bind_tcp("admin.listen", params.listen)?;
    let (control, control_address) = bind_one("admin.control", &params.control)?;
    let jwks = params
        .jwks_listen
        .map(|address| bind_tcp("admin.jwks_listen", address))
        .transpose()?;
    let (jwks_listen, jwks_address) = jwks.unzip();
    Ok(Listeners {
        listen,
        control,
        jwks_listen,
        addresses: Addresses {
            listen: listen_address,
            control: control_address,
            jwks_listen: jwks_address,
        },
    })
}

impl Listeners {
    /// Where they are.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

/// Serves the admin sockets until `shutdown`. They outlive the drain, which `/readyz` reports.
///
/// # Errors
///
/// When a socket cannot be handed to the runtime; needs one with time and I/O.
pub async fn serve(
    admin: Arc<Admin>,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_within(LIMITS, admin, listeners, shutdown).await
}

async fn serve_within(
    limits: Limits,
    admin: Arc<Admin>,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let port = listeners.addresses.control.port();
    let sockets = [
        (Door::Probes, Some(listeners.listen)),
        (Door::Control(port), Some(listeners.control)),
        (Door::KeySet, listeners.jwks_listen),
    ];
    let mut loops = JoinSet::new();
    for (door, listener) in sockets {
        if let Some(listener) = listener {
            let acceptor = listener.into_acceptor()?;
            loops.spawn(accept(limits, Arc::clone(&admin), door, acceptor));
        }
    }
    // Dropping the loops ends them.
    shutdown.cancelled().await;
    Ok(())
}

fn bind_one(key: &'static str, address: &Address) -> Result<(Listener, Address), BindError> {
    Listener::bind(address, CONTROL_MODE).map_err(|source| BindError {
        key,
        address: address.clone(),
        source,
    })
}

fn bind_tcp(key: &'static str, address: SocketAddr) -> Result<(Listener, SocketAddr), BindError> {
    let (listener, bound) = bind_one(key, &address.into())?;
    Ok((listener, bound.tcp().unwrap_or(address)))
}

/// What a listener is for, before anybody has come by it.
#[derive(Clone, Copy)]
enum Door {
    Probes,
    /// With its port, if it has one.
    Control(Option<u16>),
    KeySet,
}

impl Door {
    /// Which socket it is for this peer.
    const fn opened_by(self, peer: Peer) -> Socket {
        match (self, peer) {
            (Self::Probes, _) => Socket::Probes,
            (Self::KeySet, _) => Socket::KeySet,
            (Self::Control(Some(port)), _) => Socket::Control(Caller::Tcp { port }),
            (Self::Control(None), Peer::Unix(uid)) => Socket::Control(Caller::Unix { uid }),
            (Self::Control(None), Peer::Tcp) => Socket::Control(Caller::Unix { uid: None }),
        }
    }
}

async fn accept(limits: Limits, admin: Arc<Admin>, door: Door, acceptor: Acceptor) {
    // The oldest first. There is one request per connection and it is answered at once, so whoever is
    // still here when there is no room left is slow, and gives way: a probe is answered all the same.
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(
                    event = "admin_accept_failed",
                    error = &error as &dyn std::error::Error,
                    "no connection accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= limits.connections
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let serving = serve_connection(Arc::clone(&admin), door.opened_by(peer), stream);
        let serving = async move {
            match timeout(limits.connection_time, serving).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(
                    event = "admin_connection_failed",
                    error = &error as &dyn std::error::Error,
                    "connection closed"
                ),
                Err(_elapsed) => {
                    tracing::debug!(event = "admin_connection_slow", "connection closed");
                }
            }
        };
        connections.push_back(tokio::spawn(serving).abort_handle());
    }
}

async fn serve_connection(
    admin: Arc<Admin>,
    socket: Socket,
    stream: Stream,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let response = routes::respond(&admin, socket, request);
        async { Ok::<_, Infallible>(response.await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests;
