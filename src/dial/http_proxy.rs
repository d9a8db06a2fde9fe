//! The way through a company proxy: CONNECT (RFC 9110 section 9.3.6), and then as if there were none.
//!
//! The proxy learns host and port of the origin and nothing else: TLS is spoken with the origin, inside the tunnel.

use std::{fmt, io, net::IpAddr, pin::pin, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::Origin;

/// The largest head of the proxy's answer.
const MAX_HEAD: usize = 16 * 1024;

/// A proxy that is asked for a tunnel.
#[derive(Clone)]
pub struct HttpProxy {
    /// A DNS name in lower case, or an IP literal (IPv6 without brackets).
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// `Basic …`.
    authorization: Option<SecretString>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy's name does not resolve.
    #[error("the proxy's name does not resolve")]
    Dns(#[source] io::Error),
    /// The proxy does not accept the connection.
    #[error("the proxy does not accept connections")]
    Connect(#[source] io::Error),
    /// It says no.
    #[error("the proxy answered {}", .0.as_u16())]
    Refused(StatusCode),
    /// It says nothing that is an answer, or hangs up.
    #[error("the proxy gave no answer that is HTTP")]
    Answer(#[source] hyper::Error),
    /// It sent bytes through the tunnel before anybody on its other side was asked for any.
    #[error("the proxy sent bytes that are not the origin's")]
    EarlyBytes,
    /// The origin cannot be named to it.
    #[error("the host cannot be written into a CONNECT request")]
    Origin,
}

impl HttpProxy {
    /// A proxy at `host`, which may want a user's name and password (RFC 7617).
    #[must_use]
    pub fn new(host: Arc<str>, port: u16, user: Option<(&str, &str)>) -> Self {
        let authorization = user.map(|(name, password)| {
            let pair = Zeroizing::new(format!("{name}:{password}"));
            let encoded = Zeroizing::new(STANDARD.encode(&*pair));
            SecretString::from(format!("Basic {}", *encoded))
        });
        Self {
            host,
            port,
            authorization,
        }
    }

    /// Whether it listens on loopback.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => &*self.host == "localhost",
        }
    }

    /// Makes `tcp`, which leads to the proxy, one that leads to `origin`.
    pub(super) async fn tunnel(
        &self,
        tcp: TcpStream,
        origin: &Origin,
    ) -> Result<TcpStream, ProxyError> {
        let request = self.request(origin).ok_or(ProxyError::Origin)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(tcp))
            .await
            .map_err(ProxyError::Answer)?;
        let mut tunnelled = pin!(async {
            let response = sender.send_request(request).await;
            unwrap(response.map_err(ProxyError::Answer)?).await
        });
        // No task of its own: whoever gives up on the dial gives up on all of it.
        tokio::select! {
            outcome = &mut tunnelled => outcome,
            // By then it has told the other one how it ended.
            _ = connection.with_upgrades() => tunnelled.await,
        }
    }

    fn request(&self, origin: &Origin) -> Option<Request<Empty<Bytes>>> {
        let authority = origin.host_and_port();
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::builder().authority(&*authority).build().ok()?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&authority).ok()?);
        if let Some(authorization) = &self.authorization {
            let mut field = HeaderValue::from_str(authorization.expose_secret()).ok()?;
            field.set_sensitive(true);
            headers.insert(PROXY_AUTHORIZATION, field);
        }
        Some(request)
    }
}

/// The bare connection behind a good answer.
async fn unwrap(response: Response<Incoming>) -> Result<TcpStream, ProxyError> {
    if !response.status().is_success() {
        return Err(ProxyError::Refused(response.status()));
    }
    let upgraded = upgrade::on(response).await.map_err(ProxyError::Answer)?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| ProxyError::EarlyBytes)?;
    // The origin speaks only when it is spoken to.
    if !parts.read_buf.is_empty() {
        return Err(ProxyError::EarlyBytes);
    }
    Ok(parts.io.into_inner())
}

impl PartialEq for HttpProxy {
    fn eq(&self, other: &Self) -> bool {
        let secret = |proxy: &Self| {
            proxy
                .authorization
                .as_ref()
                .map(|field| Zeroizing::new(field.expose_secret().to_owned()))
        };
        self.host == other.host && self.port == other.port && secret(self) == secret(other)
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpProxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authorization", &self.authorization.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::dial::{DialError, Dialer, Offer, Stream, Way};

    const USER: Option<(&str, &str)> = Some(("canary-user", "canary:password"));

    /// A dialer to `origin` through a proxy on loopback.
    fn through(port: u16, origin: &str, timeout: Duration) -> Dialer {
        Dialer {
            way: Way::Proxy(Arc::new(HttpProxy::new("127.0.0.1".into(), port, USER))),
            ..Dialer::plain(origin, 8443, timeout)
        }
    }

    /// A proxy that reads a head, answers with `answer`, and then repeats what it is sent. Gives the head.
    async fn dialled(origin: &str, answer: &'static [u8]) -> (String, Result<Stream, DialError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(peer.read_u8().await.unwrap());
            }
            peer.write_all(answer).await.unwrap();
            let (mut from, mut to) = peer.into_split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            String::from_utf8(head).unwrap()
        });
        let dialer = through(port, origin, Duration::from_secs(5));
        let outcome = dialer.dial(Offer::Http1).await.map(|(stream, _)| stream);
        let outcome = match outcome {
            Ok(mut stream) => {
                stream.write_all(b"ping").await.unwrap();
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                assert_eq!(&word, b"ping");
                stream.shutdown().await.unwrap();
                Ok(stream)
            }
            failed => failed,
        };
        (proxy.await.unwrap(), outcome)
    }

    #[tokio::test]
    async fn the_proxy_is_told_host_and_port_and_its_own_password_and_no_more() {
        let (head, outcome) = dialled("lms.test", b"HTTP/1.1 200 Tunnel\r\n\r\n").await;
        assert!(outcome.is_ok());
        let pair = STANDARD.encode("canary-user:canary:password");
        let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
        assert_eq!(lines.remove(0), "CONNECT lms.test:8443 HTTP/1.1");
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "host: lms.test:8443",
                &format!("proxy-authorization: Basic {pair}")
            ]
        );
        let (head, _) = dialled("::1", b"HTTP/1.0 200 OK\r\n\r\n").await;
        assert!(
            head.starts_with("CONNECT [::1]:8443 HTTP/1.1\r\n"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn an_answer_other_than_success_is_named_by_its_status() {
        for (answer, said) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 6\r\n\r\ncanary"[..],
                "the proxy answered 407",
            ),
            (b"HTTP/1.1 503 No\r\n\r\n", "the proxy answered 503"),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://canary/\r\nContent-Length: 0\r\n\r\n",
                "the proxy answered 302",
            ),
        ] {
            let (_, outcome) = dialled("lms.test", answer).await;
            let Err(DialError::Proxy(error)) = outcome else {
                panic!("{said}")
            };
            assert_eq!(error.to_string(), said);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let endless: &'static [u8] = Box::leak(
            [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'a'; 100_000]]
                .concat()
                .into_boxed_slice(),
        );
        for answer in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"\x15\x03\x01\x00\x02\x02\x16",
            endless,
        ] {
            let (_, outcome) = dialled("lms.test", answer).await;
            assert!(matches!(
                outcome,
                Err(DialError::Proxy(ProxyError::Answer(_)))
            ));
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_answer_are_not_taken_for_the_origins() {
        let (_, outcome) = dialled("lms.test", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n").await;
        assert!(matches!(
            outcome,
            Err(DialError::Proxy(ProxyError::EarlyBytes))
        ));
    }

    #[tokio::test]
    async fn a_proxy_that_hangs_up_or_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = through(port, "lms.test", Duration::from_secs(5));
        let hung_up = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
        });
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Proxy(ProxyError::Answer(_)))
        ));
        hung_up.await.unwrap();
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Proxy(ProxyError::Connect(_)))
        ));
    }

    #[tokio::test]
    async fn the_time_limit_holds_for_the_proxys_answer_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = through(port, "lms.test", Duration::from_millis(50));
        assert!(matches!(
            dialer.dial(Offer::Http1).await,
            Err(DialError::Timeout(_))
        ));
    }

    #[test]
    fn the_password_is_in_no_debug_output_and_counts_in_comparisons() {
        let proxy = |user| HttpProxy::new("proxy.test".into(), 3128, user);
        assert!(!format!("{:?}", proxy(USER)).contains("canary"));
        assert!(proxy(USER) == proxy(USER));
        assert!(proxy(USER) != proxy(Some(("canary-user", "other"))));
        assert!(proxy(USER) != proxy(None));
    }
}
