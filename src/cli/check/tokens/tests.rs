//! What each outcome of a token request is called, and how the check ends.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    cli::check::{
        audience::tests::client,
        report::{Outcome, Report},
    },
    oauth::Injection,
};

fn answer(granted: Option<&str>) -> Result<Answer, Failure> {
    Ok(Answer {
        injection: Injection::Bearer(HeaderValue::from_static("Bearer t0k3n")),
        refresh_token: None,
        refresh_expires_in: None,
        kept_for: None,
        account: None,
        expires_in: Some(Duration::from_secs(3600)),
        granted: granted.map(|scopes| ScopeSet::parse(scopes).unwrap()),
        skew_seconds: None,
    })
}

fn failure(cause: Cause) -> Result<Answer, Failure> {
    Err(Failure {
        cause,
        retry_after: None,
        skew_seconds: None,
        is_sent: true,
    })
}

fn asked() -> ScopeSet {
    ScopeSet::parse("users:userdata:read grades:gradevalues:write").unwrap()
}

#[test]
fn a_token_with_every_scope_is_good() {
    let checks = judge("d2l", Some(&asked()), &answer(None));
    assert_eq!(checks.len(), 1);
    assert_eq!(
        checks[0],
        Check::good(
            "d2l: the authorization server gives a token that lives 1h, with every scope asked for (2)"
        )
    );
}

#[test]
fn a_scope_that_was_silently_dropped_is_named() {
    let checks = judge("d2l", Some(&asked()), &answer(Some("users:userdata:read")));
    assert_eq!(checks[0].result, Outcome::Error);
    assert_eq!(
        checks[0].error.as_deref(),
        Some("not granted: grades:gradevalues:write")
    );
    assert_eq!(checks[0].code, Some("BUR2201"));
}

#[test]
fn a_client_that_asks_for_no_scope_misses_none() {
    let checks = judge("cv", None, &answer(Some("anything")));
    assert_eq!(checks[0].result, Outcome::Success);
}

#[test]
fn what_may_pass_by_itself_is_told_from_what_must_be_changed() {
    use Exit::{Refused, Temporary};
    for (cause, code, exit) in [
        (Cause::Unreachable(Unreachable::Dns), "BUR2001", Temporary),
        (Cause::Unreachable(Unreachable::Tls), "BUR2003", Refused),
        (
            Cause::Timeout(Duration::from_secs(10)),
            "BUR2004",
            Temporary,
        ),
        (Cause::Throttled(429), "BUR2005", Temporary),
        (Cause::Status(500), "BUR2007", Temporary),
        (
            Cause::Rejected(OAuthError::TemporarilyUnavailable),
            "BUR2107",
            Temporary,
        ),
        (
            Cause::Rejected(OAuthError::InvalidClient),
            "BUR2101",
            Refused,
        ),
        (
            Cause::Rejected(OAuthError::InvalidScope),
            "BUR2104",
            Refused,
        ),
        (
            Cause::Rejected(OAuthError::InvalidGrant),
            "BUR2106",
            Refused,
        ),
        (Cause::Status(404), "BUR2007", Refused),
        (Cause::InvalidResponse("no JSON"), "BUR2006", Refused),
    ] {
        let check = judge("d2l", None, &failure(cause.clone())).remove(0);
        assert_eq!(check.code, Some(code), "{cause}");
        let report = Report {
            categories: vec![Category {
                name: "tokens",
                checks: vec![check],
            }],
        };
        assert_eq!(report.exit(), exit, "{cause}");
    }
}

#[test]
fn a_clock_that_is_off_is_told_with_its_direction() {
    let said = |skew| clock("d2l", skew).map(|check| check.error.unwrap());
    assert_eq!(
        said(94.4).unwrap(),
        "this machine's clock is 94 s ahead of the authorization server's"
    );
    assert!(said(-94.4).unwrap().contains("94 s behind"));
    assert_eq!(said(5.0), None);
}

#[test]
fn a_lifetime_that_brightspace_does_not_give_is_worth_a_word() {
    let warned = |seconds| {
        let mut token = answer(None).unwrap();
        token.expires_in = Some(Duration::from_secs(seconds));
        lifetime("d2l", &token).is_some()
    };
    assert_eq!(
        [1799, 1800, 72_000, 72_001].map(warned),
        [true, false, false, true]
    );
}

#[tokio::test]
async fn the_authorization_server_is_asked_once_with_the_other_audience() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !is_complete(&request) {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let body = r#"{"access_token":"t0k3n","token_type":"Bearer","expires_in":3600}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        audience_of(&String::from_utf8(request).unwrap())
    });

    let client = client(port, "https://auth.example.edu/token");
    let check = ask_with_the_other_audience("d2l", &client, None)
        .await
        .unwrap();
    assert_eq!(check.code, Some(live::OTHER_AUDIENCE));
    assert_eq!(peer.await.unwrap(), audience::BRIGHTSPACE_API_AUDIENCE);
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    body.len() >= length.parse().unwrap()
}

fn audience_of(request: &str) -> String {
    let assertion = request.split("client_assertion=").nth(1).unwrap();
    let claims = assertion.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["aud"].as_str().unwrap().to_owned()
}
