//! The configuration file: TOML with byte spans, read on after syntax errors.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map},
};
use toml::de::DeTable;

use super::{
    problem::{Excerpt, Place, Problem, ProblemCode},
    redact,
    tree::{KeyPath, Spans, dict},
};

/// One parsed file: a layer for figment, and the places of its keys.
pub(super) struct Document {
    /// What may be shown of it.
    pub(super) excerpt: Arc<Excerpt>,
    /// Its values.
    pub(super) tree: Dict,
    /// What relative paths in it are relative to.
    pub(super) directory: PathBuf,
    /// The lines with syntax errors, and those below a broken header: what stands there cannot be trusted.
    pub(super) broken_lines: Vec<usize>,
    /// Who else can read the file, in words, if anybody: a secret does not belong into it then.
    pub(super) exposure: Option<String>,
    spans: BTreeMap<KeyPath, Spans>,
}

impl Document {
    /// Parses `text`. Goes on after a syntax error, so that the problems that follow are found too.
    pub(super) fn parse(name: String, text: &str, directory: PathBuf) -> (Self, Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let excerpt = Arc::new(Excerpt {
            name,
            text: redact::text(text, table.get_ref(), !errors.is_empty()),
        });
        let mut spans = BTreeMap::new();
        let tree = dict(table.get_ref(), &KeyPath::default(), &mut spans);
        let problems: Vec<_> = errors
            .iter()
            .map(|error| syntax_problem(error, text, &excerpt))
            .collect();
        let broken_lines = broken_lines(text, &problems);
        let document = Self {
            excerpt,
            tree,
            directory,
            broken_lines,
            exposure: None,
            spans,
        };
        (document, problems)
    }

    /// Where the key at `path` stands, if it does.
    pub(super) fn key(&self, path: &KeyPath) -> Option<Place> {
        self.spans.get(path).map(|spans| self.place(&spans.key))
    }

    /// Where its value stands.
    pub(super) fn value(&self, path: &KeyPath) -> Option<Place> {
        self.spans.get(path).map(|spans| self.place(&spans.value))
    }

    /// Its position in the file.
    pub(super) fn offset(&self, path: &KeyPath) -> Option<usize> {
        self.spans.get(path).map(|spans| spans.key.start)
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::File {
            excerpt: Arc::clone(&self.excerpt),
            span: span.clone(),
        }
    }
}

impl Provider for Document {
    fn metadata(&self) -> Metadata {
        Metadata::named("file")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.tree.clone()))
    }
}

fn broken_lines(text: &str, problems: &[Problem]) -> Vec<usize> {
    let is_header = |line: &str| line.trim_start().starts_with('[');
    let mut broken: Vec<_> = problems
        .iter()
        .filter_map(|problem| problem.place().line())
        .collect();
    let mut is_below_broken_header = false;
    for (line, number) in text.lines().zip(1..) {
        if is_header(line) {
            is_below_broken_header = broken.contains(&number);
        } else if is_below_broken_header && !broken.contains(&number) {
            broken.push(number);
        }
    }
    broken
}

fn syntax_problem(error: &toml::de::Error, text: &str, excerpt: &Arc<Excerpt>) -> Problem {
    let span = error.span().unwrap_or(text.len()..text.len());
    let help = match error.message() {
        "duplicate key" => "a key or a table may stand once only; merge the two",
        message if message.starts_with("string values must be quoted") => {
            "write the value in double quotes"
        }
        _ => "see https://toml.io for the syntax, and config.example.toml for every key",
    };
    let place = Place::File {
        excerpt: Arc::clone(excerpt),
        span,
    };
    // The parser's messages speak of the syntax it wanted, not of the text it found.
    Problem::new(
        ProblemCode::Syntax,
        "",
        place,
        format!("not valid TOML: {}", error.message()),
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Document, Vec<Problem>) {
        Document::parse("bursar.toml".to_owned(), text, PathBuf::new())
    }

    #[test]
    fn keys_know_their_lines_even_in_arrays_of_tables() {
        let (document, problems) = parse(
            "[upstreams.lms]\n[[upstreams.lms.routes]]\nname = \"a\"\n\n[[upstreams.lms.routes]]\nname = \"b\"\n",
        );
        assert!(problems.is_empty());
        let routes = KeyPath::default().key("upstreams").key("lms").key("routes");
        let line = |path: &KeyPath| document.key(path).and_then(|place| place.line());
        assert_eq!(line(&routes.item(1)), Some(5));
        assert_eq!(line(&routes.item(1).key("name")), Some(6));
        assert_eq!(line(&routes.item(2)), None);
    }

    #[test]
    fn several_syntax_errors_are_found_at_once_and_the_rest_is_still_read() {
        let (document, problems) =
            parse("[server]\nlisten = \"a\nworkers = 2\nworkers = 3\n[log]\nlevel = info\n");
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| problem.place().line())
            .collect();
        assert_eq!(lines, [Some(2), Some(4), Some(6)]);
        assert!(document.tree.contains_key("log"));
    }
}
