//! The token endpoint of one client: a token request in, what the answer means out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
    uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::Full;
use tokio::time::Instant;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, timeout::error::Elapsed,
    util::BoxCloneSyncService,
};
use tracing::Instrument;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::{
    Answer, Cause, ClientParams, Dialect, Failure, LoginGrant, LtiaasParams, TokenRequest,
    TokenSource, Unreachable, answer, client_auth, grant,
    transport::{ExchangeError, Progress, Transport, read_body},
};
use crate::{clock::Moment, scope::ScopeSet};

/// The token endpoint of one client.
///
/// A request runs through a stack of services: the time limit, over the reading of the body, over
/// the connection.
pub struct TokenEndpoint {
    params: Arc<ClientParams>,
    service: BoxCloneSyncService<Request<Full<Bytes>>, Response<Bytes>, Cause>,
}

impl TokenEndpoint {
    /// Makes the client ready.
    #[must_use]
    pub fn new(params: ClientParams) -> Self {
        let transport = Transport::new(params.dialer.clone());
        Self::over(params, transport)
    }

    /// The same over another way to the AS than a connection of its own.
    fn over<S, B>(params: ClientParams, transport: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let limit = params.timeout;
        let service = ServiceBuilder::new()
            .map_err(move |error: BoxError| cause_of(&error, limit))
            .timeout(limit)
            .and_then(read_body)
            .map_err(Into::<BoxError>::into)
            .service(transport);
        Self {
            params: Arc::new(params),
            service: BoxCloneSyncService::new(service),
        }
    }

    /// Redeems what a login has brought, in place of the configured grant (RFC 6749 sections 4.1.3 and 6).
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn redeem(
        &self,
        grant: &LoginGrant,
        request: &TokenRequest,
    ) -> Result<Answer, Failure> {
        let message = match &self.params.dialect {
            Dialect::Ltiaas(ltiaas) => self.json_message(ltiaas, grant, request)?,
            Dialect::Standard | Dialect::Canvas => {
                let mut form = Serializer::new(String::new());
                grant.present(&mut form);
                let scopes = request.scopes.as_ref().filter(|_| grant.takes_scope());
                self.message(form, scopes, request)?
            }
        };
        let answer = self.exchange(message, request.now).await;
        answer.map_err(|failure| Failure {
            cause: self.params.dialect.translate(grant, failure.cause),
            ..failure
        })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        now: Moment,
    ) -> Result<Answer, Failure> {
        let span =
            tracing::info_span!("token_request", endpoint = %self.params.dialer.origin.authority());
        async {
            let sent = Instant::now();
            let response = self.send(request).await?;
            let received = now.after(sent.elapsed());
            let dialect = &self.params.dialect;
            answer::read(&response, dialect, self.params.scope_source, now, received)
        }
        .instrument(span)
        .await
    }

    /// One request and its whole answer.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Failure> {
        let progress = Progress::default();
        request.extensions_mut().insert(progress.clone());
        let response = self.service.clone().oneshot(request).await;
        response.map_err(|cause| Failure {
            is_sent: !progress.is_dialing(),
            ..cause.into()
        })
    }

    pub(super) fn params(&self) -> &ClientParams {
        &self.params
    }

    /// A token request (RFC 6749 section 4.4.2, RFC 7523 section 2), of which `form` holds the grant.
    pub(super) fn message(
        &self,
        mut form: Serializer<'_, String>,
        scopes: Option<&ScopeSet>,
        request: &TokenRequest,
    ) -> Result<Request<Full<Bytes>>, Cause> {
        let params = &self.params;
        let mut headers = self.headers()?;
        client_auth::authenticate(
            &params.client_id,
            &params.auth,
            request.now,
            request.skew_seconds,
            &mut headers,
            &mut form,
        )?;
        if let Some(scopes) = scopes {
            form.append_pair("scope", &scopes.to_string());
        }
        form.extend_pairs(&params.token_params);

        // It may hold the secret.
        let form = Bytes::from_owner(Zeroizing::new(form.finish()));
        Ok(post(&params.token_path, headers, form))
    }

    /// The same for LTIAAS.
    fn json_message(
        &self,
        ltiaas: &LtiaasParams,
        grant: &LoginGrant,
        request: &TokenRequest,
    ) -> Result<Request<Full<Bytes>>, Cause> {
        let params = &self.params;
        let mut headers = self.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        client_auth::authenticate(
            &params.client_id,
            &params.auth,
            request.now,
            request.skew_seconds,
            &mut headers,
            // An API key leaves nothing here.
            &mut Serializer::new(String::new()),
        )?;
        if let Some(target) = ltiaas.query(&params.token_path, grant) {
            headers.remove(CONTENT_TYPE);
            let mut get = post(&target, headers, Bytes::new());
            *get.method_mut() = Method::GET;
            return Ok(get);
        }
        let path = match grant {
            LoginGrant::AuthorizationCode { .. } => &params.token_path,
            LoginGrant::RefreshToken(_) => &ltiaas.refresh_path,
        };
        Ok(post(path, headers, ltiaas.body(grant)))
    }

    pub(super) fn headers(&self) -> Result<HeaderMap, Cause> {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("bursar/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // What is configured may replace those two, but nothing that the exchange hangs on.
        headers.extend(self.params.token_headers.clone());
        for value in headers.values_mut() {
            // A field that a vendor wants here may well be a key.
            value.set_sensitive(true);
        }
        let host = HeaderValue::try_from(self.params.dialer.origin.authority())
            .map_err(|_| Cause::NotSent("the host is no field value"))?;
        headers.insert(HOST, host);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        Ok(headers)
    }
}

impl TokenSource for TokenEndpoint {
    fn kid(&self, now: Moment) -> Option<String> {
        let keys = self.params.keys()?;
        Some(keys.signing(now.wall).kid().to_owned())
    }

    async fn request(&self, request: TokenRequest) -> Result<Answer, Failure> {
        let params = &self.params;
        let (now, skew) = (request.now, request.skew_seconds);
        let message = {
            let mut form = Serializer::new(String::new());
            grant::present(&params.client_id, &params.grant, now, skew, &mut form)?;
            self.message(form, request.scopes.as_ref(), &request)?
        };
        self.exchange(message, now).await
    }
}

fn post(path: &PathAndQuery, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from(path.clone());
    *request.headers_mut() = headers;
    request
}

fn cause_of(error: &BoxError, limit: Duration) -> Cause {
    tracing::debug!(
        error = &**error as &(dyn std::error::Error + 'static),
        "token request failed"
    );
    if error.is::<Elapsed>() {
        return Cause::Timeout(limit);
    }
    error
        .downcast_ref::<ExchangeError>()
        .map_or(Cause::Unreachable(Unreachable::Reset), ExchangeError::cause)
}

#[cfg(test)]
mod tests;
