//! The public key set as a document: what an authorization server verifies client assertions with.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use http_body_util::Full;

use super::CurrentKeys;

/// Long enough to spare us. An AS may go by it or not, but caches on the way to it do, and their time comes on top of the AS's own
/// (`jwks_max_age`): so it is short.
const FRESH_FOR: Duration = Duration::from_secs(300);

/// RFC 7517 section 8.5.2.
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// A key set, ready to be sent. Made anew for each request: it changes with the clock.
pub(super) struct KeySet {
    body: Bytes,
    etag: HeaderValue,
    cache_control: HeaderValue,
}

impl KeySet {
    pub(super) fn new(keys: &CurrentKeys) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(&keys.set)?;
        Ok(Self::from_json(body, keys.max_age.min(FRESH_FOR)))
    }

    fn from_json(body: Vec<u8>, max_age: Duration) -> Self {
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        let digest = digest::digest(&digest::SHA256, &body);
        let tag = BASE64_URL_SAFE_NO_PAD.encode(digest);
        Self {
            body: body.into(),
            etag: HeaderValue::try_from(format!("\"{tag}\""))
                .unwrap_or(HeaderValue::from_static("\"\"")),
            cache_control: HeaderValue::try_from(cache_control)
                .unwrap_or(HeaderValue::from_static("no-cache")),
        }
    }

    /// 200 with the keys, or 304 for who has them already (RFC 9110 section 13.1.2).
    pub(super) fn respond(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let is_known = request
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || self.etag == tag);
        let mut response = if is_known {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Full::new(self.body.clone()))
        };
        let headers = response.headers_mut();
        if !is_known {
            headers.insert(CONTENT_TYPE, JWK_SET);
        }
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PublicKeySet;

    fn asked_with(if_none_match: &str) -> StatusCode {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, if_none_match.parse().unwrap());
        no_keys().respond(&headers).status()
    }

    fn no_keys() -> KeySet {
        fresh_for(3_600)
    }

    fn fresh_for(seconds: u64) -> KeySet {
        KeySet::new(&CurrentKeys {
            set: PublicKeySet { keys: Vec::new() },
            max_age: Duration::from_secs(seconds),
        })
        .unwrap()
    }

    #[test]
    fn who_has_the_set_already_is_told_so() {
        let set = no_keys();
        let first = set.respond(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[ETAG].to_str().unwrap();

        for known in [
            etag.to_owned(),
            format!("W/{etag}"),
            format!("\"other\", {etag}"),
            "*".to_owned(),
        ] {
            assert_eq!(asked_with(&known), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(asked_with("\"other\""), StatusCode::OK);
    }

    #[test]
    fn another_set_has_another_tag() {
        let one = KeySet::from_json(b"{\"keys\":[1]}".to_vec(), FRESH_FOR);
        let two = KeySet::from_json(b"{\"keys\":[2]}".to_vec(), FRESH_FOR);
        assert_ne!(one.etag, two.etag);
    }

    #[test]
    fn caches_on_the_way_keep_it_no_longer_than_the_server_may() {
        for (max_age, expected) in [(3_600, "public, max-age=300"), (60, "public, max-age=60")] {
            let response = fresh_for(max_age).respond(&HeaderMap::new());
            assert_eq!(response.headers()[CACHE_CONTROL], expected);
        }
    }
}
