//! Which credentials an upstream uses, and what it asks them for.

use std::sync::Arc;

use super::credential::Draft;
use crate::{
    config::{
        CredentialUse,
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault, Text,
            word::{Profile, TokenScope},
        },
    },
    policy::{Mode, Policy},
    scope::ScopeSet,
    token::Ask,
};

/// How an upstream asks, whichever credential it is.
pub(super) struct Asking {
    /// `request_scopes`, where a person set it.
    send: Option<bool>,
    /// `token_scope = "route"`.
    per_route: bool,
}

/// The credential that the key `credential` of a table names.
pub(super) fn named<'a>(
    reader: &mut Reader,
    credentials: &'a [Draft],
    table: &Table,
) -> Option<&'a Draft> {
    let name = reader.require::<Text>(
        table,
        "credential",
        "name one of [credentials.*]: its token goes to this upstream",
    )?;
    let found = credentials.iter().find(|draft| draft.name == name.0);
    match found {
        Some(draft) => draft.mark_used(),
        None => {
            let known: Vec<_> = credentials
                .iter()
                .map(|draft| draft.name.as_str())
                .collect();
            let help = if known.is_empty() {
                format!("add [credentials.{}]", name.0)
            } else {
                format!("there are: {}", known.join(", "))
            };
            let fault = Fault::new(
                ProblemCode::UnknownCredential,
                format!("there is no credential {:?}", name.0),
                help,
            );
            reader.fault(table, "credential", fault);
        }
    }
    found
}

/// Whether a `scope` parameter is sent, and whether each scope set has a token of its own.
pub(super) fn asking(
    reader: &mut Reader,
    table: &Table,
    credential: Option<&Draft>,
) -> Option<Asking> {
    let token_scope = reader.get::<TokenScope>(table, "token_scope");
    let profile = credential.and_then(|credential| credential.profile);
    let preset = profile.and_then(Profile::request_scopes);
    let request_scopes = reader.get_or::<bool>(table, "request_scopes", preset);
    let (token_scope, send) = (token_scope?, request_scopes?);

    let is_static = credential.is_some_and(Draft::is_static);
    let per_route = token_scope == TokenScope::Route;
    if per_route && (is_static || !send) {
        let why = if is_static {
            "nobody is asked for a token here, so there is no narrower one"
        } else {
            "request_scopes = false, so no narrower token can be asked for"
        };
        let fault = Fault::new(
            ProblemCode::Conflict,
            why,
            r#"set token_scope = "upstream""#,
        );
        reader.fault(table, "token_scope", fault);
        return None;
    }
    Some(Asking {
        send: table.has("request_scopes").then_some(send),
        per_route,
    })
}

impl Asking {
    /// Whether all that the allowlist comes to can go into one request to `credential`.
    pub(super) fn sends_all(&self, credential: &Draft, policy: &Policy) -> bool {
        let is_reporting = policy.mode() == Mode::Report;
        self.sends(credential) && (!self.per_route || is_reporting)
    }

    /// What `credential` is asked for.
    pub(super) fn of(&self, credential: &Draft, scopes: &ScopeSet) -> Option<CredentialUse> {
        Some(CredentialUse {
            credential: Arc::clone(credential.credential.as_ref()?),
            ask: Ask {
                scopes: scopes.clone(),
                send: self.sends(credential),
                per_route: self.per_route,
            },
        })
    }

    /// The same for every credential that routes name.
    pub(super) fn of_routes(
        &self,
        credentials: &[Draft],
        policy: &Policy,
    ) -> Option<Vec<CredentialUse>> {
        let named = policy.route_credentials().iter();
        named
            .map(|named| {
                let draft = credentials
                    .iter()
                    .find(|draft| *draft.name == *named.name)?;
                self.of(draft, &named.scopes)
            })
            .collect()
    }

    /// A static token has the scopes it has. Where nobody set it, each credential's profile says.
    fn sends(&self, credential: &Draft) -> bool {
        let preset = || credential.profile.is_none_or(Profile::requests_scopes);
        !credential.is_static() && self.send.unwrap_or_else(preset)
    }
}
