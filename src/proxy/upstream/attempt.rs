//! One request on one connection, up to the head of its response.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::{
    RequestBody,
    connection::Connection,
    error::{UpstreamError, Violation},
    framing,
    idle::later,
    upload::{Phase, Upload},
};

/// How long the LMS may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From the end of the request to the head of the response.
    pub(super) response: Duration,
    /// Between bytes.
    pub(super) idle: Duration,
}

/// What there is to know about a request beside itself.
pub(super) struct Asked<'a> {
    /// How far its body has got, where it streams.
    pub(super) upload: Option<&'a Upload>,
    /// The protocol that it wants to switch to.
    pub(super) protocol: Option<&'a HeaderValue>,
    pub(super) limits: Limits,
}

/// Why there is no head.
pub(super) enum Failure {
    /// No byte of the request left: here it is again.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The connection ended with no byte of an answer.
    Silent(UpstreamError),
    /// The LMS says that it has not processed it (HTTP/2).
    Refused(hyper::Error),
    /// The LMS wants it over HTTP/1.1.
    NeedsHttp1(hyper::Error),
    /// Anything else.
    Failed(UpstreamError),
}

impl From<Failure> for UpstreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(_, error) | Failure::Refused(error) | Failure::NeedsHttp1(error) => {
                Self::Reset(error)
            }
            Failure::Silent(error) | Failure::Failed(error) => error,
        }
    }
}

/// Sends `request` and waits for an acceptable head; also tells how long that took.
///
/// # Errors
///
/// [`Failure`]; the connection is of no further use.
pub(super) async fn head(
    connection: &mut Connection,
    request: Request<RequestBody>,
    asked: Asked<'_>,
) -> Result<(Response<Incoming>, Duration), Failure> {
    let Asked {
        upload,
        protocol,
        limits,
    } = asked;
    let start = Instant::now();
    if let Some(upload) = upload {
        upload.start();
    }
    let result = within(limits, upload, start, connection.send(request))
        .await
        .map_err(|limit| Failure::Failed(UpstreamError::Timeout(limit)))?;
    if connection.is_flooded() {
        return Err(Failure::Failed(UpstreamError::Protocol(Violation::Interim)));
    }
    match result {
        Ok(response) => {
            framing::check(&response, protocol)
                .map_err(|violation| Failure::Failed(UpstreamError::Protocol(violation)))?;
            if response.version() != Version::HTTP_11 {
                // hyper would speak HTTP/1.0 from now on, and that has no chunked bodies.
                connection.retire();
            }
            Ok((response, start.elapsed()))
        }
        Err(mut refusal) => Err(match refusal.take_message() {
            Some(request) => Failure::Unsent(Box::new(request), refusal.into_error()),
            None => failure(refusal.into_error(), upload, connection.has_heard()),
        }),
    }
}

fn failure(error: hyper::Error, upload: Option<&Upload>, heard: bool) -> Failure {
    if let Some(fault) = upload.and_then(Upload::fault) {
        return Failure::Failed(UpstreamError::Body(fault));
    }
    match UpstreamError::from_lms(error) {
        error @ UpstreamError::Reset(_) if !heard => Failure::Silent(error),
        other => Failure::Failed(other),
    }
}

/// Runs `sending` as long as the LMS keeps to `limits`; the error is the limit that passed.
///
/// The time to the head counts from the end of the request. Before that, the LMS has to take the
/// body's pieces, one per `limits.idle`; time spent waiting for the application is not its fault
/// (the body has a clock of its own for that).
pub(super) async fn within<F: Future>(
    limits: Limits,
    upload: Option<&Upload>,
    start: Instant,
    sending: F,
) -> Result<F::Output, Duration> {
    let mut sending = pin!(sending);
    let mut clock = pin!(sleep_until(later(start, limits.response)));
    poll_fn(|cx| {
        if let Poll::Ready(output) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let (since, limit) = match upload.map(Upload::phase) {
            None => (start, limits.response),
            Some(Phase::Waiting) => (Instant::now(), limits.idle),
            Some(Phase::Taken(at)) => (at, limits.idle),
            Some(Phase::Sent(at)) => (at, limits.response),
        };
        let due = later(since, limit);
        if clock.deadline() != due {
            clock.as_mut().reset(due);
        }
        if let Some(upload) = upload {
            upload.wake_when_sent(cx.waker());
        }
        ready!(clock.as_mut().poll(cx));
        Poll::Ready(Err(limit))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::proxy::upstream::testing::application;

    const LIMITS: Limits = Limits {
        response: Duration::from_secs(60),
        idle: Duration::from_secs(20),
    };

    #[tokio::test(start_paused = true)]
    async fn a_buffered_request_is_answered_in_time_or_not_at_all() {
        let start = Instant::now();
        let waited = within(LIMITS, None, start, pending::<()>()).await;
        assert_eq!(waited, Err(LIMITS.response));
        assert_eq!(start.elapsed(), LIMITS.response);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_long_upload_is_not_cut_and_the_clock_starts_at_its_end() {
        let (rest, mut peer) = application("Content-Length: 10\r\n\r\n").await;
        let body = RequestBody::streaming(Bytes::new(), rest, None, Duration::MAX);
        let upload = body.upload().unwrap();
        upload.start();
        let start = Instant::now();
        tokio::task::spawn_local(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                peer.write_all(b"x").await.unwrap();
            }
            pending::<()>().await;
        });
        let sending = async {
            body.collect().await.unwrap();
            pending::<()>().await;
        };
        let waited = within(LIMITS, Some(&upload), start, sending).await;
        assert_eq!(waited, Err(LIMITS.response));
        assert_eq!(start.elapsed().as_secs(), 150 + 60);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn the_end_of_an_upload_starts_the_clock_even_if_nothing_else_happens() {
        let (rest, mut peer) = application("Content-Length: 1\r\n\r\n").await;
        let body = RequestBody::streaming(Bytes::new(), rest, None, Duration::MAX);
        let upload = body.upload().unwrap();
        upload.start();
        let start = Instant::now();
        tokio::task::spawn_local(body.collect());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            peer.write_all(b"x").await.unwrap();
            pending::<()>().await;
        });
        let limits = Limits {
            response: Duration::from_secs(10),
            idle: Duration::from_secs(1_000),
        };
        let waited = within(limits, Some(&upload), start, pending::<()>()).await;
        assert_eq!(waited, Err(limits.response));
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_lms_that_stops_taking_the_body_times_out() {
        let (rest, _peer) = application("Content-Length: 10\r\n\r\n").await;
        let prefix = Bytes::from_static(b"abcd");
        let mut body = RequestBody::streaming(prefix, rest, None, Duration::MAX);
        let upload = body.upload().unwrap();
        upload.start();
        let start = Instant::now();
        let sending = async {
            body.frame().await.unwrap().unwrap();
            pending::<()>().await;
        };
        let waited = within(LIMITS, Some(&upload), start, sending).await;
        assert_eq!(waited, Err(LIMITS.idle));
        assert_eq!(start.elapsed(), LIMITS.idle);
    }
}
