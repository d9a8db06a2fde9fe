//! The layers hold: a module imports only from layers below its own, and neither the modules of the crate nor the
//! files inside one of them are in a cycle.
//!
//! Inside a module the rule is about siblings: an arrow goes from the child that holds a file to the child that
//! holds what the file names. What a path finds in the parent itself, be it an item of its own or one that it
//! re-exports, is no arrow: a parent speaks for its children, and they may use its words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The layer of each top-level module, lowest first, as the table in `src/lib.rs` has it.
const LAYERS: &[&[&str]] = &[
    &[
        "backoff",
        "causes",
        "clock",
        "code",
        "dial",
        "id_key",
        "keys",
        "problem",
        "random",
        "scope",
        "secret",
        "series",
        "socket",
        "store",
        "telemetry",
        "tls",
    ],
    &["oauth", "policy"],
    &["publication", "token"],
    &["admin", "proxy"],
    &["config"],
    &["app", "mock"],
    &["cli"],
];

/// Imports between siblings of one layer that are deliberate, one way only.
const SIBLINGS: &[(&str, &str)] = &[
    ("id_key", "clock"),
    ("id_key", "secret"),
    ("keys", "random"),
    ("keys", "secret"),
    ("problem", "code"),
    ("store", "random"),
    ("store", "secret"),
    ("telemetry", "causes"),
];

/// The path of a module that has a file: `["proxy", "handler"]`. The crate itself is `[]`.
type Module = Vec<String>;

/// Who imports from whom.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_module_imports_only_from_layers_below_its_own() {
    for (module, imported) in between_children(&Tree::read(), &[]) {
        for target in imported {
            let sibling = SIBLINGS.contains(&(module.as_str(), target.as_str()));
            assert!(
                layer(&target) < layer(&module) || sibling,
                "{module} (layer {}) imports {target} (layer {})",
                layer(&module),
                layer(&target)
            );
        }
    }
}

#[test]
fn no_file_is_in_a_cycle_with_its_siblings() {
    let tree = Tree::read();
    let parents: BTreeSet<&[String]> = tree
        .files
        .keys()
        .filter_map(|module| module.split_last())
        .map(|(_, parent)| parent)
        .collect();
    for parent in parents {
        let graph = between_children(&tree, parent);
        let cycle: Vec<&String> = graph
            .keys()
            .filter(|child| reaches(&graph, child, child))
            .collect();
        assert!(
            cycle.is_empty(),
            "in crate::{} these import each other in a circle: {cycle:?}",
            parent.join("::")
        );
    }
}

#[test]
fn the_map_in_the_crate_documentation_names_every_module() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let table: String = text
        .lines()
        .filter(|line| line.starts_with("//! |"))
        .collect();
    for module in LAYERS.iter().copied().flatten() {
        assert!(
            table.contains(&format!("[`{module}`]")),
            "{module} is missing in the table of layers"
        );
    }
}

#[test]
fn a_use_tree_is_read_branch_by_branch() {
    assert_eq!(
        flattened("super::{ a, b::{C, d::E}, f }"),
        ["super::a", "super::b::C", "super::b::d::E", "super::f"]
    );
}

#[test]
fn a_path_is_followed_to_the_file_that_holds_it() {
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    let tree = Tree {
        files: ["a", "a::b", "a::b::c", "a::d"]
            .map(|path| (module(path), String::new()))
            .into(),
    };
    let find = |from: &str, path: &str| tree.find(&module(from), path);
    assert_eq!(find("a::d", "super::b::c::Item"), Some(module("a::b::c")));
    assert_eq!(find("a::b::c", "super::super::d"), Some(module("a::d")));
    assert_eq!(find("a::d", "crate::a::Item"), Some(module("a")));
    assert_eq!(find("a", "self::d::Item"), Some(module("a::d")));
    assert_eq!(find("a", "std::fmt"), None);
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| {
            panic!("module {module} has no layer: add it to the table here and in src/lib.rs")
        })
}

/// The arrows between the children of `parent`, each child with all that lies below it.
fn between_children(tree: &Tree, parent: &[String]) -> Graph {
    let child = |module: &Module| -> Option<String> {
        module.strip_prefix(parent)?.first().map(String::to_owned)
    };
    let mut graph = Graph::new();
    for (module, code) in &tree.files {
        let Some(from) = child(module) else {
            continue;
        };
        let imported = graph.entry(from.clone()).or_default();
        let targets = paths(code)
            .filter_map(|path| tree.find(module, &path))
            .filter_map(|target| child(&target));
        imported.extend(targets.filter(|to| *to != from));
    }
    graph
}

fn reaches(graph: &Graph, from: &str, to: &str) -> bool {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = graph[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(graph.get(module).into_iter().flatten());
        }
    }
    reached.iter().any(|module| *module == to)
}

/// The files of the library with their code, without comments and tests.
struct Tree {
    files: BTreeMap<Module, String>,
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Vec::new();
        collect(&root, &mut sources);
        let mut files = BTreeMap::new();
        for source in sources {
            let relative = source.strip_prefix(&root).unwrap().with_extension("");
            let module: Module = relative
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            let is_map = module == ["lib"] || module == ["main"];
            let is_test = module
                .iter()
                .any(|part| part == "tests" || part == "testing");
            if !is_map && !is_test {
                files.insert(module, code(&fs::read_to_string(&source).unwrap()));
            }
        }
        Self { files }
    }

    /// The deepest module that `path`, as `from` writes it, goes through. `None`: it leaves the crate, or names a
    /// child without `self`.
    fn find(&self, from: &Module, path: &str) -> Option<Module> {
        let mut segments = path.split("::").map(str::trim).peekable();
        let mut module = match segments.next()? {
            "crate" => Module::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            _ => return None,
        };
        while segments.next_if_eq(&"super").is_some() {
            module.pop();
        }
        for segment in segments {
            module.push(segment.to_owned());
            if !self.files.contains_key(&module) {
                module.pop();
                break;
            }
        }
        Some(module)
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn code(text: &str) -> String {
    let (production, _tests) = text
        .split_once("#[cfg(test)]\nmod tests {")
        .unwrap_or((text, ""));
    let lines = production
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path that the code imports or writes out.
fn paths(code: &str) -> impl Iterator<Item = String> {
    let imported = code
        .split(';')
        .filter_map(|statement| statement.rsplit_once("use "))
        .flat_map(|(_, tree)| flattened(tree));
    let written_out = code
        .split(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | ':')))
        .map(str::to_owned);
    imported.chain(written_out)
}

/// `a::{b, c::D}` is `a::b` and `a::c::D`.
fn flattened(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let (group, _) = group.rsplit_once('}').unwrap_or((group, ""));
    let mut depth = 0_usize;
    let branches = group.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    branches
        .filter(|branch| !branch.trim().is_empty())
        .flat_map(flattened)
        .map(|branch| format!("{}{branch}", prefix.trim()))
        .collect()
}
