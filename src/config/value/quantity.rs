//! Durations, sizes and numbers.

use std::time::Duration;

use figment::value::Value;

use super::{
    Fault, FromValue,
    shape::{self, Shape},
    string, wrong_type,
};
use crate::{proxy::LogRequests, token::RefreshAhead};

/// A duration between two bounds.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Within<const MIN_MS: u64, const MAX_S: u64>(
    pub(in crate::config) Duration,
);

/// A limit for something that happens: zero would forbid it, and beyond a day it is none.
pub(in crate::config) type Timeout = Within<1, 86_400>;

/// A time that may be zero.
pub(in crate::config) type Period = Within<0, 86_400>;

/// `exp - iat` of an assertion (R55: at most 300 s).
pub(in crate::config) type AssertionLifetime = Within<1_000, 300>;

impl<const MIN_MS: u64, const MAX_S: u64> FromValue for Within<MIN_MS, MAX_S> {
    const SHAPE: Shape = Shape::Text(shape::DURATION);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let duration = duration(value)?;
        let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_secs(MAX_S));
        if duration < min || duration > max {
            return Err(Fault::invalid(
                format!("{} is out of range", humantime::format_duration(duration)),
                format!(
                    "choose between {} and {}",
                    humantime::format_duration(min),
                    humantime::format_duration(max)
                ),
            ));
        }
        Ok(Self(duration))
    }
}

fn duration(value: &Value) -> Result<Duration, Fault> {
    let text = string(value, r#"a duration such as "10s""#)?;
    humantime::parse_duration(text).map_err(|error| {
        Fault::invalid(
            format!("{text:?} is not a duration: {error}"),
            r#"write a number with its unit, such as "500ms", "10s" or "5m""#,
        )
    })
}

/// How long an AS may use a key set before it fetches it again.
pub(in crate::config) type MaxAge = Within<1_000, 604_800>;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Size(pub(in crate::config) u64);

/// Longest first: `KiB` ends in `B`.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromValue for Size {
    const SHAPE: Shape = Shape::Text(shape::SIZE);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a size such as "64KiB""#)?;
        let bytes = UNITS.iter().find_map(|(unit, factor)| {
            let number = text.strip_suffix(unit)?.trim_end();
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            number.parse::<u64>().ok()?.checked_mul(*factor)
        });
        bytes.map(Self).ok_or_else(|| {
            Fault::invalid(
                format!("{text:?} is not a size"),
                r#"write a whole number with its unit: "512B", "64KiB", "100MiB" or "2GiB""#,
            )
        })
    }
}

/// A whole number between two bounds.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Number<const MIN: usize, const MAX: usize>(
    pub(in crate::config) usize,
);

/// How many connections there may be.
pub(in crate::config) type Connections = Number<1, 1_000_000>;

/// How many worker threads; 0: as many as there are cores.
pub(in crate::config) type Workers = Number<0, 1_024>;

impl<const MIN: usize, const MAX: usize> FromValue for Number<MIN, MAX> {
    const SHAPE: Shape = Shape::Number { min: MIN, max: MAX };

    fn from_text(text: &str) -> Value {
        match text.parse::<i128>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(text),
        }
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        // A fraction is not rounded.
        let number = value
            .to_i128()
            .ok_or_else(|| wrong_type("a whole number", value))?;
        usize::try_from(number)
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| {
                Fault::invalid(
                    format!("{number} is out of range"),
                    format!("choose between {MIN} and {MAX}"),
                )
            })
    }
}

/// A share of the lifetime, or a duration.
impl FromValue for RefreshAhead {
    const SHAPE: Shape = Shape::Text(shape::SHARE_OR_DURATION);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a share such as "20%" or a duration such as "5m""#)?;
        let Some(percent) = text.strip_suffix('%') else {
            return Timeout::from_value(value).map(|ahead| Self::Before(ahead.0));
        };
        match percent.parse::<f64>() {
            Ok(percent) if (1.0..=90.0).contains(&percent) => Ok(Self::Share(percent / 100.0)),
            _ => Err(Fault::invalid(
                format!("{text:?} is not a share of a lifetime"),
                r#"choose between "1%" and "90%", or write a duration such as "5m""#,
            )),
        }
    }
}

impl FromValue for LogRequests {
    const SHAPE: Shape = Shape::Text(shape::REQUESTS);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#""denied", "all" or "1/100""#)?;
        match text {
            "denied" => return Ok(Self::Denied),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let share = text.strip_prefix("1/").and_then(|n| n.parse::<u32>().ok());
        match share {
            Some(n) if n > 0 => Ok(Self::OneIn(n)),
            _ => Err(Fault::invalid(
                format!("{text:?} is not a choice of requests"),
                r#"write "denied", "all", or a share such as "1/100""#,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<u64> {
        Size::from_value(&Value::from(text)).ok().map(|size| size.0)
    }

    #[test]
    fn a_size_needs_a_whole_number_and_a_unit() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("100 MiB"), Some(104_857_600));
        assert_eq!(size("0B"), Some(0));
        assert_eq!(size("5kB"), Some(5_000));
        for wrong in [
            "64",
            "KiB",
            "-1B",
            "+1B",
            "1.5MiB",
            "99999999999GiB",
            "1 0B",
            "",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_has_bounds() {
        let of = |text: &str| Timeout::from_value(&Value::from(text)).map(|timeout| timeout.0);
        assert_eq!(of("500ms").unwrap(), Duration::from_millis(500));
        assert!(of("0s").is_err());
        assert!(of("2days").is_err());
        assert!(of("10").is_err());
        assert!(Timeout::from_value(&Value::from(10)).is_err());
        assert!(Period::from_value(&Value::from("0s")).is_ok());
        assert!(AssertionLifetime::from_value(&Value::from("301s")).is_err());
    }

    #[test]
    fn a_number_has_bounds_and_no_fraction() {
        assert!(Connections::from_value(&Value::from(0)).is_err());
        assert!(Connections::from_value(&Value::from(1.5)).is_err());
        assert!(Workers::from_value(&Value::from(-1)).is_err());
        assert_eq!(Workers::from_value(&Workers::from_text("4")).unwrap().0, 4);
    }

    #[test]
    fn refresh_ahead_is_a_share_or_a_duration() {
        let of = |text: &str| RefreshAhead::from_value(&Value::from(text));
        assert_eq!(of("20%").unwrap(), RefreshAhead::Share(0.2));
        assert_eq!(
            of("5m").unwrap(),
            RefreshAhead::Before(Duration::from_secs(300))
        );
        for wrong in ["0%", "100%", "NaN%", "-5%", "0s", "20"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_logged_by_outcome_or_by_share() {
        let of = |text: &str| LogRequests::from_value(&Value::from(text));
        assert_eq!(of("1/100").unwrap(), LogRequests::OneIn(100));
        assert_eq!(of("all").unwrap(), LogRequests::All);
        assert!(of("1/0").is_err());
        assert!(of("2/3").is_err());
    }
}
