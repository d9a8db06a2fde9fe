//! Reading bodies that are at hand: the application's before anything is dialled (R07), the start of a
//! refusal of the LMS's, and the rest of what nobody wants.

use std::{error::Error, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::upstream::BodyFault;

/// Up to this many bytes a body is read and checked as a whole, and can be sent again.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// What Content-Length says.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// A request's body, as far as it has been read.
#[derive(Debug)]
pub(super) enum Upload<B> {
    /// All of it.
    Whole(Bytes),
    /// Its start, more than [`READ_AHEAD`], and the rest.
    Flowing {
        /// What has been read.
        prefix: Bytes,
        /// What has not.
        rest: B,
    },
}

/// Reads a body until it ends or turns out to be larger than [`READ_AHEAD`]. Trailers are dropped (R16).
///
/// `limit` is the route's, `idle` the longest wait for the next byte.
///
/// # Errors
///
/// How the application broke it.
pub(super) async fn read_ahead<B>(
    body: B,
    limit: Option<u64>,
    idle: Duration,
) -> Result<Upload<B>, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    read_up_to(body, READ_AHEAD, limit, idle).await
}

/// The same up to `ahead` bytes.
///
/// # Errors
///
/// How the application broke it.
pub(super) async fn read_up_to<B>(
    mut body: B,
    ahead: usize,
    limit: Option<u64>,
    idle: Duration,
) -> Result<Upload<B>, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    let mut start = Start::default();
    while !body.is_end_stream() {
        let frame = timeout(idle, body.frame())
            .await
            .map_err(|_elapsed| BodyFault::Timeout)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| fault(&error))?.into_data() else {
            continue;
        };
        start.push(data);
        if limit.is_some_and(|limit| start.len() as u64 > limit) {
            return Err(BodyFault::TooLarge);
        }
        if start.len() > ahead {
            let prefix = start.join();
            return Ok(Upload::Flowing { prefix, rest: body });
        }
    }
    Ok(Upload::Whole(start.join()))
}

/// Reads up to `limit` bytes of a body, for at most `wait`. Whether it ended there.
pub(super) async fn discard<B>(body: &mut B, limit: usize, wait: Duration) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    matches!(peek(body, limit, wait).await, Ok((_, true)))
}

/// Reads the first `enough` bytes of a body or a little more, for at most `wait`, and says whether that
/// was all of it.
///
/// # Errors
///
/// The body's own; there is nothing more to be read from it.
pub(super) async fn peek<B>(
    body: &mut B,
    enough: usize,
    wait: Duration,
) -> Result<(Bytes, bool), B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let deadline = Instant::now() + wait;
    let mut start = Start::default();
    let mut ended = body.is_end_stream();
    while start.len() < enough && !ended {
        let Ok(frame) = timeout_at(deadline, body.frame()).await else {
            break;
        };
        match frame.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => {
                start.push(data);
                ended = body.is_end_stream();
            }
            // Trailers are the end of a body.
            Some(Err(_)) | None => ended = true,
        }
    }
    Ok((start.join(), ended))
}

/// Whose fault a failed body of the application's is: hyper reports broken framing as invalid data or
/// input, and all else is a connection that went away.
fn fault(error: &(dyn Error + 'static)) -> BodyFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) = kind {
            return BodyFault::Framing;
        }
        cause = error.source();
    }
    BodyFault::Aborted
}

/// What has been read. One frame, as most bodies are, is not copied; more of them are, at once: a frame
/// keeps all of the buffer that it was read into, so that a body in single bytes would take up forty
/// times its size.
#[derive(Default)]
struct Start {
    only: Bytes,
    joined: BytesMut,
}

impl Start {
    fn len(&self) -> usize {
        self.only.len().max(self.joined.len())
    }

    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.only = frame;
            return;
        }
        self.joined
            .extend_from_slice(&std::mem::take(&mut self.only));
        self.joined.extend_from_slice(&frame);
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() {
            self.only
        } else {
            self.joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http_body_util::{Empty, Full};
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    const IDLE: Duration = Duration::from_secs(60);

    /// A body made of what is in the list, and then silent for ever or at its end.
    #[derive(Debug)]
    struct Scripted {
        frames: Vec<Result<Frame<Bytes>, io::Error>>,
        then_hangs: bool,
    }

    impl Body for Scripted {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            if !self.frames.is_empty() {
                return Poll::Ready(Some(self.frames.remove(0)));
            }
            if self.then_hangs {
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        }
    }

    fn scripted(frames: &[&'static str]) -> Scripted {
        Scripted {
            frames: frames
                .iter()
                .map(|frame| Ok(Frame::data(Bytes::from_static(frame.as_bytes()))))
                .collect(),
            then_hangs: false,
        }
    }

    #[tokio::test]
    async fn a_small_body_is_read_to_its_end_without_its_trailers() {
        let mut body = scripted(&["ab", "", "cd"]);
        body.frames.push(Ok(Frame::trailers(HeaderMap::new())));
        let upload = read_ahead(body, None, IDLE).await.unwrap();
        assert!(matches!(upload, Upload::Whole(bytes) if bytes == "abcd"));
        let none = read_ahead(Empty::<Bytes>::new(), None, IDLE).await.unwrap();
        assert!(matches!(none, Upload::Whole(bytes) if bytes.is_empty()));
    }

    #[tokio::test]
    async fn a_body_of_exactly_64_kib_is_still_whole_and_one_byte_more_flows() {
        let body = Full::new(Bytes::from(vec![0; READ_AHEAD]));
        let upload = read_ahead(body, None, IDLE).await.unwrap();
        assert!(matches!(upload, Upload::Whole(bytes) if bytes.len() == READ_AHEAD));

        let body = Full::new(Bytes::from(vec![0; READ_AHEAD + 1]));
        let upload = read_ahead(body, None, IDLE).await.unwrap();
        assert!(matches!(upload, Upload::Flowing { prefix, .. } if prefix.len() == READ_AHEAD + 1));
    }

    #[test]
    fn what_has_been_read_keeps_no_frame_but_an_only_one() {
        let frame = Bytes::from(vec![0; 9]);
        let mut start = Start::default();
        start.push(frame.clone());
        assert!(!frame.is_unique());
        start.push(frame.clone());
        start.push(Bytes::new());
        assert!(frame.is_unique());
        assert_eq!((start.len(), start.join().len()), (18, 18));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_of_its_route_is_too_large() {
        let fault = read_ahead(scripted(&["abc", "def"]), Some(5), IDLE).await;
        assert_eq!(fault.unwrap_err(), BodyFault::TooLarge);
        assert!(
            read_ahead(scripted(&["abc", "de"]), Some(5), IDLE)
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_times_out() {
        let mut body = scripted(&["abc"]);
        body.then_hangs = true;
        assert_eq!(
            read_ahead(body, None, IDLE).await.unwrap_err(),
            BodyFault::Timeout
        );
    }

    #[tokio::test]
    async fn broken_framing_is_told_from_a_lost_connection() {
        for (kind, expected) in [
            (io::ErrorKind::InvalidInput, BodyFault::Framing),
            (io::ErrorKind::InvalidData, BodyFault::Framing),
            (io::ErrorKind::UnexpectedEof, BodyFault::Aborted),
            (io::ErrorKind::ConnectionReset, BodyFault::Aborted),
        ] {
            let mut body = scripted(&["abc"]);
            body.frames.push(Err(kind.into()));
            assert_eq!(read_ahead(body, None, IDLE).await.unwrap_err(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn peeking_stops_when_there_is_enough_or_no_more_comes() {
        let mut body = scripted(&["abcdef", "ghi"]);
        let start = peek(&mut body, 4, IDLE).await.unwrap();
        assert_eq!(start, (Bytes::from("abcdef"), false));
        let rest = peek(&mut body, 4, IDLE).await.unwrap();
        assert_eq!(rest, (Bytes::from("ghi"), true));

        let mut body = scripted(&["abc"]);
        body.then_hangs = true;
        let start = peek(&mut body, 4, IDLE).await.unwrap();
        assert_eq!(start, (Bytes::from("abc"), false));

        let mut body = scripted(&["abc"]);
        body.frames.push(Err(io::ErrorKind::ConnectionReset.into()));
        assert!(peek(&mut body, 4, IDLE).await.is_err());
    }

    #[tokio::test]
    async fn discarding_says_whether_the_body_has_ended() {
        assert!(discard(&mut scripted(&["abc", "def"]), 100, IDLE).await);
        assert!(!discard(&mut scripted(&["abc", "def"]), 3, IDLE).await);
    }
}
