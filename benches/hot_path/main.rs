//! What a request costs bursar itself: the steps of its way one by one, and the whole of it.
//!
//! - `cargo bench` tells times (criterion). They wander with the machine: compare within one run.
//! - `benches/instructions` tells instructions of user space, counted by callgrind. They hardly wander, and the kernel's share, which is
//!   not ours, is not in them.
//!
//! The whole request goes through pipes in memory, between an application and an LMS on the same thread: no socket, no other thread, and so
//! its instructions can be counted too. `direct` is the same application and LMS with nothing between: what bursar adds is the
//! difference.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

mod steps;
mod whole;

use std::{env, process::ExitCode};

use criterion::Criterion;

/// One round of a case; the case has been set up.
type Round = Box<dyn FnMut()>;

/// Sets a case up.
type Make = fn() -> Round;

/// What is measured, by name.
const CASES: &[(&str, Make)] = &[
    ("canonicalise/plain", steps::canonicalise_plain),
    ("canonicalise/escaped", steps::canonicalise_escaped),
    ("scope/covered", steps::scope_covered),
    ("decide/brightspace-398-routes", steps::decide_brightspace),
    ("decide/canvas-1010-routes", steps::decide_canvas),
    ("token/load", steps::token_load),
    ("headers/request", steps::request_headers),
    ("headers/response", steps::response_headers),
    ("whole/direct", whole::direct),
    ("whole/bursar", whole::bursar),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--list-cases"] => {
            for (name, _) in CASES {
                println!("{name}");
            }
        }
        [_, "--rounds", rounds, name] => {
            let Some((_, make)) = CASES.iter().find(|(known, _)| *known == name) else {
                eprintln!("no case {name}");
                return ExitCode::from(2);
            };
            let mut round = make();
            for _ in 0..rounds.parse::<u32>().unwrap_or(0) {
                round();
            }
        }
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            for (name, make) in CASES {
                criterion.bench_function(name, |bencher| {
                    let mut round = make();
                    bencher.iter(&mut round);
                });
            }
            criterion.final_summary();
        }
    }
    ExitCode::SUCCESS
}
