//! Keys that are rotated while bursar runs, with the real command.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, admin_get, toml},
    peer::{Peer, Reply, Seen},
    program::{Daemon, Finished, bursar_in, write_private},
};

/// A client with a directory of keys, and what it stands between.
struct Stage {
    lms: Peer,
    server: AuthorizationServer,
    directory: tempfile::TempDir,
}

impl Stage {
    /// `lifetime`: of tokens, in seconds; `credential`: further settings.
    fn new(lifetime: u64, credential: &str) -> Self {
        let stage = Self {
            lms: Peer::start(|_| Reply::ok()),
            server: AuthorizationServer::with_lifetime(lifetime),
            directory: tempfile::tempdir().unwrap(),
        };
        stage.done(&["keys", "new", "--alg", "ES256", "--dir", "keys"]);
        let extra = Extra {
            credential,
            ..Extra::default()
        };
        let text = toml(&stage.lms, &stage.server, extra)
            .replace("client_secret_basic", "private_key_jwt")
            .replace(
                "client_secret = \"canary-client-secret\"",
                "keys_dir = \"keys\"",
            );
        write_private(&stage.file(), &text);
        stage
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("bursar.toml")
    }

    fn keys(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    fn command(&self, arguments: &[&str]) -> Finished {
        bursar_in(self.directory.path(), &[], arguments)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let finished = self.command(arguments);
        assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.said());
        finished.said()
    }

    /// The ids and states that `keys list` tells, the oldest key first.
    fn listed(&self) -> Vec<(String, String)> {
        let finished = self.command(&["keys", "list", "-o", "json"]);
        let keys: Value = serde_json::from_str(&finished.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let keys = keys.as_array().unwrap().iter();
        keys.map(|key| (text(&key["kid"]), text(&key["state"])))
            .collect()
    }

    /// The ids of the keys that the authorization server has been shown, in order, without repetition.
    fn signed_by(&self) -> Vec<String> {
        let mut kids: Vec<String> = self.server.peer.seen().iter().map(kid_of).collect();
        kids.dedup();
        kids
    }
}

fn kid_of(seen: &Seen) -> String {
    let body = seen.text();
    let (_, assertion) = body.split_once("client_assertion=").unwrap();
    let header = assertion.split('.').next().unwrap();
    let header: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn published(bursar: &Bursar) -> Vec<String> {
    let set = admin_get(bursar.control, "/.well-known/jwks.json").json();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn state(kid: &str, state: &str) -> String {
    format!("bursar_signing_key_info{{alg=\"ES256\",kid=\"{kid}\",state=\"{state}\"}}")
}

/// A file of a key that begins so many seconds from now (or ago).
fn name_in(seconds: i64) -> String {
    let now = std::time::SystemTime::now();
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        now - offset
    } else {
        now + offset
    };
    bursar::keys::KeyStart::from(time).file_name()
}

fn only_file(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap();
    let file = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    file
}

#[test]
fn a_next_key_is_published_in_seconds_and_costs_no_token() {
    let stage = Stage::new(3600, "");
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    let plan = stage.done(&["keys", "rotate", "--plan"]);
    assert!(plan.contains("(new, ES256)"), "{plan}");
    assert_eq!(stage.listed().len(), 1, "a plan changes nothing");

    stage.done(&["keys", "rotate"]);
    let listed = stage.listed();
    bursar.until("the next key is published", |bursar| {
        published(bursar).len() == 2
    });
    let ids: Vec<&String> = listed.iter().map(|(kid, _)| kid).collect();
    assert_eq!(published(&bursar).iter().collect::<Vec<_>>(), ids);
    assert_eq!(listed[1].1, "next");
    assert!(bursar.metric(&state(ids[0], "active")) == 1.0);
    assert!(bursar.metric(&state(ids[1], "next")) == 1.0);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(stage.server.calls(), 1, "the token is as good as before");

    let again = stage.command(&["keys", "rotate"]);
    assert_eq!(again.code, 1);
    assert!(
        again.said().contains("waits for its turn"),
        "{}",
        again.said()
    );
}

#[test]
fn keys_that_have_leaked_are_replaced_in_seconds_and_no_request_is_lost() {
    let stage = Stage::new(3600, "");
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    let before = stage.listed();
    stage.done(&["keys", "rotate", "--now"]);
    bursar.until("a token by the new key", |_| stage.server.calls() == 2);
    let after = stage.listed();
    assert_eq!(after.len(), 1);
    assert_eq!(stage.signed_by(), [before[0].0.clone(), after[0].0.clone()]);
    assert_eq!(published(&bursar), [after[0].0.clone()]);
    assert_eq!(bursar.get("/api/x").status, 200);
    assert!(bursar.metric(&state(&before[0].0, "active")) == 0.0);
}

#[test]
fn the_turn_of_a_key_comes_without_anything_being_read_again() {
    let stage = Stage::new(2, "");
    let first = only_file(&stage.keys());
    fs::rename(&first, stage.keys().join(name_in(-100))).unwrap();
    // A next key whose turn comes in a moment: as if it had been made an hour ago.
    stage.done(&["keys", "new", "--alg", "ES256", "--out", "next.pem"]);
    let next = stage.directory.path().join("next.pem");
    fs::rename(next, stage.keys().join(name_in(4))).unwrap();
    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    let ids: Vec<String> = stage.listed().into_iter().map(|(kid, _)| kid).collect();
    assert_eq!(published(&bursar), ids);
    bursar.until("the second key signs", |_| stage.signed_by().len() == 2);
    assert_eq!(stage.signed_by(), ids);
    assert!(bursar.metric(&state(&ids[0], "retired")) == 1.0);
    assert!(bursar.metric(&state(&ids[1], "active")) == 1.0);
    assert_eq!(
        bursar.metric("bursar_config_reloads_total{result=\"success\"}"),
        0.0
    );
}

#[test]
fn a_key_that_the_world_does_not_see_waits_and_check_says_so() {
    let seen_by_the_world = Arc::new(Mutex::new(json!({ "keys": [] })));
    let web = Peer::start({
        let set = Arc::clone(&seen_by_the_world);
        move |_| Reply::json(200, &set.lock().unwrap())
    });
    let stage = Stage::new(2, &format!("jwks_url = \"{}/jwks.json\"", web.url()));
    let first = only_file(&stage.keys());
    fs::rename(&first, stage.keys().join(name_in(-100))).unwrap();
    // Hosted as a file, as it was before the rotation.
    let set = stage.command(&["keys", "jwks"]).stdout;
    *seen_by_the_world.lock().unwrap() = serde_json::from_str(&set).unwrap();
    stage.done(&["keys", "new", "--alg", "ES256", "--out", "next.pem"]);
    let next = stage.directory.path().join("next.pem");
    fs::rename(next, stage.keys().join(name_in(3))).unwrap();
    let ids: Vec<String> = stage.listed().into_iter().map(|(kid, _)| kid).collect();

    let bursar = Bursar::start_from(&stage.file());
    bursar.until_ready();
    bursar.until("the turn of the second key has come", |bursar| {
        bursar.metric(&state(&ids[1], "unpublished")) == 1.0
    });
    assert!(bursar.metric(&state(&ids[0], "active")) == 1.0);
    let calls = stage.server.calls();
    bursar.until("more tokens", |_| stage.server.calls() >= calls + 3);
    assert_eq!(
        stage.signed_by(),
        [ids[0].clone()],
        "nothing was signed that could not be verified"
    );
    let checked = stage.command(&["check"]);
    assert_eq!(checked.code, 3, "{}", checked.said());
    assert!(
        checked.said().contains("BUR2302") && checked.said().contains(&ids[1]),
        "{}",
        checked.said()
    );

    // Published at last.
    let set = stage.command(&["keys", "jwks"]).stdout;
    *seen_by_the_world.lock().unwrap() = serde_json::from_str(&set).unwrap();
    let checked = stage.command(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.said());
}

#[test]
fn a_directory_into_which_others_can_put_keys_is_warned_of_by_check_and_run_and_refused_by_neither()
{
    use std::os::unix::fs::PermissionsExt as _;
    const SAFE: &str = "by nobody who should not";
    let stage = Stage::new(3600, "");
    assert!(stage.done(&["check", "--offline"]).contains(SAFE));

    fs::set_permissions(stage.keys(), fs::Permissions::from_mode(0o777)).unwrap();
    let checked = stage.done(&["check", "--offline"]);
    assert!(!checked.contains(SAFE), "{checked}");
    for part in ["BUR1210", "credentials.app.keys_dir", "others can write to"] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
    let text = fs::read_to_string(stage.file()).unwrap();
    let (code, log) = Daemon::start(stage.directory.path(), &text).stop();
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("BUR1210") && log.contains("others can write to"),
        "{log}"
    );
}
