//! The signals that end a command which would go on for ever, and the one that makes it read its configuration again.

use std::io::{self, IsTerminal as _};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGTERM: an orchestrator.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGHUP from a terminal that was closed.
    Hangup,
}

/// What a SIGHUP asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// The configuration is to be read again.
    Reload,
    /// The end: there is no terminal any more.
    Stop(Stop),
}

/// Receives SIGHUP.
pub(super) struct Hangups {
    signal: Signal,
    has_terminal: bool,
}

impl Hangups {
    /// From now on a SIGHUP does not end the process, but is received here; one that comes earlier than it is asked for
    /// waits. `has_terminal`: whether stderr is one. Needs a tokio runtime.
    pub(super) fn listen(has_terminal: bool) -> io::Result<Self> {
        Ok(Self {
            signal: signal(SignalKind::hangup())?,
            has_terminal,
        })
    }

    /// The next one.
    pub(super) async fn recv(&mut self) -> Hangup {
        self.signal.recv().await;
        // A terminal that is closed says so to all who run in it, with the signal that daemons reload by.
        if self.has_terminal && !io::stderr().is_terminal() {
            Hangup::Stop(Stop::Hangup)
        } else {
            Hangup::Reload
        }
    }
}

impl Stop {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
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
