//! Whether this process should receive requests, and if not, why.

use serde::Serialize;

use super::{AdminState, Phase, ReadyNeeds};

/// The checks behind `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
    pub(super) is_draining: bool,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// `None`: it holds.
    pub(super) failure: Option<&'static str>,
    /// What it passes over, in words.
    pub(super) note: Option<String>,
}

impl Report {
    pub(super) fn new(needs: ReadyNeeds, state: &dyn AdminState) -> Self {
        let phase = state.phase();
        let listeners = match phase {
            Phase::Starting => Some("not up yet"),
            Phase::Serving | Phase::Draining => None,
        };
        let shutdown = match phase {
            Phase::Draining => Some("draining"),
            Phase::Starting | Phase::Serving => None,
        };
        let mut checks = vec![
            // A process with an invalid configuration does not get as far as to answer.
            Check::new("configuration", None),
            Check::new("listeners", listeners),
            Check::new("shutdown", shutdown),
        ];
        let tokens = state.readiness();
        match needs {
            ReadyNeeds::FirstToken => checks.push(Check::new(
                "first_token",
                (!tokens.first_token).then_some("not every token has been received yet"),
            )),
            ReadyNeeds::Token => checks.push(Check::new(
                "token",
                (!tokens.token).then_some("a token is missing or has expired"),
            )),
            ReadyNeeds::Nothing => {}
        }
        if let Some(check) = checks.last_mut().filter(|_| needs != ReadyNeeds::Nothing) {
            check.note = awaited(&tokens.awaiting_login);
        }
        Self {
            checks,
            is_draining: phase == Phase::Draining,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// Each check on a line, in the form that Kubernetes' own `/readyz?verbose` has.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let Check { name, .. } = check;
            text.push_str(&match check.failure {
                None => format!("[+]{name} ok"),
                Some(reason) => format!("[-]{name} failed: {reason}"),
            });
            if let Some(note) = &check.note {
                text.push_str(&format!(" ({note})"));
            }
            text.push('\n');
        }
        text.push_str(if self.is_ready() {
            "readyz check passed\n"
        } else {
            "readyz check failed\n"
        });
        text
    }
}

impl Check {
    fn new(name: &'static str, failure: Option<&'static str>) -> Self {
        Self {
            name,
            failure,
            note: None,
        }
    }
}

/// A token that only a person can bring is not waited for, since that may take days; but it is spoken of.
fn awaited(credentials: &[String]) -> Option<String> {
    (!credentials.is_empty()).then(|| format!("waiting for a login: {}", credentials.join(", ")))
}

#[cfg(test)]
mod tests {
    use crate::{
        admin::CurrentKeys,
        keys::KeyView,
        token::{Readiness, TokenView},
    };

    use super::*;
    use crate::admin::Reloading;

    struct State(Phase, Readiness);

    impl AdminState for State {
        fn phase(&self) -> Phase {
            self.0
        }

        fn readiness(&self) -> Readiness {
            self.1.clone()
        }

        fn key_set(&self) -> CurrentKeys {
            unreachable!("readiness does not hang on keys")
        }

        fn signing_keys(&self) -> Vec<KeyView> {
            unreachable!("readiness does not hang on keys")
        }

        fn tokens(&self) -> Vec<TokenView> {
            Vec::new()
        }

        fn reload(&self) -> Reloading<'_> {
            unreachable!("nobody asks")
        }

        fn drain(&self) {
            unreachable!("nobody asks for it here")
        }
    }

    const NEVER: Readiness = Readiness {
        first_token: false,
        token: false,
        awaiting_login: Vec::new(),
    };
    const LOST: Readiness = Readiness {
        first_token: true,
        token: false,
        awaiting_login: Vec::new(),
    };
    const HELD: Readiness = Readiness {
        first_token: true,
        token: true,
        awaiting_login: Vec::new(),
    };

    fn is_ready(needs: ReadyNeeds, phase: Phase, tokens: Readiness) -> bool {
        Report::new(needs, &State(phase, tokens)).is_ready()
    }

    #[test]
    fn by_default_a_token_that_is_lost_later_does_not_unready() {
        let needs = ReadyNeeds::default();
        assert!(!is_ready(needs, Phase::Serving, NEVER));
        assert!(is_ready(needs, Phase::Serving, HELD));
        assert!(is_ready(needs, Phase::Serving, LOST));
    }

    #[test]
    fn with_token_every_loss_unreadies() {
        assert!(is_ready(ReadyNeeds::Token, Phase::Serving, HELD));
        assert!(!is_ready(ReadyNeeds::Token, Phase::Serving, LOST));
    }

    #[test]
    fn with_nothing_no_token_is_needed() {
        assert!(is_ready(ReadyNeeds::Nothing, Phase::Serving, NEVER));
    }

    #[test]
    fn nobody_is_ready_before_the_listeners_are_up_or_while_draining() {
        for needs in [
            ReadyNeeds::FirstToken,
            ReadyNeeds::Token,
            ReadyNeeds::Nothing,
        ] {
            assert!(!is_ready(needs, Phase::Starting, HELD));
            assert!(!is_ready(needs, Phase::Draining, HELD));
        }
    }

    #[test]
    fn the_report_names_the_check_that_fails() {
        let report = Report::new(ReadyNeeds::FirstToken, &State(Phase::Serving, NEVER));
        assert_eq!(
            report.render(),
            "[+]configuration ok\n[+]listeners ok\n[+]shutdown ok\n\
             [-]first_token failed: not every token has been received yet\nreadyz check failed\n"
        );
    }
    #[test]
    fn a_check_that_passes_over_a_login_says_so() {
        let tokens = Readiness {
            awaiting_login: vec!["d2l".to_owned()],
            ..HELD
        };
        let state = State(Phase::Serving, tokens);
        let text = Report::new(ReadyNeeds::FirstToken, &state).render();
        assert!(
            text.contains("[+]first_token ok (waiting for a login: d2l)\n"),
            "{text}"
        );
        let text = Report::new(ReadyNeeds::Nothing, &state).render();
        assert!(!text.contains("login"), "{text}");
    }
}
