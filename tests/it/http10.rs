//! R04: applications that speak HTTP/1.0.

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, setup, toml},
    http::Connection,
    peer::{Peer, Reply},
};

/// All that comes back until the connection closes.
fn said(bursar: &Bursar, request: &str) -> String {
    let mut connection = Connection::open(bursar.proxy);
    connection.send(request.replace("HOST", &bursar.proxy.to_string()));
    let said = connection.read_to_close();
    assert!(connection.is_closed());
    String::from_utf8(said).unwrap()
}

#[test]
fn an_answer_whose_length_is_known_says_it_and_the_connection_closes() {
    let (lms, _server, bursar) = setup();
    for wish in ["", "Connection: keep-alive\r\n"] {
        let answer = said(
            &bursar,
            &format!("GET /api/x HTTP/1.0\r\nHost: HOST\r\n{wish}\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.contains("content-length: 2\r\n"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
    }
    assert!(lms.last().request_line().ends_with(" HTTP/1.1"));
}

#[test]
fn an_answer_of_unknown_length_is_never_chunked_but_ends_with_the_connection() {
    let lms = Peer::start(|_| {
        Reply::Bytes(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: server-timing\r\n\r\n\
             5\r\nhello\r\n1\r\n!\r\n0\r\nserver-timing: x\r\n\r\n"
                .into(),
        )
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    let answer = said(
        &bursar,
        "GET /api/x HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n",
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "hello!");
}

#[test]
fn a_body_needs_a_content_length_and_is_never_delimited_by_the_end_of_the_connection() {
    let (lms, _server, bursar) = setup();
    let answer = said(
        &bursar,
        "POST /api/x HTTP/1.0\r\nHost: HOST\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert_eq!(lms.last().body, b"hi");

    let answer = said(
        &bursar,
        "POST /api/x HTTP/1.0\r\nHost: HOST\r\n\r\nGET /api/smuggled HTTP/1.0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert_eq!(lms.last().body, b"");
    assert_eq!(lms.last().fields("content-length"), ["0"]);

    let chunked =
        "POST /api/x HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(said(&bursar, chunked).contains(" 400 "));
    assert_eq!(lms.calls(), 2);
}

#[test]
fn host_is_needed_and_no_100_is_sent() {
    let (lms, _server, bursar) = setup();
    let answer = said(&bursar, "GET /api/x HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert!(answer.contains("host_invalid"), "{answer}");
    assert_eq!(lms.calls(), 0);

    // RFC 9110 section 10.1.1: the expectation of an HTTP/1.0 application is ignored.
    let expects =
        "PUT /api/x HTTP/1.0\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    let answer = said(&bursar, expects);
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}
