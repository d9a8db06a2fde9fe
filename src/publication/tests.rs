//! What is concluded from a look at the key set, and when the next look is due.

use std::{collections::VecDeque, sync::Mutex};

use super::*;
use crate::{clock::ManualClock, keys::testing::ring, telemetry::testing::Captured};

const NOW: Moment = Moment {
    wall: Duration::from_secs(20_000),
    boot: Duration::from_secs(500),
};

fn seen(kids: &[&String]) -> Result<PublishedKeys, KeySetError> {
    Ok(PublishedKeys {
        kids: kids.iter().map(|kid| (*kid).clone()).collect(),
        has_private_members: false,
    })
}

fn later(seconds: u64) -> Moment {
    NOW.after(Duration::from_secs(seconds))
}

#[test]
fn a_key_that_is_not_seen_does_not_sign_while_an_older_one_is_and_that_is_said_once() {
    let (captured, _guard) = Captured::listen(tracing::Level::INFO);
    let (ring, ids) = ring(&[1_000, 19_000]);
    let mut watch = Watch::new("d2l".into());
    for look in 0..3 {
        watch.take(seen(&[&ids[0]]), &ring, later(look * 30));
        assert_eq!(ring.signing(later(look * 30).wall).kid(), ids[0]);
    }
    let text = captured.text();
    assert_eq!(text.matches("signing_key_unpublished").count(), 1, "{text}");
    assert!(text.contains(&ids[1]) && text.contains(&ids[0]), "{text}");

    captured.clear();
    watch.take(seen(&[&ids[0], &ids[1]]), &ring, later(90));
    watch.take(seen(&[&ids[0], &ids[1]]), &ring, later(120));
    assert_eq!(ring.signing(later(90).wall).kid(), ids[1]);
    let text = captured.text();
    assert_eq!(text.matches("key_set_seen").count(), 1, "{text}");
}

#[test]
fn where_all_is_well_nothing_is_said() {
    let (captured, _guard) = Captured::listen(tracing::Level::INFO);
    let (ring, ids) = ring(&[1_000]);
    let mut watch = Watch::new("d2l".into());
    watch.take(seen(&[&ids[0]]), &ring, NOW);
    assert_eq!(captured.text(), "");
}

#[test]
fn the_next_key_is_missed_when_the_server_would_have_to_fetch_it_now_and_no_earlier() {
    let (captured, _guard) = Captured::listen(tracing::Level::INFO);
    let (ring, ids) = ring(&[1_000, 20_000 + 3_700]);
    let mut watch = Watch::new("d2l".into());
    watch.take(seen(&[&ids[0]]), &ring, NOW);
    assert_eq!(captured.text(), "");
    watch.take(seen(&[&ids[0]]), &ring, later(100));
    assert!(captured.text().contains("next_key_unpublished"));
    captured.clear();
    watch.take(seen(&[&ids[0], &ids[1]]), &ring, later(200));
    assert!(captured.text().contains("key_set_seen"));
}

#[test]
fn a_failed_look_keeps_what_was_seen_until_it_is_stale() {
    let (ring, ids) = ring(&[1_000, 19_000]);
    let mut watch = Watch::new("d2l".into());
    let failed = || Err(KeySetError::Status(502));
    // Nothing was ever seen: the clock alone decides.
    watch.take(failed(), &ring, NOW);
    assert_eq!(ring.signing(NOW.wall).kid(), ids[1]);

    watch.take(seen(&[&ids[0]]), &ring, NOW);
    watch.take(failed(), &ring, later(1_199));
    assert_eq!(ring.signing(later(1_199).wall).kid(), ids[0]);
    watch.take(failed(), &ring, later(1_200));
    assert_eq!(ring.signing(later(1_200).wall).kid(), ids[1]);
}

#[test]
fn a_failure_is_said_once_and_again_when_it_changes() {
    let (captured, _guard) = Captured::listen(tracing::Level::INFO);
    let (ring, _) = ring(&[1_000]);
    let mut watch = Watch::new("d2l".into());
    for status in [502, 502, 404, 404] {
        watch.take(Err(KeySetError::Status(status)), &ring, NOW);
    }
    assert_eq!(captured.text().matches("key_set_unseen").count(), 2);
}

#[test]
fn a_private_key_in_the_key_set_is_an_error_in_the_log() {
    let (captured, _guard) = Captured::listen(tracing::Level::INFO);
    let (ring, ids) = ring(&[1_000]);
    let published = PublishedKeys {
        has_private_members: true,
        ..seen(&[&ids[0]]).unwrap()
    };
    Watch::new("d2l".into()).take(Ok(published), &ring, NOW);
    assert!(captured.text().contains("private_key_published"));
}

#[test]
fn the_next_look_is_in_minutes_or_soon_or_when_a_key_begins() {
    let (ring, ids) = ring(&[1_000, 19_000, 20_100]);
    let watch = Watch::new("d2l".into());
    let pause = |now, jitter| watch.pause(&ring, now, jitter).as_secs();
    // A change is 100 s away.
    assert_eq!(pause(NOW, 0.5), 100);
    assert_eq!((pause(later(100), 0.0), pause(later(100), 1.0)), (240, 360));
    ring.observe(Some([ids[1].clone()].into()));
    assert_eq!((pause(later(100), 0.0), pause(later(100), 1.0)), (24, 36));
}

/// Answers what the test has put in, the last one for ever.
struct Script(Mutex<VecDeque<Result<PublishedKeys, KeySetError>>>);

impl KeySetSource for Script {
    async fn fetch(&self) -> Result<PublishedKeys, KeySetError> {
        let mut script = self.0.lock().unwrap();
        match script.len() {
            1 => script[0].clone(),
            _ => script.pop_front().unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_looks_at_once_and_again_and_ends_with_its_ring() {
    let clock = ManualClock::new();
    let now = clock.now().wall.as_secs();
    let (ring, ids) = ring(&[now - 50_000, now - 10]);
    let script = Script(Mutex::new(
        [seen(&[&ids[0]]), seen(&[&ids[0], &ids[1]])].into(),
    ));
    let task = tokio::spawn(watch(
        "d2l".into(),
        Arc::downgrade(&ring),
        script,
        Arc::new(clock),
    ));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(ring.signing(Duration::from_secs(now)).kid(), ids[0]);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(ring.signing(Duration::from_secs(now)).kid(), ids[1]);

    drop(ring);
    sleep(Duration::from_secs(400)).await;
    assert!(task.is_finished());
}
