//! What the store holds of a credential for which people log in. Reading it spends nothing.

use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry;
use tokio::time::timeout;

use super::{Exit, output::tell};
use crate::{
    causes::with_causes,
    config::{Config, UpstreamConfig},
    oauth::LoginNeeded,
    scope::ScopeSet,
    store::{
        Granted, Guard, Record, Severity, Store, StoreError, StoreKey, StoreMetrics, StoreParams,
    },
    token::{
        Credential, Source, Subject, UserKeyParams,
        login::{LoginParams, RefreshRules},
    },
};

/// A credential for which people log in, and the store.
pub(super) struct Custody<'a> {
    pub(super) credential: &'a Arc<Credential>,
    pub(super) params: &'a LoginParams,
    pub(super) store: Store,
    place: &'a Path,
}

/// Why a command has nothing to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCustody {
    #[error("there is no credential {name:?}; there is: {known}")]
    UnknownCredential { name: String, known: String },
    #[error(
        "nobody logs in for {name}: its grant is {grant}. Logins are for grant = \"authorization_code\", and for \"id_key\" without user_id: {known}"
    )]
    NoLogin {
        name: String,
        grant: &'static str,
        known: String,
    },
    #[error(
        "state.backend is \"memory\", which another process cannot write to; \
         with \"file\" a running bursar takes the login over by itself"
    )]
    Memory,
    #[error("{0} has a login for each person (subject_header): say whose with --subject NAME")]
    SubjectMissing(String),
    #[error("{0} has one login for all (it has no subject_header): leave --subject out")]
    SubjectUnwanted(String),
    #[error("--subject: {0}")]
    SubjectMalformed(#[from] crate::token::SubjectError),
}

impl NoCustody {
    /// All of them are about what was typed, or about what does not go with it.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Memory => Exit::Configuration,
            _ => Exit::Usage,
        }
    }
}

impl<'a> Custody<'a> {
    /// Finds the credential called `name`.
    pub(super) fn of(config: &'a Config, name: &str) -> Result<Self, NoCustody> {
        let names = |is_wanted: fn(&Credential) -> bool| {
            let wanted = config.credentials.iter().filter(|one| is_wanted(one));
            let names: Vec<_> = wanted.map(|one| &*one.name).collect();
            match names.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            }
        };
        let mut credentials = config.credentials.iter();
        let credential = credentials
            .find(|credential| *credential.name == *name)
            .ok_or_else(|| NoCustody::UnknownCredential {
                name: name.to_owned(),
                known: names(|_| true),
            })?;
        let Source::Login(params) = &credential.source else {
            return Err(NoCustody::NoLogin {
                name: name.to_owned(),
                grant: credential.grant,
                known: names(|one| matches!(one.source, Source::Login(_) | Source::UserKey(_))),
            });
        };
        let StoreParams::File { directory, .. } = &config.state else {
            return Err(NoCustody::Memory);
        };
        Ok(Self {
            credential,
            params,
            store: store(&config.state),
            place: directory,
        })
    }

    /// Where it keeps what it is given, in words.
    pub(super) fn place(&self) -> String {
        self.place.display().to_string()
    }

    /// For whom: `--subject`, where each person has a login of their own.
    pub(super) fn subject(&self, name: Option<&str>) -> Result<Option<Arc<str>>, NoCustody> {
        let credential = || self.credential.name.to_string();
        match (&self.credential.subject_header, name) {
            (None, None) => Ok(None),
            (Some(_), Some(name)) => Ok(Some(Subject::parse(name)?.shared())),
            (Some(_), None) => Err(NoCustody::SubjectMissing(credential())),
            (None, Some(_)) => Err(NoCustody::SubjectUnwanted(credential())),
        }
    }
}

/// The credential called `name`, if it is one whose login brings a user's ID key.
pub(super) fn user_key_of<'a>(
    config: &'a Config,
    name: &str,
) -> Option<(&'a Arc<Credential>, &'a UserKeyParams)> {
    config.credentials.iter().find_map(|credential| {
        let params = match &credential.source {
            Source::UserKey(params) if *credential.name == *name => params,
            _ => return None,
        };
        Some((credential, &**params))
    })
}

/// Everything that the upstreams ask the credential for; `None`: no `scope` is sent.
pub(super) fn asked_scopes(config: &Config, credential: &str) -> Option<ScopeSet> {
    let users = config
        .upstreams
        .iter()
        .flat_map(UpstreamConfig::credentials);
    let scopes: ScopeSet = users
        .filter(|its| *its.credential.name == *credential && its.ask.send)
        .flat_map(|its| its.ask.scopes.iter().cloned())
        .collect();
    (!scopes.is_empty()).then_some(scopes)
}

/// The store as configured. Its counts are nobody's: a command is over before anybody could ask.
pub(super) fn store(params: &StoreParams) -> Store {
    let metrics = StoreMetrics::new(&Registry::new());
    #[expect(
        clippy::expect_used,
        reason = "independent of any input: a registry that is empty takes any family"
    )]
    let metrics = Arc::new(metrics.expect("an empty registry takes the family"));
    Store::new(params, metrics)
}

/// How long another process may hold a lock before a person hears that it is waited for.
const QUIET: Duration = Duration::from_secs(2);

/// How long it is waited for then: three token requests of a running bursar, with the defaults.
const PATIENCE: Duration = Duration::from_secs(30);

/// The right to change the record of `key`, which a person waits for: not without a word, and not for ever.
pub(super) async fn lock(store: &Store, key: &StoreKey) -> Result<Guard, StoreError> {
    let mut lock = pin!(store.lock(key));
    if let Ok(locked) = timeout(QUIET, &mut lock).await {
        return locked;
    }
    tell(&format!(
        "Another process is at work on this login, perhaps a running bursar that renews its token. Waiting at most \
         {}.\n",
        humantime::format_duration(PATIENCE)
    ));
    let locked = timeout(PATIENCE, lock).await;
    locked.unwrap_or(Err(StoreError::Busy {
        waited: QUIET + PATIENCE,
    }))
}

/// Why a person has to log in, if one has to. `now`: Unix time.
pub(super) fn login_needed(record: Option<&Record>, now: Duration) -> Option<LoginNeeded> {
    let Some(record) = record else {
        return Some(LoginNeeded::Never);
    };
    if record.refused.is_some() {
        return Some(LoginNeeded::Refused);
    }
    let is_over = |expires: Duration| expires <= now;
    record
        .granted
        .expires()
        .is_some_and(is_over)
        .then_some(LoginNeeded::Expired)
}

/// The same, and also [`LoginNeeded::Lost`]: the refresh token was presented, may not be again, and nobody waits for the answer any more.
/// `record`: what was read under `key`.
pub(super) async fn login_needed_by_now(
    store: &Store,
    key: &StoreKey,
    rules: &RefreshRules,
    record: Option<&Record>,
    now: Duration,
) -> Result<Option<LoginNeeded>, StoreError> {
    let needed = login_needed(record, now);
    let intent = record.and_then(|record| record.intent.as_ref());
    let (None, Some(intent)) = (needed, intent) else {
        return Ok(needed);
    };
    // Whoever presents a refresh token holds the lock until the answer is written.
    if rules.may_present_again(intent, now) || store.is_locked(key).await? {
        return Ok(None);
    }
    // The lock may have been let go of between the two looks, with the answer written: then this attempt is gone.
    let later = store.read(key).await?;
    let is_the_same = |later: &Record| later.intent.as_ref() == Some(intent);
    Ok(match later.as_ref().is_some_and(is_the_same) {
        true => Some(LoginNeeded::Lost),
        false => login_needed(later.as_ref(), now),
    })
}

/// The scopes that a record names; `None`: as asked.
pub(super) fn granted_scopes(record: &Record) -> Option<ScopeSet> {
    ScopeSet::parse(record.scopes.as_deref()?).ok()
}

/// What to run for a login; `subject`: whose, where each person has one.
pub(super) fn login_command(credential: &str, subject: Option<&str>) -> String {
    match subject {
        Some(subject) => format!("bursar login {credential} --subject {subject}"),
        None => format!("bursar login {credential}"),
    }
}

/// When the login itself ends.
pub(super) fn end_of_login(granted: &Granted) -> String {
    match granted.expires() {
        Some(at) => format!("the login ends {}", rfc3339(at)),
        None => "the authorization server does not say when the login ends".to_owned(),
    }
}

/// Tells what is wrong with the store, and what to do.
pub(super) fn tell_store_error(error: &StoreError) -> Exit {
    tell(&format!(
        "bursar: the token store: {}\n  {}\n  bursar explain BUR5001 tells more\n",
        with_causes(error),
        error.hint()
    ));
    exit_of(error)
}

pub(super) const fn exit_of(error: &StoreError) -> Exit {
    match error.severity() {
        Severity::Exposed => Exit::SecretExposed,
        Severity::Refused => Exit::Configuration,
        Severity::Failed => Exit::Failed,
    }
}

/// Unix time as people and programs read it.
pub(super) fn rfc3339(wall: Duration) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(wall);
    at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_seconds(at).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Intent, KeyFile, Version};

    const NOW: Duration = Duration::from_secs(1_767_225_600);

    const SINGLE_USE: RefreshRules = RefreshRules {
        is_reusable: false,
        reuse_grace: Duration::from_secs(60),
        names_scopes: true,
    };

    fn record(presented: u32, first: Duration) -> Record {
        Record {
            version: Version::first("l".to_owned()),
            granted: Granted::RefreshToken {
                token: "canary".into(),
                expires: None,
            },
            access: None,
            scopes: None,
            account: None,
            intent: Some(Intent {
                attempt: "a".to_owned(),
                first,
                presented,
            }),
            refused: None,
        }
    }

    #[tokio::test]
    async fn a_renewal_that_nobody_works_on_any_more_means_a_login() {
        let directory = tempfile::tempdir().unwrap();
        let params = StoreParams::File {
            directory: directory.path().join("state"),
            key_file: KeyFile::Own {
                path: directory.path().join("key"),
            },
        };
        let key = StoreKey {
            credential: "d2l".into(),
            token_url: "https://as.test/token".to_owned(),
            client_id: "me".to_owned(),
            subject: None,
        };
        // Two stores are two processes.
        let (bursar, command) = (store(&params), store(&params));
        let needed = async |record: &Record, rules: RefreshRules| {
            let needed = login_needed_by_now(&command, &key, &rules, Some(record), NOW).await;
            needed.unwrap()
        };

        let long_ago = record(1, NOW - Duration::from_secs(61));
        let guard = bursar.lock(&key).await.unwrap();
        guard.replace(&long_ago).await.unwrap();
        assert_eq!(needed(&long_ago, SINGLE_USE).await, None, "it is under way");
        drop(guard);
        assert_eq!(needed(&long_ago, SINGLE_USE).await, Some(LoginNeeded::Lost));
        let reusable = RefreshRules {
            is_reusable: true,
            ..SINGLE_USE
        };
        assert_eq!(needed(&long_ago, reusable).await, None);
        let within_grace = record(1, NOW - Duration::from_secs(59));
        assert_eq!(needed(&within_grace, SINGLE_USE).await, None);

        // Between the two looks the answer was written.
        let guard = bursar.lock(&key).await.unwrap();
        let renewed = Record {
            intent: None,
            ..long_ago.clone()
        };
        guard.replace(&renewed).await.unwrap();
        drop(guard);
        assert_eq!(needed(&long_ago, SINGLE_USE).await, None);

        let twice = record(2, NOW);
        let guard = bursar.lock(&key).await.unwrap();
        guard.replace(&twice).await.unwrap();
        drop(guard);
        assert_eq!(needed(&twice, SINGLE_USE).await, Some(LoginNeeded::Lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_not_waited_for_for_ever() {
        let store = store(&StoreParams::Memory);
        let key = StoreKey {
            credential: "d2l".into(),
            token_url: "https://as.test/token".into(),
            client_id: "app".into(),
            subject: None,
        };
        let held = store.lock(&key).await.unwrap();
        let Err(error) = lock(&store, &key).await else {
            panic!("somebody else has it");
        };
        assert_eq!(exit_of(&error), Exit::Failed);
        assert!(error.to_string().contains("32s"), "{error}");
        assert!(error.hint().contains("log"), "{}", error.hint());
        drop(held);
        assert!(lock(&store, &key).await.is_ok());
    }
}
