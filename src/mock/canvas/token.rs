//! Canvas's token endpoint, with its own errors, its own answer, and its ways: the refresh token stays the same, each refresh kills the access
//! token before it, and an error goes to `redirect_uri` as a redirect if the request has one.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::{Value, json};
use url::Url;

use super::{
    super::{
        access::Owner,
        client_auth::{Form, is_client},
        fault::Effect,
        grants::{Consent, GrantId, Presented, Unredeemed, Worth},
        refusal::Refusal,
        reply, resources,
        store::{State, Store},
        token_endpoint::{
            issue::{mint, refresh_token},
            no_store, pass_gates,
        },
    },
    JSON, presented, throttled_by, unauthorized,
};

/// Whose bucket is filled by requests without a token: all come from this machine.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// What a token request costs.
const COST: f64 = 200.0;

/// An error of `Canvas::OAuth::RequestError`.
struct Problem {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

const fn problem(error: &'static str, description: &'static str) -> Problem {
    Problem {
        status: StatusCode::BAD_REQUEST,
        error,
        description,
    }
}

const fn invalid_client(description: &'static str) -> Problem {
    Problem {
        status: StatusCode::UNAUTHORIZED,
        error: "invalid_client",
        description,
    }
}

/// Answers a token request.
pub(in super::super) async fn answer(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    pass_gates(state).await;
    let form = form.unwrap_or_default();
    let answer = async {
        grant(state, head, &form, effect).unwrap_or_else(|problem| problem.answer(state, &form))
    };
    no_store(throttled_by(state, ADDRESS, COST, answer).await)
}

/// Deletes the token that a request shows, with its grant (`DELETE /login/oauth2/token`).
pub(in super::super) async fn delete(state: &State, head: &Parts) -> Response<Full<Bytes>> {
    let token = presented(head).unwrap_or_default();
    let answer = async {
        let now = state.clock.now();
        let mut store = state.store();
        let Some(holder) = store.tokens.holder(&token, now).cloned() else {
            return unauthorized();
        };
        if let Some(owner) = holder.owner {
            store.end_grant(owner.grant);
        }
        let ends_sessions = head
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "expire_sessions=1"));
        let body = match ends_sessions {
            true => json!({ "forward_url": format!("{}/logout", state.origin()) }),
            false => json!({}),
        };
        reply::json(StatusCode::OK, JSON, &body)
    };
    throttled_by(state, &token, state.canvas.request_cost, answer).await
}

fn grant(
    state: &State,
    head: &Parts,
    form: &Form,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Problem> {
    if head.method != Method::POST {
        return Err(problem("invalid_request", "the method must be POST"));
    }
    let get = |name: &str| form.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let is_code = match get("grant_type") {
        Some("authorization_code") => true,
        Some("refresh_token") => false,
        _ => {
            return Err(problem(
                "unsupported_grant_type",
                "The grant_type you requested is not currently supported",
            ));
        }
    };
    authenticate(state, &head.headers, get("client_id"), get("client_secret"))?;
    // One lock for all of it: whatever becomes of the answer, what was done is done.
    let mut store = state.store();
    let (consent, grant) = match is_code {
        true => redeem(state, &mut store, form)?,
        false => refresh(state, &mut store, get("refresh_token"))?,
    };
    let owner = Owner {
        user: consent.user,
        grant,
    };
    let minted = mint(state, &mut store, consent.scopes, Some(owner), effect)
        .map_err(|_unsigned| problem("server_error", "the token cannot be made"))?;
    let mut answer = json!({
        "access_token": minted.token,
        "token_type": "Bearer",
        "user": {
            "id": consent.user,
            "name": resources::full_name(consent.user),
            "global_id": (10_000_000_000_000 + consent.user).to_string(),
            "effective_locale": "en",
        },
        "canvas_region": "us-east-1",
        "expires_in": minted.lifetime.as_secs(),
    });
    if let (true, Value::Object(answer)) = (is_code, &mut answer) {
        let token = refresh_token(state, &mut store, grant, None);
        answer.insert("refresh_token".to_owned(), token.into());
    }
    effect.restate_lifetime(&mut answer, "expires_in");
    Ok(reply::json(StatusCode::OK, JSON, &answer))
}

/// Id and secret in the body; the Authorization field counts where the body has none.
fn authenticate(
    state: &State,
    fields: &HeaderMap,
    id: Option<&str>,
    secret: Option<&str>,
) -> Result<(), Problem> {
    let pair = basic_pair(fields);
    let pair = pair
        .as_ref()
        .map(|(id, secret)| (id.as_str(), secret.as_str()));
    let id = id.or_else(|| pair.map(|(id, _)| id)).unwrap_or_default();
    let secret = secret
        .or_else(|| pair.map(|(_, secret)| secret))
        .unwrap_or_default();
    if id != state.client_id {
        return Err(invalid_client("unknown client"));
    }
    match is_client(state, id, secret) {
        true => Ok(()),
        false => Err(invalid_client("invalid client")),
    }
}

/// The raw pair.
fn basic_pair(fields: &HeaderMap) -> Option<(String, String)> {
    let field = fields.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn redeem(state: &State, store: &mut Store, form: &Form) -> Result<(Consent, GrantId), Problem> {
    let get = |name: &str| form.get(name).map(String::as_str);
    let code = get("code").filter(|code| !code.is_empty());
    let presented = Presented {
        code: code.ok_or(problem(
            "invalid_request",
            "You must provide the code parameter when using the authorization_code grant type",
        ))?,
        redirect_uri: get("redirect_uri"),
        verifier: get("code_verifier"),
    };
    let redeemed = store.codes.redeem(&presented, state.clock.now());
    let consent = redeemed.map_err(|why| {
        problem(
            "invalid_grant",
            match why {
                Unredeemed::RedirectUri => "redirect_uri does not match client settings",
                Unredeemed::Verifier | Unredeemed::NoChallenge => "code_verifier does not match",
                _ => "authorization_code not found",
            },
        )
    })?;
    let grant = store.grants.open(consent.clone());
    store.codes.brought(presented.code, grant);
    Ok((consent, grant))
}

/// The access token that the grant had so far dies the moment the next one is issued.
fn refresh(
    state: &State,
    store: &mut Store,
    token: Option<&str>,
) -> Result<(Consent, GrantId), Problem> {
    let token = token.ok_or(problem(
        "invalid_request",
        "You must provide the refresh_token parameter when using the refresh_token grant type",
    ))?;
    let unknown = problem("invalid_request", "refresh_token not found");
    let now = state.clock.now();
    let Worth::Good(grant) = store.grants.worth(token, Duration::ZERO, now) else {
        return Err(unknown);
    };
    let consent = store.grants.consent(grant).cloned().ok_or(unknown)?;
    store.tokens.revoke_of(grant);
    Ok((consent, grant))
}

impl Problem {
    /// The trap: with a `redirect_uri` in the request, the error goes there, as a redirect.
    fn answer(self, state: &State, form: &Form) -> Response<Full<Bytes>> {
        tracing::info!(error = self.error, "{}", self.description);
        let redirect_uri = form.get("redirect_uri").filter(|uri| !uri.is_empty());
        if let Some(mut url) = redirect_uri
            .filter(|_| state.canvas.redirects_errors)
            .and_then(|uri| Url::parse(uri).ok())
        {
            url.query_pairs_mut()
                .append_pair("error", self.error)
                .append_pair("error_description", self.description);
            return reply::redirect(url.as_str());
        }
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = reply::json(self.status, JSON, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Canvas OAuth 2.0");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
