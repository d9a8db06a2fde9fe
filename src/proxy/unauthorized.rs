//! What an LMS's refusal means: a dead token, a missing right, or too many requests.
//!
//! Only a dead token is worth a new one. A token request for a permission error costs the LMS's
//! patience and, on Canvas, kills the token in use.

use http::{
    HeaderMap, StatusCode,
    header::{HeaderName, WWW_AUTHENTICATE},
};

use crate::policy::Catalogue;

/// How much of a refusal's body is enough to tell (the messages stand at its start).
pub(super) const ENOUGH_OF_BODY: usize = 4 * 1024;

const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");

/// Whether a 401 says that the token is dead. `start` is the beginning of the body.
///
/// Canvas also answers 401 when the person behind the token lacks a right; such answers carry no
/// `WWW-Authenticate`. A missing scope (RFC 6750 section 3.1) is never cured by the same scopes again.
pub(super) fn is_dead_token(catalogue: Catalogue, headers: &HeaderMap, start: &[u8]) -> bool {
    if names_insufficient_scope(headers, start) {
        return false;
    }
    match catalogue {
        Catalogue::Canvas => headers.contains_key(WWW_AUTHENTICATE),
        Catalogue::Brightspace | Catalogue::Dap | Catalogue::None => true,
    }
}

/// Whether the LMS asks for fewer requests. Older Canvas says so with 403 and an empty bucket.
pub(super) fn is_throttled(catalogue: Catalogue, status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || catalogue == Catalogue::Canvas
            && status == StatusCode::FORBIDDEN
            && rate_limit_remaining(headers).is_some_and(|left| left <= 0.0)
}

/// `X-Rate-Limit-Remaining`, where the LMS sends it.
pub(super) fn rate_limit_remaining(headers: &HeaderMap) -> Option<f64> {
    let left: f64 = headers
        .get(RATE_LIMIT_REMAINING)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    left.is_finite().then_some(left)
}

fn names_insufficient_scope(headers: &HeaderMap, start: &[u8]) -> bool {
    let challenged = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .any(|challenge| contains_ignoring_case(challenge.as_bytes(), b"insufficient_scope"));
    challenged || contains_ignoring_case(start, b"insufficient scopes")
}

fn contains_ignoring_case(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn challenge(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_brightspace_401_means_a_dead_token_with_or_without_a_challenge() {
        for catalogue in [Catalogue::Brightspace, Catalogue::Dap, Catalogue::None] {
            assert!(is_dead_token(catalogue, &HeaderMap::new(), b""));
            assert!(is_dead_token(catalogue, &challenge("Bearer"), b""));
        }
    }

    #[test]
    fn a_canvas_401_means_a_dead_token_only_with_a_challenge() {
        let body = br#"{"errors":[{"message":"Invalid access token."}]}"#;
        assert!(is_dead_token(
            Catalogue::Canvas,
            &challenge(r#"Bearer realm="canvas-lms""#),
            body
        ));
        assert!(!is_dead_token(Catalogue::Canvas, &HeaderMap::new(), body));
    }

    #[test]
    fn a_missing_scope_is_never_a_dead_token() {
        for catalogue in [Catalogue::Canvas, Catalogue::Brightspace, Catalogue::None] {
            let by_challenge = challenge(r#"Bearer error="insufficient_scope", scope="a:b:c""#);
            assert!(!is_dead_token(catalogue, &by_challenge, b""));
            let by_body = b"Insufficient scopes on access token.";
            assert!(!is_dead_token(catalogue, &challenge("Bearer"), by_body));
        }
    }

    #[test]
    fn throttling_is_told_from_a_refusal() {
        let empty = HeaderMap::from_iter([(RATE_LIMIT_REMAINING, HeaderValue::from_static("0.0"))]);
        let some = HeaderMap::from_iter([(RATE_LIMIT_REMAINING, HeaderValue::from_static("12.5"))]);
        let (canvas, d2l) = (Catalogue::Canvas, Catalogue::Brightspace);
        assert!(is_throttled(
            d2l,
            StatusCode::TOO_MANY_REQUESTS,
            &HeaderMap::new()
        ));
        assert!(is_throttled(canvas, StatusCode::FORBIDDEN, &empty));
        assert!(!is_throttled(canvas, StatusCode::FORBIDDEN, &some));
        assert!(!is_throttled(d2l, StatusCode::FORBIDDEN, &empty));
        assert_eq!(rate_limit_remaining(&some), Some(12.5));
    }

    #[test]
    fn a_remaining_quota_that_is_no_number_is_ignored() {
        for value in ["", "many", "NaN", "inf"] {
            let headers = HeaderMap::from_iter([(
                RATE_LIMIT_REMAINING,
                HeaderValue::from_str(value).unwrap(),
            )]);
            assert_eq!(rate_limit_remaining(&headers), None);
        }
    }
}
