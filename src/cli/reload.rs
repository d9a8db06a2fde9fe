//! `bursar reload`: has the running bursar read its configuration again.

use http::StatusCode;
use serde_json::Value;

use super::{
    Exit, Surroundings, admin_client,
    output::{self, Format, Paint},
};
use crate::{causes::with_causes, secret::AccessKeys, socket::Address};

/// `control` and `keys`: of the configuration as it is now, where the running bursar should be found.
pub(super) fn run(
    control: &Address,
    keys: Option<&AccessKeys>,
    format: Format,
    surroundings: &Surroundings,
) -> Exit {
    let answer = match admin_client::post(control.clone(), "/-/reload", keys) {
        Ok(answer) => answer,
        Err(error) => {
            output::tell(&format!(
                "bursar: {}\nIs it running, and has admin.control changed since? A running bursar also reads its configuration again on SIGHUP.\n",
                with_causes(&error)
            ));
            return Exit::Temporary;
        }
    };
    let document = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    match (answer.status, format) {
        (StatusCode::OK, Format::Json) => output::print_json(&document),
        (StatusCode::OK, Format::Table) => output::print(&changes(&document)),
        (StatusCode::NOT_FOUND, _) => {
            output::tell(&format!(
                "bursar: {control} takes no order from here. It needs the key of admin.control_key_file (on a Unix socket: our own user, or root), and a bursar that was \
                 started without one takes none until its configuration names one and it gets a SIGHUP.\n"
            ));
            Exit::Failed
        }
        (_, Format::Json) if document.is_object() => {
            // What stands against it is data too; the exit code says that it failed.
            output::print_json(&document);
            Exit::Failed
        }
        (status, _) => {
            let refusal = refusal(&document, surroundings.paint_on_stderr());
            output::tell(&refusal.unwrap_or_else(|| {
                format!("bursar: {control} answers {status}. Is admin.control the address of another program?\n")
            }));
            Exit::Failed
        }
    }
}

fn changes(document: &Value) -> String {
    let hash = document["hash"].as_str().unwrap_or("-");
    let mut text = format!("in force: configuration {hash}\n");
    let mut is_same = true;
    let mut line = |what: &str, names: &Value| {
        let names: Vec<&str> = names
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !names.is_empty() {
            is_same = false;
            text.push_str(&format!("{what}: {}\n", names.join(" ")));
        }
    };
    for section in ["upstreams", "credentials"] {
        let found = &document[section];
        line(&format!("{section} added"), &found["added"]);
        line(&format!("{section} removed"), &found["removed"]);
        line(&format!("{section} changed"), &found["changed"]);
    }
    line("settings changed", &document["settings"]);
    if is_same {
        text.push_str("nothing differs from before\n");
    }
    text
}

/// `None` when it is not one.
fn refusal(document: &Value, paint: Paint) -> Option<String> {
    let detail = document["detail"].as_str()?;
    let mut text = format!("{}: {detail}\n", paint.red("not reloaded"));
    for problem in document["problems"].as_array().into_iter().flatten() {
        let word = |name: &str| problem[name].as_str().unwrap_or_default();
        let (code, place, key) = (word("code"), word("place"), word("key"));
        let colon = if key.is_empty() { "" } else { ": " };
        text.push_str(&format!("\n{code} {place}: {key}{colon}{}\n", word("what")));
        text.push_str(&format!("  help: {}\n", word("help")));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_told_and_what_did_not_is_not() {
        let document = json!({
            "hash": "c0ffee",
            "upstreams": {"added": ["dap"], "removed": [], "changed": ["lms", "other"]},
            "credentials": {"added": [], "removed": [], "changed": []},
            "settings": ["server.idle_timeout"],
        });
        assert_eq!(
            changes(&document),
            "in force: configuration c0ffee\nupstreams added: dap\nupstreams changed: lms other\n\
             settings changed: server.idle_timeout\n"
        );
        let same = changes(&json!({"hash": "c0ffee"}));
        assert!(same.ends_with("nothing differs from before\n"));
    }

    #[test]
    fn a_refusal_is_told_with_each_problem_and_its_remedy() {
        let document = json!({
            "detail": "the old one stays",
            "problems": [
                {"code": "BUR1004", "key": "server.lisen", "place": "bursar.toml:2", "what": "unknown key", "help": "did you mean `listen`?"},
                {"code": "BUR1002", "key": "", "place": "configuration", "what": "cannot read it", "help": "look"},
            ],
        });
        assert_eq!(
            refusal(&document, Paint { is_on: false }).unwrap(),
            "not reloaded: the old one stays\n\nBUR1004 bursar.toml:2: server.lisen: unknown key\n  help: did you mean `listen`?\n\
             \nBUR1002 configuration: cannot read it\n  help: look\n"
        );
        assert!(refusal(&Value::Null, Paint { is_on: false }).is_none());
    }
}
