//! Signed calls. What signs here is the `hmac` of the crypto library and texts written out, so that neither side's reading
//! of the rules is taken for granted.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;

const APP_KEY: &str = "bursar-mock-app-key";
const USER_KEY: &str = "bursar-mock-user-key";

async fn start() -> Mock {
    start_with(Arc::new(SystemClock)).await
}

async fn start_with(clock: Arc<dyn Clock>) -> Mock {
    let keys = KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap());
    let mut params = MockParams::new(registered(keys));
    params.clock = clock;
    Mock::start(params).await.unwrap()
}

fn mac(key: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()))
}

/// The five parameters for a text that ends with the time.
fn signature(user_key: &str, text: &str) -> String {
    let (_, time) = text.rsplit_once('&').unwrap();
    let (app, user) = (mac(APP_KEY, text), mac(user_key, text));
    format!("x_a=bursar-mock-app&x_b=bursar-mock-user&x_c={app}&x_d={user}&x_t={time}")
}

fn whoami(user_key: &str, time: u64) -> String {
    let text = format!("GET&{WHOAMI}&{time}");
    format!("{WHOAMI}?{}", signature(user_key, &text))
}

async fn get(mock: &Mock, target: &str) -> Response<Bytes> {
    send(mock, Request::get(target).body(Full::default()).unwrap()).await
}

fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

#[tokio::test]
async fn a_signed_call_needs_no_scopes_and_spends_credits() {
    let mock = start().await;
    let response = get(&mock, &whoami(USER_KEY, unix_now())).await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    assert_eq!(response.headers()["x-rate-limit-remaining"], "49990");
    // Not among the scopes of the registration.
    let text = format!("GET&/d2l/api/lp/1.49/organization/info&{}", unix_now());
    let target = format!(
        "/d2l/api/LP/1.49/organization/info?a=b&{}",
        signature(USER_KEY, &text)
    );
    assert_eq!(get(&mock, &target).await.status(), StatusCode::OK);
    assert_eq!(mock.counters().token_requests, 0);
}

#[tokio::test]
async fn an_old_signature_is_told_the_time() {
    let mock = start().await;
    let now = unix_now();
    for time in [now - 310, now + 310] {
        let refused = get(&mock, &whoami(USER_KEY, time)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let told = text(&refused)
            .strip_prefix("Timestamp out of range ")
            .unwrap();
        assert!(told.parse::<u64>().unwrap().abs_diff(now) < 30);
    }
    assert_eq!(
        get(&mock, &whoami(USER_KEY, now - 250)).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_shifted_clock_shows_in_refusals_and_in_date() {
    let mock = start_with(Arc::new(ShiftedClock::ahead(Duration::from_mins(10)))).await;
    let now = unix_now();
    let refused = get(&mock, &whoami(USER_KEY, now)).await;
    let told = text(&refused)
        .strip_prefix("Timestamp out of range ")
        .unwrap();
    assert!(told.parse::<u64>().unwrap() >= now + 600);
    let date = httpdate::parse_http_date(refused.headers()["date"].to_str().unwrap()).unwrap();
    let date = date
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(date.as_secs() >= now + 600);
    assert_eq!(
        get(&mock, &whoami(USER_KEY, now + 600)).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn whatever_does_not_fit_is_an_invalid_token() {
    let mock = start().await;
    let now = unix_now();
    let good = whoami(USER_KEY, now);
    for bad in [
        whoami("another key", now),
        good.replace("bursar-mock-app", "another-app"),
        good.replace("bursar-mock-user", "another-user"),
        good.replace("users/whoami", "users/1001"),
        good.replace("x_d=", "y_d="),
        format!("{good}&x_b=bursar-mock-user"),
        format!("{WHOAMI}?x_a=bursar-mock-app"),
        format!(
            "{WHOAMI}?{}",
            signature(USER_KEY, &format!("POST&{WHOAMI}&{now}"))
        ),
    ] {
        let refused = get(&mock, &bad).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{bad}");
        assert_eq!(text(&refused), "Invalid token", "{bad}");
    }
    let both = Request::get(&good)
        .header("authorization", "Bearer x")
        .body(Full::default())
        .unwrap();
    assert_eq!(send(&mock, both).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn without_a_user_only_the_versions_are_told() {
    let mock = start().await;
    let anonymous = |path: &str| {
        let now = unix_now();
        let mac = mac(APP_KEY, &format!("GET&{path}&{now}"));
        format!("{path}?x_a=bursar-mock-app&x_c={mac}&x_t={now}")
    };
    let open = get(&mock, &anonymous("/d2l/api/versions/")).await;
    assert_eq!(open.status(), StatusCode::OK);
    for path in [WHOAMI, "/d2l/api/lp/1.49/organization/info"] {
        let refused = get(&mock, &anonymous(path)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert!(text(&refused).contains("Not Authorized"));
    }
}

async fn consent(mock: &Mock, target: &str, mac: &str) -> Response<Bytes> {
    let query = form(&[
        ("x_a", "bursar-mock-app"),
        ("x_b", mac),
        ("x_target", target),
    ]);
    get(mock, &format!("/d2l/auth/api/token?{query}")).await
}

#[tokio::test]
async fn consent_hands_out_the_user_s_key_and_a_new_one_after_a_revocation() {
    let mock = start().await;
    let target = "http://127.0.0.1:8765/callback?state=X%2Fy";
    let key_of = |response: &Response<Bytes>| {
        assert_eq!(response.status(), StatusCode::FOUND, "{response:?}");
        let location = response.headers()["location"].to_str().unwrap();
        assert!(location.starts_with(target), "{location}");
        let location = Url::parse(location).unwrap();
        let pairs = location.query_pairs().into_owned();
        let pairs: std::collections::HashMap<String, String> = pairs.collect();
        assert_eq!(pairs["x_a"], "bursar-mock-user");
        assert!(pairs.contains_key("x_c"));
        pairs["x_b"].clone()
    };
    let response = consent(&mock, target, &mac(APP_KEY, target)).await;
    assert_eq!(key_of(&response), USER_KEY);

    mock.control().revoke_tokens();
    let dead = get(&mock, &whoami(USER_KEY, unix_now())).await;
    assert_eq!(text(&dead), "Invalid token");
    let key = key_of(&consent(&mock, target, &mac(APP_KEY, target)).await);
    assert_ne!(key, USER_KEY);
    assert_eq!(
        get(&mock, &whoami(&key, unix_now())).await.status(),
        StatusCode::OK
    );
    assert!(mock.finds_token_in(&format!("a log with {key}")));

    let forged = consent(&mock, target, &mac("another key", target)).await;
    assert_eq!(text(&forged), "Invalid token");
}

#[tokio::test]
async fn faults_of_signed_calls_are_in_the_words_of_signed_calls() {
    let mock = start().await;
    let order = |fault: &str| mock.control().inject(fault.parse().unwrap());
    order("on=api,fault=unauthorized,times=1");
    let refused = get(&mock, &whoami(USER_KEY, unix_now())).await;
    assert_eq!(
        (refused.status(), text(&refused)),
        (StatusCode::FORBIDDEN, "Invalid token")
    );
    order("on=api,fault=echo_token,times=1");
    let target = whoami(USER_KEY, unix_now());
    let echo = get(&mock, &target).await;
    let (_, query) = target.split_once('?').unwrap();
    assert_eq!(echo.headers()["x-debug-authorization"], query);
}

#[tokio::test]
async fn signatures_that_were_accepted_are_found_and_none_is_shown() {
    let keys = KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap());
    let mut params = MockParams::new(registered(keys));
    params.control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mock = Mock::start(params).await.unwrap();
    let target = whoami(USER_KEY, unix_now());
    get(&mock, &target).await;
    assert!(mock.finds_token_in(&target));
    let control = mock.control_address().unwrap().to_string();
    let shown = Request::get("/mock/requests")
        .body(Full::default())
        .unwrap();
    let shown = exchange(&control, shown).await.unwrap();
    assert!(!mock.finds_token_in(text(&shown)));
    assert!(text(&shown).contains("x_c=[redacted]"), "{}", text(&shown));
}
