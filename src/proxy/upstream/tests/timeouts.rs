//! Who is too slow.

use super::*;

#[tokio::test(flavor = "local")]
async fn an_answer_that_does_not_begin_times_out() {
    let mut lms = Lms::start().await;
    lms.params.response_timeout = Duration::from_millis(100);
    let client = lms.client();
    let (response, mut peer) = join!(client.send(get()), lms.accept());
    assert!(matches!(response, Err(UpstreamError::Timeout(limit))
        if limit == Duration::from_millis(100)));
    assert!(peer.closed().await.starts_with("GET /d2l/api HTTP/1.1\r\n"));
    assert_eq!(lms.errors("timeout"), "1");
}

#[tokio::test(flavor = "local")]
async fn a_body_that_stalls_ends_in_an_error() {
    let mut lms = Lms::start().await;
    lms.params.idle_timeout = Duration::from_millis(100);
    let client = lms.client();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
    let (response, mut peer) = first(&lms, &client, answer).await;
    let mut body = response.unwrap().into_body();
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, "ab");
    let end = soon(body.frame()).await.unwrap();
    assert!(matches!(end, Err(UpstreamError::Timeout(_))), "{end:?}");
    assert_eq!(peer.closed().await, "");
    assert_eq!(lms.errors("timeout"), "1");
}

#[tokio::test(flavor = "local")]
async fn an_application_that_reads_slowly_is_not_the_lms_s_fault() {
    let mut lms = Lms::start().await;
    lms.params.idle_timeout = Duration::from_millis(50);
    let client = lms.client();
    let (response, _peer) = first(&lms, &client, OK).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_waits_for_the_rest_of_the_upload_is_not_idle() {
    let mut lms = Lms::start().await;
    lms.params.idle_timeout = Duration::from_millis(500);
    let client = lms.client();
    let mut upload = upload(Method::POST, "Content-Length: 3\r\n\r\n").await;
    let serve = async {
        let mut peer = lms.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            .await;
        peer
    };
    let (response, mut peer) = join!(client.send(upload.request), serve);
    let rest = async {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        upload.application.write_all(b"abc").await.unwrap();
        assert_eq!(peer.read(3).await, "abc");
        peer.write("ok").await;
    };
    let (whole, ()) = join!(text(response.unwrap()), rest);
    assert_eq!(whole.unwrap(), "ok");
    lms.settles_at(1, 0).await;
}
