//! Whether a request that failed is sent again: the table at the top of [`super`].

use http::Request;

use super::{RequestBody, RetryReason, attempt::Failure, error::UpstreamError};

/// How many further pooled connections are tried for a request that came back unsent, before a new
/// one is opened for it.
const POOLED_RESENDS: u32 = 2;

/// How often a request is sent again that the LMS says it has not processed, or that came back from a
/// shared connection.
const RESENDS: u32 = 2;

/// How an attempt was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// On a connection that had been open before.
    pub(super) reused: bool,
    /// On one that others share.
    pub(super) shared: bool,
    /// A repetition changes nothing.
    pub(super) safe: bool,
}

/// What has been sent again so far.
#[derive(Debug, Default)]
pub(super) struct Resends {
    came_back: u32,
    refused: u32,
    lost: bool,
}

/// What to send.
pub(super) enum Resend {
    /// The same request: it came back.
    Same(Box<Request<RequestBody>>),
    /// It is gone and has to be made anew, if it can be; if not, this is the error.
    Anew(RetryReason, UpstreamError),
}

impl Resends {
    /// # Errors
    ///
    /// What the application gets to hear, if nothing is sent again.
    pub(super) fn after(
        &mut self,
        failure: Failure,
        attempt: Attempt,
    ) -> Result<Resend, UpstreamError> {
        match failure {
            Failure::Unsent(request, _) if self.may_come_back(attempt) => Ok(Resend::Same(request)),
            Failure::Refused(_) if self.refused < RESENDS => {
                self.refused += 1;
                Ok(Resend::Anew(RetryReason::Refused, failure.into()))
            }
            Failure::NeedsHttp1(_) if attempt.safe => {
                Ok(Resend::Anew(RetryReason::Refused, failure.into()))
            }
            Failure::Silent(_) if attempt.reused && attempt.safe && !self.lost => {
                self.lost = true;
                Ok(Resend::Anew(RetryReason::Reset, failure.into()))
            }
            failure => Err(failure.into()),
        }
    }

    /// Whether another pooled connection is worth a try.
    pub(super) const fn may_use_pooled(&self) -> bool {
        self.came_back > 0 && self.came_back <= POOLED_RESENDS
    }

    const fn may_come_back(&mut self, attempt: Attempt) -> bool {
        self.came_back += 1;
        if attempt.shared {
            self.came_back <= RESENDS
        } else {
            attempt.reused
        }
    }
}
