//! `bursar route test`: what the policy says about one request, and why.

mod select;

use http::{Method, Uri};

use super::{Exit, output};
use crate::{
    code::Code,
    config::{Config, UpstreamConfig},
    policy::{Cover, CredentialChoice, Explanation, Origin, Policy, Requirement, Route},
    proxy::screen,
    scope::Scope,
};
use select::{NoUpstream, upstream};

pub(super) fn test(config: &Config, method: &str, url: &str) -> Exit {
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return misused(&format!("{method:?} is no method: GET, PUT and the like"));
    };
    let Ok(uri) = url.parse::<Uri>() else {
        return misused(&format!(
            "{url:?} is no URL: a path such as /d2l/api/lp/1.43/users/whoami, or https://host/path; \
             what is not ASCII must be percent-encoded"
        ));
    };
    let (upstream, policy) = match upstream(config, &uri).map(|found| (found, build(found))) {
        Ok((upstream, Ok(policy))) => (upstream, policy),
        Ok((_, Err(()))) => return Exit::Configuration,
        Err(NoUpstream::Several(names)) => {
            return misused(&format!(
                "there are {} upstreams ({}): give the whole URL",
                names.len(),
                names.join(", ")
            ));
        }
        Err(NoUpstream::Unknown(host)) => {
            let _ = output::print(&format!(
                "decision  deny: misdirected_request (421)\n\
                 why       no upstream is called {host}; see base_url and hosts of the upstreams"
            ));
            return Exit::Refused;
        }
    };
    let Some(target) = uri.path_and_query() else {
        return misused(&format!("{url:?} has no path"));
    };

    let head = format!(
        "request   {method} {}\nupstream  {} ({})\n",
        // A query may hold what must not be shown over a shoulder, and does not choose the route.
        target.path(),
        upstream.params.name,
        upstream.params.dialer.origin.authority()
    );
    // Refused before the policy is asked, and in every mode.
    if screen::is_never_forwarded(&method) {
        let code = Code::MethodNotAllowed;
        let why = denied("deny", code, screen::NEVER_FORWARDED);
        let printed = output::print(&format!("{head}{why}next      bursar explain {code}\n"));
        return Exit::worst([printed, Exit::Refused]);
    }
    let explanation = policy.explain(&method, target);
    let verdict = verdict(&explanation, &policy, &upstream.params.name);
    // What the policy says, whatever the mode: a script that asks wants to know before the mode changes.
    let exit = match &explanation.decision {
        Ok(permit) if permit.reported().is_none() => Exit::Done,
        _ => Exit::Refused,
    };
    Exit::worst([output::print(&format!("{head}{verdict}")), exit])
}

fn misused(what: &str) -> Exit {
    output::tell(&format!("bursar: {what}\n"));
    Exit::Usage
}

/// The configuration was built into a policy when it was loaded, so this does not fail.
fn build(upstream: &UpstreamConfig) -> Result<Policy, ()> {
    Policy::build(&upstream.policy).map_err(|problems| {
        for problem in problems {
            output::tell(&format!("bursar: {}\n", problem.kind));
        }
    })
}

fn verdict(explanation: &Explanation, policy: &Policy, upstream: &str) -> String {
    let mut text = String::new();
    if let Some(route) = &explanation.route {
        text.push_str(&format!(
            "route     {}  {}  ({})\n",
            route.label,
            route.template,
            from(route.origin)
        ));
        text.push_str(&needs(route, &explanation.scopes));
        if let CredentialChoice::Route(number) = route.credential
            && let Some(own) = policy.route_credentials().get(number)
        {
            text.push_str(&format!("token     of credential {}\n", own.name));
        }
    }
    let (decision, denial) = match &explanation.decision {
        Ok(permit) => ("report", permit.reported()),
        Err(denial) => ("deny", Some(denial)),
    };
    match denial {
        None => text.push_str("decision  allow\n"),
        Some(denial) => {
            text.push_str(&denied(decision, denial.code, &denial.detail));
            if explanation.decision.is_ok() {
                text.push_str(
                    "mode      would be refused in enforce; report lets it through (server.mode)\n",
                );
            }
            if denial.missing.is_empty() {
                text.push_str("next    ");
            } else {
                let missing: Vec<&str> = denial.missing.iter().map(Scope::as_str).collect();
                text.push_str(&format!(
                    "next      if the application is to have it, add to scopes of [upstreams.{upstream}]: {}\n",
                    missing.join(" ")
                ));
                text.push_str("        ");
            }
            text.push_str(&format!("  bursar explain {}\n", denial.code));
        }
    }
    text
}

fn denied(decision: &str, code: Code, why: &str) -> String {
    let status = code.status().as_u16();
    format!("decision  {decision}: {code} ({status})\nwhy       {why}\n")
}

fn from(origin: Origin) -> &'static str {
    match origin {
        Origin::Explicit => "from the configuration",
        Origin::Catalogue => "from the built-in table",
        Origin::Fallback | Origin::Unmatched => "unknown to the built-in table",
    }
}

fn needs(route: &Route, scopes: &[Cover]) -> String {
    let quantity = match &route.requirement {
        Requirement::All(_) => "needs",
        Requirement::Any(_) => "one of",
    };
    if scopes.is_empty() {
        return "needs     no scope\n".to_owned();
    }
    let rows: Vec<Vec<String>> = scopes
        .iter()
        .enumerate()
        .map(|(index, cover)| {
            let label = if index == 0 { quantity } else { "" };
            vec![
                format!("{label:8}"),
                cover.required.to_string(),
                covered(cover),
            ]
        })
        .collect();
    output::columns(&rows)
}

fn covered(cover: &Cover) -> String {
    let list = |scopes: &[Scope]| {
        let scopes: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        scopes.join(" ")
    };
    if cover.missing.is_empty() {
        format!("covered by {}", list(&cover.by))
    } else {
        format!("missing: {}", list(&cover.missing))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        policy::{Catalogue, Mode, PolicySpec},
        scope::ScopeSet,
    };

    use super::*;

    fn verdict_on(method: &str, target: &str) -> String {
        verdict_in(Mode::Enforce, method, target)
    }

    fn verdict_in(mode: Mode, method: &str, target: &str) -> String {
        let policy = Policy::build(&PolicySpec {
            mode,
            catalogue: Catalogue::Brightspace,
            cut_out: Vec::new(),
            allowlist: ScopeSet::parse("users:*:read").unwrap(),
            calls_functions: false,
            routes: Vec::new(),
        })
        .unwrap();
        let method = method.parse().unwrap();
        let explanation = policy.explain(&method, &target.parse().unwrap());
        verdict(&explanation, &policy, "lms")
    }

    #[test]
    fn an_allowed_request_says_which_scope_covers_it() {
        let text = verdict_on("GET", "/d2l/api/lp/1.43/users/17");
        assert!(text.contains("(from the built-in table)"), "{text}");
        assert!(
            text.contains("needs     users:userdata:read  covered by users:*:read\n"),
            "{text}"
        );
        assert!(text.ends_with("decision  allow\n"), "{text}");
    }

    #[test]
    fn a_denied_request_says_what_is_missing_and_what_to_do() {
        let text = verdict_on("DELETE", "/d2l/api/lp/1.43/users/17");
        assert!(
            text.contains("needs     users:userdata:delete  missing: users:userdata:delete\n"),
            "{text}"
        );
        assert!(
            text.contains("decision  deny: insufficient_scope (403)\n"),
            "{text}"
        );
        assert!(
            text.contains("add to scopes of [upstreams.lms]: users:userdata:delete\n"),
            "{text}"
        );
        assert!(text.contains("bursar explain insufficient_scope"), "{text}");
    }

    #[test]
    fn in_report_mode_it_says_what_enforcing_would_do() {
        for (request, code) in [
            (
                ("DELETE", "/d2l/api/lp/1.43/users/17"),
                "insufficient_scope",
            ),
            (("GET", "/admin"), "route_denied"),
        ] {
            let text = verdict_in(Mode::Report, request.0, request.1);
            assert!(
                text.contains(&format!("decision  report: {code} (403)\n")),
                "{text}"
            );
            assert!(
                text.contains("would be refused in enforce; report lets it through"),
                "{text}"
            );
        }
        let closed = verdict_in(Mode::Report, "POST", "/d2l/lp/auth/oauth2/token");
        assert!(
            closed.contains("decision  deny: route_denied (403)\n"),
            "{closed}"
        );
    }

    #[test]
    fn a_request_without_a_route_is_denied_by_default() {
        let text = verdict_on("GET", "/admin");
        assert!(
            text.starts_with("decision  deny: route_denied (403)\n"),
            "{text}"
        );
    }
}
