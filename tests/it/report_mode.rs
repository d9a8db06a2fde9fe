//! `server.mode = "report"`: what lacks a route or scopes goes out and is reported; everything else is refused as ever.

use serde_json::{Value, json};

use crate::support::{
    authorization_server::{AuthorizationServer, token},
    bursar::{Bursar, Extra, admin_get, toml},
    peer::{Peer, Reply},
    program::{Daemon, bursar_in, write_private},
};

const REPORT: &str = r#"mode = "report""#;

const CLOSED: &str =
    "[[upstreams.lms.routes]]\nname = \"closed\"\npath = \"/closed/{*rest}\"\ndeny = true\n";

fn reporting(lms: &Peer, server: &AuthorizationServer) -> String {
    toml(
        lms,
        server,
        Extra {
            server: REPORT,
            tail: CLOSED,
            ..Extra::default()
        },
    )
}

#[test]
fn what_lacks_a_route_or_a_scope_goes_out_with_the_token_and_is_counted() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&reporting(&lms, &server));

    for (method, target) in [
        ("GET", "/nowhere?q=1"),
        ("PATCH", "/api/x"),
        ("PUT", "/grades/1"),
        ("GET", "/api/x"),
    ] {
        assert_eq!(bursar.request(method, target, "", "").status, 200);
        let seen = lms.last();
        assert_eq!(seen.target(), target);
        assert_eq!(seen.fields("authorization"), ["Bearer token-1"]);
    }
    assert_eq!(server.calls(), 1);
    for (labels, count) in [
        (
            r#"decision="report",reason="no_route",route="_unmatched""#,
            1.0,
        ),
        (
            r#"decision="report",reason="method",route="_unmatched""#,
            1.0,
        ),
        (r#"decision="report",reason="scope",route="grades""#, 1.0),
        (r#"decision="allow",reason="ok",route="api""#, 1.0),
    ] {
        let series = format!(r#"bursar_policy_decisions_total{{{labels},upstream="lms"}}"#);
        assert_eq!(bursar.metric(&series), count, "{series}");
    }
    assert_eq!(
        bursar.metric(r#"bursar_policy_mode{mode="report",upstream="lms"}"#),
        1.0
    );
    assert!(
        !bursar
            .metrics()
            .contains("bursar_policy_scope_denials_total{")
    );
    let status = admin_get(bursar.control, "/api/v1/status").json();
    assert_eq!(status["upstreams"][0]["mode"], "report");
}

#[test]
fn everything_else_is_refused_as_ever() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&reporting(&lms, &server));
    for (target, fields, status, code) in [
        ("/closed/1", "", 403, "route_denied"),
        ("/nowhere/../api/x", "", 400, "path_ambiguous"),
        ("/nowhere%2f", "", 400, "path_ambiguous"),
        ("/nowhere?access_token=x", "", 403, "query_parameter_denied"),
        ("/nowhere?as_user_id=1", "", 403, "query_parameter_denied"),
        (
            "/nowhere",
            "Origin: https://evil.test\r\n",
            403,
            "browser_request_denied",
        ),
        (
            "/nowhere",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            403,
            "upgrade_denied",
        ),
        ("/nowhere", "X_Y: 1\r\n", 400, "header_name_ambiguous"),
    ] {
        let answer = bursar.request("GET", target, fields, "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{target} {fields}"
        );
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn a_scope_that_was_not_granted_is_left_to_the_lms() {
    let lms = Peer::start(|_| Reply::new(403, "text/plain", "the LMS says no"));
    let server = AuthorizationServer::start();
    server.then(|_| Reply::json(200, &json!({"access_token": "narrow", "token_type": "Bearer", "expires_in": 3600, "scope": "other"})));
    let bursar = Bursar::ready(&reporting(&lms, &server));
    let answer = bursar.get("/api/x");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (403, "the LMS says no")
    );
    assert_eq!(
        bursar.metric(r#"bursar_policy_decisions_total{decision="report",reason="scope",route="api",upstream="lms"}"#),
        1.0
    );
}

#[test]
fn where_each_scope_set_has_a_token_a_reported_request_gets_the_one_with_the_whole_allowlist() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let configuration = toml(
        &lms,
        &server,
        Extra {
            server: REPORT,
            upstream: "token_scope = \"route\"",
            ..Extra::default()
        },
    )
    .replace(
        "scopes = [\"api:read\"]\ntoken_scope",
        "scopes = [\"api:read\", \"api:list\"]\ntoken_scope",
    );
    let bursar = Bursar::start(&configuration);
    for (method, target) in [("GET", "/nowhere"), ("PUT", "/grades/1"), ("GET", "/api/x")] {
        assert_eq!(bursar.request(method, target, "", "").status, 200);
    }
    let asked: Vec<String> = server.peer.seen().iter().map(|seen| seen.text()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].contains("scope=api%3Alist+api%3Aread"),
        "{asked:?}"
    );
    assert!(
        !asked.concat().contains("grades"),
        "never what the allowlist lacks: {asked:?}"
    );
}

#[test]
fn the_log_says_what_enforcing_would_have_done_and_the_start_warns() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &reporting(&lms, &server));
    let ask = |method: &str, target: &str| {
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            daemon.proxy
        );
        crate::support::http::exchange(daemon.proxy, text)
    };
    let unmatched = ask("GET", "/canary-path");
    let lacking = ask("PUT", "/grades/1");
    assert_eq!((unmatched.status, lacking.status), (200, 200));
    let (_, log) = daemon.stop();

    assert!(!log.contains("canary-path"), "{log}");
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let line = |id: Option<&str>| {
        let of = |line: &&Value| line["request_id"].as_str() == id;
        lines.iter().find(of).unwrap_or_else(|| panic!("{log}"))
    };
    let line_of_unmatched = line(unmatched.field("bursar-request-id"));
    for (name, value) in [
        ("decision", "report"),
        ("reason", "no_route"),
        ("would_be", "route_denied"),
        ("route", "_unmatched"),
    ] {
        assert_eq!(line_of_unmatched[name], value, "{line_of_unmatched}");
    }
    let line_of_lacking = line(lacking.field("bursar-request-id"));
    for (name, value) in [
        ("decision", "report"),
        ("reason", "scope"),
        ("would_be", "insufficient_scope"),
        ("missing_scopes", "grades:write"),
        ("path", "/grades/{id}"),
    ] {
        assert_eq!(line_of_lacking[name], value, "{line_of_lacking}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line["event"] == "config_warning" && line["code"] == "BUR1312"),
        "{log}"
    );
}

#[test]
fn route_test_says_what_enforcing_would_do_and_fails_all_the_same() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    write_private(
        &directory.path().join("bursar.toml"),
        &reporting(&lms, &server),
    );
    let test = |method: &str, path: &str| {
        bursar_in(directory.path(), &[], &["route", "test", method, path])
    };
    let lacking = test("PUT", "/grades/1");
    assert_eq!(lacking.code, 3, "{}", lacking.said());
    for part in [
        "decision  report: insufficient_scope (403)",
        "would be refused in enforce; report lets it through",
        "grades:write",
    ] {
        assert!(lacking.stdout.contains(part), "{}", lacking.stdout);
    }
    let closed = test("GET", "/closed/1");
    assert_eq!(closed.code, 3);
    assert!(
        closed.stdout.contains("decision  deny: route_denied"),
        "{}",
        closed.stdout
    );
    let reflected = test("TRACE", "/api/x");
    assert_eq!(reflected.code, 3);
    assert!(
        reflected
            .stdout
            .contains("decision  deny: method_not_allowed"),
        "{}",
        reflected.stdout
    );
    assert_eq!(test("GET", "/api/x").code, 0);
}

#[test]
fn a_reported_request_heals_from_a_401_like_any_other() {
    let lms = Peer::start(|seen| {
        if seen.fields("authorization") == ["Bearer token-1"] {
            Reply::new(401, "text/plain", "")
        } else {
            Reply::ok()
        }
    });
    let server = AuthorizationServer::start();
    server
        .then(|_| token("token-1", 3600))
        .then(|_| token("token-2", 3600));
    let bursar = Bursar::ready(&reporting(&lms, &server));
    assert_eq!(bursar.get("/nowhere").status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer token-2"]);
}
