//! The token endpoint of Brightspace, of Instructure's identity service and of Blackboard (RFC 6749 section 3.2), one file per grant.

mod client_credentials;
pub(super) mod code;
pub(super) mod issue;
pub(super) mod refresh;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header, request::Parts};
use http_body_util::Full;

use super::{
    Lms,
    client_auth::{Form, Ways, authenticate},
    fault::Effect,
    refusal::Refusal,
    store::State,
};

/// Answers a token request.
pub(super) async fn answer(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    pass_gates(state).await;
    let answered = grant(state, head, form, effect).await;
    no_store(answered.unwrap_or_else(|refusal| refusal.logged().into_response()))
}

/// Waits until no gate is closed.
pub(super) async fn pass_gates(state: &State) {
    let mut gates = state.gates.subscribe();
    // Fails only when the mock is gone, and its connections with it.
    let _ = gates.wait_for(|closed| *closed == 0).await;
}

/// RFC 6749 section 5.1.
pub(super) fn no_store(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Judges a request.
async fn grant(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::new("invalid_request", "the method must be POST"));
    }
    let form = form?;
    let has_logins = state.lms == Lms::Brightspace;
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {
            authenticate(state, &head.headers, &form, Ways::Service).await?;
            client_credentials::grant(state, &form, effect)
        }
        Some("authorization_code") if has_logins => {
            authenticate(state, &head.headers, &form, Ways::Login).await?;
            code::grant(state, &form, effect)
        }
        Some("refresh_token") if has_logins => {
            authenticate(state, &head.headers, &form, Ways::Login).await?;
            refresh::grant(state, &form, effect)
        }
        Some(_) => Err(Refusal::new(
            "unsupported_grant_type",
            match has_logins {
                true => {
                    "grant_type must be client_credentials, authorization_code or refresh_token"
                }
                false => "grant_type must be client_credentials",
            },
        )),
        None => Err(Refusal::new("invalid_request", "grant_type is missing")),
    }
}
