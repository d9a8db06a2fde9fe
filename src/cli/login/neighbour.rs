//! Whose process it is that connects over loopback: another user of this machine has no business with our login
//! (RFC 8252 section 8.3).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::socket::is_us_or_root;

/// What Linux keeps of every TCP socket (proc_pid_net(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whether the system says that the connection from `peer` to `local` is another user's. Where it says nothing (another
/// system, another network namespace), nobody is turned away: only the `state` proves anything.
pub(super) fn is_somebody_elses(peer: SocketAddr, local: SocketAddr) -> bool {
    TABLES
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| owner(&table, peer, local))
        .is_some_and(|uid| !is_us_or_root(uid))
}

/// The user of the socket that is bound to `from` and connected to `to`.
fn owner(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
        // State, queues, timer, retransmits.
        let uid = fields.nth(4)?;
        (local == canonical(from) && remote == canonical(to)).then(|| uid.parse().ok())?
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
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    fn uid_of(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
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
            assert_eq!(
                uid_of(peer, local),
                Some(rustix::process::geteuid().as_raw()),
                "{host}"
            );
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
        assert_eq!(uid_of(peer, local), Some(65_534));
        assert_eq!(is_somebody_elses(peer, local), !is_us_or_root(65_534));
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
        assert_eq!(found, Some(1000));
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
