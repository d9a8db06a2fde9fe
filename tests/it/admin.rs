//! The admin sockets from outside: what each answers, and that nothing else is there.

use serde_json::Value;

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, admin_get, between, toml},
    http::exchange,
    peer::{Gate, Peer, Reply},
};

#[test]
fn each_path_is_on_its_own_socket_and_nowhere_else() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    for path in [
        "/livez",
        "/startupz",
        "/readyz",
        "/readyz?verbose",
        "/metrics",
    ] {
        assert_eq!(admin_get(bursar.admin, path).status, 200, "{path}");
        assert_eq!(admin_get(bursar.control, path).status, 404, "{path}");
    }
    for path in ["/api/v1/status", "/.well-known/jwks.json"] {
        assert_eq!(admin_get(bursar.control, path).status, 200, "{path}");
        assert_eq!(admin_get(bursar.admin, path).status, 404, "{path}");
    }
    for path in [
        "/",
        "/metrics/",
        "/metrics/../livez",
        "//livez",
        "/config",
        "/debug/pprof",
    ] {
        assert_eq!(admin_get(bursar.admin, path).status, 404, "{path}");
        assert_eq!(admin_get(bursar.control, path).status, 404, "{path}");
    }
    assert!(
        matches!(bursar.get("/metrics").status, 403),
        "never on the proxy's port"
    );
}

#[test]
fn every_answer_of_an_admin_socket_has_a_request_id_of_its_own() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let mut ids: Vec<_> = [bursar.admin, bursar.control]
        .into_iter()
        .flat_map(|socket| {
            ["/livez", "/metrics", "/api/v1/status", "/nothing"].map(|path| {
                let answer = admin_get(socket, path);
                answer.field("bursar-request-id").map(str::to_owned)
            })
        })
        .collect();
    assert!(ids.iter().all(Option::is_some), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[test]
fn control_checks_host_and_refuses_web_pages() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let control = bursar.control;
    let rebound = exchange(
        control,
        "GET /api/v1/status HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    );
    assert_eq!(rebound.status, 421);
    let page = exchange(
        control,
        format!(
            "GET /api/v1/status HTTP/1.1\r\nHost: {control}\r\nOrigin: http://evil.test\r\n\r\n"
        ),
    );
    assert_eq!(page.status, 403);
    for path in ["/-/reload", "/-/drain"] {
        let post = exchange(
            control,
            format!(
                "POST {path} HTTP/1.1\r\nHost: {control}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
            ),
        );
        assert_eq!(
            post.status, 404,
            "without a control key there is nothing to POST to"
        );
    }
}

#[test]
fn status_tells_of_tokens_without_showing_one() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    assert_eq!(bursar.get("/api/x").status, 200);
    let status = admin_get(bursar.control, "/api/v1/status");
    assert!(
        !status.text().contains("token-1") && !status.text().contains("canary"),
        "{}",
        status.text()
    );
    let status: Value = status.json();
    let token = &status["tokens"][0];
    assert_eq!(token["credential"], "app");
    assert_eq!(token["usable"], true);
    assert_eq!(token["generation"], 1);
}

#[test]
fn readiness_waits_for_the_first_token_and_says_what_it_waits_for() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let gate = Gate::default();
    let held = gate.clone();
    server.then(move |_| {
        held.pass();
        crate::support::authorization_server::token("t", 3600)
    });
    let bursar = Bursar::start(&toml(&lms, &server, Extra::default()));
    gate.await_arrivals(1);
    assert_eq!(admin_get(bursar.admin, "/startupz").status, 200);
    let unready = admin_get(bursar.admin, "/readyz?verbose");
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("token"), "{}", unready.text());
    assert_eq!(bursar.metric("bursar_ready"), 0.0);
    gate.open();
    bursar.until_ready();
    assert_eq!(bursar.metric("bursar_ready"), 1.0);
}

#[test]
fn metrics_speak_of_the_life_of_the_token() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    for _ in 0..3 {
        bursar.get("/api/x");
    }
    bursar.get("/nowhere");
    assert_eq!(
        bursar.metric(r#"bursar_token_valid{credential="app"}"#),
        1.0
    );
    assert_eq!(
        bursar.metric(r#"bursar_token_lookups_total{credential="app",outcome="hit"}"#),
        3.0
    );
    assert_eq!(
        bursar.metric(r#"bursar_token_refreshes_total{credential="app",result="success"}"#),
        1.0
    );
    assert_eq!(
        bursar.metric(r#"bursar_http_requests_total{code="200",route="api",upstream="lms"}"#),
        3.0
    );
    assert_eq!(
        bursar
            .metric(r#"bursar_http_requests_total{code="403",route="_unmatched",upstream="lms"}"#),
        1.0
    );
    assert_eq!(bursar.metric(r#"bursar_policy_decisions_total{decision="allow",reason="ok",route="api",upstream="lms"}"#), 3.0);
    assert_eq!(bursar.metric(r#"bursar_policy_decisions_total{decision="deny",reason="no_route",route="_unmatched",upstream="lms"}"#), 1.0);
    let metrics = bursar.metrics();
    for name in [
        "bursar_build_info",
        "bursar_config_info",
        "bursar_credential_info",
        "bursar_policy_mode",
        "bursar_token_reauth_required",
        "bursar_clock_skew_seconds",
        "bursar_overhead_duration_seconds_bucket",
        "bursar_upstream_response_duration_seconds_count",
        "bursar_log_dropped_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(name)),
            "{name} is missing:\n{metrics}"
        );
    }
    assert!(!metrics.contains("token-1") && !metrics.contains("canary"));
}

#[test]
fn the_key_set_holds_public_members_only_and_has_a_socket_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let key = bursar::keys::generate(bursar::keys::Algorithm::Es256).unwrap();
    write_private(&path, bursar::secret::ExposeSecret::expose_secret(&key));
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let configuration = toml(&lms, &server, Extra::default())
        .replace(
            "auth_method = \"client_secret_basic\"",
            &format!("auth_method = \"private_key_jwt\"\nprivate_key_file = {path:?}"),
        )
        .replace("client_secret = \"canary-client-secret\"\n", "")
        .replace(
            "[credentials.app]",
            "jwks_listen = \"127.0.0.1:0\"\n[credentials.app]",
        );
    let bursar = Bursar::ready(&configuration);

    let from_control = admin_get(bursar.control, "/.well-known/jwks.json").json();
    let public = exchange(
        bursar.jwks.unwrap(),
        "GET /.well-known/jwks.json HTTP/1.1\r\nHost: keys.example.edu\r\n\r\n",
    );
    assert_eq!(public.status, 200);
    assert_eq!(public.json(), from_control);
    assert!(public.field("etag").is_some() && public.field("cache-control").is_some());
    let key = &from_control["keys"][0];
    assert_eq!(
        (
            key["kty"].as_str(),
            key["alg"].as_str(),
            key["use"].as_str()
        ),
        (Some("EC"), Some("ES256"), Some("sig"))
    );
    for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        assert!(key.get(private).is_none(), "{private}");
    }
    let elsewhere = exchange(
        bursar.jwks.unwrap(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!((elsewhere.status, elsewhere.body.len()), (404, 0));

    let sent = server.peer.last().text();
    assert!(
        sent.contains(
            "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        ),
        "{sent}"
    );
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
