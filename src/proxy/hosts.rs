//! Which upstream a request is for: exactly one Host, one of ours, at the listener's port (R26-R28).

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::{
    HeaderMap, HeaderValue,
    header::HOST,
    request::Parts,
    uri::{Authority, Scheme},
};

use super::{HostName, UpstreamParams, reject::Rejection};
use crate::code::Code;

/// The application's side is plain HTTP: what Host means without a port.
pub(super) const DEFAULT_PORT: u16 = 80;

/// The names of one listener.
#[derive(Debug)]
pub(super) struct Directory {
    /// Canonical spellings, as [`Name::canonical`] writes them.
    upstreams: HashMap<String, usize>,
    /// For the loopback names that are not spelled out: all of 127.0.0.0/8.
    loopback: Option<usize>,
    port: u16,
    /// For the detail of a 421.
    names: String,
}

/// A host and, unless it is the scheme's default, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// Lower case, no trailing dot; an IPv6 address in brackets, in its canonical form.
    host: String,
    port: Option<u16>,
}

impl Directory {
    /// `own`: the upstream whose listener this is. The names by which bursar itself is called select
    /// it, or the only upstream there is.
    pub(super) fn new(
        server_hosts: &[HostName],
        upstreams: &[&UpstreamParams],
        own: Option<usize>,
        port: u16,
    ) -> Self {
        let only = (upstreams.len() == 1).then_some(0);
        let loopback = own.or(only);
        let mut directory = Self {
            upstreams: HashMap::new(),
            loopback,
            port,
            names: String::new(),
        };
        if let Some(index) = loopback {
            for host in ["localhost", "127.0.0.1", "[::1]"] {
                directory.add(&Name::new(host, Some(port), DEFAULT_PORT), index);
            }
            for name in server_hosts {
                directory.add_host(name, index);
            }
        }
        for (index, upstream) in upstreams.iter().enumerate() {
            for name in &upstream.hosts {
                directory.add_host(name, index);
            }
            directory.add_origin(upstream, index);
        }
        let mut names: Vec<&str> = directory.upstreams.keys().map(String::as_str).collect();
        names.sort_unstable();
        directory.names = names.join(", ");
        directory
    }

    /// The upstream that the request names.
    pub(super) fn choose(&self, head: &Parts) -> Result<usize, Rejection> {
        let host = only_host(&head.headers)?;
        if let Some(authority) = head.uri.authority() {
            check_absolute_form(head.uri.scheme(), authority, host)?;
        }
        // Nearly every application spells the name as configured.
        if let Some(index) = host.to_str().ok().and_then(|host| self.upstreams.get(host)) {
            return Ok(*index);
        }
        let name = Name::parse(host.as_bytes(), DEFAULT_PORT).ok_or_else(invalid)?;
        self.upstreams
            .get(&name.canonical())
            .copied()
            .or_else(|| self.loopback.filter(|_| self.is_loopback(&name)))
            .ok_or_else(|| self.misdirected())
    }

    fn add_host(&mut self, name: &HostName, index: usize) {
        let mut add = |port| self.add(&Name::new(&name.host, port, DEFAULT_PORT), index);
        add(name.port);
        if name.port.is_none() {
            let listener = self.port;
            self.add(&Name::new(&name.host, Some(listener), DEFAULT_PORT), index);
        }
    }

    /// The LMS's own name: what an application sends whose requests were diverted here.
    fn add_origin(&mut self, upstream: &UpstreamParams, index: usize) {
        let origin = &upstream.dialer.origin;
        let default = if origin.tls { 443 } else { DEFAULT_PORT };
        if origin.port == default {
            self.add(&Name::new(&origin.host, None, DEFAULT_PORT), index);
        }
        self.add(
            &Name::new(&origin.host, Some(origin.port), DEFAULT_PORT),
            index,
        );
    }

    /// The first to claim a name keeps it; that two upstreams claim one is refused by `config`.
    fn add(&mut self, name: &Name, index: usize) {
        self.upstreams.entry(name.canonical()).or_insert(index);
    }

    fn is_loopback(&self, name: &Name) -> bool {
        let is_address = name
            .host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback());
        is_address && name.port.unwrap_or(DEFAULT_PORT) == self.port
    }

    fn misdirected(&self) -> Rejection {
        Rejection::new(
            Code::MisdirectedRequest,
            format!("Host must be one of: {}.", self.names),
        )
    }
}

impl Name {
    fn new(host: &str, port: Option<u16>, default_port: u16) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = match bare.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host.to_ascii_lowercase(),
        };
        Self {
            host,
            port: port.filter(|port| *port != default_port),
        }
    }

    /// `uri-host [ ":" port ]` (RFC 9110 section 7.2), as narrow as real hosts are: a DNS name, an IPv4
    /// address or an IPv6 address in brackets. One trailing dot is dropped.
    fn parse(text: &[u8], default_port: u16) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Self::ipv6(address)?, port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Self::dns_name(host)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self {
            host,
            port: port.filter(|port| *port != default_port),
        })
    }

    fn ipv6(text: &str) -> Option<String> {
        let address: Ipv6Addr = text.parse().ok()?;
        Some(format!("[{address}]"))
    }

    fn dns_name(text: &str) -> Option<String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    // Container networks have underscores in their names.
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        name.split('.')
            .all(is_label)
            .then(|| name.to_ascii_lowercase())
    }

    fn canonical(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn only_host(headers: &HeaderMap) -> Result<&HeaderValue, Rejection> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host),
        _ => Err(invalid()),
    }
}

/// The authority of an absolute-form target must be that of Host (RFC 9112 section 3.2.2).
fn check_absolute_form(
    scheme: Option<&Scheme>,
    authority: &Authority,
    host: &HeaderValue,
) -> Result<(), Rejection> {
    let default_port = match scheme.map(Scheme::as_str) {
        Some("http") => DEFAULT_PORT,
        Some("https") => 443,
        _ => return Err(invalid()),
    };
    let target = Name::parse(authority.as_str().as_bytes(), default_port).ok_or_else(invalid)?;
    let host = Name::parse(host.as_bytes(), default_port).ok_or_else(invalid)?;
    if target == host {
        Ok(())
    } else {
        Err(invalid())
    }
}

fn invalid() -> Rejection {
    Rejection::new(
        Code::HostInvalid,
        "A request has exactly one Host: a name or an address, and a port if it is not the default; \
         an absolute target names the same.",
    )
}

#[cfg(test)]
mod tests;
