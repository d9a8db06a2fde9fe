//! `bursar token`: asks for a token as the proxy would, and says what it is; on demand, and to a person only, the token itself.

mod describe;
mod stored;

use std::sync::Arc;

use super::{
    Exit, Surroundings,
    args::TokenArgs,
    check,
    output::{self, Format},
    stored::{NoCustody, exit_of},
};
use crate::{
    clock::{Clock as _, SystemClock},
    config::{Config, Loaded},
    oauth::{Answer, Cause, ClientParams, Failure, Injection, LoginNeeded},
    store::StoreError,
    token::{Ask, Credential, Source},
};
pub(in crate::cli) use describe::claim;
use describe::{Description, Subject};

/// What goes where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    stdout: String,
    stderr: String,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(
        "a token is revealed on a terminal only, so that it ends in no file, pipe or log; \
         a program sends its requests to bursar instead, and needs no token"
    )]
    NoTerminal,
    #[error(
        "there is no token to reveal: {0:?} signs each request, and a signature is good for one path and a few minutes"
    )]
    Signed(String),
    #[error("there is no credential {name:?}; there is: {known}")]
    UnknownCredential { name: String, known: String },
    #[error("{name:?} is no upstream of this credential; its upstreams: {known}")]
    UnknownUpstream { name: String, known: String },
    #[error("several upstreams use this credential: choose one with --upstream: {known}")]
    SeveralUpstreams { known: String },
    #[error("{} has no login for each person: --subject says nothing to it", .0)]
    SubjectUnwanted(String),
    #[error("this machine gives no runtime: {0}")]
    Runtime(String),
    #[error(transparent)]
    NoCustody(#[from] NoCustody),
    #[error("a login is needed: {why}\n  {command}")]
    LoginNeeded { command: String, why: LoginNeeded },
    #[error(
        "there is a login, but its stored token has expired. The running bursar gets the next one when it needs one; \
         this command spends no refresh token"
    )]
    NoneStored,
    #[error("the token store: {0}\n  {hint}", hint = .0.hint())]
    Store(#[from] StoreError),
    #[error("no token: {cause}\n  {hint}\n  bursar check tells more")]
    NoToken {
        cause: Cause,
        hint: &'static str,
        exit: Exit,
    },
}

impl TokenError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoTerminal
            | Self::Signed(_)
            | Self::UnknownCredential { .. }
            | Self::UnknownUpstream { .. }
            | Self::SeveralUpstreams { .. }
            | Self::SubjectUnwanted(_) => Exit::Usage,
            Self::Runtime(_) | Self::NoneStored => Exit::Failed,
            Self::NoCustody(error) => error.exit(),
            Self::LoginNeeded { .. } => Exit::LoginNeeded,
            Self::Store(error) => exit_of(error),
            // 3 is for `check` and `route test`: here the command has failed.
            Self::NoToken { exit, .. } if *exit == Exit::Temporary => Exit::Temporary,
            Self::NoToken { .. } => Exit::Failed,
        }
    }
}

pub(super) fn run(args: &TokenArgs, loaded: &Loaded, surroundings: &Surroundings) -> Exit {
    match answer(args, &loaded.config, surroundings.stdout_is_terminal) {
        Ok(said) => {
            output::tell(&said.stderr);
            output::print(&said.stdout)
        }
        Err(error) => {
            output::tell(&format!("bursar: {error}\n"));
            error.exit()
        }
    }
}

fn answer(args: &TokenArgs, config: &Config, is_terminal: bool) -> Result<Said, TokenError> {
    if args.reveal && !is_terminal {
        return Err(TokenError::NoTerminal);
    }
    let credential = credential(config, &args.credential)?;
    let (upstream, ask) = ask(config, credential, args.upstream.as_deref())?;
    let is_stored = matches!(credential.source, Source::Login(_));
    if args.subject.is_some() && !is_stored {
        return Err(TokenError::SubjectUnwanted(args.credential.clone()));
    }
    let token = match &credential.source {
        Source::Client(client) => request(client, ask)?,
        Source::Login(_) => stored::token(config, &args.credential, args.subject.as_deref())?,
        Source::UserKey(params) => stored::user_key(config, credential, params)?,
        Source::Static(token) => Answer {
            injection: token.clone(),
            expires_in: None,
            granted: None,
            refresh_token: None,
            refresh_expires_in: None,
            kept_for: None,
            account: None,
            skew_seconds: None,
        },
    };
    if args.reveal && matches!(token.injection, Injection::Signature(_)) {
        return Err(TokenError::Signed(credential.name.to_string()));
    }
    let subject = Subject {
        credential,
        upstream,
        asked: ask.filter(|ask| ask.send).map(|ask| &ask.scopes),
    };
    let description = Description::of(&subject, &token, SystemClock.now());
    Ok(match (args.reveal, args.output.output) {
        (true, _) => Said {
            stdout: describe::bare(&token).to_owned(),
            stderr: format!(
                "{}\nWho has this token has all its rights until it expires. {}. Do not put it into a file or a chat.\n\n",
                description.table(),
                if is_stored {
                    "It is the stored one, which the\nrunning bursar uses too"
                } else {
                    "It was asked for anew: the running\nbursar goes on with its own"
                }
            ),
        },
        (false, Format::Table) => Said {
            stdout: description.table(),
            ..Said::default()
        },
        (false, Format::Json) => Said {
            stdout: description.json(),
            ..Said::default()
        },
    })
}

fn credential<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Credential>, TokenError> {
    let mut credentials = config.credentials.iter();
    credentials
        .find(|credential| *credential.name == *name)
        .ok_or_else(|| TokenError::UnknownCredential {
            name: name.to_owned(),
            known: list(config.credentials.iter().map(|other| &*other.name)),
        })
}

/// What is asked for: what the one upstream asks that uses the credential, itself or in its routes, or the one that is named. A credential that no
/// upstream uses is asked for without scopes.
fn ask<'a>(
    config: &'a Config,
    credential: &Credential,
    upstream: Option<&str>,
) -> Result<(Option<&'a str>, Option<&'a Ask>), TokenError> {
    let users: Vec<(&str, &Ask)> = config
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.credentials().map(move |its| (upstream, its)))
        .filter(|(_, its)| its.credential.name == credential.name)
        .map(|(upstream, its)| (&*upstream.params.name, &its.ask))
        .collect();
    let known = || list(users.iter().map(|(name, _)| *name));
    if let Some(wanted) = upstream {
        let found = users.iter().find(|(name, _)| *name == wanted);
        let (name, ask) = found.ok_or_else(|| TokenError::UnknownUpstream {
            name: wanted.to_owned(),
            known: known(),
        })?;
        return Ok((Some(name), Some(ask)));
    }
    match users.as_slice() {
        [] => Ok((None, None)),
        [(name, ask), others @ ..] if others.iter().all(|(_, other)| other == ask) => {
            Ok((Some(name), Some(ask)))
        }
        _ => Err(TokenError::SeveralUpstreams { known: known() }),
    }
}

/// The token and what was said of it.
fn request(client: &ClientParams, ask: Option<&Ask>) -> Result<Answer, TokenError> {
    let scopes = ask.filter(|ask| ask.send).map(|ask| &ask.scopes);
    let outcome: Result<Answer, Failure> = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| TokenError::Runtime(error.to_string()))?
        .block_on(check::request(client.clone(), scopes));
    outcome.map_err(|failure| {
        let (exit, hint) = check::advice(&failure.cause);
        TokenError::NoToken {
            cause: failure.cause,
            hint,
            exit,
        }
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
