//! One cell, driven, with its authorization server and its clocks at hand.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus::{Registry, TextEncoder};
use tokio::{runtime::Handle, time::sleep};

use super::script::{Script, Step};
use crate::{
    clock::{Clock, ManualClock},
    oauth::{Cause, OAuthError, TokenSource, Unreachable},
    scope::ScopeSet,
    token::{
        AccessToken, RefreshAhead, Timing, TokenError, TokenMetrics,
        cell::{CellParams, TokenCell},
        driver::{self, Supply},
        skew::Skew,
    },
};

/// As the defaults of the configuration.
pub(super) const TIMING: Timing = Timing {
    default_lifetime: Duration::from_secs(300),
    refresh_ahead: RefreshAhead::Share(0.2),
    safety_margin: Duration::from_secs(30),
    wait: Duration::from_secs(10),
};

pub(super) const HOUR: Step = Step::Token(Some(3_600));
pub(super) const DOWN: Step = Step::Fail(Cause::Unreachable(Unreachable::Connect));
pub(super) const REFUSED: Step = Step::Fail(Cause::Rejected(OAuthError::InvalidClient));

pub(super) struct Bench<S = Script> {
    pub(super) cell: Arc<TokenCell>,
    pub(super) script: Arc<S>,
    pub(super) clock: Arc<ManualClock>,
    registry: Registry,
}

impl Bench {
    pub(super) fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::with(TIMING, Script::new(steps))
    }
}

impl<S: TokenSource> Bench<S> {
    pub(super) fn with(timing: Timing, script: S) -> Self {
        let registry = Registry::new();
        let clock = Arc::new(ManualClock::new());
        let script = Arc::new(script);
        let metrics = TokenMetrics::new(&registry).unwrap();
        let params = CellParams {
            credential: "d2l".into(),
            scopes: Some(ScopeSet::parse("core:*:* users:userdata:read").unwrap()),
            subject: None,
            timing: Arc::new(ArcSwap::from_pointee(timing)),
            clock: clock.clone(),
            metrics: Arc::new(metrics.credential("d2l")),
            skew: Arc::new(Skew::unknown()),
        };
        let supply = Arc::new(ArcSwap::from_pointee(Supply {
            source: script.clone(),
            limit: Duration::from_secs(11),
            proof: 0,
        }));
        let cell = driver::spawn(params, supply, &Handle::current());
        Self {
            cell,
            script,
            clock,
            registry,
        }
    }

    /// A request's token, in text; `Bearer ` left out.
    pub(super) async fn token(&self) -> Result<String, TokenError> {
        self.cell.token().await.map(|token| text(&token))
    }

    /// A request that needs a token and gets one.
    pub(super) async fn held(&self) -> Arc<AccessToken> {
        self.cell.token().await.expect("there is a token")
    }

    pub(super) fn state(&self) -> &'static str {
        let snapshot = self.cell.snapshot(self.clock.now());
        snapshot.status.state(snapshot.freshness)
    }

    pub(super) fn has_sample(&self, sample: &str) -> bool {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines().any(|line| line == sample)
    }
}

pub(super) fn text(token: &AccessToken) -> String {
    String::from_utf8(token.injection.secret().to_vec()).unwrap()
}

/// Lets time pass, in steps that let everybody act in between.
pub(super) async fn pass(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
    settle().await;
}

/// Lets every task run until it waits for something.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
