//! That nobody is read faster than the other end takes it.

use super::*;

/// Far more than the sockets' buffers hold.
const OFFER: usize = 256 * 1024 * 1024;
const SOME: usize = 64 * 1024 * 1024;

/// Waits until `count` no longer grows.
async fn stands_still(count: &Cell<usize>) -> usize {
    loop {
        let before = count.get();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if before > 0 && count.get() == before {
            return before;
        }
    }
}

#[tokio::test(flavor = "local")]
async fn an_application_that_does_not_read_stops_the_lms() {
    let lms = Lms::start().await;
    let client = lms.client();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {OFFER}\r\n\r\n");
    let (response, mut peer) = first(&lms, &client, &head).await;
    let written = Rc::new(Cell::new(0));
    let counter = Rc::clone(&written);
    spawn_local(async move {
        let piece = vec![b'x'; 64 * 1024];
        while let Ok(count) = peer.stream.write(&piece).await {
            counter.set(counter.get() + count);
        }
    });
    assert!(soon(stands_still(&written)).await < SOME);
    drop(response);
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_does_not_read_stops_the_application() {
    let lms = Lms::start().await;
    let client = lms.client();
    let fields = format!("Content-Length: {OFFER}\r\n\r\n");
    let mut upload = upload(Method::PUT, &fields).await;
    let written = Rc::new(Cell::new(0));
    let counter = Rc::clone(&written);
    spawn_local(async move {
        let piece = vec![b'x'; 64 * 1024];
        while let Ok(count) = upload.application.write(&piece).await {
            counter.set(counter.get() + count);
        }
    });
    let sending = spawn_local(async move { client.send(upload.request).await.is_ok() });
    let mut peer = lms.accept().await;
    peer.head().await;
    assert!(soon(stands_still(&written)).await < SOME);
    sending.abort();
}
