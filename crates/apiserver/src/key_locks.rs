//! Changes of one object one after another.
//!
//! Many clients that change the same object at once mostly get in each other's way: each change is
//! worked out, admitted and sent to the store, which takes one of them and refuses the others. Here the
//! others wait until it is written; then a look at the version is enough to refuse what is outdated,
//! and a patch is made on the version it will meet.
//!
//! It only saves work: the store decides, and another server's changes are met as before. So nobody
//! waits for long, which a slow webhook could bring about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fermion_store::Key;
use tokio::sync::OwnedMutexGuard;

/// How long to wait for others who change the same object; then it is tried beside them.
const WAIT_MAX: Duration = Duration::from_millis(100);

type Line = Arc<tokio::sync::Mutex<()>>;

/// Who changes which object now. There are as many entries as objects that requests are changing.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks {
    lines: Mutex<HashMap<Key, Line>>,
}

/// A place in the line for an object; given up when it is dropped, also while it still waits.
#[derive(Debug)]
pub(crate) struct KeyLock {
    locks: Arc<KeyLocks>,
    key: Key,
    line: Option<Line>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyLocks {
    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        // Nothing that can panic runs between changes that belong together.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for those who came before, in the order in which they came, but no longer than
    /// [`WAIT_MAX`].
    pub(crate) async fn lock(self: &Arc<Self>, key: &Key) -> KeyLock {
        let line = self.lines().entry(key.clone()).or_default().clone();
        let mut lock = KeyLock { locks: self.clone(), key: key.clone(), line: Some(line.clone()), guard: None };
        lock.guard = match line.clone().try_lock_owned() {
            Ok(guard) => Some(guard),
            Err(_) => tokio::time::timeout(WAIT_MAX, line.lock_owned()).await.ok(),
        };
        lock
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        let mut lines = self.locks.lines();
        self.guard = None;
        self.line = None;
        // Nobody else holds it or waits for it, and nobody can begin to meanwhile.
        if lines.get(&self.key).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pods", "default", name)
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_one_object_wait_and_of_others_do_not() {
        let (locks, a, b) = (Arc::new(KeyLocks::default()), key("a"), key("b"));
        let first = locks.lock(&a).await;
        let other = locks.lock(&b).now_or_never().unwrap();
        let mut second = Box::pin(locks.lock(&a));
        let mut third = Box::pin(locks.lock(&a));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "who came first goes first");
        drop(second.await);
        assert!(third.await.guard.is_some());
        drop(other);
        assert!(locks.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let (locks, a) = (Arc::new(KeyLocks::default()), key("a"));
        let first = locks.lock(&a).await;
        let mut given_up = Box::pin(locks.lock(&a));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        let second = locks.lock(&a).await;
        assert!(second.guard.is_none(), "nobody waits for ever");
        drop(first);
        assert_eq!(locks.lines().len(), 1);
        drop(second);
        assert!(locks.lines().is_empty());
    }
}
