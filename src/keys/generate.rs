//! Making new keys.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::Unspecified,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError};
use crate::secret::SecretString;

/// Makes a new key of the algorithm's type, as PKCS#8 PEM. RSA keys have 2048 bits.
///
/// # Errors
///
/// [`KeyError`] when the crypto library fails.
pub fn generate(algorithm: Algorithm) -> Result<SecretString, KeyError> {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 => rsa(),
        Algorithm::Es256 => elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDsa => edwards(),
    }
    .map_err(|Unspecified| KeyError::Unusable("the crypto library could not make it"))
}

/// Writes PKCS#8 as PEM (RFC 7468 section 10).
pub(super) fn to_pem(der: &[u8]) -> SecretString {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it from the start: a string that grows leaves copies behind.
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 64);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    SecretString::from(pem)
}

fn rsa() -> Result<SecretString, Unspecified> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let der: Pkcs8V1Der<'_> = pair.as_der()?;
    Ok(to_pem(der.as_ref()))
}

fn elliptic(curve: &'static EcdsaSigningAlgorithm) -> Result<SecretString, Unspecified> {
    let der = EcdsaKeyPair::generate(curve)?.to_pkcs8v1()?;
    Ok(to_pem(der.as_ref()))
}

/// Without the public half: OpenSSL before 3 does not read the longer form.
fn edwards() -> Result<SecretString, Unspecified> {
    let der = Ed25519KeyPair::generate()?.to_pkcs8v1()?;
    Ok(to_pem(der.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ExposeSecret;

    #[test]
    fn a_new_key_is_pkcs8_pem_in_lines_of_64_and_differs_each_time() {
        let key = generate(Algorithm::Es256).unwrap();
        let lines: Vec<&str> = key.expose_secret().lines().collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN PRIVATE KEY-----"));
        assert_eq!(lines.last(), Some(&"-----END PRIVATE KEY-----"));
        assert!(lines.iter().all(|line| line.len() <= 64));
        let other = generate(Algorithm::Es256).unwrap();
        assert_ne!(key.expose_secret(), other.expose_secret());
    }

    #[test]
    fn the_room_reserved_for_pem_is_never_outgrown() {
        for length in [0, 1, 47, 48, 49, 1_216, 4_800] {
            let body = STANDARD.encode(vec![0_u8; length]).len();
            let pem = to_pem(&vec![0_u8; length]).expose_secret().len();
            assert!(pem <= body + body / 64 + 64, "{length}");
        }
    }
}
