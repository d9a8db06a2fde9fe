//! What `bursar check` found: grouped, one mark per line, a hint where something is wrong, a verdict.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::cli::{exit::Exit, output::Paint};

/// Everything that was checked.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) categories: Vec<Category>,
}

/// Checks of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Category {
    #[serde(rename = "categoryName")]
    pub(super) name: &'static str,
    pub(super) checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) description: String,
    pub(super) result: Outcome,
    /// What is wrong.
    pub(super) error: Option<String>,
    /// The likely cause, and what to do next.
    pub(super) hint: Option<String>,
    /// For `bursar explain`.
    pub(super) code: Option<&'static str>,
    #[serde(skip)]
    exit: Exit,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Success,
    Warning,
    Error,
}

impl Check {
    /// As it should be.
    pub(super) fn good(description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            result: Outcome::Success,
            error: None,
            hint: None,
            code: None,
            exit: Exit::Done,
        }
    }

    /// It works, but deserves a look.
    pub(super) fn warning(
        description: impl Into<String>,
        error: impl Into<String>,
        code: &'static str,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            result: Outcome::Warning,
            error: Some(error.into()),
            hint: Some(hint.into()),
            code: Some(code),
            ..Self::good(description)
        }
    }

    /// It does not work; `exit` says what kind of trouble it is.
    pub(super) fn bad(
        description: impl Into<String>,
        error: impl Into<String>,
        code: &'static str,
        hint: impl Into<String>,
        exit: Exit,
    ) -> Self {
        Self {
            result: Outcome::Error,
            exit,
            ..Self::warning(description, error, code, hint)
        }
    }
}

impl Report {
    /// The exit code that all checks together amount to.
    pub(super) fn exit(&self) -> Exit {
        Exit::worst(self.checks().map(|check| check.exit))
    }

    /// For people.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for category in &self.categories {
            let rule = "-".repeat(category.name.len());
            text.push_str(&format!("{}\n{rule}\n", category.name));
            for check in &category.checks {
                text.push_str(&check.render(paint));
            }
            text.push('\n');
        }
        text.push_str(&self.verdict(paint));
        text
    }

    /// The last line: is it right or not.
    pub(super) fn verdict(&self, paint: Paint) -> String {
        let (errors, warnings) = (self.count(Outcome::Error), self.count(Outcome::Warning));
        let mark = if errors > 0 {
            Outcome::Error
        } else {
            Outcome::Success
        };
        let mark = mark.mark(paint);
        let plural = |count: usize, word: &str| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {word}{s}")
        };
        if errors + warnings == 0 {
            format!("Status check results are {mark}\n")
        } else {
            format!(
                "Status check results are {mark}   ({}, {})\n",
                plural(errors, "error"),
                plural(warnings, "warning")
            )
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.checks()
            .filter(|check| check.result == outcome)
            .count()
    }

    fn checks(&self) -> impl Iterator<Item = &Check> {
        self.categories.iter().flat_map(|category| &category.checks)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Report", 2)?;
        fields.serialize_field("success", &(self.count(Outcome::Error) == 0))?;
        fields.serialize_field("categories", &self.categories)?;
        fields.end()
    }
}

impl Check {
    fn render(&self, paint: Paint) -> String {
        let mut line = format!("{} {}", self.result.mark(paint), self.description);
        if let Some(error) = &self.error {
            line.push_str(&format!(": {error}"));
        }
        if let Some(code) = self.code {
            line.push_str(&format!("   {code}"));
        }
        line.push('\n');
        if let Some(hint) = &self.hint {
            line.push_str(&format!("    {hint}\n"));
        }
        if let Some(code) = self.code {
            line.push_str(&format!("    bursar explain {code}\n"));
        }
        line
    }
}

impl Outcome {
    fn mark(self, paint: Paint) -> String {
        match self {
            Self::Success => paint.green("√"),
            Self::Warning => paint.yellow("‼"),
            Self::Error => paint.red("×"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            categories: vec![
                Category {
                    name: "config",
                    checks: vec![
                        Check::good("bursar.toml is valid"),
                        Check::warning("clock", "94 s ahead", "BUR2206", "fix NTP"),
                    ],
                },
                Category {
                    name: "upstreams",
                    checks: vec![Check::bad(
                        "lms",
                        "the name does not resolve",
                        "BUR4001",
                        "is base_url right?",
                        Exit::Temporary,
                    )],
                },
            ],
        }
    }

    #[test]
    fn the_table_groups_marks_and_judges() {
        assert_eq!(
            report().render(Paint { is_on: false }),
            "\
config
------
√ bursar.toml is valid
‼ clock: 94 s ahead   BUR2206
    fix NTP
    bursar explain BUR2206

upstreams
---------
× lms: the name does not resolve   BUR4001
    is base_url right?
    bursar explain BUR4001

Status check results are ×   (1 error, 1 warning)
"
        );
    }

    #[test]
    fn the_json_has_the_shape_that_linkerd_made_known() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["success"], false);
        assert_eq!(json["categories"][1]["categoryName"], "upstreams");
        assert_eq!(
            json["categories"][1]["checks"][0],
            serde_json::json!({
                "description": "lms", "result": "error", "error": "the name does not resolve",
                "hint": "is base_url right?", "code": "BUR4001",
            })
        );
        assert_eq!(json["categories"][0]["checks"][0]["result"], "success");
        assert!(json["categories"][0]["checks"][0]["error"].is_null());
    }

    #[test]
    fn warnings_alone_are_a_success() {
        let mut report = report();
        report.categories.pop();
        assert_eq!(report.exit(), Exit::Done);
        assert!(
            report
                .render(Paint { is_on: false })
                .ends_with("results are √   (0 errors, 1 warning)\n")
        );
    }

    #[test]
    fn what_is_temporary_is_told_before_what_is_wrong() {
        let mut report = report();
        report.categories[0].checks.push(Check::bad(
            "token",
            "refused",
            "BUR2203",
            "look",
            Exit::Refused,
        ));
        assert_eq!(report.exit(), Exit::Temporary);
    }
}
