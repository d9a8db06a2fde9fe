//! Settings that a running bursar cannot take over: its sockets are bound, its threads run.

use super::{
    problem::{Place, Problem, ProblemCode},
    schema,
    settings::{Setting, SettingSource, Settings},
};

/// What stands between a running bursar and the settings `next`.
#[must_use]
pub fn needed(running: &Settings, next: &Settings) -> Vec<Problem> {
    let value = |settings: &Settings, like: &Setting| {
        let mut list = settings.iter();
        list.find(|other| other.key == like.key && other.table == like.table)
            .map(|found| found.value.clone())
    };
    let fixed = |setting: &&Setting| schema::needs_restart(setting.rank);
    let changed = next.iter().filter(fixed).filter_map(|setting| {
        let running = value(running, setting);
        (running.as_ref() != Some(&setting.value)).then(|| {
            let place = place(&setting.source);
            problem(setting, place, running.as_deref(), Some(&setting.value))
        })
    });
    let removed = running.iter().filter(fixed).filter_map(|setting| {
        let is_gone = value(next, setting).is_none();
        is_gone.then(|| problem(setting, Place::Nowhere, Some(&setting.value), None))
    });
    changed.chain(removed).collect()
}

fn problem(setting: &Setting, place: Place, running: Option<&str>, next: Option<&str>) -> Problem {
    let or_unset = |value: Option<&str>| value.unwrap_or("not set").to_owned();
    Problem::new(
        ProblemCode::NeedsRestart,
        setting.path(),
        place,
        format!(
            "is {} here, and {} in the running bursar",
            or_unset(next),
            or_unset(running)
        ),
        "restart bursar to change it, or set it back; nothing of this configuration is in force until then",
    )
}

fn place(source: &SettingSource) -> Place {
    match source {
        SettingSource::File { name, line } => Place::Line {
            name: name.clone(),
            line: *line,
        },
        SettingSource::Variable(name) => Place::Variable(name.clone()),
        SettingSource::Derived(_) | SettingSource::Default => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load};

    fn settings(server: &str, upstream: &str) -> Settings {
        let text = format!(
            r#"
server.drain_timeout = "1s"
{server}
[credentials.fixed]
grant = "static"
token = "abc"
[upstreams.lms]
base_url = "https://lms.example.edu"
credential = "fixed"
catalogue = "brightspace"
{upstream}
"#
        );
        let loaded = load(&LoadOptions::from_text("bursar.toml", text));
        loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .settings
    }

    #[test]
    fn a_changed_listener_is_named_with_its_place_and_both_values() {
        let running = settings("", "");
        let next = settings(r#"server.listen = "127.0.0.1:9000""#, "");
        let problems = needed(&running, &next);
        assert_eq!(problems.len(), 1);
        assert_eq!(
            problems[0].to_string(),
            "BUR1013 bursar.toml:3: server.listen: is \"127.0.0.1:9000\" here, and \"127.0.0.1:8080\" in the running bursar"
        );
        assert!(problems[0].help().contains("restart"));
    }

    #[test]
    fn a_listener_that_comes_or_goes_is_a_change_too() {
        let (without, with) = (
            settings("", ""),
            settings("", r#"listen = "127.0.0.1:8082""#),
        );
        let comes = needed(&without, &with);
        assert!(
            comes[0]
                .to_string()
                .contains("not set in the running bursar")
        );
        let goes = needed(&with, &without);
        assert_eq!(goes[0].key(), "upstreams.lms.listen");
        assert!(goes[0].to_string().contains("is not set here"));
    }

    #[test]
    fn what_can_be_taken_over_needs_no_restart() {
        let next = settings(
            r#"server.header_timeout = "3s""#,
            r#"scopes = ["users:userdata:read"]"#,
        );
        assert!(needed(&settings("", ""), &next).is_empty());
    }
}
