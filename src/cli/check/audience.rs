//! The `aud` of an assertion: Brightspace is seen with two of them in the wild.

use super::report::Check;
use crate::{
    cli::{exit::Exit, explain::live},
    oauth::{Answer, AssertionParams, ClientAuth, ClientParams, Failure, Grant, ScopeSource},
};

/// What D2L's own library and its LTI tools use; its REST documentation uses the token URL.
pub(super) const BRIGHTSPACE_API_AUDIENCE: &str = "https://api.brightspace.com/auth/token";

/// The client with the other audience of the two, and that audience. `None` where there is no other one.
pub(super) fn other(client: &ClientParams) -> Option<(ClientParams, String)> {
    let audience = other_audience(client, client.assertion()?)?;
    let mut other = client.clone();
    // `audience` is one setting: it goes into each assertion that the client makes.
    if let ClientAuth::PrivateKeyJwt { assertion, .. } | ClientAuth::SecretJwt { assertion, .. } =
        &mut other.auth
    {
        assertion.audience.clone_from(&audience);
    }
    if let Grant::JwtBearer { assertion, .. } = &mut other.grant {
        assertion.audience.clone_from(&audience);
    }
    Some((other, audience))
}

/// Whether `audience` is the one that works.
pub(super) fn verdict(name: &str, audience: &str, outcome: &Result<Answer, Failure>) -> Check {
    match outcome {
        Ok(_) => Check::bad(
            format!("{name}: audience"),
            "the authorization server accepts the other one of the two that Brightspace uses",
            live::OTHER_AUDIENCE,
            format!("set audience = \"{audience}\" in [credentials.{name}]"),
            Exit::Refused,
        ),
        Err(failure) => Check::warning(
            format!("{name}: audience"),
            format!("{audience} does not help either: {}", failure.cause),
            live::INVALID_CLIENT,
            "leave audience as it is",
        ),
    }
}

fn other_audience(client: &ClientParams, assertion: &AssertionParams) -> Option<String> {
    // Reading the token's own scopes is what makes a client one of Brightspace's.
    if client.scope_source != ScopeSource::AnswerOrToken {
        return None;
    }
    if assertion.audience == BRIGHTSPACE_API_AUDIENCE {
        let origin = &client.dialer.origin;
        let scheme = if origin.tls { "https" } else { "http" };
        Some(format!(
            "{scheme}://{}{}",
            origin.authority(),
            client.token_path
        ))
    } else {
        Some(BRIGHTSPACE_API_AUDIENCE.to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests;
