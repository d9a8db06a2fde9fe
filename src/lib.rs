//! bursar: a token-brokering sidecar reverse proxy for Learning Management Systems.
//!
//! The application talks plain HTTP to bursar. bursar decides whether the request is covered by
//! the scope allowlist of its route, puts a valid bearer token on it and forwards it to the LMS,
//! or answers itself. The application never holds a credential.
//!
//! # Words
//!
//! *Application* or *downstream*: the process beside us. *Upstream*: the LMS's API. *Client*: bursar
//! towards the LMS. *Authorization server* (AS): who issues tokens. A *rejection* is any response
//! that bursar made itself.

pub mod admin;
pub mod app;
pub mod backoff;
pub mod causes;
pub mod clock;
pub mod code;
pub mod config;
pub mod dial;
pub mod keys;
pub mod mock;
pub mod oauth;
pub mod policy;
pub mod problem;
pub mod proxy;
pub mod random;
pub mod scope;
pub mod secret;
pub mod telemetry;
pub mod tls;
pub mod token;
