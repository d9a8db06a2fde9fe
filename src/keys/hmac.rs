//! A client secret as the key of `client_secret_jwt`.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{KeyError, install_crypto};
use crate::secret::{self, ExposeSecret, SecretString};

/// RFC 7518 section 3.2: a key of the hash's size or larger.
const MIN_BYTES: usize = 32;

/// A secret that is long enough to key HS256.
///
/// Apart from [`SigningKey`](super::SigningKey), so that a MAC is never made with a PEM file and a secret never taken for a
/// private key (RFC 8725 section 2.1).
pub struct HmacKey {
    secret: SecretString,
}

impl HmacKey {
    /// Takes the secret's bytes as the key (OpenID Connect Core section 10.1).
    ///
    /// # Errors
    ///
    /// [`KeyError::ShortSecret`]
    pub fn new(secret: SecretString) -> Result<Self, KeyError> {
        if secret.expose_secret().len() < MIN_BYTES {
            return Err(KeyError::ShortSecret);
        }
        install_crypto();
        Ok(Self { secret })
    }

    /// Makes a JWT of `claims` in compact form with an HS256 MAC. Without `kid`: the server knows the secret by the client.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unusable`] when the crypto library fails.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<SecretString, KeyError> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(typ.to_owned());
        let key = EncodingKey::from_secret(self.secret.expose_secret().as_bytes());
        jsonwebtoken::encode(&header, claims, &key)
            .map(SecretString::from)
            .map_err(|_| KeyError::Unusable("it does not sign"))
    }
}

impl PartialEq for HmacKey {
    fn eq(&self, other: &Self) -> bool {
        secret::is_same(&self.secret, &other.secret)
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HmacKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_mac_verifies_with_the_secret_and_names_no_key() {
        let key = HmacKey::new(SECRET.into()).unwrap();
        let token = key
            .sign("example+jwt", &serde_json::json!({ "sub": "me" }))
            .unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        let decode = |secret: &str| {
            jsonwebtoken::decode::<serde_json::Value>(
                token.expose_secret(),
                &DecodingKey::from_secret(secret.as_bytes()),
                &validation,
            )
        };
        let decoded = decode(SECRET).unwrap();
        assert_eq!(decoded.claims["sub"], "me");
        assert_eq!(decoded.header.typ.as_deref(), Some("example+jwt"));
        assert_eq!(decoded.header.kid, None);
        assert!(decode("another secret of thirty-two bytes").is_err());
    }

    // R56, RFC 7518 section 3.2.
    #[test]
    fn a_secret_below_32_bytes_is_refused() {
        for (secret, is_enough) in [("", false), (&SECRET[1..], false), (SECRET, true)] {
            let key = HmacKey::new(secret.into());
            assert_eq!(key.is_ok(), is_enough, "{} bytes", secret.len());
        }
        // Bytes, not characters.
        assert!(HmacKey::new("ü".repeat(16).into()).is_ok());
    }

    #[test]
    fn no_byte_of_the_secret_is_printed() {
        let key = HmacKey::new(SECRET.into()).unwrap();
        assert!(!format!("{key:?}").contains("0123"));
    }
}
