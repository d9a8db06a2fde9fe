//! `bursar login`: a person agrees in a browser, once; what that brings is stored, and a running bursar goes on with it.

mod attempt;
mod browser;
mod certificate;
mod confirmation;
mod consent;
mod dialogue;
mod door;
mod guard;
mod lines;
mod neighbour;
mod outcome;
mod page;

use std::sync::Arc;

use super::{
    Exit, Surroundings,
    args::LoginArgs,
    check,
    output::tell,
    signals,
    stored::{self, Custody, asked_scopes},
};
use crate::{
    causes::with_causes,
    clock::{Clock as _, SystemClock},
    config::Loaded,
    oauth::{Answer, Failure, LoginGrant, TokenEndpoint, TokenRequest},
    scope::{Scope, ScopeSet},
    store::{Record, StoreError, StoreKey},
};
use attempt::Brought;
use confirmation::Confirmation;
pub(super) use consent::Place;
use dialogue::{Answered, DialogueError, Listener, Manner, Request};
use page::Page;

/// Why nobody is logged in now.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LoginError {
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    #[error("no token: {0}")]
    Exchange(#[from] Failure),
    #[error(
        "the authorization server gives an access token, but no refresh token, so the login would end with it. \
         Enable refresh tokens in the application's registration"
    )]
    NoRefreshToken,
    #[error("what came back is the answer to another kind of login; please report this")]
    OtherKind,
    #[error("the token store")]
    Store(#[from] StoreError),
}

impl LoginError {
    fn exit(&self) -> Exit {
        match self {
            Self::Dialogue(DialogueError::TimedOut(_)) => Exit::LoginNeeded,
            Self::Dialogue(DialogueError::Interrupted) => Exit::Interrupted,
            Self::Dialogue(DialogueError::NobodyToConfirm) => Exit::Usage,
            Self::Dialogue(_) | Self::NoRefreshToken | Self::OtherKind => Exit::Failed,
            Self::Exchange(failure) => match check::advice(&failure.cause) {
                (Exit::Temporary, _) => Exit::Temporary,
                _ => Exit::Failed,
            },
            Self::Store(error) => stored::exit_of(error),
        }
    }

    fn hint(&self, credential: &str) -> Option<String> {
        match self {
            Self::Dialogue(DialogueError::Door(_)) => Some(format!(
                "another program may have the port, or it takes rights that you do not have. Without a listener: \
                 bursar login {credential} --paste"
            )),
            Self::Dialogue(DialogueError::NobodyToConfirm) => Some(format!(
                "run it on a terminal, or paste the address at which the browser ends: bursar login {credential} --paste"
            )),
            Self::Dialogue(DialogueError::TimedOut(_) | DialogueError::NotConfirmed) => {
                Some(format!("again: bursar login {credential}"))
            }
            Self::Exchange(failure) => Some(check::advice(&failure.cause).1.to_owned()),
            Self::Store(error) => Some(error.hint().to_owned()),
            _ => None,
        }
    }
}

pub(super) fn run(args: &LoginArgs, loaded: &Loaded, surroundings: &Surroundings) -> Exit {
    let config = &loaded.config;
    let outcome = match stored::user_key_of(config, &args.credential) {
        Some((credential, params)) => {
            let subject = args.subject.as_deref();
            Place::of(config, credential, params, subject)
                .map(|place| run_to_end(&args.credential, place.log_in(args, surroundings)))
        }
        None => Custody::of(config, &args.credential).and_then(|custody| {
            let subject = custody.subject(args.subject.as_deref())?;
            let scopes = asked_scopes(config, &custody.credential.name);
            let (subject, scopes) = (subject.as_ref(), scopes.as_ref());
            let login = log_in(&custody, subject, scopes, args, surroundings);
            Ok(run_to_end(&args.credential, login))
        }),
    };
    outcome.unwrap_or_else(|error| {
        tell(&format!("bursar: {error}\n"));
        error.exit()
    })
}

fn run_to_end(credential: &str, login: impl Future<Output = Result<(), LoginError>>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("bursar: this machine gives no runtime: {error}\n"));
            return Exit::Failed;
        }
    };
    match runtime.block_on(login) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let hint = error.hint(credential);
            let hint = hint.map_or_else(String::new, |hint| format!("  {hint}\n"));
            tell(&format!("bursar: {}\n{hint}", with_causes(&error)));
            error.exit()
        }
    }
}

async fn log_in(
    custody: &Custody<'_>,
    subject: Option<&Arc<str>>,
    scopes: Option<&ScopeSet>,
    args: &LoginArgs,
    surroundings: &Surroundings,
) -> Result<(), LoginError> {
    let params = custody.params;
    let name = &custody.credential.name;
    let key = params.store_key(name, subject);
    // A store that cannot take the login shows now, and not when somebody has logged in.
    stored::lock(&custody.store, &key).await?.reserve().await?;

    let authorization = &params.authorization;
    let is_elsewhere = authorization.redirect_uri.loopback().is_empty();
    let request = Request {
        credential: name,
        subject: subject.map(|subject| &**subject),
        client_id: &params.client.client_id,
        params: authorization,
        scopes,
        signer: None,
    };
    let manner = Manner {
        opens_browser: !args.no_browser,
        // Nothing here can answer for another machine.
        pastes: args.paste || is_elsewhere,
        limit: args.timeout,
    };
    let mut stops = signals::listen().map_err(DialogueError::Signals)?;
    let Answered {
        brought,
        mut listener,
        lines,
    } = dialogue::ask(&request, manner, &mut stops, surroundings).await?;
    let Brought::Grant(code) = brought else {
        return Err(LoginError::OtherKind);
    };
    let is_anybodys =
        authorization.relay_parameter.is_some() && matches!(listener, Listener::Browser(..));
    let concluded = if is_anybodys {
        let confirmation = Confirmation {
            listener: &mut listener,
            lines,
            limit: args.timeout,
            stops: &mut stops,
        };
        conclude_confirmed(custody, &key, &code, scopes, confirmation).await
    } else {
        conclude(custody, &key, &code, scopes).await
    };
    show(listener, &concluded).await;
    let (answer, account) = concluded?;
    tell(&outcome::told(
        &outcome::Outcome {
            credential: name,
            subject: request.subject,
            account: account.as_deref(),
            asked: scopes,
            answer: &answer,
            keeps_in: custody.place(),
        },
        SystemClock.now(),
    ));
    Ok(())
}

/// Exchanges the code and stores what it brings. Nobody else changes the record meanwhile.
pub(in crate::cli) async fn conclude(
    custody: &Custody<'_>,
    key: &StoreKey,
    code: &LoginGrant,
    scopes: Option<&ScopeSet>,
) -> Result<(Answer, Option<String>), LoginError> {
    let guard = stored::lock(&custody.store, key).await?;
    guard.reserve().await?;
    let redeemed = redeem(custody, key, code, scopes).await?;
    guard.replace(&redeemed.record).await?;
    Ok((redeemed.answer, redeemed.account))
}

/// The same for an answer that any page can have sent the browser here with: it is stored when the person says that the login is
/// theirs. A running bursar has the lock meanwhile.
async fn conclude_confirmed(
    custody: &Custody<'_>,
    key: &StoreKey,
    code: &LoginGrant,
    scopes: Option<&ScopeSet>,
    confirmation: Confirmation<'_>,
) -> Result<(Answer, Option<String>), LoginError> {
    let redeemed = redeem(custody, key, code, scopes).await?;
    confirmation.ask(redeemed.account.as_deref()).await?;
    let guard = stored::lock(&custody.store, key).await?;
    guard.replace(&redeemed.record).await?;
    Ok((redeemed.answer, redeemed.account))
}

/// What a code has brought.
struct Redeemed {
    answer: Answer,
    account: Option<String>,
    record: Record,
}

async fn redeem(
    custody: &Custody<'_>,
    key: &StoreKey,
    code: &LoginGrant,
    scopes: Option<&ScopeSet>,
) -> Result<Redeemed, LoginError> {
    let request = TokenRequest {
        scopes: scopes.cloned(),
        subject: key.subject.clone(),
        now: SystemClock.now(),
        skew_seconds: 0.0,
        is_forced: false,
    };
    let endpoint = TokenEndpoint::new(custody.params.client.clone());
    let answer = endpoint.redeem(code, &request).await?;
    let account = answer
        .account
        .clone()
        .or_else(|| super::token::claim(&answer, "sub"));
    let record = outcome::record(custody, &answer, &request, account.clone())
        .ok_or(LoginError::NoRefreshToken)?;
    Ok(Redeemed {
        answer,
        account,
        record,
    })
}

async fn show(listener: Listener, concluded: &Result<(Answer, Option<String>), LoginError>) {
    let page = match concluded {
        Ok((_, account)) => {
            let whom = account
                .as_deref()
                .map_or_else(String::new, |account| format!(" as {account}"));
            Page::done(format!(
                "bursar has what it needs{whom}. You can close this tab; the terminal tells what was granted."
            ))
        }
        Err(error) => Page::failed(format!(
            "The login went well, but bursar cannot use it: {}\nThe terminal tells what to do.",
            with_causes(error)
        )),
    };
    listener.tell(page).await;
}

/// What of `asked` was not granted.
fn missing(asked: Option<&ScopeSet>, granted: Option<&ScopeSet>) -> Vec<String> {
    match (asked, granted) {
        (Some(asked), Some(granted)) => asked
            .iter()
            .filter(|scope| !granted.covers(scope))
            .map(Scope::to_string)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_ended_is_in_the_exit_code() {
        let exit = |error: LoginError| error.exit().code();
        assert_eq!(
            exit(DialogueError::TimedOut(std::time::Duration::ZERO).into()),
            4
        );
        assert_eq!(exit(DialogueError::Interrupted.into()), 130);
        assert_eq!(exit(DialogueError::NothingPasted.into()), 1);
        assert_eq!(exit(DialogueError::NotConfirmed.into()), 1);
        assert_eq!(exit(DialogueError::NobodyToConfirm.into()), 2);
        let unreachable = crate::oauth::Cause::Unreachable(crate::oauth::Unreachable::Dns);
        assert_eq!(exit(Failure::from(unreachable).into()), 75);
        let rejected = crate::oauth::Cause::Rejected(crate::oauth::OAuthError::InvalidGrant);
        assert_eq!(exit(Failure::from(rejected).into()), 1);
        assert_eq!(exit(LoginError::NoRefreshToken), 1);
    }
}
