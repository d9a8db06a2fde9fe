//! HTTP/2 from the application (h2c by prior knowledge): the same rules, the same answers, the same record.
//!
//! Malformed frames, floods and stalls come from other hands: `tests/peers/h2c`.

use std::time::Duration;

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    client::{self, SendRequest},
};
use http::{HeaderMap, Method, Request, Response};
use tokio::{net::TcpStream, task::JoinHandle};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, setup, toml},
    http::PATIENCE,
    peer::{Gate, Peer, Reply},
    program::write_private,
};

/// One connection.
struct Connection {
    sender: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
    authority: String,
}

/// A whole answer.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    async fn read(response: Response<RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut rest) = response.into_parts();
        let mut body = Vec::new();
        while let Some(data) = rest.data().await {
            let data = data?;
            rest.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: rest.trailers().await?,
            body,
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Connection {
    async fn open(bursar: &Bursar) -> Self {
        let stream = TcpStream::connect(bursar.proxy).await.unwrap();
        let (sender, connection) = client::handshake(stream).await.unwrap();
        Self {
            sender,
            ended: tokio::spawn(connection),
            authority: bursar.proxy.to_string(),
        }
    }

    fn request(&self, method: &Method, path: &str) -> http::request::Builder {
        let uri = format!("http://{}{path}", self.authority);
        Request::builder().method(method).uri(uri)
    }

    async fn send(
        &mut self,
        request: Request<()>,
        body: &[&'static [u8]],
    ) -> Result<Answer, h2::Error> {
        self.sender = self.sender.clone().ready().await?;
        let (response, mut sending) = self.sender.send_request(request, body.is_empty())?;
        for (number, piece) in body.iter().enumerate() {
            sending.send_data(Bytes::from_static(piece), number + 1 == body.len())?;
        }
        Answer::read(response.await?).await
    }

    async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(&Method::GET, path).body(()).unwrap();
        self.send(request, &[]).await.unwrap()
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() });
}

#[test]
fn a_permitted_request_leaves_as_http_1_1_with_a_token_and_its_answer_comes_back() {
    let (lms, _server, bursar) = setup();
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let request = connection
            .request(&Method::PUT, "/api/x?y=%41")
            .header("authorization", "Bearer evil")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let answer = connection.send(request, &[b"he", b"llo"]).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, b"{}");
        assert!(answer.field("bursar-request-id").is_some());
        let seen = lms.last();
        assert_eq!(seen.request_line(), "PUT /api/x?y=%41 HTTP/1.1");
        assert_eq!(seen.fields("host"), [lms.address.to_string()]);
        assert_eq!(seen.fields("authorization").len(), 1);
        assert!(!seen.head.contains("evil"));
        assert_eq!(seen.field("te"), None);
        assert_eq!(seen.fields("content-length"), ["5"]);
        assert!(seen.field("via").unwrap().starts_with("2.0 bursar-"));
        assert_eq!(seen.text(), "hello");
    });
    let requests = r#"bursar_http_requests_total{code="200",route="api",upstream="lms"}"#;
    bursar.until("counted", |bursar| bursar.metric(requests) > 0.5);
}

#[test]
fn host_and_authority_must_agree_and_be_ours() {
    let (lms, _server, bursar) = setup();
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let ours = bursar.proxy.to_string();
        for (uri, host, code) in [
            ("http://evil/api/x", None, "misdirected_request"),
            ("http://evil/api/x", Some(ours.as_str()), "host_invalid"),
            (
                &*format!("http://{ours}/api/x"),
                Some("evil"),
                "host_invalid",
            ),
            (&*format!("http://lms@{ours}/api/x"), None, "host_invalid"),
            (&*format!("ftp://{ours}/api/x"), None, "host_invalid"),
            (&*format!("http://{ours}/api/x"), Some(ours.as_str()), ""),
            (&*format!("https://{ours}/api/x"), None, ""),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let answer = connection
                .send(request.body(()).unwrap(), &[])
                .await
                .unwrap();
            assert_eq!(answer.code(), code, "{uri} {host:?}");
        }
    });
    assert_eq!(lms.calls(), 2);
}

#[test]
fn a_rejection_is_a_problem_without_fields_of_a_connection_and_leaves_the_other_streams_alone() {
    let (lms, _server, bursar) = setup();
    run(async {
        let mut connection = Connection::open(&bursar).await;
        for (method, path, name, value, status, code) in [
            (Method::GET, "/nowhere", "x", "y", 403, "route_denied"),
            (Method::GET, "/api/../x", "x", "y", 400, "path_ambiguous"),
            (
                Method::GET,
                "/api/x",
                "x_y",
                "z",
                400,
                "header_name_ambiguous",
            ),
            (
                Method::GET,
                "/api/x",
                "origin",
                "null",
                403,
                "browser_request_denied",
            ),
            (
                Method::GET,
                "/api/x",
                "expect",
                "foo",
                417,
                "expectation_failed",
            ),
            (Method::TRACE, "/api/x", "x", "y", 405, "method_not_allowed"),
            (
                Method::PUT,
                "/grades/1",
                "x",
                "y",
                403,
                "insufficient_scope",
            ),
        ] {
            let request = connection.request(&method, path).header(name, value);
            // A body that nobody reads: over HTTP/1.1 some of these would end the connection.
            let answer = connection
                .send(
                    request.body(()).unwrap(),
                    &[b"GET /api/smuggled HTTP/1.1\r\n\r\n"],
                )
                .await
                .unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
            assert_eq!(
                answer.field("content-type"),
                Some("application/problem+json")
            );
            for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
                assert_eq!(answer.field(name), None, "{code}");
            }
        }
        assert_eq!(connection.get("/api/x").await.status, 200);
    });
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_wrong_caller_key_ends_its_stream_and_not_the_connection() {
    const KEY: &str = "canary-caller-key/+=:";
    let (lms, server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(&directory.path().join("caller-key"), KEY);
    let setting = format!("caller_key_file = {file:?}");
    let extra = Extra {
        server: &setting,
        ..Extra::default()
    };
    let bursar = Bursar::ready(&toml(&lms, &server, extra));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        for (key, status) in [("canary-guessed-key-0123", 401), (KEY, 200)] {
            let request = connection.request(&Method::GET, "/api/x");
            let request = request.header("bursar-caller", key).body(()).unwrap();
            let answer = connection.send(request, &[]).await.unwrap();
            assert_eq!(answer.status, status, "{key}");
            assert_eq!(answer.field("connection"), None, "{key}");
        }
    });
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_body_that_breaks_off_dials_nobody() {
    let (lms, _server, bursar) = setup();
    run(async {
        let mut connection = Connection::open(&bursar).await;
        for announced in ["2", "9"] {
            let request = connection
                .request(&Method::PUT, "/api/x")
                .header("content-length", announced)
                .body(())
                .unwrap();
            let broken = connection.send(request, &[b"four"]).await.err().unwrap();
            assert_eq!(broken.reason(), Some(Reason::PROTOCOL_ERROR));
        }
        let request = connection.request(&Method::PUT, "/api/x").body(()).unwrap();
        let (_, mut sending) = connection.sender.send_request(request, false).unwrap();
        sending
            .send_data(Bytes::from_static(b"part"), false)
            .unwrap();
        sending.send_reset(Reason::CANCEL);
        assert_eq!(connection.get("/api/x").await.status, 200);
    });
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_stream_that_the_application_resets_ends_the_exchange_with_the_lms_and_counts_as_499() {
    let lms = Peer::start(|_| Reply::BytesThenSilence(Vec::new()));
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let request = connection.request(&Method::GET, "/api/x").body(()).unwrap();
        let (response, mut sending) = connection.sender.send_request(request, true).unwrap();
        let active = r#"bursar_upstream_connections{state="active",upstream="lms"}"#;
        while bursar.metric(active) < 0.5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let start = tokio::time::Instant::now();
        sending.send_reset(Reason::CANCEL);
        drop(response);
        while bursar.metric(active) > 0.5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(start.elapsed() < Duration::from_secs(1));
    });
    let requests = r#"bursar_http_requests_total{code="499",route="api",upstream="lms"}"#;
    bursar.until("counted", |bursar| bursar.metric(requests) > 0.5);
}

#[test]
fn allowed_trailers_pass_and_a_broken_answer_is_an_error_of_its_stream() {
    let lms = Peer::start(|seen| {
        match seen.target() {
        "/api/broken" => {
            Reply::BytesThenClose("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart".into())
        }
        _ => Reply::Bytes(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, authorization\r\n\r\n\
             2\r\nok\r\n0\r\ngrpc-status: 0\r\nauthorization: evil\r\n\r\n"
                .into(),
        ),
    }
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let broken = connection
            .request(&Method::GET, "/api/broken")
            .body(())
            .unwrap();
        assert!(connection.send(broken, &[]).await.is_err());
        let answer = connection.get("/api/x").await;
        assert_eq!(answer.body, b"ok");
        let trailers = answer.trailers.unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
    });
}

#[test]
fn a_large_body_flows_both_ways() {
    static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let lms = Peer::start(|seen| Reply::new(200, "text/plain", &seen.body));
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let request = connection
            .request(&Method::POST, "/api/x")
            .body(())
            .unwrap();
        let pieces = [&PIECE[..]; 200];
        let answer = connection.send(request, &pieces).await.unwrap();
        assert_eq!(answer.body.len(), 200 * PIECE.len());
    });
    let bytes = bursar.metric(r#"bursar_http_request_bytes_total{upstream="lms"}"#);
    assert!(bytes >= 200.0 * 16.0 * 1024.0, "{bytes}");
}

#[test]
fn a_body_larger_than_its_route_allows_is_refused_as_over_http_1() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let tail = r#"
[[upstreams.lms.routes]]
name = "small"
methods = ["POST"]
path = "/small"
scopes = ["api:read"]
max_body = "4B"
"#;
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            tail,
            ..Extra::default()
        },
    ));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let request = connection
            .request(&Method::POST, "/small")
            .body(())
            .unwrap();
        let answer = connection.send(request, &[b"12345"]).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (413, "body_too_large")
        );
    });
    assert_eq!(lms.calls(), 0);
}

#[test]
fn a_body_that_pauses_for_too_long_gets_a_408_and_the_connection_stays() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let upstream = "idle_timeout = \"200ms\"";
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            upstream,
            ..Extra::default()
        },
    ));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let request = connection.request(&Method::PUT, "/api/x").body(()).unwrap();
        let (response, mut sending) = connection.sender.send_request(request, false).unwrap();
        sending
            .send_data(Bytes::from_static(b"part"), false)
            .unwrap();
        let answer = Answer::read(response.await.unwrap()).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "client_timeout")
        );
        assert_eq!(connection.get("/api/x").await.status, 200);
    });
    assert_eq!(lms.calls(), 1);
}

#[test]
fn streams_in_flight_finish_while_bursar_drains() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |_| {
        held.pass();
        Reply::new(200, "text/plain", "done")
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let mut waiting = Vec::new();
        for _ in 0..20 {
            connection.sender = connection.sender.clone().ready().await.unwrap();
            let request = connection.request(&Method::GET, "/api/x").body(()).unwrap();
            let (response, _) = connection.sender.send_request(request, true).unwrap();
            waiting.push(tokio::spawn(async { Answer::read(response.await?).await }));
        }
        let arrivals = gate.clone();
        let arrived = tokio::task::spawn_blocking(move || arrivals.await_arrivals(20));
        arrived.await.unwrap();
        bursar.shutdown();
        // Past the moment in which idle connections close.
        tokio::time::sleep(Duration::from_millis(700)).await;
        gate.open();
        for answer in waiting {
            let answer = answer.await.unwrap().unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"done"[..]));
            assert_eq!(answer.field("connection"), None);
        }
        connection.ended.await.unwrap().unwrap();
    });
    bursar.join();
}

#[test]
fn the_requests_of_all_connections_together_are_no_more_than_there_may_be_connections() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |_| {
        held.pass();
        Reply::ok()
    });
    let server = AuthorizationServer::start();
    let extra = Extra {
        server: "max_connections = 2",
        ..Extra::default()
    };
    let bursar = Bursar::ready(&toml(&lms, &server, extra));
    run(async {
        let mut connection = Connection::open(&bursar).await;
        let mut waiting = Vec::new();
        for _ in 0..100 {
            connection.sender = connection.sender.clone().ready().await.unwrap();
            let request = connection.request(&Method::GET, "/api/x").body(()).unwrap();
            let (response, _) = connection.sender.send_request(request, true).unwrap();
            waiting.push(tokio::spawn(async { Answer::read(response.await?).await }));
        }
        let arrivals = gate.clone();
        let arrived = tokio::task::spawn_blocking(move || arrivals.await_arrivals(100));
        arrived.await.unwrap();

        let mut other = Connection::open(&bursar).await;
        let answer = other.get("/api/x").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
        assert_eq!(answer.field("retry-after"), Some("1"));
        gate.open();
        for answer in waiting {
            assert_eq!(answer.await.unwrap().unwrap().status, 200);
        }
        assert_eq!(other.get("/api/x").await.status, 200);
    });
    assert_eq!(lms.calls(), 101);
}
