//! HTTP/2 without TLS (RFC 9113 section 3.3), by hyper and h2.
//!
//! The limits are all written out (R20), for a default that a library loses in passing is missed by nobody.

use std::{convert::Infallible, error::Error, future::poll_fn, pin::pin, rc::Rc, task::Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{
    Answered, Drain,
    calm::Calm,
    close_with, poll_expired,
    streams::{Handed, Spawn, Streams},
};
use crate::{
    code::Code,
    proxy::{in_flight::InFlight, progress::Limits},
};

/// Requests in flight on one connection.
const STREAMS: u32 = 100;

/// The same number, to count with.
pub(in crate::proxy) const MAX_STREAMS: usize = STREAMS as usize;

/// Of a request's body, what the application may send ahead on a stream and on all of them together.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Of an answer's body, what is held of a stream until the application takes it.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// Bounds a head, decoded; each field counts 32 bytes more than it has.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Streams that the application has reset before they were looked at (CVE-2023-44487): one more, and the
/// connection ends with ENHANCE_YOUR_CALM.
const MAX_PENDING_RESETS: usize = 20;

/// The same for streams that it made us reset (CVE-2025-8671), in the whole life of a connection. Some are
/// innocent: a piece of a body that was on its way while its request was refused may be one.
const MAX_LOCAL_RESETS: usize = 1024;

/// Serves `stream`, which begins with the preface, until one side closes it. `refuse` is told when it ends because of
/// frames that break the protocol: of these h2 makes no request that could have a record.
pub(super) async fn serve<S, A, F, B, R>(
    stream: S,
    accepted: Instant,
    limits: Limits,
    drain: &Drain,
    answer: A,
    refuse: R,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(InFlight, Request<Incoming>) -> F,
    F: Future<Output = Answered<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: FnOnce(Code) -> Bytes,
{
    let mut stream = Calm::new(stream);
    let streams = Rc::new(Streams::new(limits, accepted));
    let ends = Ends(&streams);
    let service = service_fn(|request: Request<Incoming>| {
        let stream = streams.begin(head_bytes(&request));
        let in_flight = InFlight::new(
            Rc::clone(&stream) as _,
            Rc::clone(stream.reception()),
            // The fragment of a `:path` is cut off where nobody sees it.
            false,
        );
        let answering = answer(in_flight, request);
        async move {
            let response = match answering.await {
                Answered::Response(response) => response.map(Either::Left),
                // Extended CONNECT (RFC 8441) is not offered, and nothing else asks to switch.
                Answered::Switching(..) => nothing(),
            };
            Ok::<_, Infallible>(response.map(|body| Handed::new(body, stream)))
        }
    });
    let ended = {
        let io = TokioIo::new(&mut stream);
        let spawn = Spawn(Rc::clone(&streams));
        let mut connection = pin!(http(spawn).serve_connection(io, service));
        let mut timer = pin!(sleep_until(accepted));
        let mut signal = pin!(drain.signal.cancelled());
        let mut is_registered = false;
        let mut is_finishing = false;
        poll_fn(|context| {
            if !is_registered || drain.begun.get() && !is_finishing {
                is_registered = true;
                is_finishing = signal.as_mut().poll(context).is_ready();
                if is_finishing {
                    streams.leave();
                    connection.as_mut().graceful_shutdown();
                }
            }
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                let deadline = streams.deadline();
                if poll_expired(timer.as_mut(), deadline, context).is_pending() {
                    return Poll::Pending;
                }
                if is_finishing {
                    return Poll::Ready(Ok(()));
                }
                // Idle for too long: says so, and gives the application a moment to hear it.
                is_finishing = true;
                streams.leave();
                connection.as_mut().graceful_shutdown();
            }
        })
        .await
    };
    drop(ends);
    // Each request has a record of its own, and so it makes no difference how else it ends.
    if stream.is_flooded() || ended.is_err_and(|error| breaks_protocol(&error)) {
        refuse(Code::FramingInvalid);
    }
    let (last_word, stream) = stream.into_last_word();
    close_with(stream, last_word.as_ref().map_or(&[], |word| word)).await;
}

/// Whether h2 has ended the connection because of what the application sent. hyper only says that it has ended.
fn breaks_protocol(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(h2::Error::is_library)
}

/// Ends the tasks of a connection with it, however it ends.
struct Ends<'a>(&'a Rc<Streams>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn http(spawn: Spawn) -> http2::Builder<Spawn> {
    let mut http = http2::Builder::new(spawn);
    http.max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .adaptive_window(false)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS);
    http
}

/// The fields as they would stand in a head of HTTP/1.1, roughly: what came is compressed, and only h2 knows
/// how large it was.
fn head_bytes(request: &Request<Incoming>) -> u64 {
    let target = request.uri().path_and_query();
    let target = target.map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    (request.method().as_str().len() + target + fields.sum::<usize>()) as u64
}

fn nothing<B>() -> Response<Either<B, Empty<Bytes>>> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
