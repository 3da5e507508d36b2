//! Measures the store on this machine: durable writes, gets, lists and the way to a watcher.
//!
//! `cargo run --release -p fermion-store --example durable_puts [DIRECTORY | postgres://…]`
//! The directory decides which disk is measured; a temporary one by default. A database must be empty.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

use std::time::{Duration, Instant};

use fermion_store::{Commit, Expect, Key, ListQuery, Options, Scope, Store, Write};
use futures::StreamExt;
use serde_json::{Value, json};

const COMMITTERS: usize = 64;
const COMMITS: usize = 1_000;
const UPDATES: usize = 500;
const LISTED: usize = 10_000;
const LISTS: usize = 20;
const GETS: usize = 50_000;
const WATCHERS: usize = 100;
const WATCHED_WRITES: usize = 500;

#[tokio::main]
async fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let store = match std::env::args().nth(1) {
        Some(url) if url.starts_with("postgres://") => Store::connect(&url, Options::default()).await.unwrap(),
        Some(directory) => Store::open(&std::path::Path::new(&directory).join("measured"), Options::default()).unwrap(),
        None => Store::open(&temporary.path().join("measured"), Options::default()).unwrap(),
    };

    alone(&store).await;
    creates(&store).await;
    updates(&store).await;
    gets(&store).await;
    lists(&store).await;
    watches(&store).await;
    let revision = store.revision();
    let start = Instant::now();
    store.compact(revision).await.unwrap();
    println!("compaction of {revision} revisions: {:.0} ms", ms(start.elapsed()));
    store.close().await;
}

fn key(resource: &str, name: impl std::fmt::Display) -> Key {
    Key::new(resource, "default", name.to_string())
}

/// An object whose text is about 1 KB, shaped like a small pod.
fn object(name: &str) -> Value {
    let variables: Vec<Value> = (0..12).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "0123456789abcdef"})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": "0b9c1f6e-6a55-4c1c-9d0e-3b8f1a2c4d5e",
                     "labels": {"app": "measured", "tier": "store"}, "generation": 1},
        "spec": {"containers": [{"name": "main", "image": "fermion.dev/python:latest", "env": variables,
                                 "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
        "status": {"phase": "Running", "podIP": "10.88.0.17"},
    })
}

fn put(key: &Key, expect: Expect) -> Commit {
    Commit::of(Write::Put { key: key.clone(), expect, object: object(&key.name) })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn report(what: &str, mut latencies: Vec<Duration>, elapsed: Duration) {
    latencies.sort_unstable();
    let at = |share: f64| ms(latencies[((latencies.len() - 1) as f64 * share) as usize]);
    println!(
        "{what}: {:.0}/s, p50 {:.3} ms, p99 {:.3} ms ({} in {:.2} s)",
        latencies.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        latencies.len(),
        elapsed.as_secs_f64()
    );
}

async fn alone(store: &Store) {
    let start = Instant::now();
    let mut latencies = Vec::new();
    for index in 0..COMMITS {
        let begun = Instant::now();
        store.commit(put(&key("alone", index), Expect::Absent)).await.unwrap();
        latencies.push(begun.elapsed());
    }
    report("durable creates, 1 committer", latencies, start.elapsed());
}

async fn many<F>(store: &Store, one: impl Fn(Store, usize) -> F) -> Vec<Duration>
where
    F: Future<Output = Vec<Duration>> + Send + 'static,
{
    let tasks: Vec<_> = (0..COMMITTERS).map(|committer| tokio::spawn(one(store.clone(), committer))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies
}

async fn creates(store: &Store) {
    let size = object("pod-00-0000").to_string().len();
    let start = Instant::now();
    let latencies = many(store, |store, committer| async move {
        let mut latencies = Vec::with_capacity(COMMITS);
        for index in 0..COMMITS {
            let key = key("created", format_args!("pod-{committer:02}-{index:04}"));
            let begun = Instant::now();
            store.commit(put(&key, Expect::Absent)).await.unwrap();
            latencies.push(begun.elapsed());
        }
        latencies
    });
    let latencies = latencies.await;
    report(&format!("durable creates, {COMMITTERS} committers, {size} bytes"), latencies, start.elapsed());
}

async fn updates(store: &Store) {
    let start = Instant::now();
    let latencies = many(store, |store, committer| async move {
        let key = key("updated", committer);
        let mut expect = Expect::Absent;
        let mut latencies = Vec::with_capacity(UPDATES);
        for _ in 0..UPDATES {
            let begun = Instant::now();
            let stored = store.commit(put(&key, expect)).await.unwrap();
            expect = Expect::Revision(stored[0].revision);
            latencies.push(begun.elapsed());
        }
        latencies
    });
    let latencies = latencies.await;
    report(&format!("durable updates, {COMMITTERS} committers"), latencies, start.elapsed());
}

async fn gets(store: &Store) {
    let start = Instant::now();
    let mut latencies = Vec::with_capacity(GETS);
    for index in 0..GETS {
        let name = format!("pod-{:02}-{:04}", index * 7 % COMMITTERS, index * 13 % COMMITS);
        let begun = Instant::now();
        store.get(&key("created", name)).await.unwrap().unwrap();
        latencies.push(begun.elapsed());
    }
    report("gets, one after another", latencies, start.elapsed());
}

async fn lists(store: &Store) {
    let query = ListQuery { limit: Some(LISTED), ..ListQuery::all(Scope::all("created")) };
    let start = Instant::now();
    let mut latencies = Vec::new();
    for _ in 0..LISTS {
        let begun = Instant::now();
        assert_eq!(store.list(query.clone()).await.unwrap().items.len(), LISTED);
        latencies.push(begun.elapsed());
    }
    report(&format!("lists of {LISTED}"), latencies, start.elapsed());

    let before = store.revision() - UPDATES as u64 * COMMITTERS as u64;
    let query = ListQuery { at_revision: Some(before), ..query };
    let begun = Instant::now();
    assert_eq!(store.list(query).await.unwrap().items.len(), LISTED);
    println!("list of {LISTED} as of {} revisions ago: {:.1} ms", store.revision() - before, ms(begun.elapsed()));
}

/// From the answer to the writer to the moment the last of many watchers has the event.
async fn watches(store: &Store) {
    let key = key("watched", "one");
    let since = store.revision();
    let (seen, mut all_seen) = tokio::sync::mpsc::channel(WATCHERS * WATCHED_WRITES);
    let clock = Instant::now();
    for _ in 0..WATCHERS {
        let mut watch = store.watch(Scope::all("watched"), since).await.unwrap();
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(Ok(event)) = watch.next().await {
                if seen.send((event.revision, clock.elapsed())).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut latencies = Vec::new();
    let start = Instant::now();
    for _ in 0..WATCHED_WRITES {
        let stored = store.commit(put(&key, Expect::Any)).await.unwrap();
        let written = clock.elapsed();
        for _ in 0..WATCHERS {
            let (revision, at) = all_seen.recv().await.unwrap();
            assert_eq!(revision, stored[0].revision);
            latencies.push(at.saturating_sub(written));
        }
    }
    report(&format!("deliveries to {WATCHERS} watchers after the writer's answer"), latencies, start.elapsed());
}
