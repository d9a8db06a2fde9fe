//! What to enter in each LMS's admin page, so that it knows bursar: as far as the configuration says it.

use std::collections::BTreeSet;

use super::report::{Category, Check};
use crate::{
    cli::stored::asked_scopes,
    config::Config,
    oauth::{ClientAuth, ClientParams, Dialect, Grant, Injection},
    token::{Credential, Source},
};

pub(super) fn check(config: &Config) -> Option<Category> {
    let checks: Vec<_> = config
        .credentials
        .iter()
        .filter_map(|credential| match &credential.source {
            Source::Static(Injection::Parameter { .. }) => {
                Some(Check::good(service(config, credential)))
            }
            source => {
                let client = source.client()?;
                Some(Check::good(describe(config, credential, client)))
            }
        })
        .collect();
    (!checks.is_empty()).then_some(Category {
        name: "what to register at the LMS",
        checks,
    })
}

/// Moodle: what an administrator makes the token for.
fn service(config: &Config, credential: &Credential) -> String {
    let mut functions = BTreeSet::new();
    for upstream in &config.upstreams {
        let own = &upstream.tokens.credential.name;
        let routes = upstream.policy.routes.iter().filter(|route| {
            let name = route.credential.as_ref().unwrap_or(own);
            *name == credential.name && !route.deny
        });
        functions.extend(routes.flat_map(|route| route.functions.iter().map(String::as_str)));
    }
    let functions: Vec<_> = functions.into_iter().collect();
    format!(
        "{}: an external service with the functions {}; a user who may use it and webservice/rest:use; a token for both",
        credential.name,
        functions.join(" ")
    )
}

fn describe(config: &Config, credential: &Credential, client: &ClientParams) -> String {
    let mut parts = vec![format!("client {}", client.client_id)];
    let kind = match (&client.dialect, &client.grant) {
        (Dialect::Ltiaas(_), _) => "platform and API key are LTIAAS's",
        (_, Grant::ClientCredentials) => "grant client credentials",
        (_, Grant::JwtBearer { .. }) => "grant JWT bearer",
        (_, Grant::Login) => "grant authorization code, refresh tokens on",
    };
    parts.push(kind.to_owned());
    if let Source::Login(login) = &credential.source {
        let place = match &client.dialect {
            Dialect::Ltiaas(_) => {
                "the URL that the browser is sent to at the end (in LTIAAS's portal)"
            }
            Dialect::Standard | Dialect::Canvas => "redirect URI",
        };
        parts.push(format!(
            "{place} {}",
            login.authorization.redirect_uri.as_str()
        ));
    }
    match &client.auth {
        ClientAuth::PrivateKeyJwt { .. } => parts.push(key_set(config, client)),
        ClientAuth::Tls => parts.push("the certificate in client_cert_file".to_owned()),
        _ if client.keys().is_some() => parts.push(key_set(config, client)),
        _ => {}
    }
    match asked_scopes(config, &credential.name) {
        Some(scopes) => parts.push(format!("scopes {scopes}")),
        None => parts.push("no scopes are asked for".to_owned()),
    }
    format!("{}: {}", credential.name, parts.join("; "))
}

/// Where the LMS finds the public keys.
fn key_set(config: &Config, client: &ClientParams) -> String {
    match (&client.key_set, config.admin.jwks_listen) {
        (Some(url), _) => format!(
            "key set URL {}://{}{}",
            if url.dialer.origin.tls {
                "https"
            } else {
                "http"
            },
            url.dialer.origin.authority(),
            url.path
        ),
        (None, Some(listen)) => format!(
            "key set URL: https, led to {listen}, path /.well-known/jwks.json (then set jwks_url)"
        ),
        (None, None) => {
            "key set: what `bursar keys jwks` prints, at an https URL of yours".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load};

    fn told(credential: &str, upstream: &str) -> String {
        let text = format!(
            r#"
[credentials.lms]
{credential}
[upstreams.lms]
base_url = "https://lms.example"
credential = "lms"
{upstream}
"#
        );
        let mut options = LoadOptions::from_text("bursar.toml", text);
        let home = ("HOME".to_owned(), "/home/ann".to_owned());
        options.environment = [home].into_iter().collect();
        let loaded = load(&options);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let category = check(&loaded.config).unwrap();
        category.checks[0].description.clone()
    }

    #[test]
    fn a_login_is_registered_with_redirect_uri_and_scopes() {
        let told = told(
            r#"profile = "brightspace"
grant = "authorization_code"
client_id = "app"
client_secret = "canary"
redirect_uri = "https://localhost:8765/callback""#,
            "catalogue = \"brightspace\"\nscopes = [\"users:userdata:read\"]",
        );
        for part in [
            "client app",
            "authorization code",
            "https://localhost:8765/callback",
            "users:userdata:read",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("canary"));
    }

    #[test]
    fn canvas_is_told_the_scopes_in_full() {
        let told = told(
            r#"profile = "canvas"
client_id = "1"
client_secret = "canary"
token_url = "https://school.example/login/oauth2/token"
authorize_url = "https://school.example/login/oauth2/auth"
redirect_uri = "http://127.0.0.1:8765/callback""#,
            "catalogue = \"canvas\"\nscopes = [\"url:GET|/api/v1/courses\", \"url:GET|/api/v1/accounts/:id*\"]",
        );
        assert!(told.contains("url:GET|/api/v1/accounts/:id "), "{told}");
        assert!(!told.contains('*'), "{told}");
    }
}
