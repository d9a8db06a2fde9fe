//! One HTTP/1.1 exchange over a connection of its own: how the mock reads key sets, and how demonstrations and tests
//! talk to local servers.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Sends `request` (its target in origin-form) to `authority`, `host:port`, without TLS, and reads the whole answer.
/// Host is filled in where the request has none. There is no timeout: wrap it.
///
/// # Errors
///
/// Connection or protocol failed, or the answer is larger than 4 MiB.
pub async fn exchange(
    authority: &str,
    mut request: Request<Full<Bytes>>,
) -> io::Result<Response<Bytes>> {
    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::from_str(authority).map_err(io::Error::other)?;
        request.headers_mut().insert(header::HOST, host);
    }
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends by itself when `sender` goes; what becomes of the connection shows in the answer.
    tokio::spawn(connection);
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(io::Error::other)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
