//! What a 401 of the LMS means: a dead token, or a missing right.
//!
//! Only a dead token is worth a new one. A token request for a permission error costs the LMS's
//! patience and, on Canvas, kills the token in use.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

use crate::policy::Catalogue;

/// How much of a refusal's body is enough to tell (the messages stand at its start).
pub(super) const ENOUGH_OF_BODY: usize = 4 * 1024;

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
}
