//! The LMS's API: who may call, how often, with which scopes. What is answered then is in [`super::resources`].

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{
    access::Holder,
    catalogue::Matched,
    record::bearer,
    reply, resources, scopes,
    signature::{self, Signatory},
    store::{Budget, REQUEST_COST, State},
};
use crate::clock::Moment;

const PREFIX: &str = "/d2l/api/";

/// Opens the routes that have no scope of their own.
const FALLBACK_SCOPE: &str = "core:*:*";

/// The type of Brightspace's answer to a token that it does not accept.
const INVALID_TOKEN: &str = "http://docs.valence.desire2learn.com/res/apiprop.html#invalid-token";

/// A problem without a type of its own (RFC 9457 section 4.2.1).
const PLAIN: &str = "about:blank";

const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");
const COST: HeaderName = HeaderName::from_static("x-request-cost");

/// Who calls.
enum Caller {
    /// Somebody with a token, and what it stands for.
    Token(Holder),
    /// Somebody who has signed: scopes are no matter then, roles are.
    Signed(Signatory),
}

/// Answers an API call.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let now = state.clock.now();
    let limit = match state.is_unlimited {
        true => u32::MAX,
        false => state.credits_per_minute,
    };
    let caller = match caller(state, &request, now) {
        Ok(caller) => caller,
        Err(refused) => {
            let budget = state.store().budget(limit, now);
            return with_budget(*refused, budget);
        }
    };
    let spent = state.store().spend(limit, now);
    match spent {
        Ok(budget) => with_budget(authorize(state, request, &caller).await, budget),
        Err(budget) => throttled(budget),
    }
}

fn caller(
    state: &State,
    request: &Request<Incoming>,
    now: Moment,
) -> Result<Caller, Box<Response<Full<Bytes>>>> {
    let token = bearer(request.headers());
    if signature::is_signed(request.uri()) {
        let signed = match token {
            None => signature::verify(state, request.method(), request.uri(), now),
            // Which of the two is meant?
            Some(_) => Err(signature::Refusal::InvalidToken),
        };
        return signed
            .map(Caller::Signed)
            .map_err(|refusal| Box::new(refusal.into_response()));
    }
    let holder = token.and_then(|token| state.store().tokens.holder(token, now).cloned());
    holder
        .map(Caller::Token)
        .ok_or_else(|| Box::new(unauthorized()))
}

async fn authorize(
    state: &State,
    request: Request<Incoming>,
    caller: &Caller,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !starts_with_ignoring_case(path, PREFIX) {
        return not_found();
    }
    let Some(matched) = state.catalogue.find(request.method(), path) else {
        return unlisted(state, &request, caller);
    };
    match caller {
        Caller::Token(holder) if !matched.route.required.is_met_by(&holder.granted) => {
            return insufficient_scope();
        }
        Caller::Signed(Signatory::Anonymous) => return forbidden(),
        Caller::Token(_) | Caller::Signed(Signatory::User) => {}
    }
    if let Some(refused) = staged_refusal(&matched) {
        return refused;
    }
    let (head, body) = request.into_parts();
    let Some(body) = read(body).await else {
        return reply::problem(StatusCode::BAD_REQUEST, PLAIN, "The body broke off");
    };
    let owner = match caller {
        Caller::Token(holder) => holder.owner.map(|owner| owner.user),
        Caller::Signed(_) => None,
    };
    resources::answer(state, owner, &matched, &head, &body)
}

/// A path that the table does not list.
fn unlisted(state: &State, request: &Request<Incoming>, caller: &Caller) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if state.catalogue.knows(path) {
        // Another method is served there: nothing that a scope could open.
        return not_found();
    }
    match caller {
        Caller::Token(holder) if !scopes::cover(&holder.granted, FALLBACK_SCOPE) => {
            return insufficient_scope();
        }
        Caller::Signed(Signatory::Anonymous) if !resources::is_open(path) => return forbidden(),
        Caller::Token(_) | Caller::Signed(_) => {}
    }
    resources::unlisted(request.method(), path).unwrap_or_else(not_found)
}

/// An identifier of 403 or 404 stands for what the service user may not see, or what is not there: so that an application
/// can be shown either.
fn staged_refusal(matched: &Matched<'_>) -> Option<Response<Full<Bytes>>> {
    let has = |wanted: &str| matched.parameters.values().any(|value| value == wanted);
    if has("403") {
        // Other words than for a missing scope.
        Some(forbidden())
    } else if has("404") {
        Some(not_found())
    } else {
        None
    }
}

/// The whole body, up to what is kept of it: uploads are taken in and dropped. `None`: it broke off.
async fn read(mut body: Incoming) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            let room = resources::MAX_BODY.saturating_sub(kept.len());
            kept.extend(data.into_iter().take(room));
        }
    }
    Some(kept)
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The token is missing, dead or unknown.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    reply::problem(
        StatusCode::UNAUTHORIZED,
        INVALID_TOKEN,
        "Couldn't parse token",
    )
}

/// The role of the service user lacks a permission.
pub(super) fn forbidden() -> Response<Full<Bytes>> {
    reply::problem(StatusCode::FORBIDDEN, PLAIN, "Not Authorized")
}

fn insufficient_scope() -> Response<Full<Bytes>> {
    reply::problem(StatusCode::FORBIDDEN, PLAIN, "Insufficient scope to call")
}

fn not_found() -> Response<Full<Bytes>> {
    reply::problem(StatusCode::NOT_FOUND, PLAIN, "Resource Not Found")
}

/// The three rate limit fields, which every answer but a 429 has.
fn with_budget(mut response: Response<Full<Bytes>>, budget: Budget) -> Response<Full<Bytes>> {
    let fields = response.headers_mut();
    fields.insert(REMAINING, HeaderValue::from(budget.remaining));
    fields.insert(RESET, HeaderValue::from(budget.reset_seconds));
    fields.insert(COST, HeaderValue::from(REQUEST_COST));
    response
}

fn throttled(budget: Budget) -> Response<Full<Bytes>> {
    let mut response = reply::empty(StatusCode::TOO_MANY_REQUESTS);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(budget.reset_seconds));
    response
}
