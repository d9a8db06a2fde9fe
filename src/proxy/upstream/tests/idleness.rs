//! How connections without a request end.

use super::*;

#[tokio::test(flavor = "local")]
async fn a_connection_idle_for_too_long_is_closed() {
    let mut lms = Lms::start().await;
    lms.params.pool_idle_timeout = Duration::from_millis(300);
    let client = lms.client();
    let (response, mut peer) = first(&lms, &client, OK).await;
    let start = Instant::now();
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    assert_eq!(peer.closed().await, "");
    assert!(start.elapsed() >= Duration::from_millis(300));
    lms.settles_at(0, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_connection_from_before_a_suspend_is_not_used_again() {
    let lms = Lms::start().await;
    let (client, _forgotten) = warm(&lms).await;
    lms.clock.suspend(lms.params.pool_idle_timeout);
    let serve = async { lms.accept().await.answer(OK).await };
    let (response, ()) = join!(client.send(get()), serve);
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    assert_eq!(lms.retries("reset"), "0");
}

#[tokio::test(flavor = "local")]
async fn a_dropped_client_closes_what_is_idle_and_finishes_what_is_not() {
    let lms = Lms::start().await;
    let (client, mut idle) = warm(&lms).await;
    let (kept, ()) = join!(client.send(get()), idle.answer(OK));
    let (response, mut busy) = first(&lms, &client, OK).await;
    text(kept.unwrap()).await.unwrap();
    lms.settles_at(1, 1).await;
    drop(client);
    assert_eq!(idle.closed().await, "");
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    assert_eq!(busy.closed().await, "");
    lms.settles_at(0, 0).await;
}

#[test]
fn connections_grow_old_at_different_times() {
    for _ in 0..100 {
        assert!((240..=360).contains(&age().as_secs()));
    }
    assert_ne!(age(), age());
}

#[tokio::test(flavor = "local")]
async fn a_connection_past_its_age_is_not_kept() {
    let lms = Lms::start().await;
    let client = lms.client();
    let (mine, _theirs) = tokio::io::duplex(64);
    let old = Connection::open(mine, Instant::now(), || {}).await.unwrap();
    // Its task has to run once before it can be ready.
    tokio::task::yield_now().await;
    assert!(old.is_ready());
    adopt(&client, old).await.give_back();
    lms.settles_at(0, 0).await;
}
