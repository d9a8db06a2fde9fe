//! The revocation endpoint (RFC 7009).

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use http_body_util::Full;

use super::{
    client_auth::{Form, Ways, authenticate},
    grants::Worth,
    refusal::Refusal,
    reply,
    store::State,
};

/// Answers a request to revoke a token. What is not known is revoked already (section 2.2).
pub(super) async fn answer(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
) -> Response<Full<Bytes>> {
    match revoke(state, head, form).await {
        Ok(()) => reply::empty(StatusCode::OK),
        Err(refusal) => refusal.logged().into_response(),
    }
}

async fn revoke(state: &State, head: &Parts, form: Result<Form, Refusal>) -> Result<(), Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::new("invalid_request", "the method must be POST"));
    }
    let form = form?;
    authenticate(state, &head.headers, &form, Ways::Login).await?;
    let token = form
        .get("token")
        .ok_or_else(|| Refusal::new("invalid_request", "token is missing"))?;
    let now = state.clock.now();
    let mut store = state.store();
    if let Worth::Good(grant) | Worth::Spent(grant) = store.grants.worth(token, Duration::ZERO, now)
    {
        // Section 2.1: with a refresh token go the access tokens of its grant.
        store.end_grant(grant);
    }
    store.tokens.revoke_one(token);
    Ok(())
}
