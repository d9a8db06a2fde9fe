//! `[server]`, `[admin]` and `[log]`.

use std::{net::SocketAddr, num::NonZeroUsize, thread};

use super::{Claims, Files};
use crate::{
    admin::AdminParams,
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault,
            address::Listen,
            quantity::{Connections, Period, Timeout, Workers},
            word::Enforce,
        },
    },
    proxy::{HostName, ServerParams},
    secret::SecretFiles,
    telemetry::LogParams,
};

/// Needed before anything else: it rules every secret's file.
pub(super) fn secret_files(reader: &mut Reader) -> SecretFiles {
    let table = reader.section("server");
    reader.get(&table, "secret_files").unwrap_or_default()
}

pub(super) fn server(reader: &mut Reader, claims: &mut Claims) -> Option<ServerParams> {
    let table = reader.section("server");
    let listen = loopback(
        reader,
        claims,
        &table,
        "listen",
        "would let other machines use the LMS with bursar's token: nothing asks them who they are",
    );
    let hosts = reader.get::<Vec<HostName>>(&table, "hosts");
    let mode = reader.get::<Enforce>(&table, "mode");
    let workers = reader.get::<Workers>(&table, "workers");
    let max_connections = reader.get::<Connections>(&table, "max_connections");
    let header_timeout = reader.get::<Timeout>(&table, "header_timeout");
    let idle_timeout = reader.get::<Timeout>(&table, "idle_timeout");
    let drain_timeout = reader.get::<Period>(&table, "drain_timeout");
    let log = reader.section("log");
    let log_requests = reader.get(&log, "requests");

    let Enforce = mode?;
    Some(ServerParams {
        listen: listen?,
        hosts: hosts?,
        workers: match workers?.0 {
            // Counts the cgroup's CPU quota and the affinity mask.
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers,
        },
        max_connections: max_connections?.0,
        header_timeout: header_timeout?.0,
        idle_timeout: idle_timeout?.0,
        drain_timeout: drain_timeout?.0,
        log_requests: log_requests?,
    })
}

pub(super) fn admin(
    reader: &mut Reader,
    files: &Files,
    claims: &mut Claims,
) -> Option<AdminParams> {
    let table = reader.section("admin");
    let listen = reader.get::<Listen>(&table, "listen");
    if let Some(listen) = listen {
        claims.listener(&table, "listen", listen.0);
    }
    let control = loopback(
        reader,
        claims,
        &table,
        "control",
        "would show the state of every credential to other machines",
    );
    let control_keys = files.access_keys(reader, &table, "control_key_file");
    let jwks_listen = reader.get::<Listen>(&table, "jwks_listen");
    if let Some(listen) = jwks_listen {
        claims.listener(&table, "jwks_listen", listen.0);
    }
    let ready_needs = reader.get(&table, "ready_needs");

    Some(AdminParams {
        listen: listen?.0,
        control: control?,
        control_keys: control_keys?,
        jwks_listen: jwks_listen.map(|listen| listen.0),
        ready_needs: ready_needs?,
    })
}

pub(super) fn log(reader: &mut Reader) -> Option<LogParams> {
    let table = reader.section("log");
    let level = reader.get(&table, "level");
    let format = reader.get(&table, "format");
    Some(LogParams {
        level: level?,
        format: format?,
    })
}

/// A listener that only this machine may reach (R76).
pub(super) fn loopback(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    key: &'static str,
    why: &str,
) -> Option<SocketAddr> {
    let listen = reader.get::<Listen>(table, key)?;
    if !listen.is_loopback() {
        let fault = Fault::new(
            ProblemCode::ExposedListener,
            format!("{} is not a loopback address; that {why}", listen.0),
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
