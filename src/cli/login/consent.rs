//! The login of an ID-key credential: a person consents at the LMS, and the browser brings that person's key.

use std::sync::Arc;

use super::{
    LoginError,
    attempt::Brought,
    dialogue::{self, DialogueError, Listener, Manner, Request},
    page::Page,
};
use crate::{
    causes::with_causes,
    cli::{
        Surroundings,
        args::LoginArgs,
        output::tell,
        signals,
        stored::{self, NoCustody},
    },
    config::Config,
    id_key::IdKey,
    oauth::authorization::AuthorizationParams,
    random,
    store::{Granted, Record, StoreError, StoreKey, StoreParams, Version},
    token::{Credential, UserKeyParams},
};

/// Where the key is to be kept.
pub(in crate::cli) struct Place<'a> {
    credential: &'a Arc<Credential>,
    params: &'a UserKeyParams,
    state: &'a StoreParams,
    directory: String,
}

impl<'a> Place<'a> {
    pub(in crate::cli) fn of(
        config: &'a Config,
        credential: &'a Arc<Credential>,
        params: &'a UserKeyParams,
        subject: Option<&str>,
    ) -> Result<Self, NoCustody> {
        if subject.is_some() {
            return Err(NoCustody::SubjectUnwanted(credential.name.to_string()));
        }
        let StoreParams::File { directory, .. } = &config.state else {
            return Err(NoCustody::Memory);
        };
        Ok(Self {
            credential,
            params,
            state: &config.state,
            directory: directory.display().to_string(),
        })
    }

    /// Asks, and stores what comes.
    pub(super) async fn log_in(
        &self,
        args: &LoginArgs,
        surroundings: &Surroundings,
    ) -> Result<(), LoginError> {
        let name = &self.credential.name;
        let key = self.params.store_key(name);
        // A store that cannot take the login shows now, and not when somebody has logged in.
        let store = stored::store(self.state);
        stored::lock(&store, &key).await?.reserve().await?;

        let authorization = AuthorizationParams {
            authorize_url: self.params.consent_url.clone(),
            redirect_uri: self.params.redirect_uri.clone(),
            issuer: None,
            pkce: false,
            relay_parameter: None,
        };
        let request = Request {
            credential: name,
            subject: None,
            client_id: self.params.app.id(),
            params: &authorization,
            scopes: None,
            signer: Some(&self.params.app),
        };
        let manner = Manner {
            opens_browser: !args.no_browser,
            // Nothing here can answer for another machine.
            pastes: args.paste || authorization.redirect_uri.loopback().is_empty(),
            limit: args.timeout,
        };
        let mut stops = signals::listen().map_err(DialogueError::Signals)?;
        let answered = dialogue::ask(&request, manner, &mut stops, surroundings).await?;
        let Brought::User(user) = answered.brought else {
            return Err(LoginError::OtherKind);
        };
        let kept = self.keep(&key, &user).await;
        show(answered.listener, &user, &kept).await;
        kept?;
        tell(&format!(
            "\nLogged in for credential {name}\n  account       user {}\n  rights        those of this user's role: with ID keys \
             there are no scopes\n  login         the LMS does not say when the key ends; often after 30 days\n  \
             stored in     {} (sealed)\n\nA running bursar goes on with it by itself. Next: bursar check, or bursar run.\n",
            user.id(),
            self.directory,
        ));
        Ok(())
    }

    async fn keep(&self, key: &StoreKey, user: &IdKey) -> Result<(), StoreError> {
        let guard = stored::lock(&stored::store(self.state), key).await?;
        guard.reserve().await?;
        let record = Record {
            version: Version::first(random::id128()),
            granted: Granted::UserKey {
                user: user.id().to_owned(),
                key: user.key().clone(),
                expires: None,
            },
            access: None,
            scopes: None,
            account: Some(user.id().to_owned()),
            intent: None,
            refused: None,
        };
        guard.replace(&record).await
    }

    /// Forgets the key; whether there was one.
    pub(in crate::cli) async fn forget(&self) -> Result<bool, StoreError> {
        let key = self.params.store_key(&self.credential.name);
        let store = stored::store(self.state);
        stored::lock(&store, &key).await?.forget().await
    }
}

async fn show(listener: Listener, user: &IdKey, kept: &Result<(), StoreError>) {
    let page = match kept {
        Ok(()) => Page::done(format!(
            "bursar has what it needs, as user {}. You can close this tab.",
            user.id()
        )),
        Err(error) => Page::failed(format!(
            "The login went well, but bursar cannot keep it: {}\nThe terminal tells what to do.",
            with_causes(error)
        )),
    };
    listener.tell(page).await;
}
