//! Who can reach which listener.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{SOUND, problem, sound, write_secret};
use crate::config::ProblemCode;

/// [`SOUND`] with `[server]` and `[admin]` before it; `KEY` is the name of a file with a key.
fn text(directory: &tempfile::TempDir, settings: &str) -> String {
    let path = directory.path().join("key");
    write_secret(&path, "0123456789abcdef\n");
    let settings = settings.replace("KEY", path.to_str().unwrap());
    format!("{settings}\n{SOUND}")
}

#[test]
fn a_listener_off_loopback_needs_permission_and_a_key() {
    let directory = tempfile::tempdir().unwrap();
    for (settings, remedy) in [
        ("", "allow_remote"),
        ("allow_remote = true", "caller_key_file"),
        ("caller_key_file = \"KEY\"", "allow_remote"),
    ] {
        let text = text(
            &directory,
            &format!("[server]\nlisten = \"0.0.0.0:8080\"\n{settings}"),
        );
        let problem = problem(&text);
        assert_eq!(problem.code(), ProblemCode::ExposedListener);
        assert_eq!(problem.key(), "server.listen");
        assert!(problem.help().contains(remedy), "{problem:?}");
    }
    let both =
        "[server]\nlisten = \"0.0.0.0:8080\"\nallow_remote = true\ncaller_key_file = \"KEY\"";
    let loaded = sound(&text(&directory, both), &[]);
    assert!(loaded.config.server.caller_keys.is_some());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_listener_of_an_upstream_is_under_the_same_rule() {
    let directory = tempfile::tempdir().unwrap();
    let base = "base_url = \"https://lms.example\"";
    let exposed = format!("{base}\nlisten = \"192.0.2.1:8082\"");
    let found = problem(&SOUND.replace(base, &exposed));
    assert_eq!(found.key(), "upstreams.lms.listen");
    let both = "[server]\nallow_remote = true\ncaller_key_file = \"KEY\"";
    sound(&text(&directory, both).replace(base, &exposed), &[]);
}

#[test]
fn unix_sockets_need_no_permission_and_one_path_is_for_one_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let text = |control: &str| {
        format!(
            "[server]\nlisten = {:?}\nsocket_mode = \"0660\"\nallowed_uids = [1000]\n[admin]\ncontrol = {:?}\n{SOUND}",
            path("proxy"),
            path(control),
        )
    };
    let loaded = sound(&text("control"), &[]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let server = &loaded.config.server;
    assert_eq!(server.listen.to_string(), path("proxy"));
    assert_eq!(server.socket_mode, 0o660);
    assert_eq!(server.allowed_uids.as_deref(), Some(&[1000][..]));
    let conflict = problem(&text("proxy"));
    assert_eq!(
        (conflict.code(), conflict.key()),
        (ProblemCode::ListenerConflict, "admin.control")
    );
}

#[test]
fn a_directory_that_others_can_write_to_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(directory.path(), open).unwrap();
    let path = directory.path().join("proxy");
    let text = format!("[server]\nlisten = \"unix:{}\"\n{SOUND}", path.display());
    let loaded = sound(&text, &[]);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].code(), ProblemCode::ExposedListener);
    assert!(loaded.warnings[0].what().contains("0777"));
}

#[test]
fn rules_for_unix_sockets_where_there_is_none_are_refused() {
    for rule in ["allowed_uids = [1000]", "socket_mode = \"0660\""] {
        let found = problem(&format!("[server]\n{rule}\n{SOUND}"));
        assert_eq!(found.code(), ProblemCode::NoEffect, "{rule}");
    }
}

#[test]
fn what_others_reach_has_a_port() {
    let found = problem(&format!("[admin]\nlisten = \"unix:/run/x\"\n{SOUND}"));
    assert_eq!(
        (found.code(), found.key()),
        (ProblemCode::InvalidValue, "admin.listen")
    );
}

#[test]
fn control_stays_on_this_machine_whatever_else_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let text = text(
        &directory,
        "[server]\nallow_remote = true\ncaller_key_file = \"KEY\"\n[admin]\ncontrol = \"0.0.0.0:9465\"\ncontrol_key_file = \"KEY\"",
    );
    let problem = problem(&text);
    assert_eq!(
        (problem.code(), problem.key()),
        (ProblemCode::ExposedListener, "admin.control")
    );
}

#[test]
fn a_key_that_can_be_guessed_is_refused_with_a_way_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let text = text(&directory, "[server]\ncaller_key_file = \"KEY\"");
    write_secret(&directory.path().join("key"), "canary\n");
    let problem = problem(&text);
    assert_eq!(
        (problem.code(), problem.key()),
        (ProblemCode::SecretUnusable, "server.caller_key_file")
    );
    assert!(problem.help().contains("openssl rand -base64 32"));
    assert!(!format!("{problem:?}").contains("canary"));
}

#[test]
fn an_upstream_is_none_of_our_own_listeners() {
    let directory = tempfile::tempdir().unwrap();
    let remote = "[server]\nlisten = \"192.0.2.1:8080\"\nhosts = [\"bursar\", \"gate:7000\"]\nallow_remote = true\ncaller_key_file = \"KEY\"\n[admin]\nlisten = \"0.0.0.0:9464\"";
    let with_base = |url: &str| {
        text(&directory, remote).replace(
            "base_url = \"https://lms.example\"",
            &format!("base_url = \"{url}\""),
        )
    };
    for own in [
        "https://192.0.2.1:8080",
        "https://bursar:8080",
        "http://127.0.0.1:9464",
        "http://localhost:9465",
        "http://[::1]:9464",
    ] {
        let problem = problem(&with_base(own));
        assert_eq!(problem.code(), ProblemCode::Loop, "{own}");
    }
    for other in [
        "https://192.0.2.1",
        "https://192.0.2.2:8080",
        "https://gate:8080",
        "http://127.0.0.1:8080",
    ] {
        sound(&with_base(other), &[]);
    }
}
