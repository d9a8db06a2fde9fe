//! Refresh tokens that are good once: signals, lost answers, and processes that share a login.

use std::{fs, time::Duration};

use rustix::process::{Signal, kill_process};

use crate::support::{bursar::Bursar, person::Office, program::Daemon};

/// A call of the application's.
const CALL: &str = "/d2l/api/lp/1.49/users/whoami";

/// An access token is due for renewal soon after it came.
fn restless() -> Office {
    let office = Office::open(|params| params.token_lifetime = Duration::from_secs(4));
    office.with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"")
}

/// How often each refresh token that was issued came back, in the order of their issue.
fn presented(office: &Office) -> Vec<u64> {
    office.lms.counters().refresh_tokens.into_values().collect()
}

/// None came twice, and the newest not at all: it is on the disk.
fn assert_each_came_once(office: &Office) {
    let shown = presented(office);
    let (newest, spent) = shown.split_last().unwrap();
    assert_eq!(*newest, 0, "{shown:?}");
    assert!(spent.iter().all(|times| *times == 1), "{shown:?}");
}

/// By the commands that look at the store, whatever a running bursar says. The access token has ended.
fn assert_a_login_is_called_for(office: &Office) {
    for words in [&["check", "--offline"][..], &["token", "app"]] {
        let finished = office.run(words);
        assert_eq!(finished.code, 4, "{}", finished.said());
        let said = finished.said();
        assert!(said.contains("its answer was lost"), "{said}");
        assert!(said.contains("bursar login app"), "{said}");
    }
}

/// Polls without a bursar at hand.
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never happened: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_rotation_under_way_is_written_down_however_often_bursar_is_told_to_end() {
    for signals in [1, 2] {
        let office = restless();
        assert_eq!(office.log_in(&["app"]).code, 0);
        let directory = tempfile::tempdir().unwrap();
        let gate = office.lms.control.hold_token_requests();
        let daemon = Daemon::start(directory.path(), &office.toml());
        until("a rotation is under way", || {
            office.lms.counters().token_requests == 2
        });
        let pid = daemon.pid();
        let ended = std::thread::spawn(move || daemon.stop());
        for _ in 1..signals {
            // The first is taken before the second is sent, so that they are two.
            std::thread::sleep(Duration::from_millis(300));
            kill_process(pid, Signal::TERM).unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(!ended.is_finished(), "it does not wait for the rotation");
        drop(gate);
        let (code, said) = ended.join().unwrap();
        assert_eq!(code, if signals == 1 { 0 } else { 1 }, "{said}");
        assert_each_came_once(&office);

        let bursar = Bursar::ready(&office.toml());
        assert_eq!(bursar.get(CALL).status, 200);
        bursar.shutdown();
        bursar.join();
        assert_each_came_once(&office);
    }
}

#[test]
fn a_killed_bursar_comes_back_with_a_token_or_calls_for_a_person() {
    let office = restless();
    assert_eq!(office.log_in(&["app"]).code, 0);
    let directory = tempfile::tempdir().unwrap();
    let gate = office.lms.control.hold_token_requests();
    let daemon = Daemon::start(directory.path(), &office.toml());
    until("a rotation is under way", || {
        office.lms.counters().token_requests == 2
    });
    kill_process(daemon.pid(), Signal::KILL).unwrap();
    drop(daemon);
    drop(gate);
    // What became of the refresh token, nobody here knows. It is not tried out.
    let bursar = Bursar::start(&office.toml());
    bursar.until("a person is called", |bursar| {
        bursar.get(CALL).code() == "reauthorization_required"
    });
    assert_a_login_is_called_for(&office);
    assert!(presented(&office).iter().all(|times| *times <= 1));
    assert_eq!(office.log_in(&["app"]).code, 0);
    bursar.until("the new login is taken over", |bursar| {
        bursar.get(CALL).status == 200
    });
}

#[test]
fn a_lost_answer_calls_for_a_person_and_the_refresh_token_is_not_tried_again() {
    for fault in ["answer_lost", "answer_truncated"] {
        let office = restless();
        assert_eq!(office.log_in(&["app"]).code, 0);
        office.lms.order(&format!("on=token,fault={fault}"));
        let bursar = Bursar::start(&office.toml());
        bursar.until("a person is called", |bursar| {
            bursar.get(CALL).code() == "reauthorization_required"
        });
        assert_eq!(
            bursar.metric("bursar_token_reauth_required{credential=\"app\"}"),
            1.0
        );
        std::thread::sleep(Duration::from_secs(3));
        assert_a_login_is_called_for(&office);
        assert_eq!(office.lms.counters().refresh_tokens_presented_again(), 0);
        assert_eq!(office.lms.counters().token_requests, 2);
    }
}

#[test]
fn with_a_grace_on_both_sides_a_lost_answer_heals_by_itself() {
    let office = Office::open(|params| {
        params.token_lifetime = Duration::from_secs(4);
        params.login.reuse_grace = Duration::from_secs(60);
    });
    let office = office
        .with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"\nrefresh_reuse_grace = \"60s\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    office.lms.order("on=token,fault=answer_lost,times=1");
    let bursar = Bursar::start(&office.toml());
    bursar.until("it has renewed after all", |_| {
        office.lms.counters().token_requests >= 4
    });
    assert_eq!(bursar.get(CALL).status, 200);
    assert_eq!(office.lms.counters().refresh_tokens_presented_again(), 1);
}

#[test]
fn processes_that_share_a_login_present_each_refresh_token_once() {
    let office = restless();
    assert_eq!(office.log_in(&["app"]).code, 0);
    let toml = office.toml();
    let bursars: Vec<_> = (0..4).map(|_| Bursar::ready(&toml)).collect();
    bursars[0].until("five rotations", |_| {
        for bursar in &bursars {
            assert_eq!(bursar.get(CALL).status, 200);
        }
        office.lms.counters().token_requests >= 6
    });
    for bursar in &bursars {
        bursar.shutdown();
    }
    for bursar in bursars {
        bursar.join();
    }
    assert_each_came_once(&office);
}

#[test]
fn without_room_for_the_answer_no_refresh_token_is_spent() {
    let mut office = restless();
    office.more.push_str("\nwait = \"1s\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    // What is in the way of the room for the next record is no file, and stays.
    let state = fs::read_dir(office.state()).unwrap();
    let record = state
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "state"))
        .unwrap();
    let obstacle = record.with_extension("reserved");
    fs::create_dir(&obstacle).unwrap();
    fs::write(obstacle.join("in the way"), "").unwrap();

    let bursar = Bursar::ready(&office.toml());
    bursar.until("the token has ended", |bursar| {
        bursar.get(CALL).code() == "token_store_unavailable"
    });
    let refused = bursar.get(CALL);
    assert_eq!(refused.status, 503);
    assert!(refused.field("retry-after").is_some());
    assert_eq!(office.lms.counters().token_requests, 1);

    fs::remove_dir_all(&obstacle).unwrap();
    bursar.until("it goes on", |bursar| bursar.get(CALL).status == 200);
    bursar.shutdown();
    bursar.join();
    assert_each_came_once(&office);
}
