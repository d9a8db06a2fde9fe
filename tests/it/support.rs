//! Peers made by hand and a bursar between them.

pub mod authorization_server;
pub mod bursar;
pub mod connect_proxy;
pub mod http;
pub mod peer;
pub mod person;
pub mod program;
pub mod simulated;
