//! Instructure's identity service and query API, as the official client uses them.

use super::*;

/// `us-west-2#app:s&cret`, raw.
const PAIR: &str = "Basic dXMtd2VzdC0yI2FwcDpzJmNyZXQ=";

async fn start() -> Mock {
    let mut client = registered(KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap()));
    client.id = "us-west-2#app".to_owned();
    client.secret = Some("s&cret".into());
    let mut params = MockParams::new(client);
    params.lms = Lms::Dap;
    params.token_lifetime = Duration::from_secs(3599);
    Mock::start(params).await.unwrap()
}

async fn log_in(mock: &Mock, pair: &str) -> Response<Bytes> {
    let request = Request::post("/ids/auth/login")
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

async fn post_json(mock: &Mock, path: &str, token: &str, body: &Value) -> Response<Bytes> {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap();
    send(mock, request).await
}

/// The URL of the object of a finished query.
async fn object_url(mock: &Mock, token: &str) -> Url {
    let path = "/dap/query/canvas/table/users/data";
    let job = json_of(&post_json(mock, path, token, &json!({ "format": "jsonl" })).await);
    assert_eq!(job["status"], "waiting");
    let path = format!("/dap/job/{}", job["id"].as_str().unwrap());
    let running = json_of(&call(mock, Method::GET, &path, token).await);
    assert_eq!(running["status"], "running");
    let complete = json_of(&call(mock, Method::GET, &path, token).await);
    let id = complete["objects"][0]["id"].as_str().unwrap();
    let urls = post_json(mock, "/dap/object/url", token, &json!([{ "id": id }])).await;
    let url = json_of(&urls)["urls"][id]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    Url::parse(&url).unwrap()
}

async fn fetch(url: &Url, fields: &[(&str, &str)]) -> Response<Bytes> {
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let mut request = Request::get(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let authority = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    exchange(&authority, request.body(Full::default()).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_raw_pair_buys_a_token_whose_scope_is_a_description() {
    let mock = start().await;
    let response = log_in(&mock, PAIR).await;
    let answer = json_of(&response);
    assert_eq!(answer["expires_in"], 3599);
    assert_eq!(answer["token_type"], "bearer");
    assert!(answer["scope"].as_str().unwrap().contains("principal:"));
    let mut parts = answer["access_token"].as_str().unwrap().split('.');
    assert_eq!(parts.clone().count(), 3, "the client reads exp of a JWT");
    assert!(parts.all(|part| !part.is_empty()));
    // us-west-2%23app:s%26cret, form-encoded: what a strict library sends.
    let encoded = "Basic dXMtd2VzdC0yJTIzYXBwOnMlMjZjcmV0";
    assert_eq!(
        log_in(&mock, encoded).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_query_ends_in_an_object_that_is_fetched_from_another_origin() {
    let mock = start().await;
    let token = token_of(&mock).await;
    let url = object_url(&mock, &token).await;
    assert_ne!(url.port().unwrap(), mock.address().port());
    let file = fetch(&url, &[]).await;
    assert_eq!(file.status(), StatusCode::OK);
    assert_eq!(file.body().get(..2), Some(&[0x1f, 0x8b][..]), "gzip");
    assert!(String::from_utf8_lossy(file.body()).contains("users number 3"));
    let mut forged = url.clone();
    forged.set_query(Some("X-Amz-Signature=guessed"));
    assert_eq!(fetch(&forged, &[]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(mock.counters().violations, 0);
}

#[tokio::test]
async fn a_credential_at_the_other_origin_fails_and_is_a_violation() {
    let mock = start().await;
    let token = token_of(&mock).await;
    let url = object_url(&mock, &token).await;
    let bearer = format!("Bearer {token}");
    for field in [("authorization", bearer.as_str()), ("x-instauth", "x")] {
        let refused = fetch(&url, &[field]).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
    assert_eq!(mock.counters().violations, 2);
}

#[tokio::test]
async fn errors_have_a_type_and_say_what_is_missing() {
    let mock = start().await;
    let token = token_of(&mock).await;
    let error = |response: Response<Bytes>| json_of(&response)["error"].clone();
    let refused = call(&mock, Method::GET, "/dap/query/canvas/table", "dead").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(error(refused)["type"], "AuthenticationError");
    let unknown = call(
        &mock,
        Method::GET,
        "/dap/query/canvas/table/nope/schema",
        &token,
    )
    .await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let unknown = error(unknown);
    assert_eq!(
        (&unknown["kind"], &unknown["id"]),
        (&json!("table"), &json!("nope"))
    );
    let path = "/dap/query/canvas/table/users/data";
    let invalid = post_json(&mock, path, &token, &json!({ "format": "odd" })).await;
    assert_eq!(invalid.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error(invalid)["location"]["line"], 1);
    mock.control()
        .inject("on=api,fault=forbidden,times=1".parse().unwrap());
    let forbidden = call(&mock, Method::GET, "/dap/query/canvas/table", &token).await;
    assert_eq!(forbidden.status(), StatusCode::FORBIDDEN);
    assert_eq!(error(forbidden)["type"], "RequestTypeForbidden");
}

#[tokio::test]
async fn the_sixth_list_in_a_minute_is_too_many() {
    let mock = start().await;
    let token = token_of(&mock).await;
    for _ in 0..5 {
        let listed = call(&mock, Method::GET, "/dap/query/canvas/table", &token).await;
        assert_eq!(json_of(&listed)["tables"][0], "accounts");
    }
    let throttled = call(&mock, Method::GET, "/dap/query/canvas/table", &token).await;
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = throttled.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait));
    let schema = call(
        &mock,
        Method::GET,
        "/dap/query/canvas/table/users/schema",
        &token,
    )
    .await;
    assert_eq!(json_of(&schema)["version"], 1);
}
