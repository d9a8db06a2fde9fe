//! Problems (RFC 9457) with a `Proxy-Status` (RFC 9209): the form of every refusal of bursar's own, so
//! that it is never mistaken for the LMS's.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;

use crate::code::Code;

/// `Bursar-Request-Id`, which every response has.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("bursar-request-id");

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// A refusal in words. Nothing in it comes from the request or from a secret.
#[derive(Clone, Debug)]
pub struct ProblemDetails<'a> {
    /// Decides about status, title and `Proxy-Status`.
    pub code: Code,
    /// A sentence for a person.
    pub detail: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// The route's label, where one was found.
    pub route: Option<&'a str>,
    /// What the scopes lack.
    pub missing_scopes: Vec<&'a str>,
}

impl ProblemDetails<'_> {
    /// The response that says it.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let proxy_status = format!("bursar; error={}", self.code.proxy_status_error());
        for (name, value) in [
            (REQUEST_ID, self.request_id),
            (PROXY_STATUS, &*proxy_status),
        ] {
            // Ids and error types are visible ASCII.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        response
    }

    fn body(&self) -> Bytes {
        let members = Members {
            kind: format!("urn:bursar:problem:{}", self.code),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            detail: self.detail,
            instance: self.request_id,
            retryable: self.code.is_retryable(),
            route: self.route,
            missing_scopes: &self.missing_scopes,
        };
        // A struct of strings, numbers and lists of strings always serializes.
        serde_json::to_vec(&members).unwrap_or_default().into()
    }
}

/// RFC 9457 section 3.1, with our own members.
#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    instance: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing_scopes: &'a [&'a str],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: Code) -> ProblemDetails<'static> {
        ProblemDetails {
            code,
            detail: "Because.",
            request_id: "0123456789abcdef",
            route: None,
            missing_scopes: Vec::new(),
        }
    }

    fn body(response: &Response<Bytes>) -> serde_json::Value {
        serde_json::from_slice(response.body()).unwrap()
    }

    #[test]
    fn every_code_makes_a_problem_that_is_recognisably_ours() {
        for code in Code::ALL {
            let response = problem(*code).response();
            assert_eq!(response.status(), code.status());
            let headers = response.headers();
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["bursar-request-id"], "0123456789abcdef");
            let status = format!("bursar; error={}", code.proxy_status_error());
            assert_eq!(headers["proxy-status"], status);
            let body = body(&response);
            assert_eq!(body["type"], format!("urn:bursar:problem:{code}"));
            assert_eq!(body["title"], code.title());
            assert_eq!(body["status"], code.status().as_u16());
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["detail"], "Because.");
            assert_eq!(body["instance"], "0123456789abcdef");
            assert_eq!(body["retryable"], code.is_retryable());
            assert_eq!(body.get("route"), None);
            assert_eq!(body.get("missing_scopes"), None);
        }
    }

    #[test]
    fn a_problem_of_policy_names_the_route_and_what_its_scopes_lack() {
        let problem = ProblemDetails {
            route: Some("grades"),
            missing_scopes: vec!["grades:gradevalues:write"],
            ..problem(Code::InsufficientScope)
        };
        let body = body(&problem.response());
        assert_eq!(body["route"], "grades");
        assert_eq!(body["missing_scopes"][0], "grades:gradevalues:write");
    }
}
