//! Opening, closing and sharing a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fermion_store::{Class, Error, Expect, ListQuery, Options, Scope, Store};
use futures::future::maybe_done;

use crate::scratch::{On, Scratch, delete, on_both, pod, put, spec, write};

on_both!(everything_is_there_after_a_restart, closed_store_refuses_everything, what_was_handed_over_before_closing_is_answered,);

#[tokio::test]
async fn second_opener_is_told_who_holds_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let _store = Store::open(place.path(), Options::default()).unwrap();
    let refused = Store::open(place.path(), Options::default()).unwrap_err();
    let Error::Locked { directory, pid } = &refused else { panic!("{refused}") };
    assert_eq!(directory, place.path());
    assert_eq!(*pid, Some(std::process::id()));
    assert!(refused.to_string().contains("stop that process"), "{refused}");
    assert_eq!(refused.class(), Class::Unavailable);
}

#[tokio::test]
async fn directory_is_free_again_once_the_store_is_closed_or_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    let clone = store.clone();
    let watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    store.close().await;
    let second = Store::open(directory.path(), Options::default()).unwrap();
    drop((clone, watch));
    drop(second);
    Store::open(directory.path(), Options::default()).unwrap();
}

async fn everything_is_there_after_a_restart(on: On) {
    let scratch = Scratch::new(on).await;
    write(&scratch.store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    write(&scratch.store, put(&pod("b"), Expect::Absent, 2)).await.unwrap();
    write(&scratch.store, delete(&pod("a"), Expect::Any)).await.unwrap();
    let scratch = scratch.reopen(Options::default()).await;
    assert_eq!(scratch.store.revision(), 3);
    let page = scratch.store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items.iter().map(spec).collect::<Vec<_>>(), [2]);
    let next = write(&scratch.store, put(&pod("c"), Expect::Absent, 4)).await.unwrap();
    assert_eq!(next.revision, 4);
}

async fn closed_store_refuses_everything(on: On) {
    let scratch = Scratch::new(on).await;
    let clone = scratch.store.clone();
    write(&clone, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    scratch.store.close().await;
    assert!(matches!(write(&clone, put(&pod("a"), Expect::Any, 1)).await, Err(Error::Closed)));
    assert!(matches!(clone.get(&pod("a")).await, Err(Error::Closed)));
    let list = clone.list(ListQuery::all(Scope::all("pods"))).await;
    assert!(matches!(list, Err(Error::Closed)));
    assert!(matches!(clone.compact(1).await, Err(Error::Closed)));
    clone.close().await;
}

async fn what_was_handed_over_before_closing_is_answered(on: On) {
    let scratch = Scratch::new(on).await;
    let store = scratch.store.clone();
    let mut handed_over: Vec<_> = (0..20).map(|index| Box::pin(maybe_done(write(&store, put(&pod("a"), Expect::Any, index))))).collect();
    // The first poll of each hands it over.
    for write in &mut handed_over {
        let _ = futures::poll!(write);
    }
    let scratch = scratch.reopen(Options::default()).await;
    for mut write in handed_over {
        write.as_mut().await;
        write.as_mut().take_output().unwrap().unwrap();
    }
    assert_eq!(scratch.store.revision(), 20);
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("deep/inside");
    let store = Store::open(&directory, Options::default()).unwrap();
    write(&store, put(&pod("a"), Expect::Any, 1)).await.unwrap();
    store.get(&pod("a")).await.unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.clone()), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 3, "database, log and lock: {files:?}");
    for file in files {
        assert_eq!(mode(file.clone()), 0o600, "{}", file.display());
    }
}

#[test]
fn what_is_no_database_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("store.db"), "not a database, but long enough ".repeat(100)).unwrap();
    let refused = Store::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused:?}");
    assert_eq!(refused.class(), Class::Bug);
}

#[tokio::test]
async fn damaged_object_is_named_and_the_others_can_still_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    write(&store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    store.close().await;
    let database = rusqlite::Connection::open(directory.path().join("store.db")).unwrap();
    database.execute("UPDATE log SET body = CAST('{\"metadata' AS BLOB)", []).unwrap();
    drop(database);

    let store = Store::open(directory.path(), Options::default()).unwrap();
    let (damaged, whole) = futures::join!(write(&store, delete(&pod("a"), Expect::Any)), write(&store, put(&pod("b"), Expect::Absent, 2)),);
    let damaged = damaged.unwrap_err();
    assert!(matches!(damaged, Error::Corrupt { .. }), "{damaged:?}");
    assert!(damaged.to_string().contains("pods/default/a"), "{damaged}");
    assert_eq!(whole.unwrap().revision, 2);
    // It can be replaced.
    write(&store, put(&pod("a"), Expect::Any, 3)).await.unwrap();
    assert_eq!(spec(&store.get(&pod("a")).await.unwrap().unwrap()), 3);
}

#[test]
fn directory_that_cannot_be_made_is_named() {
    let refused = Store::open("/proc/nothing/here".as_ref(), Options::default()).unwrap_err();
    assert!(refused.to_string().contains("/proc/nothing/here"), "{refused}");
}
