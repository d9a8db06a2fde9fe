//! A certificate for https on loopback. Nobody vouches for it, so the browser warns; its fingerprint tells a person that what the
//! browser warns of is this one.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tokio_rustls::TlsAcceptor;

use crate::tls::{Identity, IdentityError, server_config};

/// Before and after now: it serves one login.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// A key that was made for this login, and its certificate.
pub(super) struct SelfSigned {
    identity: Identity,
    fingerprint: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum CertificateError {
    /// The library refuses.
    #[error("it cannot be signed")]
    Signing(#[from] rcgen::Error),
    /// It has made something that TLS cannot use.
    #[error(transparent)]
    Unusable(#[from] IdentityError),
}

impl SelfSigned {
    /// One for a name or an IP address.
    pub(super) fn for_host(host: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        let now = SystemTime::now();
        params.not_before = now.checked_sub(VALIDITY).unwrap_or(now).into();
        params.not_after = now.checked_add(VALIDITY).unwrap_or(now).into();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "bursar login");
        let certificate = params.self_signed(&key)?;
        let fingerprint = fingerprint(certificate.der());
        let identity = Identity::from_der(certificate.der().to_vec(), key.serialize_der())?;
        Ok(Self {
            identity,
            fingerprint,
        })
    }

    /// SHA-256, as browsers show it.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The server's side of TLS with it.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(server_config(&self.identity)))
    }
}

pub(super) fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest::digest(&digest::SHA256, certificate).as_ref() {
        if !text.is_empty() {
            text.push(':');
        }
        // A string takes whatever is written.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_login_has_a_certificate_of_its_own() {
        for host in ["localhost", "127.0.0.1", "::1"] {
            let (one, other) = (
                SelfSigned::for_host(host).unwrap(),
                SelfSigned::for_host(host).unwrap(),
            );
            assert_ne!(one.fingerprint(), other.fingerprint());
            assert_eq!(one.fingerprint().len(), 32 * 3 - 1);
            let validity = one.identity.validity().unwrap();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            assert!(validity.from < now && now < validity.until, "{host}");
        }
    }
}
