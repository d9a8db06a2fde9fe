//! What people may type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    completion::CompletionArgs, demo::DemoArgs, man::ManArgs, mock::MockArgs, output::Format,
};
use crate::keys::Algorithm;

/// Examples stand before the options: most people need no more.
const HELP: &str = "\
{about}{after-help}

{usage-heading} {usage}

{all-args}";

/// Puts valid tokens on an application's LMS requests, and refuses those that its scopes do not cover.
#[derive(Parser)]
#[command(
    name = "bursar",
    version,
    help_template = HELP,
    arg_required_else_help = true,
    after_help = "\
Examples:
  bursar demo                           try it: a simulated LMS, no configuration needed
  bursar check --config bursar.toml     is the configuration right, and does the LMS agree?
  bursar run --config bursar.toml       serve
  bursar route test GET /d2l/api/lp/1.43/users/whoami
                                        would this request be let through, and why?"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Serve: the proxy and its admin sockets, in the foreground.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar run
  bursar run --config /etc/bursar/config.toml

SIGTERM or Ctrl-C finishes what is in flight and exits 0; a second one exits at once."
    )]
    Run(ConfigArgs),

    /// Check the configuration, and whether the authorization server and the LMS agree with it.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar check                          everything, with one token request per credential
  bursar check --offline                the configuration, files and keys only
  bursar check -o json                  for scripts

Exit codes: 0 fine (warnings too), 3 problems, 75 something is unreachable at present,
77 a secret file is readable by others, 78 the configuration is not valid."
    )]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Stop after the configuration, files and keys: nothing is sent.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        output: OutputArgs,
    },

    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar demo                           serve until Ctrl-C, with commands to try
  bursar demo --once                    a scripted tour; exits 0 if all went as it should"
    )]
    Demo(DemoArgs),

    #[command(help_template = HELP)]
    Mock(MockArgs),

    /// Ask the policy.
    #[command(subcommand, arg_required_else_help = true)]
    Route(RouteCommand),

    /// Show the tokens and upstreams of the running bursar.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar status
  bursar status -o json | jq .tokens"
    )]
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Ask for a token with the configuration, and tell what it is; the token itself only with --reveal.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar token d2l                      scopes, lifetime, issuer: everything but the token
  bursar token d2l -o json | jq .scopes_missing
  bursar token d2l --reveal             the token itself, on a terminal only

It asks the authorization server anew; the running bursar goes on with its own token.
Exit codes: 0 there is one, 1 refused, 2 wrong usage, 75 the authorization server is unreachable at present,
77 a secret file is readable by others, 78 the configuration is not valid."
    )]
    Token(TokenArgs),

    /// Show the configuration in force, or where it comes from.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),

    /// Make signing keys, and print their public halves.
    #[command(subcommand, arg_required_else_help = true)]
    Keys(KeysCommand),

    /// Say more about an error code.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar explain insufficient_scope
  bursar explain BUR1004"
    )]
    Explain {
        /// A code from a problem, a log line or `bursar check`.
        code: String,
    },

    /// Exit 0 if the running bursar is alive, 1 if not: for exec probes.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar health                         asks /livez
  bursar health --ready                 asks /readyz"
    )]
    Health {
        #[command(flatten)]
        config: ConfigArgs,
        /// Ask whether it is ready for requests.
        #[arg(long)]
        ready: bool,
    },

    /// Print a script with which a shell completes the command line.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar completion bash > ~/.local/share/bash-completion/completions/bursar
  bursar completion zsh > ~/.zfunc/_bursar          with ~/.zfunc in fpath, before compinit
  bursar completion fish > ~/.config/fish/completions/bursar.fish"
    )]
    Completion(CompletionArgs),

    /// Print a manual page, or write all of them.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar man | man -l -
  bursar man route test | man -l -
  bursar man --out ~/.local/share/man/man1"
    )]
    Man(ManArgs),

    /// Show the version and what it was built with.
    Version {
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum RouteCommand {
    /// Decide about one request as the running proxy would.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar route test GET /d2l/api/lp/1.43/users/whoami
  bursar route test PUT https://school.brightspace.com/d2l/api/le/1.74/6606/grades/1/values/2

Exit codes: 0 allow, 3 deny."
    )]
    Test {
        /// The request's method.
        method: String,
        /// The request's URL; a bare path will do when there is one upstream.
        url: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its value and its source; secrets are left out.
    Show(ConfigArgs),
    /// Print a JSON Schema of the configuration file: editors complete its keys with it.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar config schema > bursar.schema.json

Then begin bursar.toml with `#:schema ./bursar.schema.json`: editors with Taplo (VS Code's Even Better TOML)
complete keys, show what they are for and underline what is wrong."
    )]
    Schema,
    /// Print which file is read, and why that one.
    Path(ConfigArgs),
}

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Make a new signing key.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar keys new --out key.pem         mode 0600; prints the public key set to register
  bursar keys new --alg ES256 > key.pem"
    )]
    New(NewKeyArgs),
    /// Print the public key set of the configured keys, as the authorization server needs it.
    Jwks(ConfigArgs),
}

/// `bursar keys new`.
#[derive(Args)]
pub(super) struct NewKeyArgs {
    /// What it signs with: RS256, PS256, ES256, ES384 or EdDSA. Every LMS takes RS256.
    #[arg(long, value_name = "ALG", default_value = "RS256", value_parser = algorithm)]
    pub(super) alg: Algorithm,
    /// The file to write the private key to; stdout without it.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long, requires = "out")]
    pub(super) force: bool,
}

/// `bursar token`.
#[derive(Args)]
pub(super) struct TokenArgs {
    /// Whose token: a credential of the configuration.
    pub(super) credential: String,
    /// For which upstream, where several use the credential.
    #[arg(long, value_name = "NAME")]
    pub(super) upstream: Option<String>,
    /// Print the token itself, and nothing else, on stdout: on a terminal only.
    #[arg(long, conflicts_with = "output")]
    pub(super) reveal: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// For every command that reads a configuration.
#[derive(Args)]
pub(super) struct ConfigArgs {
    /// The configuration file. Else: $BURSAR_CONFIG, ./bursar.toml,
    /// $XDG_CONFIG_HOME/bursar/config.toml, /etc/bursar/config.toml.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// For every command that programs may read.
#[derive(Args)]
pub(super) struct OutputArgs {
    /// The form of the answer.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub(super) output: Format,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    const KNOWN: [Algorithm; 5] = [
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];
    KNOWN
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names = KNOWN.map(Algorithm::as_str);
            format!("one of {}", names.join(", "))
        })
}
