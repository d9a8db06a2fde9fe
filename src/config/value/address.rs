//! Listeners, host names and URLs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

use figment::value::Value;
use http::uri::PathAndQuery;
use url::{Host, Url};

use super::{
    Fault, FromValue, list, list_from_text, looks_secret,
    shape::{self, Shape},
    socket, string,
};
use crate::{config::problem::ProblemCode, dial::Origin, proxy::HostName, socket::Address};

/// Where a listener is: a port, or a Unix socket.
#[derive(Clone, Debug)]
pub(in crate::config) struct Listen(pub(in crate::config) Address);

impl FromValue for Listen {
    const SHAPE: Shape = Shape::Text(shape::LISTEN_OR_UNIX);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"an address such as "127.0.0.1:8080""#)?;
        match text.strip_prefix(socket::PREFIX) {
            Some(path) => socket::path(path).map(Address::Unix),
            None => ListenTcp::from_value(value).map(|listen| listen.0.into()),
        }
        .map(Self)
    }
}

/// The address of a listener that people reach from elsewhere; port 0 asks the system for a free one.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ListenTcp(pub(in crate::config) SocketAddr);

impl FromValue for ListenTcp {
    const SHAPE: Shape = Shape::Text(shape::LISTEN);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"an address such as "127.0.0.1:8080""#)?;
        let localhost = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let address = localhost.or_else(|| text.parse().ok());
        address.map(Self).ok_or_else(|| {
            Fault::invalid(
                format!("{text:?} is not an address to listen on"),
                r#"write IP:PORT, as in "127.0.0.1:8080" or "[::1]:8080""#,
            )
        })
    }
}

/// A list of names by which bursar is called.
impl FromValue for Vec<HostName> {
    const SHAPE: Shape = Shape::List {
        items: shape::TEXT,
        min: 0,
    };

    fn from_text(text: &str) -> Value {
        list_from_text(text)
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        list(value)?.iter().map(host_name).collect()
    }
}

fn host_name(value: &Value) -> Result<HostName, Fault> {
    let text = string(value, "a string")?;
    let fault = || {
        Fault::invalid(
            format!("{text:?} is not a host name"),
            r#"write a name or an IP address, with or without a port: "bursar", "localhost:9000", "[::1]:9000""#,
        )
    };
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an IPv6 literal is inside its brackets.
        Some((host, port)) if !port.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port
                .parse::<u16>()
                .ok()
                .filter(|port| is_number && *port > 0);
            (host, Some(port.ok_or_else(fault)?))
        }
        _ => (text, None),
    };
    let host = Host::parse(host).map_err(|_| fault())?;
    let host = bare(&host);
    if host.is_empty() {
        return Err(fault());
    }
    Ok(HostName { host, port })
}

/// Lower case, no brackets, no trailing dot.
pub(super) fn bare<S: AsRef<str>>(host: &Host<S>) -> String {
    match host {
        Host::Domain(name) => {
            let name = name.as_ref();
            name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
        }
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

/// Where an LMS is: an origin, nothing behind it.
#[derive(Clone, Debug)]
pub(in crate::config) struct BaseUrl {
    /// The origin.
    pub(in crate::config) origin: Origin,
    /// Whether it is on this machine.
    pub(in crate::config) is_loopback: bool,
}

impl FromValue for BaseUrl {
    const SHAPE: Shape = Shape::Text(shape::ORIGIN);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "https://school.example""#)?;
        let url = parse(text)?;
        let behind = text
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once(['/', '?']))
            .map_or("", |(_, behind)| behind);
        if !behind.is_empty() || url.query().is_some() {
            return Err(Fault::new(
                ProblemCode::InvalidUrl,
                "is not an origin: there is a path or a query behind the host",
                "end it after the host or the port; paths of routes are whole paths of the LMS",
            ));
        }
        Ok(Self {
            origin: origin(&url)?,
            is_loopback: is_loopback(&url),
        })
    }
}

/// Where a token endpoint is: `https`, or plain on this machine.
#[derive(Clone, Debug)]
pub(in crate::config) struct TokenUrl {
    /// As a person wrote it: the default audience, which servers compare byte by byte.
    pub(in crate::config) text: String,
    /// The origin.
    pub(in crate::config) origin: Origin,
    /// Path and query.
    pub(in crate::config) path: PathAndQuery,
}

impl FromValue for TokenUrl {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "https://auth.example/token""#)?;
        let fault = || {
            Fault::new(
                ProblemCode::PlainHttp,
                "would send the client's credentials unencrypted",
                "write https://; only a token endpoint on loopback may be plain http",
            )
        };
        let (origin, path) = secured(text, fault)?;
        Ok(Self {
            text: text.to_owned(),
            origin,
            path,
        })
    }
}

/// Where a key set is published: `https`, or plain on this machine.
#[derive(Clone, Debug)]
pub(in crate::config) struct JwksUrl {
    /// The origin.
    pub(in crate::config) origin: Origin,
    /// Path and query.
    pub(in crate::config) path: PathAndQuery,
}

impl FromValue for JwksUrl {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "https://keys.example/jwks.json""#)?;
        let fault = || {
            Fault::new(
                ProblemCode::PlainHttp,
                "would let anybody on the way put keys of their own in the place of the published ones",
                "write https://; only a key set on loopback may be served over plain http",
            )
        };
        let (origin, path) = secured(text, fault)?;
        Ok(Self { origin, path })
    }
}

/// Origin and path of a URL that is `https`, or on this machine; else `fault`.
pub(super) fn secured(
    text: &str,
    fault: impl Fn() -> Fault,
) -> Result<(Origin, PathAndQuery), Fault> {
    let url = parse(text)?;
    let origin = origin(&url)?;
    if !origin.tls && !is_loopback(&url) {
        return Err(fault());
    }
    let path = url.query().map_or_else(
        || url.path().to_owned(),
        |query| format!("{}?{query}", url.path()),
    );
    let path = PathAndQuery::from_str(&path).map_err(|_| not_a_url(text))?;
    Ok((origin, path))
}

pub(super) fn parse(text: &str) -> Result<Url, Fault> {
    if looks_secret(text) {
        return Err(Fault::new(
            ProblemCode::InvalidUrl,
            "holds a user name or a password",
            "remove everything up to the `@`; credentials have keys of their own",
        ));
    }
    let is_odd =
        |character: char| character.is_control() || character.is_whitespace() || character == '\\';
    if text.contains(is_odd) {
        return Err(not_a_url(text));
    }
    // The parser would mend `https:host` and `https:///host`.
    let url = Url::parse(text).map_err(|_| not_a_url(text))?;
    let is_http = matches!(url.scheme(), "http" | "https");
    let has_host = text
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.starts_with('/'));
    if !is_http || !has_host {
        return Err(not_a_url(text));
    }
    if url.fragment().is_some() {
        return Err(Fault::new(
            ProblemCode::InvalidUrl,
            "holds a fragment",
            "remove everything from the `#`",
        ));
    }
    Ok(url)
}

fn not_a_url(text: &str) -> Fault {
    Fault::new(
        ProblemCode::InvalidUrl,
        format!("{text:?} is not an http or https URL"),
        r#"write scheme, host and, where needed, port: "https://school.example""#,
    )
}

fn origin(url: &Url) -> Result<Origin, Fault> {
    let host = url.host().map(|host| bare(&host)).unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) if !host.is_empty() && port > 0 => Ok(Origin {
            tls: url.scheme() == "https",
            host: host.into(),
            port,
        }),
        _ => Err(not_a_url(url.as_str())),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Result<BaseUrl, Fault> {
        BaseUrl::from_value(&Value::from(text))
    }

    #[test]
    fn a_base_url_is_an_origin() {
        let lms = base("https://School.Brightspace.com/").unwrap();
        assert!(lms.origin.tls);
        assert_eq!(&*lms.origin.host, "school.brightspace.com");
        assert_eq!(lms.origin.port, 443);
        let local = base("http://[::1]:8080").unwrap();
        assert!(local.is_loopback);
        assert_eq!(&*local.origin.host, "::1");
        for wrong in [
            "https://a.example/d2l",
            "https://a.example//",
            "https://a.example/x/..",
            "https://a.example?x=1",
            "https://a.example#f",
            "https://user@a.example",
            "https://",
            "https:a.example",
            "https:///a.example",
            "https://a\\b.example",
            "https://a .example",
            "ftp://a.example",
            "a.example",
            "",
        ] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let fault = base("https://user:canary@a.example").unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"));
    }

    #[test]
    fn a_token_url_is_encrypted_unless_it_is_on_this_machine() {
        let of = |text: &str| TokenUrl::from_value(&Value::from(text));
        let url = of("https://auth.example/core/connect/token?x=1").unwrap();
        assert_eq!(url.path.as_str(), "/core/connect/token?x=1");
        assert_eq!(url.text, "https://auth.example/core/connect/token?x=1");
        assert_eq!(of("https://auth.example").unwrap().path.as_str(), "/");
        assert!(of("http://127.0.0.1:9/token").is_ok());
        assert!(of("http://localhost/token").is_ok());
        assert!(of("http://auth.example/token").is_err());
        assert!(of("http://127.0.0.1.example/token").is_err());
    }

    #[test]
    fn host_names_are_compared_in_one_form() {
        let of = |text: &str| host_name(&Value::from(text)).ok();
        let name = |host: &str, port| {
            Some(HostName {
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(of("LMS.Localhost."), name("lms.localhost", None));
        assert_eq!(of("localhost:9000"), name("localhost", Some(9000)));
        assert_eq!(of("[::1]:80"), name("::1", Some(80)));
        assert_eq!(of("[::1]"), name("::1", None));
        for wrong in [
            "", "a b", "a:b", "a:", "a:+1", "a:0", "a/b", "http://a", "a:99999", ".",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_listener_is_an_address_with_a_port() {
        let of = |text: &str| Listen::from_value(&Value::from(text)).map(|listen| listen.0);
        assert!(of("127.0.0.1:0").unwrap().is_local());
        assert!(of("localhost:8080").unwrap().is_local());
        assert!(of("[::ffff:127.0.0.1]:1").unwrap().is_local());
        assert!(!of("0.0.0.0:8080").unwrap().is_local());
        assert_eq!(of("unix:/run/x").unwrap().to_string(), "unix:/run/x");
        assert!(ListenTcp::from_value(&Value::from("unix:/run/x")).is_err());
        for wrong in [
            ":8080",
            "8080",
            "bursar:8080",
            "127.0.0.1",
            "unix:run/x",
            "127.0.0.1:65536",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
