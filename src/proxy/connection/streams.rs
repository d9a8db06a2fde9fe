//! The streams of one HTTP/2 connection: their tasks and their clocks.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{
    task::JoinSet,
    time::{Instant, Sleep, sleep_until},
};

use crate::proxy::{
    arriving::Reception,
    in_flight::Carrier,
    progress::{Expiry, Limits},
};

/// How long a connection that is leaving stays for an application that does not take leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// The streams of one connection. Its tasks end with it.
pub(super) struct Streams {
    limits: Limits,
    open: Cell<usize>,
    /// Since when there is none.
    since: Cell<Instant>,
    has_served: Cell<bool>,
    /// GOAWAY was said.
    is_leaving: Cell<bool>,
    /// The stream for whose request hyper will ask for a task next.
    begun: Cell<Option<Rc<Stream>>>,
    tasks: RefCell<JoinSet<()>>,
}

impl Streams {
    /// Of a connection that was accepted at that time.
    pub(super) fn new(limits: Limits, accepted: Instant) -> Self {
        Self {
            limits,
            open: Cell::new(0),
            since: Cell::new(accepted),
            has_served: Cell::new(false),
            is_leaving: Cell::new(false),
            begun: Cell::new(None),
            tasks: RefCell::default(),
        }
    }

    /// A request has come whose head had so many bytes.
    pub(super) fn begin(&self, head: u64) -> Rc<Stream> {
        let stream = Rc::new(Stream {
            head,
            reception: Rc::default(),
            waits_since: Cell::new(None),
        });
        self.has_served.set(true);
        self.begun.set(Some(Rc::clone(&stream)));
        stream
    }

    /// GOAWAY is being said.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
        self.since.set(Instant::now());
    }

    /// When the connection ends for want of streams. A stream has clocks of its own.
    ///
    /// Bytes that begin no stream move nothing: neither a PING now and then nor a head that never ends
    /// keeps a connection open.
    pub(super) fn deadline(&self) -> Option<(Instant, Expiry)> {
        if self.open.get() > 0 {
            return None;
        }
        let limit = if self.is_leaving.get() {
            FAREWELL
        } else if self.has_served.get() {
            self.limits.idle
        } else {
            self.limits.header
        };
        Some((self.since.get().checked_add(limit)?, Expiry::Idle))
    }

    /// Ends what is still running.
    pub(super) fn end(&self) {
        drop(self.tasks.take());
    }
}

/// One request and its answer.
#[derive(Debug)]
pub(super) struct Stream {
    head: u64,
    reception: Rc<Reception>,
    /// Since when a piece of the answer has been waiting for the application to make room for it.
    waits_since: Cell<Option<Instant>>,
}

impl Stream {
    pub(super) fn reception(&self) -> &Rc<Reception> {
        &self.reception
    }
}

impl Carrier for Stream {
    fn received(&self) -> u64 {
        self.head.saturating_add(self.reception.read())
    }

    /// A stream is reset (RFC 9113 section 8.1), and the connection stays.
    fn leave_unread(&self) {}

    fn end(&self) {}
}

/// The body of an answer, which notes when a piece of it has been taken. A piece is taken before there is
/// room for it, and the next one is asked for when it has gone.
pub(super) struct Handed<B> {
    body: B,
    stream: Rc<Stream>,
}

impl<B> Handed<B> {
    pub(super) fn new(body: B, stream: Rc<Stream>) -> Self {
        Self { body, stream }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Handed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let waits_since = frame.is_ready().then(Instant::now);
        self.stream.waits_since.set(waits_since);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs what hyper makes of a request as a task of its own.
///
/// hyper asks for it right after it has called the service, so the stream that has begun last is the
/// one.
#[derive(Clone)]
pub(super) struct Spawn(pub(super) Rc<Streams>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawn {
    fn execute(&self, exchange: F) {
        let streams = &self.0;
        streams.open.set(streams.open.get() + 1);
        let task = Watched {
            exchange,
            stream: streams.begun.take(),
            limit: streams.limits.idle,
            timer: None,
            _open: Open(Rc::clone(streams)),
        };
        let mut tasks = streams.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }
}

/// One of the open streams, until it is dropped.
struct Open(Rc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        let streams = &self.0;
        streams.open.set(streams.open.get().saturating_sub(1));
        streams.since.set(Instant::now());
    }
}

pin_project! {
    /// An exchange that ends when the application has not made room for a piece of its answer for too long.
    /// Dropping it resets the stream.
    struct Watched<F> {
        #[pin]
        exchange: F,
        stream: Option<Rc<Stream>>,
        limit: Duration,
        // Made at the first wait: most answers never wait.
        timer: Option<Pin<Box<Sleep>>>,
        _open: Open,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.exchange.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let waits_since = this
            .stream
            .as_ref()
            .and_then(|stream| stream.waits_since.get());
        let Some(deadline) = waits_since.and_then(|since| since.checked_add(*this.limit)) else {
            return Poll::Pending;
        };
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
