//! What `bursar mock --lms ltiaas` can be told.

use clap::Args;
use http::Method;

use crate::mock::LtiaasParams;

#[derive(Args)]
#[command(next_help_heading = "LTIAAS")]
pub(super) struct LtiaasArgs {
    /// The id of the one platform
    #[arg(long, value_name = "ID", default_value = "bursar-mock-platform", value_parser = segment)]
    platform_id: String,
    /// The API key of the account
    #[arg(long, value_name = "KEY", default_value = "bursar-mock-api-key")]
    api_key: String,
    /// The query parameter that the browser brings back, and the member that trades it in
    #[arg(long, value_name = "NAME", default_value = "token")]
    callback_parameter: String,
    /// Trade it in by GET, as a query parameter, instead of POST
    #[arg(long)]
    first_by_get: bool,
    /// Where refresh tokens go, instead of /api/oauth/access-token/PLATFORM/refresh
    #[arg(long, value_name = "PATH", value_parser = path)]
    refresh_path: Option<String>,
    /// Pass errors of the LMS's token endpoint on as they are
    #[arg(long)]
    lms_errors: bool,
}

impl LtiaasArgs {
    pub(super) fn into_params(self) -> LtiaasParams {
        LtiaasParams {
            platform_id: self.platform_id,
            api_key: self.api_key.into(),
            parameter: self.callback_parameter,
            first_method: match self.first_by_get {
                true => Method::GET,
                false => Method::POST,
            },
            refresh_path: self.refresh_path,
            passes_errors_on: self.lms_errors,
        }
    }

    pub(super) fn platform_id(&self) -> &str {
        &self.platform_id
    }
}

fn segment(text: &str) -> Result<String, String> {
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    match !text.is_empty() && text.bytes().all(is_unreserved) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, and - . _ ~".to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    let path = text.parse::<http::uri::PathAndQuery>().ok();
    path.filter(|path| path.query().is_none() && text.starts_with('/'))
        .map(|_| text.to_owned())
        .ok_or_else(|| "give a path that begins with a slash".to_owned())
}
