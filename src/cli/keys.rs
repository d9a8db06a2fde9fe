//! `bursar keys`: making signing keys, rotating them, and showing what is public of them.

mod holder;
mod list;
mod new;
mod plan;
mod rotate;

use std::time::Duration;

use super::{
    Exit, Surroundings,
    args::{KeysCommand, NewKeyArgs, RotateArgs},
    output,
};
use crate::{
    causes::with_causes,
    clock::{Clock as _, SystemClock},
    keys::{PublicKeySet, public_key_set},
};
use holder::Holder;
use new::NewKeyError;

pub(super) fn run(command: KeysCommand, surroundings: &Surroundings) -> Exit {
    let done = match command {
        KeysCommand::New(args) => Ok(new_key(&args, surroundings)),
        KeysCommand::List { whose, output } => Holder::find(&whose, surroundings)
            .map(|holders| list::show(&holders, now(), output.output)),
        KeysCommand::Jwks(whose) => {
            Holder::find(&whose, surroundings).map(|holders| output::print(&jwks(&holders, now())))
        }
        KeysCommand::Rotate(args) => Holder::find(&args.whose, surroundings)
            .and_then(|holders| Holder::the_rotated(holders, args.whose.credential.as_deref()))
            .map(|holder| rotate(&holder, &args)),
    };
    done.unwrap_or_else(|exit| exit)
}

fn now() -> Duration {
    SystemClock.now().wall
}

fn new_key(args: &NewKeyArgs, surroundings: &Surroundings) -> Exit {
    let made = match &args.dir {
        Some(directory) => new::begin_directory(args.alg, directory, now()),
        None => new::new(
            args.alg,
            args.out.as_deref(),
            args.force,
            surroundings.stdout_is_terminal,
        ),
    };
    match made {
        Ok(made) => {
            output::tell(&made.stderr);
            output::print(&made.stdout)
        }
        Err(error) => {
            output::tell(&format!("bursar: {}\n", with_causes(&error)));
            match error {
                NewKeyError::Terminal => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}

fn rotate(holder: &Holder, args: &RotateArgs) -> Exit {
    match rotate::rotate(holder, args, now()) {
        Ok(said) => {
            let printed = output::print(&said.plan);
            output::tell(&said.next_step);
            printed
        }
        Err(error) => {
            output::tell(&format!("bursar: {}\n", with_causes(&error)));
            error.exit()
        }
    }
}

/// The public halves of the keys that are published at `now`, as a key set (RFC 7517 section 5).
fn jwks(holders: &[Holder], now: Duration) -> String {
    let published: Vec<_> = holders
        .iter()
        .flat_map(|holder| holder.ring.published(now))
        .collect();
    to_json(&public_key_set(&published))
}

fn to_json(set: &PublicKeySet) -> String {
    #[expect(
        clippy::expect_used,
        reason = "strings in structs: there is nothing that JSON cannot hold"
    )]
    let mut json = serde_json::to_string_pretty(set).expect("a public key set is JSON");
    json.push('\n');
    json
}
