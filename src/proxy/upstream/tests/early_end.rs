//! Exchanges that do not come to their end.

use super::*;

#[tokio::test(flavor = "local")]
async fn a_request_given_up_closes_its_connection() {
    let lms = Lms::start().await;
    let client = lms.client();
    let sending = spawn_local({
        let client = Rc::clone(&client);
        async move { client.send(get()).await.is_ok() }
    });
    let mut peer = lms.accept().await;
    peer.head().await;
    sending.abort();
    assert_eq!(peer.closed().await, "");
    lms.settles_at(0, 0).await;
    assert_eq!(lms.errors("reset"), "0");
}

#[tokio::test(flavor = "local")]
async fn a_body_dropped_early_closes_its_connection() {
    let lms = Lms::start().await;
    let client = lms.client();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    let (response, mut peer) = first(&lms, &client, answer).await;
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(peer.closed().await, "");
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_truncated_body_is_an_error_and_never_a_success() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab",
    ] {
        let lms = Lms::start().await;
        let client = lms.client();
        let (response, peer) = first(&lms, &client, answer).await;
        drop(peer);
        let error = text(response.unwrap()).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
        assert_eq!(lms.errors("reset"), "1");
        lms.settles_at(0, 0).await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_malformed_chunk_from_the_lms_is_a_protocol_error() {
    let lms = Lms::start().await;
    let client = lms.client();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n";
    let (response, _peer) = first(&lms, &client, answer).await;
    let error = text(response.unwrap()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Protocol(_)), "{error:?}");
}

#[tokio::test(flavor = "local")]
async fn an_application_that_breaks_its_body_leaves_the_lms_without_a_last_chunk() {
    let cases = [
        ("zz\r\n", false, BodyFault::Framing),
        ("", true, BodyFault::Aborted),
    ];
    for (chunk, leaves, expected) in cases {
        let lms = Lms::start().await;
        let client = lms.client();
        let upload = upload(Method::POST, "Transfer-Encoding: chunked\r\n\r\n").await;
        let mut application = upload.application;
        let serve = async {
            let mut peer = lms.accept().await;
            assert!(peer.head().await.contains("transfer-encoding: chunked\r\n"));
            application.write_all(b"2\r\nab\r\n").await.unwrap();
            assert_eq!(peer.read(7).await, "2\r\nab\r\n");
            application.write_all(chunk.as_bytes()).await.unwrap();
            let application = (!leaves).then_some(application);
            assert_eq!(peer.closed().await, "");
            drop(application);
        };
        let (response, ()) = join!(client.send(upload.request), serve);
        let error = response.unwrap_err();
        assert!(matches!(error, UpstreamError::Body(fault) if fault == expected));
        for kind in ["reset", "protocol", "timeout"] {
            assert_eq!(lms.errors(kind), "0");
        }
        lms.settles_at(0, 0).await;
    }
}

#[tokio::test(flavor = "local")]
async fn an_application_that_leaves_while_the_answer_comes_is_to_blame_for_its_end() {
    let lms = Lms::start().await;
    let client = lms.client();
    let upload = upload(Method::POST, "Content-Length: 9\r\n\r\n").await;
    let serve = async {
        let mut peer = lms.accept().await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
        peer.answer(answer).await;
        peer
    };
    let (response, mut peer) = join!(client.send(upload.request), serve);
    drop(upload.application);
    let error = text(response.unwrap()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Body(BodyFault::Aborted)));
    assert_eq!(peer.closed().await, "");
    assert_eq!(lms.errors("reset"), "0");
}
