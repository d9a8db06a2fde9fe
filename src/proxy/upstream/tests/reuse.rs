//! Which connection serves a request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

#[tokio::test(flavor = "local")]
async fn a_hundred_requests_in_a_row_use_one_connection() {
    let lms = Lms::start().await;
    let (client, peer) = warm(&lms).await;
    spawn_local(serve(peer));
    for _ in 0..100 {
        let response = soon(client.send(get())).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
    }
    assert!(lms.is_left_alone().await);
    assert_eq!(lms.metric("connects_total{result=\"success\"}"), "1");
    assert_eq!(lms.metric("response_duration_seconds_count"), "101");
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn the_connection_used_last_is_used_next() {
    let lms = Lms::start().await;
    let (client, mut older) = warm(&lms).await;
    let (held, ()) = join!(client.send(get()), older.answer(OK));
    let (newer, mut peer) = first(&lms, &client, OK).await;
    text(held.unwrap()).await.unwrap();
    text(newer.unwrap()).await.unwrap();
    lms.settles_at(2, 0).await;
    let (response, ()) = join!(client.send(get()), peer.answer(OK));
    assert!(response.is_ok());
}

/// Puts `count` connections into the pool of which each turns out to be closed when a request
/// is about to be written to it.
async fn closed_unnoticed(client: &UpstreamClient, count: usize) {
    let never = Instant::now() + Duration::from_secs(60);
    let closed = Rc::new(Cell::new(false));
    let mut open = vec![];
    for _ in 0..count {
        let stream = Unnoticed(Rc::clone(&closed));
        let connection = Connection::open(stream, never, || {}).await.unwrap();
        open.push(adopt(client, connection).await);
    }
    // Their tasks have to run once before they are ready.
    tokio::task::yield_now().await;
    open.into_iter().for_each(Link::give_back);
    closed.set(true);
}

/// A stream that says nothing of its end until it is asked.
struct Unnoticed(Rc<Cell<bool>>);

impl AsyncRead for Unnoticed {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.get() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

impl AsyncWrite for Unnoticed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("nothing may be written to a connection that is closed");
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_the_lms_closed_is_replaced() {
    for request in [get(), post("a")] {
        let lms = Lms::start().await;
        let (client, peer) = warm(&lms).await;
        drop(peer);
        lms.settles_at(0, 0).await;
        let serve = async { lms.accept().await.answer(OK).await };
        let (response, ()) = join!(client.send(request), serve);
        assert_eq!(response.unwrap().status(), 200);
        assert_eq!(lms.retries("unsent"), "0");
    }
}

#[tokio::test(flavor = "local")]
async fn a_close_that_crosses_a_request_is_unseen_whatever_the_method() {
    for request in [get(), post("a")] {
        let lms = Lms::start().await;
        let client = lms.client();
        closed_unnoticed(&client, 1).await;
        let serve = async { lms.accept().await.answer(OK).await };
        let (response, ()) = join!(client.send(request), serve);
        assert_eq!(response.unwrap().status(), 200);
        assert_eq!(lms.retries("unsent"), "1");
        assert_eq!(lms.errors("reset"), "0");
    }
}

#[tokio::test(flavor = "local")]
async fn a_streaming_upload_survives_a_close_that_crosses_it() {
    let lms = Lms::start().await;
    let client = lms.client();
    let mut upload = upload(Method::POST, "Content-Length: 3\r\n\r\n").await;
    closed_unnoticed(&client, 1).await;
    let serve = async {
        let mut peer = lms.accept().await;
        peer.head().await;
        upload.application.write_all(b"abc").await.unwrap();
        assert_eq!(peer.read(3).await, "abc");
        peer.write(OK).await;
    };
    let (response, ()) = join!(client.send(upload.request), serve);
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(lms.retries("unsent"), "1");
}

#[tokio::test(flavor = "local")]
async fn after_two_more_closed_connections_a_new_one_is_opened() {
    let lms = Lms::start().await;
    let client = lms.client();
    closed_unnoticed(&client, 4).await;
    let serve = async { lms.accept().await.answer(OK).await };
    let (response, ()) = join!(client.send(post("a")), serve);
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(lms.retries("unsent"), "3");
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_not_used_again_after_an_unfinished_or_doubtful_exchange() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
    ] {
        let lms = Lms::start().await;
        let client = lms.client();
        let (response, mut peer) = first(&lms, &client, answer).await;
        assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
        peer.closed().await;
        lms.settles_at(0, 0).await;
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_before_the_end_of_the_upload_ends_the_connection() {
    let lms = Lms::start().await;
    let client = lms.client();
    let upload = upload(Method::POST, "Content-Length: 3\r\n\r\n").await;
    let serve = async {
        let mut peer = lms.accept().await;
        peer.answer("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        peer
    };
    let (response, mut peer) = join!(client.send(upload.request), serve);
    assert_eq!(response.unwrap().status(), 413);
    assert_eq!(peer.closed().await, "");
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn an_answer_without_a_body_frees_the_connection_at_once() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let lms = Lms::start().await;
        let (response, _peer) = first(&lms, &lms.client(), answer).await;
        lms.settles_at(0, 0).await;
        drop(response);
        let client = lms.client();
        let (response, _peer) = first(&lms, &client, answer).await;
        lms.settles_at(1, 0).await;
        drop(response);
    }
}
