//! A writer that never blocks who logs: lines are queued, one thread writes them, and when the queue
//! is full or the write fails the line is lost and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::DropCounter;

/// Lines that wait for a slow stderr before the next ones are lost: about a megabyte.
const QUEUED_LINES: usize = 4096;

/// The end of the process waits this often, and each time this long, for queued lines.
const FLUSH_ATTEMPTS: usize = 20;
const FLUSH_WAIT: Duration = Duration::from_millis(50);

/// The queue and its thread.
pub(super) struct LogWriter {
    lines: NonBlocking,
    guard: Option<WorkerGuard>,
    flushed: Receiver<()>,
    failed: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread that writes to `output`.
    pub(super) fn new(output: impl Write + Send + 'static) -> Self {
        let (flush, flushed) = sync_channel(1);
        let failed = Arc::new(AtomicU64::new(0));
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUED_LINES)
            .thread_name("bursar-log")
            .finish(Output {
                output,
                failed: Arc::clone(&failed),
                flush,
            });
        Self {
            lines,
            guard: Some(guard),
            flushed,
            failed,
        }
    }

    /// Where lines go in.
    pub(super) fn lines(&self) -> NonBlocking {
        self.lines.clone()
    }

    /// Lines lost to a full queue or a failed write.
    pub(super) fn drop_counter(&self) -> DropCounter {
        let queue = self.lines.error_counter();
        let failed = Arc::clone(&self.failed);
        DropCounter(Arc::new(move || {
            let queue = u64::try_from(queue.dropped_lines()).unwrap_or(u64::MAX);
            queue.saturating_add(failed.load(Ordering::Relaxed))
        }))
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let is_flushed = (0..FLUSH_ATTEMPTS).any(|_| {
            // An empty line marks the end of the queue; `Output` answers when it gets there. A full
            // queue refuses even that, hence the attempts.
            let _ = self.lines.write(&[]);
            self.flushed.recv_timeout(FLUSH_WAIT).is_ok()
        });
        if !is_flushed {
            // Nobody reads stderr. The guard would complain on stdout, which may be the same blocked pipe.
            mem::forget(self.guard.take());
        }
    }
}

/// The thread's end: counts what cannot be written instead of failing.
struct Output<W> {
    output: W,
    failed: Arc<AtomicU64>,
    flush: SyncSender<()>,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if line.is_empty() {
            // Nobody listens any more if the end of the process has waited long enough.
            let _ = self.flush.try_send(());
        } else if self.output.write_all(line).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Standard error is not buffered; a failure here has been counted line by line.
        let _ = self.output.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Blocks in the first write until its gate opens.
    struct Gated {
        gate: Option<Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                // An error means that the gate is gone, hence open.
                let _ = gate.recv();
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_blocked_stderr_blocks_nobody_and_the_lost_lines_are_counted() {
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::new(Gated {
            gate: Some(gate),
            written: Arc::clone(&written),
        });
        let drops = writer.drop_counter();
        let mut lines = writer.lines();

        // The thread may hold one line beside the full queue.
        let more_than_fits = QUEUED_LINES + 1 + 10;
        for _ in 0..more_than_fits {
            lines.write_all(b"x").unwrap();
        }
        let lost = drops.get();
        assert!((10..=11).contains(&lost), "lost {lost}");

        open.send(()).unwrap();
        drop(writer);
        let written = u64::try_from(written.lock().unwrap().len()).unwrap();
        assert_eq!(written + lost, u64::try_from(more_than_fits).unwrap());
    }

    #[test]
    fn the_end_writes_what_is_queued() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::new(Gated {
            gate: None,
            written: Arc::clone(&written),
        });
        writer.lines().write_all(b"last words\n").unwrap();
        drop(writer);
        assert_eq!(*written.lock().unwrap(), b"last words\n");
    }

    #[test]
    fn the_end_does_not_wait_for_ever_for_a_blocked_stderr() {
        let (_never_opens, gate) = mpsc::channel();
        let writer = LogWriter::new(Gated {
            gate: Some(gate),
            written: Arc::default(),
        });
        for _ in 0..=QUEUED_LINES + 1 {
            writer.lines().write_all(b"x").unwrap();
        }
        // That this line is passed is the proof.
        drop(writer);
    }

    #[test]
    fn a_full_disk_is_counted_and_ends_nothing() {
        let writer = LogWriter::new(Full);
        let drops = writer.drop_counter();
        writer.lines().write_all(b"one\n").unwrap();
        writer.lines().write_all(b"two\n").unwrap();
        drop(writer);
        assert_eq!(drops.get(), 2);
    }
}
