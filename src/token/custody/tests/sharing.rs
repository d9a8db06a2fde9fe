//! Processes and tasks that share a login.

use std::time::Duration;

use super::bench::{Bench, REUSABLE, SINGLE_USE, Step};
use crate::clock::Clock as _;

#[tokio::test(start_paused = true)]
async fn of_processes_that_ask_at_once_one_rotates_and_the_others_adopt() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let others: Vec<_> = (0..7).map(|_| bench.another()).collect();
    let waiting: Vec<_> = others.iter().chain([&bench]).map(Bench::begin).collect();
    for waiting in waiting {
        let answer = waiting.await.unwrap().unwrap();
        assert_eq!(super::bench::text(&answer), "a2");
    }
    assert_eq!(bench.server.presented(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn processes_that_renew_again_and_again_present_each_refresh_token_once() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let others: Vec<_> = (0..3).map(|_| bench.another()).collect();
    for _ in 0..5 {
        let waiting: Vec<_> = others.iter().chain([&bench]).map(Bench::begin).collect();
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }
    let mut presented = bench.server.presented();
    let all = presented.len();
    presented.dedup();
    assert_eq!(presented.len(), all);
    assert_eq!(bench.stored_token().await, bench.server.current());
}

#[tokio::test(start_paused = true)]
async fn a_restart_costs_no_rotation_while_the_stored_token_is_good() {
    let bench = Bench::start(SINGLE_USE, []).await;
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
    bench.clock.suspend(Duration::from_secs(600));
    let restarted = bench.another();
    let request = restarted.request("a b");
    use crate::oauth::TokenSource as _;
    let answer = restarted.custody.request(request).await.unwrap();
    assert_eq!(super::bench::text(&answer), "a2");
    let left = answer.left().unwrap();
    assert!(left <= Duration::from_secs(3_000) && left > Duration::from_secs(2_990));
    assert_eq!(bench.server.presented().len(), 1);

    // Due by its own life: not worth adopting.
    bench.clock.suspend(Duration::from_secs(2_400));
    assert_eq!(bench.another().token().await.as_deref(), Ok("a3"));
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_is_for_those_who_ask_for_the_same_scopes() {
    let bench = Bench::start(SINGLE_USE, []).await;
    assert_eq!(bench.token_for("a").await.as_deref(), Ok("a2"));
    assert_eq!(bench.another().token_for("a b").await.as_deref(), Ok("a3"));
    assert_eq!(bench.another().token_for("a b").await.as_deref(), Ok("a3"));
    assert_eq!(bench.server.presented(), ["r1", "r2"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_refresh_names_no_scopes_every_token_is_for_all() {
    let bench = Bench::start(REUSABLE, [Step::Keep]).await;
    assert_eq!(bench.token_for("a").await.as_deref(), Ok("a2"));
    assert_eq!(bench.another().token_for("a b").await.as_deref(), Ok("a2"));
    assert_eq!(bench.server.scopes(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_lms_rejected_is_replaced_by_a_newer_stored_one_first() {
    let bench = Bench::start(REUSABLE, [Step::Keep, Step::Keep]).await;
    let other = bench.another();
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
    assert_eq!(other.token().await.as_deref(), Ok("a2"));
    // The other one renews, which ends the first token on Canvas.
    assert_eq!(other.token().await.as_deref(), Ok("a3"));
    assert_eq!(bench.token().await.as_deref(), Ok("a3"));
    assert_eq!(bench.server.presented().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_from_the_future_is_not_believed() {
    let bench = Bench::start(SINGLE_USE, []).await;
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
    bench.clock.step_wall(-3_600_000);
    assert_eq!(bench.another().token().await.as_deref(), Ok("a3"));
    assert!(bench.stored().await.access.unwrap().issued <= bench.clock.now().wall);
}
