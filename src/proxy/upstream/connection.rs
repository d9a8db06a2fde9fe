//! One connection to the LMS: hyper's sender, and the task that moves its bytes.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    task::AbortHandle,
    time::Instant,
};

use super::{
    RequestBody,
    ear::Ear,
    raw::{HandOver, Raw},
};

/// Bounds hyper's buffers. Larger ones gain nothing.
const MAX_BUFFER: usize = 64 * 1024;

/// Bounds the head of a response, and its trailers.
const MAX_HEAD: usize = 64 * 1024;

/// Interim (1xx) responses that one request may draw.
const MAX_INTERIM: u32 = 32;

/// A connection. Dropped while a request is on it, it closes at once; dropped while idle, it says
/// goodbye first (TLS close_notify).
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    task: AbortHandle,
    heard: Rc<Cell<bool>>,
    /// Shared with a callback that hyper wants to be `Send`.
    interim: Arc<AtomicU32>,
    hand_over: HandOver,
    retire_at: Instant,
}

impl Connection {
    /// Starts HTTP/1.1 on `stream`. `on_close` runs when the connection ends by itself.
    ///
    /// hyper's defaults are the limits wanted: 100 fields (setting the same number would cost an
    /// allocation per response), no HTTP/0.9, no folded fields, no space before a colon.
    ///
    /// # Errors
    ///
    /// hyper's.
    pub(super) async fn open<S>(
        stream: S,
        retire_at: Instant,
        on_close: impl FnOnce() + 'static,
    ) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let heard = Rc::new(Cell::new(false));
        let io = TokioIo::new(Ear::new(stream, Rc::clone(&heard)));
        let (sender, mut connection) = Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD)
            .handshake(io)
            .await?;
        let hand_over = HandOver::default();
        let receiver = hand_over.clone();
        let task = tokio::task::spawn_local(async move {
            // The request that was on it has been told how it ended; an idle one has nobody to tell.
            let ended = (&mut connection).await;
            match (ended, receiver.take()) {
                (Ok(()), Some(receiver)) => {
                    let parts = connection.into_parts();
                    let raw = Raw::new(parts.io.into_inner().into_inner(), parts.read_buf);
                    // Nobody waits for it any more: then it closes.
                    let _ = receiver.send(raw);
                }
                // Only when it is gone does its sender know.
                _ => drop(connection),
            }
            on_close();
        });
        Ok(Self {
            sender,
            task: task.abort_handle(),
            heard,
            interim: Arc::new(AtomicU32::new(0)),
            hand_over,
            retire_at,
        })
    }

    /// Hands a request to the connection; the future is its response.
    ///
    /// A server that floods the request with interim responses loses the connection.
    pub(super) fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>
    {
        self.heard.set(false);
        self.interim.store(0, Ordering::Relaxed);
        let (interim, task) = (Arc::clone(&self.interim), self.task.clone());
        hyper::ext::on_informational(&mut request, move |_| {
            if interim.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
                task.abort();
            }
        });
        self.sender.try_send_request(request)
    }

    /// The stream without HTTP, should the LMS switch protocols in answer to the next request. Comes before
    /// [`send`](Self::send): HTTP ends in the moment in which the 101 is read.
    pub(super) fn raw(&self) -> oneshot::Receiver<Raw> {
        let (sender, receiver) = oneshot::channel();
        self.hand_over.set(Some(sender));
        receiver
    }

    /// Whether a byte has come since the request was handed over.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.get()
    }

    /// Whether the request drew more interim responses than allowed.
    pub(super) fn is_flooded(&self) -> bool {
        self.interim.load(Ordering::Relaxed) > MAX_INTERIM
    }

    /// When it becomes too old.
    pub(super) fn retire_at(&self) -> Instant {
        self.retire_at
    }

    /// Not to be used again, whatever its state.
    pub(super) fn retire(&mut self) {
        self.retire_at = Instant::now();
    }

    /// Whether another request can be sent on it: both messages of the last exchange have ended,
    /// both ends want to go on, and nothing came that nobody asked for.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.sender.is_ready() {
            self.task.abort();
        }
    }
}
