//! The body of an answer, which keeps count of itself.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Ending, Record};
use crate::proxy::headers::is_allowed_trailer;

/// The body of an answer: `start`, which is at hand, and then `rest`. Takes the record to its end.
pub(in crate::proxy) struct Recorded<B> {
    start: Option<Bytes>,
    rest: Option<B>,
    record: Record,
    /// How long the body is, where its head says so.
    announced: Option<u64>,
}

impl<B: Body<Data = Bytes>> Recorded<B> {
    /// Bytes of our own. They count as delivered: there is no more to come.
    pub(in crate::proxy) fn fixed(bytes: Bytes, mut record: Record) -> Self {
        record.ending = Ending::Complete;
        Self {
            announced: None,
            start: Some(bytes),
            rest: None,
            record,
        }
    }

    /// An answer of the LMS, of which `start` has been read already.
    pub(in crate::proxy) fn passed_on(start: Bytes, rest: B, mut record: Record) -> Self {
        let has_start = !start.is_empty();
        let ends = rest.is_end_stream();
        if ends && !has_start {
            record.ending = Ending::Complete;
        }
        let announced = rest
            .size_hint()
            .exact()
            .and_then(|rest| rest.checked_add(start.len() as u64));
        Self {
            announced,
            start: has_start.then_some(start),
            rest: (!ends).then_some(rest),
            record,
        }
    }

    /// hyper does not ask for the end of a body once it has had all of it.
    fn note_sent(&mut self, data: &Bytes) {
        let record = &mut self.record;
        record.sent = record.sent.saturating_add(data.len() as u64);
        let has_ended = self.rest.as_ref().is_none_or(Body::is_end_stream);
        if has_ended || self.announced == Some(record.sent) {
            record.ending = Ending::Complete;
        }
    }
}

impl<B> Body for Recorded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(start) = this.start.take() {
            this.note_sent(&start);
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(rest).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                this.record.ending = Ending::BrokenOff;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                this.record.ending = Ending::Complete;
                return Poll::Ready(None);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                this.note_sent(&data);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(trailers) => {
                this.record.ending = Ending::Complete;
                this.rest = None;
                Poll::Ready(allowed_trailers(trailers).map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.start.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let start = self.start.as_ref().map_or(0, |start| start.len() as u64);
        let rest = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(start));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(start));
        }
        hint
    }
}

/// What of the trailers may pass (R16); `None`: nothing.
fn allowed_trailers(frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    let trailers = frame.into_trailers().ok()?;
    let mut last = None;
    let allowed: HeaderMap = trailers
        .into_iter()
        .filter_map(|(name, value)| {
            // A repeated name comes once, and then as `None`.
            last = name.or_else(|| last.take());
            last.clone().map(|name| (name, value))
        })
        .filter(|(name, _)| is_allowed_trailer(name))
        .collect();
    (!allowed.is_empty()).then(|| Frame::trailers(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{
        LogRequests,
        record::testing::{record, worker},
    };
    use http::HeaderValue;
    use http_body_util::{BodyExt, Full};
    use std::{cell::RefCell, collections::VecDeque, io};

    /// Frames, and then the end.
    struct Frames(RefCell<VecDeque<Result<Frame<Bytes>, io::Error>>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.borrow_mut().pop_front())
        }
    }

    fn frames(frames: impl IntoIterator<Item = Result<Frame<Bytes>, io::Error>>) -> Frames {
        Frames(RefCell::new(frames.into_iter().collect()))
    }

    #[tokio::test]
    async fn an_answer_read_to_its_end_is_complete_and_its_bytes_are_counted() {
        let worker = worker(LogRequests::All);
        let start = Bytes::from_static(b"ab");
        let mut body = Recorded::passed_on(start, Full::new(Bytes::from("cde")), record(&worker));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "ab"
        );
        assert_eq!(body.record.ending, Ending::Abandoned);
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "cde"
        );
        assert!(body.is_end_stream());
        assert_eq!(body.record.ending, Ending::Complete);
        assert_eq!(body.record.sent, 5);
    }

    #[tokio::test]
    async fn an_answer_without_a_body_is_complete_at_once() {
        let worker = worker(LogRequests::All);
        let body = Recorded::passed_on(Bytes::new(), Full::new(Bytes::new()), record(&worker));
        assert!(body.is_end_stream());
        assert_eq!(body.record.ending, Ending::Complete);
    }

    #[tokio::test]
    async fn an_answer_that_the_lms_breaks_off_is_not_complete() {
        let worker = worker(LogRequests::All);
        let rest = frames([
            Ok(Frame::data(Bytes::from("ab"))),
            Err(io::ErrorKind::ConnectionReset.into()),
        ]);
        let mut body = Recorded::passed_on(Bytes::new(), rest, record(&worker));
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(body.record.ending, Ending::BrokenOff);
    }

    #[tokio::test]
    async fn only_harmless_trailers_reach_the_application() {
        let trailers = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            map
        };
        let worker = worker(LogRequests::All);
        let mixed = trailers(&[
            ("authorization", "Bearer evil"),
            ("server-timing", "db"),
            ("server-timing", "app"),
            ("grpc-status", "0"),
        ]);
        let rest = frames([Ok(Frame::trailers(mixed))]);
        let mut body = Recorded::passed_on(Bytes::new(), rest, record(&worker));
        let passed = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        let expected = trailers(&[
            ("server-timing", "db"),
            ("server-timing", "app"),
            ("grpc-status", "0"),
        ]);
        assert_eq!(passed, expected);
        assert_eq!(body.record.ending, Ending::Complete);

        let rest = frames([Ok(Frame::trailers(trailers(&[("authorization", "evil")])))]);
        let mut body = Recorded::passed_on(Bytes::new(), rest, record(&worker));
        assert!(body.frame().await.is_none());
    }
}
