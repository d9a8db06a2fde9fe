//! Each fault as its victim sees it, and the control endpoint.

use std::io;

use super::*;

/// A client with a secret, and the control endpoint.
async fn start() -> Mock {
    let mut client = registered(KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap()));
    client.secret = Some("secret".into());
    let mut params = MockParams::new(client);
    params.control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Mock::start(params).await.unwrap()
}

async fn try_token(mock: &Mock) -> io::Result<Response<Bytes>> {
    // app-1:secret
    let request = Request::post(TOKEN_PATH)
        .header("authorization", "Basic YXBwLTE6c2VjcmV0")
        .header("content-type", FORM)
        .body(Full::from("grant_type=client_credentials"))
        .unwrap();
    exchange(&mock.address().to_string(), request).await
}

async fn good_token(mock: &Mock) -> String {
    let response = try_token(mock).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    json_of(&response)["access_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn try_whoami(mock: &Mock, token: &str) -> io::Result<Response<Bytes>> {
    let request = Request::get(WHOAMI)
        .header("authorization", format!("Bearer {token}"))
        .body(Full::default())
        .unwrap();
    exchange(&mock.address().to_string(), request).await
}

fn order(mock: &Mock, fault: &str) {
    mock.control().inject(fault.parse().unwrap());
}

async fn control(mock: &Mock, method: Method, path: &str, body: &str) -> Response<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::from(body.to_owned()))
        .unwrap();
    let address = mock.control_address().unwrap();
    exchange(&address.to_string(), request).await.unwrap()
}

#[tokio::test]
async fn a_token_request_gets_the_answer_that_was_ordered_and_then_a_good_one() {
    let mock = start().await;
    for (fault, status, body) in [
        ("fault=status,status=503", 503, "a fault"),
        ("fault=throttle", 429, ""),
        ("fault=garbage", 200, "half a js"),
        ("fault=empty", 200, ""),
        ("fault=html", 200, "Sign in"),
        ("fault=redirect", 302, ""),
        (
            "fault=oauth_error,error=invalid_client",
            401,
            "invalid_client",
        ),
        (
            "fault=oauth_error,error=invalid_scope",
            400,
            "invalid_scope",
        ),
    ] {
        order(&mock, &format!("on=token,times=1,{fault}"));
        let response = try_token(&mock).await.unwrap();
        let text = String::from_utf8_lossy(response.body());
        assert_eq!(response.status().as_u16(), status, "{fault}");
        assert!(text.contains(body), "{fault}: {text}");
        assert_eq!(
            try_token(&mock).await.unwrap().status(),
            StatusCode::OK,
            "once is once"
        );
    }
    let counters = mock.counters();
    assert_eq!(
        (
            counters.token_requests,
            counters.tokens_issued,
            counters.faults
        ),
        (16, 8, 8)
    );
}

#[tokio::test]
async fn retry_after_says_what_was_ordered_even_nonsense() {
    let mock = start().await;
    for (value, written) in [
        ("7", "7"),
        ("\"soon\"", "soon"),
        (
            "\"Fri, 27 Nov 2026 12:00:00 GMT\"",
            "Fri, 27 Nov 2026 12:00:00 GMT",
        ),
    ] {
        order(
            &mock,
            &format!(r#"{{"on":"token","fault":"throttle","times":1,"retry_after":{value}}}"#),
        );
        let response = try_token(&mock).await.unwrap();
        assert_eq!(response.headers()["retry-after"], written);
    }
}

#[tokio::test]
async fn the_lifetime_can_be_missing_odd_or_short() {
    let mock = start().await;
    order(&mock, "on=token,fault=no_expires_in,times=1");
    let without = json_of(&try_token(&mock).await.unwrap());
    assert!(without.get("expires_in").is_none() && without["access_token"].is_string());
    for value in [
        json!(0),
        json!(-1),
        json!("3600"),
        json!(1e30),
        json!(null),
        json!({}),
    ] {
        let fault =
            json!({ "on": "token", "fault": "expires_in", "expires_in": value, "times": 1 });
        order(&mock, &fault.to_string());
        assert_eq!(
            json_of(&try_token(&mock).await.unwrap())["expires_in"],
            value
        );
    }
    order(&mock, "on=token,fault=lifetime,lifetime=0s,times=1");
    let dead = json_of(&try_token(&mock).await.unwrap());
    let dead = dead["access_token"].as_str().unwrap();
    assert_eq!(
        try_whoami(&mock, dead).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_narrower_scope_is_narrower_at_the_lms_too() {
    let mock = start().await;
    order(
        &mock,
        "on=token,fault=scope,scope=users:userdata:read,times=1",
    );
    let narrow = json_of(&try_token(&mock).await.unwrap());
    assert_eq!(narrow["scope"], "users:userdata:read");
    let token = narrow["access_token"].as_str().unwrap();
    let refused = try_whoami(&mock, token).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn connections_end_in_every_way_that_they_can() {
    let mock = start().await;
    for (fault, on) in [
        ("close", "token"),
        ("reset", "token"),
        ("close_mid_body", "token"),
        ("reset", "api"),
        ("close_mid_body", "api"),
    ] {
        let token = good_token(&mock).await;
        order(&mock, &format!("on={on},fault={fault},times=1"));
        let outcome = match on {
            "token" => try_token(&mock).await,
            _ => try_whoami(&mock, &token).await,
        };
        assert!(outcome.is_err(), "{on} {fault}: {outcome:?}");
    }
    order(&mock, "on=token,fault=oversize,times=1");
    assert!(try_token(&mock).await.unwrap().body().len() > 1024 * 1024);
    order(&mock, "on=api,fault=hang,times=1");
    let token = good_token(&mock).await;
    let hung = tokio::time::timeout(Duration::from_millis(100), try_whoami(&mock, &token)).await;
    assert!(hung.is_err());
    order(&mock, "on=api,fault=slow,delay=80ms,times=1");
    let began = tokio::time::Instant::now();
    assert_eq!(
        try_whoami(&mock, &token).await.unwrap().status(),
        StatusCode::OK
    );
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_reset_is_one() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mock = start().await;
    order(&mock, "on=api,fault=reset,times=1");
    let mut stream = tokio::net::TcpStream::connect(mock.address())
        .await
        .unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let end = stream.read(&mut [0; 16]).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn half_an_answer_arrives_with_its_true_length() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mock = start().await;
    order(&mock, "on=token,fault=close_mid_body,times=1");
    let mut stream = tokio::net::TcpStream::connect(mock.address())
        .await
        .unwrap();
    let body = "grant_type=client_credentials";
    let request = format!(
        "POST {TOKEN_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Basic YXBwLTE6c2VjcmV0\r\n\
         content-type: {FORM}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, half) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().parse().unwrap();
    assert_eq!(half.len(), length / 2, "{head}");
    assert!(half.starts_with('{'));
}

#[tokio::test]
async fn the_lms_refuses_in_its_own_words_and_may_echo_the_token() {
    let mock = start().await;
    let token = good_token(&mock).await;
    for (fault, status, word) in [
        ("unauthorized", 401, "parse token"),
        ("forbidden", 403, "Not Authorized"),
        ("throttle,status=403", 403, ""),
    ] {
        order(&mock, &format!("on=api,times=1,fault={fault}"));
        let response = try_whoami(&mock, &token).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert!(String::from_utf8_lossy(response.body()).contains(word));
    }
    order(&mock, "on=api,times=1,fault=echo_token");
    let echo = try_whoami(&mock, &token).await.unwrap();
    assert_eq!(
        echo.headers()["x-debug-authorization"],
        format!("Bearer {token}")
    );
    assert_eq!(
        try_whoami(&mock, &token).await.unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn over_http_faults_are_ordered_listed_and_taken_back() {
    let mock = start().await;
    let ordered = control(
        &mock,
        Method::POST,
        "/mock/faults",
        r#"[{"on":"token","fault":"hang","times":2},{"on":"api","fault":"forbidden","path":"/d2l"}]"#,
    )
    .await;
    assert_eq!(ordered.status(), StatusCode::CREATED);
    let listed = control(&mock, Method::GET, "/mock/faults", "").await;
    assert_eq!(
        json_of(&listed),
        json!([
            { "on": "token", "fault": "hang", "times": 2 },
            { "on": "api", "fault": "forbidden", "path": "/d2l" },
        ])
    );
    let gone = control(&mock, Method::DELETE, "/mock/faults", "").await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    good_token(&mock).await;

    for (body, word) in [
        ("{", "not JSON"),
        (
            r#"[{"on":"token","fault":"hang"},{"on":"token"}]"#,
            "fault is missing",
        ),
    ] {
        let refused = control(&mock, Method::POST, "/mock/faults", body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(json_of(&refused)["error"].as_str().unwrap().contains(word));
    }
    let none = control(&mock, Method::GET, "/mock/faults", "").await;
    assert_eq!(json_of(&none), json!([]), "all or none");
    let unknown = control(&mock, Method::GET, "/mock", "").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_was_received_is_shown_without_any_token() {
    let mock = start().await;
    let token = good_token(&mock).await;
    order(&mock, "on=api,fault=unauthorized,times=1");
    try_whoami(&mock, &token).await.unwrap();
    try_whoami(&mock, "guessed").await.unwrap();
    let shown = control(&mock, Method::GET, "/mock/requests", "").await;
    let text = String::from_utf8_lossy(shown.body());
    assert!(!mock.finds_token_in(&text) && !text.contains("YXBwLTE6"));
    let shown = json_of(&shown);
    assert_eq!(shown[0]["on"], "token");
    assert_eq!(shown[0]["fields"]["authorization"], "Basic [redacted]");
    assert_eq!(shown[1]["path"], WHOAMI);
    assert_eq!(
        (&shown[1]["token"], &shown[1]["fault"], &shown[1]["status"]),
        (&json!(1), &json!("unauthorized"), &json!(401))
    );
    assert_eq!(shown[2]["token"], 0);

    let counters = json_of(&control(&mock, Method::GET, "/mock/counters", "").await);
    assert_eq!(counters["tokens_issued"], 1);
    assert_eq!(counters["api_calls"]["401"], 2);
    control(&mock, Method::POST, "/mock/reset", "").await;
    let counters = json_of(&control(&mock, Method::GET, "/mock/counters", "").await);
    assert_eq!(counters["tokens_issued"], 0);
    assert_eq!(
        json_of(&control(&mock, Method::GET, "/mock/requests", "").await),
        json!([])
    );
}

#[tokio::test]
async fn tokens_are_revoked_over_http_and_web_pages_order_nothing() {
    let mock = start().await;
    let token = good_token(&mock).await;
    let address = mock.control_address().unwrap().to_string();
    let from_a_page = Request::post("/mock/tokens/revoke")
        .header("origin", "https://page.example")
        .body(Full::default())
        .unwrap();
    let refused = exchange(&address, from_a_page).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        try_whoami(&mock, &token).await.unwrap().status(),
        StatusCode::OK
    );
    control(&mock, Method::POST, "/mock/tokens/revoke", "").await;
    assert_eq!(
        try_whoami(&mock, &token).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}
