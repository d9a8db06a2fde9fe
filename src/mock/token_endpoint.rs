//! The token endpoint: `client_credentials` (RFC 6749 section 4.4) with a client assertion or a secret.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jsonwebtoken::{Algorithm, Header, encode};
use serde_json::{Value, json};

use super::{
    Lms, blackboard,
    client_auth::{Form, authenticate},
    dap,
    fault::Effect,
    refusal::Refusal,
    reply, scopes,
    store::State,
};
use crate::{random, scope::ScopeSet};

/// The largest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// What the tokens of the real service say of their issuer and of the API.
const ISSUER: &str = "https://api.brightspace.com/auth";
const AUDIENCE: &str = "https://api.brightspace.com/auth/token";
const TENANT: &str = "00000000-0000-4000-8000-000000006606";
/// The service user of the registration.
const SERVICE_USER: &str = "169";

/// Answers a token request.
pub(super) async fn answer(
    state: &State,
    request: Request<Incoming>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    pass_gates(state).await;
    let mut response = match grant(state, request).await {
        Ok(granted) if state.lms == Lms::Blackboard => blackboard::issue(state, granted, effect),
        Ok(granted) => issue(state, granted, effect),
        Err(refusal) => {
            tracing::info!(error = refusal.error, "{}", refusal.description);
            refusal.into_response()
        }
    };
    // RFC 6749 section 5.1.
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

async fn pass_gates(state: &State) {
    let mut gates = state.gates.subscribe();
    // Fails only when the mock is gone, and its connections with it.
    let _ = gates.wait_for(|closed| *closed == 0).await;
}

/// Judges a request; the scopes that it gets.
async fn grant(state: &State, request: Request<Incoming>) -> Result<ScopeSet, Refusal> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Refusal::new("invalid_request", "the method must be POST"));
    }
    let form = read_form(&head.headers, body).await?;
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(Refusal::new(
                "unsupported_grant_type",
                "grant_type must be client_credentials",
            ));
        }
        None => return Err(Refusal::new("invalid_request", "grant_type is missing")),
    }
    authenticate(state, &head.headers, &form).await?;

    // Neither the identity service of Instructure nor Blackboard's two-legged grant knows scopes.
    let asked = form.get("scope").filter(|_| state.lms == Lms::Brightspace);
    let Some(asked) = asked else {
        return Ok(state.registered.clone());
    };
    let asked = ScopeSet::parse(asked)
        .map_err(|_invalid| Refusal::new("invalid_scope", "scope is not a list of scopes"))?;
    let granted = scopes::narrow(&asked, &state.registered);
    if granted.is_empty() {
        return Err(Refusal::new(
            "invalid_scope",
            "the client is registered for none of the scopes",
        ));
    }
    Ok(granted)
}

async fn read_form(fields: &HeaderMap, body: Incoming) -> Result<Form, Refusal> {
    let is_form = fields
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| {
            value
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form {
        return Err(Refusal::new(
            "invalid_request",
            "Content-Type must be application/x-www-form-urlencoded",
        ));
    }
    let body = Limited::new(body, MAX_FORM)
        .collect()
        .await
        .map_err(|_error| Refusal::new("invalid_request", "the form cannot be read"))?
        .to_bytes();
    let mut form = Form::new();
    for (name, value) in url::form_urlencoded::parse(&body) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            // RFC 6749 section 3.2.
            return Err(Refusal::new(
                "invalid_request",
                "a parameter is there more than once",
            ));
        }
    }
    Ok(form)
}

/// The successful answer (RFC 6749 section 5.1).
fn issue(state: &State, granted: ScopeSet, effect: &Effect) -> Response<Full<Bytes>> {
    let next_lifetime = state.store().take_next_lifetime();
    let lifetime = match effect {
        Effect::Lifetime(lifetime) => *lifetime,
        _ => next_lifetime.unwrap_or(state.lifetime),
    };
    let granted = match effect {
        Effect::Scope(most) => scopes::narrow(&granted, most),
        _ => granted,
    };
    let (token_type, scope) = match state.lms {
        Lms::Dap => ("bearer", dap::SCOPE_TEXT.to_owned()),
        _ => ("Bearer", granted.to_string()),
    };
    let now = state.clock.now();
    let claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": SERVICE_USER,
        "tenantid": TENANT,
        "client_id": state.client_id,
        "scope": scope,
        "iat": now.wall.as_secs(),
        "nbf": now.wall.as_secs(),
        "exp": now.wall.saturating_add(lifetime).as_secs(),
        "jti": random::id128(),
    });
    let Ok(token) = encode(&Header::new(Algorithm::HS256), &claims, &state.token_key) else {
        return reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut answer = json!({
        "access_token": token,
        "token_type": token_type,
        "expires_in": lifetime.as_secs(),
        "scope": scope,
    });
    misstate(&mut answer, effect);
    state
        .store()
        .issue(token, granted, now.after(lifetime), now);
    state.count(|counters| counters.tokens_issued += 1);
    reply::json(StatusCode::OK, "application/json", &answer)
}

/// Lets [`Effect::ExpiresIn`] happen to a successful answer.
pub(super) fn misstate(answer: &mut Value, effect: &Effect) {
    if let (Effect::ExpiresIn(stated), Value::Object(answer)) = (effect, answer) {
        match stated {
            Some(stated) => answer.insert("expires_in".to_owned(), stated.clone()),
            None => answer.remove("expires_in"),
        };
    }
}
