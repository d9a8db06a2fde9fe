//! A panic in one request ends that request, not the connection handling and not the process (R90).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// The future panicked. The payload is dropped unread: it may quote a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Polls `future` and turns a panic into a value.
pub(super) fn contain<F: Future>(future: F) -> Contained<F> {
    Contained { future }
}

pin_project! {
    /// See [`contain`].
    pub(super) struct Contained<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // Whatever the future held is dropped with it; nothing that it may have left half-done is
        // looked at again but the request's record, whose fields are each valid by themselves.
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => {
                drop_payload(payload);
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

/// A payload whose own drop panics must not get through either.
fn drop_payload(payload: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_after_a_wait_becomes_a_value() {
        let outcome = contain(async {
            tokio::task::yield_now().await;
            panic!("secret");
        })
        .await;
        assert_eq!(outcome, Err::<(), _>(Panicked));
    }

    #[tokio::test]
    async fn a_future_that_does_not_panic_is_left_alone() {
        assert_eq!(contain(async { 7 }).await, Ok(7));
    }
}
