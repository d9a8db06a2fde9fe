//! Which file is the configuration: the first hit of a short list, nothing is merged across files.

use std::path::{Path, PathBuf};

use super::problem::{Place, Problem, ProblemCode};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment, handed in: `(name, value)`.
    pub environment: Vec<(String, String)>,
    /// The directory that `./bursar.toml` is looked for in; `None`: the current one.
    pub directory: Option<PathBuf>,
    /// Where the configuration in force was found, when it is read again. Were that file gone, another one of the list is another
    /// configuration, which nobody has asked for.
    pub again: Option<PathBuf>,
    /// TOML to take instead of any file, and the name to call it by.
    pub text: Option<(String, String)>,
}

impl LoadOptions {
    /// A configuration that is written out in the program itself, without any environment: demo and tests.
    #[must_use]
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            text: Some((name.into(), text.into())),
            ..Self::default()
        }
    }
}

/// Where files of one user belong (XDG Base Directory Specification); `None`: there is no such place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// `$XDG_CONFIG_HOME/bursar`.
    pub(super) config: Option<PathBuf>,
    /// `$XDG_STATE_HOME/bursar`.
    pub(super) state: Option<PathBuf>,
}

impl Home {
    pub(super) fn of(options: &LoadOptions) -> Self {
        let variable = |name: &str| {
            let mut environment = options.environment.iter();
            let value = environment.find(|(other, _)| other == name);
            // A relative path in a variable is to be ignored.
            value
                .map(|(_, value)| PathBuf::from(value))
                .filter(|value| value.is_absolute())
        };
        let place = |name: &str, below_home: &str| {
            let base = variable(name).or_else(|| Some(variable("HOME")?.join(below_home)));
            base.map(|base| base.join("bursar"))
        };
        Self {
            config: place("XDG_CONFIG_HOME", ".config"),
            state: place("XDG_STATE_HOME", ".local/state"),
        }
    }
}

/// A place where the configuration may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Why it is looked at.
    pub reason: &'static str,
    /// The file; `None` where nobody named one.
    pub path: Option<PathBuf>,
    /// Somebody named this very file: when it is missing, that is an error, and no other is taken instead.
    pub is_named: bool,
}

impl Candidate {
    /// Whether this is the one to read.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        match &self.path {
            Some(path) => self.is_named || path.exists(),
            None => false,
        }
    }
}

/// Every place, the first one first.
#[must_use]
pub fn candidates(options: &LoadOptions) -> Vec<Candidate> {
    let variable = |name: &str| {
        let mut environment = options.environment.iter();
        let value = environment.find(|(other, _)| other == name);
        value
            .map(|(_, value)| PathBuf::from(value))
            .filter(|value| !value.as_os_str().is_empty())
    };
    // XDG: a relative path in the variable is to be ignored.
    let base = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| variable("HOME").map(|home| home.join(".config")));
    let directory = options.directory.clone();
    let directory = directory.unwrap_or_else(|| PathBuf::from("."));
    let named = |reason, path| Candidate {
        reason,
        path,
        is_named: true,
    };
    let usual = |reason, path| Candidate {
        reason,
        path,
        is_named: false,
    };
    vec![
        named("--config", options.file.clone()),
        named("BURSAR_CONFIG", variable("BURSAR_CONFIG")),
        usual("the current directory", Some(directory.join("bursar.toml"))),
        usual(
            "$XDG_CONFIG_HOME",
            base.map(|base| base.join("bursar/config.toml")),
        ),
        usual("the system", Some(PathBuf::from("/etc/bursar/config.toml"))),
    ]
}

/// The file to read; `None` when there is none at all.
#[must_use]
pub fn find(options: &LoadOptions) -> Option<Candidate> {
    if let Some(path) = &options.again {
        return Some(Candidate {
            reason: "the configuration in force",
            path: Some(path.clone()),
            is_named: true,
        });
    }
    candidates(options).into_iter().find(Candidate::is_hit)
}

/// Tells where bursar looked, and what to do now.
pub(super) fn nothing_found(options: &LoadOptions) -> Problem {
    let looked: Vec<_> = candidates(options)
        .into_iter()
        .map(|candidate| match candidate.path {
            Some(path) => format!("{} ({})", path.display(), candidate.reason),
            None => format!("{} (not set)", candidate.reason),
        })
        .collect();
    Problem::new(
        ProblemCode::NoFile,
        "",
        Place::Nowhere,
        "no configuration file was found",
        format!(
            "run `bursar demo` to see bursar at work without one, or copy config.example.toml to ./bursar.toml\nlooked at: {}",
            looked.join(", ")
        ),
    )
}

/// Reads the file.
pub(super) fn read(candidate: &Candidate, path: &Path) -> Result<String, Problem> {
    std::fs::read(path)
        .and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text")
            })
        })
        .map_err(|error| {
            let help = if error.kind() == std::io::ErrorKind::NotFound {
                "name a file that exists, or copy config.example.toml there; `bursar config path` shows where bursar looks"
            } else {
                "make it a text file that the user bursar runs as can read"
            };
            Problem::new(
                ProblemCode::FileUnreadable,
                "",
                Place::Nowhere,
                format!("cannot read {} (from {}): {error}", path.display(), candidate.reason),
                help,
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: Option<&str>, environment: &[(&str, &str)]) -> LoadOptions {
        LoadOptions {
            file: file.map(PathBuf::from),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..LoadOptions::default()
        }
    }

    fn paths(options: &LoadOptions) -> Vec<String> {
        candidates(options)
            .into_iter()
            .filter_map(|candidate| candidate.path)
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn the_order_is_flag_variable_directory_xdg_etc() {
        let options = options(
            Some("/a"),
            &[
                ("BURSAR_CONFIG", "/b"),
                ("XDG_CONFIG_HOME", "/x"),
                ("HOME", "/h"),
            ],
        );
        assert_eq!(
            paths(&options),
            [
                "/a",
                "/b",
                "./bursar.toml",
                "/x/bursar/config.toml",
                "/etc/bursar/config.toml"
            ]
        );
    }

    #[test]
    fn without_xdg_config_home_it_is_below_home_and_without_home_nowhere() {
        assert!(
            paths(&options(None, &[("HOME", "/h")]))
                .contains(&"/h/.config/bursar/config.toml".to_owned())
        );
        assert_eq!(paths(&options(None, &[("BURSAR_CONFIG", "")])).len(), 2);
    }

    #[test]
    fn a_configuration_is_read_again_from_where_it_was_found_and_from_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(None, &[("XDG_CONFIG_HOME", "/x")]);
        options.directory = Some(directory.path().to_owned());
        options.again = Some(directory.path().join("bursar.toml"));
        // It is gone, and is missed.
        let hit = find(&options).unwrap();
        assert_eq!(hit.path, options.again);
        assert!(read(&hit, hit.path.as_deref().unwrap()).is_err());
    }

    #[test]
    fn a_file_that_somebody_named_is_never_replaced_by_another() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bursar.toml"), "").unwrap();
        let mut options = options(None, &[("BURSAR_CONFIG", "/does/not/exist")]);
        options.directory = Some(directory.path().to_owned());
        let hit = find(&options).unwrap();
        assert_eq!(hit.path, Some(PathBuf::from("/does/not/exist")));
        options.environment.clear();
        assert_eq!(
            find(&options).unwrap().path,
            Some(directory.path().join("bursar.toml"))
        );
    }
}
