//! The control endpoint: how the tests of an application order faults and look at what was received.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{fault::Fault, reply, store::State};

const MAX_BODY: usize = 64 * 1024;

const JSON: &str = "application/json";

/// What there is, for whoever asks for something else.
const ENDPOINTS: [&str; 9] = [
    "GET /mock/counters",
    "GET /mock/requests",
    "DELETE /mock/requests",
    "GET /mock/faults",
    "POST /mock/faults",
    "DELETE /mock/faults",
    "POST /mock/tokens/revoke",
    "POST /mock/grants/revoke",
    "POST /mock/reset",
];

pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key(header::ORIGIN) {
        return refused(StatusCode::FORBIDDEN, "web pages order nothing here");
    }
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/mock/counters") => {
            let counters = state.counters.borrow().clone();
            ok(&serde_json::to_value(counters).unwrap_or_default())
        }
        (&Method::GET, "/mock/requests") => {
            ok(&serde_json::to_value(state.records().all()).unwrap_or_default())
        }
        (&Method::DELETE, "/mock/requests") => {
            state.records().clear();
            reply::empty(StatusCode::NO_CONTENT)
        }
        (&Method::GET, "/mock/faults") => ok(&state.faults().to_json()),
        (&Method::POST, "/mock/faults") => order(state, request.into_body()).await,
        (&Method::DELETE, "/mock/faults") => {
            state.faults().clear();
            reply::empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, "/mock/tokens/revoke") => {
            state.store().revoke_tokens();
            reply::empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, "/mock/grants/revoke") => {
            state.store().end_all_grants();
            reply::empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, "/mock/reset") => {
            state.faults().clear();
            state.records().clear();
            state.counters.send_replace(super::Counters::default());
            reply::empty(StatusCode::NO_CONTENT)
        }
        _ => {
            let body = json!({ "error": "there is no such endpoint", "endpoints": ENDPOINTS });
            reply::json(StatusCode::NOT_FOUND, JSON, &body)
        }
    }
}

/// Adds the faults of a body: one, or a list; all of them, or none.
async fn order(state: &State, body: Incoming) -> Response<Full<Bytes>> {
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return refused(StatusCode::BAD_REQUEST, "the body cannot be read");
    };
    let written: Vec<Value> = match serde_json::from_slice(&body.to_bytes()) {
        Ok(Value::Array(faults)) => faults,
        Ok(fault) => vec![fault],
        Err(error) => return refused(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")),
    };
    let faults: Result<Vec<Fault>, _> = written.iter().map(Fault::from_json).collect();
    match faults {
        Ok(faults) => {
            let mut ordered = state.faults();
            for fault in faults {
                ordered.add(fault);
            }
            reply::json(StatusCode::CREATED, JSON, &ordered.to_json())
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn ok(value: &Value) -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, JSON, value)
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    reply::json(status, JSON, &json!({ "error": why }))
}
