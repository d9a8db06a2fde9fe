//! A credential, its store, its clocks, and an authorization server that rotates and notices a refresh token that comes twice.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderMap;
use prometheus::{Registry, TextEncoder};
use tokio::sync::watch;

use super::super::{Custodian, Custody, Redeem, fate::Fate};
use crate::{
    clock::{Clock, ManualClock},
    dial::{Dialer, Origin, Way},
    oauth::{
        Answer, Cause, ClientAuth, ClientParams, Failure, Grant, Injection, LoginGrant, OAuthError,
        ScopeSource, TokenRequest, TokenSource,
        authorization::{AuthorizationParams, RedirectUri},
    },
    scope::ScopeSet,
    secret::{ExposeSecret as _, SecretString},
    store::{Granted, KeyFile, Record, Store, StoreKey, StoreMetrics, StoreParams, Version},
    token::{LoginParams, RefreshRules, TokenMetrics},
};

/// What the authorization server does with one token request. Without a step it rotates.
#[derive(Clone)]
pub(super) enum Step {
    /// Rotates, and says so.
    Rotate,
    /// Gives an access token and no refresh token: the old one goes on.
    Keep,
    /// As `Rotate`, with this `refresh_token_expires_in`.
    Rolled(u64),
    /// Does nothing, and says this.
    Refuse(Cause),
    /// Rotates, but this is all that is heard of it.
    Lose(Cause),
    /// A bug in the code that makes token requests.
    Panic,
}

/// The authorization server.
pub(super) struct As {
    steps: Mutex<VecDeque<Step>>,
    state: Mutex<Issued>,
    called: watch::Sender<usize>,
    gate: watch::Sender<bool>,
}

struct Issued {
    /// The one refresh token that is good.
    current: String,
    number: usize,
    /// What was presented, in order.
    presented: Vec<String>,
    /// Of that, what may be spent by it.
    spent: Vec<String>,
    scopes: Vec<Option<ScopeSet>>,
}

impl As {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            state: Mutex::new(Issued {
                current: "r1".to_owned(),
                number: 1,
                presented: Vec::new(),
                spent: Vec::new(),
                scopes: Vec::new(),
            }),
            called: watch::Sender::new(0),
            gate: watch::Sender::new(true),
        })
    }

    pub(super) fn presented(&self) -> Vec<String> {
        self.state.lock().unwrap().presented.clone()
    }

    /// What was presented and may have been spent by it, in order.
    pub(super) fn spent(&self) -> Vec<String> {
        self.state.lock().unwrap().spent.clone()
    }

    /// From now on this is what comes next.
    pub(super) fn now(&self, steps: impl IntoIterator<Item = Step>) {
        *self.steps.lock().unwrap() = steps.into_iter().collect();
    }

    pub(super) fn scopes(&self) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        let texts = state.scopes.iter();
        texts
            .map(|scopes| scopes.as_ref().map(ScopeSet::to_string))
            .collect()
    }

    /// The refresh token that it would accept.
    pub(super) fn current(&self) -> String {
        self.state.lock().unwrap().current.clone()
    }

    /// From now on it accepts this one: somebody has logged in.
    pub(super) fn accept(&self, token: &str) {
        self.state.lock().unwrap().current = token.to_owned();
    }

    pub(super) fn close_gate(&self) {
        self.gate.send_replace(false);
    }

    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until there have been `count` token requests.
    pub(super) async fn called(&self, count: usize) {
        let mut called = self.called.subscribe();
        called.wait_for(|calls| *calls >= count).await.unwrap();
    }

    fn rotate(&self, presented: &str, renews: bool) -> Result<Answer, Failure> {
        let mut state = self.state.lock().unwrap();
        if state.current != presented {
            return Err(Cause::Rejected(OAuthError::InvalidGrant).into());
        }
        state.number += 1;
        let number = state.number;
        if renews {
            state.current = format!("r{number}");
        }
        Ok(Answer {
            injection: Injection::bearer(&SecretString::from(format!("a{number}"))).unwrap(),
            expires_in: Some(Duration::from_secs(3_600)),
            granted: None,
            refresh_token: renews.then(|| SecretString::from(state.current.as_str())),
            refresh_expires_in: None,
            kept_for: None,
            account: None,
            skew_seconds: None,
        })
    }
}

impl Redeem for Arc<As> {
    async fn redeem(&self, grant: &LoginGrant, request: &TokenRequest) -> Result<Answer, Failure> {
        let LoginGrant::RefreshToken(token) = grant else {
            panic!("a rotation presents refresh tokens");
        };
        let token = token.expose_secret().to_owned();
        {
            let mut state = self.state.lock().unwrap();
            state.presented.push(token.clone());
            state.scopes.push(request.scopes.clone());
        }
        self.called.send_modify(|calls| *calls += 1);
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let step = self.steps.lock().unwrap().pop_front();
        let step = step.unwrap_or(Step::Rotate);
        let is_spent = match &step {
            Step::Refuse(cause) => Fate::of(&cause.clone().into()) != Fate::Unspent,
            step => !matches!(step, Step::Keep),
        };
        if is_spent {
            self.state.lock().unwrap().spent.push(token.clone());
        }
        match step {
            Step::Rotate => self.rotate(&token, true),
            Step::Keep => self.rotate(&token, false),
            Step::Rolled(seconds) => Ok(Answer {
                refresh_expires_in: Some(Duration::from_secs(seconds)),
                account: None,
                ..self.rotate(&token, true)?
            }),
            Step::Refuse(cause) => Err(cause.into()),
            Step::Lose(cause) => {
                self.rotate(&token, true)?;
                Err(cause.into())
            }
            Step::Panic => panic!("a bug, as scripted"),
        }
    }
}

/// As Brightspace has them.
pub(super) const SINGLE_USE: RefreshRules = RefreshRules {
    is_reusable: false,
    reuse_grace: Duration::ZERO,
    names_scopes: true,
};

/// The same with a grace.
pub(super) const WITH_GRACE: RefreshRules = RefreshRules {
    reuse_grace: Duration::from_secs(60),
    ..SINGLE_USE
};

/// As Canvas has them.
pub(super) const REUSABLE: RefreshRules = RefreshRules {
    is_reusable: true,
    names_scopes: false,
    ..SINGLE_USE
};

/// One process.
pub(super) struct Bench {
    pub(super) server: Arc<As>,
    pub(super) custody: Arc<Custody<Arc<As>>>,
    pub(super) custodian: Arc<Custodian>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) place: Arc<tempfile::TempDir>,
    rules: RefreshRules,
    registry: Registry,
}

impl Bench {
    /// Somebody has logged in: `r1` is stored.
    pub(super) async fn start(rules: RefreshRules, steps: impl IntoIterator<Item = Step>) -> Self {
        let bench = Self::empty(rules, steps);
        bench.log_in("first", "r1").await;
        bench
    }

    /// Nobody has logged in.
    pub(super) fn empty(rules: RefreshRules, steps: impl IntoIterator<Item = Step>) -> Self {
        let place = Arc::new(tempfile::tempdir().unwrap());
        Self::process(rules, As::new(steps), place, Arc::new(ManualClock::new()))
    }

    /// One more process with the same store.
    pub(super) fn another(&self) -> Self {
        Self::process(
            self.rules,
            Arc::clone(&self.server),
            Arc::clone(&self.place),
            Arc::clone(&self.clock),
        )
    }

    fn process(
        rules: RefreshRules,
        server: Arc<As>,
        place: Arc<tempfile::TempDir>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let registry = Registry::new();
        let params = StoreParams::File {
            directory: place.path().join("state"),
            key_file: KeyFile::Own {
                path: place.path().join("config/state.key"),
            },
        };
        let store = Store::new(&params, Arc::new(StoreMetrics::new(&registry).unwrap()));
        let metrics = Arc::new(TokenMetrics::new(&registry).unwrap());
        let _children = metrics.credential("d2l");
        let custodian = Custodian::new(store, clock.clone(), metrics);
        let custody = Custody::new(
            &custodian,
            Arc::clone(&server),
            &"d2l".into(),
            &login_params(rules),
            Duration::from_secs(300),
        );
        Self {
            server,
            custody: Arc::new(custody),
            custodian,
            clock,
            place,
            rules,
            registry,
        }
    }

    pub(super) fn key(&self) -> StoreKey {
        login_params(self.rules).store_key(&"d2l".into(), None)
    }

    /// As `bursar login` does it.
    pub(super) async fn log_in(&self, login: &str, token: &str) {
        let record = Record {
            version: Version::first(login.to_owned()),
            granted: Granted::RefreshToken {
                token: SecretString::from(token),
                expires: None,
            },
            access: None,
            scopes: Some("a b".to_owned()),
            account: Some("ann".to_owned()),
            intent: None,
            refused: None,
        };
        self.put(&record).await;
    }

    /// Replaces the record, under its lock.
    pub(super) async fn put(&self, record: &Record) {
        let guard = self.custodian.store.lock(&self.key()).await.unwrap();
        guard.replace(record).await.unwrap();
    }

    /// What is on the disk.
    pub(super) async fn stored(&self) -> Record {
        let stored = self.custodian.store.read(&self.key()).await.unwrap();
        stored.expect("there is a record")
    }

    /// The refresh token on the disk.
    pub(super) async fn stored_token(&self) -> String {
        match self.stored().await.granted {
            Granted::RefreshToken { token, .. } => token.expose_secret().to_owned(),
            Granted::UserKey { .. } => panic!("no user key was stored"),
        }
    }

    pub(super) fn file(&self, extension: &str) -> PathBuf {
        let files = std::fs::read_dir(self.place.path().join("state")).unwrap();
        let mut files = files.map(|entry| entry.unwrap().path());
        files
            .find(|path| path.extension().is_some_and(|found| found == extension))
            .unwrap()
    }

    pub(super) fn request(&self, scopes: &str) -> TokenRequest {
        TokenRequest {
            scopes: Some(ScopeSet::parse(scopes).unwrap()),
            subject: None,
            now: self.clock.now(),
            skew_seconds: 0.0,
            is_forced: false,
        }
    }

    /// One token request of one who wants `a b`: the access token, in text.
    pub(super) async fn token(&self) -> Result<String, Cause> {
        self.token_for("a b").await
    }

    pub(super) async fn token_for(&self, scopes: &str) -> Result<String, Cause> {
        let outcome = self.custody.request(self.request(scopes)).await;
        outcome
            .map(|answer| text(&answer))
            .map_err(|failure| failure.cause)
    }

    /// Begins a token request that somebody may stop to wait for.
    pub(super) fn begin(&self) -> tokio::task::JoinHandle<Result<Answer, Failure>> {
        let custody = Arc::clone(&self.custody);
        let request = self.request("a b");
        tokio::spawn(async move { custody.request(request).await })
    }

    pub(super) fn sample(&self, name: &str) -> Option<String> {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(str::to_owned)
    }

    pub(super) fn rotations(&self, result: &str) -> u32 {
        let name = format!(
            "bursar_refresh_token_rotations_total{{credential=\"d2l\",result=\"{result}\"}}"
        );
        self.sample(&name).unwrap().parse().unwrap()
    }
}

pub(super) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.injection.secret().to_vec()).unwrap()
}

fn login_params(rules: RefreshRules) -> LoginParams {
    let timeout = Duration::from_secs(10);
    LoginParams {
        client: ClientParams {
            client_id: "me".to_owned(),
            grant: Grant::Login,
            auth: ClientAuth::None,
            dialer: Dialer {
                origin: Origin {
                    tls: true,
                    host: "as.test".into(),
                    port: 443,
                },
                tls: None,
                timeout,
                way: Way::Direct,
            },
            token_path: "/token".parse().unwrap(),
            token_params: Vec::new(),
            token_headers: HeaderMap::new(),
            timeout,
            dialect: crate::oauth::Dialect::Standard,
            scope_source: ScopeSource::Answer,
            key_set: None,
        },
        authorization: AuthorizationParams {
            authorize_url: "https://as.test/authorize".parse().unwrap(),
            redirect_uri: RedirectUri::parse("http://127.0.0.1:0/callback").unwrap(),
            issuer: None,
            pkce: true,
            relay_parameter: None,
        },
        refresh: rules,
    }
}
