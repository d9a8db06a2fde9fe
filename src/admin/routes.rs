//! What each admin socket answers: one match over exact paths.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    request,
};
use http_body_util::Full;

use super::{Admin, Phase, guard};
use crate::{problem, random};

/// Which socket a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// `admin.listen`.
    Probes,
    /// `admin.control`, on this port.
    Control(u16),
    /// `admin.jwks_listen`.
    KeySet,
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Answers one request. Its body, if there is one, is not read.
pub(super) fn respond(
    admin: &Admin,
    socket: Socket,
    request: &request::Parts,
) -> Response<Full<Bytes>> {
    if let Socket::Control(port) = socket
        && let Err(code) = guard::check(request, port)
    {
        return guard::problem(code);
    }
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    // CONNECT has no path, and what has no path matches nothing (RFC 9112 section 3.2.3).
    let path = if is_read { request.uri.path() } else { "" };
    let response = match (socket, path) {
        (Socket::Probes, "/livez") => answer(StatusCode::OK, TEXT, "ok\n"),
        (Socket::Probes, "/startupz") => startup(admin),
        (Socket::Probes, "/readyz") => readiness(admin, request.uri.query()),
        (Socket::Probes, "/metrics") => metrics(admin),
        (Socket::Control(_), "/api/v1/status") => status(admin),
        (Socket::Control(_) | Socket::KeySet, "/.well-known/jwks.json") => {
            let response = admin.key_set.respond(&request.headers);
            admin.metrics.count_key_set_answer(response.status());
            response
        }
        (Socket::KeySet, _) => {
            admin.metrics.count_key_set_answer(StatusCode::NOT_FOUND);
            empty(StatusCode::NOT_FOUND)
        }
        _ => empty(StatusCode::NOT_FOUND),
    };
    hardened(response)
}

fn startup(admin: &Admin) -> Response<Full<Bytes>> {
    match admin.state.phase() {
        Phase::Starting => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n"),
        Phase::Serving | Phase::Draining => answer(StatusCode::OK, TEXT, "ok\n"),
    }
}

fn readiness(admin: &Admin, query: Option<&str>) -> Response<Full<Bytes>> {
    let report = admin.readiness();
    let is_verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|part| part == "verbose" || part.starts_with("verbose="))
    });
    if !report.is_ready() {
        answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, report.render())
    } else if is_verbose {
        answer(StatusCode::OK, TEXT, report.render())
    } else {
        answer(StatusCode::OK, TEXT, "ok\n")
    }
}

fn metrics(admin: &Admin) -> Response<Full<Bytes>> {
    let families = admin.registry.gather();
    match prometheus::TextEncoder::new().encode_to_string(&families) {
        Ok(text) => answer(StatusCode::OK, METRICS, text),
        Err(error) => {
            tracing::error!(
                event = "metrics_failed",
                error = &error as &dyn std::error::Error,
                "the metrics cannot be written"
            );
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn status(admin: &Admin) -> Response<Full<Bytes>> {
    match serde_json::to_vec(&admin.status()) {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(error) => {
            tracing::error!(
                event = "status_failed",
                error = &error as &dyn std::error::Error,
                "the status cannot be written"
            );
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// No cache keeps what changes by the second, no browser guesses what it is, and it can be told from others.
fn hardened(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::try_from(random::id128()) {
        headers.insert(problem::REQUEST_ID, id);
    }
    response
}
