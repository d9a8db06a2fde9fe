//! The key set as the AS sees it: what is published at `jwks_url`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt as _};

use super::{
    Cause, Unreachable,
    transport::{ExchangeError, Transport, read_body},
};
use crate::dial::Dialer;

/// Members of a JWK that only its owner may have (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Where the AS fetches the key set of a client (`jwks_url`).
#[derive(Clone, PartialEq)]
pub struct KeySetUrl {
    /// Its server. Its timeout is the limit for all of it.
    pub dialer: Dialer,
    /// Path and query.
    pub path: PathAndQuery,
}

/// What was found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedKeys {
    /// The ids of the keys.
    pub kids: BTreeSet<String>,
    /// A key is published with its private half.
    pub has_private_members: bool,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// No connection, or it broke off.
    #[error("the server of jwks_url cannot be reached ({0})")]
    Unreachable(Unreachable),
    /// No complete answer in time.
    #[error("the server of jwks_url does not answer in time")]
    Timeout,
    /// Redirects are not followed: an AS might not, either.
    #[error("jwks_url answers HTTP {0}")]
    Status(u16),
    /// Not a key set (RFC 7517 section 5).
    #[error("what jwks_url answers is no key set: {0}")]
    Invalid(&'static str),
}

impl KeySetUrl {
    /// Fetches the key set once, as an AS does. No credential is sent, no redirect followed, and no byte of the answer kept but ids.
    ///
    /// # Errors
    ///
    /// [`KeySetError`].
    pub async fn fetch(&self) -> Result<PublishedKeys, KeySetError> {
        let request = self.request()?;
        let transport = Transport::new(self.dialer.clone());
        let exchange = async {
            let response = transport.oneshot(request).await?;
            read_body(response).await
        };
        let response = match timeout(self.dialer.timeout, exchange).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(KeySetError::of(&error)),
            Err(_elapsed) => return Err(KeySetError::Timeout),
        };
        if response.status() != StatusCode::OK {
            return Err(KeySetError::Status(response.status().as_u16()));
        }
        PublishedKeys::parse(response.body())
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, KeySetError> {
        let host = HeaderValue::try_from(self.dialer.origin.authority())
            .map_err(|_| KeySetError::Invalid("its host is no field value"))?;
        let headers = HeaderMap::from_iter([
            (HOST, host),
            (
                USER_AGENT,
                HeaderValue::from_static(concat!("bursar/", env!("CARGO_PKG_VERSION"))),
            ),
            (
                ACCEPT,
                HeaderValue::from_static("application/jwk-set+json, application/json"),
            ),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (CONNECTION, HeaderValue::from_static("close")),
        ]);
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl KeySetError {
    fn of(error: &BoxError) -> Self {
        let cause = error
            .downcast_ref::<ExchangeError>()
            .map_or(Cause::Unreachable(Unreachable::Reset), ExchangeError::cause);
        match cause {
            Cause::Unreachable(at) => Self::Unreachable(at),
            Cause::Timeout(_) => Self::Timeout,
            Cause::InvalidResponse(what) => Self::Invalid(what),
            _ => Self::Unreachable(Unreachable::Reset),
        }
    }
}

impl PublishedKeys {
    /// Reads a key set. Keys that are of no use to us (no `kid`) are passed over, as an AS passes over them.
    fn parse(body: &[u8]) -> Result<Self, KeySetError> {
        let set: Value =
            serde_json::from_slice(body).map_err(|_| KeySetError::Invalid("it is not JSON"))?;
        let keys = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::Invalid("it has no `keys`"))?;
        let mut found = Self::default();
        for key in keys.iter().filter_map(Value::as_object) {
            found.has_private_members |= PRIVATE_MEMBERS
                .iter()
                .any(|member| key.contains_key(*member));
            if let Some(kid) = key.get("kid").and_then(Value::as_str) {
                found.kids.insert(kid.to_owned());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::dial::{Origin, Way};

    fn url(port: u16, limit: Duration) -> KeySetUrl {
        KeySetUrl {
            dialer: Dialer {
                origin: Origin {
                    tls: false,
                    host: "127.0.0.1".into(),
                    port,
                },
                tls: None,
                timeout: limit,
                way: Way::Direct,
            },
            path: "/.well-known/jwks.json?x=1".parse().unwrap(),
        }
    }

    /// What comes of a server that answers `answer` and hangs up, and what it was asked.
    async fn fetched(answer: &str) -> (Result<PublishedKeys, KeySetError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url(
            listener.local_addr().unwrap().port(),
            Duration::from_secs(5),
        );
        let answer = answer.to_owned();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url.fetch().await, server.await.unwrap())
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn the_ids_of_the_published_keys_are_read_and_nothing_is_sent_but_the_question() {
        let (found, asked) = fetched(&ok(
            r#"{"keys":[{"kty":"OKP","kid":"a"},{"kty":"OKP"},{"kty":"RSA","kid":"b"},7]}"#,
        ))
        .await;
        let found = found.unwrap();
        assert_eq!(found.kids, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(!found.has_private_members);
        assert!(asked.starts_with("GET /.well-known/jwks.json?x=1 HTTP/1.1\r\n"));
        let asked = asked.to_ascii_lowercase();
        assert!(!asked.contains("authorization") && !asked.contains("cookie"));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let answer = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetched(answer).await.0, Err(KeySetError::Status(302)));
    }

    #[tokio::test]
    async fn what_is_no_key_set_is_told() {
        for body in ["<html>", "[]", "{}", r#"{"keys":{}}"#] {
            let (found, _) = fetched(&ok(body)).await;
            assert!(matches!(found, Err(KeySetError::Invalid(_))), "{body}");
        }
        let (found, _) = fetched("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{").await;
        assert_eq!(found, Err(KeySetError::Unreachable(Unreachable::Reset)));
        let (found, _) = fetched(&ok(&" ".repeat(300 * 1024))).await;
        assert!(matches!(found, Err(KeySetError::Invalid(_))));
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = url(port, Duration::from_millis(50)).fetch().await;
        assert_eq!(found, Err(KeySetError::Timeout));
        drop(listener);
        let found = url(port, Duration::from_secs(5)).fetch().await;
        assert_eq!(found, Err(KeySetError::Unreachable(Unreachable::Connect)));
    }

    #[test]
    fn a_private_half_that_is_published_is_noticed() {
        for member in PRIVATE_MEMBERS {
            let body = format!(r#"{{"keys":[{{"kid":"a","{member}":"x"}}]}}"#);
            let found = PublishedKeys::parse(body.as_bytes()).unwrap();
            assert!(found.has_private_members, "{member}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in ".*") {
            let _ = PublishedKeys::parse(body.as_bytes());
        }
    }
}
