//! What a request in flight and that which it came on have to tell each other.

use std::{fmt, rc::Rc};

use super::{arriving::Reception, seats::Seat};

/// What a request comes on: a whole connection (HTTP/1), or one stream of many (HTTP/2).
pub(super) trait Carrier: fmt::Debug {
    /// Bytes that the application has sent for the request, its head included.
    fn received(&self) -> u64;

    /// It is going to end without the rest of the request's body having been read.
    fn leave_unread(&self);

    /// The request has ended.
    fn end(&self);
}

/// Marks its carrier as serving a request; when it is dropped, the request has ended.
#[derive(Debug)]
pub(super) struct InFlight {
    carrier: Rc<dyn Carrier>,
    reception: Rc<Reception>,
    had_fragment: bool,
    /// Held until it is dropped.
    seat: Option<Seat>,
}

impl InFlight {
    /// `reception` is where the body tells how far it has come; `had_fragment`: the target held a `#`.
    pub(super) fn new(
        carrier: Rc<dyn Carrier>,
        reception: Rc<Reception>,
        had_fragment: bool,
    ) -> Self {
        Self {
            carrier,
            reception,
            had_fragment,
            seat: None,
        }
    }

    /// Gives it a place among the requests that are counted, for as long as it lasts.
    pub(super) fn take_seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Whether the target is known to have held a `#`, which is gone by now.
    pub(super) fn had_fragment(&self) -> bool {
        self.had_fragment
    }

    /// Where the request's body tells how far it has come.
    pub(super) fn reception(&self) -> &Rc<Reception> {
        &self.reception
    }

    /// Bytes that the application has sent for this request, its head included.
    pub(super) fn received(&self) -> u64 {
        self.carrier.received()
    }

    /// What carries it ends without the rest of the request's body having been read.
    pub(super) fn leave_unread(&self) {
        self.carrier.leave_unread();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.carrier.end();
    }
}
