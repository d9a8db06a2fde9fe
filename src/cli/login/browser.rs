//! Opening a browser, without a shell in between: the address is one argument, whatever is in it.

use std::process::{Command, Stdio};

use url::Url;

use crate::cli::Surroundings;

/// What systems have for it, in the order in which they are tried: freedesktop.org, macOS, WSL.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

/// A program and its arguments.
type Words = Vec<String>;

/// Opens `url` by `$BROWSER` (a list with colons between, `%s` for the address), else by what the system has. Whether some program
/// was started; whether it shows anything, nobody tells.
pub(super) fn open(url: &Url, browser: Option<&str>) -> bool {
    commands(url, browser).iter().any(|words| start(words))
}

/// Whether nobody sits before a screen of this machine, as far as the environment tells.
pub(super) fn is_elsewhere(surroundings: &Surroundings) -> bool {
    let is_set = |name| surroundings.variable(name).is_some();
    (is_set("SSH_CONNECTION") || is_set("SSH_TTY")) && !is_set("BROWSER")
}

fn commands(url: &Url, browser: Option<&str>) -> Vec<Words> {
    let wanted = browser
        .unwrap_or_default()
        .split(':')
        .filter_map(|command| {
            let mut words: Words = command.split_whitespace().map(str::to_owned).collect();
            let has_place = words.iter().skip(1).any(|word| word.contains("%s"));
            for word in words.iter_mut().skip(1) {
                *word = word.replace("%s", url.as_str());
            }
            if !has_place {
                words.push(url.as_str().to_owned());
            }
            (words.len() > 1).then_some(words)
        });
    let usual = OPENERS.map(|opener| vec![opener.to_owned(), url.as_str().to_owned()]);
    wanted.chain(usual).collect()
}

fn start(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    // What it has to say is not for this terminal.
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(mut child) => {
            // Waited for by a thread of its own: a browser may live longer than the login.
            std::thread::spawn(move || child.wait());
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        "https://as.test/auth?a=1&b=$(rm%20-rf)".parse().unwrap()
    }

    #[test]
    fn the_address_is_one_argument_and_never_the_program() {
        let url = url();
        let commands = commands(&url, Some("my-browser --new %s:lynx:%s: "));
        assert_eq!(commands[0], ["my-browser", "--new", url.as_str()]);
        assert_eq!(commands[1], ["lynx", url.as_str()]);
        // A program that would be called by the address alone.
        assert_eq!(commands[2], ["%s", url.as_str()]);
        assert_eq!(commands[3], ["xdg-open", url.as_str()]);
        assert_eq!(commands.len(), 6);
    }

    #[test]
    fn a_browser_that_is_not_there_is_no_browser() {
        assert!(!start(&["/nowhere/browser".to_owned(), "x".to_owned()]));
        assert!(start(&["true".to_owned(), "x".to_owned()]));
    }

    #[test]
    fn over_ssh_the_browser_is_elsewhere() {
        let of = |names: &[&str]| {
            is_elsewhere(&Surroundings {
                environment: names
                    .iter()
                    .map(|name| ((*name).to_owned(), "x".to_owned()))
                    .collect(),
                ..Surroundings::default()
            })
        };
        assert!(of(&["SSH_CONNECTION"]));
        assert!(of(&["SSH_TTY", "TERM"]));
        assert!(!of(&["SSH_TTY", "BROWSER"]));
        assert!(!of(&["DISPLAY"]));
    }
}
