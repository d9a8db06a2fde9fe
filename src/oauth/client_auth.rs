//! How the client proves itself in a token request.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::{BasicEncoding, Cause, ClientAuth, assertion::Claims};
use crate::{
    clock::Moment,
    keys::KeyError,
    secret::{ExposeSecret, SecretString},
};

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Adds the proof to the form or the header of a token request; never to its target (RFC 6749 section 2.3.1).
pub(super) fn authenticate(
    client_id: &str,
    auth: &ClientAuth,
    now: Moment,
    skew_seconds: f64,
    headers: &mut HeaderMap,
    form: &mut Serializer<'_, String>,
) -> Result<(), Cause> {
    match auth {
        ClientAuth::SecretBasic { secret, encoding } => {
            let field = basic(client_id, secret.expose_secret(), *encoding)?;
            headers.insert(AUTHORIZATION, field);
        }
        ClientAuth::SecretPost { secret } => {
            form.append_pair("client_id", client_id);
            form.append_pair("client_secret", secret.expose_secret());
        }
        ClientAuth::SecretJwt { key, assertion } => {
            let claims = Claims::of_client(client_id, assertion, now, skew_seconds);
            present(client_id, key.sign(&assertion.typ, &claims), form)?;
        }
        ClientAuth::PrivateKeyJwt { keys, assertion } => {
            let claims = Claims::of_client(client_id, assertion, now, skew_seconds);
            // Asked each time: the turn of the next key may have come.
            let key = keys.signing(now.wall);
            present(client_id, key.sign(&assertion.typ, &claims), form)?;
        }
        ClientAuth::ApiKey { key } => {
            headers.insert(AUTHORIZATION, bearer(key)?);
        }
        // The server finds the proof in the connection, and by the id whose it is (RFC 8705 section 2).
        ClientAuth::Tls | ClientAuth::None => {
            form.append_pair("client_id", client_id);
        }
    }
    Ok(())
}

/// Puts a client assertion into the form (RFC 7521 section 4.2).
fn present(
    client_id: &str,
    assertion: Result<SecretString, KeyError>,
    form: &mut Serializer<'_, String>,
) -> Result<(), Cause> {
    let assertion =
        assertion.map_err(|_| Cause::NotSent("the client assertion cannot be signed"))?;
    // Optional beside an assertion; some servers look for it.
    form.append_pair("client_id", client_id);
    form.append_pair("client_assertion_type", ASSERTION_TYPE);
    form.append_pair("client_assertion", assertion.expose_secret());
    Ok(())
}

fn basic(id: &str, secret: &str, encoding: BasicEncoding) -> Result<HeaderValue, Cause> {
    let pair = Zeroizing::new(match encoding {
        BasicEncoding::Form => format!("{}:{}", *form_encoded(id), *form_encoded(secret)),
        BasicEncoding::Raw => format!("{id}:{secret}"),
    });
    let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    let mut field = HeaderValue::from_str(&field)
        .map_err(|_| Cause::NotSent("the client's id and secret do not fit into a field"))?;
    field.set_sensitive(true);
    Ok(field)
}

fn bearer(key: &SecretString) -> Result<HeaderValue, Cause> {
    let field = Zeroizing::new(format!("Bearer {}", key.expose_secret()));
    let mut field = HeaderValue::from_str(&field)
        .map_err(|_| Cause::NotSent("the API key does not fit into a field"))?;
    field.set_sensitive(true);
    Ok(field)
}

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
fn form_encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(byte_serialize(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{
        keys::{HmacKey, testing::ring},
        oauth::AssertionParams,
    };

    const NOW: Moment = Moment {
        wall: Duration::from_secs(1_767_225_600),
        boot: Duration::from_secs(1_000),
    };

    fn pair(id: &str, secret: &str, encoding: BasicEncoding) -> String {
        let field = basic(id, secret, encoding).unwrap();
        let encoded = field.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }

    fn proof(auth: &ClientAuth) -> (HeaderMap, Vec<(String, String)>) {
        let mut headers = HeaderMap::new();
        let mut form = Serializer::new(String::new());
        authenticate("me", auth, NOW, 0.0, &mut headers, &mut form).unwrap();
        let fields = url::form_urlencoded::parse(form.finish().as_bytes())
            .into_owned()
            .collect();
        (headers, fields)
    }

    #[test]
    fn the_pair_is_form_encoded_before_base64() {
        for (id, secret, expected) in [
            ("plain", "secret", "plain:secret"),
            ("c:2 %", "s+e%c:r/et~", "c%3A2+%25:s%2Be%25c%3Ar%2Fet%7E"),
            ("ü", "\n", "%C3%BC:%0A"),
        ] {
            assert_eq!(pair(id, secret, BasicEncoding::Form), expected);
        }
    }

    #[test]
    fn the_raw_pair_of_instructure_keeps_its_hash_sign() {
        assert_eq!(
            pair("us-west-2#1", "a+b%", BasicEncoding::Raw),
            "us-west-2#1:a+b%"
        );
    }

    #[test]
    fn basic_goes_into_a_sensitive_field_and_nowhere_else() {
        let (headers, fields) = proof(&ClientAuth::SecretBasic {
            secret: "canary".to_owned().into(),
            encoding: BasicEncoding::Form,
        });
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert!(!format!("{headers:?}").contains("Basic"));
        assert!(fields.is_empty());
    }

    #[test]
    fn an_api_key_is_a_sensitive_bearer_field() {
        let (headers, fields) = proof(&ClientAuth::ApiKey {
            key: "canary".to_owned().into(),
        });
        assert_eq!(headers[AUTHORIZATION], "Bearer canary");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert!(fields.is_empty());
    }

    #[test]
    fn a_posted_secret_goes_into_the_form_and_nowhere_else() {
        let (headers, fields) = proof(&ClientAuth::SecretPost {
            secret: "s+e%c:r/et~".to_owned().into(),
        });
        assert!(headers.is_empty());
        let expected = [("client_id", "me"), ("client_secret", "s+e%c:r/et~")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_public_client_names_itself_and_proves_nothing() {
        let (_, of_certificate) = proof(&ClientAuth::Tls);
        let (headers, fields) = proof(&ClientAuth::None);
        assert_eq!(of_certificate, fields);
        assert!(headers.is_empty());
        assert_eq!(fields, [("client_id".to_owned(), "me".to_owned())]);
    }

    fn assertion() -> AssertionParams {
        AssertionParams {
            audience: "https://as.test".to_owned(),
            audience_as_array: false,
            lifetime: Duration::from_secs(60),
            typ: "JWT".to_owned(),
        }
    }

    fn part(jwt: &str, index: usize) -> Value {
        let part = jwt.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    // R55.
    #[test]
    fn an_assertion_by_secret_is_new_in_each_attempt_and_does_not_hold_the_secret() {
        const SECRET: &str = "canary-canary-canary-canary-canary";
        let auth = ClientAuth::SecretJwt {
            key: Arc::new(HmacKey::new(SECRET.into()).unwrap()),
            assertion: assertion(),
        };
        let jwt = || {
            let (headers, fields) = proof(&auth);
            assert!(headers.is_empty());
            assert!(!format!("{fields:?}").contains("canary"));
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(
                names,
                ["client_id", "client_assertion_type", "client_assertion"]
            );
            fields[2].1.clone()
        };
        let (one, other) = (jwt(), jwt());
        assert_eq!(
            part(&one, 0),
            serde_json::json!({ "typ": "JWT", "alg": "HS256" })
        );
        assert_eq!(part(&one, 1)["sub"], "me");
        assert_ne!(part(&one, 1)["jti"], part(&other, 1)["jti"]);
    }

    #[test]
    fn an_assertion_goes_into_the_form_and_nowhere_else() {
        let (headers, fields) = proof(&ClientAuth::PrivateKeyJwt {
            keys: ring(&[0]).0,
            assertion: assertion(),
        });
        assert!(headers.is_empty());
        assert_eq!(fields[0], ("client_id".to_owned(), "me".to_owned()));
        assert_eq!(
            fields[1],
            (
                "client_assertion_type".to_owned(),
                ASSERTION_TYPE.to_owned()
            )
        );
        assert_eq!(fields[2].0, "client_assertion");
        assert_eq!(fields[2].1.split('.').count(), 3);
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn the_key_whose_turn_it_is_signs_each_assertion() {
        let change = NOW.wall.as_secs() + 10;
        let (keys, ids) = ring(&[1_000, change]);
        let auth = ClientAuth::PrivateKeyJwt {
            keys: Arc::clone(&keys),
            assertion: AssertionParams {
                audience: "https://as.test".to_owned(),
                audience_as_array: false,
                lifetime: Duration::from_secs(60),
                typ: "JWT".to_owned(),
            },
        };
        let kid_at = |now: Moment| {
            let mut form = Serializer::new(String::new());
            authenticate("me", &auth, now, 0.0, &mut HeaderMap::new(), &mut form).unwrap();
            let form = form.finish();
            let mut fields = url::form_urlencoded::parse(form.as_bytes());
            let (_, assertion) = fields.find(|(name, _)| name == "client_assertion").unwrap();
            jsonwebtoken::decode_header(assertion.as_bytes())
                .unwrap()
                .kid
                .unwrap()
        };
        assert_eq!(kid_at(NOW), ids[0]);
        assert_eq!(kid_at(NOW.after(Duration::from_millis(9_999))), ids[0]);
        assert_eq!(kid_at(NOW.after(Duration::from_secs(10))), ids[1]);
        // A clock that is set back.
        assert_eq!(kid_at(NOW), ids[0]);
    }

    proptest! {
        #[test]
        fn a_server_reads_back_the_id_and_the_secret(id in ".*", secret in ".*") {
            let pair = pair(&id, &secret, BasicEncoding::Form);
            let (id_part, secret_part) = pair.split_once(':').unwrap();
            let decode = |part: &str| {
                let spaces = part.replace('+', " ");
                percent_decode_str(&spaces).decode_utf8().unwrap().into_owned()
            };
            prop_assert_eq!(decode(id_part), id);
            prop_assert_eq!(decode(secret_part), secret);
        }
    }
}
