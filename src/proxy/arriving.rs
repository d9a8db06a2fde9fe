//! The body of a request as it arrives from the application, and how far it has come.
//!
//! An application may end its half of the connection once it has said all it has to say, and wait for
//! its answer. Only whoever reads the body knows whether that was all; the connection is told here.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// How far a body has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arrival {
    /// There is more of it at hand than has been asked for.
    #[default]
    Ahead,
    /// Whoever reads it waits for the application's next byte.
    Awaited,
    /// All of it has come, or there was none.
    Whole,
}

/// A body that tells its connection how far it has come.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    arrival: Rc<Cell<Arrival>>,
}

impl Arriving {
    /// `arrival` is where the connection looks.
    pub(super) fn new(body: Incoming, arrival: Rc<Cell<Arrival>>) -> Self {
        Self { body, arrival }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.arrival.set(match &frame {
            Poll::Pending | Poll::Ready(Some(Err(_))) => Arrival::Awaited,
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => Arrival::Ahead,
            Poll::Ready(Some(Ok(_)) | None) => Arrival::Whole,
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
