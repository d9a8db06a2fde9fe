//! Answers that are not HTTP as bursar accepts it.

use super::*;

async fn refused(answer: &str) {
    let lms = Lms::start().await;
    let client = lms.client();
    let serve = async {
        let mut peer = lms.accept().await;
        peer.head().await;
        // bursar may hang up before it has read everything.
        let _written = peer.stream.write_all(answer.as_bytes()).await;
        peer
    };
    let (response, mut peer) = join!(client.send(get()), serve);
    let start = answer.get(..80).unwrap_or(answer);
    assert!(
        matches!(response, Err(UpstreamError::Protocol(_))),
        "{start:?}"
    );
    assert_eq!(peer.closed().await, "");
    assert_eq!(lms.errors("protocol"), "1");
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn an_ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: -2",
        "Content-Length: +2",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
    ] {
        refused(&format!(
            "HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ))
        .await;
    }
    refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
}

#[tokio::test(flavor = "local")]
async fn what_does_not_parse_is_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 99 Early\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "<html>hello</html>\r\n\r\n",
        "\x16\x03\x03\0\x02\x02\x28",
    ] {
        refused(answer).await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_head_beyond_the_limits_is_refused() {
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(70 * 1024));
    refused(&large).await;
    refused(&format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "A: b\r\n".repeat(101)
    ))
    .await;
}

#[tokio::test(flavor = "local")]
async fn an_unsolicited_upgrade_is_refused() {
    refused("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
}

#[tokio::test(flavor = "local")]
async fn a_flood_of_interim_responses_is_refused() {
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    refused(&format!("{}{OK}", hint.repeat(33))).await;
    refused(&hint.repeat(2_000)).await;
}

#[tokio::test(flavor = "local")]
async fn some_interim_responses_are_passed_over() {
    let lms = Lms::start().await;
    let client = lms.client();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n".repeat(32);
    let (response, mut peer) = first(&lms, &client, &format!("{hints}{OK}")).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    // The count starts anew with each request.
    let answer = format!("{hints}{OK}");
    let (response, ()) = join!(client.send(get()), peer.answer(&answer));
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
}
