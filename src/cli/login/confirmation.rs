//! Where no `state` comes back (a relay), any page can send the browser here with a login of its own choice (RFC 6749
//! section 10.12): a person at the terminal says whether it is theirs.

use std::time::Duration;

use http::StatusCode;
use tokio::{sync::mpsc, time::sleep};

use super::{
    dialogue::{DialogueError, Listener},
    lines::Lines,
    page::Page,
};
use crate::cli::{output::tell, signals::Stop};

/// What it takes to ask.
pub(super) struct Confirmation<'a> {
    /// The browser that has brought the answer. It does not wait for the person: nobody does from then on.
    pub(super) listener: &'a mut Listener,
    /// What the person types.
    pub(super) lines: Option<Lines>,
    /// How long they may take.
    pub(super) limit: Duration,
    /// Ctrl-C.
    pub(super) stops: &'a mut mpsc::Receiver<Stop>,
}

impl Confirmation<'_> {
    /// Whether the login of `account`, if it is known whose it is, shall be stored.
    ///
    /// # Errors
    ///
    /// [`DialogueError`], for any answer but yes.
    pub(super) async fn ask(self, account: Option<&str>) -> Result<(), DialogueError> {
        let browser = std::mem::replace(self.listener, Listener::Terminal);
        browser
            .tell(Page::new(
                StatusCode::OK,
                "Almost logged in",
                "Whether this login is yours is asked in the terminal: it counts when you say so there. You can close this tab.",
            ))
            .await;
        tell(&question(account));
        tokio::select! {
            is_confirmed = is_confirmed(self.lines) => match is_confirmed {
                true => Ok(()),
                false => Err(DialogueError::NotConfirmed),
            },
            () = sleep(self.limit) => Err(DialogueError::TimedOut(self.limit)),
            _ = self.stops.recv() => Err(DialogueError::Interrupted),
        }
    }
}

fn question(account: Option<&str>) -> String {
    let whose = match account {
        Some(account) => format!("the account {account:?}"),
        None => "an account that the answer does not name".to_owned(),
    };
    format!(
        "\nA browser has brought a login, for {whose}. The relay passes no state on, so another web page can have sent it.\n\
         Have you just logged in there yourself, and is it yours? Store this login? [y/n] "
    )
}

/// An empty line may have been typed before the question; the end of the input is no yes.
async fn is_confirmed(lines: Option<Lines>) -> bool {
    let Some(mut lines) = lines else {
        return false;
    };
    while let Some(line) = lines.next().await {
        match line.trim() {
            "" => tell("Please answer y or n: "),
            word => return word.eq_ignore_ascii_case("y") || word.eq_ignore_ascii_case("yes"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(lines: Option<Lines>) -> Result<(), DialogueError> {
        let (_sender, mut stops) = mpsc::channel(1);
        let confirmation = Confirmation {
            listener: &mut Listener::Terminal,
            lines,
            limit: Duration::from_secs(60),
            stops: &mut stops,
        };
        confirmation.ask(Some("169")).await
    }

    #[tokio::test]
    async fn only_a_yes_is_a_yes() {
        for lines in [&["y"][..], &["YES"], &["", " ", "y"]] {
            assert!(ask(Some(Lines::typed(lines))).await.is_ok(), "{lines:?}");
        }
        for lines in [&["n"][..], &["yep"], &["n", "y"], &[""], &[]] {
            let refused = ask(Some(Lines::typed(lines))).await;
            assert!(
                matches!(refused, Err(DialogueError::NotConfirmed)),
                "{lines:?}"
            );
        }
        assert!(ask(None).await.is_err(), "nobody is here");
    }

    #[test]
    fn the_question_names_the_account_and_lets_nothing_act_on_the_terminal() {
        assert!(question(Some("ann")).contains("\"ann\""));
        assert!(!question(Some("\u{1b}[2J")).contains('\u{1b}'));
        assert!(question(None).contains("does not name"));
    }
}
