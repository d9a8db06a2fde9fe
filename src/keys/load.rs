//! From the many forms of a PEM private key to the one that signs.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::KeyRejected,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use jsonwebtoken::EncodingKey;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, generate::to_pem};
use crate::secret::{ExposeSecret, SecretString};

/// The key in `pem`, and the default algorithm of its type.
pub(super) fn parse(pem: &SecretString) -> Result<(EncodingKey, Algorithm), KeyError> {
    let pem = pem.expose_secret();
    if is_encrypted(pem) {
        return Err(KeyError::Encrypted);
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
    match &*Zeroizing::new(der) {
        PrivateKeyDer::Pkcs1(key) => rsa(RsaKeyPair::from_der(key.secret_pkcs1_der())),
        PrivateKeyDer::Sec1(key) => elliptic(key.secret_sec1_der()).ok_or(UNSUPPORTED),
        PrivateKeyDer::Pkcs8(key) => {
            let key = key.secret_pkcs8_der();
            match edwards(key).or_else(|| elliptic(key)) {
                Some(found) => Ok(found),
                None => rsa(RsaKeyPair::from_pkcs8(key)),
            }
        }
        _ => Err(KeyError::NotPem),
    }
}

const UNSUPPORTED: KeyError =
    KeyError::Unusable("it is not a sound RSA, EC P-256, EC P-384 or Ed25519 key");

/// PKCS#8 has a label of its own for encrypted keys, the older forms say it in a header line (RFC 1421).
fn is_encrypted(pem: &str) -> bool {
    pem.lines().any(|line| {
        line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY")
            || (line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
    })
}

fn rsa(pair: Result<RsaKeyPair, KeyRejected>) -> Result<(EncodingKey, Algorithm), KeyError> {
    let pair = pair.map_err(|rejected| match rejected.description_() {
        "TooSmall" => KeyError::Unusable("RSA needs 2048 bits or more"),
        "TooLarge" => KeyError::Unusable("RSA is supported up to 8192 bits"),
        _ => UNSUPPORTED,
    })?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| UNSUPPORTED)?;
    // jsonwebtoken signs with PKCS#1, which it unpacks itself, but from PEM only.
    let pem = to_pem(der.as_ref());
    let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).map_err(|_| UNSUPPORTED)?;
    Ok((key, Algorithm::Rs256))
}

/// Takes PKCS#8 and SEC1. jsonwebtoken knows only the first.
fn elliptic(der: &[u8]) -> Option<(EncodingKey, Algorithm)> {
    let curves: [(&'static EcdsaSigningAlgorithm, Algorithm); 2] = [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384),
    ];
    curves.into_iter().find_map(|(curve, algorithm)| {
        let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
        let der = pair.to_pkcs8v1().ok()?;
        Some((EncodingKey::from_ec_der(der.as_ref()), algorithm))
    })
}

/// Takes PKCS#8 with and without the public key; jsonwebtoken's public half needs it without.
fn edwards(der: &[u8]) -> Option<(EncodingKey, Algorithm)> {
    let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
    let der = pair.to_pkcs8v1().ok()?;
    Some((EncodingKey::from_ed_der(der.as_ref()), Algorithm::EdDsa))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{EcPrivateKeyRfc5915Der, Pkcs8V2Der},
        signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    };
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::keys::{SigningKey, generate};

    fn pem(label: &str, der: &[u8]) -> SecretString {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into()
    }

    fn load(pem: &SecretString) -> Result<SigningKey, KeyError> {
        SigningKey::from_pem(pem, None, None)
    }

    #[test]
    fn a_sec1_key_loads_even_behind_its_curve_parameters() {
        for (curve, algorithm) in [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384),
        ] {
            let pair = EcdsaKeyPair::generate(curve).unwrap();
            let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
            let sec1 = pem("EC PRIVATE KEY", der.as_ref());
            let with_parameters = format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
                sec1.expose_secret()
            );
            let key = load(&with_parameters.into()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let pkcs8 = to_pem(pair.to_pkcs8v1().unwrap().as_ref());
            assert_eq!(key.kid(), load(&pkcs8).unwrap().kid());
        }
    }

    #[test]
    fn a_pkcs1_key_loads_as_the_same_key_as_its_pkcs8_form() {
        let pkcs8 = generate(Algorithm::Rs256).unwrap();
        let der = PrivateKeyDer::from_pem_slice(pkcs8.expose_secret().as_bytes()).unwrap();
        // Before the PKCS#1 key stand 26 bytes: version, algorithm and the head of its octet string.
        let pkcs1 = pem("RSA PRIVATE KEY", &der.secret_der()[26..]);
        assert_eq!(load(&pkcs1).unwrap().kid(), load(&pkcs8).unwrap().kid());
    }

    #[test]
    fn an_ed25519_key_loads_with_and_without_its_public_half() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let short: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let long: Pkcs8V2Der<'_> = pair.as_der().unwrap();
        assert_eq!(
            load(&to_pem(short.as_ref())).unwrap().kid(),
            load(&to_pem(long.as_ref())).unwrap().kid()
        );
    }

    /// A throw-away key that protects nothing.
    const RSA_1024: &str = include_str!("testdata/rsa1024-throwaway.pem");

    #[test]
    fn a_short_rsa_key_is_refused() {
        let refused = load(&RSA_1024.to_owned().into()).unwrap_err();
        assert!(refused.to_string().contains("2048"), "{refused}");
    }

    #[test]
    fn other_curves_are_refused() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        assert!(matches!(
            load(&to_pem(der.as_ref())),
            Err(KeyError::Unusable(_))
        ));
        let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
        assert!(matches!(
            load(&pem("EC PRIVATE KEY", der.as_ref())),
            Err(KeyError::Unusable(_))
        ));
    }

    #[test]
    fn encrypted_keys_are_named_as_such() {
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert!(matches!(
                load(&text.to_owned().into()),
                Err(KeyError::Encrypted)
            ));
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for text in [
            "",
            "secret",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
        ] {
            assert!(load(&text.to_owned().into()).is_err(), "{text}");
        }
    }
}
