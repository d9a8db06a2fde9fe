//! One real token request per credential and scope set: does the authorization server know this
//! client, and does it grant what the allowlist needs?

use std::{sync::Arc, time::Duration};

use super::{
    audience,
    report::{Category, Check},
};
use crate::{
    cli::{
        exit::Exit,
        explain::{live, token_request_code},
    },
    clock::{Clock as _, SystemClock},
    config::{Config, CredentialUse, UpstreamConfig},
    oauth::{
        Answer, Cause, ClientParams, Failure, OAuthError, ScopeSource, TokenEndpoint, TokenRequest,
        TokenSource as _, Unreachable,
    },
    scope::{Scope, ScopeSet},
    token::{Ask, Credential, Source},
};

/// A clock that is further off than this is worth a word: assertions live for a minute.
const TOLERATED_SKEW_SECONDS: f64 = 30.0;

pub(super) async fn check(config: &Config) -> Category {
    let mut asked: Vec<(&Arc<Credential>, &Ask)> = Vec::new();
    let mut checks = Vec::new();
    for CredentialUse { credential, ask } in config
        .upstreams
        .iter()
        .flat_map(UpstreamConfig::credentials)
    {
        let is_known = asked.iter().any(|(other, its)| {
            other.name == credential.name && its.scopes == ask.scopes && its.send == ask.send
        });
        if let (false, Source::Client(client)) = (is_known, &credential.source) {
            asked.push((credential, ask));
            checks.extend(ask_once(&credential.name, client, ask).await);
        }
    }
    Category {
        name: "tokens",
        checks,
    }
}

async fn ask_once(name: &str, client: &ClientParams, ask: &Ask) -> Vec<Check> {
    let scopes = ask.send.then_some(&ask.scopes);
    let outcome = request(client.clone(), scopes).await;
    let mut checks = judge(name, scopes, &outcome);
    if let (Ok(answer), ScopeSource::AnswerOrToken) = (&outcome, client.scope_source) {
        checks.extend(lifetime(name, answer));
    }
    if let Err(failure) = &outcome
        && failure.cause == Cause::Rejected(OAuthError::InvalidClient)
    {
        checks.extend(ask_with_the_other_audience(name, client, scopes).await);
    }
    checks
}

/// After `invalid_client`: asks once with the other audience, and says whether that one works.
async fn ask_with_the_other_audience(
    name: &str,
    client: &ClientParams,
    scopes: Option<&ScopeSet>,
) -> Option<Check> {
    let (other, audience) = audience::other(client)?;
    // Token requests for one token are at least a second apart.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let outcome = request(other, scopes).await;
    Some(audience::verdict(name, &audience, &outcome))
}

/// One token request.
pub(in crate::cli) async fn request(
    client: ClientParams,
    scopes: Option<&ScopeSet>,
) -> Result<Answer, Failure> {
    TokenEndpoint::new(client)
        .request(TokenRequest {
            scopes: scopes.cloned(),
            subject: None,
            now: SystemClock.now(),
            skew_seconds: 0.0,
            is_forced: false,
        })
        .await
}

fn judge(name: &str, scopes: Option<&ScopeSet>, outcome: &Result<Answer, Failure>) -> Vec<Check> {
    let skew = match outcome {
        Ok(answer) => answer.skew_seconds,
        Err(failure) => failure.skew_seconds,
    };
    let mut checks = vec![match outcome {
        Ok(answer) => granted(name, scopes, answer),
        Err(failure) => refused(name, &failure.cause),
    }];
    checks.extend(skew.and_then(|skew| clock(name, skew)));
    checks
}

fn granted(name: &str, scopes: Option<&ScopeSet>, answer: &Answer) -> Check {
    let life = answer.expires_in.map_or_else(
        || "of a lifetime that the answer does not tell (default_lifetime counts)".to_owned(),
        |life| format!("that lives {}", humantime::format_duration(life)),
    );
    let Some(asked) = scopes else {
        return Check::good(format!(
            "{name}: the authorization server gives a token {life}"
        ));
    };
    let missing: Vec<&str> = match &answer.granted {
        Some(granted) => asked
            .iter()
            .filter(|scope| !granted.covers(scope))
            .map(Scope::as_str)
            .collect(),
        None => Vec::new(),
    };
    if missing.is_empty() {
        return Check::good(format!(
            "{name}: the authorization server gives a token {life}, with every scope asked for ({})",
            asked.len()
        ));
    }
    Check::bad(
        format!(
            "{name}: a token {life}, with {} of {} scopes",
            asked.len() - missing.len(),
            asked.len()
        ),
        format!("not granted: {}", missing.join(" ")),
        live::NARROWER_SCOPE,
        "routes that need them are refused (insufficient_scope): add them to the application's \
         registration at the LMS, or take them out of scopes",
        Exit::Refused,
    )
}

fn refused(name: &str, cause: &Cause) -> Check {
    let (exit, hint) = advice(cause);
    Check::bad(
        format!("{name}: no token"),
        cause.to_string(),
        token_request_code(cause),
        hint,
        exit,
    )
}

/// What kind of trouble it is, and what to do about it.
pub(in crate::cli) const fn advice(cause: &Cause) -> (Exit, &'static str) {
    match cause {
        Cause::LoginNeeded(_) => (
            Exit::LoginNeeded,
            "run: bursar login, with the name of the credential",
        ),
        Cause::Store(_) => (
            Exit::Failed,
            "is the directory of `state` there, writable for this user, and is its disk not full?",
        ),
        Cause::Unreachable(Unreachable::Tls) => (
            Exit::Refused,
            "is a company's TLS inspection in between? then its CA belongs into ca_file",
        ),
        Cause::Unreachable(Unreachable::ProxyRefused(..500)) => (
            Exit::Refused,
            "do user and password in http_proxy fit, and does the proxy allow CONNECT to the host of token_url?",
        ),
        Cause::Unreachable(Unreachable::Proxy | Unreachable::ProxyRefused(_)) => (
            Exit::Temporary,
            "is http_proxy right, and may this machine connect to it?",
        ),
        Cause::Unreachable(_) | Cause::Timeout(_) => (
            Exit::Temporary,
            "is token_url right, and may this machine connect to it? bursar ignores HTTPS_PROXY; http_proxy is the setting",
        ),
        Cause::Throttled(_)
        | Cause::Status(500..)
        | Cause::Rejected(OAuthError::TemporarilyUnavailable | OAuthError::ServerError) => {
            (Exit::Temporary, "nothing to change here: ask again later")
        }
        Cause::Rejected(OAuthError::InvalidClient) => (
            Exit::Refused,
            "is client_id right, and is the registered key or secret this one? \
             compare the registered key set with: bursar keys jwks",
        ),
        // What a grant brings with it: so far an assertion (RFC 7523 section 3.1).
        Cause::Rejected(OAuthError::InvalidGrant) => (
            Exit::Refused,
            "does the server know the assertion's client_id, subject, audience and key? \
             compare the registered key set with: bursar keys jwks",
        ),
        Cause::Rejected(OAuthError::InvalidScope) => (
            Exit::Refused,
            "a scope of the allowlist is not registered for this client, or does not exist",
        ),
        Cause::Rejected(_) => (
            Exit::Refused,
            "is the client registered for this grant, and with these scopes?",
        ),
        Cause::NotSent(_) => (
            Exit::Refused,
            "the settings of this credential do not make a request that can be sent",
        ),
        Cause::InvalidResponse(_) | Cause::Status(_) => (
            Exit::Refused,
            "is token_url the token endpoint, and not a login page or another service?",
        ),
    }
}

/// `skew`: local minus server, in seconds.
fn clock(name: &str, skew: f64) -> Option<Check> {
    let direction = if skew > 0.0 { "ahead of" } else { "behind" };
    (skew.abs() > TOLERATED_SKEW_SECONDS).then(|| {
        Check::warning(
            format!("{name}: clock"),
            format!(
                "this machine's clock is {:.0} s {direction} the authorization server's",
                skew.abs()
            ),
            live::CLOCK_SKEW,
            "bursar corrects what it signs, but put NTP right",
        )
    })
}

/// Brightspace gives tokens that live 30 minutes to 20 hours.
fn lifetime(name: &str, answer: &Answer) -> Option<Check> {
    let usual = Duration::from_secs(30 * 60)..=Duration::from_secs(20 * 60 * 60);
    let life = answer.expires_in.filter(|life| !usual.contains(life))?;
    Some(Check::warning(
        format!("{name}: lifetime"),
        format!(
            "a token lives {}; Brightspace gives 30 minutes to 20 hours",
            humantime::format_duration(life)
        ),
        live::ODD_LIFETIME,
        "nothing to do if it is meant; else change it in the application's registration",
    ))
}

#[cfg(test)]
mod tests;
