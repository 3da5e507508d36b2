//! Facts.

use fermion_store::{Commit, Error, Expect, FACTS_PER_PAGE_MAX, Fact, FactQuery, Options};
use jiff::Timestamp;
use serde_json::json;

use crate::scratch::{On, Scratch, on_both, pod, put, write};

on_both!(
    fact_is_recorded_once_however_often_it_is_tried,
    kinds_do_not_share_idempotency_keys,
    fact_of_a_refused_write_did_not_happen,
    facts_are_found_by_namespace_and_time,
    facts_are_read_page_by_page,
);

fn usage(idempotency_key: &str, namespace: &str, at_s: i64) -> Fact {
    Fact {
        kind: "usage",
        idempotency_key: idempotency_key.to_owned(),
        namespace: namespace.to_owned(),
        at: Timestamp::from_second(at_s).unwrap(),
        body: json!({"of": idempotency_key}),
    }
}

fn of(facts: Vec<Fact>) -> Commit {
    Commit { facts, ..Commit::default() }
}

fn query() -> FactQuery {
    FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }
}

async fn keys(store: &fermion_store::Store, query: FactQuery) -> Vec<String> {
    let page = store.facts(query).await.unwrap();
    page.items.into_iter().map(|fact| fact.idempotency_key).collect()
}

async fn fact_is_recorded_once_however_often_it_is_tried(on: On) {
    let scratch = Scratch::new(on).await;
    let fact = usage("a", "one", 7);
    scratch.store.commit(of(vec![fact.clone(), fact.clone()])).await.unwrap();
    let mut later = fact.clone();
    later.body = json!("something else");
    scratch.store.commit(of(vec![later.clone(), usage("b", "one", 8)])).await.unwrap();
    let scratch = scratch.reopen(Options::default()).await;
    scratch.store.commit(of(vec![later])).await.unwrap();

    let page = scratch.store.facts(query()).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let first = &page.items[0];
    assert_eq!((first.kind.as_str(), first.namespace.as_str()), ("usage", "one"));
    assert_eq!((first.at, &first.body), (fact.at, &fact.body));
    // Facts take no revision.
    assert_eq!(scratch.store.revision(), 0);
}

async fn kinds_do_not_share_idempotency_keys(on: On) {
    let scratch = Scratch::new(on).await;
    let mut other = usage("a", "one", 7);
    other.kind = "audit";
    scratch.store.commit(of(vec![usage("a", "one", 7), other])).await.unwrap();
    assert_eq!(keys(&scratch.store, query()).await, ["a"]);
    let audit = FactQuery { kind: "audit".to_owned(), ..query() };
    assert_eq!(keys(&scratch.store, audit).await, ["a"]);
}

async fn fact_of_a_refused_write_did_not_happen(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    write(store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    let mut commit = Commit::of(put(&pod("a"), Expect::Absent, 2));
    commit.facts.push(usage("a", "one", 7));
    let refused = store.commit(commit.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { .. }));
    assert!(keys(store, query()).await.is_empty());
    commit.writes = vec![put(&pod("a"), Expect::Revision(1), 2)];
    store.commit(commit).await.unwrap();
    assert_eq!(keys(store, query()).await, ["a"]);
}

async fn facts_are_found_by_namespace_and_time(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let facts = [("a", "one", 10), ("b", "two", 20), ("c", "one", 30), ("d", "one", 5)];
    let facts = facts.map(|(key, namespace, at_s)| usage(key, namespace, at_s));
    store.commit(of(facts.to_vec())).await.unwrap();

    assert_eq!(keys(store, query()).await, ["a", "b", "c", "d"]);
    let one = FactQuery { namespace: Some("one".to_owned()), ..query() };
    assert_eq!(keys(store, one.clone()).await, ["a", "c", "d"]);
    let at = |at_s| Some(Timestamp::from_second(at_s).unwrap());
    let range = FactQuery { from: at(10), until: at(30), ..one };
    assert_eq!(keys(store, range).await, ["a"]);
}

async fn facts_are_read_page_by_page(on: On) {
    let scratch = Scratch::new(on).await;
    let count = FACTS_PER_PAGE_MAX + 1;
    let facts = (0..count).map(|index| usage(&index.to_string(), "one", index as i64)).collect();
    scratch.store.commit(of(facts)).await.unwrap();

    let bounded = FactQuery { limit: Some(usize::MAX), ..query() };
    assert_eq!(scratch.store.facts(bounded).await.unwrap().items.len(), FACTS_PER_PAGE_MAX);

    let mut seen = Vec::new();
    let mut next = FactQuery { limit: Some(300), ..query() };
    loop {
        let page = scratch.store.facts(next.clone()).await.unwrap();
        assert!(page.items.len() <= 300);
        seen.extend(page.items.into_iter().map(|fact| fact.idempotency_key));
        let Some(after) = page.next else { break };
        next.after_id = Some(after);
    }
    assert_eq!(seen, (0..count).map(|index| index.to_string()).collect::<Vec<_>>());
}
