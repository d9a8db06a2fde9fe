//! How a Canvas site and its developer key are set up.

use http::StatusCode;

/// What differs from one Canvas to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct CanvasParams {
    /// Whether the developer key enforces scopes. If not, a token may do what its user may, and no scope need be asked for.
    pub is_scoped: bool,
    /// What a bucket holds before its caller is throttled.
    pub throttle_limit: f64,
    /// What one API call costs. A token request costs 200 in any case.
    pub request_cost: f64,
    /// What a throttled caller gets: 429, on older installations 403.
    pub throttle_status: StatusCode,
    /// Whether an error of the token endpoint is sent as a redirect to the request's `redirect_uri`, if it has one; only a site flag of Canvas
    /// turns that off.
    pub redirects_errors: bool,
}

impl Default for CanvasParams {
    /// As a hosted Canvas is today: scopes enforced, a bucket of 600, 429, and errors that are redirected.
    fn default() -> Self {
        Self {
            is_scoped: true,
            throttle_limit: 600.0,
            request_cost: 1.0,
            throttle_status: StatusCode::TOO_MANY_REQUESTS,
            redirects_errors: true,
        }
    }
}
