//! The authorization code grant of Brightspace, from the browser's first request to the last refresh.

use super::*;

const CALLBACK: &str = "http://127.0.0.1:8765/callback";
const SCOPES: &str = "users:own_profile:read";
// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn start_with(change: impl FnOnce(&mut MockParams)) -> Mock {
    let mut client = registered(KeySource::None);
    client.secret = Some("secret".into());
    let mut params = MockParams::new(client);
    change(&mut params);
    Mock::start(params).await.unwrap()
}

async fn start() -> Mock {
    start_with(|_| {}).await
}

/// A correct authorization request, some of it changed or (`""`) left out.
fn request(changes: &[(&str, &str)]) -> String {
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", CALLBACK),
        ("scope", SCOPES),
        ("state", "s t&1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        parameters.retain(|(known, _)| known != name);
        parameters.push((name, value));
    }
    parameters.retain(|(_, value)| !value.is_empty());
    format!("{AUTHORIZE_PATH}?{}", form(&parameters))
}

async fn get(mock: &Mock, target: &str) -> Response<Bytes> {
    send(mock, Request::get(target).body(Full::default()).unwrap()).await
}

fn location(response: &Response<Bytes>) -> Url {
    assert_eq!(response.status(), StatusCode::FOUND, "{response:?}");
    Url::parse(response.headers()["location"].to_str().unwrap()).unwrap()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}

/// What the callback of a request says as `error`.
async fn refused(mock: &Mock, changes: &[(&str, &str)]) -> String {
    let url = location(&get(mock, &request(changes)).await);
    assert!(parameter(&url, "code").is_none(), "{url}");
    parameter(&url, "error").unwrap()
}

async fn code(mock: &Mock) -> String {
    let url = location(&get(mock, &request(&[("auto", "1")])).await);
    parameter(&url, "code").unwrap()
}

/// A token request of the client with its secret in the body.
async fn token_request(mock: &Mock, pairs: &[(&str, &str)]) -> Response<Bytes> {
    let mut all = vec![("client_id", CLIENT), ("client_secret", "secret")];
    all.extend(pairs);
    post(mock, &[("content-type", FORM)], form(&all)).await
}

async fn redeem(mock: &Mock, code: &str) -> Response<Bytes> {
    token_request(
        mock,
        &[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ],
    )
    .await
}

async fn refresh(mock: &Mock, refresh_token: &str) -> Response<Bytes> {
    token_request(
        mock,
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ],
    )
    .await
}

/// The two tokens of an answer.
fn pair(response: &Response<Bytes>) -> (String, String) {
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    let body = json_of(response);
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn logged_in(mock: &Mock) -> (String, String) {
    pair(&redeem(mock, &code(mock).await).await)
}

async fn whoami(mock: &Mock, token: &str) -> StatusCode {
    call(mock, Method::GET, WHOAMI, token).await.status()
}

fn error_of(response: &Response<Bytes>) -> String {
    json_of(response)["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_agrees_on_the_page_and_the_application_acts_for_them() {
    let mock = start().await;
    assert!(mock.authorize_url().unwrap().ends_with(AUTHORIZE_PATH));
    let page = get(&mock, &request(&[])).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["cache-control"], "no-store");
    let html = String::from_utf8_lossy(page.body()).into_owned();
    assert!(html.contains(SCOPES) && html.contains(CLIENT), "{html}");
    let (_, rest) = html.split_once("name=\"request\" value=\"").unwrap();
    let (id, _) = rest.split_once('"').unwrap();

    let decide = async |id: &str, decision: &str| {
        let body = form(&[("request", id), ("user", "1003"), ("decision", decision)]);
        let request = Request::post(AUTHORIZE_PATH).header("content-type", FORM);
        send(&mock, request.body(Full::from(body)).unwrap()).await
    };
    let url = location(&decide(id, "approve").await);
    assert!(url.as_str().starts_with(CALLBACK));
    assert_eq!(parameter(&url, "state").as_deref(), Some("s t&1"));
    assert_eq!(parameter(&url, "iss"), None);
    let again = decide(id, "approve").await;
    assert_eq!(again.status(), StatusCode::BAD_REQUEST, "answered once");

    let code = parameter(&url, "code").unwrap();
    let answer = redeem(&mock, &code).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(json_of(&answer)["token_type"], "Bearer");
    assert_eq!(json_of(&answer)["expires_in"], 1800);
    let (token, _) = pair(&answer);
    let me = call(&mock, Method::GET, WHOAMI, &token).await;
    assert_eq!(json_of(&me)["Identifier"], "1003");
    assert!(mock.finds_token_in(&code));
    let counters = mock.counters();
    assert_eq!(counters.authorization_requests, 3);
    assert_eq!(counters.codes_issued, 1);
}

#[tokio::test]
async fn a_no_and_what_cannot_be_asked_come_back_as_errors() {
    let mock = start().await;
    for (changes, error) in [
        (("auto", "deny"), "access_denied"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("scope", ""), "invalid_scope"),
        (("scope", "role:detail:read"), "invalid_scope"),
        (
            ("scope", "users:own_profile:read role:detail:read"),
            "invalid_scope",
        ),
    ] {
        assert_eq!(refused(&mock, &[changes]).await, error, "{changes:?}");
    }
    let url = location(&get(&mock, &request(&[("auto", "deny")])).await);
    assert_eq!(parameter(&url, "state").as_deref(), Some("s t&1"));
}

#[tokio::test]
async fn nobody_is_sent_to_where_the_application_is_not_registered() {
    let mock = start().await;
    let twice = format!("{}&state=2", request(&[]));
    for target in [
        request(&[("client_id", "somebody")]),
        request(&[("client_id", "")]),
        request(&[("redirect_uri", "http://127.0.0.1:8765/callback/")]),
        request(&[("redirect_uri", "http://127.0.0.1:8766/callback")]),
        request(&[("redirect_uri", "")]),
        request(&[("auto", "1"), ("user", "7")]),
        twice,
    ] {
        let response = get(&mock, &target).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{target}");
        assert!(!response.headers().contains_key("location"));
    }
    let request = Request::delete(AUTHORIZE_PATH).body(Full::default());
    let deleted = send(&mock, request.unwrap()).await;
    assert_eq!(deleted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_challenge_can_be_demanded_an_issuer_named_and_the_page_left_out() {
    let plain = [("code_challenge", ""), ("code_challenge_method", "")];
    let mock = start_with(|params| {
        params.login.require_pkce = true;
        params.login.approve = true;
        params.login.issuer = Some("https://auth.example".to_owned());
        params.login.redirect_uris = vec!["https://a.example/back?x=1".parse().unwrap()];
    })
    .await;
    let to = ("redirect_uri", "https://a.example/back?x=1");
    let mut without = plain.to_vec();
    without.push(to);
    assert_eq!(refused(&mock, &without).await, "invalid_request");
    let url = location(&get(&mock, &request(&[to])).await);
    assert!(url.as_str().starts_with("https://a.example/back?x=1&code="));
    assert_eq!(
        parameter(&url, "iss").as_deref(),
        Some("https://auth.example")
    );

    // Where none is demanded, none need be sent; then there is no verifier either.
    let mock = start().await;
    let mut auto = plain.to_vec();
    auto.push(("auto", "1"));
    let url = location(&get(&mock, &request(&auto)).await);
    let code = parameter(&url, "code").unwrap();
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
    ];
    pair(&token_request(&mock, &grant).await);
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_what_it_had_brought() {
    let mock = start().await;
    let code = code(&mock).await;
    let (token, refresh_token) = pair(&redeem(&mock, &code).await);
    assert_eq!(whoami(&mock, &token).await, StatusCode::OK);
    assert_eq!(error_of(&redeem(&mock, &code).await), "invalid_grant");
    assert_eq!(whoami(&mock, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(
        error_of(&refresh(&mock, &refresh_token).await),
        "invalid_grant"
    );
    assert_eq!(mock.counters().grants_revoked, 1);
}

#[tokio::test]
async fn a_code_is_good_for_a_minute() {
    let clock = Arc::new(Stepped::default());
    let mock = start_with(|params| params.clock = clock.clone()).await;
    let code = code(&mock).await;
    clock.advance(60);
    assert_eq!(error_of(&redeem(&mock, &code).await), "invalid_grant");
}

#[tokio::test]
async fn the_client_authenticates_by_basic_or_in_the_body_and_not_by_both() {
    let mock = start().await;
    let (_, refresh_token) = logged_in(&mock).await;
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.as_str()),
    ];
    let form_type = ("content-type", FORM);
    // app-1:secret, and app-1:guess
    let (good, bad) = ("Basic YXBwLTE6c2VjcmV0", "Basic YXBwLTE6Z3Vlc3M=");
    let mut both = grant.to_vec();
    both.push(("client_secret", "secret"));
    for (fields, body, error) in [
        (vec![form_type], form(&grant), "invalid_client"),
        (
            vec![form_type, ("authorization", bad)],
            form(&grant),
            "invalid_client",
        ),
        (
            vec![form_type, ("authorization", good)],
            form(&both),
            "invalid_request",
        ),
        (vec![form_type], form(&both), "invalid_client"),
    ] {
        let response = post(&mock, &fields, body).await;
        assert_eq!(error_of(&response), error, "{fields:?}");
    }
    // None of these has spent it, though all of them have presented it.
    let response = post(&mock, &[form_type, ("authorization", good)], form(&grant)).await;
    pair(&response);
    assert_eq!(mock.counters().refresh_tokens[&1], 5);
}

#[tokio::test]
async fn every_refresh_token_is_used_once_and_brings_the_next() {
    let mock = start().await;
    let (first, mut refresh_token) = logged_in(&mock).await;
    for _ in 0..5 {
        let (token, next) = pair(&refresh(&mock, &refresh_token).await);
        assert_eq!(whoami(&mock, &token).await, StatusCode::OK);
        assert_ne!(next, refresh_token);
        refresh_token = next;
    }
    // A new token says nothing against the old ones.
    assert_eq!(whoami(&mock, &first).await, StatusCode::OK);
    let counters = mock.counters();
    let times: Vec<u64> = counters.refresh_tokens.values().copied().collect();
    assert_eq!(times, [1, 1, 1, 1, 1, 0]);
    assert_eq!(counters.refresh_tokens_presented_again(), 0);
    assert_eq!(counters.refresh_token_reuses, 0);
    assert!(mock.finds_token_in(&refresh_token));
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_grant_with_all_its_tokens() {
    let mock = start().await;
    let (other, _) = logged_in(&mock).await;
    let (token, spent) = logged_in(&mock).await;
    let (newest, next) = pair(&refresh(&mock, &spent).await);
    assert_eq!(error_of(&refresh(&mock, &spent).await), "invalid_grant");
    for token in [&token, &newest] {
        assert_eq!(whoami(&mock, token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(error_of(&refresh(&mock, &next).await), "invalid_grant");
    assert_eq!(whoami(&mock, &other).await, StatusCode::OK);
    let counters = mock.counters();
    assert_eq!(
        (counters.refresh_token_reuses, counters.grants_revoked),
        (1, 1)
    );
    assert_eq!(counters.refresh_tokens_presented_again(), 1);
}

#[tokio::test]
async fn reuse_can_be_refused_only_or_forgiven_for_a_while() {
    let mock = start_with(|params| params.login.reuse_revokes = false).await;
    let (token, spent) = logged_in(&mock).await;
    let (_, next) = pair(&refresh(&mock, &spent).await);
    assert_eq!(error_of(&refresh(&mock, &spent).await), "invalid_grant");
    assert_eq!(whoami(&mock, &token).await, StatusCode::OK);
    pair(&refresh(&mock, &next).await);

    let clock = Arc::new(Stepped::default());
    let mock = start_with(|params| {
        params.clock = clock.clone();
        params.login.reuse_grace = Duration::from_secs(10);
    })
    .await;
    let (_, spent) = logged_in(&mock).await;
    pair(&refresh(&mock, &spent).await);
    clock.advance(9);
    pair(&refresh(&mock, &spent).await);
    clock.advance(1);
    assert_eq!(error_of(&refresh(&mock, &spent).await), "invalid_grant");
}

#[tokio::test]
async fn refresh_tokens_can_be_reusable_or_absent() {
    let mock = start_with(|params| params.login.refresh_tokens = RefreshTokens::Reusable).await;
    let (_, refresh_token) = logged_in(&mock).await;
    for _ in 0..2 {
        let answer = refresh(&mock, &refresh_token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(json_of(&answer).get("refresh_token").is_none());
    }
    let mock = start_with(|params| params.login.refresh_tokens = RefreshTokens::Absent).await;
    let answer = redeem(&mock, &code(&mock).await).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(json_of(&answer).get("refresh_token").is_none());
}

#[tokio::test]
async fn a_grant_gains_no_scope_by_a_refresh() {
    let mock = start().await;
    let (_, refresh_token) = logged_in(&mock).await;
    let asking = async |refresh_token: &str, scope: &str| {
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("scope", scope),
        ];
        token_request(&mock, &grant).await
    };
    let answer = asking(&refresh_token, "users:own_profile:read users:userdata:read").await;
    assert_eq!(json_of(&answer)["scope"], SCOPES);
    let (_, next) = pair(&answer);
    let none = asking(&next, "users:userdata:read").await;
    assert_eq!(error_of(&none), "invalid_scope");
    // A request that is refused spends nothing.
    pair(&refresh(&mock, &next).await);
}

#[tokio::test]
async fn an_answer_can_be_lost_or_cut_after_the_token_is_spent() {
    let mock = start_with(|params| params.control = Some("127.0.0.1:0".parse().unwrap())).await;
    let try_refresh = async |refresh_token: &str| {
        let body = form(&[
            ("client_id", CLIENT),
            ("client_secret", "secret"),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ]);
        let request = Request::post(TOKEN_PATH).header("content-type", FORM);
        let request = request.body(Full::from(body)).unwrap();
        exchange(&mock.address().to_string(), request).await
    };
    for (fault, arrives) in [
        ("answer_lost", None),
        ("answer_lost,status=504", Some(504)),
        ("answer_truncated", Some(200)),
        ("close_mid_body", None),
    ] {
        let (_, refresh_token) = logged_in(&mock).await;
        let fault = format!("on=token,times=1,fault={fault}");
        mock.control().inject(fault.parse().unwrap());
        let outcome = try_refresh(&refresh_token).await;
        let status = outcome.as_ref().ok().map(|answer| answer.status().as_u16());
        assert_eq!(status, arrives, "{fault}");
        if let Ok(answer) = outcome {
            assert!(serde_json::from_slice::<Value>(answer.body()).is_err());
        }
        let again = try_refresh(&refresh_token).await.unwrap();
        assert_eq!(error_of(&again), "invalid_grant", "{fault}: it was spent");
    }
    // Before anything is done, a token is presented but not spent.
    let (_, refresh_token) = logged_in(&mock).await;
    for fault in ["close", "reset", "status,status=503"] {
        let fault = format!("on=token,times=1,fault={fault}");
        mock.control().inject(fault.parse().unwrap());
        let _ = try_refresh(&refresh_token).await;
    }
    pair(&try_refresh(&refresh_token).await.unwrap());
    let counters = mock.counters();
    let (number, times) = counters.refresh_tokens.iter().nth_back(1).unwrap();
    assert_eq!(*times, 4);

    let address = mock.control_address().unwrap().to_string();
    let shown = Request::get("/mock/requests")
        .body(Full::default())
        .unwrap();
    let shown = exchange(&address, shown).await.unwrap();
    let records = json_of(&shown);
    assert_eq!(
        records.as_array().unwrap().last().unwrap()["refresh_token"],
        *number
    );
    assert!(!mock.finds_token_in(&records.to_string()));
}

#[tokio::test]
async fn the_authorization_endpoint_fails_on_demand_too() {
    let mock = start().await;
    let inject = |fault: &str| mock.control().inject(fault.parse().unwrap());
    inject("on=authorize,fault=status,status=503,times=1");
    let answer = get(&mock, &request(&[])).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    inject("on=authorize,fault=oauth_error,error=temporarily_unavailable,times=1");
    assert_eq!(
        refused(&mock, &[("auto", "1")]).await,
        "temporarily_unavailable"
    );
    code(&mock).await;
}

#[tokio::test]
async fn grants_end_when_they_are_revoked() {
    let revoke = async |mock: &Mock, token: &str| {
        let body = form(&[
            ("client_id", CLIENT),
            ("client_secret", "secret"),
            ("token", token),
        ]);
        let request = Request::post(REVOCATION_PATH).header("content-type", FORM);
        send(mock, request.body(Full::from(body)).unwrap()).await
    };
    let mock = start().await;
    let (token, refresh_token) = logged_in(&mock).await;
    let none = revoke(&mock, &refresh_token).await;
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED, "there is none");
    mock.control().revoke_grants();
    assert_eq!(whoami(&mock, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(
        error_of(&refresh(&mock, &refresh_token).await),
        "invalid_grant"
    );

    let mock = start_with(|params| params.login.revocation = true).await;
    let (token, refresh_token) = logged_in(&mock).await;
    let (second, _) = pair(&refresh(&mock, &refresh_token).await);
    assert_eq!(revoke(&mock, &token).await.status(), StatusCode::OK);
    assert_eq!(whoami(&mock, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mock, &second).await, StatusCode::OK);
    // Also a spent one names its grant.
    assert_eq!(revoke(&mock, &refresh_token).await.status(), StatusCode::OK);
    assert_eq!(whoami(&mock, &second).await, StatusCode::UNAUTHORIZED);
    assert_eq!(revoke(&mock, "unknown").await.status(), StatusCode::OK);
    assert_eq!(mock.counters().revocations, 3);
    let unauthenticated = Request::post(REVOCATION_PATH).header("content-type", FORM);
    let unauthenticated = unauthenticated.body(Full::from("token=x")).unwrap();
    let refused = send(&mock, unauthenticated).await;
    assert_eq!(error_of(&refused), "invalid_client");
}
