//! What is sent again after a loss, and what never is.

use super::*;

#[tokio::test(flavor = "local")]
async fn a_get_lost_on_a_reused_connection_is_sent_once_more() {
    let lms = Lms::start().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        peer.head().await;
        peer.reset();
        let mut second = lms.accept().await;
        second.answer(OK).await;
    };
    let (response, ()) = join!(client.send(get()), serve);
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    assert_eq!(lms.retries("reset"), "1");
}

#[tokio::test(flavor = "local")]
async fn a_get_lost_twice_is_an_error() {
    let lms = Lms::start().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        peer.head().await;
        peer.reset();
        let mut second = lms.accept().await;
        second.head().await;
        second.reset();
    };
    let (response, ()) = join!(client.send(get()), serve);
    assert!(matches!(response, Err(UpstreamError::Reset(_))));
    assert!(lms.is_left_alone().await);
    assert_eq!(lms.errors("reset"), "1");
    assert_eq!(lms.retries("reset"), "1");
}

#[tokio::test(flavor = "local")]
async fn a_get_lost_on_a_new_connection_is_an_error() {
    let lms = Lms::start().await;
    let client = lms.client();
    let serve = async {
        let mut peer = lms.accept().await;
        peer.head().await;
        peer.reset();
    };
    let (response, ()) = join!(client.send(get()), serve);
    assert!(matches!(response, Err(UpstreamError::Reset(_))));
    assert!(lms.is_left_alone().await);
}

#[tokio::test(flavor = "local")]
async fn a_get_is_not_sent_again_once_a_byte_of_the_answer_has_come() {
    let lms = Lms::start().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        peer.answer("HTTP/1.1 2").await;
        drop(peer);
    };
    let (response, ()) = join!(client.send(get()), serve);
    assert!(matches!(response, Err(UpstreamError::Reset(_))));
    assert!(lms.is_left_alone().await);
    assert_eq!(lms.retries("reset"), "0");
}

#[tokio::test(flavor = "local")]
async fn a_post_that_the_lms_has_seen_is_never_sent_again() {
    let lms = Lms::start().await;
    let (client, mut peer) = warm(&lms).await;
    let serve = async {
        assert_eq!(peer.read(10).await, "POST /d2l/");
        peer.reset();
    };
    let (response, ()) = join!(client.send(post("abc")), serve);
    assert!(matches!(response, Err(UpstreamError::Reset(_))));
    assert!(lms.is_left_alone().await);
    assert_eq!(lms.errors("reset"), "1");
    assert_eq!(lms.retries("reset"), "0");
}
