//! What a login needs: where a person is sent, where they come back to, and who they are.

use figment::value::Value;
use http::{HeaderName, uri::PathAndQuery};
use url::Url;

use super::{
    Fault, FromValue,
    address::{self, secured},
    shape::{self, Shape},
    string,
};
use crate::{config::problem::ProblemCode, dial::Origin, oauth::authorization::RedirectUri};

/// Parameters of an authorization request (RFC 6749 section 4.1.1, RFC 7636 section 4.3).
const REQUEST_PARAMS: &[&str] = &[
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
];

/// Fields that belong to the connection, that say something to bursar already, or that it sets itself.
const TAKEN_FIELDS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "bursar-caller",
    "bursar-control",
    "bursar-request-id",
    "host",
    "cookie",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
    "content-type",
    "content-encoding",
    "origin",
    "via",
];

impl FromValue for RedirectUri {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "http://127.0.0.1:8765/callback""#)?;
        Self::parse(text).map_err(|error| {
            Fault::new(
                ProblemCode::InvalidUrl,
                error.to_string(),
                r#"write what is registered at the LMS, such as "http://127.0.0.1:8765/callback" or "https://localhost:8765/callback""#,
            )
        })
    }
}

/// Where a person agrees: `https`, or plain on this machine.
#[derive(Clone, Debug)]
pub(in crate::config) struct AuthorizeUrl(pub(in crate::config) Url);

impl FromValue for AuthorizeUrl {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "https://auth.example/authorize""#)?;
        let plain = || {
            Fault::new(
                ProblemCode::PlainHttp,
                "would let anybody on the way put a login page of their own in the place of the real one",
                "write https://; only an authorization endpoint on loopback may be plain http",
            )
        };
        secured(text, plain)?;
        let url = address::parse(text)?;
        match url
            .query_pairs()
            .find(|(name, _)| REQUEST_PARAMS.contains(&name.as_ref()))
        {
            None => Ok(Self(url)),
            Some((name, _)) => Err(Fault::new(
                ProblemCode::ProtocolField,
                format!("bursar sets {name:?} itself"),
                "write the endpoint alone, without the parameters of a request",
            )),
        }
    }
}

/// Where refresh tokens are revoked (RFC 7009): `https`, or plain on this machine.
#[derive(Clone, Debug)]
pub(in crate::config) struct RevocationUrl {
    /// The origin.
    pub(in crate::config) origin: Origin,
    /// Path and query.
    pub(in crate::config) path: PathAndQuery,
}

impl FromValue for RevocationUrl {
    const SHAPE: Shape = Shape::Text(shape::URL);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a URL such as "https://auth.example/revoke""#)?;
        let plain = || {
            Fault::new(
                ProblemCode::PlainHttp,
                "would send a refresh token unencrypted",
                "write https://; only a revocation endpoint on loopback may be plain http",
            )
        };
        let (origin, path) = secured(text, plain)?;
        Ok(Self { origin, path })
    }
}

/// The field by which an application says for whom a request is.
#[derive(Clone, Debug)]
pub(in crate::config) struct SubjectHeader(pub(in crate::config) HeaderName);

impl FromValue for SubjectHeader {
    const SHAPE: Shape = Shape::Text(shape::TEXT);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"the name of a field such as "Bursar-Subject""#)?;
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
            Fault::invalid(
                format!("{text:?} is not the name of a field"),
                r#"write letters, digits and `-`, as in "Bursar-Subject""#,
            )
        })?;
        if TAKEN_FIELDS.contains(&name.as_str()) {
            return Err(Fault::invalid(
                format!("{text:?} has another meaning in a request"),
                r#"choose a field of your own, such as "Bursar-Subject""#,
            ));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_endpoint_is_encrypted_and_bare_of_what_bursar_sets() {
        let of = |text: &str| AuthorizeUrl::from_value(&Value::from(text));
        assert!(of("https://auth.example/oauth2/auth?tenant=1").is_ok());
        assert!(of("http://127.0.0.1:9/auth").is_ok());
        for wrong in [
            "http://auth.example/auth",
            "https://auth.example/auth?client_id=x",
            "https://auth.example/auth#x",
            "https://user@auth.example/auth",
            "auth.example",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subject_has_a_field_of_its_own() {
        let of = |text: &str| SubjectHeader::from_value(&Value::from(text));
        assert_eq!(of("Bursar-Subject").unwrap().0, "bursar-subject");
        for wrong in ["", "a b", "Authorization", "HOST", "Bursar-Caller", "x:y"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_uri_says_what_is_wrong_with_it() {
        let fault = RedirectUri::from_value(&Value::from("http://school.example/x")).unwrap_err();
        assert!(format!("{fault:?}").contains("take the code"));
    }
}
