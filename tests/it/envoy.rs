//! Situations in which Envoy's credential injector was measured (docs/envoy.md), put to bursar. Those that another test shows already
//! are not here; the table in docs/envoy.md names the test of each.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    authorization_server::{AuthorizationServer, token},
    bursar::{Bursar, Extra, toml},
    peer::{Peer, Reply},
};

fn start(lms: &Peer, server: &AuthorizationServer, credential: &str) -> Bursar {
    Bursar::start(&toml(
        lms,
        server,
        Extra {
            credential,
            ..Extra::default()
        },
    ))
}

/// Which token came when.
type Notes = Arc<Mutex<Vec<(Instant, String)>>>;

/// An LMS that takes notes.
fn noting() -> (Peer, Notes) {
    let notes = Notes::default();
    let book = Arc::clone(&notes);
    let lms = Peer::start(move |seen| {
        let token = seen.field("authorization").unwrap_or_default().to_owned();
        book.lock().unwrap().push((Instant::now(), token));
        Reply::ok()
    });
    (lms, notes)
}

#[test]
fn the_first_token_is_asked_for_at_the_start_and_not_seconds_later() {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let begin = Instant::now();
    let bursar = start(&lms, &server, "");
    bursar.until_ready();
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(server.calls(), 1);
}

#[test]
fn a_first_token_that_takes_three_seconds_is_waited_for_and_one_that_takes_longer_than_the_wait_is_not()
 {
    for (wait, status) in [("10s", 200), ("1s", 503)] {
        let lms = Peer::start(|_| Reply::ok());
        let server = AuthorizationServer::start();
        server.then(|_| {
            thread::sleep(Duration::from_secs(3));
            token("slow", 3600)
        });
        let bursar = start(&lms, &server, &format!("wait = \"{wait}\""));
        assert_eq!(bursar.get("/api/x").status, status, "{wait}");
        bursar.until_ready();
        assert_eq!(bursar.get("/api/x").status, 200);
        assert_eq!(server.calls(), 1);
    }
}

/// What comes from the endpoint at the first renewal, and then never again anything good until it recovers: no expired token leaves, and
/// the recovery is noticed without a restart.
#[test]
fn whatever_the_endpoint_does_at_a_renewal_no_expired_token_leaves_and_a_good_answer_heals_it() {
    let lifetime = Duration::from_secs(4);
    let oddities = [
        ("hangs", Reply::BytesThenSilence(Vec::new())),
        ("closes", Reply::BytesThenClose(Vec::new())),
        ("garbage", Reply::new(200, "application/json", "garbage")),
        ("no token", Reply::new(200, "application/json", "{}")),
        ("fails", Reply::new(500, "text/plain", "")),
    ];
    let runs = oddities.map(|(name, oddity)| {
        thread::spawn(move || {
            let (lms, notes) = noting();
            let server = AuthorizationServer::start();
            server.then(|_| token("first", 4));
            server.then_times(1_000, &oddity);
            let asked = Instant::now();
            let bursar = start(&lms, &server, "wait = \"100ms\"\ntimeout = \"1s\"");
            bursar.until_ready();
            let mut refused = 0;
            while asked.elapsed() < lifetime + Duration::from_secs(2) {
                refused += u32::from(bursar.get("/api/x").status == 503);
                thread::sleep(Duration::from_millis(30));
            }
            assert!(refused > 0, "{name}: the token has died meanwhile");
            let latest = notes.lock().unwrap().last().unwrap().0 - asked;
            assert!(
                latest < lifetime,
                "{name}: a token left {latest:?} after it was asked for"
            );

            server.recover();
            bursar.until("it has healed", |bursar| bursar.get("/api/x").status == 200);
            let last = notes.lock().unwrap().last().unwrap().1.clone();
            assert_eq!(last, "Bearer token-1", "{name}");
        })
    });
    for run in runs {
        run.join().unwrap();
    }
}

#[test]
fn every_row_of_the_comparison_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/envoy.md")).unwrap();
    // The first table; the page has another one, of waits.
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with("| "))
        .skip(2)
        .collect();
    assert!(rows.len() >= 14, "{} rows", rows.len());
    let mut code = String::new();
    read_code(&root.join("src/token/tests"), &mut code);
    read_code(&root.join("tests/it"), &mut code);
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut names = tests.split('`').skip(1).step_by(2).peekable();
        assert!(names.peek().is_some(), "no test in: {row}");
        for name in names {
            assert!(code.contains(&format!("fn {name}()")), "{name} is no test");
        }
    }
}

fn read_code(directory: &Path, code: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_code(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
