//! One connection from an application: HTTP by hyper, the clocks by ourselves.
//!
//! hyper's own head timeout starts when a connection goes idle, closes without a word and cannot be
//! told apart from others; ours gives an idle connection its longer time, and a slow head a 408.

mod calm;
mod http1;
mod http2;
mod streams;

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub(super) use http2::MAX_STREAMS;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    in_flight::InFlight,
    progress::{Expiry, Limits},
    tunnel::Tunnel,
};
use crate::code::Code;

/// How long, and for how many bytes, a connection is still read after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// Tells the connections of one worker to finish what they have begun.
///
/// The flag makes the signal free while there is none: a connection asks the signal, which takes a
/// lock, once to be woken by it and once when the flag is up.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: Cell<bool>,
    signal: CancellationToken,
}

impl Drain {
    /// From now on idle connections close, and the others after their answer.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.signal.cancel();
    }
}

/// What becomes of a request.
pub(super) enum Answered<B> {
    /// It is answered.
    Response(Response<B>),
    /// It is answered with a 101, after which the connection is a tunnel.
    Switching(Response<()>, Box<Tunnel>),
}

/// Serves `stream` until one side closes it. `answer` answers a request; `refuse` is told of what never became
/// one, and says what to write where that is HTTP/1.
///
/// A connection that begins with the preface of HTTP/2 is one of HTTP/2 (prior knowledge, RFC 9113 section
/// 3.3), and any other one of HTTP/1.
pub(super) async fn serve<S, A, F, B, R>(
    stream: S,
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
    R: Fn(Code) -> Bytes,
{
    let accepted = Instant::now();
    let http2 = http1::serve(stream, limits, drain, &answer, &refuse).await;
    if let Some(stream) = http2 {
        // On the heap, so that other connections keep no room for it.
        Box::pin(http2::serve(
            stream, accepted, limits, drain, answer, refuse,
        ))
        .await;
    }
}

/// Writes a last word that was not asked for, and closes.
pub(super) async fn close_with<S>(mut stream: S, last_word: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let writing = async {
        stream.write_all(last_word).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(LINGER, writing).await {
        linger(stream).await;
    }
}

/// Reads on for a moment after our end was closed. A socket that is closed with bytes unread resets the
/// connection, and the reset destroys an answer that the application has not read yet.
async fn linger<S: AsyncRead + Unpin>(stream: S) {
    let mut rest = stream.take(LINGER_BYTES);
    let mut nowhere = tokio::io::sink();
    // How it ends makes no difference.
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut nowhere)).await;
}

/// One timer for all clocks of a connection. It is moved back only when it has run out, so that a busy
/// connection does not touch the timer wheel with every request.
fn poll_expired(
    mut timer: Pin<&mut Sleep>,
    next: Option<(Instant, Expiry)>,
    context: &mut Context<'_>,
) -> Poll<Expiry> {
    let Some((deadline, expiry)) = next else {
        return Poll::Pending;
    };
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(context).is_ready() {
        if timer.deadline() >= deadline {
            return Poll::Ready(expiry);
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}
