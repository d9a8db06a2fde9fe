//! Accepts connections: one socket per address and worker, a seat for each connection, and drain.
//!
//! Every worker has sockets of its own (`SO_REUSEPORT`): the kernel spreads connections over them, and
//! the workers share nothing on a connection's way. A Unix socket is one queue for all of them.

mod switch;

use std::{
    cell::{Cell, RefCell},
    future::pending,
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Version, header::CONNECTION};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Proxy, ServerParams, Upstream,
    connection::{self, Answered, Drain, MAX_STREAMS},
    handler,
    hosts::{DEFAULT_PORT, Directory},
    in_flight::InFlight,
    progress::Limits,
    record,
    reject::Rejection,
    seats::Seats,
    worker::{Pseudonym, Worker},
};
use crate::{
    backoff::Backoff,
    code::Code,
    socket::{self, Acceptor, Address, Listener, Peer, Stream},
};
use switch::Succession;
pub use switch::Switch;

/// How many connections are still admitted when shutdown begins: more than a queue holds.
const MOST_OF_THE_LAST: usize = 4096;

/// How many connections are told at the same time that there is no seat; more are closed without a word.
const MAX_TURNED_AWAY: usize = 64;

/// When accepting fails for want of file descriptors or memory: trying on at once would only spin.
const ACCEPT_BACKOFF: Backoff = Backoff {
    waits: &[
        Duration::from_millis(10),
        Duration::from_millis(30),
        Duration::from_millis(100),
        Duration::from_millis(300),
        Duration::from_secs(1),
    ],
    longest: Duration::from_secs(1),
};

/// How long connections stay open after shutdown, so that the application learns of it from an answer
/// (R94). A connection that closes at once meets the next request on its way, and that request is lost.
const FAREWELL: Duration = Duration::from_millis(500);

/// The sockets of one worker, bound and listening.
pub struct Listeners {
    sockets: Vec<Bound>,
    rooms: Rooms,
    pseudonym: Pseudonym,
    successions: Option<mpsc::UnboundedReceiver<Succession>>,
}

/// Where there is room for so many at a time, in the whole process.
#[derive(Clone, Default)]
struct Rooms {
    connections: Seats,
    /// Of requests over HTTP/2.
    streams: Seats,
    turned_away: Seats,
}

/// One of them.
struct Bound {
    listener: Listener,
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
) -> io::Result<(Vec<Listeners>, Vec<Address>)> {
    let own = upstreams.iter().filter_map(|upstream| {
        Some((
            upstream.params.listen.as_ref()?,
            Some(&upstream.params.name),
        ))
    });
    let rooms = Rooms::default();
    let pseudonym = Pseudonym::random();
    let mut workers: Vec<Listeners> = (0..server.workers.max(1))
        .map(|_| Listeners {
            sockets: Vec::new(),
            rooms: rooms.clone(),
            pseudonym: pseudonym.clone(),
            successions: None,
        })
        .collect();
    let mut addresses = Vec::new();
    for (address, own) in [(&server.listen, None)].into_iter().chain(own) {
        let (sockets, address) = Listener::bind_each(address, workers.len(), server.socket_mode)
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
            .address()
            .and_then(|address| Ok((address, listener.into_acceptor()?)));
        let (address, acceptor) = match accepting {
            Ok(accepting) => accepting,
            Err(error) => {
                tracing::error!(%error, "a listener does not work");
                continue;
            }
        };
        let port = port_in_host(&address);
        let entrance = Rc::new(Entrance::new(&worker, own, port, listeners.rooms.clone()));
        entrances.push(Rc::clone(&entrance));
        loops.spawn_local(accept(entrance, acceptor, shutdown.clone()));
    }
    let serving = async { while loops.join_next().await.is_some() {} };
    tokio::select! {
        () = serving => {}
        () = follow(listeners.successions, worker, &entrances) => {}
    }
}

/// Serves one connection that is there already, until one side closes it: a worker for it alone, on the current thread's
/// `LocalRuntime`. In Host it has no port.
pub async fn serve_one<S>(proxy: Arc<Proxy>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let worker = Rc::new(Worker::new(proxy, Pseudonym::random()));
    let entrance = Entrance::new(&worker, None, DEFAULT_PORT, Rooms::default());
    Rc::new(entrance).serve(stream).await;
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
    rooms: Rooms,
}

async fn accept(entrance: Rc<Entrance>, acceptor: Acceptor, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown.cancelled());
    let mut pause = pin!(sleep_until(Instant::now()));
    let mut failures = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_ended) = connections.join_next() => {}
            () = &mut pause, if !pause.is_elapsed() => {}
            accepted = acceptor.accept(), if pause.is_elapsed() => match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    entrance.admit(stream, peer, &mut connections);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    failures += 1;
                    let wait = ACCEPT_BACKOFF.delay(failures, 0.0);
                    pause.as_mut().reset(Instant::now() + wait);
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "connections cannot be accepted");
                }
            }
        }
    }
    entrance.is_leaving.set(true);
    entrance.admit_the_last(acceptor, &mut connections);
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
    fn new(worker: &Rc<Worker>, own: Option<Arc<str>>, port: u16, rooms: Rooms) -> Self {
        Self {
            scene: RefCell::new(Scene::new(worker, own.as_deref(), port)),
            own,
            port,
            drain: Drain::default(),
            is_leaving: Rc::default(),
            rooms,
        }
    }

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
    fn admit_the_last(self: &Rc<Self>, acceptor: Acceptor, connections: &mut JoinSet<()>) {
        for accepted in acceptor.into_the_last().take(MOST_OF_THE_LAST) {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, connections),
                Err(error) if is_of_the_peer(&error) => {}
                Err(_) => break,
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: Stream, peer: Peer, connections: &mut JoinSet<()>) {
        let worker = self.worker();
        let server = &worker.proxy.server;
        if !is_admitted(server, peer) {
            self.turn_away(stream, &Rejection::other_user(), connections);
        } else if let Some(seat) = self.rooms.connections.take(server.max_connections) {
            let serving = Rc::clone(self).serve(stream);
            connections.spawn_local(async move {
                serving.await;
                drop(seat);
            });
        } else {
            self.turn_away(stream, &Rejection::overloaded(), connections);
        }
    }

    fn turn_away(&self, stream: Stream, rejection: &Rejection, connections: &mut JoinSet<()>) {
        if let Some(seat) = self.rooms.turned_away.take(MAX_TURNED_AWAY) {
            let last_word = refuse(&self.worker(), rejection);
            connections.spawn_local(async move {
                connection::close_with(stream, &last_word).await;
                drop(seat);
            });
        }
    }

    /// Whether there is room for one more request over HTTP/2. Over HTTP/1 a connection bounds what its requests hold: one
    /// at a time. So that many connections with many requests each are bounded too (P7), all of them together are no more than
    /// connections may be; and what one connection may carry is never too much.
    fn seat_stream(&self, worker: &Worker, in_flight: &mut InFlight) -> bool {
        let most = worker.proxy.server.max_connections.max(MAX_STREAMS);
        match self.rooms.streams.take(most) {
            Some(seat) => {
                in_flight.take_seat(seat);
                true
            }
            None => false,
        }
    }

    async fn serve<S>(self: Rc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = {
            let worker = self.worker();
            let server = &worker.proxy.server;
            Limits {
                header: server.header_timeout,
                idle: server.idle_timeout,
            }
        };
        let answer = |mut in_flight: InFlight, request: Request<Incoming>| {
            let is_stream = request.version() == Version::HTTP_2;
            let Scene { worker, directory } = self.scene();
            let has_room = !is_stream || self.seat_stream(&worker, &mut in_flight);
            let handling = handler::handle(worker, directory, in_flight, request, has_room);
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

/// Whether this process may connect. On a port the system does not say who it is; there the caller key does.
fn is_admitted(server: &ServerParams, peer: Peer) -> bool {
    match (peer, &server.allowed_uids) {
        (Peer::Tcp, _) | (Peer::Unix(_), None) => true,
        (Peer::Unix(uid), Some(allowed)) => {
            uid.is_some_and(|uid| socket::is_us_or_root(uid) || allowed.contains(&uid))
        }
    }
}

/// What Host may name besides the names: a Unix socket has no port, and so its Host has none but the scheme's own.
fn port_in_host(address: &Address) -> u16 {
    address.port().unwrap_or(DEFAULT_PORT)
}

#[cfg(test)]
mod tests;
