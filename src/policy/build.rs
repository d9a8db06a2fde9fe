//! From a [`PolicySpec`] to a [`Policy`].

use std::{collections::BTreeSet, slice, sync::Arc};

use super::{
    Policy, UNMATCHED,
    ask::{self, RouteAsks},
    call::{self, Calls},
    catalogue::{Catalogue, Entry},
    query::Parameters,
    requirement::Requirement,
    route::{CredentialChoice, Grant, Origin, Route},
    spec::{Mode, PolicyProblem, PolicyProblemKind, PolicySpec, RouteSpec},
    table::Table,
    template::Template,
};
use crate::scope::{Scope, ScopeSet};

/// A policy in the making.
pub(super) struct Builder<'a> {
    mode: Mode,
    catalogue: Catalogue,
    cut_out: Parameters,
    allowlist: &'a ScopeSet,
    routes: Vec<Arc<Route>>,
    /// Those of the catalogue that others stand in front of.
    replaced: BTreeSet<usize>,
    asks: RouteAsks,
    labels: Vec<Arc<str>>,
    allow: Table,
    deny: Table,
    calls: Option<Calls>,
    problems: Vec<PolicyProblem>,
}

/// What differs between routes of different origin.
struct Draft {
    label: Arc<str>,
    template: Arc<str>,
    requirement: Requirement,
    origin: Origin,
}

impl<'a> Builder<'a> {
    pub(super) fn new(spec: &'a PolicySpec) -> Self {
        let catalogue = spec.catalogue;
        Self {
            mode: spec.mode,
            catalogue,
            cut_out: Parameters::named(&spec.cut_out)
                .and(catalogue.credential_parameters())
                .and(match spec.calls_functions {
                    true => Parameters::named(&[call::TOKEN]),
                    false => Parameters::default(),
                }),
            allowlist: &spec.allowlist,
            routes: Vec::new(),
            replaced: BTreeSet::new(),
            asks: RouteAsks::default(),
            labels: Vec::new(),
            allow: Table::new(catalogue.matching()),
            deny: Table::new(catalogue.matching_to_deny()),
            calls: spec.calls_functions.then(Calls::default),
            problems: Vec::new(),
        }
    }

    pub(super) fn build(mut self, spec: &PolicySpec) -> Result<Policy, Vec<PolicyProblem>> {
        // Explicit routes first: what is in the table already stays, and so replaces the catalogue's.
        for (index, route) in spec.routes.iter().enumerate() {
            if let Err(kind) = self.add_explicit(route) {
                self.problems.push(PolicyProblem {
                    route: Some(index),
                    kind,
                });
            }
        }
        let explicit_labels = self.labels.len();
        for entry in self.catalogue.entries() {
            self.add_catalogue(entry);
        }
        let fallback = self.fallback();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let (sensitive, sensitive_templates) = sensitive(self.catalogue);
        let unmatched = Arc::new(self.unmatched());
        let in_force = self.routes.iter().enumerate();
        let in_force: Vec<&Route> = in_force
            .filter(|(number, _)| !self.replaced.contains(number))
            .map(|(_, route)| route)
            .chain(&fallback)
            .map(|route| &**route)
            .collect();
        let ask = ask::of_upstream(self.catalogue, self.allowlist, &in_force);
        Ok(Policy {
            mode: self.mode,
            catalogue: self.catalogue,
            allowlist: self.allowlist.clone(),
            ask: Arc::new(ask),
            route_credentials: self.asks.finish(),
            removed: self.cut_out,
            calls: self.calls,
            routes: self.routes,
            allow: self.allow,
            deny: self.deny,
            sensitive,
            sensitive_templates,
            fallback,
            unmatched,
            labels: self.labels,
            explicit_labels,
        })
    }

    fn add_explicit(&mut self, spec: &RouteSpec) -> Result<(), PolicyProblemKind> {
        if spec.methods.is_empty() && !spec.deny {
            return Err(PolicyProblemKind::MethodsMissing);
        }
        if spec.requirement == Requirement::Any(Vec::new()) {
            return Err(PolicyProblemKind::NoAlternative);
        }
        let template = Template::explicit(&spec.path).map_err(PolicyProblemKind::Template)?;
        self.check_functions(spec)?;
        let number = self.routes.len();
        let mut route = self.route(Draft {
            label: Arc::clone(&spec.name),
            template: spec.path.as_str().into(),
            requirement: spec.requirement.clone(),
            origin: Origin::Explicit,
        });
        route.max_body = spec.max_body;
        route.encoded_slash = spec.encoded_slash;
        route.upgrade = spec.upgrade;
        route.query_allow = Parameters::named(&spec.query_allow);
        route.parsed = Some(template.clone());
        route.credential = self.asks.choice(spec.credential.as_ref());
        self.asks.add(&route, self.catalogue, self.mode);
        self.routes.push(Arc::new(route));

        if !spec.functions.is_empty() {
            return self.add_functions(spec, number);
        }
        if spec.deny {
            // One that matches is as good as another.
            self.deny.insert(&template, &spec.methods, number);
            return Ok(());
        }
        let taken_by = self.allow.insert(&template, &spec.methods, number);
        match taken_by.and_then(|other| self.routes.get(other)) {
            Some(other) => Err(PolicyProblemKind::Ambiguous {
                other: Arc::clone(&other.label),
            }),
            None => Ok(()),
        }
    }

    fn check_functions(&self, spec: &RouteSpec) -> Result<(), PolicyProblemKind> {
        if spec.functions.is_empty() {
            return Ok(());
        }
        if self.calls.is_none() {
            return Err(PolicyProblemKind::NoFunctions);
        }
        if !call::is_server(&spec.path) {
            return Err(PolicyProblemKind::FunctionsPath);
        }
        if !spec.methods.iter().all(|own| call::METHODS.contains(own)) {
            return Err(PolicyProblemKind::FunctionsMethod);
        }
        match spec.functions.iter().find(|name| !call::is_name(name)) {
            Some(name) => Err(PolicyProblemKind::FunctionName(name.clone())),
            None => Ok(()),
        }
    }

    fn add_functions(&mut self, spec: &RouteSpec, number: usize) -> Result<(), PolicyProblemKind> {
        let Some(calls) = &mut self.calls else {
            return Err(PolicyProblemKind::NoFunctions);
        };
        let mut taken_by = None;
        for function in &spec.functions {
            if spec.deny {
                calls.deny(function, number);
            } else {
                let other = calls.allow(function, &spec.path, &spec.methods, number);
                // Named twice by one route, it is still one.
                taken_by = taken_by.or_else(|| other.filter(|other| *other != number));
            }
        }
        match taken_by.and_then(|other| self.routes.get(other)) {
            Some(other) => Err(PolicyProblemKind::Ambiguous {
                other: Arc::clone(&other.label),
            }),
            None => Ok(()),
        }
    }

    fn add_catalogue(&mut self, entry: Entry) {
        let number = self.routes.len();
        let route = self.route(Draft {
            label: format!("{}:{}", self.catalogue.name(), entry.group).into(),
            template: entry.path.into(),
            requirement: entry.requirement,
            origin: Origin::Catalogue,
        });
        self.routes.push(Arc::new(route));
        let mut is_replaced = true;
        for template in &entry.templates {
            let taken = self
                .allow
                .insert(template, slice::from_ref(&entry.method), number);
            is_replaced &= taken.is_some();
        }
        if is_replaced {
            self.replaced.insert(number);
        }
    }

    fn fallback(&mut self) -> Option<Arc<Route>> {
        let fallback = self.catalogue.fallback()?;
        let scope = Scope::parse(fallback.scope).ok()?;
        Some(Arc::new(self.route(Draft {
            label: format!("{}:{}", self.catalogue.name(), fallback.group).into(),
            template: fallback.path.into(),
            requirement: Requirement::All([scope].into_iter().collect()),
            origin: Origin::Fallback,
        })))
    }

    fn route(&mut self, draft: Draft) -> Route {
        let label_index = self.label(draft.label);
        Route {
            label: self.labels.get(label_index).cloned().unwrap_or_default(),
            label_index: Some(label_index),
            template: draft.template,
            missing: draft.requirement.missing(self.allowlist),
            grant: Grant::new(&draft.requirement, self.allowlist, |scope| {
                self.catalogue.asks_for(scope)
            }),
            requirement: draft.requirement,
            max_body: None,
            origin: draft.origin,
            credential: CredentialChoice::Upstream,
            encoded_slash: false,
            upgrade: false,
            query_allow: Parameters::default(),
            parsed: None,
        }
    }

    /// What stands for the route of a request that has none.
    fn unmatched(&self) -> Route {
        let requirement = Requirement::All(ScopeSet::default());
        Route {
            label: UNMATCHED.into(),
            label_index: None,
            template: "".into(),
            missing: Vec::new(),
            grant: Grant::new(&requirement, self.allowlist, |_| true),
            requirement,
            max_body: None,
            origin: Origin::Unmatched,
            credential: CredentialChoice::Upstream,
            encoded_slash: false,
            upgrade: false,
            query_allow: Parameters::default(),
            parsed: None,
        }
    }

    /// The number of a label, a new one if need be.
    fn label(&mut self, label: Arc<str>) -> usize {
        match self.labels.iter().position(|other| *other == label) {
            Some(index) => index,
            None => {
                self.labels.push(label);
                self.labels.len() - 1
            }
        }
    }
}

/// The table of the paths that hand out credentials, by the index of their template.
fn sensitive(catalogue: Catalogue) -> (Table, Vec<Template>) {
    let mut table = Table::new(catalogue.matching_to_deny());
    let mut templates = Vec::new();
    for sensitive in catalogue.sensitive() {
        if let Ok(template) = Template::explicit(sensitive.path) {
            table.insert(&template, sensitive.method.as_slice(), templates.len());
            templates.push(template);
        }
    }
    (table, templates)
}
