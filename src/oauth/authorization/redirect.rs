//! The redirect URI: an authorization server compares it character by character with the registered one (RFC 9700 section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Where the browser comes back to, exactly as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    url: Url,
}

/// Why a text is no redirect URI, as a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedirectUri {
    /// Not an absolute `http` or `https` URL.
    #[error("is not an http or https URL")]
    NotAUrl,
    /// RFC 6749 section 3.1.2 forbids it.
    #[error("holds a fragment")]
    Fragment,
    /// A name or a password before the host.
    #[error("holds a user name or a password")]
    UserInfo,
    /// Plain http to another machine: whoever is on the way could take the code.
    #[error("is plain http to another machine, and would let anybody on the way take the code")]
    PlainHttp,
}

impl RedirectUri {
    /// Parses one. A loopback address may be plain http (RFC 8252 section 7.3); with port 0 any free port is taken.
    ///
    /// # Errors
    ///
    /// [`InvalidRedirectUri`].
    pub fn parse(text: &str) -> Result<Self, InvalidRedirectUri> {
        let is_odd = |character: char| {
            !character.is_ascii_graphic() || matches!(character, '\\' | '"' | '<' | '>')
        };
        let rest = text.split_once("://").map(|(_, rest)| rest);
        // The parser would mend `https:host` and `https:///host`.
        if text.contains(is_odd) || rest.is_none_or(|rest| rest.starts_with('/')) {
            return Err(InvalidRedirectUri::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| InvalidRedirectUri::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(InvalidRedirectUri::NotAUrl);
        }
        if url.fragment().is_some() {
            return Err(InvalidRedirectUri::Fragment);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidRedirectUri::UserInfo);
        }
        let uri = Self {
            text: text.to_owned(),
            url,
        };
        if !uri.is_tls() && uri.loopback().is_empty() {
            return Err(InvalidRedirectUri::PlainHttp);
        }
        Ok(uri)
    }

    /// As it is registered and sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The addresses of this machine that it stands for; none: it is another machine's.
    #[must_use]
    pub fn loopback(&self) -> Vec<IpAddr> {
        match self.url.host() {
            Some(Host::Domain("localhost")) => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Some(Host::Ipv4(address)) if address.is_loopback() => vec![address.into()],
            Some(Host::Ipv6(address)) if address.is_loopback() => vec![address.into()],
            _ => Vec::new(),
        }
    }

    /// Its host, an IPv6 literal without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Its port, the scheme's default filled in; 0: any.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The same with the port that was found for 0.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        let mut url = self.url.clone();
        // Every http URL with a host can have a port.
        let _ = url.set_port(Some(port));
        Self {
            text: url.as_str().to_owned(),
            url,
        }
    }

    /// What a Host field of a request for it holds: the scheme's default port left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Its path, as a browser asks for it.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// Its own query, which comes back before what the authorization server adds.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// Whether `other` is this address with whatever query and fragment.
    pub(super) fn is_same_place(&self, other: &Url) -> bool {
        self.url.origin() == other.origin()
            && self.url.path() == other.path()
            && other.username().is_empty()
            && other.password().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> RedirectUri {
        RedirectUri::parse(text).unwrap()
    }

    #[test]
    fn it_is_kept_as_it_was_written() {
        for text in [
            "http://127.0.0.1:8765/callback",
            "http://127.0.0.1:8765",
            "https://localhost:8765/",
            "https://school.example/oauth/callback?tenant=1",
        ] {
            assert_eq!(uri(text).as_str(), text);
        }
    }

    #[test]
    fn its_parts_are_what_a_listener_needs() {
        let plain = uri("http://127.0.0.1:8765/callback");
        assert!(!plain.is_tls());
        assert_eq!(plain.loopback(), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(
            (plain.port(), plain.authority().as_str(), plain.path()),
            (8765, "127.0.0.1:8765", "/callback")
        );
        let secure = uri("https://localhost/");
        assert!(secure.is_tls());
        assert_eq!(secure.loopback().len(), 2);
        assert_eq!(
            (secure.port(), secure.authority().as_str()),
            (443, "localhost")
        );
        assert_eq!(uri("http://[::1]:9/x").authority(), "[::1]:9");
        assert!(uri("https://school.example/x").loopback().is_empty());
    }

    #[test]
    fn port_0_becomes_the_port_that_was_found() {
        let any = uri("http://127.0.0.1:0/callback");
        assert_eq!(any.port(), 0);
        assert_eq!(
            any.with_port(4711).as_str(),
            "http://127.0.0.1:4711/callback"
        );
    }

    #[test]
    fn what_cannot_be_one_is_refused_and_says_why() {
        use InvalidRedirectUri::{Fragment, NotAUrl, PlainHttp, UserInfo};
        for (text, why) in [
            ("", NotAUrl),
            ("callback", NotAUrl),
            ("http:127.0.0.1/x", NotAUrl),
            ("http:///127.0.0.1/x", NotAUrl),
            ("urn:ietf:wg:oauth:2.0:oob", NotAUrl),
            ("com.example.app:/callback", NotAUrl),
            ("ftp://127.0.0.1/x", NotAUrl),
            ("http://127.0.0.1/a b", NotAUrl),
            ("http://127.0.0.1\\x", NotAUrl),
            ("http://127.0.0.1:99999/", NotAUrl),
            ("http://127.0.0.1/x#y", Fragment),
            ("http://ann@127.0.0.1/x", UserInfo),
            ("http://school.example/x", PlainHttp),
            ("http://localhost.example/x", PlainHttp),
            ("http://10.0.0.1/x", PlainHttp),
        ] {
            assert_eq!(RedirectUri::parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn plain_http_never_leaves_this_machine(text in "http://[a-z0-9.:@\\[\\]]{1,20}(/[a-z]{0,5})?") {
            if let Ok(uri) = RedirectUri::parse(&text) {
                prop_assert!(!uri.loopback().is_empty());
                prop_assert_eq!(uri.as_str(), text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = RedirectUri::parse(&text);
        }
    }
}
