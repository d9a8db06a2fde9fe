//! Instructure's Data Access Platform: the query API, as the official client (`instructure-dap-client` 2.3.1) speaks it.
//!
//! A job is `waiting` when it is made, `running` when it is first asked for, `complete` from then on. What it has made is
//! fetched from [`objects`], by URLs that carry their own right to it.

pub(super) mod objects;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    record::bearer,
    reply,
    store::State,
    warehouse::{self, Call, Invalid, NAMESPACE, TABLES},
};
use crate::{clock::Moment, random};

/// The path of the token endpoint, the real one's.
pub(super) const TOKEN_PATH: &str = "/ids/auth/login";

/// What the identity service says as `scope`: a description, and no list of permissions.
pub(super) const SCOPE_TEXT: &str = "6c1e7a2f-SERVICE_ID principal:00000000-0000-4000-8000-000000000001 \
                                     partner:bursar-mock region:us-west-2";

/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;

/// Answers an API call.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let now = state.clock.now();
    let token = bearer(request.headers());
    if token.is_none_or(|token| state.store().tokens.holder(token, now).is_none()) {
        return unauthorized();
    }
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let call = match (request.method(), segments.as_slice()) {
        (&Method::GET, ["dap", "query", _, "table"]) => Call::Tables,
        (&Method::GET, ["dap", "query", _, "table", _, "schema"]) => Call::Schema,
        (&Method::POST, ["dap", "query", _, "table", _, "data"]) => Call::Query,
        (&Method::GET, ["dap", "job", _]) => Call::Job,
        (&Method::POST, ["dap", "object", "url"]) => Call::Objects,
        _ => return not_found("resource", &path),
    };
    let counted = match state.is_unlimited {
        true => Ok(()),
        false => state.warehouse().count(call, now),
    };
    if let Err(seconds) = counted {
        return throttled(Some(HeaderValue::from(seconds)));
    }
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    match (call, segments.as_slice()) {
        (_, ["dap", "query", namespace, ..]) if *namespace != NAMESPACE => {
            not_found("namespace", namespace)
        }
        (Call::Tables, _) => ok(&json!({ "tables": TABLES })),
        (Call::Schema, [_, _, _, _, table, ..]) => match warehouse::schema(table) {
            Some(schema) => ok(&schema),
            None => not_found("table", table),
        },
        (Call::Query, [_, _, _, _, table, ..]) => query(state, table, &body, now),
        (Call::Job, [_, _, id]) => match state.warehouse().ask(id) {
            Some(job) => ok(&job),
            None => not_found("job", id),
        },
        _ => object_urls(state, &body, now),
    }
}

fn query(state: &State, table: &str, body: &[u8], now: Moment) -> Response<Full<Bytes>> {
    if !TABLES.contains(&table) {
        return not_found("table", table);
    }
    match state.warehouse().query(table, body, now) {
        Ok(job) => ok(&job),
        Err(error) => invalid(&error),
    }
}

/// An object in a request for URLs.
#[derive(Deserialize)]
struct Asked {
    id: String,
}

fn object_urls(state: &State, body: &[u8], now: Moment) -> Response<Full<Bytes>> {
    let asked: Vec<Asked> = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(error) => return invalid(&Invalid::json(&error)),
    };
    let mut urls = serde_json::Map::new();
    for object in asked {
        let Some(target) = state.warehouse().sign(&object.id, now) else {
            return not_found("object", &object.id);
        };
        let url = format!("{}{target}", state.objects_origin());
        urls.insert(object.id, json!({ "url": url }));
    }
    ok(&json!({ "urls": urls }))
}

async fn read(body: Incoming) -> Result<Bytes, Box<Response<Full<Bytes>>>> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(Box::new(error(
            StatusCode::BAD_REQUEST,
            "ValidationError",
            "The body cannot be read",
            &[],
        ))),
    }
}

fn ok(value: &Value) -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, "application/json", value)
}

/// `{"error": {"type", "uuid", "message", …}}`.
fn error(
    status: StatusCode,
    kind: &str,
    message: &str,
    more: &[(&str, Value)],
) -> Response<Full<Bytes>> {
    let mut error = serde_json::Map::new();
    error.insert("type".to_owned(), kind.into());
    error.insert("uuid".to_owned(), random::id128().into());
    error.insert("message".to_owned(), message.into());
    for (name, value) in more {
        error.insert((*name).to_owned(), value.clone());
    }
    reply::json(status, "application/json", &json!({ "error": error }))
}

fn not_found(kind: &str, id: &str) -> Response<Full<Bytes>> {
    let more = [("id", id.into()), ("kind", kind.into())];
    error(
        StatusCode::NOT_FOUND,
        "NotFound",
        &format!("There is no such {kind}"),
        &more,
    )
}

fn invalid(invalid: &Invalid) -> Response<Full<Bytes>> {
    let location =
        json!({ "line": invalid.line, "column": invalid.column, "character": invalid.column });
    error(
        StatusCode::BAD_REQUEST,
        "ValidationError",
        &invalid.message,
        &[("location", location)],
    )
}

/// The token is missing, dead or unknown.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    error(
        StatusCode::UNAUTHORIZED,
        "AuthenticationError",
        "The access token is not valid",
        &[],
    )
}

/// What no new token cures.
pub(super) fn forbidden() -> Response<Full<Bytes>> {
    error(
        StatusCode::FORBIDDEN,
        "RequestTypeForbidden",
        "This kind of request is not allowed for the account",
        &[],
    )
}

/// Too many calls in a minute.
pub(super) fn throttled(retry_after: Option<HeaderValue>) -> Response<Full<Bytes>> {
    let mut response = error(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "The limit of this call for a minute is used up",
        &[],
    );
    if let Some(value) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
