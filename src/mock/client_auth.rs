//! Client authentication: `client_secret_basic`, `client_secret_post` and `private_key_jwt`.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;

use super::{
    Lms,
    assertion::{self, Expected},
    keys::{KeySet, Lookup},
    refusal::Refusal,
    store::State,
};
use crate::secret::{ExposeSecret, SecretString};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The parameters of a token request.
pub(super) type Form = HashMap<String, String>;

/// Which ways of authentication there are for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// The application for itself: an assertion, or the Authorization field.
    Service,
    /// With a person's consent: client id and secret in the body, too.
    Login,
}

/// Accepts or refuses the client of a token request.
///
/// # Errors
///
/// It proves nothing, or too much: one way of authentication is allowed (RFC 6749 section 2.3).
pub(super) async fn authenticate(
    state: &State,
    fields: &HeaderMap,
    form: &Form,
    ways: Ways,
) -> Result<(), Refusal> {
    let basic = fields.get(header::AUTHORIZATION);
    let assertion = form.get("client_assertion");
    let in_body = form
        .get("client_secret")
        .filter(|_| ways == Ways::Login && state.lms == Lms::Brightspace);
    match (basic, assertion, in_body) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(Refusal::new(
            "invalid_request",
            "more than one way of client authentication",
        )),
        (Some(pair), None, None) => check_basic(state, pair),
        (None, Some(_), None) if state.lms != Lms::Brightspace => Err(Refusal::new(
            "invalid_client",
            "this token endpoint takes the Authorization field only",
        )),
        (None, Some(assertion), None) => check_assertion(state, assertion, form).await,
        (None, None, Some(secret)) => {
            let id = form.get("client_id").map(String::as_str);
            match is_client(state, id.unwrap_or_default(), secret) {
                true => Ok(()),
                false => Err(Refusal::new(
                    "invalid_client",
                    "client_id or client_secret is wrong",
                )),
            }
        }
        (None, None, None) => Err(Refusal::new(
            "invalid_client",
            match ways {
                Ways::Service => {
                    "no client authentication: send client_assertion or the Authorization field"
                }
                Ways::Login => {
                    "no client authentication: send the Authorization field, or client_id and client_secret"
                }
            },
        )),
    }
}

/// Whether these are the registered id and secret.
pub(super) fn is_client(state: &State, id: &str, presented: &str) -> bool {
    let matches = |secret: &SecretString| {
        verify_slices_are_equal(presented.as_bytes(), secret.expose_secret().as_bytes()).is_ok()
    };
    id == state.client_id && state.secret.as_ref().is_some_and(matches)
}

/// `client_secret_basic` (RFC 6749 section 2.3.1).
fn check_basic(state: &State, field: &HeaderValue) -> Result<(), Refusal> {
    let pair = basic_pair(field, state.lms);
    if pair.is_some_and(|(id, presented)| is_client(state, &id, &presented)) {
        return Ok(());
    }
    Err(Refusal::new(
        "invalid_client",
        match state.lms {
            Lms::Dap => "client id or secret is wrong (neither is form-encoded before base64)",
            _ => "client id or secret is wrong (both are form-encoded before base64)",
        },
    )
    .with_challenge())
}

/// The identity service of Instructure takes the pair as it is; RFC 6749 section 2.3.1 wants it form-encoded.
fn basic_pair(field: &HeaderValue, lms: Lms) -> Option<(String, String)> {
    let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    match lms {
        Lms::Dap => Some((id.to_owned(), secret.to_owned())),
        _ => Some((form_decode(id)?, form_decode(secret)?)),
    }
}

fn form_decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

/// `private_key_jwt` (RFC 7523 section 2.2).
async fn check_assertion(state: &State, assertion: &str, form: &Form) -> Result<(), Refusal> {
    if form.get("client_assertion_type").map(String::as_str) != Some(JWT_BEARER) {
        return Err(Refusal::new(
            "invalid_request",
            "client_assertion_type is not that of RFC 7523",
        ));
    }
    if form
        .get("client_id")
        .is_some_and(|id| *id != state.client_id)
    {
        return Err(Refusal::new("invalid_client", "client_id is not known"));
    }
    let kid = assertion::kid(assertion)?;
    let now = state.clock.now().wall;
    let key = match state.keys.look_up(&kid, now) {
        Lookup::Found(key) => Some(key),
        Lookup::Unknown => None,
        Lookup::Ask(url) => {
            state.count(|counters| counters.key_set_requests += 1);
            let set = KeySet::fetch(&url).await.map_err(|error| {
                Refusal::new("invalid_client", format!("the key set at {url}: {error}"))
            })?;
            state.keys.learn(set, now);
            state.keys.known(&kid, now)
        }
    };
    let Some(key) = key else {
        return Err(Refusal::new(
            "invalid_client",
            "the client's key set has no usable key with the kid of client_assertion",
        ));
    };
    let mut audiences = state.audiences.clone();
    audiences.push(state.token_url());
    let accepted = assertion::verify(
        assertion,
        &key,
        &Expected {
            client_id: &state.client_id,
            audiences: &audiences,
            now,
        },
    )?;
    if !state
        .store()
        .use_assertion(&accepted.jti, accepted.expires, now)
    {
        return Err(Refusal::new(
            "invalid_client",
            "jti of client_assertion was used before",
        ));
    }
    state.count(|counters| counters.assertions += 1);
    Ok(())
}
