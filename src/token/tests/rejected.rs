//! What a 401 of the LMS does to its token.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{
    bench::{Bench, DOWN, HOUR, pass, settle, text},
    script::Step,
};

// F26, F27.
#[tokio::test(start_paused = true)]
async fn a_thousand_concurrent_401s_share_one_refresh_and_all_get_the_new_token() {
    let bench = Bench::start([HOUR]);
    let rejected = bench.held().await;
    pass(10.0).await;
    bench.script.close_gate();
    let mut requests = JoinSet::new();
    for _ in 0..1_000 {
        let (cell, rejected) = (bench.cell.clone(), rejected.clone());
        requests.spawn(async move {
            let token = cell.token_after_401(&rejected).await;
            token.map(|token| text(&token))
        });
    }
    bench.script.called(2).await;
    settle().await;
    bench.script.open_gate();
    let tokens = requests.join_all().await;
    assert_eq!(tokens, vec![Some("token-2".to_owned()); 1_000]);
    // Whoever knows of another token than the rejected one is told that it takes more than a young one.
    let forced: Vec<bool> = bench
        .script
        .calls()
        .iter()
        .map(|call| call.is_forced)
        .collect();
    assert_eq!(forced, [false, true]);
}

// F26: the 401 is about a token that was replaced meanwhile.
#[tokio::test(start_paused = true)]
async fn a_401_to_a_token_that_was_renewed_since_gets_the_current_one_without_a_token_request() {
    let bench = Bench::start([HOUR]);
    let rejected = bench.held().await;
    pass(3_000.0).await;
    assert_eq!(bench.script.count(), 2);
    let token = bench.cell.token_after_401(&rejected).await.unwrap();
    assert_eq!(token.generation, 2);
    settle().await;
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_during_a_renewal_waits_for_that_one() {
    let bench = Bench::start([HOUR]);
    let rejected = bench.held().await;
    bench.script.close_gate();
    bench.script.called(2).await;
    let cell = bench.cell.clone();
    let request = tokio::spawn(async move { cell.token_after_401(&rejected).await });
    settle().await;
    bench.script.open_gate();
    assert_eq!(request.await.unwrap().unwrap().generation, 2);
    pass(5.0).await;
    assert_eq!(bench.script.count(), 2);
}

// F28: an LMS that answers 401 to everything.
#[tokio::test(start_paused = true)]
async fn at_most_one_refresh_in_30_seconds_is_forced_and_other_401s_pass_through_at_once() {
    let bench = Bench::start([HOUR]);
    pass(100.0).await;
    let (mut replayed, mut passed_through) = (0, 0);
    for _ in 0..600 {
        let rejected = bench.held().await;
        let start = Instant::now();
        match bench.cell.token_after_401(&rejected).await {
            Some(_) => replayed += 1,
            None => passed_through += 1,
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pass(0.1).await;
    }
    assert_eq!((replayed, passed_through), (2, 598));
    assert_eq!(bench.script.count(), 3);
}

// F27.
#[tokio::test(start_paused = true)]
async fn the_same_token_again_is_not_replayed() {
    let bench = Bench::start([Step::Same("stubborn", 3_600)]);
    let rejected = bench.held().await;
    pass(5.0).await;
    assert!(bench.cell.token_after_401(&rejected).await.is_none());
    assert_eq!(bench.script.count(), 2);
    assert_eq!(bench.held().await.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_fails_passes_the_401_through_at_once_and_leaves_the_token_to_the_others()
 {
    let bench = Bench::start([HOUR, DOWN]);
    let rejected = bench.held().await;
    pass(5.0).await;
    let start = Instant::now();
    for _ in 0..50 {
        assert!(bench.cell.token_after_401(&rejected).await.is_none());
        assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn other_requests_are_served_while_the_successor_is_under_way() {
    let bench = Bench::start([HOUR, Step::Slow(Duration::from_secs(5), Box::new(HOUR))]);
    let rejected = bench.held().await;
    pass(5.0).await;
    bench.cell.note_401(&rejected);
    bench.script.called(2).await;
    let start = Instant::now();
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    pass(5.1).await;
    assert_eq!(bench.token().await, Ok("token-2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_401_right_after_the_first_token_still_leaves_a_second_between_token_requests() {
    let bench = Bench::start([HOUR]);
    let rejected = bench.held().await;
    let token = bench.cell.token_after_401(&rejected).await.unwrap();
    assert_eq!(token.generation, 2);
    assert_eq!(bench.script.gaps(), [Duration::from_secs(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_401_waits_no_longer_than_any_request() {
    let bench = Bench::start([HOUR, Step::Hang]);
    let rejected = bench.held().await;
    pass(5.0).await;
    let start = Instant::now();
    assert!(bench.cell.token_after_401(&rejected).await.is_none());
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

/// Somebody has logged in, or a secret was corrected: the token that the LMS rejected is not kept for the rest of its life.
#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_failed_is_made_up_for_as_soon_as_its_reason_is_gone() {
    let bench = Bench::start([HOUR, DOWN, HOUR]);
    let rejected = bench.held().await;
    pass(10.0).await;
    assert!(bench.cell.token_after_401(&rejected).await.is_none());
    bench.cell.begin_anew();
    let next = bench.cell.token_after_401(&rejected).await.unwrap();
    assert_eq!(next.generation, 2);
    let forced = bench.script.calls().pop().unwrap().is_forced;
    assert!(forced, "whoever knows of another token is told");
    // Once: a success is one, and so is a reason that was gone before.
    bench.cell.begin_anew();
    pass(60.0).await;
    assert_eq!(bench.script.count(), 3);
}
