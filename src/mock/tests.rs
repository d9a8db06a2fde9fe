//! The mock as its peers see it: real requests over real sockets.

mod blackboard;
mod canvas;
mod dap;
mod faults;
mod id_keys;
mod login;
mod ltiaas;
mod moodle;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::clock::Moment;

const CLIENT: &str = "app-1";
const FORM: &str = "application/x-www-form-urlencoded";
const WHOAMI: &str = "/d2l/api/lp/1.49/users/whoami";

/// A key pair as an application has it.
struct Signer {
    key: EncodingKey,
    kid: &'static str,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
            kid,
        }
    }

    fn jwks(&self) -> String {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        json!({ "keys": [jwk] }).to_string()
    }

    fn key_source(&self) -> KeySource {
        KeySource::Set(KeySet::from_json(self.jwks().as_bytes()).unwrap())
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        encode(&header, claims, &self.key).unwrap()
    }
}

fn unix_now() -> u64 {
    SystemClock.now().wall.as_secs()
}

/// What a correct assertion says.
fn claims(mock: &Mock) -> Value {
    let now = unix_now();
    json!({
        "iss": CLIENT, "sub": CLIENT, "aud": mock.token_url(),
        "iat": now, "exp": now + 60, "jti": crate::random::id128(),
    })
}

fn registered(keys: KeySource) -> RegisteredClient {
    RegisteredClient {
        id: CLIENT.to_owned(),
        secret: None,
        keys,
        scopes: ScopeSet::parse(
            "users:own_profile:read users:userdata:read grades:gradevalues:read,write",
        )
        .unwrap(),
    }
}

async fn start(signer: &Signer) -> Mock {
    Mock::start(MockParams::new(registered(signer.key_source())))
        .await
        .unwrap()
}

async fn start_registered_for(signer: &Signer, scope: &str) -> Mock {
    let mut client = registered(signer.key_source());
    client.scopes = ScopeSet::parse(scope).unwrap();
    Mock::start(MockParams::new(client)).await.unwrap()
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

async fn post(mock: &Mock, fields: &[(&str, &str)], body: String) -> Response<Bytes> {
    let mut request = Request::post(TOKEN_PATH);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(mock, request.body(Full::from(body)).unwrap()).await
}

async fn send(mock: &Mock, request: Request<Full<Bytes>>) -> Response<Bytes> {
    exchange(&mock.address().to_string(), request)
        .await
        .unwrap()
}

async fn ask(mock: &Mock, assertion: &str, scope: &str) -> Response<Bytes> {
    let body = form(&[
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("scope", scope),
    ]);
    post(mock, &[("content-type", FORM)], body).await
}

async fn token(mock: &Mock, signer: &Signer, scope: &str) -> String {
    let response = ask(mock, &signer.sign(&claims(mock)), scope).await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    json_of(&response)["access_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn call(mock: &Mock, method: Method, target: &str, token: &str) -> Response<Bytes> {
    call_with_body(mock, method, target, token, "").await
}

async fn call_with_body(
    mock: &Mock,
    method: Method,
    target: &str,
    token: &str,
    body: &'static str,
) -> Response<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::from(body))
        .unwrap();
    send(mock, request).await
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The refusal of an assertion whose claims have been changed.
async fn refusal_of(mock: &Mock, signer: &Signer, member: &str, value: Value) -> String {
    let mut claims = claims(mock);
    match value {
        Value::Null => {
            claims.as_object_mut().unwrap().remove(member);
        }
        value => claims[member] = value,
    }
    let response = ask(mock, &signer.sign(&claims), "users:userdata:read").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = json_of(&response);
    assert_eq!(body["error"], "invalid_client");
    body["error_description"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_assertion_buys_a_token_that_opens_the_api() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let response = ask(
        &mock,
        &signer.sign(&claims(&mock)),
        "users:own_profile:read",
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = json_of(&response);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 1800);
    let token = body["access_token"].as_str().unwrap();
    let me = call(&mock, Method::GET, WHOAMI, token).await;
    assert_eq!(me.status(), StatusCode::OK);
    assert_eq!(json_of(&me)["UniqueName"], "service.user");
    assert_eq!(me.headers()["x-rate-limit-remaining"], "49990");
    assert_eq!(me.headers()["x-request-cost"], "10");
    assert!(me.headers().contains_key("x-rate-limit-reset"));

    let counters = mock.counters();
    assert_eq!(counters.tokens_issued, 1);
    assert_eq!(counters.api_calls_with(StatusCode::OK), 1);
    assert_eq!(counters.assertions, 1);
}

#[tokio::test]
async fn the_token_is_a_jwt_with_the_claims_of_brightspace() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "users:userdata:read role:detail:read").await;
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&token).unwrap();
    assert_eq!(claims["iss"], "https://api.brightspace.com/auth");
    assert_eq!(claims["client_id"], CLIENT);
    assert_eq!(claims["scope"], "users:userdata:read");
    assert!(claims["tenantid"].is_string());
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        1800
    );
}

#[tokio::test]
async fn scopes_that_are_not_registered_are_dropped_without_a_word() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let asked = "users:userdata:read,delete role:detail:read";
    let response = ask(&mock, &signer.sign(&claims(&mock)), asked).await;
    assert_eq!(json_of(&response)["scope"], "users:userdata:read");
    let none = ask(&mock, &signer.sign(&claims(&mock)), "role:detail:read").await;
    assert_eq!(none.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json_of(&none)["error"], "invalid_scope");
}

#[tokio::test]
async fn without_a_scope_parameter_all_that_is_registered_is_granted() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let body = form(&[
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &signer.sign(&claims(&mock))),
    ]);
    let response = post(&mock, &[("content-type", FORM)], body).await;
    let granted = ScopeSet::parse(json_of(&response)["scope"].as_str().unwrap()).unwrap();
    assert_eq!(granted.len(), 3);
}

#[tokio::test]
async fn every_claim_of_an_assertion_is_checked() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let now = unix_now();
    for (member, value, reason) in [
        ("iss", json!("somebody"), "client id"),
        ("sub", json!("somebody"), "client id"),
        ("sub", Value::Null, "needs the claims"),
        ("aud", json!("https://login.example.org/token"), "aud"),
        (
            "aud",
            json!([mock.token_url(), "https://elsewhere.example"]),
            "aud",
        ),
        ("aud", Value::Null, "needs the claims"),
        ("exp", json!(now - 1), "expired"),
        ("exp", json!(now + 310), "300 seconds"),
        ("exp", Value::Null, "needs the claims"),
        ("exp", json!("soon"), "needs the claims"),
        ("iat", json!(now - 250), "300 seconds"),
        ("iat", json!(now + 30), "future"),
        ("nbf", json!(now + 30), "future"),
        ("jti", Value::Null, "needs the claims"),
    ] {
        let described = refusal_of(&mock, &signer, member, value.clone()).await;
        assert!(described.contains(reason), "{member}={value}: {described}");
    }
    assert_eq!(mock.counters().tokens_issued, 0);
}

#[tokio::test]
async fn both_audiences_seen_in_the_wild_are_accepted_also_as_an_array_of_one() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    for aud in [
        json!("https://auth.brightspace.com/core/connect/token"),
        json!("https://api.brightspace.com/auth/token"),
        json!([mock.token_url()]),
    ] {
        let mut claims = claims(&mock);
        claims["aud"] = aud;
        let response = ask(&mock, &signer.sign(&claims), "users:userdata:read").await;
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    }
}

#[tokio::test]
async fn a_clock_five_seconds_ahead_is_forgiven() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let now = unix_now();
    let mut claims = claims(&mock);
    claims["iat"] = json!(now + 4);
    claims["exp"] = json!(now + 304);
    let response = ask(&mock, &signer.sign(&claims), "users:userdata:read").await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
}

#[tokio::test]
async fn an_assertion_is_accepted_once() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let assertion = signer.sign(&claims(&mock));
    let first = ask(&mock, &assertion, "users:userdata:read").await;
    assert_eq!(first.status(), StatusCode::OK);
    let replayed = ask(&mock, &assertion, "users:userdata:read").await;
    assert_eq!(json_of(&replayed)["error"], "invalid_client");
    assert_eq!(mock.counters().assertions, 1);
}

#[tokio::test]
async fn only_the_registered_key_and_its_own_algorithm_count() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let impostor = Signer::new("k1");
    let stranger = Signer::new("k2");
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some("k1".to_owned());
    let mut critical = Header::new(Algorithm::ES256);
    critical.kid = Some("k1".to_owned());
    critical.crit = Some(vec!["exp".to_owned()]);
    let with_public_key_as_secret = EncodingKey::from_secret(signer.jwks().as_bytes());
    for (assertion, reason) in [
        (impostor.sign(&claims(&mock)), "signature"),
        (stranger.sign(&claims(&mock)), "no usable key"),
        (
            encode(&hmac, &claims(&mock), &with_public_key_as_secret).unwrap(),
            "algorithm",
        ),
        (
            encode(&Header::new(Algorithm::ES256), &claims(&mock), &signer.key).unwrap(),
            "kid",
        ),
        (
            "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30.".to_owned(),
            "not a signed JWT",
        ),
        (
            encode(&critical, &claims(&mock), &signer.key).unwrap(),
            "crit",
        ),
        ("not a jwt".to_owned(), "not a signed JWT"),
    ] {
        let response = ask(&mock, &assertion, "users:userdata:read").await;
        let body = json_of(&response);
        assert_eq!(body["error"], "invalid_client");
        let described = body["error_description"].as_str().unwrap();
        assert!(described.contains(reason), "{reason}: {described}");
    }
}

#[tokio::test]
async fn keys_are_fetched_from_the_clients_url_once_and_again_for_an_unknown_kid() {
    let old = Signer::new("old");
    let new = Signer::new("new");
    let publisher = KeyServer::start(old.jwks()).await;
    let mock = Mock::start(MockParams::new(registered(
        KeySource::url(publisher.url()).unwrap(),
    )))
    .await
    .unwrap();
    token(&mock, &old, "users:userdata:read").await;
    token(&mock, &old, "users:userdata:read").await;
    assert_eq!(mock.counters().key_set_requests, 1);

    publisher.publish(new.jwks());
    token(&mock, &new, "users:userdata:read").await;
    assert_eq!(mock.counters().key_set_requests, 2);
    // Retired from the set, but still within its hour.
    token(&mock, &old, "users:userdata:read").await;
    assert_eq!(mock.counters().key_set_requests, 2);
}

#[tokio::test]
async fn a_key_set_that_cannot_be_had_is_named_in_the_refusal() {
    let signer = Signer::new("k1");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", gone.local_addr().unwrap());
    drop(gone);
    let keys = KeySource::url(Url::parse(&url).unwrap()).unwrap();
    let mock = Mock::start(MockParams::new(registered(keys)))
        .await
        .unwrap();
    let response = ask(&mock, &signer.sign(&claims(&mock)), "users:userdata:read").await;
    let described = json_of(&response)["error_description"].to_string();
    assert!(described.contains("cannot be fetched"), "{described}");
}

#[tokio::test]
async fn a_secret_is_accepted_form_encoded_and_not_raw() {
    let mut params = MockParams::new(registered(KeySource::None));
    params.client.id = "c:2 %".to_owned();
    params.client.secret = Some("s+e%c:r/et~".to_owned().into());
    let mock = Mock::start(params).await.unwrap();
    let ask = async |pair: &str| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let field = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let body = form(&[("grant_type", "client_credentials")]);
        post(
            &mock,
            &[("content-type", FORM), ("authorization", &field)],
            body,
        )
        .await
    };
    let encoded = ask("c%3A2+%25:s%2Be%25c%3Ar%2Fet~").await;
    assert_eq!(encoded.status(), StatusCode::OK);
    for wrong in ["c:2 %:s+e%c:r/et~", "c%3A2+%25:guess", "nonsense"] {
        let refused = ask(wrong).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert!(refused.headers().contains_key("www-authenticate"));
        assert_eq!(json_of(&refused)["error"], "invalid_client");
    }
}

#[tokio::test]
async fn a_request_that_breaks_the_protocol_is_named() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let grant = ("grant_type", "client_credentials");
    let form_type = ("content-type", FORM);
    let basic = ("authorization", "Basic YTpi");
    for (fields, body, error) in [
        (vec![], form(&[grant]), "invalid_request"),
        (
            vec![("content-type", "application/json")],
            "{}".to_owned(),
            "invalid_request",
        ),
        (vec![form_type], String::new(), "invalid_request"),
        (vec![form_type], form(&[grant, grant]), "invalid_request"),
        (
            vec![form_type],
            form(&[("grant_type", "password")]),
            "unsupported_grant_type",
        ),
        (vec![form_type], form(&[grant]), "invalid_client"),
        (vec![form_type, basic], form(&[grant]), "invalid_client"),
        (
            vec![form_type],
            form(&[grant, ("client_assertion", "a.b.c")]),
            "invalid_request",
        ),
        (
            vec![form_type, basic],
            form(&[grant, ("client_assertion", "a.b.c")]),
            "invalid_request",
        ),
    ] {
        let response = post(&mock, &fields, body.clone()).await;
        assert_eq!(json_of(&response)["error"], error, "{fields:?} {body}");
    }
    let got = send(
        &mock,
        Request::get(TOKEN_PATH).body(Full::default()).unwrap(),
    )
    .await;
    assert_eq!(json_of(&got)["error"], "invalid_request");
}

#[tokio::test]
async fn a_client_id_beside_the_assertion_must_be_the_same() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    for (client_id, status) in [
        (CLIENT, StatusCode::OK),
        ("somebody", StatusCode::BAD_REQUEST),
    ] {
        let body = form(&[
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &signer.sign(&claims(&mock))),
        ]);
        let response = post(&mock, &[("content-type", FORM)], body).await;
        assert_eq!(response.status(), status, "{client_id}");
    }
}

#[tokio::test]
async fn a_token_that_is_unknown_revoked_or_absent_gets_the_exact_401_of_brightspace() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "users:own_profile:read").await;
    mock.control().revoke_tokens();
    for presented in [token.as_str(), "made-up"] {
        let refused = call(&mock, Method::GET, WHOAMI, presented).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.headers()["content-type"],
            "application/problem+json"
        );
        assert!(!refused.headers().contains_key("www-authenticate"));
        assert_eq!(
            refused.body(),
            concat!(
                r#"{"type":"http://docs.valence.desire2learn.com/res/apiprop.html#invalid-token","#,
                r#""title":"Unauthorized","status":401,"detail":"Couldn't parse token"}"#,
            )
        );
    }
    let bare = send(&mock, Request::get(WHOAMI).body(Full::default()).unwrap()).await;
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_is_refused_when_its_lifetime_is_over() {
    let signer = Signer::new("k1");
    let clock = Arc::new(Stepped::default());
    let mut params = MockParams::new(registered(signer.key_source()));
    params.clock = clock.clone();
    let mock = Mock::start(params).await.unwrap();
    mock.control().set_next_lifetime(Duration::from_secs(5));
    let token = token(&mock, &signer, "users:own_profile:read").await;
    clock.advance(4);
    let before = call(&mock, Method::GET, WHOAMI, &token).await;
    assert_eq!(before.status(), StatusCode::OK);
    clock.advance(1);
    let after = call(&mock, Method::GET, WHOAMI, &token).await;
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_call_without_its_scope_gets_403_insufficient_scope() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "users:own_profile:read").await;
    for (method, target) in [
        (Method::GET, "/d2l/api/lp/1.49/users/1001"),
        (Method::DELETE, "/d2l/api/lp/1.49/users/1001"),
        // Not in the table, so it needs core:*:*.
        (Method::GET, "/d2l/api/lp/1.49/organization/info"),
    ] {
        let refused = call(&mock, method, target, &token).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{target}");
        let detail = json_of(&refused)["detail"].to_string();
        assert!(detail.contains("Insufficient scope to call"));
    }
}

#[tokio::test]
async fn a_missing_permission_reads_differently_from_a_missing_scope() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "users:userdata:read").await;
    let refused = call(&mock, Method::GET, "/d2l/api/lp/1.49/users/403", &token).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(!json_of(&refused)["detail"].to_string().contains("scope"));
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let scope = "users:userdata:read grades:gradevalues:read";
    let token = token(&mock, &signer, scope).await;
    for (method, target) in [
        (Method::GET, "/d2l/api/lp/1.49/users/404"),
        (Method::GET, "/d2l/api/le/1.49/404/grades/7/values/1003"),
        (Method::GET, "/d2l/api/lp/1.49/users/99999"),
        (Method::PATCH, "/d2l/api/lp/1.49/users/1001"),
        (Method::GET, "/d2l/home"),
        (Method::GET, "/core/connect/elsewhere"),
    ] {
        let answer = call(&mock, method, target, &token).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{target}");
    }
}

#[tokio::test]
async fn the_fallback_scope_opens_what_has_no_scope_of_its_own() {
    let signer = Signer::new("k1");
    let mock = start_registered_for(&signer, "core:*:*").await;
    let token = token(&mock, &signer, "core:*:*").await;
    let versions = call(&mock, Method::GET, "/d2l/api/lp/versions/", &token).await;
    assert_eq!(json_of(&versions)["ProductCode"], "lp");
    let all = call(&mock, Method::GET, "/d2l/api/versions/", &token).await;
    assert_eq!(json_of(&all).as_array().unwrap().len(), 2);
    let user = call(&mock, Method::GET, "/d2l/api/lp/1.49/users/1001", &token).await;
    assert_eq!(user.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn when_the_credits_are_used_up_only_retry_after_is_left() {
    let signer = Signer::new("k1");
    let mut params = MockParams::new(registered(signer.key_source()));
    params.credits_per_minute = 20;
    let mock = Mock::start(params).await.unwrap();
    let token = token(&mock, &signer, "users:own_profile:read").await;
    for remaining in ["10", "0"] {
        let answer = call(&mock, Method::GET, WHOAMI, &token).await;
        assert_eq!(answer.headers()["x-rate-limit-remaining"], remaining);
    }
    let throttled = call(&mock, Method::GET, WHOAMI, &token).await;
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = throttled.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait));
    for absent in [
        "x-rate-limit-remaining",
        "x-rate-limit-reset",
        "x-request-cost",
    ] {
        assert!(!throttled.headers().contains_key(absent));
    }
}

#[tokio::test]
async fn a_grade_that_was_written_is_read_back() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "grades:gradevalues:read,write").await;
    let target = "/d2l/api/le/1.49/6607/grades/7/values/1003";
    let body = r#"{"GradeObjectType":1,"PointsNumerator":8.5}"#;
    let put = call_with_body(&mock, Method::PUT, target, &token, body).await;
    assert_eq!(put.status(), StatusCode::OK);
    let value = json_of(&call(&mock, Method::GET, target, &token).await);
    assert_eq!(value["PointsNumerator"], 8.5);
    assert_eq!(value["DisplayedGrade"], "8.5 / 10");
    let refused = call_with_body(&mock, Method::PUT, target, &token, "{}").await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_object_list_is_walked_by_next_to_its_end() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "grades:gradevalues:read").await;
    let mut target = "/d2l/api/le/1.49/6607/grades/7/values/".to_owned();
    let mut seen = 0;
    loop {
        let page = json_of(&call(&mock, Method::GET, &target, &token).await);
        seen += page["Objects"].as_array().unwrap().len();
        let Some(next) = page["Next"].as_str() else {
            break;
        };
        assert!(next.starts_with(&mock.origin()), "{next}");
        target = next.strip_prefix(&mock.origin()).unwrap().to_owned();
    }
    assert_eq!(seen, 45);
}

#[tokio::test]
async fn a_result_set_says_whether_there_is_more() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let token = token(&mock, &signer, "users:userdata:read").await;
    let users = "/d2l/api/lp/1.49/users/";
    let first = json_of(&call(&mock, Method::GET, users, &token).await);
    assert_eq!(first["PagingInfo"]["HasMoreItems"], true);
    assert_eq!(first["Items"][0]["UserId"], 1001);
    let last = format!("{users}?bookmark=40");
    let last = json_of(&call(&mock, Method::GET, &last, &token).await);
    assert_eq!(last["PagingInfo"]["HasMoreItems"], false);
    assert_eq!(last["Items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn any_other_route_answers_with_its_template() {
    let signer = Signer::new("k1");
    let mock = start_registered_for(&signer, "role:detail:read").await;
    let token = token(&mock, &signer, "role:detail:read").await;
    let answer = call(&mock, Method::GET, "/d2l/api/lp/1.49/roles/110", &token).await;
    let body = json_of(&answer);
    assert_eq!(body["Template"], "/d2l/api/lp/(version)/roles/(roleId)");
    assert_eq!(body["Parameters"]["roleId"], "110");
}

#[tokio::test]
async fn a_gate_holds_token_requests_back_until_all_gates_are_open() {
    let signer = Signer::new("k1");
    let mock = start(&signer).await;
    let first = mock.control().hold_token_requests();
    let second = mock.control().hold_token_requests();
    let opener = async {
        mock.until(|counters| counters.token_requests == 1).await;
        drop(first);
        assert_eq!(mock.counters().tokens_issued, 0);
        drop(second);
        mock.until(|counters| counters.tokens_issued == 1).await;
    };
    let (token, ()) = tokio::join!(token(&mock, &signer, "users:userdata:read"), opener);
    assert!(mock.finds_token_in(&format!("Authorization: Bearer {token}")));
    assert!(!mock.finds_token_in("Authorization: Bearer [redacted]"));
    mock.control().revoke_tokens();
    assert!(mock.finds_token_in(&token));
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_frees_its_port_when_stopped() {
    let signer = Signer::new("k1");
    let mut params = MockParams::new(registered(signer.key_source()));
    params.listen = "0.0.0.0:0".parse().unwrap();
    let Err(refused) = Mock::start(params.clone()).await else {
        panic!("a mock on every interface was started");
    };
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);

    params.listen = "127.0.0.1:0".parse().unwrap();
    let mock = Mock::start(params.clone()).await.unwrap();
    params.listen = mock.address();
    mock.stop().await;
    let again = Mock::start(params).await.unwrap();
    token(&again, &signer, "users:userdata:read").await;
}

/// A clock that only a test moves on.
#[derive(Default)]
struct Stepped {
    seconds: std::sync::atomic::AtomicU64,
}

impl Stepped {
    fn advance(&self, seconds: u64) {
        self.seconds
            .fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for Stepped {
    fn now(&self) -> Moment {
        let seconds = self.seconds.load(std::sync::atomic::Ordering::Relaxed);
        let step = Duration::from_secs(seconds);
        // Assertions are signed by the real time, so that is where it starts.
        static START: std::sync::OnceLock<Moment> = std::sync::OnceLock::new();
        START.get_or_init(|| SystemClock.now()).after(step)
    }
}

/// Publishes a key set as an application does.
struct KeyServer {
    address: SocketAddr,
    set: Arc<std::sync::Mutex<String>>,
}

impl KeyServer {
    async fn start(set: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let set = Arc::new(std::sync::Mutex::new(set));
        let published = Arc::clone(&set);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let published = Arc::clone(&published);
                let service = service_fn(move |_request: Request<Incoming>| {
                    let set = published.lock().unwrap().clone();
                    async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(set))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, set }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/.well-known/jwks.json", self.address)).unwrap()
    }

    fn publish(&self, set: String) {
        *self.set.lock().unwrap() = set;
    }
}
