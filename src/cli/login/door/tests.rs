//! What comes in by the loopback port, and what does not.

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};
use url::Url;

use super::{super::attempt::Brought, *};
use crate::{
    oauth::{
        LoginGrant,
        authorization::{AuthorizationError, AuthorizationParams, Flow},
    },
    secret::ExposeSecret as _,
};

struct Stage {
    door: OpenDoor,
    url: Url,
    uri: RedirectUri,
}

async fn stage(redirect_uri: &str) -> Stage {
    let door = Door::bind(&RedirectUri::parse(redirect_uri).unwrap())
        .await
        .unwrap();
    let uri = door.redirect_uri().clone();
    let flow = Flow::begin(AuthorizationParams {
        authorize_url: "https://as.test/auth".parse().unwrap(),
        redirect_uri: uri.clone(),
        issuer: None,
        pkce: true,
        relay_parameter: None,
    });
    let url = flow.url("app", None);
    let door = door.open(Arc::new(Attempt::new(flow)));
    Stage { door, url, uri }
}

impl Stage {
    fn state(&self) -> String {
        let mut pairs = self.url.query_pairs();
        pairs.find(|(name, _)| name == "state").unwrap().1.into()
    }

    /// What a browser would be answered.
    fn get(&self, target: &str) -> JoinHandle<String> {
        self.get_from(target, self.uri.authority())
    }

    fn get_from(&self, target: &str, host: String) -> JoinHandle<String> {
        let (target, address) = (target.to_owned(), ("127.0.0.1", self.uri.port()));
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
    }
}

const ANY_PORT: &str = "http://127.0.0.1:0/callback";

#[tokio::test]
async fn one_callback_is_taken_and_shown_what_became_of_it() {
    let mut stage = stage(ANY_PORT).await;
    let target = format!("/callback?code=canary&state={}", stage.state());
    let browser = stage.get(&target);
    let arrival = stage.door.next().await.unwrap();
    let Ok(Brought::Grant(LoginGrant::AuthorizationCode {
        code, redirect_uri, ..
    })) = &arrival.outcome
    else {
        panic!("a code");
    };
    assert_eq!(code.expose_secret(), "canary");
    assert_eq!(redirect_uri, stage.uri.as_str());

    // A second one while the first is being exchanged.
    let second = stage.get(&target).await.unwrap();
    assert!(second.starts_with("HTTP/1.1 400"), "{second}");
    assert!(second.contains("has had its answer"));

    arrival
        .reply
        .show(Page::done("You can close this tab."))
        .await;
    let answer = browser.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("close this tab"));
    assert!(answer.contains("cache-control: no-store"));
    for secret in ["canary", &stage.state()] {
        assert!(!answer.contains(secret) && !second.contains(secret));
    }
}

#[tokio::test]
async fn what_is_not_the_answer_does_not_end_the_login() {
    let mut stage = stage(ANY_PORT).await;
    for (target, status) in [
        ("/callback?code=1&state=guess", "400"),
        ("/callback?code=1", "400"),
        ("/callback?error=access_denied&state=guess", "400"),
        ("/callback", "400"),
        ("/callback?code=1&code=2", "400"),
        ("/", "404"),
        ("/favicon.ico", "404"),
    ] {
        let answer = stage.get(target).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{target}: {answer}"
        );
    }
    let rebound = stage.get_from("/callback?code=1", "evil.test".to_owned());
    assert!(rebound.await.unwrap().starts_with("HTTP/1.1 421"));

    let browser = stage.get(&format!("/callback?code=1&state={}", stage.state()));
    let arrival = stage.door.next().await.unwrap();
    assert!(arrival.outcome.is_ok());
    drop(arrival);
    assert!(browser.await.unwrap().contains("broken off"));
}

#[tokio::test]
async fn a_refusal_ends_it_and_the_page_says_why() {
    let mut stage = stage(ANY_PORT).await;
    let browser = stage.get(&format!(
        "/callback?error=access_denied&error_description=%3Cb%3ENo%3C/b%3E&state={}",
        stage.state()
    ));
    let arrival = stage.door.next().await.unwrap();
    let error = arrival.outcome.as_ref().err().unwrap().clone();
    assert!(matches!(error, AuthorizationError::Refused(_)));
    arrival.reply.show(Page::failed(error.to_string())).await;
    let answer = browser.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"));
    assert!(
        answer.contains("access_denied&quot;: &lt;b&gt;No&lt;/b&gt;"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let uri = RedirectUri::parse(&format!("http://127.0.0.1:{port}/callback")).unwrap();
    let error = Door::bind(&uri).await.err().unwrap();
    assert!(matches!(error, DoorError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_door_leaves_the_port_free() {
    let stage = stage(ANY_PORT).await;
    let address = ("127.0.0.1", stage.uri.port());
    let _idle = TcpStream::connect(address).await.unwrap();
    drop(stage);
    tokio::task::yield_now().await;
    timeout(Duration::from_secs(5), async {
        while TcpListener::bind(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn https_has_a_certificate_for_the_host() {
    let uri = RedirectUri::parse("https://localhost:0/callback").unwrap();
    let door = Door::bind(&uri).await.unwrap();
    assert!(
        door.redirect_uri()
            .as_str()
            .starts_with("https://localhost:")
    );
    assert_eq!(door.fingerprint().unwrap().len(), 95);
}

/// A person who compares fingerprints.
#[derive(Debug)]
struct Compares(String);

impl ServerCertVerifier for Compares {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(certificate::fingerprint(certificate), self.0);
        assert_eq!(name.to_str(), "localhost");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[tokio::test]
async fn over_https_a_browser_whose_user_accepts_the_certificate_comes_in() {
    let uri = RedirectUri::parse("https://localhost:0/callback").unwrap();
    let door = Door::bind(&uri).await.unwrap();
    let verifier = Compares(door.fingerprint().unwrap().to_owned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let uri = door.redirect_uri().clone();
    let _door = door.open(Arc::new(Attempt::new(Flow::begin(AuthorizationParams {
        authorize_url: "https://as.test/auth".parse().unwrap(),
        redirect_uri: uri.clone(),
        issuer: None,
        pkce: true,
        relay_parameter: None,
    }))));
    let stream = TcpStream::connect(("127.0.0.1", uri.port())).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let head = format!(
        "GET /callback?code=1&state=guess HTTP/1.1\r\nHost: {}\r\n\r\n",
        uri.authority()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("another login"), "{answer}");
}
