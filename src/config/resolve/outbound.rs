//! What stands between bursar and the servers that it calls.

use std::sync::Arc;

use crate::{
    config::{
        reader::{Reader, Table},
        value::proxy::ProxyUrl,
    },
    dial::HttpProxy,
};

/// The company proxy, if there is one. The outer `None`: a problem was noted.
#[expect(
    clippy::option_option,
    reason = "absent and invalid are different here, and the inner one is the parameter"
)]
pub(super) fn http_proxy(reader: &mut Reader, table: &Table) -> Option<Option<Arc<HttpProxy>>> {
    if !table.has("http_proxy") {
        return Some(None);
    }
    let url = reader.get::<ProxyUrl>(table, "http_proxy")?;
    if url.is_secret {
        reader.warn_exposed(table, "http_proxy");
    }
    Some(Some(Arc::new(url.proxy)))
}
