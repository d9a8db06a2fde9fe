//! Which route a request finds.

use super::*;
use proptest::{collection::vec, prelude::*};

const EXACT: Matching = Matching {
    fold_case: false,
    either_slash: false,
    format_suffix: false,
    empty_tail: false,
};

fn table(matching: Matching, templates: &[&str]) -> Table {
    let mut table = Table::new(matching);
    for (route, text) in templates.iter().enumerate() {
        let template = Template::explicit(text).unwrap();
        assert_eq!(table.insert(&template, &[Method::GET], route), None);
    }
    table
}

fn get(table: &Table, path: &str) -> Option<usize> {
    match table.find(&Method::GET, path) {
        Found::Route(route) => Some(route),
        _ => None,
    }
}

#[test]
fn a_literal_goes_before_a_parameter_before_a_tail() {
    let table = table(EXACT, &["/a/{*rest}", "/a/{id}", "/a/b"]);
    assert_eq!(get(&table, "/a/b"), Some(2));
    assert_eq!(get(&table, "/a/c"), Some(1));
    assert_eq!(get(&table, "/a/c/d"), Some(0));
    assert_eq!(get(&table, "/a"), None);
}

#[test]
fn the_leftmost_difference_decides() {
    let table = table(EXACT, &["/{x}/b/c", "/a/{y}/{z}"]);
    assert_eq!(get(&table, "/a/b/c"), Some(1));
    assert_eq!(get(&table, "/x/b/c"), Some(0));
}

#[test]
fn the_walk_steps_back_from_a_branch_that_ends() {
    let table = table(EXACT, &["/a/b/c", "/a/{x}/d", "/{*rest}"]);
    assert_eq!(get(&table, "/a/b/d"), Some(1));
    assert_eq!(get(&table, "/a/b/e"), Some(2));
}

#[test]
fn a_less_specific_route_serves_the_methods_that_a_more_specific_one_lacks() {
    let mut table = Table::new(EXACT);
    let template = |text| Template::explicit(text).unwrap();
    table.insert(&template("/users/self"), &[Method::GET], 0);
    table.insert(&template("/users/{id}"), &[Method::PUT], 1);
    assert_eq!(table.find(&Method::PUT, "/users/self"), Found::Route(1));
    assert_eq!(table.find(&Method::GET, "/users/self"), Found::Route(0));
    assert_eq!(table.find(&Method::POST, "/users/self"), Found::OtherMethod);
    assert_eq!(table.find(&Method::POST, "/users"), Found::Nothing);
    assert_eq!(table.methods("/users/self"), [Method::GET, Method::PUT]);
}

#[test]
fn head_uses_the_route_of_get_unless_one_names_head() {
    let mut table = Table::new(EXACT);
    let template = |text| Template::explicit(text).unwrap();
    table.insert(&template("/a"), &[Method::GET], 0);
    table.insert(&template("/b"), &[Method::GET], 1);
    table.insert(&template("/b"), &[Method::HEAD], 2);
    table.insert(&template("/c"), &[Method::POST], 3);
    assert_eq!(table.find(&Method::HEAD, "/a"), Found::Route(0));
    assert_eq!(table.find(&Method::HEAD, "/b"), Found::Route(2));
    assert_eq!(table.find(&Method::HEAD, "/c"), Found::OtherMethod);
    assert_eq!(table.find(&Method::GET, "/b"), Found::Route(1));
}

#[test]
fn a_second_route_of_one_shape_and_method_is_told_the_first() {
    let mut table = Table::new(EXACT);
    let template = |text| Template::explicit(text).unwrap();
    let methods = [Method::GET, Method::PUT];
    assert_eq!(table.insert(&template("/a/{x}/b"), &methods, 0), None);
    assert_eq!(
        table.insert(&template("/a/{y}/b"), &[Method::POST], 1),
        None
    );
    assert_eq!(
        table.insert(&template("/a/{z}/b"), &[Method::PUT], 2),
        Some(0)
    );
    assert_eq!(table.find(&Method::PUT, "/a/1/b"), Found::Route(0));
}

#[test]
fn a_slash_at_the_end_matters_unless_either_is_taken() {
    let exact = table(EXACT, &["/a", "/b/", "/c/{*rest}", "/"]);
    assert_eq!(get(&exact, "/a"), Some(0));
    assert_eq!(get(&exact, "/a/"), None);
    assert_eq!(get(&exact, "/b"), None);
    assert_eq!(get(&exact, "/b/"), Some(1));
    assert_eq!(get(&exact, "/c/"), None);
    assert_eq!(get(&exact, "/c/d/"), Some(2));
    assert_eq!(get(&exact, "/"), Some(3));

    let either = Matching {
        either_slash: true,
        ..EXACT
    };
    let either = table(either, &["/a", "/b/"]);
    assert_eq!(get(&either, "/a/"), Some(0));
    assert_eq!(get(&either, "/b"), Some(1));
}

#[test]
fn an_empty_tail_matches_the_slash_before_it() {
    let matching = Matching {
        empty_tail: true,
        ..EXACT
    };
    let table = table(matching, &["/a/{*rest}"]);
    assert_eq!(get(&table, "/a/"), Some(0));
    assert_eq!(get(&table, "/a"), None);
}

#[test]
fn case_is_folded_only_where_told() {
    let folding = Matching {
        fold_case: true,
        ..EXACT
    };
    assert_eq!(
        get(&table(folding, &["/D2L/api/b", "/d2l/{x}"]), "/d2L/API/B"),
        Some(0)
    );
    assert_eq!(get(&table(EXACT, &["/D2L/api"]), "/d2l/api"), None);
}

#[test]
fn a_format_suffix_is_ignored_at_the_end_only() {
    let matching = Matching {
        format_suffix: true,
        ..EXACT
    };
    let table = table(matching, &["/a", "/a/{id}/b", "/a.b", "/c/{*rest}"]);
    assert_eq!(get(&table, "/a.json"), Some(0));
    assert_eq!(get(&table, "/a/1/b.json"), Some(1));
    assert_eq!(get(&table, "/a.b"), Some(2), "the whole literal first");
    assert_eq!(get(&table, "/a.b.json"), Some(2), "then the longest");
    assert_eq!(get(&table, "/a.json/1/b"), None);
    assert_eq!(get(&table, "/ab.json"), None);
    assert_eq!(get(&table, "/a.json/"), None);
}

#[test]
fn a_crafted_path_visits_each_node_once_at_most() {
    let mut table = Table::new(EXACT);
    for bits in 0_usize..1024 {
        let segment = |bit: usize| if bits >> bit & 1 == 0 { "/a" } else { "/{x}" };
        let text: String = (0..10).map(segment).collect();
        table.insert(&Template::explicit(&text).unwrap(), &[Method::GET], bits);
    }
    let mut leaves = 0;
    table.walk(&"/a".repeat(10), &mut |_| {
        leaves += 1;
        None
    });
    assert_eq!(
        leaves,
        1024 + 1023,
        "one end for each template, one tail for each inner node"
    );
}

/// What the table should do, said plainly.
mod reference {
    use super::*;

    fn matches(template: &Template, path: &str, matching: Matching) -> bool {
        let path = path.strip_prefix('/').unwrap();
        let (path, has_slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        let path: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let equal = |a: &str, b: &str| {
            if matching.fold_case {
                a.eq_ignore_ascii_case(b)
            } else {
                a == b
            }
        };
        let mut at = 0;
        for segment in &template.segments {
            let Some(own) = path.get(at) else {
                return false;
            };
            match segment {
                Segment::Literal(text) if !equal(text, own) => return false,
                Segment::Tail => return true,
                _ => at += 1,
            }
        }
        at == path.len() && (matching.either_slash || has_slash == template.trailing_slash)
    }

    fn rank(template: &Template) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Parameter(_) => 1,
            Segment::Tail => 2,
        };
        template.segments.iter().map(rank).collect()
    }

    pub(super) fn find(
        routes: &[(Template, Method)],
        method: &Method,
        path: &str,
        matching: Matching,
    ) -> Found {
        let hits = || {
            routes
                .iter()
                .enumerate()
                .filter(|(_, (template, _))| matches(template, path, matching))
        };
        hits()
            .filter(|(_, (_, own))| own == method)
            .min_by_key(|(index, (template, _))| (rank(template), *index))
            .map(|(index, _)| Found::Route(index))
            .or_else(|| hits().next().map(|_| Found::OtherMethod))
            .unwrap_or(Found::Nothing)
    }
}

fn any_template() -> impl Strategy<Value = Template> {
    let segment = prop::sample::select(vec!["a", "b", "A", "{x}"]);
    let end = prop::sample::select(vec!["", "/", "/{*rest}"]);
    (vec(segment, 0..5), end).prop_map(|(segments, end)| {
        let text = format!("/{}{end}", segments.join("/")).replace("//", "/");
        Template::explicit(&text).unwrap()
    })
}

fn any_method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::PUT])
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_reference(
        routes in vec((any_template(), any_method()), 0..30),
        paths in vec("(/[abcA]){0,5}/?", 1..20),
        method in any_method(),
        fold_case: bool,
        either_slash: bool,
    ) {
        let matching = Matching { fold_case, either_slash, ..EXACT };
        let mut table = Table::new(matching);
        for (index, (template, method)) in routes.iter().enumerate() {
            table.insert(template, std::slice::from_ref(method), index);
        }
        for path in paths.iter().filter(|path| !path.is_empty()) {
            let expected = reference::find(&routes, &method, path, matching);
            prop_assert_eq!(table.find(&method, path), expected, "{}", path);
        }
    }
}
