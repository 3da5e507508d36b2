//! A disk without room, on a small file system of its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fermion_store::{Class, Error, Expect, ListQuery, Options, Scope, Store, Stored};
use futures::future::join_all;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::scratch::{events, pod, put, spec, write};

/// A mounted tmpfs of 16 MiB.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(c"size=16m")).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes up all the room but `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached, because a failed test may still have files open on it.
        unmount(self.directory.path(), UnmountFlags::DETACH).unwrap();
    }
}

async fn write_until_full(store: &Store) -> Vec<Stored> {
    let mut written = Vec::new();
    loop {
        let key = pod(&format!("p{:05}", written.len()));
        match write(store, put(&key, Expect::Absent, "x".repeat(4000))).await {
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
    let disk = SmallDisk::new();
    let store = Store::open(&disk.path().join("data"), Options::default()).unwrap();
    write(&store, put(&pod("first"), Expect::Absent, "x")).await.unwrap();
    let filler = disk.fill(1 << 20);
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

    fs::remove_file(filler).unwrap();
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
    let disk = SmallDisk::new();
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
    let disk = SmallDisk::new();
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
