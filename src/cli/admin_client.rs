//! Asks the admin sockets of a running bursar on this machine.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
    request,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::{
    secret::{AccessKeys, ExposeSecret},
    socket::{self, Address},
};

/// An answer takes milliseconds; who needs longer than this is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("this machine gives no runtime")]
    Runtime(#[source] io::Error),
    #[error("nothing answers at {0}")]
    Connect(Address, #[source] io::Error),
    #[error("no answer from {0} within {TIMEOUT:?}")]
    Timeout(Address),
    #[error("what answers at {0} does not speak HTTP as bursar does")]
    Http(Address, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends `GET path` to the socket that is configured as `address`.
pub(super) fn get(address: impl Into<Address>, path: &'static str) -> Result<Answer, CallError> {
    call(&address.into(), Request::get(path))
}

/// Sends `POST path` with the control key to `admin.control`.
pub(super) fn post(
    control: impl Into<Address>,
    path: &'static str,
    key: Option<&AccessKeys>,
) -> Result<Answer, CallError> {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        let value = HeaderValue::from_str(key.first().expose_secret()).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        request = match value {
            Ok(value) => request.header("bursar-control", value),
            // What cannot be sent is no key, and was refused when the configuration was read.
            Err(_) => request,
        };
    }
    call(&control.into(), request)
}

fn call(address: &Address, request: request::Builder) -> Result<Answer, CallError> {
    let address = address.to_reach();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CallError::Runtime)?
        .block_on(async {
            timeout(TIMEOUT, exchange(&address, request))
                .await
                .unwrap_or_else(|_elapsed| Err(CallError::Timeout(address.clone())))
        })
}

async fn exchange(address: &Address, request: request::Builder) -> Result<Answer, CallError> {
    let stream = socket::connect(address)
        .await
        .map_err(|error| CallError::Connect(address.clone(), error))?;
    let wrong =
        |error: Box<dyn std::error::Error + Send + Sync>| CallError::Http(address.clone(), error);
    // A Unix socket has no name of its own; bursar takes the one of this machine.
    let host = address
        .tcp()
        .map_or_else(|| "localhost".to_owned(), |address| address.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| wrong(error.into()))?;
    let request = request
        .header(HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| wrong(error.into()))?;
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| wrong(error.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(wrong)?
            .to_bytes();
        Ok(Answer { status, body })
    };
    // The connection moves the bytes; it ends when the answer is complete.
    let (answer, _) = tokio::join!(answered, connection);
    answer
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    /// Accepts one connection on an address and says `answer` there.
    fn peer(address: &str, answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, peer)
    }

    #[test]
    fn an_answer_is_read_whatever_its_status() {
        let (address, peer) = peer(
            "127.0.0.1:0",
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwait",
        );
        let answer = get(address, "/readyz").unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body, "wait");
        let request = peer.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}")), "{request}");
    }

    #[test]
    fn a_post_shows_the_control_key() {
        let (address, peer) = peer(
            "127.0.0.1:0",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
        let keys = AccessKeys::parse("new-0123456789abcdef\nold-0123456789abcdef").unwrap();
        let answer = post(address, "/-/reload", Some(&keys)).unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let request = peer.join().unwrap();
        assert!(
            request.starts_with("POST /-/reload HTTP/1.1\r\n"),
            "{request}"
        );
        for field in [
            "content-type: application/json\r\n",
            "bursar-control: new-0123456789abcdef\r\n",
        ] {
            assert!(request.contains(field), "{request}");
        }
    }

    #[test]
    fn a_socket_on_every_address_is_asked_by_loopback() {
        let (address, _peer) = peer("0.0.0.0:0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(address.ip().is_unspecified());
        assert_eq!(get(address, "/livez").unwrap().status, StatusCode::OK);
    }

    #[test]
    fn a_unix_socket_is_asked_by_the_name_of_this_machine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let address = Address::Unix(path.into());
        let answer = get(address, "/api/v1/status").unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let request = peer.join().unwrap();
        assert!(request.contains("host: localhost\r\n"), "{request}");
    }

    #[test]
    fn a_closed_port_is_told_with_its_address() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = get(address, "/livez").unwrap_err();
        assert_eq!(error.to_string(), format!("nothing answers at {address}"));
    }

    #[test]
    fn something_else_on_the_port_is_told_apart() {
        let (address, _peer) = peer("127.0.0.1:0", "220 mail.example.edu ESMTP\r\n");
        assert!(matches!(get(address, "/livez"), Err(CallError::Http(..))));
    }
}
