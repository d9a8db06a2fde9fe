//! What is wrong with a configuration, and how people are told.

mod code;

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::inputs::Inputs;
pub use code::ProblemCode;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// There is no configuration.
    Error,
    /// It works, but deserves a look.
    Warning,
}

/// The text of a configuration file as it may be shown: values that could be secrets are blanked out,
/// every byte stands where it stood.
#[derive(PartialEq, Eq)]
pub struct Excerpt {
    /// The file's name.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
}

impl Excerpt {
    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let newlines = self.text.bytes().take(offset).filter(|byte| *byte == b'\n');
        newlines.count().saturating_add(1)
    }
}

/// Where a problem is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// What may be shown of it.
        excerpt: Arc<Excerpt>,
        /// Byte offsets.
        span: Range<usize>,
    },
    /// In a line of the file, where the text is not at hand.
    Line {
        /// The file's name.
        name: String,
        /// From 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In what is not there.
    Nowhere,
}

impl Place {
    /// The line in the file, from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::File { excerpt, span } => Some(excerpt.line(span.start)),
            Self::Line { line, .. } => Some(*line),
            Self::Variable(_) | Self::Nowhere => None,
        }
    }

    /// File order, then variables by name, then the rest.
    fn order(&self) -> (u8, usize, &str) {
        match self {
            Self::File { span, .. } => (0, span.start, ""),
            Self::Line { line, .. } => (0, *line, ""),
            Self::Variable(name) => (1, 0, name),
            Self::Nowhere => (2, 0, ""),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { excerpt, span } => {
                write!(formatter, "{}:{}", excerpt.name, excerpt.line(span.start))
            }
            Self::Line { name, line } => write!(formatter, "{name}:{line}"),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Nowhere => formatter.write_str("configuration"),
        }
    }
}

/// One thing wrong with a configuration. Never holds a secret's value.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    code: ProblemCode,
    severity: Severity,
    key: String,
    place: Place,
    what: String,
    help: String,
}

impl Problem {
    /// `key` may be empty; `what` says what is wrong, with the value seen where that is safe; `help` says what to do.
    pub(super) fn new(
        code: ProblemCode,
        key: impl Into<String>,
        place: Place,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            key: key.into(),
            place,
            what: what.into(),
            help: help.into(),
        }
    }

    /// The same as a warning.
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// Whether it is only a warning.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The key, as a TOML path; empty where it is about the file as a whole.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// For people, rustc-like, with the line of the file.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.headline()).id(self.code.as_str());
        let group = match &self.place {
            Place::File { excerpt, span } => title.element(
                Snippet::source(excerpt.text.as_str())
                    .path(excerpt.name.as_str())
                    .annotation(AnnotationKind::Primary.span(span.clone())),
            ),
            Place::Variable(_) | Place::Line { .. } => {
                title.element(Origin::path(self.place.to_string()))
            }
            Place::Nowhere => Group::with_title(title),
        };
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group.element(Level::HELP.message(self.help.as_str()))])
    }

    fn headline(&self) -> String {
        if self.key.is_empty() {
            self.what.clone()
        } else {
            format!("{}: {}", self.key, self.what)
        }
    }
}

/// One line.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}: {}",
            self.code,
            self.place,
            self.headline()
        )
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Everything that is wrong with a configuration: at least one error, and the warnings too.
#[derive(Debug)]
pub struct Problems {
    list: Vec<Problem>,
    inputs: Inputs,
}

impl Problems {
    /// Sorts them by place.
    pub(super) fn new(mut list: Vec<Problem>) -> Self {
        sort(&mut list);
        Self {
            list,
            inputs: Inputs::default(),
        }
    }

    /// The same, read from these files.
    pub(super) fn from(mut self, inputs: Inputs) -> Self {
        self.inputs = inputs;
        self
    }

    /// The files that were read: while they stay as they are, so do the problems.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// 78, or 77 when a secret's file is readable by others and nothing else is wrong.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let only_exposed = self
            .errors()
            .all(|problem| problem.code == ProblemCode::SecretExposed);
        if only_exposed { 77 } else { 78 }
    }

    /// For people, rustc-like.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for problem in &self.list {
            text.push_str(problem.render(colour).trim_end());
            text.push_str("\n\n");
        }
        text.push_str(&format!("{self}\n"));
        text
    }

    /// Those that are not only warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.list
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}

/// One line, for logs.
impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors().count();
        let Some(first) = self.errors().next() else {
            return formatter.write_str("the configuration is not valid");
        };
        if count == 1 {
            write!(formatter, "the configuration has a problem")?;
        } else {
            write!(formatter, "the configuration has {count} problems")?;
        }
        write!(
            formatter,
            " (first: {first}); `bursar explain {}` says more",
            first.code
        )
    }
}

impl std::error::Error for Problems {}

/// By place; of two in one place the lower code first.
pub(super) fn sort(list: &mut [Problem]) {
    list.sort_by(|one, other| {
        let key = |problem: &Problem| (problem.code, problem.key.clone());
        one.place
            .order()
            .cmp(&other.place.order())
            .then_with(|| key(one).cmp(&key(other)))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: ProblemCode) -> Problem {
        Problem::new(
            code,
            "server.listen",
            Place::Nowhere,
            "is wrong",
            "put it right",
        )
    }

    #[test]
    fn every_code_is_used_for_one_thing_only() {
        for (index, code) in ProblemCode::ALL.iter().enumerate() {
            assert!(code.as_str().starts_with("BUR1"));
            assert!(
                ProblemCode::ALL[..index]
                    .iter()
                    .all(|other| other.as_str() != code.as_str())
            );
        }
    }

    #[test]
    fn an_invalid_configuration_outranks_an_exposed_secret() {
        let exposed = Problems::new(vec![problem(ProblemCode::SecretExposed)]);
        assert_eq!(exposed.exit_code(), 77);
        let both = Problems::new(vec![
            problem(ProblemCode::SecretExposed),
            problem(ProblemCode::UnknownKey),
        ]);
        assert_eq!(both.exit_code(), 78);
        let with_warning = Problems::new(vec![
            problem(ProblemCode::SecretExposed),
            problem(ProblemCode::UnusedCredential).warning(),
        ]);
        assert_eq!(with_warning.exit_code(), 77);
    }

    #[test]
    fn a_problem_shows_its_line_and_its_remedy_and_colour_only_when_asked() {
        let excerpt = Arc::new(Excerpt {
            name: "bursar.toml".to_owned(),
            text: "[server]\nlisen = 1\n".to_owned(),
        });
        let place = Place::File {
            excerpt,
            span: 9..14,
        };
        let problem = Problem::new(
            ProblemCode::UnknownKey,
            "server.lisen",
            place,
            "unknown key",
            "did you mean `listen`?",
        );
        let plain = problem.render(false);
        assert!(plain.contains("error[BUR1004]: server.lisen: unknown key"));
        assert!(plain.contains("bursar.toml:2:1"));
        assert!(plain.contains("lisen = 1"));
        assert!(plain.contains("did you mean `listen`?"));
        assert!(!plain.contains('\u{1b}'));
        assert!(problem.render(true).contains('\u{1b}'));
    }
}
