//! A whole request: an application with a keep-alive connection, bursar or nothing, and an LMS that has its answer ready.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bursar::{
    app::App,
    clock::SystemClock,
    config::{LoadOptions, load},
    telemetry::LogHandle,
};

use super::Round;

/// 207 bytes of JSON, as much as a small answer of an LMS.
const BODY_LENGTH: usize = 207;

/// The application and the LMS, with nothing between.
pub(super) fn direct() -> Round {
    rounds_to(start_lms(), ())
}

/// The application, bursar, the LMS.
pub(super) fn bursar() -> Round {
    let lms = start_lms();
    let toml = format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        admin = {{ listen = "127.0.0.1:0", control = "127.0.0.1:0" }}
        [credentials.app]
        grant = "static"
        token = "bench-token-0123456789"
        [upstreams.lms]
        base_url = "http://{lms}"
        credential = "app"
        scopes = ["users:userdata:read"]
        [[upstreams.lms.routes]]
        name = "users"
        methods = ["GET"]
        path = "/d2l/api/lp/{{version}}/users/{{userId}}"
        scopes = ["users:userdata:read"]
        "#
    );
    let loaded = load(&LoadOptions::from_text("bench.toml", &toml))
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let running = App::start(loaded, Arc::new(SystemClock), LogHandle::default()).unwrap();
    let address = running.addresses().proxy[0].tcp().unwrap();
    rounds_to(address, running)
}

/// `keep` lives as long as the rounds.
fn rounds_to<T: 'static>(address: SocketAddr, keep: T) -> Round {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let request = format!(
        "GET /d2l/api/lp/1.49/users/1001 HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\
         User-Agent: bench\r\nAccept-Language: en\r\nX-Correlation: 1\r\n\r\n"
    );
    let mut answer = Vec::with_capacity(4096);
    let mut piece = [0; 4096];
    Box::new(move || {
        let _alive = &keep;
        connection.write_all(request.as_bytes()).unwrap();
        answer.clear();
        while !is_whole(&answer) {
            let count = connection.read(&mut piece).unwrap();
            assert_ne!(count, 0, "the connection ended");
            answer.extend_from_slice(&piece[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    })
}

fn is_whole(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    end.is_some_and(|end| answer.len() >= end + 4 + BODY_LENGTH)
}

fn start_lms() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_all(stream.unwrap()));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let body = "x".repeat(BODY_LENGTH);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY_LENGTH}\r\n\r\n{body}"
    );
    let mut head = Vec::with_capacity(4096);
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        head.extend_from_slice(&piece[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
