//! Keeps web pages away from the control socket: who calls must be a program on this machine.
//!
//! A page can make a browser send requests to loopback addresses (DNS rebinding, forms, images).
//! Its Host is then the page's own, or the browser says in a field that a page has sent it.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{
    HeaderMap, Response,
    header::{HOST, ORIGIN},
    request,
    uri::Authority,
};
use http_body_util::Full;

use crate::{code::Code, problem::ProblemDetails, random};

/// Whether the request may be answered on the control socket that listens on `port`.
pub(super) fn check(request: &request::Parts, port: u16) -> Result<(), Code> {
    if !is_addressed_to_us(request, port) {
        Err(Code::MisdirectedRequest)
    } else if comes_from_a_page(&request.headers) {
        Err(Code::BrowserRequestDenied)
    } else {
        Ok(())
    }
}

/// Answers a refused request.
pub(super) fn problem(code: Code) -> Response<Full<Bytes>> {
    let detail = match code {
        Code::MisdirectedRequest => {
            "the control socket answers to loopback names with its own port (on a Unix socket none): localhost, 127.0.0.1, [::1]"
        }
        _ => "the control socket answers to programs on this machine, not to web pages",
    };
    let problem = ProblemDetails {
        code,
        detail,
        request_id: &random::id128(),
        route: None,
        missing_scopes: Vec::new(),
    };
    problem.response().map(Full::new)
}

/// Every name that the request gives is a loopback name with our port. In absolute-form the target
/// has one too (RFC 9112 section 3.2.2).
fn is_addressed_to_us(request: &request::Parts, port: u16) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let is_ours = |authority: &Authority| {
        !authority.as_str().contains('@')
            && authority.port_u16().unwrap_or(80) == port
            && is_loopback_name(authority.host())
    };
    is_ours(&host) && request.uri.authority().is_none_or(is_ours)
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// As on the proxy: a page's request names its origin, or asks by CORS, or says that it crosses sites.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN)
        || headers
            .keys()
            .any(|name| name.as_str().starts_with("access-control-request-"))
        || headers
            .get_all("sec-fetch-site")
            .iter()
            .any(|site| site != "none" && site != "same-origin")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const PORT: u16 = 9465;

    fn checked(target: &str, fields: &[(&str, &str)]) -> Result<(), Code> {
        let mut request = Request::get(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0, PORT)
    }

    #[test]
    fn loopback_names_with_our_port_are_ours() {
        for host in [
            "localhost:9465",
            "LOCALHOST:9465",
            "127.0.0.1:9465",
            "127.8.9.1:9465",
            "[::1]:9465",
        ] {
            assert_eq!(checked("/", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn any_other_name_is_misdirected() {
        for host in [
            "evil.test:9465",
            "localhost",
            "localhost:80",
            "localhost:9464",
            "localhost.evil.test:9465",
            "me@localhost:9465",
            "128.0.0.1:9465",
            "[::2]:9465",
            "",
        ] {
            assert_eq!(
                checked("/", &[("host", host)]),
                Err(Code::MisdirectedRequest),
                "{host}"
            );
        }
        assert_eq!(checked("/", &[]), Err(Code::MisdirectedRequest));
        let twice = [("host", "localhost:9465"), ("host", "localhost:9465")];
        assert_eq!(checked("/", &twice), Err(Code::MisdirectedRequest));
    }

    #[test]
    fn an_absolute_target_must_name_us_too() {
        let host = [("host", "localhost:9465")];
        assert_eq!(checked("http://127.0.0.1:9465/", &host), Ok(()));
        assert_eq!(
            checked("http://evil.test:9465/", &host),
            Err(Code::MisdirectedRequest)
        );
    }

    #[test]
    fn what_a_page_sends_is_refused() {
        for (name, value) in [
            ("origin", "null"),
            ("origin", "http://localhost:9465"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("access-control-request-method", "GET"),
        ] {
            assert_eq!(
                checked("/", &[("host", "localhost:9465"), (name, value)]),
                Err(Code::BrowserRequestDenied),
                "{name}: {value}"
            );
        }
        let typed = [("host", "localhost:9465"), ("sec-fetch-site", "none")];
        assert_eq!(checked("/", &typed), Ok(()));
    }
}
