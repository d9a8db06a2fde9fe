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
    issue,
};

pub(super) fn grant(
    state: &State,
    form: &Form,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refusal> {
    // One lock for all of it: whatever becomes of the answer, the code is spent and what it brought is known.
    let mut store = state.store();
    let (consent, grant) = redeem(state, &mut store, form)
        .map_err(|why| Refusal::new("invalid_grant", why.to_string()))?;
    let refresh_token = match state.login.refresh_tokens {
        RefreshTokens::Rotating | RefreshTokens::Reusable => {
            Some(issue::refresh_token(state, &mut store, grant, None))
        }
        RefreshTokens::Absent => None,
    };
    let owner = Owner {
        user: consent.user,
        grant,
    };
    let minted = issue::mint(state, &mut store, consent.scopes, Some(owner), effect)?;
    Ok(minted.into_answer(state, refresh_token, effect))
}

/// Turns a code into a grant. One that comes again ends what it had brought.
fn redeem(state: &State, store: &mut Store, form: &Form) -> Result<(Consent, GrantId), Unredeemed> {
    let get = |name: &str| form.get(name).map(String::as_str);
    let presented = Presented {
        code: get("code").unwrap_or_default(),
        redirect_uri: get("redirect_uri"),
        verifier: get("code_verifier"),
    };
    let redeemed = store.codes.redeem(&presented, state.clock.now());
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
