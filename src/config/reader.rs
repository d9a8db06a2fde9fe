//! Hands out typed settings, and notes everything on the way: sources, problems, and which keys were read.

use std::{collections::BTreeSet, path::Path};

use figment::value::{Dict, Value};

use super::{
    Inputs,
    layers::{Layer, Layers},
    problem::{Place, Problem, ProblemCode},
    schema::{self, Key, Node},
    settings::{REDACTED, Setting, SettingSource, Settings},
    tree::{KeyPath, parse_value},
    value::{self, Fault, FromValue, nearest},
};

/// Reads the merged tree once.
pub(super) struct Reader {
    layers: Layers,
    settings: Settings,
    problems: Vec<Problem>,
    read: BTreeSet<KeyPath>,
    inputs: Inputs,
}

/// A table of the configuration, perhaps an absent one.
#[derive(Clone, Debug)]
pub(super) struct Table {
    path: KeyPath,
    pattern: String,
    values: Dict,
}

/// A default that depends on other settings.
pub(super) struct Preset {
    /// The value.
    pub(super) value: Value,
    /// What it comes from, for `config show`.
    pub(super) from: String,
}

impl Table {
    /// Whether the key is set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &KeyPath {
        &self.path
    }

    /// The path of a key.
    pub(super) fn key(&self, name: &str) -> KeyPath {
        self.path.key(name)
    }

    /// The names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

impl Reader {
    /// Starts with no setting read. `inputs`: the files so far.
    pub(super) fn new(layers: Layers, inputs: Inputs) -> Self {
        Self {
            layers,
            settings: Settings::default(),
            problems: Vec::new(),
            read: BTreeSet::new(),
            inputs,
        }
    }

    /// A table at the top.
    pub(super) fn section(&self, name: &str) -> Table {
        let root = Table {
            path: KeyPath::default(),
            pattern: String::new(),
            values: self.layers.tree.clone(),
        };
        self.table(&root, name)
    }

    /// A table in a table; empty when it is absent, or not a table ([`finish`](Self::finish) says so then).
    pub(super) fn table(&self, parent: &Table, name: &str) -> Table {
        let values = parent.values.get(name).and_then(Value::as_dict);
        let pattern = schema::child(&parent.pattern, name).map(|(pattern, _)| pattern);
        Table {
            path: parent.path.key(name),
            pattern: pattern.unwrap_or_else(|| schema::join(&parent.pattern, name)),
            values: values.cloned().unwrap_or_default(),
        }
    }

    /// The tables that people named, in the order of the file.
    pub(super) fn tables(&self, section: &str) -> Vec<(String, Table)> {
        let section = self.section(section);
        let named = section.values.iter();
        let mut tables: Vec<_> = named
            .filter(|(_, value)| value.as_dict().is_some())
            .map(|(name, _)| (name.clone(), self.table(&section, name)))
            .collect();
        let document = self.layers.document.as_ref();
        tables.sort_by_key(|(_, table)| {
            let offset = document.and_then(|document| document.offset(&table.path));
            offset.unwrap_or(usize::MAX)
        });
        tables
    }

    /// The items of an array of tables.
    pub(super) fn items(&self, parent: &Table, name: &str) -> Vec<Table> {
        let path = parent.path.key(name);
        let items = parent.values.get(name).and_then(Value::as_array);
        let tables = items.unwrap_or_default().iter().enumerate();
        tables
            .filter_map(|(index, item)| {
                Some(Table {
                    path: path.item(index),
                    pattern: format!("{}[]", schema::join(&parent.pattern, name)),
                    values: item.as_dict()?.clone(),
                })
            })
            .collect()
    }

    /// The value of a key or its default; `None` when there is neither, or when it is not valid (then that is noted).
    pub(super) fn get<T: FromValue>(&mut self, table: &Table, name: &str) -> Option<T> {
        self.get_or(table, name, None)
    }

    /// The same with a default that depends on other settings.
    pub(super) fn get_or<T: FromValue>(
        &mut self,
        table: &Table,
        name: &str,
        preset: Option<Preset>,
    ) -> Option<T> {
        let path = table.key(name);
        let Some((_, Node::Leaf(key))) = schema::child(&table.pattern, name) else {
            // A slip in the program, and one that every test run shows.
            debug_assert!(false, "{path} is not in the table of keys");
            return None;
        };
        // A type that is not the table's would make `bursar config schema` lie.
        debug_assert!(
            key.shape == T::SHAPE,
            "{path} is read as another type than the table says"
        );
        self.read.insert(path.clone());

        if let Some(value) = table.values.get(name) {
            let value = match self.layers.layer(value) {
                Layer::File => value.clone(),
                Layer::Variable(_) => {
                    retag(T::from_text(value.as_str().unwrap_or_default()), value)
                }
            };
            return match T::from_value(&value) {
                Ok(parsed) => {
                    let source = self.layers.source(&path, &value);
                    self.note(table, name, key, &value, source);
                    Some(parsed)
                }
                Err(fault) => {
                    let place = if key.secret {
                        self.layers.key_place(&path, &value)
                    } else {
                        self.layers.value_place(&path, &value)
                    };
                    self.push(&path, place, fault);
                    None
                }
            };
        }

        let (value, source) = match preset {
            Some(preset) => (preset.value, SettingSource::Derived(preset.from)),
            None => (parse_value(key.default?)?, SettingSource::Default),
        };
        let parsed = T::from_value(&value).ok()?;
        self.note(table, name, key, &value, source);
        Some(parsed)
    }

    /// The value of a key that must be set.
    pub(super) fn require<T: FromValue>(
        &mut self,
        table: &Table,
        name: &str,
        help: &str,
    ) -> Option<T> {
        let value = self.get(table, name);
        if value.is_none() && !table.has(name) {
            self.missing(table, name, help);
        }
        value
    }

    /// Notes that a key must be set.
    pub(super) fn missing(&mut self, table: &Table, name: &str, help: &str) {
        self.fault_at_table(
            table,
            name,
            Fault::new(ProblemCode::MissingKey, "is missing", help),
        );
    }

    /// Every entry of a table of which people choose the names.
    pub(super) fn entries<T: FromValue>(&mut self, parent: &Table, name: &str) -> Vec<(String, T)> {
        let table = self.table(parent, name);
        let names: Vec<_> = table.names().map(str::to_owned).collect();
        names
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.get(&table, &name)?)))
            .collect()
    }

    /// Notes a problem with the value of a key; if it is not set, with its table.
    pub(super) fn fault(&mut self, table: &Table, name: &str, fault: Fault) {
        let path = table.key(name);
        match table.values.get(name) {
            Some(value) => {
                let place = self.layers.value_place(&path, value);
                self.push(&path, place, fault);
            }
            None => self.fault_at_table(table, name, fault),
        }
    }

    /// Warns of a secret that stands in a configuration file which others can read.
    pub(super) fn warn_exposed(&mut self, table: &Table, name: &str) {
        let layer = table.values.get(name).map(|value| self.layers.layer(value));
        let exposure = match (layer, &self.layers.document) {
            (Some(Layer::File), Some(document)) => document.exposure.as_ref(),
            _ => None,
        };
        if let Some(exposure) = exposure {
            let fault = Fault::new(
                ProblemCode::SecretExposed,
                format!("is a secret, and {exposure}"),
                "chmod 600 the file, or keep the secret in one of its own",
            );
            self.fault(table, name, fault.warning());
        }
    }

    /// Notes a problem with a table's header, about a key of it that is not there.
    pub(super) fn fault_at_table(&mut self, table: &Table, name: &str, fault: Fault) {
        let mut place = self.layers.header_place(&table.path);
        if let (Place::Nowhere, Some(value)) = (&place, table.values.values().next()) {
            // A table that only variables know.
            place = self.layers.key_place(&table.path, value);
        }
        let path = if name.is_empty() {
            table.path.clone()
        } else {
            table.key(name)
        };
        self.push(&path, place, fault);
    }

    /// Notes a problem with the configuration as a whole.
    pub(super) fn fault_overall(&mut self, fault: Fault) {
        self.push(&KeyPath::default(), Place::Nowhere, fault);
    }

    /// Takes every key of a table as read: what made it useless has been noted already.
    pub(super) fn give_up(&mut self, table: &Table) {
        for name in table.names() {
            self.read.insert(table.key(name));
            for inner in self.table(table, name).names() {
                self.read.insert(table.key(name).key(inner));
            }
        }
    }

    /// The directory that a relative path in the value of a key is relative to: the file's, or for a variable the current one.
    pub(super) fn directory(&self, table: &Table, name: &str) -> std::path::PathBuf {
        let value = table.values.get(name);
        let layer = value.map(|value| self.layers.layer(value));
        match (layer, &self.layers.document) {
            (Some(Layer::File), Some(document)) => document.directory.clone(),
            _ => std::path::PathBuf::new(),
        }
    }

    /// Notes a file or a directory that a setting names; comes before it is read.
    pub(super) fn note_input(&mut self, path: &Path) {
        self.inputs.note(path);
    }

    /// The problems so far, when the rest is of no interest.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes the keys that nobody read, and gives everything back.
    pub(super) fn finish(mut self) -> (Settings, Vec<Problem>, Inputs) {
        let mut leftovers = Vec::new();
        self.leftovers(&self.layers.tree, &KeyPath::default(), "", &mut leftovers);
        self.problems.append(&mut leftovers);
        self.settings.sort(&schema::names(""));
        (self.settings, self.problems, self.inputs)
    }

    fn leftovers(&self, values: &Dict, path: &KeyPath, pattern: &str, found: &mut Vec<Problem>) {
        for (name, value) in values {
            let path = path.key(name);
            let mut report = |fault: Fault| {
                let place = self.layers.key_place(&path, value);
                found.push(fault.at(path.as_str(), place));
            };
            match schema::child(pattern, name) {
                None => report(unknown_key(pattern, name)),
                Some((_, Node::Leaf(_))) if self.read.contains(&path) => {}
                Some((_, Node::Leaf(_))) => report(Fault::new(
                    ProblemCode::NoEffect,
                    "has no effect beside the other settings of its table",
                    format!(
                        "remove `{name}`, or look up in config.example.toml which settings it goes with"
                    ),
                )),
                Some((pattern, Node::Table)) => match value.as_dict() {
                    Some(values) => self.leftovers(values, &path, &pattern, found),
                    None => report(value::wrong_type("a table", value)),
                },
                Some((pattern, Node::Tables)) => match value.as_array() {
                    Some(items) => {
                        for (index, item) in items.iter().enumerate() {
                            let path = path.item(index);
                            match item.as_dict() {
                                Some(values) => {
                                    self.leftovers(values, &path, &format!("{pattern}[]"), found);
                                }
                                None => found.push(
                                    value::wrong_type("a table", item)
                                        .at(path.as_str(), self.layers.header_place(&path)),
                                ),
                            }
                        }
                    }
                    None => report(value::wrong_type(
                        &format!("an array of tables, written [[{path}]]"),
                        value,
                    )),
                },
            }
        }
    }

    fn note(&mut self, table: &Table, name: &str, key: &Key, value: &Value, source: SettingSource) {
        let value = if key.secret {
            format!("\"{REDACTED}\"")
        } else {
            value::to_toml(value)
        };
        self.settings.push(Setting {
            table: table.path.to_string(),
            key: KeyPath::default().key(name).to_string(),
            value,
            source,
            rank: schema::rank(key),
        });
    }

    fn push(&mut self, path: &KeyPath, place: Place, fault: Fault) {
        self.problems.push(fault.at(path.as_str(), place));
    }
}

fn unknown_key(pattern: &str, name: &str) -> Fault {
    let names = schema::names(pattern);
    let help = match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the keys here are: {}", names.join(", ")),
    };
    Fault::new(ProblemCode::UnknownKey, "unknown key", help)
}

/// A value made from a variable's text is still the variable's.
fn retag(mut value: Value, origin: &Value) -> Value {
    let tag = origin.tag();
    match &mut value {
        Value::String(own, _)
        | Value::Char(own, _)
        | Value::Bool(own, _)
        | Value::Num(own, _)
        | Value::Empty(own, _)
        | Value::Dict(own, _)
        | Value::Array(own, _) => *own = tag,
    }
    value
}
