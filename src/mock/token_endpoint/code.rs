//! `authorization_code` (RFC 6749 section 4.1.3): a person has agreed.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::{
    super::{
        RefreshTokens,
        access::Owner,
        client_auth::Form,
        fault::Effect,
        grants::{Consent, GrantId, Presented, Unredeemed},
        refusal::Refusal,
        store::{State, Store},
    },
    issue::{self, Minted},
};

pub(super) fn grant(
    state: &State,
    form: &Form,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let get = |name: &str| form.get(name).map(String::as_str);
    let presented = Presented {
        code: get("code").unwrap_or_default(),
        redirect_uri: get("redirect_uri"),
        verifier: get("code_verifier"),
    };
    let (minted, refresh_token) = exchange(state, &mut state.store(), &presented, effect)?;
    Ok(minted.into_answer(state, refresh_token, effect))
}

/// Turns a code into an access token and, where there are any, a refresh token. Under one lock: whatever becomes of the answer, the code is
/// spent and what it brought is known.
///
/// # Errors
///
/// It brings nothing.
pub(in super::super) fn exchange(
    state: &State,
    store: &mut Store,
    presented: &Presented<'_>,
    effect: &Effect,
) -> Result<(Minted, Option<String>), Refusal> {
    let (consent, grant) = redeem(state, store, presented)
        .map_err(|why| Refusal::new("invalid_grant", why.to_string()))?;
    let refresh_token = match state.login.refresh_tokens {
        RefreshTokens::Rotating | RefreshTokens::Reusable => {
            Some(issue::refresh_token(state, store, grant, None))
        }
        RefreshTokens::Absent => None,
    };
    let owner = Owner {
        user: consent.user,
        grant,
    };
    let minted = issue::mint(state, store, consent.scopes, Some(owner), effect)?;
    Ok((minted, refresh_token))
}

/// Turns a code into a grant. One that comes again ends what it had brought.
fn redeem(
    state: &State,
    store: &mut Store,
    presented: &Presented<'_>,
) -> Result<(Consent, GrantId), Unredeemed> {
    let redeemed = store.codes.redeem(presented, state.clock.now());
    if let Err(Unredeemed::Reused(Some(grant))) = redeemed
        && store.end_grant(grant)
    {
        state.count(|counters| counters.grants_revoked += 1);
    }
    let consent = redeemed?;
    let grant = store.grants.open(consent.clone());
    store.codes.brought(presented.code, grant);
    Ok((consent, grant))
}
