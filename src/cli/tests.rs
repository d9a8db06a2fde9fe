//! What people may type, and how each command ends.

use clap::CommandFactory as _;

use super::*;

fn end(arguments: &[&str]) -> ExitCode {
    let arguments = std::iter::once(&"bursar").chain(arguments);
    main(arguments, &Surroundings::default())
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_contract_is_understood() {
    for line in [
        "run",
        "run --config bursar.toml",
        "run -c bursar.toml",
        "check",
        "check --offline -o json --config bursar.toml",
        "demo",
        "demo --once",
        "mock",
        "route test GET /d2l/api/lp/1.43/users/whoami",
        "route test PUT https://lms.example.edu/x --config bursar.toml",
        "status",
        "status -o table",
        "status --output json --config bursar.toml",
        "reload",
        "reload -o json --config bursar.toml",
        "config show",
        "config path --config bursar.toml",
        "config schema",
        "keys new",
        "keys new --dir keys --alg ES256",
        "keys jwks --config bursar.toml",
        "keys jwks d2l",
        "keys list",
        "keys list d2l -o json --config bursar.toml",
        "keys list --dir keys --jwks-max-age 10m",
        "keys rotate",
        "keys rotate d2l --plan --config bursar.toml",
        "keys rotate --alg ES256 --in 2h",
        "keys rotate --replace",
        "keys rotate --dir keys --now",
        "explain BUR1001",
        "health",
        "health --ready --config bursar.toml",
        "version",
        "version -o json",
        "login d2l",
        "login d2l --no-browser --timeout 60s --config bursar.toml",
        "login d2l --paste",
        "login portal --subject ann",
        "logout d2l",
        "logout portal --subject ann --config bursar.toml",
        "token d2l",
        "token d2l --upstream lms -o json --config bursar.toml",
        "token d2l --reveal",
        "completion bash",
        "completion zsh",
        "completion fish",
        "completion elvish",
        "completion powershell",
        "man",
        "man route test",
        "man --out man1",
    ] {
        let arguments = std::iter::once("bursar").chain(line.split(' '));
        assert!(Cli::try_parse_from(arguments).is_ok(), "bursar {line}");
    }
}

#[test]
fn what_does_not_exist_yet_or_is_misspelt_is_wrong_usage() {
    for line in [
        "frobnicate",
        "check --ofline",
        "check -o yaml",
        "route test GET",
        "route",
        "config",
        "keys rotate --now --in 2h",
        "keys rotate d2l --dir keys",
        "keys list --jwks-max-age 1h",
        "keys new --dir a --out b",
        "explain",
        "token",
        "token d2l --reveal -o json",
        "completion",
        "completion ksh",
        "man nonsense",
        "man run --out man1",
        "run --config",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            end(&arguments),
            ExitCode::from(Exit::Usage),
            "bursar {line}"
        );
    }
    assert_eq!(end(&[]), ExitCode::from(Exit::Usage));
}

#[test]
fn help_and_version_are_no_failure() {
    for line in [
        "--help",
        "-h",
        "--version",
        "run --help",
        "route test --help",
        "version",
        "version -o json",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(end(&arguments), ExitCode::from(Exit::Done), "bursar {line}");
    }
}

#[test]
fn what_stands_behind_the_options_needs_no_second_wrapping() {
    fn check(command: &clap::Command) {
        for text in [command.get_after_help(), command.get_after_long_help()] {
            let text = text.map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                // clap wraps at 100 columns, and would leave single words on lines of their own.
                assert!(
                    line.chars().count() <= 100,
                    "{}: {line}",
                    command.get_name()
                );
            }
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn examples_stand_before_the_options() {
    let mut command = Cli::command();
    command.build();
    for name in ["run", "check", "demo", "status", "explain", "health"] {
        let help = command
            .find_subcommand_mut(name)
            .unwrap()
            .render_long_help()
            .to_string();
        let examples = help.find("Examples:").unwrap();
        let usage = help.find("Usage:").unwrap();
        assert!(examples < usage, "{help}");
    }
}

#[test]
fn an_unknown_code_is_wrong_usage() {
    assert_eq!(end(&["explain", "BUR0000"]), ExitCode::from(Exit::Usage));
    assert_eq!(end(&["explain", "BUR1001"]), ExitCode::from(Exit::Done));
}

#[test]
fn colour_needs_a_terminal_and_nobody_who_minds() {
    let surroundings = |is_terminal, variables: &[(&str, &str)]| Surroundings {
        environment: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        stdout_is_terminal: is_terminal,
        ..Surroundings::default()
    };
    assert!(surroundings(true, &[]).paint_on_stdout().is_on);
    assert!(
        surroundings(true, &[("NO_COLOR", "")])
            .paint_on_stdout()
            .is_on
    );
    assert!(
        !surroundings(true, &[("NO_COLOR", "1")])
            .paint_on_stdout()
            .is_on
    );
    assert!(
        !surroundings(true, &[("TERM", "dumb")])
            .paint_on_stdout()
            .is_on
    );
    assert!(!surroundings(false, &[]).paint_on_stdout().is_on);
}
