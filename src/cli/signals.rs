//! The signals that end a command which would go on for ever.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGTERM: an orchestrator.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl Stop {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// From now on a signal does not end the process, but is received here. Needs a tokio runtime.
pub(super) fn listen() -> io::Result<mpsc::Receiver<Stop>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let stop = tokio::select! {
                _ = terminate.recv() => Stop::Terminate,
                _ = interrupt.recv() => Stop::Interrupt,
            };
            if sender.send(stop).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
