//! What an answer of the token endpoint means (RFC 6749 sections 5.1 and 5.2).
//!
//! Nothing of the answer is kept but what is checked here: no `error_description`, no body, no text
//! of a parser, since servers have been seen to echo what they were sent.

mod members;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Answer, Cause, Dialect, Failure, Injection, OAuthError, ScopeSource, dialect::Names};
use crate::{
    clock::{Moment, fields},
    scope::{Scope, ScopeSet},
    secret::SecretString,
    telemetry::visible,
};
use members::Members;

/// The longest `expires_in` that is believed.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest access token: beyond it, no server takes the field.
const MAX_TOKEN_LENGTH: usize = 16 * 1024;

/// Reads an answer. `sent` and `received` are the moments around the exchange.
pub(super) fn read(
    response: &Response<Bytes>,
    dialect: &Dialect,
    scope_source: ScopeSource,
    sent: Moment,
    received: Moment,
) -> Result<Answer, Failure> {
    let headers = response.headers();
    let skew_seconds = fields::skew_seconds(headers, sent, received);
    let read = match response.status() {
        StatusCode::OK => token(headers, response.body(), dialect.names(), scope_source),
        status if status.is_redirection() => {
            let error = dialect.redirected_error(headers);
            Err(error.map_or(Cause::Status(status.as_u16()), Cause::Rejected))
        }
        status => Err(refusal(status, headers, response.body(), dialect)),
    };
    match read {
        Ok(answer) => Ok(Answer {
            skew_seconds,
            ..answer
        }),
        Err(cause) => Err(Failure {
            cause,
            retry_after: fields::retry_after(headers, received, skew_seconds),
            skew_seconds,
            is_sent: true,
        }),
    }
}

fn token(
    headers: &HeaderMap,
    body: &[u8],
    names: &Names,
    scope_source: ScopeSource,
) -> Result<Answer, Cause> {
    const NOT_ONE_OBJECT: Cause =
        Cause::InvalidResponse("it is not one JSON object with every member once");
    let invalid = Cause::InvalidResponse;
    if !is_identity(headers) {
        return Err(invalid("its content is encoded"));
    }
    if !is_json(headers) {
        return Err(invalid("its type is not JSON"));
    }
    if body.is_empty() {
        return Err(invalid("it is empty"));
    }
    let members = Members::parse(body).ok_or(NOT_ONE_OBJECT)?;

    check_token_type(members.get(names.token_type))?;
    let token = match members.get(names.access_token) {
        Some(Value::String(token)) => token,
        Some(_) => return Err(invalid("access_token is not a string")),
        None => return Err(invalid("access_token is missing")),
    };
    Ok(Answer {
        injection: Injection::Bearer(bearer(token)?),
        expires_in: lifetime(members.get(names.expires_in))?,
        granted: granted(scope_source, members.get("scope"), token)?,
        refresh_token: refresh_token(members.get(names.refresh_token))?,
        // No standard has it. What cannot be read of it must not cost the refresh token that it is about.
        refresh_expires_in: lifetime(members.get(names.refresh_expires_in)).unwrap_or(None),
        kept_for: None,
        account: members.get("user").and_then(account),
        skew_seconds: None,
    })
}

/// The person whom Canvas names beside the token. Nothing is decided by it.
fn account(user: &Value) -> Option<String> {
    const MAX_NAME: usize = 200;
    let user = user.as_object()?;
    let name = user.get("name").and_then(Value::as_str);
    let name = name.map(|name| visible(&name.chars().take(MAX_NAME).collect::<String>()));
    let id = user.get("id").and_then(Value::as_u64);
    match (name, id) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (Some(name), None) => Some(name),
        (None, id) => id.map(|id| id.to_string()),
    }
}

/// RFC 6749 section 5.1 requires `token_type`; the identity service of Instructure calls it optional.
fn check_token_type(member: Option<&Value>) -> Result<(), Cause> {
    match member {
        None => {
            tracing::warn!("the token answer has no token_type; taken as Bearer");
            Ok(())
        }
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => Ok(()),
        Some(_) => Err(Cause::InvalidResponse("token_type is not Bearer")),
    }
}

/// `credentials` of RFC 6750 section 2.1. `HeaderValue` alone would let spaces and UTF-8 through.
fn bearer(token: &str) -> Result<HeaderValue, Cause> {
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(Cause::InvalidResponse("access_token is longer than 16 KiB"));
    }
    let is_b64token = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    let body = token.trim_end_matches('=');
    if body.is_empty() || !body.bytes().all(is_b64token) {
        return Err(Cause::InvalidResponse("access_token is no bearer token"));
    }
    let field = Zeroizing::new(format!("Bearer {token}"));
    let mut field = HeaderValue::from_str(&field)
        .map_err(|_| Cause::InvalidResponse("access_token is no bearer token"))?;
    field.set_sensitive(true);
    Ok(field)
}

/// Numbers, fractions and strings of digits are all seen in the wild; none of them may mean "for ever"
/// or "not at all".
fn lifetime(member: Option<&Value>) -> Result<Option<Duration>, Cause> {
    let seconds = match member {
        None => return Ok(None),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(seconds) => Some(seconds),
            // The cast saturates: negative becomes zero, huge becomes the largest.
            None => number.as_f64().map(|seconds| seconds as u64),
        },
        Some(Value::String(digits))
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            // Only too many digits are left to go wrong.
            Some(digits.parse().unwrap_or(u64::MAX))
        }
        Some(_) => None,
    };
    match seconds {
        None => Err(Cause::InvalidResponse("expires_in is not a number")),
        Some(0) => Err(Cause::InvalidResponse("expires_in is not above zero")),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds).min(MAX_LIFETIME))),
    }
}

/// RFC 6749 appendix A.17: visible ASCII and blanks.
fn refresh_token(member: Option<&Value>) -> Result<Option<SecretString>, Cause> {
    let is_sound = |token: &str| {
        (1..=MAX_TOKEN_LENGTH).contains(&token.len())
            && token.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    match member {
        None => Ok(None),
        Some(Value::String(token)) if is_sound(token) => Ok(Some(token.as_str().into())),
        Some(_) => Err(Cause::InvalidResponse("refresh_token is no token")),
    }
}

fn granted(
    source: ScopeSource,
    member: Option<&Value>,
    token: &str,
) -> Result<Option<ScopeSet>, Cause> {
    const INVALID: Cause = Cause::InvalidResponse("scope is not a list of scopes");
    match (source, member) {
        (ScopeSource::Nowhere, _) | (ScopeSource::Answer, None) => Ok(None),
        (_, Some(member)) => scopes(member).map(Some).ok_or(INVALID),
        (ScopeSource::AnswerOrToken, None) => match claimed_scope(token) {
            None => Ok(None),
            Some(claim) => scopes(&claim).map(Some).ok_or(INVALID),
        },
    }
}

/// A space-separated string (RFC 6749 section 3.3), or the array that some servers make of it.
fn scopes(value: &Value) -> Option<ScopeSet> {
    match value {
        Value::String(list) => ScopeSet::parse(list).ok(),
        Value::Array(list) => list
            .iter()
            .map(|scope| Scope::parse(scope.as_str()?).ok())
            .collect(),
        _ => None,
    }
}

/// The `scope` claim, if the token is a JWT. Its signature is not looked at: the token came from the
/// AS itself, over TLS.
fn claimed_scope(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    Members::parse(&payload)?.take("scope")
}

/// What any status but 200 means.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], dialect: &Dialect) -> Cause {
    let waiting_helps = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER));
    if waiting_helps {
        return Cause::Throttled(status.as_u16());
    }
    // The word of a gateway: whether the AS has seen the request, and what it made of it, nobody knows.
    let is_gateway = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
    );
    let has_code = (status.is_client_error() || status.is_server_error()) && !is_gateway;
    match error_code(headers, body, dialect) {
        Some(code) if has_code => {
            let cause = Cause::Rejected(code);
            // A server that is broken cannot be believed that the client is at fault.
            if status.is_server_error() && cause.is_permanent() {
                Cause::Status(status.as_u16())
            } else {
                cause
            }
        }
        _ => Cause::Status(status.as_u16()),
    }
}

/// `error` of RFC 6749 section 5.2. The type is not looked at: what is no such object does not parse.
fn error_code(headers: &HeaderMap, body: &[u8], dialect: &Dialect) -> Option<OAuthError> {
    if !is_identity(headers) {
        return None;
    }
    if let Some(quoted) = dialect.quoted_error(body) {
        return Some(quoted);
    }
    match Members::parse(body)?.get("error")? {
        Value::String(code) => Some(OAuthError::parse(code)),
        _ => None,
    }
}

/// `application/json`, or a type built on it (RFC 6839 section 3.1).
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(field)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = field.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn is_identity(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests;
