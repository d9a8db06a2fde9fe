//! The composition root: a valid configuration becomes a running bursar.
//!
//! Straight down: metrics, sockets, tokens, upstreams, threads. Each worker has a thread and a runtime of its own; one more
//! thread does the control work (token requests, admin sockets), so that a slow authorization server never sits on a worker.

mod changes;
mod generation;
mod keys;
mod reload;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{
        self, About, Admin, AdminError, AdminState, Configuration, CurrentKeys, Phase, Reloading,
    },
    clock::Clock,
    config::Loaded,
    keys::KeyView,
    proxy::{
        Proxy,
        listener::{Listeners, Switch, bind, serve},
        metrics::ProxyMetrics,
    },
    socket::Address,
    store::{Store, StoreMetrics},
    telemetry::LogHandle,
    tls,
    token::{Brokers, Readiness, Rotations, TokenMetrics, TokenView},
};
use keys::SigningKeys;
use reload::{Orders, Reloader, Watch};

/// Starts a bursar.
#[derive(Debug)]
pub struct App;

/// A bursar that serves. Dropping it leaves it running until the process ends; see [`shutdown`](Self::shutdown).
pub struct Running {
    addresses: Addresses,
    stop: Stop,
    orders: Orders,
    workers: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    rotations: Arc<Rotations>,
}

/// Where a bursar listens; a port of 0 has become the one that the system chose.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `server.listen`, then those of the upstreams that have one.
    pub proxy: Vec<Address>,
    /// `admin.listen`.
    pub admin: SocketAddr,
    /// `admin.control`.
    pub control: Address,
    /// `admin.jwks_listen`.
    pub jwks: Option<SocketAddr>,
}

/// Why a bursar could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A socket of the proxy could not be bound.
    #[error("cannot listen for applications (server.listen, or listen of an upstream)")]
    Listen(#[source] io::Error),
    /// A socket of the admin could not be bound.
    #[error("cannot listen for probes or control")]
    Admin(#[from] admin::BindError),
    /// The system gives no thread or no runtime.
    #[error("the system gives no thread")]
    Thread(#[source] io::Error),
    /// The admin sockets have nothing to answer from: a bug.
    #[error("the admin sockets cannot be set up")]
    State(#[from] AdminError),
    /// Two metric families share a name: a bug.
    #[error("the metrics do not fit together")]
    Metrics(#[from] prometheus::Error),
    /// The policy that the configuration was checked with does not build again: a bug.
    #[error("the policy of upstream {0} cannot be built")]
    Policy(Arc<str>),
}

/// The three steps of the end.
#[derive(Clone, Default)]
struct Stop {
    /// Begins the drain.
    drain: CancellationToken,
    /// Ends the workers at once.
    abort: CancellationToken,
    /// Ends the control thread, when the workers are gone.
    finish: CancellationToken,
}

impl App {
    /// Binds every socket, then starts the threads. Asks for the warm tokens in the background: an authorization server or
    /// LMS that is down never stops the start.
    ///
    /// # Errors
    ///
    /// [`AppError`]; then nothing has been left running.
    pub fn start(
        loaded: Loaded,
        clock: Arc<dyn Clock>,
        log: LogHandle,
    ) -> Result<Running, AppError> {
        let config = loaded.config;
        let registry = Registry::new();
        let token_metrics = Arc::new(TokenMetrics::new(&registry)?);
        let control = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AppError::Thread)?;
        // The crypto library's slow first work, off the path to the first request.
        control.spawn_blocking(tls::warm_up);

        let brokers = Arc::new(Brokers::new(
            control.handle().clone(),
            Arc::clone(&clock),
            token_metrics,
            Store::new(&config.state, Arc::new(StoreMetrics::new(&registry)?)),
        ));
        let rotations = brokers.rotations();
        let about_upstreams = generation::describe(&config.upstreams);
        let (upstreams, generation) = generation::open(config.upstreams, &brokers, &[], &clock)?;
        generation.enter();
        let (mut listeners, proxy_addresses) =
            bind(&config.server, &upstreams).map_err(AppError::Listen)?;
        let switch = Switch::new(&mut listeners);
        let admin_listeners = admin::bind(&config.admin)?;
        let admin_addresses = admin_listeners.addresses().clone();

        let metrics = ProxyMetrics::new(&registry, &generation::labels(&upstreams))?;
        let stop = Stop::default();
        // A start that fails half-way leaves no worker behind.
        let unwind = stop.abort.clone().drop_guard();
        let (orders, inbox) = reload::orders();
        let state = Arc::new(State {
            brokers,
            keys: ArcSwap::from_pointee(SigningKeys::new(&config.credentials, Arc::clone(&clock))),
            serving: AtomicBool::new(false),
            drain: stop.drain.clone(),
            orders: orders.clone(),
        });
        keys::watch_publications(&config.credentials, &[], &clock, control.handle());
        let about = About {
            config_path: loaded.path,
            config_hash: loaded.settings.hash(),
            listen: proxy_addresses.clone(),
            admin: admin_addresses.clone(),
            upstreams: about_upstreams,
        };
        let admin = Admin::new(
            Configuration::new(config.admin, about, clock.now().wall),
            Arc::clone(&state) as Arc<dyn AdminState>,
            registry,
            log.drops,
            Arc::clone(&clock),
        )?;

        let proxy = Arc::new(Proxy {
            server: config.server,
            upstreams,
            metrics,
            clock: Arc::clone(&clock),
        });
        let reloader = Reloader {
            state: Arc::clone(&state),
            options: loaded.options,
            settings: loaded.settings,
            credentials: config.credentials,
            proxy: Arc::clone(&proxy),
            switch,
            admin: Arc::clone(&admin),
            listen: proxy_addresses.clone(),
            sockets: admin_addresses.clone(),
            level: log.level,
            clock,
            watch: Watch::new(loaded.inputs),
            retired: Vec::new(),
        };
        let workers = listeners
            .into_iter()
            .enumerate()
            .map(|(number, listeners)| {
                start_worker(number, Arc::clone(&proxy), listeners, stop.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        state.serving.store(true, Ordering::Release);
        control.spawn(reloader.run(inbox, stop.drain.clone()));
        let control = start_control(
            control,
            admin,
            admin_listeners,
            stop.clone(),
            Arc::clone(&rotations),
        )?;
        unwind.disarm();
        Ok(Running {
            addresses: Addresses {
                proxy: proxy_addresses,
                admin: admin_addresses.listen,
                control: admin_addresses.control,
                jwks: admin_addresses.jwks_listen,
            },
            stop,
            orders,
            workers,
            control,
            rotations,
        })
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Begins the drain: no new connections, requests in flight are finished, `/readyz` says no.
    pub fn shutdown(&self) {
        self.stop.drain.cancel();
    }

    /// Reads the configuration again, soon, and puts all of it into force or nothing. What came of it is in the log, in the
    /// metrics and in the status.
    pub fn reload(&self) {
        self.orders.soon();
    }

    /// Ready when the drain begins, whoever began it.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.drain.clone().cancelled_owned()
    }

    /// The rotations of refresh tokens under way. However short the end is cut, the process waits for these: a login may hang on it.
    #[must_use]
    pub fn rotations(&self) -> Arc<Rotations> {
        Arc::clone(&self.rotations)
    }

    /// Waits until the drain has come to its end, or to its deadline.
    pub fn join(self) {
        for worker in self.workers {
            // A worker that panicked has been logged by the panic hook; the others are waited for all the same.
            let _ = worker.join();
        }
        self.stop.finish.cancel();
        let _ = self.control.join();
    }

    /// Ends it without a drain: requests in flight are cut off.
    pub fn abort(self) {
        self.stop.drain.cancel();
        self.stop.abort.cancel();
        self.join();
    }
}

fn start_worker(
    number: usize,
    proxy: Arc<Proxy>,
    listeners: Listeners,
    stop: Stop,
) -> Result<JoinHandle<()>, AppError> {
    let (ready, made) = std::sync::mpsc::sync_channel(1);
    let worker = thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            // A `LocalRuntime` cannot move between threads: it is made on its own, and what came of it is told.
            let runtime: io::Result<LocalRuntime> = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
                Ok(runtime) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(async {
                        tokio::select! {
                            () = serve(proxy, listeners, stop.drain) => {}
                            () = stop.abort.cancelled() => {}
                        }
                    });
                    // A name that is still being resolved holds up nobody.
                    runtime.shutdown_background();
                }
            }
        })
        .map_err(AppError::Thread)?;
    match made.recv() {
        Ok(Ok(())) => Ok(worker),
        Ok(Err(error)) => Err(AppError::Thread(error)),
        Err(_gone) => Err(AppError::Thread(io::Error::other(
            "a worker ended before it began",
        ))),
    }
}

fn start_control(
    runtime: Runtime,
    admin: Arc<Admin>,
    listeners: admin::Listeners,
    stop: Stop,
    rotations: Arc<Rotations>,
) -> Result<JoinHandle<()>, AppError> {
    let run = move || {
        let finish = stop.finish.clone();
        if let Err(error) = runtime.block_on(admin::serve(admin, listeners, stop.finish)) {
            tracing::error!(
                event = "admin_failed",
                error = &error as &dyn std::error::Error,
                "the admin sockets do not work"
            );
            // Tokens are renewed here too, and without them no request leaves.
            runtime.block_on(finish.cancelled());
        }
        runtime.block_on(rotations.finish());
        // Other token requests under way are of no use to anybody now.
        runtime.shutdown_background();
    };
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(run)
        .map_err(AppError::Thread)
}

/// What the admin sockets ask of the whole.
struct State {
    brokers: Arc<Brokers>,
    keys: ArcSwap<SigningKeys>,
    serving: AtomicBool,
    drain: CancellationToken,
    orders: Orders,
}

impl AdminState for State {
    fn phase(&self) -> Phase {
        if self.drain.is_cancelled() {
            Phase::Draining
        } else if self.serving.load(Ordering::Acquire) {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }

    fn readiness(&self) -> Readiness {
        self.brokers.readiness()
    }

    fn tokens(&self) -> Vec<TokenView> {
        self.brokers.views()
    }

    fn key_set(&self) -> CurrentKeys {
        self.keys.load().key_set()
    }

    fn signing_keys(&self) -> Vec<KeyView> {
        self.keys.load().views()
    }

    fn drain(&self) {
        self.drain.cancel();
    }

    fn reload(&self) -> Reloading<'_> {
        Box::pin(self.orders.now())
    }
}
