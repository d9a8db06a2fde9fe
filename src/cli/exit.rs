//! The exit codes: what scripts and orchestrators hang on.

use std::process::ExitCode;

use crate::config::Problems;

/// How a command ended. Where several apply, the first of 2, 78, 77, 4, 75, 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, warnings or not; also a clean drain.
    Done,
    /// Failed at run time.
    Failed,
    /// Wrong usage.
    Usage,
    /// `check` found problems; `route test` says deny.
    Refused,
    /// A login is needed.
    LoginNeeded,
    /// DNS, LMS or AS unreachable: the same may work later.
    Temporary,
    /// A secret file is readable by others.
    SecretExposed,
    /// The configuration is not valid.
    Configuration,
    /// A second Ctrl-C cut the drain short.
    Interrupted,
}

impl Exit {
    /// The number that the system gets.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::LoginNeeded => 4,
            Self::Temporary => 75,
            Self::SecretExposed => 77,
            Self::Configuration => 78,
            Self::Interrupted => 130,
        }
    }

    /// How a command ends that cannot go on with this configuration.
    #[must_use]
    pub(super) fn from_problems(problems: &Problems) -> Self {
        if problems.exit_code() == Self::SecretExposed.code() {
            Self::SecretExposed
        } else {
            Self::Configuration
        }
    }

    /// Of several ends the one that is told.
    #[must_use]
    pub(super) fn worst(ends: impl IntoIterator<Item = Self>) -> Self {
        ends.into_iter()
            .max_by_key(|end| match end {
                Self::Done => 0,
                Self::Failed => 1,
                Self::Refused => 2,
                Self::Temporary => 3,
                Self::LoginNeeded => 4,
                Self::SecretExposed => 5,
                Self::Configuration => 6,
                Self::Usage => 7,
                Self::Interrupted => 8,
            })
            .unwrap_or(Self::Done)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_codes_the_first_of_the_order_is_told() {
        let order = [
            Exit::Usage,
            Exit::Configuration,
            Exit::SecretExposed,
            Exit::Temporary,
            Exit::Refused,
            Exit::Done,
        ];
        assert_eq!(
            order.map(Exit::code),
            [2, 78, 77, 75, 3, 0],
            "the order of the contract"
        );
        for (index, end) in order.iter().enumerate() {
            assert_eq!(Exit::worst(order[index..].iter().rev().copied()), *end);
        }
    }

    #[test]
    fn nothing_wrong_is_done() {
        assert_eq!(Exit::worst([]), Exit::Done);
    }
}
