//! `http_proxy`: CONNECT, and TLS inside. The proxy learns where, and nothing else.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    support::{
        authorization_server::AuthorizationServer,
        bursar::{Bursar, Extra, toml},
        connect_proxy::ConnectProxy,
        peer::{Peer, Reply},
        program::{Daemon, bursar_in, write_private},
    },
    tls::{Authority, TlsLms},
};

fn setting(proxy: &ConnectProxy) -> String {
    format!(
        "http_proxy = \"http://canary-user:canary%40pass@{}\"",
        proxy.address
    )
}

/// Both ways through a proxy each, the LMS without TLS.
fn configuration(
    lms: &Peer,
    server: &AuthorizationServer,
    to_lms: &ConnectProxy,
    to_server: &ConnectProxy,
) -> String {
    toml(
        lms,
        server,
        Extra {
            credential: &setting(to_server),
            upstream: &setting(to_lms),
            ..Extra::default()
        },
    )
}

#[test]
fn the_proxy_sees_the_name_of_the_lms_and_neither_path_nor_token() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = TlsLms::start(&authority, "localhost");
    let server = AuthorizationServer::start();
    let proxy = ConnectProxy::start();
    let port = lms.address.port();
    let nobody = Peer::start(|_| Reply::ok());
    let upstream = format!(
        "{}\nca_file = {:?}\nca_only = true",
        setting(&proxy),
        authority.file(&directory)
    );
    let text = toml(
        &nobody,
        &server,
        Extra {
            upstream: &upstream,
            ..Extra::default()
        },
    );
    let bursar = Bursar::ready(&text.replace(&nobody.url(), &format!("https://localhost:{port}")));
    for _ in 0..3 {
        assert_eq!(bursar.get("/api/canary-path").text(), "secret");
    }
    assert!(lms.read().contains("authorization: Bearer token-1\r\n"));

    let heads = proxy.heads();
    assert!(!heads.is_empty());
    let pair = STANDARD.encode("canary-user:canary@pass");
    for head in heads {
        let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
        assert_eq!(
            lines.remove(0),
            format!("CONNECT localhost:{port} HTTP/1.1")
        );
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                format!("host: localhost:{port}"),
                format!("proxy-authorization: Basic {pair}")
            ]
        );
    }
    let through = proxy.read();
    for hidden in ["canary-path", "token-1", "GET "] {
        assert!(!through.contains(hidden), "{hidden}");
    }
}

#[test]
fn token_requests_and_an_lms_without_tls_go_through_their_proxies_too() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let (to_lms, to_server) = (ConnectProxy::start(), ConnectProxy::start());
    let bursar = Bursar::ready(&configuration(&lms, &server, &to_lms, &to_server));
    assert_eq!(bursar.get("/api/x").status, 200);
    let seen = lms.last();
    assert_eq!(seen.target(), "/api/x");
    assert_eq!(seen.fields("proxy-authorization"), Vec::<String>::new());
    assert!(to_lms.heads()[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", lms.address)));
    assert!(
        to_server.heads()[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.peer.address))
    );
    let asked = &server.peer.seen()[0];
    assert_eq!(asked.fields("proxy-authorization"), Vec::<String>::new());
}

#[test]
fn a_proxy_that_refuses_is_named_in_the_log_and_nothing_is_sent() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let refusing = ConnectProxy::answering(
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    );
    let open = ConnectProxy::start();
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(
        directory.path(),
        &configuration(&lms, &server, &refusing, &open),
    );
    let answer = crate::support::http::exchange(
        daemon.proxy,
        format!(
            "GET /api/x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            daemon.proxy
        ),
    );
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_unreachable")
    );
    assert_eq!(lms.connections(), 0);
    let metrics = crate::support::bursar::admin_get(daemon.admin, "/metrics").text();
    assert!(
        metrics.contains(r#"bursar_upstream_errors_total{kind="connect",upstream="lms"} 1"#),
        "{metrics}"
    );
    let (_, log) = daemon.stop();
    assert!(log.contains("the proxy answered 407"), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn a_proxy_before_the_authorization_server_that_refuses_is_an_as_that_cannot_be_reached() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let refusing = ConnectProxy::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let open = ConnectProxy::start();
    let text = configuration(&lms, &server, &open, &refusing);
    let bursar = Bursar::start(&text);
    bursar.until("refused", |bursar| {
        bursar.metric(r#"bursar_token_refreshes_total{credential="app",result="unreachable"}"#)
            > 0.5
    });
    assert_eq!(server.peer.connections(), 0);
    drop(bursar);

    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join("bursar.toml"), &text);
    let check = bursar_in(directory.path(), &[], &["check"]);
    assert_eq!(check.code, 3, "{}", check.said());
    for part in ["http_proxy answered 403", "BUR2009"] {
        assert!(check.said().contains(part), "{}", check.said());
    }
    assert!(!check.said().contains("canary"), "{}", check.said());
}

#[test]
fn the_password_is_shown_by_no_command() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let proxy = ConnectProxy::start();
    let directory = tempfile::tempdir().unwrap();
    let text = configuration(&lms, &server, &proxy, &proxy);
    let file = directory.path().join("bursar.toml");
    write_private(&file, &text);
    let show = bursar_in(directory.path(), &[], &["config", "show"]);
    assert_eq!(show.code, 0, "{}", show.said());
    assert!(show.stdout.contains("http_proxy"), "{}", show.stdout);
    assert!(!show.said().contains("canary-user") && !show.said().contains("canary%40"));

    write_private(&file, &text.replace("canary%40pass", "canary%ffpass"));
    let check = bursar_in(directory.path(), &[], &["check", "--offline"]);
    assert_eq!(check.code, 78, "{}", check.said());
    assert!(check.said().contains("BUR1203"), "{}", check.said());
    assert!(!check.said().contains("canary-user"), "{}", check.said());

    // By the file that a variable names, as any other value.
    write_private(&file, &toml(&lms, &server, Extra::default()));
    let secret = write_private(
        &directory.path().join("proxy"),
        &format!("http://me:canary@{}\n", proxy.address),
    );
    let before = proxy.heads().len();
    let check = bursar_in(
        directory.path(),
        &[(
            "BURSAR_CREDENTIALS__APP__HTTP_PROXY_FILE",
            secret.to_str().unwrap(),
        )],
        &["check"],
    );
    assert_eq!(check.code, 0, "{}", check.said());
    assert_eq!(proxy.heads().len(), before + 1);
}

#[test]
fn the_proxy_variables_of_other_programs_are_ignored() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let proxy = ConnectProxy::start();
    let directory = tempfile::tempdir().unwrap();
    write_private(
        &directory.path().join("bursar.toml"),
        &toml(&lms, &server, Extra::default()),
    );
    let url = format!("http://{}", proxy.address);
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
    ];
    let environment = names.map(|name| (name, url.as_str()));
    let check = bursar_in(directory.path(), &environment, &["check"]);
    assert_eq!(check.code, 0, "{}", check.said());
    assert_eq!(proxy.heads(), Vec::<String>::new());
}
