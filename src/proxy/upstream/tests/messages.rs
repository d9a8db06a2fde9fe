//! What goes over the wire, both ways.

use super::*;

async fn as_sent(request: Request<RequestBody>, body: usize) -> (String, String) {
    let lms = Lms::start().await;
    let client = lms.client();
    let serve = async {
        let mut peer = lms.accept().await;
        let sent = (peer.head().await, peer.read(body).await);
        peer.write(OK).await;
        sent
    };
    let (response, sent) = join!(client.send(request), serve);
    response.unwrap();
    sent
}

#[tokio::test(flavor = "local")]
async fn a_request_goes_out_with_its_fields_and_one_framing() {
    let (head, _) = as_sent(get(), 0).await;
    assert_eq!(head, "GET /d2l/api HTTP/1.1\r\nhost: lms\r\n\r\n");
    let (head, body) = as_sent(post("abc"), 3).await;
    assert_eq!(
        head,
        "POST /d2l/api HTTP/1.1\r\nhost: lms\r\ncontent-length: 3\r\n\r\n"
    );
    assert_eq!(body, "abc");
    let (head, _) = as_sent(post(""), 0).await;
    assert!(head.ends_with("\r\ncontent-length: 0\r\n\r\n"));
}

#[tokio::test(flavor = "local")]
async fn an_http_1_0_request_goes_out_as_http_1_1() {
    let mut request = get();
    *request.version_mut() = Version::HTTP_10;
    let (head, _) = as_sent(request, 0).await;
    assert!(head.starts_with("GET /d2l/api HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "local")]
async fn a_streamed_body_goes_out_as_it_came_framed() {
    for method in [Method::POST, Method::GET] {
        let mut known = upload(method.clone(), "Content-Length: 3\r\n\r\n").await;
        known.application.write_all(b"abc").await.unwrap();
        let (head, body) = as_sent(known.request, 3).await;
        assert!(head.ends_with("\r\ncontent-length: 3\r\n\r\n"), "{head}");
        assert_eq!(body, "abc");

        let mut chunked = upload(method, "Transfer-Encoding: chunked\r\n\r\n").await;
        let sent = b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n";
        chunked.application.write_all(sent).await.unwrap();
        let (head, body) = as_sent(chunked.request, 13).await;
        let last = head.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(last, "{head}");
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n");
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_comes_whole_however_it_is_framed() {
    for (answer, closes) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nabcd", true),
        ("HTTP/1.0 200 OK\r\n\r\nabcd", true),
    ] {
        let lms = Lms::start().await;
        let client = lms.client();
        let (response, peer) = first(&lms, &client, answer).await;
        let peer = (!closes).then_some(peer);
        assert_eq!(text(response.unwrap()).await.unwrap(), "abcd", "{answer}");
        lms.settles_at(u32::from(!closes), 0).await;
        drop(peer);
    }
}

#[tokio::test(flavor = "local")]
async fn trailers_come_as_a_frame() {
    let lms = Lms::start().await;
    let client = lms.client();
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nServer-Timing: a\r\n\r\n";
    let (response, _peer) = first(&lms, &client, answer).await;
    let whole = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["server-timing"], "a");
    lms.settles_at(1, 0).await;
}
