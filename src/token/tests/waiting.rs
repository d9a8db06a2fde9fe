//! Who waits for a token, for how long, and what it costs the authorization server.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    bench::{Bench, DOWN, HOUR, TIMING, pass, settle},
    script::{Script, Step},
};
use crate::token::{RefreshAhead, Timing, TokenError};

#[tokio::test(start_paused = true)]
async fn the_first_token_is_asked_for_at_once_and_without_a_request() {
    let start = Instant::now();
    let bench = Bench::start([HOUR]);
    bench.script.called(1).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    settle().await;
    assert_eq!(bench.state(), "fresh");
}

// F1.
#[tokio::test(start_paused = true)]
async fn two_hundred_cold_requests_share_one_token_request_and_all_get_the_token() {
    let bench = Bench::with(TIMING, Script::new([HOUR]));
    bench.script.close_gate();
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let cell = bench.cell.clone();
        requests.spawn(async move { cell.token().await.map(|token| token.generation) });
    }
    bench.script.called(1).await;
    settle().await;
    assert!(bench.has_sample("bursar_token_waiters{credential=\"d2l\"} 200"));
    assert_eq!(bench.state(), "requesting");

    bench.script.open_gate();
    let tokens = requests.join_all().await;
    assert_eq!(tokens, vec![Ok(1); 200]);
    assert_eq!(bench.script.count(), 1);
    assert!(bench.has_sample("bursar_token_waiters{credential=\"d2l\"} 0"));
    assert!(
        bench.has_sample("bursar_token_lookups_total{credential=\"d2l\",outcome=\"waited\"} 200")
    );
}

// F1, at an expiry: the machine slept through it.
#[tokio::test(start_paused = true)]
async fn five_hundred_requests_on_an_expired_token_share_one_token_request() {
    let bench = Bench::start([HOUR]);
    bench.held().await;
    pass(60.0).await;
    bench.clock.suspend(Duration::from_secs(3_600));
    assert_eq!(bench.state(), "expired");
    let mut requests = JoinSet::new();
    for _ in 0..500 {
        let cell = bench.cell.clone();
        requests.spawn(async move { cell.token().await.map(|token| token.generation) });
    }
    assert_eq!(requests.join_all().await, vec![Ok(2); 500]);
    assert_eq!(bench.script.count(), 2);
}

// F3, F5, F6.
#[tokio::test(start_paused = true)]
async fn a_request_that_goes_away_cancels_nothing_and_the_others_get_the_token() {
    let bench = Bench::with(TIMING, Script::new([HOUR]));
    bench.script.close_gate();
    let cell = bench.cell.clone();
    let first = tokio::spawn(async move { cell.token().await.map(|_| ()) });
    bench.script.called(1).await;
    let cell = bench.cell.clone();
    let second = tokio::spawn(async move { cell.token().await.map(|token| token.generation) });
    settle().await;

    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(bench.has_sample("bursar_token_waiters{credential=\"d2l\"} 1"));
    bench.script.open_gate();
    assert_eq!(second.await.unwrap(), Ok(1));
    assert_eq!(bench.script.count(), 1);
}

// F6.
#[tokio::test(start_paused = true)]
async fn renewal_goes_on_over_many_expiries_though_every_request_is_cancelled_at_once() {
    let bench = Bench::start([Step::Slow(Duration::from_millis(300), Box::new(HOUR))]);
    for _ in 0..3 {
        let _ = timeout(Duration::ZERO, bench.cell.token()).await;
        pass(3_600.0).await;
        assert_eq!(bench.state(), "fresh");
    }
}

// F15, F24.
#[tokio::test(start_paused = true)]
async fn requests_never_wait_for_a_renewal_while_the_token_is_usable() {
    let bench = Bench::start([HOUR, Step::Hang]);
    bench.held().await;
    bench.script.called(2).await;
    assert_eq!(bench.state(), "refresh_ahead");
    let start = Instant::now();
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(
        bench.has_sample(
            "bursar_token_lookups_total{credential=\"d2l\",outcome=\"soft_expired\"} 1"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewed_token_is_the_next_generation_and_replaces_the_last() {
    let bench = Bench::start([HOUR]);
    assert_eq!(bench.held().await.generation, 1);
    pass(3_000.0).await;
    assert_eq!(bench.held().await.generation, 2);
    assert_eq!(bench.token().await, Ok("token-2".to_owned()));
    assert_eq!(bench.script.count(), 2);
}

// F2, F4: nothing ends the token request but the driver's own limit.
#[tokio::test(start_paused = true)]
async fn a_token_request_that_hangs_is_ended_and_repeated() {
    let bench = Bench::start([Step::Hang, HOUR]);
    let start = Instant::now();
    let error = bench.token().await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { cause: None, .. }));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert!(
        bench.has_sample("bursar_token_refreshes_total{credential=\"d2l\",result=\"timeout\"} 1")
    );
}

// F14: the wait is shorter than the answer takes; the answer is not lost.
#[tokio::test(start_paused = true)]
async fn an_as_slower_than_the_wait_costs_the_request_its_wait_and_still_brings_the_token() {
    let timing = Timing {
        wait: Duration::from_secs(5),
        ..TIMING
    };
    let slow = Step::Slow(Duration::from_secs(8), Box::new(HOUR));
    let bench = Bench::with(timing, Script::new([slow]));
    let start = Instant::now();
    let error = bench.token().await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(
        error,
        TokenError::Unavailable {
            cause: None,
            retry_after: Duration::from_secs(1),
        }
    );
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(start.elapsed(), Duration::from_secs(8));
    assert_eq!(bench.script.count(), 1);
}

// F13.
#[tokio::test(start_paused = true)]
async fn an_as_that_is_down_at_the_start_costs_a_wait_and_nothing_else() {
    let bench = Bench::start([DOWN, DOWN, HOUR]);
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(bench.state(), "fresh");
}

// F7, F8: a missing `expires_in` is neither for ever nor for no time.
#[tokio::test(start_paused = true)]
async fn a_token_without_expires_in_lives_for_the_default_lifetime() {
    let bench = Bench::start([Step::Token(None)]);
    let token = bench.held().await;
    let lifetime = token.expires.unwrap().remaining(token.issued);
    assert_eq!(lifetime, Duration::from_secs(300));
    pass(290.0).await;
    assert_eq!(bench.held().await.generation, 2);
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_counts_from_before_the_token_request() {
    let slow = Step::Slow(Duration::from_secs(4), Box::new(Step::Token(Some(60))));
    let bench = Bench::start([slow]);
    let start = crate::clock::Clock::now(&*bench.clock);
    assert_eq!(bench.held().await.issued, start);
}

// F7.
#[tokio::test(start_paused = true)]
async fn tokens_of_any_lifetime_are_asked_for_at_most_once_a_second() {
    for lifetime in [0, 1, 2, 3, 10] {
        let bench = Bench::start([Step::Token(Some(lifetime))]);
        for _ in 0..150 {
            let _ = timeout(Duration::from_millis(1), bench.cell.token()).await;
            pass(0.2).await;
        }
        let gaps = bench.script.gaps();
        assert!(gaps.len() >= 5, "{lifetime} s: {}", gaps.len());
        let shortest = gaps.iter().min().unwrap();
        assert!(*shortest >= Duration::from_secs(1), "{lifetime} s");
    }
}

#[tokio::test(start_paused = true)]
async fn short_tokens_under_steady_load_never_make_a_request_wait() {
    for (lifetime, takes_ms) in [(4, 300), (8, 2_000), (30, 300)] {
        let slow = Step::Slow(
            Duration::from_millis(takes_ms),
            Box::new(Step::Token(Some(lifetime))),
        );
        let bench = Bench::start([slow]);
        bench.held().await;
        for _ in 0..600 {
            let start = Instant::now();
            bench.held().await;
            assert_eq!(start.elapsed(), Duration::ZERO, "{lifetime} s");
            pass(0.1).await;
        }
    }
}

// F7: settings that leave no time between two tokens.
#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_longer_than_the_lifetime_does_not_renew_in_a_loop() {
    let timing = Timing {
        refresh_ahead: RefreshAhead::Before(Duration::from_secs(7_200)),
        ..TIMING
    };
    let bench = Bench::with(timing, Script::new([Step::Token(Some(600))]));
    pass(600.0).await;
    assert!(bench.script.count() <= 101, "{}", bench.script.count());
    assert_eq!(bench.state(), "fresh");
}

// F2, F52.
#[tokio::test(start_paused = true)]
async fn twenty_replicas_that_started_together_renew_at_different_times() {
    let replicas: Vec<Bench> = (0..20).map(|_| Bench::start([HOUR])).collect();
    let start = Instant::now();
    pass(3_590.0).await;
    let mut renewals: Vec<u64> = replicas
        .iter()
        .map(|replica| (replica.script.calls()[1].at - start).as_secs())
        .collect();
    renewals.sort_unstable();
    renewals.dedup();
    assert!(renewals.len() > 10, "{renewals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_driver_ends_with_its_cell_even_in_the_middle_of_a_token_request() {
    let bench = Bench::start([HOUR]);
    bench.held().await;
    let source = std::sync::Arc::downgrade(&bench.script);
    drop(bench);
    settle().await;
    assert!(source.upgrade().is_none());

    let bench = Bench::start([Step::Hang]);
    bench.script.called(1).await;
    let script = bench.script.clone();
    drop(bench);
    pass(11.0).await;
    script.dropped.notified().await;
    settle().await;
    assert_eq!(std::sync::Arc::strong_count(&script), 1);
}

// Its margin is that of the lifetime as received, however little of it is left.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_kept_has_the_margin_and_the_renewal_of_its_whole_life_and_is_no_token_request()
 {
    let bench = Bench::start([Step::Kept(2_800), DOWN]);
    bench.held().await;
    assert!(
        bench.has_sample(r#"bursar_token_refreshes_total{credential="d2l",result="success"} 0"#)
    );
    pass(200.0).await;
    assert_eq!(bench.state(), "failing");
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    pass(571.0).await;
    assert!(bench.token().await.is_err(), "inside its margin of 30 s");
}
