//! What an answer of the LMS says of its quota: how much of it is left, what the request has cost, and when to come again.
//!
//! | field | who sends it | read as |
//! | --- | --- | --- |
//! | `X-Rate-Limit-Remaining` | Brightspace, Canvas, Blackboard | what is left, in the LMS's own unit |
//! | `X-Request-Cost` | Brightspace, Canvas | what this request took of it |
//! | `X-Rate-Limit-Reset` | Brightspace | seconds until the quota is whole again |
//! | `Retry-After` (RFC 9110 section 10.2.3) | Brightspace, Instructure, Blackboard | of an answer that asks for fewer requests |
//!
//! Asking for fewer requests is neither a missing permission nor a dead token: nothing is renewed because of it.

mod metrics;

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

use crate::{
    clock::{Clock, fields},
    policy::Catalogue,
};
pub(super) use metrics::{PaceSeries, QuotaFamilies, QuotaSeries};

const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");
const COST: HeaderName = HeaderName::from_static("x-request-cost");
const RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");

/// The longest wait that is believed, as for `Retry-After`.
const MAX_RESET: Duration = Duration::from_secs(600);

/// What one answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Quota {
    /// It asks for fewer requests: 429, or what older Canvas says instead.
    pub(super) is_throttled: bool,
    /// `X-Rate-Limit-Remaining`.
    pub(super) remaining: Option<f64>,
    /// `X-Request-Cost`.
    pub(super) cost: Option<f64>,
    /// `X-Rate-Limit-Reset`.
    pub(super) reset: Option<Duration>,
    /// `Retry-After`, if it asks for fewer requests.
    retry_after: Option<Duration>,
}

/// The LMS will refuse what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For so long, it says.
    For(Duration),
    /// It does not say how long.
    ForAWhile,
}

impl Quota {
    /// Reads an answer that has just come.
    pub(super) fn read(
        catalogue: Catalogue,
        status: StatusCode,
        headers: &HeaderMap,
        clock: &dyn Clock,
    ) -> Self {
        let remaining = number(headers, REMAINING);
        let is_throttled = status == StatusCode::TOO_MANY_REQUESTS
            || catalogue == Catalogue::Canvas
                && status == StatusCode::FORBIDDEN
                && remaining.is_some_and(|left| left <= 0.0);
        let retry_after = is_throttled.then(|| {
            let now = clock.now();
            let skew = fields::skew_seconds(headers, now, now);
            fields::retry_after(headers, now, skew)
        });
        Self {
            is_throttled,
            remaining,
            cost: number(headers, COST).filter(|cost| *cost >= 0.0),
            reset: number(headers, RESET)
                .map(|seconds| seconds.clamp(0.0, MAX_RESET.as_secs_f64()))
                .map(Duration::from_secs_f64),
            retry_after: retry_after.flatten(),
        }
    }

    /// What it asks for: to wait, since it was refused for their number or the next one will be.
    pub(super) fn wait(&self) -> Option<Wait> {
        let stated = self.retry_after.or(self.reset);
        if self.is_throttled {
            return Some(stated.map_or(Wait::ForAWhile, Wait::For));
        }
        let remaining = self.remaining?;
        match (self.reset, self.cost) {
            (Some(reset), Some(cost)) if remaining < cost => Some(Wait::For(reset)),
            (Some(reset), _) if remaining <= 0.0 => Some(Wait::For(reset)),
            // A bucket that leaks (Canvas): it is not empty for long.
            (None, _) if remaining <= 0.0 => Some(Wait::ForAWhile),
            _ => None,
        }
    }
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<f64> {
    let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use http::{
        HeaderValue,
        header::{DATE, RETRY_AFTER},
    };
    use proptest::prelude::*;

    /// 2026-01-01T00:00:00Z, for ever.
    struct NewYear;

    impl Clock for NewYear {
        fn now(&self) -> Moment {
            Moment {
                wall: Duration::from_secs(1_767_225_600),
                boot: Duration::from_secs(1_000),
            }
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn read(catalogue: Catalogue, status: u16, fields: &[(HeaderName, &str)]) -> Quota {
        let status = StatusCode::from_u16(status).unwrap();
        Quota::read(catalogue, status, &headers(fields), &NewYear)
    }

    fn wait(status: u16, fields: &[(HeaderName, &str)]) -> Option<Wait> {
        read(Catalogue::Brightspace, status, fields).wait()
    }

    fn seconds(seconds: u64) -> Option<Wait> {
        Some(Wait::For(Duration::from_secs(seconds)))
    }

    #[test]
    fn too_many_requests_are_told_from_a_missing_permission() {
        let (empty, some) = ([(REMAINING, "0.0")], [(REMAINING, "12.5")]);
        for catalogue in [
            Catalogue::Brightspace,
            Catalogue::Canvas,
            Catalogue::Dap,
            Catalogue::None,
        ] {
            assert!(read(catalogue, 429, &[]).is_throttled, "{catalogue:?}");
            assert!(!read(catalogue, 403, &[]).is_throttled, "{catalogue:?}");
            assert!(!read(catalogue, 403, &some).is_throttled, "{catalogue:?}");
            assert!(!read(catalogue, 401, &empty).is_throttled, "{catalogue:?}");
            assert!(!read(catalogue, 503, &empty).is_throttled, "{catalogue:?}");
            let is_canvas = catalogue == Catalogue::Canvas;
            assert_eq!(read(catalogue, 403, &empty).is_throttled, is_canvas);
        }
    }

    #[test]
    fn retry_after_of_a_429_is_seconds_or_a_date_on_the_clock_of_the_lms() {
        assert_eq!(wait(429, &[(RETRY_AFTER, "7")]), seconds(7));
        let date = (RETRY_AFTER, "Thu, 01 Jan 2026 00:00:30 GMT");
        assert_eq!(wait(429, std::slice::from_ref(&date)), seconds(30));
        // Its clock is an hour ahead of ours, and it has cut off half a second on average.
        let fields = [
            (DATE, "Thu, 01 Jan 2026 01:00:00 GMT"),
            (RETRY_AFTER, "Thu, 01 Jan 2026 01:00:30 GMT"),
        ];
        let Some(Wait::For(wait)) = wait(429, &fields) else {
            panic!("it says how long");
        };
        assert!((29.0..31.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[test]
    fn a_429_without_a_time_says_to_wait_for_a_while_and_one_with_a_reset_until_then() {
        assert_eq!(wait(429, &[]), Some(Wait::ForAWhile));
        assert_eq!(wait(429, &[(RETRY_AFTER, "soon")]), Some(Wait::ForAWhile));
        assert_eq!(wait(429, &[(RESET, "12")]), seconds(12));
        assert_eq!(wait(429, &[(RESET, "12"), (RETRY_AFTER, "7")]), seconds(7));
    }

    #[test]
    fn a_quota_that_does_not_pay_for_another_request_says_to_wait_until_it_is_whole() {
        let fields = |left| [(REMAINING, left), (COST, "10"), (RESET, "45")];
        assert_eq!(wait(200, &fields("9")), seconds(45));
        assert_eq!(wait(404, &fields("0")), seconds(45));
        assert_eq!(wait(200, &fields("10")), None);
        assert_eq!(wait(200, &[(REMAINING, "0"), (RESET, "45")]), seconds(45));
        assert_eq!(wait(200, &[(REMAINING, "1"), (RESET, "45")]), None);
        assert_eq!(wait(200, &[(REMAINING, "0.0")]), Some(Wait::ForAWhile));
        assert_eq!(wait(200, &[(REMAINING, "0.3"), (COST, "0.5")]), None);
    }

    #[test]
    fn retry_after_of_another_answer_says_nothing_of_a_quota() {
        assert_eq!(wait(503, &[(RETRY_AFTER, "7")]), None);
        assert_eq!(wait(202, &[(RETRY_AFTER, "7")]), None);
        assert_eq!(wait(403, &[(RETRY_AFTER, "7")]), None);
    }

    #[test]
    fn what_is_no_number_is_ignored_and_what_is_too_long_is_cut() {
        for value in ["", "many", "NaN", "inf"] {
            let quota = read(
                Catalogue::None,
                200,
                &[(REMAINING, value), (COST, value), (RESET, value)],
            );
            assert_eq!(quota, Quota::default(), "{value}");
        }
        let quota = read(Catalogue::None, 200, &[(COST, "-1"), (RESET, "1e300")]);
        assert_eq!((quota.cost, quota.reset), (None, Some(MAX_RESET)));
        let quota = read(Catalogue::None, 200, &[(RESET, "1767225600")]);
        assert_eq!(quota.reset, Some(MAX_RESET));
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic_or_wait_longer_than_ten_minutes(
            remaining in "\\PC{0,20}", cost in "[0-9.eE+-]{0,10}", reset in "[0-9.eE+-]{0,25}",
            retry_after in "\\PC{0,30}", status in 100_u16..600,
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(REMAINING, remaining), (COST, cost), (RESET, reset), (RETRY_AFTER, retry_after)] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            let status = StatusCode::from_u16(status).unwrap();
            let quota = Quota::read(Catalogue::Canvas, status, &headers, &NewYear);
            if let Some(Wait::For(wait)) = quota.wait() {
                prop_assert!(wait <= MAX_RESET);
            }
            prop_assert!(quota.wait().is_some() || !quota.is_throttled);
        }
    }
}
