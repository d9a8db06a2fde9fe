//! `[server]`, `[admin]` and `[log]`.

use std::{net::SocketAddr, num::NonZeroUsize, thread};

use super::{
    Claims, Files,
    listener::{self, Reach},
};
use crate::{
    admin::AdminParams,
    config::{
        problem::ProblemCode,
        reader::Reader,
        value::{
            Fault,
            quantity::{Connections, Period, Timeout, Workers},
            socket::{SocketMode, Uids},
        },
    },
    policy::Mode,
    proxy::{HostName, ServerParams},
    secret::{AccessKeys, SecretFiles},
    socket::Address,
    telemetry::LogParams,
};

/// Needed before anything else: it rules every secret's file.
pub(super) fn secret_files(reader: &mut Reader) -> SecretFiles {
    let table = reader.section("server");
    reader.get(&table, "secret_files").unwrap_or_default()
}

/// What becomes of requests that the policies do not allow.
pub(super) fn mode(reader: &mut Reader) -> Option<Mode> {
    let table = reader.section("server");
    let mode = reader.get(&table, "mode");
    if mode == Some(Mode::Report) {
        let fault = Fault::new(
            ProblemCode::ReportMode,
            "requests without a route or without their scopes are let through, and reported only",
            r#"set mode = "enforce" when the log shows no more `decision=report` that should pass"#,
        );
        reader.fault(&table, "mode", fault.warning());
    }
    mode
}

pub(super) fn server(
    reader: &mut Reader,
    files: &Files,
    claims: &mut Claims,
    reach: Reach,
) -> Option<ServerParams> {
    let table = reader.section("server");
    let listen = listener::proxy(reader, claims, &table, "listen", reach);
    let socket_mode = reader.get::<SocketMode>(&table, "socket_mode");
    let allowed_uids = reader.get::<Uids>(&table, "allowed_uids");
    let caller_keys = files.access_keys(reader, &table, "caller_key_file");
    let hosts = reader.get::<Vec<HostName>>(&table, "hosts");
    for host in hosts.iter().flatten() {
        claims.own_name(host.clone());
    }
    let workers = reader.get::<Workers>(&table, "workers");
    let max_connections = reader.get::<Connections>(&table, "max_connections");
    let header_timeout = reader.get::<Timeout>(&table, "header_timeout");
    let idle_timeout = reader.get::<Timeout>(&table, "idle_timeout");
    let drain_timeout = reader.get::<Period>(&table, "drain_timeout");
    let log = reader.section("log");
    let log_requests = reader.get(&log, "requests");

    Some(ServerParams {
        listen: listen?,
        socket_mode: socket_mode?.0,
        allowed_uids: allowed_uids.map(|uids| uids.0),
        caller_keys: caller_keys?,
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

/// What rules Unix sockets says nothing about ports: who relies on it there is told so.
pub(super) fn check_unix_rules(reader: &mut Reader, claims: &Claims) {
    let table = reader.section("server");
    for key in ["socket_mode", "allowed_uids"] {
        if table.has(key) && !claims.has_unix_socket() {
            let fault = Fault::new(
                ProblemCode::NoEffect,
                "has no effect: no listener for applications is a Unix socket, and on a port the system does not tell who connects",
                r#"listen on "unix:/PATH", or set `caller_key_file`"#,
            );
            reader.fault(&table, key, fault);
        }
    }
}

pub(super) fn admin(
    reader: &mut Reader,
    files: &Files,
    claims: &mut Claims,
) -> Option<AdminParams> {
    let (listen, control, control_keys) = control(reader, files, claims);
    let table = reader.section("admin");
    let jwks_listen = listener::anywhere(reader, claims, &table, "jwks_listen");
    let ready_needs = reader.get(&table, "ready_needs");

    Some(AdminParams {
        listen: listen?,
        control: control?,
        control_keys: control_keys?,
        jwks_listen,
        ready_needs: ready_needs?,
    })
}

/// What it takes to find a running bursar and to give it orders.
pub(super) fn control(
    reader: &mut Reader,
    files: &Files,
    claims: &mut Claims,
) -> (
    Option<SocketAddr>,
    Option<Address>,
    Option<Option<AccessKeys>>,
) {
    let table = reader.section("admin");
    (
        listener::anywhere(reader, claims, &table, "listen"),
        listener::control(reader, claims, &table, "control"),
        files.access_keys(reader, &table, "control_key_file"),
    )
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
