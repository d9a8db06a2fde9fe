//! What an assertion says (RFC 7523 section 3): one that authenticates the client, or one that is a grant.

use std::time::Duration;

use serde::Serialize;

use super::AssertionParams;
use crate::{clock::Moment, random};

/// `exp - iat` is never more, whatever is configured: authorization servers refuse longer ones.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// How far `iat` lies in the past. Servers refuse one that is a fraction of a second ahead of their
/// clock, and the learned skew is only as exact as a `Date` field: to the second.
const BACKDATE_SECONDS: u64 = 5;

/// The claims. Never `nbf`: it adds nothing to `iat`, and is one more time that a server can refuse.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: Audience<'a>,
    jti: String,
    iat: u64,
    exp: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    Text(&'a str),
    ArrayOfOne([&'a str; 1]),
}

impl<'a> Claims<'a> {
    /// The claims of a client assertion: the client speaks of itself.
    pub(super) fn of_client(
        client_id: &'a str,
        params: &'a AssertionParams,
        now: Moment,
        skew_seconds: f64,
    ) -> Self {
        Self::about(client_id, client_id, params, now, skew_seconds)
    }

    /// The claims of an assertion of `issuer` about `subject`, for one token request: servers refuse a `jti` that they have
    /// seen, so each attempt needs its own. `skew_seconds` is local minus server.
    pub(super) fn about(
        issuer: &'a str,
        subject: &'a str,
        params: &'a AssertionParams,
        now: Moment,
        skew_seconds: f64,
    ) -> Self {
        let iat = server_time(now, skew_seconds).saturating_sub(BACKDATE_SECONDS);
        Self {
            iss: issuer,
            sub: subject,
            aud: if params.audience_as_array {
                Audience::ArrayOfOne([&params.audience])
            } else {
                Audience::Text(&params.audience)
            },
            jti: random::id128(),
            iat,
            exp: iat.saturating_add(params.lifetime.min(MAX_LIFETIME).as_secs()),
        }
    }
}

/// What the server's clock shows, in Unix seconds.
fn server_time(now: Moment, skew_seconds: f64) -> u64 {
    let skew = if skew_seconds.is_finite() {
        skew_seconds
    } else {
        0.0
    };
    // Saturates at zero and at the far end.
    (now.wall.as_secs_f64() - skew) as u64
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
    use serde_json::Value;

    use super::*;
    use crate::{
        keys::{Algorithm, SigningKey, generate},
        secret::{ExposeSecret, SecretString},
    };

    const NOW: Moment = Moment {
        wall: Duration::from_millis(1_767_225_600_900),
        boot: Duration::from_secs(1_000),
    };

    fn key() -> SigningKey {
        SigningKey::from_pem(&generate(Algorithm::Es256).unwrap(), None, None).unwrap()
    }

    fn params() -> AssertionParams {
        AssertionParams {
            audience: "https://as.test/token".to_owned(),
            audience_as_array: false,
            lifetime: Duration::from_secs(60),
            typ: "JWT".to_owned(),
        }
    }

    fn part(assertion: &SecretString, index: usize) -> Value {
        let part = assertion.expose_secret().split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn claims(params: &AssertionParams, skew_seconds: f64) -> Value {
        serde_json::to_value(Claims::of_client("me", params, NOW, skew_seconds)).unwrap()
    }

    fn signed(key: &SigningKey, params: &AssertionParams) -> SecretString {
        let claims = Claims::of_client("me", params, NOW, 0.0);
        key.sign(&params.typ, &claims).unwrap()
    }

    #[test]
    fn an_assertion_verifies_with_the_public_key_and_says_who_speaks_to_whom() {
        let key = key();
        let assertion = signed(&key, &params());
        let jwk: Jwk = serde_json::from_value(serde_json::to_value(key.public()).unwrap()).unwrap();
        let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_audience(&["https://as.test/token"]);
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Value>(
            assertion.expose_secret(),
            &DecodingKey::from_jwk(&jwk).unwrap(),
            &validation,
        )
        .unwrap();
        assert_eq!(decoded.claims["iss"], "me");
        assert_eq!(decoded.claims["sub"], "me");
        assert_eq!(decoded.claims["jti"].as_str().unwrap().len(), 32);
        assert!(decoded.claims.get("nbf").is_none());
    }

    #[test]
    fn the_header_names_the_key_and_the_configured_type() {
        let key = key();
        let params = AssertionParams {
            typ: "client-authentication+jwt".to_owned(),
            ..params()
        };
        let header = part(&signed(&key, &params), 0);
        assert_eq!(header["typ"], "client-authentication+jwt");
        assert_eq!(header["kid"], key.kid());
        assert_eq!(header["alg"], "ES256");
    }

    #[test]
    fn the_audience_is_a_string_or_an_array_of_one() {
        assert_eq!(claims(&params(), 0.0)["aud"], "https://as.test/token");
        let array = AssertionParams {
            audience_as_array: true,
            ..params()
        };
        assert_eq!(
            claims(&array, 0.0)["aud"],
            serde_json::json!(["https://as.test/token"])
        );
    }

    #[test]
    fn an_assertion_may_speak_of_somebody_else() {
        let params = params();
        let claims = Claims::about("me", "her", &params, NOW, 0.0);
        let claims = serde_json::to_value(claims).unwrap();
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&"me".into(), &"her".into())
        );
    }

    #[test]
    fn each_assertion_has_an_id_of_its_own() {
        assert_ne!(claims(&params(), 0.0)["jti"], claims(&params(), 0.0)["jti"]);
    }

    #[test]
    fn the_times_are_the_servers_and_never_ahead_of_it() {
        for (skew, expected) in [
            (0.0, 1_767_225_595),
            (90.5, 1_767_225_505),
            (-90.0, 1_767_225_685),
        ] {
            let claims = claims(&params(), skew);
            assert_eq!(claims["iat"], expected, "skew {skew}");
            assert_eq!(claims["exp"], expected + 60, "skew {skew}");
        }
    }

    #[test]
    fn an_assertion_never_lives_longer_than_five_minutes() {
        let params = AssertionParams {
            lifetime: Duration::MAX,
            ..params()
        };
        let claims = claims(&params, 0.0);
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            300
        );
    }

    #[test]
    fn an_absurd_skew_does_no_harm() {
        for skew in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN] {
            claims(&params(), skew);
        }
        assert_eq!(server_time(NOW, f64::NAN), 1_767_225_600);
        assert_eq!(server_time(NOW, f64::MAX), 0);
    }
}
