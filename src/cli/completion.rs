//! `bursar completion`: what the shells complete the command line with.

use clap::Args;
use clap_complete::Shell;

use super::{Exit, output};

#[derive(Args)]
pub(super) struct CompletionArgs {
    /// The shell that will read it.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs, command: clap::Command) -> Exit {
    output::print(&script(args.shell, command))
}

/// Rendered as a whole first: the generator panics when a pipe closes.
fn script(shell: Shell, mut command: clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "bursar", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let script = script(*shell, Cli::command());
            for word in ["bursar", "route", "offline", "completion"] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
    }
}
