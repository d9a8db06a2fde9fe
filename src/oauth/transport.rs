//! One HTTP/1.1 exchange on a connection of its own.
//!
//! Token requests are rare and hours may lie between them: a pool would mostly hand out connections
//! that the other side has closed. Redirects are answers like any other here: nothing follows them,
//! so a credential goes nowhere but to the configured endpoint.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use tower::{BoxError, Service};

use super::{Cause, Unreachable};
use crate::dial::{DialError, Dialer, Offer, ProxyError};

/// The largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// The largest body that is read.
const MAX_BODY: usize = 256 * 1024;

/// How far an exchange has come, for who put it into the request's extensions.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicBool>);

/// Dials, sends, and answers with the head; the body follows.
#[derive(Clone)]
pub(super) struct Transport {
    dialer: Dialer,
}

/// Why there is no complete answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the exchange broke off")]
    Http(#[from] hyper::Error),
    #[error("the body is too large")]
    TooLarge,
}

impl Transport {
    pub(super) const fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

impl Progress {
    /// Whether it ended while there was no connection yet: then not a byte of the request has left.
    pub(super) fn is_dialing(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set_dialing(&self, is_dialing: bool) {
        self.0.store(is_dialing, Ordering::Release);
    }
}

impl ExchangeError {
    /// What the world outside is told.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Dial(DialError::Dns(_)) => Cause::Unreachable(Unreachable::Dns),
            Self::Dial(DialError::Connect(_)) => Cause::Unreachable(Unreachable::Connect),
            Self::Dial(DialError::Tls(_) | DialError::Alpn(_)) => {
                Cause::Unreachable(Unreachable::Tls)
            }
            Self::Dial(DialError::Proxy(error)) => Cause::Unreachable(match error {
                ProxyError::Refused(status) => Unreachable::ProxyRefused(status.as_u16()),
                _ => Unreachable::Proxy,
            }),
            Self::Dial(DialError::Timeout(limit)) => Cause::Timeout(*limit),
            Self::Http(error) if error.is_parse() => Cause::InvalidResponse("it is not HTTP"),
            Self::Http(_) => Cause::Unreachable(Unreachable::Reset),
            Self::TooLarge => Cause::InvalidResponse("it is larger than 256 KiB"),
        }
    }
}

impl Service<Request<Full<Bytes>>> for Transport {
    type Response = Response<ConnectionBody>;
    type Error = ExchangeError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let dialer = self.dialer.clone();
        Box::pin(exchange(dialer, request))
    }
}

async fn exchange(
    dialer: Dialer,
    request: Request<Full<Bytes>>,
) -> Result<Response<ConnectionBody>, ExchangeError> {
    let progress = request.extensions().get().cloned();
    let progress: Progress = progress.unwrap_or_default();
    progress.set_dialing(true);
    let (stream, _) = dialer.dial(Offer::Http1).await?;
    progress.set_dialing(false);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await?;
    Ok(response.map(|incoming| ConnectionBody {
        incoming,
        _connection: connection,
    }))
}

/// Reads the body up to its limit. What goes wrong with the body of an error is of no interest: its
/// status says enough.
pub(super) async fn read_body<B>(response: Response<B>) -> Result<Response<Bytes>, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) if head.status != StatusCode::OK => Bytes::new(),
        Err(error) if error.is::<LengthLimitError>() => return Err(ExchangeError::TooLarge.into()),
        Err(error) => return Err(error),
    };
    Ok(Response::from_parts(head, body))
}

pin_project_lite::pin_project! {
    /// A body that keeps its connection alive, and closes it when it is dropped: what is cut off by a
    /// timeout leaves nothing behind.
    pub(super) struct ConnectionBody {
        #[pin]
        incoming: Incoming,
        _connection: AbortOnDropHandle<hyper::Result<()>>,
    }
}

impl Body for ConnectionBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.project().incoming.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
