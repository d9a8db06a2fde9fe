//! What stands between bursar and the servers that it calls.

use std::sync::Arc;

use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, proxy::ProxyUrl},
    },
    dial::{HttpProxy, Origin},
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

/// Notes it, and gives `None`, where plain http to loopback would leave this machine after all: a proxy elsewhere carries it there
/// in clear, and connects to a loopback of its own.
pub(super) fn keeps_plain_http_here(
    reader: &mut Reader,
    table: &Table,
    origin: &Origin,
    proxy: Option<&HttpProxy>,
) -> Option<()> {
    if origin.tls || proxy.is_none_or(HttpProxy::is_on_this_machine) {
        return Some(());
    }
    let fault = Fault::new(
        ProblemCode::PlainHttp,
        "would carry credentials unencrypted to the proxy, and from there to a loopback address of the proxy's own machine",
        "remove it: a server on this machine is reached without a proxy; one elsewhere needs https://",
    );
    reader.fault(table, "http_proxy", fault);
    None
}
