//! Where bursar listens, and who can reach it there (R76).

use std::net::SocketAddr;

use super::Claims;
use crate::config::{
    problem::ProblemCode,
    reader::{Reader, Table},
    value::{Fault, address::Listen},
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

/// A listener of the proxy: on loopback, unless other machines are meant and asked for a key.
pub(super) fn proxy(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
    reach: Reach,
) -> Option<SocketAddr> {
    let listen = reader.get::<Listen>(table, key)?;
    let missing = match reach {
        _ if listen.is_loopback() => None,
        Reach {
            is_allowed: true,
            has_key: true,
        } => None,
        Reach {
            is_allowed: true,
            has_key: false,
        } => Some(
            "set server.caller_key_file too (`openssl rand -base64 32` makes a key)".to_owned(),
        ),
        Reach {
            is_allowed: false, ..
        } => Some(format!(
            "listen on 127.0.0.1:{0} or [::1]:{0}, which containers of one pod share; if other machines are meant, set \
             server.allow_remote = true and server.caller_key_file",
            listen.0.port()
        )),
    };
    if let Some(help) = missing {
        let what = format!(
            "{} is not a loopback address: other machines could use the LMS with bursar's token, and nothing would ask \
             them who they are",
            listen.0
        );
        let fault = Fault::new(ProblemCode::ExposedListener, what, help);
        reader.fault(table, key, fault);
        return None;
    }
    claims.listener(table, key, listen.0);
    Some(listen.0)
}

/// The control socket: never for other machines.
pub(super) fn control(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
) -> Option<SocketAddr> {
    let listen = reader.get::<Listen>(table, key)?;
    if !listen.is_loopback() {
        let fault = Fault::new(
            ProblemCode::ExposedListener,
            format!(
                "{} is not a loopback address; that would show the state of every credential to other machines",
                listen.0
            ),
            format!(
                "listen on 127.0.0.1:{0} or [::1]:{0}; containers of one pod share it",
                listen.0.port()
            ),
        );
        reader.fault(table, key, fault);
        return None;
    }
    claims.listener(table, key, listen.0);
    Some(listen.0)
}

/// A listener that shows nothing which not everybody may see.
pub(super) fn anywhere(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
) -> Option<SocketAddr> {
    let listen = reader.get::<Listen>(table, key)?;
    claims.listener(table, key, listen.0);
    Some(listen.0)
}
