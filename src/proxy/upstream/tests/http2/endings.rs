//! Exchanges that do not come to their end, and what becomes of the others on the connection.

use super::*;

/// Another request on the same connection is answered.
async fn goes_on(client: &Rc<UpstreamClient>, peer: &mut FramePeer) {
    let request = sending(client, get());
    let (stream, _) = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn a_request_given_up_resets_its_stream_only() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let given_up = sending(&client, get());
    let (stream, _) = peer.request().await;
    given_up.abort();
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    goes_on(&client, &mut peer).await;
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn who_gives_up_again_and_again_costs_nobody_else_the_connection() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let others = sending(&client, get());
    let (other, _) = peer.request().await;
    for _ in 0..25 {
        let given_up = sending(&client, get());
        let (stream, _) = peer.request().await;
        given_up.abort();
        assert_eq!(peer.reset_of(stream).await, CANCEL);
    }
    let next = sending(&client, get());
    let mut successor = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = successor.request().await;
    successor.answer(stream, b"ok").await;
    assert_eq!(soon(next).await.unwrap().unwrap(), "ok");
    peer.answer(other, b"as if nothing had been").await;
    assert_eq!(
        soon(others).await.unwrap().unwrap(),
        "as if nothing had been"
    );
    assert_eq!(peer.event().await, Event::End);
    lms.settles_at(1, 0).await;
    goes_on(&client, &mut successor).await;
}

#[tokio::test(flavor = "local")]
async fn a_worn_connection_with_nothing_on_it_closes_at_once() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let given_up: Vec<_> = (0..30).map(|_| sending(&client, get())).collect();
    for _ in 0..30 {
        peer.request().await;
    }
    for request in given_up {
        request.abort();
    }
    while peer.event().await != Event::End {}
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_body_dropped_early_resets_its_stream_only() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        let (stream, _) = peer.request().await;
        peer.answer_head(stream).await;
        peer.data(stream, b"ab", false).await;
        stream
    };
    let (response, stream) = join!(client.send(get()), serve);
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    goes_on(&client, &mut peer).await;
}

#[tokio::test(flavor = "local")]
async fn a_body_that_breaks_off_is_an_error_and_never_a_success() {
    // hyper takes the second for an early, but whole answer.
    for code in [INTERNAL_ERROR, NO_ERROR] {
        let lms = lms().await;
        let (client, mut peer) = warm(&lms).await;
        let serve = async {
            let (stream, _) = peer.request().await;
            peer.answer_head(stream).await;
            peer.data(stream, b"ab", false).await;
            stream
        };
        let (response, stream) = join!(client.send(get()), serve);
        peer.reset(stream, code).await;
        let error = text(response.unwrap()).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::Reset(_) | UpstreamError::Incomplete),
            "{error:?}"
        );
        assert_eq!(lms.errors("reset"), "1");
        goes_on(&client, &mut peer).await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_body_cut_with_its_connection_is_an_error() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        let (stream, _) = peer.request().await;
        peer.answer_head(stream).await;
        peer.data(stream, b"ab", false).await;
    };
    let (response, ()) = join!(client.send(get()), serve);
    drop(peer);
    let error = text(response.unwrap()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_opens_no_window_loses_the_upload_and_nothing_else() {
    let mut lms = lms().await;
    lms.params.idle_timeout = Duration::from_millis(300);
    let (client, mut peer) = warm_with(&lms, &[(WINDOW, 0)]).await;
    let mut upload = upload(Method::PUT, "Content-Length: 9\r\n\r\n").await;
    upload.application.write_all(b"abcd").await.unwrap();
    let request = sending(&client, upload.request);
    let Event::Head { stream, .. } = peer.event().await else {
        panic!("no upload");
    };
    goes_on(&client, &mut peer).await;
    let error = soon(request).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Timeout(_)), "{error:?}");
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    goes_on(&client, &mut peer).await;
}

#[tokio::test(flavor = "local")]
async fn an_upload_that_nobody_waits_for_any_more_ends_though_the_window_is_closed() {
    let lms = lms().await;
    let (client, mut peer) = warm_with(&lms, &[(WINDOW, 0)]).await;
    let mut upload = upload(Method::PUT, "Content-Length: 4\r\n\r\n").await;
    upload.application.write_all(b"abcd").await.unwrap();
    let request = sending(&client, upload.request);
    let Event::Head { stream, .. } = peer.event().await else {
        panic!("no upload");
    };
    // The LMS has made up its mind without reading.
    peer.answer(stream, b"no").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "no");
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    goes_on(&client, &mut peer).await;
}

#[tokio::test(flavor = "local")]
async fn an_application_that_breaks_its_body_resets_its_stream_only() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    let mut upload = upload(Method::POST, "Transfer-Encoding: chunked\r\n\r\n").await;
    upload
        .application
        .write_all(b"2\r\nab\r\nzz\r\n")
        .await
        .unwrap();
    let request = sending(&client, upload.request);
    let Event::Head { stream, .. } = peer.event().await else {
        panic!("no upload");
    };
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    let error = soon(request).await.unwrap().unwrap_err();
    assert!(
        matches!(error, UpstreamError::Body(BodyFault::Framing)),
        "{error:?}"
    );
    goes_on(&client, &mut peer).await;
    assert_eq!(lms.errors("reset"), "0");
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_is_slow_with_one_answer_loses_that_one() {
    let mut lms = lms().await;
    lms.params.response_timeout = Duration::from_millis(300);
    let (client, mut peer) = warm(&lms).await;
    let slow = sending(&client, get());
    let (stream, _) = peer.request().await;
    goes_on(&client, &mut peer).await;
    let error = soon(slow).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Timeout(_)), "{error:?}");
    assert_eq!(peer.reset_of(stream).await, CANCEL);
    goes_on(&client, &mut peer).await;
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_said_nothing_while_a_request_waited_gets_no_more() {
    let mut lms = lms().await;
    lms.params.response_timeout = Duration::from_millis(300);
    let (client, mut dead) = warm(&lms).await;
    let lost = sending(&client, get());
    dead.request().await;
    let error = soon(lost).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Timeout(_)), "{error:?}");
    let request = sending(&client, get());
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let (stream, _) = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn a_head_beyond_the_limits_is_refused_and_the_connection_lives() {
    // A field `a: b` that is not put into the table (RFC 7541 section 6.2.2).
    let field = [0x00, 0x01, b'a', 0x01, b'b'];
    let many: Vec<u8> = std::iter::once(0x88)
        .chain(field.iter().copied().cycle().take(field.len() * 101))
        .collect();
    // `connection: x`.
    let forbidden = b"\x88\x00\x0aconnection\x01x".to_vec();
    for block in [many, forbidden] {
        let lms = lms().await;
        let (client, mut peer) = warm(&lms).await;
        let request = sending(&client, get());
        let (stream, _) = peer.request().await;
        peer.head(stream, &block).await;
        let error = soon(request).await.unwrap().unwrap_err();
        assert!(matches!(error, UpstreamError::Protocol(_)), "{error:?}");
        assert_eq!(lms.errors("protocol"), "1");
        goes_on(&client, &mut peer).await;
    }
}

#[tokio::test(flavor = "local")]
async fn what_is_no_http_2_is_a_protocol_error() {
    let lms = lms().await;
    let client = lms.client();
    let request = sending(&client, get());
    let mut peer = lms.accept().await;
    peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        .await;
    let error = soon(request).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Protocol(_)), "{error:?}");
}

#[tokio::test(flavor = "local")]
async fn a_credential_goes_out_as_a_field_that_no_table_may_hold() {
    let lms = lms().await;
    let client = lms.client();
    let mut request = post("abc");
    let mut token = http::HeaderValue::from_static("Bearer t");
    token.set_sensitive(true);
    request.headers_mut().insert("authorization", token);
    let request = sending(&client, request);
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let Event::Head { stream, block } = peer.event().await else {
        panic!("no request");
    };
    // A literal that is never indexed, its name being the 23rd of the static table (RFC 7541 section 6.2.3).
    let never_indexed = [0x1f, 0x08];
    assert!(
        block.windows(2).any(|window| window == never_indexed),
        "{block:x?}"
    );
    peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
}
