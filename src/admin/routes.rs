//! What each admin socket answers: one match over exact paths.

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body::Body;
use http_body_util::Full;

use super::{
    Admin, Phase,
    control::{self, Caller},
    guard,
    key_set::KeySet,
    reply::{JSON, TEXT, answer, empty, hardened},
};

/// Which socket a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// `admin.listen`.
    Probes,
    /// `admin.control`, and who came by it.
    Control(Caller),
    /// `admin.jwks_listen`.
    KeySet,
}

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers one request.
pub(super) async fn respond<B>(
    admin: &Admin,
    socket: Socket,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if let Socket::Control(caller) = socket {
        if let Err(code) = guard::check(&head, caller.port()) {
            return guard::problem(code);
        }
        if head.method == Method::POST {
            control::take_in(body).await;
            return hardened(control::post(admin, caller, &head).await);
        }
    }
    hardened(read(admin, socket, &head))
}

/// What can be read. The body of such a request, if there is one, is not.
fn read(admin: &Admin, socket: Socket, request: &request::Parts) -> Response<Full<Bytes>> {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    // CONNECT has no path, and what has no path matches nothing (RFC 9112 section 3.2.3).
    let path = if is_read { request.uri.path() } else { "" };
    match (socket, path) {
        (Socket::Probes, "/livez") => answer(StatusCode::OK, TEXT, "ok\n"),
        (Socket::Probes, "/startupz") => startup(admin),
        (Socket::Probes, "/readyz") => readiness(admin, request.uri.query()),
        (Socket::Probes, "/metrics") => metrics(admin),
        (Socket::Control(_), "/api/v1/status") => status(admin),
        (Socket::Control(_) | Socket::KeySet, "/.well-known/jwks.json") => {
            let response = key_set(admin, &request.headers);
            admin.metrics.count_key_set_answer(response.status());
            response
        }
        (Socket::KeySet, _) => {
            admin.metrics.count_key_set_answer(StatusCode::NOT_FOUND);
            empty(StatusCode::NOT_FOUND)
        }
        _ => empty(StatusCode::NOT_FOUND),
    }
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
                error = &error as &dyn Error,
                "the metrics cannot be written"
            );
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn key_set(admin: &Admin, request: &HeaderMap) -> Response<Full<Bytes>> {
    match KeySet::new(&admin.state.key_set()) {
        Ok(keys) => keys.respond(request),
        Err(error) => {
            tracing::error!(
                event = "key_set_failed",
                error = &error as &dyn Error,
                "the key set cannot be written"
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
                error = &error as &dyn Error,
                "the status cannot be written"
            );
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}
