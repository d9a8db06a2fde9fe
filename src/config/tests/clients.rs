//! Profiles, grants and client authentication.

use std::{fmt::Write, path::Path};

use super::{problem, sound, write_secret};
use crate::{
    config::{Loaded, ProblemCode},
    dial::Way,
    keys::{self, Algorithm},
    oauth::{ClientAuth, ClientParams, Grant, ScopeSource},
    secret::ExposeSecret,
    token::Source,
};

/// A secret that is long enough for HS256.
const LONG: &str = "client_secret = \"0123456789abcdef0123456789abcdef\"";
const SHORT: &str = "client_secret = \"0123456789abcdef0123456789abcde\"";
const URL: &str = "token_url = \"https://auth.example/token\"";

/// A configuration with these lines in its only credential.
fn with(lines: &[&str]) -> String {
    let mut text = "[credentials.lms]\nclient_id = \"bursar\"\n".to_owned();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text + r#"
[upstreams.lms]
base_url = "https://lms.example"
credential = "lms"
scopes = ["https://purl.imsglobal.org/spec/lti-ags/scope/lineitem"]

[[upstreams.lms.routes]]
name = "one"
methods = ["GET"]
path = "/one"
scopes = ["https://purl.imsglobal.org/spec/lti-ags/scope/lineitem"]
"#
}

fn key_file(directory: &Path) -> String {
    let pem = keys::generate(Algorithm::Es256).unwrap();
    let path = directory.join("key.pem");
    write_secret(&path, pem.expose_secret());
    format!("private_key_file = {path:?}")
}

fn client(loaded: &Loaded) -> &ClientParams {
    match &loaded.config.credentials[0].source {
        Source::Client(client) => client,
        _ => panic!("a client"),
    }
}

fn url(client: &ClientParams) -> String {
    format!(
        "https://{}{}",
        client.dialer.origin.authority(),
        client.token_path
    )
}

#[test]
fn each_way_of_authentication_has_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    for (method, proof) in [
        ("client_secret_basic", SHORT),
        ("client_secret_post", SHORT),
        ("client_secret_jwt", LONG),
        ("private_key_jwt", &key),
    ] {
        let line = format!("auth_method = {method:?}");
        let loaded = sound(&with(&[&line, proof, URL]), &[]);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let client = client(&loaded);
        let is_as_told = match &client.auth {
            ClientAuth::SecretBasic { .. } => method == "client_secret_basic",
            ClientAuth::SecretPost { .. } => method == "client_secret_post",
            ClientAuth::SecretJwt { .. } => method == "client_secret_jwt",
            ClientAuth::PrivateKeyJwt { .. } => method == "private_key_jwt",
            _ => false,
        };
        assert!(is_as_told, "{method}");
        assert_eq!(loaded.config.credentials[0].auth_method, method);
        assert!(matches!(client.grant, Grant::ClientCredentials));
        if let Some(assertion) = client.assertion() {
            assert_eq!(assertion.audience, "https://auth.example/token");
        }
    }
}

// RFC 8705 section 2.
#[test]
fn a_client_that_proves_itself_by_its_certificate_has_one_and_is_asked_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["bursar.example".to_owned()]).unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("own.pem"), own.cert.pem()).unwrap();
    write_secret(&path("own.key"), &own.signing_key.serialize_pem());
    let files = format!(
        "client_cert_file = {:?}\nclient_key_file = {:?}",
        path("own.pem"),
        path("own.key")
    );
    for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let line = format!("auth_method = {method:?}");
        let loaded = sound(&with(&[&line, &files, URL]), &[]);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(matches!(client(&loaded).auth, ClientAuth::Tls));
        assert_eq!(loaded.config.credentials[0].auth_method, method);

        let missing = problem(&with(&[&line, URL]));
        assert_eq!(missing.code(), ProblemCode::MissingKey);
        assert_eq!(missing.key(), "credentials.lms.client_cert_file");
        // Without TLS nobody would see the certificate.
        let plain = r#"token_url = "http://127.0.0.1:9/token""#;
        let faults = super::problems(&with(&[&line, &files, plain]), &[]);
        assert!(
            faults
                .iter()
                .all(|fault| fault.code() == ProblemCode::NoEffect)
        );
    }
}

// RFC 7518 section 3.2.
#[test]
fn a_secret_too_short_for_hs256_is_refused_with_a_way_out_and_not_shown() {
    let problem = problem(&with(&[r#"auth_method = "client_secret_jwt""#, SHORT, URL]));
    assert_eq!(problem.code(), ProblemCode::SecretUnusable);
    assert_eq!(problem.key(), "credentials.lms.client_secret");
    let said = problem.render(false);
    assert!(said.contains("32 bytes"), "{said}");
    assert!(said.contains("client_secret_basic"), "{said}");
    assert!(!said.contains("0123"), "{said}");
}

// R56: an HS algorithm and a private key never meet.
#[test]
fn a_mac_is_never_made_with_a_private_key() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    let by_secret = r#"auth_method = "client_secret_jwt""#;
    let problem_of = |lines: &[&str]| {
        let problem = problem(&with(lines));
        (problem.code(), problem.key().to_owned())
    };
    assert_eq!(
        problem_of(&[by_secret, LONG, URL, &key]),
        (
            ProblemCode::NoEffect,
            "credentials.lms.private_key_file".to_owned()
        )
    );
    let as_secret = key.replace("private_key_file", "client_secret_file");
    assert_eq!(
        problem_of(&[by_secret, URL, &as_secret]),
        (
            ProblemCode::SecretUnusable,
            "credentials.lms.client_secret_file".to_owned()
        )
    );
    let by_key = r#"auth_method = "private_key_jwt""#;
    assert_eq!(
        problem_of(&[by_key, URL, &key, r#"signing_alg = "HS256""#]),
        (
            ProblemCode::InvalidValue,
            "credentials.lms.signing_alg".to_owned()
        )
    );
}

#[test]
fn client_credentials_without_a_proof_are_refused() {
    let problem = problem(&with(&[r#"auth_method = "none""#, URL]));
    assert_eq!(problem.code(), ProblemCode::Conflict);
    assert_eq!(problem.key(), "credentials.lms.auth_method");
}

#[test]
fn jwt_bearer_needs_a_key_and_nothing_else_and_speaks_of_the_client_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    let grant = r#"grant = "jwt_bearer""#;
    let loaded = sound(&with(&[grant, URL, &key]), &[]);
    let subject = |client: &ClientParams| match &client.grant {
        Grant::JwtBearer { subject, .. } => subject.clone(),
        _ => panic!("jwt_bearer"),
    };
    assert!(matches!(client(&loaded).auth, ClientAuth::None));
    assert_eq!(subject(client(&loaded)), "bursar");
    assert_eq!(loaded.config.credentials[0].grant, "jwt_bearer");
    assert_eq!(loaded.config.credentials[0].auth_method, "none");
    assert!(client(&loaded).keys().is_some());

    let told = sound(&with(&[grant, URL, &key, r#"subject = "her""#]), &[]);
    assert_eq!(subject(client(&told)), "her");
    assert_eq!(
        problem(&with(&[grant, URL])).key(),
        "credentials.lms.private_key_file"
    );
}

#[test]
fn jwt_bearer_goes_with_each_way_of_authentication() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    for (method, secret) in [
        ("none", ""),
        ("client_secret_basic", LONG),
        ("client_secret_post", LONG),
        ("client_secret_jwt", LONG),
        ("private_key_jwt", ""),
    ] {
        let method = format!("auth_method = {method:?}");
        let lines = [r#"grant = "jwt_bearer""#, &method, URL, &key, secret];
        let loaded = sound(&with(&lines), &[]);
        assert!(
            matches!(client(&loaded).grant, Grant::JwtBearer { .. }),
            "{method}"
        );
    }
}

#[test]
fn a_subject_without_the_grant_that_it_goes_with_has_no_effect() {
    let lines = [
        r#"auth_method = "client_secret_post""#,
        LONG,
        URL,
        r#"subject = "her""#,
    ];
    let problem = problem(&with(&lines));
    assert_eq!(problem.code(), ProblemCode::NoEffect);
    assert_eq!(problem.key(), "credentials.lms.subject");
}

#[test]
fn lti_profiles_preset_the_token_url_and_the_audience() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    let brightspace = "https://auth.brightspace.com/core/connect/token";
    let blackboard = "https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken";
    let canvas = "https://school.instructure.com/login/oauth2/token";
    let canvas_url = format!("token_url = {canvas:?}");
    for (profile, line, token_url, audience, is_array, source) in [
        (
            "brightspace-lti",
            "",
            brightspace,
            "https://api.brightspace.com/auth/token",
            false,
            ScopeSource::AnswerOrToken,
        ),
        (
            "canvas-lti",
            &*canvas_url,
            canvas,
            canvas,
            false,
            ScopeSource::Answer,
        ),
        (
            "blackboard-lti",
            "",
            blackboard,
            blackboard,
            true,
            ScopeSource::Answer,
        ),
    ] {
        let profile = format!("profile = {profile:?}");
        let loaded = sound(&with(&[&profile, line, &key]), &[]);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let client = client(&loaded);
        assert_eq!(url(client), token_url);
        let assertion = client.assertion().unwrap();
        assert_eq!(assertion.audience, audience);
        assert_eq!(assertion.audience_as_array, is_array, "{profile}");
        assert_eq!(client.scope_source, source, "{profile}");
        assert!(matches!(client.auth, ClientAuth::PrivateKeyJwt { .. }));
        let ask = &loaded.config.upstreams[0].tokens.ask;
        assert!(ask.send, "{profile}");
        assert_eq!(
            ask.scopes.to_string(),
            "https://purl.imsglobal.org/spec/lti-ags/scope/lineitem"
        );
    }
}

#[test]
fn blackboard_asks_for_no_scopes_and_holds_its_token_back_for_no_longer_than_requests_wait() {
    let lines = [
        r#"profile = "blackboard""#,
        LONG,
        r#"token_url = "https://learn.example/learn/api/public/v1/oauth2/token""#,
    ];
    let loaded = sound(&with(&lines), &[]);
    assert!(matches!(
        client(&loaded).auth,
        ClientAuth::SecretBasic { .. }
    ));
    assert!(!loaded.config.upstreams[0].tokens.ask.send);
    let timing = loaded.config.credentials[0].timing;
    assert!(timing.safety_margin < timing.wait);
}

#[test]
fn a_profile_whose_token_url_has_the_host_of_the_lms_says_how_it_is_formed() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    for (profile, proof, form) in [
        ("canvas-lti", &*key, "https://YOUR-HOST/login/oauth2/token"),
        (
            "blackboard",
            LONG,
            "https://YOUR-HOST/learn/api/public/v1/oauth2/token",
        ),
    ] {
        let problem = problem(&with(&[&format!("profile = {profile:?}"), proof]));
        assert_eq!(problem.code(), ProblemCode::MissingKey);
        assert_eq!(problem.key(), "credentials.lms.token_url");
        assert!(problem.help().contains(form), "{}", problem.help());
    }
}

#[test]
fn plain_http_to_loopback_goes_through_no_proxy_on_another_machine() {
    const POST: &str = "auth_method = \"client_secret_post\"";
    let far = "http_proxy = \"http://proxy.example:3128\"";
    let near = "http_proxy = \"http://127.0.0.1:3128\"";
    let plain = "token_url = \"http://127.0.0.1:9400/token\"";
    for (lines, is_sound) in [
        ([SHORT, URL, far], true),
        ([SHORT, plain, near], true),
        ([SHORT, plain, far], false),
    ] {
        let text = with(&[&lines[..], &[POST]].concat());
        if is_sound {
            sound(&text, &[]);
        } else {
            let problem = problem(&text);
            assert_eq!(problem.code(), ProblemCode::PlainHttp);
            assert_eq!(problem.key(), "credentials.lms.http_proxy");
        }
    }

    let lms = |proxy: &str, lifted: bool| {
        let upstream =
            format!("base_url = \"http://localhost:9400\"\n{proxy}\nallow_plain_http = {lifted}");
        with(&[SHORT, POST, URL]).replace("base_url = \"https://lms.example\"", &upstream)
    };
    sound(&lms(near, false), &[]);
    sound(&lms(far, true), &[]);
    let problem = problem(&lms(far, false));
    assert_eq!(problem.code(), ProblemCode::PlainHttp);
    assert_eq!(problem.key(), "upstreams.lms.http_proxy");
}

#[test]
fn a_key_set_on_this_machine_is_not_looked_for_behind_a_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let key = key_file(directory.path());
    let proxy = "http_proxy = \"http://proxy.example:3128\"";
    for (url, is_through) in [
        ("https://keys.example/jwks.json", true),
        ("http://127.0.0.1:9465/.well-known/jwks.json", false),
    ] {
        let key_set = format!("jwks_url = {url:?}");
        let loaded = sound(
            &with(&[
                &key,
                URL,
                proxy,
                &key_set,
                "auth_method = \"private_key_jwt\"",
            ]),
            &[],
        );
        let dialer = &client(&loaded).key_set.as_ref().unwrap().dialer;
        assert_eq!(matches!(dialer.way, Way::Proxy(_)), is_through, "{url}");
    }
}
