//! The wish to stop, as every task hears it.

use tokio::sync::watch;

/// Tells tasks to stop; made from a channel whose value turns true, or whose sender goes.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub fn new(receiver: watch::Receiver<bool>) -> Self {
        Self(receiver)
    }

    /// Resolves once shutdown is asked for.
    pub(crate) fn requested(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let mut receiver = self.0.clone();
        async move {
            // An error means that the sender is gone: whoever ran us ended.
            let _ = receiver.wait_for(|stop| *stop).await;
        }
    }

    /// Whether it was asked for already.
    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
