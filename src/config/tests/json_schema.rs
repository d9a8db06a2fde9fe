//! `bursar config schema` cannot drift from the configuration that bursar reads.

use std::{collections::BTreeSet, fs, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::example::all_keys;
use crate::config::{
    json_schema,
    schema::{KEYS, Key},
    tree::parse_value,
    value::shape::Shape,
};

/// Values of every kind, good for one key or another, and bad for the others.
const SAMPLES: &[&str] = &[
    "\"http://proxy.example:3128\"",
    "true",
    "0",
    "1",
    "-1",
    "1024",
    "1025",
    "10000000",
    "1.5",
    "2026-01-01",
    "[]",
    r#"["GET"]"#,
    r#"["get"]"#,
    r#"["PROPFIND", "M-SEARCH"]"#,
    r#"["a:b:read,write", "url:GET|/api/v1/courses/:id", "https://purl.imsglobal.org/spec/lti-ags/scope/score"]"#,
    r#"["a b"]"#,
    r#"["bursar", "localhost:9000", "[::1]:9000"]"#,
    "[1]",
    "{ a = 1 }",
    r#""""#,
    r#""text""#,
    r#""tab\tin it""#,
    r#""0s""#,
    r#""0""#,
    r#""500ms""#,
    r#""10s""#,
    r#""1h 30m""#,
    r#""1h30m""#,
    r#""5 minutes""#,
    r#""1.5s""#,
    r#""10""#,
    r#""20%""#,
    r#""2.5%""#,
    r#""+2e1%""#,
    r#""64KiB""#,
    r#""100 MiB""#,
    r#""64""#,
    r#""denied""#,
    r#""1/100""#,
    r#""1/0""#,
    r#""127.0.0.1:8080""#,
    r#""[::1]:0""#,
    r#""[fe80::1%1]:80""#,
    r#""localhost:9000""#,
    r#""unix:/run/bursar.sock""#,
    r#""0660""#,
    r#""0777""#,
    "[1000, 65532]",
    r#""example.org:80""#,
    r#""https://lms.example""#,
    r#""HTTPS://lms.example:8443/""#,
    r#""https://lms.example/path""#,
    r#""https://user@lms.example""#,
    r#""http://[::1]:9400/token?tenant=a%20b""#,
    r#""ftp://lms.example""#,
    r#""info,bursar::token=debug""#,
    r#""/run/secrets/key.pem""#,
];

fn validator() -> Validator {
    jsonschema::draft202012::new(&json_schema()).unwrap()
}

fn from_toml(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let instance = from_toml(text);
    let validator = validator();
    let problems = validator.iter_errors(&instance);
    problems
        .map(|problem| format!("{}: {problem}", problem.instance_path()))
        .collect()
}

/// The configuration that holds nothing but this key.
fn only(key: &Key, value: &Value) -> Value {
    key.pattern
        .rsplit('.')
        .fold(value.clone(), |inner, name| match name.strip_suffix("[]") {
            Some(name) => json!({ name: [inner] }),
            None => json!({ name.replace('*', "any"): inner }),
        })
}

/// The patterns of all leaves below.
fn leaves(schema: &Value, pattern: &str, found: &mut BTreeSet<String>) {
    let join = |name: &str| match pattern {
        "" => name.to_owned(),
        _ => format!("{pattern}.{name}"),
    };
    let properties = schema["properties"].as_object();
    let is_tables = schema["items"]["type"] == "object";
    if let Some(properties) = properties {
        for (name, child) in properties {
            leaves(child, &join(name), found);
        }
    } else if schema["additionalProperties"].is_object() {
        leaves(&schema["additionalProperties"], &join("*"), found);
    } else if is_tables {
        leaves(&schema["items"], &format!("{pattern}[]"), found);
    } else {
        found.insert(pattern.to_owned());
    }
}

#[test]
fn the_schema_is_one_by_its_own_draft() {
    assert!(jsonschema::draft202012::meta::validate(&json_schema()).is_ok());
}

#[test]
fn the_schema_has_every_key_and_no_other() {
    let mut found = BTreeSet::new();
    leaves(&json_schema(), "", &mut found);
    let known: BTreeSet<_> = KEYS.iter().map(|key| key.pattern.to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn the_example_with_every_key_fits_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(problems(&all_keys(directory.path())), [""; 0]);
}

#[test]
fn every_configuration_in_the_documentation_fits_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for directory in ["docs", "docs/reference"] {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for rest in text.split("\n```toml\n").skip(1) {
            let block = rest.split("\n```").next().unwrap();
            assert_eq!(problems(block), [""; 0], "{}: {block}", page.display());
            count += 1;
        }
    }
    assert!(count >= 15, "{count}");
}

#[test]
fn a_value_that_bursar_accepts_always_fits() {
    let validator = validator();
    for key in KEYS {
        let mut accepted = 0;
        for sample in SAMPLES {
            let value = parse_value(sample).unwrap();
            if (key.accepts)(&value) {
                let instance = only(key, &serde_json::to_value(&value).unwrap());
                assert!(validator.is_valid(&instance), "{instance}");
                accepted += 1;
            }
        }
        let is_word = matches!(key.shape, Shape::Words(_));
        assert!(
            accepted > 0 || is_word,
            "no sample is good for {}",
            key.pattern
        );
    }
}

#[test]
fn words_are_exactly_those_that_bursar_accepts() {
    let validator = validator();
    let all: BTreeSet<&str> = KEYS
        .iter()
        .flat_map(|key| match key.shape {
            Shape::Words(words) => words,
            _ => &[],
        })
        .copied()
        .chain(["", "ENFORCE", "nonsense", "moodle"])
        .collect();
    let mut count = 0;
    for key in KEYS {
        let Shape::Words(_) = key.shape else {
            continue;
        };
        for word in &all {
            let is_accepted = (key.accepts)(&figment::value::Value::from(*word));
            let instance = only(key, &json!(word));
            assert_eq!(validator.is_valid(&instance), is_accepted, "{instance}");
        }
        count += 1;
    }
    assert!(count >= 10);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_for_every_key() {
    let validator = validator();
    for key in KEYS {
        for value in [json!(null), json!(1.5), json!({ "a": [] }), json!([[]])] {
            let instance = only(key, &value);
            assert!(!validator.is_valid(&instance), "{instance}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_in_every_table() {
    for text in [
        "lisen = 1",
        "[servers]",
        "[server]\nlisen = \"127.0.0.1:1\"",
        "[credentials.a]\nclient_secert = \"x\"",
        "[upstreams.a]\nscope = []",
        "[[upstreams.a.routes]]\nmethod = [\"GET\"]",
        "[credentials.\"a b\"]\nclient_id = \"x\"",
    ] {
        assert_eq!(problems(text).len(), 1, "{text}");
    }
}

#[test]
fn an_editor_is_told_what_a_key_is_for_and_what_its_default_is() {
    let schema = json_schema();
    let mode = &schema["properties"]["server"]["properties"]["max_connections"];
    assert_eq!(
        *mode,
        json!({
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000_000,
            "default": 10_000,
            "description": "Connections from applications at once.",
        })
    );
    for key in KEYS {
        let instance = key.default.map(|text| parse_value(text).unwrap());
        if let Some(default) = instance {
            let default = only(key, &serde_json::to_value(default).unwrap());
            assert!(validator().is_valid(&default), "{default}");
        }
    }
}
