//! `bursar config show` and `bursar config path`.

use std::{fmt::Write, path::PathBuf};

use crate::config::{LoadOptions, Loaded, Setting, locate};

/// Every setting in force as TOML, each with its source. Secrets are not in it.
#[must_use]
pub(super) fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    let settings: Vec<_> = loaded.settings.iter().collect();
    for of_table in settings.chunk_by(|one, other| one.table == other.table) {
        if !text.is_empty() {
            text.push('\n');
        }
        for (index, setting) in of_table.iter().enumerate() {
            if index == 0 {
                push_line(&mut text, &header(&setting.table));
            }
            push_line(&mut text, &line(setting));
        }
    }
    text
}

/// Which file is read, if there is one; and where bursar looks, for people.
#[must_use]
pub(super) fn path(options: &LoadOptions) -> (Option<PathBuf>, String) {
    let candidates = locate::candidates(options);
    let hit = candidates.iter().position(locate::Candidate::is_hit);
    let mut places = String::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let state = match (&candidate.path, hit) {
            (_, Some(hit)) if index > hit => "not looked at",
            (_, Some(hit)) if index == hit => "used",
            (None, _) => "not set",
            (Some(_), _) => "does not exist",
        };
        let named = candidate
            .path
            .as_ref()
            .map(|path| format!(" ({})", path.display()))
            .unwrap_or_default();
        push_line(
            &mut places,
            &format!("  {}{named}: {state}", candidate.reason),
        );
    }
    let used = hit.and_then(|index| candidates.into_iter().nth(index)?.path);
    (used, places)
}

/// `upstreams.lms.routes[0]` is written `[[upstreams.lms.routes]]`.
fn header(table: &str) -> String {
    match table
        .strip_suffix(']')
        .and_then(|table| table.rsplit_once('['))
    {
        Some((array, _)) => format!("[[{array}]]"),
        None => format!("[{table}]"),
    }
}

fn line(setting: &Setting) -> String {
    let assignment = format!("{} = {}", setting.key, setting.value);
    format!("{assignment:<48} # {}", setting.source)
}

fn push_line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    const TEXT: &str = r#"
[credentials.lms]
client_id = "bursar"
auth_method = "client_secret_basic"
client_secret = "canary"
token_url = "https://auth.example/token"
token_params = { resource = "canary" }

[upstreams.lms]
base_url = "https://lms.example"
credential = "lms"
scopes = ["a"]
[[upstreams.lms.routes]]
name = "one"
methods = ["GET"]
path = "/one"
scopes = ["a"]
[[upstreams.lms.routes]]
name = "two"
methods = ["GET"]
path = "/two"
scopes = []
"#;

    fn shown() -> String {
        let mut options = LoadOptions::from_text("bursar.toml", TEXT);
        options.environment = vec![("BURSAR_SERVER__HEADER_TIMEOUT".to_owned(), "7s".to_owned())];
        show(&load(&options).unwrap())
    }

    #[test]
    fn every_setting_is_shown_with_its_source() {
        let shown = shown();
        let has = |key: &str, source: &str| {
            let mut lines = shown.lines();
            assert!(
                lines.any(|line| line.starts_with(key) && line.ends_with(source)),
                "{key} from {source} in\n{shown}"
            );
        };
        has(r#"listen = "127.0.0.1:8080""#, "# default");
        has(
            r#"header_timeout = "7s""#,
            "# BURSAR_SERVER__HEADER_TIMEOUT",
        );
        has(r#"base_url = "https://lms.example""#, "# bursar.toml:10");
        has(r#"grant = "client_credentials""#, "# profile oauth2");
    }

    #[test]
    fn what_is_shown_is_toml_and_holds_no_secret() {
        let shown = shown();
        assert!(!shown.contains("canary"));
        let table: toml::Table = shown.parse().unwrap();
        let routes = &table["upstreams"]["lms"]["routes"];
        assert_eq!(routes.as_array().unwrap().len(), 2);
        assert_eq!(
            table["credentials"]["lms"]["client_secret"].as_str(),
            Some("[redacted]")
        );
    }

    #[test]
    fn the_path_is_told_with_its_reason() {
        let options = LoadOptions {
            file: Some(PathBuf::from("/x/bursar.toml")),
            ..LoadOptions::default()
        };
        let (used, told) = path(&options);
        assert_eq!(used, options.file);
        assert!(told.contains("--config (/x/bursar.toml): used"));
        assert!(told.contains("BURSAR_CONFIG: not looked at"));
    }

    #[test]
    fn without_any_file_every_place_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let options = LoadOptions {
            directory: Some(directory.path().to_owned()),
            environment: vec![("HOME".to_owned(), directory.path().display().to_string())],
            ..LoadOptions::default()
        };
        let (used, told) = path(&options);
        assert_eq!(used, None);
        assert_eq!(told.matches("does not exist").count(), 3);
    }
}
