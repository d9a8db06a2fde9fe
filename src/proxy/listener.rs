//! Accepts connections: one socket per address and worker, a seat for each connection, and drain.
//!
//! Every worker has sockets of its own (`SO_REUSEPORT`): the kernel spreads connections over them, and
//! the workers share nothing on a connection's way.

mod seats;
mod switch;

use std::{
    cell::{Cell, RefCell},
    future::pending,
    io,
    net::{self, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Version, header::CONNECTION};
use hyper::body::Incoming;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Proxy, ServerParams, Upstream,
    connection::{self, Answered, Drain},
    handler,
    hosts::Directory,
    progress::Limits,
    record,
    reject::Rejection,
    worker::{Pseudonym, Worker},
};
use crate::{backoff::Backoff, code::Code};
use seats::{Seat, Seats};
use switch::Succession;
pub use switch::Switch;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// How many connections are told at the same time that there is no seat; more are closed without a word.
const MAX_TURNED_AWAY: usize = 64;

/// When accepting fails for want of file descriptors or memory: trying on at once would only spin.
const ACCEPT_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(10),
    max: Duration::from_secs(1),
    min: Duration::from_millis(10),
};

/// How long connections stay open after shutdown, so that the application learns of it from an answer
/// (R94). A connection that closes at once meets the next request on its way, and that request is lost.
const FAREWELL: Duration = Duration::from_millis(500);

/// The sockets of one worker, bound and listening.
pub struct Listeners {
    sockets: Vec<Bound>,
    seats: Seats,
    turned_away: Seats,
    pseudonym: Pseudonym,
    successions: Option<mpsc::UnboundedReceiver<Succession>>,
}

/// One of them.
struct Bound {
    listener: net::TcpListener,
    /// The upstream whose own listener it is.
    own: Option<Arc<str>>,
}

/// Binds every address once per worker. Also says which addresses they became, where a port was 0: the
/// server's, then those of the upstreams that have one.
///
/// # Errors
///
/// The address and the system's word.
pub fn bind(
    server: &ServerParams,
    upstreams: &[Arc<Upstream>],
) -> io::Result<(Vec<Listeners>, Vec<SocketAddr>)> {
    let own = upstreams
        .iter()
        .filter_map(|upstream| Some((upstream.params.listen?, Some(&upstream.params.name))));
    let (seats, turned_away) = (Seats::default(), Seats::default());
    let pseudonym = Pseudonym::random();
    let mut workers: Vec<Listeners> = (0..server.workers.max(1))
        .map(|_| Listeners {
            sockets: Vec::new(),
            seats: seats.clone(),
            turned_away: turned_away.clone(),
            pseudonym: pseudonym.clone(),
            successions: None,
        })
        .collect();
    let mut addresses = Vec::new();
    for (address, own) in [(server.listen, None)].into_iter().chain(own) {
        let (sockets, address) = bind_address(address, workers.len())
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        addresses.push(address);
        for (worker, listener) in workers.iter_mut().zip(sockets) {
            worker.sockets.push(Bound {
                listener,
                own: own.cloned(),
            });
        }
    }
    Ok((workers, addresses))
}

/// Runs one worker on the current thread's `LocalRuntime` until `shutdown`, then drains: no connection
/// is accepted, each answer ends its connection, idle ones are closed after a moment, requests in flight
/// finish. What is left at the deadline is cut off.
pub async fn serve(proxy: Arc<Proxy>, listeners: Listeners, shutdown: CancellationToken) {
    let worker = Rc::new(Worker::new(proxy, listeners.pseudonym));
    let mut loops = JoinSet::new();
    let mut entrances = Vec::new();
    for Bound { listener, own } in listeners.sockets {
        let accepting = listener
            .local_addr()
            .and_then(|address| Ok((address, TcpListener::from_std(listener)?)));
        let (address, listener) = match accepting {
            Ok(accepting) => accepting,
            Err(error) => {
                tracing::error!(%error, "a listener does not work");
                continue;
            }
        };
        let entrance = Rc::new(Entrance {
            scene: RefCell::new(Scene::new(&worker, own.as_deref(), address.port())),
            own,
            port: address.port(),
            drain: Drain::default(),
            is_leaving: Rc::default(),
            seats: listeners.seats.clone(),
            turned_away: listeners.turned_away.clone(),
        });
        entrances.push(Rc::clone(&entrance));
        loops.spawn_local(accept(entrance, listener, shutdown.clone()));
    }
    let serving = async { while loops.join_next().await.is_some() {} };
    tokio::select! {
        () = serving => {}
        () = follow(listeners.successions, worker, &entrances) => {}
    }
}

/// Puts each further generation into force, for as long as there may be one.
async fn follow(
    successions: Option<mpsc::UnboundedReceiver<Succession>>,
    mut worker: Rc<Worker>,
    entrances: &[Rc<Entrance>],
) {
    if let Some(mut successions) = successions {
        while let Some(Succession { proxy, entered }) = successions.recv().await {
            worker = Rc::new(worker.next(proxy));
            for entrance in entrances {
                entrance.enter(&worker);
            }
            // Who gave it need not be waiting.
            let _ = entered.send(());
        }
    }
    // From here on this one stays, and serving goes on.
    drop(worker);
    pending().await
}

fn directory(proxy: &Proxy, own: Option<&str>, port: u16) -> Directory {
    let own = own.and_then(|own| {
        let mut upstreams = proxy.upstreams.iter();
        upstreams.position(|upstream| *upstream.params.name == *own)
    });
    let upstreams: Vec<_> = proxy
        .upstreams
        .iter()
        .map(|upstream| &upstream.params)
        .collect();
    Directory::new(&proxy.server.hosts, &upstreams, own, port)
}

/// What a request that begins now is served by: it keeps it to its end.
#[derive(Clone)]
struct Scene {
    worker: Rc<Worker>,
    directory: Rc<Directory>,
}

impl Scene {
    fn new(worker: &Rc<Worker>, own: Option<&str>, port: u16) -> Self {
        Self {
            worker: Rc::clone(worker),
            directory: Rc::new(directory(&worker.proxy, own, port)),
        }
    }
}

/// What the connections of one socket share.
struct Entrance {
    /// Of the generation in force.
    scene: RefCell<Scene>,
    own: Option<Arc<str>>,
    port: u16,
    drain: Drain,
    /// Shutdown has begun: an answer is the last one of its connection.
    is_leaving: Rc<Cell<bool>>,
    seats: Seats,
    turned_away: Seats,
}

async fn accept(entrance: Rc<Entrance>, listener: TcpListener, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown.cancelled());
    let mut pause = pin!(sleep_until(Instant::now()));
    let mut failures = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_ended) = connections.join_next() => {}
            () = &mut pause, if !pause.is_elapsed() => {}
            accepted = listener.accept(), if pause.is_elapsed() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    entrance.admit(stream, &mut connections);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    failures += 1;
                    let wait = ACCEPT_BACKOFF.delay(failures, 1.0);
                    pause.as_mut().reset(Instant::now() + wait);
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "connections cannot be accepted");
                }
            }
        }
    }
    entrance.is_leaving.set(true);
    entrance.admit_the_last(listener, &mut connections);
    let deadline = entrance.worker().proxy.server.drain_timeout;
    let drained = async {
        // However the moment ends, the rest is for drain.
        let _ = timeout(FAREWELL.min(deadline / 2), all_ended(&mut connections)).await;
        entrance.drain.begin();
        all_ended(&mut connections).await;
    };
    if timeout(deadline, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "the drain deadline cuts connections off"
        );
        connections.shutdown().await;
    }
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

impl Entrance {
    fn scene(&self) -> Scene {
        self.scene.borrow().clone()
    }

    fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.scene.borrow().worker)
    }

    fn enter(&self, worker: &Rc<Worker>) {
        self.scene
            .replace(Scene::new(worker, self.own.as_deref(), self.port));
    }

    /// Admits those whom the kernel has let in already, and closes the socket, which would reset them.
    fn admit_the_last(self: &Rc<Self>, listener: TcpListener, connections: &mut JoinSet<()>) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((stream, _)) => {
                    let stream = stream
                        .set_nonblocking(true)
                        .and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.admit(stream, connections);
                    }
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(_nobody_left) => break,
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, connections: &mut JoinSet<()>) {
        // Without it an answer in two writes waits for a delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let worker = self.worker();
        if let Some(seat) = self.seats.take(worker.proxy.server.max_connections) {
            connections.spawn_local(Rc::clone(self).serve(stream, seat));
        } else if let Some(seat) = self.turned_away.take(MAX_TURNED_AWAY) {
            let rejection = Rejection::overloaded();
            let last_word = refuse(&worker, &rejection);
            connections.spawn_local(async move {
                connection::close_with(stream, &last_word).await;
                drop(seat);
            });
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream, seat: Seat) {
        let limits = {
            let worker = self.worker();
            let server = &worker.proxy.server;
            Limits {
                header: server.header_timeout,
                idle: server.idle_timeout,
            }
        };
        let answer = |in_flight, request: Request<Incoming>| {
            let is_stream = request.version() == Version::HTTP_2;
            let Scene { worker, directory } = self.scene();
            let handling = handler::handle(worker, directory, in_flight, request);
            let is_leaving = Rc::clone(&self.is_leaving);
            // On the heap, so that it is there only while a request is: hyper keeps room for it on
            // every idle connection otherwise.
            Box::pin(async move {
                let mut answered = handling.await;
                if let Answered::Response(response) = &mut answered
                    && is_leaving.get()
                    // A connection of HTTP/2 takes leave with GOAWAY.
                    && !is_stream
                {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                answered
            })
        };
        let refuse = |code| refuse(&self.worker(), &unread_head(code));
        connection::serve(stream, limits, &self.drain, answer, refuse).await;
        drop(seat);
    }
}

/// Counts and logs what never became a request, and makes its answer.
fn refuse(worker: &Worker, rejection: &Rejection) -> Bytes {
    let id = worker.ids.next();
    record::refused(worker, id, rejection.code, rejection.reason);
    rejection.bytes(id)
}

fn unread_head(code: Code) -> Rejection {
    let detail = match code {
        Code::ClientTimeout => "The head of the request did not arrive in time.",
        Code::HeadersTooLarge => "A head has at most 100 fields and 64 KiB.",
        _ => "The head of the request is not valid HTTP/1.1.",
    };
    Rejection::new(code, detail).closing()
}

/// An error that says something about one connection, not about accepting.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn bind_address(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(Vec<net::TcpListener>, SocketAddr)> {
    if workers == 1 {
        let listener = listen(address, false)?;
        let address = listener.local_addr()?;
        return Ok((vec![listener], address));
    }
    // Sockets that share a port would share it with another process too, and each would get a part of
    // the connections. One that does not share finds out that the port is taken.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let listeners: io::Result<Vec<_>> = (0..workers).map(|_| listen(address, true)).collect();
    Ok((listeners?, address))
}

fn listen(address: SocketAddr, shares_port: bool) -> io::Result<net::TcpListener> {
    let socket = socket(address, shares_port)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
