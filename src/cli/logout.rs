//! `bursar logout`: takes a login back at the authorization server where that can be done, then forgets it.

use std::sync::Arc;

use super::{
    Exit,
    args::LogoutArgs,
    check,
    login::Place,
    output::tell,
    stored::{self, Custody},
};
use crate::{
    clock::{Clock as _, SystemClock},
    config::Loaded,
    oauth::{Failure, Injection, Revocation, TokenRequest},
    store::{Granted, Record, StoreError},
};

/// What a logout does not reach: tokens in the memory of a bursar that runs.
const STILL_HELD: &str = "A running bursar uses the access token that it holds until its end, and gets no other. To cut it off at once, restart it.\n";

/// How it went.
enum End {
    /// There was none.
    NotLoggedIn,
    /// A user's ID key is forgotten. There is no way to take it back by a call.
    KeyForgotten,
    /// Forgotten; and at the authorization server:
    Forgotten(Revoked),
}

enum Revoked {
    Yes,
    /// Nobody knows how.
    NoWay,
    Failed(Failure),
}

pub(super) fn run(args: &LogoutArgs, loaded: &Loaded) -> Exit {
    let config = &loaded.config;
    let subject = args.subject.as_deref();
    let outcome = match stored::user_key_of(config, &args.credential) {
        Some((credential, params)) => Place::of(config, credential, params, subject).map(|place| {
            run_to_end(&args.credential, async {
                Ok(match place.forget().await? {
                    true => End::KeyForgotten,
                    false => End::NotLoggedIn,
                })
            })
        }),
        None => Custody::of(config, &args.credential).and_then(|custody| {
            let subject = custody.subject(subject)?;
            let revocation = config.revocations.get(&custody.credential.name);
            let end = log_out(&custody, subject.as_ref(), revocation);
            Ok(run_to_end(&args.credential, end))
        }),
    };
    outcome.unwrap_or_else(|error| {
        tell(&format!("bursar: {error}\n"));
        error.exit()
    })
}

fn run_to_end(credential: &str, logout: impl Future<Output = Result<End, StoreError>>) -> Exit {
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
    match runtime.block_on(logout) {
        Ok(end) => report(&end, credential),
        Err(error) => stored::tell_store_error(&error),
    }
}

async fn log_out(
    custody: &Custody<'_>,
    subject: Option<&Arc<str>>,
    revocation: Option<&Revocation>,
) -> Result<End, StoreError> {
    let key = custody.params.store_key(&custody.credential.name, subject);
    let guard = stored::lock(&custody.store, &key).await?;
    // One that cannot be read can be forgotten all the same.
    let revoked = match guard.current().await {
        Ok(None) => return Ok(End::NotLoggedIn),
        Ok(Some(record)) => revoke(custody, &record, revocation).await,
        Err(error) => {
            stored::tell_store_error(&error);
            Revoked::NoWay
        }
    };
    guard.forget().await?;
    Ok(End::Forgotten(revoked))
}

async fn revoke(
    custody: &Custody<'_>,
    record: &Record,
    revocation: Option<&Revocation>,
) -> Revoked {
    let (Some(revocation), Granted::RefreshToken { token, .. }) = (revocation, &record.granted)
    else {
        return Revoked::NoWay;
    };
    let now = SystemClock.now();
    let access = record
        .access
        .as_ref()
        .filter(|access| access.expires > now.wall)
        .and_then(|access| Injection::bearer(&access.token));
    let request = TokenRequest {
        scopes: None,
        subject: None,
        now,
        skew_seconds: 0.0,
        is_forced: false,
    };
    let client = &custody.params.client;
    match revocation
        .revoke(client, token, access.as_ref(), &request)
        .await
    {
        Ok(()) => Revoked::Yes,
        Err(failure) => Revoked::Failed(failure),
    }
}

fn report(end: &End, credential: &str) -> Exit {
    let (text, exit) = match end {
        End::NotLoggedIn => (
            format!("Nobody is logged in for {credential}: there is nothing to do.\n"),
            Exit::Done,
        ),
        End::KeyForgotten => (
            format!(
                "Forgotten here, but not taken back: the user's key for {credential} stays good at the LMS until it ends there. A new\n\
                 login replaces it; an administrator of the LMS can end it.\n"
            ),
            Exit::Done,
        ),
        End::Forgotten(Revoked::Yes) => (
            format!(
                "Logged out of {credential}: the authorization server has taken the login back, and it is forgotten here.\n"
            ),
            Exit::Done,
        ),
        End::Forgotten(Revoked::NoWay) => (
            format!(
                "Forgotten here, but not taken back: for {credential} no way is known to revoke a login at the authorization\n\
                 server (revocation_url). Who has a copy of the store and its key could go on with it: remove the application's\n\
                 access in the account's settings at the LMS.\n"
            ),
            Exit::Done,
        ),
        End::Forgotten(Revoked::Failed(failure)) => {
            let (exit, hint) = check::advice(&failure.cause);
            (
                format!(
                    "Forgotten here, but not taken back: {failure}\n  {hint}\n  Remove the application's access in the \
                     account's settings at the LMS.\n"
                ),
                match exit {
                    Exit::Temporary => Exit::Temporary,
                    _ => Exit::Failed,
                },
            )
        }
    };
    tell(&text);
    if matches!(end, End::Forgotten(_)) {
        tell(STILL_HELD);
    }
    exit
}
