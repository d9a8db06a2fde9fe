//! HTTP/1.1 and 1.0, by hyper.

use std::{
    cell::Cell,
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Version};
use http_body::Body;
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{Answered, Drain, close_with, linger, poll_expired};
use crate::{
    code::Code,
    proxy::{
        in_flight::InFlight,
        observed::Observed,
        progress::{Expiry, Limits, Progress},
        rewound::Rewound,
        tunnel::Tunnel,
    },
};

/// Most of a head, and most that is held of a body in either direction (R17). That a head has at most
/// 100 fields is hyper's default; to say so would move the parser's table to the heap.
pub(super) const MAX_BUFFER: usize = 64 * 1024;

/// Serves `stream` until one side closes it; gives it back, to be read anew, if it is one of HTTP/2.
pub(super) async fn serve<S, A, F, B, R>(
    stream: S,
    limits: Limits,
    drain: &Drain,
    answer: A,
    refuse: R,
) -> Option<Rewound<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(InFlight, Request<Incoming>) -> F,
    F: Future<Output = Answered<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: FnOnce(Code) -> Bytes,
{
    let progress = Rc::new(Progress::new(limits));
    let io = TokioIo::new(Observed::new(stream, Rc::clone(&progress)));
    let switching = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        let is_http10 = request.version() == Version::HTTP_10;
        let answering = answer(Progress::begin(&progress, has_body), request);
        let switching = &switching;
        async move {
            Ok::<_, Infallible>(match answering.await {
                Answered::Response(mut response) => {
                    if is_http10 {
                        // By this hyper knows that it ends the connection (R04), even if the application would
                        // keep it: what that meant before HTTP/1.1, not all agree (RFC 9112 appendix C.2.2).
                        *response.version_mut() = Version::HTTP_10;
                    }
                    response.map(Either::Left)
                }
                Answered::Switching(response, tunnel) => {
                    switching.set(Some(tunnel));
                    response.map(|()| Either::Right(Empty::new()))
                }
            })
        }
    });
    let mut connection = http().serve_connection(io, service);
    let mut timer = pin!(sleep_until(Instant::now() + limits.header));
    let mut signal = pin!(drain.signal.cancelled());
    let mut is_registered = false;
    let mut is_finishing = false;
    let end = poll_fn(|context| {
        if !is_registered || drain.begun.get() && !is_finishing {
            is_registered = true;
            is_finishing = signal.as_mut().poll(context).is_ready();
            if is_finishing {
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(context) {
            return Poll::Ready(End::of(result, switching.take()));
        }
        if progress.is_http2() {
            return Poll::Ready(End::Http2);
        }
        poll_expired(timer.as_mut(), progress.deadline(), context).map(End::Expired)
    })
    .await;
    let parts = connection.into_parts();
    let (stream, held) = parts.io.into_inner().into_parts();
    match end {
        End::Http2 => return Some(Rewound::new(held, stream)),
        End::Switched(tunnel) => Box::pin(tunnel.run(stream, parts.read_buf)).await,
        End::Expired(Expiry::Head) => close_with(stream, &refuse(Code::ClientTimeout)).await,
        // hyper has written a bare status of its own.
        End::Unparsed(code) => {
            refuse(code);
            linger(stream).await;
        }
        End::Closed if progress.is_unread() => linger(stream).await,
        End::Closed | End::Expired(Expiry::Idle | Expiry::Stalled) => {}
    }
    None
}

/// How a connection ended.
enum End {
    Closed,
    /// It has not been one of HTTP/1 from the start.
    Http2,
    /// With a 101: the rest is not HTTP.
    Switched(Box<Tunnel>),
    /// A head did not parse.
    Unparsed(Code),
    Expired(Expiry),
}

impl End {
    fn of(result: hyper::Result<()>, switching: Option<Box<Tunnel>>) -> Self {
        match (result, switching) {
            (Ok(()), Some(tunnel)) => Self::Switched(tunnel),
            (result, _) => Self::of_http(result),
        }
    }

    fn of_http(result: hyper::Result<()>) -> Self {
        match result {
            Err(error) if error.is_parse_too_large() => Self::Unparsed(Code::HeadersTooLarge),
            Err(error) if error.is_parse() => Self::Unparsed(Code::FramingInvalid),
            // The application went away in the middle; its request has a record of that.
            Ok(()) | Err(_) => Self::Closed,
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's own half-close would not notice a connection that is reset while the LMS is slow; ours
    // is in `Observed`.
    http.half_close(false)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_BUFFER)
        .header_read_timeout(None);
    http
}
