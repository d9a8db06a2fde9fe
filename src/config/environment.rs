//! Settings from environment variables.
//!
//! Only a variable that holds `__` is configuration: Kubernetes sets `BURSAR_PORT` and its like for a
//! service that is called bursar. `BURSAR_CREDENTIALS__D2L__CLIENT_SECRET` is `credentials.d2l.client_secret`:
//! lower-cased, with `_` for a `-` in a name that the file already has. If the full name is a key it is that
//! key; only otherwise does `_FILE` mean "read the value from this file".
//!
//! A value is the bare text, read by the key's type. A list is a TOML array, or words with blanks between
//! them (not commas: a D2L scope may hold one).

use std::path::Path;

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    Inputs,
    document::Document,
    problem::{Place, Problem, ProblemCode},
    schema::{self, Key, Node},
    tree::KeyPath,
    value::{nearest, secret_file},
};
use crate::secret::{self, ExposeSecret, SecretFiles};

const PREFIX: &str = "BURSAR_";

/// One variable that sets a key: a layer for figment.
pub(super) struct Variable {
    name: String,
    path: Vec<String>,
    value: String,
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::from("variable", self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let leaf = Value::from(self.value.clone());
        let value = self.path.iter().rev().fold(leaf, |value, name| {
            Value::from(Dict::from([(name.clone(), value)]))
        });
        Ok(Profile::Default.collect(value.into_dict().unwrap_or_default()))
    }
}

/// What a variable means.
struct Meaning<'a> {
    name: &'a str,
    path: Vec<String>,
    key: &'static Key,
    /// The value is the name of a file that holds it.
    is_file: bool,
    value: &'a str,
}

/// Finds the variables that are configuration, and reads the files that they name.
pub(super) fn variables(
    environment: &[(String, String)],
    document: Option<&Document>,
    inputs: &mut Inputs,
) -> (Vec<Variable>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut meanings: Vec<Meaning<'_>> = Vec::new();
    let mut environment: Vec<_> = environment.iter().collect();
    environment.sort();
    for (name, value) in environment {
        let Some(words) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else {
            continue;
        };
        match meaning(words, document) {
            Some((path, key, is_file)) => {
                let meaning = Meaning {
                    name,
                    path,
                    key,
                    is_file,
                    value,
                };
                if let Some(other) = meanings.iter().find(|other| other.path == meaning.path) {
                    problems.push(said_twice(&meaning, other.name));
                } else {
                    meanings.push(meaning);
                }
            }
            None => problems.push(unknown(name, words)),
        }
    }

    let rule = secret_files(&meanings, document);
    let variables = meanings
        .into_iter()
        .filter_map(|meaning| match value(&meaning, rule, inputs) {
            Ok(value) => Some(Variable {
                name: meaning.name.to_owned(),
                path: meaning.path,
                value,
            }),
            Err(problem) => {
                problems.push(*problem);
                None
            }
        })
        .collect();
    (variables, problems)
}

/// The path and key of a variable's words, and whether `_FILE` was cut off to find it.
fn meaning(words: &str, document: Option<&Document>) -> Option<(Vec<String>, &'static Key, bool)> {
    let words = words.to_ascii_lowercase();
    let find = |words: &str| find(&words.split("__").collect::<Vec<_>>(), document);
    match find(&words) {
        Some((path, key)) => Some((path, key, false)),
        None => {
            let (path, key) = find(words.strip_suffix("_file")?)?;
            Some((path, key, true))
        }
    }
}

fn find(words: &[&str], document: Option<&Document>) -> Option<(Vec<String>, &'static Key)> {
    let mut tree = document.map(|document| &document.tree);
    let mut pattern = String::new();
    let mut path = Vec::new();
    let mut leaf = None;
    for word in words {
        if word.is_empty() || leaf.is_some() {
            return None;
        }
        let (child, node) = schema::child(&pattern, word)?;
        let is_chosen = child.ends_with(".*");
        pattern = child;
        let name = if is_chosen {
            tree.and_then(|tree| written(tree, word)).unwrap_or(word)
        } else {
            word
        };
        tree = tree
            .and_then(|tree| tree.get(name))
            .and_then(Value::as_dict);
        path.push(name.to_owned());
        match node {
            Node::Leaf(key) => leaf = Some(key),
            Node::Table => {}
            // The items of an array have no names.
            Node::Tables => return None,
        }
    }
    leaf.map(|key| (path, key))
}

/// The name in the file that a variable's word stands for.
fn written<'a>(tree: &'a Dict, word: &str) -> Option<&'a str> {
    let mut names = tree.keys().map(String::as_str);
    names
        .clone()
        .find(|name| *name == word)
        .or_else(|| names.find(|name| name.to_ascii_lowercase().replace('-', "_") == word))
}

/// `server.secret_files` is needed before the settings are read: it rules the files that variables name.
fn secret_files(meanings: &[Meaning<'_>], document: Option<&Document>) -> SecretFiles {
    let variable = meanings
        .iter()
        .find(|meaning| !meaning.is_file && meaning.key.pattern == "server.secret_files")
        .map(|meaning| meaning.value);
    let file = || {
        let server = document?.tree.get("server")?.as_dict()?;
        server.get("secret_files")?.as_str()
    };
    match variable.or_else(file) {
        Some("any") => SecretFiles::Any,
        _ => SecretFiles::Private,
    }
}

fn value(
    meaning: &Meaning<'_>,
    rule: SecretFiles,
    inputs: &mut Inputs,
) -> Result<String, Box<Problem>> {
    if !meaning.is_file {
        return Ok(meaning.value.to_owned());
    }
    let rule = if meaning.key.secret {
        rule
    } else {
        SecretFiles::Any
    };
    let path = Path::new(meaning.value);
    inputs.note(path);
    match secret::read(path, rule) {
        Ok(text) => Ok(text.expose_secret().to_owned()),
        Err(error) => {
            let place = Place::Variable(meaning.name.to_owned());
            Err(Box::new(
                secret_file(&error).at(&dotted(&meaning.path), place),
            ))
        }
    }
}

fn said_twice(meaning: &Meaning<'_>, other: &str) -> Problem {
    Problem::new(
        ProblemCode::Conflict,
        dotted(&meaning.path),
        Place::Variable(meaning.name.to_owned()),
        format!("{other} sets the same key"),
        "unset one of the two",
    )
}

fn unknown(name: &str, words: &str) -> Problem {
    let words = words.to_ascii_lowercase();
    let (parent, last) = words.rsplit_once("__").unwrap_or(("", &words));
    let pattern = parent.split("__").try_fold(String::new(), |pattern, word| {
        schema::child(&pattern, word).map(|(child, _)| child)
    });
    let node = |pattern: &str| schema::child(pattern, last).map(|(_, node)| node);
    let help = match pattern {
        Some(pattern)
            if pattern.contains("routes") || matches!(node(&pattern), Some(Node::Tables)) =>
        {
            "routes are set in the file only".to_owned()
        }
        Some(pattern) if matches!(node(&pattern), Some(Node::Table)) => {
            format!("it is a table: {name}__KEY sets `key` in it")
        }
        Some(pattern) => match nearest(last, &schema::names(&pattern)) {
            Some(near) => {
                let parent = parent.to_ascii_uppercase();
                format!("did you mean {PREFIX}{parent}__{}?", near.to_ascii_uppercase())
            }
            None => "unset it, or look the key up in config.example.toml".to_owned(),
        },
        None => {
            "BURSAR_SECTION__KEY sets `key` in [section], as in BURSAR_SERVER__LISTEN; unset it if it is not meant for bursar"
                .to_owned()
        }
    };
    Problem::new(
        ProblemCode::UnknownVariable,
        "",
        Place::Variable(name.to_owned()),
        "this variable names no key",
        help,
    )
}

fn dotted(path: &[String]) -> String {
    let path = path
        .iter()
        .fold(KeyPath::default(), |path, name| path.key(name));
    path.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn read(text: &str, pairs: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<Problem>) {
        let (document, _) = Document::parse("bursar.toml".to_owned(), text, PathBuf::new());
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (variables, problems) = variables(&pairs, Some(&document), &mut Inputs::default());
        let variables = variables
            .into_iter()
            .map(|variable| (dotted(&variable.path), variable.value))
            .collect();
        (variables, problems)
    }

    fn pair(path: &str, value: &str) -> (String, String) {
        (path.to_owned(), value.to_owned())
    }

    #[test]
    fn only_variables_with_two_underscores_are_configuration() {
        let (variables, problems) = read(
            "",
            &[
                ("BURSAR_PORT", "tcp://10.0.0.1:8080"),
                ("BURSAR_CONFIG", "/etc/x"),
                ("OTHER__THING", "x"),
                ("BURSAR_SERVER__LISTEN", "127.0.0.1:1"),
            ],
        );
        assert_eq!(variables, [pair("server.listen", "127.0.0.1:1")]);
        assert!(problems.is_empty());
    }

    #[test]
    fn an_unknown_one_among_them_is_refused_and_the_near_one_named() {
        let (_, problems) = read("", &[("BURSAR_SERVER__LISTN", "canary")]);
        assert_eq!(problems[0].code(), ProblemCode::UnknownVariable);
        let text = problems[0].render(false);
        assert!(text.contains("BURSAR_SERVER__LISTN"));
        assert!(text.contains("did you mean BURSAR_SERVER__LISTEN?"));
        assert!(!text.contains("canary"));
    }

    #[test]
    fn a_hyphen_in_a_name_of_the_file_is_written_as_an_underscore() {
        let (variables, problems) = read(
            "[credentials.d2l-writer]\n[credentials.d2l]\n",
            &[
                ("BURSAR_CREDENTIALS__D2L_WRITER__CLIENT_ID", "a"),
                ("BURSAR_CREDENTIALS__NEW_ONE__CLIENT_ID", "b"),
            ],
        );
        assert!(problems.is_empty());
        assert_eq!(
            variables,
            [
                pair("credentials.d2l-writer.client_id", "a"),
                pair("credentials.new_one.client_id", "b")
            ]
        );
    }

    #[test]
    fn file_is_part_of_a_key_first_and_an_indirection_only_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        std::fs::write(&path, "client-1\n").unwrap();
        let path = path.to_str().unwrap();
        let (variables, problems) = read(
            "",
            &[
                ("BURSAR_CREDENTIALS__A__CLIENT_ID_FILE", path),
                ("BURSAR_CREDENTIALS__A__CLIENT_SECRET_FILE", path),
            ],
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            variables,
            [
                pair("credentials.a.client_id", "client-1"),
                pair("credentials.a.client_secret_file", path)
            ]
        );
    }

    #[test]
    fn two_variables_for_one_key_are_refused() {
        let (_, problems) = read(
            "",
            &[
                ("BURSAR_LOG__LEVEL", "info"),
                ("BURSAR_LOG__LEVEL_FILE", "/x"),
            ],
        );
        assert_eq!(problems[0].code(), ProblemCode::Conflict);
    }

    #[test]
    fn a_table_cannot_be_set_by_a_variable() {
        let (variables, problems) = read(
            "",
            &[
                ("BURSAR_UPSTREAMS__LMS", "x"),
                ("BURSAR_UPSTREAMS__LMS__ROUTES", "x"),
                ("BURSAR_SERVER__LISTEN__X", "x"),
            ],
        );
        assert!(variables.is_empty());
        assert_eq!(problems.len(), 3);
        let help = |at: usize| problems[at].render(false);
        assert!(help(1).contains("BURSAR_UPSTREAMS__LMS__KEY sets `key` in it"));
        assert!(help(2).contains("routes are set in the file only"));
        assert!(!help(2).contains("did you mean"));
    }
}
