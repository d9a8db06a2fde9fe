//! What a person types.

use std::{
    io::{self, BufRead as _, Read as _},
    thread,
};

use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Longer than any address.
const MAX_LINE: u64 = 32 * 1024;

/// The lines of standard input, as they come. Read by a thread of its own, which nobody waits for: a terminal may never say
/// anything.
pub(super) struct Lines(mpsc::Receiver<Zeroizing<String>>);

impl Lines {
    pub(super) fn of_stdin() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        thread::spawn(move || {
            loop {
                // It may hold a code.
                let mut line = Zeroizing::new(String::new());
                let read = io::stdin().lock().take(MAX_LINE).read_line(&mut line);
                let is_over = !matches!(read, Ok(length) if length > 0);
                if is_over || sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// A person who types these.
    #[cfg(test)]
    pub(super) fn typed(lines: &[&str]) -> Self {
        let (sender, receiver) = mpsc::channel(lines.len().max(1));
        for line in lines {
            let line = Zeroizing::new(format!("{line}\n"));
            sender.try_send(line).expect("there is room for all");
        }
        Self(receiver)
    }

    /// The next line; `None` when there is no more. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Zeroizing<String>> {
        self.0.recv().await
    }
}
