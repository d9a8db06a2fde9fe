use http::header::DATE;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::oauth::{Dialect, LtiaasParams};

const NOW: Moment = Moment {
    wall: Duration::from_secs(1_767_225_600),
    boot: Duration::from_secs(1_000),
};

fn response(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json;charset=UTF-8")
        .body(body.into())
        .unwrap()
}

fn read_from(source: ScopeSource, response: &Response<Bytes>) -> Result<Answer, Failure> {
    read(response, &Dialect::Standard, source, NOW, NOW)
}

fn cause(response: &Response<Bytes>) -> Cause {
    read_from(ScopeSource::Answer, response).unwrap_err().cause
}

/// The answer to a sound body with `changes` made to it; `null` removes a member.
fn answer_with(source: ScopeSource, changes: &Value) -> Result<Answer, Failure> {
    let mut body =
        json!({ "access_token": "abc.DEF-1_~+/==", "token_type": "Bearer", "expires_in": 3600 });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    read_from(source, &response(200, body.to_string()))
}

fn is_invalid(read: &Result<Answer, Failure>) -> bool {
    matches!(read, Err(failure) if matches!(failure.cause, Cause::InvalidResponse(_)))
}

fn lifetime_of(expires_in: &str) -> Result<Option<u64>, Cause> {
    let body = format!(r#"{{"access_token":"a","token_type":"bearer","expires_in":{expires_in}}}"#);
    read_from(ScopeSource::Answer, &response(200, body))
        .map(|answer| answer.expires_in.map(|lifetime| lifetime.as_secs()))
        .map_err(|failure| failure.cause)
}

#[test]
fn a_sound_answer_becomes_a_sensitive_bearer_field() {
    let answer = answer_with(ScopeSource::Answer, &json!({})).unwrap();
    let Injection::Bearer(field) = &answer.injection else {
        panic!("is a bearer token");
    };
    assert_eq!(field, "Bearer abc.DEF-1_~+/==");
    assert!(field.is_sensitive());
    assert_eq!(answer.expires_in, Some(Duration::from_secs(3_600)));
    assert_eq!(answer.granted, None);
    assert!(!format!("{answer:?}").contains("abc"));
}

#[test]
fn the_members_of_ltiaas_are_in_camel_case() {
    let dialect = Dialect::Ltiaas(LtiaasParams {
        code_member: "token".to_owned(),
        code_in_query: false,
        refresh_path: "/".parse().unwrap(),
    });
    let of = |body: Value| {
        let response = response(200, body.to_string());
        read(&response, &dialect, ScopeSource::Nowhere, NOW, NOW)
    };
    let answer = of(
        json!({ "tokenType": "Bearer", "accessToken": "abc", "expiresIn": 60, "refreshToken": "r" }),
    );
    let answer = answer.unwrap();
    assert_eq!(answer.injection.secret(), b"abc");
    assert_eq!(answer.expires_in, Some(Duration::from_secs(60)));
    assert!(answer.refresh_token.is_some());
    assert!(is_invalid(&of(
        json!({ "access_token": "abc", "expires_in": 60 })
    )));
}

#[test]
fn the_person_whom_canvas_names_is_told_and_cannot_spoil_the_answer() {
    let account = |user: Value| {
        let answer = answer_with(ScopeSource::Answer, &json!({ "user": user }));
        answer.unwrap().account
    };
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(
        account(json!({ "id": 42, "name": "Ann\u{1b}[31m" })),
        told("Ann\\u{1b}[31m (42)")
    );
    assert_eq!(account(json!({ "id": 42 })), told("42"));
    assert_eq!(account(json!({ "name": "Ann" })), told("Ann"));
    for odd in [json!({}), json!("x"), json!([1]), json!({ "id": "x" })] {
        assert_eq!(account(odd), None);
    }
}

#[test]
fn expires_in_is_read_in_every_sane_form_and_clamped_to_a_day() {
    for (expires_in, seconds) in [
        ("3600", 3_600),
        ("\"3600\"", 3_600),
        ("3599.9", 3_599),
        ("1", 1),
        ("1e3", 1_000),
        ("86401", 86_400),
        ("1e308", 86_400),
        ("18446744073709551615", 86_400),
        ("99999999999999999999999", 86_400),
        ("\"99999999999999999999999\"", 86_400),
    ] {
        assert_eq!(lifetime_of(expires_in), Ok(Some(seconds)), "{expires_in}");
    }
    assert_eq!(lifetime_of("null"), Ok(None));
}

#[test]
fn an_expires_in_that_makes_no_sense_spoils_the_answer() {
    for expires_in in [
        "0", "-1", "-0.5", "0.9", "1e400", "-1e308", "NaN", "true", "false", "\"\"", "\"abc\"",
        "\"-1\"", "\"1.5\"", "\" 1\"", "\"0\"", "[]", "[3600]", "{}",
    ] {
        assert!(
            matches!(lifetime_of(expires_in), Err(Cause::InvalidResponse(_))),
            "{expires_in}"
        );
    }
}

#[test]
fn a_missing_expires_in_is_left_to_the_default() {
    let answer = answer_with(ScopeSource::Answer, &json!({ "expires_in": null })).unwrap();
    assert_eq!(answer.expires_in, None);
}

#[test]
fn the_token_type_is_bearer_in_any_case_or_missing() {
    for kind in [
        json!("bearer"),
        json!("BEARER"),
        json!("Bearer"),
        Value::Null,
    ] {
        assert!(answer_with(ScopeSource::Answer, &json!({ "token_type": kind })).is_ok());
    }
    for kind in [
        json!("mac"),
        json!("DPoP"),
        json!("N_A"),
        json!(""),
        json!(1),
        json!(["bearer"]),
    ] {
        let read = answer_with(ScopeSource::Answer, &json!({ "token_type": kind }));
        assert!(is_invalid(&read), "{kind}");
    }
}

#[test]
fn an_access_token_that_is_no_b64token_is_refused() {
    for token in [
        json!(""),
        json!("="),
        json!("a b"),
        json!("abc\r\nX: y"),
        json!("a\n"),
        json!("tök"),
        json!("a=b"),
        json!("a,b"),
        json!("\u{0}"),
        json!("a".repeat(16 * 1024 + 1)),
        json!(1),
        json!(["a"]),
        json!({}),
        Value::Null,
    ] {
        let read = answer_with(ScopeSource::Answer, &json!({ "access_token": token }));
        assert!(is_invalid(&read), "{token}");
    }
    let longest = json!({ "access_token": "a".repeat(16 * 1024) });
    assert!(answer_with(ScopeSource::Answer, &longest).is_ok());
}

#[test]
fn scopes_are_read_from_the_answer_in_any_order_and_form() {
    let expected = ScopeSet::parse("a:b:c d:e:f").unwrap();
    for scope in [
        json!("a:b:c d:e:f"),
        json!("d:e:f  a:b:c"),
        json!(["d:e:f", "a:b:c"]),
    ] {
        let answer = answer_with(ScopeSource::Answer, &json!({ "scope": scope })).unwrap();
        assert_eq!(answer.granted, Some(expected.clone()));
    }
    let none = answer_with(ScopeSource::Answer, &json!({ "scope": "" })).unwrap();
    assert_eq!(none.granted, Some(ScopeSet::default()));
}

#[test]
fn a_scope_that_is_no_list_of_scopes_spoils_the_answer() {
    for scope in [
        json!("a\u{7f}"),
        json!("\"a\""),
        json!(1),
        json!(["a b"]),
        json!([1]),
        json!({}),
    ] {
        let read = answer_with(ScopeSource::Answer, &json!({ "scope": scope }));
        assert!(is_invalid(&read), "{scope}");
    }
}

#[test]
fn a_scope_that_is_only_a_description_is_not_looked_at() {
    let description = json!({ "scope": "SVC \"x\" principal:1", "token_type": null });
    let answer = answer_with(ScopeSource::Nowhere, &description).unwrap();
    assert_eq!(answer.granted, None);
}

#[test]
fn a_jwts_scope_claim_stands_in_for_the_answers() {
    let jwt = |payload: &str| format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
    let granted = |token: String, scope: Value| {
        let changes = json!({ "access_token": token, "scope": scope });
        answer_with(ScopeSource::AnswerOrToken, &changes).map(|answer| answer.granted)
    };
    let set = |list| Some(ScopeSet::parse(list).unwrap());

    let token = jwt(r#"{"scope":"a b"}"#);
    assert_eq!(granted(token.clone(), Value::Null).unwrap(), set("a b"));
    assert_eq!(granted(token, json!("c")).unwrap(), set("c"));
    assert_eq!(
        granted(jwt(r#"{"scope":["a","b"]}"#), Value::Null).unwrap(),
        set("a b")
    );
    for opaque in [
        jwt("{}"),
        jwt("[]"),
        jwt(r#"{"scope":null}"#),
        "a.b".into(),
        "a.~.c".into(),
        "a.b.c.d".into(),
    ] {
        assert_eq!(granted(opaque, Value::Null).unwrap(), None);
    }
    assert!(granted(jwt(r#"{"scope":7}"#), Value::Null).is_err());
}

#[test]
fn only_identity_coded_json_is_read() {
    let sound = r#"{"access_token":"a","token_type":"bearer"}"#;
    let with = |kind: Option<&str>, coding: Option<&str>| {
        let mut response = response(200, sound);
        let headers = response.headers_mut();
        headers.remove(CONTENT_TYPE);
        for (name, value) in [(CONTENT_TYPE, kind), (CONTENT_ENCODING, coding)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        read_from(ScopeSource::Answer, &response)
    };
    for kind in [
        "application/json",
        "Application/JSON ; charset=utf-8",
        "application/token+json",
    ] {
        assert!(with(Some(kind), None).is_ok(), "{kind}");
    }
    assert!(with(Some("application/json"), Some("identity")).is_ok());
    for kind in [
        None,
        Some("text/html"),
        Some("text/plain"),
        Some("application/jsonp"),
        Some(""),
    ] {
        assert!(is_invalid(&with(kind, None)), "{kind:?}");
    }
    for coding in ["gzip", "br", "identity, gzip"] {
        assert!(
            is_invalid(&with(Some("application/json"), Some(coding))),
            "{coding}"
        );
    }
}

#[test]
fn an_empty_or_foreign_200_is_invalid() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "<html>",
        "{\"access_token\":\"a\"",
        "\"token\"",
    ] {
        assert!(
            matches!(cause(&response(200, body)), Cause::InvalidResponse(_)),
            "{body}"
        );
    }
}

#[test]
fn a_repeated_member_spoils_the_answer() {
    let body = r#"{"access_token":"a","token_type":"bearer","access_token":"b"}"#;
    assert!(matches!(
        cause(&response(200, body)),
        Cause::InvalidResponse(_)
    ));
}

#[test]
fn no_other_success_and_no_redirect_brings_a_token() {
    let sound = r#"{"access_token":"a","token_type":"bearer","error":"invalid_client"}"#;
    for status in [201, 202, 203, 204, 206, 301, 302, 303, 304, 307, 308] {
        assert_eq!(cause(&response(status, sound)), Cause::Status(status));
    }
}

#[test]
fn oauth_errors_are_told_by_their_code_alone() {
    for (code, error) in [
        ("invalid_client", OAuthError::InvalidClient),
        ("invalid_grant", OAuthError::InvalidGrant),
        ("invalid_request", OAuthError::InvalidRequest),
        ("invalid_scope", OAuthError::InvalidScope),
        ("unauthorized_client", OAuthError::UnauthorizedClient),
        ("unsupported_grant_type", OAuthError::UnsupportedGrantType),
        (
            "temporarily_unavailable",
            OAuthError::TemporarilyUnavailable,
        ),
        ("server_error", OAuthError::ServerError),
        ("canary", OAuthError::Other),
        ("INVALID_CLIENT", OAuthError::Other),
    ] {
        for status in [400, 401, 403] {
            let body = json!({ "error": code, "error_description": "canary" }).to_string();
            let cause = cause(&response(status, body));
            assert_eq!(cause, Cause::Rejected(error), "{code}");
            assert!(!format!("{cause} {cause:?}").contains("canary"));
        }
    }
}

#[test]
fn an_error_without_a_code_is_its_status() {
    for body in [
        "",
        "<html>Bad",
        "{}",
        r#"{"error":{"type":"x"}}"#,
        r#"{"error":1}"#,
        r#"{"error":"a","error":"b"}"#,
    ] {
        assert_eq!(cause(&response(400, body)), Cause::Status(400), "{body}");
    }
}

#[test]
fn a_broken_server_does_not_park_the_client() {
    assert_eq!(
        cause(&response(500, r#"{"error":"invalid_client"}"#)),
        Cause::Status(500)
    );
    assert_eq!(
        cause(&response(500, r#"{"error":"server_error"}"#)),
        Cause::Rejected(OAuthError::ServerError)
    );
}

#[test]
fn a_gateway_does_not_speak_for_the_authorization_server() {
    for status in [502, 504] {
        let cause = cause(&response(status, r#"{"error":"server_error"}"#));
        assert_eq!(cause, Cause::Status(status));
    }
}

#[test]
fn throttling_is_429_or_503_with_a_time_to_wait() {
    let rejected = r#"{"error":"invalid_client"}"#;
    assert_eq!(cause(&response(429, rejected)), Cause::Throttled(429));
    assert_eq!(cause(&response(503, "")), Cause::Status(503));

    let mut later = response(503, "");
    later
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("17"));
    let failure = read_from(ScopeSource::Answer, &later).unwrap_err();
    assert_eq!(failure.cause, Cause::Throttled(503));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(17)));
}

#[test]
fn skew_is_learned_from_successes_and_failures() {
    for status in [200, 401] {
        let mut answer = response(status, r#"{"access_token":"a","token_type":"bearer"}"#);
        answer.headers_mut().insert(
            DATE,
            HeaderValue::from_static("Wed, 31 Dec 2025 23:59:00 GMT"),
        );
        let skew = match read_from(ScopeSource::Answer, &answer) {
            Ok(answer) => answer.skew_seconds,
            Err(failure) => failure.skew_seconds,
        };
        assert_eq!(skew, Some(59.5));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        status in 100_u16..600,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let response = response(status, body);
        for source in [ScopeSource::Answer, ScopeSource::AnswerOrToken, ScopeSource::Nowhere] {
            prop_assert!(read_from(source, &response).is_err());
        }
    }

    #[test]
    fn no_members_make_the_parser_panic_or_print_the_token(
        token in "[\\x00-\\x7f]{0,40}",
        kind in "(?i)bearer|.*",
        expires_in in any::<f64>(),
        scope in ".*",
    ) {
        let body = json!({
            "access_token": format!("canary{token}"), "token_type": kind, "expires_in": expires_in, "scope": scope,
        });
        for source in [ScopeSource::Answer, ScopeSource::AnswerOrToken, ScopeSource::Nowhere] {
            let read = read_from(source, &response(200, body.to_string()));
            let printed = format!("{read:?}");
            prop_assert!(!printed.contains("canary"));
        }
    }
}
