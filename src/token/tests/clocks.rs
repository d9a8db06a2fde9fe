//! Machines that sleep, and clocks that are stepped. F25.

use std::time::Duration;

use tokio::time::Instant;

use super::bench::{Bench, DOWN, HOUR, pass, settle};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn after_eight_hours_of_suspend_the_dead_token_is_not_served_and_a_new_one_comes_at_once() {
    let bench = Bench::start([HOUR]);
    bench.held().await;
    pass(60.0).await;
    bench.clock.suspend(Duration::from_secs(8 * 3_600));
    let start = Instant::now();
    assert_eq!(bench.token().await, Ok("token-2".to_owned()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_without_requests_the_token_is_renewed_within_half_a_minute() {
    let bench = Bench::start([HOUR]);
    pass(60.0).await;
    bench.clock.suspend(Duration::from_secs(8 * 3_600));
    pass(30.0).await;
    assert_eq!(bench.state(), "fresh");
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_an_outage_is_not_waited_out_by_the_clock_that_stood_still() {
    let bench = Bench::start([DOWN]);
    pass(300.0).await;
    bench.script.now_answers([HOUR]);
    bench.clock.suspend(Duration::from_secs(3_600));
    let start = Instant::now();
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_stepped_far_ahead_and_back_costs_one_token_request() {
    let bench = Bench::start([HOUR]);
    pass(60.0).await;
    for _ in 0..2 {
        bench.clock.step_wall(8 * 24 * HOUR_MS);
        bench.held().await;
        assert_eq!(bench.script.count(), 2);
        bench.clock.step_wall(-8 * 24 * HOUR_MS);
        for _ in 0..60 {
            bench.held().await;
            pass(1.0).await;
        }
        assert_eq!(bench.script.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_stepped_by_an_hour_costs_at_most_one_token_request() {
    for step in [HOUR_MS, -HOUR_MS] {
        let bench = Bench::start([HOUR]);
        pass(60.0).await;
        bench.clock.step_wall(step);
        for _ in 0..600 {
            bench.held().await;
            pass(1.0).await;
        }
        assert!(bench.script.count() <= 2);
        assert_eq!(bench.state(), "fresh");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_stepped_back_does_not_keep_a_dead_token_alive() {
    let bench = Bench::start([HOUR, DOWN]);
    pass(60.0).await;
    bench.clock.step_wall(-2 * HOUR_MS);
    pass(3_511.0).await;
    assert!(bench.token().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_stepped_during_an_outage_hastens_no_token_request() {
    let bench = Bench::start([DOWN]);
    pass(300.0).await;
    let calls = bench.script.count();
    bench.clock.step_wall(8 * 24 * HOUR_MS);
    for _ in 0..100 {
        let cell = bench.cell.clone();
        tokio::spawn(async move { cell.token().await.map(|_| ()) });
    }
    settle().await;
    assert_eq!(bench.script.count(), calls);
}
