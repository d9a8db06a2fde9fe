//! The end of a login: what is stored, and what is said.

use super::missing;
use crate::{
    cli::stored::{Custody, end_of_login, rfc3339},
    clock::Moment,
    oauth::{Answer, Injection, TokenRequest},
    random,
    scope::ScopeSet,
    secret::SecretString,
    store::{Access, Granted, Record, Version},
};

/// What is worth saying.
pub(super) struct Outcome<'a> {
    pub(super) credential: &'a str,
    pub(super) subject: Option<&'a str>,
    pub(super) account: Option<&'a str>,
    pub(super) asked: Option<&'a ScopeSet>,
    pub(super) answer: &'a Answer,
    /// Where it is stored.
    pub(super) keeps_in: String,
}

/// What is stored; `None` where the answer has no refresh token.
pub(super) fn record(
    custody: &Custody<'_>,
    answer: &Answer,
    request: &TokenRequest,
    account: Option<String>,
) -> Option<Record> {
    let now = request.now.wall;
    let text = |scopes: &ScopeSet| scopes.to_string();
    let granted = answer.granted.as_ref().map(text);
    let asked = request.scopes.as_ref();
    let timing = custody.credential.timing;
    Some(Record {
        version: Version::first(random::id128()),
        granted: Granted::RefreshToken {
            token: answer.refresh_token.clone()?,
            expires: answer
                .refresh_expires_in
                .map(|life| now.saturating_add(life)),
        },
        access: access_token(answer).map(|token| Access {
            token,
            // As a renewal would name them: then it takes this token over.
            asked: asked
                .filter(|_| custody.params.refresh.names_scopes)
                .map(text),
            granted: granted.clone(),
            issued: now,
            expires: now.saturating_add(answer.expires_in.unwrap_or(timing.default_lifetime)),
        }),
        // An answer that names none grants what was asked for (RFC 6749 section 5.1).
        scopes: granted.or_else(|| asked.map(text)),
        account,
        intent: None,
        refused: None,
    })
}

fn access_token(answer: &Answer) -> Option<SecretString> {
    match &answer.injection {
        Injection::Bearer(_) => std::str::from_utf8(answer.injection.secret())
            .ok()
            .map(Into::into),
        _ => None,
    }
}

/// What a person wants to know at the end.
pub(super) fn told(outcome: &Outcome<'_>, now: Moment) -> String {
    let answer = outcome.answer;
    let mut text = format!("\nLogged in for credential {}", outcome.credential);
    if let Some(subject) = outcome.subject {
        text.push_str(&format!(", {subject}"));
    }
    match outcome.account {
        Some(account) => text.push_str(&format!("\n  account       {account}\n")),
        None => text.push_str("\n  account       the authorization server does not say\n"),
    }
    let asked = outcome.asked.map_or_else(
        || "no scopes: what the client is registered for".to_owned(),
        ToString::to_string,
    );
    text.push_str(&format!("  asked for     {asked}\n"));
    let granted = match &answer.granted {
        Some(granted) => granted.to_string(),
        None => "the authorization server does not say, so as asked".to_owned(),
    };
    text.push_str(&format!("  granted       {granted}\n"));
    let missing = missing(outcome.asked, answer.granted.as_ref());
    if !missing.is_empty() {
        text.push_str(&format!(
            "  NOT granted   {}\n                Requests that need it are refused (insufficient_scope): add it to the registration, and\n                log in again.\n",
            missing.join(" ")
        ));
    }
    let life = answer.expires_in.map_or_else(
        || "of a lifetime that the answer does not tell".to_owned(),
        |life| {
            format!(
                "until {}, and renewed by itself",
                rfc3339(now.after(life).wall)
            )
        },
    );
    text.push_str(&format!("  access token  {life}\n"));
    let refresh = answer.refresh_token.as_ref().map(|token| {
        end_of_login(&Granted::RefreshToken {
            token: token.clone(),
            expires: answer.refresh_expires_in.map(|life| now.after(life).wall),
        })
    });
    if let Some(refresh) = refresh {
        text.push_str(&format!("  login         {refresh}\n"));
    }
    text.push_str(&format!(
        "  stored in     {} (sealed)\n\nA running bursar goes on with it by itself, within seconds. Next: bursar check, or bursar run.\n",
        outcome.keeps_in
    ));
    text
}
