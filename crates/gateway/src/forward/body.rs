//! Bodies on their way through, chunk by chunk.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::directory::Lease;

/// A request's body. It notes when it last moved, so that a long upload is not taken for a
/// silent pod.
pub(crate) struct Upload {
    inner: Body,
    progress: Progress,
}

impl fmt::Debug for Upload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Upload(…)")
    }
}

impl Upload {
    pub(crate) fn new(inner: Body) -> Self {
        Self { inner, progress: Progress { origin: Instant::now(), moved_ms: Arc::new(AtomicU64::new(0)) } }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if polled.is_ready() {
            self.progress.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// When a body last moved.
#[derive(Clone)]
pub(super) struct Progress {
    origin: Instant,
    moved_ms: Arc<AtomicU64>,
}

impl Progress {
    fn moved(&self) {
        self.moved_ms.store(self.origin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn deadline(&self, patience: Duration) -> Instant {
        self.origin + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)) + patience
    }

    /// Returns when nothing moved for that long, counted from now at the earliest.
    pub(super) async fn stalled(&self, patience: Duration) {
        self.moved();
        loop {
            let deadline = self.deadline(patience);
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was passed on.
    Complete,
    /// The pod broke off.
    Broken,
    /// The caller went away.
    Abandoned,
}

type Finish = Box<dyn FnOnce(Outcome) + Send>;

/// An answer's body. At its end the connection goes back for a next request, and `finish`
/// is called, once.
pub(crate) struct Download {
    inner: Incoming,
    lease: Option<Lease>,
    finish: Option<Finish>,
}

impl Download {
    pub(crate) fn new(inner: Incoming, lease: Lease, finish: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self { inner, lease: Some(lease), finish: Some(Box::new(finish)) }
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(lease) = self.lease.take()
            && outcome == Outcome::Complete
        {
            lease.give_back(std::time::Instant::now());
        }
        if let Some(finish) = self.finish.take() {
            finish(outcome);
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.end(Outcome::Complete),
            Poll::Ready(Some(Err(_))) => self.end(Outcome::Broken),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // The server does not poll past the end of a body whose length it knows.
        let outcome = if self.inner.is_end_stream() { Outcome::Complete } else { Outcome::Abandoned };
        self.end(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    #[tokio::test]
    async fn a_slow_upload_is_not_taken_for_a_silent_pod() {
        let patience = Duration::from_secs(5);
        let pieces = futures::stream::iter(0..2).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
        let mut upload = Upload::new(Body::from_stream(pieces));
        // As if it had begun ten seconds ago, and nothing had moved since.
        upload.progress.origin = Instant::now().checked_sub(patience * 2).expect("up for longer than that");
        assert!(upload.progress.deadline(patience) < Instant::now());
        std::future::poll_fn(|context| Pin::new(&mut upload).poll_frame(context)).await.expect("a piece").expect("a frame");
        assert!(upload.progress.deadline(patience) > Instant::now());
    }
}
