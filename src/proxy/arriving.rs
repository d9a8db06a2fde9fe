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

/// What is known of a body.
#[derive(Debug, Default)]
pub(super) struct Reception {
    arrival: Cell<Arrival>,
    read: Cell<u64>,
}

impl Reception {
    /// How far it has come.
    pub(super) fn arrival(&self) -> Arrival {
        self.arrival.get()
    }

    /// It has come so far.
    pub(super) fn set_arrival(&self, arrival: Arrival) {
        self.arrival.set(arrival);
    }

    /// Bytes of it that have been read.
    pub(super) fn read(&self) -> u64 {
        self.read.get()
    }
}

/// A body that tells what carries it how far it has come.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    reception: Rc<Reception>,
}

impl Arriving {
    /// `reception` is where the carrier looks.
    pub(super) fn new(body: Incoming, reception: Rc<Reception>) -> Self {
        Self { body, reception }
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
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let read = &self.reception.read;
            read.set(read.get().saturating_add(data.len() as u64));
        }
        self.reception.set_arrival(match &frame {
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
