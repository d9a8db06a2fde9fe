//! The data: a few tables of three rows.

use serde_json::{Value, json};

pub(in crate::mock) const NAMESPACE: &str = "canvas";

pub(in crate::mock) const NAMES: [&str; 4] = ["accounts", "courses", "enrollments", "users"];

const ROWS: u64 = 3;

const CHANGED: &str = "2026-01-01T00:00:00Z";

/// What the records of a table look like, in the form of the real service: a key, a value, and when it changed.
pub(in crate::mock) fn schema(table: &str) -> Option<Value> {
    NAMES.contains(&table).then(|| {
        json!({
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": table,
                "type": "object",
                "properties": {
                    "key": {
                        "type": "object",
                        "properties": { "id": { "type": "integer", "format": "int64" } },
                        "required": ["id"],
                    },
                    "value": {
                        "type": "object",
                        "properties": { "name": { "type": "string" } },
                    },
                    "meta": {
                        "type": "object",
                        "properties": {
                            "ts": { "type": "string", "format": "date-time" },
                            "action": { "type": "string", "enum": ["U", "D"] },
                        },
                    },
                },
            },
            "version": 1,
        })
    })
}

/// A whole table as a file.
pub(super) fn file(table: &str, format: Format) -> String {
    let rows = (1..=ROWS).map(|id| (id, format!("{table} number {id}")));
    let delimited = |separator: char| {
        let head = ["key.id", "value.name", "meta.ts", "meta.action"].join(&separator.to_string());
        let rows = rows.clone().map(|(id, name)| {
            [id.to_string(), name, CHANGED.to_owned(), "U".to_owned()].join(&separator.to_string())
        });
        std::iter::once(head)
            .chain(rows)
            .map(|line| line + "\n")
            .collect()
    };
    match format {
        Format::Jsonl => rows
            .map(|(id, name)| {
                let row = json!({
                    "key": { "id": id },
                    "value": { "name": name },
                    "meta": { "ts": CHANGED, "action": "U" },
                });
                format!("{row}\n")
            })
            .collect(),
        Format::Csv => delimited(','),
        Format::Tsv => delimited('\t'),
    }
}

/// How a file is written. The real service also makes Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jsonl,
    Csv,
    Tsv,
}

impl Format {
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "jsonl" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }

    /// What the name of its file ends with.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
        }
    }
}
