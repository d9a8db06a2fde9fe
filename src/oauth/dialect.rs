//! Where token endpoints speak otherwise than the standard.

use bytes::Bytes;
use http::{HeaderMap, header::LOCATION, uri::PathAndQuery};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded::Serializer};
use zeroize::Zeroizing;

use super::{Cause, LoginGrant, OAuthError};
use crate::secret::ExposeSecret;

/// How a token endpoint is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// As RFC 6749 says.
    #[default]
    Standard,
    /// The same with two words of its own (Canvas): a refresh token that is not known is an `invalid_request`, and an error of a request that
    /// names a `redirect_uri` comes as a redirect to it, which is read and not followed.
    Canvas,
    /// JSON in camelCase both ways, and one address for codes and another for refresh tokens (LTIAAS).
    Ltiaas(LtiaasParams),
}

/// What the public documentation of LTIAAS leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LtiaasParams {
    /// The member that holds what the browser has come back with.
    pub code_member: String,
    /// Whether it goes into the query of a GET, and not into the body of a POST.
    pub code_in_query: bool,
    /// Where refresh tokens go; codes go to the client's `token_path`.
    pub refresh_path: PathAndQuery,
}

/// The members of a token answer (RFC 6749 section 5.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) token_type: &'static str,
    pub(super) access_token: &'static str,
    pub(super) expires_in: &'static str,
    pub(super) refresh_token: &'static str,
    pub(super) refresh_expires_in: &'static str,
}

const SNAKE: Names = Names {
    token_type: "token_type",
    access_token: "access_token",
    expires_in: "expires_in",
    refresh_token: "refresh_token",
    refresh_expires_in: "refresh_token_expires_in",
};

const CAMEL: Names = Names {
    token_type: "tokenType",
    access_token: "accessToken",
    expires_in: "expiresIn",
    refresh_token: "refreshToken",
    refresh_expires_in: "refreshTokenExpiresIn",
};

impl Dialect {
    /// What the members of an answer are called.
    pub(super) const fn names(&self) -> &'static Names {
        match self {
            Self::Standard | Self::Canvas => &SNAKE,
            Self::Ltiaas(_) => &CAMEL,
        }
    }
}

impl Dialect {
    /// What a refusal of `grant` means in the words of the standard.
    pub(super) fn translate(&self, grant: &LoginGrant, cause: Cause) -> Cause {
        match (self, grant, cause) {
            (
                Self::Canvas,
                LoginGrant::RefreshToken(_),
                Cause::Rejected(OAuthError::InvalidRequest),
            ) => Cause::Rejected(OAuthError::InvalidGrant),
            (_, _, cause) => cause,
        }
    }

    /// The LMS's refusal of a refresh token in what LTIAAS says of it, wherever it stands there: in what form LTIAAS tells it is not documented.
    /// Without that word a refusal may be over by itself, and the refresh token is kept.
    pub(super) fn quoted_error(&self, body: &[u8]) -> Option<OAuthError> {
        let Self::Ltiaas(_) = self else {
            return None;
        };
        let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let mut words = body.split(|byte| !is_of_word(byte));
        words
            .any(|word| word == b"invalid_grant")
            .then_some(OAuthError::InvalidGrant)
    }

    /// The error that a redirect brings.
    pub(super) fn redirected_error(&self, headers: &HeaderMap) -> Option<OAuthError> {
        if *self != Self::Canvas {
            return None;
        }
        let location = Url::parse(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        let mut query = location.query_pairs();
        let (_, code) = query.find(|(name, _)| name == "error")?;
        Some(OAuthError::parse(&code))
    }
}

impl LtiaasParams {
    /// The target of a GET that brings a code to `path`; `None`: it is not asked so.
    pub(super) fn query(&self, path: &PathAndQuery, grant: &LoginGrant) -> Option<PathAndQuery> {
        let LoginGrant::AuthorizationCode { code, .. } = grant else {
            return None;
        };
        let query = Serializer::new(String::new())
            .append_pair(&self.code_member, code.expose_secret())
            .finish();
        let target = format!("{}?{query}", path.path());
        self.code_in_query.then(|| target.parse().ok())?
    }

    /// The body of a request.
    pub(super) fn body(&self, grant: &LoginGrant) -> Bytes {
        let (name, secret) = match grant {
            LoginGrant::AuthorizationCode { code, .. } => (self.code_member.as_str(), code),
            LoginGrant::RefreshToken(token) => ("refreshToken", token),
        };
        let mut body = Map::new();
        body.insert(name.to_owned(), Value::from(secret.expose_secret()));
        Bytes::from_owner(Zeroizing::new(Value::Object(body).to_string().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ltiaas_quotes_the_lms_in_whatever_form() {
        let ltiaas = Dialect::Ltiaas(LtiaasParams {
            code_member: "token".to_owned(),
            code_in_query: false,
            refresh_path: PathAndQuery::from_static("/refresh"),
        });
        let own = br#"{"status":400,"error":"Bad Request","details":{"message":"invalid_grant: it is revoked"}}"#;
        let found = ltiaas.quoted_error(own);
        assert_eq!(found, Some(OAuthError::InvalidGrant));
        assert_eq!(Dialect::Standard.quoted_error(own), None);
        for other in [
            "",
            r#"{"error":"Bad Request","details":{"message":"A parameter is missing"}}"#,
            "not_invalid_grant",
            "invalid_grants",
        ] {
            assert_eq!(ltiaas.quoted_error(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn canvas_says_invalid_request_of_a_refresh_token_that_it_does_not_know() {
        let rejected = |error| Cause::Rejected(error);
        let refresh = LoginGrant::RefreshToken("r".into());
        let code = LoginGrant::AuthorizationCode {
            code: "c".into(),
            redirect_uri: String::new(),
            verifier: None,
        };
        let (invalid, grant) = (
            rejected(OAuthError::InvalidRequest),
            rejected(OAuthError::InvalidGrant),
        );
        let canvas = Dialect::Canvas;
        assert_eq!(canvas.translate(&refresh, invalid.clone()), grant);
        assert_eq!(canvas.translate(&code, invalid.clone()), invalid);
        let standard = Dialect::Standard;
        assert_eq!(standard.translate(&refresh, invalid.clone()), invalid);
        assert_eq!(
            canvas.translate(&refresh, Cause::Status(500)),
            Cause::Status(500)
        );
    }

    #[test]
    fn an_error_that_comes_as_a_redirect_is_read_where_that_is_known() {
        let to = |location: &'static str| {
            let location = http::HeaderValue::from_static(location);
            HeaderMap::from_iter([(LOCATION, location)])
        };
        let error = to("http://127.0.0.1:8765/callback?error=invalid_grant&error_description=x");
        let found = Dialect::Canvas.redirected_error(&error);
        assert_eq!(found, Some(OAuthError::InvalidGrant));
        assert_eq!(Dialect::Standard.redirected_error(&error), None);
        for other in ["https://elsewhere.test/login", "/login?error=x", ""] {
            assert_eq!(
                Dialect::Canvas.redirected_error(&to(other)),
                None,
                "{other}"
            );
        }
        assert_eq!(Dialect::Canvas.redirected_error(&HeaderMap::new()), None);
    }

    #[test]
    fn a_body_of_ltiaas_is_one_member() {
        let params = LtiaasParams {
            code_member: "handle".to_owned(),
            code_in_query: false,
            refresh_path: "/refresh".parse().unwrap(),
        };
        let refresh = LoginGrant::RefreshToken("a\"b".into());
        assert_eq!(params.body(&refresh), r#"{"refreshToken":"a\"b"}"#);
        let code = LoginGrant::AuthorizationCode {
            code: "c".into(),
            redirect_uri: String::new(),
            verifier: None,
        };
        assert_eq!(params.body(&code), r#"{"handle":"c"}"#);
        let path = "/exchange".parse().unwrap();
        assert_eq!(params.query(&path, &code), None);
        let by_get = LtiaasParams {
            code_in_query: true,
            ..params
        };
        assert_eq!(by_get.query(&path, &code).unwrap(), "/exchange?handle=c");
        assert_eq!(by_get.query(&path, &refresh), None);
    }
}
