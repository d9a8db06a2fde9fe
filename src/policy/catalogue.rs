//! The built-in tables: method and path to scopes, per LMS; and what else is known of each LMS that
//! decides about a request.
//!
//! The tables are data (`catalogue/*.tsv`), each with its source and date in its head.

use http::Method;

use super::{
    path::Server,
    query::Parameters,
    requirement::Requirement,
    table::Matching,
    template::{Template, TemplateError},
};
use crate::scope::{InvalidScope, Scope};

/// Which built-in table an upstream uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Catalogue {
    /// D2L Brightspace.
    Brightspace,
    /// Instructure Canvas.
    Canvas,
    /// Instructure Data Access Platform.
    Dap,
    /// None: explicit routes only.
    #[default]
    None,
}

/// One row of a table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) method: Method,
    /// As it stands in the table.
    pub(super) path: &'static str,
    /// More than one where a part is optional.
    pub(super) templates: Vec<Template>,
    pub(super) requirement: Requirement,
    /// The part after the colon in the label `catalogue:group`: of Brightspace the scope's group, of Canvas
    /// the first path segment after the version, of DAP the scope's resource.
    pub(super) group: String,
}

/// Why a row of a built-in table cannot be used. No user ever meets it: a test reads every row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("a row has three columns")]
    Columns,
    #[error("not a method")]
    Method,
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Scope(#[from] InvalidScope),
}

/// A path that is refused unless an explicit route names it.
pub(super) struct Sensitive {
    /// `None`: any.
    pub(super) method: Option<Method>,
    pub(super) path: &'static str,
}

impl Catalogue {
    /// The name in labels.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Brightspace => "brightspace",
            Self::Canvas => "canvas",
            Self::Dap => "dap",
            Self::None => "none",
        }
    }

    /// The rows. One that cannot be read would be left out, and so denied by default.
    pub(super) fn entries(self) -> impl Iterator<Item = Entry> {
        self.rows().filter_map(Result::ok)
    }

    fn rows(self) -> impl Iterator<Item = Result<Entry, RowError>> {
        self.text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(move |line| self.row(line))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Brightspace => include_str!("catalogue/brightspace.tsv"),
            Self::Canvas => include_str!("catalogue/canvas.tsv"),
            Self::Dap => include_str!("catalogue/dap.tsv"),
            Self::None => "",
        }
    }

    fn row(self, line: &'static str) -> Result<Entry, RowError> {
        let mut columns = line.split('\t');
        let (Some(method), Some(path), Some(scopes), None) = (
            columns.next(),
            columns.next(),
            columns.next(),
            columns.next(),
        ) else {
            return Err(RowError::Columns);
        };
        let method = method.parse().map_err(|_| RowError::Method)?;
        let templates = match self {
            Self::Brightspace => vec![Template::brightspace(path)?],
            Self::Canvas => Template::canvas(path)?,
            Self::Dap | Self::None => vec![Template::explicit(path)?],
        };
        // The bar in a Canvas scope belongs to the scope.
        let requirement = if self != Self::Canvas && scopes.contains('|') {
            let any: Result<_, _> = scopes.split('|').map(Scope::parse).collect();
            Requirement::Any(any?)
        } else {
            let all: Result<_, _> = scopes.split(' ').map(Scope::parse).collect();
            Requirement::All(all?)
        };
        let group = match self {
            Self::Brightspace => scopes.split(':').next(),
            Self::Canvas => canvas_group(path),
            Self::Dap | Self::None => scopes.split(':').nth(1),
        };
        Ok(Entry {
            method,
            path,
            templates,
            requirement,
            group: group.unwrap_or_default().to_owned(),
        })
    }

    /// Where everything goes that the table does not know: its paths start with `prefix` in any case,
    /// and need the scope.
    pub(super) const fn fallback(self) -> Option<Fallback> {
        match self {
            Self::Brightspace => Some(Fallback {
                prefix: "/d2l/api/",
                path: "/d2l/api/{*rest}",
                scope: "core:*:*",
                group: "core",
            }),
            _ => None,
        }
    }

    /// How its paths are read.
    pub(super) const fn server(self) -> Server {
        match self {
            Self::Brightspace => Server::AspNet,
            _ => Server::Other,
        }
    }

    /// How its paths are matched. Brightspace takes every path in any case, and its table is at odds
    /// with itself about the slash at the end; Canvas takes a format suffix.
    pub(super) const fn matching(self) -> Matching {
        let is_brightspace = matches!(self, Self::Brightspace);
        Matching {
            fold_case: is_brightspace,
            either_slash: is_brightspace,
            format_suffix: matches!(self, Self::Canvas),
            empty_tail: false,
        }
    }

    /// How paths are matched with what refuses them: generously, as a server might.
    pub(super) const fn matching_to_deny(self) -> Matching {
        Matching {
            fold_case: true,
            either_slash: true,
            empty_tail: true,
            ..self.matching()
        }
    }

    /// The query parameters in which its own libraries send credentials: cut out, as bursar brings the
    /// credential.
    pub(super) fn credential_parameters(self) -> Parameters {
        match self {
            Self::Brightspace => Parameters::named(&["x_a", "x_b", "x_c", "x_d", "x_t"]),
            Self::Canvas => Parameters::named(&["access_token"]),
            Self::Dap | Self::None => Parameters::default(),
        }
    }

    /// Whether a scope is ever sent to an authorization server.
    pub(super) fn asks_for(self, scope: &Scope) -> bool {
        self != Self::Dap || !scope.as_str().starts_with("dap:")
    }

    /// The paths that hand out credentials or end them. A token that leaks its own successor is worth
    /// more than anything else that an application could ask for.
    pub(super) fn sensitive(self) -> Vec<Sensitive> {
        let on = |method: Method| {
            move |path| Sensitive {
                method: Some(method.clone()),
                path,
            }
        };
        let any = |path| Sensitive { method: None, path };
        match self {
            Self::Canvas => [
                "/api/v1/inst_access_tokens",
                "/api/v1/jwts",
                "/api/v1/jwts/refresh",
                "/api/v1/users/{user_id}/tokens",
            ]
            .map(on(Method::POST))
            .into_iter()
            // Regenerates a token, and shows it.
            .chain(["/api/v1/users/{user_id}/tokens/{id}"].map(on(Method::PUT)))
            .chain(
                [
                    "/login/session_token",
                    "/login/oauth2/{*rest}",
                    "/login",
                    "/login/{*rest}",
                ]
                .map(any),
            )
            .collect(),
            Self::Brightspace => ["/d2l/auth/{*rest}", "/d2l/lp/auth/{*rest}"]
                .map(any)
                .into(),
            Self::Dap => ["/ids/{*rest}"].map(any).into(),
            Self::None => Vec::new(),
        }
    }
}

/// See [`Catalogue::fallback`].
pub(super) struct Fallback {
    pub(super) prefix: &'static str,
    pub(super) path: &'static str,
    pub(super) scope: &'static str,
    pub(super) group: &'static str,
}

/// `/api/v1/courses/…`, `/api/quiz/v1/courses/…` and `/api/lti/courses/…` are all of `courses`.
fn canvas_group(path: &str) -> Option<&str> {
    let mut segments = path
        .split('/')
        .skip(2)
        .skip_while(|segment| matches!(*segment, "v1" | "lti" | "sis" | "quiz"));
    segments.next()
}

/// The group of a `url:` scope; for people who must narrow an allowlist.
pub(super) fn group_of_url_scope(scope: &Scope) -> &str {
    scope
        .as_str()
        .split_once('|')
        .and_then(|(_, path)| canvas_group(path))
        .unwrap_or(scope.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::template::{Segment, Values};
    use std::collections::{BTreeMap, BTreeSet};

    fn rows(catalogue: Catalogue) -> Vec<Entry> {
        catalogue.rows().collect::<Result<_, _>>().unwrap()
    }

    fn scopes(requirement: &Requirement) -> Vec<Scope> {
        match requirement {
            Requirement::All(all) => all.iter().cloned().collect(),
            Requirement::Any(any) => any.clone(),
        }
    }

    #[test]
    fn every_row_of_every_table_is_read() {
        assert_eq!(rows(Catalogue::Brightspace).len(), 398);
        assert_eq!(rows(Catalogue::Canvas).len(), 1010);
        assert_eq!(rows(Catalogue::Dap).len(), 5);
        assert_eq!(rows(Catalogue::None).len(), 0);
    }

    #[test]
    fn the_brightspace_table_has_161_scopes_in_36_groups() {
        let rows = rows(Catalogue::Brightspace);
        let all: BTreeSet<_> = rows
            .iter()
            .flat_map(|row| scopes(&row.requirement))
            .collect();
        let groups: BTreeSet<_> = all
            .iter()
            .map(|scope| scope.as_str().split(':').next())
            .collect();
        assert_eq!((all.len(), groups.len()), (161, 36));
    }

    #[test]
    fn a_canvas_scope_is_its_method_and_path() {
        for row in rows(Catalogue::Canvas) {
            let expected = format!("url:{}|{}", row.method, row.path);
            assert_eq!(
                row.requirement,
                Requirement::All([Scope::parse(&expected).unwrap()].into_iter().collect())
            );
        }
    }

    #[test]
    fn groups_are_short_names() {
        for catalogue in [Catalogue::Brightspace, Catalogue::Canvas, Catalogue::Dap] {
            for row in rows(catalogue) {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                assert!(
                    !row.group.is_empty() && row.group.chars().all(is_name),
                    "{row:?}"
                );
            }
        }
        assert_eq!(canvas_group("/api/v1/courses/:id"), Some("courses"));
        assert_eq!(canvas_group("/api/quiz/v1/courses/:id"), Some("courses"));
        assert_eq!(canvas_group("/api/lti/uuid_map"), Some("uuid_map"));
    }

    #[test]
    fn every_sensitive_path_is_a_template() {
        for catalogue in [Catalogue::Brightspace, Catalogue::Canvas, Catalogue::Dap] {
            assert!(
                catalogue
                    .sensitive()
                    .iter()
                    .all(|path| Template::explicit(path.path).is_ok())
            );
        }
    }

    /// Whether some path matches both.
    fn overlap(a: &Template, b: &Template, narrow: impl Fn(Values) -> bool) -> bool {
        let fits = |values: Values, text: &str| match values {
            Values::Any => true,
            Values::Version => false,
            Values::Decimal => !narrow(values) || text.bytes().all(|byte| byte.is_ascii_digit()),
        };
        a.segments.len() == b.segments.len()
            && a.segments.iter().zip(&b.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a.eq_ignore_ascii_case(b),
                (Segment::Literal(text), Segment::Parameter(values))
                | (Segment::Parameter(values), Segment::Literal(text)) => fits(*values, text),
                _ => true,
            })
    }

    fn overlaps(narrow: impl Fn(Values) -> bool + Copy) -> (usize, usize) {
        let rows = rows(Catalogue::Brightspace);
        let mut counts = (0, 0);
        for (index, a) in rows.iter().enumerate() {
            for b in &rows[index + 1..] {
                if a.method == b.method && overlap(&a.templates[0], &b.templates[0], narrow) {
                    counts.0 += 1;
                    counts.1 += usize::from(a.requirement != b.requirement);
                }
            }
        }
        counts
    }

    #[test]
    fn no_two_brightspace_templates_of_different_scopes_overlap_as_identifiers_are_decimal() {
        let (pairs, conflicts) = overlaps(|_| true);
        assert_eq!((pairs, conflicts), (3, 0));
        let (pairs, conflicts) = overlaps(|_| false);
        assert_eq!((pairs, conflicts), (165, 134), "as plain patterns");
    }

    #[test]
    fn no_two_rows_of_a_table_have_the_same_shape_and_method() {
        for catalogue in [Catalogue::Brightspace, Catalogue::Canvas, Catalogue::Dap] {
            let mut seen = BTreeMap::new();
            for row in rows(catalogue) {
                for template in &row.templates {
                    let shape: Vec<_> = template
                        .segments
                        .iter()
                        .map(|segment| match segment {
                            Segment::Literal(text) => text.to_ascii_lowercase(),
                            Segment::Parameter(_) => String::from("{}"),
                            Segment::Tail => String::from("{*}"),
                        })
                        .collect();
                    let other = seen.insert((row.method.to_string(), shape), row.path);
                    assert_eq!(other, None, "{}", row.path);
                }
            }
        }
    }
}
