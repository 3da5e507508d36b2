//! A process that is killed while it writes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use fermion_store::{Commit, Event, Expect, Fact, FactQuery, Key, Options, Scope, Store};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

use crate::scratch::{On, Place, events, open, put};

/// Where the re-executed test writes; unset in the test itself.
const WRITE_TO: &str = "FERMION_STORE_CRASH_TEST_WRITE_TO";
const WRITERS: usize = 16;
const KILLS: usize = 3;
const ACKNOWLEDGED_BEFORE_KILL: usize = 1_500;

#[test]
fn killed_process_loses_nothing_it_acknowledged_on_sqlite() {
    kill_and_look(On::Sqlite);
}

#[test]
fn killed_process_loses_nothing_it_acknowledged_on_postgres() {
    kill_and_look(On::Postgres);
}

fn kill_and_look(on: On) {
    if let Some(place) = std::env::var_os(WRITE_TO) {
        write_until_killed(&place.into_string().unwrap());
    }
    let place = Place::new(on);
    let mut acknowledged = HashMap::new();
    for _ in 0..KILLS {
        acknowledged.extend(run_and_kill(on, &place));
        verify(&place, &acknowledged);
    }
    assert!(acknowledged.len() >= KILLS * ACKNOWLEDGED_BEFORE_KILL);
}

/// Commits from many tasks for ever and prints what was acknowledged.
#[allow(clippy::print_stdout, reason = "standard output is how the parent learns of it")]
fn write_until_killed(place: &str) -> ! {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(place, Options::default()).await.unwrap();
        let start = store.revision();
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_for_ever(store.clone(), format!("{start}-{writer}")))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
    unreachable!("the writers never end");
}

#[allow(clippy::print_stdout, reason = "standard output is how the parent learns of it")]
async fn write_for_ever(store: Store, prefix: String) {
    for index in 0_u64.. {
        let name = format!("{prefix}-{index}");
        let commit = Commit {
            writes: vec![
                put(&Key::new("pods", "own", name.as_str()), Expect::Absent, "x".repeat(500)),
                put(&Key::new("pods", "shared", "one"), Expect::Any, name.as_str()),
            ],
            facts: vec![Fact {
                kind: "usage",
                idempotency_key: name.clone(),
                namespace: "own".to_owned(),
                at: Timestamp::UNIX_EPOCH,
                body: json!({}),
            }],
            ..Commit::default()
        };
        let stored = store.commit(commit).await.unwrap();
        println!("acknowledged {name} {}", stored[0].revision);
    }
}

/// Ends the child whatever happens to the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run_and_kill(on: On, place: &Place) -> HashMap<String, u64> {
    let name = match on {
        On::Sqlite => "crash::killed_process_loses_nothing_it_acknowledged_on_sqlite",
        On::Postgres => "crash::killed_process_loses_nothing_it_acknowledged_on_postgres",
    };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(WRITE_TO, place.address())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let mut child = Some(child);
    let mut acknowledged = HashMap::new();
    // What it printed before it died counts, also what is read after that; but not half a line.
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        let Some((_, line)) = line.split_once("acknowledged ") else { continue };
        let Some((name, revision)) = line.split_once(' ') else { continue };
        let Ok(revision) = revision.parse() else { continue };
        acknowledged.insert(name.to_owned(), revision);
        if acknowledged.len() == ACKNOWLEDGED_BEFORE_KILL {
            child.take();
        }
    }
    assert!(child.is_none(), "it wrote until it was killed");
    acknowledged
}

#[tokio::main]
async fn verify(place: &Place, acknowledged: &HashMap<String, u64>) {
    let store = place.open(Options::default()).await.unwrap();
    let newest = store.revision();
    let log = events(&mut store.watch(Scope::all("pods"), 0).await.unwrap(), newest as usize).await;
    assert!(log.iter().map(|event| event.revision).eq(1..=newest), "revisions have no gaps");

    let own = |event: &&Arc<Event>| &*event.object.key.namespace == "own";
    let written: HashMap<&str, u64> = log.iter().filter(own).map(|event| (&*event.object.key.name, event.revision)).collect();
    for (name, revision) in acknowledged {
        let revision_in_log = written.get(name.as_str()).copied();
        // A killed process may have printed part of a revision, never of a name.
        assert!(
            revision_in_log.is_some_and(|r| r.to_string().starts_with(&revision.to_string())),
            "{name} was acknowledged at {revision}, the log says {revision_in_log:?}"
        );
        assert!(store.get(&Key::new("pods", "own", name.as_str())).await.unwrap().is_some());
    }
    // Every commit is there whole: both its writes, and its fact.
    assert_eq!(newest as usize, written.len() * 2);
    let mut facts = 0;
    let mut query = FactQuery { kind: "usage".to_owned(), ..FactQuery::default() };
    loop {
        let page = store.facts(query.clone()).await.unwrap();
        facts += page.items.len();
        assert!(page.items.iter().all(|fact| written.contains_key(fact.idempotency_key.as_str())));
        let Some(next) = page.next else { break };
        query.after_id = Some(next);
    }
    assert_eq!(facts, written.len());
    store.close().await;
}
