//! TOML as a tree of values, with the place of each in the text.

use std::{collections::BTreeMap, fmt, ops::Range};

use figment::value::{Dict, Empty, Tag, Value};
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

/// A path of keys as TOML writes it: `upstreams.lms.routes[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(String);

impl KeyPath {
    /// Of a key in the table.
    pub(super) fn key(&self, name: &str) -> Self {
        let is_bare =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let name = if !name.is_empty() && name.chars().all(is_bare) {
            name.to_owned()
        } else {
            format!("{name:?}")
        };
        if self.0.is_empty() {
            Self(name)
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// Of an item of the array, from 0.
    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// As written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a key and its value stand.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    /// The key.
    pub(super) key: Range<usize>,
    /// Its value.
    pub(super) value: Range<usize>,
}

/// The value that a piece of TOML stands for; `None` when it is not one.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Some(value(&parsed, &KeyPath::default(), &mut BTreeMap::new()))
}

/// The values of a table; `spans` learns where they stand.
pub(super) fn dict(
    table: &DeTable<'_>,
    path: &KeyPath,
    spans: &mut BTreeMap<KeyPath, Spans>,
) -> Dict {
    let mut dict = Dict::new();
    for (name, child) in table {
        let path = path.key(name.get_ref());
        spans.insert(
            path.clone(),
            Spans {
                key: name.span(),
                value: child.span(),
            },
        );
        dict.insert(name.get_ref().to_string(), value(child, &path, spans));
    }
    dict
}

fn value(
    spanned: &Spanned<DeValue<'_>>,
    path: &KeyPath,
    spans: &mut BTreeMap<KeyPath, Spans>,
) -> Value {
    match spanned.get_ref() {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::from(*flag),
        // No key takes a date: it only has to be told apart from the other types.
        DeValue::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let path = path.item(index);
                spans.insert(
                    path.clone(),
                    Spans {
                        key: item.span(),
                        value: item.span(),
                    },
                );
                value(item, &path, spans)
            });
            Value::Array(Tag::Default, items.collect())
        }
        DeValue::Table(table) => Value::Dict(Tag::Default, dict(table, path, spans)),
    }
}

/// A number beyond every limit stays beyond every limit.
fn integer(number: &DeInteger<'_>) -> Value {
    let parsed = i128::from_str_radix(number.as_str(), number.radix());
    Value::from(parsed.unwrap_or(i128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_bare_is_quoted_in_the_path() {
        assert_eq!(
            KeyPath::default()
                .key("credentials")
                .key("a.b")
                .key("kid")
                .as_str(),
            "credentials.\"a.b\".kid"
        );
    }

    #[test]
    fn a_number_too_large_for_anything_is_still_a_number() {
        let value = parse_value("99999999999999999999999999999999999999999999").unwrap();
        assert_eq!(value.to_i128(), Some(i128::MAX));
    }
}
