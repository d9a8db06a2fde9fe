//! The life of a token, end to end over real sockets. The state machine's own tests (paused time, both clocks) stand beside
//! `src/token/cell.rs`; here is what the application and the authorization server see. The F-numbers are those of the
//! failure modes that the project keeps tests for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use crate::support::{
    authorization_server::{AuthorizationServer, refusal, token},
    bursar::{Bursar, Extra, admin_get, between, toml},
    http::{Answer, Connection},
    peer::{Gate, Peer, Reply},
};

fn start(lms: &Peer, server: &AuthorizationServer, credential: &str) -> Bursar {
    Bursar::start(&toml(
        lms,
        server,
        Extra {
            credential,
            ..Extra::default()
        },
    ))
}

fn many(bursar: &Arc<Bursar>, count: usize) -> Vec<thread::JoinHandle<Answer>> {
    (0..count)
        .map(|_| {
            let bursar = Arc::clone(bursar);
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(move || bursar.get("/api/x"))
                .unwrap()
        })
        .collect()
}

/// F1: herd at a cold start.
#[test]
fn two_hundred_cold_requests_cause_one_token_request_and_get_two_hundred_answers() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let gate = Gate::default();
    let held = gate.clone();
    server.then(move |_| {
        held.pass();
        token("only", 3600)
    });
    let bursar = Arc::new(start(&lms, &server, ""));
    gate.await_arrivals(1);
    let requests = many(&bursar, 200);
    bursar.until("200 requests wait", |bursar| {
        bursar.metric(r#"bursar_token_waiters{credential="app"}"#) > 199.5
    });
    assert_eq!(lms.connections(), 0);
    gate.open();
    for request in requests {
        assert_eq!(request.join().unwrap().status, 200);
    }
    assert_eq!(server.calls(), 1);
    assert!(
        lms.seen()
            .iter()
            .all(|seen| seen.fields("authorization") == ["Bearer only"])
    );
}

/// R51: the LMS swallows a request, and when it is sent again the token that it first left with is dead.
#[test]
fn a_request_that_is_sent_again_late_does_not_leave_with_the_token_that_has_expired() {
    let gate = Gate::default();
    let held = gate.clone();
    let swallows = AtomicBool::new(true);
    let lms = Peer::start(move |seen| {
        if seen.target() == "/api/held" && swallows.swap(false, Ordering::SeqCst) {
            held.pass();
            return Reply::BytesThenReset(Vec::new());
        }
        Reply::ok()
    });
    let server = AuthorizationServer::with_lifetime(2);
    let bursar = start(&lms, &server, "");
    bursar.until_ready();
    let mut connection = Connection::open(bursar.proxy);
    let get = |target| format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", bursar.proxy);
    connection.send(get("/api/warm"));
    assert_eq!(connection.answer().status, 200);
    connection.send(get("/api/held"));
    gate.await_arrivals(1);
    // Each is asked for a second after the one before it at the earliest, and usable for 1.5 s.
    let before = server.calls();
    bursar.until("two tokens later", |_| server.calls() >= before + 2);
    gate.open();

    assert_eq!(connection.answer().status, 200);
    let seen = lms.seen();
    let sent: Vec<_> = seen
        .iter()
        .filter(|seen| seen.target() == "/api/held")
        .map(|seen| seen.field("authorization").unwrap())
        .collect();
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0], sent[1]);
}

/// F3: the one that asked first goes away.
#[test]
fn a_caller_that_leaves_does_not_take_the_token_request_with_it() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let gate = Gate::default();
    let held = gate.clone();
    server.then(move |_| {
        held.pass();
        token("only", 3600)
    });
    let bursar = Arc::new(start(&lms, &server, ""));
    gate.await_arrivals(1);
    let mut leaver = Connection::open(bursar.proxy);
    leaver.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    bursar.until("it waits", |bursar| {
        bursar.metric(r#"bursar_token_waiters{credential="app"}"#) > 0.5
    });
    let stayer = many(&bursar, 1);
    drop(leaver);
    gate.open();
    for request in stayer {
        assert_eq!(request.join().unwrap().status, 200);
    }
    assert_eq!(server.calls(), 1);
}

/// F4, F9, F13, F31: every odd answer at the start, then a good one: bursar recovers by itself, and no request leaves without a token.
#[test]
fn every_odd_first_answer_is_survived() {
    let html = "<html>captive portal</html>";
    let huge = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(300 * 1024));
    let oddities = [
        Reply::BytesThenClose(Vec::new()),
        Reply::BytesThenReset(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"access_".to_vec()),
        Reply::BytesThenClose(b"garbage\r\n\r\n".to_vec()),
        Reply::new(200, "application/json", ""),
        Reply::new(200, "application/json", "{}"),
        Reply::new(200, "application/json", "[]"),
        Reply::new(200, "application/json", "null"),
        Reply::new(200, "application/json", "not json"),
        Reply::new(200, "text/html", html),
        Reply::new(200, "application/json", huge),
        Reply::new(200, "application/json", "[".repeat(100_000)),
        Reply::with_fields(200, &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")], "x"),
        Reply::with_fields(302, &[("Location", "/elsewhere")], ""),
        Reply::with_fields(307, &[("Location", "/elsewhere")], ""),
        Reply::new(204, "application/json", ""),
        Reply::new(500, "text/html", html),
        Reply::new(503, "application/json", "{}"),
        refusal(400, "temporarily_unavailable"),
        refusal(400, "server_error"),
        refusal(400, "made_up_by_a_vendor"),
        Reply::json(200, &json!({"access_token": "a b", "token_type": "Bearer", "expires_in": 60})),
        Reply::json(200, &json!({"access_token": "a\r\nX: y", "token_type": "Bearer", "expires_in": 60})),
        Reply::json(200, &json!({"access_token": "", "token_type": "Bearer", "expires_in": 60})),
        Reply::json(200, &json!({"access_token": 7, "token_type": "Bearer", "expires_in": 60})),
        Reply::json(200, &json!({"access_token": "t", "token_type": "mac", "expires_in": 60})),
        Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer", "expires_in": 0})),
        Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer", "expires_in": -1})),
        Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer", "expires_in": "abc"})),
        Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer", "expires_in": true})),
        Reply::new(200, "application/json", r#"{"access_token":"t","access_token":"u","token_type":"Bearer","expires_in":60}"#),
    ];
    let handles: Vec<_> = oddities
        .into_iter()
        .map(|oddity| {
            thread::spawn(move || {
                let lms = Peer::start(|_| Reply::ok());
                let server = AuthorizationServer::start();
                server.then_times(1, &oddity);
                let bursar = start(&lms, &server, "");
                // Waits for the second token request, at least a second after the first.
                let answer = bursar.get("/api/x");
                assert_eq!(answer.status, 200, "after {oddity:?}: {}", answer.text());
                assert_eq!(server.calls(), 2, "after {oddity:?}");
                assert_eq!(
                    lms.last().fields("authorization"),
                    ["Bearer token-1"],
                    "after {oddity:?}"
                );
                assert!(
                    bursar.metric(
                        r#"bursar_token_refreshes_total{credential="app",result="success"}"#
                    ) > 0.5
                );
            })
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
}

/// F7, F8: lifetimes that are missing, odd or tiny neither last for ever nor make a hot loop.
#[test]
fn odd_lifetimes_are_understood() {
    for expires_in in [
        json!("3600"),
        json!(3599.9),
        json!(1e18),
        json!(u64::MAX),
        json!(null),
    ] {
        let lms = Peer::start(|_| Reply::ok());
        let server = AuthorizationServer::start();
        let body = json!({"access_token": "t", "token_type": "bearer", "expires_in": expires_in});
        server.then_times(1, &Reply::json(200, &body));
        let bursar = between(&lms, &server);
        assert_eq!(bursar.get("/api/x").status, 200, "{expires_in}");
        let expiry = bursar.metric(r#"bursar_token_expiry_timestamp_seconds{credential="app"}"#);
        let issued = bursar.metric(r#"bursar_token_issued_timestamp_seconds{credential="app"}"#);
        assert!(
            (1.0..=86_401.0).contains(&(expiry - issued)),
            "{expires_in}: {}",
            expiry - issued
        );
    }
}

/// F7: a lifetime of two seconds is renewed again and again, at least a second apart, and requests go on.
#[test]
fn a_tiny_lifetime_makes_no_hot_loop() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::with_lifetime(2);
    let bursar = between(&lms, &server);
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        assert_eq!(bursar.get("/api/x").status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        (3..=7).contains(&server.calls()),
        "{} token requests in 5 s",
        server.calls()
    );
}

/// F22, F23, F24: renewal fails while the token lives, then it dies: served to the margin, then never sent again, then healed.
#[test]
fn a_token_is_used_while_it_lives_and_never_after() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    server.then(|_| token("first", 4));
    server.then_times(100, &Reply::new(503, "text/plain", "down"));
    let bursar = start(&lms, &server, "wait = \"100ms\"");
    bursar.until_ready();
    let begin = tokio::time::Instant::now();
    let mut refused = 0;
    while begin.elapsed() < Duration::from_secs(6) {
        let answer = bursar.get("/api/x");
        if answer.status == 200 {
            assert!(
                begin.elapsed() < Duration::from_secs(4),
                "an expired token left after {:?}",
                begin.elapsed()
            );
        } else {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "token_unavailable")
            );
            assert!(answer.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            assert!(
                begin.elapsed() > Duration::from_secs(2),
                "refused although the token lives"
            );
            refused += 1;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(refused > 0);
    assert_eq!(
        admin_get(bursar.admin, "/readyz").status,
        200,
        "a token that is lost later does not unready the pod"
    );
    server.recover();
    bursar.until("recovered", |bursar| bursar.get("/api/x").status == 200);
}

/// F10: what only a changed configuration can cure is not repeated per request.
#[test]
fn permanent_errors_are_parked_and_answered_at_once() {
    for (status, error) in [
        (401, "invalid_client"),
        (400, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
        (400, "invalid_request"),
    ] {
        let lms = Peer::start(|_| Reply::ok());
        let server = AuthorizationServer::start();
        server.then_times(100, &refusal(status, error));
        let bursar = start(&lms, &server, "");
        bursar.until("refused", |bursar| {
            bursar.metric(r#"bursar_token_refreshes_total{credential="app",result="rejected"}"#)
                > 0.5
        });
        for _ in 0..50 {
            let answer = bursar.get("/api/x");
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "token_configuration_error"),
                "{error}"
            );
            assert_eq!(answer.json()["retryable"], false);
            assert!(!answer.text().contains("canary"), "{}", answer.text());
        }
        assert_eq!(server.calls(), 1, "{error}");
        assert_eq!(lms.connections(), 0);
        assert_eq!(admin_get(bursar.admin, "/readyz").status, 503);
        assert_eq!(admin_get(bursar.admin, "/livez").status, 200);
    }
}

/// F11: Retry-After is honoured, in seconds and as a date.
#[test]
fn retry_after_is_honoured() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(300));
    for value in ["300".to_owned(), date] {
        let lms = Peer::start(|_| Reply::ok());
        let server = AuthorizationServer::start();
        server.then(move |_| Reply::with_fields(429, &[("Retry-After", &value)], ""));
        let bursar = start(&lms, &server, "wait = \"1500ms\"");
        bursar.until("throttled", |bursar| {
            bursar.metric(r#"bursar_token_refreshes_total{credential="app",result="throttled"}"#)
                > 0.5
        });
        let answer = bursar.get("/api/x");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "token_unavailable")
        );
        let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((200..=330).contains(&seconds), "{seconds}");
        assert_eq!(server.calls(), 1);
    }
}

/// F2, F14: a silent authorization server is cut off, counted as its own cause, and does not disturb a living token.
#[test]
fn a_silent_authorization_server_is_cut_off() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    server.then_times(1, &Reply::BytesThenSilence(Vec::new()));
    let bursar = start(&lms, &server, "timeout = \"300ms\"");
    let answer = bursar.get("/api/x");
    assert_eq!(
        answer.status,
        200,
        "waits for the second try: {}",
        answer.text()
    );
    assert!(
        bursar.metric(r#"bursar_token_refreshes_total{credential="app",result="timeout"}"#) > 0.5
    );
}

/// F13: the authorization server is down when bursar starts.
#[test]
fn an_authorization_server_that_is_down_never_stops_the_start() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let configuration = toml(
        &lms,
        &server,
        Extra {
            credential: "wait = \"100ms\"",
            ..Extra::default()
        },
    );
    let bursar = Bursar::start(
        &configuration.replace(&server.token_url(), &format!("http://{nobody}/token")),
    );
    assert_eq!(admin_get(bursar.admin, "/startupz").status, 200);
    let answer = bursar.get("/api/x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "token_unavailable")
    );
    assert_eq!(lms.connections(), 0);
    assert_eq!(admin_get(bursar.admin, "/readyz").status, 503);
    assert_eq!(
        bursar.get("/nowhere").code(),
        "route_denied",
        "the policy decides all the same"
    );
}

/// F6, F24: renewed ahead of expiry, in the background, with nobody waiting.
#[test]
fn a_token_is_renewed_ahead_of_its_expiry_while_requests_go_on() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let gate = Gate::default();
    let held = gate.clone();
    server.then(|_| token("first", 60));
    server.then(move |_| {
        held.pass();
        token("second", 3600)
    });
    let bursar = start(&lms, &server, "refresh_ahead = \"58s\"");
    bursar.until_ready();
    gate.await_arrivals(1);
    for _ in 0..20 {
        assert_eq!(
            bursar.get("/api/x").status,
            200,
            "the renewal is under way; the first token lives"
        );
    }
    assert!(
        lms.seen()
            .iter()
            .all(|seen| seen.fields("authorization") == ["Bearer first"])
    );
    gate.open();
    bursar.until("the second token is in use", |bursar| {
        bursar.get("/api/x");
        lms.last().fields("authorization") == ["Bearer second"]
    });
    assert_eq!(
        bursar.metric(r#"bursar_token_lookups_total{credential="app",outcome="waited"}"#),
        0.0
    );
    assert_eq!(
        bursar.metric(r#"bursar_token_lookups_total{credential="app",outcome="failed"}"#),
        0.0
    );
}

#[test]
fn a_static_token_is_injected_as_it_is() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let configuration = toml(&lms, &server, Extra::default());
    let begin = configuration.find("[credentials.app]").unwrap();
    let end = configuration.find("[upstreams.lms]").unwrap();
    let configuration = format!(
        "{}[credentials.app]\nprofile = \"oauth2\"\ngrant = \"static\"\ntoken = \"canary-static\"\n\n{}",
        &configuration[..begin],
        &configuration[end..]
    );
    let bursar = Bursar::ready(&configuration);
    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer canary-static"]);
    assert_eq!(server.calls(), 0);
}
