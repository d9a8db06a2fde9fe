use std::{fmt::Write as _, io::Read};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, between, toml},
    http::Connection,
    peer::{Peer, Reply},
};

#[test]
fn a_permitted_request_reaches_the_lms_with_a_token_and_nothing_else_changed() {
    let lms = Peer::start(|_| {
        Reply::with_fields(
            201,
            &[("Content-Type", "text/plain"), ("X-Lms", "yes")],
            "made",
        )
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let answer = bursar.request(
        "POST",
        "/api/courses/7/Users?q=a%20b&q=c+d&empty",
        "Content-Type: application/json\r\nX-App: 1\r\nAccept-Language: de\r\n",
        r#"{"name":"Ada"}"#,
    );

    assert_eq!((answer.status, answer.text().as_str()), (201, "made"));
    assert_eq!(answer.field("x-lms"), Some("yes"));
    assert!(
        answer
            .field("bursar-request-id")
            .is_some_and(|id| !id.is_empty())
    );
    assert_eq!(
        answer.field("cache-control"),
        Some("private"),
        "a shared cache saw no Authorization"
    );
    let seen = lms.last();
    assert_eq!(
        seen.request_line(),
        "POST /api/courses/7/Users?q=a%20b&q=c+d&empty HTTP/1.1"
    );
    assert_eq!(seen.fields("authorization"), ["Bearer token-1"]);
    assert_eq!(seen.fields("host"), [lms.address.to_string()]);
    assert_eq!(seen.fields("content-type"), ["application/json"]);
    assert_eq!(seen.fields("x-app"), ["1"]);
    assert_eq!(seen.fields("accept-language"), ["de"]);
    assert_eq!(seen.fields("content-length"), ["14"]);
    assert_eq!(seen.text(), r#"{"name":"Ada"}"#);
    assert!(seen.fields("connection").is_empty());
}

#[test]
fn the_token_request_is_what_rfc_6749_asks_for() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let _bursar = between(&lms, &server);

    let seen = server.peer.last();
    assert_eq!(seen.method(), "POST");
    assert_eq!(
        seen.field("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        seen.field("authorization"),
        Some("Basic YXBwOmNhbmFyeS1jbGllbnQtc2VjcmV0")
    );
    assert!(
        seen.text().contains("grant_type=client_credentials"),
        "{}",
        seen.text()
    );
    assert!(seen.text().contains("scope=api%3Aread"), "{}", seen.text());
    assert!(!seen.text().contains("secret"));
    assert_eq!(seen.field("cookie"), None);
}

#[test]
fn status_and_body_of_the_lms_pass_unchanged_whatever_they_are() {
    let lms = Peer::start(|seen| {
        let status = seen.target().rsplit('/').next().unwrap().parse().unwrap();
        Reply::new(
            status,
            "text/plain",
            if status == 204 || status == 304 {
                ""
            } else {
                "as it was"
            },
        )
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    for status in [
        200, 202, 204, 301, 302, 304, 307, 308, 400, 403, 404, 409, 418, 429, 500, 502, 503, 504,
    ] {
        let answer = bursar.get(&format!("/api/{status}"));
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.field("proxy-status"),
            None,
            "only bursar's own errors carry Proxy-Status"
        );
        assert!(answer.body.is_empty() || answer.text() == "as it was");
    }
    assert_eq!(
        server.calls(),
        1,
        "no status but 401 makes bursar ask for a token"
    );
}

#[test]
fn a_redirect_is_passed_on_and_never_followed() {
    let lms = Peer::start(|_| {
        Reply::with_fields(302, &[("Location", "http://127.0.0.1:1/elsewhere")], "")
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let answer = bursar.get("/api/x");
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.field("location"),
        Some("http://127.0.0.1:1/elsewhere")
    );
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_head_request_uses_the_route_of_get_and_gets_no_body() {
    let lms =
        Peer::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n".to_vec()));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let answer = bursar.request("HEAD", "/api/x", "", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-length"), Some("42"));
    assert_eq!(lms.last().method(), "HEAD");
}

#[test]
fn requests_on_one_connection_are_answered_in_order_over_one_upstream_connection() {
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", seen.target()));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let mut connection = Connection::open(bursar.proxy);
    for number in 0..50 {
        connection.send(format!(
            "GET /api/{number} HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        ));
        assert_eq!(connection.answer().text(), format!("/api/{number}"));
    }
    assert_eq!(lms.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", seen.target()));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let mut requests = String::new();
    for number in 0..10 {
        write!(
            requests,
            "GET /api/{number} HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        )
        .unwrap();
    }
    let mut connection = Connection::open(bursar.proxy);
    connection.send(requests);
    for number in 0..10 {
        assert_eq!(connection.answer().text(), format!("/api/{number}"));
    }
}

#[test]
fn a_body_of_many_megabytes_streams_up_and_down_unchanged() {
    let lms = Peer::start(|seen| Reply::new(200, "application/octet-stream", &seen.body));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let body: Vec<u8> = (0..20_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut connection = Connection::open(bursar.proxy);
    let mut writer = connection.stream().try_clone().unwrap();
    let head = format!(
        "PUT /api/file HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        bursar.proxy,
        body.len()
    );
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(head.as_bytes()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    let answer = connection.answer();
    sending.join().unwrap();
    assert!(answer.complete);
    assert!(
        answer.body == body,
        "{} of {} bytes, or others",
        answer.body.len(),
        body.len()
    );
    assert_eq!(
        lms.last().fields("content-length"),
        [body.len().to_string()]
    );
}

#[test]
fn a_chunked_body_arrives_whole_with_exactly_one_framing_field() {
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", &seen.body));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    // Small: read in full before dialling, so its length is known. Large: streamed.
    for size in [11_usize, 300_000] {
        let body = "x".repeat(size);
        let mut request = format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            bursar.proxy
        );
        for chunk in body.as_bytes().chunks(4096) {
            write!(
                request,
                "{:x}\r\n{}\r\n",
                chunk.len(),
                std::str::from_utf8(chunk).unwrap()
            )
            .unwrap();
        }
        request.push_str("0\r\n\r\n");
        let answer = crate::support::http::exchange(bursar.proxy, request);
        assert_eq!(answer.body.len(), size);
        let seen = lms.last();
        let framings = seen.fields("content-length").len() + seen.fields("transfer-encoding").len();
        assert_eq!(framings, 1, "{}", seen.head);
        assert!(seen.complete);
    }
}

#[test]
fn an_answer_streams_before_it_is_complete() {
    let gate = crate::support::peer::Gate::default();
    let lms = Peer::start(|_| {
        Reply::BytesThenSilence(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".to_vec(),
        )
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let connection = Connection::open(bursar.proxy);
    let mut stream = connection.stream().try_clone().unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n", bursar.proxy).as_bytes(),
    )
    .unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"first\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .expect("the first chunk arrives while the second is still to come");
        bytes.push(byte[0]);
    }
    gate.open();
}

#[test]
fn expect_100_continue_is_answered_after_the_policy_has_said_yes() {
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", &seen.body));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "POST /api/x HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        bursar.proxy
    ));
    assert_eq!(connection.read_one("POST").unwrap().status, 100);
    connection.send("body");
    assert_eq!(connection.answer().text(), "body");
    assert!(lms.last().fields("expect").is_empty());
}

#[test]
fn a_client_that_closes_its_sending_half_still_gets_its_answer() {
    let lms = Peer::start(|_| Reply::new(200, "text/plain", "late but here"));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    connection.half_close();
    assert_eq!(connection.answer().text(), "late but here");
}

#[test]
fn two_upstreams_are_told_apart_by_host() {
    let first = Peer::start(|_| Reply::new(200, "text/plain", "first"));
    let second = Peer::start(|_| Reply::new(200, "text/plain", "second"));
    let server = AuthorizationServer::start();
    let tail = format!(
        r#"
[upstreams.other]
base_url = "{}"
credential = "app"
hosts = ["other.localhost"]
scopes = ["other:read"]
[[upstreams.other.routes]]
name = "all"
methods = ["GET"]
path = "/api/{{*rest}}"
scopes = ["other:read"]
"#,
        second.url()
    );
    let bursar = Bursar::ready(&toml(
        &first,
        &server,
        Extra {
            upstream: r#"hosts = ["lms.localhost"]"#,
            tail: &tail,
            ..Extra::default()
        },
    ));

    let port = bursar.proxy.port();
    for (host, expected) in [("lms.localhost", "first"), ("other.localhost", "second")] {
        let request = format!("GET /api/x HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        assert_eq!(
            crate::support::http::exchange(bursar.proxy, request).text(),
            expected
        );
    }
    let ambiguous = bursar.get("/api/x");
    assert_eq!(
        (ambiguous.status, ambiguous.code().as_str()),
        (421, "misdirected_request")
    );
    assert!(
        ambiguous.text().contains("other.localhost"),
        "the names that would do are listed: {}",
        ambiguous.text()
    );
    assert_ne!(
        first.last().field("authorization"),
        second.last().field("authorization"),
        "two scope sets, two tokens"
    );
}
