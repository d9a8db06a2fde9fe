//! Blackboard's token endpoint and REST API.

use super::*;

const TOKEN: &str = "/learn/api/public/v1/oauth2/token";
const USERS: &str = "/learn/api/public/v1/users";
/// `app-1:secret`
const PAIR: &str = "Basic YXBwLTE6c2VjcmV0";

async fn start_with(change: impl FnOnce(&mut MockParams)) -> Mock {
    let keys = KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap());
    let mut client = registered(keys);
    client.secret = Some("secret".into());
    let mut params = MockParams::new(client);
    params.lms = Lms::Blackboard;
    params.token_lifetime = Duration::from_hours(1);
    change(&mut params);
    Mock::start(params).await.unwrap()
}

async fn start() -> Mock {
    start_with(|_| ()).await
}

async fn log_in(mock: &Mock, pair: &str) -> Response<Bytes> {
    let request = Request::post(TOKEN)
        .header("authorization", pair)
        .header("content-type", FORM)
        .body(Full::from("grant_type=client_credentials"))
        .unwrap();
    send(mock, request).await
}

async fn token_of(mock: &Mock) -> String {
    let answer = json_of(&log_in(mock, PAIR).await);
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_same_token_is_handed_out_again_with_what_is_left_of_its_life() {
    let clock = Arc::new(Stepped::default());
    let mock = start_with(|params| params.clock = clock.clone()).await;
    let first = json_of(&log_in(&mock, PAIR).await);
    assert_eq!(
        (&first["expires_in"], &first["token_type"]),
        (&json!(3600), &json!("bearer"))
    );
    assert!(first.get("scope").is_none() && first.get("refresh_token").is_none());
    clock.advance(1_000);
    let again = json_of(&log_in(&mock, PAIR).await);
    assert_eq!(again["access_token"], first["access_token"]);
    assert_eq!(again["expires_in"], 2600);
    clock.advance(2_600);
    let new = json_of(&log_in(&mock, PAIR).await);
    assert_ne!(new["access_token"], first["access_token"]);
    assert_eq!(new["expires_in"], 3600);
    assert_eq!(mock.counters().tokens_issued, 3);
}

#[tokio::test]
async fn a_revoked_token_is_not_handed_out_again() {
    let mock = start().await;
    let dead = token_of(&mock).await;
    mock.control().revoke_tokens();
    let refused = call(&mock, Method::GET, USERS, &dead).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        json_of(&refused),
        json!({ "status": 401, "message": "Bearer token is invalid" })
    );
    assert_ne!(token_of(&mock).await, dead);
}

#[tokio::test]
async fn only_the_authorization_field_logs_in() {
    let mock = start().await;
    let refused = log_in(&mock, "Basic YXBwLTE6d3Jvbmc=").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(json_of(&refused)["error"], "invalid_client");
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("client_assertion", "x.y.z"),
    ]);
    let request = Request::post(TOKEN)
        .header("content-type", FORM)
        .body(Full::from(body))
        .unwrap();
    assert_eq!(
        json_of(&send(&mock, request).await)["error"],
        "invalid_client"
    );
}

#[tokio::test]
async fn calls_are_answered_in_blackboard_s_shapes() {
    let mock = start().await;
    let token = token_of(&mock).await;
    let get = async |path: &str| call(&mock, Method::GET, path, &token).await;
    let first = get(USERS).await;
    assert_eq!(first.headers()["x-rate-limit-limit"], "10000");
    assert_eq!(first.headers()["x-rate-limit-remaining"], "9999");
    let first = json_of(&first);
    assert_eq!(first["results"][0]["id"], "_1001_1");
    let next = first["paging"]["nextPage"].as_str().unwrap();
    assert_eq!(next, "/learn/api/public/v1/users?offset=20");
    assert_eq!(json_of(&get(next).await)["results"][0]["id"], "_1021_1");
    assert!(
        json_of(&get(&format!("{USERS}?offset=40")).await)
            .get("paging")
            .is_none()
    );
    for path in [
        "/learn/api/public/v1/users/userName:student.1001",
        "/learn/api/public/v3/courses/_6607_1",
        "/learn/api/public/v1/courses/_6607_1/users",
        "/learn/api/public/v1/system/version",
    ] {
        assert_eq!(get(path).await.status(), StatusCode::OK, "{path}");
    }
    for (path, status) in [
        ("/learn/api/public/v1/users/403", StatusCode::FORBIDDEN),
        ("/learn/api/public/v1/users/404", StatusCode::NOT_FOUND),
        ("/learn/api/public/v1/nothing", StatusCode::NOT_FOUND),
        ("/elsewhere", StatusCode::NOT_FOUND),
    ] {
        let refused = get(path).await;
        assert_eq!(refused.status(), status, "{path}");
        assert_eq!(json_of(&refused)["status"], status.as_u16());
    }
    let none = Request::get(USERS).body(Full::default()).unwrap();
    let refused = send(&mock, none).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_ne!(json_of(&refused)["message"], "Bearer token is invalid");
}

#[tokio::test]
async fn a_grade_is_written_and_read_back() {
    let mock = start().await;
    let token = token_of(&mock).await;
    let path = "/learn/api/public/v2/courses/_6607_1/gradebook/columns/_7_1/users/_1001_1";
    let written = call_with_body(&mock, Method::PATCH, path, &token, "{\"score\":7.5}").await;
    assert_eq!(written.status(), StatusCode::OK);
    let read = json_of(&call(&mock, Method::GET, path, &token).await);
    assert_eq!(read["score"], 7.5);
    let wrong = call_with_body(&mock, Method::PATCH, path, &token, "{\"score\":\"A\"}").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn when_the_day_s_calls_are_used_up_the_answer_says_for_how_long() {
    let clock = Arc::new(Stepped::default());
    let mock = start_with(|params| {
        params.clock = clock.clone();
        params.calls_per_day = 2;
        params.token_lifetime = Duration::from_hours(48);
    })
    .await;
    let token = token_of(&mock).await;
    let get = async || call(&mock, Method::GET, USERS, &token).await;
    assert_eq!(get().await.headers()["x-rate-limit-remaining"], "1");
    clock.advance(3_600);
    assert_eq!(get().await.headers()["x-rate-limit-remaining"], "0");
    let throttled = get().await;
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.headers()["retry-after"], "82800");
    assert_eq!(json_of(&throttled)["status"], 429);
    clock.advance(82_800);
    assert_eq!(get().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn faults_are_in_blackboard_s_words() {
    let mock = start().await;
    let token = token_of(&mock).await;
    for (fault, status, word) in [
        ("unauthorized", 401, "Bearer token is invalid"),
        ("forbidden", 403, "privilege"),
        ("throttle,retry_after=7", 429, "Rate limit"),
    ] {
        let fault = format!("on=api,times=1,fault={fault}");
        mock.control().inject(fault.parse().unwrap());
        let refused = call(&mock, Method::GET, USERS, &token).await;
        assert_eq!(refused.status().as_u16(), status);
        assert!(
            json_of(&refused)["message"]
                .as_str()
                .unwrap()
                .contains(word)
        );
    }
    let odd = "on=token,fault=expires_in,expires_in=-1,times=1";
    mock.control().inject(odd.parse().unwrap());
    assert_eq!(json_of(&log_in(&mock, PAIR).await)["expires_in"], -1);
    let short = "on=token,fault=lifetime,lifetime=5s,times=1";
    mock.control().inject(short.parse().unwrap());
    let answer = json_of(&log_in(&mock, PAIR).await);
    assert_eq!(answer["expires_in"], 5);
    assert_ne!(answer["access_token"], token);
}
