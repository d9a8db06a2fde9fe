//! Runs the tasks that hyper makes for one connection.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

use super::super::upload::Upload;

/// How long a connection that is no longer wanted may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs them on this thread.
#[derive(Clone)]
pub(super) struct LocalExecutor {
    driver: Rc<Driver>,
    uploading: Uploading,
}

/// What is known of the task that moves the bytes: the first one that hyper makes.
#[derive(Default)]
pub(super) struct Driver {
    is_running: Cell<bool>,
    is_unwanted: Cell<bool>,
    moved: RefCell<Option<Box<dyn Fn()>>>,
}

/// The upload whose body hyper has just begun to read.
///
/// hyper reads a body once at once, and makes a task for it only if there is more to come: that task
/// is the one made next. It has to be known, because it goes on, and may wait for the LMS for ever,
/// when nobody wants the exchange any more.
#[derive(Clone, Default)]
pub(super) struct Uploading(Rc<Cell<Option<Rc<Upload>>>>);

impl LocalExecutor {
    pub(super) fn new(uploading: Uploading) -> Self {
        Self {
            driver: Rc::default(),
            uploading,
        }
    }

    pub(super) fn driver(&self) -> Rc<Driver> {
        Rc::clone(&self.driver)
    }
}

impl Driver {
    /// Calls `moved` each time that something may have come from the LMS.
    pub(super) fn on_move(&self, moved: impl Fn() + 'static) {
        *self.moved.borrow_mut() = Some(Box::new(moved));
    }

    /// Nobody wants the connection any more: it may say goodbye, but not for ever.
    pub(super) fn leave(&self) {
        self.is_unwanted.set(true);
    }

    async fn run(self: Rc<Self>, connection: impl Future<Output = ()>) {
        let mut connection = pin!(connection);
        let mut patience = pin!(None);
        poll_fn(|cx| {
            let result = connection.as_mut().poll(cx);
            if let Some(moved) = &*self.moved.borrow() {
                moved();
            }
            if result.is_pending() && self.is_unwanted.get() {
                if patience.is_none() {
                    patience.set(Some(sleep_until(Instant::now() + GOODBYE)));
                }
                if let Some(patience) = patience.as_mut().as_pin_mut() {
                    return patience.poll(cx);
                }
            }
            result
        })
        .await;
    }
}

impl Uploading {
    /// hyper begins to read a body.
    pub(super) fn begin(&self, upload: Option<Rc<Upload>>) {
        self.0.set(upload);
    }

    /// The body is gone.
    pub(super) fn end(&self) {
        self.0.set(None);
    }
}

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        if !self.driver.is_running.replace(true) {
            tokio::task::spawn_local(Rc::clone(&self.driver).run(future));
            return;
        }
        let task = tokio::task::spawn_local(future);
        if let Some(upload) = self.uploading.0.take() {
            upload.runs_in(task.abort_handle());
        }
    }
}
