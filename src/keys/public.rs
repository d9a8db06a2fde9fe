//! The public half of a key, as the AS reads it (RFC 7517).

use std::sync::Arc;

use jsonwebtoken::{
    EncodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash},
};
use serde::Serialize;

use super::{Algorithm, KeyError, SigningKey};

/// A public key set (RFC 7517 section 5); holds public members only, by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKeySet {
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// One public key. An allow list of members: a private one cannot get in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    #[serde(flatten)]
    members: Members,
    kid: String,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
}

/// What RFC 7518 section 6 and RFC 8037 section 2 call public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kty")]
enum Members {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Elliptic {
        crv: &'static str,
        x: String,
        y: String,
    },
    #[serde(rename = "OKP")]
    Edwards { crv: &'static str, x: String },
}

/// The public halves of `keys`, without repetition.
#[must_use]
pub fn public_key_set<'a>(keys: impl IntoIterator<Item = &'a Arc<SigningKey>>) -> PublicKeySet {
    let mut set = PublicKeySet { keys: Vec::new() };
    for key in keys {
        if !set.keys.contains(&key.public) {
            set.keys.push(key.public());
        }
    }
    set
}

impl PublicKey {
    /// The public half of `key`; its id is the RFC 7638 thumbprint unless `kid` says otherwise.
    pub(super) fn of(
        key: &EncodingKey,
        algorithm: Algorithm,
        kid: Option<String>,
    ) -> Result<Self, KeyError> {
        const UNUSABLE: KeyError = KeyError::Unusable("its public half cannot be told");
        let jwk = Jwk::from_encoding_key(key, algorithm.jws()).map_err(|_| UNUSABLE)?;
        let kid = match kid {
            Some(kid) => kid,
            None => jwk
                .thumbprint(ThumbprintHash::SHA256)
                .map_err(|_| UNUSABLE)?,
        };
        Ok(Self {
            members: Members::of(jwk.algorithm).ok_or(UNUSABLE)?,
            kid,
            alg: algorithm.as_str(),
            usage: "sig",
        })
    }

    /// Its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl Members {
    fn of(parameters: AlgorithmParameters) -> Option<Self> {
        let curve = |curve| match curve {
            EllipticCurve::P256 => Some("P-256"),
            EllipticCurve::P384 => Some("P-384"),
            EllipticCurve::Ed25519 => Some("Ed25519"),
            _ => None,
        };
        match parameters {
            AlgorithmParameters::RSA(key) => Some(Self::Rsa { n: key.n, e: key.e }),
            AlgorithmParameters::EllipticCurve(key) => Some(Self::Elliptic {
                crv: curve(key.curve)?,
                x: key.x,
                y: key.y,
            }),
            AlgorithmParameters::OctetKeyPair(key) => Some(Self::Edwards {
                crv: curve(key.curve)?,
                x: key.x,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::keys::generate::{generate, to_pem};

    fn key(algorithm: Algorithm) -> Arc<SigningKey> {
        Arc::new(
            SigningKey::from_pem(&generate(algorithm).unwrap(), Some(algorithm), None).unwrap(),
        )
    }

    fn members(key: &SigningKey) -> BTreeSet<String> {
        let json = serde_json::to_value(key.public()).unwrap();
        json.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn only_public_members_are_published() {
        for (algorithm, expected) in [
            (Algorithm::Rs256, vec!["kty", "n", "e", "kid", "alg", "use"]),
            (Algorithm::Ps256, vec!["kty", "n", "e", "kid", "alg", "use"]),
            (
                Algorithm::Es256,
                vec!["kty", "crv", "x", "y", "kid", "alg", "use"],
            ),
            (
                Algorithm::Es384,
                vec!["kty", "crv", "x", "y", "kid", "alg", "use"],
            ),
            (
                Algorithm::EdDsa,
                vec!["kty", "crv", "x", "kid", "alg", "use"],
            ),
        ] {
            let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(members(&key(algorithm)), expected, "{algorithm}");
        }
    }

    #[test]
    fn the_thumbprint_of_the_example_in_rfc_8037_is_right() {
        // Appendix A.1 and A.3.
        let seed = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let head = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let pem = to_pem(&[&head[..], &seed].concat());
        let key = SigningKey::from_pem(&pem, None, None).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let json = serde_json::to_value(key.public()).unwrap();
        assert_eq!(json["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn the_thumbprint_of_the_example_in_rfc_7638_is_right() {
        // Section 3.1. Its key is public only, so it enters half-way.
        let jwk: Jwk = serde_json::from_value(serde_json::json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
            "kid": "2011-04-29"
        }))
        .unwrap();
        assert_eq!(
            jwk.thumbprint(ThumbprintHash::SHA256).unwrap(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn a_set_holds_each_key_once() {
        let one = key(Algorithm::EdDsa);
        let two = key(Algorithm::EdDsa);
        let set = public_key_set([&one, &two, &one]);
        let ids: Vec<&str> = set.keys.iter().map(PublicKey::kid).collect();
        assert_eq!(ids, [one.kid(), two.kid()]);
    }
}
