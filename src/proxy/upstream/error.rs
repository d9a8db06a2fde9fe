//! What can go wrong between bursar and the LMS, and whose fault it is.

use std::{error::Error, io, time::Duration};

use crate::dial::{DialError, ProxyError};

/// Why there is no answer from the LMS, or no whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// `dns`.
    #[error("the name of the LMS does not resolve")]
    Dns(#[source] io::Error),
    /// `connect`.
    #[error("the LMS does not accept connections")]
    Connect(#[source] io::Error),
    /// `connect` too: the company proxy in between.
    #[error("the proxy before the LMS (http_proxy) does not let bursar through")]
    Proxy(#[source] ProxyError),
    /// `tls`.
    #[error("TLS to the LMS failed")]
    Tls(#[source] io::Error),
    /// `timeout`: no connection, no first byte of the answer, or no next byte of the exchange
    /// within the setting given.
    #[error("the LMS kept bursar waiting for more than {0:?}")]
    Timeout(Duration),
    /// `reset`.
    #[error("the LMS closed the connection before its answer was complete")]
    Reset(#[source] hyper::Error),
    /// `reset`: the end of the answer is missing, without an error of the connection (HTTP/2).
    #[error("the LMS broke its answer off")]
    Incomplete,
    /// `protocol`.
    #[error("the answer of the LMS is not valid HTTP")]
    Protocol(#[source] Violation),
    /// `protocol`: it speaks another version of HTTP than `http2` allows.
    #[error("the LMS does not speak the version of HTTP that is set for it")]
    Version(#[source] io::Error),
    /// `saturated`: no connection became free in time.
    #[error("all connections to the LMS are in use")]
    Saturated,
    /// The application's fault, not the LMS's.
    #[error("the body of the request failed")]
    Body(#[source] BodyFault),
}

/// How the application broke its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Malformed framing.
    #[error("its framing is malformed")]
    Framing,
    /// The connection ended before the body did.
    #[error("the application closed the connection")]
    Aborted,
    /// No byte for too long.
    #[error("the application sent no byte for too long")]
    Timeout,
    /// More than the route allows.
    #[error("it is larger than the route allows")]
    TooLarge,
}

/// What in an answer is not HTTP as bursar accepts it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It does not parse, or its head is larger than the limit of 100 fields and 64 KiB.
    #[error("it cannot be parsed")]
    Malformed(#[source] hyper::Error),
    /// More than 100 fields.
    #[error("it has too many fields")]
    TooManyFields,
    /// Both framings at once (RFC 9112 section 6.1).
    #[error("Content-Length stands beside Transfer-Encoding")]
    TwoFramings,
    /// Anything but one `chunked` (RFC 9112 section 6.1).
    #[error("Transfer-Encoding is not a single `chunked`")]
    TransferEncoding,
    /// Repeated, or a list (RFC 9110 section 8.6).
    #[error("Content-Length is not one number")]
    ContentLength,
    /// A 101 to a protocol that nobody asked for (RFC 9110 section 15.2.2).
    #[error("it switches to a protocol that was not asked for")]
    Upgrade,
    /// More 1xx responses than any exchange needs.
    #[error("too many interim responses came before it")]
    Interim,
}

/// The label `kind` of `bursar_upstream_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The name does not resolve.
    Dns,
    /// Nobody accepts the connection.
    Connect,
    /// TLS failed.
    Tls,
    /// Too slow.
    Timeout,
    /// The connection ended early.
    Reset,
    /// Not HTTP.
    Protocol,
    /// No connection free.
    Saturated,
}

impl UpstreamError {
    /// The kind to count it under; `None` where the application is to blame.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            Self::Dns(_) => ErrorKind::Dns,
            Self::Connect(_) | Self::Proxy(_) => ErrorKind::Connect,
            Self::Tls(_) => ErrorKind::Tls,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Reset(_) | Self::Incomplete => ErrorKind::Reset,
            Self::Protocol(_) | Self::Version(_) => ErrorKind::Protocol,
            Self::Saturated => ErrorKind::Saturated,
            Self::Body(_) => return None,
        })
    }

    /// What hyper's word on the LMS's side of a connection means.
    pub(super) fn from_lms(error: hyper::Error) -> Self {
        if is_malformed(&error) {
            Self::Protocol(Violation::Malformed(error))
        } else {
            Self::Reset(error)
        }
    }
}

impl From<DialError> for UpstreamError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Dns(source) => Self::Dns(source),
            DialError::Connect(source) => Self::Connect(source),
            DialError::Proxy(source) => Self::Proxy(source),
            DialError::Tls(source) => Self::Tls(source),
            DialError::Alpn(source) => Self::Version(source),
            DialError::Timeout(limit) => Self::Timeout(limit),
        }
    }
}

impl BodyFault {
    /// What hyper's word on the application's side of a connection means.
    pub(super) fn from_application(error: &hyper::Error) -> Self {
        if is_malformed(error) {
            Self::Framing
        } else {
            Self::Aborted
        }
    }
}

/// Whether the peer sent something wrong, rather than nothing. Heads have an error kind of their
/// own; errors in a body are told apart by the `io::Error` that hyper's decoder leaves as cause.
fn is_malformed(error: &hyper::Error) -> bool {
    error.is_parse()
        || error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_some_and(|cause| {
                matches!(
                    cause.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
                )
            })
}
