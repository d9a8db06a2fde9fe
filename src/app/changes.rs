//! What differs between the configuration in force and the next one.

use std::sync::Arc;

use crate::{
    admin::{Admin, Changes, Reloaded},
    config::{Loaded, Settings},
    proxy::Proxy,
    secret::AccessKeys,
    token::Credential,
};

/// In names; the hash is left empty.
pub(super) fn between(
    settings: &Settings,
    credentials: &[Arc<Credential>],
    proxy: &Proxy,
    admin: &Admin,
    next: &Loaded,
) -> Reloaded {
    let differences = settings.differences(&next.settings);
    let is_touched = |section: &str, name: &str| {
        let table = format!("{section}.{name}");
        differences.iter().any(|key| {
            let rest = key.strip_prefix(&table);
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    };

    let before = credentials.iter().map(|credential| &*credential.name);
    let after = next.config.credentials.iter();
    let credentials = changes(before, after.map(|credential| &*credential.name), |name| {
        let named = |credential: &&Arc<Credential>| *credential.name == *name;
        let former = credentials.iter().find(named);
        // Secrets and keys are in no setting.
        let is_other = former != next.config.credentials.iter().find(named);
        is_other || is_touched("credentials", name)
    });

    let before = proxy.upstreams.iter().map(|upstream| &upstream.params);
    let after = || {
        next.config
            .upstreams
            .iter()
            .map(|upstream| &upstream.params)
    };
    let upstreams = changes(
        before.clone().map(|params| &*params.name),
        after().map(|params| &*params.name),
        |name| {
            let former = before.clone().find(|params| *params.name == *name);
            let latter = after().find(|params| *params.name == *name);
            // Nor is the content of a CA file.
            let dialer = former.map(|params| &params.dialer);
            dialer != latter.map(|params| &params.dialer) || is_touched("upstreams", name)
        },
    );

    let is_rest = |key: &String| !key.starts_with("credentials.") && !key.starts_with("upstreams.");
    let mut settings: Vec<String> = differences.into_iter().filter(is_rest).collect();
    // Nor are the keys of callers.
    let callers = (&proxy.server.caller_keys, &next.config.server.caller_keys);
    for (key, is_same) in [
        (
            "server.caller_key_file",
            AccessKeys::is_same(callers.0.as_ref(), callers.1.as_ref()),
        ),
        (
            "admin.control_key_file",
            admin.asks_for(next.config.admin.control_keys.as_ref()),
        ),
    ] {
        if !is_same && settings.iter().all(|known| known != key) {
            settings.push(key.to_owned());
        }
    }
    Reloaded {
        hash: String::new(),
        upstreams,
        credentials,
        settings,
    }
}

fn changes<'a>(
    before: impl Iterator<Item = &'a str>,
    after: impl Iterator<Item = &'a str>,
    is_changed: impl Fn(&str) -> bool,
) -> Changes {
    let before: Vec<&str> = before.collect();
    let after: Vec<&str> = after.collect();
    let names = |from: &[&str], wanted: &dyn Fn(&str) -> bool| {
        let names = from.iter().filter(|name| wanted(name));
        names.map(|name| (*name).to_owned()).collect()
    };
    Changes {
        added: names(&after, &|name| !before.contains(&name)),
        removed: names(&before, &|name| !after.contains(&name)),
        changed: names(&after, &|name| before.contains(&name) && is_changed(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_added_removed_or_changed() {
        let (before, after) = (["a", "b", "c"], ["b", "c", "d"]);
        let found = changes(before.into_iter(), after.into_iter(), |name| name == "c");
        assert_eq!(found.added, ["d"]);
        assert_eq!(found.removed, ["a"]);
        assert_eq!(found.changed, ["c"]);
    }
}
