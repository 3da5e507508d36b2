//! Leases and fences.

use std::time::Duration;

use fermion_store::{Class, Commit, Error, Expect, Fence, Leadership, Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::history::server::Server;
use crate::history::serves;
use crate::scratch::{On, Place, Scratch, on_both, pod, put, within};

on_both!(
    lease_has_one_holder_until_it_is_given_up,
    lease_that_ran_out_is_given_to_another,
    write_of_a_leader_that_was_replaced_is_refused,
    unreasonable_leases_are_refused,
);

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(10);

async fn lead(store: &Store, holder: &str, ttl: Duration) -> Option<Leadership> {
    store.lead("controllers", holder, ttl).await.unwrap()
}

fn fenced(fence: Fence, count: u64) -> Commit {
    Commit { fence: Some(fence), ..Commit::of(put(&pod("a"), Expect::Any, count)) }
}

async fn lease_has_one_holder_until_it_is_given_up(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let first = lead(store, "a", LONG).await.unwrap();
    assert_eq!((first.token, first.holder.as_str()), (1, "a"));
    assert_eq!(lead(store, "b", LONG).await, None);
    let renewed = lead(store, "a", LONG).await.unwrap();
    assert_eq!(renewed.token, first.token);
    assert!(renewed.expires_at >= first.expires_at);
    store.lead("another name", "b", LONG).await.unwrap().unwrap();

    store.resign(first.fence()).await.unwrap();
    let second = lead(store, "b", LONG).await.unwrap();
    assert_eq!(second.token, 2);
    // It is no longer the first's to give up.
    store.resign(first.fence()).await.unwrap();
    assert_eq!(lead(store, "a", LONG).await, None);
}

async fn lease_that_ran_out_is_given_to_another(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let first = lead(store, "a", SHORT).await.unwrap();
    let second = within(async {
        loop {
            if let Some(second) = lead(store, "b", LONG).await {
                return second;
            }
        }
    })
    .await;
    assert!(second.token > first.token);
    assert_eq!(lead(store, "a", LONG).await, None);
}

async fn write_of_a_leader_that_was_replaced_is_refused(on: On) {
    let scratch = Scratch::new(on).await;
    let store = &scratch.store;
    let nobody = Fence { name: "controllers".to_owned(), token: 1 };
    let refused = store.commit(fenced(nobody, 0)).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { newest: None, .. }), "{refused}");

    let first = lead(store, "a", LONG).await.unwrap();
    store.commit(fenced(first.fence(), 1)).await.unwrap();
    store.resign(first.fence()).await.unwrap();
    // Nobody has been given the lease since, so nothing can have been decided against it.
    store.commit(fenced(first.fence(), 2)).await.unwrap();
    let second = lead(store, "b", LONG).await.unwrap();
    let (stale, newest) = futures::join!(store.commit(fenced(first.fence(), 3)), store.commit(fenced(second.fence(), 4)));
    let stale = stale.unwrap_err();
    assert!(matches!(stale, Error::Fenced { token: 1, newest: Some(2), .. }), "{stale}");
    assert_eq!(stale.class(), Class::Conflict);
    assert!(stale.to_string().contains("no longer leads"), "{stale}");
    assert_eq!(newest.unwrap()[0].revision, 3, "a refused write takes no revision");
    // The same for all that somebody does on the leader's behalf.
    let unaware = || store.commit(Commit::of(put(&pod("a"), Expect::Any, 5)));
    assert!(matches!(first.fence().over(unaware()).await, Err(Error::Fenced { .. })));
    second.fence().over(unaware()).await.unwrap();
    unaware().await.unwrap();
}

async fn unreasonable_leases_are_refused(on: On) {
    let scratch = Scratch::new(on).await;
    for (name, holder, ttl) in
        [("", "a", LONG), ("x", "", LONG), ("x", "a", Duration::ZERO), ("x", "a", Duration::from_hours(2)), ("x\0", "a", LONG)]
    {
        let refused = scratch.store.lead(name, holder, ttl).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    }
}

/// Two servers in processes of their own; what the first is asked while it is paused comes late.
async fn pause_the_leader(test: &str) {
    let place = Place::new(On::Postgres);
    let (first, second) = (Server::start(test, &place.address(), false).await, Server::start(test, &place.address(), false).await);
    let lead = json!({"do": "lead", "ttl_ms": 1_000});
    assert_eq!(first.ask(lead.clone()).await.unwrap(), json!({"token": 1}));
    let put = |value: u64, fence: u64| json!({"do": "put", "name": "a", "value": value, "fence": fence});
    assert_eq!(first.ask(put(1, 1)).await.unwrap(), json!({"written": 1}));

    let pid = Pid::from_raw(first.child.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let late = first.ask(put(2, 1));
    let token = within(async {
        loop {
            if let Some(token) = second.ask(lead.clone()).await.unwrap()["token"].as_u64() {
                return token;
            }
        }
    })
    .await;
    assert_eq!(token, 2);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(within(late).await.unwrap(), json!({"fenced": 2}), "what it was about to write is refused");
    assert_eq!(second.ask(put(3, 2)).await.unwrap(), json!({"written": 2}), "and took no revision");
    assert_eq!(second.ask(json!({"do": "get", "name": "a"})).await.unwrap(), json!({"revision": 2, "value": 3}));
}

#[test]
fn paused_leader_that_was_replaced_cannot_write_any_more() {
    if !serves() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(pause_the_leader("leadership::paused_leader_that_was_replaced_cannot_write_any_more"));
    }
}
