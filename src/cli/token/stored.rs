//! The token that a login has brought: the stored one, as it is. None is asked for, since that could spend a refresh token.

use super::TokenError;
use crate::{
    cli::{
        check,
        stored::{self, Custody, login_needed_by_now},
    },
    clock::{Clock as _, SystemClock},
    config::Config,
    oauth::{Answer, Cause, TokenRequest, TokenSource as _},
    token::{
        Credential, custody,
        user_key::{UserKeyParams, UserKeys},
    },
};

pub(super) fn token(
    config: &Config,
    name: &str,
    subject: Option<&str>,
) -> Result<Answer, TokenError> {
    let kept = Custody::of(config, name)?;
    let subject = kept.subject(subject)?;
    let key = kept
        .params
        .store_key(&kept.credential.name, subject.as_ref());
    let now = SystemClock.now().wall;
    runtime()?.block_on(async {
        let record = kept.store.read(&key).await?;
        if let Ok(answer) = custody::stored(&kept.store, &key, now).await {
            return Ok(answer);
        }
        let rules = &kept.params.refresh;
        Err(
            match login_needed_by_now(&kept.store, &key, rules, record.as_ref(), now).await? {
                Some(why) => TokenError::LoginNeeded {
                    command: stored::login_command(name, subject.as_deref()),
                    why,
                },
                None => TokenError::NoneStored,
            },
        )
    })
}

/// What signs requests in the name of a user who has logged in.
pub(super) fn user_key(
    config: &Config,
    credential: &Credential,
    params: &UserKeyParams,
) -> Result<Answer, TokenError> {
    let keys = UserKeys::new(stored::store(&config.state), &credential.name, params);
    let read = runtime()?.block_on(keys.request(TokenRequest {
        scopes: None,
        subject: None,
        now: SystemClock.now(),
        skew_seconds: 0.0,
        is_forced: false,
    }));
    read.map_err(|failure| match failure.cause {
        Cause::LoginNeeded(why) => TokenError::LoginNeeded {
            command: stored::login_command(&credential.name, None),
            why,
        },
        cause => {
            let (exit, hint) = check::advice(&cause);
            TokenError::NoToken { cause, hint, exit }
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, TokenError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| TokenError::Runtime(error.to_string()))
}
