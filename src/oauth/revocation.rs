//! Taking a login back at the authorization server.

use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use url::form_urlencoded::Serializer;

use super::{Cause, ClientParams, Failure, Injection, LoginGrant, TokenEndpoint, TokenRequest};
use crate::{
    dial::Dialer,
    secret::{ExposeSecret, SecretString},
};

/// How an authorization server takes a login back.
#[derive(Clone)]
#[non_exhaustive]
pub enum Revocation {
    /// A revocation endpoint (RFC 7009 section 2) that is given the refresh token.
    Endpoint {
        /// How it is reached.
        dialer: Dialer,
        /// Its path and query.
        path: http::uri::PathAndQuery,
    },
    /// `DELETE` on the token endpoint, with an access token that is good (Canvas).
    Delete,
}

impl Revocation {
    /// Takes the login back that `refresh_token` comes from. `access_token`: one of its, if it has a good one.
    ///
    /// # Errors
    ///
    /// [`Failure`]: the login may go on.
    pub async fn revoke(
        &self,
        client: &ClientParams,
        refresh_token: &SecretString,
        access_token: Option<&Injection>,
        request: &TokenRequest,
    ) -> Result<(), Failure> {
        match self {
            Self::Endpoint { dialer, path } => {
                let endpoint = TokenEndpoint::new(ClientParams {
                    dialer: dialer.clone(),
                    token_path: path.clone(),
                    token_params: Vec::new(),
                    ..client.clone()
                });
                let mut form = Serializer::new(String::new());
                form.append_pair("token", refresh_token.expose_secret());
                form.append_pair("token_type_hint", "refresh_token");
                let message = endpoint.message(form, None, request)?;
                endpoint.tell(message).await
            }
            Self::Delete => {
                let endpoint = TokenEndpoint::new(client.clone());
                // A refresh token that stays good costs nothing to use.
                let fresh = match access_token {
                    Some(_) => None,
                    None => {
                        let grant = LoginGrant::RefreshToken(refresh_token.clone());
                        Some(endpoint.redeem(&grant, request).await?.injection)
                    }
                };
                let Some(Injection::Bearer(field)) = access_token.or(fresh.as_ref()) else {
                    return Err(Cause::NotSent("there is no bearer token").into());
                };
                let message = endpoint.deletion(field)?;
                endpoint.tell(message).await
            }
        }
    }
}

impl TokenEndpoint {
    fn deletion(&self, token: &HeaderValue) -> Result<Request<Full<bytes::Bytes>>, Cause> {
        let mut message = Request::new(Full::default());
        *message.method_mut() = Method::DELETE;
        *message.uri_mut() = Uri::from(self.params().token_path.clone());
        let mut headers = self.headers()?;
        headers.remove(CONTENT_TYPE);
        headers.insert(AUTHORIZATION, token.clone());
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// Sends what has no answer but that it was heard.
    async fn tell(&self, message: Request<Full<bytes::Bytes>>) -> Result<(), Failure> {
        let response = self.send(message).await?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            status => Err(Cause::Status(status.as_u16()).into()),
        }
    }
}
