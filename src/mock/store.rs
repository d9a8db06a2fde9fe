//! What the mock remembers: its registration, the tokens that it issued, what people agreed to, assertions already used, credits
//! spent, and the grades that were written.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::EncodingKey;
use tokio::sync::watch;

use super::{
    Lms, LoginParams, MockParams,
    access::{AccessTokens, Holder},
    allowance::Allowance,
    bucket::Buckets,
    canvas_site::CanvasParams,
    catalogue::Catalogue,
    counters::Counters,
    fault::Faults,
    grants::{Codes, GrantId, Grants},
    id_keys::RegisteredIdKeys,
    keys::Keys,
    ltiaas_site::LtiaasParams,
    record::{Records, Tokens},
    warehouse::Warehouse,
};
use crate::{
    clock::{Clock, Moment},
    random,
    scope::ScopeSet,
    secret::{ExposeSecret, SecretString},
};

/// What one API call costs, in credits.
pub(super) const REQUEST_COST: u32 = 10;

/// The budget is counted per minute.
const WINDOW: Duration = Duration::from_mins(1);

/// Signatures and keys beyond this number are no longer looked for.
const MAX_SECRETS: usize = 1_000;

/// How long a token lives that an administrator has made.
const STATIC_LIFETIME: Duration = Duration::from_hours(12 * 7 * 24);

/// Grades beyond this number push out the oldest: a long-lived mock must not grow for ever.
const MAX_GRADES: usize = 10_000;

/// Everything that the connections of one mock share.
pub(super) struct State {
    pub(super) lms: Lms,
    pub(super) address: SocketAddr,
    /// Of the server of pre-signed objects.
    objects: Option<SocketAddr>,
    /// Whether calls are not counted against their limits.
    pub(super) is_unlimited: bool,
    pub(super) client_id: String,
    pub(super) secret: Option<SecretString>,
    pub(super) registered: ScopeSet,
    pub(super) login: LoginParams,
    pub(super) canvas: CanvasParams,
    pub(super) ltiaas: LtiaasParams,
    pub(super) audiences: Vec<String>,
    pub(super) lifetime: Duration,
    pub(super) credits_per_minute: u32,
    pub(super) calls_per_day: u32,
    pub(super) id_keys: RegisteredIdKeys,
    pub(super) static_token: SecretString,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Keys,
    pub(super) catalogue: Catalogue,
    /// Signs access tokens. Nobody but the mock reads them, so a key that both signs and verifies will do.
    pub(super) token_key: EncodingKey,
    /// How many gates are closed.
    pub(super) gates: watch::Sender<usize>,
    pub(super) counters: watch::Sender<Counters>,
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    records: Mutex<Records>,
    warehouse: Mutex<Warehouse>,
    day: Mutex<Allowance>,
    buckets: Mutex<Buckets>,
}

/// What changes with each request.
pub(super) struct Store {
    pub(super) tokens: AccessTokens,
    pub(super) grants: Grants,
    pub(super) codes: Codes,
    user_key: UserKey,
    /// Signatures that were accepted and keys that were handed out, the oldest first.
    secrets: VecDeque<String>,
    /// Of the next token, instead of the usual one.
    next_lifetime: Option<Duration>,
    used_assertions: HashMap<String, Duration>,
    grades: BTreeMap<GradeKey, serde_json::Value>,
    grades_by_age: VecDeque<GradeKey>,
    spent: u32,
    window_start: Duration,
}

/// The user's key for ID-key calls.
#[derive(Clone, Debug)]
enum UserKey {
    /// The one of the registration.
    Registered,
    /// Since then one that a person has consented to.
    Issued(SecretString),
    /// None counts.
    Revoked,
}

/// Org unit, grade object and user.
pub(super) type GradeKey = (String, String, String);

/// Credits left, and seconds until they are full again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) remaining: u32,
    pub(super) reset_seconds: u64,
}

impl State {
    pub(super) fn new(
        params: MockParams,
        address: SocketAddr,
        objects: Option<SocketAddr>,
    ) -> Self {
        let mut token_key = [0_u8; 32];
        random::fill(&mut token_key);
        let mut faults = Faults::default();
        for fault in params.faults {
            faults.add(fault);
        }
        let mut store = Store::new();
        if params.lms == Lms::Moodle {
            let now = params.clock.now();
            store.tokens.add(
                params.static_token.expose_secret().to_owned(),
                Holder::application(params.client.scopes.clone()),
                now.after(STATIC_LIFETIME),
                now,
            );
        }
        Self {
            lms: params.lms,
            address,
            objects,
            is_unlimited: params.is_unlimited,
            client_id: params.client.id,
            secret: params.client.secret,
            registered: params.client.scopes,
            login: params.login,
            canvas: params.canvas,
            ltiaas: params.ltiaas,
            audiences: params.audiences,
            lifetime: params.token_lifetime,
            credits_per_minute: params.credits_per_minute,
            calls_per_day: params.calls_per_day,
            id_keys: params.id_keys,
            static_token: params.static_token,
            clock: params.clock,
            keys: Keys::new(params.client.keys),
            catalogue: Catalogue::new(),
            token_key: EncodingKey::from_secret(&token_key),
            gates: watch::Sender::new(0),
            counters: watch::Sender::new(Counters::default()),
            store: Mutex::new(store),
            faults: Mutex::new(faults),
            records: Mutex::default(),
            warehouse: Mutex::default(),
            buckets: Mutex::default(),
            day: Mutex::new(Allowance::per(Duration::from_hours(24))),
        }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn token_url(&self) -> String {
        format!("{}{}", self.origin(), self.lms.token_path())
    }

    /// The path where people agree.
    pub(super) fn authorize_path(&self) -> Option<String> {
        let path = self.lms.authorize_path()?;
        Some(match self.lms {
            Lms::Ltiaas => format!("{path}{}", self.ltiaas.platform_id),
            _ => path.to_owned(),
        })
    }

    /// Where pre-signed objects are.
    pub(super) fn objects_origin(&self) -> String {
        format!("http://{}", self.objects.unwrap_or(self.address))
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn warehouse(&self) -> MutexGuard<'_, Warehouse> {
        self.warehouse
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been spent of the calls of a day.
    pub(super) fn day(&self) -> MutexGuard<'_, Allowance> {
        self.day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What throttles the callers of a Canvas.
    pub(super) fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.counters.send_modify(change);
    }
}

impl Store {
    fn new() -> Self {
        Self {
            tokens: AccessTokens::default(),
            grants: Grants::default(),
            codes: Codes::default(),
            user_key: UserKey::Registered,
            secrets: VecDeque::new(),
            next_lifetime: None,
            used_assertions: HashMap::new(),
            grades: BTreeMap::new(),
            grades_by_age: VecDeque::new(),
            spent: 0,
            window_start: Duration::ZERO,
        }
    }

    /// Ends a grant with all its tokens; `false`: it had ended already.
    pub(super) fn end_grant(&mut self, grant: GrantId) -> bool {
        self.tokens.revoke_of(grant);
        self.grants.close(grant)
    }

    /// Ends all grants with their tokens.
    pub(super) fn end_all_grants(&mut self) {
        self.tokens.revoke_of_all_grants();
        self.grants.close_all();
    }

    /// The user's key that counts now; `registered` is the one of the registration.
    pub(super) fn user_key(&self, registered: &SecretString) -> Option<SecretString> {
        match &self.user_key {
            UserKey::Registered => Some(registered.clone()),
            UserKey::Issued(key) => Some(key.clone()),
            UserKey::Revoked => None,
        }
    }

    /// The user's key for whom a person consents to: the one that counts, or a new one.
    pub(super) fn consent(&mut self, registered: &SecretString) -> SecretString {
        let key = self.user_key(registered).unwrap_or_else(|| {
            let key = SecretString::from(random::id128());
            self.user_key = UserKey::Issued(key.clone());
            key
        });
        self.remember_secret(key.expose_secret().to_owned());
        key
    }

    /// From now on [`stand_in`](Tokens::stand_in) knows it.
    pub(super) fn remember_secret(&mut self, secret: String) {
        if self.secrets.len() >= MAX_SECRETS {
            self.secrets.pop_front();
        }
        self.secrets.push_back(secret);
    }

    pub(super) fn set_next_lifetime(&mut self, lifetime: Duration) {
        self.next_lifetime = Some(lifetime);
    }

    pub(super) fn take_next_lifetime(&mut self) -> Option<Duration> {
        self.next_lifetime.take()
    }

    /// Ends every token, and the user's key.
    pub(super) fn revoke_tokens(&mut self) {
        self.tokens.revoke_all();
        self.user_key = UserKey::Revoked;
    }

    /// Marks an assertion as used until it expires (RFC 7523 section 3, point 7); `false`: it was used before.
    pub(super) fn use_assertion(&mut self, jti: &str, expires: Duration, now: Duration) -> bool {
        self.used_assertions.retain(|_, expires| *expires > now);
        self.used_assertions
            .insert(jti.to_owned(), expires)
            .is_none()
    }

    /// What is left, without spending anything.
    pub(super) fn budget(&mut self, limit: u32, now: Moment) -> Budget {
        let mut elapsed = now.boot.saturating_sub(self.window_start);
        if elapsed >= WINDOW {
            self.window_start = now.boot;
            self.spent = 0;
            elapsed = Duration::ZERO;
        }
        let left = WINDOW.saturating_sub(elapsed);
        Budget {
            remaining: limit.saturating_sub(self.spent),
            // Rounded up: a client that waits exactly so long finds the budget full.
            reset_seconds: left
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }

    /// Spends the cost of a call.
    ///
    /// # Errors
    ///
    /// The credits do not suffice: nothing is spent.
    pub(super) fn spend(&mut self, limit: u32, now: Moment) -> Result<Budget, Budget> {
        let budget = self.budget(limit, now);
        if budget.remaining < REQUEST_COST {
            return Err(budget);
        }
        self.spent += REQUEST_COST;
        Ok(Budget {
            remaining: budget.remaining - REQUEST_COST,
            ..budget
        })
    }

    pub(super) fn grade(&self, key: &GradeKey) -> Option<serde_json::Value> {
        self.grades.get(key).cloned()
    }

    pub(super) fn put_grade(&mut self, key: GradeKey, value: serde_json::Value) {
        if self.grades.insert(key.clone(), value).is_none() {
            self.grades_by_age.push_back(key);
        }
        if self.grades_by_age.len() > MAX_GRADES
            && let Some(oldest) = self.grades_by_age.pop_front()
        {
            self.grades.remove(&oldest);
        }
    }
}

impl Tokens for Store {
    fn number(&self, token: &str) -> Option<u64> {
        self.tokens.number(token)
    }

    fn stand_in(&self, text: &str) -> bool {
        self.tokens.stand_in(text)
            || self.grants.stand_in(text)
            || self.codes.stand_in(text)
            || self.secrets.iter().any(|secret| text.contains(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: Duration::from_secs(1_000_000 + seconds),
            boot: Duration::from_secs(1_000 + seconds),
        }
    }

    #[test]
    fn credits_run_out_and_come_back_with_the_next_minute() {
        let mut store = Store::new();
        assert_eq!(store.spend(20, at(0)).unwrap().remaining, 10);
        assert_eq!(store.spend(20, at(15)).unwrap().remaining, 0);
        assert_eq!(store.spend(20, at(15)).unwrap_err().reset_seconds, 45);
        assert_eq!(store.spend(20, at(60)).unwrap().remaining, 10);
    }

    #[test]
    fn an_assertion_is_used_once_while_it_lives() {
        let mut store = Store::new();
        let seconds = Duration::from_secs;
        assert!(store.use_assertion("a", seconds(60), seconds(0)));
        assert!(!store.use_assertion("a", seconds(60), seconds(59)));
        assert!(store.use_assertion("b", seconds(60), seconds(59)));
    }

    #[test]
    fn the_oldest_grades_make_room_for_new_ones() {
        let mut store = Store::new();
        let key = |number: usize| ("6606".to_owned(), "7".to_owned(), number.to_string());
        for number in 0..=MAX_GRADES {
            store.put_grade(key(number), number.into());
        }
        assert!(store.grade(&key(0)).is_none());
        assert!(store.grade(&key(1)).is_some());
        assert!(store.grade(&key(MAX_GRADES)).is_some());
    }
}
