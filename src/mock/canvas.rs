//! Canvas's REST API: who may call, how much, with which scopes.
//!
//! A dead token is told from a missing right by one field only: both are 401, the first has `WWW-Authenticate`.

mod resources;
pub(super) mod token;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{access::Holder, record::bearer, reply, store::State, url_scopes};

/// The paths of the authorization endpoint and of the token endpoint, the real ones.
pub(super) const AUTHORIZE_PATH: &str = "/login/oauth2/auth";
pub(super) const TOKEN_PATH: &str = "/login/oauth2/token";

/// The longest target of an authorization request: the real one's server takes 8,000 characters of a header.
pub(super) const MAX_TARGET: usize = 8_000;

const JSON: &str = "application/json; charset=utf-8";

const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");
const COST: HeaderName = HeaderName::from_static("x-request-cost");

/// Answers an API call.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let presented = presented(&head);
    let whose = presented.as_deref().unwrap_or(token::ADDRESS);
    let answer = async {
        // Uploads are taken in and dropped.
        while let Some(Ok(_)) = body.frame().await {}
        call(state, &head, presented.as_deref())
    };
    throttled_by(state, whose, state.canvas.request_cost, answer).await
}

/// Answers with `answer`, unless the bucket of `whose` is full.
async fn throttled_by(
    state: &State,
    whose: &str,
    cost: f64,
    answer: impl Future<Output = Response<Full<Bytes>>>,
) -> Response<Full<Bytes>> {
    let limit = match state.is_unlimited {
        true => f64::MAX,
        false => state.canvas.throttle_limit,
    };
    if !state.buckets().enter(whose, limit, state.clock.now()) {
        return throttled(state.canvas.throttle_status);
    }
    let mut response = answer.await;
    let now = state.clock.now();
    let remaining = state.buckets().leave(whose, cost, limit, now);
    let fields = response.headers_mut();
    for (name, number) in [(REMAINING, remaining), (COST, cost)] {
        if let Ok(value) = HeaderValue::from_str(&format!("{number:?}")) {
            fields.insert(name, value);
        }
    }
    response
}

/// The token of a request. The field wins over the parameter.
fn presented(head: &Parts) -> Option<String> {
    let query = head.uri.query().unwrap_or_default();
    let in_query = || {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "access_token")
            .map(|(_, token)| token.into_owned())
    };
    bearer(&head.headers).map(str::to_owned).or_else(in_query)
}

fn call(state: &State, head: &Parts, token: Option<&str>) -> Response<Full<Bytes>> {
    let path = head.uri.path();
    let Some(token) = token else {
        return unauthenticated();
    };
    let holder = state
        .store()
        .tokens
        .holder(token, state.clock.now())
        .cloned();
    let Some(holder) = holder else {
        return unauthorized();
    };
    if state.canvas.is_scoped
        && (url_scopes::are_enforced(path) || path == "/api/graphql")
        && !url_scopes::open(&holder.granted, &head.method, path)
    {
        return insufficient_scopes();
    }
    resource(state, head, &holder)
}

fn resource(state: &State, head: &Parts, holder: &Holder) -> Response<Full<Bytes>> {
    let path = head.uri.path();
    if head.method == Method::POST && path == "/api/graphql" {
        return reply::json(StatusCode::OK, JSON, &json!({ "data": {} }));
    }
    let Some(route) = url_scopes::find(&head.method, path) else {
        return not_found();
    };
    if path.starts_with("/api/lti/") {
        // These take service tokens of LTI only.
        return unauthorized();
    }
    // As everywhere in the mock: an identifier of 403 or 404 stands for what may not be seen, or is not there.
    let has = |wanted: &str| path.split('/').any(|segment| segment == wanted);
    if has("403") {
        return forbidden();
    }
    if has("404") {
        return not_found();
    }
    resources::answer(state, head, route.template, holder).unwrap_or_else(not_found)
}

fn errors(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = json!({ "errors": [{ "message": message }] });
    reply::json(status, JSON, &body)
}

/// In the order in which the members of the real one were seen.
fn with_status(status: &str, message: &str) -> Response<Full<Bytes>> {
    let body = format!(
        r#"{{"status":{},"errors":[{{"message":{}}}]}}"#,
        Value::from(status),
        Value::from(message)
    );
    reply::text(StatusCode::UNAUTHORIZED, JSON, body)
}

fn challenged(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let challenge = HeaderValue::from_static("Bearer realm=\"canvas-lms\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// The token is dead or unknown.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    challenged(errors(StatusCode::UNAUTHORIZED, "Invalid access token."))
}

fn unauthenticated() -> Response<Full<Bytes>> {
    challenged(with_status(
        "unauthenticated",
        "user authorization required",
    ))
}

/// The user lacks the right: 401 as well, but without a challenge.
pub(super) fn forbidden() -> Response<Full<Bytes>> {
    with_status("unauthorized", "user not authorized to perform that action")
}

fn insufficient_scopes() -> Response<Full<Bytes>> {
    errors(
        StatusCode::UNAUTHORIZED,
        "Insufficient scopes on access token.",
    )
}

fn not_found() -> Response<Full<Bytes>> {
    errors(
        StatusCode::NOT_FOUND,
        "The specified resource does not exist.",
    )
}

/// The bucket is full. There is no Retry-After.
pub(super) fn throttled(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!("{} {reason} (Rate Limit Exceeded)\n", status.as_u16());
    let mut response = reply::text(status, "text/plain; charset=utf-8", body);
    response
        .headers_mut()
        .insert(REMAINING, HeaderValue::from_static("0.0"));
    response
}
