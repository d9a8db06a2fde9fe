//! The store as its users see it. Two `Store`s are two processes: they share nothing but the directory.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use prometheus::{Registry, TextEncoder};
use tokio::time::timeout;

use super::{record::testing::fields, *};
use crate::secret::{ExposeSecret as _, SecretFiles, SecretString};

struct Place {
    parent: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("state/bursar")
    }

    fn key_path(&self) -> PathBuf {
        self.parent.path().join("config/bursar/state.key")
    }

    fn params(&self) -> StoreParams {
        StoreParams::File {
            directory: self.directory(),
            key_file: KeyFile::Own {
                path: self.key_path(),
            },
        }
    }

    /// One more process.
    fn store(&self) -> Store {
        store(&self.params())
    }

    fn with_keys(&self, keys: &[u8]) -> Store {
        let path = self.parent.path().join("keys");
        let lines: String = keys
            .iter()
            .map(|key| STANDARD.encode([*key; 32]) + "\n")
            .collect();
        fs::write(&path, lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        store(&StoreParams::File {
            directory: self.directory(),
            key_file: KeyFile::Given {
                path,
                rule: SecretFiles::Private,
            },
        })
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = self
            .files()
            .into_iter()
            .find(|name| name.ends_with(extension))
            .unwrap();
        self.directory().join(name)
    }
}

fn store(params: &StoreParams) -> Store {
    let metrics = StoreMetrics::new(&Registry::new()).unwrap();
    Store::new(params, Arc::new(metrics))
}

fn key(credential: &str) -> StoreKey {
    StoreKey {
        credential: credential.into(),
        token_url: "https://as.test/token".to_owned(),
        client_id: "me".to_owned(),
        subject: None,
    }
}

fn record(token: &str) -> Record {
    Record {
        version: Version::first("login".to_owned()),
        granted: Granted::RefreshToken {
            token: SecretString::from(token),
            expires: None,
        },
        access: None,
        scopes: Some("a b".to_owned()),
        account: None,
        intent: None,
        refused: None,
    }
}

fn token(record: &Record) -> &str {
    match &record.granted {
        Granted::RefreshToken { token, .. } => token.expose_secret(),
        Granted::UserKey { .. } => panic!("no user key was stored"),
    }
}

/// What a login does.
async fn log_in(store: &Store, key: &StoreKey, record: &Record) {
    let guard = store.lock(key).await.unwrap();
    guard.replace(record).await.unwrap();
}

async fn read(store: &Store, key: &StoreKey) -> Option<String> {
    let record = store.read(key).await.unwrap();
    record.map(|record| token(&record).to_owned())
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}

fn both(place: &Place) -> [Store; 2] {
    [place.store(), store(&StoreParams::Memory)]
}

#[tokio::test]
async fn nothing_is_written_by_reading() {
    let place = Place::new();
    let store = place.store();
    assert!(store.read(&key("d2l")).await.unwrap().is_none());
    assert!(store.list().await.unwrap().is_empty());
    assert_eq!(fs::read_dir(place.parent.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_stored_for_one_key_is_there_for_this_key_only() {
    let place = Place::new();
    for store in both(&place) {
        log_in(&store, &key("d2l"), &record("r1")).await;
        assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r1"));
        let others = [
            key("canvas"),
            StoreKey {
                token_url: "https://evil.test/token".to_owned(),
                ..key("d2l")
            },
            StoreKey {
                subject: Some("ann".into()),
                ..key("d2l")
            },
        ];
        for other in others {
            assert_eq!(read(&store, &other).await, None);
        }
    }
}

#[tokio::test]
async fn files_are_private_and_hold_no_secret_in_the_open() {
    let place = Place::new();
    let subject = StoreKey {
        subject: Some("ann@school.test".into()),
        ..key("d2l")
    };
    log_in(&place.store(), &subject, &record("refresh-token-1")).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&place.directory()), 0o700);
    assert_eq!(mode(&place.file(".state")), 0o600);
    assert_eq!(mode(&place.file(".lock")), 0o600);
    assert_eq!(place.files().len(), 2);
    let content = fs::read(place.file(".state")).unwrap();
    for hidden in ["refresh-token-1", "ann", "as.test"] {
        assert!(!String::from_utf8_lossy(&content).contains(hidden));
        assert!(!place.files().concat().contains(hidden));
    }
}

#[tokio::test]
async fn a_rotation_replaces_what_it_has_read() {
    let place = Place::new();
    for store in both(&place) {
        log_in(&store, &key("d2l"), &record("r1")).await;
        let guard = store.lock(&key("d2l")).await.unwrap();
        let mut current = guard.current().await.unwrap().unwrap();
        guard.reserve().await.unwrap();
        current.intent = Some(Intent {
            attempt: "attempt".to_owned(),
            first: Duration::from_secs(1),
            presented: 1,
        });
        guard.note(&current).await.unwrap();
        let noted = store.read(&key("d2l")).await.unwrap().unwrap();
        assert_eq!(fields(&noted), fields(&current));

        let next = Record {
            version: current.version.next(),
            ..record("r2")
        };
        guard.commit(&next).await.unwrap();
        drop(guard);
        let stored = store.read(&key("d2l")).await.unwrap().unwrap();
        assert_eq!(fields(&stored), fields(&next));
        assert_eq!(stored.version.generation, 2);
    }
    assert_eq!(place.files().len(), 2, "{:?}", place.files());
}

#[tokio::test]
async fn a_record_that_changes_under_its_lock_is_not_replaced() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    let copy = fs::read(place.file(".state")).unwrap();
    log_in(&store, &key("d2l"), &record("r2")).await;
    let guard = store.lock(&key("d2l")).await.unwrap();
    guard.current().await.unwrap();
    guard.reserve().await.unwrap();
    // Somebody restores a backup.
    overwrite(&place.file(".state"), &copy);
    let changed = |result| matches!(result, Err(StoreError::Changed { .. }));
    assert!(changed(guard.note(&record("r3")).await));
    assert!(changed(guard.commit(&record("r3")).await));
    assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r1"));
}

#[tokio::test]
async fn nothing_is_replaced_that_was_not_read() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    let guard = store.lock(&key("d2l")).await.unwrap();
    assert!(guard.commit(&record("r2")).await.is_err());
    guard.current().await.unwrap();
    assert!(guard.commit(&record("r2")).await.is_ok());
}

#[tokio::test]
async fn two_processes_hold_a_lock_one_after_the_other() {
    let place = Place::new();
    let (one, other) = (place.store(), place.store());
    let guard = one.lock(&key("d2l")).await.unwrap();
    let short = Duration::from_millis(100);
    assert!(timeout(short, other.lock(&key("d2l"))).await.is_err());
    // Another record is nobody's business.
    assert!(other.lock(&key("canvas")).await.is_ok());
    let waiting = tokio::spawn(async move {
        let guard = other.lock(&key("d2l")).await.unwrap();
        let record = guard.current().await.unwrap();
        record.map(|record| token(&record).to_owned())
    });
    guard.replace(&record("r1")).await.unwrap();
    drop(guard);
    assert_eq!(waiting.await.unwrap().as_deref(), Some("r1"));
}

#[tokio::test]
async fn tasks_of_one_process_hold_a_lock_one_after_the_other() {
    let place = Place::new();
    for store in both(&place) {
        let guard = store.lock(&key("d2l")).await.unwrap();
        let short = Duration::from_millis(50);
        assert!(timeout(short, store.lock(&key("d2l"))).await.is_err());
        drop(guard);
        assert!(store.lock(&key("d2l")).await.is_ok());
    }
}

#[test]
fn of_many_processes_that_count_none_counts_twice() {
    const EACH: u64 = 5;
    let place = Place::new();
    let count = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = place.store();
        runtime.block_on(async {
            for _ in 0..EACH {
                let guard = store.lock(&key("d2l")).await.unwrap();
                let next = match guard.current().await.unwrap() {
                    Some(current) => Record {
                        version: current.version.next(),
                        ..current
                    },
                    None => record("r"),
                };
                guard.reserve().await.unwrap();
                guard.commit(&next).await.unwrap();
            }
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(count);
        }
    });
    let store = place.store();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let stored = runtime.unwrap().block_on(store.read(&key("d2l"))).unwrap();
    assert_eq!(stored.unwrap().version.generation, 4 * EACH);
}

#[tokio::test]
async fn what_a_killed_process_left_behind_is_removed_by_the_next() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    for extension in ["draft", "reserved"] {
        let left = place.file(".state").with_extension(extension);
        fs::write(left, "half a rec").unwrap();
    }
    assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r1"));
    assert_eq!(store.list().await.unwrap().len(), 1);
    drop(store.lock(&key("d2l")).await.unwrap());
    assert_eq!(place.files().len(), 2);
}

#[tokio::test]
async fn room_that_was_reserved_and_not_used_is_given_back() {
    let place = Place::new();
    let store = place.store();
    let guard = store.lock(&key("d2l")).await.unwrap();
    guard.reserve().await.unwrap();
    let reserved = place.file(".reserved");
    assert!(fs::metadata(&reserved).unwrap().len() >= 16 * 1024);
    drop(guard);
    assert!(!reserved.exists());
}

#[tokio::test]
async fn swapped_files_open_under_neither_name() {
    let place = Place::new();
    let store = place.store();
    for (name, token) in [("one", "r1"), ("two", "r2")] {
        log_in(&store, &key(name), &record(token)).await;
    }
    let files = place.files();
    let states: Vec<_> = files
        .iter()
        .filter(|name| name.ends_with(".state"))
        .map(|name| place.directory().join(name))
        .collect();
    let aside = place.directory().join("aside");
    fs::rename(&states[0], &aside).unwrap();
    fs::rename(&states[1], &states[0]).unwrap();
    fs::rename(&aside, &states[1]).unwrap();
    for name in ["one", "two"] {
        let error = store.read(&key(name)).await.unwrap_err();
        assert!(matches!(error, StoreError::Content { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_only_a_login_replaces_it() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    let path = place.file(".state");
    let whole = fs::read(&path).unwrap();
    for torn in [
        &b""[..],
        b"garbage",
        &whole[..whole.len() - 1],
        &whole[..20],
    ] {
        overwrite(&path, torn);
        let error = store.read(&key("d2l")).await.unwrap_err();
        assert!(matches!(error, StoreError::Content { .. }), "{error}");
        let guard = store.lock(&key("d2l")).await.unwrap();
        assert!(guard.current().await.is_err());
        assert!(guard.commit(&record("r2")).await.is_err());
        assert_eq!(fs::read(&path).unwrap(), torn);
        guard.replace(&record("r2")).await.unwrap();
        assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r2"));
    }
}

#[tokio::test]
async fn a_new_first_key_opens_what_the_second_has_sealed_and_seals_anew() {
    let place = Place::new();
    log_in(&place.with_keys(&[1]), &key("d2l"), &record("r1")).await;
    let store = place.with_keys(&[2, 1]);
    let guard = store.lock(&key("d2l")).await.unwrap();
    assert_eq!(token(&guard.current().await.unwrap().unwrap()), "r1");
    guard.reserve().await.unwrap();
    guard.commit(&record("r2")).await.unwrap();
    drop(guard);
    let store = place.with_keys(&[2]);
    assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r2"));
}

#[tokio::test]
async fn a_record_that_no_key_opens_says_so_and_stays() {
    let place = Place::new();
    log_in(&place.with_keys(&[1]), &key("d2l"), &record("r1")).await;
    let before = fs::read(place.file(".state")).unwrap();
    let store = place.with_keys(&[2]);
    let error = store.read(&key("d2l")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoKey { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Refused);
    let guard = store.lock(&key("d2l")).await.unwrap();
    assert!(guard.current().await.is_err());
    assert!(guard.commit(&record("r2")).await.is_err());
    drop(guard);
    assert_eq!(fs::read(place.file(".state")).unwrap(), before);
    let store = place.with_keys(&[2, 1]);
    assert_eq!(read(&store, &key("d2l")).await.as_deref(), Some("r1"));
}

#[tokio::test]
async fn a_lost_key_of_our_own_is_not_replaced_by_reading() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    fs::remove_file(place.key_path()).unwrap();
    let error = store.read(&key("d2l")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoKey { .. }), "{error}");
    assert!(!place.key_path().exists());
}

#[tokio::test]
async fn a_logout_removes_the_record_and_says_whether_there_was_one() {
    let place = Place::new();
    for store in both(&place) {
        log_in(&store, &key("d2l"), &record("r1")).await;
        let guard = store.lock(&key("d2l")).await.unwrap();
        assert!(guard.forget().await.unwrap());
        assert!(!guard.forget().await.unwrap());
        drop(guard);
        assert_eq!(read(&store, &key("d2l")).await, None);
    }
}

#[tokio::test]
async fn every_record_is_listed_and_what_cannot_be_read_is_told() {
    let place = Place::new();
    for store in both(&place) {
        let ann = StoreKey {
            subject: Some("ann".into()),
            ..key("two")
        };
        log_in(&store, &key("one"), &record("r1")).await;
        log_in(&store, &ann, &record("r2")).await;
        let mut listed = store.list().await.unwrap().into_iter().map(Result::unwrap);
        assert_eq!(listed.next().unwrap().0, key("one"));
        assert_eq!(listed.next().unwrap().0, ann);
    }
    fs::write(place.directory().join("README"), "not a record").unwrap();
    let state = place.file(".state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o644)).unwrap();
    let listed = place.store().list().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|record| record.is_err()).count(), 1);
}

#[tokio::test]
async fn a_login_in_another_process_is_noticed() {
    let place = Place::new();
    let (here, there) = (place.store(), place.store());
    let noticed = tokio::spawn(async move { here.changed(&key("d2l"), None).await });
    log_in(&there, &key("canvas"), &record("r1")).await;
    tokio::task::yield_now().await;
    assert!(!noticed.is_finished());
    log_in(&there, &key("d2l"), &record("r1")).await;
    timeout(Duration::from_secs(10), noticed)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_known_is_no_change_and_anything_else_is_one_at_once() {
    let place = Place::new();
    for store in both(&place) {
        log_in(&store, &key("d2l"), &record("r1")).await;
        let known = record("r1").version;
        let short = Duration::from_millis(50);
        let d2l = key("d2l");
        let unchanged = store.changed(&d2l, Some(&known));
        assert!(timeout(short, unchanged).await.is_err());
        store.changed(&key("d2l"), Some(&known.next())).await;
        store.changed(&key("d2l"), None).await;
    }
}

#[tokio::test]
async fn a_store_that_is_not_private_any_more_is_refused_whatever_is_asked() {
    let place = Place::new();
    let store = place.store();
    log_in(&store, &key("d2l"), &record("r1")).await;
    fs::set_permissions(place.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let errors = [
        store.read(&key("d2l")).await.unwrap_err(),
        store.lock(&key("d2l")).await.err().unwrap(),
        store.list().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.severity(), Severity::Exposed, "{error}");
    }
}

#[tokio::test]
async fn operations_are_counted_by_their_result() {
    let place = Place::new();
    let registry = Registry::new();
    let metrics = Arc::new(StoreMetrics::new(&registry).unwrap());
    let store = Store::new(&place.params(), metrics);
    log_in(&store, &key("d2l"), &record("r1")).await;
    overwrite(&place.file(".state"), b"garbage");
    assert!(store.read(&key("d2l")).await.is_err());
    let text = TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    for labels in [
        r#"backend="file",operation="lock",result="ok""#,
        r#"backend="file",operation="commit",result="ok""#,
        r#"backend="file",operation="read",result="damaged""#,
    ] {
        let sample = format!("bursar_state_operations_total{{{labels}}} 1");
        assert!(text.lines().any(|line| line == sample), "{text}");
    }
}
