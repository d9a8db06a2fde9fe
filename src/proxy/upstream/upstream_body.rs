//! The body of a response on its way from the LMS.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    error::UpstreamError, http2, idle::IdleTimer, pool::Link, switched::Switched, upload::Upload,
};

/// A body from the LMS. Gives its connection back to the pool when it has been read to its end. If not,
/// it closes the connection, or resets its stream where others share it. Trailers come as a frame, unfiltered.
///
/// A body that does not come whole ends in an error, never as if it were complete.
pub struct UpstreamBody {
    incoming: Incoming,
    /// Until the exchange has ended, one way or the other.
    link: Option<Link>,
    idle: IdleTimer,
    upload: Option<Rc<Upload>>,
    switched: Option<Switched>,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        link: Link,
        idle: Duration,
        upload: Option<Rc<Upload>>,
    ) -> Self {
        let mut body = Self {
            incoming,
            link: Some(link),
            idle: IdleTimer::new(idle),
            upload,
            switched: None,
        };
        if body.incoming.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Of a 101.
    pub(super) fn none(incoming: Incoming, switched: Switched) -> Self {
        Self {
            incoming,
            link: None,
            idle: IdleTimer::new(Duration::MAX),
            upload: None,
            switched: Some(switched),
        }
    }

    /// What follows the head of a 101; `None` on any other answer, and the second time.
    pub fn switched(&mut self) -> Option<Switched> {
        self.switched.take()
    }

    fn finish(&mut self) {
        if let Some(link) = self.link.take() {
            link.give_back();
        }
        self.give_up_upload();
    }

    fn fail(&mut self, error: UpstreamError) -> UpstreamError {
        if let Some(link) = self.link.take() {
            link.fail(&error);
        }
        error
    }

    fn broken(&self, error: hyper::Error) -> UpstreamError {
        match self.upload.as_ref().and_then(|upload| upload.fault()) {
            Some(fault) => UpstreamError::Body(fault),
            None if self.is_shared() => http2::broken(error),
            None => UpstreamError::from_lms(error),
        }
    }

    fn is_shared(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_shared)
    }

    /// Who has the answer, or wants it no more, sends no more of the request.
    fn give_up_upload(&self) {
        if let Some(upload) = &self.upload {
            upload.give_up();
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        self.give_up_upload();
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            let upload = this.upload.as_ref().map(|upload| upload.last_moved());
            ready!(this.idle.poll_expired(cx, upload));
            let limit = this.idle.limit();
            return Poll::Ready(Some(Err(this.fail(UpstreamError::Timeout(limit)))));
        };
        Poll::Ready(match next {
            Some(Ok(frame)) => {
                this.idle.touch();
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = this.broken(error);
                Some(Err(this.fail(error)))
            }
            // hyper takes a stream that was reset without an error for one that has ended.
            None if this.is_shared() && !this.incoming.is_end_stream() => {
                Some(Err(this.fail(UpstreamError::Incomplete)))
            }
            None => {
                this.finish();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}
