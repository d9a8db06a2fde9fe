//! Where bursar listens, and who can reach it there (R76).

use std::net::SocketAddr;

use super::{Claims, file::mode_for_others};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault,
            address::{Listen, ListenTcp},
        },
    },
    socket::Address,
};

/// What has to be said before a listener of the proxy may be reached from other machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// `server.allow_remote`.
    is_allowed: bool,
    /// `server.caller_key_file` is set. What is in it is another matter.
    has_key: bool,
}

impl Reach {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let table = reader.section("server");
        Self {
            is_allowed: reader.get(&table, "allow_remote").unwrap_or_default(),
            has_key: table.has("caller_key_file"),
        }
    }
}

/// A listener of the proxy: on this machine, unless others are meant and asked for a key.
pub(super) fn proxy(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
    reach: Reach,
) -> Option<Address> {
    let Listen(address) = reader.get(table, key)?;
    let missing = match (address.is_local(), reach.is_allowed, reach.has_key) {
        (true, ..) | (false, true, true) => None,
        (false, true, false) => Some(
            "set server.caller_key_file too (`openssl rand -base64 32` makes a key)".to_owned(),
        ),
        (false, false, _) => Some(format!(
            "{}; if other machines are meant, set server.allow_remote = true and server.caller_key_file",
            on_loopback(&address)
        )),
    };
    if let Some(help) = missing {
        let what = format!(
            "{address} is not a loopback address: other machines could use the LMS with bursar's token, and nothing would \
             ask them who they are"
        );
        let fault = Fault::new(ProblemCode::ExposedListener, what, help);
        reader.fault(table, key, fault);
        return None;
    }
    Some(claim(reader, claims, table, key, address))
}

/// The control socket: never for other machines.
pub(super) fn control(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
) -> Option<Address> {
    let Listen(address) = reader.get(table, key)?;
    if !address.is_local() {
        let fault = Fault::new(
            ProblemCode::ExposedListener,
            format!(
                "{address} is not a loopback address; that would show the state of every credential to other machines"
            ),
            on_loopback(&address),
        );
        reader.fault(table, key, fault);
        return None;
    }
    Some(claim(reader, claims, table, key, address))
}

/// A listener that shows nothing which not everybody may see.
pub(super) fn anywhere(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
) -> Option<SocketAddr> {
    let ListenTcp(address) = reader.get(table, key)?;
    claims.listener(table, key, address.into());
    Some(address)
}

fn on_loopback(address: &Address) -> String {
    let port = address.port().unwrap_or_default();
    format!(
        "listen on 127.0.0.1:{port} or [::1]:{port}, which containers of one pod share, or on a Unix socket"
    )
}

fn claim(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
    address: Address,
) -> Address {
    if let Address::Unix(path) = &address
        && let Some(directory) = path.parent()
        && let Some(mode) = mode_for_others(directory)
    {
        let fault = Fault::new(
            ProblemCode::ExposedListener,
            format!(
                "others can write to the directory of the socket (mode {mode:04o}), and so put a socket of their own in its \
                 place"
            ),
            "chmod o-w the directory. In a pod, mount an emptyDir into no containers but the two that use it; its mode is \
             0777 unless a subPath or fsGroup makes it another",
        );
        reader.fault(table, key, fault.warning());
    }
    claims.listener(table, key, address.clone());
    address
}
