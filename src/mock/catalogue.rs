//! D2L's public table of routes and scopes, matched as the LMS does it: without regard to case or a trailing slash, a
//! literal segment before a parameter.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;

use super::scopes;
use crate::scope::ScopeSet;

const TABLE: &str = include_str!("../policy/catalogue/brightspace.tsv");

/// The parameters whose values are not decimal numbers.
const TEXT_PARAMETERS: &[&str] = &[
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

/// The whole table.
pub(super) struct Catalogue {
    routes: Vec<Route>,
}

/// One line of it.
pub(super) struct Route {
    method: Method,
    segments: Vec<Segment>,
    /// The path as the table writes it.
    pub(super) template: &'static str,
    /// What it needs.
    pub(super) required: Required,
}

/// The scopes of a route.
pub(super) enum Required {
    /// Every one of them.
    All(Vec<&'static str>),
    /// Any one of them.
    Any(Vec<&'static str>),
}

/// A request's route, and the values of its parameters by name.
pub(super) struct Matched<'a> {
    pub(super) route: &'a Route,
    pub(super) parameters: BTreeMap<&'static str, String>,
}

enum Segment {
    Literal(&'static str),
    Parameter { name: &'static str, form: Form },
}

#[derive(Clone, Copy)]
enum Form {
    /// `1.49`, `unstable`.
    Version,
    /// A D2LID.
    Number,
    Text,
}

impl Catalogue {
    pub(super) fn new() -> Self {
        Self {
            routes: TABLE.lines().filter_map(Route::parse).collect(),
        }
    }

    /// The route of a request. HEAD goes where GET goes.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<Matched<'_>> {
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let values = split(path);
        self.routes
            .iter()
            .filter(|route| route.method == *method)
            .filter_map(|route| route.match_values(&values))
            .max_by_key(|matched| matched.route.specificity())
    }

    /// Whether any method is served on `path`.
    pub(super) fn knows(&self, path: &str) -> bool {
        let values = split(path);
        self.routes
            .iter()
            .any(|route| route.match_values(&values).is_some())
    }
}

impl Route {
    /// `None`: a comment.
    fn parse(line: &'static str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let mut columns = line.split('\t');
        let (method, template, scopes) = (columns.next()?, columns.next()?, columns.next()?);
        Some(Self {
            method: method.parse().ok()?,
            segments: template
                .trim_matches('/')
                .split('/')
                .map(Segment::parse)
                .collect(),
            template,
            required: if scopes.contains('|') {
                Required::Any(scopes.split('|').collect())
            } else {
                Required::All(scopes.split(' ').collect())
            },
        })
    }

    fn match_values(&self, values: &[String]) -> Option<Matched<'_>> {
        if self.segments.len() != values.len() {
            return None;
        }
        let mut parameters = BTreeMap::new();
        for (segment, value) in self.segments.iter().zip(values) {
            match segment {
                Segment::Literal(literal) if literal.eq_ignore_ascii_case(value) => {}
                Segment::Parameter { name, form } if form.admits(value) => {
                    parameters.insert(*name, value.clone());
                }
                _ => return None,
            }
        }
        Some(Matched {
            route: self,
            parameters,
        })
    }

    /// Literal before parameter, segment by segment from the left.
    fn specificity(&self) -> Vec<bool> {
        self.segments
            .iter()
            .map(|segment| matches!(segment, Segment::Literal(_)))
            .collect()
    }
}

impl Required {
    /// Whether `granted` is enough.
    pub(super) fn is_met_by(&self, granted: &ScopeSet) -> bool {
        match self {
            Self::All(scopes) => scopes.iter().all(|scope| scopes::cover(granted, scope)),
            Self::Any(scopes) => scopes.iter().any(|scope| scopes::cover(granted, scope)),
        }
    }
}

impl Segment {
    fn parse(text: &'static str) -> Self {
        let name = text
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'));
        match name {
            None => Self::Literal(text),
            Some(name) => Self::Parameter {
                name,
                form: match name {
                    "version" => Form::Version,
                    name if TEXT_PARAMETERS.contains(&name) => Form::Text,
                    _ => Form::Number,
                },
            },
        }
    }
}

impl Form {
    fn admits(self, value: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match self {
            Self::Version => {
                value.eq_ignore_ascii_case("unstable")
                    || value
                        .split_once('.')
                        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
            }
            Self::Number => is_number(value),
            Self::Text => !value.is_empty(),
        }
    }
}

fn split(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/')
        .unwrap_or(path)
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(method: &Method, path: &str) -> Option<&'static str> {
        Catalogue::new()
            .find(method, path)
            .map(|matched| matched.route.template)
    }

    #[test]
    fn the_whole_table_is_read() {
        assert_eq!(Catalogue::new().routes.len(), 398);
    }

    #[test]
    fn a_literal_segment_wins_over_a_parameter() {
        assert_eq!(
            template(
                &Method::GET,
                "/d2l/api/le/1.49/6606/grades/7/values/myGradeValue"
            ),
            Some("/d2l/api/le/(version)/(orgUnitId)/grades/(gradeObjectId)/values/myGradeValue")
        );
        assert_eq!(
            template(&Method::GET, "/d2l/api/lp/1.49/users/whoami"),
            Some("/d2l/api/lp/(version)/users/whoami")
        );
    }

    #[test]
    fn case_and_a_trailing_slash_do_not_matter() {
        assert_eq!(
            template(&Method::GET, "/D2L/api/LP/1.49/Users/WhoAmI/"),
            Some("/d2l/api/lp/(version)/users/whoami")
        );
    }

    #[test]
    fn an_identifier_is_a_number_unless_the_table_says_otherwise() {
        assert_eq!(template(&Method::GET, "/d2l/api/lp/1.49/users/abc"), None);
        assert_eq!(template(&Method::GET, "/d2l/api/lp/users/users/7"), None);
        assert!(template(&Method::GET, "/d2l/api/bas/1.0/issued/certificates/a-b").is_some());
    }

    #[test]
    fn whoami_needs_any_one_of_its_two_scopes() {
        let catalogue = Catalogue::new();
        let matched = catalogue
            .find(&Method::HEAD, "/d2l/api/lp/1.49/users/whoami")
            .unwrap();
        let granted = |list: &str| ScopeSet::parse(list).unwrap();
        let required = &matched.route.required;
        assert!(required.is_met_by(&granted("users:own_profile:read")));
        assert!(required.is_met_by(&granted("users:profile:read")));
        assert!(!required.is_met_by(&granted("users:userdata:read")));
    }

    #[test]
    fn a_route_with_two_scopes_needs_both() {
        let catalogue = Catalogue::new();
        let matched = catalogue
            .find(&Method::POST, "/d2l/api/le/1.49/6606/checklists/")
            .unwrap();
        let granted = |list: &str| ScopeSet::parse(list).unwrap();
        let required = &matched.route.required;
        assert!(!required.is_met_by(&granted("checklists:checklist:write")));
        assert!(required.is_met_by(&granted("checklists:checklist:read,write")));
    }
}
