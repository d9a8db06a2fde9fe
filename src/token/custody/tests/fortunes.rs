//! Any fortune, in any order.

use std::time::Duration;

use proptest::prelude::*;

use super::bench::{Bench, SINGLE_USE, Step};
use crate::oauth::{Cause, OAuthError, Unreachable};

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A token is asked for, and this comes of it.
    Ask(Fortune),
    /// The same, and who asked goes away before it comes.
    GoAway(Fortune),
    /// The process ends, and another one begins.
    Restart,
    /// Hours pass.
    Wait,
}

#[derive(Clone, Debug)]
enum Fortune {
    Good,
    KeepsTheOldOne,
    Refused(Cause),
    Lost(Cause),
}

impl Fortune {
    fn step(&self) -> Step {
        match self {
            Self::Good => Step::Rotate,
            Self::KeepsTheOldOne => Step::Keep,
            Self::Refused(cause) => Step::Refuse(cause.clone()),
            Self::Lost(cause) => Step::Lose(cause.clone()),
        }
    }
}

fn causes() -> impl Strategy<Value = Cause> {
    prop::sample::select(vec![
        Cause::Timeout(Duration::from_secs(10)),
        Cause::Unreachable(Unreachable::Reset),
        Cause::Unreachable(Unreachable::Connect),
        Cause::InvalidResponse("it is empty"),
        Cause::Status(500),
        Cause::Status(502),
        Cause::Throttled(429),
        Cause::Rejected(OAuthError::InvalidGrant),
        Cause::Rejected(OAuthError::InvalidClient),
    ])
}

fn lost() -> impl Strategy<Value = Cause> {
    prop::sample::select(vec![
        Cause::Timeout(Duration::from_secs(10)),
        Cause::Unreachable(Unreachable::Reset),
        Cause::InvalidResponse("it is empty"),
        Cause::Status(504),
    ])
}

fn fortunes() -> impl Strategy<Value = Fortune> {
    prop_oneof![
        4 => Just(Fortune::Good),
        1 => Just(Fortune::KeepsTheOldOne),
        2 => causes().prop_map(Fortune::Refused),
        1 => lost().prop_map(Fortune::Lost),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => fortunes().prop_map(Event::Ask),
        1 => fortunes().prop_map(Event::GoAway),
        1 => Just(Event::Restart),
        1 => Just(Event::Wait),
    ]
}

async fn live(events: Vec<Event>) {
    let mut bench = Bench::start(SINGLE_USE, []).await;
    let mut logins = 1;
    for event in events {
        match &event {
            Event::Ask(fortune) => {
                bench.server.now([fortune.step()]);
                if let Err(Cause::LoginNeeded(_)) = bench.token().await {
                    // Somebody does what they are told.
                    logins += 1;
                    let token = format!("login-{logins}");
                    bench.log_in(&token, &token).await;
                    bench.server.accept(&token);
                }
            }
            Event::GoAway(fortune) => {
                bench.server.now([fortune.step()]);
                let waiting = bench.begin();
                tokio::task::yield_now().await;
                waiting.abort();
                // It is over when the record is free again.
                drop(bench.custodian.store.lock(&bench.key()).await.unwrap());
            }
            Event::Restart => {
                bench.custodian.rotations().finish().await;
                bench = bench.another();
            }
            Event::Wait => bench.clock.suspend(Duration::from_secs(10_000)),
        }
        let stored = bench.stored().await;
        let is_newest = bench.stored_token().await == bench.server.current();
        let is_noted = stored.intent.is_some() || stored.refused.is_some();
        assert!(is_newest || is_noted, "{event:?}: the newest is lost");
        let mut spent = bench.server.spent();
        let all = spent.len();
        spent.sort();
        spent.dedup();
        assert_eq!(spent.len(), all, "{event:?}: one came twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_nothing_is_lost_unnoted_and_nothing_that_may_be_spent_comes_twice(
        events in prop::collection::vec(events(), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(live(events));
    }
}
