//! Which upstreams and routes share a token, and what the world is told of them.

use std::{cell::RefCell, sync::Arc, time::Duration};

use http::HeaderValue;
use prometheus::{Registry, TextEncoder};
use tokio::{runtime::Handle, time::Instant};

use super::{
    bench::{DOWN, HOUR, REFUSED, TIMING, pass, settle},
    script::{Script, Step},
};
use crate::{
    clock::ManualClock,
    oauth::{Cause, Injection, LoginNeeded},
    scope::ScopeSet,
    token::{
        Credential, Readiness, Source, TokenMetrics,
        cell::TokenCell,
        generation::Generation,
        issuer::{Issuer, Origin},
        pool::Pool,
    },
};

struct Bench {
    pool: Arc<Pool<Script>>,
    generation: RefCell<Generation<Script>>,
    registry: Registry,
}

impl Bench {
    fn new() -> Self {
        Self::with_room_for(100)
    }

    fn with_room_for(narrowed: u64) -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(TokenMetrics::new(&registry).unwrap());
        let clock = Arc::new(ManualClock::new());
        let pool = Pool::new(Handle::current(), clock, metrics, narrowed);
        Self {
            generation: RefCell::new(Generation::new(&pool)),
            pool,
            registry,
        }
    }

    fn issuer(&self, name: &str, script: &Arc<Script>) -> Arc<Issuer<Script>> {
        self.named(
            name,
            Origin::Source(Arc::clone(script), Duration::from_secs(11)),
        )
    }

    fn static_issuer(&self, name: &str) -> Arc<Issuer<Script>> {
        self.named(
            name,
            Origin::Fixed(Injection::Bearer(HeaderValue::from_static("Bearer fixed"))),
        )
    }

    fn named(&self, name: &str, origin: Origin<Script>) -> Arc<Issuer<Script>> {
        let mut generation = self.generation.borrow_mut();
        generation.issuer(&credential(name), |_| origin)
    }

    fn warm(&self, issuer: &Issuer<Script>, scopes: Option<ScopeSet>) -> Arc<TokenCell> {
        let mut generation = self.generation.borrow_mut();
        let cell = generation.warm(issuer, scopes);
        generation.enter();
        cell
    }

    fn scrape(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

/// The pool is told by its tests where tokens come from; the source here only has to be one.
fn credential(name: &str) -> Arc<Credential> {
    Arc::new(Credential {
        name: name.into(),
        grant: "client_credentials",
        auth_method: "private_key_jwt",
        subject_header: None,
        source: Source::Static(Injection::Bearer(HeaderValue::from_static("Bearer unused"))),
        timing: TIMING,
    })
}

fn script(steps: impl IntoIterator<Item = Step>) -> Arc<Script> {
    Arc::new(Script::new(steps))
}

fn scopes(list: &str) -> Option<ScopeSet> {
    Some(ScopeSet::parse(list).unwrap())
}

#[tokio::test(start_paused = true)]
async fn upstreams_that_ask_the_same_credential_for_the_same_share_one_token() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    let first = bench.warm(&issuer, scopes("a b"));
    let second = bench.warm(&issuer, scopes("b a b"));
    assert!(Arc::ptr_eq(&first, &second));
    let narrowed = bench.pool.narrowed(&issuer, scopes("a b").as_ref(), None);
    assert!(Arc::ptr_eq(&first, &narrowed));
    settle().await;
    assert_eq!(source.count(), 1);
    assert_eq!(bench.pool.views().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_person_has_a_token_of_their_own_and_nobody_elses() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    let of = |subject: &str| {
        let subject = Arc::from(subject);
        bench
            .pool
            .narrowed(&issuer, scopes("a").as_ref(), Some(&subject))
    };
    let (ann, bob, again) = (of("ann"), of("bob"), of("ann"));
    assert!(Arc::ptr_eq(&ann, &again));
    assert_ne!(
        ann.token().await.unwrap().injection,
        bob.token().await.unwrap().injection
    );
    let subjects: Vec<_> = source
        .calls()
        .into_iter()
        .map(|call| call.subject)
        .collect();
    assert_eq!(subjects, [Some("ann".into()), Some("bob".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_awaits_a_login_is_reported_and_not_waited_for() {
    let bench = Bench::new();
    let issuer = bench.issuer("d2l", &script([Step::Fail(NOBODY)]));
    let _cell = bench.warm(&issuer, scopes("a"));
    bench.generation.borrow().enter();
    settle().await;
    let readiness = bench.pool.readiness();
    assert!(readiness.first_token && readiness.token);
    assert_eq!(bench.pool.views()[0].state, "login_needed");
}

const NOBODY: Cause = Cause::LoginNeeded(LoginNeeded::Never);

// F21.
#[tokio::test(start_paused = true)]
async fn parts_of_a_key_are_never_joined() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let (a, b) = (bench.issuer("a|b", &source), bench.issuer("a", &source));
    let one = bench.warm(&a, scopes("c"));
    let other = bench.warm(&b, scopes("b|c"));
    let without = bench.warm(&b, None);
    assert_ne!(
        one.token().await.unwrap().injection,
        other.token().await.unwrap().injection
    );
    assert!(!Arc::ptr_eq(&other, &without));
    assert_eq!(source.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_scope_at_all_is_asked_for_without_the_parameter() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    let first = bench
        .pool
        .narrowed(&issuer, Some(&ScopeSet::default()), None);
    let second = bench
        .pool
        .narrowed(&issuer, Some(&ScopeSet::default()), None);
    assert!(Arc::ptr_eq(&first, &second));
    first.token().await.unwrap();
    assert_eq!(source.calls()[0].scopes, None);
}

#[tokio::test(start_paused = true)]
async fn a_narrowed_token_is_made_on_demand_once_for_its_scope_set() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    settle().await;
    assert_eq!(source.count(), 0);
    let first = bench.pool.narrowed(&issuer, scopes("a").as_ref(), None);
    let again = bench.pool.narrowed(&issuer, scopes("a").as_ref(), None);
    let other = bench.pool.narrowed(&issuer, scopes("b").as_ref(), None);
    assert!(Arc::ptr_eq(&first, &again));
    assert!(!Arc::ptr_eq(&first, &other));
    first.token().await.unwrap();
    other.token().await.unwrap();
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn narrowed_tokens_are_bounded_and_an_evicted_one_ends_its_task() {
    let bench = Bench::with_room_for(3);
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    bench.generation.borrow().enter();
    for n in 0..50 {
        let cell = bench
            .pool
            .narrowed(&issuer, scopes(&format!("scope-{n}")).as_ref(), None);
        cell.token().await.unwrap();
    }
    // The bound is enforced by housekeeping at the latest.
    pass(61.0).await;
    assert_eq!(bench.pool.views().len(), 3);
    // And the one that keeps house.
    let tasks = Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks, 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_all_tokens_end_with_the_pool() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let issuer = bench.issuer("d2l", &source);
    bench.warm(&issuer, scopes("a")).token().await.unwrap();
    let narrowed = bench.pool.narrowed(&issuer, scopes("b").as_ref(), None);
    narrowed.token().await.unwrap();
    drop((bench, issuer, narrowed));
    pass(61.0).await;
    assert_eq!(Arc::strong_count(&source), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_keeps_its_evicted_token_alive() {
    let bench = Bench::with_room_for(0);
    let source = script([Step::Slow(Duration::from_secs(5), Box::new(HOUR))]);
    let issuer = bench.issuer("d2l", &source);
    let cell = bench.pool.narrowed(&issuer, scopes("a").as_ref(), None);
    assert!(cell.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_static_token_is_there_at_once_for_ever_and_is_never_replaced() {
    let bench = Bench::new();
    let cell = bench.warm(&bench.static_issuer("fixed"), None);
    let start = Instant::now();
    let token = cell.token().await.unwrap();
    assert_eq!(token.injection.secret(), b"fixed");
    assert!(token.expires.is_none());
    assert!(cell.token_after_401(&token).await.is_none());
    assert_eq!(start.elapsed(), Duration::ZERO);
    pass(40_000_000.0).await;
    assert!(cell.token().await.is_ok());
    let text = bench.scrape();
    assert!(text.contains("bursar_token_valid{credential=\"fixed\"} 1\n"));
    assert!(
        text.contains("bursar_token_expiry_timestamp_seconds{credential=\"fixed\"} 253402300799\n")
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_needs_every_warm_token_and_remembers_the_first() {
    let bench = Bench::new();
    let ready = |first_token, token| Readiness {
        first_token,
        token,
        awaiting_login: Vec::new(),
    };
    assert_eq!(bench.pool.readiness(), ready(true, true));
    let good = script([HOUR]);
    let bad = script([DOWN, HOUR, DOWN]);
    bench.warm(&bench.issuer("good", &good), None);
    bench.warm(&bench.issuer("bad", &bad), None);
    settle().await;
    assert_eq!(bench.pool.readiness(), ready(false, false));
    pass(1.5).await;
    assert_eq!(bench.pool.readiness(), ready(true, true));
    pass(3_599.0).await;
    assert_eq!(bench.pool.readiness(), ready(true, false));
}

#[tokio::test(start_paused = true)]
async fn a_view_tells_what_happens_next_and_no_token() {
    let bench = Bench::new();
    let source = script([Step::Skewed(Box::new(HOUR), 2.0), REFUSED]);
    let issuer = bench.issuer("d2l", &source);
    bench.warm(&issuer, scopes("b a"));
    settle().await;
    let view = bench.pool.views().remove(0);
    assert_eq!((view.state, view.usable), ("fresh", true));
    assert_eq!((view.generation, view.consecutive_failures), (1, 0));
    assert_eq!(view.scopes_asked, ["a", "b"]);
    assert_eq!(
        view.expires_at,
        view.issued_at.map(|issued| issued + 3_600.0)
    );
    assert!((2_800.0..2_960.0).contains(&view.next_request_in_seconds.unwrap()));
    assert_eq!(view.clock_skew_seconds, Some(2.0));
    assert!(view.warm);

    source.called(2).await;
    settle().await;
    let view = bench.pool.views().remove(0);
    assert_eq!((view.state, view.usable), ("parked", true));
    assert_eq!(view.next_request_in_seconds, Some(60.0));
    assert_eq!(
        view.last_failure.as_deref(),
        Some("the authorization server refused: invalid_client")
    );
    assert!(!serde_json::to_string(&view).unwrap().contains("token-1"));
}

// F49.
#[tokio::test(start_paused = true)]
async fn a_scrape_sees_a_token_die_without_anything_happening() {
    let bench = Bench::new();
    let (lasting, dying) = (
        script([Step::Token(Some(86_400))]),
        script([HOUR, Step::Hang]),
    );
    let issuer = bench.issuer("d2l", &lasting);
    bench.warm(&issuer, scopes("a"));
    let other = bench.issuer("other", &dying);
    bench.warm(&other, None);
    settle().await;
    let text = bench.scrape();
    assert!(text.contains("bursar_token_valid{credential=\"other\"} 1\n"));
    assert!(
        text.contains("bursar_token_expiry_timestamp_seconds{credential=\"other\"} 1767229200\n")
    );

    pass(3_571.0).await;
    let text = bench.scrape();
    assert!(text.contains("bursar_token_valid{credential=\"d2l\"} 1\n"));
    assert!(text.contains("bursar_token_valid{credential=\"other\"} 0\n"));
    let failures = "bursar_token_refresh_consecutive_failures{credential=\"other\"} ";
    let line = text
        .lines()
        .find(|line| line.starts_with(failures))
        .unwrap();
    assert_ne!(line.trim_start_matches(failures), "0");
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_as_valid_as_the_worst_of_its_warm_tokens() {
    let bench = Bench::new();
    let source = script([Step::Token(Some(7_200)), HOUR]);
    let issuer = bench.issuer("d2l", &source);
    let first = bench.warm(&issuer, scopes("a"));
    first.token().await.unwrap();
    bench.warm(&issuer, scopes("b")).token().await.unwrap();
    assert!(
        bench
            .scrape()
            .contains("bursar_token_expiry_timestamp_seconds{credential=\"d2l\"} 1767229200\n")
    );
    source.now_answers([DOWN]);
    bench.warm(&issuer, scopes("c"));
    settle().await;
    let text = bench.scrape();
    assert!(text.contains("bursar_token_valid{credential=\"d2l\"} 0\n"));
    assert!(text.contains("bursar_token_expiry_timestamp_seconds{credential=\"d2l\"} 0\n"));
}

#[tokio::test(start_paused = true)]
async fn many_people_who_have_not_logged_in_are_one_row_and_one_who_has_is_another() {
    let bench = Bench::new();
    let never = || Step::Fail(Cause::LoginNeeded(LoginNeeded::Never));
    let source = script([HOUR, never(), never(), never()]);
    let issuer = bench.issuer("d2l", &source);
    bench.generation.borrow().enter();
    let mut kept = Vec::new();
    for person in ["ann", "bob", "eve", "joe"] {
        kept.push(bench.pool.narrowed(&issuer, None, Some(&Arc::from(person))));
        settle().await;
    }
    let views = bench.pool.views();
    let mut rows: Vec<_> = views.iter().map(|view| (view.state, view.people)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("fresh", Some(1)), ("login_needed", Some(3))]);
    let text = serde_json::to_string(&views).unwrap();
    assert!(!text.contains("bob"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn readiness_names_what_waits_for_a_login() {
    let bench = Bench::new();
    let source = script([Step::Fail(Cause::LoginNeeded(LoginNeeded::Never)), HOUR]);
    bench.warm(&bench.issuer("d2l", &source), None);
    settle().await;
    let readiness = bench.pool.readiness();
    assert!(readiness.first_token);
    assert_eq!(readiness.awaiting_login, ["d2l"]);
}
