//! The connections of one worker to one upstream: how many, which one next, and for how long.
//!
//! `active + idle` never exceeds the ceiling. The connection used last is used next, so that a
//! quiet time lets the others grow old and close. Who finds no connection waits in line; nobody
//! waits while there is an idle one.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{connection::Connection, error::UpstreamError, idle::later, metrics::UpstreamMetrics};
use crate::clock::Clock;

pub(super) struct Pool {
    max: usize,
    idle_timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: UpstreamMetrics,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    active: usize,
    /// The one used last stands at the end.
    idle: Vec<Idle>,
    waiters: VecDeque<oneshot::Sender<Lease>>,
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
        clock: Arc<dyn Clock>,
        metrics: UpstreamMetrics,
    ) -> Rc<Self> {
        Rc::new(Self {
            max: max.max(1),
            idle_timeout,
            clock,
            metrics,
            state: RefCell::default(),
        })
    }

    /// The right to one connection, with an idle one on it if there is any. `None` when none
    /// becomes free before `deadline`.
    pub(super) async fn acquire(pool: &Rc<Self>, deadline: Instant) -> Option<Lease> {
        if let Some(lease) = Self::try_acquire(pool) {
            return Some(lease);
        }
        let lease = Self::wait(pool);
        timeout_at(deadline, lease).await.ok()?.ok()
    }

    /// Closes the idle connections, and from now on every other one as its exchange ends.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        self.metrics.idle().sub(gauge(state.idle.len()));
        state.idle.clear();
        if let Some(reaper) = state.reaper.take() {
            reaper.abort();
        }
    }

    /// Lets go of the idle connections that the LMS has closed.
    pub(super) fn forget_closed(&self) {
        self.retain(|idle| idle.connection.is_ready());
    }

    fn try_acquire(pool: &Rc<Self>) -> Option<Lease> {
        let mut state = pool.state.borrow_mut();
        let connection = pool.pop(&mut state);
        if connection.is_none() && state.active >= pool.max {
            return None;
        }
        state.active += 1;
        pool.metrics.active().inc();
        Some(Lease {
            connection,
            slot: Slot(Rc::clone(pool)),
        })
    }

    fn wait(pool: &Rc<Self>) -> oneshot::Receiver<Lease> {
        let (sender, receiver) = oneshot::channel();
        let mut state = pool.state.borrow_mut();
        // They leave in about the order in which they came, so this keeps the line short.
        while state
            .waiters
            .front()
            .is_some_and(oneshot::Sender::is_closed)
        {
            state.waiters.pop_front();
        }
        state.waiters.push_back(sender);
        receiver
    }

    /// Gives what has become free to those who wait for it.
    fn serve_waiters(pool: &Rc<Self>) {
        loop {
            let waiter = loop {
                match pool.state.borrow_mut().waiters.pop_front() {
                    Some(waiter) if waiter.is_closed() => {}
                    Some(waiter) => break waiter,
                    None => return,
                }
            };
            let Some(lease) = Self::try_acquire(pool) else {
                pool.state.borrow_mut().waiters.push_front(waiter);
                return;
            };
            // One that has left in this moment drops the lease, which comes back here.
            drop(waiter.send(lease));
        }
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
        if state.closed || !idle.is_usable(now) {
            return;
        }
        state.idle.push(idle);
        pool.metrics.idle().inc();
        if state.reaper.is_none() {
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
    fn reap(&self) -> Option<Instant> {
        let now = self.now();
        self.retain(|idle| idle.is_usable(now));
        let mut state = self.state.borrow_mut();
        let next = state.idle.iter().map(|idle| idle.until).min();
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

/// The right to one connection of the pool, and the connection itself once there is one. Dropping
/// it closes the connection and passes the right on.
pub(super) struct Lease {
    // The connection goes first, so that the ceiling holds.
    connection: Option<Connection>,
    slot: Slot,
}

impl Lease {
    pub(super) fn take(&mut self) -> Option<Connection> {
        self.connection.take()
    }

    pub(super) fn put(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Takes over an idle connection, if there is one, in place of the last.
    pub(super) fn take_idle(&mut self) {
        let pool = &self.slot.0;
        self.connection = pool.pop(&mut pool.state.borrow_mut());
    }

    /// Ends it after a whole exchange: the connection stays open if it can serve another one.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            Pool::push(&self.slot.0, connection);
        }
    }

    /// Ends it after an exchange that broke off.
    pub(super) fn fail(self, error: &UpstreamError) {
        self.slot.0.metrics.failed(error);
    }
}

struct Slot(Rc<Pool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.metrics.active().dec();
        self.0.state.borrow_mut().active -= 1;
        Pool::serve_waiters(&self.0);
    }
}
