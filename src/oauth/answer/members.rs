//! A JSON object in which no member stands twice.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// The members of a JSON object. Of a repeated member, parsers take the first or the last: whoever
/// relies on either can be made to read something else than the next one (RFC 8259 section 4).
pub(super) struct Members(Map<String, Value>);

impl Members {
    /// Parses one object and nothing around it. serde_json stops at a depth of 128.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// A member; one that is `null` is as good as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// As [`get`](Self::get), with nothing left behind.
    pub(super) fn take(mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Unique)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = object.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_spoils_the_object() {
        assert!(Members::parse(br#"{"a":1,"b":2}"#).is_some());
        assert!(Members::parse(br#"{"a":1,"a":1}"#).is_none());
        assert!(Members::parse(br#"{"a":1,"\u0061":2}"#).is_none());
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let members = Members::parse(br#"{"a":null}"#).unwrap();
        assert!(members.get("a").is_none());
        assert!(members.take("a").is_none());
    }

    #[test]
    fn deep_nesting_ends_in_a_refusal_not_in_an_overflow() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(Members::parse(deep.as_bytes()).is_none());
        let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
        assert!(Members::parse(deep.as_bytes()).is_none());
    }

    #[test]
    fn what_is_not_exactly_one_object_is_refused() {
        for json in ["", "null", "[]", "1", "{", "{} {}", "{}x", "\u{feff}{}"] {
            assert!(Members::parse(json.as_bytes()).is_none(), "{json}");
        }
    }
}
