//! The connections of one worker to one upstream: how many, which one next, and for how long.
//!
//! Those of HTTP/1.1 carry one request each. The one used last is used next, so that a quiet time
//! lets the others grow old and close. Those of HTTP/2 are [`shared`]. Both together never exceed the
//! ceiling. Who finds no connection opens one, or waits in line: because there are as many as may be, or
//! because one is being opened that will carry this request too.

mod shared;

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    connection::Connection, error::UpstreamError, http2, idle::later, metrics::UpstreamMetrics,
};
use crate::clock::Clock;
use shared::Shared;
pub(super) use shared::Stream;

pub(super) struct Pool {
    max: usize,
    idle_timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: UpstreamMetrics,
    state: RefCell<State>,
}

/// Which version of HTTP the LMS is known to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Nobody knows: one connection will tell.
    #[default]
    Unknown,
    /// HTTP/1.1: each request needs a connection of its own.
    Http1,
    /// HTTP/2, and as many requests at once on one connection.
    Http2(usize),
}

/// What a request can go out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Any connection.
    Any,
    /// One of its own: it asks to switch protocols, and HTTP/2 has no such thing (RFC 9113 section 8.6).
    Own,
}

type Line = VecDeque<oneshot::Sender<Lease>>;

#[derive(Default)]
struct State {
    is_closed: bool,
    speaks: Speaks,
    /// Leases that may have a connection of their own.
    active: usize,
    /// Those of them of which one is being opened that others wait for.
    opening: usize,
    /// How many more may open one, though others are being opened.
    rush: usize,
    /// The one used last stands at the end.
    idle: Vec<Idle>,
    shared: Vec<Rc<Shared>>,
    waiters: Line,
    /// Those who want one of their own, and must not keep the others from sharing.
    waiters_for_own: Line,
    reaper: Option<AbortHandle>,
}

struct Idle {
    connection: Connection,
    until: Instant,
    /// The same by the boot clock, which goes on while the machine is suspended. Whatever stands between
    /// us and the LMS has forgotten the connection by then: a request on it would only time out.
    until_boot: Duration,
}

impl Idle {
    fn is_usable(&self, now: Now) -> bool {
        now.instant < self.until && now.boot < self.until_boot && self.connection.is_ready()
    }
}

/// One reading of the clock of the timers and of the boot clock.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    boot: Duration,
}

impl Pool {
    /// At most `max` (at least 1) connections; idle ones are closed after `idle_timeout`.
    pub(super) fn new(
        max: usize,
        idle_timeout: Duration,
        speaks: Speaks,
        clock: Arc<dyn Clock>,
        metrics: UpstreamMetrics,
    ) -> Rc<Self> {
        let state = State {
            speaks,
            ..State::default()
        };
        Rc::new(Self {
            max: max.max(1),
            idle_timeout,
            clock,
            metrics,
            state: RefCell::new(state),
        })
    }

    /// The right to one connection, with an idle one on it if there is any, or a place on a shared one.
    ///
    /// # Errors
    ///
    /// [`Late`] when there is none before `deadline`.
    pub(super) async fn acquire(
        pool: &Rc<Self>,
        want: Want,
        deadline: Instant,
    ) -> Result<Lease, Late> {
        if let Some(lease) = Self::try_acquire(pool, want) {
            return Ok(lease);
        }
        let lease = Self::wait(pool, want);
        match timeout_at(deadline, lease).await {
            Ok(Ok(lease)) => Ok(lease),
            _ if pool.state.borrow().is_full(pool.max) => Err(Late::Saturated),
            _ => Err(Late::Opening),
        }
    }

    /// Closes the idle connections, and from now on every other one as its exchange ends.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.is_closed = true;
        self.metrics.idle().sub(gauge(state.idle.len()));
        state.idle.clear();
        if let Some(reaper) = state.reaper.take() {
            reaper.abort();
        }
        drop(state);
        self.retire_shared();
    }

    /// The LMS has been found to speak this version.
    pub(super) fn learn(&self, speaks: Speaks) {
        self.state.borrow_mut().speaks = speaks;
    }

    /// Lets go of the idle connections that the LMS has closed.
    pub(super) fn forget_closed(&self) {
        self.retain(|idle| idle.connection.is_ready());
    }

    fn try_acquire(pool: &Rc<Self>, want: Want) -> Option<Lease> {
        let mut state = pool.state.borrow_mut();
        if want == Want::Any
            && let Some(stream) = Self::try_share(pool, &state.shared)
        {
            return Some(Lease::Link(Link::Shared(stream)));
        }
        let connection = pool.pop(&mut state);
        let mut is_opening = false;
        if connection.is_none() {
            if state.is_full(pool.max) && !(want == Want::Own && pool.drop_idle(&mut state)) {
                return None;
            }
            is_opening = want == Want::Any && state.speaks != Speaks::Http1;
            if is_opening && !pool.may_open(&mut state) {
                return None;
            }
        }
        state.active += 1;
        state.opening += usize::from(is_opening);
        pool.metrics.active().inc();
        let slot = Slot {
            pool: Rc::clone(pool),
            is_opening,
        };
        Some(match connection {
            Some(connection) => Lease::Link(Link::Own(Own { connection, slot })),
            None => Lease::Right(Right(slot)),
        })
    }

    fn wait(pool: &Rc<Self>, want: Want) -> oneshot::Receiver<Lease> {
        let (sender, receiver) = oneshot::channel();
        let mut state = pool.state.borrow_mut();
        let line = state.line(want);
        // They leave in about the order in which they came, so this keeps the line short.
        while line.front().is_some_and(oneshot::Sender::is_closed) {
            line.pop_front();
        }
        line.push_back(sender);
        receiver
    }

    /// Gives what has become free to those who wait for it.
    fn serve_waiters(pool: &Rc<Self>) {
        Self::serve_line(pool, Want::Own);
        Self::serve_line(pool, Want::Any);
    }

    fn serve_line(pool: &Rc<Self>, want: Want) {
        loop {
            let waiter = loop {
                match pool.state.borrow_mut().line(want).pop_front() {
                    Some(waiter) if waiter.is_closed() => {}
                    Some(waiter) => break waiter,
                    None => return,
                }
            };
            let Some(lease) = Self::try_acquire(pool, want) else {
                pool.state.borrow_mut().line(want).push_front(waiter);
                return;
            };
            // One that has left in this moment drops the lease, which comes back here.
            drop(waiter.send(lease));
        }
    }

    /// Whether one more connection may be opened for those who wait, one of whom asks.
    fn may_open(&self, state: &mut State) -> bool {
        if state.rush > 0 {
            state.rush -= 1;
            return true;
        }
        let streams = match state.speaks {
            Speaks::Http2(streams) => streams.max(1),
            // The first one tells.
            Speaks::Unknown | Speaks::Http1 => return state.opening == 0,
        };
        let now = self.now();
        let shared = state.shared.iter();
        let promised = shared.map(|shared| shared.promises(streams, now, self.idle_timeout));
        let coming = state
            .opening
            .saturating_mul(streams)
            .saturating_add(promised.sum());
        coming <= state.waiters.len()
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            boot: self.clock.now().boot,
        }
    }

    fn pop(&self, state: &mut State) -> Option<Connection> {
        let now = self.now();
        while let Some(idle) = state.idle.pop() {
            self.metrics.idle().dec();
            if idle.is_usable(now) {
                return Some(idle.connection);
            }
        }
        None
    }

    fn push(pool: &Rc<Self>, connection: Connection) {
        let now = pool.now();
        let until = later(now.instant, pool.idle_timeout).min(connection.retire_at());
        let left = until.saturating_duration_since(now.instant);
        let idle = Idle {
            until,
            until_boot: now.boot.saturating_add(left),
            connection,
        };
        let mut state = pool.state.borrow_mut();
        if state.is_closed || !idle.is_usable(now) {
            return;
        }
        state.idle.push(idle);
        pool.metrics.idle().inc();
        drop(state);
        Self::start_reaper(pool);
    }

    fn start_reaper(pool: &Rc<Self>) {
        let mut state = pool.state.borrow_mut();
        if state.reaper.is_none() && !state.is_closed {
            state.reaper = Some(Self::spawn_reaper(pool));
        }
    }

    /// One timer for all idle connections; it ends when there are none.
    fn spawn_reaper(pool: &Rc<Self>) -> AbortHandle {
        let pool = Rc::downgrade(pool);
        tokio::task::spawn_local(async move {
            while let Some(next) = pool.upgrade().and_then(|pool| pool.reap()) {
                sleep_until(next).await;
            }
        })
        .abort_handle()
    }

    /// Closes what has been idle for too long, and tells when to look again.
    ///
    /// A shared connection with requests on it may become idle right after.
    fn reap(&self) -> Option<Instant> {
        let now = self.now();
        self.retain(|idle| idle.is_usable(now));
        self.drop_unusable();
        let mut state = self.state.borrow_mut();
        let shared = state.shared.iter();
        let shared = shared.map(|shared| shared.until(now.instant, self.idle_timeout));
        let next = state.idle.iter().map(|idle| idle.until).chain(shared).min();
        if next.is_none() {
            state.reaper = None;
        }
        next
    }

    fn retain(&self, keep: impl FnMut(&Idle) -> bool) {
        let mut state = self.state.borrow_mut();
        let before = state.idle.len();
        state.idle.retain(keep);
        self.metrics.idle().sub(gauge(before - state.idle.len()));
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl State {
    const fn line(&mut self, want: Want) -> &mut Line {
        match want {
            Want::Any => &mut self.waiters,
            Want::Own => &mut self.waiters_for_own,
        }
    }

    fn is_full(&self, max: usize) -> bool {
        self.active + self.shared.len() >= max
    }
}

/// Why there is no connection in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// All are in use.
    Saturated,
    /// The one that was waited for is not open yet.
    Opening,
}

/// What a request gets of the pool. Dropping it gives it back.
pub(super) enum Lease {
    /// The right to open a connection.
    Right(Right),
    /// A connection.
    Link(Link),
}

/// A connection, as one request has it.
pub(super) enum Link {
    /// All of it.
    Own(Own),
    /// A place on it.
    Shared(Stream),
}

/// The right to one connection of the pool that is not open yet. Dropping it passes the right on.
pub(super) struct Right(Slot);

/// A connection of the pool that nobody else uses. Dropping it closes the connection.
pub(super) struct Own {
    // It goes first, so that the ceiling holds.
    connection: Connection,
    slot: Slot,
}

impl Right {
    /// A connection has been opened, and carries one request at a time.
    pub(super) fn put(mut self, connection: Connection) -> Own {
        self.0.opened_for_one();
        Own {
            connection,
            slot: self.0,
        }
    }

    /// A connection has been opened, and others may share it.
    pub(super) fn share(self, connection: http2::Connection, retire_at: Instant) -> Stream {
        Pool::share(&self.0.pool, connection, retire_at)
    }

    /// None could be opened. Those who waited for it try themselves: they may fare better, and if not,
    /// each learns why at once.
    pub(super) fn could_not_open(self) {
        if self.0.is_opening {
            let mut state = self.0.pool.state.borrow_mut();
            state.rush = state.waiters.len();
        }
    }
}

impl Own {
    pub(super) const fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Closes the connection. An idle one takes its place, if there is any and that is `wanted`.
    pub(super) fn replace(self, wanted: bool) -> Lease {
        let Self { connection, slot } = self;
        drop(connection);
        let pool = &slot.pool;
        let idle = if wanted {
            pool.pop(&mut pool.state.borrow_mut())
        } else {
            None
        };
        match idle {
            Some(connection) => Lease::Link(Link::Own(Self { connection, slot })),
            None => Lease::Right(Right(slot)),
        }
    }
}

impl Link {
    /// Whether others use the same connection.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Ends it after a whole exchange: the connection stays open if it can serve another one.
    pub(super) fn give_back(self) {
        if let Self::Own(Own { connection, slot }) = self {
            Pool::push(&slot.pool, connection);
        }
    }

    /// Ends it after an exchange that broke off.
    pub(super) fn fail(self, error: &UpstreamError) {
        let pool = match &self {
            Self::Own(own) => &own.slot.pool,
            Self::Shared(stream) => stream.pool(),
        };
        pool.metrics.failed(error);
    }
}

struct Slot {
    pool: Rc<Pool>,
    is_opening: bool,
}

impl Slot {
    /// What it opens carries nobody else: those who waited for it open their own.
    fn opened_for_one(&mut self) {
        if std::mem::take(&mut self.is_opening) {
            let mut state = self.pool.state.borrow_mut();
            state.opening -= 1;
            state.rush = 0;
            state.speaks = Speaks::Http1;
            drop(state);
            Pool::serve_waiters(&self.pool);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.metrics.active().dec();
        let mut state = self.pool.state.borrow_mut();
        state.active -= 1;
        state.opening -= usize::from(self.is_opening);
        drop(state);
        Pool::serve_waiters(&self.pool);
    }
}
