//! `bursar status`: what the running bursar says of itself.

use std::time::Duration;

use serde_json::Value;

use super::{
    Exit, Surroundings, admin_client,
    output::{self, Format, Paint},
};
use crate::{
    causes::with_causes,
    clock::{Clock as _, SystemClock},
    scope::{Scope, ScopeSet},
    socket::Address,
};

pub(super) fn run(control: &Address, format: Format, surroundings: &Surroundings) -> Exit {
    let answer = match admin_client::get(control.clone(), "/api/v1/status") {
        Ok(answer) => answer,
        Err(error) => {
            output::tell(&format!(
                "bursar: {}\nIs it running? `bursar run` starts it; the address is admin.control.\n",
                with_causes(&error)
            ));
            return Exit::Failed;
        }
    };
    let status = serde_json::from_slice::<Value>(&answer.body);
    let (true, Ok(status)) = (answer.status.is_success(), status) else {
        output::tell(&format!(
            "bursar: {control} answers {} and no status. Is admin.control the address of another program?\n",
            answer.status
        ));
        return Exit::Failed;
    };
    match format {
        Format::Json => output::print_json(&status),
        Format::Table => {
            let now = SystemClock.now().wall.as_secs_f64();
            output::print(&table(&status, now, surroundings.paint_on_stdout()))
        }
    }
}

/// `now`: Unix seconds.
fn table(status: &Value, now: f64, paint: Paint) -> String {
    let mut text = headline(status, now, paint);
    let refused = &status["reload_refused"];
    if let Some(reason) = refused["reason"].as_str() {
        text.push_str(&format!("last reload: {reason}\n"));
        for problem in items(refused, "problems").filter_map(Value::as_str) {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    for check in items(status, "checks") {
        if let Some(reason) = check["failure"].as_str() {
            text.push_str(&format!("not ready ({}): {reason}\n", word(check, "name")));
        }
    }

    let mut rows = vec![cells(["UPSTREAM", "BASE URL", "CREDENTIAL"])];
    rows.extend(items(status, "upstreams").map(|upstream| {
        let of_routes = items(upstream, "route_credentials").filter_map(Value::as_str);
        let credentials: Vec<&str> = std::iter::once(word(upstream, "credential"))
            .chain(of_routes)
            .collect();
        cells([
            word(upstream, "name"),
            word(upstream, "base_url"),
            &credentials.join(" "),
        ])
    }));
    text.push('\n');
    text.push_str(&output::columns(&rows));
    for upstream in items(status, "upstreams").filter(|upstream| upstream["mode"] == "report") {
        text.push_str(&format!(
            "{}: report mode (server.mode): requests without a route or without their scopes are let through\n",
            word(upstream, "name")
        ));
    }

    let mut rows = vec![cells([
        "CREDENTIAL",
        "STATE",
        "USABLE",
        "EXPIRES IN",
        "NEXT REQUEST",
        "FAILURES",
        "SCOPES",
    ])];
    rows.extend(items(status, "tokens").map(|token| token_row(token, now)));
    text.push('\n');
    text.push_str(&output::columns(&rows));
    for token in items(status, "tokens") {
        let credential = whose(token);
        let missing = not_granted(token);
        if !missing.is_empty() {
            text.push_str(&format!(
                "{credential}: not granted, so routes that need it are refused: {}\n",
                missing.join(" ")
            ));
        }
        if let Some(failure) = token["last_failure"].as_str() {
            text.push_str(&format!(
                "{credential}: last failure: {failure}; `bursar check` tells more\n"
            ));
        }
    }
    text
}

fn headline(status: &Value, now: f64, paint: Paint) -> String {
    let ready = if status["ready"].as_bool() == Some(true) {
        paint.green("ready")
    } else {
        paint.red("not ready")
    };
    let up = status["started_at"]
        .as_f64()
        .map_or_else(String::new, |started| {
            format!("   up {}", seconds(now - started))
        });
    let config = status["config_path"]
        .as_str()
        .map_or_else(String::new, |path| format!("   config {path}"));
    format!(
        "bursar {}   {}, {ready}{up}{config}\n",
        word(status, "version"),
        word(status, "phase")
    )
}

fn token_row(token: &Value, now: f64) -> Vec<String> {
    let usable = if token["usable"].as_bool() == Some(true) {
        "yes"
    } else {
        "no"
    };
    let expires = token["expires_at"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), |at| seconds(at - now));
    let next = token["next_request_in_seconds"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), seconds);
    let asked = items(token, "scopes_asked").count();
    let scopes = match not_granted(token).len() {
        0 => asked.to_string(),
        missing => format!("{} of {asked} granted", asked.saturating_sub(missing)),
    };
    let failures = token["consecutive_failures"].to_string();
    cells([
        &whose(token),
        word(token, "state"),
        usable,
        &expires,
        &next,
        &failures,
        &scopes,
    ])
}

/// The credential, and of how many people a row speaks where each has a token.
fn whose(token: &Value) -> String {
    let credential = word(token, "credential");
    match token["people"].as_u64() {
        None => credential.to_owned(),
        Some(1) => format!("{credential} (1 person)"),
        Some(people) => format!("{credential} ({people} people)"),
    }
}

/// The scopes that were asked for and that those granted do not cover. What was granted is only said where it is less.
fn not_granted(token: &Value) -> Vec<&str> {
    if token["scopes_granted"].is_null() {
        return Vec::new();
    }
    let granted: ScopeSet = items(token, "scopes_granted").filter_map(scope).collect();
    items(token, "scopes_asked")
        .filter(|asked| scope(asked).is_none_or(|asked| !granted.covers(&asked)))
        .filter_map(Value::as_str)
        .collect()
}

fn scope(value: &Value) -> Option<Scope> {
    Scope::parse(value.as_str()?).ok()
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// Whole seconds are enough for people; what has passed is zero.
fn seconds(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(whole.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_how_long_each_token_lives() {
        let status = serde_json::json!({
            "version": "0.1.0", "phase": "serving", "ready": false, "started_at": 1000.0,
            "config_path": "bursar.toml",
            "checks": [{"name": "listeners", "failure": null},
                       {"name": "first_token", "failure": "not every token has been received yet"}],
            "reload_refused": {"at": 1100.0, "reason": "the old one stays", "problems": ["BUR1004 bursar.toml:2: x: unknown key"]},
            "upstreams": [{"name": "lms", "base_url": "https://lms.example.edu", "credential": "d2l", "route_credentials": ["writer"], "mode": "report"}],
            "tokens": [{
                "credential": "d2l", "state": "failing", "usable": true, "expires_at": 4725.0,
                "next_request_in_seconds": 12.4, "consecutive_failures": 2,
                "scopes_asked": ["a:b:c", "d:e:f,g"], "scopes_granted": ["a:b:c", "d:e:f"],
                "last_failure": "no answer within 10s",
            }],
        });
        assert_eq!(
            table(&status, 1125.0, Paint { is_on: false }),
            "\
bursar 0.1.0   serving, not ready   up 2m 5s   config bursar.toml
last reload: the old one stays
  BUR1004 bursar.toml:2: x: unknown key
not ready (first_token): not every token has been received yet

UPSTREAM  BASE URL                 CREDENTIAL
lms       https://lms.example.edu  d2l writer
lms: report mode (server.mode): requests without a route or without their scopes are let through

CREDENTIAL  STATE    USABLE  EXPIRES IN  NEXT REQUEST  FAILURES  SCOPES
d2l         failing  yes     1h          12s           2         1 of 2 granted
d2l: not granted, so routes that need it are refused: d:e:f,g
d2l: last failure: no answer within 10s; `bursar check` tells more
"
        );
    }

    #[test]
    fn a_row_that_speaks_of_people_says_of_how_many() {
        let status = serde_json::json!({"tokens": [
            {"credential": "portal", "people": 2000, "last_failure": "a login is needed: nobody has logged in yet"},
        ]});
        let text = table(&status, 0.0, Paint { is_on: false });
        assert_eq!(text.matches("portal (2000 people)").count(), 2, "{text}");
    }

    #[test]
    fn a_status_of_another_version_is_shown_as_far_as_it_goes() {
        let text = table(
            &serde_json::json!({"tokens": [{}]}),
            0.0,
            Paint { is_on: false },
        );
        assert!(text.contains("CREDENTIAL"));
    }
}
