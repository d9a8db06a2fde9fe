//! Which upstream a URL means: the LMS's own, or the one by which the application calls bursar.

use http::Uri;

use crate::{
    config::{Config, UpstreamConfig},
    proxy::HostName,
    socket::Address,
};

/// Why no upstream can be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoUpstream {
    /// A bare path, or a name of bursar's own, and several upstreams: these.
    Several(Vec<String>),
    /// A host that is none of ours.
    Unknown(String),
}

/// The upstream that `url` means.
pub(super) fn upstream<'a>(
    config: &'a Config,
    url: &Uri,
) -> Result<&'a UpstreamConfig, NoUpstream> {
    let Some(called) = Called::of(url) else {
        return only(config);
    };
    let named = config
        .upstreams
        .iter()
        .find(|upstream| called.is_upstream(upstream));
    match named {
        Some(upstream) => Ok(upstream),
        None if called.is_this_bursar(config) => only(config),
        None => Err(NoUpstream::Unknown(called.host)),
    }
}

fn only(config: &Config) -> Result<&UpstreamConfig, NoUpstream> {
    match config.upstreams.as_slice() {
        [upstream] => Ok(upstream),
        several => Err(NoUpstream::Several(
            several
                .iter()
                .map(|upstream| upstream.params.name.to_string())
                .collect(),
        )),
    }
}

/// Host and port as the URL has them, the scheme's default port filled in.
struct Called {
    host: String,
    port: u16,
}

impl Called {
    /// `None` for a bare path.
    fn of(url: &Uri) -> Option<Self> {
        let authority = url.authority()?;
        let default = if url.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        Some(Self {
            host: authority
                .host()
                .trim_matches(['[', ']'])
                .trim_end_matches('.')
                .to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(default),
        })
    }

    fn is_upstream(&self, upstream: &UpstreamConfig) -> bool {
        let params = &upstream.params;
        let origin = &params.dialer.origin;
        let is_origin = *origin.host == *self.host && origin.port == self.port;
        let own_listener = params
            .listen
            .as_ref()
            .is_some_and(|listen| self.is_listener(listen));
        is_origin || own_listener || params.hosts.iter().any(|name| self.is(name))
    }

    fn is_this_bursar(&self, config: &Config) -> bool {
        let server = &config.server;
        self.is_listener(&server.listen) || server.hosts.iter().any(|name| self.is(name))
    }

    /// A Unix socket has no port of its own; its Host has the scheme's.
    fn is_listener(&self, listen: &Address) -> bool {
        self.is_loopback() && listen.port().unwrap_or(80) == self.port
    }

    fn is(&self, name: &HostName) -> bool {
        name.host == self.host && name.port.is_none_or(|port| port == self.port)
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(url: &str) -> Option<(String, u16)> {
        Called::of(&url.parse().unwrap()).map(|called| (called.host, called.port))
    }

    #[test]
    fn the_default_port_is_that_of_the_scheme() {
        let lms = |port| Some(("lms.example.edu".to_owned(), port));
        assert_eq!(called("https://lms.example.edu/x"), lms(443));
        assert_eq!(called("http://LMS.example.edu./x"), lms(80));
        assert_eq!(called("http://lms.example.edu:8443/x"), lms(8443));
        assert_eq!(
            called("http://[::1]:8080/x"),
            Some(("::1".to_owned(), 8080))
        );
        assert_eq!(called("/x"), None);
    }

    #[test]
    fn a_name_without_a_port_is_ours_on_any_port() {
        let called = Called::of(&"http://bursar:9000/x".parse().unwrap()).unwrap();
        let name = |port| HostName {
            host: "bursar".to_owned(),
            port,
        };
        assert!(called.is(&name(None)));
        assert!(called.is(&name(Some(9000))));
        assert!(!called.is(&name(Some(9001))));
    }
}
