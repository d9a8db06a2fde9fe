//! R12: WebSockets (RFC 6455) where a route allows them, and nothing before the LMS has agreed.

use std::{thread, time::Duration};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, toml},
    http::{Answer, Connection},
    peer::{Gate, Peer, Reply},
};

const ROUTE: &str = r#"
[[upstreams.lms.routes]]
name = "live"
methods = ["GET", "POST"]
path = "/live/{room}"
scopes = ["api:read"]
upgrade = true

[[upstreams.lms.routes]]
name = "live-closed"
methods = ["GET"]
path = "/live/closed"
scopes = ["grades:write"]
upgrade = true
"#;

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\n\r\n";

/// What an application asks with, without Host.
const ASKS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

fn start(lms: &Peer, extra: Extra<'_>) -> Bursar {
    let server = AuthorizationServer::start();
    let tail = ROUTE;
    Bursar::ready(&toml(lms, &server, Extra { tail, ..extra }))
}

fn echo() -> Peer {
    Peer::start(|_| Reply::BytesThenEcho(SWITCHING.into()))
}

/// Asks for a WebSocket; `behind` follows the head at once.
fn ask(bursar: &Bursar, target: &str, behind: &str) -> (Connection, Answer) {
    let mut connection = Connection::open(bursar.proxy);
    let host = bursar.proxy;
    connection.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\n{ASKS}\r\n{behind}"
    ));
    let answer = connection.read_one("GET").expect("an answer");
    (connection, answer)
}

#[test]
fn bytes_pass_both_ways_once_the_lms_has_switched_and_each_half_ends_by_itself() {
    let lms = echo();
    let bursar = start(&lms, Extra::default());
    let (mut connection, answer) = ask(&bursar, "/live/1", "");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert!(answer.field("sec-websocket-accept").is_some());
    assert!(answer.field("bursar-request-id").is_some());
    assert_eq!(answer.field("set-cookie"), None);

    let seen = lms.last();
    assert_eq!(seen.fields("connection"), ["upgrade"]);
    assert_eq!(seen.fields("upgrade"), ["websocket"]);
    assert_eq!(seen.fields("authorization").len(), 1);
    for (name, value) in [
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        assert_eq!(seen.fields(name), [value], "{name}");
    }

    for message in ["\x01\x02ping", "GET / HTTP/1.1\r\n\r\n"] {
        connection.send(message);
        assert_eq!(connection.read_bytes(message.len()), message.as_bytes());
    }
    // Counted and logged when it is over, not before.
    let series = r#"bursar_http_requests_total{code="101",route="live",upstream="lms"}"#;
    assert_eq!(bursar.metric(series), 0.0);
    let active = r#"bursar_upstream_connections{state="active",upstream="lms"}"#;
    assert_eq!(bursar.metric(active), 1.0);
    connection.half_close();
    assert_eq!(connection.read_to_close(), b"end");
    bursar.until("counted", |bursar| bursar.metric(series) > 0.5);
    assert_eq!(bursar.metric(active), 0.0);
    assert_eq!(
        bursar.metric(r#"bursar_upstream_connections{state="idle",upstream="lms"}"#),
        0.0,
        "a connection that was a tunnel is never used again"
    );
    let sent = bursar.metric(r#"bursar_http_response_bytes_total{upstream="lms"}"#);
    assert_eq!(sent, 24.0 + 3.0);
}

#[test]
fn nothing_that_follows_the_head_reaches_the_lms_before_its_101() {
    let lms = echo();
    let bursar = start(&lms, Extra::default());
    let smuggled = "GET /smug HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut connection, answer) = ask(&bursar, "/live/1", smuggled);
    assert_eq!(answer.status, 101);
    assert_eq!(lms.early_bytes(), 0);
    // After it they are the application's to send: bytes of the tunnel, and no request.
    assert_eq!(connection.read_bytes(smuggled.len()), smuggled.as_bytes());
    assert_eq!(lms.calls(), 1);
}

#[test]
fn an_answer_other_than_101_is_an_answer_like_any_other() {
    let lms = Peer::start(|seen| match seen.target() {
        "/live/smug" => Reply::new(403, "text/plain", "no"),
        _ => Reply::ok(),
    });
    let bursar = start(&lms, Extra::default());
    let next = format!("GET /nowhere HTTP/1.1\r\nHost: {}\r\n\r\n", bursar.proxy);
    let (mut connection, answer) = ask(&bursar, "/live/smug", &next);
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    // What follows is HTTP still, and meets the policy.
    assert_eq!(connection.answer().code(), "route_denied");
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_401_to_the_token_is_healed_before_the_protocol_switches() {
    let lms = Peer::start(|seen| match seen.field("authorization") {
        Some(token) if token.ends_with("-1") => Reply::new(401, "text/plain", ""),
        _ => Reply::BytesThenEcho(SWITCHING.into()),
    });
    let bursar = start(&lms, Extra::default());
    let (mut connection, answer) = ask(&bursar, "/live/1", "");
    assert_eq!(answer.status, 101, "{:?}", lms.seen());
    assert_eq!(lms.calls(), 2);
    connection.send("ping");
    assert_eq!(connection.read_bytes(4), b"ping");
}

#[test]
fn what_the_route_does_not_allow_is_refused_and_nothing_leaves() {
    let lms = echo();
    let bursar = start(&lms, Extra::default());
    let host = bursar.proxy;
    let refused = |request: &str| {
        let mut connection = Connection::open(host);
        connection.send(request.replace("HOST", &host.to_string()));
        connection.answer().code()
    };
    let get = |target: &str, fields: &str| {
        refused(&format!(
            "GET {target} HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n"
        ))
    };
    assert_eq!(get("/api/x", ASKS), "upgrade_denied");
    assert_eq!(get("/live/closed", ASKS), "insufficient_scope");
    assert_eq!(get("/nowhere", ASKS), "route_denied");
    for fields in [
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket\r\n",
    ] {
        assert_eq!(get("/live/1", fields), "upgrade_denied", "{fields}");
    }
    for request in [
        format!("POST /live/1 HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n{ASKS}\r\n"),
        format!("GET /live/1 HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n{ASKS}\r\nhi"),
        format!("GET /live/1 HTTP/1.0\r\nHost: HOST\r\n{ASKS}\r\n"),
    ] {
        assert_eq!(refused(&request), "upgrade_denied", "{request}");
    }
    assert_eq!(lms.calls(), 0);
}

#[test]
fn an_offer_of_h2c_is_served_as_http_1_1() {
    let lms = Peer::start(|_| Reply::ok());
    let bursar = start(&lms, Extra::default());
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(bursar.request("GET", "/live/1", fields, "").status, 200);
    let seen = lms.last();
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[test]
fn a_101_to_anything_else_is_a_violation() {
    for fields in [
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "",
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        let lms = Peer::start(move |_| Reply::BytesThenEcho(answer.clone().into()));
        let bursar = start(&lms, Extra::default());
        let (_, answer) = ask(&bursar, "/live/1", "");
        assert_eq!(answer.code(), "upstream_protocol_error", "{fields}");
    }
}

#[test]
fn a_tunnel_counts_among_the_connections_to_the_lms() {
    let lms = echo();
    let server = AuthorizationServer::start();
    let extra = Extra {
        upstream: "max_connections = 1\nconnect_timeout = \"200ms\"",
        tail: ROUTE,
        ..Extra::default()
    };
    let bursar = Bursar::ready(&toml(&lms, &server, extra).replace("workers = 2", "workers = 1"));
    let (first, answer) = ask(&bursar, "/live/1", "");
    assert_eq!(answer.status, 101);
    let (_, answer) = ask(&bursar, "/live/2", "");
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    drop(first);
    bursar.until("free", |bursar| {
        bursar.metric(r#"bursar_upstream_connections{state="active",upstream="lms"}"#) < 0.5
    });
    assert_eq!(ask(&bursar, "/live/2", "").1.status, 101);
}

#[test]
fn silence_for_the_idle_timeout_ends_a_tunnel() {
    let lms = echo();
    let bursar = start(
        &lms,
        Extra {
            upstream: "idle_timeout = \"300ms\"",
            ..Extra::default()
        },
    );
    let (mut connection, answer) = ask(&bursar, "/live/1", "");
    assert_eq!(answer.status, 101);
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(150));
        connection.send("x");
        assert_eq!(connection.read_bytes(1), b"x");
    }
    assert!(connection.is_closed());
}

#[test]
fn a_tunnel_lives_on_while_bursar_drains_and_ends_at_the_deadline() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |seen| {
        if seen.target() == "/live/late" {
            held.pass();
        }
        Reply::BytesThenEcho(SWITCHING.into())
    });
    let bursar = start(
        &lms,
        Extra {
            server: "drain_timeout = \"3s\"",
            ..Extra::default()
        },
    );
    let (mut tunnel, _) = ask(&bursar, "/live/1", "");
    let mut late = Connection::open(bursar.proxy);
    let host = bursar.proxy;
    late.send(format!(
        "GET /live/late HTTP/1.1\r\nHost: {host}\r\n{ASKS}\r\n"
    ));
    gate.await_arrivals(1);
    bursar.shutdown();
    // Past the moment in which idle connections close.
    thread::sleep(Duration::from_millis(800));
    gate.open();
    let answer = late.read_one("GET").expect("an answer");
    assert_eq!(answer.status, 101);
    for connection in [&mut tunnel, &mut late] {
        connection.send("ping");
        assert_eq!(connection.read_bytes(4), b"ping");
    }
    bursar.join();
    assert!(tunnel.is_closed());
    assert!(late.is_closed());
}
