//! One rotation, from the lock to the answer.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Keeper, Redeem, TARGET,
    adoption::{self, Asked},
    fate::Fate,
};
use crate::{
    backoff::Backoff,
    causes::with_causes,
    oauth::{Answer, Cause, Failure, LoginGrant, LoginNeeded, OAuthError, TokenRequest},
    random,
    scope::ScopeSet,
    secret::{self, SecretString},
    store::{Granted, Guard, Intent, Record, StoreError, StoreKey},
};

/// Between attempts to write down what the disk does not take.
const WRITE_AGAIN: Backoff = Backoff {
    waits: &[
        Duration::from_secs(1),
        Duration::from_secs(5),
        Duration::from_secs(30),
    ],
    longest: Duration::from_secs(60),
};

/// What a rotation has brought.
struct Obtained {
    answer: Answer,
    /// What is still to be written.
    unwritten: Option<Unwritten>,
}

/// A record that the disk did not take, and the right to write it: nobody else rotates meanwhile.
struct Unwritten {
    guard: Guard,
    record: Record,
}

/// What is being presented.
struct Attempt {
    /// The record with its intent opened.
    record: Record,
    /// What was known before: presentations that may have been seen.
    before: Option<Intent>,
    /// Its random id.
    id: String,
}

impl<R: Redeem> Keeper<R> {
    /// Answers one token request. Whether anybody still waits for `reply` changes nothing.
    pub(super) async fn serve(
        self: Arc<Self>,
        request: TokenRequest,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    ) {
        let key = self.key_of(request.subject.clone());
        let (outcome, unwritten) = match self.obtain(&key, &request).await {
            Ok(obtained) => (Ok(obtained.answer), obtained.unwritten),
            Err(failure) => (Err(failure), None),
        };
        let token = outcome.as_ref().ok().and_then(adoption::token_of);
        if let Some(token) = token {
            let holdings = &self.custodian.holdings;
            let former = holdings.serve(&key, self.asked(&request), Some(token));
            if reply.send(outcome).is_err() {
                // Nobody got it: who asks next can have it.
                holdings.serve(&key, self.asked(&request), former);
            }
        } else {
            // Whoever has gone away does not need to know.
            let _ = reply.send(outcome);
        }
        if let Some(unwritten) = unwritten {
            self.write_at_last(&key, unwritten).await;
        }
    }

    async fn obtain(&self, key: &StoreKey, request: &TokenRequest) -> Result<Obtained, Failure> {
        let custodian = &self.custodian;
        if let Some(record) = custodian.holdings.afloat(key) {
            let adopted = self.adopt(key, &record, request).ok_or(Cause::Store(
                "the last refresh token could not be written yet",
            ))?;
            return Ok(adopted.into());
        }
        // A look without the lock: it is free where another process has just rotated, and where nobody has logged in.
        if let Some(adopted) = self.adopt(key, &self.read(key).await?, request) {
            return Ok(adopted.into());
        }
        let guard = self.lock(key).await?;
        self.rotate(key, guard, request).await
    }

    async fn read(&self, key: &StoreKey) -> Result<Record, Failure> {
        let read = self.custodian.store.read(key).await;
        self.known(key, read)
    }

    async fn lock(&self, key: &StoreKey) -> Result<Guard, Failure> {
        let custodian = &self.custodian;
        let limit = self.lock_limit();
        tokio::select! {
            biased;
            () = custodian.rotations.closing() => {
                Err(Cause::NotSent("bursar is shutting down").into())
            }
            locked = timeout(limit, custodian.store.lock(key)) => match locked {
                Ok(locked) => locked.map_err(|error| self.no_store(&error)),
                Err(_elapsed) => Err(Cause::Store("another process does not let go of its lock").into()),
            }
        }
    }

    /// Under the lock: steps 1 to 5.
    async fn rotate(
        &self,
        key: &StoreKey,
        guard: Guard,
        request: &TokenRequest,
    ) -> Result<Obtained, Failure> {
        let mut record = self.known(key, guard.current().await)?;
        loop {
            if let Some(adopted) = self.adopt(key, &record, request) {
                return Ok(adopted.into());
            }
            let token = self.presentable(key, &record)?.clone();
            let attempt = self.open_intent(key, &guard, record).await?;
            let asked = self.asked_of(request, &attempt.record);
            // The lock may have been waited for: what is measured by this moment must not count that.
            let sent = self.custodian.clock.now();
            let request_now = TokenRequest {
                scopes: asked.sent.clone(),
                now: sent,
                ..request.clone()
            };
            let grant = LoginGrant::RefreshToken(token);
            match self.redeemer.redeem(&grant, &request_now).await {
                Ok(mut answer) => {
                    asked.complete(&mut answer);
                    let next = self.successor(&attempt.record, &answer, request, sent.wall);
                    return Ok(self.commit(key, guard, &attempt.record, next, answer).await);
                }
                Err(failure) => match Fate::of(&failure) {
                    Fate::Unspent => {
                        self.close_intent(key, &guard, attempt).await;
                        return Err(self.refused_login(failure));
                    }
                    Fate::Refused => record = self.refused(key, &guard, attempt).await?,
                    Fate::Unknown => return Err(self.lost(&attempt, failure)),
                },
            }
        }
    }

    /// The record, which a login must have made.
    fn known(
        &self,
        key: &StoreKey,
        read: Result<Option<Record>, StoreError>,
    ) -> Result<Record, Failure> {
        let record = read.map_err(|error| self.no_store(&error))?;
        let version = record.as_ref().map(|record| &record.version);
        self.custodian.holdings.saw(key, version);
        record.ok_or_else(|| Cause::LoginNeeded(LoginNeeded::Never).into())
    }

    /// The stored access token, if it is good for this request and not the one that it wants to replace.
    fn adopt(&self, key: &StoreKey, record: &Record, request: &TokenRequest) -> Option<Answer> {
        let access = record.access.as_ref()?;
        let asked = self.asked(request);
        let holdings = &self.custodian.holdings;
        if access.asked != asked || holdings.was_served(key, asked.as_ref(), &access.token) {
            return None;
        }
        let now = self.custodian.clock.now().wall;
        adoption::adopt(access, &self.asked_of(request, record), now)
    }

    /// The refresh token, if it may be presented.
    fn presentable<'a>(
        &self,
        key: &StoreKey,
        record: &'a Record,
    ) -> Result<&'a SecretString, Cause> {
        let Granted::RefreshToken { token, expires } = &record.granted else {
            return Err(Cause::LoginNeeded(LoginNeeded::Never));
        };
        let now = self.custodian.clock.now().wall;
        if record.refused.is_some() {
            return Err(Cause::LoginNeeded(LoginNeeded::Refused));
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(Cause::LoginNeeded(LoginNeeded::Expired));
        }
        match self.presented(key, record) {
            Some(intent) if !self.may_present_again(&intent) => {
                Err(Cause::LoginNeeded(LoginNeeded::Lost))
            }
            _ => Ok(token),
        }
    }

    /// Presentations of the refresh token that may have been seen.
    fn presented(&self, key: &StoreKey, record: &Record) -> Option<Intent> {
        let intent = record.intent.clone().filter(|_| !self.rules.is_reusable)?;
        if !self.custodian.holdings.is_unspent(key, &intent.attempt) {
            return Some(intent);
        }
        let presented = intent.presented.saturating_sub(1);
        (presented > 0).then_some(Intent {
            presented,
            ..intent
        })
    }

    /// Whether `refresh_reuse_grace` covers one more presentation.
    fn may_present_again(&self, intent: &Intent) -> bool {
        let now = self.custodian.clock.now().wall;
        self.rules.may_present_again(intent, now)
    }

    /// Steps 2 and 3. A refresh token that is good for ever needs neither.
    async fn open_intent(
        &self,
        key: &StoreKey,
        guard: &Guard,
        record: Record,
    ) -> Result<Attempt, Failure> {
        let before = self.presented(key, &record);
        let id = random::id128();
        if self.rules.is_reusable {
            return Ok(Attempt { record, before, id });
        }
        guard
            .reserve()
            .await
            .map_err(|error| self.no_store(&error))?;
        let now = self.custodian.clock.now().wall;
        let opened = Record {
            intent: Some(Intent {
                attempt: id.clone(),
                first: before.as_ref().map_or(now, |before| before.first),
                presented: before
                    .as_ref()
                    .map_or(1, |before| before.presented.saturating_add(1)),
            }),
            ..record
        };
        let noted = guard.note(&opened).await;
        let attempt = Attempt {
            record: opened,
            before,
            id,
        };
        if let Err(error) = noted {
            // It may stand on the disk all the same. Nothing has been presented.
            self.close_intent(key, guard, attempt).await;
            return Err(self.no_store(&error));
        }
        Ok(attempt)
    }

    /// Nothing was spent: the record is again what it was.
    async fn close_intent(&self, key: &StoreKey, guard: &Guard, attempt: Attempt) {
        if self.rules.is_reusable {
            return;
        }
        let record = Record {
            intent: attempt.before,
            ..attempt.record
        };
        if let Err(error) = guard.note(&record).await {
            // This process knows better than the disk.
            self.custodian.holdings.set_unspent(key, attempt.id);
            let (credential, error) = (&*self.credential, with_causes(&error));
            tracing::warn!(target: TARGET, credential, error, "a refresh token was not presented, and this cannot be written down: if bursar is ended now, `bursar login {credential}` will be needed");
        }
    }

    /// The AS says `invalid_grant`: somebody may have rotated or logged in past the lock. Else the refresh token is kept, marked,
    /// and not presented again.
    async fn refused(
        &self,
        key: &StoreKey,
        guard: &Guard,
        attempt: Attempt,
    ) -> Result<Record, Failure> {
        let found = self.known(key, guard.current().await)?;
        if found.version != attempt.record.version {
            return Ok(found);
        }
        let marked = Record {
            intent: None,
            refused: Some(self.custodian.clock.now().wall),
            ..attempt.record
        };
        if let Err(error) = guard.note(&marked).await {
            let (credential, error) = (&*self.credential, with_causes(&error));
            tracing::warn!(target: TARGET, credential, error, "the authorization server no longer accepts the login, and this cannot be written down");
        }
        Err(Failure {
            is_sent: true,
            ..Cause::LoginNeeded(LoginNeeded::Refused).into()
        })
    }

    /// Canvas has no `invalid_grant` for a refresh token that was revoked: it does not find it, and calls that `invalid_request`.
    fn refused_login(&self, failure: Failure) -> Failure {
        let is_unknown = failure.cause == Cause::Rejected(OAuthError::InvalidRequest);
        if self.rules.is_reusable && is_unknown {
            return Failure {
                cause: Cause::LoginNeeded(LoginNeeded::Refused),
                ..failure
            };
        }
        failure
    }

    /// Nobody knows whether the refresh token is spent.
    fn lost(&self, attempt: &Attempt, failure: Failure) -> Failure {
        let Some(intent) = &attempt.record.intent else {
            return failure;
        };
        let (credential, cause) = (&*self.credential, &failure.cause);
        if self.may_present_again(intent) {
            tracing::warn!(target: TARGET, credential, %cause, "a refresh token was sent and its answer was lost: it is presented once more within refresh_reuse_grace");
            return failure;
        }
        tracing::error!(target: TARGET, credential, %cause, "a refresh token was sent and its answer was lost: it may be spent, and is not presented again; run `bursar login {credential}`");
        Failure {
            cause: Cause::LoginNeeded(LoginNeeded::Lost),
            ..failure
        }
    }

    /// The record after `answer`.
    fn successor(
        &self,
        record: &Record,
        answer: &Answer,
        request: &TokenRequest,
        sent: Duration,
    ) -> Record {
        let rolled = answer
            .refresh_expires_in
            .map(|left| sent.saturating_add(left));
        let granted = match (&answer.refresh_token, &record.granted) {
            // What ends with the old one says nothing about the new one.
            (Some(token), _) => Granted::RefreshToken {
                token: token.clone(),
                expires: rolled,
            },
            // RFC 6749 section 6: without another one, the old one goes on.
            (None, Granted::RefreshToken { token, expires }) => Granted::RefreshToken {
                token: token.clone(),
                expires: rolled.or(*expires),
            },
            (None, other @ Granted::UserKey { .. }) => other.clone(),
        };
        Record {
            version: record.version.next(),
            granted,
            access: adoption::store(answer, self.asked(request), sent, self.default_lifetime),
            scopes: record.scopes.clone(),
            account: record.account.clone(),
            intent: None,
            refused: None,
        }
    }

    /// Step 5.
    async fn commit(
        &self,
        key: &StoreKey,
        guard: Guard,
        former: &Record,
        next: Record,
        answer: Answer,
    ) -> Obtained {
        let custodian = &self.custodian;
        let must_be_kept = !self.rules.is_reusable || !is_same_grant(former, &next);
        let written = guard.commit(&next).await;
        if must_be_kept {
            custodian
                .metrics
                .count_rotation(&self.credential, written.is_ok());
        }
        let Err(error) = written else {
            custodian.holdings.saw(key, Some(&next.version));
            return answer.into();
        };
        let (credential, hint) = (&*self.credential, error.hint());
        let error = with_causes(&error);
        if !must_be_kept {
            tracing::warn!(target: TARGET, credential, error, hint, "a new access token cannot be written down: other processes do not learn of it");
            return answer.into();
        }
        tracing::error!(target: TARGET, credential, error, hint, "a new refresh token cannot be written down: it is the only copy; it is kept in memory and written as soon as that works. If bursar is ended before, `bursar login {credential}` is needed");
        custodian.holdings.set_afloat(key, Some(next.clone()));
        Obtained {
            answer,
            unwritten: Some(Unwritten {
                guard,
                record: next,
            }),
        }
    }

    /// Tries until the disk takes it, or the process ends.
    async fn write_at_last(&self, key: &StoreKey, unwritten: Unwritten) {
        let custodian = &self.custodian;
        let Unwritten { guard, record } = unwritten;
        let credential = &*self.credential;
        let mut failures = 0;
        loop {
            failures += 1;
            let pause = WRITE_AGAIN.delay(failures, random::fraction());
            let is_last = tokio::select! {
                () = custodian.rotations.closing() => true,
                () = sleep(pause) => false,
            };
            let written = write_over(&guard, &record).await;
            custodian
                .metrics
                .count_rotation(&self.credential, written.is_ok());
            match written {
                Ok(()) => {
                    tracing::info!(target: TARGET, credential, failures, "the refresh token is written down");
                    break;
                }
                Err(error) if is_last => {
                    let error = with_causes(&error);
                    tracing::error!(target: TARGET, credential, error, "bursar ends, and the refresh token is lost: run `bursar login {credential}`");
                    break;
                }
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::debug!(target: TARGET, credential, failures, error, "the refresh token still cannot be written down");
                }
            }
        }
        custodian.holdings.set_afloat(key, None);
    }

    /// What is asked for, as the record of a token says it.
    fn asked(&self, request: &TokenRequest) -> Option<String> {
        let named = request.scopes.as_ref().filter(|_| self.rules.names_scopes);
        named.map(ScopeSet::to_string)
    }

    fn asked_of(&self, request: &TokenRequest, record: &Record) -> Asked {
        Asked::new(request.scopes.as_ref(), record, self.rules.names_scopes)
    }

    fn no_store(&self, error: &StoreError) -> Failure {
        let (credential, hint) = (&*self.credential, error.hint());
        let summary = error.summary();
        let error = with_causes(error);
        let now = self.custodian.clock.now().boot;
        if self.store_trouble.is_worth_saying(summary, now) {
            tracing::warn!(target: TARGET, credential, error, hint, "the token store is not available");
        } else {
            tracing::debug!(target: TARGET, credential, error, hint, "the token store is still not available");
        }
        Cause::Store(summary).into()
    }
}

/// Writes `record` unless somebody has put something newer there, past the lock.
async fn write_over(guard: &Guard, record: &Record) -> Result<(), StoreError> {
    let error = match guard.commit(record).await {
        Err(error @ StoreError::Changed { .. }) => error,
        written => return written,
    };
    match guard.current().await? {
        // A former state of the same login, out of a backup: its refresh token is spent.
        Some(found)
            if found.version.login == record.version.login
                && found.version.generation < record.version.generation =>
        {
            guard.commit(record).await
        }
        _ => {
            tracing::warn!(target: TARGET, error = %error, "somebody has replaced the record: theirs stays");
            Ok(())
        }
    }
}

fn is_same_grant(one: &Record, other: &Record) -> bool {
    match (&one.granted, &other.granted) {
        (
            Granted::RefreshToken { token, .. },
            Granted::RefreshToken {
                token: other_token, ..
            },
        ) => secret::is_same(token, other_token),
        _ => false,
    }
}

impl From<Answer> for Obtained {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            unwritten: None,
        }
    }
}
