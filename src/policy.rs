//! The policy of one upstream: which requests may leave, and with which scopes.
//!
//! Pure: no I/O, no time, no token. A [`Permit`] can only be made here, and nothing reaches a token
//! without one. Default deny: a request without a route does not leave.
//!
//! The decision, in this order: the path has one reading (`path`), no `deny` route matches, the most
//! specific route is found (`table`), its query rules hold (`query`), the allowlist covers its scopes; and
//! later, when the token is at hand, what was granted covers them too ([`Permit::check_granted`]).
//!
//! In report mode ([`Mode::Report`]) what has no route, or lacks scopes, gets a permit all the same, one that says what
//! enforcing would have done ([`Permit::reported`]). It too is made here alone.

mod ask;
mod build;
mod call;
mod catalogue;
mod denial;
mod explain;
mod path;
mod query;
mod requirement;
mod route;
mod spec;
mod table;
mod template;

use std::{fmt, sync::Arc};

use http::{Method, uri::PathAndQuery};

use crate::scope::ScopeSet;
use build::Builder;
pub use call::Form;
use call::{Calls, Place};
pub use catalogue::Catalogue;
pub use denial::{Denial, Reason};
use denial::{Refusal, Why};
pub use explain::{Cover, Explanation};
pub use path::{CanonicalPath, PathProblem, Server};
use query::{Parameters, QueryProblem};
pub use requirement::Requirement;
pub use route::{CredentialChoice, Origin, Route};
pub use spec::{Mode, PolicyProblem, PolicyProblemKind, PolicySpec, RouteSpec};
use table::{Found, Table};
use template::Template;
pub use template::TemplateError;

/// The longest `scope` parameter, in bytes, that is sent to Canvas, whose limit is 8,000 for a whole
/// field line.
pub const MAX_ASK: usize = 7500;

/// Where functions are called by their names (Moodle), unless it lives in a directory.
pub const FUNCTIONS_PATH: &str = call::SERVER;

/// The methods by which they can be called.
pub const FUNCTIONS_METHODS: [Method; 2] = call::METHODS;

/// The label of what has no route.
pub const UNMATCHED: &str = "_unmatched";

/// The policy of one upstream, ready to decide.
pub struct Policy {
    mode: Mode,
    catalogue: Catalogue,
    allowlist: ScopeSet,
    /// What the upstream's own credential is to ask for.
    ask: Arc<ScopeSet>,
    route_credentials: Vec<RouteCredential>,
    /// Query parameters that are cut out before anything is decided.
    removed: Parameters,
    /// By the numbers in `allow` and `deny`.
    routes: Vec<Arc<Route>>,
    allow: Table,
    deny: Table,
    /// Where functions are called by their names.
    calls: Option<Calls>,
    /// Paths that only a route that names them opens, by the index into `sensitive_templates`.
    sensitive: Table,
    sensitive_templates: Vec<Template>,
    fallback: Option<Arc<Route>>,
    /// What report mode lets through without a route.
    unmatched: Arc<Route>,
    labels: Vec<Arc<str>>,
    explicit_labels: usize,
}

/// A credential that routes name for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCredential {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it is to ask for: the scopes of the routes that name it.
    pub scopes: Arc<ScopeSet>,
}

/// Proof that the policy allows a request: its route, and exactly the bytes that may be sent.
#[derive(Clone, Debug)]
pub struct Permit {
    route: Arc<Route>,
    target: PathAndQuery,
    mode: Mode,
    reported: Option<Box<Reported>>,
    token_parameter: Option<&'static str>,
}

/// What report mode let through.
#[derive(Clone, Debug)]
struct Reported {
    denial: Denial,
    /// No narrower set is known to be right.
    needed: Arc<ScopeSet>,
}

/// Where a call may name its function.
#[derive(Clone, Copy)]
struct Called<'a> {
    query: &'a str,
    form: Option<&'a Form>,
}

impl Policy {
    /// Builds the tables.
    ///
    /// # Errors
    ///
    /// Every problem of the routes at once.
    pub fn build(spec: &PolicySpec) -> Result<Self, Vec<PolicyProblem>> {
        Builder::new(spec).build(spec)
    }

    /// Decides about one request by its method and its target in origin-form (`/path?query`).
    ///
    /// # Errors
    ///
    /// A [`Denial`]: then nothing may leave.
    pub fn decide(&self, method: &Method, target: &PathAndQuery) -> Result<Permit, Denial> {
        self.judge(method, target, None).map_err(Denial::from)
    }

    /// Whether it takes the request's form to decide: then [`decide_call`](Self::decide_call) does. Where functions are called by
    /// their names, the form of a POST can name one.
    #[must_use]
    pub fn needs_form(&self, method: &Method, target: &PathAndQuery) -> bool {
        *method == Method::POST && self.place(target.path()) == Place::Server
    }

    /// Whether the form is worth reading: nothing that it could say makes up for what is wrong already.
    ///
    /// # Errors
    ///
    /// A [`Denial`]: then nothing may leave.
    pub fn precheck_call(&self, method: &Method, target: &PathAndQuery) -> Result<(), Denial> {
        match self.judge(method, target, None) {
            Err(refusal) if !matches!(refusal.why, Why::Unnamed) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// Reads the form of such a request.
    ///
    /// # Errors
    ///
    /// A [`Denial`]: it has more than one reading.
    pub fn read_form(&self, form: &[u8]) -> Result<Form, Denial> {
        Form::read(form, self.removed).map_err(|problem| {
            let why = Why::Query(problem);
            Refusal { route: None, why }.into()
        })
    }

    /// Decides as [`decide`](Self::decide) does, about a request with a form that is known.
    ///
    /// # Errors
    ///
    /// A [`Denial`]: then nothing may leave.
    pub fn decide_call(
        &self,
        method: &Method,
        target: &PathAndQuery,
        form: &Form,
    ) -> Result<Permit, Denial> {
        self.judge(method, target, Some(form)).map_err(Denial::from)
    }

    fn judge(
        &self,
        method: &Method,
        target: &PathAndQuery,
        form: Option<&Form>,
    ) -> Result<Permit, Refusal<'_>> {
        let (path, query) = match target.as_str().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let mut lifted = None;
        let called = Called {
            query: query.unwrap_or_default(),
            form,
        };
        let route = match self.route(method, path, called) {
            Ok(route) => route,
            Err(refusal) => {
                lifted = Some(self.lift(refusal)?);
                &self.unmatched
            }
        };
        let refuse = |why| Refusal {
            route: Some(route),
            why,
        };
        let place = self.place(path);
        if place == Place::Files && *method == Method::POST {
            return Err(refuse(Why::Query(QueryProblem::PostForFile)));
        }
        let is_of_files = matches!(place, Place::Files | Place::Uploads);
        let (removed, allowed) = match is_of_files {
            true => (
                self.removed.and(Parameters::named(&[call::FILE_TOKEN])),
                route.query_allow,
            ),
            false => (self.removed, route.query_allow.and(Parameters::HARMLESS)),
        };
        let target = match query {
            Some(query) => screen_query(target, path, query, removed, allowed)
                .map_err(|problem| refuse(Why::Query(problem)))?,
            None => target.clone(),
        };
        if !route.missing.is_empty() {
            lifted = Some(self.lift(refuse(Why::NotAllowed(route.missing.clone())))?);
        }
        Ok(Permit {
            route: Arc::clone(route),
            target,
            mode: self.mode,
            reported: lifted.map(|refusal| self.report(refusal, route)),
            token_parameter: is_of_files.then_some(call::FILE_TOKEN),
        })
    }

    /// A refusal that the mode turns into a report; any other stays one.
    fn lift<'a>(&self, refusal: Refusal<'a>) -> Result<Refusal<'a>, Refusal<'a>> {
        match self.mode {
            Mode::Report if refusal.is_relaxed_by_report() => Ok(refusal),
            Mode::Report | Mode::Enforce => Err(refusal),
        }
    }

    fn report(&self, refusal: Refusal<'_>, route: &Route) -> Box<Reported> {
        let needed = match route.credential {
            CredentialChoice::Upstream => &self.ask,
            CredentialChoice::Route(number) => self
                .route_credentials
                .get(number)
                .map_or(&self.ask, |credential| &credential.scopes),
        };
        Box::new(Reported {
            denial: refusal.into(),
            needed: Arc::clone(needed),
        })
    }

    fn route(
        &self,
        method: &Method,
        path: &str,
        called: Called<'_>,
    ) -> Result<&Arc<Route>, Refusal<'_>> {
        let refuse = |route, why| Refusal { route, why };
        let path = CanonicalPath::parse(path, self.catalogue.server())
            .map_err(|problem| refuse(None, Why::Path(problem)))?;
        // What refuses does so by any reading.
        let other_reading = path.other_reading();
        let find_any = |table: &Table| match table.find(method, path.reading()) {
            Found::Route(number) => Some(number),
            _ => match table.find(method, other_reading.as_deref()?) {
                Found::Route(number) => Some(number),
                _ => None,
            },
        };
        if let Some(denied) = find_any(&self.deny) {
            return Err(refuse(self.routes.get(denied), Why::DenyRoute));
        }
        let place = match &self.calls {
            None => Place::Other,
            Some(calls) => match call::place(&path) {
                Place::Server => return self.function(calls, method, path.reading(), called),
                place => place,
            },
        };
        let route = match self.allow.find(method, path.reading()) {
            Found::Route(number) => self.routes.get(number),
            Found::OtherMethod => None,
            Found::Nothing => self.fallback(path.reading()),
        };
        if let Some(sensitive) = find_any(&self.sensitive)
            && !self.is_named(sensitive, route)
        {
            return Err(refuse(None, Why::Sensitive));
        }
        let is_spelt_out = |route: &Arc<Route>| {
            let template = route.parsed.as_ref();
            template.is_some_and(Template::is_literal)
        };
        if place == Place::Guarded && !route.is_some_and(is_spelt_out) {
            return Err(refuse(None, Why::Sensitive));
        }
        if other_reading.is_some() && !route.is_some_and(|route| route.encoded_slash) {
            return Err(refuse(route, Why::EncodedSlash));
        }
        route.ok_or_else(|| match self.allow.methods(path.reading()) {
            methods if methods.is_empty() => refuse(None, Why::NoRoute),
            methods => refuse(None, Why::Method(methods)),
        })
    }

    /// The route of a call: its function decides, and the path alone opens nothing.
    fn function(
        &self,
        calls: &Calls,
        method: &Method,
        path: &str,
        called: Called<'_>,
    ) -> Result<&Arc<Route>, Refusal<'_>> {
        let refuse = |route, why| Refusal { route, why };
        let function = call::function(called.query, called.form)
            .map_err(|problem| refuse(None, Why::Query(problem)))?;
        let Some(function) = function else {
            let why = match calls.opens(method, path) {
                true => Why::Unnamed,
                false => Why::NoFunction,
            };
            return Err(refuse(None, why));
        };
        if let Some(denied) = calls.denied(&function) {
            return Err(refuse(self.routes.get(denied), Why::DenyRoute));
        }
        let route = match calls.find(method, path, &function) {
            Found::Route(number) => self.routes.get(number),
            Found::OtherMethod => {
                let methods = calls.methods(path, &function);
                return Err(refuse(None, Why::Method(methods)));
            }
            Found::Nothing => None,
        };
        route.ok_or_else(|| refuse(None, Why::NoFunction))
    }

    /// What no template knows for any method may still belong to the LMS's API.
    fn fallback(&self, path: &str) -> Option<&Arc<Route>> {
        let prefix = self.catalogue.fallback()?.prefix;
        let start = path.get(..prefix.len())?;
        self.fallback
            .as_ref()
            .filter(|_| start.eq_ignore_ascii_case(prefix))
    }

    /// Whether an explicit route names a path that is refused otherwise.
    fn is_named(&self, sensitive: usize, route: Option<&Arc<Route>>) -> bool {
        let own = route.and_then(|route| route.parsed.as_ref());
        let sensitive = self.sensitive_templates.get(sensitive);
        own.zip(sensitive)
            .is_some_and(|(own, sensitive)| own.names(sensitive))
    }

    /// What the path is, where functions are called.
    fn place(&self, path: &str) -> Place {
        match &self.calls {
            None => Place::Other,
            Some(_) => CanonicalPath::parse(path, self.catalogue.server())
                .map_or(Place::Other, |path| call::place(&path)),
        }
    }

    /// What becomes of requests that it does not allow.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The allowlist as the AS is to be asked for it: wildcards of `url:` scopes expanded over the
    /// scopes of all routes, scopes that never go to the AS (`dap:…`) left out, and those that only routes with a
    /// credential of their own use.
    #[must_use]
    pub fn scopes_to_ask(&self) -> &ScopeSet {
        &self.ask
    }

    /// The credentials that routes name for themselves, in the order in which they first do.
    #[must_use]
    pub fn route_credentials(&self) -> &[RouteCredential] {
        &self.route_credentials
    }

    /// Checks that [`scopes_to_ask`](Self::scopes_to_ask) fits where it is going; to be called where it
    /// is sent as a whole, which only the grant can tell.
    ///
    /// # Errors
    ///
    /// [`PolicyProblemKind::AskTooLong`] over [`MAX_ASK`] bytes on Canvas.
    pub fn check_ask(&self) -> Result<(), PolicyProblem> {
        let bytes = self.ask.to_string().len();
        if self.catalogue != Catalogue::Canvas || bytes <= MAX_ASK {
            return Ok(());
        }
        Err(PolicyProblem {
            route: None,
            kind: PolicyProblemKind::AskTooLong {
                bytes,
                groups: ask::bytes_by_group(&self.ask),
            },
        })
    }

    /// The labels of all routes by [`Route::label_index`].
    #[must_use]
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// How many of [`labels`](Self::labels), from the first, are of explicit routes.
    #[must_use]
    pub fn explicit_labels(&self) -> usize {
        self.explicit_labels
    }
}

/// The target with the parameters cut out that are not the application's to send.
fn screen_query(
    target: &PathAndQuery,
    path: &str,
    query: &str,
    removed: Parameters,
    allowed: Parameters,
) -> Result<PathAndQuery, QueryProblem> {
    match query::check(query, removed, allowed)? {
        None => Ok(target.clone()),
        Some(rest) => {
            let rest = if rest.is_empty() {
                path.to_owned()
            } else {
                format!("{path}?{rest}")
            };
            rest.try_into().map_err(|_| QueryProblem::RawByte)
        }
    }
}

impl Permit {
    /// The route that allows it.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Exactly the bytes that were matched and may be sent.
    #[must_use]
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The name of the parameter that a token goes into, where it is not the usual one.
    #[must_use]
    pub const fn token_parameter(&self) -> Option<&'static str> {
        self.token_parameter
    }

    /// What enforcing would have said, where report mode lets the request through.
    #[must_use]
    pub fn reported(&self) -> Option<&Denial> {
        self.reported.as_ref().map(|reported| &reported.denial)
    }

    /// The smallest scope set a token for this request needs (of `any_scope`, the first that the
    /// allowlist covers). Scopes that never go to the AS are not in it. Of a reported request: all that its credential
    /// asks for, and never what the allowlist lacks.
    #[must_use]
    pub fn needed(&self) -> &ScopeSet {
        match &self.reported {
            None => &self.route.grant.needed,
            Some(reported) => &reported.needed,
        }
    }

    /// Checks what the AS really granted. In report mode the LMS decides: then the denial is only to be noted.
    ///
    /// # Errors
    ///
    /// `insufficient_scope`, naming what the granted scopes lack.
    pub fn check_granted(&self, granted: &ScopeSet) -> Result<Option<Denial>, Denial> {
        if self.reported.is_some() {
            return Ok(None);
        }
        let missing = self.route.grant.missing(granted);
        if missing.is_empty() {
            return Ok(None);
        }
        let denial = Denial::from(Refusal {
            route: Some(&self.route),
            why: Why::NotGranted(missing),
        });
        match self.mode {
            Mode::Enforce => Err(denial),
            Mode::Report => Ok(Some(denial)),
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Policy").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
