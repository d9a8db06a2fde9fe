//! The LMS says 401: once per token, one shared refresh, one replay where the body is at hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, between, toml},
    peer::{Gate, Peer, Reply},
};

/// An LMS that has forgotten the first token.
fn forgetful() -> Peer {
    Peer::start(|seen| {
        if seen.fields("authorization") == ["Bearer token-1"] {
            Reply::new(
                401,
                "application/problem+json",
                r#"{"title":"Unauthorized"}"#,
            )
        } else {
            Reply::new(200, "text/plain", &seen.body)
        }
    })
}

#[test]
fn a_revoked_token_is_healed_by_one_refresh_and_one_replay_with_the_same_body() {
    let lms = forgetful();
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);

    let answer = bursar.request("POST", "/api/x?a=1", "X-Kept: 1\r\n", "the body");
    assert_eq!((answer.status, answer.text().as_str()), (200, "the body"));
    let seen = lms.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].request_line(), seen[1].request_line());
    assert_eq!(seen[1].fields("authorization"), ["Bearer token-2"]);
    assert_eq!(seen[1].fields("x-kept"), ["1"]);
    assert_eq!(server.calls(), 2);
    assert!(bursar.metric(r#"bursar_upstream_unauthorized_total{upstream="lms"}"#) > 0.5);
}

/// F26, F27.
#[test]
fn a_thousand_concurrent_401s_cause_one_refresh() {
    let gate = Gate::default();
    let held = gate.clone();
    let refused = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&refused);
    let lms = Peer::start(move |seen| {
        if seen.fields("authorization") == ["Bearer token-1"] {
            counting.fetch_add(1, Ordering::SeqCst);
            held.pass();
            Reply::new(401, "text/plain", "")
        } else {
            Reply::ok()
        }
    });
    let server = AuthorizationServer::start();
    let bursar = Arc::new(Bursar::start(&toml(
        &lms,
        &server,
        Extra {
            upstream: "max_connections = 2000",
            ..Extra::default()
        },
    )));
    bursar.until_ready();

    let requests: Vec<_> = (0..1000)
        .map(|_| {
            let bursar = Arc::clone(&bursar);
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(move || bursar.get("/api/x").status)
                .unwrap()
        })
        .collect();
    gate.await_arrivals(1000);
    gate.open();
    for request in requests {
        assert_eq!(request.join().unwrap(), 200);
    }
    assert_eq!(refused.load(Ordering::SeqCst), 1000);
    assert_eq!(server.calls(), 2);
}

/// F28: a token that is refused again is not taken for success, and not renewed again within 30 s.
#[test]
fn a_second_401_passes_through_and_forces_nothing() {
    let lms = Peer::start(|_| Reply::new(401, "text/plain", "still no"));
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    for _ in 0..20 {
        let answer = bursar.get("/api/x");
        assert_eq!((answer.status, answer.text().as_str()), (401, "still no"));
        assert_eq!(answer.field("proxy-status"), None);
    }
    assert_eq!(server.calls(), 2, "one at the start, one forced");
}

#[test]
fn a_401_while_the_authorization_server_is_down_passes_through_and_the_token_stays() {
    let lms = Peer::start(|seen| {
        if seen.target() == "/api/odd" {
            Reply::new(401, "text/plain", "odd")
        } else {
            Reply::ok()
        }
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    server.then_times(100, &Reply::BytesThenClose(Vec::new()));
    let answer = bursar.get("/api/odd");
    assert_eq!((answer.status, answer.text().as_str()), (401, "odd"));
    assert_eq!(
        bursar.get("/api/x").status,
        200,
        "one route's 401 is no outage of the others"
    );
}

/// F29: a body that has streamed through cannot be sent again; the refresh happens all the same.
#[test]
fn a_large_body_is_not_replayed_and_its_401_passes() {
    let lms = forgetful();
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let answer = bursar.request("POST", "/api/x", "", &"x".repeat(100_000));
    assert_eq!(answer.status, 401);
    assert_eq!(lms.calls(), 1);
    bursar.until("refreshed in the background", |_| server.calls() == 2);
    bursar.until("healed", |bursar| bursar.get("/api/x").status == 200);
}

/// F28, F30: permission errors and throttling are no reason to refresh.
#[test]
fn a_403_never_causes_a_token_request() {
    let lms = Peer::start(|seen| match seen.target() {
        "/api/scope" => Reply::new(403, "text/plain", "Insufficient scope to call"),
        "/api/throttle" => Reply::with_fields(
            403,
            &[("X-Rate-Limit-Remaining", "0.0")],
            "403 Forbidden (Rate Limit Exceeded)",
        ),
        "/api/429" => Reply::with_fields(429, &[("Retry-After", "7")], ""),
        _ => Reply::new(500, "text/plain", ""),
    });
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    assert_eq!(bursar.get("/api/scope").status, 403);
    assert_eq!(bursar.get("/api/throttle").status, 403);
    let throttled = bursar.get("/api/429");
    assert_eq!(
        (throttled.status, throttled.field("retry-after")),
        (429, Some("7"))
    );
    assert_eq!(bursar.get("/api/500").status, 500);
    assert_eq!(server.calls(), 1);
}

/// Canvas answers 401 for a missing permission, too; only `WWW-Authenticate` marks a dead token.
#[test]
fn canvas_permission_errors_do_not_cost_a_token() {
    let lms = Peer::start(|seen| {
        let first = seen.fields("authorization") == ["Bearer token-1"];
        match seen.target() {
            "/api/v1/courses/1" => {
                Reply::new(401, "application/json", r#"{"status":"unauthorized"}"#)
            }
            _ if first => Reply::with_fields(
                401,
                &[("WWW-Authenticate", "Bearer realm=\"canvas-lms\"")],
                r#"{"errors":[{"message":"Invalid access token."}]}"#,
            ),
            _ => Reply::ok(),
        }
    });
    let server = AuthorizationServer::start();
    let configuration = toml(
        &lms,
        &server,
        Extra {
            upstream: "catalogue = \"canvas\"\nrequest_scopes = false",
            ..Extra::default()
        },
    )
    .replace(
        r#"scopes = ["api:read"]
catalogue"#,
        r#"scopes = ["api:read", "url:GET|/api/v1/courses/:id", "url:GET|/api/v1/courses"]
catalogue"#,
    );
    let bursar = Bursar::ready(&configuration);
    for _ in 0..5 {
        assert_eq!(bursar.get("/api/v1/courses/1").status, 401);
    }
    let counted = r#"bursar_upstream_unauthorized_total{upstream="lms"}"#;
    assert!(bursar.metric(counted) < 0.5, "it is not the token");
    assert_eq!(server.calls(), 1);
    assert_eq!(bursar.get("/api/v1/courses").status, 200);
    assert_eq!(server.calls(), 2);
    assert!((bursar.metric(counted) - 1.0).abs() < 0.5);
}

/// An authorization server may hand the same token out again: replaying it would only get the same 401.
#[test]
fn the_same_token_again_is_not_replayed() {
    let lms = Peer::start(|_| Reply::new(401, "text/plain", "no"));
    let server = AuthorizationServer::start();
    for _ in 0..5 {
        server.then(|_| crate::support::authorization_server::token("same", 3600));
    }
    let bursar = between(&lms, &server);
    assert_eq!(bursar.get("/api/x").status, 401);
    assert_eq!(lms.calls(), 1);
    assert_eq!(server.calls(), 2);
}
