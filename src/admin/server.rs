//! The three listeners, and what keeps slow or many peers from exhausting them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Admin, AdminParams,
    routes::{self, Socket},
};

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

/// After a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound sockets. Connections queue up from now on, and are answered once they are served.
#[derive(Debug)]
pub struct Listeners {
    listen: StdListener,
    control: StdListener,
    jwks_listen: Option<StdListener>,
    addresses: Addresses,
}

/// Where the admin sockets are; with the port that the system chose where 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Probes and metrics.
    pub listen: SocketAddr,
    /// API and key set.
    pub control: SocketAddr,
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
    pub address: SocketAddr,
    /// The system's word.
    pub source: io::Error,
}

/// Binds the admin sockets.
///
/// # Errors
///
/// [`BindError`] for the first address that is taken or not ours.
pub fn bind(params: &AdminParams) -> Result<Listeners, BindError> {
    let (listen, listen_address) = bind_one("admin.listen", params.listen)?;
    let (control, control_address) = bind_one("admin.control", params.control)?;
    let jwks = params
        .jwks_listen
        .map(|address| bind_one("admin.jwks_listen", address))
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
    pub fn addresses(&self) -> Addresses {
        self.addresses
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
    let control = Socket::Control(listeners.addresses.control.port());
    let sockets = [
        (Socket::Probes, Some(listeners.listen)),
        (control, Some(listeners.control)),
        (Socket::KeySet, listeners.jwks_listen),
    ];
    let mut loops = JoinSet::new();
    for (socket, listener) in sockets {
        if let Some(listener) = listener {
            let listener = TcpListener::from_std(listener)?;
            loops.spawn(accept(limits, Arc::clone(&admin), socket, listener));
        }
    }
    // Dropping the loops ends them.
    shutdown.cancelled().await;
    Ok(())
}

fn bind_one(
    key: &'static str,
    address: SocketAddr,
) -> Result<(StdListener, SocketAddr), BindError> {
    let bound = || {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| BindError {
        key,
        address,
        source,
    })
}

async fn accept(limits: Limits, admin: Arc<Admin>, socket: Socket, listener: TcpListener) {
    // The oldest first. There is one request per connection and it is answered at once, so whoever is
    // still here when there is no room left is slow, and gives way: a probe is answered all the same.
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
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
        let serving = serve_connection(Arc::clone(&admin), socket, stream);
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
    stream: TcpStream,
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
