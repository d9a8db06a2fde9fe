//! Whole connections over loopback to a bursar without upstreams: everything that is refused before
//! an upstream is chosen, and the life of connections.

use super::*;
use crate::{
    clock::SystemClock,
    proxy::{HostName, LogRequests, metrics::ProxyMetrics},
    telemetry::testing::Captured,
};
use prometheus::{Registry, TextEncoder};
use std::net::{self, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A running worker.
struct Bursar {
    address: SocketAddr,
    shutdown: CancellationToken,
    registry: Registry,
    worker: tokio::task::JoinHandle<()>,
}

fn params() -> ServerParams {
    ServerParams {
        caller_keys: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        socket_mode: 0o600,
        allowed_uids: None,
        hosts: vec![HostName {
            host: "bursar".to_owned(),
            port: None,
        }],
        workers: 1,
        max_connections: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_millis(200),
        log_requests: LogRequests::Denied,
    }
}

fn proxy(server: ServerParams, registry: &Registry) -> Arc<Proxy> {
    Arc::new(Proxy {
        server,
        upstreams: Vec::new(),
        metrics: ProxyMetrics::new(registry, &[]).unwrap(),
        clock: Arc::new(SystemClock),
    })
}

impl Bursar {
    fn start(server: ServerParams) -> Self {
        let registry = Registry::new();
        let (mut listeners, addresses) = bind(&server, &[]).unwrap();
        let proxy = proxy(server, &registry);
        let shutdown = CancellationToken::new();
        let worker = serve(proxy, listeners.remove(0), shutdown.clone());
        Self {
            address: addresses[0].tcp().unwrap(),
            shutdown,
            registry,
            worker: tokio::task::spawn_local(worker),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back until bursar closes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    fn metrics(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
        .block_on(test);
}

/// Each answer of a connection: head and body.
fn answers(text: &str) -> Vec<(&str, &str)> {
    let mut rest = text;
    let mut answers = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let (body, after) = after.split_at(length);
        answers.push((head, body));
        rest = after;
    }
    answers
}

const CLOSE: &str = "Connection: close\r\n";

#[test]
fn every_refusal_is_a_problem_of_ours_with_a_request_id() {
    run(async {
        let bursar = Bursar::start(params());
        for (request, status, code) in [
            (
                "GET / HTTP/1.1\r\nHost: evil\r\n",
                421,
                "misdirected_request",
            ),
            ("GET / HTTP/1.1\r\n", 400, "host_invalid"),
            ("GET / HTTP/1.0\r\n", 400, "host_invalid"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
                400,
                "host_invalid",
            ),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n", 400, "host_invalid"),
            (
                "GET http://evil/ HTTP/1.1\r\nHost: bursar\r\n",
                400,
                "host_invalid",
            ),
            (
                "GET evil:80 HTTP/1.1\r\nHost: bursar\r\n",
                400,
                "path_ambiguous",
            ),
            (
                "GET /a#b HTTP/1.1\r\nHost: bursar\r\n",
                400,
                "path_ambiguous",
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: bursar\r\n",
                400,
                "path_ambiguous",
            ),
            (
                "TRACE / HTTP/1.1\r\nHost: bursar\r\n",
                405,
                "method_not_allowed",
            ),
            (
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n",
                405,
                "method_not_allowed",
            ),
            (
                "GET / HTTP/1.1\r\nX_Forwarded_User: a\r\n",
                400,
                "header_name_ambiguous",
            ),
            (
                "GET / HTTP/1.1\r\nOrigin: null\r\n",
                403,
                "browser_request_denied",
            ),
            (
                "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n",
                403,
                "upgrade_denied",
            ),
            (
                "POST / HTTP/1.1\r\nExpect: foo\r\n",
                417,
                "expectation_failed",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
                501,
                "transfer_coding_unsupported",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n",
                400,
                "framing_invalid",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                400,
                "framing_invalid",
            ),
        ] {
            let text = bursar.exchange(&format!("{request}{CLOSE}\r\n")).await;
            let [(head, body)] = answers(&text)[..] else {
                panic!("{request}: {text}")
            };
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["code"], code, "{request}");
            assert_eq!(problem["status"], status, "{request}");
            assert!(head.contains(&format!(" {status} ")), "{head}");
            assert!(
                head.contains("content-type: application/problem+json"),
                "{head}"
            );
            assert!(head.contains("cache-control: no-store"), "{head}");
            assert!(head.contains("proxy-status: bursar; error="), "{head}");
            let closes = head.starts_with("HTTP/1.0") || head.contains("connection: close");
            assert!(closes, "{head}");
            assert!(head.contains("date: "), "{head}");
            let id = problem["instance"].as_str().unwrap();
            assert!(head.contains(&format!("bursar-request-id: {id}")), "{head}");
        }
    });
}

#[test]
fn head_gets_the_fields_of_a_refusal_without_its_body() {
    run(async {
        let bursar = Bursar::start(params());
        let text = bursar
            .exchange(&format!("HEAD / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n"))
            .await;
        assert!(text.starts_with("HTTP/1.1 421"), "{text}");
        assert!(
            text.contains("content-type: application/problem+json"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    });
}

#[test]
fn the_body_of_a_refused_request_is_never_taken_for_a_request() {
    run(async {
        let bursar = Bursar::start(params());
        let smuggled = "GET /x HTTP/1.1\r\nHost: bursar\r\n\r\n";
        let text = bursar
            .exchange(&format!(
                "POST / HTTP/1.1\r\nHost: evil\r\nContent-Length: {}\r\n\r\n{smuggled}\
                 TRACE / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n",
                smuggled.len()
            ))
            .await;
        let statuses: Vec<_> = answers(&text)
            .iter()
            .map(|(head, _)| head.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(statuses, ["421", "405"], "{text}");
    });
}

#[test]
fn a_refused_body_that_is_too_large_to_drop_ends_the_connection() {
    run(async {
        let bursar = Bursar::start(params());
        let smuggled = "GET /x HTTP/1.1\r\nHost: evil\r\n\r\n".repeat(10_000);
        for framing in [
            format!("Content-Length: {}\r\n\r\n", smuggled.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", smuggled.len()),
        ] {
            let text = bursar
                .exchange(&format!(
                    "POST / HTTP/1.1\r\nHost: evil\r\n{framing}{smuggled}"
                ))
                .await;
            let [(head, _)] = answers(&text)[..] else {
                panic!("{text}")
            };
            assert!(head.starts_with("HTTP/1.1 421"), "{head}");
            assert!(head.contains("connection: close"), "{head}");
        }
    });
}

#[test]
fn a_refused_request_is_never_told_to_continue() {
    run(async {
        let bursar = Bursar::start(params());
        let text = bursar
            .exchange("POST / HTTP/1.1\r\nHost: evil\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            .await;
        assert!(text.starts_with("HTTP/1.1 421"), "{text}");
        assert!(text.contains("connection: close"), "{text}");
    });
}

#[test]
fn an_offer_of_h2c_leaves_the_connection_as_it_is() {
    run(async {
        let bursar = Bursar::start(params());
        let offer =
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
        let text = bursar
            .exchange(&format!(
                "GET / HTTP/1.1\r\nHost: evil\r\n{offer}\r\n\
                 GET / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n"
            ))
            .await;
        assert_eq!(answers(&text).len(), 2, "{text}");
    });
}

#[test]
fn a_connection_that_is_there_already_is_served_without_a_socket() {
    run(async {
        let (mut application, bursar) = tokio::io::duplex(4096);
        let proxy = proxy(params(), &Registry::new());
        let serving = tokio::task::spawn_local(serve_one(proxy, bursar));
        let request = "GET / HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n";
        application.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        application.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        serving.await.unwrap();
    });
}

#[test]
fn a_slow_head_gets_a_408_problem() {
    run(async {
        let bursar = Bursar::start(ServerParams {
            header_timeout: Duration::from_millis(50),
            ..params()
        });
        let text = bursar.exchange("GET / HTTP/1.1\r\nHost: ").await;
        let [(head, body)] = answers(&text)[..] else {
            panic!("{text}")
        };
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout"), "{head}");
        assert!(body.contains(r#""code":"client_timeout""#), "{body}");
        assert!(bursar.metrics().contains(
            r#"bursar_http_requests_total{code="408",route="_unmatched",upstream="_none"} 1"#
        ));
    });
}

#[test]
fn a_connection_for_which_there_is_no_seat_is_told_so_and_a_freed_seat_is_used_again() {
    run(async {
        let bursar = Bursar::start(ServerParams {
            max_connections: 1,
            ..params()
        });
        let request = "GET / HTTP/1.1\r\nHost: evil\r\n\r\n";
        let mut seated = bursar.connect().await;
        seated.write_all(request.as_bytes()).await.unwrap();
        seated.read_u8().await.unwrap();

        let text = bursar.exchange(request).await;
        let [(head, body)] = answers(&text)[..] else {
            panic!("{text}")
        };
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert!(head.contains("retry-after: 1"), "{head}");
        assert!(body.contains(r#""code":"overloaded""#), "{body}");

        drop(seated);
        loop {
            let text = bursar
                .exchange(&request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
                .await;
            if text.starts_with("HTTP/1.1 421") {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn shutdown_closes_idle_connections_and_the_listener_and_then_returns() {
    run(async {
        let bursar = Bursar::start(params());
        let mut idle = bursar.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n")
            .await
            .unwrap();
        idle.read_u8().await.unwrap();
        bursar.shutdown.cancel();
        assert!(read_to_end(&mut idle).await.starts_with("TTP/1.1 421"));
        bursar.worker.await.unwrap();
        assert!(TcpStream::connect(bursar.address).await.is_err());
    });
}

#[test]
fn a_connection_in_use_learns_of_the_shutdown_from_its_next_answer() {
    run(async {
        let bursar = Bursar::start(ServerParams {
            drain_timeout: Duration::from_secs(20),
            ..params()
        });
        let mut busy = bursar.connect().await;
        let request = b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n";
        busy.write_all(request).await.unwrap();
        busy.read_u8().await.unwrap();
        bursar.shutdown.cancel();
        while TcpStream::connect(bursar.address).await.is_ok() {}
        busy.write_all(request).await.unwrap();
        let text = read_to_end(&mut busy).await;
        let heads: Vec<_> = answers(&text).into_iter().map(|(head, _)| head).collect();
        assert_eq!(heads.len(), 2, "{text}");
        assert!(!heads[0].contains("connection: close"), "{text}");
        assert!(heads[1].contains("connection: close"), "{text}");
        bursar.worker.await.unwrap();
    });
}

#[test]
fn whoever_the_kernel_let_in_before_the_shutdown_is_answered() {
    run(async {
        let bursar = Bursar::start(params());
        // The worker runs on this thread: it cannot accept any of them before the shutdown.
        let mut waiting: Vec<_> = (0..32)
            .map(|_| {
                let mut stream = net::TcpStream::connect(bursar.address).unwrap();
                io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n").unwrap();
                stream.set_nonblocking(true).unwrap();
                TcpStream::from_std(stream).unwrap()
            })
            .collect();
        bursar.shutdown.cancel();
        for stream in &mut waiting {
            assert!(read_to_end(stream).await.starts_with("HTTP/1.1 421"));
        }
        bursar.worker.await.unwrap();
    });
}

#[test]
fn a_connection_that_does_not_finish_is_cut_off_at_the_drain_deadline() {
    run(async {
        let bursar = Bursar::start(params());
        let mut slow = bursar.connect().await;
        slow.write_all(b"POST / HTTP/1.1\r\nHost: ").await.unwrap();
        // A second connection is answered after the first one's bytes have been read.
        bursar
            .exchange(&format!("GET / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n"))
            .await;
        bursar.shutdown.cancel();
        bursar.worker.await.unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    });
}

#[test]
fn requests_are_counted_by_what_was_answered() {
    run(async {
        let bursar = Bursar::start(params());
        for _ in 0..2 {
            bursar
                .exchange(&format!("GET / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n"))
                .await;
        }
        bursar
            .exchange("GET / HTTP/1.1\r\nbad header\r\n\r\n")
            .await;
        let metrics = bursar.metrics();
        for line in [
            r#"bursar_http_requests_total{code="421",route="_unmatched",upstream="_none"} 2"#,
            r#"bursar_http_requests_total{code="400",route="_unmatched",upstream="_none"} 1"#,
            r#"bursar_policy_decisions_total{decision="deny",reason="host",route="_unmatched",upstream="_none"} 2"#,
            r#"bursar_policy_decisions_total{decision="deny",reason="framing",route="_unmatched",upstream="_none"} 1"#,
            r#"bursar_overhead_duration_seconds_count{upstream="_none"} 2"#,
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
    });
}

#[test]
fn a_denied_request_is_logged_without_a_byte_of_its_target_or_its_fields() {
    let (log, _guard) = Captured::listen(tracing::Level::INFO);
    run(async {
        let bursar = Bursar::start(params());
        // Other tests may have met the same log call first, and have cached that nobody listens.
        let first = format!("GET / HTTP/1.1\r\nHost: evil\r\n{CLOSE}\r\n");
        bursar.exchange(&first).await;
        tracing::callsite::rebuild_interest_cache();
        log.clear();
        let method = "M".repeat(1_000);
        let canaries =
            "Host: canary-host\r\nAuthorization: Bearer canary-token\r\nCookie: canary-cookie";
        let text = bursar
            .exchange(&format!(
                "{method} /canary-path?canary-query=1 HTTP/1.1\r\n{canaries}\r\n{CLOSE}\r\n"
            ))
            .await;
        assert!(!text.contains("canary"), "{text}");
    });
    let text = log.text();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["target"], "bursar::access");
    assert_eq!(line["level"], "warn");
    assert_eq!(line["code"], "misdirected_request");
    assert_eq!(line["status"], 421);
    assert_eq!(line["decision"], "deny");
    assert_eq!(line["reason"], "host");
    assert_eq!(line["method"].as_str().unwrap().len(), 256);
    assert_eq!(line["request_id"].as_str().unwrap().len(), 32);
    assert!(line["bytes_in"].as_u64().unwrap() > 1_000);
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn several_workers_share_one_port_that_nobody_else_can_take() {
    let server = ServerParams {
        workers: 3,
        ..params()
    };
    let (workers, addresses) = bind(&server, &[]).unwrap();
    assert_eq!(workers.len(), 3);
    let port = addresses[0].port();
    for worker in &workers {
        let address = worker.sockets[0].listener.address().unwrap();
        assert_eq!(address.port(), port);
    }
    for workers in [1, 3] {
        let again = ServerParams {
            listen: addresses[0].clone(),
            workers,
            ..params()
        };
        let error = bind(&again, &[]).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&addresses[0].to_string()));
    }
}

#[test]
fn on_a_unix_socket_the_system_says_who_may_connect() {
    let with = |allowed_uids| ServerParams {
        allowed_uids,
        ..params()
    };
    let ours = rustix::process::geteuid().as_raw();
    let (known, unknown) = (ours + 1, ours + 2);
    let some = with(Some(vec![known]));
    for uid in [0, ours, known] {
        assert!(is_admitted(&some, Peer::Unix(Some(uid))), "{uid}");
    }
    for peer in [Peer::Unix(Some(unknown)), Peer::Unix(None)] {
        assert!(!is_admitted(&some, peer), "{peer:?}");
        assert!(is_admitted(&with(None), peer), "the mode alone decides");
    }
    assert!(!is_admitted(
        &with(Some(Vec::new())),
        Peer::Unix(Some(known))
    ));
    assert!(is_admitted(&some, Peer::Tcp));
}

#[test]
fn a_seat_is_free_again_when_it_is_left() {
    let seats = Seats::default();
    let seat = seats.take(1);
    assert!(seat.is_some());
    assert!(seats.take(1).is_none());
    drop(seat);
    assert!(seats.take(1).is_some());
}

#[test]
fn the_number_of_seats_may_change_while_they_are_taken() {
    let seats = Seats::default();
    let taken = [seats.take(2), seats.take(2)];
    assert!(taken.iter().all(Option::is_some));
    assert!(seats.take(1).is_none());
    assert!(seats.take(3).is_some());
    drop(taken);
    assert!(seats.take(1).is_some());
}
