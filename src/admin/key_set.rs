//! The public key set as a document: what an authorization server verifies client assertions with.

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use http_body_util::Full;

use crate::keys::PublicKeySet;

/// Long enough to spare us, short enough that a new key is known before it signs.
const FRESH_FOR: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// RFC 7517 section 8.5.2.
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// A key set, ready to be sent.
pub(super) struct KeySet {
    body: Bytes,
    etag: HeaderValue,
}

impl KeySet {
    pub(super) fn new(keys: &PublicKeySet) -> Result<Self, serde_json::Error> {
        Ok(Self::from_json(serde_json::to_vec(keys)?))
    }

    fn from_json(body: Vec<u8>) -> Self {
        let digest = digest::digest(&digest::SHA256, &body);
        let tag = BASE64_URL_SAFE_NO_PAD.encode(digest);
        Self {
            body: body.into(),
            etag: HeaderValue::try_from(format!("\"{tag}\""))
                .unwrap_or(HeaderValue::from_static("\"\"")),
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
        headers.insert(CACHE_CONTROL, FRESH_FOR);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_with(if_none_match: &str) -> StatusCode {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, if_none_match.parse().unwrap());
        no_keys().respond(&headers).status()
    }

    fn no_keys() -> KeySet {
        KeySet::new(&PublicKeySet { keys: Vec::new() }).unwrap()
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
        let one = KeySet::from_json(b"{\"keys\":[1]}".to_vec());
        let two = KeySet::from_json(b"{\"keys\":[2]}".to_vec());
        assert_ne!(one.etag, two.etag);
    }
}
