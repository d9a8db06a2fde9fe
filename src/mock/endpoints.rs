//! Which endpoint a request meets, and in whose words it is answered: here the simulated LMSs are told apart.

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    Lms, api, blackboard, consent, dap,
    fault::{Effect, Place},
    moodle, reply, signature,
    store::State,
    token_endpoint,
};

/// What a request to the LMS's address is for.
pub(super) fn place(state: &State, path: &str) -> Place {
    if path == state.lms.token_path() {
        Place::Token
    } else {
        Place::Api
    }
}

/// The answer, and what the client did that it must never do.
pub(super) async fn answer(
    state: &State,
    place: Place,
    request: Request<Incoming>,
    effect: &Effect,
) -> (Response<Full<Bytes>>, Option<&'static str>) {
    match (place, state.lms) {
        (Place::Token, Lms::Moodle) => (moodle::log_in(state, request).await, None),
        (Place::Token, _) => (token_endpoint::answer(state, request, effect).await, None),
        (Place::Api, Lms::Brightspace) if request.uri().path() == consent::PATH => {
            (consent::answer(state, &request), None)
        }
        (Place::Api, Lms::Brightspace) => (api::answer(state, request).await, None),
        (Place::Api, Lms::Dap) => (dap::answer(state, request).await, None),
        (Place::Api, Lms::Blackboard) => (blackboard::answer(state, request).await, None),
        (Place::Api, Lms::Moodle) => (moodle::answer(state, request).await, None),
        (Place::Object, _) => {
            let (head, _body) = request.into_parts();
            dap::objects::answer(state, &head)
        }
    }
}

/// "Your token is dead", as this LMS says it to such a request.
pub(super) fn unauthorized(lms: Lms, uri: &Uri) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace if signature::is_signed(uri) => {
            signature::Refusal::InvalidToken.into_response()
        }
        Lms::Brightspace => api::unauthorized(),
        Lms::Dap => dap::unauthorized(),
        Lms::Blackboard => blackboard::unauthorized(),
        Lms::Moodle => moodle::unauthorized(),
    }
}

/// "You lack a permission", as this LMS says it.
pub(super) fn forbidden(lms: Lms) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace => api::forbidden(),
        Lms::Dap => dap::forbidden(),
        Lms::Blackboard => blackboard::forbidden(),
        Lms::Moodle => moodle::forbidden(),
    }
}

/// "Too many requests", as this LMS says it, without Retry-After.
pub(super) fn throttled(lms: Lms) -> Response<Full<Bytes>> {
    match lms {
        Lms::Brightspace => reply::empty(StatusCode::TOO_MANY_REQUESTS),
        Lms::Dap => dap::throttled(None),
        Lms::Blackboard => blackboard::throttled(),
        Lms::Moodle => moodle::throttled(),
    }
}
