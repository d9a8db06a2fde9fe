//! `bursar version`.

use serde::Serialize;

use super::{
    Exit,
    output::{self, Format},
};
use crate::admin::build;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    revision: &'static str,
    /// Optional parts that this binary was built with; it has none yet.
    features: [&'static str; 0],
    crypto: &'static str,
}

pub(super) fn run(format: Format) -> Exit {
    let version = Version {
        version: build::VERSION,
        revision: build::REVISION,
        features: [],
        crypto: build::CRYPTO,
    };
    match format {
        Format::Json => output::print_json(&version),
        Format::Table => output::print(&format!(
            "bursar {} (revision {}, crypto {})",
            version.version, version.revision, version.crypto
        )),
    }
}
