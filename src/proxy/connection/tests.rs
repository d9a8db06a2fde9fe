//! Over HTTP/1, in memory.

mod broken;
mod http2;

use super::{http1::MAX_BUFFER, *};
use http_body_util::{BodyExt, Full};
use std::{cell::RefCell, rc::Rc};
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
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{body}");
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
