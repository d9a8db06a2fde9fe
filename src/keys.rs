//! Signing keys of the client: loading, public JWK, RFC 7638 thumbprint, making new ones, and their life cycle.
//!
//! A client has a [`KeyRing`]: one key, or all those of a [`directory`]. Which of them signs and which are published is
//! arithmetic over the moments at which they begin ([`timeline`]).

pub mod directory;
mod generate;
mod hmac;
mod load;
mod public;
mod ring;
mod start;
pub mod timeline;

use std::fmt;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::secret::SecretString;
pub use generate::generate;
pub use hmac::HmacKey;
pub use public::{PublicKey, PublicKeySet, public_key_set};
#[cfg(test)]
pub(crate) use ring::testing;
pub use ring::{KeyRing, KeyTerms, KeyView};
pub use start::KeyStart;
pub use timeline::KeyState;

/// A private key, fit to sign client assertions. Its algorithm follows from its type.
///
/// Its bytes are wiped when it is dropped.
pub struct SigningKey {
    encoding: EncodingKey,
    algorithm: Algorithm,
    public: PublicKey,
}

/// The algorithm of a signature (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what every LMS knows.
    Rs256,
    /// RSASSA-PSS with SHA-256, on an RSA key by `signing_alg`.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No PEM private key of a known kind.
    #[error("no PEM private key (PKCS#8, PKCS#1 or SEC1) found")]
    NotPem,
    /// Encrypted keys have no place for their passphrase.
    #[error("the key is encrypted")]
    Encrypted,
    /// RSA below 2048 bits, P-521 and the like.
    #[error("the key is not usable: {0}")]
    Unusable(&'static str),
    /// `signing_alg` does not fit the key.
    #[error("the algorithm {0} does not fit this key")]
    Algorithm(Algorithm),
    /// A secret below 32 bytes.
    #[error("it is shorter than the 32 bytes that HS256 needs (RFC 7518 section 3.2)")]
    ShortSecret,
}

impl SigningKey {
    /// Loads a PEM private key: PKCS#8 (RSA, EC P-256, P-384, Ed25519), PKCS#1, SEC1.
    ///
    /// `algorithm` overrides the default for the key's type (RS256, ES256, ES384, EdDSA); `kid`
    /// overrides the RFC 7638 thumbprint. Signs once to prove that it can.
    ///
    /// # Errors
    ///
    /// [`KeyError`]; never with a byte of the key.
    pub fn from_pem(
        pem: &SecretString,
        algorithm: Option<Algorithm>,
        kid: Option<String>,
    ) -> Result<Self, KeyError> {
        install_crypto();
        let (encoding, default) = load::parse(pem)?;
        let algorithm = match algorithm {
            None => default,
            Some(Algorithm::Ps256) if default == Algorithm::Rs256 => Algorithm::Ps256,
            Some(chosen) if chosen == default => default,
            Some(chosen) => return Err(KeyError::Algorithm(chosen)),
        };
        let public = PublicKey::of(&encoding, algorithm, kid)?;
        let key = Self {
            encoding,
            algorithm,
            public,
        };
        key.sign("JWT", &serde_json::Map::new())?;
        Ok(key)
    }

    /// Signs `claims` as a JWT in compact form (RFC 7515 section 7.1), with `typ`, `alg` and `kid` in its header.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unusable`] when the crypto library fails, which a key that has been loaded does not make it do.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<SecretString, KeyError> {
        let mut header = Header::new(self.algorithm.jws());
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid().to_owned());
        jsonwebtoken::encode(&header, claims, &self.encoding)
            .map(SecretString::from)
            .map_err(|_| KeyError::Unusable("it does not sign"))
    }

    /// The key id that goes into the JWS header.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half, with `kid`, `alg` and `use`.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }
}

/// jsonwebtoken panics at its first use where another crate of the build has turned on a second backend and nobody has
/// chosen. Installing twice is refused, and harmless.
fn install_crypto() {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

impl PartialEq for SigningKey {
    /// The public half tells keys apart, and `kid` and algorithm are in it.
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl Algorithm {
    /// The name as RFC 7518 and RFC 8037 register it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    const fn jws(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};

    use super::*;
    use crate::secret::ExposeSecret;

    const ALL: [Algorithm; 5] = [
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    #[test]
    fn what_a_key_signs_verifies_with_its_public_half() {
        for algorithm in ALL {
            let key =
                SigningKey::from_pem(&generate(algorithm).unwrap(), Some(algorithm), None).unwrap();
            assert_eq!(key.algorithm(), algorithm);

            let token = key
                .sign("example+jwt", &serde_json::json!({ "sub": "me" }))
                .unwrap();
            let public = serde_json::to_value(key.public()).unwrap();
            let jwk: Jwk = serde_json::from_value(public).unwrap();
            let mut validation = Validation::new(algorithm.jws());
            validation.required_spec_claims.clear();
            let decoded = jsonwebtoken::decode::<serde_json::Value>(
                token.expose_secret(),
                &DecodingKey::from_jwk(&jwk).unwrap(),
                &validation,
            )
            .unwrap();
            assert_eq!(decoded.claims["sub"], "me");
            assert_eq!(decoded.header.typ.as_deref(), Some("example+jwt"));
            assert_eq!(decoded.header.kid.as_deref(), Some(key.kid()));
        }
    }

    #[test]
    fn the_algorithm_follows_from_the_type_of_the_key() {
        for algorithm in [
            Algorithm::Rs256,
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::EdDsa,
        ] {
            let key = SigningKey::from_pem(&generate(algorithm).unwrap(), None, None).unwrap();
            assert_eq!(key.algorithm(), algorithm);
        }
    }

    #[test]
    fn an_algorithm_that_does_not_fit_the_key_is_refused() {
        let elliptic = generate(Algorithm::Es256).unwrap();
        for algorithm in ALL {
            let loaded = SigningKey::from_pem(&elliptic, Some(algorithm), None);
            match algorithm {
                Algorithm::Es256 => assert!(loaded.is_ok()),
                _ => assert!(matches!(loaded, Err(KeyError::Algorithm(_)))),
            }
        }
    }

    #[test]
    fn a_configured_kid_replaces_the_thumbprint() {
        let pem = generate(Algorithm::EdDsa).unwrap();
        let key = SigningKey::from_pem(&pem, None, Some("2026-a".to_owned())).unwrap();
        assert_eq!(key.kid(), "2026-a");
        assert_eq!(serde_json::to_value(key.public()).unwrap()["kid"], "2026-a");
    }

    #[test]
    fn no_byte_of_the_private_key_is_printed() {
        let pem = generate(Algorithm::Es256).unwrap();
        let key = SigningKey::from_pem(&pem, None, None).unwrap();
        let printed = format!("{key:?} {:?}", key.public());
        let body: String = pem.expose_secret().lines().skip(1).collect();
        assert!(!printed.contains(&body[..16]));
        assert!(!printed.contains("encoding"));
    }
}
