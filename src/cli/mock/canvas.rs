//! What `bursar mock --lms canvas` can be told.

use clap::Args;
use http::StatusCode;

use crate::mock::CanvasParams;

#[derive(Args)]
#[command(next_help_heading = "Canvas")]
pub(super) struct CanvasArgs {
    /// The developer key enforces no scopes: a token may do what its user may
    #[arg(long)]
    unscoped_key: bool,
    /// What a throttled caller gets: 429, or 403 as on older installations
    #[arg(long, value_name = "STATUS", default_value = "429", value_parser = throttle_status)]
    throttle_status: StatusCode,
    /// What one API call costs of the 600 that a token's bucket holds (10 flow out in a second)
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = cost)]
    request_cost: f64,
    /// Answer errors of the token endpoint itself, even where the request has a redirect_uri
    #[arg(long)]
    no_error_redirects: bool,
}

impl CanvasArgs {
    pub(super) fn into_params(self) -> CanvasParams {
        CanvasParams {
            is_scoped: !self.unscoped_key,
            request_cost: self.request_cost,
            throttle_status: self.throttle_status,
            redirects_errors: !self.no_error_redirects,
            ..CanvasParams::default()
        }
    }
}

fn throttle_status(text: &str) -> Result<StatusCode, String> {
    match text {
        "429" => Ok(StatusCode::TOO_MANY_REQUESTS),
        "403" => Ok(StatusCode::FORBIDDEN),
        _ => Err("429 or 403".to_owned()),
    }
}

fn cost(text: &str) -> Result<f64, String> {
    let cost = text.parse().ok().filter(|cost: &f64| cost.is_finite());
    cost.filter(|cost| *cost >= 0.0)
        .ok_or_else(|| "give a number such as 0.5".to_owned())
}
