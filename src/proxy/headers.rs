//! Field hygiene (RFC 9110 section 7.6): what is meant for one connection, what pretends to speak for
//! somebody else, and what would carry a session or a credential across, stays here.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CACHE_CONTROL, CONNECTION, HOST, TRAILER, VIA},
};

/// What the requests to one upstream get.
#[derive(Clone, Debug)]
pub struct RequestRules {
    /// The configured authority: the only Host that the LMS ever sees (R28, R29).
    pub host: HeaderValue,
    /// Our entry in `Via`, by which a loop is recognised.
    pub via: Via,
    /// Whether `Cookie` passes.
    pub cookies: bool,
    /// The fields that name a person to bursar.
    pub subject_headers: Vec<HeaderName>,
}

/// One entry in `Via` per version in which a request can have come (RFC 9110 section 7.6.3).
#[derive(Clone, Debug)]
pub struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    /// Of a recipient that calls itself `pseudonym`, a token.
    pub fn new(pseudonym: &str) -> Self {
        let entry = |version: &str| {
            HeaderValue::try_from(format!("{version} {pseudonym}"))
                .unwrap_or(HeaderValue::from_static(""))
        };
        Self {
            http10: entry("1.0"),
            http11: entry("1.1"),
            http2: entry("2.0"),
        }
    }

    fn of(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_10 => &self.http10,
            _ => &self.http11,
        }
    }
}

/// Makes the application's fields those of our own request, all but the credential.
///
/// Framing fields go as well: the body that is sent decides about them (R01).
pub fn rewrite_request(headers: &mut HeaderMap, version: Version, rules: &RequestRules) {
    remove(headers, |name| {
        is_hop_by_hop(name)
            || is_framing(name)
            || is_ours(name)
            || is_spoofable(name)
            || is_credential(name)
            || name == "cookie" && !rules.cookies
            || rules.subject_headers.iter().any(|field| field == name)
    });
    headers.append(VIA, rules.via.of(version).clone());
    headers.insert(HOST, rules.host.clone());
}

/// Makes the LMS's fields those of our own answer.
pub fn rewrite_response(headers: &mut HeaderMap, cookies: bool) {
    let trailer = allowed_trailer(headers);
    remove(headers, |name| {
        is_hop_by_hop(name)
            || name == "set-cookie" && !cookies
            || name.starts_with("access-control-")
            // `Proxy-Status` on an answer of the LMS would pass for one of our own (RFC 9209).
            || name == "proxy-status"
    });
    if let Some(trailer) = trailer {
        headers.insert(TRAILER, trailer);
    }
    if !headers.contains_key(CACHE_CONTROL) {
        // A cache beside the application saw no Authorization (RFC 9111 section 3.5, R47).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// Whether a trailer field may reach the application (R16).
pub(super) fn is_allowed_trailer(name: &HeaderName) -> bool {
    name == "server-timing" || name.as_str().starts_with("grpc-")
}

/// Removes the fields named by any `Connection` field, and those that `doomed` names.
fn remove(headers: &mut HeaderMap, doomed: impl Fn(&str) -> bool) {
    let options = connection_options(headers);
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| doomed(name.as_str()))
        .cloned()
        .collect();
    for name in options.iter().chain(&names) {
        headers.remove(name);
    }
}

/// The fields named by all `Connection` fields together (RFC 9110 section 7.6.1), also if one is empty.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter(|option| !option.eq_ignore_ascii_case(b"close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "expect")
}

/// Fields by which a request claims another origin, path or method than its own (R23).
fn is_spoofable(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-real-ip"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "proxy"
    ) || name.starts_with("x-forwarded-")
}

/// What an application says to bursar, or takes for what bursar says: none of the LMS's business.
fn is_ours(name: &str) -> bool {
    name.starts_with("bursar-")
}

fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "x-instauth")
}

/// `Trailer` reduced to what may pass. The server side sends only trailers that it announced.
fn allowed_trailer(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<HeaderName> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(is_allowed_trailer)
        .collect();
    if names.is_empty() {
        return None;
    }
    let list: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::try_from(list.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
    use proptest::prelude::*;

    fn rules() -> RequestRules {
        RequestRules {
            subject_headers: vec![HeaderName::from_static("x-person")],
            host: HeaderValue::from_static("lms.example"),
            via: Via::new("bursar-1"),
            cookies: false,
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_a_connection_field_names_is_removed_even_if_the_first_is_empty() {
        let mut headers = map(&[
            ("connection", ""),
            ("connection", "X-Secret , keep-alive"),
            ("connection", "x-real-name"),
            ("x-secret", "1"),
            ("x-real-name", "2"),
            ("accept", "*/*"),
        ]);
        rewrite_request(&mut headers, Version::HTTP_11, &rules());
        assert_eq!(names(&headers), ["accept", "host", "via"]);
    }

    #[test]
    fn our_entry_says_in_which_version_the_request_came() {
        for (version, entry) in [
            (Version::HTTP_10, "1.0 bursar-1"),
            (Version::HTTP_11, "1.1 bursar-1"),
            (Version::HTTP_2, "2.0 bursar-1"),
        ] {
            let mut headers = HeaderMap::new();
            rewrite_request(&mut headers, version, &rules());
            assert_eq!(headers[VIA], entry);
        }
    }

    #[test]
    fn a_connection_field_cannot_take_our_own_fields_away() {
        let mut headers = map(&[
            ("connection", "host, via, authorization, cookie"),
            ("host", "localhost:8080"),
        ]);
        rewrite_request(&mut headers, Version::HTTP_11, &rules());
        assert_eq!(headers[HOST], "lms.example");
        assert_eq!(headers[VIA], "1.1 bursar-1");
    }

    #[test]
    fn the_via_of_others_is_kept_and_ours_comes_last() {
        let mut headers = map(&[("via", "1.0 fred")]);
        rewrite_request(&mut headers, Version::HTTP_11, &rules());
        let via: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(via, ["1.0 fred", "1.1 bursar-1"]);
    }

    #[test]
    fn cookies_pass_only_where_the_upstream_says_so() {
        let cookie = [("cookie", "a=b")];
        let mut headers = map(&cookie);
        rewrite_request(&mut headers, Version::HTTP_11, &rules());
        assert!(!headers.contains_key(COOKIE));

        let mut headers = map(&cookie);
        let cookies = true;
        rewrite_request(
            &mut headers,
            Version::HTTP_11,
            &RequestRules { cookies, ..rules() },
        );
        assert!(headers.contains_key(COOKIE));
    }

    #[test]
    fn an_answer_keeps_its_own_fields_and_loses_those_of_the_connection() {
        let mut headers = map(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "session=1"),
            ("access-control-allow-origin", "*"),
            ("proxy-status", "lms; error=http_request_denied"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
            ("www-authenticate", "Bearer"),
            ("retry-after", "7"),
        ]);
        rewrite_response(&mut headers, false);
        assert_eq!(
            names(&headers),
            [
                "cache-control",
                "content-type",
                "etag",
                "retry-after",
                "www-authenticate"
            ]
        );
        assert_eq!(headers[CACHE_CONTROL], "private");
    }

    #[test]
    fn an_answer_that_says_how_it_may_be_cached_is_left_alone() {
        let mut headers = map(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]);
        rewrite_response(&mut headers, true);
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
        assert!(headers.contains_key(SET_COOKIE));
    }

    #[test]
    fn only_harmless_trailers_stay_announced() {
        let mut headers = map(&[
            ("trailer", "Server-Timing, Authorization"),
            ("trailer", "grpc-status"),
        ]);
        rewrite_response(&mut headers, false);
        assert_eq!(headers[TRAILER], "server-timing, grpc-status");

        let mut headers = map(&[("trailer", "Authorization")]);
        rewrite_response(&mut headers, false);
        assert!(!headers.contains_key(TRAILER));
    }

    /// Names that matter, beside any others.
    fn field_name() -> impl Strategy<Value = HeaderName> {
        let interesting = prop::sample::select(vec![
            "connection",
            "Keep-Alive",
            "PROXY-connection",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "content-length",
            "expect",
            "forwarded",
            "X-Forwarded-For",
            "x-forwarded-anything",
            "x-real-ip",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method",
            "X-HTTP-Method-Override",
            "x-method-override",
            "proxy",
            "Bursar-Caller",
            "bursar-request-id",
            "authorization",
            "x-instauth",
            "cookie",
            "host",
            "via",
            "accept",
        ])
        .prop_map(str::to_owned);
        prop_oneof![interesting, "[a-zA-Z0-9-]{1,20}"]
            .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    fn field_value() -> impl Strategy<Value = HeaderValue> {
        prop_oneof![
            "[ -~]{0,40}",
            "(close|keep-alive|host|authorization|x-[a-z]{1,5})?( ?, ?(close|host|via|x-[a-z]{1,5}))*",
        ]
        .prop_map(|value| HeaderValue::from_str(&value).unwrap())
    }

    proptest! {
        #[test]
        fn whatever_comes_in_nothing_of_the_connection_or_of_a_credential_goes_out(
            fields in prop::collection::vec((field_name(), field_value()), 0..40)
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            let options = connection_options(&headers);
            rewrite_request(&mut headers, Version::HTTP_11, &rules());
            for name in headers.keys() {
                let text = name.as_str();
                prop_assert!(!is_hop_by_hop(text) && !is_framing(text) && !is_spoofable(text));
                prop_assert!(!is_credential(text) && text != "cookie");
                prop_assert!(name == HOST || name == VIA || !options.contains(name));
            }
            prop_assert_eq!(headers.get_all(HOST).iter().collect::<Vec<_>>(), ["lms.example"]);

            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer ours"));
            prop_assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
        }

        #[test]
        fn whatever_the_lms_answers_no_field_of_the_connection_comes_through(
            fields in prop::collection::vec((field_name(), field_value()), 0..40)
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            rewrite_response(&mut headers, false);
            for name in headers.keys() {
                prop_assert!(name == TRAILER || !is_hop_by_hop(name.as_str()));
            }
            prop_assert!(headers.contains_key(CACHE_CONTROL));
        }
    }
}
