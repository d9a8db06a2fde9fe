//! How an LTIAAS account is set up, and what its public documentation leaves open.

use http::Method;

use crate::secret::SecretString;

/// An account with one platform. The URL that the browser is sent to in the end is the first of
/// [`LoginParams::redirect_uris`](super::LoginParams::redirect_uris).
#[derive(Clone, Debug)]
pub struct LtiaasParams {
    /// The platform's id, which stands in paths.
    pub platform_id: String,
    /// What the application proves itself with.
    pub api_key: SecretString,
    /// The query parameter that the browser brings back, and the member of the first token request that holds its value.
    pub parameter: String,
    /// The method of the first token request; GET has the parameter in the query.
    pub first_method: Method,
    /// Where refresh tokens are exchanged; `None`: at the path of the first request with `/refresh` behind it.
    pub refresh_path: Option<String>,
    /// Whether an error of the LMS's token endpoint is passed on as it is; else it is told in LTIAAS's own form.
    pub passes_errors_on: bool,
}

impl Default for LtiaasParams {
    /// The likeliest reading: `token`, by POST, `/refresh`. Id and key are worth nothing, and so may be known.
    fn default() -> Self {
        Self {
            platform_id: "bursar-mock-platform".to_owned(),
            api_key: "bursar-mock-api-key".into(),
            parameter: "token".to_owned(),
            first_method: Method::POST,
            refresh_path: None,
            passes_errors_on: false,
        }
    }
}
