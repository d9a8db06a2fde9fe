//! Who bursar is: to servers that ask (mutual TLS, RFC 8446 section 4.3.2), and to a browser. A certificate with its chain, and its
//! key.

use std::{fmt, sync::Arc};

use rustls::{
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::validity::{self, Validity};

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

/// Why a certificate and a key are no identity.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No certificate.
    #[error("the file holds no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The PEM is damaged, or what is in it is no certificate.
    #[error("a certificate in the file is damaged")]
    BadCertificate,
    /// The key is protected by a password.
    #[error("the key is encrypted")]
    EncryptedKey,
    /// No key that can be used.
    #[error(
        "the file holds no PEM private key that TLS can use (PKCS#8, PKCS#1 or SEC1; RSA, ECDSA or Ed25519)"
    )]
    BadKey,
    /// They do not belong together.
    #[error("the key is not the one of the certificate")]
    Mismatch,
}

impl IdentityError {
    /// Whether the key is to blame, and not the certificate.
    #[must_use]
    pub const fn is_about_key(&self) -> bool {
        matches!(self, Self::EncryptedKey | Self::BadKey | Self::Mismatch)
    }
}

impl Identity {
    /// `chain`: PEM, bursar's own certificate first, then those of the authorities between it and the root.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; never with a byte of the key.
    pub fn from_pem(chain: &str, key: &SecretString) -> Result<Self, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::BadCertificate)?;
        let own = chain.first().ok_or(IdentityError::NoCertificate)?;
        let validity = validity::of(own);

        let pem = key.expose_secret();
        if pem.contains("ENCRYPTED") {
            return Err(IdentityError::EncryptedKey);
        }
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let der = Zeroizing::new(der.map_err(|_| IdentityError::BadKey)?);
        let key = any_supported_type(&der).map_err(|_| IdentityError::BadKey)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
            _ => IdentityError::BadCertificate,
        })?;
        Ok(Self {
            key: Arc::new(key),
            validity,
        })
    }

    /// One certificate that nobody else vouches for, and its PKCS#8 key.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; never with a byte of the key.
    pub fn from_der(certificate: Vec<u8>, pkcs8: Vec<u8>) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(certificate);
        let validity = validity::of(&certificate);
        let der = Zeroizing::new(PrivateKeyDer::Pkcs8(pkcs8.into()));
        let key = any_supported_type(&der).map_err(|_| IdentityError::BadKey)?;
        Ok(Self {
            key: Arc::new(CertifiedKey::new(vec![certificate], key)),
            validity,
        })
    }

    /// From when to when the certificate is valid, as far as it can be read.
    #[must_use]
    pub const fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// The certificates, one behind the other: what tells one identity from another.
    pub(super) fn chain(&self) -> Vec<u8> {
        self.key
            .cert
            .iter()
            .flat_map(|certificate| certificate.iter().copied())
            .collect()
    }

    pub(super) fn server_resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair() -> (String, SecretString) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["bursar.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem().into())
    }

    fn error(chain: &str, key: &str) -> IdentityError {
        Identity::from_pem(chain, &key.to_owned().into()).unwrap_err()
    }

    #[test]
    fn a_certificate_and_its_key_are_an_identity() {
        let (chain, key) = pair();
        let identity = Identity::from_pem(&chain, &key).unwrap();
        assert!(identity.validity().is_some());
        let with_authority = format!("{chain}{}", pair().0);
        let identity = Identity::from_pem(&with_authority, &key).unwrap();
        assert_eq!(identity.key.cert.len(), 2);
    }

    #[test]
    fn what_does_not_belong_together_is_no_identity() {
        let (chain, key) = pair();
        assert_eq!(
            error(&chain, pair().1.expose_secret()),
            IdentityError::Mismatch
        );
        // The chain in the wrong order.
        let reversed = format!("{}{chain}", pair().0);
        assert_eq!(
            error(&reversed, key.expose_secret()),
            IdentityError::Mismatch
        );
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_told_apart() {
        let (chain, key) = pair();
        let key = key.expose_secret();
        assert_eq!(error(key, key), IdentityError::NoCertificate);
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert_eq!(error(broken, key), IdentityError::BadCertificate);
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(error(empty, key), IdentityError::BadCertificate);
        assert_eq!(error(&chain, &chain), IdentityError::BadKey);
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(error(&chain, encrypted), IdentityError::EncryptedKey);
    }

    #[test]
    fn nothing_of_the_key_is_in_debug_output() {
        let (chain, key) = pair();
        let text = format!("{:?}", Identity::from_pem(&chain, &key).unwrap());
        assert!(text.starts_with("Identity { validity: Some("), "{text}");
    }
}
