//! Disks that are full, broken or not ours any more.

use std::{fs, path::PathBuf, time::Duration};

use super::bench::{Bench, REUSABLE, SINGLE_USE, Step};
use crate::oauth::Cause;

/// In the way of a file of that name: nothing can be written there, whoever tries.
fn obstruct(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in the way"), "").unwrap();
    path
}

fn clear(path: &PathBuf) {
    fs::remove_dir_all(path).unwrap();
}

/// Begins a rotation, and lets the disk break while the server is asked.
async fn break_disk_under_way(bench: &Bench) -> (Vec<u8>, PathBuf) {
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    let path = bench.file("state");
    let content = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    obstruct(path.clone());
    bench.server.open_gate();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(super::bench::text(&answer), "a2");
    (content, path)
}

fn repair(content: &[u8], path: &PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    clear(path);
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_room_for_the_answer_nothing_is_asked() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let obstacle = obstruct(bench.file("state").with_extension("reserved"));
    for _ in 0..3 {
        assert!(matches!(bench.token().await, Err(Cause::Store(_))));
    }
    assert!(bench.server.presented().is_empty());
    clear(&obstacle);
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_cannot_be_written_presents_nothing_and_costs_nothing() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let obstacle = obstruct(bench.file("state").with_extension("draft"));
    assert!(matches!(bench.token().await, Err(Cause::Store(_))));
    assert!(bench.server.presented().is_empty());
    clear(&obstacle);
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}

#[tokio::test(start_paused = true)]
async fn a_reusable_refresh_token_is_presented_whatever_the_disk_says() {
    let bench = Bench::start(REUSABLE, [Step::Keep, Step::Keep]).await;
    let name = bench.file("state").with_extension("reserved");
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    obstruct(name);
    bench.server.open_gate();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(bench.rotations("persist_failed"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_is_served_and_nothing_is_asked_until_it_is_written() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let (content, path) = break_disk_under_way(&bench).await;
    assert!(bench.rotations("persist_failed") >= 1);
    // Who asks again for the same wants another one; who has none yet can have it.
    assert!(matches!(bench.token().await, Err(Cause::Store(_))));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(matches!(bench.token().await, Err(Cause::Store(_))));
    assert_eq!(bench.server.presented(), ["r1"]);
    assert!(bench.rotations("persist_failed") >= 3);

    repair(&content, &path);
    while bench.rotations("persisted") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.stored_token().await, "r2");
    assert_eq!(bench.token().await.as_deref(), Ok("a3"));
    assert_eq!(bench.server.presented(), ["r1", "r2"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tries_once_more_to_write_the_answer_down() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let (content, path) = break_disk_under_way(&bench).await;
    repair(&content, &path);
    bench.custodian.rotations().finish().await;
    assert_eq!(bench.stored_token().await, "r2");

    let bench = Bench::start(SINGLE_USE, []).await;
    break_disk_under_way(&bench).await;
    // It is not waited for without end.
    bench.custodian.rotations().finish().await;
    assert!(bench.rotations("persist_failed") >= 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_presented_is_remembered_where_the_disk_does_not_take_it() {
    let refused = Cause::Status(503);
    let bench = Bench::start(SINGLE_USE, [Step::Refuse(refused.clone())]).await;
    bench.server.close_gate();
    let waiting = bench.begin();
    bench.server.called(1).await;
    let obstacle = obstruct(bench.file("state").with_extension("draft"));
    bench.server.open_gate();
    assert_eq!(waiting.await.unwrap().unwrap_err().cause, refused);
    assert!(bench.stored().await.intent.is_some());
    clear(&obstacle);
    assert_eq!(bench.token().await.as_deref(), Ok("a2"));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_takes_the_place_of_an_unwritten_answer_stays() {
    let bench = Bench::start(SINGLE_USE, []).await;
    let (_content, path) = break_disk_under_way(&bench).await;
    clear(&path);
    // Nobody can log in past the lock but by hand: somebody has removed the record.
    while bench.rotations("persisted") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!path.exists());
}
