//! `refresh_token` (RFC 6749 section 6) with tokens of one use: each brings the next, and one that comes again betrays a copy.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::{
    super::{
        RefreshTokens,
        access::Owner,
        client_auth::Form,
        fault::Effect,
        grants::{GrantId, Worth},
        refusal::Refusal,
        store::{State, Store},
    },
    issue::{self, Minted},
};
use crate::clock::Moment;

pub(super) fn grant(
    state: &State,
    form: &Form,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let presented = form
        .get("refresh_token")
        .ok_or_else(|| Refusal::new("invalid_request", "refresh_token is missing"))?;
    let scope = form.get("scope").map(String::as_str);
    let mut store = state.store();
    let (minted, refresh_token) = exchange(state, &mut store, presented, scope, effect)?;
    Ok(minted.into_answer(state, refresh_token, effect))
}

/// Turns a refresh token into an access token and, where they rotate, its successor. Under one lock: whatever becomes of the answer, the token
/// is spent and its successor exists.
///
/// # Errors
///
/// It brings nothing.
pub(in super::super) fn exchange(
    state: &State,
    store: &mut Store,
    presented: &str,
    scope: Option<&str>,
    effect: &Effect,
) -> Result<(Minted, Option<String>), Refusal> {
    let now = state.clock.now();
    let grant = judge(state, store, presented, now)?;
    let consent = store
        .grants
        .consent(grant)
        .cloned()
        .ok_or_else(|| Refusal::new("invalid_grant", "the grant is revoked"))?;
    // What was not agreed to needs a new consent. A request that is refused spends nothing.
    let granted = match scope {
        None => consent.scopes,
        Some(asked) => issue::narrowed(
            asked,
            &consent.scopes,
            "the person has agreed to none of the scopes",
        )?,
    };
    let refresh_token = match state.login.refresh_tokens {
        RefreshTokens::Rotating => {
            store.grants.spend(presented, now);
            Some(issue::refresh_token(state, store, grant, Some(presented)))
        }
        RefreshTokens::Reusable | RefreshTokens::Absent => None,
    };
    let owner = Owner {
        user: consent.user,
        grant,
    };
    let minted = issue::mint(state, store, granted, Some(owner), effect)?;
    Ok((minted, refresh_token))
}

fn judge(
    state: &State,
    store: &mut Store,
    presented: &str,
    now: Moment,
) -> Result<GrantId, Refusal> {
    let login = &state.login;
    match store.grants.worth(presented, login.reuse_grace, now) {
        Worth::Good(grant) => Ok(grant),
        Worth::Spent(grant) => {
            let revoked = login.reuse_revokes && store.end_grant(grant);
            state.count(|counters| {
                counters.refresh_token_reuses += 1;
                counters.grants_revoked += u64::from(revoked);
            });
            Err(Refusal::new(
                "invalid_grant",
                match login.reuse_revokes {
                    true => "refresh_token was used before; everything that came of it is revoked",
                    false => "refresh_token was used before",
                },
            ))
        }
        Worth::Nothing => Err(Refusal::new(
            "invalid_grant",
            "refresh_token is not known, or it is revoked",
        )),
    }
}
