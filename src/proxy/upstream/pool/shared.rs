//! The connections that many requests share (HTTP/2).
//!
//! The first with room is used next, so that a quiet time leaves the later ones without a request, and
//! they close.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        http2::{Connection, MAX_STREAMS, Notice},
        idle::later,
    },
    Now, Pool, Speaks, State,
};

/// A suspend that no connection minds. The two clocks are not read in the same moment either.
const SHORT_SLEEP: Duration = Duration::from_secs(1);

/// One of them.
pub(super) struct Shared {
    connection: Connection,
    /// Requests that are on it.
    streams: Cell<usize>,
    /// Takes no more requests, whatever its state.
    is_retired: Cell<bool>,
    retire_at: Instant,
    /// When a request was last put on it, or taken off.
    touched: Cell<Now>,
}

impl Shared {
    /// A new one, with the request on it that it was opened for.
    fn new(connection: Connection, retire_at: Instant, now: Now) -> Self {
        Self {
            connection,
            streams: Cell::new(1),
            is_retired: Cell::new(false),
            retire_at,
            touched: Cell::new(now),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Whether it is worth keeping when nothing is on it.
    pub(super) fn is_usable(&self, now: Now, idle_timeout: Duration) -> bool {
        !self.is_retired.get()
            && self.connection.is_open()
            && now.instant < self.retire_at
            && self.is_remembered(now, idle_timeout)
    }

    /// When it is to be looked at.
    pub(super) fn until(&self, now: Instant, idle_timeout: Duration) -> Instant {
        if self.is_idle() {
            later(self.touched.get().instant, idle_timeout).min(self.retire_at)
        } else {
            later(now, idle_timeout)
        }
    }

    /// Whether those between us and the LMS still know it. While a request is on it only the time counts
    /// that the machine was suspended.
    fn is_remembered(&self, now: Now, idle_timeout: Duration) -> bool {
        let touched = self.touched.get();
        let away = now.boot.saturating_sub(touched.boot);
        let awake = now.instant.saturating_duration_since(touched.instant);
        if self.is_idle() {
            away < idle_timeout
        } else {
            away.saturating_sub(awake) < idle_timeout.max(SHORT_SLEEP)
        }
    }

    /// Before the LMS has said how many requests it takes, it gets one.
    fn has_room(&self) -> bool {
        self.streams.get() < self.connection.max_streams().unwrap_or(1)
    }

    /// How many more it may turn out to take, if it takes as many as others did.
    pub(super) fn promises(&self, others: usize, now: Now, idle_timeout: Duration) -> usize {
        if self.connection.max_streams().is_some() || !self.is_usable(now, idle_timeout) {
            0
        } else {
            others.saturating_sub(self.streams.get())
        }
    }
}

/// The place of one request on a shared connection. Dropping it makes room for another.
pub(in super::super) struct Stream {
    shared: Rc<Shared>,
    pool: Rc<Pool>,
}

impl Stream {
    pub(in super::super) fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let shared = &self.shared;
        let left = shared.streams.get().saturating_sub(1);
        shared.streams.set(left);
        if left == 0 {
            let now = self.pool.now();
            shared.touched.set(now);
            self.pool.metrics.active().dec();
            self.pool.metrics.idle().inc();
            self.pool.drop_unusable();
        }
        Pool::serve_waiters(&self.pool);
    }
}

impl Pool {
    /// A place on the first connection that has room.
    pub(super) fn try_share(pool: &Rc<Self>, shared: &[Rc<Shared>]) -> Option<Stream> {
        if shared.is_empty() {
            return None;
        }
        let now = pool.now();
        let shared = shared
            .iter()
            .find(|shared| shared.has_room() && shared.is_usable(now, pool.idle_timeout))?;
        if shared.is_idle() {
            pool.metrics.idle().dec();
            pool.metrics.active().inc();
        }
        shared.streams.set(shared.streams.get() + 1);
        shared.touched.set(now);
        Some(Stream {
            shared: Rc::clone(shared),
            pool: Rc::clone(pool),
        })
    }

    /// Takes a new connection in, and gives the request its place that it was opened for.
    pub(super) fn share(pool: &Rc<Self>, connection: Connection, retire_at: Instant) -> Stream {
        let shared = Rc::new(Shared::new(connection, retire_at, pool.now()));
        let mut state = pool.state.borrow_mut();
        shared.is_retired.set(state.is_closed);
        state.shared.push(Rc::clone(&shared));
        state.rush = 0;
        if !matches!(state.speaks, Speaks::Http2(_)) {
            state.speaks = Speaks::Http2(MAX_STREAMS);
        }
        drop(state);
        pool.metrics.active().inc();
        Self::start_reaper(pool);
        Stream {
            shared,
            pool: Rc::clone(pool),
        }
    }

    /// What a shared connection has to tell.
    pub(in super::super) fn noticed(pool: &Rc<Self>, notice: Notice) {
        match notice {
            Notice::Takes(streams) => {
                let mut state = pool.state.borrow_mut();
                if matches!(state.speaks, Speaks::Http2(_)) {
                    state.speaks = Speaks::Http2(streams);
                }
            }
            Notice::Ended => pool.drop_unusable(),
        }
        Self::serve_waiters(pool);
    }

    /// Lets go of the shared connections with nothing on them that are of no more use.
    pub(super) fn drop_unusable(&self) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let before = state.shared.len();
        state
            .shared
            .retain(|shared| !shared.is_idle() || shared.is_usable(now, self.idle_timeout));
        self.metrics
            .idle()
            .sub(super::gauge(before - state.shared.len()));
    }

    /// Closes one on which nothing is, if there is any: to make room.
    pub(super) fn drop_idle(&self, state: &mut State) -> bool {
        let idle = state.shared.iter().rposition(|shared| shared.is_idle());
        if let Some(index) = idle {
            state.shared.remove(index);
            self.metrics.idle().dec();
        }
        idle.is_some()
    }

    /// Keeps further requests off the connections that there are.
    pub(in super::super) fn retire_shared(&self) {
        for shared in &self.state.borrow().shared {
            shared.is_retired.set(true);
        }
        self.drop_unusable();
    }
}
