//! Stores and objects to test with.

use fermion_store::{Commit, Error, Event, Expect, Key, Options, Store, Stored, Write};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A store in a directory of its own.
pub(crate) struct Scratch {
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), options).unwrap();
        Self { store, directory }
    }

    /// Closes the store and opens it again, as a restart does.
    pub(crate) async fn reopen(self, options: Options) -> Self {
        let Self { store, directory } = self;
        store.close().await;
        let store = Store::open(directory.path(), options).unwrap();
        Self { store, directory }
    }
}

pub(crate) fn pod(name: &str) -> Key {
    Key::new("pods", "default", name)
}

/// An object whose `spec` is `spec`.
pub(crate) fn object(key: &Key, spec: impl Into<Value>) -> Value {
    json!({
        "metadata": {"namespace": &*key.namespace, "name": &*key.name},
        "spec": spec.into(),
    })
}

pub(crate) fn put(key: &Key, expect: Expect, spec: impl Into<Value>) -> Write {
    Write::Put { key: key.clone(), expect, object: object(key, spec) }
}

pub(crate) fn delete(key: &Key, expect: Expect) -> Write {
    Write::Delete { key: key.clone(), expect }
}

/// Commits one write.
pub(crate) async fn write(store: &Store, write: Write) -> Result<Stored, Error> {
    Ok(store.commit(Commit::of(write)).await?.remove(0))
}

pub(crate) fn body(stored: &Stored) -> Value {
    serde_json::from_slice(&stored.body).unwrap()
}

/// The `spec` of a stored object, whose body must also carry the revision it is stored under.
pub(crate) fn spec(stored: &Stored) -> Value {
    let body = body(stored);
    assert_eq!(body["metadata"]["resourceVersion"], stored.revision.to_string());
    assert_eq!(body["metadata"]["name"], *stored.key.name);
    body["spec"].clone()
}

/// The next `count` events of a watch.
pub(crate) async fn events(watch: &mut (impl Stream<Item = Result<Arc<Event>, Error>> + Unpin), count: usize) -> Vec<Arc<Event>> {
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        events.push(within(watch.next()).await.expect("the watch goes on").unwrap());
    }
    events
}

/// The outcome of something that must not take forever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
}
