//! Which endpoint a request meets, and in whose words it is answered: here the simulated LMSs are told apart.

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;

use super::{
    Lms, REVOCATION_PATH, api,
    arrived::Arrived,
    authorize, blackboard, canvas, consent, dap,
    fault::{Effect, Place},
    ltiaas, moodle, reply, revocation, signature,
    store::State,
    token_endpoint,
};

/// What a request to the LMS's address is for.
pub(super) fn place(state: &State, method: &Method, path: &str) -> Place {
    if state.lms == Lms::Ltiaas {
        return place_at_ltiaas(state, path);
    }
    if path == state.lms.token_path() && state.lms == Lms::Canvas && method == Method::DELETE {
        Place::Revoke
    } else if path == state.lms.token_path() {
        Place::Token
    } else if Some(path) == state.lms.authorize_path() {
        Place::Authorize
    } else if path == REVOCATION_PATH && has_revocation(state) {
        Place::Revoke
    } else {
        Place::Api
    }
}

/// Which platform is meant is judged later.
fn place_at_ltiaas(state: &State, path: &str) -> Place {
    if ltiaas::is_token_path(state, path) {
        Place::Token
    } else if path.starts_with(ltiaas::START_PATH) {
        Place::Authorize
    } else {
        Place::Api
    }
}

fn has_revocation(state: &State) -> bool {
    state.lms == Lms::Brightspace && state.login.revocation
}

/// The answer, and what the client did that it must never do.
pub(super) async fn answer(
    state: &State,
    place: Place,
    request: Arrived,
    effect: &Effect,
) -> (Response<Full<Bytes>>, Option<&'static str>) {
    match request {
        Arrived::Form(head, form) => {
            let response = match place {
                Place::Revoke if state.lms == Lms::Canvas => {
                    canvas::token::delete(state, &head).await
                }
                Place::Revoke => revocation::answer(state, &head, form).await,
                _ if state.lms == Lms::Ltiaas => ltiaas::answer(state, &head, form, effect).await,
                _ if state.lms == Lms::Canvas => {
                    canvas::token::answer(state, &head, form, effect).await
                }
                _ => token_endpoint::answer(state, &head, form, effect).await,
            };
            (response, None)
        }
        Arrived::Open(request) => match (place, state.lms) {
            (Place::Object, _) => {
                let (head, _body) = request.into_parts();
                dap::objects::answer(state, &head)
            }
            (Place::Authorize, _) => (authorize::answer(state, request, effect).await, None),
            (_, Lms::Brightspace) if request.uri().path() == consent::PATH => {
                (consent::answer(state, &request), None)
            }
            (_, Lms::Brightspace | Lms::Ltiaas) => (api::answer(state, request).await, None),
            (_, Lms::Dap) => (dap::answer(state, request).await, None),
            (_, Lms::Blackboard) => (blackboard::answer(state, request).await, None),
            (Place::Token, Lms::Moodle) => (moodle::log_in(state, request).await, None),
            (_, Lms::Canvas) => (canvas::answer(state, request).await, None),
            (_, Lms::Moodle) => (moodle::answer(state, request).await, None),
        },
    }
}

/// "Your token is dead", as this LMS says it to such a request.
pub(super) fn unauthorized(lms: Lms, uri: &Uri) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace if signature::is_signed(uri) => {
            signature::Refusal::InvalidToken.into_response()
        }
        Lms::Brightspace | Lms::Ltiaas => api::unauthorized(),
        Lms::Dap => dap::unauthorized(),
        Lms::Blackboard => blackboard::unauthorized(),
        Lms::Moodle => moodle::unauthorized(),
        Lms::Canvas => canvas::unauthorized(),
    }
}

/// "You lack a permission", as this LMS says it.
pub(super) fn forbidden(lms: Lms) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace | Lms::Ltiaas => api::forbidden(),
        Lms::Dap => dap::forbidden(),
        Lms::Blackboard => blackboard::forbidden(),
        Lms::Moodle => moodle::forbidden(),
        Lms::Canvas => canvas::forbidden(),
    }
}

/// "Too many requests", as this LMS says it, without Retry-After.
pub(super) fn throttled(lms: Lms, status: StatusCode) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace | Lms::Ltiaas => reply::empty(StatusCode::TOO_MANY_REQUESTS),
        Lms::Dap => dap::throttled(None),
        Lms::Blackboard => blackboard::throttled(),
        Lms::Moodle => moodle::throttled(),
        Lms::Canvas => canvas::throttled(status),
    }
}
