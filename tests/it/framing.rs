//! `requirements` B.1, right column: what hyper accepts and a proxy must not hand on.

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{between, setup},
    http::{Connection, exchange},
    peer::{Peer, Reply},
};

#[test]
fn transfer_codings_other_than_one_chunked_are_refused_before_anything_is_dialled() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked, identity",
    ] {
        let mut connection = Connection::open(bursar.proxy);
        connection.send(format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n0\r\n\r\n",
            bursar.proxy
        ));
        let answer = connection.answer();
        assert!(
            matches!(answer.status, 400 | 501),
            "{fields:?} gave {}",
            answer.status
        );
        assert!(
            connection.is_closed(),
            "{fields:?} leaves the connection open"
        );
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn a_tab_behind_chunked_is_white_space_and_still_one_framing_field_goes_out() {
    let (lms, _server, bursar) = setup();
    let answer = exchange(
        bursar.proxy,
        format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\t\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            bursar.proxy
        ),
    );
    if answer.status == 200 {
        let seen = lms.last();
        assert_eq!(
            seen.fields("content-length").len() + seen.fields("transfer-encoding").len(),
            1
        );
        assert_eq!(seen.text(), "abc");
    } else {
        assert!(matches!(answer.status, 400 | 501));
    }
}

#[test]
fn content_length_beside_transfer_encoding_never_reaches_the_lms_as_two_framings() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        let mut connection = Connection::open(bursar.proxy);
        connection.send(format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /api/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
            bursar.proxy
        ));
        let answer = connection.answer();
        assert!(matches!(answer.status, 200 | 400), "{fields:?}");
        assert!(
            connection.read_to_close().is_empty(),
            "the connection closes after {fields:?}, and nothing behind it is served"
        );
    }
    for seen in lms.seen() {
        assert_eq!(
            seen.fields("content-length").len() + seen.fields("transfer-encoding").len(),
            1,
            "{}",
            seen.head
        );
        assert_eq!(seen.target(), "/api/x");
        assert_eq!(seen.text(), "abc");
    }
}

#[test]
fn content_lengths_that_differ_or_are_no_number_are_refused() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Content-Length: 3\r\nContent-Length: 2",
        "Content-Length: +3",
        "Content-Length: 0x3",
        "Content-Length: -1",
        "Content-Length: 18446744073709551616",
        "Content-Length: ",
        "Content-Length: 3, 2",
    ] {
        let answer = exchange(
            bursar.proxy,
            format!(
                "POST /api/x HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\nabc",
                bursar.proxy
            ),
        );
        assert_eq!(answer.status, 400, "{fields:?}");
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn malformed_chunks_never_end_a_request_at_the_lms() {
    let (lms, _server, bursar) = setup();
    for body in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc",
        "3\r\nabcXX0\r\n\r\n",
        "zz\r\n",
    ] {
        let mut connection = Connection::open(bursar.proxy);
        connection.send(format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            bursar.proxy
        ));
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "body_framing_invalid"),
            "{body:?}"
        );
    }
    assert_eq!(
        lms.connections(),
        0,
        "small bodies are checked before anything is dialled"
    );
}

#[test]
fn a_chunk_error_after_64_kib_leaves_the_lms_without_the_last_chunk() {
    let lms = Peer::start_reading_heads_only(|_| Reply::BytesThenSilence(Vec::new()));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let mut request = format!(
        "POST /api/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        bursar.proxy
    );
    for _ in 0..100 {
        request.push_str(&format!("400\r\n{}\r\n", "x".repeat(1024)));
    }
    request.push_str("0x3\r\nabc\r\n0\r\n\r\n");
    let mut connection = Connection::open(bursar.proxy);
    let _ = connection.try_send(request);
    // Never 5xx: the fault is the application's.
    if let Ok(answer) = connection.answer_to("POST") {
        assert_eq!(answer.status, 400);
    }
}

#[test]
fn fields_without_value_or_with_odd_white_space_do_not_confuse() {
    let (lms, _server, bursar) = setup();
    for head in [
        "GET /api/x HTTP/1.1\r\nHost : {host}\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: {host}\r\nX-Fold: a\r\n b\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: {host}\r\nX-Nul: a\0b\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: {host}\r\n: empty\r\n\r\n",
        "GET /api/x HTTP/9.9\r\nHost: {host}\r\n\r\n",
        "GET /api/x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        let answer = exchange(
            bursar.proxy,
            head.replace("{host}", &bursar.proxy.to_string()),
        );
        assert_eq!(answer.status, 400, "{head:?}");
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn methods_that_reflect_or_tunnel_are_405_and_unknown_ones_have_no_route() {
    let (lms, _server, bursar) = setup();
    for method in ["TRACE", "TRACK"] {
        let answer = bursar.request(method, "/api/x", "", "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (405, "method_not_allowed"),
            "{method}"
        );
    }
    let connect = exchange(
        bursar.proxy,
        format!(
            "CONNECT lms.example:443 HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        ),
    );
    assert_eq!(connect.status, 405);
    for method in ["get", "G!#$", "PATCH", "PROPFIND"] {
        let answer = bursar.request(method, "/api/x", "", "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "route_denied"),
            "{method}"
        );
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn a_denied_body_is_never_parsed_as_the_next_request() {
    let (lms, _server, bursar) = setup();
    let smuggled = format!(
        "GET /api/smuggled HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    );
    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "POST /nowhere HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{smuggled}",
        bursar.proxy,
        smuggled.len()
    ));
    assert_eq!(connection.answer().code(), "route_denied");
    // Either the body was drained and the connection lives, or it is closed; the smuggled request is served in neither case.
    let _ = connection.try_send(format!(
        "GET /api/next HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        bursar.proxy
    ));
    let _ = connection.read_to_close();
    assert!(
        lms.seen()
            .iter()
            .all(|seen| seen.target() != "/api/smuggled")
    );
}

#[test]
fn upgrades_are_refused_and_h2c_is_served_as_http_1_1() {
    let (lms, _server, bursar) = setup();
    let websocket = bursar.request(
        "GET",
        "/api/x",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
        "",
    );
    assert_eq!(
        (websocket.status, websocket.code().as_str()),
        (403, "upgrade_denied")
    );
    assert_eq!(lms.connections(), 0);

    let h2c = bursar.request("GET", "/api/x", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "");
    assert_eq!(h2c.status, 200);
    let seen = lms.last();
    assert!(
        seen.fields("upgrade").is_empty()
            && seen.fields("http2-settings").is_empty()
            && seen.fields("connection").is_empty()
    );
}

#[test]
fn expectations_other_than_100_continue_are_refused_and_none_is_forwarded() {
    let (lms, _server, bursar) = setup();
    let answer = bursar.request("POST", "/api/x", "Expect: 417-foo\r\n", "abc");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (417, "expectation_failed")
    );
    assert_eq!(lms.connections(), 0);

    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "POST /nowhere HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        bursar.proxy
    ));
    let first = connection.read_one("POST").unwrap();
    assert_eq!(
        first.status, 403,
        "the policy decides before any 100 is sent"
    );
}

#[test]
fn http_1_0_is_answered_and_forwarded_as_http_1_1() {
    let (lms, _server, bursar) = setup();
    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "GET /api/x HTTP/1.0\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    assert_eq!(connection.answer().status, 200);
    assert!(connection.is_closed());
    assert!(lms.last().request_line().ends_with("HTTP/1.1"));

    let coded = exchange(
        bursar.proxy,
        format!(
            "POST /api/x HTTP/1.0\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            bursar.proxy
        ),
    );
    assert_eq!(coded.status, 400);
}

#[test]
fn a_fragment_never_makes_policy_and_wire_differ() {
    let (lms, _server, bursar) = setup();
    let answer = exchange(
        bursar.proxy,
        format!(
            "GET /api/x#/../nowhere HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        ),
    );
    assert_eq!((answer.status, lms.connections()), (400, 0));
}

#[test]
fn paths_with_more_than_one_reading_are_refused() {
    let (lms, _server, bursar) = setup();
    for part in [
        "..", ".", "%2e%2e", ".%2E", "%2f", "%5c", "\\", "%00", "%zz", "%u002e", "%252e", "%c0%ae",
        "x;y", "..;", "x.", "x%20", "%0d%0a", "%7f",
    ] {
        for path in [
            format!("/{part}/api/x"),
            format!("/api/{part}/x"),
            format!("/api/x/{part}"),
        ] {
            let answer = bursar.get(&path);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "path_ambiguous"),
                "{path}"
            );
        }
    }
    for path in ["//api/x", "/api//x", "/api/ä"] {
        assert_eq!(bursar.get(path).status, 400, "{path}");
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn field_names_with_an_underscore_are_refused() {
    let (lms, _server, bursar) = setup();
    for field in [
        "X_Forwarded_User: a\r\n",
        "Content_Length: 5\r\n",
        "_x: 1\r\n",
    ] {
        let answer = bursar.request("GET", "/api/x", field, "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "header_name_ambiguous"),
            "{field:?}"
        );
    }
    assert_eq!(lms.connections(), 0);
}
