//! Which audience is the other one, and what is made of the answer to it.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use super::*;
use crate::{
    cli::check::report::Outcome,
    dial::{Dialer, Origin, Way},
    keys::{self, Algorithm, SigningKey},
    oauth::{Cause, Dialect, Injection, OAuthError},
};

const TOKEN_URL: &str = "https://auth.example.edu/token";

#[test]
fn the_audience_that_works_is_told_with_the_line_to_write() {
    let token = Ok(Answer {
        injection: Injection::Bearer(HeaderValue::from_static("Bearer t0k3n")),
        refresh_token: None,
        refresh_expires_in: None,
        kept_for: None,
        account: None,
        expires_in: None,
        granted: None,
        skew_seconds: None,
    });
    let check = verdict("d2l", BRIGHTSPACE_API_AUDIENCE, &token);
    assert_eq!(
        check.hint.as_deref(),
        Some("set audience = \"https://api.brightspace.com/auth/token\" in [credentials.d2l]")
    );
    let refused = Err(Failure::from(Cause::Rejected(OAuthError::InvalidClient)));
    let check = verdict("d2l", BRIGHTSPACE_API_AUDIENCE, &refused);
    assert_eq!(check.result, Outcome::Warning);
}

#[test]
fn the_other_one_of_two_is_tried_and_only_for_brightspace() {
    let audiences = |client: &ClientParams| other(client).map(|(_, audience)| audience);
    let mut client = client(8443, TOKEN_URL);
    assert_eq!(
        audiences(&client).as_deref(),
        Some(BRIGHTSPACE_API_AUDIENCE)
    );
    client = self::client(8443, BRIGHTSPACE_API_AUDIENCE);
    assert_eq!(
        audiences(&client).as_deref(),
        Some("http://127.0.0.1:8443/token")
    );
    client.scope_source = ScopeSource::Answer;
    assert_eq!(audiences(&client), None);
}

#[test]
fn the_other_audience_goes_into_each_assertion_of_the_client() {
    let mut both = client(8443, TOKEN_URL);
    both.grant = Grant::JwtBearer {
        keys: Arc::clone(both.keys().unwrap()),
        subject: "her".to_owned(),
        assertion: both.assertion().unwrap().clone(),
    };
    let (other, audience) = other(&both).unwrap();
    assert_eq!(other.assertion().unwrap().audience, audience);
    let Grant::JwtBearer { assertion, .. } = &other.grant else {
        panic!("the grant stays what it is");
    };
    assert_eq!(assertion.audience, audience);
}

#[test]
fn a_client_without_an_assertion_has_no_other_audience() {
    let mut by_secret = client(8443, TOKEN_URL);
    by_secret.auth = ClientAuth::SecretPost {
        secret: "s".to_owned().into(),
    };
    assert!(other(&by_secret).is_none());
}

pub(in crate::cli::check) fn client(port: u16, audience: &str) -> ClientParams {
    let pem = keys::generate(Algorithm::Es256).unwrap();
    let key = SigningKey::from_pem(&pem, None, None).unwrap();
    ClientParams {
        client_id: "app".to_owned(),
        grant: Grant::ClientCredentials,
        auth: ClientAuth::PrivateKeyJwt {
            keys: keys::testing::ring_of(key),
            assertion: AssertionParams {
                audience: audience.to_owned(),
                audience_as_array: false,
                lifetime: Duration::from_secs(60),
                typ: "JWT".to_owned(),
            },
        },
        dialer: Dialer {
            origin: Origin {
                tls: false,
                host: "127.0.0.1".into(),
                port,
            },
            tls: None,
            timeout: Duration::from_secs(10),
            way: Way::Direct,
        },
        token_path: "/token".parse().unwrap(),
        token_params: Vec::new(),
        token_headers: http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        dialect: Dialect::Standard,
        scope_source: ScopeSource::AnswerOrToken,
        key_set: None,
    }
}
