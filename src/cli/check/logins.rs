//! Has somebody logged in? Read from the store; nothing is sent, and no refresh token is spent.

use std::{sync::Arc, time::Duration};

use super::report::{Category, Check};
use crate::{
    cli::{
        explain::live,
        stored::{
            self, asked_scopes, end_of_login, granted_scopes, login_needed, login_needed_by_now,
            rfc3339,
        },
    },
    clock::{Clock as _, SystemClock},
    config::Config,
    oauth::LoginNeeded,
    scope::{Scope, ScopeSet},
    store::{Record, Store, StoreError, StoreKey},
    token::{Credential, Source, login::LoginParams},
};

/// `None` where nobody logs in for anything.
pub(super) async fn check(config: &Config) -> Option<Category> {
    let mut checks = Vec::new();
    let store = stored::store(&config.state);
    for credential in &config.credentials {
        let name = &credential.name;
        checks.extend(match &credential.source {
            Source::Login(params) => look(config, credential, params, &store).await,
            Source::UserKey(params) => {
                look_for_key(name, store.read(&params.store_key(name)).await)
            }
            _ => Vec::new(),
        });
    }
    (!checks.is_empty()).then_some(Category {
        name: "logins",
        checks,
    })
}

async fn look(
    config: &Config,
    credential: &Arc<Credential>,
    params: &LoginParams,
    store: &Store,
) -> Vec<Check> {
    let name = &credential.name;
    let now = SystemClock.now().wall;
    if credential.subject_header.is_some() {
        return match people(credential, params, store, now).await {
            Ok(check) => vec![check],
            Err(error) => vec![unusable(name, &error)],
        };
    }
    match read(store, params, &params.store_key(name, None), now).await {
        Ok((record, needed)) => {
            let asked = asked_scopes(config, name).unwrap_or_default();
            judge(name, record.as_ref(), needed, &asked, now)
        }
        Err(error) => vec![unusable(name, &error)],
    }
}

/// What is stored, and why it is worth nothing.
async fn read(
    store: &Store,
    params: &LoginParams,
    key: &StoreKey,
    now: Duration,
) -> Result<(Option<Record>, Option<LoginNeeded>), StoreError> {
    let record = store.read(key).await?;
    let needed = login_needed_by_now(store, key, &params.refresh, record.as_ref(), now).await?;
    Ok((record, needed))
}

/// A user's ID key has no scopes and no tokens.
fn look_for_key(name: &str, read: Result<Option<Record>, StoreError>) -> Vec<Check> {
    let record = match read {
        Ok(record) => record,
        Err(error) => return vec![unusable(name, &error)],
    };
    match (
        login_needed(record.as_ref(), SystemClock.now().wall),
        record,
    ) {
        (None, Some(record)) => vec![Check::good(format!(
            "{name}: logged in as {}",
            record.account.as_deref().unwrap_or("a user")
        ))],
        (why, _) => vec![needed_by(name, why)],
    }
}

fn needed_by(name: &str, why: Option<LoginNeeded>) -> Check {
    Check::bad(
        format!("{name}: a login is needed"),
        why.map_or_else(String::new, |why| why.to_string()),
        live::LOGIN_NEEDED,
        format!("run: bursar login {name}"),
        crate::cli::Exit::LoginNeeded,
    )
}

/// One login per person: how many there are. Their names are nobody's business here.
async fn people(
    credential: &Arc<Credential>,
    params: &LoginParams,
    store: &Store,
    now: Duration,
) -> Result<Check, StoreError> {
    let name = &credential.name;
    let (mut all, mut over) = (0_usize, 0_usize);
    for (key, record) in store.list().await?.into_iter().flatten() {
        if key.subject.is_none() || key != params.store_key(name, key.subject.as_ref()) {
            continue;
        }
        let rules = &params.refresh;
        let needed = login_needed_by_now(store, &key, rules, Some(&record), now).await?;
        all += 1;
        over += usize::from(needed.is_some());
    }
    Ok(match (all, over) {
        (0, _) => Check::good(format!(
            "{name}: one login per person; nobody has logged in yet (bursar login {name} --subject NAME)"
        )),
        (all, 0) => Check::good(format!("{name}: one login per person; {all} of them")),
        (all, over) => Check::warning(
            format!("{name}: one login per person; {all} of them"),
            format!("{over} are worth nothing any more"),
            live::LOGIN_NEEDED,
            format!("those people log in again: bursar login {name} --subject NAME"),
        ),
    })
}

fn judge(
    name: &str,
    record: Option<&Record>,
    needed: Option<LoginNeeded>,
    asked: &ScopeSet,
    now: Duration,
) -> Vec<Check> {
    let (None, Some(record)) = (needed, record) else {
        return vec![needed_by(name, needed)];
    };
    let whom = record
        .account
        .as_deref()
        .map_or_else(String::new, |account| format!(" as {account}"));
    let token = match &record.access {
        Some(access) if access.expires > now => {
            format!("a token is stored until {}", rfc3339(access.expires))
        }
        _ => "the next token is asked for when it is needed".to_owned(),
    };
    let mut checks = vec![Check::good(format!(
        "{name}: logged in{whom}; {}; {token}",
        end_of_login(&record.granted)
    ))];
    if let Some(granted) = granted_scopes(record) {
        checks.extend(narrower(name, asked, &granted));
    }
    if let Some(intent) = &record.intent {
        checks.push(Check::warning(
            format!("{name}: a renewal is under way, or was cut off"),
            format!(
                "a refresh token was sent at {}, and its answer is not stored yet",
                rfc3339(intent.first)
            ),
            live::LOGIN_NEEDED,
            format!(
                "bursar goes on by itself; if this stays for minutes, a login is needed: bursar login {name}"
            ),
        ));
    }
    checks
}

fn narrower(name: &str, asked: &ScopeSet, granted: &ScopeSet) -> Option<Check> {
    let missing: Vec<&str> = asked
        .iter()
        .filter(|scope| !granted.covers(scope))
        .map(Scope::as_str)
        .collect();
    (!missing.is_empty()).then(|| {
        Check::bad(
            format!("{name}: the login has not all scopes"),
            format!("not granted: {}", missing.join(" ")),
            live::NARROWER_SCOPE,
            format!(
                "add them to the registration at the LMS, then log in again (an old login never gains any): bursar login {name}"
            ),
            crate::cli::Exit::Refused,
        )
    })
}

fn unusable(name: &str, error: &StoreError) -> Check {
    Check::bad(
        format!("{name}: the store cannot be read"),
        crate::causes::with_causes(error),
        live::TOKEN_STORE,
        error.hint(),
        stored::exit_of(error),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Access, Granted, Intent, Version};

    const NOW: Duration = Duration::from_secs(1_767_225_600);

    fn record() -> Record {
        Record {
            version: Version::first("l".to_owned()),
            granted: Granted::RefreshToken {
                token: "canary".into(),
                expires: Some(NOW + Duration::from_secs(60)),
            },
            access: Some(Access {
                token: "canary".into(),
                asked: None,
                granted: None,
                issued: NOW,
                expires: NOW + Duration::from_secs(30),
            }),
            scopes: Some("a:b:read".to_owned()),
            account: Some("Ann (42)".to_owned()),
            intent: None,
            refused: None,
        }
    }

    fn told(record: Option<&Record>, asked: &str, now: Duration) -> (String, Vec<String>) {
        let report = super::super::report::Report {
            categories: vec![Category {
                name: "logins",
                checks: judge(
                    "d2l",
                    record,
                    login_needed(record, now),
                    &ScopeSet::parse(asked).unwrap(),
                    now,
                ),
            }],
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("canary"), "{text}");
        let checks = &report.categories[0].checks;
        let codes = checks.iter().filter_map(|check| check.code);
        (
            report.exit().code().to_string() + &text,
            codes.map(str::to_owned).collect(),
        )
    }

    #[test]
    fn a_login_that_is_good_is_told_with_account_and_times() {
        let (text, codes) = told(Some(&record()), "a:b:read", NOW);
        assert!(codes.is_empty(), "{text}");
        assert!(text.contains("logged in as Ann (42)"), "{text}");
        assert!(text.contains("2026-01-01T00:01:00Z"), "{text}");
        assert!(text.starts_with('0'));
    }

    #[test]
    fn where_a_login_is_needed_the_command_is_named_and_the_code_is_4() {
        let refused = Record {
            refused: Some(NOW),
            ..record()
        };
        let late = NOW + Duration::from_secs(61);
        for (record, now) in [(None, NOW), (Some(&refused), NOW), (Some(&record()), late)] {
            let (text, codes) = told(record, "a:b:read", now);
            assert_eq!(codes, ["BUR2010"]);
            assert!(text.starts_with('4'), "{text}");
            assert!(text.contains("bursar login d2l"), "{text}");
        }
    }

    #[test]
    fn scopes_that_a_login_lacks_and_a_renewal_under_way_are_told() {
        let (text, codes) = told(Some(&record()), "a:b:read a:b:write", NOW);
        assert_eq!(codes, ["BUR2201"]);
        assert!(text.contains("not granted: a:b:write"), "{text}");
        let under_way = Record {
            intent: Some(Intent {
                attempt: "a".to_owned(),
                first: NOW,
                presented: 1,
            }),
            ..record()
        };
        let (text, codes) = told(Some(&under_way), "a:b:read", NOW);
        assert_eq!(codes, ["BUR2010"]);
        assert!(text.starts_with('0'), "{text}");
    }
}
