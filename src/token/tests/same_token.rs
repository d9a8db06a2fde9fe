//! An authorization server that has one token per client and hands it out until it expires (Blackboard).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use super::{
    bench::{Bench, TIMING, pass, settle},
    script::{Script, Step, bearer},
};
use crate::{
    oauth::{Answer, Cause, Failure, TokenRequest, TokenSource},
    token::Timing,
};

const BLACKBOARD: Timing = Timing {
    safety_margin: Duration::from_secs(5),
    ..TIMING
};

/// Gives the same token until it expires, with what is left of its life in whole seconds.
struct OneToken {
    lifetime: Duration,
    latency: Duration,
    current: Mutex<Option<(u32, Instant)>>,
    requests: Mutex<Vec<Instant>>,
}

impl OneToken {
    fn new(lifetime: u64, latency: Duration) -> Self {
        Self {
            lifetime: Duration::from_secs(lifetime),
            latency,
            current: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// The token in force at `now`, a new one if the last has expired.
    fn current(&self, now: Instant) -> (u32, Instant) {
        let mut current = self.current.lock().unwrap();
        let in_force = match *current {
            Some((number, expires)) if now < expires => (number, expires),
            last => (
                last.map_or(1, |(number, _)| number + 1),
                now + self.lifetime,
            ),
        };
        *current = Some(in_force);
        in_force
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl TokenSource for OneToken {
    async fn request(&self, _request: TokenRequest) -> Result<Answer, Failure> {
        self.requests.lock().unwrap().push(Instant::now());
        sleep(self.latency).await;
        let now = Instant::now();
        let (number, expires) = self.current(now);
        sleep(self.latency).await;
        match (expires - now).as_secs() {
            0 => Err(Cause::InvalidResponse("expires_in is not positive").into()),
            left => Ok(Answer {
                refresh_token: None,
                refresh_expires_in: None,
                kept_for: None,
                account: None,
                injection: bearer(&format!("token-{number}")),
                expires_in: Some(Duration::from_secs(left)),
                granted: None,
                skew_seconds: None,
            }),
        }
    }
}

// F7, and what makes a broker hammer a Blackboard: each renewal ahead of time brings less to live.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_handed_out_again_is_asked_for_twice_in_its_life() {
    let server = OneToken::new(3_600, Duration::from_millis(200));
    let bench = Bench::with(BLACKBOARD, server);
    for hour in 1..=5 {
        pass(3_550.0).await;
        assert_eq!(bench.script.count(), 2 * hour);
        assert_eq!(bench.token().await.unwrap(), format!("token-{hour}"));
        pass(60.0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_at_its_end_and_none_fails() {
    let bench = Bench::with(BLACKBOARD, OneToken::new(600, Duration::from_millis(200)));
    bench.held().await;
    let (mut longest, mut last) = (Duration::ZERO, String::new());
    for _ in 0..1_500 {
        let asked = Instant::now();
        last = bench.token().await.unwrap();
        longest = longest.max(asked.elapsed());
        pass(1.0).await;
    }
    assert_eq!(last, "token-3");
    assert!(longest > Duration::from_secs(4), "{longest:?}");
    assert!(longest < Duration::from_secs(8), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_401_to_a_token_that_is_handed_out_again_passes_and_changes_no_plan() {
    let bench = Bench::with(BLACKBOARD, OneToken::new(3_600, Duration::ZERO));
    let first = bench.held().await;
    pass(60.0).await;
    assert!(bench.cell.token_after_401(&first).await.is_none());
    let again = bench.held().await;
    assert_eq!(again.issued, first.issued);
    pass(2_000.0).await;
    assert_eq!(bench.script.count(), 2);
    pass(1_000.0).await;
    assert_eq!(bench.script.count(), 3);
    pass(530.0).await;
    assert_eq!(bench.script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_with_a_later_end_is_renewed_as_usual() {
    let bench = Bench::start([Step::Same("sliding", 3_600)]);
    for renewals in 1..=5 {
        pass(2_960.0).await;
        assert_eq!(bench.script.count(), renewals + 1);
        bench.held().await;
    }
}

/// Runs `test` in paused time.
fn paused<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

fn answer() -> impl Strategy<Value = (bool, u64)> {
    (
        any::<bool>(),
        prop_oneof![1_u64..10, 10_u64..600, 600_u64..8_000],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_answered_the_next_token_request_waits_for_a_third_of_the_life_that_it_brought(
        answers in proptest::collection::vec(answer(), 1..40),
    ) {
        let steps = answers.iter().map(|&(is_same, seconds)| match is_same {
            true => Step::Same("same", seconds),
            false => Step::Token(Some(seconds)),
        });
        let script = Script::new(steps);
        let gaps = paused(async {
            let bench = Bench::with(TIMING, script);
            pass(3_600.0).await;
            bench.script.gaps()
        });
        // The last answer is given for ever.
        let lives = answers.iter().chain(answers.last().into_iter().cycle());
        for (gap, &(_, seconds)) in gaps.iter().zip(lives) {
            prop_assert!(*gap >= Duration::from_secs(1));
            prop_assert!(gap.as_secs_f64() >= seconds as f64 / 3.0, "{gap:?} after {seconds} s");
        }
    }

    #[test]
    fn a_server_with_one_token_is_asked_about_twice_per_token_whatever_its_lifetime_and_latency(
        lifetime in 30_u64..8_000,
        latency_ms in 0_u64..1_500,
        safety_margin in 0_u64..60,
    ) {
        let timing = Timing { safety_margin: Duration::from_secs(safety_margin), ..TIMING };
        let (requests, tokens) = paused(async {
            let server = OneToken::new(lifetime, Duration::from_millis(latency_ms));
            let bench = Bench::with(timing, server);
            pass(3_600.0).await;
            settle().await;
            let server = Arc::clone(&bench.script);
            let tokens = server.current.lock().unwrap().map_or(0, |(number, _)| number);
            (server.count(), tokens as usize)
        });
        prop_assert!(requests <= 2 * tokens + 1, "{requests} requests for {tokens} tokens");
    }
}
