//! Where a person lets an application act in their name (ID keys). Here that person always says yes.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use url::Url;

use super::{
    reply,
    signature::{Refusal, fits},
    store::State,
};
use crate::{random, secret::ExposeSecret};

/// The path of the page, the real one's.
pub(super) const PATH: &str = "/d2l/auth/api/token";

/// Sends the browser back to `x_target` with the user's id and key.
pub(super) fn answer<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return reply::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let only = |name: &str| {
        let mut values = url::form_urlencoded::parse(query).filter(|(found, _)| found == name);
        let (_, value) = values.next()?;
        values.next().is_none().then(|| value.into_owned())
    };
    let keys = &state.id_keys;
    let target = only("x_target").unwrap_or_default();
    let is_known = only("x_a").is_some_and(|app| app == keys.app_id);
    let is_signed = only("x_b").is_some_and(|mac| fits(&keys.app_key, &target, &mac));
    if !is_known || !is_signed {
        return Refusal::InvalidToken.into_response();
    }
    let Ok(mut location) = Url::parse(&target) else {
        return reply::text(
            StatusCode::BAD_REQUEST,
            "text/plain; charset=utf-8",
            "x_target is no URL",
        );
    };
    let key = state.store().consent(&keys.user_key);
    location
        .query_pairs_mut()
        .append_pair("x_a", &keys.user_id)
        .append_pair("x_b", key.expose_secret())
        // The real one sends a signature that nobody looks at.
        .append_pair("x_c", &random::id128());
    let Ok(location) = HeaderValue::from_str(location.as_str()) else {
        return reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = reply::empty(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, location);
    response
}
