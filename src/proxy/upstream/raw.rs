//! A connection's stream, once HTTP has let go of it.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

/// Where the task of a connection leaves its stream, if anybody has asked for it.
pub(super) type HandOver = Rc<Cell<Option<oneshot::Sender<Raw>>>>;

/// Bytes both ways, whatever they run over.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// A stream without HTTP.
pub struct Raw {
    /// The stream.
    pub stream: Box<dyn Io>,
    /// What has been read from it already.
    pub start: Bytes,
}

impl Raw {
    pub(super) fn new(stream: impl Io + 'static, start: Bytes) -> Self {
        Self {
            stream: Box::new(stream),
            start,
        }
    }
}
