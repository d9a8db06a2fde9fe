//! Over HTTP/2, in memory: h2's client is the application.

use std::io;

use h2::{
    Reason, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::body::Frame;
use tokio::{io::duplex, task::JoinHandle};

use super::*;

/// What a test sees of a connection.
struct Peer {
    sender: SendRequest<Bytes>,
    /// How it ended: the reason in its GOAWAY, where there was one.
    ended: JoinHandle<Option<Reason>>,
    drain: Rc<Drain>,
    /// Requests that are being answered.
    running: Rc<Cell<usize>>,
}

/// Counts a request as long as its answer is not finished.
struct Running(Rc<Cell<usize>>);

impl Running {
    fn begin(running: &Rc<Cell<usize>>) -> Self {
        running.set(running.get() + 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A body without an end.
struct Endless {
    _running: Running,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
    }
}

type Answer = Box<dyn Body<Data = Bytes, Error = io::Error> + Unpin>;

impl Peer {
    async fn connect() -> Self {
        Self::connect_with(&client::Builder::new()).await
    }

    async fn connect_with(builder: &client::Builder) -> Self {
        let (ours, theirs) = duplex(64 * 1024);
        let Served { drain, running, .. } = serve_on(theirs);
        let (sender, connection) = builder.handshake(ours).await.unwrap();
        let ended = tokio::task::spawn_local(async move {
            let ended = connection.await;
            ended.err().and_then(|error| error.reason())
        });
        Self {
            sender,
            ended,
            drain,
            running,
        }
    }

    async fn send(&mut self, path: &str, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://bursar{path}"))
            .body(())
            .unwrap();
        self.sender = self.sender.clone().ready().await.unwrap();
        self.sender.send_request(request, ends).unwrap()
    }

    async fn get(&mut self, path: &str) -> StatusCode {
        let (response, _) = self.send(path, true).await;
        response.await.unwrap().status()
    }
}

/// A connection from the other side.
pub(super) struct Served {
    drain: Rc<Drain>,
    /// Requests that are being answered.
    pub(super) running: Rc<Cell<usize>>,
    pub(super) refused: Rc<RefCell<Vec<Code>>>,
}

/// Answers a request with its body; `/slow` takes 100 s, `/endless` has no end, `/unread` reads nothing.
pub(super) fn serve_on(stream: DuplexStream) -> Served {
    let served = Served {
        drain: Rc::default(),
        running: Rc::default(),
        refused: Rc::default(),
    };
    let (drain, running) = (Rc::clone(&served.drain), Rc::clone(&served.running));
    let refused = Rc::clone(&served.refused);
    tokio::task::spawn_local(async move {
        let answer = |in_flight: InFlight, request: Request<Incoming>| {
            reply(in_flight, request, Running::begin(&running))
        };
        let refuse = |code| {
            refused.borrow_mut().push(code);
            Bytes::new()
        };
        serve(stream, LIMITS, &drain, answer, refuse).await;
    });
    served
}

async fn reply(
    in_flight: InFlight,
    request: Request<Incoming>,
    running: Running,
) -> Answered<Answer> {
    let path = request.uri().path().to_owned();
    let body: Answer = match path.as_str() {
        "/unread" => Box::new(full(Bytes::new())),
        "/endless" => {
            let endless: Answer = Box::new(Endless { _running: running });
            return Answered::Response(Response::new(endless));
        }
        _ => {
            if path == "/slow" {
                tokio::time::sleep(Duration::from_secs(100)).await;
            }
            let body = request.into_body().collect().await;
            Box::new(full(body.map(|body| body.to_bytes()).unwrap_or_default()))
        }
    };
    drop((in_flight, running));
    Answered::Response(Response::new(body))
}

fn full(bytes: Bytes) -> impl Body<Data = Bytes, Error = io::Error> + Unpin {
    Full::new(bytes).map_err(|never| match never {})
}

#[test]
fn requests_on_one_connection_are_answered_side_by_side() {
    run(async {
        let mut peer = Peer::connect().await;
        let (slow, _) = peer.send("/slow", true).await;
        assert_eq!(peer.get("/").await, 200);
        let (response, mut body) = peer.send("/", false).await;
        body.send_data(Bytes::from_static(b"echo"), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "echo");
        assert_eq!(slow.await.unwrap().status(), 200);
        assert_eq!(peer.running.get(), 0);
    });
}

#[test]
fn the_preface_may_come_in_pieces_and_what_only_begins_like_one_is_http_1() {
    run(async {
        let (mut ours, theirs) = duplex(4096);
        serve_on(theirs);
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
            ours.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut head = [0; 9];
        ours.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "SETTINGS");

        for (pieces, status) in [
            (
                &[
                    "P",
                    "OST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
                ][..],
                "200",
            ),
            (&["PRI * HTTP/2.0\r\n\r\nSM", "\r\n\r\r"], "400"),
        ] {
            let mut peer = super::Peer::connect(4096);
            for piece in pieces {
                peer.send(piece).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let answer = peer.read_to_end().await;
            assert_eq!(answer.get(9..12), Some(status), "{answer}");
        }
    });
}

#[test]
fn a_connection_without_a_request_ends_after_the_header_timeout_and_pings_do_not_help() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        serve_on(theirs);
        let start = Instant::now();
        let (_sender, mut connection) = client::handshake(ours).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::task::spawn_local(async move {
            while pings.ping(h2::Ping::opaque()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        connection.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10);
    });
}

#[test]
fn a_connection_without_streams_ends_after_the_idle_timeout_and_one_with_a_stream_does_not() {
    run(async {
        let mut peer = Peer::connect().await;
        for _ in 0..2 {
            assert_eq!(peer.get("/").await, 200);
            tokio::time::sleep(Duration::from_secs(50)).await;
        }
        assert_eq!(peer.get("/slow").await, 200);
        let start = Instant::now();
        assert_eq!(peer.ended.await.unwrap(), None);
        assert_eq!(start.elapsed().as_secs(), 60);
    });
}

#[test]
fn drain_lets_streams_in_flight_finish_and_takes_no_more() {
    run(async {
        let mut peer = Peer::connect().await;
        let (slow, _) = peer.send("/slow", true).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.drain.begin();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(peer.sender.clone().ready().await.is_err());
        assert_eq!(slow.await.unwrap().status(), 200);
        assert_eq!(peer.ended.await.unwrap(), None);
    });
}

#[test]
fn drain_does_not_wait_for_an_application_that_never_takes_leave() {
    run(async {
        let (mut ours, theirs) = duplex(4096);
        let Served { drain, .. } = serve_on(theirs);
        ours.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        drain.begin();
        let mut said = Vec::new();
        ours.read_to_end(&mut said).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);
    });
}

#[test]
fn an_answer_that_is_not_taken_ends_its_stream_and_no_other() {
    run(async {
        let mut peer = Peer::connect().await;
        let (stalled, _) = peer.send("/endless", true).await;
        let mut stalled = stalled.await.unwrap().into_body();
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(15)).await;
            assert_eq!(peer.get("/").await, 200);
        }
        assert_eq!(peer.running.get(), 1);
        let reason = loop {
            match stalled.data().await {
                Some(Ok(_taken_but_no_room_made)) => {}
                Some(Err(error)) => break error.reason(),
                None => break None,
            }
        };
        assert_eq!(reason, Some(Reason::CANCEL));
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(peer.get("/").await, 200);
        assert_eq!(peer.running.get(), 0);
    });
}

#[test]
fn an_answer_that_is_taken_slowly_is_not_cut() {
    run(async {
        let mut peer = Peer::connect().await;
        let (response, _) = peer.send("/endless", true).await;
        let mut body = response.await.unwrap().into_body();
        for _ in 0..20 {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        assert_eq!(peer.running.get(), 1);
    });
}

#[test]
fn a_stream_that_is_reset_and_a_connection_that_is_lost_end_their_requests() {
    run(async {
        let mut peer = Peer::connect().await;
        let (_waiting, _) = peer.send("/slow", true).await;
        let (given_up, mut body) = peer.send("/slow", false).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(peer.running.get(), 2);
        body.send_reset(Reason::CANCEL);
        drop(given_up);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(peer.running.get(), 1);
        peer.ended.abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(peer.running.get(), 0);
    });
}

#[test]
fn a_body_that_nobody_reads_ends_its_stream_with_no_error_and_the_answer_arrives() {
    run(async {
        let mut peer = Peer::connect().await;
        let (response, mut body) = peer.send("/unread", false).await;
        body.send_data(Bytes::from_static(&[0; 1024]), false)
            .unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let reason = std::future::poll_fn(|context| body.poll_reset(context)).await;
        assert_eq!(reason.unwrap(), Reason::NO_ERROR);
        assert_eq!(peer.get("/").await, 200);
    });
}

#[test]
fn a_body_that_is_not_as_long_as_its_head_says_ends_its_stream() {
    run(async {
        let mut peer = Peer::connect().await;
        for announced in ["3", "5"] {
            let request = Request::post("http://bursar/")
                .header("content-length", announced)
                .body(())
                .unwrap();
            let (response, mut body) = peer.sender.send_request(request, false).unwrap();
            body.send_data(Bytes::from_static(b"four"), true).unwrap();
            let reason = response.await.unwrap_err().reason();
            assert_eq!(reason, Some(Reason::PROTOCOL_ERROR), "{announced}");
        }
        assert_eq!(peer.get("/").await, 200);
    });
}

#[test]
fn streams_beyond_the_limit_wait() {
    run(async {
        let mut peer = Peer::connect().await;
        assert_eq!(peer.get("/").await, 200);
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(peer.send("/slow", true).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(peer.running.get(), 100);
        let (beyond, _) = peer
            .sender
            .send_request(Request::get("http://bursar/").body(()).unwrap(), true)
            .unwrap();
        assert_eq!(peer.running.get(), 100);
        assert_eq!(beyond.await.unwrap().status(), 200);
        assert_eq!(peer.running.get(), 0);
    });
}

#[test]
fn an_application_that_opens_and_resets_streams_without_end_is_told_to_calm_down() {
    run(async {
        let mut peer = Peer::connect().await;
        for _ in 0..1_000 {
            let Ok(sender) = peer.sender.clone().ready().await else {
                break;
            };
            peer.sender = sender;
            let request = Request::get("http://bursar/slow").body(()).unwrap();
            let Ok((_, mut body)) = peer.sender.send_request(request, false) else {
                break;
            };
            body.send_reset(Reason::CANCEL);
        }
        assert_eq!(peer.ended.await.unwrap(), Some(Reason::ENHANCE_YOUR_CALM));
        assert_eq!(peer.running.get(), 0);
    });
}
