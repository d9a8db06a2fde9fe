//! From one generation of the configuration to the next while the workers serve.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Listeners;
use crate::proxy::Proxy;

/// Gives the workers the next generation of the configuration while they serve.
pub struct Switch(Vec<mpsc::UnboundedSender<Succession>>);

/// One generation for one worker.
pub(super) struct Succession {
    pub(super) proxy: Arc<Proxy>,
    /// Told when it is in force there.
    pub(super) entered: oneshot::Sender<()>,
}

impl Switch {
    /// For these workers, before they serve.
    pub fn new(workers: &mut [Listeners]) -> Self {
        let channel = |worker: &mut Listeners| {
            let (sender, receiver) = mpsc::unbounded_channel();
            worker.successions = Some(receiver);
            sender
        };
        Self(workers.iter_mut().map(channel).collect())
    }

    /// Puts `proxy` into force: for every request that begins after this has returned. Those in flight end as they began,
    /// with the settings, the policy and the credentials that they began with. Its listeners are those that are bound
    /// already; its number of workers is the one there is.
    pub async fn hand_over(&self, proxy: &Arc<Proxy>) {
        let hand = |worker: &mpsc::UnboundedSender<Succession>| {
            let (entered, is_in_force) = oneshot::channel();
            let proxy = Arc::clone(proxy);
            // A worker that has ended needs none.
            let _ = worker.send(Succession { proxy, entered });
            is_in_force
        };
        let all: Vec<_> = self.0.iter().map(hand).collect();
        for is_in_force in all {
            let _ = is_in_force.await;
        }
    }
}
