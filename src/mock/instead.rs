//! What a fault answers in place of the service.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::json;

use super::{
    Lms, endpoints,
    fault::{Effect, Place},
    reply,
    store::State,
};

/// Larger than anything that a client should read from a token endpoint.
const OVERSIZE: usize = 1024 * 1024;

/// The answer of the fault; `None`: the service answers.
pub(super) fn instead(
    state: &State,
    place: Place,
    uri: &Uri,
    effect: &Effect,
) -> Option<Response<Full<Bytes>>> {
    let json = "application/json";
    Some(match effect {
        Effect::Status(status, retry_after) => {
            let body = json!({ "message": "a fault of bursar mock" });
            with_retry_after(reply::json(*status, json, &body), retry_after.clone())
        }
        Effect::Throttle(status, retry_after) => {
            let mut response = match (place, state.lms) {
                (Place::Api, lms) | (_, lms @ Lms::Canvas) => endpoints::throttled(lms, *status),
                _ => reply::empty(StatusCode::TOO_MANY_REQUESTS),
            };
            *response.status_mut() = *status;
            with_retry_after(response, retry_after.clone())
        }
        Effect::Body(content_type, body) => reply::text(StatusCode::OK, content_type, *body),
        Effect::Redirect(location) => {
            let mut response = reply::empty(StatusCode::FOUND);
            response
                .headers_mut()
                .insert(header::LOCATION, location.clone());
            response
        }
        Effect::Oversize => {
            let padding = " ".repeat(OVERSIZE);
            let body = format!("{{\"access_token\":\"x\",\"token_type\":\"Bearer\"{padding}}}");
            reply::text(StatusCode::OK, json, body)
        }
        // There it goes into the callback.
        Effect::OauthError(_) if place == Place::Authorize => return None,
        Effect::OauthError(error) => {
            let status = match error.as_str() {
                "invalid_client" => StatusCode::UNAUTHORIZED,
                _ => StatusCode::BAD_REQUEST,
            };
            let body = json!({ "error": error, "error_description": "a fault of bursar mock" });
            reply::json(status, json, &body)
        }
        Effect::Unauthorized => endpoints::unauthorized(state.lms, uri),
        Effect::Forbidden => endpoints::forbidden(state.lms),
        Effect::None
        | Effect::Hang
        | Effect::Close
        | Effect::Reset
        | Effect::CloseMidBody
        | Effect::AnswerLost(_)
        | Effect::AnswerTruncated
        | Effect::ExpiresIn(_)
        | Effect::Lifetime(_)
        | Effect::Scope(_)
        | Effect::EchoToken => return None,
    })
}

fn with_retry_after(
    mut response: Response<Full<Bytes>>,
    value: Option<HeaderValue>,
) -> Response<Full<Bytes>> {
    if let Some(value) = value {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
