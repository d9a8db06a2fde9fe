//! How bursar proves itself at the token endpoint, over real sockets, and a server that has one token per client.
//! `tests/peers/oidc` has these judged by a certified authorization server.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    authorization_server::{AuthorizationServer, token},
    bursar::{Bursar, Extra, toml},
    peer::{Peer, Reply},
};

const SECRET: &str = "canary-client-secret";

/// The usual configuration with another way of authentication.
fn configured(server: &AuthorizationServer, lms: &Peer, method: &str) -> String {
    let usual = r#"auth_method = "client_secret_basic""#;
    let text = toml(lms, server, Extra::default());
    assert!(text.contains(usual));
    text.replace(usual, method)
}

fn form(body: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect()
}

/// R57.
#[test]
fn a_posted_secret_is_in_the_body_of_the_token_request_and_nowhere_else() {
    let (lms, server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    let bursar = Bursar::ready(&configured(
        &server,
        &lms,
        r#"auth_method = "client_secret_post""#,
    ));
    assert_eq!(bursar.get("/api/x").status, 200);

    let asked = &server.peer.seen()[0];
    assert!(!asked.head.contains(SECRET), "{}", asked.head);
    assert_eq!(asked.field("authorization"), None);
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", SECRET),
        ("scope", "api:read"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&asked.text()), expected);
    assert!(lms.seen().iter().all(|seen| !seen.head.contains(SECRET)));
    assert!(!bursar.metrics().contains(SECRET));
}

#[test]
fn an_assertion_by_secret_is_new_in_each_token_request_and_the_secret_stays_here() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::with_lifetime(2);
    let long = "canary-client-secret-of-32-bytes";
    let text = configured(&server, &lms, r#"auth_method = "client_secret_jwt""#);
    let bursar = Bursar::ready(&text.replace(SECRET, long));
    bursar.until("three token requests", |_| server.calls() >= 3);
    let mut assertions = Vec::new();
    for asked in server.peer.seen() {
        assert!(!asked.head.contains(long));
        assert!(!asked.text().contains(long));
        assert_eq!(asked.field("authorization"), None);
        let form = form(&asked.text());
        let assertion = form.iter().find(|(name, _)| name == "client_assertion");
        assertions.push(assertion.unwrap().1.clone());
    }
    let sent = assertions.len();
    assertions.sort();
    assertions.dedup();
    assert_eq!(assertions.len(), sent);
}

/// F7, as Blackboard does it.
#[test]
fn a_token_that_is_handed_out_until_it_expires_is_asked_for_when_it_has_and_no_request_fails() {
    let (lms, server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    // The renewal ahead of its end, after less than two seconds, brings it again.
    server.then(|_| token("one", 3));
    server.then(|_| token("one", 1));
    server.then(|_| token("two", 3_600));
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) {
        assert_eq!(bursar.get("/api/x").status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.calls(), 3);
    let tokens: Vec<_> = lms
        .seen()
        .iter()
        .map(|seen| seen.field("authorization").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(tokens.first().map(String::as_str), Some("Bearer one"));
    assert_eq!(tokens.last().map(String::as_str), Some("Bearer two"));
}
