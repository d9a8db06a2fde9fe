//! Canvas: its token endpoint with all its ways, and its API with two kinds of 401.

use super::*;

const AUTH: &str = "/login/oauth2/auth";
const TOKEN: &str = "/login/oauth2/token";
const CALLBACK: &str = "http://127.0.0.1:8765/callback";
const SCOPES: &str = "url:GET|/api/v1/users/:id url:GET|/api/v1/courses/:course_id/users";
const COURSE: &str = "/api/v1/courses/6607/users";

async fn start_with(change: impl FnOnce(&mut MockParams)) -> Mock {
    let mut client = registered(KeySource::None);
    client.secret = Some("secret".into());
    client.scopes = ScopeSet::parse(SCOPES).unwrap();
    let mut params = MockParams::new(client);
    params.lms = Lms::Canvas;
    params.is_unlimited = true;
    params.token_lifetime = Duration::from_hours(1);
    params.login.approve = true;
    change(&mut params);
    Mock::start(params).await.unwrap()
}

async fn start() -> Mock {
    start_with(|_| {}).await
}

async fn code_for(mock: &Mock, scope: &str) -> Result<String, String> {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", CALLBACK),
        ("state", "s"),
        ("scope", scope),
        ("user", "1002"),
    ];
    pairs.retain(|(_, value)| !value.is_empty());
    let request = Request::get(format!("{AUTH}?{}", form(&pairs)));
    let answer = send(mock, request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::FOUND);
    let url = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    let get = |wanted: &str| {
        let mut pairs = url.query_pairs();
        pairs
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    get("code").ok_or_else(|| get("error").unwrap())
}

async fn ask(mock: &Mock, pairs: &[(&str, &str)]) -> Response<Bytes> {
    let request = Request::post(TOKEN).header("content-type", FORM);
    send(mock, request.body(Full::from(form(pairs))).unwrap()).await
}

const ID: (&str, &str) = ("client_id", CLIENT);
const SECRET: (&str, &str) = ("client_secret", "secret");

async fn redeem(mock: &Mock, code: &str) -> Response<Bytes> {
    let code = ("code", code);
    let grant = ("grant_type", "authorization_code");
    ask(mock, &[ID, SECRET, grant, code, ("redirect_uri", CALLBACK)]).await
}

async fn refresh(mock: &Mock, refresh_token: &str) -> Response<Bytes> {
    let grant = ("grant_type", "refresh_token");
    ask(mock, &[ID, SECRET, grant, ("refresh_token", refresh_token)]).await
}

fn text_of(response: &Response<Bytes>, name: &str) -> String {
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    json_of(response)[name].as_str().unwrap().to_owned()
}

/// Access and refresh token.
async fn logged_in(mock: &Mock) -> (String, String) {
    let answer = redeem(mock, &code_for(mock, SCOPES).await.unwrap()).await;
    (
        text_of(&answer, "access_token"),
        text_of(&answer, "refresh_token"),
    )
}

async fn get(mock: &Mock, target: &str, token: &str) -> Response<Bytes> {
    call(mock, Method::GET, target, token).await
}

#[tokio::test]
async fn the_code_grant_brings_a_refresh_token_and_a_refresh_does_not() {
    let mock = start().await;
    let code = code_for(&mock, SCOPES).await.unwrap();
    let first = redeem(&mock, &code).await;
    let body = json_of(&first);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["user"]["id"], 1002);
    assert!(body.get("scope").is_none());
    let again = redeem(&mock, &code).await;
    assert_eq!(again.status(), StatusCode::FOUND, "with a redirect_uri");

    let refresh_token = text_of(&first, "refresh_token");
    for _ in 0..3 {
        let answer = refresh(&mock, &refresh_token).await;
        assert!(json_of(&answer).get("refresh_token").is_none());
        let token = text_of(&answer, "access_token");
        let me = get(&mock, "/api/v1/users/self", &token).await;
        assert_eq!(json_of(&me)["id"], 1002);
    }
    assert_eq!(mock.counters().refresh_tokens[&1], 3);
}

#[tokio::test]
async fn a_refresh_kills_the_access_token_before_it_at_once() {
    let mock = start().await;
    let (other, _) = logged_in(&mock).await;
    let (old, refresh_token) = logged_in(&mock).await;
    assert_eq!(get(&mock, COURSE, &old).await.status(), StatusCode::OK);
    let new = text_of(&refresh(&mock, &refresh_token).await, "access_token");
    let dead = get(&mock, COURSE, &old).await;
    assert_eq!(dead.status(), StatusCode::UNAUTHORIZED);
    for token in [&new, &other] {
        assert_eq!(get(&mock, COURSE, token).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn the_errors_of_the_token_endpoint_are_canvas_s_own() {
    let mock = start().await;
    let refreshing = ("grant_type", "refresh_token");
    for (pairs, status, error, description) in [
        (vec![ID, SECRET], 400, "unsupported_grant_type", "supported"),
        (
            vec![ID, ("client_secret", "guess"), refreshing],
            401,
            "invalid_client",
            "invalid client",
        ),
        (
            vec![("client_id", "x"), SECRET, refreshing],
            401,
            "invalid_client",
            "unknown client",
        ),
        (vec![refreshing], 401, "invalid_client", "unknown client"),
        (
            vec![ID, SECRET, refreshing],
            400,
            "invalid_request",
            "must provide",
        ),
        (
            vec![ID, SECRET, refreshing, ("refresh_token", "x")],
            400,
            "invalid_request",
            "refresh_token not found",
        ),
        (
            vec![ID, SECRET, ("grant_type", "authorization_code")],
            400,
            "invalid_request",
            "must provide",
        ),
        (
            vec![
                ID,
                SECRET,
                ("grant_type", "authorization_code"),
                ("code", "x"),
            ],
            400,
            "invalid_grant",
            "authorization_code not found",
        ),
    ] {
        let answer = ask(&mock, &pairs).await;
        assert_eq!(answer.status().as_u16(), status, "{pairs:?}");
        assert_eq!(json_of(&answer)["error"], error, "{pairs:?}");
        let described = json_of(&answer)["error_description"].to_string();
        assert!(described.contains(description), "{described}");
        let challenge = answer.headers().get("www-authenticate");
        let expected = (status == 401).then_some("Canvas OAuth 2.0");
        assert_eq!(challenge.map(|value| value.to_str().unwrap()), expected);
    }
}

#[tokio::test]
async fn an_error_goes_to_the_redirect_uri_of_the_request_unless_a_site_flag_is_on() {
    let pairs = [
        ID,
        SECRET,
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
        ("redirect_uri", CALLBACK),
    ];
    let mock = start().await;
    let trapped = ask(&mock, &pairs).await;
    assert_eq!(trapped.status(), StatusCode::FOUND);
    let location = trapped.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(&format!("{CALLBACK}?error=invalid_request&")));
    let mock = start_with(|params| params.canvas.redirects_errors = false).await;
    let told = ask(&mock, &pairs).await;
    assert_eq!(told.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_authorization_field_counts_where_the_body_has_no_client() {
    let mock = start().await;
    let (_, refresh_token) = logged_in(&mock).await;
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.as_str()),
    ]);
    // app-1:secret
    let request = Request::post(TOKEN)
        .header("content-type", FORM)
        .header("authorization", "Basic YXBwLTE6c2VjcmV0");
    let answer = send(&mock, request.body(Full::from(body)).unwrap()).await;
    text_of(&answer, "access_token");
}

#[tokio::test]
async fn the_two_kinds_of_401_differ_by_a_field() {
    let mock = start().await;
    let (token, _) = logged_in(&mock).await;
    let bare = send(&mock, Request::get(COURSE).body(Full::default()).unwrap()).await;
    for (answer, body, challenged) in [
        (
            bare,
            r#"{"status":"unauthenticated","errors":[{"message":"user authorization required"}]}"#,
            true,
        ),
        (
            get(&mock, COURSE, "guessed").await,
            r#"{"errors":[{"message":"Invalid access token."}]}"#,
            true,
        ),
        (
            get(&mock, "/api/v1/courses/6607", &token).await,
            r#"{"errors":[{"message":"Insufficient scopes on access token."}]}"#,
            false,
        ),
        (
            get(&mock, "/api/v1/courses/403/users", &token).await,
            r#"{"status":"unauthorized","errors":[{"message":"user not authorized to perform that action"}]}"#,
            false,
        ),
        // Canvas compares the method too, HEAD is none of those that scopes have.
        (
            call(&mock, Method::DELETE, COURSE, &token).await,
            r#"{"errors":[{"message":"Insufficient scopes on access token."}]}"#,
            false,
        ),
    ] {
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{body}");
        assert_eq!(answer.body(), body);
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge.map(|value| value.to_str().unwrap());
        let expected = challenged.then_some("Bearer realm=\"canvas-lms\"");
        assert_eq!(challenge, expected, "{body}");
    }
    let query = format!("{COURSE}?access_token={token}");
    let in_query = send(&mock, Request::get(query).body(Full::default()).unwrap()).await;
    assert_eq!(in_query.status(), StatusCode::OK);
    let missing = get(&mock, "/api/v1/courses/404/users", &token).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_scoped_key_wants_scopes_that_it_has_and_an_unscoped_one_none() {
    let mock = start().await;
    for scope in [
        "",
        "url:GET|/api/v1/accounts",
        "url:GET|/api/v1/courses/:id",
    ] {
        assert_eq!(code_for(&mock, scope).await.unwrap_err(), "invalid_scope");
    }
    let long = "x".repeat(8_000);
    let request = Request::get(format!("{AUTH}?scope={long}")).body(Full::default());
    let refused = send(&mock, request.unwrap()).await;
    assert_eq!(refused.status(), StatusCode::URI_TOO_LONG);

    let mock = start_with(|params| params.canvas.is_scoped = false).await;
    let answer = redeem(&mock, &code_for(&mock, "").await.unwrap()).await;
    let token = text_of(&answer, "access_token");
    let target = "/api/v1/courses/6607";
    let course = get(&mock, target, &token).await;
    assert_eq!(json_of(&course)["course_code"], "C6607");
    let unknown = get(&mock, "/api/v1/nowhere", &token).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    // Those take service tokens only.
    let lti = get(&mock, "/api/lti/courses/6607/line_items", &token).await;
    assert_eq!(lti.status(), StatusCode::UNAUTHORIZED);
    let other = get(&mock, "/api/v1/accounts", &token).await;
    assert_eq!(json_of(&other)["template"], "/api/v1/accounts");
}

#[tokio::test]
async fn a_list_is_walked_by_its_link_field() {
    let mock = start().await;
    let (token, _) = logged_in(&mock).await;
    let mut target = format!("{COURSE}?per_page=20");
    let mut seen = 0;
    loop {
        let page = get(&mock, &target, &token).await;
        seen += json_of(&page).as_array().unwrap().len();
        let links = page.headers()["link"].to_str().unwrap();
        let next = links.split(',').find(|link| link.ends_with("rel=\"next\""));
        let Some(next) = next else {
            assert!(
                links.contains("page=3&per_page=20>; rel=\"last\""),
                "{links}"
            );
            break;
        };
        let (url, _) = next.trim_start_matches('<').split_once('>').unwrap();
        target = url.strip_prefix(&mock.origin()).unwrap().to_owned();
    }
    assert_eq!(seen, 45);
}

#[tokio::test]
async fn a_full_bucket_throttles_its_token_and_three_token_requests_fill_a_host_s() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN] {
        let clock = Arc::new(Stepped::default());
        let mock = start_with(|params| {
            params.clock = clock.clone();
            params.is_unlimited = false;
            params.canvas.throttle_status = status;
            params.canvas.request_cost = 300.0;
        })
        .await;
        let (token, refresh_token) = logged_in(&mock).await;
        for remaining in ["300.0", "0.0"] {
            let answer = get(&mock, COURSE, &token).await;
            assert_eq!(answer.headers()["x-rate-limit-remaining"], remaining);
            assert_eq!(answer.headers()["x-request-cost"], "300.0");
        }
        let throttled = get(&mock, COURSE, &token).await;
        assert_eq!(throttled.status(), status);
        assert!(String::from_utf8_lossy(throttled.body()).contains("(Rate Limit Exceeded)"));
        assert_eq!(throttled.headers()["x-rate-limit-remaining"], "0.0");
        assert!(!throttled.headers().contains_key("retry-after"));
        assert!(!throttled.headers().contains_key("www-authenticate"));

        for expected in [StatusCode::OK, StatusCode::OK, status] {
            let answer = refresh(&mock, &refresh_token).await;
            assert_eq!(answer.status(), expected);
        }
        clock.advance(60);
        assert_eq!(
            refresh(&mock, &refresh_token).await.status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn a_token_that_is_deleted_takes_its_grant_with_it() {
    let mock = start().await;
    let (token, refresh_token) = logged_in(&mock).await;
    let delete = async |target: &str, token: &str| call(&mock, Method::DELETE, target, token).await;
    let unknown = delete(TOKEN, "guessed").await;
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let gone = delete(TOKEN, &token).await;
    assert_eq!(gone.body(), "{}");
    assert_eq!(
        get(&mock, COURSE, &token).await.status(),
        StatusCode::UNAUTHORIZED
    );
    let refused = refresh(&mock, &refresh_token).await;
    assert_eq!(
        json_of(&refused)["error_description"],
        "refresh_token not found"
    );
    let (token, _) = logged_in(&mock).await;
    let target = format!("{TOKEN}?expire_sessions=1");
    let gone = delete(&target, &token).await;
    assert!(json_of(&gone)["forward_url"].is_string());
    let counters = mock.counters();
    assert_eq!((counters.revocations, counters.token_requests), (3, 3));
}

#[tokio::test]
async fn faults_speak_canvas_s_words() {
    let mock = start().await;
    let (token, refresh_token) = logged_in(&mock).await;
    for (fault, status, word) in [
        ("unauthorized", 401, "Invalid access token."),
        ("forbidden", 401, "not authorized"),
        (
            "throttle",
            429,
            "429 Too Many Requests (Rate Limit Exceeded)",
        ),
        (
            "throttle,status=403",
            403,
            "403 Forbidden (Rate Limit Exceeded)",
        ),
    ] {
        let fault = format!("on=api,times=1,fault={fault}");
        mock.control().inject(fault.parse().unwrap());
        let answer = get(&mock, COURSE, &token).await;
        assert_eq!(answer.status().as_u16(), status);
        assert!(
            String::from_utf8_lossy(answer.body()).contains(word),
            "{fault}"
        );
    }
    let inject = |fault: &str| mock.control().inject(fault.parse().unwrap());
    inject("on=token,times=1,fault=throttle");
    let throttled = refresh(&mock, &refresh_token).await;
    assert_eq!(throttled.headers()["x-rate-limit-remaining"], "0.0");
    inject("on=token,times=1,fault=answer_truncated");
    let cut = refresh(&mock, &refresh_token).await;
    assert!(serde_json::from_slice::<Value>(cut.body()).is_err());
    // The token before it is dead all the same; the refresh token is not.
    let dead = get(&mock, COURSE, &token).await;
    assert_eq!(dead.status(), StatusCode::UNAUTHORIZED);
    text_of(&refresh(&mock, &refresh_token).await, "access_token");
}
