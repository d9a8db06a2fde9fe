//! One token, as requests see it: the current one for one atomic load, or a wait with a deadline.
//!
//! The [driver](super::driver) renews it. Nothing that a request does, going away included, can disturb that.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    AccessToken, Timing, TokenError,
    freshness::{Freshness, Schedule},
    metrics::CredentialMetrics,
    skew::Skew,
    status::{Force, Status},
};
use crate::{
    clock::{Clock, Moment},
    oauth::{Injection, LoginNeeded},
    scope::ScopeSet,
};

/// What a cell is made of.
#[derive(Clone)]
pub struct CellParams {
    /// The credential's name, for logs.
    pub credential: Arc<str>,
    /// What is asked for; `None`: no `scope` parameter.
    pub scopes: Option<ScopeSet>,
    /// For whom, where each person has a grant of their own. In no log.
    pub subject: Option<Arc<str>>,
    /// When it is renewed, how long requests wait. All tokens of a credential share it, and a reload may change it.
    pub timing: Arc<ArcSwap<Timing>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The credential's counters.
    pub metrics: Arc<CredentialMetrics>,
    /// The credential's clock skew.
    pub skew: Arc<Skew>,
}

/// The token of one credential for one scope set.
pub struct TokenCell {
    params: CellParams,
    held: ArcSwapOption<Held>,
    status: watch::Sender<Status>,
    nudge: Arc<Notify>,
}

/// A token and its schedule.
pub struct Held {
    /// The token.
    pub token: Arc<AccessToken>,
    /// `None`: it never expires and is never renewed.
    pub schedule: Option<Schedule>,
}

/// What people may know about a cell at one moment.
pub struct Snapshot {
    /// Everything but the token.
    pub status: Status,
    /// The token held, expired ones included.
    pub held: Option<Arc<Held>>,
    /// What it is good for.
    pub freshness: Option<Freshness>,
}

/// What became of a rejected token.
enum Successor {
    /// There is another one.
    Here(Arc<AccessToken>),
    /// There is another one, but it is no better.
    Useless,
    /// It is still the current one.
    NotYet,
}

impl TokenCell {
    /// A cell without a token. Something must drive it.
    #[must_use]
    pub fn empty(params: CellParams) -> Self {
        Self {
            params,
            held: ArcSwapOption::empty(),
            status: watch::Sender::new(Status::default()),
            nudge: Arc::new(Notify::new()),
        }
    }

    /// From now on it holds `injection`, which never expires. Nothing drives such a cell.
    pub fn fix(&self, injection: Injection) {
        self.publish(Held {
            token: Arc::new(AccessToken {
                injection,
                generation: self.next_generation(),
                granted: None,
                issued: self.params.clock.now(),
                expires: None,
                usable_until: None,
            }),
            schedule: None,
        });
    }

    /// What makes its token requests has changed: what the last failure said holds no longer, and the driver looks again.
    pub fn begin_anew(&self) {
        let held = self.held().map(|held| held.token.generation);
        self.status
            .send_if_modified(|status| status.begin_anew(held));
        self.nudge.notify_one();
    }

    /// The token for a request.
    ///
    /// # Errors
    ///
    /// [`TokenError`], at once where the next token request is known to come too late.
    pub async fn token(&self) -> Result<Arc<AccessToken>, TokenError> {
        let metrics = &self.params.metrics;
        let now = self.params.clock.now();
        if let Some((token, freshness)) = self.usable(now) {
            if freshness == Freshness::RefreshAhead {
                metrics.soft_expired.inc();
            } else {
                metrics.hit.inc();
            }
            return Ok(token);
        }
        let outcome = self.wait_for_token(now).await;
        match outcome {
            Ok(_) => metrics.waited.inc(),
            Err(_) => metrics.failed.inc(),
        }
        outcome
    }

    /// The token after the LMS answered 401 to `rejected`: its successor, forced if need be. `None`: the 401 passes on, because
    /// a refresh was forced not long ago, brought nothing in time, or brought the same token again.
    pub async fn token_after_401(&self, rejected: &AccessToken) -> Option<Arc<AccessToken>> {
        let mut status = self.status.subscribe();
        match self.replace(rejected) {
            Successor::Here(token) => return Some(token),
            Successor::Useless => return None,
            Successor::NotYet => {}
        }
        let _waiter = self.params.metrics.hold_back();
        let replaced = async {
            loop {
                // The status before the token: the driver publishes them the other way round.
                let is_over = !status.borrow_and_update().is_forced(rejected.generation);
                match self.successor(rejected) {
                    Successor::Here(token) => return Some(token),
                    Successor::Useless => return None,
                    Successor::NotYet if is_over => return None,
                    Successor::NotYet => status.changed().await.ok()?,
                }
            }
        };
        let wait = self.params.timing.load().wait;
        timeout(wait, replaced).await.ok()?
    }

    /// As [`token_after_401`](Self::token_after_401), but waits for nothing.
    pub fn note_401(&self, rejected: &AccessToken) {
        self.replace(rejected);
    }

    /// What people may know about it.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        let status = self.status.borrow().clone();
        let held = self.held.load_full();
        let freshness = held.as_ref().map(|held| held.freshness(now));
        Snapshot {
            status,
            held,
            freshness,
        }
    }

    /// What it is made of.
    #[must_use]
    pub fn params(&self) -> &CellParams {
        &self.params
    }

    /// For the driver: wakes it.
    #[must_use]
    pub fn nudge(&self) -> &Arc<Notify> {
        &self.nudge
    }

    /// For the driver: the token held.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// For the driver: the number of its next token.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        let held = self.held.load();
        let last = held.as_ref().map_or(0, |held| held.token.generation);
        last.saturating_add(1)
    }

    /// For the driver: what the requests know.
    #[must_use]
    pub fn status(&self) -> &watch::Sender<Status> {
        &self.status
    }

    /// For the driver: replaces the token. The status follows, so that whoever reads the new one finds the token.
    pub fn publish(&self, held: Held) {
        self.held.store(Some(Arc::new(held)));
    }

    fn usable(&self, now: Moment) -> Option<(Arc<AccessToken>, Freshness)> {
        let held = self.held.load();
        let held = held.as_ref()?;
        match held.freshness(now) {
            Freshness::Expired => None,
            freshness => Some((Arc::clone(&held.token), freshness)),
        }
    }

    async fn wait_for_token(&self, start: Moment) -> Result<Arc<AccessToken>, TokenError> {
        let wait = self.params.timing.load().wait;
        let deadline = start.boot.saturating_add(wait);
        let mut status = self.status.subscribe();
        if !status.borrow().is_backing_off(start.boot) {
            // Timers are late after a suspend, and blind to a step of the wall clock: the driver may still be asleep.
            self.nudge.notify_one();
        }
        if let Some(error) = status
            .borrow()
            .hopeless(start.boot, deadline, &self.params.credential)
        {
            return Err(error);
        }
        let _waiter = self.params.metrics.hold_back();
        let token = async {
            loop {
                // The status before the token: the driver publishes them the other way round.
                let now = self.params.clock.now();
                let hopeless = status.borrow_and_update().hopeless(
                    now.boot,
                    deadline,
                    &self.params.credential,
                );
                if let Some((token, _)) = self.usable(now) {
                    return Ok(token);
                }
                if let Some(error) = hopeless {
                    return Err(error);
                }
                if status.changed().await.is_err() {
                    return Err(self.error());
                }
            }
        };
        timeout(wait, token)
            .await
            .unwrap_or_else(|_elapsed| Err(self.error()))
    }

    fn error(&self) -> TokenError {
        self.status
            .borrow()
            .error(self.params.clock.now().boot, &self.params.credential)
    }

    fn successor(&self, rejected: &AccessToken) -> Successor {
        let held = self.held.load();
        let Some(held) = held.as_ref() else {
            return Successor::Useless;
        };
        if held.schedule.is_none() {
            return Successor::Useless;
        }
        if held.token.generation == rejected.generation {
            return Successor::NotYet;
        }
        // An AS may hand out the same token again: to send it once more would only bring the next 401.
        let is_better = held.token.injection != rejected.injection
            && held.freshness(self.params.clock.now()) != Freshness::Expired;
        if is_better {
            Successor::Here(Arc::clone(&held.token))
        } else {
            Successor::Useless
        }
    }

    /// The successor, or a refresh to wait for it, forced if need be. The rejected token stays in place until its successor is
    /// there: an LMS that answers 401 by mistake while the AS is down must not take the other requests down.
    ///
    /// One look at token and status together, under the status's lock: between two looks the driver could finish a refresh, and
    /// the second would take it for one that was forced not long ago and brought nothing.
    fn replace(&self, rejected: &AccessToken) -> Successor {
        let now = self.params.clock.now().boot;
        let mut successor = Successor::Useless;
        let mut force = Force::Refused;
        self.status.send_if_modified(|status| {
            successor = self.successor(rejected);
            if matches!(successor, Successor::NotYet) {
                force = status.force(rejected.generation, now);
                if force == Force::Refused {
                    successor = Successor::Useless;
                }
            }
            false
        });
        if force == Force::Begun {
            self.nudge.notify_one();
        }
        successor
    }
}

impl Held {
    /// What the token is good for at `now`.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        self.schedule
            .map_or(Freshness::Fresh, |schedule| schedule.freshness(now))
    }

    /// When the token expires by the wall clock, as far as both clocks know; `None`: never.
    #[must_use]
    pub fn expiry(&self, now: Moment) -> Option<Duration> {
        let expires = self.token.expires?;
        let by_boot = now
            .wall
            .saturating_add(expires.boot.saturating_sub(now.boot));
        Some(expires.wall.min(by_boot))
    }
}

impl Snapshot {
    /// Whether a request would get the token now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(
            self.freshness,
            Some(Freshness::Fresh | Freshness::RefreshAhead)
        )
    }

    /// Whether nobody has logged in yet. That is no token lost.
    #[must_use]
    pub fn awaits_first_login(&self) -> bool {
        self.status.login_needed() == Some(LoginNeeded::Never)
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.status.failure.as_ref().map_or(0, |last| last.in_a_row)
    }
}

impl Drop for TokenCell {
    /// Lets the driver see that nobody needs it any more.
    fn drop(&mut self) {
        self.nudge.notify_one();
    }
}
