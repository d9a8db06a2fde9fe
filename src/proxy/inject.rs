//! The only place where a credential meets a request, and where one is kept out of an answer.

use std::{borrow::Cow, fmt::Write};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, CONTENT_LOCATION, LOCATION, REFERER},
    uri::PathAndQuery,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use zeroize::Zeroizing;

use super::upstream::RequestBody;
use crate::{
    clock::Moment,
    id_key::{signatures, without_signature},
    oauth::Injection,
    secret::ExposeSecret,
    token::AccessToken,
};

/// Anything shorter is no secret, and would be found in half of all fields.
const SHORTEST_TOKEN: usize = 4;

/// A request could not be given its credential; nothing of it may leave.
#[derive(Debug)]
pub(super) struct NotInjected;

/// The target that a request was sent with, where it holds a signature.
pub(super) type Signed = Option<PathAndQuery>;

/// Where a credential can go.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    /// What the policy has permitted.
    pub(super) target: &'a PathAndQuery,
    /// The form of a call, which takes the token.
    pub(super) form: Option<&'a Bytes>,
    /// The name that a parameter has here, if it is not the usual one.
    pub(super) parameter: Option<&'static str>,
}

/// Puts the token on. Comes last, before each attempt anew: every other `Authorization`, however many there were, is gone by then
/// or replaced (RFC 6750 section 2; R09, R41), so that exactly one credential leaves.
/// A parameter goes to the start of the form, so that it stays out of logs, or else to the end of the query.
pub(super) fn inject(
    request: &mut Request<RequestBody>,
    Slot {
        target,
        form,
        parameter,
    }: Slot<'_>,
    token: &AccessToken,
    now: impl FnOnce() -> Moment,
) -> Result<Signed, NotInjected> {
    match &token.injection {
        Injection::Bearer(field) => {
            request.headers_mut().insert(AUTHORIZATION, field.clone());
        }
        Injection::Parameter { name, value } => {
            let name = parameter.unwrap_or(name);
            let value = utf8_percent_encode(value.expose_secret(), NON_ALPHANUMERIC);
            if let Some(form) = form {
                let mut with = BytesMut::new();
                write!(with, "{name}={value}").map_err(|_| NotInjected)?;
                if !form.is_empty() {
                    with.extend_from_slice(b"&");
                    with.extend_from_slice(form);
                }
                *request.body_mut() = RequestBody::buffered(with.freeze());
                return Ok(None);
            }
            let separator = if target.query().is_some() { '&' } else { '?' };
            let mut with = target.as_str().to_owned();
            write!(with, "{separator}{name}={value}").map_err(|_| NotInjected)?;
            let with = PathAndQuery::try_from(with).map_err(|_| NotInjected)?;
            *request.uri_mut() = Uri::from(with);
        }
        Injection::Signature(signer) => {
            let signed = signer
                .sign(request.method(), target, now())
                .map_err(|_| NotInjected)?;
            *request.uri_mut() = Uri::from(signed.clone());
            clean(request.headers_mut(), &REFERER);
            return Ok(Some(signed));
        }
    }
    Ok(None)
}

/// Removes every field of an answer that holds the token, and says how many there were (R45). A signature is taken out of the
/// URLs of an answer first: to repeat the query in a redirect is nothing unusual (R50).
pub(super) fn strip_reflections(
    headers: &mut HeaderMap,
    token: &AccessToken,
    signed: &Signed,
) -> usize {
    let Some(signed) = signed else {
        let secret = token.injection.secret();
        let encoded = match token.injection {
            Injection::Parameter { .. } => strip(headers, &encoded(secret)),
            _ => 0,
        };
        return encoded + strip(headers, secret);
    };
    for name in [LOCATION, CONTENT_LOCATION] {
        clean(headers, &name);
    }
    signatures(signed)
        .map(|signature| strip(headers, signature.as_bytes()))
        .sum()
}

/// Takes signatures out of a field that holds a URL. What remains is a value as good as the one before.
fn clean(headers: &mut HeaderMap, name: &HeaderName) {
    let Some(url) = headers.get(name).and_then(|value| value.to_str().ok()) else {
        return;
    };
    if let Cow::Owned(url) = without_signature(url)
        && let Ok(url) = HeaderValue::from_str(&url)
    {
        headers.insert(name, url);
    }
}

/// As it was sent: a redirect may repeat it so.
fn encoded(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let encoded = percent_encode(secret, NON_ALPHANUMERIC);
    Zeroizing::new(encoded.flat_map(str::bytes).collect())
}

fn strip(headers: &mut HeaderMap, secret: &[u8]) -> usize {
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
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        id_key::{IdKey, Signer},
    };

    const NOW: Moment = Moment {
        wall: Duration::from_secs(1_700_000_000),
        boot: Duration::ZERO,
    };

    fn at(target: &PathAndQuery) -> Slot<'_> {
        Slot {
            target,
            form: None,
            parameter: None,
        }
    }

    fn request() -> Request<RequestBody> {
        Request::new(RequestBody::buffered(Bytes::new()))
    }

    fn signing() -> AccessToken {
        let app = Arc::new(IdKey::new("app".to_owned(), "app-key".into()));
        let user = IdKey::new("user".to_owned(), "user-key".into());
        let signer = Signer::new(app, Some(user), Arc::default());
        AccessToken {
            injection: Injection::Signature(Arc::new(signer)),
            ..token("Bearer unused")
        }
    }

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
        let mut request = request();
        for other in ["Basic evil", "Bearer evil"] {
            let other = HeaderValue::from_static(other);
            request.headers_mut().append(AUTHORIZATION, other);
        }
        let target = PathAndQuery::from_static("/a?b=c");
        inject(
            &mut request,
            at(&target),
            &token("Bearer good-token"),
            || NOW,
        )
        .unwrap();
        let sent: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().collect();
        assert_eq!(sent, ["Bearer good-token"]);
    }

    fn parameter() -> AccessToken {
        AccessToken {
            injection: Injection::Parameter {
                name: "wstoken",
                value: "a&b=c".into(),
            },
            ..token("Bearer unused")
        }
    }

    #[test]
    fn a_parameter_goes_into_the_form_and_not_into_the_query_too() {
        let target = PathAndQuery::from_static("/rest.php?x=1");
        for (form, sent) in [
            ("", "wstoken=a%26b%3Dc"),
            ("y=2&z", "wstoken=a%26b%3Dc&y=2&z"),
        ] {
            let form = Bytes::from_static(form.as_bytes());
            let mut request = request();
            *request.uri_mut() = Uri::from(target.clone());
            let with_form = Slot {
                form: Some(&form),
                ..at(&target)
            };
            inject(&mut request, with_form, &parameter(), || NOW).unwrap();
            inject(&mut request, with_form, &parameter(), || NOW).unwrap();
            assert_eq!(request.body().at_hand().unwrap(), sent);
            assert_eq!(request.uri(), "/rest.php?x=1");
        }
    }

    #[test]
    fn a_parameter_has_the_name_that_the_place_wants() {
        let target = PathAndQuery::from_static("/file");
        let mut request = request();
        let file = Slot {
            parameter: Some("token"),
            ..at(&target)
        };
        inject(&mut request, file, &parameter(), || NOW).unwrap();
        assert_eq!(request.uri(), "/file?token=a%26b%3Dc");
    }

    #[test]
    fn a_field_that_holds_the_parameter_as_it_was_sent_is_removed_too() {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("/x?wstoken=a%26b%3Dc"));
        headers.insert("x-echo", HeaderValue::from_static("a&b=c"));
        assert_eq!(strip_reflections(&mut headers, &parameter(), &None), 2);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_parameter_goes_to_the_end_of_the_query_once_however_often_it_is_put_on() {
        let token = parameter();
        for (target, sent) in [
            ("/rest.php", "/rest.php?wstoken=a%26b%3Dc"),
            ("/rest.php?x=1", "/rest.php?x=1&wstoken=a%26b%3Dc"),
        ] {
            let mut request = request();
            let target = PathAndQuery::from_static(target);
            inject(&mut request, at(&target), &token, || NOW).unwrap();
            inject(&mut request, at(&target), &token, || NOW).unwrap();
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
            strip_reflections(&mut headers, &token("Bearer good-token"), &None),
            2
        );
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-other"));
    }

    // R50.
    #[test]
    fn each_attempt_is_signed_anew_behind_what_was_permitted() {
        let target = PathAndQuery::from_static("/d2l/api/x?b=c");
        let mut request = request();
        let referer = HeaderValue::from_static("https://app.example/?a=1&x_c=canary&x_t=1");
        request.headers_mut().insert(REFERER, referer);
        let (first, later) = (NOW, NOW.after(Duration::from_secs(1)));
        for now in [first, later] {
            let signed = inject(&mut request, at(&target), &signing(), || now).unwrap();
            let signed = signed.unwrap();
            assert_eq!(request.uri(), signed.as_str());
            let behind = signed.as_str().strip_prefix("/d2l/api/x?b=c&x_a=app&x_c=");
            let time = format!("&x_t={}", now.wall.as_secs());
            assert!(behind.unwrap().ends_with(&time), "{signed}");
        }
        assert_eq!(request.headers()["referer"], "https://app.example/?a=1");
        assert!(!request.headers().contains_key(AUTHORIZATION));
    }

    #[test]
    fn a_signature_is_taken_out_of_urls_and_other_fields_that_hold_it_go() {
        let target = PathAndQuery::from_static("/d2l/api/x?b=c");
        let mut request = request();
        let signed = inject(&mut request, at(&target), &signing(), || NOW).unwrap();
        let sent = request.uri().to_string();
        let signature = signatures(signed.as_ref().unwrap())
            .last()
            .unwrap()
            .to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("location", format!("https://lms.example{sent}")),
            ("content-location", format!("/login?target={signature}")),
            ("x-echo", format!("got {signature}!")),
            ("link", format!("<{sent}>; rel=next")),
            ("x-other", "x_c=another".to_owned()),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        assert_eq!(strip_reflections(&mut headers, &signing(), &signed), 3);
        assert_eq!(headers["location"], "https://lms.example/d2l/api/x?b=c");
        assert_eq!(headers["x-other"], "x_c=another");
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_token_too_short_to_be_a_secret_removes_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        assert_eq!(
            strip_reflections(&mut headers, &token("Bearer t"), &None),
            0
        );
        assert_eq!(headers.len(), 1);
    }
}
