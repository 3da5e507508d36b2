//! Stores and objects to test with.

use fermion_store::{Commit, Error, Event, Expect, Key, Options, Store, Stored, Write};
use fermion_testkit::Cluster;
use futures::future::join_all;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Makes tests of functions that take an [`On`]: one for each database, called
/// `sqlite::NAME` and `postgres::NAME`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        $crate::scratch::on_both!(@ "current_thread" $($name),+);
    };
    (multi_thread: $($name:ident),+ $(,)?) => {
        $crate::scratch::on_both!(@ "multi_thread" $($name),+);
    };
    (@ $flavor:literal $($name:ident),+) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = $flavor)]
                async fn $name() {
                    super::$name($crate::scratch::On::Sqlite).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = $flavor)]
                async fn $name() {
                    super::$name($crate::scratch::On::Postgres).await;
                }
            )+
        }
    };
}
pub(crate) use on_both;

/// A store in a database of its own.
pub(crate) struct Scratch {
    pub(crate) store: Store,
    pub(crate) place: Place,
}

/// Where a store is kept.
pub(crate) enum Place {
    Directory(TempDir),
    Database(Database),
}

/// A database of the shared cluster, and gone with it: dropping one waits for a checkpoint of all of them.
pub(crate) struct Database(pub(crate) String);

impl Place {
    pub(crate) fn new(on: On) -> Self {
        match on {
            On::Sqlite => Self::Directory(tempfile::tempdir().unwrap()),
            On::Postgres => Self::Database(Database(Cluster::shared().database())),
        }
    }

    /// What another process can open it by.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Directory(directory) => directory.path().display().to_string(),
            Self::Database(database) => Cluster::shared().url(&database.0),
        }
    }

    pub(crate) async fn open(&self, options: Options) -> Result<Store, Error> {
        open(&self.address(), options).await
    }
}

/// Opens a directory or a database.
pub(crate) async fn open(address: &str, options: Options) -> Result<Store, Error> {
    if address.starts_with('/') { Store::open(address.as_ref(), options) } else { Store::connect(address, options).await }
}

impl Scratch {
    pub(crate) async fn new(on: On) -> Self {
        Self::with(on, Options::default()).await
    }

    pub(crate) async fn with(on: On, options: Options) -> Self {
        let place = Place::new(on);
        let store = place.open(options).await.unwrap();
        Self { store, place }
    }

    /// Closes the store and opens it again, as a restart does.
    pub(crate) async fn reopen(self, options: Options) -> Self {
        let Self { store, place } = self;
        store.close().await;
        let store = place.open(options).await.unwrap();
        Self { store, place }
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

/// Counts up one pod from 0, from many writers at once that take turns on these stores, each as often
/// as said; answers how often in all. Whoever finds that another was first reads again.
pub(crate) async fn count_up(stores: &[Store], writers: usize, rounds: usize) -> usize {
    let key = pod("counter");
    write(&stores[0], put(&key, Expect::Absent, 0)).await.unwrap();
    let writing = (0..writers).map(|writer| {
        let (store, key) = (stores[writer % stores.len()].clone(), key.clone());
        tokio::spawn(async move {
            for _ in 0..rounds {
                loop {
                    let stored = store.get(&key).await.unwrap().unwrap();
                    let count = spec(&stored).as_u64().unwrap();
                    match write(&store, put(&key, Expect::Revision(stored.revision), count + 1)).await {
                        Ok(_) => break,
                        Err(Error::Conflict { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        })
    });
    for writer in join_all(writing).await {
        within(async { writer }).await.unwrap();
    }
    for store in stores {
        assert_eq!(spec(&store.get(&key).await.unwrap().unwrap()), writers * rounds, "no update is lost");
    }
    writers * rounds
}
