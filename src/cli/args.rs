//! What people may type.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::{completion::CompletionArgs, man::ManArgs, mock::MockArgs, output::Format};
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

Exit codes: 0 fine (warnings too), 3 problems, 4 a login is needed, 75 something is unreachable,
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
    Mock(Box<MockArgs>),

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

It asks the authorization server anew; the running bursar goes on with its own token. Where people
log in it shows the stored one, and spends no refresh token.
Exit codes: 0 there is one, 1 refused, 2 wrong usage, 4 a login is needed, 75 the authorization
server is unreachable, 77 a secret file is readable by others, 78 the configuration is not valid."
    )]
    Token(TokenArgs),

    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar login d2l                      opens a browser; the answer comes back to redirect_uri
  bursar login d2l --no-browser         prints the address only
  bursar login d2l --paste              nothing listens: paste where the browser ends (over SSH)
  bursar login portal --subject ann     for one person, where subject_header is set

What the login brings is stored in [state], and a running bursar goes on with it by itself.

Exit codes: 0 logged in, 1 refused or failed, 2 wrong usage, 4 nobody has logged in in time,
75 the authorization server is unreachable, 77 the store is readable by others,
78 the configuration is not valid."
    )]
    Login(LoginArgs),

    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar logout d2l
  bursar logout portal --subject ann

It says where a login could not be taken back at the authorization server.

Exit codes: 0 forgotten, and taken back where there is a way (or nobody was logged in),
1 forgotten, but taking it back was tried and refused, 2 wrong usage, 75 as 1, since the
authorization server is unreachable, 77 the store is readable by others,
78 the configuration is not valid."
    )]
    Logout(LogoutArgs),

    /// Have the running bursar read its configuration again.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar reload
  bursar reload --config /etc/bursar/config.toml -o json

It finds the running bursar and the control key by admin.control and admin.control_key_file of the
configuration. All of the new configuration is put into force or nothing. A running bursar does the
same on SIGHUP, and by itself when a file changes.

Exit codes: 0 the new configuration is in force, 1 the running bursar refuses it, 75 no bursar
answers, 77 the control key's file is readable by others, 78 the file is not TOML, or its [admin]
is not valid."
    )]
    Reload {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Show the configuration in force, or where it comes from.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),

    /// Make signing keys, rotate them, and print their public halves.
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

Then begin bursar.toml with `#:schema ./bursar.schema.json`: editors with Taplo (VS Code's Even
Better TOML) complete keys, show what they are for and underline what is wrong."
    )]
    Schema,
    /// Print which file is read, and why that one.
    Path(ConfigArgs),
}

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Make a new signing key, alone or as the first of a directory.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar keys new --out key.pem         mode 0600; prints the public key set to register
  bursar keys new --dir keys            begins a directory of keys that are rotated (keys_dir)
  bursar keys new --alg ES256 > key.pem"
    )]
    New(NewKeyArgs),
    /// Show each key, which one signs, and what will happen when.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar keys list
  bursar keys list d2l -o json
  bursar keys list --dir keys"
    )]
    List {
        #[command(flatten)]
        whose: WhoseKeys,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make the next key: published at once, it signs when every authorization server can know it.
    #[command(
        help_template = HELP,
        after_help = "\
Examples:
  bursar keys rotate --plan             what would happen, and when
  bursar keys rotate d2l
  bursar keys rotate --in 3days         more time to publish a key set that is hosted as a file
  bursar keys rotate --now              the keys have leaked: replace them at once
  bursar keys rotate --dir keys         without a configuration, where the mounted keys come from

Exit codes: 0 done, 1 refused (a key waits for its turn already, unless --replace) or failed."
    )]
    Rotate(RotateArgs),
    /// Print the public key set, as the authorization server needs it.
    Jwks(WhoseKeys),
}

/// Try bursar in front of a simulated LMS; nothing to configure, nothing leaves this machine
#[derive(Args, Clone, Copy)]
pub(super) struct DemoArgs {
    /// Make a tour by itself on free ports, show what happens, and exit: 0 only if all went as it should
    #[arg(long)]
    pub(super) once: bool,
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
    /// The directory to begin, mode 0700; the key signs from now on.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(super) dir: Option<PathBuf>,
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
    /// Whose, where the credential has a login for each person (subject_header).
    #[arg(long, value_name = "NAME")]
    pub(super) subject: Option<String>,
    /// Print the token itself, and nothing else, on stdout: on a terminal only.
    #[arg(long, conflicts_with = "output")]
    pub(super) reveal: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// A login's answer counts for no longer (R66).
const LONGEST_LOGIN: Duration = Duration::from_secs(5 * 60);

/// Log in at an authorization server, so that bursar can get tokens in a person's name.
#[derive(Args)]
pub(super) struct LoginArgs {
    /// For which credential: one whose grant is authorization_code, or id_key without user_id.
    pub(super) credential: String,
    /// Whose login it is, where the credential has one for each person (subject_header): the name that the application sends.
    #[arg(long, value_name = "NAME")]
    pub(super) subject: Option<String>,
    /// Do not offer to open a browser; print the address only.
    #[arg(long)]
    pub(super) no_browser: bool,
    /// Listen nowhere: the address at which the browser ends is pasted here (or comes by a pipe).
    #[arg(long, conflicts_with = "no_browser")]
    pub(super) paste: bool,
    /// How long the person may take; at most 5m.
    #[arg(long, value_name = "DURATION", default_value = "180s", value_parser = login_limit)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// End a login: revoke it where the authorization server can, and forget it.
#[derive(Args)]
pub(super) struct LogoutArgs {
    /// For which credential.
    pub(super) credential: String,
    /// Whose login it is, where the credential has one for each person (subject_header).
    #[arg(long, value_name = "NAME")]
    pub(super) subject: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// `bursar keys rotate`.
#[derive(Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    pub(super) whose: WhoseKeys,
    /// Print what would happen and when, and change nothing.
    #[arg(long)]
    pub(super) plan: bool,
    /// What the new key signs with; the algorithm of the present key without it.
    #[arg(long, value_name = "ALG", value_parser = algorithm)]
    pub(super) alg: Option<Algorithm>,
    /// When the new key begins to sign, at least jwks_max_age from now; twice that without it.
    #[arg(long = "in", value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "now")]
    pub(super) lead: Option<Duration>,
    /// Delete the key that waits for its turn, and make another one in its place.
    #[arg(long)]
    pub(super) replace: bool,
    /// The keys have leaked: the new one signs at once, all others are deleted. Token requests may be refused until the
    /// authorization server fetches the key set again.
    #[arg(long, conflicts_with = "replace")]
    pub(super) now: bool,
}

/// Which keys a command is about.
#[derive(Args)]
pub(super) struct WhoseKeys {
    /// The name of a credential.
    #[arg(value_name = "CREDENTIAL")]
    pub(super) credential: Option<String>,
    /// A directory of keys, in place of a configuration.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["credential", "config"])]
    pub(super) dir: Option<PathBuf>,
    /// With --dir: how long the authorization server may use a key set before it fetches it again.
    #[arg(long, value_name = "DURATION", requires = "dir", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(super) jwks_max_age: Duration,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
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

fn login_limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match limit {
        Duration::ZERO => Err("nobody can log in in no time".to_owned()),
        limit if limit > LONGEST_LOGIN => {
            Err("the answer of a login counts for 5m at most".to_owned())
        }
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_waits_for_five_minutes_at_most() {
        assert_eq!(login_limit("180s"), Ok(Duration::from_secs(180)));
        assert_eq!(login_limit("5m"), Ok(LONGEST_LOGIN));
        for wrong in ["5m 1s", "0s", "1h", "soon", ""] {
            assert!(login_limit(wrong).is_err(), "{wrong}");
        }
    }
}
