//! The URL of a company proxy.

use figment::value::Value;
use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use super::{
    Fault, FromValue,
    address::bare,
    shape::{self, Shape},
    string,
};
use crate::{config::problem::ProblemCode, dial::HttpProxy};

/// `http_proxy`: it may hold a password, so no message repeats it.
#[derive(Debug)]
pub(in crate::config) struct ProxyUrl {
    /// The proxy.
    pub(in crate::config) proxy: HttpProxy,
    /// Whether there is a password in the URL.
    pub(in crate::config) is_secret: bool,
}

impl FromValue for ProxyUrl {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "http://proxy.example:3128""#)?;
        let url = Url::parse(text).map_err(|_| not_a_proxy())?;
        if url.scheme() == "https" {
            return Err(Fault::new(
                ProblemCode::Unsupported,
                "the proxy itself is spoken to without TLS (what goes through it to an https origin has its own)",
                "write http://; ask whoever runs the proxy for its port without TLS",
            ));
        }
        let is_odd = |character: char| {
            character.is_control() || character.is_whitespace() || character == '\\'
        };
        let rest = text.split_once("://").map(|(_, rest)| rest);
        let has_host = rest.is_some_and(|rest| !rest.starts_with('/'));
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || text.contains(is_odd) || !has_host || !is_bare {
            return Err(not_a_proxy());
        }
        let (Some(host), Some(port @ 1..)) = (url.host(), url.port_or_known_default()) else {
            return Err(not_a_proxy());
        };
        let host = bare(&host);
        if host.is_empty() {
            return Err(not_a_proxy());
        }
        let (name, password) = (
            decoded(url.username())?,
            decoded(url.password().unwrap_or_default())?,
        );
        // RFC 7617 section 2.
        if name.contains(':') {
            return Err(bad_user());
        }
        let is_secret = rest.is_some_and(|rest| rest.contains('@'));
        let user = is_secret.then_some((&**name, &**password));
        Ok(Self {
            proxy: HttpProxy::new(host.into(), port, user),
            is_secret,
        })
    }
}

fn decoded(text: &str) -> Result<Zeroizing<String>, Fault> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = Zeroizing::new(decoded.map_err(|_| bad_user())?.into_owned());
    if decoded.chars().any(char::is_control) {
        return Err(bad_user());
    }
    Ok(decoded)
}

fn bad_user() -> Fault {
    Fault::new(
        ProblemCode::SecretUnusable,
        "user or password hold what Basic authentication cannot carry: a control character, bytes that are not UTF-8, or a \
         colon in the user's name",
        "percent-encode what a URL gives a meaning of its own (`@` is %40, `:` is %3A, `/` is %2F, `%` is %25)",
    )
}

fn not_a_proxy() -> Fault {
    Fault::new(
        ProblemCode::InvalidUrl,
        "is not the URL of a proxy",
        r#"write "http://HOST:PORT", or "http://USER:PASSWORD@HOST:PORT" with both percent-encoded"#,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<ProxyUrl, Fault> {
        ProxyUrl::from_value(&Value::from(text))
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port_with_or_without_a_user() {
        let plain = of("http://Proxy.Example.:3128").unwrap();
        assert_eq!(
            plain.proxy,
            HttpProxy::new("proxy.example".into(), 3128, None)
        );
        assert!(!plain.is_secret);
        let bare = of("http://[::1]/").unwrap();
        assert_eq!(bare.proxy, HttpProxy::new("::1".into(), 80, None));
        let user = of("http://me:p%40ss%3A%25w%C3%BC@proxy.example:3128").unwrap();
        assert_eq!(
            user.proxy,
            HttpProxy::new("proxy.example".into(), 3128, Some(("me", "p@ss:%wü")))
        );
        assert!(user.is_secret);
        let nameless = of("http://me@proxy.example:3128").unwrap();
        assert_eq!(
            nameless.proxy,
            HttpProxy::new("proxy.example".into(), 3128, Some(("me", "")))
        );
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_being_repeated() {
        for wrong in [
            "",
            "canary.example:3128",
            "http://",
            "http:///canary:3128",
            "http:canary:3128",
            "http://canary:0",
            "http://canary:3128/path",
            "http://canary:3128?x=1",
            "http://canary:3128#f",
            "http://canary canary:3128",
            "http://me:canary%0d@proxy.example:3128",
            "http://me:canary%ff@proxy.example:3128",
            "http://m%3Ae:canary@proxy.example:3128",
            "socks5://canary:1080",
            "https://me:canary@proxy.example:3128",
        ] {
            let fault = of(wrong).unwrap_err();
            assert!(!format!("{fault:?}").contains("canary"), "{wrong}");
        }
    }
}
