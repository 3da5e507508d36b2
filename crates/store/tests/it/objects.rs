//! Commits, gets and lists.

use fermion_store::{Commit, Error, EventKind, Expect, Key, ListQuery, Scope};
use serde_json::json;

use crate::scratch::{On, Scratch, body, delete, events, object, on_both, pod, put, spec, write};

on_both!(
    written_object_reads_back_with_its_revision,
    expectations_decide_what_is_written,
    deletion_answers_the_last_body_at_its_own_revision,
    refused_write_takes_the_whole_commit_with_it,
    later_writes_of_a_commit_see_the_earlier_ones,
    racing_creates_of_one_name_have_one_winner,
    what_cannot_be_stored_is_refused_before_it_is_written,
    hostile_text_is_stored_as_it_is,
    lists_are_ordered_and_scoped,
    pages_of_one_listing_are_of_one_snapshot,
    revision_that_is_not_there_yet_cannot_be_asked_for,
    object_written_as_read_keeps_everything_but_its_revision,
);

async fn written_object_reads_back_with_its_revision(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let written = write(store, put(&pod("a"), Expect::Absent, "one")).await.unwrap();
    assert_eq!(written.revision, 1);
    assert_eq!(store.revision(), 1);
    assert_eq!(spec(&written), "one");
    let read = store.get(&pod("a")).await.unwrap().unwrap();
    assert_eq!(read, written);
    assert_eq!(store.get(&pod("b")).await.unwrap(), None);
}

async fn expectations_decide_what_is_written(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let a = pod("a");
    let missing = write(store, put(&a, Expect::Revision(1), "x")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { key } if key == a));
    let missing = write(store, delete(&a, Expect::Any)).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { key } if key == a));

    write(store, put(&a, Expect::Absent, "one")).await.unwrap();
    let exists = write(store, put(&a, Expect::Absent, "x")).await.unwrap_err();
    assert!(matches!(exists, Error::AlreadyExists { key } if key == a));
    write(store, put(&a, Expect::Revision(1), "two")).await.unwrap();
    let stale = write(store, put(&a, Expect::Revision(1), "x")).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { key, expected: 1, actual: 2 } if key == a));
    let stale = write(store, delete(&a, Expect::Revision(1))).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { expected: 1, actual: 2, .. }));
    write(store, put(&a, Expect::Any, "three")).await.unwrap();
    write(store, put(&pod("b"), Expect::Any, "one")).await.unwrap();

    // Refused writes took no revision.
    assert_eq!(store.revision(), 4);
    assert_eq!(spec(&store.get(&a).await.unwrap().unwrap()), "three");
}

async fn deletion_answers_the_last_body_at_its_own_revision(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    write(store, put(&pod("a"), Expect::Absent, "one")).await.unwrap();
    let deleted = write(store, delete(&pod("a"), Expect::Revision(1))).await.unwrap();
    assert_eq!(deleted.revision, 2);
    assert_eq!(spec(&deleted), "one");
    assert_eq!(store.get(&pod("a")).await.unwrap(), None);
    let again = write(store, put(&pod("a"), Expect::Absent, "two")).await.unwrap();
    assert_eq!(again.revision, 3);
}

async fn refused_write_takes_the_whole_commit_with_it(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    write(store, put(&pod("old"), Expect::Absent, "one")).await.unwrap();
    let commit = Commit {
        writes: vec![
            put(&pod("new"), Expect::Absent, "x"),
            put(&pod("old"), Expect::Any, "x"),
            delete(&pod("old"), Expect::Any),
            put(&pod("new"), Expect::Absent, "x"),
        ],
        ..Commit::default()
    };
    let refused = store.commit(commit).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { key } if key == pod("new")));
    assert_eq!(store.get(&pod("new")).await.unwrap(), None);
    assert_eq!(spec(&store.get(&pod("old")).await.unwrap().unwrap()), "one");
    assert_eq!(write(store, put(&pod("next"), Expect::Absent, "x")).await.unwrap().revision, 2);
}

async fn later_writes_of_a_commit_see_the_earlier_ones(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let a = pod("a");
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    let commit = Commit {
        writes: vec![
            put(&a, Expect::Absent, "one"),
            put(&a, Expect::Revision(1), "two"),
            delete(&a, Expect::Revision(2)),
            put(&a, Expect::Absent, "three"),
        ],
        ..Commit::default()
    };
    let stored = store.commit(commit).await.unwrap();
    assert_eq!(stored.iter().map(|s| s.revision).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(stored.iter().map(spec).collect::<Vec<_>>(), ["one", "two", "two", "three"]);
    let events = events(&mut watch, 4).await;
    let seen: Vec<_> = events.iter().map(|e| (e.kind, e.previous.as_ref().map(|previous| previous.revision))).collect();
    assert_eq!(seen, [(EventKind::Added, None), (EventKind::Modified, Some(1)), (EventKind::Deleted, Some(2)), (EventKind::Added, None)]);
}

async fn racing_creates_of_one_name_have_one_winner(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let racers: Vec<_> = (0..64)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move { write(&store, put(&pod("a"), Expect::Absent, index)).await })
        })
        .collect();
    let mut won = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            Ok(stored) => won.push(stored),
            Err(error) => assert!(matches!(error, Error::AlreadyExists { .. }), "{error}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(store.get(&pod("a")).await.unwrap(), won.pop());
    assert_eq!(store.revision(), 1);
}

async fn what_cannot_be_stored_is_refused_before_it_is_written(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let nameless = Key::new("pods", "default", "");
    let wrong = [
        put(&pod("a\0b"), Expect::Any, "x"),
        put(&nameless, Expect::Any, "x"),
        fermion_store::Write::Put { key: pod("a"), expect: Expect::Any, object: json!("text") },
        fermion_store::Write::Put { key: pod("a"), expect: Expect::Any, object: json!({}) },
        delete(&pod("a"), Expect::Absent),
        put(&pod("a"), Expect::Any, "x".repeat(9 << 20)),
    ];
    for wrong in wrong {
        let refused = write(store, wrong).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    }
    assert_eq!(store.revision(), 0);
}

async fn hostile_text_is_stored_as_it_is(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let key = Key::new("pods", "';--", "ab\u{202e}\"{}%_/../é");
    let text = "\u{0}\u{7f}\"\\\n\u{2028}😀'; DROP TABLE log;--";
    let stored = write(store, put(&key, Expect::Absent, text)).await.unwrap();
    let read = store.get(&key).await.unwrap().unwrap();
    assert_eq!(read, stored);
    assert_eq!(body(&read)["spec"], text);
    let page = store.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    assert_eq!(page.items, [stored]);
}

async fn names(store: &fermion_store::Store, query: ListQuery) -> Vec<String> {
    let page = store.list(query).await.unwrap();
    page.items.iter().map(|stored| stored.key.to_string()).collect()
}

async fn lists_are_ordered_and_scoped(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    for (resource, namespace, name) in
        [("pods", "b", "1"), ("pods", "a", "2"), ("nodes", "", "n"), ("pods", "a", "1"), ("pods", "a-b", "1"), ("podsx", "a", "1")]
    {
        let key = Key::new(resource, namespace, name);
        write(store, put(&key, Expect::Absent, "x")).await.unwrap();
    }
    let all = ListQuery::all(Scope::all("pods"));
    assert_eq!(names(store, all.clone()).await, ["pods/a/1", "pods/a/2", "pods/a-b/1", "pods/b/1"]);
    let mut one = all.clone();
    one.scope.namespace = Some("a".into());
    assert_eq!(names(store, one.clone()).await, ["pods/a/1", "pods/a/2"]);
    one.scope.name = Some("2".into());
    assert_eq!(names(store, one).await, ["pods/a/2"]);
    let mut named = all;
    named.scope.name = Some("1".into());
    assert_eq!(names(store, named).await, ["pods/a/1", "pods/a-b/1", "pods/b/1"]);
    assert_eq!(names(store, ListQuery::all(Scope::all("nodes"))).await, ["nodes/n"]);
    assert_eq!(names(store, ListQuery::all(Scope::all("none"))).await, Vec::<String>::new());
}

async fn pages_of_one_listing_are_of_one_snapshot(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let key = |index: usize| pod(&format!("p{index:02}"));
    for index in 0..10 {
        write(store, put(&key(index), Expect::Absent, "old")).await.unwrap();
    }
    let mut query = ListQuery { limit: Some(4), ..ListQuery::all(Scope::all("pods")) };
    let first = store.list(query.clone()).await.unwrap();
    assert_eq!((first.items.len(), first.remaining, first.revision), (4, Some(6), 10));

    write(store, delete(&key(5), Expect::Any)).await.unwrap();
    write(store, put(&key(6), Expect::Any, "new")).await.unwrap();
    write(store, put(&pod("p055"), Expect::Any, "new")).await.unwrap();
    write(store, delete(&key(9), Expect::Any)).await.unwrap();
    write(store, put(&key(9), Expect::Any, "back")).await.unwrap();

    query.start_after = first.next;
    query.at_revision = Some(first.revision);
    let second = store.list(query.clone()).await.unwrap();
    assert_eq!((second.items.len(), second.remaining, second.revision), (4, Some(2), 10));
    query.start_after = second.next;
    let third = store.list(query).await.unwrap();
    assert_eq!((third.items.len(), third.remaining, third.next), (2, None, None));

    let pages = [first.items, second.items, third.items].concat();
    let expected: Vec<_> = (0..10).map(key).collect();
    assert_eq!(pages.iter().map(|s| s.key.clone()).collect::<Vec<_>>(), expected);
    assert!(pages.iter().all(|stored| spec(stored) == "old"));
}

async fn revision_that_is_not_there_yet_cannot_be_asked_for(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    write(store, put(&pod("a"), Expect::Absent, "x")).await.unwrap();
    let query = ListQuery { at_revision: Some(2), ..ListQuery::all(Scope::all("pods")) };
    let refused = store.list(query).await.unwrap_err();
    assert!(matches!(refused, Error::Future { requested: 2, newest: 1 }));
    let refused = store.watch(Scope::all("pods"), 2).await.err().unwrap();
    assert!(matches!(refused, Error::Future { requested: 2, newest: 1 }));
}

async fn object_written_as_read_keeps_everything_but_its_revision(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let key = pod("a");
    let mut given = object(&key, json!({"numbers": [1, -1, 1.5, u64::MAX], "nothing": null}));
    let first = write(store, put(&key, Expect::Absent, given["spec"].clone())).await.unwrap();
    given["metadata"]["resourceVersion"] = "1".into();
    assert_eq!(body(&first), given);
}
