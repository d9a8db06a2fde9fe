//! Canvas's routes and `url:` scopes, by Canvas's own matcher (`AccessToken#url_scopes_for_method`): `:name` stands for one segment, `*name`
//! for the rest, `(…)` may be missing, and an extension may follow. The whole path is compared, with case.

use std::{collections::BTreeSet, sync::LazyLock};

use http::Method;

use crate::scope::ScopeSet;

const TABLE: &str = include_str!("../policy/catalogue/canvas.tsv");

/// Where scopes are enforced.
const ENFORCED: [&str; 3] = ["/api/v1/", "/api/sis/", "/api/quiz/v1/"];

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(Route::parse).collect()
});

/// A line of the public API reference.
pub(super) struct Route {
    method: &'static str,
    /// The path as the reference writes it.
    pub(super) template: &'static str,
}

/// The route of a request: of several that match, the one with the fewest places that stand for something.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = match *method {
        Method::HEAD => "GET",
        _ => method.as_str(),
    };
    ROUTES
        .iter()
        .filter(|route| route.method == method && matches(route.template, path))
        .min_by_key(|route| route.template.matches([':', '*', '(']).count())
}

/// Whether scopes are asked for at all.
pub(super) fn are_enforced(path: &str) -> bool {
    ENFORCED.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether one of `granted` opens the path. HEAD is a method like any other, and there are no scopes for it.
pub(super) fn open(granted: &ScopeSet, method: &Method, path: &str) -> bool {
    granted.iter().any(|scope| {
        let rest = scope.as_str().strip_prefix("url:");
        rest.and_then(|rest| rest.split_once('|'))
            .is_some_and(|(named, pattern)| named == method.as_str() && matches(pattern, path))
    })
}

impl Route {
    fn parse(line: &'static str) -> Option<Self> {
        let mut columns = line.split('\t');
        Some(Self {
            method: columns.next()?,
            template: columns.next()?,
        })
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let rests = advance(pattern, BTreeSet::from([path]));
    rests.into_iter().any(|rest| {
        let extension = rest.strip_prefix('.');
        rest.is_empty() || extension.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    })
}

/// What may be left of each of `rests` when `pattern` has taken its part.
fn advance<'a>(mut pattern: &str, mut rests: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    while let Some(first) = pattern.chars().next() {
        let name_end = |text: &str| text.find(['/', '(', ')']).unwrap_or(text.len());
        let rest_of = |start: usize| pattern.get(start..).unwrap_or_default();
        match first {
            ':' => {
                pattern = rest_of(name_end(pattern));
                rests = taken(&rests, |letter| letter != '/');
            }
            '*' => {
                pattern = rest_of(name_end(pattern));
                rests = taken(&rests, |_| true);
            }
            '(' => {
                let end = pattern.find(')').unwrap_or(pattern.len());
                let inner = pattern.get(1..end).unwrap_or_default();
                pattern = rest_of(end.saturating_add(1));
                rests.extend(advance(inner, rests.clone()));
            }
            _ => {
                let end = pattern.find([':', '*', '(']).unwrap_or(pattern.len());
                let (literal, after) = pattern.split_at(end);
                pattern = after;
                rests = rests
                    .into_iter()
                    .filter_map(|rest| rest.strip_prefix(literal))
                    .collect();
            }
        }
    }
    rests
}

/// What is left when one or more letters have been taken, in every way in which that can be done.
fn taken<'a>(rests: &BTreeSet<&'a str>, may_take: impl Fn(char) -> bool) -> BTreeSet<&'a str> {
    let ways = |rest: &'a str| {
        let letters = rest
            .char_indices()
            .take_while(|(_, letter)| may_take(*letter));
        letters
            .map(|(start, letter)| start + letter.len_utf8())
            .filter_map(|end| rest.get(end..))
            .collect::<Vec<_>>()
    };
    rests.iter().flat_map(|rest| ways(rest)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_table_is_read() {
        assert_eq!(ROUTES.len(), 1010);
    }

    #[test]
    fn the_matcher_is_that_of_canvas() {
        for (pattern, path, expected) in [
            ("/api/v1/courses/:id", "/api/v1/courses/7", true),
            (
                "/api/v1/courses/:id",
                "/api/v1/courses/sis_course_id:A.7",
                true,
            ),
            ("/api/v1/courses/:id", "/api/v1/courses/7.json", true),
            ("/api/v1/courses/:id", "/api/v1/courses/", false),
            ("/api/v1/courses/:id", "/api/v1/courses/7/", false),
            ("/api/v1/courses/:id", "/api/v1/courses/7/users", false),
            ("/api/v1/courses/:id", "/api/v1/Courses/7", false),
            ("/api/v1/courses", "/api/v1/courses", true),
            ("/api/v1/courses", "/api/v1/courses.json", true),
            ("/api/v1/courses", "/api/v1/courses.", false),
            ("/api/v1/courses", "/prefix/api/v1/courses", false),
            ("/f/by_path/*full_path", "/f/by_path/a/b/c.txt", true),
            ("/f/by_path/*full_path", "/f/by_path/", false),
            ("/i(/group/:id)", "/i", true),
            ("/i(/group/:id)", "/i/group/4", true),
            ("/i(/group/:id)", "/i/group/4.json", true),
            ("/i(/group/:id)", "/i/group", false),
            ("/d(/*scope)", "/d/a/b", true),
            ("/d/:a/x", "/d/1/x", true),
            ("/d/:a/x", "/d/1/2/x", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_scope_opens_its_method_and_its_path() {
        let granted =
            ScopeSet::parse("url:GET|/api/v1/courses/:id url:DELETE|/api/v1/courses/:id").unwrap();
        let open = |method, path| open(&granted, &method, path);
        assert!(open(Method::GET, "/api/v1/courses/7"));
        assert!(open(Method::DELETE, "/api/v1/courses/7"));
        assert!(!open(Method::PUT, "/api/v1/courses/7"));
        assert!(!open(Method::HEAD, "/api/v1/courses/7"));
        assert!(!open(Method::GET, "/api/v1/courses/7/users"));
        assert!(are_enforced("/api/v1/courses") && !are_enforced("/api/lti/x"));
    }

    #[test]
    fn the_plainest_route_is_found() {
        let template = |path| find(&Method::GET, path).map(|route| route.template);
        assert_eq!(template("/api/v1/courses/7"), Some("/api/v1/courses/:id"));
        assert_eq!(template("/api/v1/nowhere"), None);
        assert_eq!(
            template("/api/v1/users/7/folders/by_path/a/b"),
            Some("/api/v1/users/:user_id/folders/by_path/*full_path")
        );
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_makes_matching_panic(
            pattern in "[/:*()a.é]{0,12}",
            path in "[/a.é:]{0,12}",
        ) {
            matches(&pattern, &path);
        }

        #[test]
        fn a_template_matches_the_path_that_is_made_of_it(index in 0_usize..1010, value in "[a-z0-9_:]{1,8}") {
            let template = ROUTES[index].template;
            let path: Vec<&str> = template
                .split('/')
                .map(|segment| if segment.starts_with(':') { &value } else { segment })
                .collect();
            let path = path.join("/");
            prop_assume!(!path.contains(['(', '*']));
            prop_assert!(matches(template, &path), "{template} {path}");
        }
    }
}
