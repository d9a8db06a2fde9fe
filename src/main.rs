//! The process edge: what the system hands over goes in, an exit code comes out.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _},
    panic,
    process::ExitCode,
};

use bursar::{
    cli::{self, Exit, Surroundings},
    telemetry,
};

fn main() -> ExitCode {
    telemetry::install_panic_hook();
    let text = |value: OsString| value.to_string_lossy().into_owned();
    let surroundings = Surroundings {
        environment: env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        directory: env::current_dir().ok(),
        stdin_is_terminal: io::stdin().is_terminal(),
        stdout_is_terminal: io::stdout().is_terminal(),
        stderr_is_terminal: io::stderr().is_terminal(),
    };
    panic::catch_unwind(|| cli::main(env::args_os(), &surroundings))
        // The hook has said where.
        .unwrap_or_else(|_payload| Exit::Failed.into())
}
