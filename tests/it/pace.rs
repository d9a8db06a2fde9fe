//! The LMS asks for fewer requests: what is held, what is not, and what it is never taken for.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, toml},
    peer::{Gate, Peer, Reply},
    program::write_private,
};

const PACED: Extra<'_> = Extra {
    server: "",
    credential: "",
    upstream: "pace = true",
    tail: "",
};

/// An LMS that refuses with `refusal` while it `refuses`.
struct Lms {
    peer: Peer,
    refuses: Arc<AtomicBool>,
}

impl Lms {
    fn start(status: u16, fields: &'static [(&'static str, &'static str)]) -> Self {
        let refuses = Arc::new(AtomicBool::new(true));
        let now = Arc::clone(&refuses);
        let peer = Peer::start(move |_| match now.load(Ordering::SeqCst) {
            true => Reply::with_fields(status, fields, "no"),
            false => Reply::ok(),
        });
        Self { peer, refuses }
    }

    fn relents(&self) {
        self.refuses.store(false, Ordering::SeqCst);
    }
}

fn paced_metric(bursar: &Bursar, name: &str) -> f64 {
    bursar.metric(&format!("bursar_upstream_{name}"))
}

fn waiters(bursar: &Bursar) -> usize {
    let waiters = paced_metric(bursar, r#"pace_waiters{upstream="lms"}"#);
    (0..)
        .find(|count| f64::from(*count) >= waiters)
        .unwrap_or(0) as usize
}

#[test]
fn gets_are_held_until_the_lms_takes_them_again_and_nothing_else_is() {
    let lms = Lms::start(429, &[("Retry-After", "2")]);
    let server = AuthorizationServer::start();
    let bursar = Arc::new(Bursar::ready(&toml(&lms.peer, &server, PACED)));
    let refused = bursar.get("/api/x");
    assert_eq!(refused.status, 429, "the one that hears of it");
    assert_eq!(refused.field("retry-after"), Some("2"));
    let began = Instant::now();
    lms.relents();

    let held: Vec<_> = ["GET", "HEAD", "GET"]
        .into_iter()
        .map(|method| {
            let bursar = Arc::clone(&bursar);
            thread::spawn(move || bursar.request(method, "/api/x", "", "").status)
        })
        .collect();
    bursar.until("held", |bursar| waiters(bursar) == 3);
    assert_eq!(bursar.request("POST", "/api/x", "", "body").status, 200);
    assert!(
        began.elapsed() < Duration::from_millis(1_900),
        "POST does not wait"
    );
    assert_eq!(lms.peer.calls(), 2);

    for request in held {
        assert_eq!(request.join().unwrap(), 200);
    }
    assert!(began.elapsed() >= Duration::from_millis(1_900));
    assert_eq!((lms.peer.calls(), waiters(&bursar)), (5, 0));
    assert_eq!(server.calls(), 1);
    assert_eq!(bursar.get("/api/x").status, 200);
    let held = paced_metric(&bursar, r#"paced_total{outcome="held",upstream="lms"}"#);
    assert!((held - 3.0).abs() < 0.5);
    assert!(
        paced_metric(
            &bursar,
            r#"throttled_until_timestamp_seconds{upstream="lms"}"#
        ) > 1.7e9
    );
}

/// What would come of a burst: all of it refused. What comes: one, two, four.
#[test]
fn those_that_were_held_go_out_by_and_by() {
    let (out, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Gate::default();
    let (held, counting, seen) = (gate.clone(), Arc::clone(&out), Arc::clone(&most));
    let first = AtomicBool::new(true);
    let peer = Peer::start(move |_| {
        if first.swap(false, Ordering::SeqCst) {
            return Reply::with_fields(429, &[("Retry-After", "1")], "");
        }
        let now = counting.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        held.pass();
        counting.fetch_sub(1, Ordering::SeqCst);
        Reply::ok()
    });
    let server = AuthorizationServer::start();
    let bursar = Arc::new(Bursar::ready(&toml(&peer, &server, PACED)));
    assert_eq!(bursar.get("/api/x").status, 429);
    let requests: Vec<_> = (0..30)
        .map(|_| {
            let bursar = Arc::clone(&bursar);
            thread::spawn(move || bursar.get("/api/x").status)
        })
        .collect();
    gate.await_arrivals(1);
    bursar.until("the others wait", |bursar| waiters(bursar) == 29);
    assert_eq!(out.load(Ordering::SeqCst), 1, "one, to see how it goes");
    gate.open();
    for request in requests {
        assert_eq!(request.join().unwrap(), 200);
    }
    assert!(most.load(Ordering::SeqCst) < 30);
}

#[test]
fn a_wait_longer_than_a_request_is_held_lets_it_out_and_the_refusal_passes() {
    let lms = Lms::start(429, &[("Retry-After", "3600")]);
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms.peer, &server, PACED));
    for _ in 0..3 {
        let refused = bursar.get("/api/x");
        assert_eq!((refused.status, refused.text().as_str()), (429, "no"));
        assert_eq!(refused.field("retry-after"), Some("3600"));
        assert_eq!(refused.field("proxy-status"), None);
    }
    let outcome = r#"paced_total{outcome="too_long",upstream="lms"}"#;
    assert!((paced_metric(&bursar, outcome) - 2.0).abs() < 0.5);
    assert_eq!(server.calls(), 1);
}

#[test]
fn a_request_is_held_for_response_timeout_at_most() {
    let lms = Lms::start(429, &[("Retry-After", "1")]);
    let server = AuthorizationServer::start();
    let extra = Extra {
        upstream: "pace = true\nresponse_timeout = \"1500ms\"",
        ..PACED
    };
    let bursar = Arc::new(Bursar::ready(&toml(&lms.peer, &server, extra)));
    assert_eq!(bursar.get("/api/x").status, 429);
    let began = Instant::now();
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let bursar = Arc::clone(&bursar);
            thread::spawn(move || bursar.get("/api/x").status)
        })
        .collect();
    for request in requests {
        assert_eq!(request.join().unwrap(), 429, "it does not relent");
    }
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!((lms.peer.calls(), waiters(&bursar)), (4, 0));
}

#[test]
fn an_application_that_hangs_up_gives_its_place_back() {
    let lms = Lms::start(429, &[("Retry-After", "30")]);
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms.peer, &server, PACED));
    assert_eq!(bursar.get("/api/x").status, 429);
    let mut application = TcpStream::connect(bursar.proxy).unwrap();
    write!(
        application,
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    )
    .unwrap();
    bursar.until("held", |bursar| waiters(bursar) == 1);
    socket2::SockRef::from(&application)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(application);
    bursar.until("gone", |bursar| waiters(bursar) == 0);
    let outcome = r#"paced_total{outcome="abandoned",upstream="lms"}"#;
    assert!((paced_metric(&bursar, outcome) - 1.0).abs() < 0.5);
    assert_eq!(lms.peer.calls(), 1);
}

#[test]
fn a_quota_that_is_used_up_holds_the_next_one_before_the_lms_has_to_refuse_it() {
    let peer = Peer::start(|_| {
        let fields = [
            ("X-Rate-Limit-Remaining", "5"),
            ("X-Request-Cost", "10"),
            ("X-Rate-Limit-Reset", "1"),
        ];
        Reply::with_fields(200, &fields, "yes")
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&peer, &server, PACED));
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(bursar.get("/api/x").status, 200);
    }
    assert!(began.elapsed() >= Duration::from_millis(1_900));
    assert!(paced_metric(&bursar, r#"throttled_total{upstream="lms"}"#) < 0.5);
}

#[test]
fn without_pace_nothing_is_held() {
    let lms = Lms::start(429, &[("Retry-After", "30")]);
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms.peer, &server, Extra::default()));
    for _ in 0..3 {
        assert_eq!(bursar.get("/api/x").status, 429);
    }
    lms.relents();
    assert_eq!(bursar.get("/api/x").status, 200);
    assert!(!bursar.metrics().contains("pace_waiters{"));
}

/// Canvas says both with 403: too many requests (its bucket is empty), and no permission.
#[test]
fn a_rate_limit_of_canvas_is_no_permission_error_and_a_permission_error_no_rate_limit() {
    let peer = Peer::start(|seen| match seen.target() {
        "/api/forbidden" => Reply::with_fields(
            403,
            &[("X-Rate-Limit-Remaining", "590.5")],
            r#"{"status":"unauthorized"}"#,
        ),
        "/api/bare" => Reply::new(403, "application/json", "{}"),
        _ => Reply::with_fields(
            403,
            &[
                ("X-Rate-Limit-Remaining", "0.0"),
                ("X-Request-Cost", "0.25"),
            ],
            "403 Forbidden (Rate Limit Exceeded)",
        ),
    });
    let server = AuthorizationServer::start();
    let extra = Extra {
        upstream: "pace = true\ncatalogue = \"canvas\"\nrequest_scopes = false",
        ..PACED
    };
    let bursar = Bursar::ready(&toml(&peer, &server, extra));
    let throttled = r#"throttled_total{upstream="lms"}"#;
    let began = Instant::now();
    for target in ["/api/forbidden", "/api/bare", "/api/forbidden"] {
        assert_eq!(bursar.get(target).status, 403);
    }
    assert!(paced_metric(&bursar, throttled) < 0.5);
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "none of them was held"
    );

    let refused = bursar.get("/api/throttled");
    assert_eq!(refused.status, 403, "as the LMS says it");
    assert_eq!(refused.text(), "403 Forbidden (Rate Limit Exceeded)");
    assert!((paced_metric(&bursar, throttled) - 1.0).abs() < 0.5);
    let began = Instant::now();
    assert_eq!(bursar.get("/api/forbidden").status, 403);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "held for the guessed second"
    );
    assert_eq!(
        server.calls(),
        1,
        "no token was renewed because of any of it"
    );
    assert!(paced_metric(&bursar, r#"unauthorized_total{upstream="lms"}"#) < 0.5);
}

/// The bucket of the old configuration is still empty under the new one.
#[test]
fn a_reload_forgets_nothing_and_loses_nobody() {
    let lms = Lms::start(429, &[("Retry-After", "5")]);
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let text = toml(&lms.peer, &server, PACED);
    let file = write_private(&directory.path().join("bursar.toml"), &text);
    let bursar = Arc::new(Bursar::start_from(&file));
    bursar.until_ready();
    assert_eq!(bursar.get("/api/x").status, 429);
    lms.relents();
    let get = || {
        let bursar = Arc::clone(&bursar);
        thread::spawn(move || bursar.get("/api/x").status)
    };
    let before = get();
    bursar.until("held", |bursar| waiters(bursar) == 1);
    let changed = text.replace("[server]", "[server]\nhosts = [\"b\"]");
    write_private(&file, &changed);
    bursar.until("reloaded", |bursar| {
        bursar.metric(r#"bursar_config_reloads_total{result="success"}"#) > 0.5
    });
    let after = get();
    bursar.until("both held", |bursar| waiters(bursar) == 2);
    assert_eq!(before.join().unwrap(), 200);
    assert_eq!(after.join().unwrap(), 200);
}
