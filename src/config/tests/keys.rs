//! `keys_dir`, and what goes with it.

use std::{path::PathBuf, time::Duration};

use super::{Loaded, ProblemCode, problem, problems, sound, write_secret};
use crate::{
    keys::{Algorithm, KeyRing, KeyStart, directory::KeyDirectory, generate},
    secret::ExposeSecret,
    token::Source,
};

const START: u64 = 1_795_774_500;

/// A directory with a key that begins at [`START`], and one an hour later.
fn keys() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("keys");
    let directory = KeyDirectory::open_or_make(&path).unwrap();
    for start in [START, START + 3_600] {
        let start = KeyStart::at(Duration::from_secs(start));
        directory
            .add(start, &generate(Algorithm::EdDsa).unwrap())
            .unwrap();
    }
    (parent, path)
}

fn with(lines: &str) -> String {
    format!(
        "[credentials.lms]\n\
         client_id = \"me\"\n\
         auth_method = \"private_key_jwt\"\n\
         token_url = \"https://auth.example/token\"\n\
         {lines}\n\
         [upstreams.lms]\n\
         base_url = \"https://lms.example\"\n\
         credential = \"lms\"\n\
         scopes = [\"a:b:read\"]\n\
         [[upstreams.lms.routes]]\n\
         name = \"r\"\n\
         methods = [\"GET\"]\n\
         path = \"/x\"\n\
         scopes = [\"a:b:read\"]\n"
    )
}

fn ring(loaded: &Loaded) -> &KeyRing {
    match &loaded.config.credentials[0].source {
        Source::Client(client) => client.keys().unwrap(),
        _ => panic!("a client"),
    }
}

#[test]
fn a_directory_of_keys_is_a_ring_that_the_clock_decides_over() {
    let (_parent, path) = keys();
    let loaded = sound(&with(&format!("keys_dir = {path:?}")), &[]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let ring = ring(&loaded);
    let states = |now| -> Vec<&str> {
        let views = ring.views(Duration::from_secs(now));
        views.iter().map(|view| view.state).collect()
    };
    assert_eq!(states(START), ["active", "next"]);
    assert_eq!(states(START + 3_600), ["retired", "active"]);
    // An hour (jwks_max_age) and a minute (assertion_lifetime) later.
    assert_eq!(states(START + 7_259), ["retired", "active"]);
    assert_eq!(states(START + 7_260), ["expired", "active"]);
    assert_eq!(ring.directory(), Some(&path));
}

#[test]
fn how_long_a_key_is_needed_can_be_set() {
    let (_parent, path) = keys();
    let terms = format!("keys_dir = {path:?}\njwks_max_age = \"10m\"\nassertion_lifetime = \"5m\"");
    let loaded = sound(&with(&terms), &[]);
    assert_eq!(ring(&loaded).terms().overlap(), Duration::from_secs(900));
    for wrong in ["0s", "8days"] {
        let text = with(&format!("keys_dir = {path:?}\njwks_max_age = {wrong:?}"));
        assert_eq!(problem(&text).code(), ProblemCode::InvalidValue, "{wrong}");
    }
}

#[test]
fn one_key_and_a_directory_of_keys_exclude_each_other() {
    let (parent, path) = keys();
    let file = parent.path().join("key.pem");
    write_secret(&file, generate(Algorithm::EdDsa).unwrap().expose_secret());
    let problem_of = |lines: String| {
        let problem = problem(&with(&lines));
        (problem.code(), problem.key().to_owned())
    };
    assert_eq!(
        problem_of(format!("keys_dir = {path:?}\nprivate_key_file = {file:?}")),
        (ProblemCode::Conflict, "credentials.lms.keys_dir".to_owned())
    );
    assert_eq!(
        problem_of(format!("keys_dir = {path:?}\nkid = \"2026-a\"")),
        (ProblemCode::Conflict, "credentials.lms.kid".to_owned())
    );
}

#[test]
fn every_file_that_is_wrong_is_named_with_the_form_that_it_should_have() {
    let (_parent, path) = keys();
    write_secret(&path.join("2026-a.pem"), "canary");
    write_secret(&path.join("20270101T000000Z.pem"), "canary");
    let problems = problems(&with(&format!("keys_dir = {path:?}")), &[]);
    let codes: Vec<_> = problems.iter().map(|problem| problem.code()).collect();
    assert_eq!(
        codes,
        [ProblemCode::KeyUnusable, ProblemCode::KeysDirectory]
    );
    let said = problems.render(false);
    assert!(
        said.contains("2026-a.pem") && said.contains("20261127T101500Z.pem"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_directory_that_is_not_there_or_empty_says_how_it_is_begun() {
    let (parent, _) = keys();
    for name in ["absent", "empty"] {
        let path = parent.path().join(name);
        if name == "empty" {
            std::fs::create_dir(&path).unwrap();
        }
        let problem = problem(&with(&format!("keys_dir = {path:?}")));
        assert_eq!(problem.code(), ProblemCode::KeysDirectory);
        assert!(
            problem.help().contains("bursar keys new --dir"),
            "{}",
            problem.help()
        );
    }
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_exit_code_of_secrets() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_parent, path) = keys();
    let file = path.join("20261127T101500Z.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = with(&format!("keys_dir = {path:?}"));
    assert_eq!(problems(&text, &[]).exit_code(), 77);
    let loaded = sound(&format!("[server]\nsecret_files = \"any\"\n{text}"), &[]);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn a_directory_into_which_others_can_put_keys_is_a_warning() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let (_parent, path) = keys();
    let warned = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = sound(&with(&format!("keys_dir = {path:?}")), &[]);
        let warnings = loaded.warnings.iter().map(|warning| {
            assert_eq!(warning.code(), ProblemCode::KeysDirectory);
            assert_eq!(warning.key(), "credentials.lms.keys_dir");
            warning.what().to_owned()
        });
        warnings.collect::<Vec<_>>()
    };
    for mode in [0o700, 0o755, 0o1777] {
        assert!(warned(mode).is_empty(), "{mode:o}");
    }
    let said = warned(0o777);
    assert!(
        matches!(&said[..], [said] if said.starts_with("others can write to") && said.contains("(mode 0777)")),
        "{said:?}"
    );
    if path.metadata().unwrap().gid() == 0 {
        assert!(warned(0o770).is_empty(), "root may do anything anyway");
        chown(&path, None, Some(4_711)).unwrap();
    }
    let said = warned(0o770);
    assert!(
        matches!(&said[..], [said] if said.starts_with("the group can write to")),
        "{said:?}"
    );
}

#[test]
fn the_key_set_is_looked_at_over_https_or_on_this_machine() {
    let (_parent, path) = keys();
    let key_set = |url: &str| {
        let loaded = sound(
            &with(&format!("keys_dir = {path:?}\njwks_url = {url:?}")),
            &[],
        );
        match &loaded.config.credentials[0].source {
            Source::Client(client) => client.key_set.clone().unwrap(),
            _ => panic!("a client"),
        }
    };
    let url = key_set("https://keys.example/jwks.json?v=1");
    assert!(url.dialer.tls.is_some());
    assert_eq!(url.path, "/jwks.json?v=1");
    assert!(
        key_set("http://127.0.0.1:8081/jwks.json")
            .dialer
            .tls
            .is_none()
    );

    let plain = with(&format!(
        "keys_dir = {path:?}\njwks_url = \"http://keys.example/\""
    ));
    assert_eq!(problem(&plain).code(), ProblemCode::PlainHttp);
    let by_secret = with("client_secret = \"x\"\njwks_url = \"https://keys.example/\"")
        .replace("private_key_jwt", "client_secret_basic");
    assert_eq!(problem(&by_secret).code(), ProblemCode::NoEffect);
}
