//! What `bursar mock` prints: the `bursar.toml` that goes with it.

use super::{MockArgs, SECRET, SimulatedLms};
use crate::{
    mock::Mock,
    scope::{Scope, ScopeSet},
};

/// bursar's names for the calls of the query API.
const DAP_SCOPES: [&str; 4] = [
    "dap:tables:read",
    "dap:queries:create",
    "dap:jobs:read",
    "dap:objects:read",
];

/// A name of one's own: Blackboard is not sent any.
const BLACKBOARD_SCOPE: &str = "users:read";

/// What a person needs in order to use the mock.
pub(super) struct Guide {
    lms: SimulatedLms,
    client_id: String,
    with_secret: bool,
    keys: String,
    scopes: ScopeSet,
    token: String,
    redirect_uri: String,
    platform_id: String,
}

impl Guide {
    pub(super) fn of(args: &MockArgs) -> Self {
        Self {
            lms: args.lms,
            client_id: args.client_id.clone(),
            with_secret: args.client_secret.is_some(),
            keys: match &args.jwks_file {
                None => args.jwks_url.to_string(),
                Some(path) => path.display().to_string(),
            },
            scopes: args.registered(),
            token: args.token.clone(),
            redirect_uri: args.login.first_redirect_uri(),
            platform_id: args.ltiaas.platform_id().to_owned(),
        }
    }

    pub(super) fn render(&self, mock: &Mock) -> String {
        let (name, configuration, path) = match self.lms {
            SimulatedLms::Brightspace => (
                "Brightspace",
                self.brightspace(mock),
                "/d2l/api/lp/1.49/users/whoami",
            ),
            SimulatedLms::Dap => ("Instructure DAP", self.dap(mock), "/dap/query/canvas/table"),
            SimulatedLms::Blackboard => (
                "Blackboard Learn",
                self.blackboard(mock),
                "/learn/api/public/v1/users",
            ),
            SimulatedLms::Ltiaas => ("LTIAAS", self.ltiaas(mock), "/d2l/api/lp/1.49/users/whoami"),
            SimulatedLms::Canvas => ("Canvas", self.canvas(mock), "/api/v1/users/self"),
            SimulatedLms::Moodle => return self.moodle(mock),
        };
        let origin = mock.origin();
        let control = Self::control(mock);
        let login = mock.authorize_url().map_or_else(String::new, |url| {
            let begins = match self.lms {
                SimulatedLms::Brightspace => "",
                _ => "; `bursar login mock` begins there",
            };
            format!("People log in at {url}{begins}\n\n")
        });
        format!(
            "A simulated {name} listens on {origin}. For bursar.toml:\n\
             \n\
             {configuration}\
             \n\
             Then `bursar run` in another terminal, and:\n\
             \n\
             curl -i http://127.0.0.1:8080{path}\n\
             {control}\
             \n\
             {login}\
             Ctrl-C ends it. Requests are logged below."
        )
    }

    fn control(mock: &Mock) -> String {
        mock.control_address().map_or_else(String::new, |address| {
            format!("curl -s http://{address}/mock/requests          # what arrived; docs/reference/mock.md\n")
        })
    }

    fn brightspace(&self, mock: &Mock) -> String {
        let authentication = if self.with_secret {
            "auth_method        = \"client_secret_basic\"\n\
             client_secret_file = \"secret.txt\"   # holds what --client-secret says"
                .to_owned()
        } else {
            format!(
                "private_key_file   = \"key.pem\"      # `bursar keys new --out key.pem > jwks.json` makes it; the mock expects\n\
                 \x20                                  # its public half at {}",
                self.keys
            )
        };
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        configuration("brightspace", self, mock, &authentication, &scopes)
    }

    fn dap(&self, mock: &Mock) -> String {
        configuration("instructure", self, mock, &self.secret(), &DAP_SCOPES)
    }

    fn ltiaas(&self, mock: &Mock) -> String {
        let authentication = format!(
            "api_key_file       = \"api-key\"      # holds what --api-key says\n\
             redirect_uri       = \"{}\"",
            self.redirect_uri,
        );
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        configuration("ltiaas", self, mock, &authentication, &scopes)
    }

    fn canvas(&self, mock: &Mock) -> String {
        let authentication = format!(
            "authorize_url      = \"{}\"\n\
             redirect_uri       = \"{}\"\n\
             {}",
            mock.authorize_url().unwrap_or_default(),
            self.redirect_uri,
            self.secret()
        );
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        configuration("canvas", self, mock, &authentication, &scopes)
    }

    fn blackboard(&self, mock: &Mock) -> String {
        let scopes = [BLACKBOARD_SCOPE];
        let configuration = configuration("blackboard", self, mock, &self.secret(), &scopes);
        format!(
            "{configuration}\n\
             [[upstreams.lms.routes]]\n\
             name    = \"users\"\n\
             methods = [\"GET\"]\n\
             path    = \"/learn/api/public/{{version}}/users/{{*rest}}\"\n\
             scopes  = [\"{BLACKBOARD_SCOPE}\"]\n\
             \n\
             [[upstreams.lms.routes]]\n\
             name    = \"user-list\"\n\
             methods = [\"GET\"]\n\
             path    = \"/learn/api/public/{{version}}/users\"\n\
             scopes  = [\"{BLACKBOARD_SCOPE}\"]\n"
        )
    }

    fn moodle(&self, mock: &Mock) -> String {
        let (origin, control) = (mock.origin(), Self::control(mock));
        format!(
            "A simulated Moodle listens on {origin}. Its service takes the token that --token says:\n\
             \n\
             curl -s {origin}/webservice/rest/server.php -d moodlewsrestformat=json -d wsfunction=core_course_get_courses \\\n\
             \x20    -d wstoken={}\n\
             {control}\
             \n\
             Ctrl-C ends it. Requests are logged below.",
            self.token
        )
    }

    fn secret(&self) -> String {
        if self.with_secret {
            "client_secret_file = \"secret.txt\"   # holds what --client-secret says".to_owned()
        } else {
            format!("client_secret      = \"{SECRET}\"")
        }
    }
}

fn configuration(
    profile: &str,
    guide: &Guide,
    mock: &Mock,
    authentication: &str,
    scopes: &[&str],
) -> String {
    let client = match guide.lms {
        SimulatedLms::Ltiaas => format!("platform_id        = {}", toml_string(&guide.platform_id)),
        _ => format!("client_id          = {}", toml_string(&guide.client_id)),
    };
    let scopes: Vec<String> = scopes.iter().map(|scope| toml_string(scope)).collect();
    let scopes = scopes.join(",\n  ");
    let catalogue = match guide.lms {
        SimulatedLms::Brightspace | SimulatedLms::Ltiaas => "brightspace",
        SimulatedLms::Dap => "dap",
        SimulatedLms::Canvas => "canvas",
        SimulatedLms::Blackboard | SimulatedLms::Moodle => "none",
    };
    let (origin, token_url) = (mock.origin(), mock.token_url());
    format!(
        "[credentials.mock]\n\
         profile            = \"{profile}\"\n\
         {client}\n\
         token_url          = \"{token_url}\"\n\
         {authentication}\n\
         \n\
         [upstreams.lms]\n\
         base_url   = \"{origin}\"\n\
         credential = \"mock\"\n\
         catalogue  = \"{catalogue}\"\n\
         scopes     = [\n  {scopes},\n]\n"
    )
}

fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}
