//! The loopback listener to which the browser comes back (RFC 8252 section 7.3): open for one answer, on the registered host,
//! port and path.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{
    attempt::{Attempt, Outcome, Received},
    certificate, guard, neighbour,
    page::Page,
};
use crate::oauth::authorization::{Callback, RedirectUri};

/// Connections at once. A browser opens some ahead of need.
const MAX_CONNECTIONS: usize = 32;

/// How long one may last: the time in which the code is exchanged is part of it.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long the last page may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// After a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener: nobody is let in yet.
pub(super) struct Door {
    listeners: Vec<TcpListener>,
    tls: Option<certificate::SelfSigned>,
    redirect_uri: RedirectUri,
}

/// Why it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DoorError {
    /// The address is taken, or not for us.
    #[error("cannot listen on {address}, to which redirect_uri points")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// There is no certificate for https.
    #[error("cannot make a certificate for {0}")]
    Certificate(String, #[source] certificate::CertificateError),
}

/// The open door. Closed, and the port free, when it is dropped.
pub(super) struct OpenDoor {
    arrivals: mpsc::Receiver<Arrival>,
    _accepting: AbortOnDropHandle<()>,
}

/// The one answer, with a browser that waits for a page.
pub(super) struct Arrival {
    /// What it brings.
    pub(super) outcome: Outcome,
    /// How the browser learns what becomes of it.
    pub(super) reply: Reply,
}

/// A browser that waits.
pub(super) struct Reply {
    page: oneshot::Sender<Page>,
    gone: oneshot::Receiver<()>,
}

impl Door {
    /// Binds the addresses of `redirect_uri`, one of which is enough; with port 0 a free one.
    pub(super) async fn bind(redirect_uri: &RedirectUri) -> Result<Self, DoorError> {
        let mut port = redirect_uri.port();
        let mut listeners = Vec::new();
        let mut failure = None;
        for ip in redirect_uri.loopback() {
            let address = SocketAddr::from((ip, port));
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    // `localhost` has one port, whichever of its addresses a browser tries first.
                    port = listener.local_addr().map_or(port, |bound| bound.port());
                    listeners.push(listener);
                }
                // A machine without IPv6 has no ::1. One where somebody else has the port there is no place for a login:
                // the browser may go to them.
                Err(source) if is_final(&source) => {
                    return Err(DoorError::Bind { address, source });
                }
                Err(source) => failure = Some(DoorError::Bind { address, source }),
            }
        }
        if let (true, Some(failure)) = (listeners.is_empty(), failure) {
            return Err(failure);
        }
        let redirect_uri = match redirect_uri.port() {
            0 => redirect_uri.with_port(port),
            _ => redirect_uri.clone(),
        };
        let tls = redirect_uri
            .is_tls()
            .then(|| certificate::SelfSigned::for_host(redirect_uri.host()))
            .transpose()
            .map_err(|error| DoorError::Certificate(redirect_uri.authority(), error))?;
        Ok(Self {
            listeners,
            tls,
            redirect_uri,
        })
    }

    /// Where it is: what the authorization server is told.
    pub(super) const fn redirect_uri(&self) -> &RedirectUri {
        &self.redirect_uri
    }

    /// The SHA-256 fingerprint of the certificate that nobody vouches for, on https.
    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().map(certificate::SelfSigned::fingerprint)
    }

    /// Lets browsers in.
    pub(super) fn open(self, attempt: Arc<Attempt>) -> OpenDoor {
        let (sender, arrivals) = mpsc::channel(1);
        let reception = Arc::new(Reception {
            attempt,
            redirect_uri: self.redirect_uri,
            arrivals: sender,
        });
        let tls = self.tls.map(|own| own.acceptor());
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let listeners = self.listeners;
        let accepting = async move {
            let mut loops = JoinSet::new();
            for listener in listeners {
                let (reception, tls) = (Arc::clone(&reception), tls.clone());
                let connections = Arc::clone(&connections);
                loops.spawn(accept(listener, tls, connections, reception));
            }
            // They go on until the door is dropped.
            while loops.join_next().await.is_some() {}
        };
        OpenDoor {
            arrivals,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }
}

impl OpenDoor {
    /// The answer. Cancel safe. `None`: nobody can come any more.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }
}

impl Reply {
    /// Shows the page in the browser that has brought the answer, and gives it time to get there.
    pub(super) async fn show(self, page: Page) {
        if self.page.send(page).is_ok() {
            // Who is too slow for it learns from the terminal how it went.
            let _ = timeout(FAREWELL, self.gone).await;
        }
    }
}

fn is_final(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    reception: Arc<Reception>,
) {
    let mut serving = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while serving.try_join_next().is_some() {}
        let (reception, tls) = (Arc::clone(&reception), tls.clone());
        serving.spawn(async move {
            // Slow ones are cut off: what comes of it shows only here.
            let _ = timeout(CONNECTION_TIME, connection(stream, peer, tls, reception)).await;
            drop(permit);
        });
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    reception: Arc<Reception>,
) {
    let is_foreign = stream
        .local_addr()
        .is_ok_and(|local| neighbour::is_somebody_elses(peer, local));
    match tls {
        None => serve(stream, is_foreign, &reception).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, is_foreign, &reception).await;
            }
        }
    }
}

async fn serve<S>(stream: S, is_foreign: bool, reception: &Reception)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (here, gone) = oneshot::channel();
    let gone = Mutex::new(Some(gone));
    let service = service_fn(|request: Request<Incoming>| {
        let gone = gone.lock().unwrap_or_else(PoisonError::into_inner).take();
        async { Ok::<_, Infallible>(reception.respond(request, is_foreign, gone).await) }
    });
    // A browser that hangs up is no loss.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    drop(here);
}

/// What all connections share.
struct Reception {
    attempt: Arc<Attempt>,
    redirect_uri: RedirectUri,
    arrivals: mpsc::Sender<Arrival>,
}

impl Reception {
    async fn respond(
        &self,
        request: Request<Incoming>,
        is_foreign: bool,
        gone: Option<oneshot::Receiver<()>>,
    ) -> Response<Full<Bytes>> {
        self.page(request, is_foreign, gone).await.response()
    }

    async fn page(
        &self,
        request: Request<Incoming>,
        is_foreign: bool,
        gone: Option<oneshot::Receiver<()>>,
    ) -> Page {
        if is_foreign {
            return Page::new(
                StatusCode::FORBIDDEN,
                "Not here",
                "The login belongs to another user of this machine.",
            );
        }
        let (parts, _) = request.into_parts();
        if let Err(page) = guard::check(&parts, &self.redirect_uri) {
            return page;
        }
        let callback = match Callback::parse(
            parts.uri.query().unwrap_or_default(),
            self.attempt.code_parameter(),
        ) {
            Ok(callback) => callback,
            Err(error) => {
                return Page::failed(format!(
                    "This is no answer to the login: {error}.\nThe login still waits for one."
                ));
            }
        };
        let outcome = match self.attempt.receive(callback) {
            Received::Answer(outcome) => outcome,
            Received::Foreign => {
                return Page::failed(
                    "This is the answer to another login, or nothing vouches for it: its state is not the one that bursar sent.\n\
                     The login still waits for its own.",
                );
            }
            Received::Over => {
                return Page::failed(
                    "This login has had its answer. The terminal tells how it went.",
                );
            }
        };
        let (page, shown) = oneshot::channel();
        let reply = Reply {
            page,
            gone: gone.unwrap_or_else(|| oneshot::channel().1),
        };
        let arrival = Arrival { outcome, reply };
        // Where nobody waits any more, the sender is dropped with it, and the page says so.
        let _ = self.arrivals.send(arrival).await;
        shown
            .await
            .unwrap_or_else(|_| Page::failed("The login was broken off."))
    }
}

#[cfg(test)]
mod tests;
