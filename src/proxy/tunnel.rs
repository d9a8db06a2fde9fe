//! What follows a 101: bytes both ways, until both ends have said all they had to say.
//!
//! bursar does not look at them. It counts them, watches the time between them, and lets drain's
//! deadline end them.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::{Instant, sleep_until},
};

use super::{record::Record, rewound::Rewound, upstream::Switched};

/// Held of each direction.
const BUFFER: usize = 16 * 1024;

/// A request that has become a tunnel. Its record is written when the tunnel ends.
pub(super) struct Tunnel {
    lms: Switched,
    record: Record,
    /// The longest time between two bytes, whichever way they go.
    idle: Duration,
}

impl Tunnel {
    pub(super) const fn new(lms: Switched, record: Record, idle: Duration) -> Self {
        Self { lms, record, idle }
    }

    /// Carries bytes between `application`, which has sent `early` already, and the LMS.
    pub(super) async fn run<S>(self, application: S, early: Bytes)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { lms, record, idle } = self;
        // The first bytes of the application were counted when they came.
        let mut passage = Passage::new(record, early.len() as u64);
        let Some((lms, _place)) = lms.open().await else {
            passage.record.breaks_off();
            return;
        };
        let ended_well = passage
            .carry(
                Rewound::new(early, application),
                Rewound::new(lms.start, lms.stream),
                idle,
            )
            .await;
        if ended_well {
            passage.record.completes();
        }
    }
}

/// What has passed, for the record; told to it however the tunnel ends.
struct Passage {
    record: Record,
    /// Bytes that are in the record already.
    counted: u64,
    from_application: Cell<u64>,
    from_lms: Cell<u64>,
    last: Cell<Instant>,
}

impl Passage {
    fn new(record: Record, counted: u64) -> Self {
        Self {
            record,
            counted,
            from_application: Cell::new(0),
            from_lms: Cell::new(0),
            last: Cell::new(Instant::now()),
        }
    }

    /// Whether both ends closed, one after the other. A closed half stays closed while the other goes on.
    async fn carry<A, B>(&self, application: A, lms: B, idle: Duration) -> bool
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let mut application = Noted::new(application, &self.from_application, &self.last);
        let mut lms = Noted::new(lms, &self.from_lms, &self.last);
        let mut copying = pin!(copy_bidirectional_with_sizes(
            &mut application,
            &mut lms,
            BUFFER,
            BUFFER
        ));
        let mut timer = pin!(sleep_until(self.deadline(idle)));
        poll_fn(|context| {
            if let Poll::Ready(copied) = copying.as_mut().poll(context) {
                return Poll::Ready(copied.is_ok());
            }
            // Moved when it fires rather than with every byte.
            while timer.as_mut().poll(context).is_ready() {
                let deadline = self.deadline(idle);
                if deadline <= Instant::now() {
                    return Poll::Ready(false);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }

    fn deadline(&self, idle: Duration) -> Instant {
        let last = self.last.get();
        last.checked_add(idle).unwrap_or(last)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let from_application = self.from_application.get().saturating_sub(self.counted);
        self.record.carried(from_application, self.from_lms.get());
    }
}

/// A stream that notes what is read from it, and when anything last moved.
struct Noted<'a, S> {
    stream: S,
    read: &'a Cell<u64>,
    last: &'a Cell<Instant>,
}

impl<'a, S> Noted<'a, S> {
    const fn new(stream: S, read: &'a Cell<u64>, last: &'a Cell<Instant>) -> Self {
        Self { stream, read, last }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len().saturating_sub(before) as u64;
        if count > 0 {
            self.read.set(self.read.get().saturating_add(count));
            self.last.set(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.last.set(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{
        LogRequests,
        record::testing::{record, worker},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::JoinHandle,
    };

    const IDLE: Duration = Duration::from_secs(60);

    /// A tunnel's ends, and what becomes of it: how it ended, and the bytes from each end.
    struct Ends {
        application: DuplexStream,
        lms: DuplexStream,
        tunnel: JoinHandle<(bool, u64, u64)>,
    }

    fn tunnel() -> Ends {
        let (application, ours) = duplex(64);
        let (lms, theirs) = duplex(64);
        let tunnel = tokio::task::spawn_local(async move {
            let passage = Passage::new(record(&worker(LogRequests::Denied)), 0);
            let ended_well = passage.carry(ours, theirs, IDLE).await;
            let (up, down) = (passage.from_application.get(), passage.from_lms.get());
            (ended_well, up, down)
        });
        Ends {
            application,
            lms,
            tunnel,
        }
    }

    #[tokio::test(flavor = "local")]
    async fn a_half_that_is_closed_leaves_the_other_open() {
        let mut ends = tunnel();
        ends.application.write_all(b"bye").await.unwrap();
        ends.application.shutdown().await.unwrap();
        let mut heard = String::new();
        ends.lms.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "bye");

        ends.lms.write_all(b"still here").await.unwrap();
        drop(ends.lms);
        heard.clear();
        ends.application.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "still here");
        assert_eq!(ends.tunnel.await.unwrap(), (true, 3, 10));
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn silence_ends_it_and_a_byte_either_way_is_no_silence() {
        let mut ends = tunnel();
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            ends.lms.write_all(b"x").await.unwrap();
            assert_eq!(ends.application.read_u8().await.unwrap(), b'x');
        }
        assert_eq!(ends.tunnel.await.unwrap(), (false, 0, 3));
        assert_eq!(start.elapsed().as_secs(), 150 + 60);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_end_that_does_not_read_is_silent_too() {
        let mut ends = tunnel();
        let flood = vec![0; 1024 * 1024];
        let _ = tokio::time::timeout(Duration::from_secs(1), ends.lms.write_all(&flood)).await;
        let (ended_well, _, down) = ends.tunnel.await.unwrap();
        assert!(!ended_well);
        assert!(down < 64 * 1024, "{down}");
    }
}
