//! How many connections there are, and which requests share one.

use super::*;

#[tokio::test(flavor = "local")]
async fn a_hundred_requests_at_once_share_one_connection() {
    let lms = lms().await;
    let client = lms.client();
    let requests: Vec<_> = (0..100).map(|_| sending(&client, get())).collect();
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let mut streams = vec![];
    for _ in 0..100 {
        streams.push(peer.request().await.0);
    }
    // All of them are under way before the first is answered.
    lms.settles_at(0, 1).await;
    for stream in streams {
        peer.answer(stream, b"ok").await;
    }
    for request in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    assert!(lms.is_left_alone().await);
    assert_eq!(lms.metric("connects_total{result=\"success\"}"), "1");
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_takes_one_request_per_connection_gets_one() {
    let mut lms = lms().await;
    lms.params.max_connections = 2;
    let (client, mut first) = warm_with(&lms, &[(MAX_STREAMS, 1)]).await;
    let requests: Vec<_> = (0..3).map(|_| sending(&client, get())).collect();
    let (stream, _) = first.request().await;
    let mut second = FramePeer::accept(&lms, &[(MAX_STREAMS, 1)]).await;
    let (other, _) = second.request().await;
    lms.settles_at(0, 2).await;
    assert!(lms.is_left_alone().await);
    second.answer(other, b"ok").await;
    let (third, _) = second.request().await;
    second.answer(third, b"ok").await;
    first.answer(stream, b"ok").await;
    for request in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    lms.settles_at(2, 0).await;
}

#[tokio::test(flavor = "local")]
async fn nobody_gets_more_than_a_hundred_requests_on_one_connection() {
    let lms = lms().await;
    let (client, mut first) = warm_with(&lms, &[(MAX_STREAMS, 1_000)]).await;
    let requests: Vec<_> = (0..101).map(|_| sending(&client, get())).collect();
    let mut second = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = second.request().await;
    second.answer(stream, b"ok").await;
    for _ in 0..100 {
        let (stream, _) = first.request().await;
        first.answer(stream, b"ok").await;
    }
    for request in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
}

#[tokio::test(flavor = "local")]
async fn those_who_wait_for_a_connection_that_fails_each_learn_why() {
    let mut lms = lms().await;
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    lms.params.dialer.origin.port = silent.local_addr().unwrap().port();
    let client = lms.client();
    let requests: Vec<_> = (0..3).map(|_| sending(&client, get())).collect();
    for request in requests {
        let error = soon(request).await.unwrap().unwrap_err();
        assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");
    }
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn those_who_wait_for_a_connection_that_never_opens_are_told_of_a_timeout() {
    let mut lms = lms().await;
    lms.params.dialer.origin.tls = true;
    lms.params.dialer.tls = Some(crate::tls::client_config(&crate::tls::Trust::default()).unwrap());
    lms.params.dialer.timeout = Duration::from_millis(300);
    let client = lms.client();
    let requests: Vec<_> = (0..3).map(|_| sending(&client, get())).collect();
    let _silent = lms.accept().await;
    for request in requests {
        let error = soon(request).await.unwrap().unwrap_err();
        assert!(matches!(error, UpstreamError::Timeout(_)), "{error:?}");
    }
    assert_eq!(lms.errors("saturated"), "0");
}

#[tokio::test(flavor = "local")]
async fn who_opens_a_connection_and_leaves_lets_the_next_one_open_it() {
    let lms = lms().await;
    let client = lms.client();
    let gone = sending(&client, get());
    let next = sending(&client, get());
    tokio::task::yield_now().await;
    gone.abort();
    let serve = async {
        loop {
            // The one that was given up may have got as far as this.
            let peer = lms.accept().await.stream;
            let Some(mut peer) = FramePeer::try_start(peer, &[]).await else {
                continue;
            };
            if let Event::Request { stream, .. } = peer.event().await {
                peer.answer(stream, b"ok").await;
                return peer;
            }
        }
    };
    let _peer = soon(serve).await;
    assert_eq!(soon(next).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn a_shared_connection_idle_for_too_long_is_closed_with_a_goodbye() {
    let mut lms = lms().await;
    lms.params.pool_idle_timeout = Duration::from_millis(300);
    let (_client, mut peer) = warm(&lms).await;
    assert_eq!(peer.event().await, Event::End);
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_shared_connection_from_before_a_suspend_is_not_used_again() {
    let lms = lms().await;
    let (client, mut forgotten) = warm(&lms).await;
    // One request is still on it when the machine goes to sleep, and one when it is awake again.
    let held = sending(&client, get());
    forgotten.request().await;
    lms.clock.suspend(2 * lms.params.pool_idle_timeout);
    let request = sending(&client, get());
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    held.abort();
}

#[tokio::test(flavor = "local")]
async fn a_shared_connection_that_the_lms_closes_is_forgotten() {
    let lms = lms().await;
    let (client, peer) = warm(&lms).await;
    drop(peer);
    lms.settles_at(0, 0).await;
    let request = sending(&client, get());
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn a_dropped_client_lets_the_requests_on_a_shared_connection_end() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let response = {
        let sent = client.send(get());
        let serve = async {
            let (stream, _) = peer.request().await;
            peer.answer_head(stream).await;
            stream
        };
        join!(sent, serve)
    };
    let (response, stream) = response;
    drop(client);
    peer.data(stream, b"whole", true).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "whole");
    assert_eq!(peer.event().await, Event::End);
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn plain_http_is_http_1_unless_http_2_is_demanded() {
    let mut lms = Lms::start().await;
    lms.params.http2 = Http2::Auto;
    let client = lms.client();
    let (response, _peer) = first(&lms, &client, OK).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
}

fn wants_to_switch() -> Request<RequestBody> {
    let mut request = get();
    let fields = request.headers_mut();
    fields.insert("connection", http::HeaderValue::from_static("upgrade"));
    fields.insert("upgrade", http::HeaderValue::from_static("websocket"));
    request
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test(flavor = "local")]
async fn who_wants_to_switch_protocols_gets_a_connection_over_http_1() {
    let mut lms = lms().await;
    lms.params.max_connections = 2;
    let (client, mut shared) = warm(&lms).await;
    let serve = async {
        let mut peer = lms.accept().await;
        peer.answer(SWITCHING).await;
        peer
    };
    let (response, _peer) = join!(client.send(wants_to_switch()), serve);
    assert_eq!(response.unwrap().status(), 101);
    // The others go on sharing.
    let request = sending(&client, get());
    let (stream, _) = shared.request().await;
    shared.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn an_idle_shared_connection_makes_room_for_one_that_switches() {
    let mut lms = lms().await;
    lms.params.max_connections = 1;
    let (client, mut shared) = warm(&lms).await;
    let serve = async {
        let mut peer = lms.accept().await;
        peer.answer(SWITCHING).await;
        peer
    };
    let (response, _peer) = join!(client.send(wants_to_switch()), serve);
    assert_eq!(response.unwrap().status(), 101);
    assert_eq!(shared.event().await, Event::End);
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn who_waits_to_switch_protocols_keeps_nobody_from_sharing() {
    let mut lms = lms().await;
    lms.params.max_connections = 1;
    let (client, mut shared) = warm_with(&lms, &[(MAX_STREAMS, 1)]).await;
    let first = sending(&client, get());
    let (stream, _) = shared.request().await;
    let switching = spawn_local({
        let client = Rc::clone(&client);
        async move { client.send(wants_to_switch()).await.is_ok() }
    });
    tokio::task::yield_now().await;
    let second = sending(&client, get());
    tokio::task::yield_now().await;
    shared.answer(stream, b"ok").await;
    assert_eq!(soon(first).await.unwrap().unwrap(), "ok");
    // Whoever of the two is first, both get their turn.
    let serve_switch = async {
        let mut peer = lms.accept().await;
        peer.answer(SWITCHING).await;
    };
    serve_switch.await;
    assert!(soon(switching).await.unwrap());
    let mut again = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = again.request().await;
    again.answer(stream, b"ok").await;
    assert_eq!(soon(second).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn a_shared_connection_past_its_age_takes_no_more_requests_and_lets_the_last_one_end() {
    let lms = lms().await;
    let client = lms.client();
    let port = lms.params.dialer.origin.port;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port));
    let stream = stream.await.unwrap();
    let connection =
        crate::proxy::upstream::http2::Connection::open(stream, client.target.clone(), |_| {});
    let connection = connection.await.unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let lease = Pool::acquire(&client.pool, Want::Any, soon).await.unwrap();
    let Lease::Right(right) = lease else {
        panic!("there is a connection already");
    };
    let place = right.share(connection, Instant::now());
    let mut old = FramePeer::accept(&lms, &[]).await;
    lms.settles_at(0, 1).await;
    let request = sending(&client, get());
    let mut new = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = new.request().await;
    new.answer(stream, b"ok").await;
    assert_eq!(request.await.unwrap().unwrap(), "ok");
    lms.settles_at(1, 1).await;
    drop(place);
    assert_eq!(old.event().await, Event::End);
    lms.settles_at(1, 0).await;
}
