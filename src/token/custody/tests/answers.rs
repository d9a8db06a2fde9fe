//! What an answer changes in the record.

use std::time::Duration;

use super::bench::{Bench, SINGLE_USE, Step};
use crate::{clock::Clock as _, oauth::TokenSource as _, scope::ScopeSet};

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let bench = Bench::start(SINGLE_USE, [Step::Keep]).await;
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
    assert_eq!(bench.stored_token().await, "r1");
    assert_eq!(bench.stored().await.intent, None);
    assert_eq!(bench.token().await.as_deref(), Ok("a3"));
    assert_eq!(bench.server.presented(), ["r1", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_expiry_rolls_the_stored_one_and_a_new_token_does_not_inherit_the_old_one() {
    let bench = Bench::start(SINGLE_USE, [Step::Rolled(86_400), Step::Keep, Step::Rotate]).await;
    let sent = bench.clock.now().wall;
    let expires = async || bench.stored().await.granted.expires();
    bench.token().await.unwrap();
    let rolled = expires().await.expect("the answer had one");
    assert!(rolled >= sent + Duration::from_secs(86_400));
    assert!(rolled < sent + Duration::from_secs(86_500));
    // The same token: the same end.
    bench.token().await.unwrap();
    assert_eq!(expires().await, Some(rolled));
    bench.token().await.unwrap();
    assert_eq!(expires().await, None);
}

#[tokio::test(start_paused = true)]
async fn scopes_that_the_person_has_not_agreed_to_are_not_asked_for_and_not_granted() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let request = bench.request("a c");
    let answer = bench.custody.request(request).await.unwrap();
    assert_eq!(bench.server.scopes(), [Some("a".to_owned())]);
    assert_eq!(answer.granted, Some(ScopeSet::parse("a").unwrap()));
    // The same for who adopts it.
    let other = bench.another();
    let answer = other.custody.request(other.request("a c")).await.unwrap();
    assert_eq!(answer.granted, Some(ScopeSet::parse("a").unwrap()));
    assert_eq!(bench.server.presented().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_what_can_be_printed() {
    let bench = Bench::start(SINGLE_USE, []).await;
    bench.token().await.unwrap();
    let printed = format!("{:?}", bench.stored().await);
    assert!(
        !printed.contains("r2") && !printed.contains("a2"),
        "{printed}"
    );
}
