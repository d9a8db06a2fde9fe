use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use bursar::config::{LoadOptions, load};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, CONTROL_KEY, Extra, admin_get, control_post, toml},
    http::Connection,
    peer::{Gate, Peer, Reply, Seen},
    program::{Daemon, bursar_in, write_private},
};

/// A bursar whose configuration is a file, and what it stands between.
struct Stage {
    lms: Peer,
    server: AuthorizationServer,
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with(|_| Reply::ok())
    }

    fn with(lms: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let stage = Self {
            lms: Peer::start(lms),
            server: AuthorizationServer::start(),
            directory: tempfile::tempdir().unwrap(),
        };
        stage.secret("control-key", CONTROL_KEY);
        stage.secret("app-secret", "canary-secret-1");
        stage
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("bursar.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// In place, as `subPath` mounts and careless editors do.
    fn secret(&self, name: &str, value: &str) -> PathBuf {
        write_private(&self.path(name), &format!("{value}\n"))
    }

    /// The usual configuration with its secret in a file and a control key, followed by `tail`.
    fn text(&self, tail: &str) -> String {
        let extra = Extra {
            tail,
            ..Extra::default()
        };
        toml(&self.lms, &self.server, extra)
            .replace(
                "client_secret = \"canary-client-secret\"",
                "client_secret_file = \"app-secret\"",
            )
            .replace(
                "[credentials.app]",
                "control_key_file = \"control-key\"\n[credentials.app]",
            )
    }

    /// By rename, as good editors do.
    fn write(&self, text: &str) {
        let new = write_private(&self.path("new"), text);
        fs::rename(new, self.file()).unwrap();
    }

    fn start(&self, tail: &str) -> Bursar {
        self.write(&self.text(tail));
        let bursar = Bursar::start_from(&self.file());
        bursar.until_ready();
        bursar
    }

    /// The secrets that the authorization server has been shown, in order, without repetition.
    fn secrets_shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self.server.peer.seen().iter().map(secret_of).collect();
        shown.dedup();
        shown
    }
}

fn secret_of(seen: &Seen) -> String {
    let basic = seen.field("authorization").unwrap();
    let pair = basic.strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(BASE64_STANDARD.decode(pair).unwrap()).unwrap();
    pair.split_once(':').unwrap().1.to_owned()
}

/// A second upstream with a credential of its own.
fn second(lms: &Peer, server: &AuthorizationServer, scopes: &str) -> String {
    let (lms, token_url) = (lms.url(), server.token_url());
    format!(
        r#"
[credentials.second]
client_id = "second"
auth_method = "client_secret_basic"
client_secret_file = "second-secret"
token_url = "{token_url}"

[upstreams.second]
base_url = "{lms}"
credential = "second"
hosts = ["second"]
scopes = [{scopes}]

[[upstreams.second.routes]]
name = "anything"
methods = ["GET"]
path = "/second/{{*rest}}"
scopes = ["a"]
"#
    )
}

fn ask(connection: &mut Connection, host: &str, method: &str, target: &str, body: &str) -> u16 {
    connection.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection
        .answer_to(method)
        .map_or(0, |answer| answer.status)
}

// R93.
#[test]
fn reloads_under_load_fail_no_request_and_cost_no_token() {
    let posts: Arc<std::sync::Mutex<HashMap<String, usize>>> = Arc::default();
    let counted = Arc::clone(&posts);
    let stage = Stage::with(move |seen| {
        if seen.method() == "POST" {
            *counted.lock().unwrap().entry(seen.text()).or_default() += 1;
        }
        if seen.target() == "/api/slow" {
            thread::sleep(Duration::from_millis(150));
        }
        Reply::ok()
    });
    let (other, other_server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    stage.secret("second-secret", "canary-second-0");
    let hosts = |tail: &str| {
        let text = stage.text(tail);
        text.replacen("[upstreams.lms]", "[upstreams.lms]\nhosts = [\"lms\"]", 1)
    };
    stage.write(&hosts(&second(&other, &other_server, r#""a""#)));
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();

    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..6 {
            let (bursar, stop, answered) = (&bursar, &stop, &answered);
            scope.spawn(move || {
                let mut connection = Connection::open(bursar.proxy);
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let body = format!("{client}-{number}");
                    let status = match number % 4 {
                        0 => ask(&mut connection, "lms", "GET", "/api/slow", ""),
                        1 => ask(&mut connection, "lms", "POST", "/api/x", &body),
                        2 => ask(&mut connection, "second", "GET", "/second/x", ""),
                        _ => ask(&mut connection, "lms", "GET", "/api/x", ""),
                    };
                    assert_eq!(status, 200, "request {number} of client {client}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=30 {
            let scopes = format!(r#""a", "extra-{}""#, round % 3);
            stage.write(&hosts(&second(&other, &other_server, &scopes)));
            // The same content, written again; and another one.
            stage.secret("app-secret", "canary-secret-1");
            stage.secret("second-secret", &format!("canary-second-{}", round % 2));
            let answer = bursar.reload();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["upstreams"]["changed"], json!(["second"]));
            assert_eq!(answer.json()["credentials"]["changed"], json!(["second"]));
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
    });

    assert!(answered.load(Ordering::Relaxed) > 200);
    assert_eq!(stage.server.calls(), 1, "one token served all of it");
    assert!(
        stage.lms.connections() <= 6,
        "{} connections",
        stage.lms.connections()
    );
    let posts = posts.lock().unwrap();
    assert!(posts.len() > 50);
    assert!(posts.values().all(|count| *count == 1));
    let series = r#"bursar_config_reloads_total{result="success"}"#;
    assert!(bursar.metric(series) >= 30.0);
    assert_eq!(
        bursar.metric(r#"bursar_config_reloads_total{result="failure"}"#),
        0.0
    );
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let stage = Stage::new();
    let bursar = stage.start("");
    let before = admin_get(bursar.control, "/api/v1/status").json();
    let text = stage
        .text("")
        .replace("scopes = [\"api:read\"]\n", "scpoes = []\n");
    stage.write(&text.replace("workers = 2", "workers = \"many\""));

    let answer = bursar.reload();
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    let problems = answer.json()["problems"].clone();
    let problems = problems.as_array().unwrap();
    assert!(problems.len() >= 2, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|problem| !problem["help"].as_str().unwrap().is_empty())
    );
    let misspelt = problems
        .iter()
        .find(|problem| problem["key"] == "upstreams.lms.scpoes")
        .unwrap();
    assert_eq!(misspelt["code"], "BUR1004");
    assert!(misspelt["place"].as_str().unwrap().contains("bursar.toml:"));
    assert!(!answer.text().contains("canary"));

    assert_eq!(bursar.get("/api/x").status, 200);
    let after = admin_get(bursar.control, "/api/v1/status").json();
    assert_eq!(after["config_hash"], before["config_hash"]);
    let refused = after["reload_refused"]["problems"].to_string();
    assert!(refused.contains("scpoes"), "{refused}");
    assert_eq!(bursar.metric("bursar_config_last_reload_successful"), 0.0);

    // The files are looked at all the time, and what was told once is not told again.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(
        bursar.metric(r#"bursar_config_reloads_total{result="failure"}"#),
        1.0
    );
    stage.write(&stage.text("").replace(
        "scopes = [\"api:read\"]",
        "scopes = [\"api:read\", \"more\"]",
    ));
    bursar.until("healed by itself", |bursar| {
        bursar.metric("bursar_config_last_reload_successful") > 0.5
    });
    let healed = admin_get(bursar.control, "/api/v1/status").json();
    assert!(healed["reload_refused"].is_null());
    assert_ne!(healed["config_hash"], before["config_hash"]);
    let hash = healed["config_hash"].as_str().unwrap();
    assert_eq!(
        bursar.metric(&format!("bursar_config_info{{hash=\"{hash}\"}}")),
        1.0
    );
    assert!(
        !bursar
            .metrics()
            .contains(before["config_hash"].as_str().unwrap())
    );
}

#[test]
fn what_needs_a_restart_refuses_all_of_the_configuration() {
    let stage = Stage::new();
    let bursar = stage.start("");
    let text = stage.text("").replace("workers = 2", "workers = 3");
    stage.write(&text.replace("\"GET\", \"POST\"", "\"POST\""));
    let answer = bursar.reload();
    assert_eq!(answer.status, 409, "{}", answer.text());
    let problem = answer.json()["problems"][0].clone();
    assert_eq!(
        (&problem["code"], &problem["key"]),
        (&json!("BUR1013"), &json!("server.workers"))
    );
    let what = problem["what"].as_str().unwrap();
    assert!(what.contains('3') && what.contains('2'), "{what}");
    assert_eq!(bursar.get("/api/x").status, 200);
}

// F44: the second rotation too.
#[test]
fn a_secret_swapped_the_kubernetes_way_is_in_use_in_seconds_each_time() {
    let stage = Stage::new();
    let mount = stage.path("mount");
    fs::create_dir(&mount).unwrap();
    let swap = |number: usize| {
        let version = format!("..2026_11_27_{number}");
        fs::create_dir(mount.join(&version)).unwrap();
        let secret = format!("canary-rotated-{number}");
        write_private(&mount.join(&version).join("secret"), &secret);
        symlink(&version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        secret
    };
    let mut expected = vec![swap(0)];
    symlink("..data/secret", mount.join("secret")).unwrap();
    let text = stage.text("").replace("\"app-secret\"", "\"mount/secret\"");
    stage.write(&text);
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    for number in 1..=2 {
        expected.push(swap(number));
        bursar.until("the new secret is shown", |_| {
            stage.secrets_shown() == expected
        });
        assert_eq!(bursar.get("/api/x").status, 200);
    }
    // Nobody has to wait for it, and everything goes out with the newest token.
    bursar.until("the newest token", |bursar| {
        bursar.get("/api/x");
        stage.lms.last().field("authorization") == Some("Bearer token-3")
    });
}

#[test]
fn a_secret_written_in_place_is_in_use_in_seconds_each_time() {
    let stage = Stage::new();
    let bursar = stage.start("");
    let mut expected = vec!["canary-secret-1".to_owned()];
    for value in ["canary-secret-2", "canary-secret-3"] {
        stage.secret("app-secret", value);
        expected.push(value.to_owned());
        bursar.until("the new secret is shown", |_| {
            stage.secrets_shown() == expected
        });
        assert_eq!(bursar.get("/api/x").status, 200);
    }
}

#[test]
fn a_new_secret_that_is_refused_leaves_the_old_token_in_use() {
    let stage = Stage::new();
    let bursar = stage.start("");
    stage.server.then_times(
        2,
        &crate::support::authorization_server::refusal(401, "invalid_client"),
    );
    stage.secret("app-secret", "canary-secret-wrong");
    assert_eq!(bursar.reload().status, 200);
    bursar.until("parked", |bursar| {
        let status = admin_get(bursar.control, "/api/v1/status").json();
        status["tokens"][0]["state"] == "parked"
    });
    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(
        stage.lms.last().field("authorization"),
        Some("Bearer token-1")
    );
}

#[test]
fn a_secret_that_others_can_read_is_refused_until_its_mode_is_right() {
    let stage = Stage::new();
    let bursar = stage.start("");
    let secret = stage.secret("app-secret", "canary-secret-2");
    let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let answer = bursar.reload();
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["problems"][0]["code"], "BUR1202");
    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(stage.secrets_shown(), ["canary-secret-1"]);
    mode(0o600);
    bursar.until("in use by itself", |_| {
        stage.secrets_shown().last().unwrap() == "canary-secret-2"
    });
}

#[test]
fn a_key_that_is_added_to_its_directory_is_published_by_itself_and_a_new_caller_key_is_asked_for() {
    let stage = Stage::new();
    let keys = stage.path("keys");
    let made = |arguments: &[&str]| {
        let done = bursar_in(stage.directory.path(), &[], arguments);
        assert_eq!(done.code, 0, "{}", done.said());
    };
    made(&[
        "keys",
        "new",
        "--alg",
        "ES256",
        "--dir",
        keys.to_str().unwrap(),
    ]);
    stage.secret("caller-key", "canary-caller-key-1-of-some-length");
    let text = stage
        .text("")
        .replace(
            "auth_method = \"client_secret_basic\"",
            "auth_method = \"private_key_jwt\"",
        )
        .replace("client_secret_file = \"app-secret\"", "keys_dir = \"keys\"")
        .replacen("[server]", "[server]\ncaller_key_file = \"caller-key\"", 1);
    stage.write(&text);
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    let published = |bursar: &Bursar| {
        let set = admin_get(bursar.control, "/.well-known/jwks.json").json();
        set["keys"].as_array().unwrap().len()
    };
    let calls = |key: &str| {
        let field = format!("Bursar-Caller: {key}\r\n");
        bursar.request("GET", "/api/x", &field, "").status
    };
    assert_eq!(published(&bursar), 1);
    assert_eq!(calls("canary-caller-key-1-of-some-length"), 200);

    made(&["keys", "rotate", "app"]);
    stage.secret("caller-key", "canary-caller-key-2-of-some-length");
    bursar.until("the next key is published", |bursar| published(bursar) == 2);
    bursar.until("the new caller key is in force", |_| {
        calls("canary-caller-key-2-of-some-length") == 200
    });
    assert_eq!(calls("canary-caller-key-1-of-some-length"), 401);
}

#[test]
fn a_new_caller_or_control_key_in_the_same_file_is_told_as_a_change() {
    const NEW: &str = "canary-control-key-2-of-some-length";
    let stage = Stage::new();
    stage.secret("caller-key", "canary-caller-key-1-of-some-length");
    let text = stage.text("");
    let caller_key = "[server]\ncaller_key_file = \"caller-key\"";
    stage.write(&text.replacen("[server]", caller_key, 1));
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    assert_eq!(bursar.reload().json()["settings"], json!([]));

    stage.secret("caller-key", "canary-caller-key-2-of-some-length");
    let told = bursar.reload().json();
    assert_eq!(told["settings"], json!(["server.caller_key_file"]));
    stage.secret("control-key", &format!("{CONTROL_KEY}\n{NEW}"));
    let told = bursar.reload().json();
    assert_eq!(told["settings"], json!(["admin.control_key_file"]));
    assert_eq!(bursar.reload().json()["settings"], json!([]));
}

#[test]
fn upstreams_come_and_go_and_their_series_with_them() {
    let stage = Stage::new();
    let (other, other_server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    stage.secret("second-secret", "canary-second-0");
    let bursar = stage.start("");
    assert_eq!(bursar.get("/api/x").status, 200);
    let mut connection = Connection::open(bursar.proxy);
    assert_eq!(ask(&mut connection, "second", "GET", "/second/x", ""), 421);

    // With two upstreams, each needs a name of its own.
    let named = |tail: &str| {
        stage
            .text(tail)
            .replacen("[upstreams.lms]", "[upstreams.lms]\nhosts = [\"lms\"]", 1)
    };
    stage.write(&named(&second(&other, &other_server, r#""a""#)));
    let answer = bursar.reload();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["upstreams"]["added"], json!(["second"]));
    assert_eq!(answer.json()["credentials"]["added"], json!(["second"]));
    // On the connection that was there already; the first of them waits for the token.
    assert_eq!(ask(&mut connection, "second", "GET", "/second/x", ""), 200);
    assert_eq!(ask(&mut connection, "lms", "GET", "/api/x", ""), 200);
    let metrics = bursar.metrics();
    assert!(metrics.contains(r#"bursar_token_valid{credential="second"} 1"#));
    assert!(metrics.contains(r#"upstream="second""#));
    let kept = r#"bursar_http_requests_total{code="200",route="api",upstream="lms"}"#;
    assert_eq!(bursar.metric(kept), 2.0);

    stage.write(&named(""));
    let answer = bursar.reload();
    assert_eq!(answer.json()["upstreams"]["removed"], json!(["second"]));
    assert_eq!(answer.json()["credentials"]["removed"], json!(["second"]));
    assert_eq!(ask(&mut connection, "second", "GET", "/second/x", ""), 421);
    let metrics = bursar.metrics();
    assert!(!metrics.contains("\"second\""), "{metrics}");
    assert_eq!(bursar.metric(kept), 2.0);
    let status = admin_get(bursar.control, "/api/v1/status").json();
    assert_eq!(status["upstreams"].as_array().unwrap().len(), 1);
    assert_eq!(status["tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn a_request_in_flight_ends_as_it_began() {
    let gate = Gate::default();
    let held = gate.clone();
    let stage = Stage::with(move |seen| {
        if seen.target() == "/api/held" {
            held.pass();
        }
        Reply::ok()
    });
    let bursar = stage.start("");
    let (proxy, host) = (bursar.proxy, bursar.proxy.to_string());
    let slow = {
        thread::spawn(move || {
            let mut connection = Connection::open(proxy);
            let first = ask(&mut connection, &host, "GET", "/api/held", "");
            (first, ask(&mut connection, &host, "GET", "/api/x", ""))
        })
    };
    gate.await_arrivals(1);
    let text = stage
        .text("")
        .replace("\"/api/{*rest}\"", "\"/other/{*rest}\"");
    stage.write(&text);
    assert_eq!(bursar.reload().status, 200);
    assert_eq!(bursar.get("/api/x").code(), "route_denied");
    assert_eq!(bursar.get("/other/x").status, 200);
    gate.open();
    // The one after it, on the same connection, meets the new policy.
    assert_eq!(slow.join().unwrap(), (200, 403));
    bursar.until("nothing in flight is left in the gauge", |bursar| {
        bursar.metric(r#"bursar_http_requests_in_flight{upstream="lms"}"#) < 0.5
    });
}

#[test]
fn a_running_bursar_is_found_and_its_probes_succeed_whatever_the_configuration_has_become() {
    let stage = Stage::new();
    let directory = stage.directory.path();
    let daemon = Daemon::start(directory, &stage.text(""));
    let good = fs::read_to_string(stage.file()).unwrap();
    let upstream_gone = good.split("[upstreams.").next().unwrap().to_owned();
    for (bad, reload) in [
        (good.replace("[server]", "[server]\nlisen = 1"), 1),
        (upstream_gone, 1),
        // No TOML: what is read of it is good enough to look, and not to give orders.
        (good.replace("[server]", "[server]\nidle_timeout = "), 78),
    ] {
        assert_ne!(bad, good);
        fs::write(stage.file(), &bad).unwrap();
        until(|| {
            let status = admin_get(daemon.control, "/api/v1/status").json();
            !status["reload_refused"].is_null()
        });
        for (arguments, code, word) in [
            (&["health"][..], 0, ""),
            (&["health", "--ready"], 0, ""),
            (&["status"], 0, "last reload: "),
            (&["reload"], reload, "BUR1"),
        ] {
            let finished = bursar_in(directory, &[], arguments);
            let said = finished.said();
            assert_eq!(finished.code, code, "{arguments:?}: {said}\n{bad}");
            assert!(said.contains(word), "{arguments:?}: {said}");
        }
        fs::write(stage.file(), &good).unwrap();
        until(|| {
            let status = admin_get(daemon.control, "/api/v1/status").json();
            status["reload_refused"].is_null()
        });
    }
    // Only what the command itself needs must be right, and secrets of others are not read.
    fs::remove_file(stage.path("app-secret")).unwrap();
    fs::remove_file(stage.path("control-key")).unwrap();
    for (arguments, code) in [(&["health"][..], 0), (&["status"], 0), (&["reload"], 78)] {
        let finished = bursar_in(directory, &[], arguments);
        assert_eq!(finished.code, code, "{arguments:?}: {}", finished.said());
    }
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_file_that_is_gone_is_missed_and_no_other_one_taken_in_its_place() {
    let stage = Stage::new();
    let home = stage.path("home");
    fs::create_dir_all(home.join("bursar")).unwrap();
    stage.write(&stage.text(""));
    let elsewhere = stage
        .text("")
        .replace("[server]", "[server]\nidle_timeout = \"7s\"");
    write_private(&home.join("bursar/config.toml"), &elsewhere);
    for secret in ["control-key", "app-secret"] {
        fs::copy(stage.path(secret), home.join("bursar").join(secret)).unwrap();
    }
    let options = LoadOptions {
        directory: Some(stage.directory.path().to_owned()),
        environment: vec![(
            "XDG_CONFIG_HOME".to_owned(),
            home.to_str().unwrap().to_owned(),
        )],
        ..LoadOptions::default()
    };
    let first = load(&options).ok().unwrap();
    assert_eq!(first.path, Some(stage.file()));
    fs::remove_file(stage.file()).unwrap();
    let problems = load(&first.options).err().unwrap();
    let said = problems.render(false);
    assert!(
        said.contains("BUR1002") && said.contains("bursar.toml"),
        "{said}"
    );
    // Without it, the other one would be as good as any.
    assert!(load(&options).is_ok());
}

#[test]
fn sighup_reloads_and_does_not_kill() {
    let stage = Stage::new();
    let directory = stage.directory.path();
    let daemon = Daemon::start(directory, &stage.text(""));
    let hash = |daemon: &Daemon| {
        let status = admin_get(daemon.control, "/api/v1/status").json();
        status["config_hash"].as_str().unwrap().to_owned()
    };
    let before = hash(&daemon);
    let text = fs::read_to_string(stage.file()).unwrap();
    fs::write(
        stage.file(),
        text.replace("[server]", "[server]\nidle_timeout = \"7s\""),
    )
    .unwrap();
    let hangup =
        || rustix::process::kill_process(daemon.pid(), rustix::process::Signal::HUP).unwrap();
    hangup();
    until(|| hash(&daemon) != before);
    fs::write(stage.file(), "this is no TOML").unwrap();
    hangup();
    until(|| {
        let status = admin_get(daemon.control, "/api/v1/status").json();
        !status["reload_refused"].is_null()
    });
    assert_eq!(admin_get(daemon.admin, "/readyz").status, 200);
    let (code, output) = daemon.stop();
    assert_eq!(code, 0, "{output}");
    for word in [
        "config_reloaded",
        "SIGHUP",
        "server.idle_timeout",
        "config_reload_failed",
        "BUR1003",
    ] {
        assert!(output.contains(word), "{word}: {output}");
    }
    assert!(!output.contains("canary"), "{output}");
}

#[test]
fn the_command_says_what_changed_what_stands_against_it_and_that_nobody_answers() {
    let stage = Stage::new();
    let directory = stage.directory.path();
    let daemon = Daemon::start(directory, &stage.text(""));
    let reload = || bursar_in(directory, &[], &["reload"]);
    let original = fs::read_to_string(stage.file()).unwrap();
    let write = |text: &str| write_private(&stage.file(), text);

    write(&original.replace("[server]", "[server]\nidle_timeout = \"7s\""));
    let done = reload();
    assert_eq!(done.code, 0, "{}", done.said());
    assert!(
        done.stdout.contains("server.idle_timeout"),
        "{}",
        done.stdout
    );

    write(&original.replace("workers = 2", "workers = 1"));
    let refused = reload();
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert!(refused.stderr.contains("BUR1013"), "{}", refused.stderr);
    let status = bursar_in(directory, &[], &["status"]);
    assert!(status.stdout.contains("BUR1013"), "{}", status.stdout);

    write("nonsense");
    assert_eq!(reload().code, 78);

    write(&original.replace("control_key_file", "# control_key_file"));
    let keyless = reload();
    assert_eq!(keyless.code, 1, "{}", keyless.said());
    assert!(
        keyless.stderr.contains("control_key_file"),
        "{}",
        keyless.stderr
    );

    write(&original);
    let (code, output) = daemon.stop();
    assert_eq!(code, 0, "{output}");
    assert_eq!(reload().code, 75);
}

#[test]
fn hundreds_of_reloads_leave_no_thread_no_socket_and_no_token_request_behind() {
    let stage = Stage::new();
    let (other, other_server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    stage.secret("second-secret", "canary-second-0");
    let named = |scopes: &str| {
        stage.text(&second(&other, &other_server, scopes)).replacen(
            "[upstreams.lms]",
            "[upstreams.lms]\nhosts = [\"lms\"]",
            1,
        )
    };
    let daemon = Daemon::start(stage.directory.path(), &named(r#""a""#));
    let ports = fs::read_to_string(stage.file()).unwrap();
    let write = |number: usize| {
        let scopes = format!(r#"scopes = ["a", "extra-{number}"]"#);
        stage.write(
            &ports
                .replace(
                    r#"scopes = ["a"]
hosts"#,
                    &format!("{scopes}\nhosts"),
                )
                .replace(
                    "scopes = [\"a\"]\n\n[[upstreams.second",
                    &format!("{scopes}\n\n[[upstreams.second"),
                ),
        );
    };
    let process = PathBuf::from(format!("/proc/{}", daemon.pid().as_raw_nonzero()));
    let count = |name: &str| fs::read_dir(process.join(name)).unwrap().count();
    let reload = |number| {
        write(number);
        let answer = control_post(daemon.control, "/-/reload");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["upstreams"]["changed"], json!(["second"]));
    };
    for number in 0..20 {
        reload(number);
    }
    let (descriptors, threads) = (count("fd"), count("task"));
    let memory = resident_kib(&process);
    for number in 20..220 {
        reload(number);
    }
    thread::sleep(Duration::from_millis(1500));
    assert!(
        count("fd") <= descriptors + 2,
        "{} after {descriptors}",
        count("fd")
    );
    assert!(
        count("task") <= threads + 1,
        "{} after {threads}",
        count("task")
    );
    let grown = resident_kib(&process).saturating_sub(memory);
    assert!(grown < 16 * 1024, "{grown} KiB");
    // All those tokens are renewed no more; the one that did not change was asked for once.
    assert_eq!(stage.server.calls(), 1);
    let status = admin_get(daemon.control, "/api/v1/status").json();
    assert_eq!(status["tokens"].as_array().unwrap().len(), 2);
}

fn resident_kib(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn until(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never happened");
}
