//! An authorization server in memory that answers as told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use crate::{
    oauth::{Answer, Cause, Failure, Injection, TokenRequest, TokenSource},
    scope::ScopeSet,
};

/// One answer.
#[derive(Clone)]
pub(super) enum Step {
    /// A new token that lives so many seconds; `None`: without `expires_in`.
    Token(Option<u64>),
    /// This very token, for so many seconds.
    Same(&'static str, u64),
    /// A token that came for an hour and has been kept for so many seconds of it.
    Kept(u64),
    /// A new token for an hour, with this `scope`.
    Granted(ScopeSet),
    /// No token.
    Fail(Cause),
    /// No token, with `Retry-After` in seconds.
    FailFor(Cause, u64),
    /// Any of these, with a `Date` that differs by so many seconds.
    Skewed(Box<Self>, f64),
    /// Any of these, after a while.
    Slow(Duration, Box<Self>),
    /// Nothing, ever.
    Hang,
    /// A bug in the code that makes token requests.
    Panic,
}

/// What a token request said of itself.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) scopes: Option<ScopeSet>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) is_forced: bool,
    pub(super) skew_seconds: f64,
}

/// Answers with its steps, then with the last one for ever.
pub(super) struct Script {
    steps: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<Call>>,
    called: watch::Sender<usize>,
    tokens: AtomicUsize,
    /// Closed: answers wait until it is opened.
    gate: watch::Sender<bool>,
    /// Told when somebody has logged in.
    pub(super) login: Notify,
    /// Told when a token request under way is dropped.
    pub(super) dropped: Notify,
}

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            calls: Mutex::default(),
            called: watch::Sender::new(0),
            tokens: AtomicUsize::new(0),
            gate: watch::Sender::new(true),
            login: Notify::new(),
            dropped: Notify::new(),
        }
    }

    /// Forgets the steps so far.
    pub(super) fn now_answers(&self, steps: impl IntoIterator<Item = Step>) {
        *self.steps.lock().unwrap() = steps.into_iter().collect();
    }

    pub(super) fn close_gate(&self) {
        self.gate.send_replace(false);
    }

    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        *self.called.borrow()
    }

    /// Waits until there have been `count` token requests.
    pub(super) async fn called(&self, count: usize) {
        let mut called = self.called.subscribe();
        called.wait_for(|calls| *calls >= count).await.unwrap();
    }

    /// The time between one token request and the next.
    pub(super) fn gaps(&self) -> Vec<Duration> {
        self.calls()
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .collect()
    }

    fn answer(&self, step: Step) -> Result<Answer, Failure> {
        let failure = |cause: Cause, retry_after| Failure {
            retry_after,
            ..cause.into()
        };
        let hour = Some(Duration::from_secs(3_600));
        match step {
            Step::Token(lifetime) => Ok(self.token(lifetime.map(Duration::from_secs), None)),
            Step::Granted(scopes) => Ok(self.token(hour, Some(scopes))),
            Step::Kept(seconds) => Ok(Answer {
                kept_for: Some(Duration::from_secs(seconds)),
                ..self.token(hour, None)
            }),
            Step::Same(text, seconds) => Ok(Answer {
                injection: bearer(text),
                ..self.token(Some(Duration::from_secs(seconds)), None)
            }),
            Step::Fail(cause) => Err(failure(cause, None)),
            Step::FailFor(cause, seconds) => {
                Err(failure(cause, Some(Duration::from_secs(seconds))))
            }
            Step::Skewed(step, seconds) => {
                let skew_seconds = Some(seconds);
                match self.answer(*step) {
                    Ok(answer) => Ok(Answer {
                        skew_seconds,
                        ..answer
                    }),
                    Err(failure) => Err(Failure {
                        skew_seconds,
                        ..failure
                    }),
                }
            }
            Step::Slow(..) | Step::Hang => unreachable!("is no answer"),
            Step::Panic => panic!("a bug, as scripted"),
        }
    }

    fn token(&self, expires_in: Option<Duration>, granted: Option<ScopeSet>) -> Answer {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed) + 1;
        Answer {
            injection: bearer(&format!("token-{number}")),
            refresh_token: None,
            refresh_expires_in: None,
            kept_for: None,
            account: None,
            expires_in,
            granted,
            skew_seconds: None,
        }
    }
}

pub(super) fn bearer(text: &str) -> Injection {
    let mut field = HeaderValue::from_str(&format!("Bearer {text}")).unwrap();
    field.set_sensitive(true);
    Injection::Bearer(field)
}

struct TellDrop<'a>(&'a Notify);

impl Drop for TellDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl TokenSource for Script {
    async fn cured(&self, _subject: Option<&str>) {
        self.login.notified().await;
    }

    async fn request(&self, request: TokenRequest) -> Result<Answer, Failure> {
        let _tell = TellDrop(&self.dropped);
        self.calls.lock().unwrap().push(Call {
            at: Instant::now(),
            scopes: request.scopes,
            subject: request.subject,
            is_forced: request.is_forced,
            skew_seconds: request.skew_seconds,
        });
        self.called.send_modify(|calls| *calls += 1);
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let mut step = {
            let mut steps = self.steps.lock().unwrap();
            match steps.len() {
                0 => Step::Hang,
                1 => steps[0].clone(),
                _ => steps.pop_front().unwrap(),
            }
        };
        if let Step::Slow(delay, then) = step {
            sleep(delay).await;
            step = *then;
        }
        if let Step::Hang = step {
            std::future::pending::<()>().await;
        }
        self.answer(step)
    }
}
