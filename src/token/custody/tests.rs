//! Rotations against an authorization server in memory, with stores on a real disk where it is the disk that fails.

mod answers;
mod bench;
mod fortunes;
mod lost;
mod rotating;
mod sharing;
mod unwritten;
