//! All objects of one kind, parsed and in memory, as new as the store is.
//!
//! For the few objects that every write must look at: webhooks, quotas, limits. They are kept up by a
//! watch that is read when somebody asks, not by a task: whoever asks after a write was answered
//! sees that write.

use std::collections::BTreeMap;
use std::sync::Arc;

use fermion_store::{Error, EventKind, Key, ListQuery, Scope, Stored};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Mutex;

use crate::encryption::{SealedStore, Watch};

/// How often a list is started over because the log was cut meanwhile.
const RELISTS_MAX: usize = 3;

/// The objects of one resource, as `T`.
pub(crate) struct Followed<T> {
    resource: &'static str,
    /// Reads an object. One that cannot be read is logged and left out.
    parse: fn(&Stored) -> Result<T, String>,
    state: Mutex<Option<State<T>>>,
}

/// The objects by name, in the order of names.
pub(crate) type Items<T> = Arc<BTreeMap<Key, Arc<T>>>;

struct State<T> {
    watch: Watch,
    items: Items<T>,
}

impl<T> Followed<T> {
    pub(crate) fn new(resource: &'static str, parse: fn(&Stored) -> Result<T, String>) -> Self {
        Self { resource, parse, state: Mutex::new(None) }
    }

    /// Every object there is now.
    pub(crate) async fn all(&self, store: &SealedStore) -> Result<Items<T>, Error> {
        let mut state = self.state.lock().await;
        let mut relists = 0;
        loop {
            if let Some(followed) = state.as_mut() {
                match self.catch_up(followed, store.revision()).await {
                    Ok(()) => return Ok(followed.items.clone()),
                    Err(Error::Compacted { .. }) if relists < RELISTS_MAX => {}
                    Err(error) => {
                        *state = None;
                        return Err(error);
                    }
                }
            }
            relists += 1;
            let page = store.list(ListQuery::all(Scope::all(self.resource))).await?;
            let items = page.items.iter().filter_map(|stored| Some((stored.key.clone(), self.read(stored)?))).collect();
            let watch = store.watch(Scope::all(self.resource), page.revision).await?;
            *state = Some(State { watch, items: Arc::new(items) });
        }
    }

    /// Applies what was written up to `revision`.
    async fn catch_up(&self, state: &mut State<T>, revision: u64) -> Result<(), Error> {
        loop {
            let next = match state.watch.next().now_or_never() {
                Some(next) => next,
                None if state.watch.progress() >= revision => return Ok(()),
                None => state.watch.next().await,
            };
            let event = next.ok_or(Error::Closed)??;
            let items = Arc::make_mut(&mut state.items);
            match event.kind {
                EventKind::Added | EventKind::Modified => match self.read(&event.object) {
                    Some(item) => drop(items.insert(event.object.key.clone(), item)),
                    None => drop(items.remove(&event.object.key)),
                },
                EventKind::Deleted => drop(items.remove(&event.object.key)),
            }
        }
    }

    fn read(&self, stored: &Stored) -> Option<Arc<T>> {
        (self.parse)(stored)
            .map_err(|error| tracing::error!(error, object = %stored.key, "a stored object cannot be used"))
            .ok()
            .map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use fermion_store::{Commit, Expect, Options, Store, Write};
    use serde_json::json;

    use super::*;

    async fn names(followed: &Followed<u64>, store: &SealedStore) -> Vec<String> {
        followed.all(store).await.unwrap().iter().map(|(key, revision)| format!("{}@{revision}", key.name)).collect()
    }

    async fn put(store: &SealedStore, name: &str) {
        let object = json!({"metadata": {"name": name}});
        store.commit(Commit::of(Write::Put { key: Key::new("things", "", name), expect: Expect::Any, object })).await.unwrap();
    }

    #[tokio::test]
    async fn every_answered_write_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let plain = Store::open(directory.path(), Options { recent_events_max: 2, ..Options::default() }).unwrap();
        let store = SealedStore::new(plain.clone(), Arc::new(crate::Keyring::ephemeral().unwrap()));
        let followed = Followed::new("things", |stored| Ok(stored.revision));
        assert!(names(&followed, &store).await.is_empty());
        put(&store, "b").await;
        put(&store, "a").await;
        assert_eq!(names(&followed, &store).await, ["a@2", "b@1"]);
        // More than memory holds, so that the rest is read from disk.
        for name in ["c", "d", "e", "b"] {
            put(&store, name).await;
        }
        store.commit(Commit::of(Write::Delete { key: Key::new("things", "", "a"), expect: Expect::Any })).await.unwrap();
        assert_eq!(names(&followed, &store).await, ["b@6", "c@3", "d@4", "e@5"]);
        // The log before is gone: everything is listed again.
        put(&store, "f").await;
        put(&store, "g").await;
        put(&store, "h").await;
        plain.compact(plain.revision()).await.unwrap();
        put(&store, "c").await;
        assert_eq!(names(&followed, &store).await, ["b@6", "c@11", "d@4", "e@5", "f@8", "g@9", "h@10"]);
    }
}
