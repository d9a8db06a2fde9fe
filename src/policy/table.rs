//! Finds the route of a request: the most specific template that matches its path and method.
//!
//! The templates form a tree with one level per segment. At each node the walk tries the literal, then
//! the parameter, then the tail, so the first hit is the most specific: literal before parameter before
//! tail, segment by segment from the left. It may have to step back where a promising branch
//! ends, but it enters each node once at most, so a crafted path costs no more than the tree is large.
//!
//! A node belongs to one *shape*: which values a parameter takes plays no part in it, as it plays none
//! in what is more specific. Templates of one shape meet in one leaf.

use std::{cmp::Ordering, sync::Arc};

use http::Method;

use super::template::{Segment, Template};

/// How texts are compared with templates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matching {
    /// ASCII letters match in either case.
    pub(super) fold_case: bool,
    /// A template matches with and without a slash at the end.
    pub(super) either_slash: bool,
    /// A literal at the end matches with a format suffix (`.json`) too, as Rails routes do.
    pub(super) format_suffix: bool,
    /// A tail matches the bare slash before it too.
    pub(super) empty_tail: bool,
}

/// Templates by shape. A route is known by its number alone.
#[derive(Debug)]
pub(super) struct Table {
    matching: Matching,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by text; lower case where case is folded.
    literals: Vec<(Box<str>, Self)>,
    parameter: Option<Box<Self>>,
    /// The path ends here, without a slash.
    here: Leaf,
    /// The path ends here, with a slash.
    slash: Leaf,
    /// The path goes on.
    tail: Leaf,
}

/// The routes of one shape.
type Leaf = Vec<Candidate>;

#[derive(Clone, Debug)]
struct Candidate {
    /// `None`: any.
    method: Option<Method>,
    route: usize,
    /// Where the parameters are choosy about their values.
    choosy: Option<Arc<Template>>,
}

/// What a table has for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Route(usize),
    /// The path matches, the method does not.
    OtherMethod,
    Nothing,
}

impl Table {
    pub(super) fn new(matching: Matching) -> Self {
        Self {
            matching,
            root: Node::default(),
        }
    }

    /// Adds a route. No methods means any method.
    ///
    /// Where a route of the same shape has one of the methods already, that one stays and is returned.
    pub(super) fn insert(
        &mut self,
        template: &Template,
        methods: &[Method],
        route: usize,
    ) -> Option<usize> {
        let choosy = template.is_choosy().then(|| Arc::new(template.clone()));
        let candidate = |method| Candidate {
            method,
            route,
            choosy: choosy.clone(),
        };
        let candidates: Leaf = if methods.is_empty() {
            vec![candidate(None)]
        } else {
            methods.iter().cloned().map(Some).map(candidate).collect()
        };

        let matching = self.matching;
        let mut node = &mut self.root;
        let mut has_tail = false;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literal_mut(text, matching.fold_case),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Tail => {
                    has_tail = true;
                    break;
                }
            };
        }
        let ends = [
            (&mut node.tail, has_tail),
            (
                &mut node.slash,
                if has_tail {
                    matching.empty_tail
                } else {
                    template.trailing_slash || matching.either_slash
                },
            ),
            (
                &mut node.here,
                !has_tail && (!template.trailing_slash || matching.either_slash),
            ),
        ];
        let mut taken = None;
        for (leaf, _) in ends.into_iter().filter(|(_, applies)| *applies) {
            for candidate in &candidates {
                match leaf.iter().find(|other| other.method == candidate.method) {
                    Some(other) => taken = Some(other.route),
                    None => leaf.push(candidate.clone()),
                }
            }
        }
        taken
    }

    /// The most specific route for a method and the reading of a path.
    ///
    /// HEAD uses the route of GET, unless one of the same shape names HEAD.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found {
        let mut is_known = false;
        let route = self.walk(path, &mut |leaf| {
            let takes = |candidate: &&Candidate| candidate.takes_values_of(path);
            let with = |method: &Method| {
                leaf.iter()
                    .filter(|candidate| candidate.answers(method))
                    .find(takes)
            };
            let found = with(method).or_else(|| {
                (*method == Method::HEAD)
                    .then(|| with(&Method::GET))
                    .flatten()
            });
            is_known = is_known || (found.is_none() && leaf.iter().any(|other| takes(&other)));
            found.map(|candidate| candidate.route)
        });
        match route {
            Some(route) => Found::Route(route),
            None if is_known => Found::OtherMethod,
            None => Found::Nothing,
        }
    }

    /// The methods that a path has routes for.
    pub(super) fn methods(&self, path: &str) -> Vec<Method> {
        let mut methods = Vec::new();
        self.walk(path, &mut |leaf| {
            for candidate in leaf {
                if let Some(method) = &candidate.method
                    && candidate.takes_values_of(path)
                    && !methods.contains(method)
                {
                    methods.push(method.clone());
                }
            }
            None
        });
        methods
    }

    /// Shows the leaves that match, the most specific first, until one of them yields a route.
    fn walk(&self, path: &str, visit: &mut impl FnMut(&Leaf) -> Option<usize>) -> Option<usize> {
        self.root.walk(path.strip_prefix('/'), self.matching, visit)
    }
}

impl Candidate {
    fn answers(&self, method: &Method) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
    }

    fn takes_values_of(&self, path: &str) -> bool {
        self.choosy
            .as_ref()
            .is_none_or(|template| template.takes_values_of(path))
    }
}

impl Node {
    fn literal_mut(&mut self, text: &str, fold_case: bool) -> &mut Self {
        let text: Box<str> = if fold_case {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        };
        let at = self.literals.partition_point(|(other, _)| *other < text);
        let is_new = self
            .literals
            .get(at)
            .is_none_or(|(other, _)| *other != text);
        if is_new {
            self.literals.insert(at, (text, Self::default()));
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "there is an element at `at` by now"
        )]
        &mut self.literals[at].1
    }

    fn literal(&self, segment: &str, fold_case: bool) -> Option<&Self> {
        let compare = |(text, _): &(Box<str>, Self)| {
            if fold_case {
                compare_folded(text, segment)
            } else {
                (**text).cmp(segment)
            }
        };
        let at = self.literals.binary_search_by(compare).ok()?;
        self.literals.get(at).map(|(_, node)| node)
    }

    /// Where `segment` is a literal and a format suffix. The longest literal comes first.
    fn literals_before_suffix(
        &self,
        segment: &str,
        fold_case: bool,
    ) -> impl Iterator<Item = &Self> {
        let has_suffix = move |text: &str| {
            segment
                .split_at_checked(text.len())
                .is_some_and(|(start, suffix)| {
                    suffix.len() > 1
                        && suffix.starts_with('.')
                        && (start == text || (fold_case && start.eq_ignore_ascii_case(text)))
                })
        };
        self.literals
            .iter()
            .rev()
            .filter(move |(text, _)| has_suffix(text))
            .map(|(_, node)| node)
    }

    /// `rest` is what follows the slash after this node's segment; `None` where no slash follows.
    fn walk(
        &self,
        rest: Option<&str>,
        matching: Matching,
        visit: &mut impl FnMut(&Leaf) -> Option<usize>,
    ) -> Option<usize> {
        let Some(rest) = rest else {
            return visit(&self.here);
        };
        if rest.is_empty() {
            return visit(&self.slash);
        }
        let (segment, after) = split_segment(rest);
        if let Some(node) = self.literal(segment, matching.fold_case)
            && let Some(route) = node.walk(after, matching, visit)
        {
            return Some(route);
        }
        if matching.format_suffix && after.is_none_or(str::is_empty) && segment.contains('.') {
            for node in self.literals_before_suffix(segment, matching.fold_case) {
                if let Some(route) = node.walk(after, matching, visit) {
                    return Some(route);
                }
            }
        }
        if let Some(node) = &self.parameter
            && let Some(route) = node.walk(after, matching, visit)
        {
            return Some(route);
        }
        visit(&self.tail)
    }
}

/// The first segment, and what follows its slash. A byte loop, as segments are short.
fn split_segment(rest: &str) -> (&str, Option<&str>) {
    let slash = rest.bytes().position(|byte| byte == b'/');
    match slash.and_then(|at| rest.split_at_checked(at)) {
        Some((segment, after)) => (segment, after.get(1..)),
        None => (rest, None),
    }
}

/// Compares a lower-case literal with a segment in any case.
fn compare_folded(literal: &str, segment: &str) -> Ordering {
    let segment = segment.bytes().map(|byte| byte.to_ascii_lowercase());
    literal.bytes().cmp(segment)
}

#[cfg(test)]
mod tests;
