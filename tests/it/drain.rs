//! R94: shutdown, then drain, then deadline.

use std::{sync::Arc, thread, time::Duration};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, admin_get, toml},
    http::{Connection, exchange},
    peer::{Gate, Peer, Reply},
    program::{Daemon, write_private},
};

#[test]
fn requests_in_flight_are_finished_and_idle_connections_closed() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |seen| {
        if seen.target() == "/api/slow" {
            held.pass();
        }
        Reply::new(200, "text/plain", "done")
    });
    let server = AuthorizationServer::start();
    let bursar = Bursar::ready(&toml(&lms, &server, Extra::default()));

    let mut idle = Connection::open(bursar.proxy);
    idle.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    assert_eq!(idle.answer().status, 200);
    let proxy = bursar.proxy;
    let slow: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(proxy);
                connection.send(format!("GET /api/slow HTTP/1.1\r\nHost: {proxy}\r\n\r\n"));
                let answer = connection.answer();
                (answer.status, connection.is_closed())
            })
        })
        .collect();
    gate.await_arrivals(20);

    bursar.shutdown();
    bursar.until("unready", |bursar| {
        admin_get(bursar.admin, "/readyz").status == 503
    });
    assert_eq!(admin_get(bursar.admin, "/livez").status, 200);
    assert_eq!(bursar.metric("bursar_draining"), 1.0);
    assert!(idle.is_closed());
    gate.open();
    for request in slow {
        assert_eq!(request.join().unwrap(), (200, true));
    }
    bursar.join();
}

#[test]
fn a_drain_that_was_asked_for_on_control_finishes_what_is_in_flight_and_survives_one_sigterm() {
    let gate = Gate::default();
    let held = gate.clone();
    let lms = Peer::start(move |_| {
        held.pass();
        Reply::new(200, "text/plain", "done")
    });
    let server = AuthorizationServer::start();
    let directory = tempfile::tempdir().unwrap();
    let key = write_private(
        &directory.path().join("control-key"),
        "canary-control-key\n",
    );
    let configuration = toml(&lms, &server, Extra::default()).replace(
        "[credentials.app]",
        &format!("control_key_file = {key:?}\n[credentials.app]"),
    );
    let daemon = Daemon::start(directory.path(), &configuration);
    let (proxy, control) = (daemon.proxy, daemon.control);
    let slow = thread::spawn(move || {
        exchange(
            proxy,
            format!("GET /api/slow HTTP/1.1\r\nHost: {proxy}\r\n\r\n"),
        )
    });
    gate.await_arrivals(1);

    let post = |key: &str| {
        let fields = format!("Content-Type: application/json\r\nBursar-Control: {key}\r\n");
        exchange(
            control,
            format!(
                "POST /-/drain HTTP/1.1\r\nHost: {control}\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
            ),
        )
    };
    assert_eq!(post("canary-control-wrong").status, 404);
    assert_eq!(admin_get(daemon.admin, "/readyz?verbose").status, 200);
    let answer = post("canary-control-key");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["phase"], "draining");
    assert_eq!(admin_get(daemon.admin, "/readyz").status, 503);

    // The SIGTERM of the orchestrator whose hook it was.
    let ending = thread::spawn(move || daemon.stop());
    thread::sleep(Duration::from_millis(200));
    assert!(!ending.is_finished());
    gate.open();
    assert_eq!(slow.join().unwrap().text(), "done");
    let (code, output) = ending.join().unwrap();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("control_refused"), "{output}");
    assert!(!output.contains("canary"), "{output}");
}

#[test]
fn the_drain_ends_at_its_deadline_whatever_hangs() {
    let lms = Peer::start(|_| Reply::BytesThenSilence(Vec::new()));
    let server = AuthorizationServer::start();
    let bursar = Arc::new(Bursar::start(&toml(
        &lms,
        &server,
        Extra {
            server: "drain_timeout = \"300ms\"",
            ..Extra::default()
        },
    )));
    bursar.until_ready();
    let mut connection = Connection::open(bursar.proxy);
    connection.send(format!(
        "GET /api/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        bursar.proxy
    ));
    bursar.until("in flight", |bursar| {
        bursar.metric(r#"bursar_http_requests_in_flight{upstream="lms"}"#) > 0.5
    });
    bursar.shutdown();
    Arc::into_inner(bursar).expect("the only owner").join();
    assert!(connection.is_closed());
}
