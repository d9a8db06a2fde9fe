//! The user's half of a signature, where a login has brought it (Brightspace ID keys).
//!
//! There is no token request: a key is read from the store, and is good until the LMS says otherwise. What the LMS says is one
//! sentence for everything, `Invalid token`, so one refusal proves nothing (it may be the path that is signed in another way there);
//! a key that is refused again and again, and never accepted in between, is dead, and somebody has to log in.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    id_key::{IdKey, Signer, Skew},
    oauth::{
        Answer, Cause, Failure, Injection, LoginNeeded, TokenRequest, TokenSource,
        authorization::RedirectUri,
    },
    store::{Granted, Record, Store, StoreKey, Version},
};

/// As configured.
#[derive(Clone)]
pub struct UserKeyParams {
    /// The application.
    pub app: Arc<IdKey>,
    /// What is known of the LMS's clock.
    pub skew: Arc<Skew>,
    /// `authorize_url`: where the LMS asks a person for consent.
    pub consent_url: url::Url,
    /// `redirect_uri`: where the browser comes back to.
    pub redirect_uri: RedirectUri,
}

impl PartialEq for UserKeyParams {
    /// What was learned does not count.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            app,
            skew: _,
            consent_url,
            redirect_uri,
        } = self;
        *app == other.app
            && *consent_url == other.consent_url
            && *redirect_uri == other.redirect_uri
    }
}

impl UserKeyParams {
    /// Under what the user's key of the credential called `credential` is stored.
    #[must_use]
    pub fn store_key(&self, credential: &Arc<str>) -> StoreKey {
        StoreKey {
            credential: Arc::clone(credential),
            token_url: self.consent_url.to_string(),
            client_id: self.app.id().to_owned(),
            subject: None,
        }
    }
}

/// Signers, made of what is stored.
pub struct UserKeys {
    store: Store,
    key: StoreKey,
    app: Arc<IdKey>,
    skew: Arc<Skew>,
    last: Mutex<Option<(Version, Option<Arc<Signer>>)>>,
}

impl UserKeys {
    /// Of the credential called `credential`.
    #[must_use]
    pub fn new(store: Store, credential: &Arc<str>, params: &UserKeyParams) -> Self {
        Self {
            store,
            key: params.store_key(credential),
            app: Arc::clone(&params.app),
            skew: Arc::clone(&params.skew),
            last: Mutex::new(None),
        }
    }

    /// The signer for `record`: the same for the same, as it knows what the LMS thinks of it.
    fn signer(&self, record: Record) -> Option<Arc<Signer>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, signer)) = &*last
            && *version == record.version
        {
            return signer.clone();
        }
        let signer = match record.granted {
            Granted::UserKey { user, key, .. } => {
                let (app, skew) = (Arc::clone(&self.app), Arc::clone(&self.skew));
                let user = IdKey::new(user, key);
                Some(Arc::new(Signer::new(app, Some(user), skew)))
            }
            Granted::RefreshToken { .. } => None,
        };
        *last = Some((record.version, signer.clone()));
        signer
    }

    fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl TokenSource for UserKeys {
    async fn request(&self, request: TokenRequest) -> Result<Answer, Failure> {
        let read = self.store.read(&self.key).await;
        let record = read.map_err(|error| Cause::Store(error.summary()))?;
        let Some(record) = record else {
            self.forget();
            return Err(Cause::LoginNeeded(LoginNeeded::Never).into());
        };
        let expires = record.granted.expires();
        let left = expires.map(|end| end.saturating_sub(request.now.wall));
        let signer = self
            .signer(record)
            .ok_or(Cause::LoginNeeded(LoginNeeded::Never))?;
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Cause::LoginNeeded(LoginNeeded::Expired).into());
        }
        if signer.is_dead() {
            // Whoever asks again, a minute later, gets it for a try: an application must not be able to end a login by requests that the
            // LMS reads otherwise than we do.
            signer.parole();
            return Err(Cause::LoginNeeded(LoginNeeded::Refused).into());
        }
        Ok(Answer {
            injection: Injection::Signature(signer),
            expires_in: left,
            granted: None,
            refresh_token: None,
            refresh_expires_in: None,
            kept_for: None,
            account: None,
            skew_seconds: None,
        })
    }

    async fn cured(&self, _subject: Option<&str>) {
        let known = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.as_ref().map(|(version, _)| version.clone())
        };
        self.store.changed(&self.key, known.as_ref()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::Registry;

    use super::*;
    use crate::{
        clock::{Clock, Moment, SystemClock},
        store::{StoreMetrics, StoreParams},
    };

    fn params() -> UserKeyParams {
        UserKeyParams {
            app: Arc::new(IdKey::new("app".to_owned(), "app-key".into())),
            skew: Arc::default(),
            consent_url: "https://lms.example/d2l/auth/api/token".parse().unwrap(),
            redirect_uri: RedirectUri::parse("http://127.0.0.1:8765/callback").unwrap(),
        }
    }

    fn keys() -> UserKeys {
        let metrics = StoreMetrics::new(&Registry::new()).unwrap();
        let store = Store::new(&StoreParams::Memory, Arc::new(metrics));
        UserKeys::new(store, &"keys".into(), &params())
    }

    async fn log_in(keys: &UserKeys, login: &str, expires: Option<Duration>) {
        let record = Record {
            version: Version::first(login.to_owned()),
            granted: Granted::UserKey {
                user: "user".to_owned(),
                key: "user-key".into(),
                expires,
            },
            access: None,
            scopes: None,
            account: None,
            intent: None,
            refused: None,
        };
        let guard = keys.store.lock(&keys.key).await.unwrap();
        guard.replace(&record).await.unwrap();
    }

    async fn ask(keys: &UserKeys, now: Moment) -> Result<Arc<Signer>, Cause> {
        let request = TokenRequest {
            scopes: None,
            subject: None,
            now,
            skew_seconds: 0.0,
            is_forced: false,
        };
        match keys.request(request).await {
            Ok(Answer {
                injection: Injection::Signature(signer),
                ..
            }) => Ok(signer),
            Ok(_) => panic!("no signer"),
            Err(failure) => Err(failure.cause),
        }
    }

    const NEVER: Cause = Cause::LoginNeeded(LoginNeeded::Never);

    #[tokio::test]
    async fn a_login_that_comes_late_is_noticed() {
        let keys = keys();
        let now = SystemClock.now();
        assert_eq!(ask(&keys, now).await.unwrap_err(), NEVER);
        let cured = keys.cured(None);
        log_in(&keys, "one", None).await;
        cured.await;
        let signer = ask(&keys, now).await.unwrap();
        assert_eq!(signer.user().unwrap().id(), "user");
    }

    #[tokio::test]
    async fn a_key_that_is_refused_again_and_again_is_dead_but_for_a_try_now_and_then_until_somebody_logs_in()
     {
        let keys = keys();
        let now = SystemClock.now();
        log_in(&keys, "one", None).await;
        let signer = ask(&keys, now).await.unwrap();
        signer.note(true);
        assert!(ask(&keys, now).await.is_ok(), "one refusal proves nothing");
        for _ in 0..5 {
            signer.note(true);
        }
        let refused = Cause::LoginNeeded(LoginNeeded::Refused);
        assert_eq!(ask(&keys, now).await.unwrap_err(), refused);
        assert!(ask(&keys, now).await.is_ok(), "a try");
        signer.note(true);
        assert_eq!(ask(&keys, now).await.unwrap_err(), refused);
        assert!(ask(&keys, now).await.is_ok(), "a try");
        signer.note(false);
        signer.note(true);
        assert!(ask(&keys, now).await.is_ok(), "the try went well");
        for _ in 0..3 {
            signer.note(true);
        }
        assert_eq!(ask(&keys, now).await.unwrap_err(), refused);
        let cured = keys.cured(None);
        log_in(&keys, "two", None).await;
        cured.await;
        assert!(ask(&keys, now).await.is_ok());
    }

    #[tokio::test]
    async fn a_key_whose_end_is_known_is_not_used_beyond_it() {
        let keys = keys();
        let now = SystemClock.now();
        let end = now.wall + Duration::from_secs(60);
        log_in(&keys, "one", Some(end)).await;
        assert!(ask(&keys, now).await.is_ok());
        let expired = Cause::LoginNeeded(LoginNeeded::Expired);
        let later = now.after(Duration::from_secs(61));
        assert_eq!(ask(&keys, later).await.unwrap_err(), expired);
    }
}
