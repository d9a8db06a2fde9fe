//! What may be said of a token to anybody: everything but the token.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    cli::output,
    clock::Moment,
    oauth::{Answer, Injection},
    scope::{Scope, ScopeSet},
    token::Credential,
};

/// Parts of a JWT that name people in charge, times and keys; others may hold what is nobody's business.
const HEADER: &[&str] = &["alg", "kid"];
const CLAIMS: &[&str] = &["iss", "sub", "aud", "client_id", "iat", "nbf", "exp"];

/// Whose token it is.
pub(super) struct Subject<'a> {
    pub(super) credential: &'a Credential,
    pub(super) upstream: Option<&'a str>,
    /// `None`: no scope parameter was sent.
    pub(super) asked: Option<&'a ScopeSet>,
}

/// The metadata of a token.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Description {
    credential: String,
    upstream: Option<String>,
    grant: &'static str,
    auth_method: &'static str,
    token_type: &'static str,
    /// Absent: no scope parameter was sent.
    scopes_asked: Option<Vec<String>>,
    /// Absent: the AS did not say, so as asked (RFC 6749 section 5.1).
    scopes_granted: Option<Vec<String>>,
    scopes_missing: Vec<String>,
    /// Absent: the AS did not say, or the token is static.
    expires_in_seconds: Option<u64>,
    /// RFC 3339.
    expires_at: Option<String>,
    /// Of a token that is a JWT, unverified: some of its header and of its claims.
    jwt: Option<Map<String, Value>>,
}

impl Description {
    pub(super) fn of(subject: &Subject<'_>, token: &Answer, now: Moment) -> Self {
        let names = |scopes: &ScopeSet| scopes.iter().map(Scope::to_string).collect::<Vec<_>>();
        let missing = match (subject.asked, &token.granted) {
            (Some(asked), Some(granted)) => asked
                .iter()
                .filter(|scope| !granted.covers(scope))
                .map(Scope::to_string)
                .collect(),
            _ => Vec::new(),
        };
        Self {
            credential: subject.credential.name.to_string(),
            upstream: subject.upstream.map(str::to_owned),
            grant: subject.credential.grant,
            auth_method: subject.credential.auth_method,
            token_type: match token.injection {
                Injection::Bearer(_) => "Bearer",
                Injection::Parameter { name, .. } => name,
                Injection::Signature(_) => "signature",
            },
            scopes_asked: subject.asked.map(names),
            scopes_granted: token.granted.as_ref().map(names),
            scopes_missing: missing,
            expires_in_seconds: token.left().map(|life| life.as_secs()),
            expires_at: token.left().map(|life| rfc3339(now.after(life).wall)),
            jwt: jwt(bare(token)),
        }
    }

    pub(super) fn json(&self) -> String {
        // A struct of texts and numbers always is JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub(super) fn table(&self) -> String {
        let scopes = |scopes: &Option<Vec<String>>, otherwise: &str| match scopes {
            Some(scopes) => scopes.join(" "),
            None => otherwise.to_owned(),
        };
        let expires = match (&self.expires_at, self.expires_in_seconds) {
            (Some(at), Some(seconds)) => format!(
                "{at}, in {}",
                humantime::format_duration(Duration::from_secs(seconds))
            ),
            _ if self.grant == "static" => "not known: the token is static".to_owned(),
            _ if self.token_type == "signature" => {
                "not known: the user's key, which signs each request, may expire at the LMS"
                    .to_owned()
            }
            _ => "the answer does not say (default_lifetime counts)".to_owned(),
        };
        let mut lines = vec![
            ("credential", self.credential.clone()),
            (
                "upstream",
                self.upstream.clone().unwrap_or_else(|| "none".to_owned()),
            ),
            ("grant", self.grant.to_owned()),
            ("auth method", self.auth_method.to_owned()),
            ("token type", self.token_type.to_owned()),
            (
                "asked for",
                scopes(&self.scopes_asked, "no scopes: as registered"),
            ),
            (
                "granted",
                scopes(&self.scopes_granted, "the answer does not say: as asked"),
            ),
        ];
        if !self.scopes_missing.is_empty() {
            lines.push(("not granted", self.scopes_missing.join(" ")));
        }
        lines.push(("expires", expires));
        for (name, value) in self.jwt.iter().flatten() {
            lines.push(("JWT (not verified)", format!("{name} = {}", visible(value))));
        }
        let rows: Vec<_> = lines
            .into_iter()
            .map(|(name, value)| vec![name.to_owned(), value])
            .collect();
        output::columns(&rows)
    }
}

/// The token without its scheme.
pub(super) fn bare(token: &Answer) -> &str {
    std::str::from_utf8(token.injection.secret()).unwrap_or_default()
}

/// A text that the token claims, if it is a JWT: for people to read, since its signature is not looked at.
pub(in crate::cli) fn claim(token: &Answer, name: &str) -> Option<String> {
    match jwt(bare(token))?.remove(name)? {
        Value::String(text) => Some(crate::telemetry::visible(&text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Some of what a JWT says of itself; `None`: it is none.
fn jwt(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut header = object(header)?;
    let mut claims = object(claims)?;
    let mut told = Map::new();
    for (names, from) in [(HEADER, &mut header), (CLAIMS, &mut claims)] {
        for name in names {
            if let Some(value) = from.remove(*name) {
                told.insert((*name).to_owned(), value);
            }
        }
    }
    Some(told)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// As JSON, which leaves no control character as it is; the rest that could act on a terminal is escaped too.
fn visible(value: &Value) -> String {
    let text = value.to_string();
    if text.is_ascii() {
        text
    } else {
        text.escape_unicode().to_string()
    }
}

fn rfc3339(wall: Duration) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(wall);
    at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_seconds(at).to_string()
    })
}
