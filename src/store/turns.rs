//! Whose turn it is among the tasks of one process: first come, first served, one record at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::key::RecordName;

/// One queue for each record that somebody waits for.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<RecordName, Weak<AsyncMutex<()>>>>);

/// A turn; the next one begins when it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for a turn at the record called `name`.
    pub(super) async fn wait(&self, name: &RecordName) -> Turn {
        let queue = self.queue(name);
        queue.lock_owned().await
    }

    /// Whether somebody has the turn at the record called `name`.
    pub(super) fn is_taken(&self, name: &RecordName) -> bool {
        self.queue(name).try_lock().is_err()
    }

    fn queue(&self, name: &RecordName) -> Arc<AsyncMutex<()>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(name).and_then(Weak::upgrade) {
            return queue;
        }
        // A queue lasts for as long as somebody stands in it.
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        queues.insert(name.clone(), Arc::downgrade(&queue));
        queue
    }
}
