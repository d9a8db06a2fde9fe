//! The command line: what people type, and which command answers.

mod admin_client;
mod args;
mod check;
mod completion;
mod config;
mod demo;
mod exit;
pub mod explain;
mod health;
mod keys;
mod login;
mod logout;
mod man;
mod mock;
mod output;
mod reload;
mod route;
mod run;
mod signals;
mod status;
mod stored;
mod token;
mod version;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use crate::{
    config::{Control, LoadOptions, Loaded, Problems, json_schema, load, load_control},
    telemetry::Stderr,
};
use args::{Cli, Command, ConfigArgs, ConfigCommand, RouteCommand};
pub use exit::Exit;
use output::Paint;

/// What the system hands to the process.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment: `(name, value)`.
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub directory: Option<PathBuf>,
    /// Whether a person types on stdin.
    pub stdin_is_terminal: bool,
    /// Whether a person reads stdout.
    pub stdout_is_terminal: bool,
    /// Whether a person reads stderr.
    pub stderr_is_terminal: bool,
}

impl Surroundings {
    fn paint_on_stdout(&self) -> Paint {
        Paint {
            is_on: self.stdout_is_terminal && self.wants_colour(),
        }
    }

    fn paint_on_stderr(&self) -> Paint {
        Paint {
            is_on: self.stderr_is_terminal && self.wants_colour(),
        }
    }

    /// Where logs go.
    fn stderr(&self) -> Stderr {
        Stderr {
            is_terminal: self.stderr_is_terminal,
            colour: self.paint_on_stderr().is_on,
        }
    }

    /// The value of an environment variable; an empty one is as good as none.
    fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.environment.iter();
        variables
            .find(|(other, value)| other == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// no-color.org: set to anything but nothing.
    fn wants_colour(&self) -> bool {
        self.variable("NO_COLOR").is_none() && self.variable("TERM") != Some("dumb")
    }

    fn load_options(&self, args: &ConfigArgs) -> LoadOptions {
        LoadOptions {
            file: args.config.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            ..LoadOptions::default()
        }
    }
}

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn main<T>(arguments: impl IntoIterator<Item = T>, surroundings: &Surroundings) -> ExitCode
where
    T: Into<OsString> + Clone,
{
    match Cli::try_parse_from(arguments) {
        Ok(cli) => dispatch(cli.command, surroundings),
        Err(error) => {
            // A closed pipe is no reason to panic, and there is nobody left to tell.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            }
            .into()
        }
    }
}

fn dispatch(command: Command, surroundings: &Surroundings) -> ExitCode {
    let loaded = |args: &ConfigArgs| load_or_tell(args, surroundings);
    let end = match command {
        Command::Demo(args) => Ok(demo::run(args, surroundings)),
        Command::Mock(args) => Ok(mock::run(*args, surroundings)),
        Command::Run(args) => Ok(run::run(&args, surroundings)),
        Command::Check {
            config,
            offline,
            output,
        } => Ok(check::run(&config, offline, output.output, surroundings)),
        Command::Route(RouteCommand::Test {
            method,
            url,
            config,
        }) => loaded(&config).map(|loaded| route::test(&loaded.config, &method, &url)),
        Command::Status { config, output } => find_running(&config, surroundings, |found| {
            let control = found.control.as_ref()?;
            Some(status::run(control, output.output, surroundings))
        }),
        Command::Reload { config, output } => find_running(&config, surroundings, |found| {
            // An order must not go to another address than the one meant.
            let is_certain = found.problems.errors().next().is_none();
            let (control, keys) = (found.control.as_ref()?, found.keys.as_ref()?);
            let format = output.output;
            is_certain.then(|| reload::run(control, keys.as_ref(), format, surroundings))
        }),
        Command::Config(ConfigCommand::Show(args)) => {
            loaded(&args).map(|loaded| output::print(&config::show(&loaded)))
        }
        Command::Config(ConfigCommand::Schema) => Ok(output::print_json(&json_schema())),
        Command::Config(ConfigCommand::Path(args)) => {
            Ok(print_path(&surroundings.load_options(&args)))
        }
        Command::Keys(command) => Ok(keys::run(command, surroundings)),
        Command::Explain { code } => Ok(explain(&code)),
        Command::Health { config, ready } => find_running(&config, surroundings, |found| {
            Some(health::run(found.listen?, ready))
        }),
        Command::Login(args) => {
            loaded(&args.config).map(|loaded| login::run(&args, &loaded, surroundings))
        }
        Command::Logout(args) => loaded(&args.config).map(|loaded| logout::run(&args, &loaded)),
        Command::Token(args) => {
            loaded(&args.config).map(|loaded| token::run(&args, &loaded, surroundings))
        }
        Command::Completion(args) => Ok(completion::run(&args, Cli::command())),
        Command::Man(args) => Ok(man::run(&args, Cli::command())),
        Command::Version { output } => Ok(version::run(output.output)),
    };
    end.unwrap_or_else(|exit| exit).into()
}

/// Loads the configuration, or says everything that is wrong with it.
fn load_or_tell(args: &ConfigArgs, surroundings: &Surroundings) -> Result<Loaded, Exit> {
    load(&surroundings.load_options(args)).map_err(|problems| refuse(&problems, surroundings))
}

/// For commands that ask a running bursar: `ask` gets what is known of it, and gives `None` where that is not enough. A
/// configuration that has become invalid is no obstacle: the running bursar has not taken it over either, and a probe that failed
/// on it would have bursar killed.
fn find_running(
    args: &ConfigArgs,
    surroundings: &Surroundings,
    ask: impl FnOnce(&Control) -> Option<Exit>,
) -> Result<Exit, Exit> {
    let found = load_control(&surroundings.load_options(args))
        .map_err(|problems| refuse(&problems, surroundings))?;
    let Some(exit) = ask(&found) else {
        return Err(refuse(&found.problems, surroundings));
    };
    if exit != Exit::Done && found.problems.errors().next().is_some() {
        // Half of a file may have left us with another address than the one meant.
        output::tell(&format!("bursar: {}\n", found.problems));
    }
    Ok(exit)
}

fn refuse(problems: &Problems, surroundings: &Surroundings) -> Exit {
    output::tell(&problems.render(surroundings.paint_on_stderr().is_on));
    Exit::from_problems(problems)
}

/// The path alone is data: `$(bursar config path)` is a file name.
fn print_path(options: &LoadOptions) -> Exit {
    let (used, places) = config::path(options);
    let Some(used) = used else {
        output::tell(&format!("no configuration file\n{places}"));
        return Exit::Configuration;
    };
    let exit = output::print(&used.display().to_string());
    output::tell(&places);
    exit
}

fn explain(code: &str) -> Exit {
    if let Some(text) = explain::explain(code) {
        output::print(text)
    } else {
        output::tell(&format!(
            "bursar: {code:?} is not a code of bursar's. Codes look like BUR1004 or insufficient_scope; \
             an LMS has its own.\n"
        ));
        Exit::Usage
    }
}

#[cfg(test)]
mod tests;
