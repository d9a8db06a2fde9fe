//! The two fields of an HTTP answer that speak of time: `Date` and `Retry-After`.

use std::time::{Duration, UNIX_EPOCH};

use http::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};

use super::Moment;

/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Local minus server, from `Date` (RFC 9110 section 6.6.1).
///
/// The server read its clock somewhere between `sent` and `received`, and cut the fraction off: the
/// middle of both is the best guess.
#[must_use]
pub fn skew_seconds(headers: &HeaderMap, sent: Moment, received: Moment) -> Option<f64> {
    let server = since_epoch(text(headers, DATE)?)?.as_secs_f64() + 0.5;
    let local = f64::midpoint(sent.wall.as_secs_f64(), received.wall.as_secs_f64());
    Some(local - server)
}

/// `Retry-After`, seconds or date (RFC 9110 section 10.2.3), capped. A date is compared with the server's clock.
#[must_use]
pub fn retry_after(
    headers: &HeaderMap,
    received: Moment,
    skew_seconds: Option<f64>,
) -> Option<Duration> {
    let field = text(headers, RETRY_AFTER)?.trim();
    let wait = if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only too many digits are left to go wrong.
        Duration::from_secs(field.parse().unwrap_or(u64::MAX))
    } else {
        let server_now = received.wall.as_secs_f64() - skew_seconds.unwrap_or(0.0);
        let wait = since_epoch(field)?.as_secs_f64() - server_now;
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn since_epoch(date: &str) -> Option<Duration> {
    httpdate::parse_http_date(date)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR: u64 = 1_767_225_600;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: Duration::from_secs(seconds),
            boot: Duration::from_secs(1_000),
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn wait(field: &str) -> Option<Duration> {
        retry_after(&headers(&[(RETRY_AFTER, field)]), at(NEW_YEAR), None)
    }

    #[test]
    fn skew_is_local_minus_server_in_the_middle_of_the_exchange() {
        let date = headers(&[(DATE, "Thu, 01 Jan 2026 00:00:00 GMT")]);
        let skew = |sent, received| skew_seconds(&date, at(sent), at(received));
        assert_eq!(skew(NEW_YEAR, NEW_YEAR + 1), Some(0.0));
        assert_eq!(skew(NEW_YEAR + 90, NEW_YEAR + 94), Some(91.5));
        assert_eq!(skew(NEW_YEAR - 100, NEW_YEAR - 100), Some(-100.5));
    }

    #[test]
    fn without_a_sound_date_no_skew_is_learned() {
        assert_eq!(skew_seconds(&HeaderMap::new(), at(1), at(1)), None);
        for date in ["", "yesterday", "2026-01-01T00:00:00Z"] {
            assert_eq!(skew_seconds(&headers(&[(DATE, date)]), at(1), at(1)), None);
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_capped() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait("0"), seconds(0));
        assert_eq!(wait("17"), seconds(17));
        assert_eq!(wait("86400"), seconds(600));
        assert_eq!(wait("99999999999999999999999"), seconds(600));
        assert_eq!(wait("Thu, 01 Jan 2026 00:00:30 GMT"), seconds(30));
        assert_eq!(wait("Fri, 02 Jan 2026 00:00:00 GMT"), seconds(600));
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:00 GMT"), seconds(0));
    }

    #[test]
    fn garbage_in_retry_after_is_ignored() {
        for field in ["", "soon", "-1", "1.5", "+3", "1e9"] {
            assert_eq!(wait(field), None, "{field}");
        }
    }

    #[test]
    fn a_date_in_retry_after_is_on_the_servers_clock() {
        let fields = headers(&[(RETRY_AFTER, "Thu, 01 Jan 2026 00:00:30 GMT")]);
        let wait = retry_after(&fields, at(NEW_YEAR + 3_600), Some(3_600.0));
        assert_eq!(wait, Some(Duration::from_secs(30)));
    }
}
