//! The tokens themselves, and the answer that brings them (RFC 6749 section 5.1).

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, Header, encode};
use serde_json::{Value, json};

use super::super::{
    Lms,
    access::{Holder, Owner},
    dap,
    fault::Effect,
    grants::GrantId,
    refusal::Refusal,
    reply, scopes,
    store::{State, Store},
};
use crate::{random, scope::ScopeSet};

/// What the tokens of the real service say of their issuer and of the API.
const ISSUER: &str = "https://api.brightspace.com/auth";
const AUDIENCE: &str = "https://api.brightspace.com/auth/token";
const TENANT: &str = "00000000-0000-4000-8000-000000006606";
/// The service user of the registration.
const SERVICE_USER: u64 = 169;

/// An access token that is known to the LMS from now on.
pub(in super::super) struct Minted {
    pub(in super::super) token: String,
    pub(in super::super) lifetime: Duration,
    /// As the answer says it.
    scope: String,
}

/// Makes an access token. `owner` has agreed to it, if anybody had to.
///
/// # Errors
///
/// It cannot be signed.
pub(in super::super) fn mint(
    state: &State,
    store: &mut Store,
    granted: ScopeSet,
    owner: Option<Owner>,
    effect: &Effect,
) -> Result<Minted, Refusal> {
    let next_lifetime = store.take_next_lifetime();
    let lifetime = match effect {
        Effect::Lifetime(lifetime) => *lifetime,
        _ => next_lifetime.unwrap_or(state.lifetime),
    };
    let granted = match effect {
        Effect::Scope(most) => scopes::narrow(&granted, most),
        _ => granted,
    };
    let scope = match state.lms {
        Lms::Dap => dap::SCOPE_TEXT.to_owned(),
        _ => granted.to_string(),
    };
    let now = state.clock.now();
    let claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": owner.map_or(SERVICE_USER, |owner| owner.user).to_string(),
        "tenantid": TENANT,
        "client_id": state.client_id,
        "scope": scope,
        "iat": now.wall.as_secs(),
        "nbf": now.wall.as_secs(),
        "exp": now.wall.saturating_add(lifetime).as_secs(),
        "jti": random::id128(),
    });
    let token = match state.lms {
        // Opaque; the number before the tilde is the shard's.
        Lms::Canvas => format!("7~{}{}", random::id128(), random::id128()),
        _ => encode(&Header::new(Algorithm::HS256), &claims, &state.token_key)
            .map_err(|_error| Refusal::new("server_error", "the token cannot be signed"))?,
    };
    let holder = Holder { granted, owner };
    store
        .tokens
        .add(token.clone(), holder, now.after(lifetime), now);
    state.count(|counters| counters.tokens_issued += 1);
    Ok(Minted {
        token,
        lifetime,
        scope,
    })
}

/// Makes a refresh token. `replaces` names the one that was presented for it.
pub(in super::super) fn refresh_token(
    state: &State,
    store: &mut Store,
    grant: GrantId,
    replaces: Option<&str>,
) -> String {
    let (token, number) = store.grants.issue(grant, replaces);
    state.count(|counters| counters.note_refresh_token(number, 0));
    token
}

/// The scopes of `asked` that are among `most`.
///
/// # Errors
///
/// None is, which `none` says, or it is no list of scopes.
pub(super) fn narrowed(
    asked: &str,
    most: &ScopeSet,
    none: &'static str,
) -> Result<ScopeSet, Refusal> {
    let asked = ScopeSet::parse(asked)
        .map_err(|_invalid| Refusal::new("invalid_scope", "scope is not a list of scopes"))?;
    let granted = scopes::narrow(&asked, most);
    match granted.is_empty() {
        true => Err(Refusal::new("invalid_scope", none)),
        false => Ok(granted),
    }
}

impl Minted {
    pub(super) fn into_answer(
        self,
        state: &State,
        refresh_token: Option<String>,
        effect: &Effect,
    ) -> Response<Full<Bytes>> {
        let token_type = match state.lms {
            Lms::Dap => "bearer",
            _ => "Bearer",
        };
        let mut answer = json!({
            "access_token": self.token,
            "token_type": token_type,
            "expires_in": self.lifetime.as_secs(),
            "scope": self.scope,
        });
        if let (Some(refresh_token), Value::Object(answer)) = (refresh_token, &mut answer) {
            answer.insert("refresh_token".to_owned(), refresh_token.into());
        }
        effect.restate_lifetime(&mut answer, "expires_in");
        reply::json(StatusCode::OK, "application/json", &answer)
    }
}
