//! Every setting with its source.

use std::fmt;

use aws_lc_rs::digest;

/// What a secret's value is shown as.
pub const REDACTED: &str = "[redacted]";

/// Every setting in force, in the order of the documentation.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    list: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table it stands in: `server`, `upstreams.lms.routes[0]`.
    pub table: String,
    /// The key within the table.
    pub key: String,
    /// Its value in TOML; a secret is `"[redacted]"`.
    pub value: String,
    /// Where it comes from.
    pub source: SettingSource,
    /// Its place in the table of keys.
    pub(super) rank: usize,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The file.
    File {
        /// Its name.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// Another setting: a profile, or the URL that another default is taken from.
    Derived(String),
    /// The documented default.
    Default,
}

impl Setting {
    /// The whole key: `upstreams.lms.base_url`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }
}

impl Settings {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.list.iter()
    }

    /// The keys whose values differ, secrets left out, in the order of the documentation.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let has = |settings: &Self, setting: &Setting| {
            settings.list.iter().any(|other| {
                other.table == setting.table
                    && other.key == setting.key
                    && other.value == setting.value
            })
        };
        let own = self.list.iter().filter(|setting| !has(other, setting));
        let theirs = other.list.iter().filter(|setting| !has(self, setting));
        let mut paths: Vec<String> = own.map(Setting::path).collect();
        for path in theirs.map(Setting::path) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// A short hash of every setting in force, secrets left out: two processes with the same one run the same configuration.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for setting in &self.list {
            for part in [&setting.table, &setting.key, &setting.value] {
                context.update(part.as_bytes());
                context.update(b"\0");
            }
        }
        let hash = context.finish();
        hash.as_ref()
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    pub(super) fn push(&mut self, setting: Setting) {
        self.list.push(setting);
    }

    /// Sections and keys in the order of the table of keys; tables that people named in the order of the file.
    pub(super) fn sort(&mut self, sections: &[&str]) {
        let section = |table: &str| {
            let own = table.split('.').next();
            sections.iter().position(|section| Some(*section) == own)
        };
        let mut tables: Vec<String> = Vec::new();
        for setting in &self.list {
            if !tables.contains(&setting.table) {
                tables.push(setting.table.clone());
            }
        }
        tables.sort_by_key(|table| section(table));
        self.list.sort_by_key(|setting| {
            let table = tables.iter().position(|table| *table == setting.table);
            (table, setting.rank)
        });
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(formatter, "{name}:{line}"),
            Self::Variable(name) => formatter.write_str(name),
            Self::Derived(from) => formatter.write_str(from),
            Self::Default => formatter.write_str("default"),
        }
    }
}
