//! The clock between two bytes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Stands for "never" where a sum of times overflows.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// `start + duration`, never panicking.
pub(super) fn later(start: Instant, duration: Duration) -> Instant {
    start
        .checked_add(duration)
        .unwrap_or_else(|| start + FAR_FUTURE)
}

/// Says when a peer has been silent for too long. One timer per body: made at the first wait (most
/// bodies never wait), and moved on when it fires rather than at every frame.
pub(super) struct IdleTimer {
    limit: Duration,
    armed: Option<Armed>,
}

struct Armed {
    last: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, armed: None }
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came.
    pub(super) fn touch(&mut self) {
        if let Some(armed) = &mut self.armed {
            armed.last = Instant::now();
        }
    }

    /// Ready when nothing has come for `limit`, neither here nor (`elsewhere`: when last) on the
    /// other half of the exchange.
    pub(super) fn poll_expired(
        &mut self,
        cx: &mut Context<'_>,
        elsewhere: Option<Instant>,
    ) -> Poll<()> {
        let armed = self.armed.get_or_insert_with(|| Armed {
            last: Instant::now(),
            sleep: Box::pin(sleep(self.limit)),
        });
        loop {
            ready!(armed.sleep.as_mut().poll(cx));
            let last = elsewhere.map_or(armed.last, |at| at.max(armed.last));
            let due = later(last, self.limit);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            armed.sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_byte() {
        let mut timer = IdleTimer::new(LIMIT);
        let start = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll_expired(&mut cx, None).is_pending());
        tokio::time::advance(Duration::from_secs(7)).await;
        timer.touch();
        poll_fn(|cx| timer.poll_expired(cx, None)).await;
        assert_eq!(start.elapsed().as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_on_the_other_half_counts_too() {
        let mut timer = IdleTimer::new(LIMIT);
        let start = Instant::now();
        let elsewhere = start + Duration::from_secs(4);
        poll_fn(|cx| timer.poll_expired(cx, Some(elsewhere))).await;
        assert_eq!(start.elapsed().as_secs(), 14);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_the_end_of_time_never_passes() {
        let mut timer = IdleTimer::new(Duration::MAX);
        let mut cx = Context::from_waker(Waker::noop());
        timer.touch();
        assert!(timer.poll_expired(&mut cx, None).is_pending());
        assert!(later(Instant::now(), Duration::MAX) > Instant::now());
    }
}
