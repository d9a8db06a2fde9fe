use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, Version};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    support::{
        authorization_server::AuthorizationServer,
        bursar::{Bursar, Extra, toml},
        http::Connection,
        peer::{Peer, Reply},
    },
    tls::Authority,
};

/// An LMS behind TLS that speaks what it is told to, and sends every body back.
struct Lms {
    address: SocketAddr,
    state: Arc<State>,
    _end: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    heads: Mutex<Vec<http::request::Parts>>,
    /// So many requests are answered 401 first.
    unauthorized: AtomicUsize,
    /// What the application gave up.
    resets: Mutex<Vec<h2::Reason>>,
}

impl Lms {
    /// `protocols`: what it takes by ALPN; none: it has no ALPN.
    fn start(authority: &Authority, protocols: &[&str]) -> Self {
        let (certificate, key) = authority.issue("localhost");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::spawn(accept(listener, acceptor, serving));
                let _ended = ended.await;
            });
        });
        Self {
            address,
            state,
            _end: end,
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn heads(&self) -> Vec<http::request::Parts> {
        self.state.heads.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A refused handshake ends here.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            state.connections.fetch_add(1, Ordering::SeqCst);
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                multiplexed(stream, state).await;
            } else {
                one_by_one(stream, &state).await;
            }
        });
    }
}

async fn multiplexed(stream: TlsStream<TcpStream>, state: Arc<State>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(echo(request, respond, Arc::clone(&state)));
    }
}

async fn echo(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    state: Arc<State>,
) {
    let (head, mut body) = request.into_parts();
    let waits = head.uri.path().ends_with("/wait");
    state.heads.lock().unwrap().push(head);
    let refuse = |left: usize| left.checked_sub(1);
    if state
        .unauthorized
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
        .is_ok()
    {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let bearer = http::HeaderValue::from_static("Bearer error=\"invalid_token\"");
        response.headers_mut().insert("www-authenticate", bearer);
        respond.send_response(response, true).unwrap();
        return;
    }
    if waits {
        let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        state.resets.lock().unwrap().extend(reset);
        return;
    }
    let mut whole = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        whole.extend_from_slice(&data);
    }
    let mut sending = respond.send_response(Response::new(()), false).unwrap();
    sending.send_data(whole.freeze(), true).unwrap();
}

async fn one_by_one(mut stream: TlsStream<TcpStream>, state: &State) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let switches = String::from_utf8_lossy(&buffer[..count]).contains("upgrade: websocket");
        let head = Request::builder().version(Version::HTTP_11).body(());
        state
            .heads
            .lock()
            .unwrap()
            .push(head.unwrap().into_parts().0);
        if switches {
            let answer =
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            let _echoed = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
        stream.write_all(answer).await.unwrap();
    }
}

struct Setup {
    lms: Lms,
    server: AuthorizationServer,
    bursar: Bursar,
    _directory: tempfile::TempDir,
}

fn setup(protocols: &[&str], http2: &str) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = Lms::start(&authority, protocols);
    let server = AuthorizationServer::start();
    let nobody = Peer::start(|_| Reply::ok());
    let upstream = format!(
        "ca_file = {:?}\nca_only = true\nhttp2 = {http2:?}",
        authority.file(&directory)
    );
    let extra = Extra {
        upstream: &upstream,
        tail: if http2 == "only" { "" } else { LIVE },
        ..Extra::default()
    };
    let text = toml(&nobody, &server, extra);
    let bursar = Bursar::ready(&text.replace(&nobody.url(), &lms.url()));
    Setup {
        lms,
        server,
        bursar,
        _directory: directory,
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];

const LIVE: &str = r#"
[[upstreams.lms.routes]]
name = "live"
methods = ["GET"]
path = "/live"
scopes = ["api:read"]
upgrade = true
"#;

#[test]
fn a_websocket_goes_over_http_1_1_although_the_lms_prefers_http_2() {
    let it = setup(BOTH, "auto");
    let versions = || -> Vec<Version> { it.lms.heads().iter().map(|head| head.version).collect() };
    assert_eq!(it.bursar.get("/api/x").status, 200);
    assert_eq!(versions(), [Version::HTTP_2]);

    let mut connection = Connection::open(it.bursar.proxy);
    connection.send(format!(
        "GET /live HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        it.bursar.proxy
    ));
    assert_eq!(connection.read_one("GET").unwrap().status, 101);
    assert_eq!(versions(), [Version::HTTP_2, Version::HTTP_11]);
    connection.send("ping");
    assert_eq!(connection.read_bytes(4), b"ping");

    assert_eq!(it.bursar.get("/api/x").status, 200);
    assert_eq!(versions().last(), Some(&Version::HTTP_2));
}

#[test]
fn a_request_goes_over_http_2_where_the_lms_offers_it() {
    let it = setup(BOTH, "auto");
    let fields = "TE: trailers\r\nConnection: x-hop\r\nX-Hop: 1\r\nCookie: a=b\r\n";
    let answer = it.bursar.request("POST", "/api/x?a=1", fields, "hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));

    let heads = it.lms.heads();
    let head = heads.first().unwrap();
    assert_eq!(head.version, Version::HTTP_2);
    assert_eq!(head.uri.to_string(), format!("{}/api/x?a=1", it.lms.url()));
    for gone in [
        "host",
        "te",
        "connection",
        "x-hop",
        "transfer-encoding",
        "cookie",
    ] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers["content-length"], "5");
    assert_eq!(head.headers["authorization"], "Bearer token-1");
}

#[test]
fn fifty_applications_at_once_share_one_connection_per_worker() {
    let it = setup(BOTH, "auto");
    let address = it.bursar.proxy;
    let applications: Vec<_> = (0..50)
        .map(|number| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for _ in 0..5 {
                    let body = format!("{number}");
                    connection.send(format!(
                        "POST /api/x HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                    let answer = connection.answer();
                    assert_eq!((answer.status, answer.text()), (200, body));
                }
            })
        })
        .collect();
    for application in applications {
        application.join().unwrap();
    }
    assert_eq!(it.lms.heads().len(), 250);
    // The configuration has two workers.
    assert!(it.lms.connections() <= 2, "{}", it.lms.connections());
}

#[test]
fn large_bodies_cross_http_2_whole() {
    let it = setup(BOTH, "only");
    let body: String = ('a'..='z').cycle().take(3 * 1024 * 1024).collect();
    let answer = it.bursar.request("PUT", "/api/x", "", &body);
    assert!(answer.complete);
    assert!(answer.text() == body);
    assert_eq!(it.lms.heads()[0].version, Version::HTTP_2);
}

#[test]
fn a_dead_token_is_healed_over_http_2_too() {
    let it = setup(BOTH, "auto");
    it.lms.state.unauthorized.store(1, Ordering::SeqCst);
    let answer = it.bursar.request("POST", "/api/x", "", "hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(it.server.calls(), 2);
    let tokens: Vec<_> = it
        .lms
        .heads()
        .iter()
        .map(|head| head.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-2"]);
}

#[test]
fn an_application_that_hangs_up_gives_its_stream_up() {
    let it = setup(BOTH, "auto");
    let mut connection = Connection::open(it.bursar.proxy);
    connection.send(format!(
        "GET /api/wait HTTP/1.1\r\nHost: {}\r\n\r\n",
        it.bursar.proxy
    ));
    it.bursar
        .until("the request is under way", |_| it.lms.heads().len() == 1);
    // Without the reset it might still be reading.
    let socket = socket2::SockRef::from(connection.stream());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(connection);
    it.bursar.until("the stream is reset", |_| {
        *it.lms.state.resets.lock().unwrap() == [h2::Reason::CANCEL]
    });
    assert_eq!(it.bursar.get("/api/x").status, 200);
}

#[test]
fn an_lms_without_http_2_gets_http_1() {
    for protocols in [&["http/1.1"][..], &[]] {
        let it = setup(protocols, "auto");
        assert_eq!(it.bursar.get("/api/x").text(), "one");
    }
}

#[test]
fn http_2_is_not_spoken_where_it_is_switched_off() {
    let it = setup(BOTH, "never");
    assert_eq!(it.bursar.get("/api/x").text(), "one");
}

#[test]
fn an_lms_without_the_http_2_that_is_demanded_gets_no_byte() {
    for protocols in [&["http/1.1"][..], &[]] {
        let it = setup(protocols, "only");
        let answer = it.bursar.get("/api/x");
        let code = answer.code();
        assert_eq!(
            (answer.status, code.as_str()),
            (502, "upstream_protocol_error")
        );
        assert_eq!(
            answer.json()["detail"],
            "The LMS does not speak the version of HTTP that is set for it."
        );
        assert!(it.lms.heads().is_empty());
    }
}

#[test]
fn the_gauges_tell_of_a_connection_that_waits() {
    let it = setup(BOTH, "auto");
    assert_eq!(it.bursar.get("/api/x").status, 200);
    let gauge = |state: &str| {
        let series = format!(r#"bursar_upstream_connections{{state="{state}",upstream="lms"}}"#);
        it.bursar.metric(&series)
    };
    it.bursar.until("the connection is idle", |_| {
        gauge("idle") == 1.0 && gauge("active") == 0.0
    });
}
