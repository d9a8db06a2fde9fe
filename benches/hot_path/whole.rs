//! A whole request: an application with a keep-alive connection, bursar or nothing, and an LMS that has its answer ready. All of them
//! take turns on one thread, and between them are pipes in memory.

use std::sync::Arc;

use bursar::{
    clock::{Clock, SystemClock},
    config::{Config, UpstreamConfig},
    dial::{Connect, Way},
    policy::Policy,
    proxy::{
        Proxy, TokensOf, Upstream,
        listener::serve_one,
        metrics::{ProxyMetrics, UpstreamLabels},
    },
    store::{Store, StoreMetrics},
    token::{Brokers, TokenMetrics},
};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc,
    task::spawn_local,
};

use super::{Round, steps::config};

const CONFIG: &str = r#"
[credentials.app]
grant = "static"
token = "bench-token-0123456789"

[upstreams.lms]
base_url = "http://localhost"
credential = "app"
scopes = ["users:userdata:read"]

[[upstreams.lms.routes]]
name = "users"
methods = ["GET"]
path = "/d2l/api/lp/{version}/users/{userId}"
scopes = ["users:userdata:read"]
"#;

const REQUEST: &[u8] =
    b"GET /d2l/api/lp/1.49/users/1001 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
    User-Agent: bench\r\nAccept-Language: en\r\nX-Correlation: 1\r\n\r\n";

/// 207 bytes of JSON, as much as a small answer of an LMS.
const BODY_LENGTH: usize = 207;

/// What a pipe holds: more than anything that is sent here.
const PIPE: usize = 16 * 1024;

/// The application and the LMS, with nothing between.
pub(super) fn direct() -> Round {
    let (application, lms) = duplex(PIPE);
    let runtime = runtime();
    runtime.spawn_local(answer_all(lms));
    rounds_on(runtime, application, ())
}

/// The application, bursar, the LMS.
pub(super) fn bursar() -> Round {
    let (dialled, mut accepted) = mpsc::unbounded_channel();
    let connect: Arc<Connect> = Arc::new(move || {
        let (ours, lms) = duplex(PIPE);
        dialled.send(lms).unwrap();
        ours
    });
    let runtime = runtime();
    let (proxy, brokers) = proxy(&runtime, connect);
    runtime.spawn_local(async move {
        while let Some(stream) = accepted.recv().await {
            spawn_local(answer_all(stream));
        }
    });
    let (application, theirs) = duplex(PIPE);
    runtime.spawn_local(serve_one(proxy, theirs));
    rounds_on(runtime, application, brokers)
}

/// `keep` lives as long as the rounds.
fn rounds_on<T: 'static>(runtime: LocalRuntime, mut application: DuplexStream, keep: T) -> Round {
    let mut answer = Vec::with_capacity(4096);
    Box::new(move || {
        let _alive = &keep;
        answer.clear();
        runtime.block_on(async {
            application.write_all(REQUEST).await.unwrap();
            while !is_whole(&answer) {
                let count = application.read_buf(&mut answer).await.unwrap();
                assert_ne!(count, 0, "the connection ended");
            }
        });
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    })
}

fn is_whole(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    end.is_some_and(|end| answer.len() >= end + 4 + BODY_LENGTH)
}

async fn answer_all(mut stream: DuplexStream) {
    let body = "x".repeat(BODY_LENGTH);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY_LENGTH}\r\n\r\n{body}"
    );
    let mut head = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn runtime() -> LocalRuntime {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap()
}

/// A bursar whose upstream is reached by `connect`. Its tokens live as long as the brokers.
fn proxy(runtime: &LocalRuntime, connect: Arc<Connect>) -> (Arc<Proxy>, Brokers) {
    let _entered = runtime.enter();
    let registry = Registry::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(TokenMetrics::new(&registry).unwrap());
    let Config {
        server,
        upstreams,
        state,
        ..
    } = config(CONFIG);
    let store = Store::new(&state, Arc::new(StoreMetrics::new(&registry).unwrap()));
    let brokers = Brokers::new(runtime.handle().clone(), Arc::clone(&clock), metrics, store);
    let mut generation = brokers.generation();
    let UpstreamConfig {
        mut params,
        policy,
        tokens,
        ..
    } = upstreams.into_iter().next().unwrap();
    params.dialer.way = Way::Memory(connect);
    let upstream = Upstream {
        params,
        policy: Policy::build(&policy).unwrap(),
        tokens: TokensOf {
            credential: Arc::clone(&tokens.credential.name),
            broker: generation.broker(&tokens.credential, tokens.ask),
        },
        route_tokens: Vec::new(),
        pacer: None,
    };
    generation.enter();
    let labels = UpstreamLabels {
        name: &upstream.params.name,
        mode: upstream.policy.mode(),
        routes: upstream.policy.labels(),
        explicit: upstream.policy.explicit_labels(),
        paces: false,
    };
    let metrics = ProxyMetrics::new(&registry, &[labels]).unwrap();
    let proxy = Proxy {
        server,
        upstreams: vec![Arc::new(upstream)],
        metrics,
        clock,
    };
    (Arc::new(proxy), brokers)
}
