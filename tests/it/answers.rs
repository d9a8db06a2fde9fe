//! What the LMS may say, and what of it reaches the application.

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, between, toml},
    http::Connection,
    peer::{Peer, Reply},
};

fn answering(reply: Reply) -> (Peer, AuthorizationServer, Bursar) {
    let lms = Peer::start(move |_| reply.clone());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    (lms, server, bursar)
}

fn raw(bytes: &str) -> Reply {
    Reply::BytesThenClose(bytes.as_bytes().to_vec())
}

#[test]
fn ambiguous_or_broken_answers_become_one_502() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "hello\r\n\r\n",
    ] {
        let (_lms, server, bursar) = answering(raw(bytes));
        let answer = bursar.request("POST", "/api/x", "", "x");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (502, "upstream_protocol_error"),
            "{bytes:?}"
        );
        assert!(
            answer
                .field("proxy-status")
                .is_some_and(|value| value.starts_with("bursar; error=")),
            "{answer:?}"
        );
        assert_eq!(server.calls(), 1);
        assert!(
            bursar.metric(r#"bursar_upstream_errors_total{kind="protocol",upstream="lms"}"#) >= 1.0,
            "{bytes:?}"
        );
    }
}

#[test]
fn a_head_over_the_limits_is_a_protocol_error() {
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = format!("X: {}\r\n", "a".repeat(200_000));
    for fields in [many, large] {
        let (_lms, _server, bursar) = answering(raw(&format!(
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"
        )));
        assert_eq!(bursar.get("/api/x").code(), "upstream_protocol_error");
    }
}

#[test]
fn hop_by_hop_fields_of_the_lms_stop_here() {
    let (_lms, _server, bursar) = answering(Reply::with_fields(
        200,
        &[
            ("Connection", "x-hop, keep-alive"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Trailer", "X-T"),
            ("Upgrade", "h2c"),
            ("X-End", "1"),
        ],
        "ok",
    ));
    let answer = bursar.get("/api/x");
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    assert_eq!(answer.field("x-end"), Some("1"));
}

#[test]
fn cookies_and_cors_fields_of_the_lms_stop_here() {
    let (lms, _server, bursar) = answering(Reply::with_fields(
        200,
        &[
            ("Set-Cookie", "session=1"),
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Credentials", "true"),
        ],
        "ok",
    ));
    let answer = bursar.request("GET", "/api/x", "Cookie: mine=1\r\n", "");
    assert_eq!(answer.field("set-cookie"), None);
    assert!(
        answer
            .fields
            .iter()
            .all(|(name, _)| !name.to_lowercase().starts_with("access-control-"))
    );
    assert!(lms.last().fields("cookie").is_empty());
}

#[test]
fn cookies_pass_where_the_upstream_says_so() {
    let lms = Peer::start(|_| Reply::with_fields(200, &[("Set-Cookie", "session=1")], "ok"));
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            upstream: "cookies = true",
            ..Extra::default()
        },
    ));
    let answer = bursar.request("GET", "/api/x", "Cookie: mine=1\r\n", "");
    assert_eq!(answer.field("set-cookie"), Some("session=1"));
    assert_eq!(lms.last().fields("cookie"), ["mine=1"]);
}

#[test]
fn a_field_that_echoes_the_token_is_dropped() {
    let lms = Peer::start(|seen| {
        let echo = seen.field("authorization").unwrap_or_default().to_owned();
        Reply::with_fields(
            200,
            &[
                ("X-Echo", &echo),
                ("X-Half", echo.trim_start_matches("Bearer ")),
                ("X-Other", "kept"),
            ],
            "ok",
        )
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let answer = bursar.get("/api/x");
    assert_eq!(
        (
            answer.field("x-echo"),
            answer.field("x-half"),
            answer.field("x-other")
        ),
        (None, None, Some("kept"))
    );
}

#[test]
fn the_own_cache_control_of_the_lms_stays() {
    let (_lms, _server, bursar) = answering(Reply::with_fields(
        200,
        &[("Cache-Control", "no-cache")],
        "ok",
    ));
    assert_eq!(
        bursar.get("/api/x").field("cache-control"),
        Some("no-cache")
    );
}

#[test]
fn an_answer_that_breaks_off_is_seen_as_incomplete_never_as_a_short_success() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly",
    ] {
        let (_lms, _server, bursar) = answering(raw(bytes));
        let answer = bursar.get("/api/x");
        assert_eq!(answer.status, 200);
        assert!(!answer.complete, "{bytes:?}");
    }
}

#[test]
fn an_lms_that_closes_before_it_answers_is_a_502() {
    let (lms, _server, bursar) = answering(Reply::BytesThenReset(Vec::new()));
    let answer = bursar.request("POST", "/api/x", "", "once");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_reset")
    );
    assert_eq!(
        lms.calls(),
        1,
        "a request that may have been processed is not sent twice"
    );
}

#[test]
fn an_lms_that_is_not_there_is_a_502_and_a_slow_one_a_504() {
    let server = AuthorizationServer::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let lms = Peer::start(|_| Reply::BytesThenSilence(Vec::new()));
    let configuration = toml(
        &lms,
        &server,
        Extra {
            upstream: r#"response_timeout = "200ms""#,
            ..Extra::default()
        },
    );

    let slow = Bursar::start(&configuration);
    let answer = slow.get("/api/x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "upstream_timeout")
    );

    let gone = Bursar::start(&configuration.replace(&lms.url(), &format!("http://{nobody}")));
    let answer = gone.get("/api/x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_unreachable")
    );
    assert_eq!(answer.json()["retryable"], true);
}

#[test]
fn an_answer_that_stalls_is_cut_off() {
    let lms = Peer::start(|_| {
        Reply::BytesThenSilence(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            upstream: r#"idle_timeout = "200ms""#,
            ..Extra::default()
        },
    ));
    let answer = bursar.get("/api/x");
    assert!(!answer.complete);
}

#[test]
fn a_stale_pooled_connection_never_surfaces_as_an_error() {
    // The LMS closes each connection right after its answer, without saying so beforehand (F46).
    let lms = Peer::start(|_| {
        Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let mut connection = Connection::open(bursar.proxy);
    for number in 0..100 {
        connection.send(format!(
            "GET /api/{number} HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        ));
        assert_eq!(connection.answer().status, 200, "request {number}");
    }
}

/// The LMS is silent before its answer, and in the middle of it.
#[test]
fn an_application_that_is_gone_takes_its_upstream_request_with_it() {
    for bytes in [
        "",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    ] {
        let lms = Peer::start(|_| Reply::BytesThenSilence(bytes.as_bytes().to_vec()));
        let server = AuthorizationServer::start();
        let bursar = between(&lms, &server);
        for body in ["", "small", &"large".repeat(100_000)] {
            let active = |bursar: &Bursar| {
                bursar.metric(r#"bursar_upstream_connections{state="active",upstream="lms"}"#)
            };
            let before = lms.calls();
            let mut connection = Connection::open(bursar.proxy);
            connection.send(format!(
                "POST /api/x HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
                bursar.proxy,
                body.len()
            ));
            bursar.until("the LMS has the request", |_| lms.calls() > before);
            assert_eq!(active(&bursar), 1.0);
            socket2::SockRef::from(connection.stream())
                .set_linger(Some(std::time::Duration::ZERO))
                .unwrap();
            drop(connection);
            bursar.until("the upstream connection is closed", |bursar| {
                active(bursar) < 0.5
            });
        }
    }
}

#[test]
fn an_application_that_has_said_all_it_wants_to_say_is_not_gone() {
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", seen.body.len().to_string()));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    for length in [0, 5, 500_000] {
        let mut connection = Connection::open(bursar.proxy);
        connection.send(format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{}",
            bursar.proxy,
            "x".repeat(length)
        ));
        connection.half_close();
        assert_eq!(connection.answer().text(), length.to_string());
        assert!(connection.is_closed());
    }
}

#[test]
fn trailers_of_the_lms_never_become_fields() {
    let (_lms, _server, bursar) = answering(raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: evil=1\r\n\r\n",
    ));
    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nConnection: close, te\r\n\r\n",
        bursar.proxy
    ));
    let bytes = String::from_utf8(connection.read_to_close()).unwrap();
    assert!(bytes.contains("ok"), "{bytes}");
    assert!(!bytes.contains("evil"), "{bytes}");
}
