//! P2: no byte leaves without a permit, and every rejection says what, why and what next.

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, between, toml},
    peer::{Peer, Reply},
};
use serde_json::json;

#[test]
fn what_no_route_matches_is_denied_without_a_dial() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    for target in ["/", "/nowhere", "/apix", "/API/x"] {
        let answer = bursar.get(target);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "route_denied"),
            "{target}"
        );
    }
    assert_eq!((lms.connections(), server.calls()), (0, 1));
}

#[test]
fn a_rejection_has_the_whole_shape_of_a_problem() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let answer = bursar.request(
        "PUT",
        "/grades/canary-path?q=canary-query",
        "X-Canary: canary-field\r\n",
        "canary-body",
    );

    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(
        answer
            .field("proxy-status")
            .unwrap()
            .starts_with("bursar; error=")
    );
    let problem = answer.json();
    assert!(
        problem["type"]
            .as_str()
            .unwrap()
            .ends_with("insufficient_scope")
    );
    assert_eq!(problem["status"], 403);
    assert_eq!(problem["code"], "insufficient_scope");
    assert_eq!(
        problem["instance"].as_str(),
        answer.field("bursar-request-id")
    );
    assert_eq!(problem["retryable"], false);
    assert_eq!(problem["route"], "grades");
    assert_eq!(problem["missing_scopes"], json!(["grades:write"]));
    assert!(
        !problem["title"].as_str().unwrap().is_empty()
            && !problem["detail"].as_str().unwrap().is_empty()
    );
    assert!(
        !answer.text().contains("canary"),
        "no byte of the application's: {}",
        answer.text()
    );
    assert_eq!(lms.connections(), 0);

    let head = bursar.request("HEAD", "/nowhere", "", "");
    assert_eq!((head.status, head.body.len()), (403, 0));
    assert_eq!(head.field("content-type"), Some("application/problem+json"));
}

#[test]
fn a_scope_that_the_server_did_not_grant_refuses_just_its_routes() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    server.then(|_| Reply::json(200, &json!({"access_token": "narrow", "token_type": "Bearer", "expires_in": 3600, "scope": "api:read"})));
    let configuration = toml(&lms, &server, Extra::default()).replace(
        r#"scopes = ["api:read"]
"#,
        r#"scopes = ["api:read", "grades:write"]
"#,
    );
    let configuration = configuration.replacen(
        "path = \"/api/{*rest}\"\nscopes = [\"api:read\", \"grades:write\"]",
        "path = \"/api/{*rest}\"\nscopes = [\"api:read\"]",
        1,
    );
    let bursar = Bursar::ready(&configuration);

    assert_eq!(bursar.get("/api/x").status, 200);
    let answer = bursar.request("PUT", "/grades/1", "", "5");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "insufficient_scope")
    );
    assert_eq!(answer.json()["missing_scopes"], json!(["grades:write"]));
    assert_eq!(lms.calls(), 1);
    assert!(
        bursar
            .metric(r#"bursar_policy_scope_denials_total{credential="app",scope="grades:write"}"#)
            >= 1.0
    );
}

#[test]
fn a_deny_route_wins_over_everything_more_specific() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let tail = "[[upstreams.lms.routes]]\nname = \"closed\"\npath = \"/api/admin/{*rest}\"\ndeny = true\n\
        [[upstreams.lms.routes]]\nname = \"open\"\nmethods = [\"GET\"]\npath = \"/api/admin/very/specific\"\nscopes = []\n";
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            tail,
            ..Extra::default()
        },
    ));
    assert_eq!(
        bursar.get("/api/admin/very/specific").code(),
        "route_denied"
    );
    assert_eq!(bursar.get("/api/other").status, 200);
    assert!(bursar.metric(r#"bursar_policy_decisions_total{decision="deny",reason="deny",route="closed",upstream="lms"}"#) >= 1.0);
}

#[test]
fn the_brightspace_catalogue_decides_by_scope_whatever_the_case_of_the_path() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let configuration = toml(
        &lms,
        &server,
        Extra {
            upstream: r#"catalogue = "brightspace""#,
            ..Extra::default()
        },
    )
    .replace(
        r#"scopes = ["api:read"]
catalogue"#,
        r#"scopes = ["api:read", "users:own_profile:read"]
catalogue"#,
    );
    let bursar = Bursar::ready(&configuration);

    assert_eq!(bursar.get("/d2l/api/lp/1.49/users/whoami").status, 200);
    assert_eq!(bursar.get("/D2L/API/LP/1.49/USERS/WHOAMI").status, 200);
    assert_eq!(
        lms.last().target(),
        "/D2L/API/LP/1.49/USERS/WHOAMI",
        "what was matched is what is sent"
    );
    let users = bursar.get("/d2l/api/lp/1.49/users/");
    assert_eq!(
        (users.status, users.code().as_str()),
        (403, "insufficient_scope")
    );
    let unknown = bursar.get("/d2l/api/lp/1.49/no/such/thing");
    assert_eq!(unknown.json()["missing_scopes"], json!(["core:*:*"]));
    assert_eq!(
        bursar.get("/d2l/lp/auth/oauth2/token").code(),
        "route_denied"
    );
}

#[test]
fn one_token_per_needed_scope_set_where_the_upstream_says_so() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let upstream = "token_scope = \"route\"";
    let tail = "[[upstreams.lms.routes]]\nname = \"both\"\nmethods = [\"GET\"]\npath = \"/both\"\nscopes = [\"api:read\", \"api:list\"]\n";
    let configuration = toml(
        &lms,
        &server,
        Extra {
            upstream,
            tail,
            ..Extra::default()
        },
    )
    .replace(
        "scopes = [\"api:read\"]\ntoken_scope",
        "scopes = [\"api:read\", \"api:list\"]\ntoken_scope",
    );
    let bursar = Bursar::start(&configuration);

    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(bursar.get("/both").status, 200);
    assert_eq!(bursar.get("/api/y").status, 200);
    let asked: Vec<String> = server.peer.seen().iter().map(|seen| seen.text()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].contains("scope=api%3Aread&") || asked[0].ends_with("scope=api%3Aread"),
        "{}",
        asked[0]
    );
    assert!(
        asked[1].contains("api%3Alist+api%3Aread") || asked[1].contains("api%3Alist%20api%3Aread"),
        "{}",
        asked[1]
    );
}
