//! A person at a browser, as far as a demonstration needs one: they agree, and the browser goes where it is sent.

use std::io;

use http::{Method, header::LOCATION};
use url::Url;

use crate::{
    cli::{
        demo::stage::{StageError, call},
        login::conclude,
        stored::{Custody, asked_scopes},
    },
    config::Loaded,
    mock::Mock,
    oauth::authorization::{Callback, Flow},
};

/// Redirects that a browser follows.
const REDIRECTS: usize = 5;

/// Logs in for the credential called `name`, whose authorization server `mock` is.
pub(super) async fn log_in(loaded: &Loaded, name: &str, mock: &Mock) -> Result<(), StageError> {
    let config = &loaded.config;
    let custody = Custody::of(config, name).map_err(failed)?;
    let params = &custody.params.authorization;
    let scopes = asked_scopes(config, name);
    let flow = Flow::begin(params.clone());
    let url = flow.url(&custody.params.client.client_id, scopes.as_ref());
    let back = follow(url, &mock.origin(), params.redirect_uri.as_str()).await;
    let back = back.map_err(StageError::Login)?;
    let query = back.query().unwrap_or_default();
    let callback = Callback::parse(query, flow.code_parameter()).map_err(failed)?;
    let code = flow.conclude(callback).map_err(failed)?;
    let key = custody.params.store_key(&custody.credential.name, None);
    let concluded = conclude(&custody, &key, &code, scopes.as_ref()).await;
    concluded.map(drop).map_err(failed)
}

/// Where a browser ends that begins at `url`: the first place that is not the simulated LMS's own.
async fn follow(url: Url, origin: &str, redirect_uri: &str) -> io::Result<Url> {
    let mut url = url;
    for _ in 0..REDIRECTS {
        let authority = url.authority().to_owned();
        let target = url.as_str().strip_prefix(origin).unwrap_or("/").to_owned();
        let answer = call(&authority, Method::GET, &target, "").await?;
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        let location = location.ok_or_else(|| {
            io::Error::other(format!("{} in place of a redirect", answer.status()))
        })?;
        url = url.join(location).map_err(io::Error::other)?;
        if url.as_str().starts_with(redirect_uri) {
            return Ok(url);
        }
    }
    Err(io::Error::other("the browser was sent round in circles"))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StageError {
    StageError::Login(io::Error::other(error))
}
