//! One connection from an application: HTTP/1.1 by hyper, the clocks by ourselves.
//!
//! hyper's own head timeout starts when a connection goes idle, closes without a word and cannot be
//! told apart from others; ours gives an idle connection its longer time, and a slow head a 408.

use std::{
    cell::Cell,
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    progress::{Expiry, InFlight, Limits, Observed, Progress},
    tunnel::Tunnel,
};
use crate::code::Code;

/// Most of a head, and most that is held of a body in either direction (R17). That a head has at most
/// 100 fields is hyper's default; to say so would move the parser's table to the heap.
const MAX_BUFFER: usize = 64 * 1024;

/// How long, and for how many bytes, a connection is still read after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// Tells the connections of one worker to finish what they have begun.
///
/// The flag makes the signal free while there is none: a connection asks the signal, which takes a
/// lock, once to be woken by it and once when the flag is up.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: Cell<bool>,
    signal: CancellationToken,
}

impl Drain {
    /// From now on idle connections close, and the others after their answer.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.signal.cancel();
    }
}

/// What becomes of a request.
pub(super) enum Answered<B> {
    /// It is answered.
    Response(Response<B>),
    /// It is answered with a 101, after which the connection is a tunnel.
    Switching(Response<()>, Box<Tunnel>),
}

/// Serves `stream` until one side closes it. `answer` answers a request; `refuse` is told of a head that
/// never became one, and says what to write.
pub(super) async fn serve<S, A, F, B, R>(
    stream: S,
    limits: Limits,
    drain: &Drain,
    answer: A,
    refuse: R,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(InFlight, Request<Incoming>) -> F,
    F: Future<Output = Answered<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: FnOnce(Code) -> Bytes,
{
    let progress = Rc::new(Progress::new(limits));
    let io = TokioIo::new(Observed::new(stream, Rc::clone(&progress)));
    let switching = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        let answering = answer(InFlight::begin(&progress, has_body), request);
        let switching = &switching;
        async move {
            Ok::<_, Infallible>(match answering.await {
                Answered::Response(response) => response.map(Either::Left),
                Answered::Switching(response, tunnel) => {
                    switching.set(Some(tunnel));
                    response.map(|()| Either::Right(Empty::new()))
                }
            })
        }
    });
    let mut connection = http().serve_connection(io, service);
    let mut timer = pin!(sleep_until(Instant::now() + limits.header));
    let mut signal = pin!(drain.signal.cancelled());
    let mut is_registered = false;
    let mut is_finishing = false;
    let end = poll_fn(|context| {
        if !is_registered || drain.begun.get() && !is_finishing {
            is_registered = true;
            is_finishing = signal.as_mut().poll(context).is_ready();
            if is_finishing {
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(context) {
            return Poll::Ready(End::of(result, switching.take()));
        }
        poll_expired(timer.as_mut(), &progress, context).map(End::Expired)
    })
    .await;
    let parts = connection.into_parts();
    let stream = parts.io.into_inner().into_inner();
    match end {
        End::Switched(tunnel) => Box::pin(tunnel.run(stream, parts.read_buf)).await,
        End::Expired(Expiry::Head) => close_with(stream, &refuse(Code::ClientTimeout)).await,
        // hyper has written a bare status of its own.
        End::Unparsed(code) => {
            refuse(code);
            linger(stream).await;
        }
        End::Closed if progress.is_unread() => linger(stream).await,
        End::Closed | End::Expired(Expiry::Idle | Expiry::Stalled) => {}
    }
}

/// Writes a last word that was not asked for, and closes.
pub(super) async fn close_with<S>(mut stream: S, last_word: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let writing = async {
        stream.write_all(last_word).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(LINGER, writing).await {
        linger(stream).await;
    }
}

/// Reads on for a moment after our end was closed. A socket that is closed with bytes unread resets the
/// connection, and the reset destroys an answer that the application has not read yet.
async fn linger<S: AsyncRead + Unpin>(stream: S) {
    let mut rest = stream.take(LINGER_BYTES);
    let mut nowhere = tokio::io::sink();
    // How it ends makes no difference.
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut nowhere)).await;
}

/// How a connection ended.
enum End {
    Closed,
    /// With a 101: the rest is not HTTP.
    Switched(Box<Tunnel>),
    /// A head did not parse.
    Unparsed(Code),
    Expired(Expiry),
}

impl End {
    fn of(result: hyper::Result<()>, switching: Option<Box<Tunnel>>) -> Self {
        match (result, switching) {
            (Ok(()), Some(tunnel)) => Self::Switched(tunnel),
            (result, _) => Self::of_http(result),
        }
    }

    fn of_http(result: hyper::Result<()>) -> Self {
        match result {
            Err(error) if error.is_parse_too_large() => Self::Unparsed(Code::HeadersTooLarge),
            Err(error) if error.is_parse() => Self::Unparsed(Code::FramingInvalid),
            // The application went away in the middle; its request has a record of that.
            Ok(()) | Err(_) => Self::Closed,
        }
    }
}

/// One timer for all clocks of a connection. It is moved back only when it has run out, so that a busy
/// connection does not touch the timer wheel with every request.
fn poll_expired(
    mut timer: Pin<&mut Sleep>,
    progress: &Progress,
    context: &mut Context<'_>,
) -> Poll<Expiry> {
    let Some((deadline, expiry)) = progress.deadline() else {
        return Poll::Pending;
    };
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(context).is_ready() {
        if timer.deadline() >= deadline {
            return Poll::Ready(expiry);
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's own half-close would not notice a connection that is reset while the LMS is slow; ours
    // is in `Observed`.
    http.half_close(false)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_BUFFER)
        .header_read_timeout(None);
    http
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use std::cell::RefCell;
    use tokio::io::{DuplexStream, duplex};

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    /// A connection in memory, and what came of it.
    struct Peer {
        stream: DuplexStream,
        drain: Rc<Drain>,
        refused: Rc<RefCell<Vec<Code>>>,
        paths: Rc<RefCell<Vec<String>>>,
    }

    impl Peer {
        /// Answers every request with its body. A request for `/slow` takes 100 s.
        fn connect(buffer: usize) -> Self {
            let (stream, theirs) = duplex(buffer);
            let peer = Self {
                stream,
                drain: Rc::default(),
                refused: Rc::default(),
                paths: Rc::default(),
            };
            let drain = Rc::clone(&peer.drain);
            let refused = Rc::clone(&peer.refused);
            let paths = Rc::clone(&peer.paths);
            tokio::task::spawn_local(async move {
                let answer = |in_flight: InFlight, request: Request<Incoming>| {
                    paths.borrow_mut().push(request.uri().to_string());
                    echo(in_flight, request)
                };
                let refuse = |code| {
                    refused.borrow_mut().push(code);
                    Bytes::from_static(b"refused")
                };
                serve(theirs, LIMITS, &drain, answer, refuse).await;
            });
            peer
        }

        async fn send(&mut self, text: &str) {
            self.stream.write_all(text.as_bytes()).await.unwrap();
        }

        async fn read_to_end(&mut self) -> String {
            let mut text = String::new();
            self.stream.read_to_string(&mut text).await.unwrap();
            text
        }

        async fn read_head(&mut self) -> String {
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(self.stream.read_u8().await.unwrap());
            }
            String::from_utf8(text).unwrap()
        }
    }

    async fn echo(in_flight: InFlight, request: Request<Incoming>) -> Answered<Full<Bytes>> {
        if request.uri() == "/slow" {
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        let body = request.into_body().collect().await.unwrap_or_default();
        drop(in_flight);
        Answered::Response(Response::new(Full::new(body.to_bytes())))
    }

    /// Time is paused: it passes only while everybody waits.
    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn a_head_that_does_not_end_in_time_gets_a_408_although_bytes_keep_coming() {
        run(async {
            let mut peer = Peer::connect(1024);
            let start = Instant::now();
            peer.send("GET / HTTP/1.1\r\n").await;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                peer.send("x: y\r\n").await;
            }
            assert_eq!(peer.read_to_end().await, "refused");
            assert_eq!(start.elapsed().as_secs(), 10);
            assert_eq!(*peer.refused.borrow(), [Code::ClientTimeout]);
        });
    }

    #[test]
    fn a_connection_on_which_nothing_comes_closes_without_a_word() {
        run(async {
            let mut peer = Peer::connect(1024);
            let start = Instant::now();
            assert_eq!(peer.read_to_end().await, "");
            assert_eq!(start.elapsed().as_secs(), 10);
            assert!(peer.refused.borrow().is_empty());
        });
    }

    #[test]
    fn a_connection_between_requests_has_the_longer_idle_time() {
        run(async {
            let mut peer = Peer::connect(1024);
            for _ in 0..3 {
                peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                peer.read_head().await;
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            let start = Instant::now();
            assert_eq!(peer.read_to_end().await, "");
            assert_eq!(start.elapsed().as_secs(), 10);
        });
    }

    #[test]
    fn a_request_in_flight_has_no_clock_of_the_connection() {
        run(async {
            let mut peer = Peer::connect(1024);
            peer.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(peer.read_head().await.starts_with("HTTP/1.1 200"));
        });
    }

    #[test]
    fn the_answer_reaches_an_application_that_has_closed_its_own_half() {
        run(async {
            let mut peer = Peer::connect(1024);
            peer.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
            peer.stream.shutdown().await.unwrap();
            assert!(peer.read_to_end().await.starts_with("HTTP/1.1 200"));
        });
    }

    #[test]
    fn drain_closes_an_idle_connection_at_once_and_a_busy_one_after_its_answer() {
        run(async {
            let mut idle = Peer::connect(1024);
            idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            idle.read_head().await;
            let mut busy = Peer::connect(1024);
            busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(1)).await;

            let start = Instant::now();
            idle.drain.begin();
            busy.drain.begin();
            assert_eq!(idle.read_to_end().await, "");
            assert_eq!(start.elapsed().as_secs(), 0);
            let answer = busy.read_to_end().await;
            assert!(answer.contains("connection: close"), "{answer}");
        });
    }

    #[test]
    fn a_head_that_does_not_parse_is_told_and_ends_the_connection() {
        run(async {
            for (head, status, code) in [
                (
                    "GET / HTTP/1.1\r\nbad header\r\n\r\n",
                    "400",
                    Code::FramingInvalid,
                ),
                (
                    "GET / HTTP/1.1\r\ncontent-length: +3\r\n\r\n",
                    "400",
                    Code::FramingInvalid,
                ),
                (
                    "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
                    "400",
                    Code::FramingInvalid,
                ),
            ] {
                let mut peer = Peer::connect(1024);
                peer.send(head).await;
                let answer = peer.read_to_end().await;
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status}")),
                    "{answer}"
                );
                assert_eq!(*peer.refused.borrow(), [code]);
                assert!(peer.paths.borrow().is_empty());
            }
        });
    }

    #[test]
    fn a_head_over_64_kib_or_100_fields_is_too_large() {
        run(async {
            let fields = "x: y\r\n".repeat(101);
            let long = format!("x: {}\r\n", "y".repeat(MAX_BUFFER));
            for fields in [fields, long] {
                let mut peer = Peer::connect(128 * 1024);
                peer.send(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).await;
                let answer = peer.read_to_end().await;
                assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
                assert_eq!(*peer.refused.borrow(), [Code::HeadersTooLarge]);
            }
        });
    }

    #[test]
    fn an_application_that_stops_reading_is_cut_off() {
        run(async {
            let mut peer = Peer::connect(16);
            let body = "b".repeat(1_000);
            let request =
                format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{body}");
            peer.send(&request).await;
            tokio::time::sleep(Duration::from_secs(120)).await;
            let answer = peer.read_to_end().await;
            assert!(answer.len() < 1_000, "{answer}");
        });
    }

    #[test]
    fn content_length_beside_chunked_is_served_by_chunked_alone_and_the_connection_ends() {
        run(async {
            for framing in [
                "content-length: 3\r\ntransfer-encoding: chunked",
                "transfer-encoding: chunked\r\ncontent-length: 3",
            ] {
                let mut peer = Peer::connect(4096);
                let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
                peer.send(&format!(
                    "{head}2\r\nok\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
                ))
                .await;
                let answer = peer.read_to_end().await;
                assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
                assert_eq!(*peer.paths.borrow(), ["/"]);
            }
        });
    }

    #[test]
    fn hyper_cuts_a_fragment_off_so_that_what_is_matched_is_what_is_sent() {
        run(async {
            let mut peer = Peer::connect(4096);
            peer.send("GET /a?b#c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await;
            peer.read_to_end().await;
            assert_eq!(*peer.paths.borrow(), ["/a?b"]);
        });
    }
}
