//! The admin sockets over loopback, byte by byte.

use std::{sync::Mutex, time::Duration};

use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    admin::{
        About, AdminState, Configuration, CurrentKeys, NotReloaded, Phase, ReadyNeeds, Reason,
        Reloaded, Reloading,
    },
    clock::ManualClock,
    keys::{Algorithm, KeyView, SigningKey, generate, public_key_set},
    secret::AccessKeys,
    telemetry::DropCounter,
    token::{Readiness, TokenView},
};

const PROBES: [&str; 4] = ["/livez", "/startupz", "/readyz", "/metrics"];
const STATUS: &str = "/api/v1/status";
const KEY_SET: &str = "/.well-known/jwks.json";

/// A process whose state the test sets.
struct State(Mutex<(Phase, bool)>, Mutex<Vec<Arc<SigningKey>>>);

impl AdminState for State {
    fn phase(&self) -> Phase {
        self.0.lock().unwrap().0
    }

    fn readiness(&self) -> Readiness {
        let token = self.0.lock().unwrap().1;
        Readiness {
            first_token: token,
            token,
            awaiting_login: Vec::new(),
        }
    }

    fn tokens(&self) -> Vec<TokenView> {
        Vec::new()
    }

    fn key_set(&self) -> CurrentKeys {
        CurrentKeys {
            set: public_key_set(&*self.1.lock().unwrap()),
            max_age: Duration::from_secs(3_600),
        }
    }

    fn signing_keys(&self) -> Vec<KeyView> {
        Vec::new()
    }

    fn drain(&self) {
        self.0.lock().unwrap().0 = Phase::Draining;
    }

    fn reload(&self) -> Reloading<'_> {
        let outcome = match self.phase() {
            Phase::Draining => Err(NotReloaded {
                reason: Reason::Draining,
                problems: Vec::new(),
            }),
            _ => Ok(Reloaded::default()),
        };
        Box::pin(std::future::ready(outcome))
    }
}

const CONTROL_KEY: &str = "canary-control-key";

/// The sockets of a test, all on ports.
#[derive(Clone, Copy)]
struct Ports {
    listen: SocketAddr,
    control: SocketAddr,
    jwks_listen: Option<SocketAddr>,
}

struct Running {
    state: Arc<State>,
    addresses: Ports,
    _stop: tokio_util::sync::DropGuard,
}

fn start() -> Running {
    start_within(LIMITS)
}

fn start_within(limits: Limits) -> Running {
    start_with(limits, Some(AccessKeys::parse(CONTROL_KEY).unwrap()))
}

fn start_with(limits: Limits, control_keys: Option<AccessKeys>) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let params = AdminParams {
        listen: any,
        control: any.into(),
        control_keys,
        jwks_listen: Some(any),
        ready_needs: ReadyNeeds::FirstToken,
    };
    let listeners = bind(&params).unwrap();
    let addresses = listeners.addresses().clone();
    let state = Arc::new(State(Mutex::new((Phase::Serving, true)), Mutex::default()));
    let configuration = Configuration::new(
        params,
        About {
            config_path: Some("/etc/bursar/config.toml".into()),
            config_hash: "c0ffee".to_owned(),
            listen: Vec::new(),
            admin: addresses.clone(),
            upstreams: Vec::new(),
        },
        Duration::from_secs(1_700_000_000),
    );
    let admin = Admin::new(
        configuration,
        Arc::clone(&state) as Arc<dyn AdminState>,
        Registry::new(),
        DropCounter::default(),
        Arc::new(ManualClock::new()),
    )
    .unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_within(limits, admin, listeners, shutdown.clone()));
    Running {
        state,
        addresses: Ports {
            listen: addresses.listen,
            control: addresses.control.tcp().unwrap(),
            jwks_listen: addresses.jwks_listen,
        },
        _stop: shutdown.drop_guard(),
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends `request` as it is and reads until the peer closes.
async fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

async fn ask(method: &str, address: SocketAddr, target: &str) -> Answer {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    exchange(address, &request).await
}

async fn get(address: SocketAddr, target: &str) -> Answer {
    ask("GET", address, target).await
}

#[tokio::test]
async fn each_path_is_served_on_its_own_socket_and_404_on_the_others() {
    let running = start();
    let Ports {
        listen,
        control,
        jwks_listen,
    } = running.addresses;
    let jwks_listen = jwks_listen.unwrap();

    let served = |path: &str, address: SocketAddr| {
        (PROBES.contains(&path) && address == listen)
            || (path == STATUS && address == control)
            || (path == KEY_SET && address != listen)
    };
    let unknown = [
        "/",
        "/livez/",
        "/metrics/x",
        "//metrics",
        "/%6cetrics",
        "/-/reload",
    ];
    for path in PROBES.into_iter().chain([STATUS, KEY_SET]).chain(unknown) {
        for address in [listen, control, jwks_listen] {
            let answer = get(address, path).await;
            if served(path, address) {
                assert_eq!(answer.status, 200, "{path} on {address}");
            } else {
                assert_eq!(
                    (answer.status, &*answer.body),
                    (404, ""),
                    "{path} on {address}"
                );
            }
        }
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let running = start();
    let addresses = running.addresses;
    for (address, path) in [
        (addresses.listen, "/metrics"),
        (addresses.control, STATUS),
        (addresses.control, "/-/drain"),
        (addresses.jwks_listen.unwrap(), KEY_SET),
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            let answer = ask(method, address, path).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
}

/// A POST on the control socket with these field lines.
async fn post(running: &Running, path: &str, fields: &str) -> u16 {
    let control = running.addresses.control;
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: {control}\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
    exchange(control, &request).await.status
}

const JSON_TYPE: &str = "Content-Type: application/json\r\n";

fn with_key(key: &str) -> String {
    format!("{JSON_TYPE}Bursar-Control: {key}\r\n")
}

fn phase(running: &Running) -> Phase {
    running.state.0.lock().unwrap().0
}

#[tokio::test]
async fn the_drain_begins_for_whoever_shows_the_control_key() {
    let running = start();
    assert_eq!(
        post(&running, "/-/drain", &with_key(CONTROL_KEY)).await,
        200
    );
    assert_eq!(phase(&running), Phase::Draining);
    assert_eq!(
        post(&running, "/-/drain", &with_key(CONTROL_KEY)).await,
        200,
        "again"
    );
}

#[tokio::test]
async fn whoever_does_not_show_it_finds_nothing_to_post_to() {
    let running = start();
    let with_key = with_key(CONTROL_KEY);
    for fields in [
        "".to_owned(),
        JSON_TYPE.to_owned(),
        self::with_key("canary-control-keY"),
        self::with_key(""),
        format!("{with_key}Bursar-Control: {CONTROL_KEY}\r\n"),
        format!("{JSON_TYPE}Authorization: Bearer {CONTROL_KEY}\r\n"),
        format!("Bursar-Control: {CONTROL_KEY}\r\n"),
        format!("Content-Type: text/plain\r\nBursar-Control: {CONTROL_KEY}\r\n"),
        format!("Content-Type: application/json5\r\nBursar-Control: {CONTROL_KEY}\r\n"),
    ] {
        assert_eq!(post(&running, "/-/drain", &fields).await, 404, "{fields}");
        assert_eq!(phase(&running), Phase::Serving, "{fields}");
    }
    let page = format!("{with_key}Origin: http://evil.test\r\n");
    assert_eq!(post(&running, "/-/drain", &page).await, 403);
    for path in ["/", "/-/", "/-/drain/", "//-/drain", "/-/quit", STATUS] {
        assert_eq!(post(&running, path, &with_key).await, 404, "{path}");
    }
    assert_eq!(get(running.addresses.control, "/-/drain").await.status, 404);
    assert_eq!(phase(&running), Phase::Serving);
}

#[tokio::test]
async fn without_a_control_key_no_key_fits() {
    let running = start_with(LIMITS, None);
    for key in ["", CONTROL_KEY] {
        assert_eq!(post(&running, "/-/drain", &with_key(key)).await, 404);
    }
    assert_eq!(phase(&running), Phase::Serving);
}

#[tokio::test]
async fn a_charset_behind_the_media_type_is_json_too() {
    let running = start();
    let fields = format!(
        "Content-Type: Application/JSON; charset=utf-8\r\nBursar-Control: {CONTROL_KEY}\r\n"
    );
    assert_eq!(post(&running, "/-/drain", &fields).await, 200);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let running = start();
    for (address, path) in [
        (running.addresses.listen, "/readyz"),
        (running.addresses.control, STATUS),
        (running.addresses.control, KEY_SET),
    ] {
        let got = get(address, path).await;
        let head = ask("HEAD", address, path).await;
        assert_eq!((head.status, &*head.body), (200, ""));
        let length = format!("content-length: {}", got.body.len());
        assert!(head.head.contains(&length), "{path}: {}", head.head);
    }
}

#[tokio::test]
async fn probes_answer_by_any_name() {
    let running = start();
    let request = "GET /livez HTTP/1.1\r\nHost: 10.1.2.3:9464\r\nOrigin: http://x.test\r\n\r\n";
    assert_eq!(
        exchange(running.addresses.listen, request).await.status,
        200
    );
}

#[tokio::test]
async fn control_refuses_foreign_names_and_web_pages_with_a_problem() {
    let running = start();
    let control = running.addresses.control;
    let foreign = format!("GET {STATUS} HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    let page = format!("GET {STATUS} HTTP/1.1\r\nHost: {control}\r\nOrigin: null\r\n\r\n");
    for (request, status, code) in [
        (foreign, 421, "misdirected_request"),
        (page, 403, "browser_request_denied"),
    ] {
        let answer = exchange(control, &request).await;
        assert_eq!(answer.status, status);
        assert!(
            answer
                .head
                .contains("content-type: application/problem+json")
        );
        assert!(answer.head.contains("bursar-request-id: "));
        assert!(answer.head.contains("proxy-status: bursar; error="));
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["code"], code);
        assert_eq!(problem["status"], status);
    }
}

#[tokio::test]
async fn the_key_set_socket_survives_absolute_form_and_connect() {
    let running = start();
    let address = running.addresses.jwks_listen.unwrap();
    let absolute = format!("GET http://keys.example.edu{KEY_SET} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(exchange(address, &absolute).await.status, 200);
    let connect = "CONNECT lms.example.edu:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = exchange(address, connect).await;
    assert_eq!((answer.status, &*answer.body), (404, ""));
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(exchange(address, asterisk).await.status, 404);
}

#[tokio::test]
async fn the_key_set_may_be_cached_and_is_counted() {
    let running = start();
    let address = running.addresses.jwks_listen.unwrap();
    let answer = get(address, KEY_SET).await;
    assert_eq!(answer.body, r#"{"keys":[]}"#);
    assert!(answer.head.contains("cache-control: public, max-age=300"));
    assert!(
        answer
            .head
            .contains("content-type: application/jwk-set+json")
    );
    get(address, "/favicon.ico").await;

    let metrics = get(running.addresses.listen, "/metrics").await.body;
    for line in [
        r#"bursar_jwks_requests_total{code="200"} 1"#,
        r#"bursar_jwks_requests_total{code="304"} 0"#,
        r#"bursar_jwks_requests_total{code="404"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_key_that_is_new_or_withdrawn_changes_the_set_and_its_tag() {
    let running = start();
    let address = running.addresses.jwks_listen.unwrap();
    let tag = |answer: &Answer| {
        let tag = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("etag: "));
        tag.unwrap().to_owned()
    };
    let before = get(address, KEY_SET).await;
    let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
    let kid = key.kid().to_owned();
    running.state.1.lock().unwrap().push(Arc::new(key));
    let after = get(address, KEY_SET).await;
    assert!(!before.body.contains(&kid) && after.body.contains(&kid));
    assert_ne!(tag(&before), tag(&after));
    running.state.1.lock().unwrap().clear();
    assert_eq!(tag(&get(address, KEY_SET).await), tag(&before));
}

#[tokio::test]
async fn readiness_follows_the_process() {
    let running = start();
    let listen = running.addresses.listen;
    let set = |phase, token| *running.state.0.lock().unwrap() = (phase, token);

    set(Phase::Starting, false);
    assert_eq!(get(listen, "/livez").await.status, 200);
    assert_eq!(get(listen, "/startupz").await.status, 503);
    assert_eq!(get(listen, "/readyz").await.status, 503);

    set(Phase::Serving, false);
    assert_eq!(get(listen, "/startupz").await.status, 200);
    let unready = get(listen, "/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("[-]first_token failed"));

    set(Phase::Serving, true);
    assert_eq!(get(listen, "/readyz").await.body, "ok\n");
    let verbose = get(listen, "/readyz?verbose").await;
    assert_eq!(verbose.status, 200);
    assert!(verbose.body.contains("[+]first_token ok"));

    set(Phase::Draining, true);
    assert_eq!(get(listen, "/livez").await.status, 200);
    assert_eq!(get(listen, "/startupz").await.status, 200);
    assert!(
        get(listen, "/readyz")
            .await
            .body
            .contains("[-]shutdown failed")
    );
}

#[tokio::test]
async fn metrics_are_computed_when_scraped() {
    let running = start();
    let listen = running.addresses.listen;
    let answer = get(listen, "/metrics").await;
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    assert!(answer.body.contains("bursar_ready 1\n"));
    assert!(answer.body.contains("bursar_draining 0\n"));
    assert!(answer.body.contains("bursar_log_dropped_total 0\n"));
    assert!(
        answer
            .body
            .contains(r#"bursar_config_info{hash="c0ffee"} 1"#)
    );
    assert!(
        answer
            .body
            .contains("process_start_time_seconds 1767225600")
    );

    *running.state.0.lock().unwrap() = (Phase::Draining, true);
    let metrics = get(listen, "/metrics").await.body;
    assert!(metrics.contains("bursar_ready 0\n"));
    assert!(metrics.contains("bursar_draining 1\n"));
}

#[tokio::test]
async fn the_status_is_json_that_nobody_keeps() {
    let running = start();
    let answer = get(running.addresses.control, STATUS).await;
    assert!(answer.head.contains("content-type: application/json"));
    assert!(answer.head.contains("cache-control: no-store"));
    let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["ready"], true);
    assert_eq!(status["config_path"], "/etc/bursar/config.toml");
    assert_eq!(
        status["admin"]["listen"],
        running.addresses.listen.to_string()
    );
}

#[tokio::test]
async fn slow_peers_give_way_to_others_the_oldest_first() {
    let running = start_within(Limits {
        connections: 3,
        connection_time: Duration::from_secs(3600),
    });
    let listen = running.addresses.listen;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(listen).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(get(listen, "/livez").await.status, 200);

    let mut nothing = Vec::new();
    slow[0].read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty(), "closed without an answer");
    slow[1].write_all(b"Host: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    slow[1].read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "the others may go on");
}

#[tokio::test]
async fn a_slow_peer_is_cut_off() {
    let running = start_within(Limits {
        connections: 1,
        connection_time: Duration::from_millis(50),
    });
    let mut slow = TcpStream::connect(running.addresses.listen).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let mut nothing = Vec::new();
    // That this ends is the proof.
    slow.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn an_address_that_is_taken_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(&AdminParams {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        control: address.into(),
        control_keys: None,
        jwks_listen: None,
        ready_needs: ReadyNeeds::default(),
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address} (admin.control)")
    );
}
