//! Refuses what is not plain, unambiguous HTTP from a program, before anything else looks at it.
//!
//! hyper has refused what does not parse; here is what parses and still has more than one reading.
//! The path is the policy's, the Host is `hosts`'.

pub(super) mod method_override;

use http::{HeaderMap, HeaderValue, Method, request::Parts, uri::PathAndQuery};

use super::{reject::Rejection, upgrade::Offer};
use crate::code::Code;

/// Longest request target in bytes (R17).
const MAX_TARGET: usize = 8 * 1024;

/// Screens one head. `pseudonym` is our name in `Via`; `had_fragment`: the request line held a `#`,
/// which hyper cuts off silently.
pub(super) fn screen(head: &Parts, pseudonym: &str, had_fragment: bool) -> Result<(), Rejection> {
    screen_method(&head.method)?;
    screen_target(head, had_fragment)?;
    screen_fields(&head.headers, pseudonym)
}

/// Whether the application waits for `100 Continue` before it sends its body.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::EXPECT)
}

/// What is said about a method that is [never forwarded](is_never_forwarded).
pub const NEVER_FORWARDED: &str = "TRACE, TRACK and CONNECT are never forwarded.";

/// TRACE reflects the token, CONNECT would be a tunnel (R15). Methods are case-sensitive: `trace`
/// is none of ours and matches no route.
#[must_use]
pub fn is_never_forwarded(method: &Method) -> bool {
    method == Method::TRACE || method == Method::CONNECT || method.as_str() == "TRACK"
}

fn screen_method(method: &Method) -> Result<(), Rejection> {
    if is_never_forwarded(method) {
        return Err(Rejection::new(Code::MethodNotAllowed, NEVER_FORWARDED));
    }
    Ok(())
}

fn screen_target(head: &Parts, had_fragment: bool) -> Result<(), Rejection> {
    if had_fragment {
        return Err(Rejection::new(
            Code::PathAmbiguous,
            "A request target has no fragment (RFC 9112 section 3.2); a `#` in a path is written %23.",
        ));
    }
    let target = &head.uri;
    let text = target.path_and_query().map_or("", PathAndQuery::as_str);
    if text.len() > MAX_TARGET {
        return Err(Rejection::new(
            Code::UriTooLong,
            "A request target has at most 8 KiB.",
        ));
    }
    let is_authority_form = target.scheme().is_none() && target.authority().is_some();
    // `*`; over HTTP/2, and in an absolute URL, also a query without a path.
    if is_authority_form || !text.starts_with('/') {
        return Err(Rejection::new(
            Code::PathAmbiguous,
            "The request target is a path, or an absolute URL of the upstream.",
        ));
    }
    Ok(())
}

/// One pass over the fields: most requests carry none of those that matter here.
fn screen_fields(headers: &HeaderMap, pseudonym: &str) -> Result<(), Rejection> {
    let mut codings = 0_usize;
    for (name, value) in headers {
        match name.as_str() {
            "transfer-encoding" => {
                codings += 1;
                screen_transfer_encoding(value, codings)?;
            }
            "expect" if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(Rejection::new(
                    Code::ExpectationFailed,
                    "The only expectation is 100-continue.",
                ));
            }
            "origin" => return Err(browser("Origin")),
            "sec-fetch-site" if value != "none" => return Err(browser("Sec-Fetch-Site")),
            "upgrade" if Offer::of(value) == Offer::Refused => {
                return Err(Rejection::new(
                    Code::UpgradeDenied,
                    "The only protocol that a request can switch to is `websocket`, alone.",
                ));
            }
            "via" => screen_via(value, pseudonym)?,
            other if other.contains('_') => {
                return Err(Rejection::new(
                    Code::HeaderNameAmbiguous,
                    "A field name holds an underscore; some servers read it as a hyphen.",
                ));
            }
            other if other.starts_with("access-control-request-") => {
                return Err(browser("Access-Control-Request-*"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Exactly one `chunked` (RFC 9112 section 6.1). hyper accepts anything that ends in it, and other
/// servers disagree about the rest.
fn screen_transfer_encoding(value: &HeaderValue, count: usize) -> Result<(), Rejection> {
    let codings = value.as_bytes();
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let names_another = codings
        .split(|byte| *byte == b',')
        .any(|coding| !coding.trim_ascii().is_empty() && !is_chunked(coding));
    if names_another {
        return Err(Rejection::new(
            Code::TransferCodingUnsupported,
            "The only transfer coding is chunked.",
        )
        .closing());
    }
    if count > 1 || !is_chunked(codings) {
        return Err(Rejection::new(
            Code::FramingInvalid,
            "Transfer-Encoding must be `chunked`, once.",
        )
        .closing());
    }
    Ok(())
}

/// A request from a web page can be aimed at loopback by any site that a developer visits (R77).
/// Programs send none of these fields. `Sec-Fetch-Site: none` is the one value that no page can
/// cause (a typed address, a bookmark); `same-origin` is refused too, as answers of the LMS that a
/// browser shows have our origin.
fn browser(field: &'static str) -> Rejection {
    Rejection::new(
        Code::BrowserRequestDenied,
        format!("{field} is sent by browsers on behalf of web pages; those are refused."),
    )
}

/// `Via: 1.1 pseudonym (comment), …` (RFC 9110 section 7.6.3).
fn screen_via(value: &HeaderValue, pseudonym: &str) -> Result<(), Rejection> {
    let is_ours = value.as_bytes().split(|byte| *byte == b',').any(|entry| {
        let mut words = entry
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words.nth(1) == Some(pseudonym.as_bytes())
    });
    if is_ours {
        return Err(Rejection::new(
            Code::LoopDetected,
            "The upstream's address leads back to this bursar.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Request};
    use proptest::prelude::*;

    const US: &str = "bursar-1";

    fn refused(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<Code> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        screen(&head, US, false)
            .err()
            .map(|rejection| rejection.code)
    }

    fn refused_field(name: &str, value: &str) -> Option<Code> {
        refused("GET", "/", &[(name, value)])
    }

    #[test]
    fn an_ordinary_request_passes() {
        let fields = [
            ("host", "localhost:8080"),
            ("accept", "*/*"),
            ("traceparent", "00-1-2-01"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-Continue"),
            ("via", "1.1 other"),
        ];
        assert_eq!(
            refused("POST", "/d2l/api/lp/1.0/users/whoami?x=1", &fields),
            None
        );
    }

    #[test]
    fn methods_that_reflect_or_tunnel_are_never_forwarded() {
        for method in ["TRACE", "TRACK"] {
            assert_eq!(refused(method, "/", &[]), Some(Code::MethodNotAllowed));
        }
        assert_eq!(
            refused("CONNECT", "a:443", &[]),
            Some(Code::MethodNotAllowed)
        );
        assert_eq!(refused("trace", "/", &[]), None);
    }

    #[test]
    fn only_one_chunked_is_a_framing() {
        for value in ["chunked, chunked", ",chunked", "chunked,", "", ","] {
            assert_eq!(
                refused_field("transfer-encoding", value),
                Some(Code::FramingInvalid)
            );
        }
        for value in [
            "gzip, chunked",
            "gzip",
            "identity",
            "\"chunked\"",
            "xchunked",
        ] {
            assert_eq!(
                refused_field("transfer-encoding", value),
                Some(Code::TransferCodingUnsupported)
            );
        }
        for value in ["Chunked", "chunked\t", " chunked"] {
            assert_eq!(refused_field("transfer-encoding", value), None);
        }
        let twice = [
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(refused("POST", "/", &twice), Some(Code::FramingInvalid));
        let two = [
            ("transfer-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(
            refused("POST", "/", &two),
            Some(Code::TransferCodingUnsupported)
        );
    }

    #[test]
    fn a_request_whose_framing_is_in_doubt_ends_its_connection() {
        let (head, ()) = Request::get("/")
            .header("transfer-encoding", "chunked, chunked")
            .body(())
            .unwrap()
            .into_parts();
        assert!(screen(&head, US, false).unwrap_err().close);
    }

    #[test]
    fn web_pages_are_refused_by_any_of_their_fields() {
        for (name, value) in [
            ("origin", "null"),
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", ""),
            ("access-control-request-method", "PUT"),
            ("access-control-request-private-network", "true"),
        ] {
            assert_eq!(
                refused_field(name, value),
                Some(Code::BrowserRequestDenied),
                "{name}"
            );
        }
        assert_eq!(refused_field("sec-fetch-site", "none"), None);
        assert_eq!(refused_field("sec-fetch-mode", "cors"), None);
    }

    #[test]
    fn an_upgrade_other_than_h2c_or_a_websocket_is_refused() {
        for value in ["h2c", "websocket", "WebSocket"] {
            assert_eq!(refused_field("upgrade", value), None);
        }
        for value in ["h2c, websocket", "TLS/1.0", ""] {
            assert_eq!(
                refused_field("upgrade", value),
                Some(Code::UpgradeDenied),
                "{value}"
            );
        }
    }

    #[test]
    fn an_underscore_in_a_field_name_is_ambiguous() {
        for name in ["x_forwarded_user", "content_length"] {
            assert_eq!(refused_field(name, "5"), Some(Code::HeaderNameAmbiguous));
        }
    }

    #[test]
    fn an_expectation_other_than_100_continue_fails() {
        for value in ["foo", "", "100-continue, foo"] {
            assert_eq!(
                refused_field("expect", value),
                Some(Code::ExpectationFailed)
            );
        }
        let two = [("expect", "100-continue"), ("expect", "foo")];
        assert_eq!(refused("POST", "/", &two), Some(Code::ExpectationFailed));
    }

    #[test]
    fn a_request_that_has_been_here_before_is_a_loop() {
        for value in [
            "1.1 bursar-1",
            "1.0 fred, 1.1 bursar-1 (x)",
            "HTTP/1.1  bursar-1",
        ] {
            assert_eq!(
                refused_field("via", value),
                Some(Code::LoopDetected),
                "{value}"
            );
        }
        for value in ["1.1 bursar-12", "bursar-1", "1.1 fred (bursar-1)", ""] {
            assert_eq!(refused_field("via", value), None, "{value}");
        }
    }

    #[test]
    fn a_target_that_is_too_long_or_no_path_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        assert_eq!(refused("GET", &long, &[]), Some(Code::UriTooLong));
        assert_eq!(refused("GET", &long[..MAX_TARGET], &[]), None);
        assert_eq!(
            refused("GET", "evil.example", &[]),
            Some(Code::PathAmbiguous)
        );
        assert_eq!(
            refused("GET", "evil.example:80", &[]),
            Some(Code::PathAmbiguous)
        );
        for target in ["*", "http://bursar?x"] {
            assert_eq!(refused("OPTIONS", target, &[]), Some(Code::PathAmbiguous));
        }
        let target = PathAndQuery::from_static("?x");
        let (mut head, ()) = Request::get("/").body(()).unwrap().into_parts();
        head.uri = http::Uri::from(target);
        assert!(screen(&head, US, false).is_err());
    }

    #[test]
    fn a_fragment_is_refused_although_hyper_has_cut_it() {
        let (head, ()) = Request::get("/a").body(()).unwrap().into_parts();
        assert_eq!(
            screen(&head, US, true).unwrap_err().code,
            Code::PathAmbiguous
        );
    }

    proptest! {
        #[test]
        fn no_head_makes_the_screen_panic(
            method in "[A-Za-z!#$]{1,12}",
            target in "(/[!-~]{0,40}|[a-z]{1,9}(:[0-9]{1,5})?|https?://[!-~]{1,30}|\\*)",
            fields in prop::collection::vec(
                (
                    prop_oneof![
                        prop::sample::select(vec![
                            "transfer-encoding", "expect", "origin", "sec-fetch-site", "upgrade", "via",
                        ]).prop_map(str::to_owned),
                        "[a-zA-Z0-9_-]{1,20}",
                    ],
                    prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..60),
                ),
                0..30,
            ),
            had_fragment: bool,
        ) {
            let mut request = Request::builder().method(method.as_str()).uri(target.as_str());
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                request = request.header(name, HeaderValue::from_bytes(&value).unwrap());
            }
            if let Ok(request) = request.body(()) {
                let (head, ()) = request.into_parts();
                let _ = screen(&head, US, had_fragment);
            }
        }
    }
}
