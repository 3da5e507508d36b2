//! A local copy of all objects of a kind, kept up to date by one watch and shared by all
//! controllers.
//!
//! A cache may lag behind the API. Whoever decides from it must come to no harm by that:
//! names of what is made are deterministic (a second create is refused), deletes carry the
//! uid, and status writes carry the resource version they were decided on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, RwLock, Weak};

use futures::{Stream, StreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, broadcast, watch};

use crate::Shutdown;
use crate::error::{Error, chain};

/// How many changes a slow reader may lag behind before it is told about every object again.
const CHANGES_KEPT: usize = 4_096;
/// Objects per page of the first list.
const PAGE_SIZE: u32 = 500;

/// What the kinds kept in caches have in common.
pub(crate) trait Cached: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static> Cached for K {}

/// Namespace (empty for kinds without) and name.
pub(crate) type Key = (String, String);

/// Objects of one kind, by name and by group.
pub(crate) struct Cache<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<K> {
    objects: RwLock<Objects<K>>,
    changes: broadcast::Sender<Change<K>>,
    /// Who collects names of what changed.
    collectors: Mutex<Vec<Weak<Collected>>>,
    filled: watch::Sender<bool>,
    group_of: fn(&K) -> Option<String>,
}

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    /// Names by namespace and group.
    groups: HashMap<Key, BTreeSet<String>>,
}

/// Names of what changed since they were last taken. None is lost, however late the reader is, and each
/// is there once.
pub(crate) struct Changed(Arc<Collected>);

struct Collected {
    names: Mutex<BTreeSet<Key>>,
    wake: Arc<Notify>,
}

impl Changed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.names.lock().expect("no thread panics while it holds this lock").is_empty()
    }

    /// The names, and from now on those of later changes. What the cache has of them by now is at least as
    /// new as the change.
    pub(crate) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.0.names.lock().expect("no thread panics while it holds this lock"))
    }
}

/// An object that was added, changed or removed.
pub(crate) struct Change<K> {
    /// As it is now, or as it was last seen.
    pub object: Arc<K>,
    pub gone: bool,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), gone: self.gone }
    }
}

impl<K: Cached> Cache<K> {
    /// An empty cache; `group_of` names the group that [`Cache::group`] finds an object by.
    pub(crate) fn new(group_of: fn(&K) -> Option<String>) -> Self {
        let objects = RwLock::new(Objects { by_key: BTreeMap::new(), groups: HashMap::new() });
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (filled, _) = watch::channel(false);
        Self { shared: Arc::new(Shared { objects, changes, collectors: Mutex::default(), filled, group_of }) }
    }

    /// Keeps the cache up to date until shutdown.
    pub(crate) async fn run(self, client: Client, shutdown: Shutdown) {
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        // Who owns which fields is for the API server; it would be a good part of every object kept.
        let events = watcher(Api::<K>::all(client), config).default_backoff().modify(|object| object.meta_mut().managed_fields = None);
        let mut events = std::pin::pin!(events.take_until(shutdown.requested()));
        let mut listed: Option<Vec<K>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed = Some(Vec::new()),
                Ok(watcher::Event::InitApply(object)) => listed.get_or_insert_default().push(object),
                Ok(watcher::Event::InitDone) => self.replace(listed.take().unwrap_or_default()),
                Ok(watcher::Event::Apply(object)) => self.apply(object),
                Ok(watcher::Event::Delete(object)) => self.remove(object),
                Err(error) => tracing::warn!(kind = %K::kind(&()), error = chain(&error), "watch interrupted; watching again"),
            }
        }
    }

    /// Waits until the first list is in.
    pub(crate) async fn filled(&self) -> Result<(), Error> {
        let mut filled = self.shared.filled.subscribe();
        filled.wait_for(|filled| *filled).await.map(drop).map_err(|_| Error::CacheStopped { cache: std::any::type_name::<K>() })
    }

    /// The object of that name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|objects| objects.by_key.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    /// The objects of a group, by name.
    pub(crate) fn group(&self, namespace: &str, group: &str) -> Vec<Arc<K>> {
        self.read(|objects| {
            let names = objects.groups.get(&(namespace.to_owned(), group.to_owned()));
            let find = |name: &String| objects.by_key.get(&(namespace.to_owned(), name.clone())).cloned();
            names.into_iter().flatten().filter_map(find).collect()
        })
    }

    /// The objects of a namespace, by name.
    pub(crate) fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|objects| {
            let from_here = objects.by_key.range((namespace.to_owned(), String::new())..);
            from_here.take_while(|((found, _), _)| found == namespace).map(|(_, object)| Arc::clone(object)).collect()
        })
    }

    /// Every object, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read(|objects| objects.by_key.values().cloned().collect())
    }

    /// Changes from now on. A reader that lags too far gets every object once.
    pub(crate) fn changes(&self) -> impl Stream<Item = Change<K>> + Send + 'static {
        let cache = self.clone();
        let receiver = self.shared.changes.subscribe();
        futures::stream::unfold((cache, receiver), |(cache, mut receiver)| async move {
            let changes = match receiver.recv().await {
                Ok(change) => vec![change],
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    cache.all().into_iter().map(|object| Change { object, gone: false }).collect()
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((futures::stream::iter(changes), (cache, receiver)))
        })
        .flatten()
    }

    /// Collects the names of what changes from now on, and wakes `wake` when there are some.
    pub(crate) fn collect(&self, wake: &Arc<Notify>) -> Changed {
        let collected = Arc::new(Collected { names: Mutex::default(), wake: Arc::clone(wake) });
        self.shared.collectors.lock().expect("no thread panics while it holds this lock").push(Arc::downgrade(&collected));
        Changed(collected)
    }

    fn read<T>(&self, question: impl FnOnce(&Objects<K>) -> T) -> T {
        question(&self.shared.objects.read().expect("no thread panics while it holds this lock"))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Objects<K>) -> T) -> T {
        change(&mut self.shared.objects.write().expect("no thread panics while it holds this lock"))
    }

    fn tell(&self, object: Arc<K>, gone: bool) {
        self.shared.collectors.lock().expect("no thread panics while it holds this lock").retain(|collector| {
            let Some(collected) = collector.upgrade() else { return false };
            collected.names.lock().expect("no thread panics while it holds this lock").insert(key(object.as_ref()));
            collected.wake.notify_one();
            true
        });
        // Nobody listening is fine.
        let _ = self.shared.changes.send(Change { object, gone });
    }

    pub(crate) fn apply(&self, object: K) {
        let object = Arc::new(object);
        self.write(|objects| objects.insert(Arc::clone(&object), self.shared.group_of));
        self.tell(object, false);
    }

    pub(crate) fn remove(&self, object: K) {
        self.write(|objects| objects.remove(&key(&object), self.shared.group_of));
        self.tell(Arc::new(object), true);
    }

    fn replace(&self, listed: Vec<K>) {
        let listed: Vec<_> = listed.into_iter().map(Arc::new).collect();
        let kept: BTreeSet<_> = listed.iter().map(|object| key(object.as_ref())).collect();
        let removed = self.write(|objects| {
            let removed: Vec<_> =
                objects.by_key.iter().filter(|(key, _)| !kept.contains(key)).map(|(_, object)| Arc::clone(object)).collect();
            for object in &removed {
                objects.remove(&key(object.as_ref()), self.shared.group_of);
            }
            for object in &listed {
                objects.insert(Arc::clone(object), self.shared.group_of);
            }
            removed
        });
        self.shared.filled.send_replace(true);
        for object in removed {
            self.tell(object, true);
        }
        for object in listed {
            self.tell(object, false);
        }
    }
}

pub(crate) fn key<K: Resource>(object: &K) -> Key {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

impl<K: Cached> Objects<K> {
    fn insert(&mut self, object: Arc<K>, group_of: fn(&K) -> Option<String>) {
        let key = key(object.as_ref());
        self.remove(&key, group_of);
        if let Some(group) = group_of(&object) {
            self.groups.entry((key.0.clone(), group)).or_default().insert(object.name_any());
        }
        self.by_key.insert(key, object);
    }

    fn remove(&mut self, key: &Key, group_of: fn(&K) -> Option<String>) {
        let Some(object) = self.by_key.remove(key) else { return };
        let Some(group) = group_of(&object) else { return };
        let group = (key.0.clone(), group);
        if let Some(names) = self.groups.get_mut(&group) {
            names.remove(&key.1);
            if names.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, workload: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "n", "name": name, "labels": {"w": workload}}})).expect("a pod")
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn groups_follow_what_objects_say() {
        let cache = Cache::<Pod>::new(|pod| pod.labels().get("w").cloned());
        cache.replace(vec![pod("a", "x"), pod("b", "x"), pod("c", "y")]);
        assert_eq!(names(&cache.group("n", "x")), ["a", "b"]);
        cache.apply(pod("b", "y"));
        assert_eq!(names(&cache.group("n", "x")), ["a"]);
        cache.remove(pod("c", "y"));
        assert_eq!(names(&cache.group("n", "y")), ["b"]);
        cache.replace(vec![pod("d", "x")]);
        assert_eq!(names(&cache.all()), ["d"]);
        assert!(cache.group("n", "y").is_empty());
        assert!(cache.get("n", "a").is_none() && cache.get("n", "d").is_some());
        assert_eq!(names(&cache.within("n")), ["d"]);
        assert!(cache.within("m").is_empty() && cache.within("").is_empty());
    }

    #[tokio::test]
    async fn a_reader_hears_of_removals_by_a_new_list() {
        let cache = Cache::<Pod>::new(|_| None);
        cache.replace(vec![pod("a", "x")]);
        let mut changes = std::pin::pin!(cache.changes());
        cache.replace(vec![pod("b", "x")]);
        let first = changes.next().await.expect("a change");
        assert!(first.gone && first.object.name_any() == "a");
        let second = changes.next().await.expect("a change");
        assert!(!second.gone && second.object.name_any() == "b");
    }

    #[test]
    fn names_of_what_changed_are_collected_once_each() {
        let cache = Cache::<Pod>::new(|_| None);
        let wake = Arc::new(Notify::new());
        let changed = cache.collect(&wake);
        for turn in 0..=CHANGES_KEPT {
            cache.apply(pod(&format!("p{}", turn % 3), "x"));
        }
        cache.remove(pod("p1", "x"));
        let names: Vec<String> = changed.take().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["p0", "p1", "p2"]);
        assert!(changed.take().is_empty());
        drop(changed);
        cache.apply(pod("p0", "x"));
        assert!(cache.shared.collectors.lock().expect("not poisoned").is_empty(), "nobody collects any more");
    }

    #[tokio::test]
    async fn a_reader_that_lags_gets_every_object() {
        let cache = Cache::<Pod>::new(|_| None);
        let mut changes = std::pin::pin!(cache.changes());
        for turn in 0..=CHANGES_KEPT {
            cache.apply(pod(&format!("p{}", turn % 3), "x"));
        }
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(changes.next().await.expect("a change").object.name_any());
        }
        assert_eq!(heard, ["p0", "p1", "p2"]);
    }
}
