//! What the value of a key may be, and what to say when it is something else.

pub(super) mod address;
pub(super) mod login;
pub(super) mod proxy;
pub(super) mod quantity;
pub(super) mod request;
pub(super) mod shape;
pub(super) mod socket;
pub(super) mod word;

use std::{io, path::PathBuf};

use figment::value::{Num, Value};

use super::{
    problem::{Place, Problem, ProblemCode, Severity},
    tree::parse_value,
};
use crate::secret::{SecretFileError, SecretString};
use shape::Shape;

/// A problem that does not know its place yet.
#[derive(Debug)]
pub(super) struct Fault {
    code: ProblemCode,
    severity: Severity,
    what: String,
    help: String,
}

impl Fault {
    /// See [`Problem::new`].
    pub(super) fn new(code: ProblemCode, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            what: what.into(),
            help: help.into(),
        }
    }

    /// A value that the key cannot have.
    pub(super) fn invalid(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidValue, what, help)
    }

    /// The same as a warning.
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Gives it its place.
    pub(super) fn at(self, key: &str, place: Place) -> Problem {
        let problem = Problem::new(self.code, key, place, self.what, self.help);
        match self.severity {
            Severity::Error => problem,
            Severity::Warning => problem.warning(),
        }
    }
}

/// A type that the value of a key can have.
pub(super) trait FromValue: Sized {
    /// What it looks like, for `bursar config schema`.
    const SHAPE: Shape;

    /// What the text of an environment variable stands for.
    fn from_text(text: &str) -> Value {
        Value::from(text)
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is wrong with it. Types that secrets are read with never repeat the value.
    fn from_value(value: &Value) -> Result<Self, Fault>;
}

/// A text of at least one character, without control characters.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl FromValue for Text {
    const SHAPE: Shape = Shape::Text(shape::TEXT);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        plain(value).map(|text| Self(text.to_owned()))
    }
}

impl FromValue for SecretString {
    const SHAPE: Shape = Shape::Text(shape::TEXT);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, "a string")?;
        check_secret(text)
            .map(|()| Self::from(text))
            .map_err(|reason| {
                Fault::new(
                    ProblemCode::SecretUnusable,
                    reason,
                    "set it to the secret alone, exactly as it was issued",
                )
            })
    }
}

/// The name of a file.
impl FromValue for PathBuf {
    const SHAPE: Shape = Shape::Text(shape::TEXT);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, "the name of a file")?;
        if looks_secret(text) || text.contains('\n') {
            return Err(Fault::invalid(
                "holds the key itself, not the name of its file",
                "write the key to a file of mode 0600 and set this to the file's name",
            ));
        }
        plain(value).map(Self::from)
    }
}

impl FromValue for bool {
    const SHAPE: Shape = Shape::Flag;

    fn from_text(text: &str) -> Value {
        match text {
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => Value::from(text),
        }
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        value
            .to_bool()
            .ok_or_else(|| wrong_type("true or false", value))
    }
}

/// A list of texts.
impl FromValue for Vec<String> {
    const SHAPE: Shape = Shape::List {
        items: shape::TEXT,
        min: 0,
    };

    fn from_text(text: &str) -> Value {
        list_from_text(text)
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        list(value)?
            .iter()
            .map(|item| plain(item).map(str::to_owned))
            .collect()
    }
}

/// Whether a value that is no secret by its key looks like one all the same.
pub(super) fn looks_secret(value: &str) -> bool {
    value.contains("-----BEGIN") || has_userinfo(value)
}

fn has_userinfo(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.contains('@')
    })
}

/// A secret of one line: F36 of the peers is a newline that made every request fail, or leaked the header.
pub(super) fn check_secret(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("is empty")
    } else if text.chars().any(char::is_control) {
        Err("holds a line break or another control character")
    } else {
        Ok(())
    }
}

/// What to say of a secret's file that cannot be used, or should not be as it is.
pub(super) fn secret_file(error: &SecretFileError) -> Fault {
    match error {
        SecretFileError::Read { path, source } => Fault::new(
            ProblemCode::SecretUnreadable,
            format!("cannot read {}: {source}", path.display()),
            match source.kind() {
                io::ErrorKind::NotFound => "check the name, and that the secret is mounted",
                io::ErrorKind::PermissionDenied => "let the user that bursar runs as own it",
                _ => "make it a file that bursar can read",
            },
        ),
        SecretFileError::Readable { path, .. } => Fault::new(
            ProblemCode::SecretExposed,
            error.to_string(),
            format!(
                "chmod 600 {}; in Kubernetes set defaultMode: 0400, or fsGroup; `server.secret_files = \"any\"` makes this a warning",
                path.display()
            ),
        ),
        SecretFileError::Content { .. } => Fault::new(
            ProblemCode::SecretUnusable,
            error.to_string(),
            "put the secret alone into the file",
        ),
    }
}

/// The items of a list.
fn list(value: &Value) -> Result<&[Value], Fault> {
    value
        .as_array()
        .ok_or_else(|| wrong_type("a list of strings", value))
}

fn list_from_text(text: &str) -> Value {
    if text.trim_start().starts_with('[') {
        return parse_value(text.trim()).unwrap_or_else(|| Value::from(text));
    }
    let words: Vec<_> = text.split_whitespace().map(Value::from).collect();
    Value::from(words)
}

fn string<'a>(value: &'a Value, expected: &str) -> Result<&'a str, Fault> {
    value.as_str().ok_or_else(|| wrong_type(expected, value))
}

fn plain(value: &Value) -> Result<&str, Fault> {
    let text = string(value, "a string")?;
    match check_secret(text) {
        Ok(()) => Ok(text),
        Err(reason) => Err(Fault::invalid(reason, "set it, or remove the line")),
    }
}

/// A value of the wrong type. Names the types only, so it fits secrets too.
pub(super) fn wrong_type(expected: &str, found: &Value) -> Fault {
    let found = match found {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "true or false",
        Value::Num(_, Num::F32(_) | Num::F64(_)) => "a fraction",
        Value::Num(..) => "a whole number",
        Value::Empty(..) => "a date or a time",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    };
    Fault::new(
        ProblemCode::WrongType,
        format!("expected {expected}, found {found}"),
        format!("write it as {expected}"),
    )
}

/// In TOML, for `config show`.
pub(super) fn to_toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::String(text.clone()).to_string(),
        Value::Char(_, character) => toml::Value::String(character.to_string()).to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128()) {
            (Some(number), _) => number.to_string(),
            (_, Some(number)) => number.to_string(),
            _ => number.to_f64().unwrap_or(f64::NAN).to_string(),
        },
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(to_toml).collect();
            format!("[{}]", items.join(", "))
        }
        // No key has such a value.
        Value::Empty(..) | Value::Dict(..) => "{}".to_owned(),
    }
}

/// The candidate that a misspelt word was probably meant to be.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let distances = candidates
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count().max(4)) / 3).then_some(candidate)
}

/// Levenshtein's distance, row by row.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, left) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index.saturating_add(1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = before;
        }
        for (cell, right) in cells.zip(other.chars()) {
            let replaced = diagonal.saturating_add(usize::from(left != right));
            diagonal = *cell;
            before = replaced
                .min(cell.saturating_add(1))
                .min(before.saturating_add(1));
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_if_it_is_near() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("lisen", &["listen", "hosts"]), Some("listen"));
        assert_eq!(
            nearest("client_secert", &["client_secret"]),
            Some("client_secret")
        );
        assert_eq!(nearest("frobnicate", &["listen", "hosts"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn a_list_in_a_variable_is_toml_or_words() {
        let words = |text: &str| {
            let value = <Vec<String>>::from_text(text);
            <Vec<String>>::from_value(&value)
        };
        assert_eq!(words("a:b:c,d e:f:g").unwrap(), ["a:b:c,d", "e:f:g"]);
        assert_eq!(words(r#"["a", "b c"]"#).unwrap(), ["a", "b c"]);
        assert_eq!(words("").unwrap(), Vec::<String>::new());
        assert!(words("[\"a\"").is_err());
    }

    #[test]
    fn a_secret_with_a_line_break_is_refused_without_being_repeated() {
        let fault = SecretString::from_value(&Value::from("canary\nmore")).unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"));
        let fault = SecretString::from_value(&Value::from(["canary"].to_vec())).unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"));
    }
}
