//! What the tour shows: steps, what was sent, what came back, and whether it was right.

use std::{
    fmt::{Debug, Display},
    io::Write,
};

/// Prints as it goes, and remembers.
pub(super) struct Report {
    out: Box<dyn Write>,
    text: String,
    steps: u32,
    checks: u32,
    failures: u32,
}

impl Report {
    pub(super) fn new(out: impl Write + 'static) -> Self {
        Self {
            out: Box::new(out),
            text: String::new(),
            steps: 0,
            checks: 0,
            failures: 0,
        }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        self.print(&format!("\n{}. {title}", self.steps));
    }

    /// Says something.
    pub(super) fn say(&mut self, text: &str) {
        self.block("   ", text);
    }

    /// Shows a request.
    pub(super) fn sent(&mut self, request: &str) {
        self.block("   > ", request);
    }

    /// Shows an answer.
    pub(super) fn received(&mut self, answer: &str) {
        self.block("   < ", answer);
    }

    /// What should hold does, or does not.
    pub(super) fn check(&mut self, claim: &str, held: bool) {
        self.checks += 1;
        if held {
            self.print(&format!("   ✓ {claim}"));
        } else {
            self.failures += 1;
            self.print(&format!("   ✗ not so: {claim}"));
        }
    }

    /// What should be `expected` is, or is not.
    pub(super) fn check_eq<A, E>(&mut self, claim: &str, actual: &A, expected: &E)
    where
        A: PartialEq<E> + Debug + ?Sized,
        E: Debug + ?Sized,
    {
        self.check(claim, actual == expected);
        if actual != expected {
            self.say(&format!("    expected {expected:?}, got {actual:?}"));
        }
    }

    /// A step that could not be finished.
    pub(super) fn broke_off(&mut self, error: &dyn Display) {
        self.checks += 1;
        self.failures += 1;
        self.print(&format!("   ✗ broke off: {error}"));
    }

    /// Whether every check held; prints the sum.
    pub(super) fn verdict(&mut self) -> bool {
        let all = self.failures == 0 && self.checks > 0;
        let verdict = if all {
            format!("\nAll {} checks held.", self.checks)
        } else {
            format!("\n{} of {} checks failed.", self.failures, self.checks)
        };
        self.print(&verdict);
        all
    }

    /// All that was printed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn block(&mut self, mark: &str, text: &str) {
        for line in text.lines() {
            self.print(&format!("{mark}{line}"));
        }
    }

    fn print(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        // A reader that has gone away must not change the verdict.
        let _ = writeln!(self.out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_verdict_is_good_only_if_every_check_held() {
        let mut report = Report::new(io::sink());
        report.step("a step");
        report.check("this", true);
        report.check_eq("that", &1, &1);
        assert!(report.verdict());
        report.check_eq("the status", &503, &200);
        assert!(!report.verdict());
        assert!(report.text().contains("expected 200, got 503"));
    }

    #[test]
    fn nothing_checked_is_not_good() {
        assert!(!Report::new(io::sink()).verdict());
    }

    #[test]
    fn a_step_that_breaks_off_counts_as_a_failure() {
        let mut report = Report::new(io::sink());
        report.check("this", true);
        report.broke_off(&io::Error::other("connection refused"));
        assert!(!report.verdict());
    }
}
