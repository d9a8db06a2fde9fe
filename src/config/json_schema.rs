//! The table of keys as a JSON Schema (draft 2020-12): editors complete `bursar.toml` with it and show what each key is for.
//!
//! The schema never refuses what bursar accepts. The other way round it is coarser: what hangs on several keys at once,
//! such as which secret goes with which `auth_method`, only `bursar check --offline` knows.

use serde_json::{Map, Value, json};

use super::{
    schema::{self, Key, Node, TABLES},
    tree::parse_value,
    value::shape::{Shape, TEXT},
};

/// Names of credentials, upstreams and routes.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$";

/// The schema of a whole configuration file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table("");
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "bursar.toml".into());
    Value::Object(schema)
}

fn at(pattern: &str, node: &Node) -> Value {
    let mut schema = match node {
        Node::Leaf(key) => return leaf(key),
        Node::Table => table(pattern),
        Node::Tables => {
            let items = table(&format!("{pattern}[]"));
            Map::from_iter([
                ("type".to_owned(), "array".into()),
                ("items".to_owned(), items.into()),
            ])
        }
    };
    if let Some((_, description)) = TABLES.iter().find(|(table, _)| *table == pattern) {
        schema.insert("description".to_owned(), (*description).into());
    }
    Value::Object(schema)
}

/// A table holds the keys that have a line in the table of keys, or those that people name, and no other.
fn table(pattern: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    for name in schema::names(pattern) {
        if let Some((child, node)) = schema::child(pattern, name) {
            properties.insert(name.to_owned(), at(&child, &node));
        }
    }
    let mut schema = Map::from_iter([("type".to_owned(), "object".into())]);
    let any = schema::join(pattern, "*");
    match schema::node(&any) {
        Some(node) => {
            let name = match node {
                Node::Leaf(_) => TEXT,
                Node::Table | Node::Tables => NAME,
            };
            schema.insert("propertyNames".to_owned(), json!({ "pattern": name }));
            schema.insert("additionalProperties".to_owned(), at(&any, &node));
        }
        None => {
            schema.insert("properties".to_owned(), properties.into());
            schema.insert("additionalProperties".to_owned(), false.into());
        }
    }
    schema
}

fn leaf(key: &Key) -> Value {
    let mut schema = match key.shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Shape::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
        Shape::Words(words) => json!({ "type": "string", "enum": words }),
        Shape::Numbers { min, max } => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": min, "maximum": max } })
        }
        Shape::List { items, min } => {
            json!({ "type": "array", "items": { "type": "string", "pattern": items }, "minItems": min })
        }
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), key.description().into());
        if key.secret {
            // Such a value goes in and is never shown.
            schema.insert("writeOnly".to_owned(), true.into());
        }
        let default = key.default.and_then(parse_value);
        if let Some(default) = default.and_then(|value| serde_json::to_value(value).ok()) {
            schema.insert("default".to_owned(), default);
        }
    }
    schema
}
