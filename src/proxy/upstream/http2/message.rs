//! A request in the form that HTTP/2 has for it (RFC 9113 section 8.3.1), and back again.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
    uri::{Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};

use super::{super::RequestBody, executor::Uploading, reason::Cancelled};
use crate::dial::Origin;

/// `:scheme` and `:authority` of every request to an upstream.
#[derive(Clone, Debug)]
pub(in super::super) struct Target {
    scheme: Scheme,
    authority: Authority,
}

impl Target {
    pub(in super::super) fn of(origin: &Origin) -> Self {
        let scheme = if origin.tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        Self {
            scheme,
            // The host of an origin is a name or an address, so this is no authority of anybody else.
            authority: Authority::try_from(origin.authority())
                .unwrap_or(Authority::from_static("invalid")),
        }
    }

    /// The name of the LMS.
    pub(in super::super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// From the form of HTTP/1.1: origin-form, Host, one framing field.
    pub(super) fn apply(
        &self,
        request: Request<RequestBody>,
        uploading: &Uploading,
    ) -> Request<Outgoing> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        // Never fails with all three parts; and without them the request is refused as malformed.
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        head.version = Version::HTTP_2;
        head.headers.remove(HOST);
        head.headers.remove(TRANSFER_ENCODING);
        let body = Outgoing {
            body,
            uploading: uploading.clone(),
            is_met: false,
        };
        Request::from_parts(head, body)
    }

    /// Undoes [`apply`](Self::apply), but for the framing field.
    pub(super) fn undo(&self, request: Request<Outgoing>) -> Request<RequestBody> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.into_parts().path_and_query;
        head.uri = path.map(Uri::from).unwrap_or_default();
        head.version = Version::HTTP_11;
        if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
            head.headers.insert(HOST, host);
        }
        Request::from_parts(head, body.into_inner())
    }
}

/// The body of a request, as hyper's HTTP/2 takes it.
pub(super) struct Outgoing {
    body: RequestBody,
    uploading: Uploading,
    is_met: bool,
}

impl Outgoing {
    fn into_inner(mut self) -> RequestBody {
        std::mem::replace(&mut self.body, RequestBody::buffered(Bytes::new()))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cancelled;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cancelled>>> {
        let this = self.get_mut();
        if !this.is_met {
            this.is_met = true;
            this.uploading.begin(this.body.upload());
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Cancelled::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.uploading.end();
    }
}
