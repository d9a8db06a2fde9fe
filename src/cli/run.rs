//! `bursar run`: load, serve, drain.

mod banner;
mod harden;

use std::{error::Error, sync::Arc};

use tokio::{runtime, sync::mpsc};

use super::{
    Exit, Surroundings,
    args::ConfigArgs,
    explain, load_or_tell, output,
    signals::{self, Hangup, Hangups, Stop},
};
use crate::{
    admin::build,
    app::App,
    clock::{Clock as _, SystemClock},
    config::{Config, Loaded},
    telemetry::{self, Logs},
};
use banner::Banner;
use harden::Hardening;

pub(super) fn run(args: &ConfigArgs, surroundings: &Surroundings) -> Exit {
    // Before the first secret is read.
    let hardening = Hardening::apply();
    let loaded = match load_or_tell(args, surroundings) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let logs = match telemetry::init(&loaded.config.log, surroundings.stderr()) {
        Ok(logs) => logs,
        Err(error) => {
            output::tell(&format!("bursar: cannot log: {error}\n"));
            return Exit::Failed;
        }
    };
    hardening.log();
    match serve(loaded, surroundings, &logs) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(
                event = "start_failed",
                error = &*error,
                hint = hint(&*error),
                "cannot start"
            );
            Exit::Failed
        }
    }
    // Here the log is flushed.
}

/// What to do about the one failure that everybody meets.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let code = error.downcast_ref().and_then(explain::start_code)?;
    Some(format!(
        "another program has the address, perhaps another bursar: `bursar explain {code}`"
    ))
}

fn serve(loaded: Loaded, surroundings: &Surroundings, logs: &Logs) -> Result<Exit, Box<dyn Error>> {
    for warning in &loaded.warnings {
        tracing::warn!(
            event = "config_warning",
            code = %warning.code(),
            key = warning.key(),
            "{}",
            warning.what()
        );
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // From here on a signal is an orderly end, also in the middle of the start.
    let mut stops = runtime.block_on(async { signals::listen() })?;
    let mut hangups =
        runtime.block_on(async { Hangups::listen(surroundings.stderr_is_terminal) })?;

    let clock = Arc::new(SystemClock);
    let started = clock.now();
    let start_line = StartLine::new(&loaded);
    let banner = surroundings
        .stderr_is_terminal
        .then(|| Banner::new(&loaded.config));
    let log = logs.handle();
    let drops = log.drops.clone();
    let running = App::start(loaded, clock.clone(), log)?;
    start_line.log(running.addresses());
    if let Some(banner) = banner {
        output::tell(&banner.render(running.addresses(), surroundings.paint_on_stderr()));
    }

    let exit = runtime.block_on(async {
        let first = loop {
            tokio::select! {
                first = stops.recv() => break first,
                () = running.draining() => break None,
                hangup = hangups.recv() => match hangup {
                    Hangup::Reload => running.reload(),
                    Hangup::Stop(stop) => break Some(stop),
                },
            }
        };
        tracing::info!(
            event = "shutdown",
            signal = first.map(Stop::name),
            "draining: requests in flight are finished, new connections are refused"
        );
        running.shutdown();
        let rotations = running.rotations();
        let exit = drained(first.is_some(), &mut stops, move || running.join()).await;
        // Cut short or not: a refresh token that is on its way is written down first.
        rotations.finish().await;
        exit
    });
    // A drain that was cut short must not be waited for here.
    runtime.shutdown_background();
    tracing::info!(
        event = "stopped",
        uptime_seconds = clock.now().boot.saturating_sub(started.boot).as_secs(),
        exit_code = exit.code(),
        log_lines_dropped = drops.get(),
        "stopped"
    );
    Ok(exit)
}

/// Waits until `join` returns, or until somebody does not want to wait any longer: a second signal says so.
/// `is_signalled`: there has been a first. A drain that was begun by `POST /-/drain` (a preStop hook) has the SIGTERM that
/// an orchestrator sends next still before it.
async fn drained(
    is_signalled: bool,
    stops: &mut mpsc::Receiver<Stop>,
    join: impl FnOnce() + Send + 'static,
) -> Exit {
    let joined = tokio::task::spawn_blocking(join);
    let second = async {
        if !is_signalled {
            stops.recv().await;
        }
        stops.recv().await
    };
    tokio::select! {
        joined = joined => match joined {
            Ok(()) => Exit::Done,
            Err(_panicked) => Exit::Failed,
        },
        Some(stop) = second => {
            tracing::warn!(
                event = "drain_cut_short",
                signal = stop.name(),
                "a second signal: exiting at once, requests in flight are lost"
            );
            match stop {
                Stop::Terminate | Stop::Hangup => Exit::Failed,
                Stop::Interrupt => Exit::Interrupted,
            }
        }
    }
}

/// The one line that says what has been started.
struct StartLine {
    config: Option<String>,
    upstreams: String,
    credentials: usize,
}

impl StartLine {
    fn new(loaded: &Loaded) -> Self {
        let Config {
            upstreams,
            credentials,
            ..
        } = &loaded.config;
        let names: Vec<&str> = upstreams
            .iter()
            .map(|upstream| &*upstream.params.name)
            .collect();
        Self {
            config: loaded.path.as_ref().map(|path| path.display().to_string()),
            upstreams: names.join(" "),
            credentials: credentials.len(),
        }
    }

    fn log(&self, addresses: &crate::app::Addresses) {
        let listen: Vec<String> = addresses.proxy.iter().map(ToString::to_string).collect();
        tracing::info!(
            event = "started",
            version = build::VERSION,
            revision = build::REVISION,
            config = self.config,
            upstreams = self.upstreams,
            credentials = self.credentials,
            listen = listen.join(" "),
            admin = %addresses.admin,
            control = %addresses.control,
            jwks = addresses.jwks.map(|address| address.to_string()),
            "serving"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as gate;

    use super::*;

    #[tokio::test]
    async fn a_complete_drain_is_done() {
        let (_signals, mut stops) = mpsc::channel(1);
        assert_eq!(drained(true, &mut stops, || ()).await, Exit::Done);
    }

    #[tokio::test]
    async fn a_second_signal_does_not_wait_for_the_drain() {
        for (stop, exit) in [
            (Stop::Interrupt, Exit::Interrupted),
            (Stop::Terminate, Exit::Failed),
        ] {
            let (signals, mut stops) = mpsc::channel(1);
            let (open, shut) = gate::channel::<()>();
            signals.send(stop).await.unwrap();
            let join = move || {
                // Held until the test lets go.
                let _ = shut.recv();
            };
            assert_eq!(drained(true, &mut stops, join).await, exit);
            drop(open);
        }
    }

    #[tokio::test]
    async fn the_first_signal_after_a_drain_that_was_asked_for_cuts_nothing_short() {
        let (signals, mut stops) = mpsc::channel(1);
        let (open, shut) = gate::channel::<()>();
        let join = move || {
            let _ = shut.recv();
        };
        let ends = tokio::spawn(async move { drained(false, &mut stops, join).await });
        signals.send(Stop::Terminate).await.unwrap();
        // There is room for the second only when the first has been taken.
        let second = signals.reserve().await.unwrap();
        assert!(!ends.is_finished());
        second.send(Stop::Terminate);
        assert_eq!(ends.await.unwrap(), Exit::Failed);
        drop(open);
    }

    #[tokio::test]
    async fn a_panic_in_the_drain_is_a_failure() {
        let (_signals, mut stops) = mpsc::channel(1);
        assert_eq!(
            drained(true, &mut stops, || panic!("gone")).await,
            Exit::Failed
        );
    }
}
