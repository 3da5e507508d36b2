//! Lists by labels, fields, text, in an order: what the databases answer is what the definition says.

use std::cmp::Ordering;

use fermion_store::{Commit, Error, Expect, FieldTerm, Filter, Key, LabelIs, LabelTerm, ListQuery, Options, Order, Scope, Store, Write};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::scratch::{On, Scratch, body, delete, on_both, pod, put, write};

on_both!(
    objects_are_found_by_text_counted_and_paged_in_an_order,
    plain_lists_are_counted_too,
    long_pages_end_where_they_should,
    what_no_database_can_be_asked_is_refused,
);

/// As many characters as the index of labels holds of a value, and one more.
macro_rules! long {
    ($last:literal) => {
        concat!("éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé", $last)
    };
}

/// Texts that are easily confused with each other.
fn any_text() -> impl Strategy<Value = String> {
    select(vec![
        "",
        "a",
        "A",
        "b",
        "true",
        "false",
        "null",
        "1",
        "1.0",
        "1e3",
        "1000.0",
        "-5",
        "[",
        "{}",
        "\"a\"",
        "a\"",
        "é",
        "a\\",
        "a\0b",
        "\u{fffd}x",
        "%",
        "_",
        "'",
        "[1]",
        long!("a"),
        long!("b"),
    ])
    .prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any_text().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => select(vec![json!(1), json!(1.0), json!(-5), json!(1e300), json!(1000.0), json!(u64::MAX)]),
        1 => select(vec![json!(null), json!([]), json!(["a"]), json!({}), json!({"a": "a", "0": "b"})]),
    ]
}

const KEYS: [&str; 5] = ["app", "tier", "fermion.dev/pool", "0", "ä b"];

fn any_map() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(select(KEYS.to_vec()).prop_map(str::to_owned), any_value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// An object's labels, spec and anything else.
fn any_object() -> impl Strategy<Value = Value> {
    let labels = prop_oneof![8 => any_map().prop_map(|labels| json!({"labels": labels})), 1 => Just(json!({"labels": "none"})), 1 => Just(json!({}))];
    let spec = prop_oneof![8 => any_map().prop_map(Value::from), 1 => any_value()];
    (labels, spec).prop_map(|(metadata, spec)| json!({"metadata": metadata, "spec": spec, "app": "web"}))
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    let nested = select(KEYS.to_vec()).prop_map(|key| vec!["spec".to_owned(), key.to_owned()]);
    prop_oneof![
        6 => nested.clone(),
        2 => (nested, select(vec!["a", "0"])).prop_map(|(mut path, last)| { path.push(last.to_owned()); path }),
        1 => Just(vec!["spec".to_owned()]),
        1 => Just(vec!["app".to_owned()]),
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let values = || prop::collection::vec(any_text(), 0..3);
    let is = prop_oneof![values().prop_map(LabelIs::In), values().prop_map(LabelIs::NotIn), Just(LabelIs::Present), Just(LabelIs::Absent)];
    let label = (select(KEYS.to_vec()), is).prop_map(|(key, is)| LabelTerm { key: key.to_owned(), is });
    let field = (any_path(), any::<bool>(), any_text(), select(vec!["", "false"])).prop_map(|(path, equal, value, absent)| FieldTerm {
        path,
        equal,
        value,
        absent: absent.to_owned(),
    });
    (prop::collection::vec(label, 0..3), prop::collection::vec(field, 0..2)).prop_map(|(labels, fields)| Filter { labels, fields })
}

/// Names with what they become: a whole object, or nothing.
type Writes = Vec<(u8, Option<Value>)>;

fn any_writes(most: usize) -> impl Strategy<Value = Writes> {
    prop::collection::vec((0_u8..8, prop::option::weighted(0.8, any_object())), 0..most)
}

async fn apply(store: &Store, resource: &str, writes: Writes) {
    for (name, object) in writes {
        let key = Key::new(resource, if name % 2 == 0 { "a" } else { "b" }, format!("n{name}"));
        match object {
            Some(object) => drop(write(store, Write::Put { key, expect: Expect::Any, object }).await.unwrap()),
            // What is not there need not be deleted.
            None => drop(write(store, delete(&key, Expect::Any)).await),
        }
    }
}

/// All pages of a query, with the total each of them told.
async fn pages(store: &Store, mut query: ListQuery) -> Vec<(Key, u64)> {
    query.count = true;
    let mut found = Vec::new();
    let mut total = None;
    loop {
        let page = store.list(query.clone()).await.unwrap();
        assert!(page.total.is_some());
        assert_eq!(*total.get_or_insert(page.total), page.total);
        assert!(query.limit.is_none_or(|limit| limit == 0 || page.items.len() <= limit));
        found.extend(page.items.into_iter().map(|stored| (stored.key, stored.revision)));
        let Some(next) = page.next else { break };
        query.start_after = Some(next);
        query.at_revision = Some(page.revision);
    }
    assert_eq!(total.flatten(), Some(found.len() as u64));
    found
}

async fn check(on: On, store: &Store, resource: &str, (before, after): (Writes, Writes), filter: Filter, order: Order, limit: usize) {
    apply(store, resource, before).await;
    let middle = store.revision();
    apply(store, resource, after).await;
    for revision in [Some(middle), None] {
        let all = ListQuery { at_revision: revision, ..ListQuery::all(Scope::all(resource)) };
        let mut expected: Vec<(Key, u64, Value)> = Vec::new();
        for stored in store.list(all.clone()).await.unwrap().items {
            let object = body(&stored);
            if filter.matches(&object) {
                expected.push((stored.key, stored.revision, object));
            }
        }
        let keys = |expected: &[(Key, u64, Value)]| expected.iter().map(|(key, revision, _)| (key.clone(), *revision)).collect::<Vec<_>>();
        let filtered = ListQuery { filter: filter.clone(), ..all };
        assert_eq!(pages(store, ListQuery { limit: Some(limit), ..filtered.clone() }).await, keys(&expected), "{filter:?}");
        let mut one_namespace = filtered.clone();
        one_namespace.scope.namespace = Some("b".into());
        let in_b: Vec<_> = keys(&expected).into_iter().filter(|(key, _)| &*key.namespace == "b").collect();
        assert_eq!(pages(store, one_namespace).await, in_b, "{filter:?}");

        expected.sort_by(|a, b| {
            let by_value = compare(on, at(&a.2, &order.path), at(&b.2, &order.path)).then_with(|| a.0.cmp(&b.0));
            if order.descending { by_value.reverse() } else { by_value }
        });
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let query = ListQuery { order: Some(order.clone()), offset: found.len(), limit: Some(limit.max(1)), ..filtered.clone() };
            let page = store.list(query).await.unwrap();
            assert!(!page.items.is_empty());
            found.extend(page.items.into_iter().map(|stored| (stored.key, stored.revision)));
        }
        assert_eq!(found, keys(&expected), "{order:?}");
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn compare(on: On, a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let rank = |value: Option<&Value>| match value {
        Some(Value::Number(_)) => 1,
        Some(Value::String(_) | Value::Bool(_)) => 2,
        _ => 0,
    };
    let text = |value: &Value| match value {
        // PostgreSQL's JSON cannot hold a NUL.
        Value::String(text) if on == On::Postgres => text.replace('\0', "\u{fffd}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64().unwrap().total_cmp(&b.as_f64().unwrap()),
        (Some(a), Some(b)) if rank(Some(a)) == 2 => text(a).cmp(&text(b)),
        _ => Ordering::Equal,
    })
}

fn databases_answer_what_the_definition_says(on: On, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scratch = runtime.block_on(Scratch::new(on));
    let number = std::cell::Cell::new(0);
    let order = (any_path(), any::<bool>()).prop_map(|(path, descending)| Order { path, descending });
    let case = (any_writes(10), any_writes(6), any_filter(), order, 0_usize..4);
    let outcome = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() }).run(
        &case,
        |(before, after, filter, order, limit)| {
            // Each case has a resource of its own: a database of its own would take longer than the case.
            number.set(number.get() + 1);
            let resource = format!("resource-{}", number.get());
            runtime.block_on(check(on, &scratch.store, &resource, (before, after), filter, order, limit));
            Ok(())
        },
    );
    drop(runtime.enter());
    outcome.unwrap();
}

#[test]
fn sqlite_answers_what_the_definition_says() {
    databases_answer_what_the_definition_says(On::Sqlite, 256);
}

#[test]
fn postgres_answers_what_the_definition_says() {
    databases_answer_what_the_definition_says(On::Postgres, 128);
}

async fn names(store: &Store, query: ListQuery) -> (Vec<String>, Option<u64>) {
    let page = store.list(query).await.unwrap();
    (page.items.iter().map(|stored| stored.key.name.to_string()).collect(), page.total)
}

async fn objects_are_found_by_text_counted_and_paged_in_an_order(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let objects = [
        ("train-1", json!({"queue": "Night", "gpus": 8})),
        ("train-2", json!({"queue": "day", "gpus": 16})),
        ("eval", json!({"queue": "night", "gpus": 1, "notes": ["uses 100% of it", "a\0b"]})),
        ("idle", json!({})),
    ];
    for (name, spec) in objects {
        let managed = json!([{"manager": "night-shift"}]);
        let object = json!({"metadata": {"name": name, "managedFields": managed, "labels": {"team": "Vision"}}, "spec": spec});
        write(store, Write::Put { key: pod(name), expect: Expect::Absent, object }).await.unwrap();
    }
    let all = ListQuery { count: true, ..ListQuery::all(Scope::all("pods")) };
    let search = |text: &str| ListQuery { search: Some(text.to_owned()), ..all.clone() };
    for (text, expected) in [
        ("NIGHT", vec!["eval", "train-1"]),
        ("train", vec!["train-1", "train-2"]),
        ("default", vec!["eval", "idle", "train-1", "train-2"]),
        ("vision", vec!["eval", "idle", "train-1", "train-2"]),
        ("100% of", vec!["eval"]),
        ("16", vec!["train-2"]),
        ("%", vec!["eval"]),
        ("_", vec![]),
        // Keys are not searched, nor who wrote what.
        ("queue", vec![]),
        ("shift", vec![]),
        ("'", vec![]),
    ] {
        let total = expected.len() as u64;
        assert_eq!(names(store, search(text)).await, (expected.iter().map(ToString::to_string).collect(), Some(total)), "{text}");
    }
    let by = |path: [&str; 2], descending| Some(Order { path: path.map(str::to_owned).to_vec(), descending });
    let by_gpus = ListQuery { order: by(["spec", "gpus"], true), limit: Some(2), ..all.clone() };
    assert_eq!(names(store, by_gpus.clone()).await, (vec!["train-2".to_owned(), "train-1".to_owned()], Some(4)));
    let second = ListQuery { offset: 2, ..by_gpus };
    assert_eq!(names(store, second).await, (vec!["eval".to_owned(), "idle".to_owned()], Some(4)));
    let found = ListQuery { order: by(["spec", "queue"], false), limit: Some(1), ..search("night") };
    assert_eq!(names(store, found).await, (vec!["train-1".to_owned()], Some(2)));
}

async fn plain_lists_are_counted_too(on: On) {
    let scratch = Scratch::new(on).await;
    let writes = (0..5).map(|index| put(&pod(&format!("p{index}")), Expect::Absent, index)).collect();
    scratch.store.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    write(&scratch.store, delete(&pod("p0"), Expect::Any)).await.unwrap();
    let counted = ListQuery { count: true, limit: Some(2), ..ListQuery::all(Scope::all("pods")) };
    let page = scratch.store.list(counted.clone()).await.unwrap();
    assert_eq!((page.items.len(), page.total), (2, Some(4)));
    assert_eq!(page.next, Some(("default".to_owned(), "p2".to_owned())));
    let second = ListQuery { offset: 3, ..counted.clone() };
    assert_eq!(names(&scratch.store, second).await, (vec!["p4".to_owned()], Some(4)));
    let before = ListQuery { at_revision: Some(5), ..counted };
    assert_eq!(scratch.store.list(before).await.unwrap().total, Some(5));
}

async fn long_pages_end_where_they_should(on: On) {
    const OBJECTS: usize = 2_500;
    const PAGE: usize = 1_200;
    let scratch = Scratch::new(on).await;
    // The first were written one after the other, the later ones between many others.
    let between =
        |index: usize| (0..if index > PAGE { 3 } else { 0 }).map(move |turn| Key::new("others", "default", format!("o{index}-{turn}")));
    let keys = (0..OBJECTS).flat_map(|index| std::iter::once(pod(&format!("p{index:04}"))).chain(between(index)));
    let writes = keys.map(|key| put(&key, Expect::Absent, "new")).collect();
    scratch.store.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    write(&scratch.store, put(&pod("p0007"), Expect::Any, "changed")).await.unwrap();
    let all = ListQuery::all(Scope::all("pods"));
    let whole = scratch.store.list(all.clone()).await.unwrap();
    assert_eq!((whole.items.len(), whole.next, whole.remaining), (OBJECTS, None, None));
    for stored in &whole.items {
        assert_eq!(body(stored)["metadata"]["resourceVersion"], stored.revision.to_string(), "{}", stored.key);
    }
    let first = scratch.store.list(ListQuery { limit: Some(PAGE), ..all.clone() }).await.unwrap();
    assert_eq!(first.items, whole.items[..PAGE]);
    assert_eq!(first.remaining, Some((OBJECTS - PAGE) as u64));
    let second = ListQuery { start_after: first.next, limit: Some(OBJECTS), ..all.clone() };
    assert_eq!(scratch.store.list(second).await.unwrap().items, whole.items[PAGE..]);
    // One that was just opened has none of them in memory.
    let scratch = scratch.reopen(Options::default()).await;
    assert_eq!(scratch.store.list(all).await.unwrap().items, whole.items);
}

async fn what_no_database_can_be_asked_is_refused(on: On) {
    let scratch = Scratch::new(on).await;
    let all = ListQuery::all(Scope::all("pods"));
    let label = |key: &str, is| Filter { labels: vec![LabelTerm { key: key.to_owned(), is }], fields: vec![] };
    let order = Some(Order { path: vec!["spec".to_owned()], descending: false });
    let queries = [
        ListQuery { filter: label("a\"b", LabelIs::Present), ..all.clone() },
        ListQuery { filter: label("", LabelIs::Present), ..all.clone() },
        ListQuery { filter: label("a", LabelIs::In(vec![String::new(); 2_000])), ..all.clone() },
        ListQuery { search: Some("x".repeat(2_000)), ..all.clone() },
        ListQuery { order: Some(Order { path: vec![], descending: false }), ..all.clone() },
        ListQuery { order, start_after: Some((String::new(), "a".to_owned())), ..all.clone() },
        ListQuery { start_after: Some((String::new(), "a\0".to_owned())), ..all },
    ];
    for query in queries {
        let refused = scratch.store.list(query.clone()).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{query:?}: {refused}");
    }
}
