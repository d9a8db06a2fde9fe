//! The only place where a credential meets a request, and where one is kept out of an answer.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, Request, Uri, header::AUTHORIZATION, uri::PathAndQuery};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{oauth::Injection, secret::ExposeSecret, token::AccessToken};

/// Anything shorter is no secret, and would be found in half of all fields.
const SHORTEST_TOKEN: usize = 4;

/// A request could not be given its credential; nothing of it may leave.
#[derive(Debug)]
pub(super) struct NotInjected;

/// Puts the token on. Comes last, before each attempt anew: every other `Authorization`, however many there were, is gone by then
/// or replaced (RFC 6750 section 2; R09, R41), so that exactly one credential leaves. `target` is what the policy has permitted.
pub(super) fn inject<B>(
    request: &mut Request<B>,
    target: &PathAndQuery,
    token: &AccessToken,
) -> Result<(), NotInjected> {
    match &token.injection {
        Injection::Bearer(field) => {
            request.headers_mut().insert(AUTHORIZATION, field.clone());
        }
        Injection::Parameter { name, value } => {
            let separator = if target.query().is_some() { '&' } else { '?' };
            let value = utf8_percent_encode(value.expose_secret(), NON_ALPHANUMERIC);
            let mut with = target.as_str().to_owned();
            write!(with, "{separator}{name}={value}").map_err(|_| NotInjected)?;
            let with = PathAndQuery::try_from(with).map_err(|_| NotInjected)?;
            *request.uri_mut() = Uri::from(with);
        }
    }
    Ok(())
}

/// Removes every field of an answer that holds the token, and says how many there were (R45).
pub(super) fn strip_reflections(headers: &mut HeaderMap, token: &AccessToken) -> usize {
    let secret = token.injection.secret();
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

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.len() >= needle.len()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn token(field: &'static str) -> AccessToken {
        AccessToken {
            injection: Injection::Bearer(HeaderValue::from_static(field)),
            generation: 1,
            granted: None,
            issued: SystemClock.now(),
            expires: None,
            usable_until: None,
        }
    }

    #[test]
    fn the_token_replaces_every_authorization_there_is() {
        let mut request = Request::new(());
        for other in ["Basic evil", "Bearer evil"] {
            let other = HeaderValue::from_static(other);
            request.headers_mut().append(AUTHORIZATION, other);
        }
        let target = PathAndQuery::from_static("/a?b=c");
        inject(&mut request, &target, &token("Bearer good-token")).unwrap();
        let sent: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().collect();
        assert_eq!(sent, ["Bearer good-token"]);
    }

    #[test]
    fn a_parameter_goes_to_the_end_of_the_query_once_however_often_it_is_put_on() {
        let token = AccessToken {
            injection: Injection::Parameter {
                name: "wstoken",
                value: "a&b=c".into(),
            },
            ..token("Bearer unused")
        };
        for (target, sent) in [
            ("/rest.php", "/rest.php?wstoken=a%26b%3Dc"),
            ("/rest.php?x=1", "/rest.php?x=1&wstoken=a%26b%3Dc"),
        ] {
            let mut request = Request::new(());
            let target = PathAndQuery::from_static(target);
            inject(&mut request, &target, &token).unwrap();
            inject(&mut request, &target, &token).unwrap();
            assert_eq!(request.uri(), sent);
            assert!(!request.headers().contains_key(AUTHORIZATION));
        }
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
