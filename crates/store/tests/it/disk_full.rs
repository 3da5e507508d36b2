//! A disk without room, on a small file system of its own: SQLite's, PostgreSQL's tables, and all that
//! PostgreSQL has.

use fermion_store::{Class, Error, Expect, ListQuery, Options, Scope, Store, Stored};
use fermion_testkit::{OwnCluster, SmallDisk, create_for_postgres};
use futures::future::join_all;

use crate::scratch::{events, pod, put, spec, within, write};

/// Megabytes of the disk.
const DISK_MB: u32 = 16;
/// The same, where a new PostgreSQL and its write-ahead log need most of it.
const POSTGRES_DISK_MB: u32 = 160;

/// A text of 4 kB that no database can make smaller.
fn noise(name: &str) -> String {
    use std::fmt::Write as _;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut text = String::new();
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    for index in 0..250 {
        index.hash(&mut hasher);
        write!(text, "{:016x}", hasher.finish()).unwrap();
    }
    text
}

/// Checks that everything that was acknowledged is there, and nothing else.
async fn has_all(store: &Store, written: &[Stored]) {
    let page = store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items.len(), written.len());
    for stored in written {
        assert_eq!(store.get(&stored.key).await.unwrap().as_ref(), Some(stored));
    }
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    let log = events(&mut watch, written.len()).await;
    assert!(log.iter().map(|event| event.revision).eq(1..=written.len() as u64));
}

async fn write_until_full(store: &Store) -> Vec<Stored> {
    let mut written = Vec::new();
    loop {
        let key = pod(&format!("p{:05}", written.len()));
        match write(store, put(&key, Expect::Absent, noise(&key.name))).await {
            Ok(stored) => written.push(stored),
            Err(error) => {
                assert!(matches!(error, Error::Exhausted { .. }), "{error:?}");
                assert_eq!(error.class(), Class::Exhausted);
                assert!(error.to_string().contains("free some space"), "{error}");
                return written;
            }
        }
    }
}

#[tokio::test]
async fn full_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let disk = SmallDisk::mount(DISK_MB);
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap();
    disk.fill(1 << 20);
    let written = write_until_full(&store).await;
    assert!(!written.is_empty());

    // Reads of every kind go on, and nothing of the refused write is seen.
    let newest = written.last().unwrap();
    assert_eq!(store.revision(), newest.revision);
    assert_eq!(store.get(&newest.key).await.unwrap().as_ref(), Some(newest));
    let page = store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items.len(), written.len() + 1);
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    events(&mut watch, written.len() + 1).await;

    disk.relieve();
    let next = write(&store, put(&pod("next"), Expect::Absent, "y")).await.unwrap();
    assert_eq!(next.revision, newest.revision + 1);
    assert_eq!(events(&mut watch, 1).await[0].revision, next.revision);

    store.close().await;
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    let page = store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items.len(), written.len() + 2);
    for stored in written {
        assert_eq!(store.get(&stored.key).await.unwrap(), Some(stored));
    }
    store.close().await;
}

#[tokio::test]
async fn one_huge_request_does_not_fail_the_small_ones_beside_it() {
    let disk = SmallDisk::mount(DISK_MB);
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap();
    disk.fill(3 << 20);
    // Polled together, they reach the writer together.
    let writes = (0..40).map(|index| {
        let size = if index % 10 == 5 { 6 << 20 } else { 100 };
        write(&store, put(&pod(&format!("p{index}")), Expect::Absent, "x".repeat(size)))
    });
    for (index, outcome) in join_all(writes.collect::<Vec<_>>()).await.into_iter().enumerate() {
        match outcome {
            Ok(stored) => assert_eq!(spec(&stored), "x".repeat(100)),
            Err(error) => {
                assert!(matches!(error, Error::Exhausted { .. }), "{error:?}");
                assert_eq!(index % 10, 5);
            }
        }
    }
    let page = store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items.len(), 37);
    assert_eq!(store.revision(), 37, "refused writes took no revision");
    store.close().await;
}

#[tokio::test]
async fn full_disk_is_no_reason_not_to_open() {
    let disk = SmallDisk::mount(DISK_MB);
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    let stored = write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap();
    store.close().await;
    // Room for SQLite's shared memory, not for another page of data.
    disk.fill(64 << 10);
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    assert_eq!(store.get(&stored.key).await.unwrap(), Some(stored));
    let refused = write(&store, put(&pod("b"), Expect::Absent, "x".repeat(100_000))).await;
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_postgres_refuses_writes_serves_reads_and_recovers_by_itself() {
    let disk = SmallDisk::mount(DISK_MB * 2);
    // The tables alone are on it, so that the server itself goes on.
    let cluster = OwnCluster::new("");
    let tables = disk.path().join("tables");
    create_for_postgres(&tables);
    cluster.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", tables.display()));
    let url = cluster.url(&cluster.database_with("TABLESPACE small"));
    let store = Store::connect(&url, Options::default()).await.unwrap();
    let mut written = vec![write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap()];
    disk.fill(1 << 20);
    written.extend(write_until_full(&store).await);
    assert!(written.len() > 1);
    has_all(&store, &written).await;

    disk.relieve();
    written.push(write(&store, put(&pod("next"), Expect::Absent, noise("next"))).await.unwrap());
    has_all(&store, &written).await;
    store.close().await;
    let store = Store::connect(&url, Options::default()).await.unwrap();
    has_all(&store, &written).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_ended_for_want_of_room_goes_on_once_there_is_some() {
    let disk = SmallDisk::mount(POSTGRES_DISK_MB);
    let cluster = OwnCluster::within(&disk.path().join("postgres"), "min_wal_size = 32MB\nmax_wal_size = 32MB\n");
    let store = Store::connect(&cluster.url(&cluster.database()), Options::default()).await.unwrap();
    let mut written = vec![write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap()];
    disk.fill(1 << 20);
    written.extend(write_until_full(&store).await);
    // It cannot go on without room for its write-ahead log, and ends.
    let mut end = cluster.psql_command("postgres");
    end.args(["--command", "SELECT pg_switch_wal()", "--command", "CREATE TABLE more (a int)", "--command", "CHECKPOINT"]);
    let ended = tokio::task::block_in_place(|| end.output()).unwrap();
    assert!(!ended.status.success(), "there was room");
    within(async {
        while tokio::task::block_in_place(|| cluster.runs()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Before it ended it would have been refused.
    let asked = {
        let store = store.clone();
        tokio::spawn(async move { write(&store, put(&pod("asked"), Expect::Absent, noise("asked"))).await })
    };

    disk.relieve();
    tokio::task::block_in_place(|| cluster.start());
    written.push(within(asked).await.unwrap().unwrap());
    has_all(&store, &written).await;
    store.close().await;
}
