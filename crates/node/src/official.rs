//! What the node needs from whoever makes the official images (`fermion.dev/…`), which no
//! registry holds.

use std::sync::Arc;

use futures::future::BoxFuture;

/// Takes one line of progress text at a time, for the pod's status and for logs.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// Why an official image could not be made present.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// What failed and what to do, in plain words; shown in the pod's status.
    pub message: String,
    /// Whether trying again later can help. A name without a recipe is final.
    pub retry: bool,
}

/// Makes official images present in containerd.
pub trait ImageProvider: Send + Sync + 'static {
    /// Makes `reference` present in containerd, which may take minutes; quick when it is
    /// already there. Several callers may ask for the same image at once, and any of them may
    /// be dropped before it is done.
    fn ensure<'a>(&'a self, reference: &'a str, progress: Progress) -> BoxFuture<'a, Result<(), ImageError>>;
}
