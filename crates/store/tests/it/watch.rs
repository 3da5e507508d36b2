//! Watches.

use fermion_store::{Error, EventKind, Expect, Key, Options, Scope};
use futures::{FutureExt, StreamExt};

use crate::scratch::{On, Scratch, delete, events, on_both, pod, put, spec, within, write};

on_both!(
    watch_sees_what_was_written_before_and_after_it_began,
    watch_sees_only_its_scope,
    slow_watcher_misses_nothing_that_left_memory,
    large_bodies_do_not_pile_up_in_memory,
    progress_says_from_where_a_new_watch_misses_nothing,
    watcher_is_woken_by_the_write_it_waits_for,
    watch_from_a_list_misses_nothing_while_others_write,
    watch_ends_when_the_store_is_closed,
);

async fn watch_sees_what_was_written_before_and_after_it_began(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    write(store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    write(store, put(&pod("a"), Expect::Any, 2)).await.unwrap();
    let mut watch = store.watch(Scope::all("pods"), 1).await.unwrap();
    write(store, delete(&pod("a"), Expect::Any)).await.unwrap();
    write(store, put(&pod("a"), Expect::Absent, 4)).await.unwrap();

    let seen = events(&mut watch, 3).await;
    let summary: Vec<_> = seen
        .iter()
        .map(|event| {
            assert_eq!(event.object.revision, event.revision);
            (event.revision, event.kind, spec(&event.object), event.previous.as_deref().map(spec))
        })
        .collect();
    assert_eq!(
        summary,
        [
            (2, EventKind::Modified, 2.into(), Some(1.into())),
            (3, EventKind::Deleted, 2.into(), Some(2.into())),
            (4, EventKind::Added, 4.into(), None),
        ]
    );
    assert!(watch.next().now_or_never().is_none());
}

async fn watch_sees_only_its_scope(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let mut one_namespace = Scope::all("pods");
    one_namespace.namespace = Some("a".into());
    let mut one_object = one_namespace.clone();
    one_object.name = Some("x".into());
    let scopes = [Scope::all("pods"), one_namespace, one_object];
    let mut live = Vec::new();
    for scope in scopes.clone() {
        live.push(store.watch(scope, 0).await.unwrap());
    }
    for (resource, namespace, name) in [("pods", "a", "x"), ("pods", "a", "y"), ("pods", "b", "x"), ("nodes", "", "x")] {
        let key = Key::new(resource, namespace, name);
        write(store, put(&key, Expect::Absent, 0)).await.unwrap();
    }
    let expected: [&[u64]; 3] = [&[1, 2, 3], &[1, 2], &[1]];
    for (watch, expected) in live.iter_mut().zip(expected) {
        let seen = events(watch, expected.len()).await;
        assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), expected);
        assert!(watch.next().now_or_never().is_none());
    }
    // The same from disk, where a store that was just opened has to look.
    let scratch = scratch.reopen(Options::default()).await;
    for (scope, expected) in scopes.into_iter().zip(expected) {
        let mut watch = scratch.store.watch(scope, 0).await.unwrap();
        let seen = events(&mut watch, expected.len()).await;
        assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), expected);
    }
}

async fn slow_watcher_misses_nothing_that_left_memory(on: On) {
    const WRITES: u64 = 1_000;
    let scratch = Scratch::with(on, Options { recent_events_max: 4, ..Options::default() }).await;
    let store = &scratch.store;
    let mut slow = store.watch(Scope::all("pods"), 0).await.unwrap();
    let mut quiet = store.watch(Scope::all("nodes"), 0).await.unwrap();
    write(store, put(&pod("a"), Expect::Any, 1)).await.unwrap();
    events(&mut slow, 1).await;
    for index in 2..=WRITES {
        write(store, put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    let seen = events(&mut slow, WRITES as usize - 1).await;
    for (event, expected) in seen.iter().zip(2..) {
        assert_eq!((event.revision, spec(&event.object)), (expected, expected.into()));
        assert_eq!(spec(event.previous.as_ref().unwrap()), expected - 1);
    }
    // Caught up, it goes on from memory.
    write(store, put(&pod("a"), Expect::Any, 0)).await.unwrap();
    assert_eq!(events(&mut slow, 1).await[0].revision, WRITES + 1);
    assert!(quiet.next().now_or_never().is_none());
}

async fn large_bodies_do_not_pile_up_in_memory(on: On) {
    let scratch = Scratch::with(on, Options { recent_bytes_max: 4096, ..Options::default() }).await;
    let store = &scratch.store;
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    for index in 0..8 {
        write(store, put(&pod("a"), Expect::Any, "x".repeat(3000 * index))).await.unwrap();
    }
    for (event, index) in events(&mut watch, 8).await.iter().zip(0..) {
        assert_eq!(spec(&event.object).as_str().unwrap().len(), 3000 * index);
    }
}

async fn progress_says_from_where_a_new_watch_misses_nothing(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    assert_eq!(watch.progress(), 0);
    let node = Key::new("nodes", "", "n");
    for index in 0..3 {
        write(store, put(&node, Expect::Any, index)).await.unwrap();
    }
    // Nothing happened to pods, so it moves on with the store.
    assert_eq!(watch.progress(), 3);
    write(store, put(&pod("a"), Expect::Any, 4)).await.unwrap();
    write(store, put(&node, Expect::Any, 5)).await.unwrap();
    write(store, put(&pod("a"), Expect::Any, 6)).await.unwrap();
    assert!(watch.progress() < 4);
    assert_eq!(events(&mut watch, 1).await[0].revision, 4);
    assert_eq!(watch.progress(), 5);
    assert_eq!(events(&mut watch, 1).await[0].revision, 6);
    assert_eq!(watch.progress(), 6);
    write(store, put(&node, Expect::Any, 7)).await.unwrap();
    assert_eq!(watch.progress(), 7);
}

async fn watcher_is_woken_by_the_write_it_waits_for(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    let waiting = tokio::spawn(async move { watch.next().await.unwrap().unwrap().revision });
    tokio::task::yield_now().await;
    write(store, put(&pod("a"), Expect::Any, 1)).await.unwrap();
    assert_eq!(within(waiting).await.unwrap(), 1);
}

async fn watch_from_a_list_misses_nothing_while_others_write(on: On) {
    let scratch = Scratch::new(on).await;
    let store = scratch.store.clone();
    let writer = tokio::spawn(async move {
        for index in 0..500 {
            write(&store, put(&pod("a"), Expect::Any, index)).await.unwrap();
        }
    });
    let store = &scratch.store;
    while !writer.is_finished() {
        let page = store.list(fermion_store::ListQuery::all(Scope::all("pods"))).await.unwrap();
        // What a list or a get showed can be watched from at once.
        let mut watch = store.watch(Scope::all("pods"), page.revision).await.unwrap();
        if let Some(stored) = store.get(&pod("a")).await.unwrap() {
            store.watch(Scope::all("pods"), stored.revision).await.unwrap();
        }
        if page.revision < 500 {
            assert_eq!(events(&mut watch, 1).await[0].revision, page.revision + 1);
        }
    }
    writer.await.unwrap();
}

async fn watch_ends_when_the_store_is_closed(on: On) {
    let scratch = Scratch::new(on).await;
    let mut watch = scratch.store.watch(Scope::all("pods"), 0).await.unwrap();
    write(&scratch.store, put(&pod("a"), Expect::Any, 1)).await.unwrap();
    scratch.store.close().await;
    assert_eq!(events(&mut watch, 1).await[0].revision, 1);
    assert!(matches!(within(watch.next()).await, Some(Err(Error::Closed))));
    assert!(within(watch.next()).await.is_none());
}
