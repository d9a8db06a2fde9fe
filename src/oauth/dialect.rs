//! Where token endpoints speak otherwise than the standard.

use bytes::Bytes;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::LoginGrant;
use crate::secret::ExposeSecret;

/// How a token endpoint is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// As RFC 6749 says.
    #[default]
    Standard,
    /// JSON in camelCase both ways, and one address for codes and another for refresh tokens (LTIAAS).
    Ltiaas(LtiaasParams),
}

/// What the public documentation of LTIAAS leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LtiaasParams {
    /// The member that holds what the browser has come back with.
    pub code_member: String,
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
            Self::Standard => &SNAKE,
            Self::Ltiaas(_) => &CAMEL,
        }
    }
}

impl LtiaasParams {
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
    fn a_body_of_ltiaas_is_one_member() {
        let params = LtiaasParams {
            code_member: "handle".to_owned(),
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
    }
}
