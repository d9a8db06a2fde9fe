//! LTIAAS before a Brightspace.

use super::*;

const CALLBACK: &str = "http://127.0.0.1:8765/callback";
const START: &str = "/oauth/start/bursar-mock-platform";
const FIRST: &str = "/api/oauth/access-token/bursar-mock-platform";
const KEY: &str = "bursar-mock-api-key";

async fn start_with(change: impl FnOnce(&mut MockParams)) -> Mock {
    let mut params = MockParams::new(registered(KeySource::None));
    params.lms = Lms::Ltiaas;
    params.login.refresh_tokens = RefreshTokens::Reusable;
    change(&mut params);
    Mock::start(params).await.unwrap()
}

/// What the browser comes back with.
async fn traded_in(mock: &Mock, query: &str, parameter: &str) -> Result<String, String> {
    let target = format!("{START}?{query}");
    let answer = send(mock, Request::get(target).body(Full::default()).unwrap()).await;
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(CALLBACK), "{location}");
    let url = Url::parse(location).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let get = |wanted: &str| {
        let mut pairs = pairs.iter();
        pairs
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(get("state"), None);
    get(parameter).ok_or_else(|| get("error").unwrap())
}

async fn post_json(mock: &Mock, path: &str, key: &str, body: &Value) -> Response<Bytes> {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"))
        .body(Full::from(body.to_string()));
    send(mock, request.unwrap()).await
}

async fn refresh(mock: &Mock, refresh_token: &str) -> Response<Bytes> {
    let body = json!({ "refreshToken": refresh_token });
    post_json(mock, &format!("{FIRST}/refresh"), KEY, &body).await
}

async fn logged_in(mock: &Mock, user: &str) -> (String, String) {
    let query = format!("auto=1&user={user}");
    let value = traded_in(mock, &query, "token").await.unwrap();
    let answer = post_json(mock, FIRST, KEY, &json!({ "token": value })).await;
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    let body = json_of(&answer);
    assert_eq!(body["tokenType"], "Bearer");
    assert_eq!(body["expiresIn"], 1800);
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("accessToken"), text("refreshToken"))
}

async fn who(mock: &Mock, token: &str) -> Value {
    let me = call(mock, Method::GET, WHOAMI, token).await;
    json_of(&me)["Identifier"].clone()
}

#[tokio::test]
async fn every_person_has_a_grant_of_their_own_and_the_tokens_are_the_lms_s() {
    let mock = start_with(|_| {}).await;
    assert!(mock.authorize_url().unwrap().ends_with(START));
    assert!(mock.token_url().ends_with("/api/oauth/access-token"));
    let (amara, first) = logged_in(&mock, "1001").await;
    let (bjorn, second) = logged_in(&mock, "1002").await;
    assert_eq!(who(&mock, &amara).await, "1001");
    assert_eq!(who(&mock, &bjorn).await, "1002");
    for (refresh_token, user) in [(&first, "1001"), (&second, "1002"), (&first, "1001")] {
        let answer = refresh(&mock, refresh_token).await;
        let body = json_of(&answer);
        assert!(body.get("refreshToken").is_none());
        assert_eq!(
            who(&mock, body["accessToken"].as_str().unwrap()).await,
            user
        );
    }
    let counters = mock.counters();
    assert_eq!(counters.refresh_tokens, [(1, 2), (2, 1)].into());
    assert_eq!(counters.token_requests, 5);
}

#[tokio::test]
async fn a_person_agrees_on_the_page_or_says_no() {
    let mock = start_with(|_| {}).await;
    let denied = traded_in(&mock, "auto=deny", "token").await;
    assert_eq!(denied.unwrap_err(), "access_denied");
    let page = send(&mock, Request::get(START).body(Full::default()).unwrap()).await;
    let html = String::from_utf8_lossy(page.body());
    assert!(html.contains(&format!("action=\"{START}\"")), "{html}");
    let other = Request::get("/oauth/start/other").body(Full::default());
    let other = send(&mock, other.unwrap()).await;
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_brings_no_token_is_told_in_ltiaas_s_form() {
    let mock = start_with(|_| {}).await;
    let refreshing = json!({ "refreshToken": "made up" });
    let path = format!("{FIRST}/refresh");
    for (path, key, body, status) in [
        (path.as_str(), "guess", &refreshing, 401),
        (path.as_str(), KEY, &refreshing, 400),
        (path.as_str(), KEY, &json!({}), 400),
        (path.as_str(), KEY, &json!([]), 400),
        (FIRST, KEY, &json!({ "token": "made up" }), 400),
        (
            "/api/oauth/access-token/other",
            KEY,
            &json!({ "token": "x" }),
            404,
        ),
    ] {
        let answer = post_json(&mock, path, key, body).await;
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        assert_eq!(json_of(&answer)["status"], status);
        assert!(json_of(&answer)["details"]["message"].is_string());
    }
    let value = traded_in(&mock, "auto=1", "token").await.unwrap();
    let body = json!({ "token": value });
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST] {
        let answer = post_json(&mock, FIRST, KEY, &body).await;
        assert_eq!(answer.status(), status, "good once");
    }
    let by_get = Request::get(FIRST).header("authorization", format!("Bearer {KEY}"));
    let by_get = send(&mock, by_get.body(Full::default()).unwrap()).await;
    assert_eq!(by_get.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn what_the_documentation_leaves_open_can_be_set() {
    let mock = start_with(|params| {
        params.ltiaas.parameter = "handle".to_owned();
        params.ltiaas.first_method = Method::GET;
        params.ltiaas.refresh_path = Some("/api/refresh".to_owned());
        params.ltiaas.passes_errors_on = true;
        params.login.refresh_tokens = RefreshTokens::Rotating;
    })
    .await;
    let value = traded_in(&mock, "auto=1", "handle").await.unwrap();
    let request = Request::get(format!("{FIRST}?handle={value}"))
        .header("authorization", format!("Bearer {KEY}"))
        .body(Full::default());
    let answer = send(&mock, request.unwrap()).await;
    let spent = json_of(&answer)["refreshToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let presenting = json!({ "refreshToken": spent });
    let next = post_json(&mock, "/api/refresh", KEY, &presenting).await;
    assert_ne!(json_of(&next)["refreshToken"], presenting["refreshToken"]);
    let again = post_json(&mock, "/api/refresh", KEY, &presenting).await;
    assert_eq!(json_of(&again)["error"], "invalid_grant");
    assert_eq!(mock.counters().refresh_token_reuses, 1);
}

#[tokio::test]
async fn faults_happen_here_too() {
    let mock = start_with(|_| {}).await;
    let (token, refresh_token) = logged_in(&mock, "1001").await;
    let inject = |fault: &str| mock.control().inject(fault.parse().unwrap());
    inject("on=token,times=1,fault=expires_in,expires_in=\"soon\"");
    let odd = refresh(&mock, &refresh_token).await;
    assert_eq!(json_of(&odd)["expiresIn"], "soon");
    inject("on=token,times=1,fault=oauth_error,error=invalid_grant");
    let dead = refresh(&mock, &refresh_token).await;
    assert_eq!(json_of(&dead)["error"], "invalid_grant");
    inject("on=token,times=1,fault=answer_truncated");
    let cut = refresh(&mock, &refresh_token).await;
    assert!(serde_json::from_slice::<Value>(cut.body()).is_err());
    inject("on=api,times=1,fault=unauthorized");
    let refused = call(&mock, Method::GET, WHOAMI, &token).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}
