use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, toml},
    peer::{Peer, Reply},
};

/// A certificate authority of the test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn file(&self, directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// A certificate for `name`, and its key.
    pub fn issue(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// The same in PEM.
    pub fn issue_pem(&self, name: &str) -> (String, String) {
        let day = Duration::from_secs(24 * 60 * 60);
        let now = SystemTime::now();
        self.issue_between(name, now - day, now + 90 * day)
    }

    /// The same, valid from then to then.
    pub fn issue_between(
        &self,
        name: &str,
        from: SystemTime,
        until: SystemTime,
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from.into(), until.into());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// An LMS behind TLS. Notes what it reads in the clear.
pub struct TlsLms {
    pub address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    read: Arc<Mutex<Vec<u8>>>,
}

impl TlsLms {
    pub fn start(authority: &Authority, name: &str) -> Self {
        Self::serving(Self::config(
            authority,
            name,
            WebPkiClientVerifier::no_client_auth(),
        ))
    }

    /// One that lets nobody in without a certificate of the authority.
    pub fn asking(authority: &Authority, name: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        Self::serving(Self::config(authority, name, verifier.build().unwrap()))
    }

    fn serving(config: Arc<ServerConfig>) -> Self {
        let config = Arc::new(Mutex::new(config));
        let current = Arc::clone(&config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let read: Arc<Mutex<Vec<u8>>> = Arc::default();
        let noted = Arc::clone(&read);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&current.lock().unwrap());
                let noted = Arc::clone(&noted);
                thread::spawn(move || {
                    let mut stream =
                        StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    let mut buffer = [0; 4096];
                    // A refused handshake ends here.
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        noted.lock().unwrap().extend_from_slice(&buffer[..count]);
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
                    }
                });
            }
        });
        Self {
            address,
            config,
            read,
        }
    }

    fn config(
        authority: &Authority,
        name: &str,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        let (certificate, key) = authority.issue(name);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }

    /// New connections meet a certificate of another authority.
    fn move_to(&self, authority: &Authority, name: &str) {
        let nobody = WebPkiClientVerifier::no_client_auth();
        *self.config.lock().unwrap() = Self::config(authority, name, nobody);
    }

    pub fn read(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap()).into_owned()
    }
}

fn bursar(server: &AuthorizationServer, base_url: &str, trust: &str) -> Bursar {
    let nobody = Peer::start(|_| Reply::ok());
    let text = toml(
        &nobody,
        server,
        Extra {
            upstream: trust,
            ..Extra::default()
        },
    );
    Bursar::ready(&text.replace(&nobody.url(), base_url))
}

#[test]
fn a_request_goes_over_verified_tls_to_the_configured_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = TlsLms::start(&authority, "localhost");
    let server = AuthorizationServer::start();
    let trust = format!("ca_file = {:?}\nca_only = true", authority.file(&directory));
    let port = lms.address.port();
    let bursar = bursar(&server, &format!("https://localhost:{port}"), &trust);

    for _ in 0..3 {
        assert_eq!(bursar.get("/api/x").text(), "secret");
    }
    let read = lms.read();
    assert!(
        read.contains(&format!("host: localhost:{port}\r\n")),
        "{read}"
    );
    assert!(read.contains("authorization: Bearer token-1\r\n"), "{read}");
}

#[test]
fn no_byte_of_a_request_reaches_an_lms_that_cannot_prove_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let other_name = TlsLms::start(&authority, "other.example.edu");
    let other_authority = TlsLms::start(&Authority::new(), "localhost");
    let server = AuthorizationServer::start();
    let trust = format!("ca_file = {:?}", authority.file(&directory));
    for lms in [&other_name, &other_authority] {
        let bursar = bursar(
            &server,
            &format!("https://localhost:{}", lms.address.port()),
            &trust,
        );
        let answer = bursar.get("/api/x");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (502, "upstream_tls_error")
        );
        assert_eq!(lms.read(), "");
        assert_eq!(
            bursar.metric(r#"bursar_upstream_errors_total{kind="tls",upstream="lms"}"#),
            1.0
        );
    }
}

// F45.
#[test]
fn a_ca_file_that_was_replaced_verifies_the_lms_that_has_moved_to_the_new_authority() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let lms = TlsLms::start(&old, "localhost");
    let server = AuthorizationServer::start();
    let ca_file = old.file(&directory);
    let trust = format!("ca_file = {ca_file:?}\nca_only = true");
    let base_url = format!("https://localhost:{}", lms.address.port());
    let bursar = bursar(&server, &base_url, &trust);

    lms.move_to(&new, "localhost");
    assert_eq!(bursar.get("/api/x").code(), "upstream_tls_error");
    assert_eq!(lms.read(), "");
    new.file(&directory);
    bursar.until("verified by the new authority", |bursar| {
        bursar.get("/api/x").status == 200
    });
    assert_eq!(server.calls(), 1);
}
