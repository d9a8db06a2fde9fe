//! What README, docs/ and the texts of `bursar explain` say, held against the program: their configurations load, their
//! commands exist, their tables are complete, their links lead somewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use bursar::{
    cli::explain,
    code::Code,
    config::{LoadOptions, ProblemCode, load},
    secret::ExposeSecret,
};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, admin_get, toml},
    peer::{Peer, Reply},
    program::{bursar, write_private},
};

/// A file of the repository.
struct Page {
    /// From the root of the repository.
    name: String,
    text: String,
}

/// A block of code in a page.
struct Block<'a> {
    language: &'a str,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> Page {
    Page {
        name: name.to_owned(),
        text: fs::read_to_string(root().join(name)).unwrap(),
    }
}

/// Every file below a directory, as paths from the root of the repository.
fn files_below(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(directory)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root()).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What people read.
fn pages() -> Vec<Page> {
    let mut names = vec![
        "README.md".to_owned(),
        "SECURITY.md".to_owned(),
        "CHANGELOG.md".to_owned(),
    ];
    names.extend(files_below("docs"));
    names.retain(|name| name.ends_with(".md"));
    names.iter().map(|name| page(name)).collect()
}

impl Page {
    /// The fenced blocks.
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.strip_prefix("```") else {
                continue;
            };
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                language,
                text: inside.join("\n"),
            });
        }
        blocks
    }

    /// The text without fenced blocks.
    fn prose(&self) -> String {
        let mut is_code = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        prose
    }

    /// The `code` in the prose.
    fn code_spans(&self) -> Vec<String> {
        let prose = self.prose();
        prose
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    /// The cells of each line of the tables in a section, heads and rules left out.
    fn rows(&self, section: &str) -> Vec<Vec<String>> {
        let prose = self.prose();
        let (_, below) = prose.split_once(&format!("\n{section}\n")).unwrap();
        let level = section.split(' ').next().unwrap();
        let lines: Vec<&str> = below
            .lines()
            .take_while(|line| !line.starts_with(&format!("{level} ")))
            .collect();
        let is_rule = |line: &str| line.starts_with("| ---");
        let rows = lines.iter().enumerate().filter(|(index, line)| {
            let is_head = lines.get(index + 1).is_some_and(|next| is_rule(next));
            line.starts_with('|') && !is_rule(line) && !is_head
        });
        rows.map(|(_, line)| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
    }
}

fn words_in_code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The configurations: every block marked `toml` is a whole one (a fragment is marked `text`), and so is the
/// `config.toml` of a Kubernetes manifest.
fn configurations(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    let whole = blocks.iter().filter(|block| block.language == "toml");
    let mut found: Vec<String> = whole.map(|block| block.text.clone()).collect();
    for block in blocks.iter().filter(|block| block.language == "yaml") {
        if let Some((_, below)) = block.text.split_once("  config.toml: |\n") {
            let lines = below
                .lines()
                .take_while(|line| line.is_empty() || line.starts_with("    "));
            found.push(lines.map(|line| format!("{}\n", line.trim())).collect());
        }
    }
    found
}

/// Lets every `…_file` and `keys_dir` name what is in `directory`, with something in it that is good enough.
/// Every certificate of mutual TLS, and its key.
static IDENTITY: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed(["bursar.example".to_owned()]).unwrap());

fn with_files(configuration: &str, directory: &Path) -> String {
    let mut text = String::new();
    for line in configuration.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        let value = line.split('"').nth(1);
        if let ("keys_dir", Some(value)) = (key, value) {
            let path = directory.join(value.trim_start_matches('/'));
            fs::create_dir_all(&path).unwrap();
            let key = bursar::keys::generate(bursar::keys::Algorithm::Es256).unwrap();
            write_private(&path.join("20261127T101500Z.pem"), key.expose_secret());
            text.push_str(&format!("keys_dir = {path:?}\n"));
            continue;
        }
        let (true, Some(value)) = (key.ends_with("_file"), value) else {
            text.push_str(&format!("{line}\n"));
            continue;
        };
        let path: PathBuf = directory.join(Path::new(value).file_name().unwrap());
        let contents = match key {
            "private_key_file" => {
                let key = bursar::keys::generate(bursar::keys::Algorithm::Es256).unwrap();
                key.expose_secret().to_owned()
            }
            "client_cert_file" => IDENTITY.cert.pem(),
            "client_key_file" => IDENTITY.signing_key.serialize_pem(),
            "ca_file" => {
                let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()]);
                authority.unwrap().cert.pem()
            }
            "key_file" => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n".to_owned(),
            _ => "a-secret-of-its-own\n".to_owned(),
        };
        write_private(&path, &contents);
        text.push_str(&format!("{key} = {path:?}\n"));
    }
    text
}

#[test]
fn every_configuration_in_the_documentation_loads_without_a_problem() {
    let mut count = 0;
    for page in pages() {
        for configuration in configurations(&page) {
            let directory = tempfile::tempdir().unwrap();
            let text = with_files(&configuration, directory.path());
            let options = LoadOptions {
                environment: vec![("HOME".to_owned(), "/home/ann".to_owned())],
                ..LoadOptions::from_text("bursar.toml", &text)
            };
            let loaded = load(&options)
                .unwrap_or_else(|problems| panic!("{}: {}", page.name, problems.render(false)));
            let warnings: Vec<_> = loaded.warnings.iter().map(|one| one.what()).collect();
            assert!(
                warnings.is_empty(),
                "{}: {warnings:?}\n{configuration}",
                page.name
            );
            count += 1;
        }
    }
    assert!(count >= 15, "{count} configurations were found");
}

#[test]
fn every_command_that_is_shown_exists() {
    let mut texts = pages();
    let explained = files_below("src/cli/explain");
    texts.extend(explained.iter().map(|name| page(name)));
    let mut commands = BTreeSet::new();
    for page in &texts {
        let blocks = page.blocks();
        let consoles = blocks.iter().filter(|block| block.language == "console");
        for line in consoles.flat_map(|block| block.text.lines()) {
            let command = line.split(" -- ").last().unwrap();
            let is_ours = command.starts_with("bursar ") || line.starts_with("cargo run ");
            if is_ours {
                commands.insert(command.trim_start_matches("bursar ").to_owned());
            }
        }
        commands.extend(
            page.code_spans()
                .iter()
                .filter_map(|span| span.strip_prefix("bursar "))
                .map(str::to_owned),
        );
    }
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let arguments = command
            .split_whitespace()
            .take_while(|word| !matches!(*word, ">" | "|" | "#"));
        // Everything before it is read first: a command or an option that does not exist is an error all the same.
        let arguments: Vec<&str> = arguments.chain(["--help"]).collect();
        let finished = bursar(&arguments);
        assert_eq!(finished.code, 0, "bursar {command}: {}", finished.said());
    }
}

/// A metric: its type, its labels, and for each label the values where they are a closed set.
#[derive(Debug, PartialEq)]
struct Metric {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The table of metrics. Labels stand before the first `=`; what follows a `=` are the values of one label.
fn documented_metrics() -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for row in page("README.md").rows("## Metrics") {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut with_values = None;
        for part in row[2].split(", ").filter(|part| !part.is_empty()) {
            let words = words_in_code(part);
            match (part.contains('='), &with_values) {
                (true, _) => {
                    labels.insert(words[0].to_owned(), [words[1].to_owned()].into());
                    with_values = Some(words[0].to_owned());
                }
                (false, Some(label)) => {
                    labels.get_mut(label).unwrap().insert(words[0].to_owned());
                }
                (false, None) => {
                    labels.insert(words[0].to_owned(), BTreeSet::new());
                }
            }
        }
        for name in words_in_code(&row[0]) {
            let metric = Metric {
                kind: row[1].clone(),
                labels: labels.clone(),
            };
            let before = metrics.insert(format!("bursar_{name}"), metric);
            assert!(before.is_none(), "{name} stands there twice");
        }
    }
    metrics
}

fn scraped_metrics(scrape: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in scrape.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            let metric = Metric {
                kind: kind.to_owned(),
                labels: BTreeMap::new(),
            };
            metrics.insert(name.to_owned(), metric);
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = family(name, |name| metrics.contains_key(name)).unwrap();
            let known = &mut metrics.get_mut(family).unwrap().labels;
            let labels = labels.trim_end_matches('}').trim_end_matches('"');
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap();
                if label != "le" {
                    let values = known.entry(label.to_owned()).or_default();
                    values.insert(value.to_owned());
                }
            }
        }
    }
    metrics
}

/// The family of a series: a histogram has three kinds of series.
fn family(name: &str, is_known: impl Fn(&str) -> bool) -> Option<&str> {
    let suffixes = ["_bucket", "_sum", "_count"];
    let stems = suffixes
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix));
    [name].into_iter().chain(stems).find(|name| is_known(name))
}

/// A bursar to which everything has happened that makes a metric appear.
fn busy_bursar() -> String {
    let directory = tempfile::tempdir().unwrap();
    let key = bursar::keys::generate(bursar::keys::Algorithm::Es256).unwrap();
    let path = write_private(&directory.path().join("key.pem"), key.expose_secret());
    let quota = [
        ("X-Rate-Limit-Remaining", "9"),
        ("X-Request-Cost", "10"),
        ("X-Rate-Limit-Reset", "1"),
    ];
    let lms = Peer::start(move |_| Reply::with_fields(200, &quota, "{}"));
    let server = AuthorizationServer::start();
    let paced = Extra {
        upstream: "pace = true",
        ..Extra::default()
    };
    let configuration = toml(&lms, &server, paced)
        .replace(
            "auth_method = \"client_secret_basic\"",
            &format!("auth_method = \"private_key_jwt\"\nprivate_key_file = {path:?}"),
        )
        .replace("client_secret = \"canary-client-secret\"\n", "");
    let bursar = Bursar::ready(&configuration);
    assert_eq!(bursar.get("/api/x").status, 200);
    assert_eq!(bursar.request("PUT", "/grades/1", "", "").status, 403);
    assert_eq!(
        admin_get(bursar.control, "/.well-known/jwks.json").status,
        200
    );
    bursar.until("both requests are counted", |bursar| {
        bursar.metrics().contains(r#"code="403""#)
    });
    bursar.metrics()
}

#[test]
fn the_table_of_metrics_is_what_a_scrape_shows() {
    let documented = documented_metrics();
    let mut scraped = scraped_metrics(&busy_bursar());
    scraped.retain(|name, _| !name.starts_with("process_"));
    let names = |metrics: &BTreeMap<String, Metric>| metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documented), names(&scraped));
    for (name, scraped) in scraped {
        let documented = &documented[&name];
        assert_eq!(documented.kind, scraped.kind, "{name}");
        let labels = |metric: &Metric| metric.labels.keys().cloned().collect::<Vec<_>>();
        assert_eq!(labels(documented), labels(&scraped), "{name}");
        for (label, values) in &scraped.labels {
            let closed = &documented.labels[label];
            assert!(
                closed.is_empty() || values.is_subset(closed),
                "{name}: {label} is one of {closed:?}, but there is {values:?}"
            );
        }
    }
}

#[test]
fn every_metric_of_an_alert_or_a_runbook_is_in_the_table() {
    let documented = documented_metrics();
    let mut texts = vec![page("docs/alerts.yaml"), page("docs/alerts.test.yaml")];
    texts.extend(pages());
    for page in texts {
        let words = page
            .text
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        for name in words.filter(|word| word.starts_with("bursar_") && *word != "bursar_token") {
            let is_known = |name: &str| documented.contains_key(name);
            assert!(
                name == "bursar_" || family(name, is_known).is_some(),
                "{}: {name}",
                page.name
            );
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = page("docs/alerts.yaml");
    let named: BTreeSet<String> = alerts
        .text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    let pages = files_below("docs/runbooks");
    let written: BTreeSet<String> = pages
        .iter()
        .filter_map(|name| name.rsplit('/').next()?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .map(str::to_owned)
        .collect();
    assert_eq!(named, written);
    let overview = page("docs/runbooks/README.md");
    for alert in named {
        assert!(
            alerts.text.contains(&format!("docs/runbooks/{alert}.md")),
            "{alert}"
        );
        assert!(
            overview.text.contains(&format!("[{alert}]({alert}.md)")),
            "{alert}"
        );
    }
}

#[test]
fn the_table_of_rejections_is_the_table_in_the_code() {
    let documented: BTreeMap<String, (String, String)> = page("docs/errors.md")
        .rows("## Rejections")
        .into_iter()
        .map(|row| {
            let code = row[1].trim_matches('`').to_owned();
            (code, (row[0].clone(), row[2].clone()))
        })
        .collect();
    let defined = Code::ALL.iter().map(|code| {
        let retry = if code.is_retryable() { "yes" } else { "no" };
        let status = code.status().as_u16().to_string();
        (code.as_str().to_owned(), (status, retry.to_owned()))
    });
    assert_eq!(documented, defined.collect());
}

#[test]
fn the_table_of_bur_codes_is_complete_and_has_each_once() {
    let rows = page("docs/errors.md").rows("## BUR codes");
    let cells = rows.into_iter().flatten();
    let mut documented: Vec<String> = cells.filter(|cell| cell.starts_with("BUR")).collect();
    documented.sort();
    let offline = ProblemCode::ALL.iter().map(|code| code.as_str());
    let mut defined: Vec<&str> = offline.chain(explain::live::ALL.iter().copied()).collect();
    defined.sort_unstable();
    assert_eq!(documented, defined);
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    for page in pages() {
        let prose = page.prose();
        let links = prose.split("](").skip(1);
        for link in links.filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                root().join(&page.name)
            } else {
                root().join(&page.name).parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: {link}", page.name);
            if !fragment.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line) == fragment),
                    "{}: {link}",
                    page.name
                );
            }
        }
    }
}

#[test]
fn every_source_file_that_is_named_exists() {
    let mut files = files_below("src");
    files.extend(files_below("tests"));
    for page in pages() {
        for span in page.code_spans() {
            let is_source = span.ends_with(".rs") || span.ends_with(".tsv");
            if !is_source || span.contains('*') {
                continue;
            }
            assert!(
                files
                    .iter()
                    .any(|file| *file == span || file.ends_with(&format!("/{span}"))),
                "{} names {span}",
                page.name
            );
        }
    }
}

#[test]
fn the_example_with_every_key_is_mentioned() {
    let readme = page("README.md");
    assert!(
        readme.text.contains("config.example.toml") && root().join("config.example.toml").exists()
    );
}
