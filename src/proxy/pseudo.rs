//! Makes the head of an HTTP/2 request read like one of HTTP/1.1 (RFC 9113 section 8.3), for which all
//! that follows is written.
//!
//! h2 has refused what is malformed by then, each with an error of its stream: upper case, control
//! characters, fields of a connection, pseudo-header fields that are missing, repeated or unknown.

use http::{
    HeaderValue, Uri,
    header::{COOKIE, HOST},
    request::Parts,
    uri::Scheme,
};

use super::reject::Rejection;
use crate::code::Code;

/// As many as hyper takes over HTTP/1.1 (R17).
const MAX_FIELDS: usize = 100;

/// Moves `:authority` to Host, if there is none; that the two agree is checked like an absolute-form
/// target. Joins the pieces of `Cookie` (section 8.2.3).
pub(super) fn normalise(head: &mut Parts) -> Result<(), Rejection> {
    if head.headers.len() > MAX_FIELDS {
        return Err(Rejection::new(
            Code::HeadersTooLarge,
            "A head has at most 100 fields and 64 KiB.",
        ));
    }
    if let Some(authority) = head.uri.authority() {
        let scheme = head.uri.scheme().map(Scheme::as_str);
        if !matches!(scheme, Some("http" | "https") | None) {
            return Err(Rejection::new(
                Code::HostInvalid,
                "`:scheme` is http or https.",
            ));
        }
        if !head.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
            && let Some(target) = head.uri.path_and_query().cloned()
        {
            head.headers.insert(HOST, host);
            head.uri = Uri::from(target);
        }
    }
    join_cookies(head);
    Ok(())
}

fn join_cookies(head: &mut Parts) {
    let mut pieces = head.headers.get_all(COOKIE).iter();
    if pieces.by_ref().take(2).count() < 2 {
        return;
    }
    let pieces: Vec<&[u8]> = head
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Field values with "; " between them are a field value.
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        head.headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn normalised(uri: &str, fields: &[(&str, &str)]) -> Result<Parts, Code> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        match normalise(&mut head) {
            Ok(()) => Ok(head),
            Err(rejection) => Err(rejection.code),
        }
    }

    #[test]
    fn the_authority_becomes_the_host_and_the_target_its_path() {
        let head = normalised("http://bursar:8080/a?b", &[]).unwrap();
        assert_eq!(head.headers[HOST], "bursar:8080");
        assert_eq!(head.uri, "/a?b");
    }

    #[test]
    fn a_host_beside_the_authority_is_left_to_be_compared_with_it() {
        let head = normalised("http://evil/a", &[("host", "bursar")]).unwrap();
        assert_eq!(head.headers[HOST], "bursar");
        assert_eq!(head.uri.authority().unwrap(), "evil");
    }

    #[test]
    fn a_scheme_other_than_http_and_https_is_refused() {
        assert!(normalised("https://bursar/", &[]).is_ok());
        assert_eq!(
            normalised("ftp://bursar/", &[]).unwrap_err(),
            Code::HostInvalid
        );
    }

    #[test]
    fn cookies_in_pieces_are_one_field_in_their_order() {
        let head = normalised("/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn more_fields_than_over_http_1_1_are_too_many() {
        let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
        assert!(normalised("/", &fields[1..]).is_ok());
        assert_eq!(normalised("/", &fields).unwrap_err(), Code::HeadersTooLarge);
    }
}
