//! P7: sizes, times and numbers are bounded.

use std::time::Duration;

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, admin_get, between, toml},
    http::{Connection, exchange},
    peer::{Gate, Peer, Reply},
};

#[test]
fn heads_and_targets_over_the_limits_are_refused() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(bursar.request("GET", "/api/x", &many, "").status, 431);
    assert_eq!(
        bursar
            .request(
                "GET",
                "/api/x",
                &format!("X: {}\r\n", "a".repeat(500_000)),
                ""
            )
            .status,
        431
    );
    let long = bursar.get(&format!("/api/{}", "a".repeat(9_000)));
    assert_eq!((long.status, long.code().as_str()), (414, "uri_too_long"));
    // Over 64 KiB a target is a head that does not parse: a bare answer will do.
    let huge = bursar.get(&format!("/api/{}", "a".repeat(70_000)));
    assert!(matches!(huge.status, 414 | 431), "{}", huge.status);
    assert_eq!(
        bursar.get(&format!("/api/{}", "a".repeat(8_000))).status,
        200
    );
    assert_eq!(lms.calls(), 1);
}

#[test]
fn a_body_over_the_limit_of_its_route_is_refused_before_and_while_it_comes() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let tail = "[[upstreams.lms.routes]]\nname = \"small\"\nmethods = [\"POST\"]\npath = \"/small\"\nscopes = []\nmax_body = \"1KiB\"\n\
        [[upstreams.lms.routes]]\nname = \"large\"\nmethods = [\"POST\"]\npath = \"/large\"\nscopes = []\nmax_body = \"100KiB\"\n";
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            tail,
            ..Extra::default()
        },
    ));

    assert_eq!(
        bursar
            .request("POST", "/small", "", &"x".repeat(1024))
            .status,
        200
    );
    let before = lms.calls();
    let declared = exchange(
        bursar.proxy,
        format!(
            "POST /small HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000000000\r\n\r\n",
            bursar.proxy
        ),
    );
    assert_eq!(
        (declared.status, declared.code().as_str()),
        (413, "body_too_large")
    );
    for (path, size) in [("/small", 2_000), ("/large", 300_000)] {
        let body = "x".repeat(size);
        let chunked = exchange(
            bursar.proxy,
            format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n",
                bursar.proxy
            ),
        );
        assert_eq!(
            (chunked.status, chunked.code().as_str()),
            (413, "body_too_large"),
            "{path}"
        );
    }
    assert!(
        lms.seen().iter().skip(before).all(|seen| !seen.complete),
        "no cut body looks whole to the LMS"
    );
}

#[test]
fn a_head_that_drips_is_cut_off_by_a_total_deadline() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            server: "header_timeout = \"500ms\"",
            ..Extra::default()
        },
    ));
    let mut connection = Connection::open(bursar.proxy);
    for byte in format!("GET /api/x HTTP/1.1\r\nHost: {}\r\nX: ", bursar.proxy)
        .bytes()
        .chain(std::iter::repeat_n(b'a', 100))
    {
        if connection.try_send([byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let bytes = String::from_utf8(connection.read_to_close()).unwrap();
    assert!(
        bytes.is_empty() || bytes.starts_with("HTTP/1.1 408 "),
        "{bytes}"
    );
    assert_eq!(lms.connections(), 0);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |seen| {
        if seen.target() == "/api/slow" {
            held.pass();
        }
        Reply::ok()
    });
    let server = AuthorizationServer::start();
    let settings = "header_timeout = \"300ms\"\nidle_timeout = \"300ms\"";
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            server: settings,
            ..Extra::default()
        },
    ));

    let mut busy = Connection::open(bursar.proxy);
    busy.send(format!(
        "GET /api/slow HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    gate.await_arrivals(1);
    let mut idle = Connection::open(bursar.proxy);
    idle.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    assert_eq!(idle.answer().status, 200);
    assert!(idle.is_closed());
    let mut silent = Connection::open(bursar.proxy);
    assert!(
        silent.is_closed(),
        "a connection that never says anything is closed, too"
    );
    gate.open();
    assert_eq!(busy.answer().status, 200);
}

#[test]
fn a_body_that_stalls_is_a_408() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(
        &lms,
        &server,
        Extra {
            upstream: "idle_timeout = \"300ms\"",
            ..Extra::default()
        },
    ));
    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "POST /api/x HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nhalf",
        bursar.proxy
    ));
    let answer = connection.answer();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (408, "client_timeout")
    );
    assert!(connection.is_closed());
    assert_eq!(lms.connections(), 0);
}

#[test]
fn connections_over_the_ceiling_get_503_and_the_probes_still_answer() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let configuration = toml(
        &lms,
        &server,
        Extra {
            server: "max_connections = 4",
            ..Extra::default()
        },
    )
    .replace("workers = 2", "workers = 1");
    let bursar = Bursar::ready(&configuration);
    let mut held: Vec<_> = (0..4).map(|_| Connection::open(bursar.proxy)).collect();
    for connection in &mut held {
        connection.send(format!(
            "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
            bursar.proxy
        ));
        assert_eq!(connection.answer().status, 200);
    }
    let answer = bursar.get("/api/x");
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(admin_get(bursar.admin, "/livez").status, 200);
    drop(held);
    bursar.until("room again", |bursar| bursar.get("/api/x").status == 200);
}

#[test]
fn requests_beyond_the_connections_to_the_lms_wait_their_turn_and_then_are_overloaded() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |_| {
        held.pass();
        Reply::ok()
    });
    let server = AuthorizationServer::start();
    let settings = "max_connections = 2\nconnect_timeout = \"300ms\"";
    let configuration = toml(
        &lms,
        &server,
        Extra {
            upstream: settings,
            ..Extra::default()
        },
    )
    .replace("workers = 2", "workers = 1");
    let bursar = std::sync::Arc::new(Bursar::start(&configuration));
    bursar.until_ready();
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let bursar = std::sync::Arc::clone(&bursar);
            std::thread::spawn(move || bursar.get("/api/x"))
        })
        .collect();
    gate.await_arrivals(2);
    bursar.until("the others gave up", |bursar| {
        bursar.metric(r#"bursar_upstream_errors_total{kind="saturated",upstream="lms"}"#) > 3.5
    });
    gate.open();
    let mut statuses: Vec<u16> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap().status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    assert_eq!(lms.connections(), 2);
}

#[test]
fn series_are_bounded_by_the_configuration() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    let storm = |salt: usize| {
        let mut connection = Connection::open(bursar.proxy);
        for number in 0..300 {
            connection.send(format!(
                "M{number}X{salt} /nowhere/{salt}/{number} HTTP/1.1\r\nHost: {}\r\n\r\n",
                bursar.proxy
            ));
            assert_eq!(connection.answer().status, 403);
            let _ = bursar.request(
                "GET",
                &format!("/api/{salt}/{number}"),
                &format!("X-{salt}-{number}: 1\r\n"),
                "",
            );
        }
    };
    storm(1);
    let before = bursar.metrics().lines().count();
    storm(2);
    assert_eq!(bursar.metrics().lines().count(), before);
}
