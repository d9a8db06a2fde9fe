//! The caller key (R78): whoever does not show it gets a 401 and nothing else, and it never goes further than bursar.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, toml},
    http::Connection,
    peer::{Peer, Reply},
    program::{Daemon, write_private},
};

const KEY: &str = "canary-caller-key/+=:";
const OLD: &str = "canary-older-key-0123";

struct Guarded {
    lms: Peer,
    _server: AuthorizationServer,
    bursar: Bursar,
    _directory: tempfile::TempDir,
}

fn guarded() -> Guarded {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let configuration = configuration(&lms, &server, directory.path());
    let bursar = Bursar::ready(&configuration);
    Guarded {
        lms,
        _server: server,
        bursar,
        _directory: directory,
    }
}

fn configuration(lms: &Peer, server: &AuthorizationServer, directory: &std::path::Path) -> String {
    let file = write_private(&directory.join("caller-key"), &format!("{KEY}\n{OLD}\n"));
    let setting = format!("caller_key_file = {file:?}");
    toml(
        lms,
        server,
        Extra {
            server: &setting,
            ..Extra::default()
        },
    )
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

/// Every field in which the key is taken.
fn forms(key: &str) -> Vec<String> {
    let basic = basic(&format!("anybody:{key}"));
    vec![
        format!("Bursar-Caller: {key}\r\n"),
        format!("Authorization: Bearer {key}\r\n"),
        format!("Authorization: {basic}\r\n"),
        format!("Proxy-Authorization: Bearer {key}\r\n"),
        format!("Proxy-Authorization: {basic}\r\n"),
    ]
}

#[test]
fn the_key_is_taken_in_each_of_its_forms_and_never_reaches_the_lms() {
    let guarded = guarded();
    for key in [KEY, OLD] {
        for fields in forms(key) {
            let answer = guarded.bursar.request("GET", "/api/x", &fields, "");
            assert_eq!(answer.status, 200, "{fields}");
            let seen = guarded.lms.last();
            assert_eq!(seen.fields("authorization"), ["Bearer token-1"]);
            for absent in ["bursar-caller", "proxy-authorization"] {
                assert!(seen.fields(absent).is_empty(), "{fields}");
            }
            assert!(!seen.head.contains("canary"), "{}", seen.head);
        }
    }
}

#[test]
fn without_the_key_there_is_a_401_and_nothing_is_dialled() {
    let guarded = guarded();
    for fields in ["", "Accept: */*\r\n"] {
        let answer = guarded.bursar.request("GET", "/api/x", fields, "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "client_unauthenticated")
        );
        let challenges: Vec<_> = answer
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
            .map(|(_, value)| value.split(' ').next().unwrap())
            .collect();
        assert_eq!(challenges, ["Basic", "Bearer"]);
        assert!(answer.field("bursar-request-id").is_some());
    }
    assert_eq!(guarded.lms.connections(), 0);
    assert_eq!(
        guarded.bursar.metric(r#"bursar_policy_decisions_total{decision="deny",reason="caller",route="_unmatched",upstream="_none"}"#),
        2.0
    );
}

#[test]
fn whoever_has_no_key_learns_nothing_about_names_and_routes() {
    let guarded = guarded();
    let mut answers: Vec<_> = [
        "/api/x",
        "/grades/1",
        "/nowhere",
        "/a/../b",
        "/api/x?access_token=1",
    ]
    .map(|target| {
        let answer = guarded.bursar.request("GET", target, "", "");
        (answer.status, answer.json()["detail"].clone())
    })
    .into();
    let foreign = crate::support::http::exchange(
        guarded.bursar.proxy,
        "GET /api/x HTTP/1.1\r\nHost: who.test\r\n\r\n",
    );
    answers.push((foreign.status, foreign.json()["detail"].clone()));
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(answers[0].0, 401);
}

#[test]
fn a_wrong_key_ends_the_connection_over_http_1_1() {
    let guarded = guarded();
    let proxy = guarded.bursar.proxy;
    let mut wrong = forms("canary-guessed-key-0123");
    wrong.extend([
        format!("Bursar-Caller: {KEY}\r\nBursar-Caller: {KEY}\r\n"),
        format!("Authorization: {KEY}\r\n"),
        format!("Authorization: {}\r\n", basic(&format!("{KEY}:anybody"))),
        format!("Bursar-Caller: {}\r\n", &KEY[1..]),
        "Bursar-Caller: \r\n".to_owned(),
    ]);
    for fields in &wrong {
        let mut connection = Connection::open(proxy);
        connection.send(format!(
            "GET /api/x HTTP/1.1\r\nHost: {proxy}\r\n{fields}\r\n"
        ));
        let answer = connection.answer();
        assert_eq!(answer.code(), "client_unauthenticated", "{fields}");
        assert!(connection.is_closed(), "{fields}");
    }
    assert_eq!(guarded.lms.connections(), 0);
}

#[test]
fn guesses_are_counted_but_do_not_fill_the_log_and_no_key_is_in_it() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let configuration = configuration(&lms, &server, directory.path())
        .replace("workers = 2", "workers = 1")
        .replace("[admin]", "[log]\nlevel = \"trace\"\n[admin]");
    let daemon = Daemon::start(directory.path(), &configuration);
    let proxy = daemon.proxy;
    let ask = |fields: &str| {
        crate::support::http::exchange(
            proxy,
            format!("GET /api/x HTTP/1.1\r\nHost: {proxy}\r\n{fields}\r\n"),
        )
        .status
    };
    for _ in 0..200 {
        assert_eq!(ask("Bursar-Caller: canary-guessed-key-0123\r\n"), 401);
    }
    assert_eq!(ask(&format!("Bursar-Caller: {KEY}\r\n")), 200);
    let metrics = crate::support::bursar::admin_get(daemon.admin, "/metrics").text();
    assert!(
        metrics.contains(
            r#"bursar_http_requests_total{code="401",route="_unmatched",upstream="_none"} 200"#
        ),
        "{metrics}"
    );
    let (_, output) = daemon.stop();
    let lines = output.matches("client_unauthenticated").count();
    assert!((10..100).contains(&lines), "{lines} lines");
    assert!(!output.contains("canary"), "{output}");
}
