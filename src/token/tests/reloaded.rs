//! What a changed configuration does to tokens: as little as can be.

use std::{cell::RefCell, sync::Arc, time::Duration};

use http::HeaderValue;
use prometheus::{Registry, TextEncoder};
use tokio::runtime::Handle;

use super::{
    bench::{DOWN, HOUR, REFUSED, TIMING, pass, settle, text},
    script::{Script, Step},
};
use crate::{
    clock::ManualClock,
    oauth::Injection,
    scope::ScopeSet,
    token::{
        Credential, RefreshAhead, Source, Timing, TokenError, TokenMetrics, TokenView,
        cell::TokenCell, generation::Generation, issuer::Origin, pool::Pool,
    },
};

struct Bench {
    pool: Arc<Pool<Script>>,
    /// What a running bursar holds of the generation in force.
    cells: RefCell<Vec<Arc<TokenCell>>>,
    registry: Registry,
}

/// A credential of a generation: its secret (here: what tells two sources apart), and who answers for it.
struct Named<'a> {
    name: &'a str,
    secret: &'static str,
    timing: Timing,
    script: &'a Arc<Script>,
}

fn named<'a>(name: &'a str, secret: &'static str, script: &'a Arc<Script>) -> Named<'a> {
    Named {
        name,
        secret,
        timing: TIMING,
        script,
    }
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(TokenMetrics::new(&registry).unwrap());
        let clock = Arc::new(ManualClock::new());
        Self {
            pool: Pool::new(Handle::current(), clock, metrics, 100),
            cells: RefCell::default(),
            registry,
        }
    }

    /// Puts a generation into force, in which each credential is asked for one scope set. The one before is drained at once.
    fn enter(&self, credentials: &[(Named<'_>, &str)]) -> Vec<Arc<TokenCell>> {
        let mut generation = Generation::new(&self.pool);
        let cells: Vec<_> = credentials
            .iter()
            .map(|(named, scopes)| {
                let credential = Arc::new(Credential {
                    name: named.name.into(),
                    grant: "client_credentials",
                    auth_method: "client_secret_basic",
                    subject_header: None,
                    source: Source::Static(Injection::Bearer(HeaderValue::from_static(
                        named.secret,
                    ))),
                    timing: named.timing,
                });
                let issuer = generation.issuer(&credential, |_| {
                    Origin::Source(Arc::clone(named.script), Duration::from_secs(11))
                });
                generation.warm(&issuer, Some(ScopeSet::parse(scopes).unwrap()))
            })
            .collect();
        generation.enter();
        self.cells.replace(cells.clone());
        cells
    }

    fn view(&self) -> TokenView {
        self.pool.views().remove(0)
    }

    fn scrape(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

fn script(steps: impl IntoIterator<Item = Step>) -> Arc<Script> {
    Arc::new(Script::new(steps))
}

async fn token(cell: &TokenCell) -> Result<String, TokenError> {
    cell.token().await.map(|token| text(&token))
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_did_not_change_keeps_its_token_and_asks_for_none() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let before = bench
        .enter(&[(named("d2l", "one", &source), "a")])
        .remove(0);
    assert_eq!(token(&before).await.unwrap(), "token-1");
    for _ in 0..20 {
        let after = bench
            .enter(&[(named("d2l", "one", &source), "a")])
            .remove(0);
        assert!(Arc::ptr_eq(&before, &after));
        pass(2.0).await;
    }
    assert_eq!(source.count(), 1);
}

// F45.
#[tokio::test(start_paused = true)]
async fn another_secret_is_tried_at_once_while_the_token_held_is_served() {
    let bench = Bench::new();
    let (old, new) = (script([HOUR]), script([HOUR]));
    new.close_gate();
    let cell = bench.enter(&[(named("d2l", "one", &old), "a")]).remove(0);
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    pass(5.0).await;
    let same = bench.enter(&[(named("d2l", "two", &new), "a")]).remove(0);
    assert!(Arc::ptr_eq(&cell, &same));
    settle().await;
    assert_eq!((old.count(), new.count()), (1, 1));
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    new.open_gate();
    settle().await;
    assert_eq!(bench.view().generation, 2);
    // And everything later with it too.
    pass(3_600.0).await;
    assert_eq!(old.count(), 1);
    assert!(new.count() >= 2);
}

#[tokio::test(start_paused = true)]
async fn another_secret_that_is_refused_costs_nobody_the_token_held_and_shows() {
    let bench = Bench::new();
    let (old, new) = (script([HOUR]), script([REFUSED]));
    let cell = bench.enter(&[(named("d2l", "one", &old), "a")]).remove(0);
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    pass(5.0).await;
    bench.enter(&[(named("d2l", "two", &new), "a")]);
    settle().await;
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    let view = bench.view();
    assert_eq!((view.state, view.usable), ("parked", true));
    // The old one again heals it at once.
    pass(5.0).await;
    bench.enter(&[(named("d2l", "one", &old), "a")]);
    settle().await;
    assert_eq!(bench.view().state, "fresh");
    assert_eq!(old.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_parked_credential_is_tried_at_once_with_its_new_secret() {
    let bench = Bench::new();
    let (old, new) = (script([REFUSED]), script([HOUR]));
    let cell = bench.enter(&[(named("d2l", "one", &old), "a")]).remove(0);
    settle().await;
    assert!(matches!(
        token(&cell).await,
        Err(TokenError::Configuration { .. })
    ));
    bench.enter(&[(named("d2l", "two", &new), "a")]);
    // A request that comes now waits for it instead of being told what the old secret came to.
    assert_eq!(token(&cell).await.unwrap(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn what_the_old_secret_comes_to_does_not_park_the_new_one() {
    let bench = Bench::new();
    let (old, new) = (script([REFUSED]), script([HOUR]));
    old.close_gate();
    let cell = bench.enter(&[(named("d2l", "one", &old), "a")]).remove(0);
    old.called(1).await;
    bench.enter(&[(named("d2l", "two", &new), "a")]);
    old.open_gate();
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    assert_eq!((old.count(), new.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn other_scopes_are_another_token_and_the_old_one_is_renewed_no_more() {
    let bench = Bench::new();
    let source = script([HOUR]);
    let before = bench
        .enter(&[(named("d2l", "one", &source), "a")])
        .remove(0);
    assert_eq!(token(&before).await.unwrap(), "token-1");
    let after = bench
        .enter(&[(named("d2l", "one", &source), "a b")])
        .remove(0);
    assert_eq!(token(&after).await.unwrap(), "token-2");
    // A request that began earlier still has its own.
    assert_eq!(token(&before).await.unwrap(), "token-1");
    drop(before);
    pass(4_000.0).await;
    let asked: Vec<_> = source.calls().into_iter().skip(1).collect();
    assert!(
        asked
            .iter()
            .all(|call| call.scopes == ScopeSet::parse("a b").ok())
    );
}

#[tokio::test(start_paused = true)]
async fn another_timing_holds_for_the_next_token_and_costs_none() {
    let bench = Bench::new();
    let source = script([Step::Token(Some(7_200)), DOWN]);
    let cell = bench
        .enter(&[(named("d2l", "one", &source), "a")])
        .remove(0);
    assert_eq!(token(&cell).await.unwrap(), "token-1");
    let timing = Timing {
        refresh_ahead: RefreshAhead::Share(0.9),
        wait: Duration::from_secs(3),
        ..TIMING
    };
    let eager = Named {
        timing,
        ..named("d2l", "one", &source)
    };
    let same = bench.enter(&[(eager, "a")]).remove(0);
    assert!(Arc::ptr_eq(&cell, &same));
    settle().await;
    assert_eq!(source.count(), 1);
    source.now_answers([Step::Hang]);
    pass(7_200.0).await;
    let since = tokio::time::Instant::now();
    assert!(token(&cell).await.is_err());
    assert!(since.elapsed() <= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_removed_credential_takes_its_task_and_its_series_with_it() {
    let bench = Bench::new();
    let (stays, goes) = (script([HOUR]), script([HOUR]));
    bench.enter(&[
        (named("stays", "one", &stays), "a"),
        (named("goes", "one", &goes), "a"),
    ]);
    settle().await;
    assert!(bench.scrape().contains("credential=\"goes\""));
    bench.enter(&[(named("stays", "one", &stays), "a")]);
    settle().await;
    assert_eq!(Arc::strong_count(&goes), 1);
    let text = bench.scrape();
    assert!(!text.contains("credential=\"goes\""), "{text}");
    assert!(
        text.contains("bursar_token_refreshes_total{credential=\"stays\",result=\"success\"} 1\n")
    );
    assert_eq!(bench.pool.views().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_reloads_leave_one_task_behind() {
    let bench = Bench::new();
    let source = script([HOUR]);
    for number in 0..300 {
        let scopes = format!("scope-{number}");
        bench.enter(&[(named("d2l", "one", &source), &scopes)]);
        settle().await;
    }
    // And the one that keeps house.
    let tasks = Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks, 1 + 1);
    assert_eq!(bench.pool.views().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_waits_for_a_token_does_not_take_readiness_back() {
    let bench = Bench::new();
    let (there, down) = (script([HOUR]), script([DOWN]));
    bench.enter(&[(named("d2l", "one", &there), "a")]);
    settle().await;
    assert!(bench.pool.readiness().first_token);
    bench.enter(&[
        (named("d2l", "one", &there), "a"),
        (named("new", "one", &down), "a"),
    ]);
    settle().await;
    let readiness = bench.pool.readiness();
    assert_eq!((readiness.first_token, readiness.token), (true, false));
}

#[tokio::test(start_paused = true)]
async fn a_bursar_that_never_had_its_tokens_gets_no_readier_by_a_reload() {
    let bench = Bench::new();
    let down = script([DOWN]);
    for _ in 0..2 {
        bench.enter(&[(named("d2l", "one", &down), "a")]);
        settle().await;
        assert!(!bench.pool.readiness().first_token);
    }
}
