//! `[[upstreams.NAME.routes]]`.

use std::sync::Arc;

use http::Method;

use super::{
    asks, bad_name, credential, is_name,
    scopes::{self, Dialect},
};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault, Text,
            quantity::Size,
            request::{Methods, Scopes},
            word::Profile,
        },
    },
    policy::{FUNCTIONS_METHODS, FUNCTIONS_PATH, Requirement, RouteSpec},
    scope::ScopeSet,
};

/// A route, or what is left of one with problems.
pub(super) enum Draft {
    /// Nothing was wrong with it by itself.
    Sound(RouteSpec),
    /// A problem was noted; its path is still to be checked.
    Faulty(RouteSpec),
    /// A problem was noted, and there is no path.
    Useless,
}

/// What a route hangs on beside its own table.
#[derive(Clone, Copy)]
pub(super) struct Upstream<'a> {
    /// `[credentials.*]`.
    pub(super) credentials: &'a [credential::Draft],
    /// Of its credential.
    pub(super) profile: Option<Profile>,
    pub(super) dialect: Dialect,
}

/// `others`: the names that are taken.
pub(super) fn route(
    reader: &mut Reader,
    table: &Table,
    upstream: Upstream<'_>,
    others: &[Arc<str>],
) -> Draft {
    let path = match table.has("functions") && !table.has("path") {
        true => Some(Text(FUNCTIONS_PATH.to_owned())),
        false => reader.require::<Text>(
            table,
            "path",
            r#"write a whole path of the LMS, as in "/api/{version}/users/{userId}""#,
        ),
    };
    let sound = spec(reader, table, upstream, others, path.as_ref());
    match (sound, path) {
        (Some(spec), _) => Draft::Sound(spec),
        // A closed route is ambiguous with none, so only its path can be wrong.
        (None, Some(path)) => Draft::Faulty(closed("".into(), Vec::new(), path.0, Vec::new())),
        (None, None) => Draft::Useless,
    }
}

fn closed(name: Arc<str>, methods: Vec<Method>, path: String, functions: Vec<String>) -> RouteSpec {
    RouteSpec {
        name,
        methods,
        path,
        requirement: Requirement::All(ScopeSet::default()),
        functions,
        deny: true,
        max_body: None,
        encoded_slash: false,
        upgrade: false,
        query_allow: Vec::new(),
        credential: None,
    }
}

fn spec(
    reader: &mut Reader,
    table: &Table,
    upstream: Upstream<'_>,
    others: &[Arc<str>],
    path: Option<&Text>,
) -> Option<RouteSpec> {
    let name = name(reader, table, others);
    let functions = functions(reader, table);
    let deny = reader.get::<bool>(table, "deny");
    if deny == Some(true) {
        // Nothing passes, so all that says how it passes is left unread and refused.
        let methods = reader.get::<Methods>(table, "methods");
        let methods = match methods {
            None if table.has("methods") => None,
            methods => Some(methods.map(|methods| methods.0).unwrap_or_default()),
        };
        return Some(closed(name?, methods?, path?.0.clone(), functions?));
    }

    warn_of_indirect_calls(reader, table, functions.as_deref().unwrap_or_default());
    let methods = match table.has("functions") && !table.has("methods") {
        true => Some(Methods(FUNCTIONS_METHODS.to_vec())),
        false => reader.require::<Methods>(
            table,
            "methods",
            r#"name them, as in ["GET"]; HEAD goes where GET goes"#,
        ),
    };
    let requirement = requirement(reader, table, upstream.dialect);
    let max_body = reader.get::<Size>(table, "max_body");
    let is_max_body_sound = max_body.is_some() || !table.has("max_body");
    let encoded_slash = reader.get::<bool>(table, "encoded_slash");
    let upgrade = upgrade(reader, table, methods.as_ref());
    let query_allow = reader.get::<Vec<String>>(table, "query_allow");
    let has_own = table.has("credential");
    let own = has_own
        .then(|| credential(reader, table, upstream))
        .flatten();
    let is_credential_sound = own.is_some() == has_own;

    if !(is_max_body_sound && is_credential_sound) {
        return None;
    }
    Some(RouteSpec {
        name: name?,
        methods: methods?.0,
        path: path?.0.clone(),
        functions: functions?,
        requirement: requirement?,
        deny: deny?,
        max_body: max_body.map(|size| size.0),
        encoded_slash: encoded_slash?,
        upgrade: upgrade?,
        query_allow: query_allow?,
        credential: own.map(|draft| draft.name.as_str().into()),
    })
}

/// The functions of a route for calls; none: it is one of a path. What they are is for the policy to say.
fn functions(reader: &mut Reader, table: &Table) -> Option<Vec<String>> {
    if !table.has("functions") {
        return Some(Vec::new());
    }
    let functions = reader.get::<Vec<String>>(table, "functions")?;
    if functions.is_empty() {
        let fault = Fault::invalid(
            "is empty, so that no call would ever match",
            r#"name the functions (wsfunction), as in ["core_course_get_courses"], or remove the route"#,
        );
        reader.fault(table, "functions", fault);
        return None;
    }
    Some(functions)
}

/// What calls other functions, whose names are in its arguments.
const INDIRECT_FUNCTION: &str = "tool_mobile_call_external_functions";

fn warn_of_indirect_calls(reader: &mut Reader, table: &Table, functions: &[String]) {
    if !functions.iter().any(|name| name == INDIRECT_FUNCTION) {
        return;
    }
    let fault = Fault::new(
        ProblemCode::IndirectFunction,
        format!(
            "{INDIRECT_FUNCTION} calls other functions, whose names bursar does not see: whoever may call it may call all that \
             the token's service has"
        ),
        "remove it, and let the application call each function by itself; or keep the service in Moodle as small as the list",
    );
    reader.fault(table, "functions", fault.warning());
}

/// A credential of its own: a token that goes into a parameter is known to Moodle alone, and Moodle knows no other.
fn credential<'a>(
    reader: &mut Reader,
    table: &Table,
    upstream: Upstream<'a>,
) -> Option<&'a credential::Draft> {
    let own = asks::named(reader, upstream.credentials, table)?;
    let is_moodle = |profile| profile == Some(Profile::Moodle);
    if is_moodle(own.profile) != is_moodle(upstream.profile) {
        let fault = Fault::new(
            ProblemCode::Conflict,
            "this credential and the upstream's are not both of the profile moodle, and their tokens travel in different places",
            "name one of the same kind, or make an upstream of its own for these routes",
        );
        reader.fault(table, "credential", fault);
        return None;
    }
    Some(own)
}

/// Whether the route allows WebSockets, which begin with a GET.
fn upgrade(reader: &mut Reader, table: &Table, methods: Option<&Methods>) -> Option<bool> {
    let upgrade = reader.get::<bool>(table, "upgrade")?;
    if upgrade && methods.is_some_and(|methods| !methods.0.contains(&Method::GET)) {
        let fault = Fault::new(
            ProblemCode::Conflict,
            "a WebSocket begins with a GET, and `methods` lacks it",
            r#"add "GET" to `methods`, or remove `upgrade`"#,
        );
        reader.fault(table, "upgrade", fault);
        return None;
    }
    Some(upgrade)
}

fn name(reader: &mut Reader, table: &Table, others: &[Arc<str>]) -> Option<Arc<str>> {
    let name = reader.require::<Text>(
        table,
        "name",
        "name the route: metrics, logs and answers speak of it",
    )?;
    if !is_name(&name.0) {
        reader.fault(table, "name", bad_name(&name.0));
        return None;
    }
    if others.iter().any(|other| **other == *name.0) {
        let fault = Fault::new(
            ProblemCode::InvalidName,
            format!("another route of this upstream is called {:?}", name.0),
            "give each route a name of its own",
        );
        reader.fault(table, "name", fault);
        return None;
    }
    Some(name.0.into())
}

fn requirement(reader: &mut Reader, table: &Table, dialect: Dialect) -> Option<Requirement> {
    let all = reader.get::<Scopes>(table, "scopes");
    let any = reader.get::<Scopes>(table, "any_scope");
    for (key, scopes) in [("scopes", &all), ("any_scope", &any)] {
        if let Some(scopes) = scopes {
            scopes::check_required(reader, table, key, &scopes.0, dialect);
        }
    }
    match (table.has("scopes"), table.has("any_scope")) {
        (true, true) => {
            let fault = Fault::new(
                ProblemCode::Conflict,
                "`scopes` is set too",
                "keep `scopes` if all are needed, `any_scope` if one is enough",
            );
            reader.fault(table, "any_scope", fault);
            None
        }
        (true, false) => Some(Requirement::All(all?.0.into_iter().collect())),
        (false, true) => {
            let any = any?.0;
            if any.is_empty() {
                let fault = Fault::new(
                    ProblemCode::InvalidScope,
                    "is empty, so no token would ever be enough",
                    "name the scopes of which one is enough; `scopes = []` says that none is needed",
                );
                reader.fault(table, "any_scope", fault);
                return None;
            }
            Some(Requirement::Any(any.into_iter().collect()))
        }
        (false, false) => {
            reader.missing(
                table,
                "scopes",
                "name the scopes that the route needs; `scopes = []` says that it needs none, `deny = true` closes it",
            );
            None
        }
    }
}

/// Warns of a route that will always answer `insufficient_scope`.
pub(super) fn warn_uncovered(
    reader: &mut Reader,
    table: &Table,
    route: &RouteSpec,
    allowlist: &ScopeSet,
) {
    let (key, missing) = match &route.requirement {
        Requirement::All(scopes) => (
            "scopes",
            scopes
                .iter()
                .filter(|scope| !allowlist.covers(scope))
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        ),
        Requirement::Any(scopes) if scopes.iter().any(|scope| allowlist.covers(scope)) => return,
        Requirement::Any(scopes) => (
            "any_scope",
            scopes.iter().map(ToString::to_string).collect(),
        ),
    };
    if missing.is_empty() {
        return;
    }
    let fault = Fault::new(
        ProblemCode::UncoveredRoute,
        format!(
            "the allowlist of the upstream does not cover {}: every request is refused",
            missing.join(", ")
        ),
        "add what is missing to `scopes` of the upstream, or remove the route",
    );
    reader.fault(table, key, fault.warning());
}
