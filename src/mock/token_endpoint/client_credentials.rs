//! `client_credentials` (RFC 6749 section 4.4): the application acts for itself.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::{
    super::{Lms, blackboard, client_auth::Form, fault::Effect, refusal::Refusal, store::State},
    issue,
};
use crate::scope::ScopeSet;

pub(super) fn grant(
    state: &State,
    form: &Form,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let granted = granted(state, form)?;
    if state.lms == Lms::Blackboard {
        return Ok(blackboard::issue(state, granted, effect));
    }
    let minted = issue::mint(state, &mut state.store(), granted, None, effect)?;
    Ok(minted.into_answer(state, None, effect))
}

/// The scopes that a request gets.
fn granted(state: &State, form: &Form) -> Result<ScopeSet, Refusal> {
    // Neither the identity service of Instructure nor Blackboard's two-legged grant knows scopes.
    let asked = form.get("scope").filter(|_| state.lms == Lms::Brightspace);
    match asked {
        None => Ok(state.registered.clone()),
        Some(asked) => issue::narrowed(
            asked,
            &state.registered,
            "the client is registered for none of the scopes",
        ),
    }
}
