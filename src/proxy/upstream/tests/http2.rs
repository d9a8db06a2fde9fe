//! The client against an LMS that speaks HTTP/2, frame by frame.

mod at_most_once;
mod connections;
mod endings;
mod refusals;

use super::*;
use crate::proxy::{
    Http2,
    upstream::testing::frames::{
        CANCEL, Event, FramePeer, HTTP_1_1_REQUIRED, INTERNAL_ERROR, MAX_STREAMS, NO_ERROR,
        REFUSED_STREAM, WINDOW,
    },
};

/// An LMS that speaks nothing else, without TLS.
async fn lms() -> Lms {
    let mut lms = Lms::start().await;
    lms.params.http2 = Http2::Only;
    lms
}

type Sending = tokio::task::JoinHandle<Result<String, UpstreamError>>;

fn sending(client: &Rc<UpstreamClient>, request: Request<RequestBody>) -> Sending {
    let client = Rc::clone(client);
    spawn_local(async move { text(client.send(request).await?).await })
}

/// A client with a connection that has carried one request.
async fn warm(lms: &Lms) -> (Rc<UpstreamClient>, FramePeer) {
    warm_with(lms, &[]).await
}

async fn warm_with(lms: &Lms, settings: &[(u16, u32)]) -> (Rc<UpstreamClient>, FramePeer) {
    let client = lms.client();
    let first = sending(&client, get());
    let mut peer = FramePeer::accept(lms, settings).await;
    let (stream, _) = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(soon(first).await.unwrap().unwrap(), "ok");
    lms.settles_at(1, 0).await;
    (client, peer)
}
