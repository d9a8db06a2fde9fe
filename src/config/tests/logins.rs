//! Credentials for which people log in, and where that is kept.

use std::{fmt::Write, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use super::{problem, problems, sound, write_secret};
use crate::{
    config::{Loaded, ProblemCode},
    oauth::{ClientAuth, Dialect, Grant, Revocation},
    store::{KeyFile, StoreParams},
    token::{RefreshAhead, Source, login::LoginParams},
};

const HOME: (&str, &str) = ("HOME", "/home/ann");

const BRIGHTSPACE: &[&str] = &[
    r#"profile = "brightspace""#,
    r#"grant = "authorization_code""#,
    r#"client_id = "app""#,
    r#"client_secret = "canary""#,
    r#"redirect_uri = "https://localhost:8765/callback""#,
];

const CANVAS: &[&str] = &[
    r#"profile = "canvas""#,
    r#"client_id = "10000000000042""#,
    r#"client_secret = "canary""#,
    r#"redirect_uri = "http://127.0.0.1:8765/callback""#,
    r#"token_url = "https://school.example/login/oauth2/token""#,
    r#"authorize_url = "https://school.example/login/oauth2/auth""#,
];

/// A configuration with these lines in its only credential.
fn with(lines: &[&str]) -> String {
    let mut text = "[credentials.lms]\n".to_owned();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text + r#"
[upstreams.lms]
base_url = "https://lms.example"
credential = "lms"
scopes = ["a:b:c"]

[[upstreams.lms.routes]]
name = "one"
methods = ["GET"]
path = "/one"
scopes = ["a:b:c"]
"#
}

fn and(lines: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [lines, more].concat()
}

fn login(loaded: &Loaded) -> &LoginParams {
    match &loaded.config.credentials[0].source {
        Source::Login(login) => login,
        _ => panic!("a login"),
    }
}

fn url(login: &LoginParams) -> String {
    let client = &login.client;
    format!(
        "https://{}{}",
        client.dialer.origin.authority(),
        client.token_path
    )
}

#[test]
fn brightspace_logs_in_with_basic_or_post() {
    let loaded = sound(&with(BRIGHTSPACE), &[HOME]);
    let login = login(&loaded);
    assert_eq!(
        url(login),
        "https://auth.brightspace.com/core/connect/token"
    );
    assert!(matches!(login.client.grant, Grant::Login));
    assert!(matches!(login.client.auth, ClientAuth::SecretBasic { .. }));
    let authorization = &login.authorization;
    assert_eq!(
        authorization.authorize_url.as_str(),
        "https://auth.brightspace.com/oauth2/auth"
    );
    assert_eq!(
        authorization.redirect_uri.as_str(),
        "https://localhost:8765/callback"
    );
    assert!(authorization.pkce);
    assert_eq!(authorization.issuer, None);
    assert!(!login.refresh.is_reusable && login.refresh.names_scopes);
    assert_eq!(login.refresh.reuse_grace, Duration::ZERO);
    assert!(loaded.config.revocations.is_empty());
    assert_eq!(loaded.config.credentials[0].grant, "authorization_code");

    let posted = and(BRIGHTSPACE, &[r#"auth_method = "client_secret_post""#]);
    let loaded = sound(&with(&posted), &[HOME]);
    assert_eq!(
        loaded.config.credentials[0].auth_method,
        "client_secret_post"
    );
}

#[test]
fn without_a_login_brightspace_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let pem = crate::keys::generate(crate::keys::Algorithm::Es256).unwrap();
    let path = directory.path().join("key.pem");
    write_secret(&path, crate::secret::ExposeSecret::expose_secret(&pem));
    let key = format!("private_key_file = {path:?}");
    let lines = [r#"profile = "brightspace""#, r#"client_id = "app""#, &key];
    let loaded = sound(&with(&lines), &[]);
    assert_eq!(loaded.config.credentials[0].auth_method, "private_key_jwt");
    // Nobody logs in, so nothing needs a place.
    assert_eq!(loaded.config.state, StoreParams::Memory);
}

#[test]
fn canvas_posts_its_secret_refreshes_late_without_scopes_and_can_take_a_login_back() {
    let loaded = sound(&with(CANVAS), &[HOME]);
    let login = login(&loaded);
    assert!(matches!(login.client.auth, ClientAuth::SecretPost { .. }));
    assert!(login.refresh.is_reusable && !login.refresh.names_scopes);
    let timing = loaded.config.credentials[0].timing;
    assert_eq!(
        timing.refresh_ahead,
        RefreshAhead::Before(Duration::from_secs(60))
    );
    assert!(matches!(
        loaded.config.revocations["lms"],
        Revocation::Delete
    ));
    // The host is a school's own.
    let without: Vec<_> = CANVAS[..4].to_vec();
    let told = problems(&with(&without), &[HOME]).render(false);
    assert!(
        told.contains("token_url") && told.contains("authorize_url"),
        "{told}"
    );
}

#[test]
fn ltiaas_has_an_api_key_and_urls_with_the_platform_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    write_secret(&key, "canary\n");
    let key = format!("api_key_file = {key:?}");
    let lines = [
        r#"profile = "ltiaas""#,
        r#"platform_id = "a/b 1""#,
        r#"redirect_uri = "http://127.0.0.1:8765/callback""#,
        r#"token_url = "https://school.ltiaas.com/api/oauth/access-token""#,
        &key,
    ];
    let loaded = sound(&with(&lines), &[HOME]);
    let login = login(&loaded);
    assert_eq!(
        url(login),
        "https://school.ltiaas.com/api/oauth/access-token/a%2Fb%201"
    );
    let Dialect::Ltiaas(ltiaas) = &login.client.dialect else {
        panic!("its own dialect");
    };
    assert_eq!(
        ltiaas.refresh_path,
        "/api/oauth/access-token/a%2Fb%201/refresh"
    );
    assert_eq!(
        login.authorization.authorize_url.as_str(),
        "https://school.ltiaas.com/oauth/start/a%2Fb%201"
    );
    assert_eq!(
        login.authorization.relay_parameter.as_deref(),
        Some("token")
    );
    assert_eq!(login.client.client_id, "a/b 1");
    assert!(matches!(login.client.auth, ClientAuth::ApiKey { .. }));
    assert!(!loaded.config.upstreams[0].tokens.ask.send);

    let elsewhere = [
        &lines[..],
        &[r#"refresh_url = "https://other.example/refresh""#],
    ]
    .concat();
    let told = problems(&with(&elsewhere), &[HOME]).render(false);
    assert!(told.contains("take the API key there"), "{told}");
}

#[test]
fn a_login_needs_a_place_to_come_back_to_and_one_where_it_is_kept() {
    let told = |lines: &[&str], home: &[(&str, &str)]| problems(&with(lines), home).render(false);
    let without = &BRIGHTSPACE[..4];
    assert!(told(without, &[HOME]).contains("redirect_uri"));
    let homeless = told(BRIGHTSPACE, &[]);
    assert!(homeless.contains("state.path"), "{homeless}");
    assert!(homeless.contains("state.key_file"), "{homeless}");
}

/// A key that seals.
const STATE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

fn state(text: &str, environment: &[(&str, &str)]) -> StoreParams {
    let text = format!("{text}\n{}", with(BRIGHTSPACE));
    sound(&text, environment).config.state
}

#[test]
fn it_is_kept_where_files_of_the_user_belong_or_where_it_is_said() {
    let file = |directory: &str, key_file: KeyFile| StoreParams::File {
        directory: directory.into(),
        key_file,
    };
    let own = |path: &str| KeyFile::Own { path: path.into() };
    assert_eq!(
        state("", &[HOME]),
        file(
            "/home/ann/.local/state/bursar",
            own("/home/ann/.config/bursar/state-key")
        )
    );
    assert_eq!(
        state(
            "",
            &[
                HOME,
                ("XDG_STATE_HOME", "/s"),
                ("XDG_CONFIG_HOME", "relative")
            ]
        ),
        file("/s/bursar", own("/home/ann/.config/bursar/state-key"))
    );
    let secrets = tempfile::tempdir().unwrap();
    let key = secrets.path().join("state-key");
    write_secret(&key, STATE_KEY);
    let given = state(
        &format!("[state]\npath = \"/var/lib/bursar\"\nkey_file = {key:?}"),
        &[],
    );
    let StoreParams::File {
        directory,
        key_file: KeyFile::Given { path, .. },
    } = given
    else {
        panic!("files, and a key of somebody else's");
    };
    assert_eq!(directory, Path::new("/var/lib/bursar"));
    assert_eq!(path, key);
    let later = format!("[state]\nbackend = \"redis\"\n{}", with(BRIGHTSPACE));
    assert_eq!(problem(&later).code(), ProblemCode::Unsupported);
}

#[test]
fn memory_keeps_no_login() {
    let memory = format!("[state]\nbackend = \"memory\"\n{}", with(BRIGHTSPACE));
    let refused = problem(&memory);
    assert_eq!(refused.code(), ProblemCode::Conflict);
    assert_eq!(refused.key(), "state.backend");
}

#[test]
fn a_key_file_that_is_named_must_hold_keys_if_people_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("state-key");
    let state = format!("[state]\npath = \"/var/lib/bursar\"\nkey_file = {key:?}\n");
    let told = || {
        let refused = problem(&format!("{state}{}", with(BRIGHTSPACE)));
        assert_eq!(refused.key(), "state.key_file");
        let text = refused.render(false);
        assert!(!text.contains("canary"), "{text}");
        refused.code()
    };
    assert_eq!(told(), ProblemCode::SecretUnreadable);
    assert!(!key.exists());
    write_secret(&key, "canary\n");
    assert_eq!(told(), ProblemCode::SecretUnusable);
    write_secret(&key, "");
    assert_eq!(told(), ProblemCode::SecretUnusable);
    write_secret(&key, STATE_KEY);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(told(), ProblemCode::SecretExposed);

    // Without logins nothing is kept, and nothing is read.
    fs::remove_file(&key).unwrap();
    let by_itself = with(&[
        r#"client_id = "app""#,
        r#"client_secret = "canary""#,
        r#"auth_method = "client_secret_basic""#,
        r#"token_url = "https://as.example/token""#,
    ]);
    sound(&format!("{state}{by_itself}"), &[]);
}

#[test]
fn each_person_has_a_login_of_their_own_if_a_field_says_whose_it_is() {
    let lines = and(BRIGHTSPACE, &[r#"subject_header = "Bursar-Subject""#]);
    let loaded = sound(&with(&lines), &[HOME]);
    let header = loaded.config.credentials[0].subject_header.as_ref();
    assert_eq!(header.unwrap(), "bursar-subject");
}

#[test]
fn what_goes_with_a_login_has_no_effect_without_one() {
    let lines = [
        r#"auth_method = "client_secret_basic""#,
        r#"client_id = "app""#,
        r#"client_secret = "canary""#,
        r#"token_url = "https://auth.example/token""#,
        r#"redirect_uri = "http://127.0.0.1:8765/callback""#,
    ];
    assert_eq!(problem(&with(&lines)).code(), ProblemCode::NoEffect);
}
