//! The state machine as a whole: cell, driver and pool against a scripted authorization server, in paused time.
//!
//! Numbers like F3 name the failure modes seen in other token brokers that a test reproduces.

mod bench;
mod clocks;
mod failures;
mod pooled;
mod rejected;
mod reloaded;
mod same_token;
mod script;
mod waiting;
