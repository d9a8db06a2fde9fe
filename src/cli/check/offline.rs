//! What can be checked without sending anything: the configuration, its files, its keys.

use std::{path::Path, time::Duration};

use super::report::{Category, Check, Report};
use crate::{
    cli::exit::Exit,
    clock::{Clock as _, SystemClock},
    config::{Loaded, Problem, ProblemCode, Problems},
    id_key::IdKey,
    keys::KeyRing,
    oauth::{BasicEncoding, ClientAuth, ClientParams, Grant, Injection},
    token::{Credential, Source},
};

/// The checks of a configuration that is valid: loading it has read the files, judged their
/// permissions, signed once with each key and built each policy.
pub(super) fn checks(loaded: &Loaded) -> Report {
    Report {
        categories: vec![
            Category {
                name: "config",
                checks: config(loaded),
            },
            Category {
                name: "credentials",
                checks: loaded
                    .config
                    .credentials
                    .iter()
                    .map(|credential| Check::good(describe(credential)))
                    .collect(),
            },
        ],
    }
}

/// Everything that keeps a configuration from being valid.
pub(super) fn problems(problems: &Problems) -> Report {
    let exit = Exit::from_problems(problems);
    let checks = problems
        .iter()
        .map(|problem| {
            let (description, code) = (subject(problem), problem.code().as_str());
            match problem.severity() {
                crate::config::problem::Severity::Warning => {
                    Check::warning(description, problem.what(), code, problem.help())
                }
                crate::config::problem::Severity::Error => {
                    Check::bad(description, problem.what(), code, problem.help(), exit)
                }
            }
        })
        .collect();
    Report {
        categories: vec![Category {
            name: "config",
            checks,
        }],
    }
}

fn config(loaded: &Loaded) -> Vec<Check> {
    let config = &loaded.config;
    let name = loaded
        .path
        .as_deref()
        .map_or_else(|| "the environment".into(), Path::to_string_lossy);
    let routes: usize = config
        .upstreams
        .iter()
        .map(|upstream| upstream.policy.routes.len())
        .sum();
    let mut checks = vec![Check::good(format!(
        "{name} is valid ({}, {}, {})",
        counted(config.upstreams.len(), "upstream"),
        counted(routes, "route of its own"),
        counted(config.credentials.len(), "credential"),
    ))];
    let is_of_secrets = |code| {
        matches!(
            code,
            ProblemCode::SecretExposed | ProblemCode::KeysDirectory
        )
    };
    if !loaded
        .warnings
        .iter()
        .any(|warning| is_of_secrets(warning.code()))
    {
        checks.push(Check::good(
            "secret files are readable, and by nobody who should not",
        ));
    }
    checks.extend(loaded.warnings.iter().map(|warning| {
        Check::warning(
            subject(warning),
            warning.what(),
            warning.code().as_str(),
            warning.help(),
        )
    }));
    checks
}

fn subject(problem: &Problem) -> String {
    match (problem.key(), problem.place()) {
        ("", place) => place.to_string(),
        (key, place) => format!("{key} ({place})"),
    }
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.split_once(' ')) {
        (1, _) => format!("1 {what}"),
        (_, None) => format!("{count} {what}s"),
        (_, Some((noun, rest))) => format!("{count} {noun}s {rest}"),
    }
}

fn describe(credential: &Credential) -> String {
    let name = &credential.name;
    match &credential.source {
        Source::UserKey(params) => format!(
            "{name}: signs each request as application {}, with the key of whoever logs in",
            params.app.id()
        ),
        Source::Static(Injection::Signature(signer)) => format!(
            "{name}: signs each request as application {}, user {}",
            signer.app().id(),
            signer.user().map_or("none", IdKey::id)
        ),
        Source::Static(_) => format!("{name}: a static token, sent as it is; it is never renewed"),
        Source::Client(client) => described(credential, client),
        Source::Login(login) => described(credential, &login.client),
    }
}

fn described(credential: &Credential, client: &ClientParams) -> String {
    let (name, grant, auth) = (&credential.name, credential.grant, credential.auth_method);
    format!("{name}: {grant}, {auth}{}", details(client))
}

/// What the words of the configuration do not say.
fn details(client: &ClientParams) -> String {
    let mut text = String::new();
    if let ClientAuth::SecretBasic { encoding, .. } = &client.auth {
        text.push_str(match encoding {
            BasicEncoding::Form => ", pair form-encoded",
            BasicEncoding::Raw => ", pair as it is",
        });
    }
    if let Some(keys) = client.keys() {
        text.push_str(&describe_keys(keys, SystemClock.now().wall));
    }
    if let Some(assertion) = client.assertion() {
        text.push_str(&format!(", aud {}", assertion.audience));
    }
    if let Grant::JwtBearer { subject, .. } = &client.grant {
        text.push_str(&format!(", sub {subject}"));
    }
    text
}

/// The key that signs, and the one that follows it.
fn describe_keys(keys: &KeyRing, now: Duration) -> String {
    let key = keys.signing(now);
    let mut text = format!(", key {} kid {}", key.algorithm(), key.kid());
    let views = keys.views(now);
    if let Some(next) = views.iter().find(|view| view.state == "next") {
        text.push_str(&format!(
            ", from {} on key {} kid {}",
            next.start, next.algorithm, next.kid
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_counted_in_english() {
        assert_eq!(counted(1, "upstream"), "1 upstream");
        assert_eq!(counted(3, "upstream"), "3 upstreams");
        assert_eq!(counted(0, "route of its own"), "0 routes of its own");
        assert_eq!(counted(1, "route of its own"), "1 route of its own");
    }
}
