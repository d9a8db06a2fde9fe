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
//!
//! # The map, in the order in which one request meets the files
//!
//! 1. [`proxy::listener`] accepts the connection; `proxy::connection` serves it and watches its clocks.
//! 2. [`proxy::handler`] is the whole life of one request in one function.
//! 3. [`proxy::screen`] refuses what is not plain HTTP for one of our hosts; `proxy::caller` asks for the caller key, where there is one.
//! 4. [`policy`] decides: a [`policy::Permit`], or a [`policy::Denial`]. Default deny.
//! 5. [`token`] is the only door to a token, and it asks for the permit.
//! 6. [`proxy::inject`] is the only place where a credential meets a request.
//! 7. [`proxy::upstream`] sends it to the one configured origin.
//! 8. [`proxy::reject`] is the one table of responses that bursar makes itself.
//!
//! Beside the requests: `app::reload` takes a changed configuration over, [`publication`] looks whether the world sees the keys that sign, and
//! [`admin`] answers probes, Prometheus and people.
//!
//! # Layers
//!
//! A module imports only from layers below its own; `tests/it/layers.rs` proves it, and names the few
//! imports between siblings.
//!
//! | layer | modules |
//! | --- | --- |
//! | 6 | `main` |
//! | 5 | [`cli`] |
//! | 4 | [`app`], [`mock`] |
//! | 3 | [`config`] |
//! | 2 | [`proxy`], [`admin`] |
//! | 1 | [`token`], [`publication`] |
//! | 0b | [`oauth`], [`policy`] |
//! | 0a | [`dial`], [`tls`], [`keys`], [`id_key`], [`scope`], [`secret`], [`socket`], [`store`], [`clock`], [`random`], [`backoff`], [`code`], [`problem`], [`causes`], [`series`], [`telemetry`] |

pub mod proxy;

pub mod policy;

pub mod token;

pub mod publication;

pub mod oauth;

pub mod admin;

pub mod config;

pub mod app;
pub mod cli;
pub mod mock;

pub mod backoff;
pub mod causes;
pub mod clock;
pub mod code;
pub mod dial;
pub mod id_key;
pub mod keys;
pub mod problem;
pub mod random;
pub mod scope;
pub mod secret;
pub mod series;
pub mod socket;
pub mod store;
pub mod telemetry;
pub mod tls;
