//! What happens when the authorization server brings no token.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    bench::{Bench, DOWN, HOUR, REFUSED, pass, settle},
    script::Step,
};
use crate::{
    oauth::{Cause, LoginNeeded, OAuthError, Unreachable},
    scope::ScopeSet,
    telemetry::testing::Captured,
    token::TokenError,
};

// F23, F31: the margin counts too, and the outcome is an error, not an anonymous request.
#[tokio::test(start_paused = true)]
async fn while_the_as_is_down_a_token_is_served_to_its_margin_never_beyond_and_then_comes_back_by_itself()
 {
    let bench = Bench::start([HOUR, DOWN]);
    bench.held().await;
    pass(3_569.0).await;
    assert_eq!(bench.state(), "failing");
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    pass(1.5).await;
    for _ in 0..100 {
        assert!(bench.token().await.is_err());
        pass(1.0).await;
    }
    bench.script.now_answers([HOUR]);
    pass(61.0).await;
    assert_eq!(bench.token().await, Ok("token-2".to_owned()));
    assert_eq!(bench.state(), "fresh");
}

// F24, F12.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_while_the_token_is_usable_disturbs_nobody() {
    for failure in [
        DOWN,
        REFUSED,
        Step::Fail(Cause::InvalidResponse("no JSON")),
        Step::Panic,
    ] {
        let bench = Bench::start([HOUR, failure, HOUR]);
        bench.held().await;
        pass(2_800.0).await;
        for _ in 0..800 {
            let start = Instant::now();
            bench.held().await;
            assert_eq!(start.elapsed(), Duration::ZERO);
            pass(1.0).await;
        }
        assert_eq!(bench.held().await.generation, 2);
    }
}

// F9, F12: whatever it was, it is tried again.
#[tokio::test(start_paused = true)]
async fn every_transient_failure_is_tried_again_and_a_good_answer_heals_it() {
    for cause in [
        Cause::InvalidResponse("the body is empty"),
        Cause::InvalidResponse("no access_token"),
        Cause::Status(302),
        Cause::Status(500),
        Cause::Throttled(429),
        Cause::Timeout(Duration::from_secs(10)),
        Cause::Unreachable(Unreachable::Dns),
        Cause::Unreachable(Unreachable::Tls),
        Cause::Unreachable(Unreachable::Reset),
        Cause::Rejected(OAuthError::InvalidGrant),
        Cause::Rejected(OAuthError::ServerError),
        Cause::Rejected(OAuthError::TemporarilyUnavailable),
        Cause::Rejected(OAuthError::Other),
    ] {
        let bench = Bench::start([Step::Fail(cause.clone()), Step::Fail(cause.clone()), HOUR]);
        assert_eq!(bench.token().await, Ok("token-1".to_owned()), "{cause}");
        assert_eq!(bench.script.count(), 3, "{cause}");
    }
}

// F10.
#[tokio::test(start_paused = true)]
async fn every_permanent_failure_parks_the_token_and_is_tried_again_each_minute() {
    for error in [
        OAuthError::InvalidClient,
        OAuthError::UnauthorizedClient,
        OAuthError::UnsupportedGrantType,
        OAuthError::InvalidScope,
        OAuthError::InvalidRequest,
    ] {
        let cause = Cause::Rejected(error);
        let bench = Bench::start([Step::Fail(cause.clone())]);
        settle().await;
        assert_eq!(bench.state(), "parked");
        pass(20.0).await;
        let start = Instant::now();
        for _ in 0..500 {
            assert_eq!(
                bench.token().await,
                Err(TokenError::Configuration {
                    cause: cause.clone(),
                    retry_after: Duration::from_secs(40),
                })
            );
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(bench.script.count(), 1);

        pass(580.0).await;
        assert_eq!(bench.script.gaps(), [Duration::from_secs(60); 10]);
        bench.script.now_answers([HOUR]);
        pass(60.0).await;
        assert_eq!(bench.token().await, Ok("token-1".to_owned()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_token_refuses_at_once_even_while_it_is_tried_again() {
    let bench = Bench::start([REFUSED, Step::Hang]);
    pass(60.5).await;
    assert_eq!(bench.script.count(), 2);
    let start = Instant::now();
    let error = bench.token().await.unwrap_err();
    assert!(matches!(error, TokenError::Configuration { .. }));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_for_a_token_are_told_at_once_that_it_is_parked() {
    let bench = Bench::start([Step::Slow(Duration::from_secs(2), Box::new(REFUSED))]);
    let start = Instant::now();
    let error = bench.token().await.unwrap_err();
    assert!(matches!(error, TokenError::Configuration { .. }));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

// F11.
#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_and_passed_on_to_requests_that_would_wait_in_vain() {
    let throttled = Cause::Throttled(429);
    let bench = Bench::start([Step::FailFor(throttled.clone(), 30), HOUR]);
    settle().await;
    let start = Instant::now();
    let TokenError::Unavailable { cause, retry_after } = bench.token().await.unwrap_err() else {
        panic!("throttling is no configuration");
    };
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(cause, Some(throttled));
    assert!(
        (30..=33).contains(&retry_after.as_secs()),
        "{retry_after:?}"
    );

    pass(29.9).await;
    assert_eq!(bench.script.count(), 1);
    pass(3.2).await;
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_within_the_wait_is_waited_for() {
    let bench = Bench::start([Step::FailFor(Cause::Throttled(503), 3), HOUR]);
    settle().await;
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert!(bench.script.gaps()[0] >= Duration::from_secs(3));
}

// F10, F11: an outage under load.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_failure_cost_the_as_at_most_20_calls_however_many_requests_come() {
    for _ in 0..3 {
        let bench = Bench::start([DOWN]);
        for _ in 0..600 {
            let cell = bench.cell.clone();
            tokio::spawn(async move { cell.token().await.map(|_| ()) });
            pass(1.0).await;
        }
        assert!(bench.script.count() <= 20, "{}", bench.script.count());
        assert!(bench.script.count() >= 10, "{}", bench.script.count());
        let shortest = *bench.script.gaps().iter().min().unwrap();
        assert!(shortest >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_heals_within_seconds_of_its_end() {
    for (outage, lag) in [(6.0, 2.5), (10.0, 2.5), (13.0, 3.75), (17.0, 5.0)] {
        let bench = Bench::start([DOWN]);
        pass(outage).await;
        bench.script.now_answers([HOUR]);
        // Timers of tokio tick in milliseconds, and the manual clock with them.
        pass(lag + 0.05).await;
        assert_eq!(bench.state(), "fresh", "{outage} s");
    }
}

// F9 of Envoy: garbage at a renewal ends all renewals there.
#[tokio::test(start_paused = true)]
async fn garbage_at_a_renewal_is_followed_by_a_good_renewal() {
    let garbage = Step::Fail(Cause::InvalidResponse("no JSON"));
    let bench = Bench::start([HOUR, garbage, HOUR]);
    bench.held().await;
    pass(3_300.0).await;
    assert_eq!(bench.held().await.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_a_token_request_is_one_failed_token_request() {
    let bench = Bench::start([Step::Panic, HOUR]);
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    assert!(bench.has_sample(
        "bursar_token_refreshes_total{credential=\"d2l\",result=\"invalid_response\"} 1"
    ));
}

#[tokio::test(start_paused = true)]
async fn an_assertion_refused_because_of_a_wrong_clock_is_tried_once_more_with_the_right_time() {
    let refused = Step::Skewed(Box::new(REFUSED), 400.0);
    let bench = Bench::start([refused, HOUR]);
    assert_eq!(bench.token().await, Ok("token-1".to_owned()));
    let skews: Vec<f64> = bench
        .script
        .calls()
        .iter()
        .map(|call| call.skew_seconds)
        .collect();
    assert_eq!(skews, [0.0, 400.0]);
}

#[tokio::test(start_paused = true)]
async fn an_assertion_refused_with_the_right_time_too_parks_the_token() {
    let bench = Bench::start([
        Step::Skewed(Box::new(REFUSED), 400.0),
        Step::Skewed(Box::new(REFUSED), 800.0),
    ]);
    let error = bench.token().await.unwrap_err();
    assert!(matches!(error, TokenError::Configuration { .. }));
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_token_request_asks_for_the_same_scopes() {
    let bench = Bench::start([DOWN, HOUR]);
    bench.held().await;
    pass(3_000.0).await;
    let asked = ScopeSet::parse("users:userdata:read core:*:*").unwrap();
    assert_eq!(bench.script.count(), 3);
    for call in bench.script.calls() {
        assert_eq!(call.scopes.as_ref(), Some(&asked));
    }
}

#[tokio::test(start_paused = true)]
async fn scopes_granted_as_asked_are_not_worth_keeping() {
    let asked = ScopeSet::parse("core:*:* users:userdata:read").unwrap();
    let bench = Bench::start([Step::Granted(asked)]);
    assert_eq!(bench.held().await.granted, None);
}

/// A first token, an outage, an answer without `expires_in`, and a refused client.
async fn an_eventful_day() {
    let bench = Bench::start([
        Step::Skewed(Box::new(HOUR), -90.0),
        DOWN,
        Step::Token(None),
        REFUSED,
    ]);
    let first = bench.held().await;
    tracing::trace!(token = ?first, "a careless line");
    pass(3_650.0).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_the_story_once_and_never_a_token() {
    // tracing remembers for each line of code whether anybody listens, and asks again when a new listener comes. A line that
    // another test reaches first while we listen may be remembered as unheard: the first listener sees to it that all lines
    // are known, the second hears them.
    let mut text = String::new();
    for _ in 0..2 {
        let (log, _guard) = Captured::listen(tracing::Level::TRACE);
        an_eventful_day().await;
        text = log.text();
    }
    for sentence in [
        "first token received",
        "the local clock differs from the authorization server's",
        "token request failed",
        "recovered: a token was received",
        "the answer has no expires_in",
        "token parked",
        "bursar check",
        "bursar::token",
        "the authorization server refused: invalid_client",
        "set it (NTP)",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
    assert!(
        !text.contains("token-1") && !text.contains("Bearer"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_needed_is_said_at_once_and_taken_up_as_soon_as_it_is_there() {
    let needed = Step::Fail(Cause::LoginNeeded(LoginNeeded::Lost));
    let bench = Bench::start([needed, HOUR]);
    settle().await;
    let since = Instant::now();
    let error = bench.token().await.unwrap_err();
    assert_eq!(
        error,
        TokenError::LoginNeeded {
            is_personal: false,
            credential: "d2l".into(),
            why: LoginNeeded::Lost,
        }
    );
    assert_eq!(since.elapsed(), Duration::ZERO);

    bench.script.login.notify_one();
    pass(1.0).await;
    assert_eq!(bench.token().await.unwrap(), "token-1");
    assert_eq!(bench.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_take_the_next_token_is_told_from_an_authorization_server_that_is_down()
{
    let bench = Bench::start([Step::Fail(Cause::Store("no space left"))]);
    let error = bench.token().await.unwrap_err();
    assert!(
        matches!(error, TokenError::StoreUnavailable { .. }),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_asks_nobody_is_no_token_request() {
    for cause in [
        Cause::LoginNeeded(LoginNeeded::Never),
        Cause::LoginNeeded(LoginNeeded::Lost),
        Cause::Store("no space left"),
        Cause::NotSent("bursar is shutting down"),
    ] {
        let bench = Bench::start([Step::Fail(cause)]);
        settle().await;
        assert_eq!(bench.script.count(), 1);
        for result in ["rejected", "invalid_response"] {
            let sample =
                format!("bursar_token_refreshes_total{{credential=\"d2l\",result=\"{result}\"}} 0");
            assert!(bench.has_sample(&sample), "{sample}");
        }
    }
}
