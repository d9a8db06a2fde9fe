//! What this binary is.

/// The version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build said so in `BURSAR_REVISION`.
pub const REVISION: &str = match option_env!("BURSAR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The one crypto library: TLS, signatures and random numbers.
pub const CRYPTO: &str = "aws-lc-rs";
