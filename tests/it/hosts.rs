//! R26 to R28: exactly one Host, and it is ours.

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, between, toml},
    http::exchange,
    peer::{Peer, Reply},
};

#[test]
fn a_host_that_is_absent_repeated_or_malformed_is_refused() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let own = bursar.proxy;
    for lines in [
        String::new(),
        format!("Host: {own}\r\nHost: {own}\r\n"),
        format!("Host: {own}\r\nHost: evil\r\n"),
        "Host: lms@evil\r\n".to_owned(),
        format!("Host: {own}, evil\r\n"),
        format!("Host: {own}/path\r\n"),
        "Host: %6c%6f\r\n".to_owned(),
        "Host: localhost..\r\n".to_owned(),
        "Host: [localhost]\r\n".to_owned(),
        "Host: \r\n".to_owned(),
        "Host: local host\r\n".to_owned(),
        "Host: löcalhost\r\n".to_owned(),
        "Host: localhost:notaport\r\n".to_owned(),
        "Host: localhost:99999\r\n".to_owned(),
    ] {
        let answer = exchange(bursar.proxy, format!("GET /api/x HTTP/1.1\r\n{lines}\r\n"));
        assert_eq!(answer.status, 400, "{lines:?}");
        assert_eq!(answer.code(), "host_invalid", "{lines:?}");
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn a_host_that_is_not_ours_is_misdirected() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let port = bursar.proxy.port();
    for host in [
        "evil.test".to_owned(),
        format!("evil.test:{port}"),
        "localhost:1".to_owned(),
        "169.254.169.254".to_owned(),
    ] {
        let answer = exchange(
            bursar.proxy,
            format!("GET /api/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (421, "misdirected_request"),
            "{host}"
        );
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn loopback_names_configured_names_and_the_lms_own_name_are_ours() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            server: r#"hosts = ["bursar", "proxy.example:9000"]"#,
            ..Extra::default()
        },
    ));
    let port = bursar.proxy.port();
    for host in [
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("localhost.:{port}"),
        format!("127.0.0.1:{port}"),
        format!("127.1.2.3:{port}"),
        format!("[::1]:{port}"),
        "bursar".to_owned(),
        format!("bursar:{port}"),
        "proxy.example:9000".to_owned(),
        lms.address.to_string(),
    ] {
        let answer = exchange(
            bursar.proxy,
            format!("GET /api/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        assert_eq!(
            lms.last().fields("host"),
            [lms.address.to_string()],
            "the LMS always sees its configured name"
        );
    }
    assert_eq!(
        exchange(
            bursar.proxy,
            "GET /api/x HTTP/1.1\r\nHost: proxy.example\r\n\r\n"
        )
        .status,
        421
    );
}

#[test]
fn absolute_form_must_agree_with_host_and_goes_out_in_origin_form() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let own = bursar.proxy;

    let good = exchange(
        own,
        format!("GET http://{own}/api/x?q=1 HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    );
    assert_eq!(good.status, 200);
    assert_eq!(lms.last().target(), "/api/x?q=1");

    let before = lms.calls();
    for target in [
        "http://evil/api/x".to_owned(),
        format!("http://lms@{own}/api/x"),
        format!("ftp://{own}/api/x"),
        "http:evil".to_owned(),
    ] {
        let answer = exchange(own, format!("GET {target} HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert!(
            matches!(answer.status, 400 | 421),
            "{target} gave {}",
            answer.status
        );
    }
    for target in ["//evil/a", "/@evil", "*", "evil:443"] {
        let answer = exchange(own, format!("GET {target} HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert!(answer.status >= 400, "{target}");
    }
    assert_eq!(lms.calls(), before);
}
