//! Whose process it is that connects over loopback: another user of this machine has no business with our login
//! (RFC 8252 section 8.3).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::socket::is_us_or_root;

/// What Linux keeps of every TCP socket (proc_pid_net(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The state of a connection that both ends hold open, as the tables write it.
const ESTABLISHED: &str = "01";

/// How often the tables are read for a connection that is not in them: a row can be passed over while others come and go.
const READINGS: usize = 3;

/// Whether the connection from `peer` to `local` is another user's, or nobody's any more: a process that sends its request
/// and closes at once leaves a socket of which the system no longer knows the user. Where there is no table (another
/// system), nobody is turned away: only the `state` proves anything.
pub(super) fn is_somebody_elses(peer: SocketAddr, local: SocketAddr) -> bool {
    for _ in 0..READINGS {
        let mut tables = TABLES
            .into_iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .peekable();
        if tables.peek().is_none() {
            return false;
        }
        if let Some(owner) = tables.find_map(|table| owner(&table, peer, local)) {
            return !matches!(owner, Owner::User(uid) if is_us_or_root(uid));
        }
    }
    true
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A process of this user has it open.
    User(u32),
    /// It is closed, or on its way there: the row's user says nothing (it is 0).
    Nobody,
}

/// Whose the socket is that is bound to `from` and connected to `to`.
fn owner(table: &str, from: SocketAddr, to: SocketAddr) -> Option<Owner> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
        if local != canonical(from) || remote != canonical(to) {
            return None;
        }
        let is_open = fields.next()? == ESTABLISHED;
        // Queues, timer, retransmits.
        let uid = fields.nth(3)?.parse().ok()?;
        // Timeout.
        let inode = fields.nth(1)?;
        Some(match is_open && inode != "0" {
            true => Owner::User(uid),
            false => Owner::Nobody,
        })
    })
}

/// `0100007F:1F90` or 32 digits before the colon: words of four bytes in the machine's order.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0_u8; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use proptest::prelude::*;

    use super::*;

    fn owner_of(peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
        TABLES
            .into_iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| owner(&table, peer, local))
    }

    #[test]
    fn a_connection_of_ours_is_ours() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let local = listener.local_addr().unwrap();
            let _client = TcpStream::connect(local).unwrap();
            let (_served, peer) = listener.accept().unwrap();
            let us = Owner::User(rustix::process::geteuid().as_raw());
            assert_eq!(owner_of(peer, local), Some(us), "{host}");
            assert!(!is_somebody_elses(peer, local));
        }
    }

    #[test]
    fn a_connection_of_another_user_is_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        // The uid is that of the thread; glibc would change that of the process.
        let client = std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            TcpStream::connect(local).unwrap()
        });
        let (_served, peer) = listener.accept().unwrap();
        let _client = client.join().unwrap();
        assert_eq!(owner_of(peer, local), Some(Owner::User(65_534)));
        assert_eq!(is_somebody_elses(peer, local), !is_us_or_root(65_534));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_closes_at_once_is_not_taken_for_root() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(local).unwrap();
        client
            .write_all(b"GET /callback?code=1 HTTP/1.1\r\n\r\n")
            .unwrap();
        drop(client);
        let (_served, peer) = listener.accept().unwrap();
        assert!(is_somebody_elses(peer, local));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_that_the_system_does_not_know_is_not_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(is_somebody_elses(nobody, local));
    }

    #[test]
    fn a_socket_counts_for_its_user_only_while_it_is_open() {
        let addresses: (SocketAddr, SocketAddr) = (
            "[::1]:50000".parse().unwrap(),
            "[::1]:8080".parse().unwrap(),
        );
        let ip = format!("{}{:08X}", "0".repeat(24), u32::from_ne_bytes([0, 0, 0, 1]));
        for (state, inode, expected) in [
            ("01", 7, Owner::User(0)),
            ("01", 0, Owner::Nobody),
            ("04", 7, Owner::Nobody),
            ("05", 0, Owner::Nobody),
            ("06", 0, Owner::Nobody),
        ] {
            let table = format!("head\n 0: {ip}:C350 {ip}:1F90 {state} 0:0 00:0 0 0 0 {inode}\n");
            let found = owner(&table, addresses.0, addresses.1);
            assert_eq!(found, Some(expected), "{state} {inode}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let (from, to) = ("127.0.0.1:50000", "127.0.0.1:8080");
        let word = |address: &str| {
            let ip: Ipv4Addr = address.split_once(':').unwrap().0.parse().unwrap();
            format!("{:08X}", u32::from_ne_bytes(ip.octets()))
        };
        let ffff = format!("{:08X}", u32::from_ne_bytes([0, 0, 0xff, 0xff]));
        let mapped =
            |address: &str, port: u16| format!("{:016X}{ffff}{}:{port:04X}", 0, word(address));
        let table = format!(
            "  sl  local_address\n   0: {} {} 01 0:0 00:0 0 1000 0 1\n",
            mapped(from, 50_000),
            mapped(to, 8_080)
        );
        let found = owner(&table, from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(found, Some(Owner::User(1000)));
        assert_eq!(
            owner(&table, to.parse().unwrap(), from.parse().unwrap()),
            None
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in ".{0,120}") {
            let from = SocketAddr::from(([127, 0, 0, 1], 1));
            let _ = owner(&format!("x\n{line}"), from, from);
            let _ = address(&line);
        }
    }
}
