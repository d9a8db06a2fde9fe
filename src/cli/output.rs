//! Data goes to stdout, talk to stderr. A reader that has gone away is not an error.

use std::io::{self, ErrorKind, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::Exit;

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Writes data to stdout; a newline is added where it has none.
pub(super) fn print(data: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(data.as_bytes())
        .and_then(|()| {
            if data.ends_with('\n') {
                Ok(())
            } else {
                stdout.write_all(b"\n")
            }
        })
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Exit::Done,
        // `bursar … | head`: it has had what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            tell(&format!("bursar: cannot write to stdout: {error}\n"));
            Exit::Failed
        }
    }
}

/// Writes data to stdout as JSON, indented.
pub(super) fn print_json(data: &impl Serialize) -> Exit {
    match serde_json::to_string_pretty(data) {
        Ok(text) => print(&text),
        Err(error) => {
            tell(&format!("bursar: cannot write this as JSON: {error}\n"));
            Exit::Failed
        }
    }
}

/// Says something on stderr; where that is closed, nobody is told.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Lays rows out in columns two spaces apart.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    rows.iter()
        .map(|row| {
            let line: String = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}  "))
                .collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}

/// ANSI colours, or nothing where they are not wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) is_on: bool,
}

impl Paint {
    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, style: &str, text: &str) -> String {
        if self.is_on {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let rows = [
            row(&["NAME", "STATE"]),
            row(&["d2l-reader", "fresh"]),
            row(&["x"]),
        ];
        assert_eq!(columns(&rows), "NAME        STATE\nd2l-reader  fresh\nx\n");
    }

    #[test]
    fn paint_that_is_off_leaves_no_trace() {
        assert_eq!(Paint { is_on: false }.red("no"), "no");
        assert_eq!(Paint { is_on: true }.red("no"), "\x1b[31mno\x1b[0m");
    }
}
