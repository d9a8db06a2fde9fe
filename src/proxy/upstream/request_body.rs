//! The body of a request on its way to the LMS.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{
    super::arriving::Arriving,
    error::BodyFault,
    idle::IdleTimer,
    upload::{Phase, Upload},
};

/// The body of a request on its way to the LMS. Trailers are not passed on.
///
/// A body that fails makes the connection to the LMS close without a last chunk, so that the LMS
/// never takes a part for the whole.
pub struct RequestBody(Kind);

enum Kind {
    Buffered(Bytes),
    Streaming(Box<Streaming>),
}

impl RequestBody {
    /// None, or one that is at hand (it can be sent again).
    #[must_use]
    pub fn buffered(bytes: Bytes) -> Self {
        Self(Kind::Buffered(bytes))
    }

    /// `prefix` (already read) and the rest as it comes.
    ///
    /// `limit` is the largest size in bytes of the whole, `idle` the longest wait for the
    /// application's next byte.
    #[must_use]
    pub fn streaming(prefix: Bytes, rest: Arriving, limit: Option<u64>, idle: Duration) -> Self {
        Self(Kind::Streaming(Box::new(Streaming {
            prefix,
            rest,
            room: limit.unwrap_or(u64::MAX),
            idle: IdleTimer::new(idle),
            upload: Rc::new(Upload::new()),
        })))
    }

    /// One that is at hand.
    #[cfg(test)]
    pub(in crate::proxy) fn at_hand(&self) -> Option<Bytes> {
        match &self.0 {
            Kind::Buffered(bytes) => Some(bytes.clone()),
            Kind::Streaming(_) => None,
        }
    }

    /// How far a streaming body has got.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        match &self.0 {
            Kind::Buffered(_) => None,
            Kind::Streaming(streaming) => Some(Rc::clone(&streaming.upload)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut self.get_mut().0 {
            Kind::Buffered(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Buffered(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Streaming(streaming) => streaming
                .poll_data(cx)
                .map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Buffered(bytes) => bytes.is_empty(),
            Kind::Streaming(streaming) => streaming.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Buffered(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Streaming(streaming) => streaming.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

struct Streaming {
    prefix: Bytes,
    rest: Arriving,
    /// What may still come before it is too much.
    room: u64,
    idle: IdleTimer,
    upload: Rc<Upload>,
}

impl Streaming {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        let next = self.poll_next(cx);
        match &next {
            Poll::Pending => self.upload.move_on(Phase::Waiting),
            Poll::Ready(Some(Ok(_))) if !self.is_end() => {
                self.upload.move_on(Phase::Taken(Instant::now()));
            }
            Poll::Ready(Some(Ok(_)) | None) => self.upload.finish(),
            Poll::Ready(Some(Err(fault))) => self.upload.fail(*fault),
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        if !self.prefix.is_empty() {
            let data = std::mem::take(&mut self.prefix);
            return Poll::Ready(Some(self.within_limit(data)));
        }
        loop {
            let Poll::Ready(next) = Pin::new(&mut self.rest).poll_frame(cx) else {
                ready!(self.idle.poll_expired(cx, None));
                return Poll::Ready(Some(Err(BodyFault::Timeout)));
            };
            self.idle.touch();
            let Some(frame) = next else {
                return Poll::Ready(None);
            };
            match frame {
                Err(error) => {
                    return Poll::Ready(Some(Err(BodyFault::from_application(&error))));
                }
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(self.within_limit(data)));
                    }
                }
            }
        }
    }

    fn within_limit(&mut self, data: Bytes) -> Result<Bytes, BodyFault> {
        self.room = self
            .room
            .checked_sub(data.len() as u64)
            .ok_or(BodyFault::TooLarge)?;
        Ok(data)
    }

    fn is_end(&self) -> bool {
        self.prefix.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.prefix.len() as u64;
        self.rest
            .size_hint()
            .exact()
            .map(|rest| SizeHint::with_exact(read.saturating_add(rest)))
            .unwrap_or_default()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.upload.finish();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::proxy::upstream::testing::{Application, application};

    const IDLE: Duration = Duration::from_secs(30);

    struct Streamed {
        body: RequestBody,
        upload: Rc<Upload>,
        application: Application,
    }

    async fn streamed(head: &str, prefix: &'static str, limit: Option<u64>) -> Streamed {
        let (rest, application) = application(head).await;
        let body = RequestBody::streaming(Bytes::from(prefix), rest, limit, IDLE);
        Streamed {
            upload: body.upload().unwrap(),
            body,
            application,
        }
    }

    #[tokio::test(flavor = "local")]
    async fn the_prefix_comes_first_and_the_length_covers_both() {
        let mut streamed = streamed("Content-Length: 4\r\n\r\n", "abc", None).await;
        assert_eq!(streamed.body.size_hint().exact(), Some(7));
        streamed.application.write_all(b"defg").await.unwrap();
        let collected = streamed.body.collect().await.unwrap().to_bytes();
        assert_eq!(collected, "abcdefg");
        assert!(matches!(streamed.upload.phase(), Phase::Sent(_)));
        assert_eq!(streamed.upload.fault(), None);
    }

    #[tokio::test(flavor = "local")]
    async fn a_chunked_body_has_no_length_and_loses_its_trailers() {
        let mut streamed = streamed("Transfer-Encoding: chunked\r\n\r\n", "", None).await;
        assert_eq!(streamed.body.size_hint().exact(), None);
        streamed
            .application
            .write_all(b"2\r\nab\r\n0\r\nAuthorization: Bearer evil\r\n\r\n")
            .await
            .unwrap();
        let collected = streamed.body.collect().await.unwrap();
        assert!(collected.trailers().is_none());
        assert_eq!(collected.to_bytes(), "ab");
    }

    #[tokio::test(flavor = "local")]
    async fn a_malformed_chunk_is_a_framing_fault() {
        for chunk in ["zz\r\nab\r\n", "10000000000000003\r\n", "2\r\nabXX"] {
            let mut streamed = streamed("Transfer-Encoding: chunked\r\n\r\n", "", None).await;
            streamed
                .application
                .write_all(chunk.as_bytes())
                .await
                .unwrap();
            let fault = streamed.body.collect().await.unwrap_err();
            assert_eq!(fault, BodyFault::Framing, "{chunk:?}");
            assert_eq!(streamed.upload.fault(), Some(BodyFault::Framing));
        }
    }

    #[tokio::test(flavor = "local")]
    async fn an_application_that_leaves_has_aborted() {
        for framing in ["Transfer-Encoding: chunked", "Content-Length: 9"] {
            let streamed = streamed(&format!("{framing}\r\n\r\n"), "", None).await;
            drop(streamed.application);
            let fault = streamed.body.collect().await.unwrap_err();
            assert_eq!(fault, BodyFault::Aborted, "{framing}");
            assert_eq!(streamed.upload.fault(), Some(BodyFault::Aborted));
        }
    }

    #[tokio::test(flavor = "local")]
    async fn the_limit_covers_the_prefix_too() {
        for (limit, expected) in [(7, None), (6, Some(BodyFault::TooLarge))] {
            let mut streamed = streamed("Content-Length: 4\r\n\r\n", "abc", Some(limit)).await;
            streamed.application.write_all(b"defg").await.unwrap();
            assert_eq!(streamed.body.collect().await.err(), expected);
            assert_eq!(streamed.upload.fault(), expected);
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_application_that_falls_silent_times_out() {
        let mut streamed = streamed("Content-Length: 4\r\n\r\n", "", None).await;
        streamed.application.write_all(b"de").await.unwrap();
        let start = Instant::now();
        let fault = streamed.body.collect().await.unwrap_err();
        assert_eq!(fault, BodyFault::Timeout);
        assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
    }
}
