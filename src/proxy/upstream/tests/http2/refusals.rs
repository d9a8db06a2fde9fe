//! What is sent again over HTTP/2, and what never is.

use super::*;

#[tokio::test(flavor = "local")]
async fn a_refused_request_is_sent_again_whatever_the_method() {
    for request in [get(), post("abc")] {
        let lms = lms().await;
        let client = lms.client();
        let request = sending(&client, request);
        let mut peer = FramePeer::accept(&lms, &[]).await;
        for _ in 0..2 {
            let (stream, _) = peer.request().await;
            peer.reset(stream, REFUSED_STREAM).await;
        }
        let (stream, body) = peer.request().await;
        peer.answer(stream, &body).await;
        let answer = soon(request).await.unwrap().unwrap();
        assert!(["", "abc"].contains(&answer.as_str()));
        assert_eq!(lms.retries("refused"), "2");
        lms.settles_at(1, 0).await;
    }
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_refuses_for_ever_is_an_error() {
    let lms = lms().await;
    let client = lms.client();
    let request = sending(&client, post("abc"));
    let mut peer = FramePeer::accept(&lms, &[]).await;
    for _ in 0..3 {
        let (stream, _) = peer.request().await;
        peer.reset(stream, REFUSED_STREAM).await;
    }
    let error = soon(request).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    assert_eq!(lms.errors("reset"), "1");
    assert_eq!(lms.retries("refused"), "2");
}

#[tokio::test(flavor = "local")]
async fn a_refused_upload_that_was_streaming_is_an_error() {
    let lms = lms().await;
    let client = lms.client();
    let mut upload = upload(Method::PUT, "Content-Length: 9\r\n\r\n").await;
    upload.application.write_all(b"abc").await.unwrap();
    let request = sending(&client, upload.request);
    let mut peer = FramePeer::accept(&lms, &[]).await;
    let stream = loop {
        if let Event::Piece { stream, .. } = peer.event().await {
            break stream;
        }
    };
    peer.reset(stream, REFUSED_STREAM).await;
    let error = soon(request).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    assert_eq!(lms.retries("refused"), "0");
}

#[tokio::test(flavor = "local")]
async fn a_reset_for_any_other_reason_is_never_sent_again() {
    for request in [get(), post("abc")] {
        let lms = lms().await;
        let (client, mut peer) = warm(&lms).await;
        let request = sending(&client, request);
        let (stream, _) = peer.request().await;
        peer.reset(stream, INTERNAL_ERROR).await;
        let error = soon(request).await.unwrap().unwrap_err();
        assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
        for reason in ["refused", "reset", "unsent"] {
            assert_eq!(lms.retries(reason), "0");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_goaway_sends_the_later_requests_elsewhere_and_lets_the_earlier_ones_finish() {
    let lms = lms().await;
    let (client, mut old) = warm(&lms).await;
    let requests: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|body| (body, sending(&client, post(body))))
        .collect();
    let mut streams = vec![];
    for _ in 0..4 {
        streams.push(old.request().await);
    }
    old.go_away(streams[1].0).await;
    let mut new = FramePeer::accept(&lms, &[]).await;
    for _ in 0..2 {
        let (stream, body) = new.request().await;
        new.answer(stream, &body).await;
    }
    // Another one does not go to the old connection either, though that is still open.
    let later = sending(&client, post("e"));
    let (stream, body) = new.request().await;
    new.answer(stream, &body).await;
    assert_eq!(soon(later).await.unwrap().unwrap(), "e");
    for (stream, body) in &streams[..2] {
        old.answer(*stream, body).await;
    }
    for (body, request) in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), body);
    }
    assert_eq!(lms.retries("refused"), "2");
    assert_eq!(lms.retries("unsent"), "0");
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_request_that_meets_a_goaway_goes_elsewhere_unsent() {
    let lms = lms().await;
    let (client, mut old) = warm(&lms).await;
    let held = sending(&client, get());
    let (stream, _) = old.request().await;
    old.go_away(stream).await;
    // Until a request is given to it, hyper does not tell that the connection takes none.
    let request = sending(&client, post("abc"));
    let mut new = FramePeer::accept(&lms, &[]).await;
    let (other, body) = new.request().await;
    new.answer(other, &body).await;
    assert_eq!(soon(request).await.unwrap().unwrap(), "abc");
    old.answer(stream, b"ok").await;
    assert_eq!(soon(held).await.unwrap().unwrap(), "ok");
    assert_eq!(lms.errors("reset"), "0");
}

#[tokio::test(flavor = "local")]
async fn a_get_lost_with_its_connection_is_sent_once_more_and_a_post_is_not() {
    let lms = lms().await;
    let (client, mut old) = warm(&lms).await;
    let lost_get = sending(&client, get());
    let lost_post = sending(&client, post("abc"));
    old.request().await;
    old.request().await;
    drop(old);
    let mut new = FramePeer::accept(&lms, &[]).await;
    let (stream, body) = new.request().await;
    assert!(body.is_empty());
    new.answer(stream, b"ok").await;
    assert_eq!(soon(lost_get).await.unwrap().unwrap(), "ok");
    let error = soon(lost_post).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    assert_eq!(lms.retries("reset"), "1");
}

#[tokio::test(flavor = "local")]
async fn a_get_lost_twice_is_an_error_though_the_second_connection_was_shared() {
    let lms = lms().await;
    let (client, mut old) = warm(&lms).await;
    let lost = sending(&client, get());
    old.request().await;
    drop(old);
    let mut new = FramePeer::accept(&lms, &[]).await;
    new.request().await;
    drop(new);
    let error = soon(lost).await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    assert!(lms.is_left_alone().await);
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_demands_http_1_gets_it_from_then_on() {
    let lms = lms().await;
    let (client, mut peer) = warm(&lms).await;
    client.http2.set(Http2::Auto);
    let asked = sending(&client, get());
    let (stream, _) = peer.request().await;
    peer.reset(stream, HTTP_1_1_REQUIRED).await;
    lms.accept().await.answer(OK).await;
    assert_eq!(soon(asked).await.unwrap().unwrap(), "ok");
    assert_eq!(client.http2.get(), Http2::Never);
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_post_over_the_wrong_version_is_not_sent_again_and_a_get_only_if_http_1_is_allowed() {
    for (mode, request) in [(Http2::Auto, post("abc")), (Http2::Only, get())] {
        let lms = lms().await;
        let (client, mut peer) = warm(&lms).await;
        client.http2.set(mode);
        let asked = sending(&client, request);
        let (stream, _) = peer.request().await;
        peer.reset(stream, HTTP_1_1_REQUIRED).await;
        let error = soon(asked).await.unwrap().unwrap_err();
        assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
        assert!(lms.is_left_alone().await);
    }
}
