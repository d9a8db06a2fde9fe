//! Addresses and names that only one may have.

use std::net::IpAddr;

use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, address::BaseUrl},
    },
    proxy::HostName,
    socket::Address,
};

/// Who claims what, gathered section by section.
#[derive(Default)]
pub(super) struct Claims {
    listeners: Vec<(Table, &'static str, Address)>,
    names: Vec<(Table, &'static str, HostName)>,
    origins: Vec<(Table, BaseUrl)>,
    own_names: Vec<HostName>,
}

impl Claims {
    /// A listener binds an address.
    pub(super) fn listener(&mut self, table: &Table, key: &'static str, address: Address) {
        self.listeners.push((table.clone(), key, address));
    }

    /// An upstream answers to a name.
    pub(super) fn name(&mut self, table: &Table, key: &'static str, name: HostName) {
        self.names.push((table.clone(), key, name));
    }

    /// An upstream is at an origin, and answers to its authority.
    pub(super) fn origin(&mut self, table: &Table, base: &BaseUrl) {
        self.name(
            table,
            "base_url",
            HostName {
                host: base.origin.host.to_string(),
                port: Some(base.origin.port),
            },
        );
        self.origins.push((table.clone(), base.clone()));
    }

    /// Whether a listener claimed so far is a Unix socket of the proxy, with permissions of its own.
    pub(super) fn has_unix_socket(&self) -> bool {
        self.listeners
            .iter()
            .any(|(_, key, address)| *key == "listen" && address.tcp().is_none())
    }

    /// Applications call bursar itself by a name.
    pub(super) fn own_name(&mut self, name: HostName) {
        self.own_names.push(name);
    }

    /// Notes every claim that an earlier one excludes.
    pub(super) fn check(&self, reader: &mut Reader) {
        let mut earlier: Vec<&(Table, &str, Address)> = Vec::new();
        for claim in &self.listeners {
            let (table, key, address) = claim;
            if let Some((other, other_key, _)) = earlier
                .iter()
                .find(|(.., other)| is_same_socket(other, address))
            {
                let fault = Fault::new(
                    ProblemCode::ListenerConflict,
                    format!("{address} is the address of {} too", other.key(other_key)),
                    "give each listener a port or a socket of its own",
                );
                reader.fault(table, key, fault);
            }
            earlier.push(claim);
        }

        let mut earlier: Vec<&(Table, &str, HostName)> = Vec::new();
        for claim in &self.names {
            let (table, key, name) = claim;
            if let Some((other, other_key, _)) = earlier.iter().find(|(other, _, other_name)| {
                other.path() != table.path() && is_same_name(other_name, name)
            }) {
                let fault = Fault::new(
                    ProblemCode::NameConflict,
                    format!(
                        "{:?} already selects another upstream, by {}",
                        shown(name),
                        other.key(other_key)
                    ),
                    "a request's Host must select one upstream: make it one upstream, or remove the name from one of the two",
                );
                reader.fault(table, key, fault);
            }
            earlier.push(claim);
        }

        for (table, base) in &self.origins {
            let own = self
                .listeners
                .iter()
                .find(|(.., address)| self.is_reached_by(address, base));
            if let Some((other, key, _)) = own {
                let fault = Fault::new(
                    ProblemCode::Loop,
                    format!("is a listener of this bursar ({})", other.key(key)),
                    "write the URL of the LMS",
                );
                reader.fault(table, "base_url", fault);
            }
        }
    }

    /// Whether requests to `base` would arrive at our own listener (R39), as far as can be told without the network.
    fn is_reached_by(&self, listener: &Address, base: &BaseUrl) -> bool {
        let Some(listener) = listener.tcp() else {
            return false;
        };
        let (ip, host) = (listener.ip().to_canonical(), &*base.origin.host);
        let is_its_name = |name: &HostName| {
            name.host == host && name.port.is_none_or(|port| port == listener.port())
        };
        listener.port() == base.origin.port
            && (base.is_loopback && (ip.is_loopback() || ip.is_unspecified())
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|host| host.to_canonical() == ip)
                || self.own_names.iter().any(is_its_name))
    }
}

/// Whether the second bind would fail, or take the first one's connections.
fn is_same_socket(one: &Address, other: &Address) -> bool {
    let (Some(one), Some(other)) = (one.tcp(), other.tcp()) else {
        return one == other;
    };
    let covers = |one: IpAddr, other: IpAddr| {
        // The IPv6 wildcard takes IPv4 connections too.
        one == other || (one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    // Port 0 becomes a free one.
    one.port() != 0
        && one.port() == other.port()
        && (covers(one_ip, other_ip) || covers(other_ip, one_ip))
}

/// A name without a port stands for whichever port the listener has.
/// With its port, if it has one: two upstreams may well share a host.
fn shown(name: &HostName) -> String {
    let host = match name.host.contains(':') {
        true => format!("[{}]", name.host),
        false => name.host.clone(),
    };
    match name.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn is_same_name(one: &HostName, other: &HostName) -> bool {
    one.host == other.host
        && match (one.port, other.port) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_covers_the_addresses_of_its_port() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        let same = |one: &str, other: &str| is_same_socket(&tcp(one), &tcp(other));
        assert!(same("127.0.0.1:80", "127.0.0.1:80"));
        assert!(same("0.0.0.0:80", "127.0.0.1:80"));
        assert!(same("127.0.0.1:80", "[::]:80"));
        assert!(!same("127.0.0.1:80", "[::1]:80"));
        assert!(!same("0.0.0.0:80", "[::1]:80"));
        assert!(!same("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!same("127.0.0.1:0", "127.0.0.1:0"));
    }

    #[test]
    fn a_name_is_shown_as_it_would_stand_in_a_url() {
        let name = |host: &str, port| HostName {
            host: host.to_owned(),
            port,
        };
        assert_eq!(shown(&name("lms.localhost", None)), "lms.localhost");
        assert_eq!(shown(&name("127.0.0.1", Some(9400))), "127.0.0.1:9400");
        assert_eq!(shown(&name("::1", Some(9400))), "[::1]:9400");
    }
}
