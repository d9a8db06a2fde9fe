//! One kind of path template, read from three syntaxes.

use super::path::{CanonicalPath, PathProblem, Server};

/// A path with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
    /// Whether a slash ends it. Never after a [`Segment::Tail`].
    pub(super) trailing_slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text, as [`CanonicalPath::reading`] has it.
    Literal(Box<str>),
    /// One segment.
    Parameter(Values),
    /// One or more segments, the last in the template.
    Tail,
}

/// Which segments a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Any,
    /// Digits only.
    Decimal,
    /// `1.49`, or `unstable` in any case.
    Version,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A part of it could never be in a request's path.
    #[error("no request has such a path: {0}")]
    Path(PathProblem),
    /// `a{b}`, `{}`, `{a`.
    #[error("a parameter is a whole segment, `{{name}}`, its name of letters, digits and `_`")]
    Parameter,
    /// `{*rest}` with something after it.
    #[error("`{{*rest}}` takes the tail of the path, so nothing may follow it")]
    TailNotLast,
}

impl Template {
    /// The syntax of explicit routes: `{name}` is one segment, `{*rest}` at the end one or more.
    pub(super) fn explicit(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text, |segment| {
            let Some(inner) = segment.strip_prefix('{') else {
                return literal(segment);
            };
            let inner = inner.strip_suffix('}').ok_or(TemplateError::Parameter)?;
            match inner.strip_prefix('*') {
                Some(name) if is_name(name) => Ok(Segment::Tail),
                None if is_name(inner) => Ok(Segment::Parameter(Values::Any)),
                _ => Err(TemplateError::Parameter),
            }
        })
    }

    /// The syntax of the Brightspace table: `(name)` is one segment, its values known by its name.
    pub(super) fn brightspace(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text, |segment| {
            match segment.strip_prefix('(').and_then(|s| s.strip_suffix(')')) {
                Some("version") => Ok(Segment::Parameter(Values::Version)),
                Some(name) if NOT_DECIMAL.contains(&name) => Ok(Segment::Parameter(Values::Any)),
                Some(_) => Ok(Segment::Parameter(Values::Decimal)),
                None => literal(segment),
            }
        })
    }

    /// The syntax of Canvas: `:name` is one segment, `*name` one or more. `(/…)` at the end is optional and
    /// makes a second template.
    pub(super) fn canvas(text: &str) -> Result<Vec<Self>, TemplateError> {
        let parse = |text: &str| {
            Self::parse(text, |segment| {
                if segment.starts_with(':') {
                    Ok(Segment::Parameter(Values::Any))
                } else if segment.starts_with('*') {
                    Ok(Segment::Tail)
                } else {
                    literal(segment)
                }
            })
        };
        match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((always, optional)) => {
                Ok(vec![parse(always)?, parse(&format!("{always}{optional}"))?])
            }
            None => Ok(vec![parse(text)?]),
        }
    }

    fn parse(
        text: &str,
        segment: impl Fn(&str) -> Result<Segment, TemplateError>,
    ) -> Result<Self, TemplateError> {
        let path = text
            .strip_prefix('/')
            .ok_or(TemplateError::Path(PathProblem::NotAbsolute))?;
        if text.contains("//") {
            return Err(TemplateError::Path(PathProblem::EmptySegment));
        }
        let (path, trailing_slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        let segments = if path.is_empty() {
            Vec::new()
        } else {
            path.split('/')
                .map(segment)
                .collect::<Result<Vec<_>, _>>()?
        };
        let tail = segments
            .iter()
            .position(|segment| *segment == Segment::Tail);
        match tail {
            Some(at) if trailing_slash || at + 1 < segments.len() => {
                Err(TemplateError::TailNotLast)
            }
            _ => Ok(Self {
                segments,
                trailing_slash,
            }),
        }
    }

    /// Whether any parameter is choosy about its values.
    pub(super) fn is_choosy(&self) -> bool {
        let choosy = |segment: &Segment| matches!(segment, Segment::Parameter(values) if *values != Values::Any);
        self.segments.iter().any(choosy)
    }

    /// Whether the parameters take the values that stand in a path which is known to have the
    /// template's shape.
    pub(super) fn takes_values_of(&self, path: &str) -> bool {
        let values = path.split('/').skip(1);
        self.segments
            .iter()
            .zip(values)
            .all(|(segment, value)| match segment {
                Segment::Parameter(values) => values.take(value),
                Segment::Literal(_) | Segment::Tail => true,
            })
    }

    /// Whether it stands for one path alone.
    pub(super) fn is_literal(&self) -> bool {
        let is_literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
        self.segments.iter().all(is_literal)
    }

    /// Whether this template names what `other` stands for: it is nowhere wider.
    pub(super) fn names(&self, other: &Self) -> bool {
        let mut own = self.segments.iter();
        for segment in &other.segments {
            match (own.next(), segment) {
                (Some(_), Segment::Tail) => return true,
                (Some(Segment::Literal(own)), Segment::Literal(other))
                    if own.eq_ignore_ascii_case(other) => {}
                (Some(Segment::Literal(_) | Segment::Parameter(_)), Segment::Parameter(_)) => {}
                _ => return false,
            }
        }
        own.next().is_none()
    }
}

impl Values {
    fn take(self, value: &str) -> bool {
        let is_decimal =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Any => true,
            Self::Decimal => is_decimal(value),
            Self::Version => {
                value.eq_ignore_ascii_case("unstable")
                    || value
                        .split_once('.')
                        .is_some_and(|(major, minor)| is_decimal(major) && is_decimal(minor))
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A literal segment is compared with [`CanonicalPath::reading`], so it is read the same way.
fn literal(segment: &str) -> Result<Segment, TemplateError> {
    if segment.contains(['{', '}']) {
        return Err(TemplateError::Parameter);
    }
    let path = format!("/{segment}");
    let path = CanonicalPath::parse(&path, Server::Other).map_err(TemplateError::Path)?;
    Ok(Segment::Literal(
        path.reading().trim_start_matches('/').into(),
    ))
}

/// The parameters of the Brightspace table that are not decimal, or may not be. All others are decimal:
/// with that no two templates of the table that need different scopes match the same path.
const NOT_DECIMAL: &[&str] = &[
    "profileId",
    "pluginId",
    "schemaId",
    "extractId",
    "identifier",
    "deploymentId",
    "clientId",
    "certificateId",
    "issuedId",
    "dataSetId",
    "exportJobId",
    "jobId",
    "jobToken",
    "language",
    "entityType",
    "sourceSystemId",
    "repositoryId",
    "objectId",
    "attachmentId",
    "linkId",
    "assetProcessorId",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.into())
    }

    const ANY: Segment = Segment::Parameter(Values::Any);

    #[test]
    fn an_explicit_template_has_literals_parameters_and_a_tail() {
        let template = Template::explicit("/a%20b/{name}/{*rest}").unwrap();
        assert_eq!(template.segments, [literal("a b"), ANY, Segment::Tail]);
        assert!(!template.trailing_slash);
        assert!(Template::explicit("/a/").unwrap().trailing_slash);
        assert!(Template::explicit("/").unwrap().segments.is_empty());
    }

    #[test]
    fn a_text_that_no_path_can_match_is_no_template() {
        for text in [
            "a",
            "",
            "/a//b",
            "//",
            "/../a",
            "/a?b",
            "/a b",
            "/%zz",
            "/é",
            "/a/%2e%2e/b",
        ] {
            let error = Template::explicit(text).unwrap_err();
            assert!(matches!(error, TemplateError::Path(_)), "{text}: {error}");
        }
    }

    #[test]
    fn a_parameter_must_be_a_whole_segment() {
        for text in [
            "/a{b}",
            "/{a}b",
            "/{}",
            "/{*}",
            "/{a",
            "/a}",
            "/{a}.json",
            "/{a-b}",
            "/{{a}}",
        ] {
            assert_eq!(
                Template::explicit(text),
                Err(TemplateError::Parameter),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_may_follow_a_tail() {
        for text in ["/{*rest}/a", "/{*rest}/", "/{*a}/{*b}"] {
            assert_eq!(
                Template::explicit(text),
                Err(TemplateError::TailNotLast),
                "{text}"
            );
        }
    }

    #[test]
    fn a_brightspace_parameter_is_known_by_its_name() {
        let template = Template::brightspace("/d2l/(version)/(orgUnitId)/(profileId)/").unwrap();
        assert_eq!(
            template.segments,
            [
                literal("d2l"),
                Segment::Parameter(Values::Version),
                Segment::Parameter(Values::Decimal),
                ANY,
            ]
        );
        assert!(template.is_choosy());
    }

    #[test]
    fn a_version_is_two_numbers_or_unstable() {
        for value in ["1.49", "1.0", "unstable", "Unstable"] {
            assert!(Values::Version.take(value), "{value}");
        }
        for value in ["1", "1.", ".49", "1.4.9", "v1.4", "versions", "1.4x"] {
            assert!(!Values::Version.take(value), "{value}");
        }
    }

    #[test]
    fn a_decimal_is_digits_only() {
        assert!(Values::Decimal.take("6606"));
        for value in ["", "-1", "+1", "1a", "0x1", "٣"] {
            assert!(!Values::Decimal.take(value), "{value}");
        }
    }

    #[test]
    fn an_optional_end_makes_two_canvas_templates() {
        let templates = Template::canvas("/a/:id/custom_data(/*scope)").unwrap();
        let start = [literal("a"), ANY, literal("custom_data")];
        assert_eq!(templates[0].segments, start);
        assert_eq!(
            templates[1].segments,
            [&start[..], &[Segment::Tail]].concat()
        );
        assert_eq!(templates.len(), 2);
    }

    #[test]
    fn a_template_names_another_when_it_is_nowhere_wider() {
        let names = |own: &str, other: &str| {
            let template = |text| Template::explicit(text).unwrap();
            template(own).names(&template(other))
        };
        assert!(names("/users/{id}/tokens", "/users/{user}/tokens"));
        assert!(names("/users/self/tokens", "/users/{user}/tokens"));
        assert!(!names("/users/{id}/{what}", "/users/{user}/tokens"));
        assert!(!names("/users/{*rest}", "/users/{user}/tokens"));
        assert!(!names("/users/{id}/tokens/{token}", "/users/{user}/tokens"));
        assert!(names("/login/a/b", "/login/{*rest}"));
        assert!(names("/login/{*rest}", "/login/{*rest}"));
        assert!(!names("/{*rest}", "/login/{*rest}"));
    }
}
