//! Who may come in by the loopback port: a browser that goes to the redirect URI, as a whole page.
//!
//! What gets through is not trusted yet: only the `state` says that it is the answer.

use http::{
    HeaderMap, Method, StatusCode, Uri,
    header::{HOST, ORIGIN},
    request,
};

use super::page::Page;
use crate::oauth::authorization::RedirectUri;

/// Whether the request can be a callback to `redirect_uri`; else what to answer.
pub(super) fn check(request: &request::Parts, redirect_uri: &RedirectUri) -> Result<(), Page> {
    let refusal = |status, text: &str| Err(Page::new(status, "Not here", text));
    if !is_addressed_to_us(&request.headers, &request.uri, redirect_uri) {
        return refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "This port answers to the redirect URI of a login only.",
        );
    }
    if request.uri.path() != redirect_uri.path() {
        return refusal(StatusCode::NOT_FOUND, "There is nothing here.");
    }
    if request.method != Method::GET {
        return refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "A browser comes back to this address with GET.",
        );
    }
    if !is_navigation(&request.headers) {
        return refusal(
            StatusCode::FORBIDDEN,
            "A web page cannot call this address: a browser must be sent to it.",
        );
    }
    Ok(())
}

/// Every name that the request gives is the one of the redirect URI: a name that a page has bound to this address
/// (DNS rebinding) is not.
fn is_addressed_to_us(headers: &HeaderMap, uri: &Uri, redirect_uri: &RedirectUri) -> bool {
    let authority = redirect_uri.authority();
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
        && uri
            .authority()
            .is_none_or(|named| named.as_str().eq_ignore_ascii_case(&authority))
}

/// A browser that is sent somewhere names no origin, and where it speaks of the request at all (Fetch Metadata) it says so.
fn is_navigation(headers: &HeaderMap) -> bool {
    let says_only = |name: &str, expected: &str| {
        headers
            .get_all(name)
            .iter()
            .all(|value| value.as_bytes() == expected.as_bytes())
    };
    says_only("sec-fetch-mode", "navigate")
        && says_only("sec-fetch-dest", "document")
        && !headers.contains_key(ORIGIN)
        // Looked at before anybody has asked for it.
        && !headers.contains_key("sec-purpose")
        && !headers.contains_key("purpose")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let uri = RedirectUri::parse("http://localhost:8765/callback").unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let page = check(&parts, &uri).err()?;
        Some(page.response().status().as_u16())
    }

    const OURS: (&str, &str) = ("host", "localhost:8765");

    #[test]
    fn a_browser_that_is_sent_to_the_redirect_uri_comes_in() {
        for fields in [
            &[OURS][..],
            &[("host", "LocalHost:8765")],
            &[
                OURS,
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
                ("sec-fetch-site", "cross-site"),
            ],
        ] {
            assert_eq!(
                status("GET", "/callback?code=1", fields),
                None,
                "{fields:?}"
            );
        }
        assert_eq!(
            status("GET", "http://localhost:8765/callback", &[OURS]),
            None
        );
    }

    #[test]
    fn another_name_is_misdirected() {
        for fields in [
            &[][..],
            &[("host", "localhost")],
            &[("host", "localhost:8766")],
            &[("host", "127.0.0.1:8765")],
            &[("host", "rebound.evil.test:8765")],
            &[OURS, OURS],
        ] {
            assert_eq!(status("GET", "/callback", fields), Some(421), "{fields:?}");
        }
        assert_eq!(
            status("GET", "http://evil.test/callback", &[OURS]),
            Some(421)
        );
    }

    #[test]
    fn other_paths_and_methods_do_not_exist() {
        for target in [
            "/",
            "/callback/",
            "/Callback",
            "/favicon.ico",
            "/%63allback",
        ] {
            assert_eq!(status("GET", target, &[OURS]), Some(404), "{target}");
        }
        for method in ["POST", "HEAD", "OPTIONS", "PUT"] {
            assert_eq!(status(method, "/callback", &[OURS]), Some(405), "{method}");
        }
    }

    #[test]
    fn a_page_cannot_call_in_the_name_of_its_reader() {
        for field in [
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "image"),
            ("sec-fetch-dest", "iframe"),
            ("origin", "null"),
            ("origin", "https://evil.test"),
            ("sec-purpose", "prefetch"),
            ("purpose", "prefetch"),
        ] {
            assert_eq!(
                status("GET", "/callback", &[OURS, field]),
                Some(403),
                "{field:?}"
            );
        }
    }
}
