//! The rotations under way, which a shutdown waits for.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// All of the process.
#[derive(Default)]
pub struct Rotations {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Rotations {
    /// Begins one as a task of its own. False after [`finish`](Self::finish): what has not begun by then does not begin.
    pub(super) fn begin(&self, rotation: impl Future<Output = ()> + Send + 'static) -> bool {
        // Tracked before it is looked: whoever finishes then either waits for this one or is seen here.
        let token = self.tasks.token();
        if self.is_closing() {
            return false;
        }
        tokio::spawn(async move {
            rotation.await;
            drop(token);
        });
        true
    }

    /// Whether the process ends.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Ready when the process ends.
    pub(super) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Lets nothing new begin, and waits until those under way have written their answers down. An answer that cannot be written is
    /// tried once more.
    pub async fn finish(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
