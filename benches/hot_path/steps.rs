//! The steps of a request's way, one by one.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bursar::{
    clock::SystemClock,
    config::{Config, LoadOptions, load},
    policy::{CanonicalPath, Permit, Policy, Server},
    proxy::headers::{RequestRules, Via, rewrite_request, rewrite_response},
    scope::{Scope, ScopeSet},
    store::{Store, StoreMetrics},
    token::{Brokers, TokenMetrics},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, uri::PathAndQuery};
use prometheus::Registry;
use tokio::runtime::Builder;

use super::Round;

const BRIGHTSPACE: &str = r#"
[credentials.d2l]
grant = "static"
token = "bench-token-0123456789"

[upstreams.lms]
base_url = "https://school.brightspace.com"
credential = "d2l"
catalogue = "brightspace"
scopes = ["users:userdata:read", "enrollment:orgunit:read", "grades:gradevalues:read,write", "content:*:*"]
"#;

const CANVAS: &str = r#"
[credentials.canvas]
grant = "static"
token = "bench-token-0123456789"

[upstreams.lms]
base_url = "https://school.instructure.com"
credential = "canvas"
catalogue = "canvas"
request_scopes = false
scopes = ["url:GET|/api/v1/courses/*", "url:PUT|/api/v1/courses/*"]
"#;

pub(super) fn canonicalise_plain() -> Round {
    let path = "/d2l/api/le/1.49/6606/grades/12/values/1001";
    Box::new(move || {
        let _ = black_box(CanonicalPath::parse(black_box(path), Server::AspNet));
    })
}

pub(super) fn canonicalise_escaped() -> Round {
    let path = "/d2l/api/le/1.49/6606/content/r%C3%A9sum%C3%A9%20of%20chapter%201";
    Box::new(move || {
        let _ = black_box(CanonicalPath::parse(black_box(path), Server::AspNet));
    })
}

pub(super) fn scope_covered() -> Round {
    let allowlist = ScopeSet::parse(
        "users:userdata:read enrollment:orgunit:read grades:gradevalues:read,write content:*:*",
    )
    .unwrap();
    let needed = Scope::parse("grades:gradevalues:read,write").unwrap();
    Box::new(move || {
        assert!(black_box(&allowlist).covers(black_box(&needed)));
    })
}

pub(super) fn decide_brightspace() -> Round {
    decide(BRIGHTSPACE, "/d2l/api/le/1.49/6606/grades/12/values/1001")
}

pub(super) fn decide_canvas() -> Round {
    decide(
        CANVAS,
        "/api/v1/courses/42/assignments/7/submissions/99?include%5B%5D=user",
    )
}

/// From the permit to the token: what a request pays while there is a usable one.
pub(super) fn token_load() -> Round {
    let config = config(BRIGHTSPACE);
    let upstream = config.upstreams.into_iter().next().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let brokers = {
        let _entered = runtime.enter();
        let metrics = Arc::new(TokenMetrics::new(&Registry::new()).unwrap());
        let store = Arc::new(StoreMetrics::new(&Registry::new()).unwrap());
        let store = Store::new(&config.state, store);
        Brokers::new(
            runtime.handle().clone(),
            Arc::new(SystemClock),
            metrics,
            store,
        )
    };
    let mut generation = brokers.generation();
    let broker = generation.broker(&upstream.tokens.credential, upstream.tokens.ask);
    let policy = Policy::build(&upstream.policy).unwrap();
    let permit = permit(&policy, "/d2l/api/le/1.49/6606/grades/12/values/1001");
    Box::new(move || {
        let _alive = (&runtime, &brokers);
        let headers = HeaderMap::new();
        let claim = broker.claim(black_box(&permit), &headers).unwrap();
        let token = pin!(broker.token(&claim));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(token.poll(&mut context), Poll::Ready(Ok(_))));
    })
}

/// A request of a browser-like library, with what must not pass. Making the map anew is part of it: it cannot be kept out.
pub(super) fn request_headers() -> Round {
    let rules = RequestRules {
        subject_headers: Vec::new(),
        host: HeaderValue::from_static("school.brightspace.com"),
        via: Via::new("bursar-3f9c2a71"),
        cookies: false,
    };
    let headers = fields(&[
        ("host", "localhost:8080"),
        ("accept", "application/json"),
        ("user-agent", "python-requests/2.32"),
        ("accept-language", "de-CH,de;q=0.9"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("connection", "keep-alive"),
        ("authorization", "Bearer its-own"),
        ("cookie", "session=1"),
    ]);
    Box::new(move || {
        let mut headers = headers.clone();
        rewrite_request(&mut headers, Version::HTTP_11, &rules);
        black_box(headers);
    })
}

pub(super) fn response_headers() -> Round {
    let headers = fields(&[
        ("content-type", "application/json; charset=utf-8"),
        ("date", "Fri, 27 Nov 2026 10:00:00 GMT"),
        ("server", "lms"),
        ("x-rate-limit-remaining", "49990"),
        ("x-request-cost", "10"),
        ("set-cookie", "session=1"),
        ("content-length", "207"),
    ]);
    Box::new(move || {
        let mut headers = headers.clone();
        rewrite_response(&mut headers, false);
        black_box(headers);
    })
}

fn decide(toml: &str, target: &'static str) -> Round {
    let config = config(toml);
    let policy = Policy::build(&config.upstreams.first().unwrap().policy).unwrap();
    let target = PathAndQuery::from_static(target);
    policy.decide(&Method::GET, &target).unwrap();
    Box::new(move || {
        black_box(policy.decide(&Method::GET, black_box(&target)).is_ok());
    })
}

fn permit(policy: &Policy, target: &'static str) -> Permit {
    policy
        .decide(&Method::GET, &PathAndQuery::from_static(target))
        .unwrap()
}

pub(super) fn config(toml: &str) -> Config {
    match load(&LoadOptions::from_text("bench.toml", toml)) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}
