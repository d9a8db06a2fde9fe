//! File and environment, merged by figment, which remembers the layer of each value.

use figment::{
    Figment,
    value::{Dict, Value},
};

use super::{
    document::Document, environment::Variable, problem::Place, settings::SettingSource,
    tree::KeyPath,
};

/// The merged tree, and where its values come from.
pub(super) struct Layers {
    /// The values in force.
    pub(super) tree: Dict,
    /// The file, if there is one.
    pub(super) document: Option<Document>,
    figment: Figment,
}

/// Which layer a value comes from.
pub(super) enum Layer<'a> {
    /// The file.
    File,
    /// The variable of this name.
    Variable(&'a str),
}

impl Layers {
    /// A variable wins over the file.
    pub(super) fn merge(document: Option<Document>, variables: Vec<Variable>) -> Self {
        let mut figment = Figment::new();
        if let Some(document) = &document {
            figment = figment.merge(document);
        }
        for variable in variables {
            figment = figment.merge(variable);
        }
        // Our providers never fail, and a merged tree is always a table.
        let tree = figment.find_value("").ok().and_then(Value::into_dict);
        Self {
            tree: tree.unwrap_or_default(),
            document,
            figment,
        }
    }

    /// Where a value comes from.
    pub(super) fn layer(&self, value: &Value) -> Layer<'_> {
        let metadata = self.figment.get_metadata(value.tag());
        let source = metadata.and_then(|metadata| metadata.source.as_ref());
        match source.and_then(|source| source.custom()) {
            Some(variable) => Layer::Variable(variable),
            None => Layer::File,
        }
    }

    /// Where the key of a value stands.
    pub(super) fn key_place(&self, path: &KeyPath, value: &Value) -> Place {
        match self.layer(value) {
            Layer::Variable(name) => Place::Variable(name.to_owned()),
            Layer::File => self.header_place(path),
        }
    }

    /// Where a value stands.
    pub(super) fn value_place(&self, path: &KeyPath, value: &Value) -> Place {
        match self.layer(value) {
            Layer::Variable(name) => Place::Variable(name.to_owned()),
            Layer::File => {
                let place = self.document.as_ref().and_then(|file| file.value(path));
                place.unwrap_or(Place::Nowhere)
            }
        }
    }

    /// Where a key or a table's header stands in the file.
    pub(super) fn header_place(&self, path: &KeyPath) -> Place {
        let place = self.document.as_ref().and_then(|file| file.key(path));
        place.unwrap_or(Place::Nowhere)
    }

    /// The same, for `config show`.
    pub(super) fn source(&self, path: &KeyPath, value: &Value) -> SettingSource {
        match (self.layer(value), self.header_place(path)) {
            (Layer::Variable(name), _) => SettingSource::Variable(name.to_owned()),
            (Layer::File, Place::File { excerpt, span }) => SettingSource::File {
                name: excerpt.name.clone(),
                line: excerpt.line(span.start),
            },
            (Layer::File, _) => SettingSource::Default,
        }
    }
}
