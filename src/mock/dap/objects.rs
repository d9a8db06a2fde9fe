//! The server of pre-signed objects: another origin, where the signature in the URL is the right, and a token is a mistake.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header, request};
use http_body_util::Full;

use crate::mock::{reply, store::State};

/// What a client must never do here.
const CREDENTIAL_SENT: &str =
    "a credential was sent to the server of pre-signed objects, which is another origin";

/// Answers a download; and what was wrong with it that must never happen.
pub(in crate::mock) fn answer(
    state: &State,
    request: &request::Parts,
) -> (Response<Full<Bytes>>, Option<&'static str>) {
    let fields = &request.headers;
    if fields.contains_key(header::AUTHORIZATION) || fields.contains_key("x-instauth") {
        let refused = xml(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "Only one auth mechanism allowed",
        );
        return (refused, Some(CREDENTIAL_SENT));
    }
    (download(state, request), None)
}

fn download(state: &State, request: &request::Parts) -> Response<Full<Bytes>> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return xml(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        );
    }
    let query = request.uri.query().unwrap_or_default();
    let now = state.clock.now();
    let Some(file) = state.warehouse().file(request.uri.path(), query, now) else {
        return xml(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "Request has expired or its signature does not match",
        );
    };
    reply::text(StatusCode::OK, "application/octet-stream", file)
}

fn xml(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    reply::text(status, "application/xml", body)
}
