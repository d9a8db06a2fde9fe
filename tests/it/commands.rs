use crate::support::{
    authorization_server::{AuthorizationServer, refusal},
    bursar::{Extra, toml},
    http::exchange,
    peer::{Peer, Reply},
    program::{Daemon, bursar, bursar_in, write_private},
};

const BROKEN: &str = r#"
[server]
listen = "0.0.0.0:8080"
drain_timeout = "soon"
colour = "green"

[admin]
control = "0.0.0.0:9465"

[credentials.app]
profile = "oauth2"
auth_method = "client_secret_basic"
client_secret = 987654321
token_url = "http://as.example.edu/token"

[upstreams.api]
base_url = "https://api.example.edu/path"
credential = "nobody"
scopes = ["api read"]

[[upstreams.api.routes]]
name = "a"
methods = ["GET"]
path = "relative"
"#;

#[test]
fn the_demo_makes_its_tour_and_all_goes_as_it_should() {
    let finished = bursar(&["demo", "--once"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
}

#[test]
fn check_lists_every_problem_of_a_broken_file_at_once_and_exits_78() {
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join("bursar.toml"), BROKEN);
    for arguments in [
        &["check"][..],
        &["check", "--offline"],
        &["run"],
        &["route", "test", "GET", "/x"],
    ] {
        let finished = bursar_in(directory.path(), &[], arguments);
        let said = finished.said();
        assert_eq!(finished.code, 78, "{arguments:?}: {said}");
        for word in [
            "0.0.0.0:8080",
            "drain_timeout",
            "colour",
            "0.0.0.0:9465",
            "client_secret",
            "client_id",
            "token_url",
            "base_url",
            "nobody",
            "api read",
            "relative",
            "bursar.toml",
        ] {
            assert!(
                said.contains(word),
                "{arguments:?} does not name {word}:\n{said}"
            );
        }
        assert!(
            !said.contains("987654321"),
            "the value of a secret is never shown"
        );
        assert!(!said.contains('\x1b'), "no colour off a terminal");
    }
}

#[test]
fn a_configuration_that_is_missing_is_78_and_says_where_it_was_looked_for() {
    let finished = bursar(&["run"]);
    assert_eq!(finished.code, 78);
    assert!(
        finished.said().contains("bursar.toml")
            && finished.said().contains("/etc/bursar/config.toml"),
        "{}",
        finished.said()
    );
    assert_eq!(
        bursar(&["run", "--config", "/nonexistent/bursar.toml"]).code,
        78
    );
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["nonsense"][..],
        &["run", "--nonsense"],
        &["route", "test"],
        &["login"],
    ] {
        assert_eq!(bursar(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn a_secret_file_that_others_can_read_is_77() {
    use std::os::unix::fs::PermissionsExt;
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let secret = write_private(&directory.path().join("secret"), "canary-client-secret\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = toml(&lms, &server, Extra::default()).replace(
        r#"client_secret = "canary-client-secret""#,
        &format!("client_secret_file = {secret:?}"),
    );
    write_private(&directory.path().join("bursar.toml"), &text);
    let finished = bursar_in(directory.path(), &[], &["check", "--offline"]);
    assert_eq!(finished.code, 77, "{}", finished.said());
    assert!(!finished.said().contains("canary-client-secret"));

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let finished = bursar_in(directory.path(), &[], &["check", "--offline"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
}

#[test]
fn live_check_tells_a_good_server_from_one_that_refuses_and_one_that_is_not_there() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let text = toml(&lms, &server, Extra::default())
        .replace("scopes = [\"grades:write\"]", "scopes = [\"api:read\"]");
    write_private(&directory.path().join("bursar.toml"), &text);
    let good = bursar_in(directory.path(), &[], &["check"]);
    assert_eq!(good.code, 0, "{}", good.said());
    assert!(!good.said().contains("token-1") && !good.said().contains("canary"));

    server.then_times(3, &refusal(401, "invalid_client"));
    let refused = bursar_in(directory.path(), &[], &["check"]);
    assert_eq!(refused.code, 3, "{}", refused.said());
    assert!(refused.said().contains("invalid_client") && !refused.said().contains("canary"));

    let nobody = crate::support::program::free_port();
    write_private(
        &directory.path().join("bursar.toml"),
        &text.replace(&server.token_url(), &format!("http://{nobody}/token")),
    );
    let gone = bursar_in(directory.path(), &[], &["check", "-o", "json"]);
    assert_eq!(gone.code, 75, "{}", gone.said());
    let report: serde_json::Value = serde_json::from_str(&gone.stdout).unwrap();
    assert_eq!(report["success"], false);
}

#[test]
fn route_test_says_what_would_happen_and_why() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    write_private(
        &directory.path().join("bursar.toml"),
        &toml(&lms, &server, Extra::default()),
    );
    let allowed = bursar_in(directory.path(), &[], &["route", "test", "GET", "/api/x"]);
    assert_eq!(allowed.code, 0, "{}", allowed.said());
    assert!(allowed.stdout.contains("api:read"), "{}", allowed.stdout);
    for (method, target, word) in [
        ("PUT", "/grades/1", "grades:write"),
        ("GET", "/nowhere", "route_denied"),
        ("GET", "/api/../x", "path_ambiguous"),
        ("TRACE", "/api/x", "deny: method_not_allowed (405)"),
    ] {
        let denied = bursar_in(directory.path(), &[], &["route", "test", method, target]);
        assert_eq!(denied.code, 3, "{}", denied.said());
        assert!(denied.said().contains(word), "{}", denied.said());
    }
    assert_eq!(
        (lms.connections(), server.calls()),
        (0, 0),
        "nothing is sent"
    );
}

#[test]
fn config_show_names_the_source_of_each_value_and_hides_secrets() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    write_private(
        &directory.path().join("bursar.toml"),
        &toml(&lms, &server, Extra::default()),
    );
    let environment = [
        ("BURSAR_SERVER__DRAIN_TIMEOUT", "7s"),
        ("BURSAR_PORT", "tcp://10.0.0.1:80"),
    ];
    let shown = bursar_in(directory.path(), &environment, &["config", "show"]);
    assert_eq!(shown.code, 0, "{}", shown.said());
    assert!(
        shown.stdout.contains("7s") && shown.stdout.contains("BURSAR_SERVER__DRAIN_TIMEOUT"),
        "{}",
        shown.stdout
    );
    assert!(!shown.stdout.contains("canary"), "{}", shown.stdout);
    let path = bursar_in(directory.path(), &[], &["config", "path"]);
    // The path alone goes to stdout, so that a script can use it.
    assert!(
        path.code == 0 && path.stdout.ends_with("/bursar.toml\n"),
        "{}",
        path.said()
    );
    assert_eq!(path.stdout.lines().count(), 1, "{}", path.stdout);
    assert!(path.stderr.contains("the current directory"));
    let none = bursar(&["config", "path"]);
    assert_eq!((none.code, none.stdout.as_str()), (78, ""));
    let unknown = bursar_in(
        directory.path(),
        &[("BURSAR_SERVER__LISTN", "x")],
        &["config", "show"],
    );
    assert_eq!(unknown.code, 78, "{}", unknown.said());
    assert!(unknown.said().contains("BURSAR_SERVER__LISTN"));
}

#[test]
fn config_schema_needs_no_configuration_and_is_json() {
    let printed = bursar(&["config", "schema"]);
    assert_eq!(printed.code, 0, "{}", printed.said());
    let schema: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let base_url =
        &schema["properties"]["upstreams"]["additionalProperties"]["properties"]["base_url"];
    assert_eq!(base_url["type"], "string");
}

#[test]
fn token_tells_everything_but_the_token_and_reveals_it_to_no_pipe() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let text = toml(&lms, &server, Extra::default());
    write_private(&directory.path().join("bursar.toml"), &text);
    let told = bursar_in(directory.path(), &[], &["token", "app"]);
    assert_eq!(told.code, 0, "{}", told.said());
    assert!(told.stdout.contains("api:read") && told.stdout.contains("expires"));
    assert!(!told.said().contains("token-1") && !told.said().contains("canary"));

    let refused = bursar_in(directory.path(), &[], &["token", "app", "--reveal"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert_eq!(server.calls(), 1, "nothing is asked for in vain");

    server.then_times(1, &refusal(401, "invalid_client"));
    let refused = bursar_in(directory.path(), &[], &["token", "app"]);
    assert_eq!(refused.code, 1, "{}", refused.said());
    let nobody = crate::support::program::free_port();
    let text = text.replace(&server.token_url(), &format!("http://{nobody}/token"));
    write_private(&directory.path().join("bursar.toml"), &text);
    assert_eq!(bursar_in(directory.path(), &[], &["token", "app"]).code, 75);
}

#[test]
fn the_completion_for_bash_is_a_script_that_bash_can_read() {
    use std::process::Command;
    let printed = bursar(&["completion", "bash"]);
    assert_eq!(printed.code, 0, "{}", printed.said());
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(&directory.path().join("bursar"), &printed.stdout);
    // What bash would offer behind `bursar route t`.
    let script = format!(
        "source {file:?}\nCOMP_WORDS=(bursar route t)\nCOMP_CWORD=2\n_bursar bursar t route\necho \"${{COMPREPLY[@]}}\"\n"
    );
    match Command::new("bash")
        .args(["--norc", "-c", &script])
        .output()
    {
        Ok(offered) => assert_eq!(
            String::from_utf8_lossy(&offered.stdout),
            "test\n",
            "{offered:?}"
        ),
        // Not every machine has bash; then there is nobody to complete for.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

#[test]
fn a_reader_that_hangs_up_does_not_make_a_command_fail() {
    use std::process::Command;
    for arguments in [["completion", "bash"], ["config", "schema"], ["man", "run"]] {
        let program = env!("CARGO_BIN_EXE_bursar");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(program)
            .args(arguments)
            .stdout(writer)
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }
}

#[test]
fn every_code_can_be_explained() {
    for code in bursar::code::Code::ALL {
        let finished = bursar(&["explain", code.as_str()]);
        assert!(
            finished.code == 0 && finished.stdout.len() > 100,
            "{code}: {}",
            finished.said()
        );
    }
    assert_ne!(bursar(&["explain", "BUR9999"]).code, 0);
}

#[test]
fn keys_are_made_private_and_their_public_half_is_shown() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let made = bursar_in(directory.path(), &[], &["keys", "new", "--out", "key.pem"]);
    assert_eq!(made.code, 0, "{}", made.said());
    let file = directory.path().join("key.pem");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(!made.said().contains("PRIVATE"));
    let again = bursar_in(directory.path(), &[], &["keys", "new", "--out", "key.pem"]);
    assert_ne!(again.code, 0, "an existing key is never overwritten");

    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let text = toml(&lms, &server, Extra::default())
        .replace(
            "auth_method = \"client_secret_basic\"",
            "auth_method = \"private_key_jwt\"\nprivate_key_file = \"key.pem\"",
        )
        .replace("client_secret = \"canary-client-secret\"\n", "");
    write_private(&directory.path().join("bursar.toml"), &text);
    let shown = bursar_in(directory.path(), &[], &["keys", "jwks"]);
    assert_eq!(shown.code, 0, "{}", shown.said());
    let set: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert!(set["keys"][0]["kid"].is_string() && set["keys"][0].get("d").is_none());
}

#[test]
fn run_serves_tells_its_status_and_drains_on_sigterm() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &toml(&lms, &server, Extra::default()));
    let answer = exchange(
        daemon.proxy,
        format!("GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.proxy),
    );
    assert_eq!(answer.status, 200);
    let status = bursar_in(directory.path(), &[], &["status"]);
    assert!(
        status.code == 0 && status.stdout.contains("app"),
        "{}",
        status.said()
    );
    let status = bursar_in(directory.path(), &[], &["status", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&status.stdout).unwrap()["tokens"][0]["credential"],
        "app"
    );
    assert_eq!(bursar_in(directory.path(), &[], &["health"]).code, 0);
    let (code, log) = daemon.stop();
    assert_eq!(code, 0, "{log}");
    assert_eq!(bursar_in(directory.path(), &[], &["health"]).code, 1);
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["ts"].is_string() && line["level"].is_string() && line["msg"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_port_that_is_taken_is_said_so() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let other = Peer::start(|_| Reply::ok());
    let taken = other.address.to_string();
    let text = toml(&lms, &server, Extra::default()).replacen("127.0.0.1:0", &taken, 1);
    write_private(&directory.path().join("bursar.toml"), &text);
    let finished = bursar_in(directory.path(), &[], &["run"]);
    assert_eq!(finished.code, 1, "{}", finished.said());
    assert!(
        finished.said().contains(&taken) && finished.said().contains("server.listen"),
        "{}",
        finished.said()
    );
}

#[test]
fn the_version_is_printed_for_people_and_machines() {
    assert!(
        bursar(&["version"])
            .stdout
            .contains(env!("CARGO_PKG_VERSION"))
    );
    let json: serde_json::Value =
        serde_json::from_str(&bursar(&["version", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}
