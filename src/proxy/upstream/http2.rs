//! A connection to the LMS that carries many requests at once (RFC 9113): hyper's sender, and what
//! bounds it.

mod executor;
mod message;
mod reason;
mod traffic;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, Connection as Protocol, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

pub(super) use message::Target;

use super::{
    RequestBody,
    attempt::{Asked, Failure, within},
    ear::Ear,
    error::{UpstreamError, Violation},
    framing,
    upload::Upload,
};
use executor::{Driver, LocalExecutor, Uploading};
use message::Outgoing;
use reason::Verdict;
use traffic::Traffic;

/// Requests at once on one connection, however many more the LMS would allow.
pub(super) const MAX_STREAMS: usize = 100;

/// Stands for what the LMS has not said yet: no number of requests that it can say.
const UNSAID: usize = usize::MAX - 1;

/// What one answer may have in our memory while the application does not read it. Enough for some
/// 5 MB/s over 50 ms.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What all answers of one connection may have there: as much as they have together, so that an
/// application that does not read holds up its own exchange only.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// What of one request body may wait for the LMS in our memory.
const SEND_BUFFER: usize = 64 * 1024;

/// Bounds the head of a response, and its trailers.
const MAX_HEAD: u32 = 64 * 1024;

/// Bounds their number; the head of an answer over HTTP/1.1 has the same limit from hyper.
const MAX_FIELDS: usize = 100;

/// How many streams that we reset are remembered, so that what still comes on them is passed over.
const REMEMBERED_RESETS: usize = 2 * MAX_STREAMS;

/// How many streams the LMS may open and reset before we look. It may open none (no server push).
const UNREAD_RESETS: usize = 1;

/// How many violations of the protocol on single streams end the connection.
const MAX_VIOLATIONS: usize = 1024;

/// How many streams we may have reset, most of them because applications gave up, before the connection takes no more
/// requests. An LMS that defends itself against rapid resets (CVE-2023-44487) ends a connection after a hundred or
/// more, and with it the requests of those who did nothing. Over HTTP/1.1 each of them would have cost a connection.
const MAX_RESETS: u32 = 25;

/// After this silence, with a request on it, the connection is asked whether it is alive (PING) …
const PING_AFTER: Duration = Duration::from_secs(20);

/// … and this long is the answer waited for.
const PING_WAIT: Duration = Duration::from_secs(10);

/// What a connection tells its pool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    /// It takes so many requests at once.
    Takes(usize),
    /// It takes none any more.
    Ended,
}

/// What hyper makes of a stream.
type Multiplexer<S> = Protocol<TokioIo<Ear<S, Rc<Traffic>>>, Outgoing, LocalExecutor>;

/// A connection shared by many requests. Dropped, it says goodbye and closes.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    target: Target,
    uploading: Uploading,
    driver: Rc<Driver>,
    /// Requests at once, as far as the LMS has said.
    max_streams: Rc<Cell<usize>>,
    traffic: Rc<Traffic>,
    /// Takes no more requests; hyper need not know yet.
    is_ending: Cell<bool>,
}

impl Connection {
    /// Starts HTTP/2 on `stream`; `notice` hears what becomes of it.
    ///
    /// # Errors
    ///
    /// hyper's.
    pub(super) async fn open<S>(
        stream: S,
        target: Target,
        notice: impl Fn(Notice) + 'static,
    ) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let traffic = Rc::new(Traffic::new());
        let io = TokioIo::new(Ear::new(stream, Rc::clone(&traffic)));
        let uploading = Uploading::default();
        let executor = LocalExecutor::new(uploading.clone());
        let driver = executor.driver();
        let (sender, protocol) = Builder::new(executor)
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNSAID)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_pending_accept_reset_streams(UNREAD_RESETS)
            .max_local_error_reset_streams(MAX_VIOLATIONS)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_WAIT)
            .handshake(io)
            .await?;
        let max_streams = Rc::new(Cell::new(protocol.current_max_send_streams()));
        let notice = Rc::new(notice);
        let protocol = Rc::new(RefCell::new(protocol));
        watch(&driver, &protocol, &max_streams, &traffic, &notice);
        tokio::task::spawn_local(async move {
            // Every request that was on it has been told how it ended.
            let _ended = poll_fn(|cx| Pin::new(&mut *protocol.borrow_mut()).poll(cx)).await;
            // What comes back unsent does so when this is gone.
            drop(protocol);
            notice(Notice::Ended);
        });
        Ok(Self {
            sender,
            target,
            uploading,
            driver,
            max_streams,
            traffic,
            is_ending: Cell::new(false),
        })
    }

    /// Sends one request and waits for an acceptable head; also tells how long that took. Dropping the
    /// future resets the stream, and leaves the connection to the others.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn head(
        &self,
        request: Request<RequestBody>,
        asked: Asked<'_>,
    ) -> Result<(Response<Incoming>, Duration), Failure> {
        let Asked { upload, limits, .. } = asked;
        let start = Instant::now();
        if let Some(upload) = upload {
            upload.start();
        }
        let request = self.target.apply(request, &self.uploading);
        let sending = self.sender.clone().try_send_request(request);
        let result = within(limits, upload, start, sending)
            .await
            .map_err(|limit| self.silence(limit, start))?;
        let mut refusal = match result {
            Ok(mut response) => {
                check(&response)
                    .map_err(|violation| Failure::Failed(UpstreamError::Protocol(violation)))?;
                *response.version_mut() = Version::HTTP_11;
                return Ok((response, start.elapsed()));
            }
            Err(refusal) => refusal,
        };
        Err(match refusal.take_message() {
            Some(request) => {
                Failure::Unsent(Box::new(self.target.undo(request)), refusal.into_error())
            }
            None => self.failure(refusal.into_error(), upload),
        })
    }

    /// The LMS kept nobody waiting but us, or was not heard at all. In the second case it is better not
    /// to put more requests on the connection.
    fn silence(&self, limit: Duration, start: Instant) -> Failure {
        if self.traffic.last_heard() < start {
            self.is_ending.set(true);
        }
        Failure::Failed(UpstreamError::Timeout(limit))
    }

    fn failure(&self, error: hyper::Error, upload: Option<&Upload>) -> Failure {
        if let Some(fault) = upload.and_then(Upload::fault) {
            return Failure::Failed(UpstreamError::Body(fault));
        }
        match reason::verdict(&error) {
            Verdict::Refused => Failure::Refused(error),
            Verdict::GoneAway => {
                self.is_ending.set(true);
                Failure::Refused(error)
            }
            Verdict::Lost => {
                self.is_ending.set(true);
                Failure::Silent(if error.is_timeout() {
                    UpstreamError::Timeout(PING_AFTER + PING_WAIT)
                } else {
                    UpstreamError::Reset(error)
                })
            }
            Verdict::NeedsHttp1 => Failure::NeedsHttp1(error),
            Verdict::Reset => Failure::Failed(UpstreamError::Reset(error)),
            Verdict::Violation => {
                Failure::Failed(UpstreamError::Protocol(Violation::Malformed(error)))
            }
        }
    }

    /// How many requests at once it takes; `None` before the LMS has said so.
    pub(super) fn max_streams(&self) -> Option<usize> {
        match self.max_streams.get() {
            UNSAID => None,
            said => Some(said.min(MAX_STREAMS)),
        }
    }

    /// Whether it takes requests, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.is_ending.get() && !self.sender.is_closed() && self.traffic.resets_sent() < MAX_RESETS
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.leave();
    }
}

/// What the end of a body means.
pub(super) fn broken(error: hyper::Error) -> UpstreamError {
    match reason::verdict(&error) {
        Verdict::Violation => UpstreamError::Protocol(Violation::Malformed(error)),
        _ => UpstreamError::Reset(error),
    }
}

fn check(response: &Response<Incoming>) -> Result<(), Violation> {
    if response.headers().len() > MAX_FIELDS {
        return Err(Violation::TooManyFields);
    }
    framing::check(response, None)
}

/// hyper knows how many requests the LMS takes, but does not tell when that changes. Nor is there anybody else who would
/// tell that we have reset too many streams.
fn watch<S>(
    driver: &Driver,
    protocol: &Rc<RefCell<Multiplexer<S>>>,
    max_streams: &Rc<Cell<usize>>,
    traffic: &Rc<Traffic>,
    notice: &Rc<impl Fn(Notice) + 'static>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // Weak: the protocol holds the driver.
    let protocol = Rc::downgrade(protocol);
    let (max_streams, notice) = (Rc::clone(max_streams), Rc::clone(notice));
    let traffic = Rc::clone(traffic);
    let is_worn = Cell::new(false);
    driver.on_move(move || {
        if traffic.resets_sent() >= MAX_RESETS && !is_worn.replace(true) {
            notice(Notice::Ended);
        }
        let Some(protocol) = protocol.upgrade() else {
            return;
        };
        let Ok(protocol) = protocol.try_borrow() else {
            return;
        };
        let now = protocol.current_max_send_streams();
        drop(protocol);
        if max_streams.replace(now) != now {
            notice(Notice::Takes(now.min(MAX_STREAMS)));
        }
    });
}
