//! The order of a rotation, and that nothing but its own end ends it.

use std::time::Duration;

use super::bench::{Bench, REUSABLE, SINGLE_USE, Step, text};
use crate::oauth::{Cause, LoginNeeded, TokenSource as _};

#[tokio::test(start_paused = true)]
async fn the_intent_is_on_the_disk_before_the_server_is_asked_and_the_answer_before_it_is_used() {
    let bench = Bench::start(SINGLE_USE, []).await;
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    let intent = bench.stored().await.intent.expect("the intent is open");
    assert_eq!(intent.presented, 1);
    assert_eq!(bench.stored_token().await, "r1");

    bench.server.open_gate();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(text(&answer), "a2");
    let stored = bench.stored().await;
    assert_eq!(stored.intent, None);
    assert_eq!(stored.version.generation, 2);
    assert_eq!(stored.account.as_deref(), Some("ann"));
    assert_eq!(bench.stored_token().await, "r2");
    assert_eq!(bench.server.presented(), ["r1"]);
    assert_eq!(bench.rotations("persisted"), 1);
}

#[tokio::test(start_paused = true)]
async fn each_rotation_presents_what_the_one_before_has_brought() {
    let bench = Bench::start(SINGLE_USE, []).await;
    for number in 2..6 {
        assert_eq!(bench.token().await, Ok(format!("a{number}")));
    }
    assert_eq!(bench.server.presented(), ["r1", "r2", "r3", "r4"]);
    assert_eq!(bench.stored_token().await, bench.server.current());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_ends_no_rotation_and_the_next_one_gets_its_token() {
    let bench = Bench::start(SINGLE_USE, []).await;
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    bench.server.open_gate();
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
    assert_eq!(bench.server.presented(), ["r1"]);
    assert_eq!(bench.stored_token().await, "r2");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_rotation_and_lets_no_other_begin() {
    let bench = Bench::start(SINGLE_USE, []).await;
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    let rotations = bench.custodian.rotations();
    let finished = tokio::spawn(async move { rotations.finish().await });
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!finished.is_finished());
    assert_eq!(
        bench.token().await,
        Err(Cause::NotSent("bursar is shutting down"))
    );

    bench.server.open_gate();
    finished.await.unwrap();
    assert_eq!(bench.stored_token().await, "r2");
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(bench.server.presented(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_login_nobody_is_asked_and_a_login_is_noticed() {
    let bench = Bench::empty(SINGLE_USE, []);
    assert_eq!(
        bench.token().await,
        Err(Cause::LoginNeeded(LoginNeeded::Never))
    );
    assert_eq!(std::fs::read_dir(bench.place.path()).unwrap().count(), 0);
    let cured = {
        let custody = std::sync::Arc::clone(&bench.custody);
        tokio::spawn(async move { custody.cured(None).await })
    };
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!cured.is_finished());
    bench.another().log_in("first", "r1").await;
    cured.await.unwrap();
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}

#[tokio::test(start_paused = true)]
async fn a_reusable_refresh_token_is_presented_each_time_and_needs_no_intent() {
    let bench = Bench::start(REUSABLE, [Step::Keep, Step::Keep]).await;
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    assert_eq!(bench.stored().await.intent, None);
    bench.server.open_gate();
    assert_eq!(text(&waiting.await.unwrap().unwrap()), "a2");
    assert_eq!(bench.token().await.as_deref(), Ok("a3"));
    assert_eq!(bench.server.presented(), ["r1", "r1"]);
    assert_eq!(bench.stored_token().await, "r1");
    // Nothing was rotated.
    assert_eq!(bench.rotations("persisted"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_an_answer_costs_a_reusable_refresh_token_nothing() {
    let lost = Cause::Timeout(Duration::from_secs(10));
    let bench = Bench::start(REUSABLE, [Step::Refuse(lost.clone()), Step::Keep]).await;
    assert_eq!(bench.token().await, Err(lost));
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}
