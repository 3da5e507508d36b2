//! Many writers and many watchers at once.

use fermion_store::{Commit, Event, Expect, Key, Options, Scope};
use futures::future::join_all;
use std::sync::Arc;

use crate::scratch::{On, Scratch, delete, events, on_both, put, write};

on_both!(multi_thread:
    every_watcher_sees_the_same_order,
    writers_that_check_the_revision_lose_no_update,
    pages_stay_of_one_snapshot_while_others_write,
);

const WRITERS: usize = 16;
const ROUNDS: usize = 40;
const WATCHERS: usize = 100;

fn revisions(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}

async fn every_watcher_sees_the_same_order(on: On) {
    // So little memory that some watchers read from disk and others do not.
    let scratch = Scratch::with(on, Options { recent_events_max: 64, ..Options::default() }).await;
    let store = &scratch.store;
    let total = WRITERS * ROUNDS * 3;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
        watchers.push(tokio::spawn(async move { events(&mut watch, total).await }));
    }
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let own = Key::new("pods", "a", format!("own-{writer}"));
            let shared = Key::new("pods", "b", "shared");
            for round in 0..ROUNDS {
                let writes = vec![put(&own, Expect::Absent, round), put(&shared, Expect::Any, round)];
                store.commit(Commit { writes, ..Commit::default() }).await.unwrap();
                write(&store, delete(&own, Expect::Any)).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }

    let log = events(&mut store.watch(Scope::all("pods"), 0).await.unwrap(), total).await;
    assert_eq!(revisions(&log), (1..=total as u64).collect::<Vec<_>>());
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), log);
    }
    // Each version replaced the one written before it.
    let mut newest = std::collections::HashMap::new();
    for event in &log {
        let key = event.object.key.clone();
        let previous = newest.insert(key, event.object.clone());
        match event.kind {
            fermion_store::EventKind::Deleted => {
                assert_eq!(event.previous, previous);
                newest.remove(&event.object.key);
            }
            _ => assert_eq!(event.previous, previous),
        }
    }
}

async fn writers_that_check_the_revision_lose_no_update(on: On) {
    let scratch = Scratch::new(on).await;
    let key = Key::new("pods", "a", "counter");
    write(&scratch.store, put(&key, Expect::Absent, 0)).await.unwrap();
    let writers = (0..8).map(|_| {
        let (store, key) = (scratch.store.clone(), key.clone());
        tokio::spawn(async move {
            for _ in 0..25 {
                loop {
                    let stored = store.get(&key).await.unwrap().unwrap();
                    let count = crate::scratch::spec(&stored).as_u64().unwrap();
                    let next = put(&key, Expect::Revision(stored.revision), count + 1);
                    match write(&store, next).await {
                        Ok(_) => break,
                        Err(fermion_store::Error::Conflict { expected, actual, .. }) => {
                            assert!(actual > expected);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let stored = scratch.store.get(&key).await.unwrap().unwrap();
    assert_eq!(crate::scratch::spec(&stored), 200);
    assert_eq!(scratch.store.revision(), 201);
}

async fn pages_stay_of_one_snapshot_while_others_write(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let key = |index: usize| Key::new("pods", "a", format!("{index:03}"));
    let writes = (0..100).map(|index| put(&key(index), Expect::Absent, 0)).collect();
    store.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            // Each commit moves every object to the next generation, or replaces one.
            for generation in 1..50 {
                let writes = (0..100)
                    .filter(|index| (index + generation) % 10 != 0)
                    .map(|index| put(&key(index), Expect::Any, generation))
                    .collect();
                store.commit(Commit { writes, ..Commit::default() }).await.unwrap();
                let index = generation % 100;
                write(&store, delete(&key(index), Expect::Any)).await.unwrap();
                write(&store, put(&key(index), Expect::Absent, generation)).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let mut query = fermion_store::ListQuery { limit: Some(9), ..fermion_store::ListQuery::all(Scope::all("pods")) };
        let mut pages = Vec::new();
        loop {
            let page = store.list(query.clone()).await.unwrap();
            query.at_revision = Some(page.revision);
            pages.extend(page.items);
            let Some(next) = page.next else { break };
            query.start_after = Some(next);
        }
        let whole = fermion_store::ListQuery { limit: None, start_after: None, ..query };
        assert_eq!(store.list(whole).await.unwrap().items, pages);
        assert!((99..=100).contains(&pages.len()));
        assert!(pages.iter().all(|stored| Some(stored.revision) <= query_revision(&pages)));
    }
    writer.await.unwrap();
}

fn query_revision(pages: &[fermion_store::Stored]) -> Option<u64> {
    pages.iter().map(|stored| stored.revision).max()
}
