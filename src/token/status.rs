//! What the driver of a token tells the requests that wait for it.

use std::{sync::Arc, time::Duration};

use super::{TokenError, freshness::Freshness};
use crate::oauth::{Cause, LoginNeeded};

/// At most one refresh in this time is forced by 401s: an LMS that answers 401 to everything must not turn
/// every request into a token request.
pub const FORCED_APART: Duration = Duration::from_secs(30);

/// Everything about a token but the token. Instants are readings of the boot clock unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// A token request is under way.
    pub requesting: bool,
    /// The last token request failed.
    pub failure: Option<LastFailure>,
    /// The last refresh that a 401 forced.
    pub forced: Option<Forced>,
    /// When the last token arrived, by the wall clock.
    pub last_success: Option<Duration>,
}

/// A token request that failed, and what follows from it.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// What happened.
    pub cause: Cause,
    /// Only a person can cure it.
    pub parked: bool,
    /// Failures in a row, this one included.
    pub in_a_row: u32,
    /// When the next token request goes out.
    pub retry_at: Duration,
}

/// A refresh that a 401 forced.
#[derive(Clone, Copy, Debug)]
pub struct Forced {
    /// The generation that the LMS rejected.
    pub rejected: u64,
    /// When it was forced.
    pub at: Duration,
    /// Whether the token request has ended, either way.
    pub over: bool,
}

impl Status {
    /// Why a request that may wait until `deadline` need not wait at all, though there is no usable token.
    #[must_use]
    pub fn hopeless(
        &self,
        now: Duration,
        deadline: Duration,
        credential: &Arc<str>,
    ) -> Option<TokenError> {
        let failure = self.failure.as_ref()?;
        (failure.parked || failure.retry_at > deadline).then(|| self.error(now, credential))
    }

    /// What a request without a token is told.
    #[must_use]
    pub fn error(&self, now: Duration, credential: &Arc<str>) -> TokenError {
        match &self.failure {
            Some(LastFailure {
                cause: Cause::LoginNeeded(why),
                ..
            }) => TokenError::LoginNeeded {
                credential: Arc::clone(credential),
                is_personal: false,
                why: *why,
            },
            Some(failure) if matches!(failure.cause, Cause::Store(_)) => {
                TokenError::StoreUnavailable {
                    cause: failure.cause.clone(),
                    retry_after: failure.retry_after(now),
                }
            }
            Some(failure) if failure.parked => TokenError::Configuration {
                cause: failure.cause.clone(),
                retry_after: failure.retry_after(now),
            },
            Some(failure) => TokenError::Unavailable {
                cause: Some(failure.cause.clone()),
                retry_after: failure.retry_after(now),
            },
            None => TokenError::Unavailable {
                cause: None,
                retry_after: whole_seconds(Duration::ZERO),
            },
        }
    }

    /// Whether the driver only waits for a moment that lies ahead, so that waking it would be idle.
    #[must_use]
    pub fn is_backing_off(&self, now: Duration) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|failure| failure.retry_at > now)
    }

    /// Whether a 401 to generation `rejected` may wait for a refresh: one that it begins, or one that another 401 to the same
    /// generation has begun.
    pub fn force(&mut self, rejected: u64, now: Duration) -> Force {
        match self.forced {
            Some(forced) if forced.rejected == rejected && !forced.over => Force::UnderWay,
            // The AS is down. It is asked again when its time has come, not because the LMS says 401.
            _ if self.is_backing_off(now) => Force::Refused,
            Some(forced) if now.saturating_sub(forced.at) < FORCED_APART => Force::Refused,
            _ => {
                self.forced = Some(Forced {
                    rejected,
                    at: now,
                    over: false,
                });
                Force::Begun
            }
        }
    }

    /// Whether the holder of generation `current` is to be renewed because the LMS rejected it.
    #[must_use]
    pub fn is_forced(&self, current: u64) -> bool {
        self.forced
            .is_some_and(|forced| forced.rejected == current && !forced.over)
    }

    /// What the last failure said holds no longer; whether there was one. A refresh that a 401 has forced is due again, if generation `held`
    /// is still the one that the LMS rejected.
    pub fn begin_anew(&mut self, held: Option<u64>) -> bool {
        let has_failed = self.failure.take().is_some();
        if let Some(forced) = &mut self.forced
            && has_failed
            && held == Some(forced.rejected)
        {
            forced.over = false;
        }
        has_failed
    }

    /// Why a person has to log in, if that is what stands against a token.
    #[must_use]
    pub fn login_needed(&self) -> Option<LoginNeeded> {
        self.failure.as_ref()?.login_needed()
    }

    /// A token arrived. `wall` is the wall clock's time.
    pub fn succeeded(&mut self, wall: Duration) {
        self.failure = None;
        self.last_success = Some(wall);
        self.ended();
    }

    /// A token request failed.
    pub fn failed(&mut self, failure: LastFailure) {
        self.failure = Some(failure);
        self.ended();
    }

    fn ended(&mut self) {
        self.requesting = false;
        if let Some(forced) = &mut self.forced {
            forced.over = true;
        }
    }

    /// The state's name, as `/api/v1/status` has it.
    #[must_use]
    pub fn state(&self, held: Option<Freshness>) -> &'static str {
        match (&self.failure, held) {
            (Some(failure), _) if failure.login_needed().is_some() => "login_needed",
            (Some(failure), _) if failure.parked => "parked",
            (Some(_), _) => "failing",
            (None, Some(Freshness::Fresh)) => "fresh",
            (None, Some(Freshness::RefreshAhead)) => "refresh_ahead",
            (None, _) if self.requesting => "requesting",
            (None, Some(Freshness::Expired)) => "expired",
            (None, None) => "absent",
        }
    }
}

/// The answer to a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// A refresh begins because of it.
    Begun,
    /// Another 401 to the same generation has begun one already.
    UnderWay,
    /// None: forced not long ago, or the AS is backing off. The 401 passes through.
    Refused,
}

impl LastFailure {
    /// Why a person has to log in, if that is what it says.
    #[must_use]
    pub const fn login_needed(&self) -> Option<LoginNeeded> {
        match self.cause {
            Cause::LoginNeeded(why) => Some(why),
            _ => None,
        }
    }

    fn retry_after(&self, now: Duration) -> Duration {
        whole_seconds(self.retry_at.saturating_sub(now))
    }
}

/// As `Retry-After` can say it (RFC 9110 section 10.2.3): rounded up, and never "at once".
fn whole_seconds(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{OAuthError, Unreachable};

    const NOW: Duration = Duration::from_secs(1_000);

    fn failed(cause: Cause, retry_in_ms: u64) -> Status {
        let mut status = Status::default();
        status.failed(LastFailure {
            parked: cause.is_permanent(),
            cause,
            in_a_row: 1,
            retry_at: NOW + Duration::from_millis(retry_in_ms),
        });
        status
    }

    #[test]
    fn retry_after_is_the_next_attempt_rounded_up_and_at_least_a_second() {
        let after = |ms| match failed(Cause::Unreachable(Unreachable::Connect), ms)
            .error(NOW, &"d2l".into())
        {
            TokenError::Unavailable { retry_after, .. } => retry_after.as_secs(),
            other => panic!("a refused connection is {other}"),
        };
        assert_eq!([0, 1, 1_000, 1_001, 59_999].map(after), [1, 1, 1, 2, 60]);
    }

    #[test]
    fn an_attempt_beyond_the_deadline_is_not_waited_for() {
        let status = failed(Cause::Throttled(429), 30_000);
        assert!(
            status
                .hopeless(NOW, NOW + Duration::from_secs(10), &"d2l".into())
                .is_some()
        );
        assert!(
            status
                .hopeless(NOW, NOW + Duration::from_secs(30), &"d2l".into())
                .is_none()
        );
    }

    #[test]
    fn a_parked_token_is_never_waited_for() {
        let status = failed(Cause::Rejected(OAuthError::InvalidClient), 10);
        let error = status.hopeless(NOW, NOW + Duration::from_secs(10), &"d2l".into());
        assert!(matches!(error, Some(TokenError::Configuration { .. })));
    }

    #[test]
    fn a_401_forces_one_refresh_in_30_seconds() {
        let mut status = Status::default();
        assert_eq!(status.force(1, NOW), Force::Begun);
        assert_eq!(status.force(1, NOW), Force::UnderWay);
        status.succeeded(NOW);
        assert_eq!(
            status.force(2, NOW + Duration::from_millis(29_999)),
            Force::Refused
        );
        assert_eq!(status.force(2, NOW + Duration::from_secs(30)), Force::Begun);
    }

    #[test]
    fn a_401_does_not_spend_its_refresh_while_the_as_backs_off() {
        let mut status = failed(Cause::Status(500), 5_000);
        assert_eq!(status.force(1, NOW), Force::Refused);
        assert_eq!(status.force(1, NOW + Duration::from_secs(5)), Force::Begun);
    }
}
