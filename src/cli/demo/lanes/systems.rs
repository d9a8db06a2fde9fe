//! The systems: what is simulated, and how a person would configure bursar for it.

use std::io;

use crate::{
    cli::demo::stage::PrivateDirectory,
    mock::{
        KeySource, Lms, LtiaasParams, Mock, MockParams, RefreshTokens, RegisteredClient,
        RegisteredIdKeys,
    },
    scope::{InvalidScope, ScopeSet},
};

/// One system and one way into it.
pub(super) struct System {
    /// The name of its credential and its upstream, and of the host by which the application means it.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
    /// What bursar did for the call.
    pub(super) how: &'static str,
    pub(super) mock: fn() -> Result<MockParams, InvalidScope>,
    /// Its part of the configuration.
    pub(super) toml: fn(&Mock, &PrivateDirectory) -> io::Result<String>,
    /// Whether a person has to agree first.
    pub(super) has_login: bool,
    /// A call that the allowlist covers.
    pub(super) target: &'static str,
}

const WHOAMI: &str = "/d2l/api/lp/1.49/users/whoami";

pub(super) const SYSTEMS: &[System] = &[
    System {
        name: "brightspace",
        title: "Brightspace, with the login of a person (authorization code, PKCE, single-use refresh tokens)",
        how: "with a token of ann's login; its refresh token is sealed on disk",
        mock: || client("users:own_profile:read"),
        toml: |mock, _| {
            Ok(format!(
                "[credentials.brightspace]
profile       = \"brightspace\"
grant         = \"authorization_code\"
client_id     = \"bursar-demo\"
client_secret = \"demo-only\"
authorize_url = \"{origin}/oauth2/auth\"
token_url     = \"{token_url}\"
redirect_uri  = \"http://127.0.0.1:8765/callback\"
{upstream}",
                origin = mock.origin(),
                token_url = mock.token_url(),
                upstream = upstream(
                    "brightspace",
                    mock,
                    "brightspace",
                    "\"users:own_profile:read\""
                ),
            ))
        },
        has_login: true,
        target: WHOAMI,
    },
    System {
        name: "id-key",
        title: "Brightspace, with ID keys (each request is signed; there is no token)",
        how: "signed with the keys of application and user",
        mock: || client("users:own_profile:read"),
        toml: |mock, directory| {
            let keys = RegisteredIdKeys::default();
            let app_key = directory.keep("app-key", &keys.app_key)?;
            let user_key = directory.keep("user-key", &keys.user_key)?;
            Ok(format!(
                "[credentials.id-key]
profile       = \"brightspace-id-key\"
app_id        = \"{app_id}\"
app_key_file  = {app_key:?}
user_id       = \"{user_id}\"
user_key_file = {user_key:?}
{upstream}",
                app_id = keys.app_id,
                user_id = keys.user_id,
                upstream = upstream("id-key", mock, "brightspace", "\"users:own_profile:read\""),
            ))
        },
        has_login: false,
        target: WHOAMI,
    },
    System {
        name: "canvas",
        title: "Canvas, with the login of a person (a refresh token that stays good, url: scopes)",
        how: "with a token of ann's login",
        mock: || {
            Ok(MockParams {
                lms: Lms::Canvas,
                ..client("url:GET|/api/v1/courses")?
            })
        },
        toml: |mock, _| {
            Ok(format!(
                "[credentials.canvas]
profile       = \"canvas\"
client_id     = \"bursar-demo\"
client_secret = \"demo-only\"
authorize_url = \"{origin}/login/oauth2/auth\"
token_url     = \"{token_url}\"
redirect_uri  = \"http://127.0.0.1:8765/callback\"
{upstream}",
                origin = mock.origin(),
                token_url = mock.token_url(),
                upstream = upstream("canvas", mock, "canvas", "\"url:GET|/api/v1/courses\""),
            ))
        },
        has_login: true,
        target: "/api/v1/courses",
    },
    System {
        name: "ltiaas",
        title: "LTIAAS before a Brightspace (an API key, tokens of the LMS by way of LTIAAS)",
        how: "with a token of the LMS that LTIAAS handed out",
        mock: || {
            let mut params = MockParams {
                lms: Lms::Ltiaas,
                ..client("users:own_profile:read")?
            };
            params.login.refresh_tokens = RefreshTokens::Reusable;
            Ok(params)
        },
        toml: |mock, directory| {
            let site = LtiaasParams::default();
            let api_key = directory.keep("ltiaas-key", &site.api_key)?;
            Ok(format!(
                "[credentials.ltiaas]
profile      = \"ltiaas\"
api_key_file = {api_key:?}
platform_id  = \"{platform}\"
token_url    = \"{origin}/api/oauth/access-token\"
redirect_uri = \"http://127.0.0.1:8765/callback\"
{upstream}",
                platform = site.platform_id,
                origin = mock.origin(),
                upstream = upstream("ltiaas", mock, "brightspace", "\"users:own_profile:read\""),
            ))
        },
        has_login: true,
        target: WHOAMI,
    },
    System {
        name: "dap",
        title: "Instructure DAP (client credentials, a raw Basic pair, no scopes)",
        how: "with a token of Instructure's identity service",
        mock: || {
            Ok(MockParams {
                lms: Lms::Dap,
                ..client("")?
            })
        },
        toml: |mock, _| {
            Ok(format!(
                "[credentials.dap]
profile       = \"instructure\"
client_id     = \"bursar-demo\"
client_secret = \"demo-only\"
token_url     = \"{token_url}\"
{upstream}",
                token_url = mock.token_url(),
                upstream = upstream("dap", mock, "dap", "\"dap:tables:read\""),
            ))
        },
        has_login: false,
        target: "/dap/query/canvas/table",
    },
];

/// The application as it is registered with the system.
fn client(scopes: &str) -> Result<MockParams, InvalidScope> {
    let mut params = MockParams::new(RegisteredClient {
        id: "bursar-demo".to_owned(),
        secret: Some("demo-only".into()),
        keys: KeySource::None,
        scopes: ScopeSet::parse(scopes)?,
    });
    params.login.approve = true;
    Ok(params)
}

fn upstream(name: &str, mock: &Mock, catalogue: &str, scopes: &str) -> String {
    let base_url = mock.origin();
    format!(
        "[upstreams.{name}]
base_url   = \"{base_url}\"
credential = \"{name}\"
catalogue  = \"{catalogue}\"
scopes     = [{scopes}]
hosts      = [\"{name}.localhost\"]
"
    )
}
