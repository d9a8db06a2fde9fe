//! The whole way from text and environment to a configuration, or to its problems.

mod clients;
mod example;
mod json_schema;
mod keys;
mod listeners;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use proptest::prelude::*;

use super::{
    Loaded, Problem, ProblemCode, Problems, load::load, locate::LoadOptions, problem::Place,
};
use crate::{
    oauth::{BasicEncoding, ClientAuth, Injection, ScopeSource},
    proxy::LogRequests,
    secret::ExposeSecret,
    token::{RefreshAhead, Source},
};

/// A configuration without a fault; further text may be added.
const SOUND: &str = r#"
[credentials.lms]
client_id = "bursar"
auth_method = "client_secret_basic"
client_secret = "hunter2"
token_url = "https://auth.example/token"

[upstreams.lms]
base_url = "https://lms.example"
credential = "lms"
scopes = ["a:b:read"]

[[upstreams.lms.routes]]
name = "one"
methods = ["GET"]
path = "/one"
scopes = ["a:b:read"]
"#;

fn options(text: &str, environment: &[(&str, &str)]) -> LoadOptions {
    let mut options = LoadOptions::from_text("bursar.toml", text);
    options.environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    options
}

fn sound(text: &str, environment: &[(&str, &str)]) -> Loaded {
    match load(&options(text, environment)) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

fn problems(text: &str, environment: &[(&str, &str)]) -> Problems {
    match load(&options(text, environment)) {
        Ok(_) => panic!("there is nothing wrong with it"),
        Err(problems) => problems,
    }
}

/// The only problem of a text.
fn problem(text: &str) -> Problem {
    let problems = problems(text, &[]);
    assert_eq!(problems.iter().count(), 1, "{}", problems.render(false));
    problems.iter().next().cloned().unwrap()
}

fn write_secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn fourteen_faults_are_listed_at_once_each_with_its_line() {
    let text = r#"[server]
listen = "0.0.0.0:8080"
lisen = "x"
header_timeout = 10
mode = "learn"

[log]
level = "loud"

[credentials.lms]
profile = "oauth2"
auth_method = "client_secret_basic"
client_secret = ["canary"]
token_url = "http://auth.example/token"
private_key_file = "/x"

[upstreams.lms]
base_url = "https://lms.example/d2l"
credential = "lsm"

[[upstreams.lms.routes]]
name = "one"
methods = ["get"]
path = "one"
"#;
    let problems = problems(text, &[]);
    let found: Vec<_> = problems
        .iter()
        .map(|problem| {
            (
                problem.place().line().unwrap_or_default(),
                problem.code().as_str(),
                problem.key(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (2, "BUR1101", "server.listen"),
            (3, "BUR1004", "server.lisen"),
            (4, "BUR1007", "server.header_timeout"),
            (5, "BUR1012", "server.mode"),
            (8, "BUR1008", "log.level"),
            (10, "BUR1006", "credentials.lms.client_id"),
            (13, "BUR1007", "credentials.lms.client_secret"),
            (14, "BUR1206", "credentials.lms.token_url"),
            (15, "BUR1010", "credentials.lms.private_key_file"),
            (18, "BUR1207", "upstreams.lms.base_url"),
            (19, "BUR1302", "upstreams.lms.credential"),
            (21, "BUR1006", "upstreams.lms.routes[0].scopes"),
            (23, "BUR1305", "upstreams.lms.routes[0].methods"),
            (24, "BUR1306", "upstreams.lms.routes[0].path"),
        ]
    );
    assert_eq!(problems.exit_code(), 78);
    let rendered = problems.render(false);
    assert!(rendered.contains("did you mean `listen`?"));
    assert!(rendered.contains("write \"GET\""));
    assert!(!rendered.contains("canary"));
}

#[test]
fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
    let text = format!("[server]\nheader_timeout = \"3s\"\nworkers = 2\n{SOUND}");
    let loaded = sound(
        &text,
        &[
            ("BURSAR_SERVER__HEADER_TIMEOUT", "4s"),
            ("BURSAR_SERVER__MAX_CONNECTIONS", "7"),
            ("BURSAR_UPSTREAMS__LMS__COOKIES", "true"),
            ("BURSAR_UPSTREAMS__LMS__SCOPES", "a:b:read,write c:d:read"),
        ],
    );
    let server = &loaded.config.server;
    assert_eq!(server.header_timeout, Duration::from_secs(4));
    assert_eq!(server.workers, 2);
    assert_eq!(server.max_connections, 7);
    assert_eq!(server.idle_timeout, Duration::from_secs(60));
    assert!(loaded.config.upstreams[0].params.cookies);
    let allowlist = &loaded.config.upstreams[0].policy.allowlist;
    assert_eq!(allowlist.to_string(), "a:b:read,write c:d:read");

    let source = |table: &str, key: &str| {
        let mut settings = loaded.settings.iter();
        let setting = settings.find(|setting| setting.table == table && setting.key == key);
        setting.map(|setting| setting.source.to_string()).unwrap()
    };
    assert_eq!(
        source("server", "header_timeout"),
        "BURSAR_SERVER__HEADER_TIMEOUT"
    );
    assert_eq!(source("server", "workers"), "bursar.toml:3");
    assert_eq!(source("server", "idle_timeout"), "default");
}

#[test]
fn a_configuration_may_come_from_variables_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(
        "",
        &[
            ("BURSAR_CREDENTIALS__DAP__PROFILE", "instructure"),
            ("BURSAR_CREDENTIALS__DAP__CLIENT_ID", "us-west-2#1"),
            ("BURSAR_CREDENTIALS__DAP__CLIENT_SECRET", "s"),
            (
                "BURSAR_UPSTREAMS__DAP__BASE_URL",
                "https://api-gateway.instructure.com",
            ),
            ("BURSAR_UPSTREAMS__DAP__CREDENTIAL", "dap"),
            ("BURSAR_UPSTREAMS__DAP__CATALOGUE", "dap"),
            ("BURSAR_UPSTREAMS__DAP__SCOPES", "dap:tables:read"),
        ],
    );
    options.text = None;
    options.directory = Some(directory.path().to_owned());
    let loaded = load(&options).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert_eq!(loaded.path, None);
    assert_eq!(&*loaded.config.upstreams[0].params.name, "dap");
}

#[test]
fn a_secret_of_a_variable_may_be_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    write_secret(&path, "abc\n");
    let text = SOUND.replace("client_secret = \"hunter2\"", "");
    let path = path.to_str().unwrap();
    // The full name is a key, so it is that key.
    let loaded = sound(
        &text,
        &[("BURSAR_CREDENTIALS__LMS__CLIENT_SECRET_FILE", path)],
    );
    let Source::Client(client) = &loaded.config.credentials[0].source else {
        panic!("a client");
    };
    assert!(
        matches!(&client.auth, ClientAuth::SecretBasic { secret, .. } if secret.expose_secret() == "abc")
    );
}

#[test]
fn a_variable_that_is_wrong_is_named_as_the_place() {
    let problems = problems(SOUND, &[("BURSAR_SERVER__WORKERS", "many")]);
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.code(), ProblemCode::WrongType);
    assert_eq!(
        problem.place(),
        &Place::Variable("BURSAR_SERVER__WORKERS".to_owned())
    );
    assert!(
        problem
            .render(false)
            .contains("environment variable BURSAR_SERVER__WORKERS")
    );
}

#[test]
fn a_value_under_a_secret_key_is_never_shown_whatever_is_wrong_with_it() {
    let faulty = [
        "client_secret = \"canary\\ncanary\"",
        "client_secret = 4242424242",
        "client_secret = [\"canary\"]",
        "client_secret = { canary = 1, b = \"canary\" }",
        "client_secret = \"canary",
        "client_secret = canary",
        "client_secert = \"canary\"",
        "Client_Secret = \"canary\"",
        "client_secret = \"x\"\ntoken_params = { a = [\"canary\"] }",
        "client_secret = \"x\"\ntoken_params = { scope = \"canary\" }",
        "client_secret = \"x\"\ntoken_headers = { authorization = \"canary\" }",
        "client_secret = \"x\"\ntoken_headers = { \"a b\" = \"canary\" }",
        "client_secret = \"x\"\nca_file = \"-----BEGIN canary\"",
        "client_secret = \"x\"\naudience = \"\"\"-----BEGIN canary\n\"\"\"",
        "client_secret = \"x\"\ntoken = \"canary\"",
    ];
    for fault in faulty {
        let text = SOUND.replace("client_secret = \"hunter2\"", fault);
        let problems = problems(&text, &[]);
        let said = format!("{} {problems:?} {problems}", problems.render(false));
        assert!(!said.contains("4242424242"), "{fault}\n{said}");
        assert!(!said.contains("canary"), "{fault}\n{said}");
    }
    let by_variable = [
        ("BURSAR_CREDENTIALS__LMS__CLIENT_SECRET", "canary\ncanary"),
        ("BURSAR_CREDENTIALS__LMS__CLIENT_SECERT", "canary"),
        ("BURSAR_CREDENTIALS__LMS__TOKEN_PARAMS__SCOPE", "canary"),
        (
            "BURSAR_CREDENTIALS__LMS__TOKEN_URL",
            "https://a:canary@b.example/",
        ),
        ("BURSAR_CREDENTIALS__LMS__TOKEN", "canary"),
    ];
    for (name, value) in by_variable {
        let problems = problems(SOUND, &[(name, value)]);
        let said = format!("{} {problems:?}", problems.render(true));
        assert!(!said.contains("canary"), "{name}\n{said}");
    }
}

#[test]
fn settings_hold_no_secret() {
    let loaded = sound(SOUND, &[]);
    let settings = format!("{:?}", loaded.settings);
    assert!(settings.contains("client_secret"));
    assert!(!settings.contains("hunter2"));
}

#[test]
fn after_a_syntax_error_what_may_only_follow_from_it_is_not_reported() {
    let text = SOUND.replace("[credentials.lms]", "[credentials.lms");
    let problems = problems(&format!("[server]\nworkers = \"x\"\n{text}"), &[]);
    let codes: Vec<_> = problems.iter().map(Problem::code).collect();
    assert!(codes.contains(&ProblemCode::Syntax), "{problems:?}");
    assert!(codes.contains(&ProblemCode::WrongType), "{problems:?}");
    assert!(
        !codes.contains(&ProblemCode::UnknownCredential),
        "{problems:?}"
    );
    assert!(!codes.contains(&ProblemCode::MissingKey), "{problems:?}");
    assert!(!codes.contains(&ProblemCode::UnknownKey), "{problems:?}");
}

proptest! {
    #[test]
    fn no_text_makes_loading_or_showing_panic(
        text in "(\\[{0,2}(server|log|credentials|upstreams|é)(\\.[a-zé]{1,3})?\\]{0,2}\n?|[a-z_\"é]{1,8} ?=? ?(\"\\PC{0,6}\"?|\\[\\PC{0,4}\\]?|\\{\\PC{0,4}\\}?|\\PC{0,6})[\r\t]?\n?|\\PC{0,8}\n){0,8}",
    ) {
        if let Err(problems) = load(&options(&text, &[])) {
            prop_assert!(!problems.render(true).is_empty());
        }
    }
}

#[test]
fn profiles_preset_what_the_lms_is_known_to_want() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = sound(&example::all_keys(directory.path()), &[]);
    let client = |name: &str| {
        let mut credentials = loaded.config.credentials.iter();
        let credential = credentials.find(|credential| &*credential.name == name);
        match &credential.unwrap().source {
            Source::Client(client) => client.clone(),
            _ => panic!("{name} is no client"),
        }
    };
    let d2l = client("d2l");
    assert_eq!(&*d2l.dialer.origin.host, "auth.brightspace.com");
    assert_eq!(d2l.token_path.as_str(), "/core/connect/token");
    assert_eq!(d2l.scope_source, ScopeSource::AnswerOrToken);
    let ClientAuth::PrivateKeyJwt { assertion, .. } = &d2l.auth else {
        panic!("private_key_jwt");
    };
    assert_eq!(
        assertion.audience,
        "https://auth.brightspace.com/core/connect/token"
    );
    assert_eq!(assertion.lifetime, Duration::from_secs(60));
    assert_eq!(assertion.typ, "JWT");
    assert!(!assertion.audience_as_array);

    let dap = client("by-secret");
    assert_eq!(dap.scope_source, ScopeSource::Nowhere);
    assert!(matches!(
        dap.auth,
        ClientAuth::SecretBasic {
            encoding: BasicEncoding::Raw,
            ..
        }
    ));
    let other = client("by-inline-secret");
    assert!(matches!(
        other.auth,
        ClientAuth::SecretBasic {
            encoding: BasicEncoding::Form,
            ..
        }
    ));
    assert_eq!(
        loaded.config.credentials[0].timing.refresh_ahead,
        RefreshAhead::Share(0.2)
    );
    assert_eq!(loaded.config.server.log_requests, LogRequests::Denied);
}

#[test]
fn instructure_sends_no_scope_unless_told_to() {
    let text = SOUND.replace("client_id", "profile = \"instructure\"\nclient_id");
    assert!(!sound(&text, &[]).config.upstreams[0].tokens.ask.send);
    let told = [("BURSAR_UPSTREAMS__LMS__REQUEST_SCOPES", "true")];
    assert!(sound(&text, &told).config.upstreams[0].tokens.ask.send);
    assert!(sound(SOUND, &[]).config.upstreams[0].tokens.ask.send);
}

#[test]
fn an_exposed_secret_is_77_or_a_warning_and_78_beside_another_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, "canary").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = format!("client_secret_file = {path:?}");
    let text = SOUND.replace("client_secret = \"hunter2\"", &file);

    let exposed = problem(&text);
    assert_eq!(exposed.code(), ProblemCode::SecretExposed);
    assert!(exposed.help().contains("chmod 600"));
    assert_eq!(problems(&text, &[]).exit_code(), 77);

    let both = text.replace("methods = [\"GET\"]", "methods = [\"TRACE\"]");
    assert_eq!(problems(&both, &[]).exit_code(), 78);

    let tolerated = sound(&text, &[("BURSAR_SERVER__SECRET_FILES", "any")]);
    assert_eq!(tolerated.warnings[0].code(), ProblemCode::SecretExposed);
}

#[test]
fn a_secret_in_a_configuration_file_that_others_can_read_is_worth_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bursar.toml");
    fs::write(&file, SOUND).unwrap();
    let codes = |mode, environment: &[(&str, &str)]| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut options = options("", environment);
        options.text = None;
        options.file = Some(file.clone());
        let warnings = load(&options).unwrap().warnings;
        warnings.iter().map(Problem::code).collect::<Vec<_>>()
    };
    assert_eq!(codes(0o644, &[]), [ProblemCode::SecretExposed]);
    assert_eq!(codes(0o600, &[]), []);
    let elsewhere = [("BURSAR_CREDENTIALS__LMS__CLIENT_SECRET", "hunter2")];
    assert_eq!(codes(0o644, &elsewhere), []);
}

#[test]
fn relative_file_names_are_relative_to_the_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    write_secret(&directory.path().join("secret"), "s");
    let file = directory.path().join("bursar.toml");
    let text = SOUND.replace(
        "client_secret = \"hunter2\"",
        "client_secret_file = \"secret\"",
    );
    fs::write(&file, text).unwrap();
    let options = LoadOptions {
        file: Some(file.clone()),
        ..LoadOptions::default()
    };
    let loaded = load(&options).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert_eq!(loaded.path, Some(file));
}

#[test]
fn a_missing_file_is_78_and_says_where_bursar_looked() {
    let directory = tempfile::tempdir().unwrap();
    let named = LoadOptions {
        file: Some(directory.path().join("x.toml")),
        ..LoadOptions::default()
    };
    let problems = load(&named).err().unwrap();
    assert_eq!(problems.exit_code(), 78);
    assert!(problems.render(false).contains("x.toml (from --config)"));

    let none = LoadOptions {
        directory: Some(directory.path().to_owned()),
        ..LoadOptions::default()
    };
    let problems = load(&none).err().unwrap();
    assert_eq!(problems.exit_code(), 78);
    let rendered = problems.render(false);
    assert!(rendered.contains("bursar demo"));
    assert!(rendered.contains("/etc/bursar/config.toml"));
}

#[test]
fn keys_of_later_versions_are_unknown() {
    for key in ["rewrite_links = true", "placeholder_login = true"] {
        let text = SOUND.replace(
            "credential = \"lms\"",
            &format!("credential = \"lms\"\n{key}"),
        );
        assert_eq!(problem(&text).code(), ProblemCode::UnknownKey, "{key}");
    }
    assert_eq!(
        problem(&format!("[state]\nurl = \"rediss://x\"\n{SOUND}")).key(),
        "state.url"
    );
}

#[test]
fn single_faults_have_their_code_and_their_key() {
    let change = |from: &str, to: &str| {
        assert!(SOUND.contains(from), "{from}");
        let problem = problem(&SOUND.replace(from, to));
        (problem.code().as_str(), problem.key().to_owned())
    };
    let expect = |from: &str, to: &str, code: &str, key: &str| {
        assert_eq!(change(from, to), (code, key.to_owned()), "{to}");
    };
    let base = "base_url = \"https://lms.example\"";
    expect(
        base,
        "base_url = \"http://lms.example\"",
        "BUR1206",
        "upstreams.lms.base_url",
    );
    expect(
        base,
        "base_url = \"http://127.0.0.1:8080\"",
        "BUR1304",
        "upstreams.lms.base_url",
    );
    expect(
        base,
        &format!("{base}\nca_only = true"),
        "BUR1006",
        "upstreams.lms.ca_file",
    );
    expect(
        base,
        &format!("{base}\nca_file = \"/does/not/exist\""),
        "BUR1205",
        "upstreams.lms.ca_file",
    );
    expect(
        base,
        &format!("{base}\nlisten = \"0.0.0.0:1\""),
        "BUR1101",
        "upstreams.lms.listen",
    );
    expect(
        base,
        &format!("{base}\nlisten = \"127.0.0.1:8080\""),
        "BUR1102",
        "upstreams.lms.listen",
    );
    expect(
        base,
        &format!("{base}\nlisten = \"unix:run/x\""),
        "BUR1008",
        "upstreams.lms.listen",
    );
    let scopes = "scopes = [\"a:b:read\"]\n\n[[";
    expect(
        scopes,
        "scopes = [\"a b\"]\n\n[[",
        "BUR1308",
        "upstreams.lms.scopes",
    );
    expect(
        scopes,
        "scopes = \"a:b:read\"\n\n[[",
        "BUR1007",
        "upstreams.lms.scopes",
    );
    let secret = "client_secret = \"hunter2\"";
    expect(
        secret,
        "client_secret_file = \"/does/not/exist\"",
        "BUR1201",
        "credentials.lms.client_secret_file",
    );
    expect(secret, "", "BUR1006", "credentials.lms.client_secret_file");
    expect(
        secret,
        &format!("{secret}\nassertion_lifetime = \"9m\""),
        "BUR1010",
        "credentials.lms.assertion_lifetime",
    );
    expect(
        secret,
        &format!("{secret}\ntoken_params = {{ scope = \"x\" }}"),
        "BUR1208",
        "credentials.lms.token_params.scope",
    );
    expect(
        secret,
        &format!("{secret}\ntoken_headers = {{ Host = \"x\" }}"),
        "BUR1208",
        "credentials.lms.token_headers.Host",
    );
    let method = "auth_method = \"client_secret_basic\"";
    expect(method, "", "BUR1006", "credentials.lms.auth_method");
    expect(
        method,
        "auth_method = \"federated\"",
        "BUR1012",
        "credentials.lms.auth_method",
    );
    let path = "path = \"/one\"";
    expect(
        path,
        "path = \"one\"",
        "BUR1306",
        "upstreams.lms.routes[0].path",
    );
    expect(
        path,
        &format!("{path}\ndeny = true"),
        "BUR1010",
        "upstreams.lms.routes[0].scopes",
    );
    expect(
        path,
        &format!("{path}\nany_scope = [\"a:b:read\"]"),
        "BUR1009",
        "upstreams.lms.routes[0].any_scope",
    );
    expect(
        path,
        &format!("{path}\nmax_body = 5"),
        "BUR1007",
        "upstreams.lms.routes[0].max_body",
    );
    expect(
        "methods = [\"GET\"]",
        "methods = [\"POST\"]\nupgrade = true",
        "BUR1009",
        "upstreams.lms.routes[0].upgrade",
    );
    expect(
        "name = \"one\"",
        "name = \"_unmatched\"",
        "BUR1011",
        "upstreams.lms.routes[0].name",
    );
}

#[test]
fn routes_that_do_not_go_together_are_refused_at_the_later_one() {
    let second = |name: &str, path: &str| {
        format!(
            "{SOUND}\n[[upstreams.lms.routes]]\nname = \"{name}\"\nmethods = [\"GET\"]\npath = \"{path}\"\nscopes = []\n"
        )
    };
    assert_eq!(
        problem(&second("one", "/two")).key(),
        "upstreams.lms.routes[1].name"
    );
    let ambiguous = problem(&second("two", "/one"));
    assert_eq!(ambiguous.code(), ProblemCode::AmbiguousRoutes);
    assert!(ambiguous.key().ends_with(".path"));
}

#[test]
fn a_name_selects_one_upstream_only() {
    let second = |more: &str| {
        format!("{SOUND}\n[upstreams.two]\ncredential = \"lms\"\ncatalogue = \"canvas\"\n{more}\n")
    };
    let same_origin = problem(&second("base_url = \"https://LMS.example:443/\""));
    assert_eq!(same_origin.code(), ProblemCode::NameConflict);
    assert_eq!(same_origin.key(), "upstreams.two.base_url");
    let same_host = problem(&second(
        "base_url = \"https://b.example\"\nhosts = [\"lms.example\"]",
    ));
    assert_eq!(same_host.key(), "upstreams.two.hosts");
    sound(&second("base_url = \"https://lms.example:8443\""), &[]);
}

#[test]
fn an_upstream_that_allows_nothing_is_refused_and_so_is_a_configuration_without_any() {
    let (head, _) = SOUND.split_once("[[upstreams.lms.routes]]").unwrap();
    assert_eq!(problem(head).code(), ProblemCode::NothingAllowed);
    let (head, _) = SOUND.split_once("[upstreams.lms]").unwrap();
    let codes: Vec<_> = problems(head, &[]).iter().map(Problem::code).collect();
    assert!(codes.contains(&ProblemCode::NothingAllowed));
}

#[test]
fn what_works_but_looks_odd_is_a_warning() {
    let unused = format!("{SOUND}\n[credentials.spare]\ngrant = \"static\"\ntoken = \"abc\"\n");
    let warnings = sound(&unused, &[]).warnings;
    assert_eq!(warnings[0].key(), "credentials.spare");
    let uncovered = SOUND.replacen("scopes = [\"a:b:read\"]", "scopes = []", 1);
    let warnings = sound(&uncovered, &[]).warnings;
    assert_eq!(warnings[0].code(), ProblemCode::UncoveredRoute);
    assert!(warnings[0].what().contains("a:b:read"));
    let odd = SOUND.replace(
        "credential = \"lms\"",
        "credential = \"lms\"\ncatalogue = \"brightspace\"",
    );
    let odd = odd.replacen(
        "scopes = [\"a:b:read\"]",
        "scopes = [\"a:b:read\", \"openid\"]",
        1,
    );
    let warnings = sound(&odd, &[]).warnings;
    assert_eq!(warnings[0].code(), ProblemCode::SuspiciousScope);
}

#[test]
fn an_allowlist_too_long_to_be_asked_for_is_refused_unless_it_is_not_sent() {
    let text = SOUND
        .replace(
            "credential = \"lms\"",
            "credential = \"lms\"\ncatalogue = \"canvas\"",
        )
        .replacen(
            "scopes = [\"a:b:read\"]",
            "scopes = [\"url:GET|*\", \"a:b:read\"]",
            1,
        );
    let problems = problems(&text, &[]);
    let mut errors = problems.iter();
    let too_long = errors.find(|problem| problem.code() == ProblemCode::InvalidPolicy);
    assert_eq!(too_long.unwrap().key(), "upstreams.lms.scopes");
    let unsent = [("BURSAR_UPSTREAMS__LMS__REQUEST_SCOPES", "false")];
    assert!(!sound(&text, &unsent).config.upstreams[0].tokens.ask.send);
}

#[test]
fn a_static_token_is_ready_to_be_sent_and_cannot_be_narrowed() {
    let text = SOUND
        .replace("client_id = \"bursar\"\n", "grant = \"static\"\n")
        .replace("auth_method = \"client_secret_basic\"\n", "")
        .replace("client_secret = \"hunter2\"", "token = \"abc\"")
        .replace("token_url = \"https://auth.example/token\"\n", "");
    let loaded = sound(&text, &[]);
    let Source::Static(Injection::Bearer(field)) = &loaded.config.credentials[0].source else {
        panic!("static");
    };
    assert!(field.is_sensitive());
    assert!(!loaded.config.upstreams[0].tokens.ask.send);
    let narrowed = text.replace(
        "credential = \"lms\"",
        "credential = \"lms\"\ntoken_scope = \"route\"",
    );
    assert_eq!(problem(&narrowed).code(), ProblemCode::Conflict);
}

#[test]
fn id_keys_make_a_signer_and_cannot_be_narrowed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join(name);
        write_secret(&path, &format!("canary-{name}\n"));
        format!("{name}_file = {path:?}\n")
    };
    let (app_key, user_key) = (file("app_key"), file("user_key"));
    let (_, upstream) = SOUND.split_once("[upstreams.lms]").unwrap();
    let text = |lines: &str| {
        format!(
            "[credentials.lms]\nprofile = \"brightspace-id-key\"\n{lines}\n[upstreams.lms]{upstream}"
        )
    };
    let good = text(&format!(
        "app_id = \"a1\"\n{app_key}user_id = \"u1\"\n{user_key}"
    ));
    let loaded = sound(&good, &[]);
    let credential = &loaded.config.credentials[0];
    assert_eq!(credential.grant, "id_key");
    let Source::Static(Injection::Signature(signer)) = &credential.source else {
        panic!("it signs");
    };
    assert_eq!(
        (signer.app().id(), signer.user().unwrap().id()),
        ("a1", "u1")
    );
    let upstream = &loaded.config.upstreams[0];
    assert!(!upstream.tokens.ask.send);
    assert_eq!(upstream.policy.cut_out, ["x_a", "x_b", "x_c", "x_d", "x_t"]);

    let narrowed = good.replace(
        "credential = \"lms\"",
        "credential = \"lms\"\ntoken_scope = \"route\"",
    );
    assert_eq!(problem(&narrowed).code(), ProblemCode::Conflict);
    let without = text(&format!("app_id = \"a1\"\nuser_id = \"u1\"\n{user_key}"));
    assert_eq!(problem(&without).key(), "credentials.lms.app_key_file");
    let odd = good.replace("app_id", "client_id = \"x\"\napp_id");
    assert_eq!(problem(&odd).key(), "credentials.lms.client_id");

    let login = |url: &str| {
        let url = format!(
            "authorize_url = \"{url}\"\nredirect_uri = \"http://127.0.0.1:8765/callback\"\n"
        );
        text(&format!("app_id = \"a1\"\n{app_key}{url}"))
    };
    let home = [("HOME", "/home/x")];
    let loaded = sound(&login("https://lms.example/d2l/auth/api/token"), &home);
    let Source::UserKey(params) = &loaded.config.credentials[0].source else {
        panic!("a login brings the key");
    };
    assert_eq!(params.app.id(), "a1");
    let plain = login("http://lms.example/d2l/auth/api/token");
    let told = problems(&plain, &home);
    assert_eq!(
        told.iter().next().unwrap().key(),
        "credentials.lms.authorize_url"
    );
}

#[test]
fn a_route_that_allows_upgrades_needs_http_1() {
    let text = |http2: &str| {
        SOUND
            .replace("path = \"/one\"", "path = \"/one\"\nupgrade = true")
            .replace(
                "credential = \"lms\"",
                &format!("credential = \"lms\"\nhttp2 = \"{http2}\""),
            )
    };
    let problem = problem(&text("only"));
    assert_eq!(problem.code(), ProblemCode::Conflict);
    assert_eq!(problem.key(), "upstreams.lms.http2");
    let loaded = sound(&text("auto"), &[]);
    assert_eq!(
        loaded.config.upstreams[0].params.http2,
        crate::proxy::Http2::Auto
    );
}

#[test]
fn listeners_may_take_free_ports_and_workers_are_counted() {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\ncontrol = \"127.0.0.1:0\"\n{SOUND}"
    );
    let loaded = sound(&text, &[]);
    assert_eq!(loaded.config.server.listen.port(), Some(0));
    assert!(loaded.config.server.workers >= 1);
    assert!(loaded.config.admin.jwks_listen.is_none());
}

#[test]
fn credentials_and_upstreams_keep_the_order_of_the_file() {
    let text = format!("{SOUND}\n[credentials.a]\ngrant = \"static\"\ntoken = \"abc\"\n");
    let names: Vec<_> = sound(&text, &[])
        .config
        .credentials
        .iter()
        .map(|credential| credential.name.to_string())
        .collect();
    assert_eq!(names, ["lms", "a"]);
}

#[test]
fn a_route_of_moodle_names_functions_and_needs_no_path() {
    let moodle = |route: &str| {
        format!(
            "[credentials.moodle]\nprofile = \"moodle\"\ntoken = \"abc\"\n\
             [credentials.other]\ngrant = \"static\"\ntoken = \"def\"\n\
             [upstreams.moodle]\nbase_url = \"https://moodle.example\"\ncredential = \"moodle\"\n\
             [[upstreams.moodle.routes]]\nname = \"f\"\nscopes = []\n{route}\n"
        )
    };
    let loaded = sound(&moodle("functions = [\"core_get\"]"), &[]);
    let upstream = &loaded.config.upstreams[0];
    assert!(upstream.policy.calls_functions);
    let route = &upstream.policy.routes[0];
    assert_eq!(route.path, "/webservice/rest/server.php");
    assert_eq!(route.methods, ["GET", "POST"]);
    assert!(matches!(
        &upstream.tokens.credential.source,
        Source::Static(Injection::Parameter {
            name: "wstoken",
            ..
        })
    ));
    for (route, key) in [
        ("functions = []", "functions"),
        ("functions = [\"core get\"]", "functions"),
        ("functions = [\"f\"]\npath = \"/x\"", "functions"),
        ("functions = [\"f\"]\nmethods = [\"PUT\"]", "functions"),
        ("functions = [\"f\"]\ncredential = \"other\"", "credential"),
    ] {
        let problem = problem(&moodle(route));
        let place = format!("upstreams.moodle.routes[0].{key}");
        assert_eq!(problem.key(), place, "{route}");
    }
    let by_name = moodle("functions = [\"core_get\", \"tool_mobile_call_external_functions\"]");
    let warnings = sound(&by_name, &[]).warnings;
    let warned = warnings
        .iter()
        .find(|warning| warning.code() == ProblemCode::IndirectFunction);
    assert_eq!(
        warned.map(Problem::key),
        Some("upstreams.moodle.routes[0].functions")
    );
    let path = "path = \"/one\"";
    assert!(SOUND.contains(path));
    let elsewhere = problem(&SOUND.replace(path, "functions = [\"f\"]"));
    assert_eq!(elsewhere.key(), "upstreams.lms.routes[0].functions");
}
