//! What a token request asks with.

use url::form_urlencoded::Serializer;

use super::{Cause, Grant, LoginGrant, LoginNeeded, assertion::Claims};
use crate::{clock::Moment, secret::ExposeSecret};

/// RFC 7523 section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Writes `grant_type` and what goes with it into the form.
pub(super) fn present(
    client_id: &str,
    grant: &Grant,
    now: Moment,
    skew_seconds: f64,
    form: &mut Serializer<'_, String>,
) -> Result<(), Cause> {
    match grant {
        Grant::ClientCredentials => {
            form.append_pair("grant_type", "client_credentials");
        }
        Grant::JwtBearer {
            keys,
            subject,
            assertion,
        } => {
            let claims = Claims::about(client_id, subject, assertion, now, skew_seconds);
            let signed = keys
                .signing(now.wall)
                .sign(&assertion.typ, &claims)
                .map_err(|_| Cause::NotSent("the assertion cannot be signed"))?;
            form.append_pair("grant_type", JWT_BEARER);
            form.append_pair("assertion", signed.expose_secret());
        }
        Grant::Login => return Err(Cause::LoginNeeded(LoginNeeded::Never)),
    }
    Ok(())
}

impl LoginGrant {
    /// Writes `grant_type` and what goes with it into the form.
    pub(super) fn present(&self, form: &mut Serializer<'_, String>) {
        match self {
            Self::AuthorizationCode {
                code,
                redirect_uri,
                verifier,
            } => {
                form.append_pair("grant_type", "authorization_code");
                form.append_pair("code", code.expose_secret());
                form.append_pair("redirect_uri", redirect_uri);
                if let Some(verifier) = verifier {
                    form.append_pair("code_verifier", verifier.expose_secret());
                }
            }
            Self::RefreshToken(token) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", token.expose_secret());
            }
        }
    }

    /// Whether a token request with it may name scopes. Those of a code were settled when it was given out (RFC 6749 section 4.1.3).
    pub(super) const fn takes_scope(&self) -> bool {
        matches!(self, Self::RefreshToken(_))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::Value;

    use super::*;
    use crate::{
        keys::{Algorithm, SigningKey, generate, testing},
        oauth::AssertionParams,
    };

    const NOW: Moment = Moment {
        wall: Duration::from_secs(1_767_225_600),
        boot: Duration::from_secs(1_000),
    };

    fn form(grant: &Grant) -> HashMap<String, String> {
        let mut form = Serializer::new(String::new());
        present("me", grant, NOW, 0.0, &mut form).unwrap();
        url::form_urlencoded::parse(form.finish().as_bytes())
            .into_owned()
            .collect()
    }

    fn redeemed(grant: &LoginGrant) -> HashMap<String, String> {
        let mut form = Serializer::new(String::new());
        grant.present(&mut form);
        url::form_urlencoded::parse(form.finish().as_bytes())
            .into_owned()
            .collect()
    }

    fn jwt_bearer() -> Grant {
        let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
        Grant::JwtBearer {
            keys: testing::ring_of(key),
            subject: "service-user".to_owned(),
            assertion: AssertionParams {
                audience: "https://as.test/token".to_owned(),
                audience_as_array: true,
                lifetime: Duration::from_secs(60),
                typ: "JWT".to_owned(),
            },
        }
    }

    fn claims(form: &HashMap<String, String>) -> Value {
        let claims = form["assertion"].split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    }

    #[test]
    fn a_code_goes_with_the_redirect_uri_and_the_verifier_that_it_belongs_to() {
        let code = |verifier: Option<&str>| LoginGrant::AuthorizationCode {
            code: "c&1".into(),
            redirect_uri: "http://127.0.0.1:8765/callback".to_owned(),
            verifier: verifier.map(Into::into),
        };
        let sent = redeemed(&code(Some("v")));
        assert_eq!(sent["grant_type"], "authorization_code");
        assert_eq!(sent["code"], "c&1");
        assert_eq!(sent["redirect_uri"], "http://127.0.0.1:8765/callback");
        assert_eq!(sent["code_verifier"], "v");
        assert_eq!(redeemed(&code(None)).len(), 3);
        assert!(!code(None).takes_scope());
    }

    #[test]
    fn a_refresh_token_is_all_that_a_refresh_brings() {
        let grant = LoginGrant::RefreshToken("r+1".into());
        let sent = redeemed(&grant);
        assert_eq!(sent["grant_type"], "refresh_token");
        assert_eq!(sent["refresh_token"], "r+1");
        assert_eq!(sent.len(), 2);
        assert!(grant.takes_scope());
    }

    #[test]
    fn without_a_code_or_a_refresh_token_a_login_brings_nothing() {
        let mut form = Serializer::new(String::new());
        let outcome = present("me", &Grant::Login, NOW, 0.0, &mut form);
        assert_eq!(outcome, Err(Cause::LoginNeeded(LoginNeeded::Never)));
        assert_eq!(form.finish(), "");
    }

    #[test]
    fn client_credentials_bring_nothing_with_them() {
        let form = form(&Grant::ClientCredentials);
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form.len(), 1);
    }

    #[test]
    fn jwt_bearer_brings_an_assertion_of_the_client_about_its_subject() {
        let form = form(&jwt_bearer());
        assert_eq!(form["grant_type"], JWT_BEARER);
        assert_eq!(form.len(), 2);
        let claims = claims(&form);
        assert_eq!(claims["iss"], "me");
        assert_eq!(claims["sub"], "service-user");
        assert_eq!(claims["aud"], serde_json::json!(["https://as.test/token"]));
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            60
        );
    }

    #[test]
    fn each_attempt_has_an_assertion_of_its_own() {
        let grant = jwt_bearer();
        assert_ne!(claims(&form(&grant))["jti"], claims(&form(&grant))["jti"]);
    }
}
