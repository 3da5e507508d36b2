//! Cutting the log.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fermion_store::{Error, Expect, ListQuery, Options, Scope, Store};
use futures::StreamExt;
use jiff::Timestamp;

use crate::scratch::{On, Scratch, delete, events, on_both, pod, put, spec, within, write};

on_both!(
    compaction_keeps_every_later_state_and_event,
    revisions_go_on_after_the_newest_entry_was_compacted,
    future_cannot_be_compacted,
    watcher_behind_the_log_is_told_and_one_that_is_not_goes_on,
    log_is_cut_by_itself_when_it_is_long,
    log_is_cut_by_itself_when_it_is_old,
);

async fn at_revision(store: &Store, revision: u64) -> Result<Vec<(String, u64)>, Error> {
    let query = ListQuery { at_revision: Some(revision), ..ListQuery::all(Scope::all("pods")) };
    let page = store.list(query).await?;
    Ok(page.items.iter().map(|stored| (stored.key.name.to_string(), stored.revision)).collect())
}

async fn compaction_keeps_every_later_state_and_event(on: On) {
    let scratch = Scratch::with(on, Options { recent_events_max: 1, ..Options::default() }).await;
    let store = &scratch.store;
    for index in 0..20 {
        let key = pod(&format!("p{}", index % 4));
        match index % 7 {
            6 => write(store, delete(&key, Expect::Any)).await,
            _ => write(store, put(&key, Expect::Any, index)).await,
        }
        .unwrap();
    }
    let mut before = Vec::new();
    for revision in 12..=20 {
        before.push(at_revision(store, revision).await.unwrap());
    }
    let events_before = events(&mut store.watch(Scope::all("pods"), 12).await.unwrap(), 8).await;

    store.compact(12).await.unwrap();
    assert_eq!(store.oldest_revision(), 12);
    for (revision, before) in (12..=20).zip(before) {
        assert_eq!(at_revision(store, revision).await.unwrap(), before);
    }
    let events_after = events(&mut store.watch(Scope::all("pods"), 12).await.unwrap(), 8).await;
    assert_eq!(events_after, events_before);

    let gone = at_revision(store, 11).await.unwrap_err();
    assert!(matches!(gone, Error::Compacted { oldest: 12 }));
    let gone = store.watch(Scope::all("pods"), 11).await.err().unwrap();
    assert!(matches!(gone, Error::Compacted { oldest: 12 }));
}

async fn revisions_go_on_after_the_newest_entry_was_compacted(on: On) {
    let scratch = Scratch::new(on).await;
    write(&scratch.store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    write(&scratch.store, delete(&pod("a"), Expect::Any)).await.unwrap();
    scratch.store.compact(2).await.unwrap();
    let scratch = scratch.reopen(Options::default()).await;
    assert_eq!((scratch.store.oldest_revision(), scratch.store.revision()), (2, 2));
    let next = write(&scratch.store, put(&pod("a"), Expect::Absent, 3)).await.unwrap();
    assert_eq!(next.revision, 3);
    let mut watch = scratch.store.watch(Scope::all("pods"), 2).await.unwrap();
    assert_eq!(events(&mut watch, 1).await[0].previous, None);
}

async fn future_cannot_be_compacted(on: On) {
    let scratch = Scratch::new(on).await;
    let refused = scratch.store.compact(1).await.unwrap_err();
    assert!(matches!(refused, Error::Future { requested: 1, newest: 0 }));
    scratch.store.compact(0).await.unwrap();
}

async fn watcher_behind_the_log_is_told_and_one_that_is_not_goes_on(on: On) {
    let scratch = Scratch::with(on, Options { recent_events_max: 1, ..Options::default() }).await;
    let store = &scratch.store;
    let mut behind = store.watch(Scope::all("pods"), 0).await.unwrap();
    let mut current = store.watch(Scope::all("pods"), 0).await.unwrap();
    // Its scope is quiet, so it has missed nothing however far the log is cut.
    let mut quiet = store.watch(Scope::all("nodes"), 0).await.unwrap();
    for index in 0..10 {
        write(store, put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    events(&mut current, 10).await;
    store.compact(5).await.unwrap();
    let told = within(behind.next()).await.unwrap().unwrap_err();
    assert!(matches!(told, Error::Compacted { oldest: 5 }));
    assert!(within(behind.next()).await.is_none());
    write(store, put(&pod("a"), Expect::Any, 10)).await.unwrap();
    assert_eq!(events(&mut current, 1).await[0].revision, 11);
    let node = fermion_store::Key::new("nodes", "", "n");
    write(store, put(&node, Expect::Any, 11)).await.unwrap();
    assert_eq!(events(&mut quiet, 1).await[0].revision, 12);
}

/// Waits until the log begins at `revision` or later.
async fn compacted_to(store: &Store, revision: u64) {
    within(async {
        while store.oldest_revision() < revision {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn log_is_cut_by_itself_when_it_is_long(on: On) {
    let options = Options { keep_revisions_min: 100, keep_revisions_max: 200, ..Options::default() };
    let scratch = Scratch::with(on, options).await;
    let store = &scratch.store;
    for index in 0..1_300 {
        write(store, put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    compacted_to(store, 1_000).await;
    assert!(store.oldest_revision() <= 1_200, "what must be kept is kept");
    assert_eq!(at_revision(store, 1_250).await.unwrap(), [("a".to_owned(), 1_250)]);
    assert_eq!(spec(&store.get(&pod("a")).await.unwrap().unwrap()), 1_299);
}

static CLOCK_S: AtomicI64 = AtomicI64::new(0);

fn now() -> Timestamp {
    Timestamp::from_second(CLOCK_S.load(Ordering::SeqCst)).unwrap()
}

async fn log_is_cut_by_itself_when_it_is_old(on: On) {
    let options =
        Options { keep_revisions_min: 100, keep_revisions_max: 1_000_000, keep_for: Duration::from_mins(1), now, ..Options::default() };
    let scratch = Scratch::with(on, options).await;
    let store = &scratch.store;
    for index in 0..700 {
        write(store, put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    assert_eq!(store.oldest_revision(), 0, "nothing is old yet");
    CLOCK_S.store(60, Ordering::SeqCst);
    write(store, put(&pod("a"), Expect::Any, 700)).await.unwrap();
    compacted_to(store, 500).await;
    assert_eq!(store.oldest_revision(), 500);
}
