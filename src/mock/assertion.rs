//! Client assertions, judged by RFC 7523 section 3 and by what Brightspace is known to want.

use std::time::Duration;

use jsonwebtoken::{TokenData, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

use super::keys::VerifyingKey;

/// The longest life of an assertion.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// How far ahead the client's clock may be.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// What an assertion has to say.
pub(super) struct Expected<'a> {
    pub(super) client_id: &'a str,
    /// The names of this authorization server.
    pub(super) audiences: &'a [String],
    /// By the wall clock since 1970.
    pub(super) now: Duration,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) jti: String,
    /// By the wall clock since 1970.
    pub(super) expires: Duration,
}

/// Why an assertion is refused; the text goes into `error_description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("client_assertion is not a signed JWT")]
    Malformed,
    #[error("the header of client_assertion lacks kid")]
    NoKid,
    #[error("the header of client_assertion has crit, which is not understood")]
    Critical,
    #[error("the algorithm of client_assertion does not fit its key")]
    Algorithm,
    #[error("the signature of client_assertion does not verify with the key of its kid")]
    Signature,
    #[error("client_assertion needs the claims iss, sub, aud, exp and jti")]
    Claims,
    #[error("iss and sub of client_assertion must both be the client id")]
    Client,
    #[error("aud of client_assertion must name this token endpoint and nothing else")]
    Audience,
    #[error("client_assertion has expired")]
    Expired,
    #[error("client_assertion lives longer than 300 seconds")]
    TooLong,
    #[error("iat or nbf of client_assertion lies in the future")]
    NotYet,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    List(Vec<String>),
}

/// The `kid` of the key that is said to have signed `assertion`.
///
/// # Errors
///
/// It is no JWT, or its header will not do.
pub(super) fn kid(assertion: &str) -> Result<String, Refusal> {
    let header = decode_header(assertion).map_err(|_error| Refusal::Malformed)?;
    if header.crit.is_some() {
        // RFC 7515 section 4.1.11: what is critical and not understood makes it invalid.
        return Err(Refusal::Critical);
    }
    header.kid.ok_or(Refusal::NoKid)
}

/// Judges everything but whether it was used before.
///
/// # Errors
///
/// The first reason against it.
pub(super) fn verify(
    assertion: &str,
    key: &VerifyingKey,
    expected: &Expected<'_>,
) -> Result<Accepted, Refusal> {
    let claims = verified_claims(assertion, key)?;
    if claims.iss != expected.client_id || claims.sub != expected.client_id {
        return Err(Refusal::Client);
    }
    let aud = match claims.aud {
        Audience::One(aud) => aud,
        Audience::List(list) => <[String; 1]>::try_from(list)
            .map(|[aud]| aud)
            .map_err(|_several| Refusal::Audience)?,
    };
    if !expected.audiences.contains(&aud) {
        return Err(Refusal::Audience);
    }
    let now = expected.now.as_secs_f64();
    let latest = now + MAX_SKEW.as_secs_f64();
    if claims.exp <= now {
        return Err(Refusal::Expired);
    }
    let begins = claims.iat.unwrap_or(latest).min(latest);
    if claims.exp - begins > MAX_LIFETIME.as_secs_f64() {
        return Err(Refusal::TooLong);
    }
    if [claims.iat, claims.nbf]
        .iter()
        .flatten()
        .any(|&time| time > latest)
    {
        return Err(Refusal::NotYet);
    }
    Ok(Accepted {
        jti: claims.jti,
        expires: Duration::try_from_secs_f64(claims.exp).map_err(|_error| Refusal::Claims)?,
    })
}

fn verified_claims(assertion: &str, key: &VerifyingKey) -> Result<Claims, Refusal> {
    let mut validation = Validation::default();
    validation.algorithms.clone_from(&key.algorithms);
    // The claims are judged by the caller: by the mock's clock, and each with a reason of its own.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match decode(assertion, &key.key, &validation) {
        Ok(TokenData { claims, .. }) => Ok(claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature => Refusal::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => Refusal::Algorithm,
            ErrorKind::Json(_) => Refusal::Claims,
            _ => Refusal::Malformed,
        }),
    }
}
