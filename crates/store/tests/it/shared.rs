//! Several servers on one PostgreSQL, and what happens to its connections.

use std::sync::Arc;

use fermion_store::{Class, Commit, Error, Event, Expect, Fact, FactQuery, Key, ListQuery, Options, Scope, Store};
use fermion_testkit::{Cluster, OwnCluster};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;

use crate::proxy::{Mode, Proxy};
use crate::scratch::{Database, On, Place, count_up, events, pod, put, spec, within, write};

/// Stores of several servers on one database.
async fn servers(count: usize) -> (Vec<Store>, Place) {
    let place = Place::new(On::Postgres);
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(place.open(Options::default()).await.unwrap());
    }
    (stores, place)
}

fn revisions(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_make_the_tables_once() {
    let place = Place::new(On::Postgres);
    let stores = join_all((0..4).map(|_| place.open(Options::default()))).await;
    for (store, index) in stores.into_iter().zip(0..) {
        let store = store.unwrap();
        assert_eq!(write(&store, put(&pod("a"), Expect::Any, index)).await.unwrap().revision, index + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_on_every_server_see_one_order_without_gaps() {
    const SERVERS: usize = 3;
    const WRITERS: usize = 8;
    const ROUNDS: usize = 25;
    let (stores, _place) = servers(SERVERS).await;
    let total = SERVERS * WRITERS * ROUNDS * 2;
    let mut watchers = Vec::new();
    for store in &stores {
        let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
        watchers.push(tokio::spawn(async move { events(&mut watch, total).await }));
    }
    let writers = stores.iter().enumerate().flat_map(|(server, store)| {
        (0..WRITERS).map(move |writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let own = pod(&format!("own-{server}-{writer}"));
                for round in 0..ROUNDS {
                    let writes = vec![put(&own, Expect::Any, round), put(&pod("shared"), Expect::Any, round)];
                    // One that is refused takes no revision.
                    let refused = write(&store, put(&own, Expect::Revision(u64::MAX), 0));
                    let (stored, refused) = futures::join!(store.commit(Commit { writes, ..Commit::default() }), refused);
                    refused.unwrap_err();
                    stored.unwrap();
                }
            })
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let mut logs = Vec::new();
    for watcher in watchers {
        logs.push(within(watcher).await.unwrap());
    }
    assert_eq!(revisions(&logs[0]), (1..=total as u64).collect::<Vec<_>>());
    assert!(logs.iter().all(|log| *log == logs[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn read_on_any_server_sees_what_any_other_acknowledged() {
    let (stores, _place) = servers(3).await;
    for round in 0..100_usize {
        let (writer, reader) = (&stores[round % 3], &stores[(round + 1) % 3]);
        let stored = write(writer, put(&pod("a"), Expect::Any, round)).await.unwrap();
        // In any order, each the first to hear of it.
        match round % 4 {
            0 => assert_eq!(reader.get(&pod("a")).await.unwrap().unwrap(), stored),
            1 => {
                let page = reader.list(ListQuery::all(Scope::all("pods"))).await.unwrap();
                assert_eq!((page.revision, &page.items[0]), (stored.revision, &stored));
            }
            2 => {
                let mut watch = reader.watch(Scope::all("pods"), stored.revision).await.unwrap();
                let next = write(reader, put(&pod("a"), Expect::Revision(stored.revision), round)).await.unwrap();
                assert_eq!(events(&mut watch, 1).await[0].revision, next.revision);
            }
            _ => {
                let next = write(reader, put(&pod("a"), Expect::Revision(stored.revision), round)).await.unwrap();
                assert_eq!(next.revision, stored.revision + 1);
            }
        }
    }
    let future = stores[0].watch(Scope::all("pods"), 10_000).await.err().unwrap();
    assert!(matches!(future, Error::Future { requested: 10_000, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_check_the_revision_lose_no_update() {
    let (stores, _place) = servers(3).await;
    assert_eq!(count_up(&stores, 6, 15).await, 90);
    assert_eq!(stores[2].list(ListQuery::all(Scope::all("pods"))).await.unwrap().revision, 91);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_was_away_while_others_compacted_goes_on() {
    let place = Place::new(On::Postgres);
    let Place::Database(Database(name)) = &place else { unreachable!("it was asked for") };
    let proxy = Proxy::to(Cluster::shared().port()).await;
    let away = Store::connect(&Cluster::tcp_url(name, &[proxy.port]), Options::default()).await.unwrap();
    let present = place.open(Options::default()).await.unwrap();
    let mut watch = away.watch(Scope::all("pods"), 0).await.unwrap();
    write(&away, put(&pod("a"), Expect::Any, 0)).await.unwrap();
    events(&mut watch, 1).await;
    proxy.set(Mode::Cut);
    for index in 1..20 {
        write(&present, put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    present.compact(15).await.unwrap();
    proxy.set(Mode::Pass);
    let told = within(futures::StreamExt::next(&mut watch)).await.unwrap().unwrap_err();
    assert!(matches!(told, Error::Compacted { oldest: 15 }), "{told}");
    let next = write(&away, put(&pod("a"), Expect::Any, 20)).await.unwrap();
    let mut watch = away.watch(Scope::all("pods"), 18).await.unwrap();
    assert_eq!(revisions(&events(&mut watch, 3).await), [19, 20, next.revision]);
}

fn usage(key: usize) -> Fact {
    Fact { kind: "usage", idempotency_key: key.to_string(), namespace: String::new(), at: Timestamp::UNIX_EPOCH, body: json!({}) }
}

/// A commit that would be noticed if it happened twice, or not at all.
fn step(count: usize, expect: Expect) -> Commit {
    Commit { facts: vec![usage(count)], ..Commit::of(put(&pod("counter"), expect, count)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_whose_answer_is_lost_happens_once() {
    const COMMITS: usize = 60;
    let place = Place::new(On::Postgres);
    let Place::Database(Database(name)) = &place else { unreachable!("it was asked for") };
    let proxy = Proxy::to(Cluster::shared().port()).await;
    let store = Store::connect(&Cluster::tcp_url(name, &[proxy.port]), Options::default()).await.unwrap();
    let mut expect = Expect::Absent;
    for count in 0..COMMITS {
        if count % 3 == 0 {
            proxy.swallow_answer_after(0);
        }
        let stored = within(store.commit(step(count, expect))).await.unwrap();
        assert_eq!(stored[0].revision, count as u64 + 1);
        expect = Expect::Revision(stored[0].revision);
    }
    assert!(proxy.swallowed() >= COMMITS as u64 / 3, "{} answers were lost", proxy.swallowed());
    let facts = store.facts(FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }).await.unwrap();
    assert_eq!(facts.items.len(), COMMITS);
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    assert_eq!(revisions(&events(&mut watch, COMMITS).await), (1..=COMMITS as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_are_replaced_and_nothing_is_lost() {
    let (stores, place) = servers(2).await;
    let Place::Database(Database(name)) = &place else { unreachable!("it was asked for") };
    let name = name.clone();
    let writers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(server, store)| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = pod(&format!("own-{server}"));
                let mut expect = Expect::Absent;
                for count in 0..150 {
                    let stored = write(&store, put(&key, expect, count)).await.unwrap();
                    expect = Expect::Revision(stored.revision);
                    assert_eq!(spec(&store.get(&key).await.unwrap().unwrap()), count);
                }
            })
        })
        .collect();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        tokio::task::spawn_blocking(move || Cluster::shared().psql("postgres", &sql)).await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for store in &stores {
        let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
        assert_eq!(revisions(&events(&mut watch, 300).await), (1..=300).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_of_the_database_after_a_crash_is_a_pause() {
    let cluster = OwnCluster::new("");
    let store = Store::connect(&cluster.url(&cluster.database()), Options::default()).await.unwrap();
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    let mut expect = Expect::Absent;
    for round in 0..3 {
        for count in 0..10 {
            let stored = store.commit(step(round * 10 + count, expect)).await.unwrap();
            expect = Expect::Revision(stored[0].revision);
        }
        cluster.stop("immediate");
        // Asked while it is away, answered when it is back.
        let key = pod("counter");
        let (write, read) = (store.commit(step(100 + round, Expect::Any)), store.get(&key));
        let restart = async { tokio::task::block_in_place(|| cluster.start()) };
        let (stored, read, ()) = within(async { futures::join!(write, read, restart) }).await;
        assert!(read.unwrap().is_some());
        expect = Expect::Revision(stored.unwrap()[0].revision);
    }
    assert_eq!(revisions(&events(&mut watch, 33).await), (1..=33).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn promoted_standby_has_everything_that_was_acknowledged() {
    let primary = OwnCluster::new("");
    let standby = OwnCluster::standby_of(&primary);
    let name = primary.database();
    let url = Cluster::tcp_url(&name, &[primary.port(), standby.port()]);
    let stores = [Store::connect(&url, Options::default()).await.unwrap(), Store::connect(&url, Options::default()).await.unwrap()];
    let mut watch = stores[1].watch(Scope::all("pods"), 0).await.unwrap();
    let writer = {
        let store = stores[0].clone();
        tokio::spawn(async move {
            let mut expect = Expect::Absent;
            for count in 0..200 {
                let stored = store.commit(step(count, expect)).await.unwrap();
                expect = Expect::Revision(stored[0].revision);
            }
        })
    };
    events(&mut watch, 50).await;
    tokio::task::block_in_place(|| {
        primary.stop("immediate");
        standby.promote();
    });
    within(writer).await.unwrap();
    assert_eq!(revisions(&events(&mut watch, 150).await), (51..=200).collect::<Vec<_>>());
    let facts = stores[1].facts(FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }).await.unwrap();
    assert_eq!(facts.items.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_lost_what_it_acknowledged_is_not_written_to() {
    let (stores, place) = servers(1).await;
    let Place::Database(Database(name)) = &place else { unreachable!("it was asked for") };
    let mut watch = stores[0].watch(Scope::all("pods"), 0).await.unwrap();
    for index in 0..3 {
        write(&stores[0], put(&pod("a"), Expect::Any, index)).await.unwrap();
    }
    events(&mut watch, 3).await;
    // As after the promotion of a standby that had received the first two.
    let sql = "DELETE FROM fermion.log WHERE revision = 3; UPDATE fermion.objects SET revision = 2; \
               UPDATE fermion.marks SET value = 2 WHERE name = 'revision'";
    Cluster::shared().psql(name, sql);
    assert!(matches!(within(futures::StreamExt::next(&mut watch)).await, Some(Err(Error::Closed))));
    let refused = write(&stores[0], put(&pod("a"), Expect::Any, 4)).await.unwrap_err();
    assert!(matches!(refused, Error::WentBack { seen: 3, found: 2 }), "{refused}");
    assert_eq!(refused.class(), Class::Bug);
    // A server that starts now goes on from what there is.
    let restarted = place.open(Options::default()).await.unwrap();
    assert_eq!(write(&restarted, put(&pod("a"), Expect::Any, 5)).await.unwrap().revision, 3);
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_an_error_without_the_password() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://me:hush@127.0.0.1:{closed}/x");
    let refused = Store::connect(&url, Options::default()).await.unwrap_err();
    assert_eq!(refused.class(), Class::Unavailable);
    let wrong = Cluster::tcp_url("postgres", &[Cluster::shared().port()]).replace("not", "hush");
    let denied = Store::connect(&wrong, Options::default()).await.unwrap_err();
    for error in [refused, denied] {
        let mut text = format!("{error:?} {error}");
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            text.push_str(&next.to_string());
            cause = next;
        }
        assert!(!text.contains("hush"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_server_are_found_by_another_in_the_same_order() {
    let (stores, _place) = servers(2).await;
    for (namespace, name) in [("b", "1"), ("a", "é"), ("a", "Z"), ("a", "a"), ("a-b", "1"), ("a", "_")] {
        write(&stores[0], put(&Key::new("pods", namespace, name), Expect::Absent, 0)).await.unwrap();
    }
    let page = stores[1].list(ListQuery::all(Scope::all("pods"))).await.unwrap();
    let names: Vec<String> = page.items.iter().map(|stored| stored.key.to_string()).collect();
    assert_eq!(names, ["pods/a/Z", "pods/a/_", "pods/a/a", "pods/a/é", "pods/a-b/1", "pods/b/1"]);
}
