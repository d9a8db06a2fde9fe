//! The moment from which on a key signs, and the file name that says it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// What the name of a key's file ends in.
const EXTENSION: &str = ".pem";

/// The year 10000 has no place in the form.
const END: u64 = 253_402_300_800;

/// From this moment on a key signs: a second of the wall clock, in UTC.
///
/// It is the name of the key's file: `20261127T101500Z.pem` (ISO 8601, basic form), so that the names sort as the keys follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyStart(u64);

impl KeyStart {
    /// The first whole second that is not before `wall`, time since the Unix epoch. What lies beyond the year 9999 becomes its end.
    #[must_use]
    pub const fn at(wall: Duration) -> Self {
        let part = if wall.subsec_nanos() > 0 { 1 } else { 0 };
        let seconds = wall.as_secs().saturating_add(part);
        Self(if seconds < END { seconds } else { END - 1 })
    }

    /// Reads a file name.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(EXTENSION)?;
        let (date, time) = stem.strip_suffix('Z')?.split_once('T')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if date.len() != 8 || time.len() != 6 || !is_number(date) || !is_number(time) {
            return None;
        }
        let text = format!(
            "{}-{}-{}T{}:{}:{}Z",
            date.get(..4)?,
            date.get(4..6)?,
            date.get(6..)?,
            time.get(..2)?,
            time.get(2..4)?,
            time.get(4..)?
        );
        let parsed = humantime::parse_rfc3339(&text).ok()?;
        let start = Self(parsed.duration_since(UNIX_EPOCH).ok()?.as_secs());
        // A leap second is read as the one before it, and would be found under another name.
        (start.file_name() == name).then_some(start)
    }

    /// The name of the file of a key that signs from here on.
    #[must_use]
    pub fn file_name(self) -> String {
        let mut name: String = self
            .to_string()
            .chars()
            .filter(|character| !matches!(character, '-' | ':'))
            .collect();
        name.push_str(EXTENSION);
        name
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub const fn wall(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl From<SystemTime> for KeyStart {
    /// A time before 1970 becomes 1970.
    fn from(time: SystemTime) -> Self {
        Self::at(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// RFC 3339: `2026-11-27T10:15:00Z`.
impl fmt::Display for KeyStart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH.checked_add(self.wall()).unwrap_or(UNIX_EPOCH);
        humantime::format_rfc3339_seconds(time).fmt(formatter)
    }
}

impl Serialize for KeyStart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_of_a_file_is_the_time_in_utc() {
        let start = KeyStart::from_file_name("20261127T101500Z.pem").unwrap();
        assert_eq!(start.to_string(), "2026-11-27T10:15:00Z");
        assert_eq!(start.wall(), Duration::from_secs(1_795_774_500));
        assert_eq!(start.file_name(), "20261127T101500Z.pem");
    }

    #[test]
    fn what_is_not_quite_such_a_name_is_none() {
        for name in [
            "",
            ".pem",
            "key.pem",
            "20261127T101500Z",
            "20261127T101500Z.PEM",
            "20261127T101500.pem",
            "20261127t101500z.pem",
            "2026-11-27T10:15:00Z.pem",
            "20261127101500Z.pem",
            "20261327T101500Z.pem",
            "20260230T101500Z.pem",
            "20261127T251500Z.pem",
            "20161231T235960Z.pem",
            "+0261127T101500Z.pem",
            " 0261127T101500Z.pem",
            "19691231T235959Z.pem",
            "20261127T101500Z.pem.bak",
            "２0261127T101500Z.pem",
        ] {
            assert_eq!(KeyStart::from_file_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_fraction_of_a_second_is_rounded_up_so_that_no_key_begins_too_early() {
        let at = |milliseconds| KeyStart::at(Duration::from_millis(milliseconds)).wall();
        assert_eq!(at(1_000), Duration::from_secs(1));
        assert_eq!(at(1_001), Duration::from_secs(2));
    }

    #[test]
    fn the_far_end_of_time_has_a_name_too() {
        let last = KeyStart::at(Duration::MAX);
        assert_eq!(last.file_name(), "99991231T235959Z.pem");
    }

    proptest! {
        #[test]
        fn every_start_is_read_back_from_its_name(seconds in 0..END) {
            let start = KeyStart::at(Duration::from_secs(seconds));
            prop_assert_eq!(KeyStart::from_file_name(&start.file_name()), Some(start));
        }

        #[test]
        fn names_sort_as_the_keys_follow_each_other(one in 0..END, other in 0..END) {
            let (one, other) = (KeyStart(one), KeyStart(other));
            prop_assert_eq!(one.cmp(&other), one.file_name().cmp(&other.file_name()));
        }

        #[test]
        fn no_name_makes_it_panic(name in ".*") {
            let _ = KeyStart::from_file_name(&name);
            let _ = KeyStart::from_file_name(&format!("{name}.pem"));
        }
    }
}
