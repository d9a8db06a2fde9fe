//! The client against an LMS on a raw socket.

mod back_pressure;
mod bad_answers;
mod ceiling;
mod early_end;
mod http2;
mod idleness;
mod messages;
mod resending;
mod reuse;
mod timeouts;

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    join,
    task::spawn_local,
};

use super::{
    testing::{Lms, Peer, application, soon},
    *,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn request(method: Method, body: RequestBody) -> Request<RequestBody> {
    Request::builder()
        .method(method)
        .uri("/d2l/api")
        .header("host", "lms")
        .body(body)
        .unwrap()
}

fn get() -> Request<RequestBody> {
    request(Method::GET, RequestBody::buffered(Bytes::new()))
}

fn post(body: &'static str) -> Request<RequestBody> {
    request(Method::POST, RequestBody::buffered(Bytes::from(body)))
}

impl UpstreamClient {
    /// Sends it as it is.
    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let parts = (request.method().clone(), request.uri().clone());
        let bytes = request.body().at_hand();
        let again = || {
            let (method, uri) = parts.clone();
            let mut again = Request::new(RequestBody::buffered(bytes.clone()?));
            *again.method_mut() = method;
            *again.uri_mut() = uri;
            Some(again)
        };
        self.send_with(request, async |_| Ok(()), again).await
    }
}

/// Puts a connection into the hands of a request, as if it had been opened for it.
async fn adopt(client: &UpstreamClient, connection: Connection) -> Link {
    let soon = Instant::now() + Duration::from_secs(60);
    let Lease::Right(right) = Pool::acquire(&client.pool, Want::Any, soon).await.unwrap() else {
        panic!("there is a connection already");
    };
    Link::Own(right.put(connection))
}

async fn text(response: Response<UpstreamBody>) -> Result<String, UpstreamError> {
    let whole = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(whole.to_vec()).unwrap())
}

/// A GET answered with `answer` on a new connection, and that connection.
async fn first(
    lms: &Lms,
    client: &UpstreamClient,
    answer: &str,
) -> (Result<Response<UpstreamBody>, UpstreamError>, Peer) {
    let serve = async {
        let mut peer = lms.accept().await;
        peer.answer(answer).await;
        peer
    };
    join!(client.send(get()), serve)
}

/// A client with one idle connection, and that connection.
async fn warm(lms: &Lms) -> (Rc<UpstreamClient>, Peer) {
    let client = lms.client();
    let (response, peer) = first(lms, &client, OK).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    lms.settles_at(1, 0).await;
    (client, peer)
}

/// Answers every request on `peer` with `OK`.
async fn serve(mut peer: Peer) {
    let mut head = Vec::new();
    while let Ok(byte) = peer.stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            peer.write(OK).await;
        }
    }
}

struct Upload {
    request: Request<RequestBody>,
    application: testing::Application,
}

async fn upload(method: Method, fields: &str) -> Upload {
    let (rest, application) = application(fields).await;
    let idle = Duration::from_secs(20);
    let body = RequestBody::streaming(Bytes::new(), rest, None, idle);
    Upload {
        request: request(method, body),
        application,
    }
}
