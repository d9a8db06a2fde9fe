//! bursar from outside, one binary.
//!
//! Every test starts a whole bursar in this process, or the built program, between peers made by hand:
//! real sockets, real time, no mocks of our own parts. Waiting is done by gates and counters, not by sleeping.

#![allow(
    unreachable_pub,
    reason = "the support modules are shared by the tests of this one binary"
)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

/// The tree of modules: nothing imports upwards, no cycles.
mod layers;

/// A permitted request arrives as it was sent, with a token, and so does its answer.
mod forwarding;

/// What hyper lets through and a proxy must not: the raw requests of the application.
mod framing;

/// HTTP/2 from the application.
mod h2c;

/// HTTP/1.0 from the application.
mod http10;

/// Requests that become WebSockets.
mod websocket;

/// Raw answers of the LMS.
mod answers;

/// The LMS asks for fewer requests.
mod pace;

/// Which names are ours.
mod hosts;

/// Exactly one credential, ours, whatever the application sends.
mod injection;

/// Who may call at all.
mod caller;

/// Unix sockets, and which users may connect.
mod unix_sockets;

/// Default deny: no byte leaves without a permit.
mod denials;

/// Moodle: functions in place of paths, and a token that is a parameter.
mod moodle;

/// Report mode: through, but not unseen.
mod report_mode;

/// Whose token goes where.
mod credentials;

/// Requests that are signed instead of carrying a token.
mod id_key;

/// People log in.
mod login;

/// Refresh tokens that are good once: signals, lost answers, and processes that share a login.
mod rotation;

/// The life of a token against an authorization server that behaves badly.
mod token_lifecycle;

/// How bursar proves itself at the token endpoint.
mod client_auth;

/// Where Envoy was measured: the same situations.
mod envoy;

/// The LMS says 401.
mod unauthorized;

/// Sizes, times and numbers.
mod limits;

/// Before the simulated LMS, with faults on demand: what bursar heals, and what it leaves to the application.
mod mock;

/// Every profile before the LMS that it is for: each answer that the provider is known to give.
mod profiles;

/// TLS to the LMS.
mod tls;

/// HTTP/2 to the LMS.
mod http2;

/// Who bursar is to a server that asks.
mod mutual_tls;

/// The way out through a company proxy.
mod company_proxy;

/// The admin sockets.
mod admin;

/// Changed configurations, rotated secrets.
mod reload;

/// Keys that follow each other.
mod key_rotation;

/// Shutdown, drain, deadline.
mod drain;

/// The built program: commands, exit codes, what they print.
mod commands;

/// P8: no secret in any output, at the most talkative log level.
mod secrets;

/// README and docs/ say what the program does.
mod documentation;
