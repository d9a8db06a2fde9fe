//! TLS towards the LMS and the AS, and towards the browser of a person who logs in. The only file that names rustls's configuration.

mod identity;
mod validity;

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use ::aws_lc_rs::digest;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};

pub use identity::{Identity, IdentityError};
pub use validity::Validity;

/// Which roots verify a server, and who bursar is to one that asks.
#[derive(Clone, Debug, Default)]
pub struct Trust<'a> {
    /// PEM file of further roots.
    pub ca_file: Option<&'a Path>,
    /// Only those of `ca_file`, not the system's.
    pub ca_only: bool,
    /// For servers that ask for a certificate.
    pub identity: Option<&'a Identity>,
}

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error("cannot read the CA file")]
    CaFile(#[source] io::Error),
    /// The CA file is damaged.
    #[error("the CA file is not well-formed PEM")]
    Pem(#[source] pem::Error),
    /// The CA file holds no certificate; or none is given, and `ca_only` asks for nothing else.
    #[error("the CA file holds no PEM certificate")]
    NoCertificate,
    /// A certificate in it cannot serve as a root.
    #[error("a certificate in the CA file cannot serve as a root")]
    BadCertificate(#[source] rustls::Error),
}

/// Builds the client configuration: TLS 1.2 and 1.3, no early data, no key log. What is offered by
/// ALPN is chosen for each connection; HTTP/1.1 where nobody chooses.
/// System roots; where the system has none, the bundled ones.
///
/// For the same content of the same files it is the same object, as long as anybody uses it: a configuration that is read
/// again recognizes it, keeps its connections, and can resume its sessions.
///
/// # Errors
///
/// [`TlsError`] when `ca_file` is of no use.
pub fn client_config(trust: &Trust<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    static KNOWN: Mutex<Vec<(Content, Weak<ClientConfig>)>> = Mutex::new(Vec::new());

    let Trust {
        ca_file,
        ca_only,
        identity,
    } = *trust;
    let ca = ca_file
        .map(fs::read)
        .transpose()
        .map_err(TlsError::CaFile)?;
    let content = Content {
        ca: ca.as_deref().map(sha256),
        ca_only,
        // One certificate has one key.
        chain: identity.map(|identity| sha256(&identity.chain())),
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(_, config)| config.strong_count() > 0);
    let found = known.iter().find(|(other, _)| *other == content);
    if let Some(config) = found.and_then(|(_, config)| config.upgrade()) {
        return Ok(config);
    }
    let config = new_config(ca.as_deref(), ca_only, identity)?;
    known.push((content, Arc::downgrade(&config)));
    Ok(config)
}

/// Everything that makes one TLS configuration differ from another.
#[derive(PartialEq, Eq)]
struct Content {
    ca: Option<Vec<u8>>,
    ca_only: bool,
    chain: Option<Vec<u8>>,
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn new_config(
    ca: Option<&[u8]>,
    ca_only: bool,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca {
        None if ca_only => return Err(TlsError::NoCertificate),
        None => Arc::clone(system_roots()),
        Some(pem) => {
            let mut roots = if ca_only {
                RootCertStore::empty()
            } else {
                RootCertStore::clone(system_roots())
            };
            for certificate in read_certificates(pem)? {
                roots.add(certificate).map_err(TlsError::BadCertificate)?;
            }
            Arc::new(roots)
        }
    };
    // The provider is passed, not taken from the process-wide default, which any library may set.
    #[expect(
        clippy::expect_used,
        reason = "independent of any input: the provider is compiled in, and every test here builds it"
    )]
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Builds the configuration of a server that is `identity`: TLS 1.2 and 1.3, HTTP/1.1.
#[must_use]
pub fn server_config(identity: &Identity) -> ServerConfig {
    #[expect(
        clippy::expect_used,
        reason = "independent of any input: the provider is compiled in, and every test here builds it"
    )]
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3");
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(identity.server_resolver());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Does the crypto library's slow first work (collecting entropy: some 50 ms) now, on the calling thread.
pub fn warm_up() {
    let mut byte = [0_u8; 1];
    // A failure here would only mean that the first real use is slow, or fails in its turn.
    let _ = ::aws_lc_rs::rand::fill(&mut byte);
}

/// The system's roots, parsed once: they are some 140 certificates, and every upstream wants them.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        // Broken certificates in the system's store are none of our business; the sound ones count.
        let native = rustls_native_certs::load_native_certs();
        Arc::new(roots_or_bundled(native.certs))
    })
}

fn roots_or_bundled(native: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native);
    if added == 0 {
        tracing::warn!("the system has no root certificates; the bundled ones are used");
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    roots
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Pem)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn ca_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn error_for(content: &str) -> TlsError {
        let file = file(content);
        client_config(&Trust {
            ca_file: Some(file.path()),
            ca_only: false,
            identity: None,
        })
        .unwrap_err()
    }

    #[test]
    fn the_configuration_offers_http_1_1_without_early_data() {
        let config = client_config(&Trust::default()).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(!config.enable_early_data);
        assert!(!config.key_log.will_log("CLIENT_RANDOM"));
    }

    #[test]
    fn a_system_without_roots_gets_the_bundled_ones() {
        assert!(roots_or_bundled(Vec::new()).len() > 50);
    }

    #[test]
    fn a_ca_file_is_read_with_and_without_the_system_roots() {
        let file = file(&format!("# a comment\n{}{}", ca_pem(), ca_pem()));
        let pem = fs::read(file.path()).unwrap();
        assert_eq!(read_certificates(&pem).unwrap().len(), 2);
        for ca_only in [false, true] {
            let trust = Trust {
                ca_file: Some(file.path()),
                ca_only,
                identity: None,
            };
            assert!(client_config(&trust).is_ok());
        }
    }

    #[test]
    fn the_same_content_gives_the_same_configuration_whatever_the_file_is_called() {
        let pem = ca_pem();
        let (one, other, different) = (file(&pem), file(&pem), file(&ca_pem()));
        let config = |file: &tempfile::NamedTempFile, ca_only| {
            client_config(&Trust {
                ca_file: Some(file.path()),
                ca_only,
                identity: None,
            })
            .unwrap()
        };
        let first = config(&one, true);
        assert!(Arc::ptr_eq(&first, &config(&other, true)));
        assert!(!Arc::ptr_eq(&first, &config(&one, false)));
        assert!(!Arc::ptr_eq(&first, &config(&different, true)));
    }

    #[test]
    fn the_same_identity_gives_the_same_configuration_and_another_one_another() {
        let identity = || {
            let own = rcgen::generate_simple_self_signed(["bursar.test".to_owned()]).unwrap();
            let key = own.signing_key.serialize_pem().into();
            (own.cert.pem(), key)
        };
        let (chain, key) = identity();
        let read = |(chain, key): &(String, secrecy::SecretString)| {
            let identity = Identity::from_pem(chain, key).unwrap();
            client_config(&Trust {
                identity: Some(&identity),
                ..Trust::default()
            })
            .unwrap()
        };
        let own = (chain, key);
        let first = read(&own);
        assert!(Arc::ptr_eq(&first, &read(&own)));
        assert!(!Arc::ptr_eq(&first, &read(&identity())));
        assert!(!Arc::ptr_eq(
            &first,
            &client_config(&Trust::default()).unwrap()
        ));
    }

    #[test]
    fn a_ca_file_that_is_of_no_use_is_refused() {
        assert!(matches!(error_for("no PEM"), TlsError::NoCertificate));
        assert!(matches!(
            error_for("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            TlsError::Pem(_)
        ));
        assert!(matches!(
            error_for("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            TlsError::BadCertificate(_)
        ));
        let absent = Trust {
            ca_file: Some(Path::new("/nowhere/ca.pem")),
            ca_only: true,
            identity: None,
        };
        assert!(matches!(client_config(&absent), Err(TlsError::CaFile(_))));
    }

    #[test]
    fn ca_only_without_a_file_trusts_nobody_and_is_refused() {
        let trust = Trust {
            ca_file: None,
            ca_only: true,
            identity: None,
        };
        assert!(matches!(
            client_config(&trust),
            Err(TlsError::NoCertificate)
        ));
    }

    #[test]
    fn the_crypto_library_can_be_warmed_up_more_than_once() {
        warm_up();
        warm_up();
    }
}
