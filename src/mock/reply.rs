//! The forms that the mock's answers take.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

/// JSON with `content_type`.
pub(super) fn json(
    status: StatusCode,
    content_type: &'static str,
    value: &Value,
) -> Response<Full<Bytes>> {
    text(status, content_type, value.to_string())
}

/// Any text.
pub(super) fn text(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = empty(status);
    *response.body_mut() = Full::new(body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Nothing but a status.
pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// 302 to a URL.
pub(super) fn redirect(location: &str) -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::FOUND);
    match HeaderValue::from_str(location) {
        Ok(location) => response.headers_mut().insert(header::LOCATION, location),
        Err(_unwritable) => return empty(StatusCode::INTERNAL_SERVER_ERROR),
    };
    response
}

/// A problem (RFC 9457) in the words of Brightspace, its members in the order in which they were seen.
pub(super) fn problem(status: StatusCode, kind: &str, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!(
        r#"{{"type":{},"title":{},"status":{},"detail":{}}}"#,
        Value::from(kind),
        Value::from(title),
        status.as_u16(),
        Value::from(detail),
    );
    text(status, "application/problem+json", body)
}
