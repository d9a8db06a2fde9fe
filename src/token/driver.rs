//! The task that renews one token: the only place that makes its token requests, one after the other.
//!
//! It decides by the clocks alone, again and again: *when is the next token request due?* Whatever wakes it (its timer, a
//! request without a token, a 401, a clock that was stepped) only makes it look again, so a nudge too many does no
//! harm. It holds its cell weakly and ends when the cell is gone.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    AccessToken,
    cell::{CellParams, Held, TokenCell},
    freshness::Schedule,
    journal::Journal,
    status::LastFailure,
};
use crate::{
    backoff::Backoff,
    clock::Moment,
    oauth::{Answer, Cause, Failure, OAuthError, TokenRequest, TokenSource},
    random,
    scope::{Scope, ScopeSet},
};

/// Token requests for one token are at least so far apart, whatever lifetimes, 401s and clocks say.
const APART: Duration = Duration::from_secs(1);

/// After failures that pass by themselves. An AS is asked at most 20 times in ten minutes of failure (R65), and
/// most of these calls are spent early: a restart of the AS takes seconds and should be over for us when it is over, while
/// in a long outage a minute more or less makes no difference.
const BACKOFF: Backoff = Backoff {
    waits: &[
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(2),
        Duration::from_secs(2),
        Duration::from_secs(2),
        Duration::from_secs(2),
        Duration::from_secs(3),
        Duration::from_secs(4),
        Duration::from_secs(8),
        Duration::from_secs(16),
        Duration::from_secs(56),
    ],
    longest: Duration::from_secs(60),
};

/// After failures that only a person can cure.
const PARKED: Duration = Duration::from_secs(60);

/// `Retry-After` is stretched by up to this share, so that all who were told the same do not come back together.
const RETRY_AFTER_JITTER: f64 = 0.1;

/// The longest sleep: timers stand still while the machine is suspended, so a long one would end that much too late.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// A change of the known clock skew that explains why an assertion was refused.
const TELLING_SKEW: f64 = 5.0;

/// Where the tokens of a credential are asked for.
pub struct Supply<S> {
    /// Makes the token requests.
    pub source: Arc<S>,
    /// Ends a token request that `source` does not end by itself.
    pub limit: Duration,
    /// Numbers what the client has proved itself with so far (secret, key, CA). Whoever has a token by another one asks
    /// again at once: only a token request shows whether this one is good, and better now than when the old token ends.
    pub proof: u64,
}

/// Makes a cell and the task that drives it on `runtime`. The first token request goes out at once.
pub fn spawn<S: TokenSource>(
    params: CellParams,
    supply: Arc<ArcSwap<Supply<S>>>,
    runtime: &Handle,
) -> Arc<TokenCell> {
    let cell = Arc::new(TokenCell::empty(params.clone()));
    let driver = Driver {
        cell: Arc::downgrade(&cell),
        nudge: Arc::clone(cell.nudge()),
        journal: Journal::new(
            Arc::clone(&params.credential),
            params.scopes.as_ref(),
            params.subject.is_some(),
        ),
        params,
        supply,
        last_request: None,
        last_proof: None,
        is_second_try: false,
    };
    runtime.spawn(driver.run());
    cell
}

struct Driver<S> {
    cell: Weak<TokenCell>,
    nudge: Arc<Notify>,
    params: CellParams,
    supply: Arc<ArcSwap<Supply<S>>>,
    journal: Journal,
    /// When the last token request went out, by the boot clock.
    last_request: Option<Duration>,
    /// What the client proved itself with in the last token request.
    last_proof: Option<u64>,
    /// The token request under way repeats one that a wrong clock may have spoilt.
    is_second_try: bool,
}

impl<S: TokenSource> Driver<S> {
    async fn run(mut self) {
        while let Some(cell) = self.cell.upgrade() {
            let now = self.params.clock.now();
            let idle = self.due(&cell, now).saturating_sub(now.boot);
            if idle.is_zero() {
                self.renew(cell, now).await;
            } else {
                let needs_person = cell.status().borrow().login_needed().is_some();
                drop(cell);
                tokio::select! {
                    () = sleep(idle.min(LONGEST_NAP)) => {}
                    () = self.nudge.notified() => {}
                    () = self.cured(), if needs_person => {
                        if let Some(cell) = self.cell.upgrade() {
                            cell.begin_anew();
                        }
                    }
                }
            }
        }
    }

    /// When the next token request goes out, by the boot clock.
    fn due(&self, cell: &TokenCell, now: Moment) -> Duration {
        let status = cell.status().borrow();
        let wanted = match (&status.failure, cell.held()) {
            _ if self.is_outdated() => now.boot,
            (Some(failure), _) => failure.retry_at,
            (None, None) => now.boot,
            (None, Some(held)) if status.is_forced(held.token.generation) => now.boot,
            (None, Some(held)) => held.schedule.map_or(Duration::MAX, |schedule| {
                let left = schedule.refresh_at.remaining(now);
                now.boot.saturating_add(left)
            }),
        };
        let earliest = self
            .last_request
            .map_or(Duration::ZERO, |at| at.saturating_add(APART));
        wanted.max(earliest)
    }

    /// Comes to an end when somebody may have logged in.
    async fn cured(&self) {
        let source = Arc::clone(&self.supply.load().source);
        source.cured(self.params.subject.as_deref()).await;
    }

    /// Makes one token request and publishes what came of it. Lets go of the cell meanwhile.
    async fn renew(&mut self, cell: Arc<TokenCell>, sent: Moment) {
        let held = cell.held().map(|held| held.token.generation);
        let mut is_forced = false;
        cell.status().send_modify(|status| {
            status.requesting = true;
            is_forced = held.is_some_and(|generation| status.is_forced(generation));
        });
        drop(cell);
        self.last_request = Some(sent.boot);
        let supply = self.supply.load_full();
        let is_first_by_proof = self.last_proof.is_some_and(|last| last != supply.proof);
        if is_first_by_proof {
            self.is_second_try = false;
            self.journal.asks_with_another_proof();
        }
        self.last_proof = Some(supply.proof);
        let skew = self.params.skew.seconds().unwrap_or(0.0);
        let kid = supply.source.kid(sent);
        let since = Instant::now();
        let request = TokenRequest {
            scopes: self.params.scopes.clone(),
            subject: self.params.subject.clone(),
            now: sent,
            skew_seconds: skew,
            is_forced,
        };
        let outcome = self.request(&supply, request).await;
        // What was kept, or could not even be asked for, is no token request.
        let is_exchange = match &outcome {
            Ok(answer) => answer.kept_for.is_none(),
            Err(failure) => failure.is_exchange(),
        };
        if is_exchange {
            let failure = outcome.as_ref().err().map(|failure| &failure.cause);
            self.params.metrics.count_refresh(since, failure);
        }
        let Some(cell) = self.cell.upgrade() else {
            return;
        };
        match outcome {
            Ok(answer) => self.accept(&cell, answer, sent),
            // It says nothing about the one that is configured now, which is tried next.
            Err(_failure) if self.is_outdated() => {}
            Err(failure) => self.give_up(&cell, failure, skew, kid.as_deref()),
        }
    }

    /// Whether the client proved itself with something else in the last token request than it would now.
    fn is_outdated(&self) -> bool {
        self.last_proof
            .is_some_and(|last| last != self.supply.load().proof)
    }

    /// In a task of its own, so that a bug in there fails one token request and does not end all renewal.
    async fn request(&self, supply: &Supply<S>, request: TokenRequest) -> Result<Answer, Failure> {
        let source = Arc::clone(&supply.source);
        let request = tokio::spawn(async move { source.request(request).await });
        match timeout(supply.limit, AbortOnDropHandle::new(request)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Failure::from(Cause::InvalidResponse(
                "bursar failed to read it; please report this",
            ))),
            Err(_elapsed) => Err(Failure::from(Cause::Timeout(supply.limit))),
        }
    }

    fn accept(&mut self, cell: &TokenCell, answer: Answer, sent: Moment) {
        self.learn_skew(answer.skew_seconds);
        self.is_second_try = false;
        let timing = *self.params.timing.load_full();
        let lifetime = answer.expires_in.unwrap_or(timing.default_lifetime);
        let granted = self.keep_narrower(answer.granted);
        let held = cell.held();
        let generation = cell.next_generation();
        // Counted from before the request was sent: the AS cannot have issued it earlier.
        let issued = sent.before(answer.kept_for.unwrap_or_default());
        let fresh = Schedule::new(issued, lifetime, &timing, random::fraction());
        let same = held.filter(|held| held.token.injection == answer.injection);
        let again = same.as_ref().and_then(|held| {
            let earlier = held.schedule.as_ref()?;
            fresh.handed_out_again(earlier, sent)
        });
        let schedule = again.unwrap_or(fresh);
        cell.publish(Held {
            token: Arc::new(AccessToken {
                injection: answer.injection,
                generation,
                granted,
                issued: same.map_or(issued, |held| held.token.issued),
                expires: Some(schedule.expires),
                usable_until: Some(schedule.usable_until),
            }),
            schedule: Some(schedule),
        });
        let wall = self.params.clock.now().wall;
        let mut failures = 0;
        cell.status().send_modify(|status| {
            failures = status.failure.as_ref().map_or(0, |last| last.in_a_row);
            status.succeeded(wall);
        });
        self.journal
            .lifetime(answer.expires_in.is_none(), timing.default_lifetime);
        self.journal.received(generation, lifetime, failures);
        if let Some(schedule) = again {
            self.journal.handed_out_again(schedule.gap(), timing.wait);
        }
    }

    fn give_up(&mut self, cell: &TokenCell, failure: Failure, skew_used: f64, kid: Option<&str>) {
        self.learn_skew(failure.skew_seconds);
        let now = self.params.clock.now().boot;
        let in_a_row = cell
            .status()
            .borrow()
            .failure
            .as_ref()
            .map_or(1, |last| last.in_a_row.saturating_add(1));
        let parked = failure.cause.is_permanent() && !self.blames_clock(&failure, skew_used);
        let own = if parked {
            PARKED
        } else {
            BACKOFF.delay(in_a_row, random::fraction())
        };
        let told = failure.retry_after.unwrap_or_default();
        let stretch = told.mul_f64(RETRY_AFTER_JITTER * random::fraction());
        let last = LastFailure {
            cause: failure.cause,
            parked,
            in_a_row,
            retry_at: now.saturating_add(own.max(told.saturating_add(stretch))),
        };
        self.journal
            .failed(&last, now, self.params.skew.seconds(), kid);
        cell.status().send_modify(|status| status.failed(last));
    }

    /// Whether the refusal itself taught us that our assertion carried a wrong time. Then it is worth one more try with the right
    /// one before a person is called.
    fn blames_clock(&mut self, failure: &Failure, skew_used: f64) -> bool {
        let is_telling = failure
            .skew_seconds
            .is_some_and(|learned| (learned - skew_used).abs() > TELLING_SKEW);
        let is_refused = failure.cause == Cause::Rejected(OAuthError::InvalidClient);
        let again = is_refused && is_telling && !self.is_second_try;
        self.is_second_try = again;
        again
    }

    fn learn_skew(&self, seconds: Option<f64>) {
        if let Some(seconds) = seconds
            && self.params.skew.learn(seconds)
        {
            self.journal.clock_is_off(seconds);
        }
    }

    /// What was granted, if it does not cover all that was asked for. Where nothing was asked for, nothing can be missing.
    fn keep_narrower(&mut self, granted: Option<ScopeSet>) -> Option<ScopeSet> {
        let lost = match (&self.params.scopes, &granted) {
            (Some(asked), Some(granted)) if asked != granted => {
                lost(asked, |scope| granted.covers(scope))
            }
            _ => Vec::new(),
        };
        let is_narrower = !lost.is_empty();
        self.journal.lost_scopes(lost);
        granted.filter(|_| is_narrower)
    }
}

/// The scopes asked for that are not covered.
fn lost(asked: &ScopeSet, is_covered: impl Fn(&Scope) -> bool) -> Vec<Scope> {
    asked
        .iter()
        .filter(|scope| !is_covered(scope))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// When the AS is asked, counted from the first failure, and the longest wait that may follow. With the shortest
    /// waits, so no other jitter has made more calls at any time.
    fn densest() -> impl Iterator<Item = (Duration, Duration)> {
        let mut at = Duration::ZERO;
        (1..).map(move |failures| {
            let asked = at;
            at += BACKOFF.delay(failures, 0.0);
            (asked, BACKOFF.delay(failures, 1.0))
        })
    }

    #[test]
    fn any_ten_minutes_of_failure_cost_at_most_20_calls_even_with_the_shortest_waits() {
        let calls: Vec<Duration> = densest().map(|(at, _)| at).take(200).collect();
        for (first, from) in calls[..100].iter().enumerate() {
            let until = *from + Duration::from_secs(600);
            let in_it = calls[first..].iter().take_while(|at| **at <= until).count();
            assert!(in_it <= 20, "{in_it} from {from:?}");
        }
    }

    #[test]
    fn the_first_wait_is_a_second_and_none_is_longer_than_a_minute() {
        assert_eq!(BACKOFF.delay(1, 0.0), APART);
        let shortest = densest().map(|(_, longest)| longest);
        let longest = shortest.take(50).max();
        assert_eq!(longest, Some(Duration::from_secs(60)));
    }

    #[test]
    fn replicas_that_fail_together_are_spread_over_seconds_before_the_waits_are_long() {
        let latest: Duration = (1..=10).map(|failures| BACKOFF.delay(failures, 1.0)).sum();
        let (earliest, _) = densest().nth(10).unwrap();
        assert!(latest - earliest >= Duration::from_secs(10));
    }

    #[test]
    fn the_docs_say_how_soon_after_an_outage_the_next_token_request_comes() {
        let ends = densest().skip(1).map(|(at, _)| Some(at));
        let mut rows: Vec<(Option<Duration>, Duration)> = Vec::new();
        for (end, (_, lag)) in ends.zip(densest()) {
            let is_last = lag == BACKOFF.longest;
            let end = end.filter(|_| !is_last);
            match rows.last_mut() {
                Some((until, same)) if *same == lag => *until = end,
                _ => rows.push((end, lag)),
            }
            if is_last {
                break;
            }
        }
        let mut table = String::new();
        for (end, lag) in rows {
            let end = end.map_or_else(
                || "longer".to_owned(),
                |end| format!("up to {} s", end.as_secs_f64()),
            );
            writeln!(table, "| {end} | {} s |", lag.as_secs_f64()).unwrap();
        }
        let docs = include_str!("../../docs/envoy.md");
        assert!(docs.contains(&table), "not in docs/envoy.md:\n{table}");
    }

    #[test]
    fn the_scopes_that_were_asked_for_and_not_granted_are_lost() {
        let asked = ScopeSet::parse("a b c").unwrap();
        let lost = lost(&asked, |scope| scope.as_str() == "b");
        let lost: Vec<&str> = lost.iter().map(Scope::as_str).collect();
        assert_eq!(lost, ["a", "c"]);
    }
}
