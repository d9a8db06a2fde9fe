//! One attempt from its beginning to its end.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn params() -> AuthorizationParams {
    AuthorizationParams {
        authorize_url: "https://as.test/oauth2/auth?tenant=1".parse().unwrap(),
        redirect_uri: RedirectUri::parse("http://127.0.0.1:8765/callback").unwrap(),
        issuer: None,
        pkce: true,
        relay_parameter: None,
    }
}

fn strict() -> AuthorizationParams {
    AuthorizationParams {
        issuer: Some("https://as.test".to_owned()),
        ..params()
    }
}

fn query(url: &Url) -> HashMap<String, String> {
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let query: HashMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(query.len(), pairs.len(), "no parameter stands twice");
    query
}

fn parse(query: &str) -> Result<Callback, CallbackError> {
    Callback::parse(query, "code")
}

fn answer(flow: &Flow, rest: &str) -> Callback {
    let state = flow.state.expose_secret();
    parse(&format!("state={state}&{rest}")).unwrap()
}

type Parts = (String, String, Option<String>);

fn parts(concluded: Result<LoginGrant, AuthorizationError>) -> Parts {
    let Ok(LoginGrant::AuthorizationCode {
        code,
        redirect_uri,
        verifier,
    }) = concluded
    else {
        panic!("a code");
    };
    let text = |secret: &SecretString| secret.expose_secret().to_owned();
    (text(&code), redirect_uri, verifier.as_ref().map(text))
}

#[test]
fn a_request_holds_what_the_rfcs_want_and_keeps_the_query_of_the_endpoint() {
    let flow = Flow::begin(params());
    let scopes = ScopeSet::parse("users:userdata:read core:*:*").unwrap();
    let url = flow.url("my app", Some(&scopes));
    assert_eq!(url.path(), "/oauth2/auth");
    let query = query(&url);
    assert_eq!(query["tenant"], "1");
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["client_id"], "my app");
    assert_eq!(query["redirect_uri"], "http://127.0.0.1:8765/callback");
    assert_eq!(query["scope"], "core:*:* users:userdata:read");
    assert_eq!(query["state"], flow.state.expose_secret());
    assert_eq!(query["code_challenge_method"], "S256");
    assert!(
        !url.as_str()
            .contains(flow.verifier.as_ref().unwrap().expose_secret())
    );
}

#[test]
fn without_scopes_and_pkce_neither_is_mentioned() {
    let flow = Flow::begin(AuthorizationParams {
        pkce: false,
        ..params()
    });
    for scopes in [None, Some(&ScopeSet::default())] {
        let query = query(&flow.url("app", scopes));
        assert!(!query.contains_key("scope"));
        assert!(!query.keys().any(|name| name.starts_with("code_challenge")));
    }
    let code = answer(&flow, "code=1");
    assert!(parts(flow.conclude(code)).2.is_none());
}

// RFC 7636 appendix B.
#[test]
fn the_challenge_is_that_of_the_standard() {
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
    assert_eq!(
        challenge(&verifier),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
}

#[test]
fn every_flow_has_a_state_and_a_verifier_of_its_own() {
    let (one, other) = (Flow::begin(params()), Flow::begin(params()));
    let text = |flow: &Flow| {
        [
            flow.state.expose_secret().to_owned(),
            flow.verifier.as_ref().unwrap().expose_secret().to_owned(),
        ]
    };
    let [one, other] = [text(&one), text(&other)];
    assert!(one.iter().all(|text| text.len() == 43));
    assert_ne!(one[0], one[1]);
    assert!(one.iter().all(|text| !other.contains(text)));
}

#[test]
fn a_code_comes_back_with_what_proves_that_it_is_ours() {
    let flow = Flow::begin(params());
    let callback = answer(&flow, "code=the-code");
    assert!(flow.is_answered_by(&callback));
    let (code, redirect_uri, verifier) = parts(flow.conclude(callback));
    assert_eq!(code, "the-code");
    assert_eq!(redirect_uri, "http://127.0.0.1:8765/callback");
    assert_eq!(verifier.unwrap().len(), 43);
}

#[test]
fn a_callback_with_another_state_or_none_is_somebody_elses() {
    for query in [
        "code=1".to_owned(),
        "code=1&state=".to_owned(),
        format!("code=1&state={}", "a".repeat(43)),
        "error=access_denied&state=guess".to_owned(),
    ] {
        let flow = Flow::begin(params());
        let callback = parse(&query).unwrap();
        assert!(!flow.is_answered_by(&callback), "{query}");
        assert_eq!(
            flow.conclude(callback).err().unwrap(),
            AuthorizationError::ForeignState
        );
    }
}

// R67, RFC 9700 section 4.4: an error of another server is as foreign as its code.
#[test]
fn where_an_issuer_is_known_no_other_ones_answer_counts() {
    let error = |rest: &str| {
        let flow = Flow::begin(strict());
        let callback = answer(&flow, rest);
        flow.conclude(callback).err().unwrap()
    };
    assert_eq!(error("code=1"), AuthorizationError::IssuerMissing);
    for rest in [
        "code=1&iss=https://as.test/",
        "code=1&iss=https://evil.test",
        "error=access_denied&iss=https://evil.test",
    ] {
        assert_eq!(error(rest), AuthorizationError::IssuerDiffers, "{rest}");
    }
    let flow = Flow::begin(strict());
    let callback = answer(&flow, "code=1&iss=https://as.test");
    assert!(flow.conclude(callback).is_ok());
    // Who has not set it does not mind what is said.
    let flow = Flow::begin(params());
    let callback = answer(&flow, "code=1&iss=https://anybody.test");
    assert!(flow.conclude(callback).is_ok());
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let flow = Flow::begin(params());
    let callback = answer(&flow, "error=access_denied&error_description=No.");
    let error = flow.conclude(callback).err().unwrap();
    assert_eq!(
        error.to_string(),
        r#"the authorization server says "access_denied": No."#
    );
}

#[test]
fn a_relay_is_asked_as_it_is_and_answers_with_its_own_parameter() {
    let flow = Flow::begin(AuthorizationParams {
        relay_parameter: Some("handle".to_owned()),
        ..params()
    });
    let scopes = ScopeSet::parse("a:b:c").unwrap();
    assert_eq!(
        flow.url("7", Some(&scopes)).as_str(),
        "https://as.test/oauth2/auth?tenant=1"
    );
    let of = |query| Callback::parse(query, flow.code_parameter());
    assert_eq!(of("code=1").unwrap_err(), CallbackError::Nothing);
    let anybodys = of("error=access_denied").unwrap();
    assert!(!flow.is_answered_by(&anybodys), "no state vouches for it");
    let callback = of("handle=abc").unwrap();
    assert!(flow.is_answered_by(&callback));
    let (code, _, verifier) = parts(flow.conclude(callback));
    assert_eq!((code.as_str(), verifier), ("abc", None));
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let flow = Flow::begin(params());
    let secrets = [
        flow.state.expose_secret().to_owned(),
        flow.verifier.as_ref().unwrap().expose_secret().to_owned(),
        "the-code".to_owned(),
    ];
    let callback = answer(&flow, "code=the-code");
    let told = format!("{flow:?} {callback:?}");
    for secret in secrets {
        assert!(!told.contains(&secret), "{told}");
    }
}

proptest! {
    #[test]
    fn what_is_asked_for_can_be_read_back(client_id in ".{1,40}", scope in "[!#-\\[\\]-~]{1,40}") {
        let flow = Flow::begin(params());
        let scopes = ScopeSet::parse(&scope).unwrap();
        let query = query(&flow.url(&client_id, Some(&scopes)));
        prop_assert_eq!(&query["client_id"], &client_id);
        prop_assert_eq!(&query["scope"], &scope);
    }

    #[test]
    fn no_guess_is_the_state(guess in "[A-Za-z0-9_-]{0,60}") {
        let flow = Flow::begin(params());
        let callback = parse(&format!("code=1&state={guess}")).unwrap();
        prop_assert!(!flow.is_answered_by(&callback));
    }
}
