//! By which way an origin is reached.

use std::sync::Arc;

use tokio::io::DuplexStream;

use super::HttpProxy;

/// By which way an origin is reached.
#[derive(Clone, Default)]
pub enum Way {
    /// Over the network, straight.
    #[default]
    Direct,
    /// Over the network, through a proxy.
    Proxy(Arc<HttpProxy>),
    /// Not over the network: the peer is in this process, as in a bench. Never configured.
    Memory(Arc<Connect>),
}

/// Makes a connection to a peer in this process: our end of it.
pub type Connect = dyn Fn() -> DuplexStream + Send + Sync;

impl From<Option<Arc<HttpProxy>>> for Way {
    fn from(proxy: Option<Arc<HttpProxy>>) -> Self {
        proxy.map_or(Self::Direct, Self::Proxy)
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct, Self::Direct) => true,
            (Self::Proxy(one), Self::Proxy(other)) => one == other,
            (Self::Memory(one), Self::Memory(other)) => Arc::ptr_eq(one, other),
            (Self::Direct | Self::Proxy(_) | Self::Memory(_), _) => false,
        }
    }
}

impl Way {
    /// The proxy, where there is one.
    pub(super) fn proxy(&self) -> Option<&HttpProxy> {
        match self {
            Self::Proxy(proxy) => Some(proxy),
            Self::Direct | Self::Memory(_) => None,
        }
    }
}
