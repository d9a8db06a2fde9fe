//! `[upstreams.NAME]`.

use std::sync::Arc;

use super::{
    Claims, Files, asks, bad_name,
    credential::Draft,
    is_name,
    listener::{self, Reach},
    mutual_tls, outbound, route,
    scopes::{self, Dialect},
};
use crate::{
    config::{
        UpstreamConfig,
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault,
            address::BaseUrl,
            quantity::{Connections, Timeout},
            request::Scopes,
            word::Profile,
        },
    },
    dial::Dialer,
    policy::{Catalogue, Mode, Policy, PolicyProblem, PolicyProblemKind, PolicySpec, RouteSpec},
    proxy::{HostName, Http2, UpstreamParams},
    scope::ScopeSet,
    socket::Address,
};

/// What the upstreams share with each other and with the rest.
pub(super) struct Shared<'a> {
    pub(super) files: &'a mut Files,
    pub(super) claims: &'a mut Claims,
    pub(super) reach: Reach,
    /// `server.mode`.
    pub(super) mode: Mode,
    /// `[credentials.*]`.
    pub(super) credentials: &'a [Draft],
}

pub(super) fn upstream(
    reader: &mut Reader,
    shared: Shared<'_>,
    name: &str,
    table: &Table,
) -> Option<UpstreamConfig> {
    let Shared {
        files,
        claims,
        reach,
        mode,
        credentials,
    } = shared;
    if !is_name(name) {
        reader.fault_at_table(table, "", bad_name(name));
    }
    let credential = asks::named(reader, credentials, table);
    let dialer = dialer(reader, files, claims, table);
    let listen = listen(reader, claims, table, reach);
    let hosts = hosts(reader, claims, table);
    let catalogue = reader.get::<Catalogue>(table, "catalogue");
    let policy = policy(reader, table, mode, credentials, catalogue, credential);
    let asking = asks::asking(reader, table, credential);

    let response_timeout = reader.get::<Timeout>(table, "response_timeout");
    let idle_timeout = reader.get::<Timeout>(table, "idle_timeout");
    let pool_idle_timeout = reader.get::<Timeout>(table, "pool_idle_timeout");
    let max_connections = reader.get::<Connections>(table, "max_connections");
    let http2 = reader.get::<Http2>(table, "http2");
    let cookies = reader.get(table, "cookies");
    let pace = reader.get(table, "pace");

    let (spec, policy) = policy?;
    if http2 == Some(Http2::Only) && spec.routes.iter().any(|route| route.upgrade) {
        let fault = Fault::new(
            ProblemCode::Conflict,
            "leaves no way for a route with `upgrade = true`: a WebSocket needs HTTP/1.1",
            r#"set http2 = "auto": requests that ask for an upgrade go over HTTP/1.1 by themselves"#,
        );
        reader.fault(table, "http2", fault);
        return None;
    }
    let (asking, credential) = (asking?, credential?);
    if asking.sends_all(credential, &policy)
        && let Err(problem) = policy.check_ask()
    {
        policy_fault(reader, table, &[], &problem);
        return None;
    }
    Some(UpstreamConfig {
        params: UpstreamParams {
            name: name.into(),
            dialer: dialer?,
            hosts: hosts?,
            listen: listen?,
            response_timeout: response_timeout?.0,
            idle_timeout: idle_timeout?.0,
            pool_idle_timeout: pool_idle_timeout?.0,
            max_connections: max_connections?.0,
            http2: http2?,
            cookies: cookies?,
            catalogue: catalogue?,
            pace: pace?,
        },
        policy: spec,
        tokens: asking.of(credential, policy.scopes_to_ask())?,
        route_tokens: asking.of_routes(credentials, &policy)?,
    })
}

fn dialer(
    reader: &mut Reader,
    files: &mut Files,
    claims: &mut Claims,
    table: &Table,
) -> Option<Dialer> {
    let timeout = reader.get::<Timeout>(table, "connect_timeout");
    let proxy = outbound::http_proxy(reader, table);
    let allow_plain_http = reader.get::<bool>(table, "allow_plain_http");
    let base = reader.require::<BaseUrl>(
        table,
        "base_url",
        r#"set it to the origin of the LMS, as in "https://school.example""#,
    );
    let Some(base) = base else {
        // Whether these have a meaning hangs on the scheme.
        let _ = reader.get::<bool>(table, "ca_only");
        let _ = mutual_tls::tls(reader, files, table, false);
        return None;
    };
    claims.origin(table, &base);
    if !base.origin.tls {
        if !base.is_loopback && allow_plain_http == Some(false) {
            let fault = Fault::new(
                ProblemCode::PlainHttp,
                "would send the token unencrypted",
                "write https://; in a network that you trust, `allow_plain_http = true` lifts this for the upstream",
            );
            reader.fault(table, "base_url", fault);
            return None;
        }
        let proxy = proxy?;
        if allow_plain_http == Some(false) {
            outbound::keeps_plain_http_here(reader, table, &base.origin, proxy.as_deref())?;
        }
        return Some(Dialer {
            origin: base.origin,
            tls: None,
            timeout: timeout?.0,
            way: proxy.into(),
        });
    }
    let ca_only = reader.get::<bool>(table, "ca_only");
    if ca_only == Some(true) && !table.has("ca_file") {
        reader.missing(table, "ca_file", "name the roots that `ca_only` leaves");
        return None;
    }
    let tls = mutual_tls::tls(reader, files, table, ca_only?)?;
    Some(Dialer {
        origin: base.origin,
        tls: Some(tls),
        timeout: timeout?.0,
        way: proxy?.into(),
    })
}

/// The outer `None`: a problem was noted.
#[expect(
    clippy::option_option,
    reason = "absent and invalid are different here, and the inner one is the parameter"
)]
fn listen(
    reader: &mut Reader,
    claims: &mut Claims,
    table: &Table,
    reach: Reach,
) -> Option<Option<Address>> {
    if !table.has("listen") {
        return Some(None);
    }
    listener::proxy(reader, claims, table, "listen", reach).map(Some)
}

fn hosts(reader: &mut Reader, claims: &mut Claims, table: &Table) -> Option<Vec<HostName>> {
    let hosts = reader.get::<Vec<HostName>>(table, "hosts")?;
    for host in &hosts {
        claims.name(table, "hosts", host.clone());
    }
    Some(hosts)
}

fn policy(
    reader: &mut Reader,
    table: &Table,
    mode: Mode,
    credentials: &[Draft],
    catalogue: Option<Catalogue>,
    credential: Option<&Draft>,
) -> Option<(PolicySpec, Policy)> {
    let profile = credential.and_then(|credential| credential.profile);
    let dialect = Dialect::of(catalogue.unwrap_or_default(), profile);
    let mut is_sound = catalogue.is_some();
    let scopes = reader.get::<Scopes>(table, "scopes");
    if let Some(scopes) = &scopes {
        scopes::check_allowlist(reader, table, &scopes.0, dialect);
    }
    is_sound &= scopes.is_some();
    let allowlist = scopes.map(|scopes| scopes.0.into_iter().collect::<ScopeSet>());

    let upstream = route::Upstream {
        credentials,
        profile,
        dialect,
    };
    let mut routes = Vec::new();
    let mut tables = Vec::new();
    let mut names = Vec::new();
    for item in reader.items(table, "routes") {
        let route = match route::route(reader, &item, upstream, &names) {
            route::Draft::Sound(route) => route,
            route::Draft::Faulty(route) => {
                is_sound = false;
                route
            }
            route::Draft::Useless => {
                is_sound = false;
                continue;
            }
        };
        if let Some(allowlist) = &allowlist {
            route::warn_uncovered(reader, &item, &route, allowlist);
        }
        names.push(Arc::clone(&route.name));
        routes.push(route);
        tables.push(item);
    }
    let has_routes = !routes.is_empty() || table.has("routes");
    if catalogue == Some(Catalogue::None) && !has_routes {
        let fault = Fault::new(
            ProblemCode::NothingAllowed,
            "allows nothing: it has no catalogue and no routes",
            format!(
                r#"set catalogue = "brightspace", "canvas" or "dap", or add [[{}]]"#,
                table.key("routes")
            ),
        );
        reader.fault_at_table(table, "", fault);
        return None;
    }

    // Also where something is wrong already: the paths are checked all the same.
    let spec = PolicySpec {
        mode,
        catalogue: catalogue.unwrap_or_default(),
        cut_out: cut_out(credential, credentials, &routes),
        allowlist: allowlist.unwrap_or_default(),
        calls_functions: profile == Some(Profile::Moodle),
        routes,
    };
    match Policy::build(&spec) {
        Ok(policy) => is_sound.then_some((spec, policy)),
        Err(problems) => {
            for problem in &problems {
                policy_fault(reader, table, &tables, problem);
            }
            None
        }
    }
}

/// What the applications of its credentials would send by themselves.
fn cut_out(
    credential: Option<&Draft>,
    credentials: &[Draft],
    routes: &[RouteSpec],
) -> Vec<&'static str> {
    let of_routes = credentials.iter().filter(|draft| {
        let mut named = routes
            .iter()
            .filter_map(|route| route.credential.as_deref());
        named.any(|name| name == draft.name)
    });
    let used = credential.into_iter().chain(of_routes);
    used.flat_map(Draft::query_parameters).copied().collect()
}

/// Gives a problem of the policy the place of the route that it speaks of.
fn policy_fault(reader: &mut Reader, upstream: &Table, routes: &[Table], problem: &PolicyProblem) {
    let what = problem.kind.to_string();
    let route = problem.route.and_then(|index| routes.get(index));
    let Some(route) = route else {
        let fault = Fault::new(
            ProblemCode::InvalidPolicy,
            what,
            "narrow the allowlist, or change the routes",
        );
        reader.fault(upstream, "scopes", fault);
        return;
    };
    if let Some(help) = functions_help(&problem.kind) {
        let fault = Fault::new(ProblemCode::InvalidPolicy, what, help);
        reader.fault(route, "functions", fault);
        return;
    }
    let fault = if let PolicyProblemKind::Template(_) = problem.kind {
        Fault::new(
            ProblemCode::InvalidPath,
            what,
            "write a whole path of the LMS, as in \"/api/{version}/users/{userId}\"; {*rest} at the end takes the tail",
        )
    } else if let PolicyProblemKind::Ambiguous { .. } = problem.kind {
        Fault::new(
            ProblemCode::AmbiguousRoutes,
            what,
            "make one of the two more specific, or remove it",
        )
    } else {
        Fault::new(ProblemCode::InvalidPolicy, what, "change the route")
    };
    reader.fault(route, "path", fault);
}

/// What to do about a problem of a route for calls.
fn functions_help(kind: &PolicyProblemKind) -> Option<&'static str> {
    match kind {
        PolicyProblemKind::NoFunctions => Some(
            r#"set profile = "moodle" of the upstream's credential, or name paths instead of functions"#,
        ),
        PolicyProblemKind::FunctionsPath => Some(
            r#"remove `path`, or write it with Moodle's directory before it, as in "/moodle/webservice/rest/server.php""#,
        ),
        PolicyProblemKind::FunctionsMethod => Some("remove `methods`, or leave GET and POST in it"),
        PolicyProblemKind::FunctionName(_) => Some(
            r#"write the names that Moodle lists under Site administration > Server > Web services, as in "core_course_get_courses""#,
        ),
        _ => None,
    }
}
