//! Several credentials and several upstreams in one bursar: each request gets the token that is meant for it, and no other.

use serde_json::json;

use crate::support::{
    authorization_server::{AuthorizationServer, token},
    bursar::{Bursar, Extra, admin_get, toml},
    http::exchange,
    peer::{Peer, Reply},
    program::{bursar_in, write_private},
};

/// A second client, at an authorization server of its own.
fn client(server: &AuthorizationServer) -> String {
    format!(
        r#"
[credentials.writer]
auth_method = "client_secret_basic"
client_id = "writer"
client_secret = "canary-writer-secret"
token_url = "{}"
"#,
        server.token_url()
    )
}

/// The usual upstream, where grades go out with the token of the writer.
fn with_writer(
    lms: &Peer,
    reader: &AuthorizationServer,
    server: &AuthorizationServer,
    upstream: &str,
) -> String {
    let tail = client(server);
    toml(
        lms,
        reader,
        Extra {
            upstream,
            tail: &tail,
            ..Extra::default()
        },
    )
    .replace(
        "scopes = [\"grades:write\"]",
        "scopes = [\"grades:write\"]\ncredential = \"writer\"",
    )
    .replacen(
        "credential = \"app\"\nscopes = [\"api:read\"]",
        "credential = \"app\"\nscopes = [\"api:read\", \"grades:write\"]",
        1,
    )
}

/// An authorization server whose tokens are called `writer-…`.
fn writers() -> AuthorizationServer {
    let server = AuthorizationServer::start();
    for number in 1..10 {
        server.then(move |_| token(&format!("writer-{number}"), 3600));
    }
    server
}

fn asked(server: &AuthorizationServer) -> Vec<String> {
    server.peer.seen().iter().map(|seen| seen.text()).collect()
}

#[test]
fn a_route_with_a_credential_of_its_own_gets_that_ones_token_and_no_other_route_does() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let bursar = Bursar::ready(&with_writer(&lms, &reader, &writer, ""));

    for _ in 0..3 {
        assert_eq!(bursar.get("/api/x").status, 200);
        assert_eq!(lms.last().fields("authorization"), ["Bearer token-1"]);
        assert_eq!(bursar.request("PUT", "/grades/1", "", "5").status, 200);
        assert_eq!(lms.last().fields("authorization"), ["Bearer writer-1"]);
    }
    // Each asked once, for what is its own.
    let (of_reader, of_writer) = (asked(&reader), asked(&writer));
    assert_eq!((of_reader.len(), of_writer.len()), (1, 1));
    assert!(of_reader[0].contains("scope=api%3Aread"), "{of_reader:?}");
    assert!(!of_reader[0].contains("grades"), "{of_reader:?}");
    assert!(
        of_writer[0].contains("scope=grades%3Awrite"),
        "{of_writer:?}"
    );
    assert!(!of_writer[0].contains("api"), "{of_writer:?}");

    for credential in ["app", "writer"] {
        let series = format!(r#"bursar_token_valid{{credential="{credential}"}}"#);
        assert_eq!(bursar.metric(&series), 1.0);
    }
    assert_eq!(
        bursar.metric(r#"bursar_token_lookups_total{credential="writer",outcome="hit"}"#),
        3.0
    );
    let status = admin_get(bursar.control, "/api/v1/status").json();
    assert_eq!(
        status["upstreams"][0]["route_credentials"],
        json!(["writer"])
    );
    assert_eq!(status["tokens"].as_array().unwrap().len(), 2);
}

#[test]
fn a_401_renews_the_token_that_the_request_was_sent_with() {
    let lms = Peer::start(|seen| {
        if seen.fields("authorization") == ["Bearer writer-1"] {
            Reply::new(401, "text/plain", "")
        } else {
            Reply::ok()
        }
    });
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let bursar = Bursar::ready(&with_writer(&lms, &reader, &writer, ""));
    assert_eq!(bursar.request("PUT", "/grades/1", "", "5").status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer writer-2"]);
    assert_eq!((reader.calls(), writer.calls()), (1, 2));
}

#[test]
fn one_credential_that_fails_takes_down_its_own_routes_only() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), AuthorizationServer::start());
    writer.then_times(
        100,
        &crate::support::authorization_server::refusal(401, "invalid_client"),
    );
    let bursar = Bursar::start(&with_writer(&lms, &reader, &writer, ""));
    bursar.until("the reader has its token", |bursar| {
        bursar.metric(r#"bursar_token_valid{credential="app"}"#) > 0.5
    });
    assert_eq!(bursar.get("/api/x").status, 200);
    let answer = bursar.request("PUT", "/grades/1", "", "5");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "token_configuration_error")
    );
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_scope_that_is_missing_is_counted_for_the_credential_that_lacks_it() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), AuthorizationServer::start());
    writer.then(|_| Reply::json(200, &json!({"access_token": "narrow", "token_type": "Bearer", "expires_in": 3600, "scope": "other"})));
    let bursar = Bursar::ready(&with_writer(&lms, &reader, &writer, ""));
    assert_eq!(
        bursar.request("PUT", "/grades/1", "", "5").code(),
        "insufficient_scope"
    );
    assert_eq!(
        bursar.metric(
            r#"bursar_policy_scope_denials_total{credential="writer",scope="grades:write"}"#
        ),
        1.0
    );
}

#[test]
fn narrowed_tokens_are_the_credentials_own_too() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let bursar = Bursar::start(&with_writer(
        &lms,
        &reader,
        &writer,
        "token_scope = \"route\"",
    ));
    assert_eq!((reader.calls(), writer.calls()), (0, 0), "made on demand");
    assert_eq!(bursar.request("PUT", "/grades/1", "", "5").status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer writer-1"]);
    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer token-1"]);
    assert_eq!((reader.calls(), writer.calls()), (1, 1));
}

#[test]
fn check_asks_for_a_token_of_each_credential_as_it_is_used() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let directory = tempfile::tempdir().unwrap();
    write_private(
        &directory.path().join("bursar.toml"),
        &with_writer(&lms, &reader, &writer, ""),
    );
    let finished = bursar_in(directory.path(), &[], &["check"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(asked(&reader)[0].contains("scope=api%3Aread"));
    assert!(asked(&writer)[0].contains("scope=grades%3Awrite"));
    let test = bursar_in(
        directory.path(),
        &[],
        &["route", "test", "PUT", "/grades/1"],
    );
    assert!(
        test.stdout.contains("token     of credential writer"),
        "{}",
        test.said()
    );
}

#[test]
fn a_route_that_names_no_credential_is_told_so_and_a_named_one_is_not_unused() {
    let lms = Peer::start(|_| Reply::ok());
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let directory = tempfile::tempdir().unwrap();
    let sound = with_writer(&lms, &reader, &writer, "");
    let check = |text: &str| {
        write_private(&directory.path().join("bursar.toml"), text);
        bursar_in(directory.path(), &[], &["check", "--offline"])
    };
    let finished = check(&sound);
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(!finished.said().contains("BUR1209"), "{}", finished.said());

    let misspelt = check(&sound.replace("credential = \"writer\"", "credential = \"writter\""));
    assert_eq!(misspelt.code, 78);
    assert!(misspelt.said().contains("BUR1302"), "{}", misspelt.said());
    let closed = check(&sound.replace(
        "credential = \"writer\"",
        "credential = \"writer\"\ndeny = true",
    ));
    assert_eq!(closed.code, 78);
    assert!(closed.said().contains("BUR1010"), "{}", closed.said());
}

/// Two LMSs, each with its own client: chosen by Host, and by port.
#[test]
fn the_host_or_the_port_chooses_the_upstream_and_with_it_the_token() {
    let (one, other) = (Peer::start(|_| Reply::ok()), Peer::start(|_| Reply::ok()));
    let (reader, writer) = (AuthorizationServer::start(), writers());
    let port = crate::support::program::free_port();
    let tail = format!(
        r#"
[upstreams.other]
base_url = "{}"
credential = "writer"
scopes = ["api:read"]
hosts = ["other.localhost"]
listen = "{port}"

[[upstreams.other.routes]]
name = "api"
methods = ["GET"]
path = "/api/{{*rest}}"
scopes = ["api:read"]
{}"#,
        other.url(),
        client(&writer)
    );
    let bursar = Bursar::ready(&toml(
        &one,
        &reader,
        Extra {
            upstream: "hosts = [\"one.localhost\"]",
            tail: &tail,
            ..Extra::default()
        },
    ));
    let main = bursar.proxy;
    let get = |address, host: &str| {
        exchange(
            address,
            format!("GET /api/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
    };
    let by_port = port.to_string();
    let one_of_its_own = one.address.to_string();
    for (address, host, lms, bearer) in [
        (main, "one.localhost", &one, "Bearer token-1"),
        (main, "other.localhost", &other, "Bearer writer-1"),
        (main, one_of_its_own.as_str(), &one, "Bearer token-1"),
        (port, by_port.as_str(), &other, "Bearer writer-1"),
        (port, "other.localhost", &other, "Bearer writer-1"),
    ] {
        let before = (one.calls(), other.calls());
        assert_eq!(get(address, host).status, 200, "{host}");
        assert_eq!(lms.last().fields("authorization"), [bearer], "{host}");
        let after = (one.calls(), other.calls());
        assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "{host}");
    }
    let neither = get(main, &main.to_string());
    assert_eq!(
        (neither.status, neither.code().as_str()),
        (421, "misdirected_request")
    );
    assert!(
        neither.text().contains("one.localhost"),
        "{}",
        neither.text()
    );
}
