//! `bursar keys rotate`: makes the next key, and deletes those that nobody needs any more.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use super::{
    Holder,
    plan::{self, Planned},
};
use crate::{
    cli::{Exit, args::RotateArgs},
    keys::{
        Algorithm, KeyError, KeyStart, KeyState, KeyTerms, SigningKey,
        directory::KeyDirectory,
        generate,
        timeline::{Timeline, Turn},
    },
    secret::SecretString,
};

/// What the command has to say.
#[derive(Debug)]
pub(super) struct Said {
    /// What happens when: data.
    pub(super) plan: String,
    /// What a person has to do: talk.
    pub(super) next_step: String,
}

/// Why there is no rotation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum RotateError {
    /// A rotation is under way.
    #[error(
        "key {kid} was made already and waits for its turn at {start}: nothing to do. --replace deletes it and makes another; \
         --now replaces every key at once, for keys that have leaked"
    )]
    Waiting {
        /// The id of the key that waits.
        kid: String,
        /// When its turn begins.
        start: KeyStart,
    },
    /// The AS may not know the new key by then.
    #[error(
        "--in {} is less than jwks_max_age ({}): the authorization server may not know the key by then, and would refuse token requests",
        humantime::format_duration(*lead),
        humantime::format_duration(*max_age)
    )]
    TooSoon {
        /// `--in`.
        lead: Duration,
        /// `jwks_max_age`.
        max_age: Duration,
    },
    /// The keys are in no directory: a bug, they have been chosen for it.
    #[error("there is no keys_dir")]
    NoDirectory,
    /// The directory cannot be changed.
    #[error(
        "cannot change {path}; where it is mounted read-only, rotate the keys where they come from (`bursar keys rotate --dir`)"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The crypto library failed.
    #[error("no key could be made")]
    Key(#[from] KeyError),
}

impl RotateError {
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::TooSoon { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// What a rotation will do.
#[derive(Debug, PartialEq, Eq)]
struct Rotation {
    /// When the new key begins to sign.
    start: KeyStart,
    /// The keys to delete, by their starts.
    delete: Vec<KeyStart>,
}

/// Rotates the keys of `holder`, or with `--plan` only says what that would do. `now`: time since the Unix epoch.
pub(super) fn rotate(
    holder: &Holder,
    args: &RotateArgs,
    now: Duration,
) -> Result<Said, RotateError> {
    let ring = &holder.ring;
    let terms = ring.terms();
    let rotation = decide(ring.timeline(), terms, args, now)?;
    let algorithm = args.alg.unwrap_or_else(|| ring.signing(now).algorithm());
    let label = if args.plan {
        format!("(new, {algorithm})")
    } else {
        carry_out(holder, &rotation, algorithm)?
    };

    let stages = ring.timeline().at(now);
    let (deleted, kept): (Vec<_>, Vec<_>) = stages
        .iter()
        .map(|stage| stage.turn)
        .partition(|turn| rotation.delete.contains(&turn.start));
    let deleted: Vec<String> = deleted
        .iter()
        .map(|turn| turn.key.kid().to_owned())
        .collect();
    let kept = kept.into_iter().map(|turn| Turn {
        start: turn.start,
        key: Planned {
            label: turn.key.kid().to_owned(),
            is_new: false,
        },
    });
    let made = Turn {
        start: rotation.start,
        key: Planned {
            label,
            is_new: true,
        },
    };
    let timeline = Timeline::new(kept.chain([made]).collect(), terms.overlap());
    let plan = timeline.map_or_else(String::new, |timeline| {
        plan::render(&timeline, &deleted, now)
    });
    Ok(Said {
        plan,
        next_step: next_step(holder, args, &rotation),
    })
}

/// What is to be done, and whether it may be. Changes nothing.
fn decide(
    timeline: &Timeline<Arc<SigningKey>>,
    terms: KeyTerms,
    args: &RotateArgs,
    now: Duration,
) -> Result<Rotation, RotateError> {
    let stages = timeline.at(now);
    let starts_of = |state: KeyState| {
        let those = stages.iter().filter(move |stage| stage.state == state);
        those.map(|stage| stage.turn.start)
    };
    if args.now {
        return Ok(Rotation {
            // Alone it signs at once, even where its second is taken and it is called after the next one.
            start: free(timeline, now, KeyStart::at(now)),
            delete: stages.iter().map(|stage| stage.turn.start).collect(),
        });
    }
    let mut delete: Vec<KeyStart> = starts_of(KeyState::Expired).collect();
    if args.replace {
        delete.extend(starts_of(KeyState::Next));
    } else if let Some(waiting) = stages.iter().find(|stage| stage.state == KeyState::Next) {
        return Err(RotateError::Waiting {
            kid: waiting.turn.key.kid().to_owned(),
            start: waiting.turn.start,
        });
    }
    // Twice: time for every replica, and every copy of the key set, to get the new file before the time that the AS needs begins.
    let lead = args.lead.unwrap_or_else(|| terms.max_age.saturating_mul(2));
    if lead < terms.max_age {
        return Err(RotateError::TooSoon {
            lead,
            max_age: terms.max_age,
        });
    }
    // The first key signs before its own start: its successor follows it all the same.
    let active = starts_of(KeyState::Active).map(KeyStart::wall).max();
    let from = now.max(active.unwrap_or_default());
    Ok(Rotation {
        start: free(timeline, now, KeyStart::at(from.saturating_add(lead))),
        delete,
    })
}

/// The first second from `start` on that no key is called after.
fn free(timeline: &Timeline<Arc<SigningKey>>, now: Duration, start: KeyStart) -> KeyStart {
    let stages = timeline.at(now);
    let mut free = start;
    // Of as many seconds as there are keys, and one more, one is free.
    for _ in &stages {
        if stages.iter().any(|stage| stage.turn.start == free) {
            free = KeyStart::at(free.wall().saturating_add(Duration::from_secs(1)));
        }
    }
    free
}

/// Writes first and deletes later: whatever happens in between, there is a key. Gives the id of the new one.
fn carry_out(
    holder: &Holder,
    rotation: &Rotation,
    algorithm: Algorithm,
) -> Result<String, RotateError> {
    let path = holder.ring.directory().ok_or(RotateError::NoDirectory)?;
    let failed = |source| RotateError::Directory {
        path: path.clone(),
        source,
    };
    let pem: SecretString = generate(algorithm)?;
    let kid = SigningKey::from_pem(&pem, Some(algorithm), None)?
        .kid()
        .to_owned();
    let directory = KeyDirectory::open(path).map_err(failed)?;
    directory.add(rotation.start, &pem).map_err(failed)?;
    for start in &rotation.delete {
        directory.remove(*start).map_err(failed)?;
    }
    Ok(kid)
}

fn next_step(holder: &Holder, args: &RotateArgs, rotation: &Rotation) -> String {
    let whose = match (&holder.name, holder.ring.directory()) {
        (Some(name), _) => format!(" {name}"),
        (None, Some(directory)) => format!(" --dir {}", directory.display()),
        (None, None) => String::new(),
    };
    if args.now {
        return format!(
            "Next: put what `bursar keys jwks{whose}` prints in the place of the key set at once, if you host it as a file.\n\
             Token requests may be refused (invalid_client) until the authorization server fetches the key set again,\n\
             which may take {}. Tokens that were issued before stay good.\n",
            humantime::format_duration(holder.ring.terms().max_age)
        );
    }
    let deadline = rotation
        .start
        .wall()
        .saturating_sub(holder.ring.terms().max_age);
    format!(
        "Next: nothing, where bursar itself publishes the key set. If you host it as a file, put what\n\
         `bursar keys jwks{whose}` prints there before {}.\n",
        KeyStart::at(deadline)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::args::{Cli, Command, KeysCommand},
        keys::{KeyRing, directory, testing::TERMS},
        secret::SecretFiles,
    };

    pub(in crate::cli::keys) const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A client `d2l` with keys in a directory, that begin at these moments.
    pub(in crate::cli::keys) fn holder(starts: &[u64]) -> (tempfile::TempDir, Holder) {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyDirectory::open(directory.path()).unwrap();
        for start in starts {
            let pem = generate(Algorithm::EdDsa).unwrap();
            keys.add(KeyStart::at(seconds(*start)), &pem).unwrap();
        }
        let holder = read(directory.path());
        (directory, holder)
    }

    fn read(path: &std::path::Path) -> Holder {
        let found = directory::read(path, SecretFiles::Private, None).unwrap();
        Holder {
            name: Some("d2l".into()),
            ring: Arc::new(KeyRing::new(found.keys, TERMS, path.to_owned()).unwrap()),
        }
    }

    fn args(line: &str) -> RotateArgs {
        let words = "bursar keys rotate"
            .split(' ')
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(Command::Keys(KeysCommand::Rotate(args))) => args,
            _ => panic!("{line:?} is a rotation"),
        }
    }

    fn starts(path: &std::path::Path) -> Vec<u64> {
        let mut starts: Vec<u64> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| KeyStart::from_file_name(&name).unwrap().wall().as_secs())
            .collect();
        starts.sort_unstable();
        starts
    }

    #[test]
    fn the_next_key_signs_when_the_server_can_know_it_and_what_nobody_needs_is_deleted() {
        // The first has expired at 10_000 + 3_660.
        let (directory, holder) = holder(&[1_000, 10_000]);
        let said = rotate(&holder, &args(""), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [10_000, 27_200]);
        assert!(said.plan.contains("is deleted"), "{}", said.plan);
        assert!(said.next_step.contains("bursar keys jwks d2l"));
        // 23_600 s: what is published by then is known at 27_200.
        assert!(
            said.next_step.contains("before 1970-01-01T06:33:20Z"),
            "{}",
            said.next_step
        );
        let views = read(directory.path()).ring.views(seconds(20_000));
        assert_eq!(views[1].state, "next");
        assert!(said.plan.contains(&views[1].kid), "{}", said.plan);
    }

    #[test]
    fn a_plan_changes_nothing() {
        let (directory, holder) = holder(&[1_000, 10_000]);
        let said = rotate(&holder, &args("--plan --alg ES256"), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [1_000, 10_000]);
        assert!(said.plan.contains("(new, ES256)"), "{}", said.plan);
        assert!(said.plan.contains("1970-01-01T07:33:20Z"), "{}", said.plan);
    }

    #[test]
    fn while_a_key_waits_there_is_no_other_unless_it_takes_its_place() {
        let (directory, holder) = holder(&[1_000, 30_000]);
        let refused = rotate(&holder, &args(""), seconds(20_000)).unwrap_err();
        assert!(
            matches!(&refused, RotateError::Waiting { start, .. } if start.wall() == seconds(30_000))
        );
        assert_eq!(refused.exit(), Exit::Failed);
        assert_eq!(starts(directory.path()), [1_000, 30_000]);

        rotate(&holder, &args("--replace"), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [1_000, 27_200]);
    }

    #[test]
    fn keys_that_have_leaked_are_replaced_at_once() {
        let (directory, holder) = holder(&[1_000, 10_000, 30_000]);
        let said = rotate(&holder, &args("--now"), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [20_000]);
        assert!(
            said.next_step.contains("may be refused"),
            "{}",
            said.next_step
        );
        let ring = read(directory.path()).ring;
        assert_eq!(ring.views(seconds(20_000))[0].state, "active");
    }

    #[test]
    fn a_second_that_is_taken_is_not_taken_again() {
        let (directory, holder) = holder(&[20_000, 20_001]);
        rotate(&holder, &args("--now"), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [20_002]);
        let ring = read(directory.path()).ring;
        assert_eq!(ring.views(seconds(20_000))[0].state, "active");
    }

    #[test]
    fn the_time_to_the_turn_is_never_shorter_than_a_server_may_cache() {
        let (directory, holder) = holder(&[1_000]);
        let refused = rotate(&holder, &args("--in 59m"), seconds(20_000)).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert!(
            refused
                .to_string()
                .contains("--in 59m is less than jwks_max_age (1h)")
        );
        rotate(&holder, &args("--in 1h"), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [1_000, 23_600]);
    }

    #[test]
    fn the_algorithm_is_that_of_the_present_key_unless_another_is_wanted() {
        let (directory, holder) = holder(&[1_000]);
        rotate(&holder, &args(""), seconds(20_000)).unwrap();
        let views = read(directory.path()).ring.views(seconds(20_000));
        assert_eq!(views[1].algorithm, Algorithm::EdDsa);
        rotate(
            &read(directory.path()),
            &args("--replace --alg ES256"),
            seconds(20_001),
        )
        .unwrap();
        let views = read(directory.path()).ring.views(seconds(20_001));
        assert_eq!(views[1].algorithm, Algorithm::Es256);
    }

    #[test]
    fn a_first_key_that_is_ahead_of_the_clock_is_followed_by_its_successor() {
        let (directory, holder) = holder(&[50_000]);
        rotate(&holder, &args(""), seconds(20_000)).unwrap();
        assert_eq!(starts(directory.path()), [50_000, 57_200]);
    }

    #[test]
    fn a_directory_that_is_gone_is_told() {
        let (directory, holder) = holder(&[1_000]);
        drop(directory);
        let failed = rotate(&holder, &args(""), seconds(20_000)).unwrap_err();
        assert!(failed.to_string().contains("cannot change"));
    }
}
