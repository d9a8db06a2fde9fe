//! Why an exchange over HTTP/2 failed. The only file on this side that names the `h2` crate: hyper says that
//! something went wrong, and only the error below says what.
//!
//! Should hyper ever use another version of `h2` than ours, its errors are of a type unknown here, and nothing
//! is sent again any more. The tests of refusals notice that.

use std::error::Error;

use h2::Reason;

use super::super::error::BodyFault;

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The LMS says that it has not processed it: REFUSED_STREAM (RFC 9113 section 8.7).
    Refused,
    /// The same, by a GOAWAY that names an earlier stream as the last: the connection takes no more.
    GoneAway,
    /// The LMS wants it over HTTP/1.1 (RFC 9113 section 7).
    NeedsHttp1,
    /// The LMS reset it for another reason. It may have been processed.
    Reset,
    /// The LMS broke the protocol.
    Violation,
    /// The connection ended.
    Lost,
}

/// Judges an error of a response, or of its body.
pub(super) fn verdict(error: &hyper::Error) -> Verdict {
    let Some(cause) = cause(error) else {
        return Verdict::Lost;
    };
    if cause.is_library() {
        return Verdict::Violation;
    }
    if !cause.is_remote() {
        return Verdict::Lost;
    }
    if cause.is_go_away() {
        // Streams up to the last one that the GOAWAY names go on, and do not end in this error.
        return Verdict::GoneAway;
    }
    match cause.reason() {
        Some(Reason::REFUSED_STREAM) => Verdict::Refused,
        Some(Reason::HTTP_1_1_REQUIRED) => Verdict::NeedsHttp1,
        _ => Verdict::Reset,
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

/// A request body that the application broke. Makes hyper reset the stream as cancelled, where it
/// would otherwise claim an error of its own.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub(super) struct Cancelled {
    fault: BodyFault,
    #[source]
    reason: h2::Error,
}

impl From<BodyFault> for Cancelled {
    fn from(fault: BodyFault) -> Self {
        Self {
            fault,
            reason: Reason::CANCEL.into(),
        }
    }
}
