//! Refresh tokens of which nobody knows whether they are spent, and those that are no good.

use std::time::Duration;

use super::bench::{Bench, REUSABLE, SINGLE_USE, Step, WITH_GRACE};
use crate::{
    clock::Clock as _,
    oauth::{Cause, LoginNeeded, OAuthError, TokenSource as _, Unreachable},
    store::{Granted, Record},
};

const LOST: Cause = Cause::LoginNeeded(LoginNeeded::Lost);
const REFUSED: Cause = Cause::LoginNeeded(LoginNeeded::Refused);
const INVALID_GRANT: Cause = Cause::Rejected(OAuthError::InvalidGrant);

fn unknown() -> [Cause; 6] {
    [
        Cause::Timeout(Duration::from_secs(10)),
        Cause::Unreachable(Unreachable::Reset),
        Cause::InvalidResponse("it is not one JSON object with every member once"),
        Cause::InvalidResponse("it is empty"),
        Cause::Status(502),
        Cause::Status(504),
    ]
}

fn harmless() -> [Cause; 8] {
    [
        Cause::Unreachable(Unreachable::Dns),
        Cause::Unreachable(Unreachable::Connect),
        Cause::Unreachable(Unreachable::Tls),
        Cause::Unreachable(Unreachable::Proxy),
        Cause::Throttled(429),
        Cause::Status(500),
        Cause::Status(503),
        Cause::Rejected(OAuthError::InvalidClient),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_may_be_spent_is_never_presented_twice() {
    for cause in unknown() {
        for step in [Step::Lose(cause.clone()), Step::Refuse(cause.clone())] {
            let bench = Bench::start(SINGLE_USE, [step]).await;
            assert_eq!(bench.token().await, Err(LOST), "{cause}");
            assert_eq!(bench.token().await, Err(LOST), "{cause}");
            // Nor after a restart.
            assert_eq!(bench.another().token().await, Err(LOST), "{cause}");
            assert_eq!(bench.server.presented(), ["r1"], "{cause}");
            assert!(bench.stored().await.intent.is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_was_not_looked_at_is_presented_again() {
    for cause in harmless() {
        let bench = Bench::start(SINGLE_USE, [Step::Refuse(cause.clone())]).await;
        assert_eq!(bench.token().await, Err(cause.clone()));
        assert_eq!(bench.stored().await.intent, None, "{cause}");
        assert_eq!(bench.token().await.as_deref(), Ok("a2"), "{cause}");
        assert_eq!(bench.server.presented(), ["r1", "r1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn within_the_grace_it_is_presented_once_more_and_no_third_time() {
    for cause in unknown() {
        let steps = [Step::Refuse(cause.clone()), Step::Rotate];
        let bench = Bench::start(WITH_GRACE, steps).await;
        assert_eq!(bench.token().await, Err(cause.clone()));
        assert_eq!(bench.token().await.as_deref(), Ok("a2"));
        assert_eq!(bench.stored().await.intent, None);

        let steps = [Step::Refuse(cause.clone()), Step::Refuse(cause.clone())];
        let bench = Bench::start(WITH_GRACE, steps).await;
        assert_eq!(bench.token().await, Err(cause.clone()));
        assert_eq!(bench.token().await, Err(LOST));
        assert_eq!(bench.another().token().await, Err(LOST));
        assert_eq!(bench.server.presented(), ["r1", "r1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_grace_counts_from_the_first_presentation_and_holds_over_a_restart() {
    let cause = Cause::Timeout(Duration::from_secs(10));
    let bench = Bench::start(WITH_GRACE, [Step::Refuse(cause.clone())]).await;
    assert_eq!(bench.token().await, Err(cause.clone()));
    bench.clock.suspend(Duration::from_secs(59));
    assert_eq!(bench.another().token().await.as_deref(), Ok("a2"));

    let bench = Bench::start(WITH_GRACE, [Step::Refuse(cause.clone())]).await;
    assert_eq!(bench.token().await, Err(cause.clone()));
    bench.clock.suspend(Duration::from_secs(60));
    assert_eq!(bench.another().token().await, Err(LOST));

    // A clock that was stepped back tells nothing.
    let bench = Bench::start(WITH_GRACE, [Step::Refuse(cause.clone())]).await;
    assert_eq!(bench.token().await, Err(cause));
    bench.clock.step_wall(-10_000);
    assert_eq!(bench.another().token().await, Err(LOST));
}

#[tokio::test(start_paused = true)]
async fn a_second_presentation_that_was_not_sent_leaves_one_more() {
    let bench = Bench::start(
        WITH_GRACE,
        [
            Step::Refuse(Cause::Unreachable(Unreachable::Reset)),
            Step::Refuse(Cause::Unreachable(Unreachable::Connect)),
        ],
    )
    .await;
    assert!(bench.token().await.is_err());
    assert!(bench.token().await.is_err());
    let intent = bench.stored().await.intent.expect("the first is unknown");
    assert_eq!(intent.presented, 1);
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_killed_with_an_open_intent_presents_nothing_again() {
    for (rules, outcome) in [(SINGLE_USE, Err(LOST)), (WITH_GRACE, Ok("a2".to_owned()))] {
        let bench = Bench::start(rules, []).await;
        bench.server.close_gate();
        let waiting = bench.begin();
        bench.server.called(1).await;
        // What is on the disk now is what a kill leaves behind.
        let left = bench.stored().await;
        bench.server.open_gate();
        waiting.await.unwrap().unwrap();
        bench.put(&left).await;
        bench.server.accept("r1");
        let presented = bench.server.presented().len();
        let restarted = bench.another();
        let again = restarted.token().await.map(|_| "a2".to_owned());
        assert_eq!(again, outcome);
        let again = usize::from(outcome.is_ok());
        assert_eq!(bench.server.presented().len(), presented + again);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_the_middle_leaves_the_intent_open() {
    let bench = Bench::start(SINGLE_USE, [Step::Panic]).await;
    assert!(matches!(
        bench.token().await,
        Err(Cause::InvalidResponse(_))
    ));
    assert_eq!(bench.token().await, Err(LOST));
    assert_eq!(bench.server.presented(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_is_kept_marked_and_not_presented_again() {
    let bench = Bench::start(SINGLE_USE, [Step::Refuse(INVALID_GRANT)]).await;
    assert_eq!(bench.token().await, Err(REFUSED));
    let stored = bench.stored().await;
    assert_eq!((stored.intent, stored.refused.is_some()), (None, true));
    assert_eq!(bench.stored_token().await, "r1");
    assert_eq!(bench.token().await, Err(REFUSED));
    assert_eq!(bench.another().token().await, Err(REFUSED));
    assert_eq!(bench.server.presented(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_login_it_goes_on_whatever_was_before() {
    for step in [
        Step::Refuse(INVALID_GRANT),
        Step::Lose(Cause::Unreachable(Unreachable::Reset)),
    ] {
        let bench = Bench::start(SINGLE_USE, [step]).await;
        assert!(matches!(bench.token().await, Err(Cause::LoginNeeded(_))));
        let custody = std::sync::Arc::clone(&bench.custody);
        let cured = tokio::spawn(async move { custody.cured(None).await });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!cured.is_finished());
        bench.another().log_in("second", "s1").await;
        bench.server.accept("s1");
        cured.await.unwrap();
        assert!(bench.token().await.is_ok());
        assert_eq!(bench.server.presented(), ["r1", "s1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_process_has_overtaken_is_none() {
    let bench = Bench::start(SINGLE_USE, []).await;
    bench.server.accept("r5");
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    // A process on a machine whose locks do not reach this one has rotated.
    let mut newer = bench.stored().await;
    newer.version.generation += 4;
    newer.intent = None;
    newer.granted = Granted::RefreshToken {
        token: "r5".into(),
        expires: None,
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let sealed = sealed(&bench, &newer, elsewhere.path()).await;
    std::fs::rename(sealed, bench.file("state")).unwrap();
    bench.server.open_gate();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(bench.server.presented(), ["r1", "r5"]);
    assert_eq!(bench.stored().await.version.generation, 6);
}

/// Seals a record as the bench's store would, in another directory.
async fn sealed(bench: &Bench, record: &Record, place: &std::path::Path) -> std::path::PathBuf {
    use crate::store::{KeyFile, Store, StoreMetrics, StoreParams};
    let params = StoreParams::File {
        directory: place.join("state"),
        key_file: KeyFile::Own {
            path: bench.place.path().join("config/state.key"),
        },
    };
    let metrics = StoreMetrics::new(&prometheus::Registry::new()).unwrap();
    let store = Store::new(&params, std::sync::Arc::new(metrics));
    let guard = store.lock(&bench.key()).await.unwrap();
    guard.replace(record).await.unwrap();
    place
        .join("state")
        .join(bench.file("state").file_name().unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_expired_login_is_not_presented() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let mut record = bench.stored().await;
    let now = bench.clock.now().wall;
    record.granted = Granted::RefreshToken {
        token: "r1".into(),
        expires: Some(now + Duration::from_secs(10)),
    };
    bench.put(&record).await;
    bench.clock.suspend(Duration::from_secs(10));
    assert_eq!(
        bench.token().await,
        Err(Cause::LoginNeeded(LoginNeeded::Expired))
    );
    assert!(bench.server.presented().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_a_refresh_token_is_for_ever_one_that_is_not_found_needs_a_login() {
    let unknown = Cause::Rejected(OAuthError::InvalidRequest);
    let bench = Bench::start(REUSABLE, [Step::Refuse(unknown.clone())]).await;
    assert_eq!(bench.token().await, Err(REFUSED));
    let bench = Bench::start(SINGLE_USE, [Step::Refuse(unknown.clone())]).await;
    assert_eq!(bench.token().await, Err(unknown));
}

#[tokio::test(start_paused = true)]
async fn only_the_refusal_itself_is_an_exchange_and_what_follows_from_it_is_none() {
    let bench = Bench::start(SINGLE_USE, [Step::Refuse(INVALID_GRANT)]).await;
    for is_exchange in [true, false] {
        let failure = bench.begin().await.unwrap().unwrap_err();
        assert_eq!(failure.cause, REFUSED);
        assert_eq!(failure.is_exchange(), is_exchange);
    }
}
