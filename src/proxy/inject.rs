//! The only place where a credential meets a request, and where one is kept out of an answer.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, HeaderValue},
};

use crate::token::AccessToken;

/// Anything shorter is no secret, and would be found in half of all fields.
const SHORTEST_TOKEN: usize = 4;

/// Puts the token on. Comes last, before each attempt anew: every other `Authorization`, however many there were, is replaced
/// (RFC 6750 section 2; R09, R41), so that exactly one leaves.
pub(super) fn inject(headers: &mut HeaderMap, token: &AccessToken) {
    headers.insert(AUTHORIZATION, token.field.clone());
}

/// Removes every field of an answer that holds the token, and says how many there were (R45).
pub(super) fn strip_reflections(headers: &mut HeaderMap, token: &AccessToken) -> usize {
    let secret = secret_part(&token.field);
    if secret.len() < SHORTEST_TOKEN {
        return 0;
    }
    let reflecting: Vec<HeaderName> = headers
        .iter()
        .filter(|(_, value)| contains(value.as_bytes(), secret))
        .map(|(name, _)| name.clone())
        .collect();
    for name in &reflecting {
        headers.remove(name);
    }
    reflecting.len()
}

/// The field without its scheme (`Bearer `).
fn secret_part(field: &HeaderValue) -> &[u8] {
    let bytes = field.as_bytes();
    bytes
        .iter()
        .position(|byte| *byte == b' ')
        .and_then(|space| bytes.get(space + 1..))
        .unwrap_or(bytes)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.len() >= needle.len()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn token(field: &'static str) -> AccessToken {
        AccessToken {
            field: HeaderValue::from_static(field),
            generation: 1,
            granted: None,
            issued: SystemClock.now(),
            expires: None,
            usable_until: None,
        }
    }

    #[test]
    fn the_token_replaces_every_authorization_there_is() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Basic evil"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer evil"));
        inject(&mut headers, &token("Bearer good-token"));
        let sent: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(sent, ["Bearer good-token"]);
    }

    #[test]
    fn a_field_that_holds_the_token_is_removed_from_an_answer() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("got Bearer good-token!"));
        headers.append("x-many", HeaderValue::from_static("fine"));
        headers.append("x-many", HeaderValue::from_static("good-token"));
        headers.insert("x-other", HeaderValue::from_static("good-toke"));
        assert_eq!(
            strip_reflections(&mut headers, &token("Bearer good-token")),
            2
        );
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-other"));
    }

    #[test]
    fn a_token_too_short_to_be_a_secret_removes_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        assert_eq!(strip_reflections(&mut headers, &token("Bearer t")), 0);
        assert_eq!(headers.len(), 1);
    }
}
