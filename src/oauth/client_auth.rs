//! How the client proves itself in a token request.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::{BasicEncoding, Cause, ClientAuth, assertion};
use crate::{clock::Moment, secret::ExposeSecret};

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
        ClientAuth::PrivateKeyJwt { key, assertion } => {
            let assertion = assertion::sign(client_id, key, assertion, now, skew_seconds)
                .map_err(|_| Cause::NotSent("the client assertion cannot be signed"))?;
            // Optional beside an assertion (RFC 7521 section 4.2); some servers look for it.
            form.append_pair("client_id", client_id);
            form.append_pair("client_assertion_type", ASSERTION_TYPE);
            form.append_pair("client_assertion", assertion.expose_secret());
        }
    }
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

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
fn form_encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(byte_serialize(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        keys::{Algorithm, SigningKey, generate},
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
    fn an_assertion_goes_into_the_form_and_nowhere_else() {
        let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
        let (headers, fields) = proof(&ClientAuth::PrivateKeyJwt {
            key: Arc::new(key),
            assertion: AssertionParams {
                audience: "https://as.test".to_owned(),
                audience_as_array: false,
                lifetime: Duration::from_secs(60),
                typ: "JWT".to_owned(),
            },
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
