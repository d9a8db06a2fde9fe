//! What may be shown of a configuration file: only the values of keys that exist and hold no secret.
//!
//! A misspelt `client_secert` is an unknown key, so the values of unknown keys are hidden too.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    schema::{self, Node},
    settings::REDACTED,
    value::looks_secret,
};

/// `text` with every value that could be a secret blanked out; all other bytes stay where they are.
///
/// After a syntax error (`broken`) the tree cannot be trusted to know all values, so lines are judged by their words.
pub(super) fn text(text: &str, table: &DeTable<'_>, broken: bool) -> String {
    let mut ranges = Vec::new();
    if broken {
        lines(text, &mut ranges);
    } else {
        tree(table, Some(""), text, &mut ranges);
    }
    let mut bytes = text.as_bytes().to_vec();
    for range in ranges {
        blank(&mut bytes, range);
    }
    // Whole values are replaced by ASCII, so this cannot fail; if it did, nothing may be shown.
    String::from_utf8(bytes).unwrap_or_default()
}

/// `pattern`: `None` below a key that does not exist.
fn tree(table: &DeTable<'_>, pattern: Option<&str>, text: &str, ranges: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        let child = pattern.and_then(|pattern| schema::child(pattern, name.get_ref()));
        match (value.get_ref(), child) {
            (DeValue::Table(table), Some((pattern, Node::Table))) => {
                tree(table, Some(&pattern), text, ranges);
            }
            (DeValue::Array(items), Some((pattern, Node::Tables))) => {
                let pattern = format!("{pattern}[]");
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => tree(table, Some(&pattern), text, ranges),
                        _ => hide(item, ranges),
                    }
                }
            }
            // Names are shown, values are not.
            (DeValue::Table(table), None) => tree(table, None, text, ranges),
            (_, Some((_, Node::Leaf(key)))) if !key.secret && is_showable(value, text) => {}
            _ => hide(value, ranges),
        }
    }
}

/// Whether the value is one that a key can have, and does not look like a secret.
fn is_showable(value: &Spanned<DeValue<'_>>, text: &str) -> bool {
    let is_simple = |value: &DeValue<'_>| !value.is_table() && !value.is_array();
    let is_flat = match value.get_ref() {
        DeValue::Array(items) => items.iter().all(|item| is_simple(item.get_ref())),
        value => is_simple(value),
    };
    let source = text.get(value.span());
    is_flat && source.is_some_and(|source| !looks_secret(source))
}

/// The span of a table that has a header is only the header, so what it holds is hidden piece by piece.
fn hide(value: &Spanned<DeValue<'_>>, ranges: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| hide(value, ranges)),
        DeValue::Array(items) => items.iter().for_each(|item| hide(item, ranges)),
        _ => {}
    }
    ranges.push(value.span());
}

/// Shows table headers, and `key = value` where the key is known to hold no secret; of a line that holds one, the key.
fn lines(text: &str, ranges: &mut Vec<Range<usize>>) {
    let mut start = 0_usize;
    for line in text.split_inclusive('\n') {
        let shown = match line.split_once('=') {
            Some((assigned, value)) => match secrecy(assigned) {
                Some(false) if !looks_secret(value) => line.len(),
                Some(_) => assigned.len().saturating_add(1),
                None => 0,
            },
            None if is_header(line) => line.len(),
            // Perhaps a value that goes on from the line before.
            None => 0,
        };
        let end = start.saturating_add(line.len());
        ranges.push(start.saturating_add(shown)..end);
        start = end;
    }
}

/// Whether the assigned key is secret; `None` when there is no such key.
fn secrecy(assigned: &str) -> Option<bool> {
    let path = assigned.trim().trim_start_matches('#').trim();
    let name = path.rsplit('.').next().filter(|_| !path.contains(' '))?;
    let mut named = schema::KEYS
        .iter()
        .filter(|key| key.pattern.rsplit('.').next() == Some(name))
        .peekable();
    named.peek()?;
    Some(named.any(|key| key.secret))
}

fn is_header(line: &str) -> bool {
    let is_allowed = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '[' | ']' | '.' | '_' | '-')
    };
    let line = line.trim();
    line.starts_with('[') && line.chars().all(is_allowed)
}

/// Says so where there is room; blanks are invisible at the end of a line, so the length stays hidden too.
fn blank(bytes: &mut [u8], range: Range<usize>) {
    let word = if range.len() < REDACTED.len() {
        "..."
    } else {
        REDACTED
    };
    let filler = word.bytes().chain(std::iter::repeat(b' '));
    let range = bytes.get_mut(range).into_iter().flatten();
    for (byte, replacement) in range
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .zip(filler)
    {
        *byte = replacement;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(input: &str) -> String {
        let (table, errors) = DeTable::parse_recoverable(input);
        text(input, table.get_ref(), !errors.is_empty())
    }

    #[test]
    fn values_of_secret_keys_and_of_unknown_keys_are_hidden() {
        let shown = shown(
            "[credentials.d2l.token]\nx = \"canary\"\n[[credentials.d2l.kid]]\nx = \"canary\"\n[credentials.d2l]\nclient_id = \"visible\"\nclient_secret = \"canary-1234567890\"\nclient_secert = \"canary\"\ntoken_params = { resource = \"canary\" }\n[credential.x]\ntoken = [\"canary\"]\n",
        );
        assert!(shown.contains("client_id = \"visible\""));
        assert!(shown.contains("client_secret = [redacted]"));
        assert!(!shown.contains("canary"));
    }

    #[test]
    fn a_key_or_a_password_in_the_wrong_place_is_hidden() {
        let shown = shown(
            "[credentials.d2l]\nprivate_key_file = \"\"\"-----BEGIN PRIVATE KEY-----\ncanary\n\"\"\"\ntoken_url = \"https://user:canary@as.example\"\n",
        );
        assert!(!shown.contains("canary"));
    }

    #[test]
    fn after_a_syntax_error_only_known_lines_are_shown() {
        let shown = shown(
            "[server]\nlisten = \"127.0.0.1:1\n[credentials.a]\nclient_secret = \"canary\nclient_secret \"canary\"\nclient_secret = \"\"\"\ncanary\n\"\"\"\nx = { client_secret = \"canary\" }\n# client_secret = canary\n",
        );
        assert!(shown.contains("listen = \"127.0.0.1:1"));
        assert!(shown.contains("[credentials.a]"));
        assert!(!shown.contains("canary"));
    }

    proptest! {
        #[test]
        fn every_byte_stays_where_it_is(input in "(\\[credentials\\.a\\]\n)?[a-z_]{1,14} ?=? ?[\"']{0,3}\\PC{0,20}[\"']{0,3}\n?") {
            let shown = shown(&input);
            prop_assert_eq!(shown.len(), input.len());
            let newlines = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            prop_assert_eq!(newlines(&shown), newlines(&input));
        }

        #[test]
        fn a_client_secret_is_never_shown_however_broken_the_file(
            before in "(\\PC{0,12}\n){0,3}",
            after in "(\\PC{0,12}\n){0,3}",
        ) {
            let input = format!("{before}\nclient_secret = \"canary\"\n{after}");
            prop_assert!(!shown(&input).contains("canary"));
        }
    }
}
