//! Authorization servers made by hand: they take one request and answer with the bytes they are given.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(super) struct Peer {
    pub(super) port: u16,
    /// Ends with what the peer has received.
    task: JoinHandle<String>,
    ca: Option<tempfile::NamedTempFile>,
}

impl Peer {
    /// Answers with `bytes` and hangs up.
    pub(super) async fn sending(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            task: tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, &bytes).await
            }),
            ca: None,
        }
    }

    /// Answers with `head`, then with `chunk` again and again until the other side has hung up.
    pub(super) async fn sending_for_ever(head: &str, chunk: Vec<u8>, pause: Duration) -> Self {
        let head = head.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            task: tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(&chunk).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
                request
            }),
            ca: None,
        }
    }

    /// As [`sending`](Self::sending), over TLS with a certificate for `name` from a CA of its own.
    pub(super) async fn secured(name: &str, bytes: Vec<u8>) -> Self {
        let (acceptor, ca_pem) = acceptor(name);
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(ca_pem.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            task: tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                match acceptor.accept(stream).await {
                    Ok(stream) => answer(stream, &bytes).await,
                    Err(_) => String::new(),
                }
            }),
            ca: Some(ca),
        }
    }

    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca.as_ref().map(tempfile::NamedTempFile::path)
    }

    pub(super) async fn received(self) -> String {
        self.task.await.unwrap()
    }

    /// Ends once the other side has hung up.
    pub(super) async fn hung_up_on(self) {
        self.task.await.unwrap();
    }

    pub(super) fn was_called(&self) -> bool {
        self.task.is_finished()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let request = read_request(&mut stream).await;
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

/// Reads a head, and the body that its Content-Length announces; whatever there is, if it ends before.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut received = String::new();
    let mut buffer = [0; 4096];
    while !is_complete(&received) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => received.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
    }
    received
}

fn is_complete(received: &str) -> bool {
    let Some((head, body)) = received.split_once("\r\n\r\n") else {
        return false;
    };
    let announced = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().unwrap());
    body.len() >= announced
}

fn acceptor(name: &str) -> (TlsAcceptor, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);

    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}
