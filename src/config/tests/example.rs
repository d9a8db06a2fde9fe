//! `config.example.toml` cannot rot: it documents every key, with the defaults that the code has.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use figment::value::{Dict, Value};

use super::{sound, write_secret};
use crate::{
    config::{
        ProblemCode,
        document::Document,
        schema::{self, KEYS, Node},
        tree::KeyPath,
        value::to_toml,
    },
    keys::{self, Algorithm, KeyStart, directory::KeyDirectory},
    secret::ExposeSecret,
};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

#[test]
fn the_example_is_sound_when_every_key_is_uncommented() {
    let directory = tempfile::tempdir().unwrap();
    let text = all_keys(directory.path());
    let loaded = sound(&text, &[]);
    assert_eq!(loaded.config.credentials.len(), 12);
    assert_eq!(loaded.config.upstreams.len(), 3);
    // Credentials that only show their keys are not used.
    for warning in &loaded.warnings {
        assert_eq!(warning.code(), ProblemCode::UnusedCredential, "{warning:?}");
    }
    assert_eq!(loaded.warnings.len(), 8);
}

#[test]
fn the_example_as_it_is_is_sound_too() {
    let directory = tempfile::tempdir().unwrap();
    all_keys(directory.path());
    let loaded = sound(&in_directory(EXAMPLE, directory.path()), &[]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_example_documents_every_key_and_no_other() {
    let mut documented = BTreeSet::new();
    leaves(&mut |pattern, _, _| {
        documented.insert(pattern.to_owned());
    });
    let known: BTreeSet<_> = KEYS.iter().map(|key| key.pattern.to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_default_in_the_example_is_the_default() {
    let mut proved = BTreeSet::new();
    leaves(&mut |pattern, line, value| {
        let key = KEYS.iter().find(|key| key.pattern == pattern).unwrap();
        let is_minimal_example = !line.starts_with('#');
        if is_minimal_example || line.contains("# e.g.") {
            return;
        }
        assert_eq!(Some(to_toml(value).as_str()), key.default, "{pattern}");
        proved.insert(pattern.to_owned());
    });
    for key in KEYS {
        // An allowlist without scopes would only be an odd example.
        let is_shown = proved.contains(key.pattern) || key.pattern == "upstreams.*.scopes";
        assert_eq!(
            is_shown,
            key.default.is_some() || key.pattern == "upstreams.*.scopes",
            "{}",
            key.pattern
        );
    }
}

/// Calls `visit` with the pattern, the line and the value of every key of the example.
fn leaves(visit: &mut dyn FnMut(&str, &str, &Value)) {
    fn walk(
        document: &Document,
        dict: &Dict,
        path: &KeyPath,
        pattern: &str,
        visit: &mut dyn FnMut(&str, &str, &Value),
    ) {
        for (name, value) in dict {
            let path = path.key(name);
            let (pattern, node) = schema::child(pattern, name)
                .unwrap_or_else(|| panic!("{path} is documented and does not exist"));
            match node {
                Node::Leaf(_) => {
                    let line = document.key(&path).and_then(|place| place.line()).unwrap();
                    visit(&pattern, EXAMPLE.lines().nth(line - 1).unwrap(), value);
                }
                Node::Table => {
                    walk(document, value.as_dict().unwrap(), &path, &pattern, visit);
                }
                Node::Tables => {
                    for (index, item) in value.as_array().unwrap().iter().enumerate() {
                        let pattern = format!("{pattern}[]");
                        let dict = item.as_dict().unwrap();
                        walk(document, dict, &path.item(index), &pattern, visit);
                    }
                }
            }
        }
    }
    let text = uncommented(EXAMPLE);
    let (document, problems) = Document::parse(String::new(), &text, "".into());
    assert!(problems.is_empty(), "{problems:?}");
    walk(&document, &document.tree, &KeyPath::default(), "", visit);
}

/// `#key = value` and `#[table]` are settings; `# text` is text.
fn uncommented(example: &str) -> String {
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting)
            if setting.starts_with(|first: char| first == '[' || first.is_ascii_lowercase()) =>
        {
            setting
        }
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn in_directory(example: &str, directory: &Path) -> String {
    let directory = directory.display();
    example
        .replace("/run/secrets", &format!("{directory}"))
        .replace("/etc/ssl", &format!("{directory}"))
}

/// The example with all its settings, and with files where it names some.
pub(super) fn all_keys(directory: &Path) -> String {
    let ec = keys::generate(Algorithm::Es256).unwrap();
    write_secret(&directory.join("d2l.pem"), ec.expose_secret());
    let rsa = keys::generate(Algorithm::Ps256).unwrap();
    write_secret(&directory.join("by-key.pem"), rsa.expose_secret());
    let keys_dir = KeyDirectory::open_or_make(&directory.join("keys")).unwrap();
    let first = keys::generate(Algorithm::EdDsa).unwrap();
    keys_dir
        .add(KeyStart::at(Duration::from_secs(1_795_774_500)), &first)
        .unwrap();
    write_secret(&directory.join("dap-secret"), "s3cret\n");
    write_secret(&directory.join("token"), "abc.def\n");
    write_secret(&directory.join("moodle-token"), "0123456789abcdef\n");
    write_secret(&directory.join("app-key"), "app-key\n");
    write_secret(&directory.join("user-key"), "user-key\n");
    write_secret(
        &directory.join("state-key"),
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    );
    write_secret(&directory.join("login-secret"), "s3cret\n");
    write_secret(&directory.join("ltiaas-key"), "s3cret\n");
    write_secret(&directory.join("control-key"), "0123456789abcdef\n");
    write_secret(&directory.join("caller-key"), "0123456789abcdef\n");
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    fs::write(directory.join("school-ca.pem"), ca.cert.pem()).unwrap();
    let own = rcgen::generate_simple_self_signed(["bursar.example".to_owned()]).unwrap();
    fs::write(directory.join("bursar.pem"), own.cert.pem()).unwrap();
    write_secret(
        &directory.join("bursar-key.pem"),
        &own.signing_key.serialize_pem(),
    );
    in_directory(&uncommented(EXAMPLE), directory)
}
