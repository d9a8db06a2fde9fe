//! Takes a changed configuration over while serving: all of it or nothing.
//!
//! One task reads, decides and puts into force, one reload after the other. What makes it look: SIGHUP, `POST /-/reload`, and
//! every second the content of the files that the last reading named. A changed file counts when it has been the same twice:
//! half of one that is being written is no configuration.
//!
//! Whatever can fail comes first. Then the tokens, the workers, and what the admin sockets say follow in this order, and nothing
//! of it can fail. A request keeps the generation that it began with to its end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    State, changes, generation,
    keys::{self, SigningKeys},
};
use crate::{
    admin::{About, Addresses, Admin, Configuration, NotReloaded, Reason, ReloadProblem, Reloaded},
    clock::Clock,
    config::{self, Config, Inputs, LoadOptions, Loaded, Problem, Problems, Settings},
    proxy::{Proxy, ServerParams, listener::Switch},
    socket::Address,
    telemetry::LevelSwitch,
    token::Credential,
};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(1);

/// Who asks at the same time; further ones wait.
const QUEUE: usize = 16;

/// What came of a reload.
pub(super) type Outcome = Result<Reloaded, NotReloaded>;

/// Where reloads are asked for.
#[derive(Clone)]
pub(super) struct Orders {
    soon: Arc<Notify>,
    asked: mpsc::Sender<oneshot::Sender<Outcome>>,
}

/// Where they arrive.
pub(super) struct Inbox {
    soon: Arc<Notify>,
    asked: mpsc::Receiver<oneshot::Sender<Outcome>>,
}

/// Both ends.
pub(super) fn orders() -> (Orders, Inbox) {
    let soon = Arc::new(Notify::new());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let orders = Orders {
        soon: Arc::clone(&soon),
        asked: sender,
    };
    let inbox = Inbox {
        soon,
        asked: receiver,
    };
    (orders, inbox)
}

impl Orders {
    /// Asks for one and does not wait. One that is asked for during another follows it.
    pub(super) fn soon(&self) {
        self.soon.notify_one();
    }

    /// Asks for one and waits for what comes of it.
    pub(super) async fn now(&self) -> Outcome {
        let draining = || NotReloaded {
            reason: Reason::Draining,
            problems: Vec::new(),
        };
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).await.map_err(|_gone| draining())?;
        answered.await.unwrap_or_else(|_gone| Err(draining()))
    }
}

/// The configuration in force, and everything that follows from it.
pub(super) struct Reloader {
    pub(super) state: Arc<State>,
    pub(super) options: LoadOptions,
    pub(super) settings: Settings,
    pub(super) credentials: Vec<Arc<Credential>>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) switch: Switch,
    pub(super) admin: Arc<Admin>,
    pub(super) listen: Vec<Address>,
    pub(super) sockets: Addresses,
    pub(super) level: LevelSwitch,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watch: Watch,
    /// Earlier generations, as long as requests need them.
    pub(super) retired: Vec<Weak<Proxy>>,
}

/// The files that were read, and how far a change of theirs has come.
pub(super) struct Watch {
    /// As they were when a configuration was read from them last, whether it came into force or not.
    known: Inputs,
    /// As they were a moment ago, if that is something else.
    seen: Option<Inputs>,
}

impl Watch {
    pub(super) fn new(known: Inputs) -> Self {
        Self { known, seen: None }
    }

    /// Whether it is time to read the configuration again, with the files as they are `now`.
    fn is_due(&mut self, now: Inputs) -> bool {
        if now == self.known {
            self.seen = None;
            return false;
        }
        let is_settled = self.seen.as_ref() == Some(&now);
        self.seen = Some(now);
        is_settled
    }

    /// A configuration was read from these files.
    fn read(&mut self, inputs: Inputs) {
        *self = Self::new(inputs);
    }
}

impl Reloader {
    /// Until the drain begins.
    pub(super) async fn run(mut self, mut inbox: Inbox, drain: CancellationToken) {
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = inbox.soon.notified() => {
                    // It is in the log.
                    let _ = self.reload("SIGHUP").await;
                }
                Some(answer) = inbox.asked.recv() => {
                    let outcome = self.reload("POST /-/reload").await;
                    // Whoever asked may have gone.
                    let _ = answer.send(outcome);
                }
                _ = polls.tick() => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        self.forget_drained();
        let known = self.watch.known.clone();
        // Files may be on a network. A panic in there is a bug, and has been logged.
        let Ok(now) = spawn_blocking(move || known.reread()).await else {
            return;
        };
        if self.watch.is_due(now) {
            let _ = self.reload("a changed file").await;
        }
    }

    /// Reads the configuration and puts it into force, or says why not.
    async fn reload(&mut self, trigger: &'static str) -> Outcome {
        let (known, options) = (self.watch.known.clone(), self.options.clone());
        let read = spawn_blocking(move || (known.reread(), config::load(&options)));
        let outcome = match read.await {
            Ok((now, Ok(loaded))) => {
                // What is refused may name fewer files than what is in force.
                self.watch.read(loaded.inputs.clone().and(&now));
                self.take_over(loaded).await
            }
            Ok((now, Err(problems))) => {
                self.watch.read(problems.inputs().clone().and(&now));
                Err(invalid(&problems))
            }
            Err(_panicked) => Err(internal()),
        };
        match &outcome {
            Ok(reloaded) => log_success(trigger, reloaded),
            Err(why) => {
                self.admin.not_reloaded(why);
                log_failure(trigger, why);
            }
        }
        outcome
    }

    async fn take_over(&mut self, loaded: Loaded) -> Outcome {
        let obstacles = config::restart::needed(&self.settings, &loaded.settings);
        if !obstacles.is_empty() {
            return Err(NotReloaded {
                reason: Reason::NeedsRestart,
                problems: obstacles.iter().map(problem).collect(),
            });
        }
        let former = Arc::clone(&self.proxy);
        let reloaded = Reloaded {
            hash: loaded.settings.hash(),
            ..changes::between(
                &self.settings,
                &self.credentials,
                &former,
                &self.admin,
                &loaded,
            )
        };
        log_warnings(&loaded.warnings);

        let Config {
            server,
            admin,
            log,
            // It is what it was: another store is a restart.
            state: _,
            mut credentials,
            mut upstreams,
            revocations: _,
        } = loaded.config;
        generation::keep(&self.credentials, &mut credentials, &mut upstreams);
        let about = About {
            config_path: loaded.path,
            config_hash: reloaded.hash.clone(),
            listen: self.listen.clone(),
            admin: self.sockets.clone(),
            upstreams: generation::describe(&upstreams),
        };
        let configuration = Configuration::new(admin, about, self.clock.now().wall);
        // A key is published before it signs the first time, even if that is at once.
        let keys = SigningKeys::new(&credentials, Arc::clone(&self.clock));
        let former_keys = self.state.keys.swap(Arc::new(keys));
        let opened = generation::open(
            upstreams,
            &self.state.brokers,
            &self.proxy.upstreams,
            &self.clock,
        );
        let (upstreams, brokers) = opened.map_err(|_bug| {
            self.state.keys.store(former_keys);
            internal()
        })?;

        // Nothing fails from here on.
        brokers.enter();
        let proxy = Arc::new(Proxy {
            server: ServerParams {
                // Where 0 is configured, the number of cores may have become another one since.
                workers: former.server.workers,
                ..server
            },
            metrics: former.metrics.next(&generation::labels(&upstreams)),
            upstreams,
            clock: Arc::clone(&self.clock),
        });
        self.switch.hand_over(&proxy).await;
        let has_credential = |name: &str| credentials.iter().any(|known| *known.name == *name);
        proxy.metrics.forget_others(has_credential);
        // This task runs where the looks do.
        keys::watch_publications(
            &credentials,
            &self.credentials,
            &self.clock,
            &Handle::current(),
        );
        self.admin.reloaded(configuration);
        self.level.set(log.level);

        self.proxy = proxy;
        self.retired.push(Arc::downgrade(&former));
        self.settings = loaded.settings;
        self.credentials = credentials;
        self.watch.read(loaded.inputs);
        Ok(reloaded)
    }

    /// The last request of an earlier generation may have brought back series that were taken off.
    fn forget_drained(&mut self) {
        let before = self.retired.len();
        self.retired.retain(|proxy| proxy.strong_count() > 0);
        if self.retired.len() < before {
            let has_credential = |name: &str| {
                let mut known = self.credentials.iter();
                known.any(|known| *known.name == *name)
            };
            self.proxy.metrics.forget_others(has_credential);
            self.state.brokers.forget_others();
        }
    }
}

/// Says what works but deserves a look.
pub(super) fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!(
            event = "config_warning",
            code = %warning.code(),
            key = warning.key(),
            "{}",
            warning.what()
        );
    }
}

fn log_success(trigger: &'static str, reloaded: &Reloaded) {
    if reloaded.is_same() {
        tracing::info!(
            event = "config_reloaded",
            trigger,
            hash = reloaded.hash,
            "the configuration was read again, and nothing differs"
        );
        return;
    }
    let names = |names: &[String]| (!names.is_empty()).then(|| names.join(" "));
    let (upstreams, credentials) = (&reloaded.upstreams, &reloaded.credentials);
    tracing::info!(
        event = "config_reloaded",
        trigger,
        hash = reloaded.hash,
        upstreams_added = names(&upstreams.added),
        upstreams_removed = names(&upstreams.removed),
        upstreams_changed = names(&upstreams.changed),
        credentials_added = names(&credentials.added),
        credentials_removed = names(&credentials.removed),
        credentials_changed = names(&credentials.changed),
        settings = names(&reloaded.settings),
        "the new configuration is in force"
    );
}

fn log_failure(trigger: &'static str, why: &NotReloaded) {
    let problems: Vec<String> = why.problems.iter().map(ToString::to_string).collect();
    tracing::error!(
        event = "config_reload_failed",
        trigger,
        problems = problems.join("; "),
        hint = "`bursar check --offline` shows each problem with its line and its remedy",
        "{}",
        why.reason.as_str()
    );
}

fn invalid(problems: &Problems) -> NotReloaded {
    NotReloaded {
        reason: Reason::Invalid,
        problems: problems.errors().map(problem).collect(),
    }
}

fn internal() -> NotReloaded {
    NotReloaded {
        reason: Reason::Internal,
        problems: Vec::new(),
    }
}

fn problem(problem: &Problem) -> ReloadProblem {
    ReloadProblem {
        code: problem.code().to_string(),
        key: problem.key().to_owned(),
        place: problem.place().to_string(),
        what: problem.what().to_owned(),
        help: problem.help().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_changed_file_counts_when_it_has_been_the_same_twice_and_once_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bursar.toml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        write("whole");
        let options = LoadOptions {
            file: Some(path.clone()),
            ..LoadOptions::default()
        };
        let read = || config::load(&options).err().unwrap().inputs().clone();
        let mut watch = Watch::new(read());
        let look = |watch: &mut Watch| {
            let now = watch.known.reread();
            watch.is_due(now)
        };
        assert!(!look(&mut watch));

        write("half");
        assert!(!look(&mut watch));
        write("half and half");
        assert!(!look(&mut watch));
        assert!(look(&mut watch));
        watch.read(read());
        assert!(!look(&mut watch));
        assert!(!look(&mut watch));

        write("half");
        assert!(!look(&mut watch));
        write("half and half");
        assert!(!look(&mut watch));
        assert!(!look(&mut watch));
    }
}
