//! `bursar man`: the manual pages, rendered from the same definition as `--help`.

use std::{fs, io, path::PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::{Exit, output};
use crate::causes::with_causes;

#[derive(Args)]
pub(super) struct ManArgs {
    /// The command whose page is wanted, such as `route test`; the program's own without it.
    command: Vec<String>,
    /// Write every page into this directory instead, `bursar.1` and on.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

/// Why the pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", .0.display())]
struct WriteError(PathBuf, #[source] io::Error);

pub(super) fn run(args: &ManArgs, program: Command) -> Exit {
    let program = built(program);
    if let Some(directory) = &args.out {
        return match write(&program, directory) {
            Ok(count) => {
                output::tell(&format!("{count} pages in {}\n", directory.display()));
                Exit::Done
            }
            Err(error) => {
                output::tell(&format!("bursar: {}\n", with_causes(&error)));
                Exit::Failed
            }
        };
    }
    match find(&program, &args.command).map(page) {
        Some(Ok((_name, page))) => output::print(&page),
        Some(Err(error)) => {
            output::tell(&format!("bursar: {}\n", with_causes(&error)));
            Exit::Failed
        }
        None => {
            output::tell(&format!(
                "bursar: there is no command {:?}; see: bursar --help\n",
                args.command.join(" ")
            ));
            Exit::Usage
        }
    }
}

/// `help` has no page of its own, and a page needs no word about it.
fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

fn find<'a>(program: &'a Command, words: &[String]) -> Option<&'a Command> {
    words
        .iter()
        .try_fold(program, |command, word| command.find_subcommand(word))
}

/// Its file's name, and the page.
fn page(command: &Command) -> io::Result<(String, String)> {
    let man = Man::new(command.clone())
        .source(concat!("bursar ", env!("CARGO_PKG_VERSION")))
        .manual("bursar");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    Ok((man.get_filename(), with_examples_as_typed(&page)))
}

/// What stands behind the help is examples: their lines are not to be filled up.
fn with_examples_as_typed(page: &str) -> String {
    const EXTRA: &str = "\n.SH EXTRA\n";
    let Some((before, examples)) = page.split_once(EXTRA) else {
        return page.to_owned();
    };
    let (examples, after) = match examples.find("\n.SH ") {
        Some(end) => examples.split_at(end),
        None => (examples, "\n"),
    };
    let examples = examples.trim_start_matches("Examples:\n");
    format!("{before}\n.SH EXAMPLES\n.nf\n{examples}\n.fi{after}")
}

fn write(program: &Command, directory: &PathBuf) -> Result<usize, WriteError> {
    fs::create_dir_all(directory).map_err(|error| WriteError(directory.clone(), error))?;
    let mut pending = vec![program];
    let mut count = 0;
    while let Some(command) = pending.pop() {
        let (name, page) = page(command).map_err(|error| WriteError(directory.clone(), error))?;
        let file = directory.join(name);
        fs::write(&file, page).map_err(|error| WriteError(file, error))?;
        count += 1;
        pending.extend(command.get_subcommands());
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    fn rendered(words: &[&str]) -> Option<(String, String)> {
        let program = built(Cli::command());
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        find(&program, &words).map(|command| page(command).unwrap())
    }

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let (name, text) = rendered(&[]).unwrap();
        assert_eq!(name, "bursar.1");
        assert!(text.contains(".TH") && text.contains("bursar demo"));
        let (name, text) = rendered(&["route", "test"]).unwrap();
        assert_eq!(name, "bursar-route-test.1");
        assert!(text.contains("Exit codes: 0 allow"), "{text}");
        let examples = text.split(".SH EXAMPLES\n.nf\n").nth(1).unwrap();
        assert!(examples.starts_with("  bursar route test GET"), "{text}");
        assert!(!text.contains("EXTRA"), "{text}");
        assert!(rendered(&["route", "tset"]).is_none());
    }

    #[test]
    fn all_pages_are_written_each_to_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("man1");
        let count = write(&built(Cli::command()), &pages).unwrap();
        assert_eq!(fs::read_dir(&pages).unwrap().count(), count);
        assert!(count > 15 && pages.join("bursar-keys-new.1").exists());
        assert!(write(&built(Cli::command()), &pages.join("bursar.1")).is_err());
    }
}
