//! An answer that breaks off.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, response::Parts};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::Sleep;

/// What has been written of half an answer gets this long to leave before the connection ends.
const HALF_TIME: Duration = Duration::from_millis(50);

/// The answer as it is, of which only the first half arrives before the connection ends.
pub(super) async fn cut(response: Response<Full<Bytes>>) -> Response<Cut> {
    let (mut head, body) = read(response).await;
    let promised = body.len().max(2);
    set_length(&mut head.headers, promised);
    let half = body.slice(..body.len() / 2);
    let cut = Cut {
        half: Some(half),
        end: Box::pin(tokio::time::sleep(HALF_TIME)),
    };
    Response::from_parts(head, cut)
}

/// The first half of the answer, as if that were all of it.
pub(super) async fn halved(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let (mut head, body) = read(response).await;
    let half = body.slice(..body.len() / 2);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Full::new(half))
}

async fn read(response: Response<Full<Bytes>>) -> (Parts, Bytes) {
    let (head, body) = response.into_parts();
    // A body that is there already cannot fail.
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    (head, body.unwrap_or_default())
}

fn set_length(fields: &mut HeaderMap, length: usize) {
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// A body that breaks off.
pub(super) struct Cut {
    half: Option<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(half) = self.half.take()
            && !half.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        self.end
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(io::Error::other("the answer breaks off, as ordered"))))
    }
}
