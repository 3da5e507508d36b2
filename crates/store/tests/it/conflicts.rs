//! Transactions that PostgreSQL gives up in favour of others.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};

use fermion_store::{Commit, Expect, Fact, FactQuery, Options, Scope, Store};
use fermion_testkit::Cluster;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

use crate::scratch::{count_up, events, pod, put, within, write};

/// A database of the shared cluster, for which more was said to `CREATE DATABASE` or `ALTER DATABASE`.
struct Prepared {
    name: String,
}

impl Prepared {
    fn new() -> Self {
        Self { name: Cluster::shared().database() }
    }

    fn psql(&self, sql: &str) -> String {
        Cluster::shared().psql(&self.name, sql)
    }

    async fn store(&self) -> Store {
        Store::connect(&Cluster::shared().url(&self.name), Options::default()).await.unwrap()
    }
}

/// A commit that would be noticed if it happened twice, or not at all.
fn step(count: u64) -> Commit {
    let fact =
        Fact { kind: "usage", idempotency_key: count.to_string(), namespace: String::new(), at: Timestamp::UNIX_EPOCH, body: json!({}) };
    Commit { facts: vec![fact], ..Commit::of(put(&pod("counter"), Expect::Any, count)) }
}

/// Commits a number of steps one after another, and looks that each happened once.
async fn commit_steps(store: &Store, steps: u64) {
    for count in 0..steps {
        let stored = within(store.commit(step(count))).await.unwrap();
        assert_eq!(stored[0].revision, count + 1, "a transaction that was given up takes no revision");
    }
    let facts = store.facts(FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }).await.unwrap();
    assert_eq!(facts.items.len() as u64, steps);
    let log = events(&mut store.watch(Scope::all("pods"), 0).await.unwrap(), steps as usize).await;
    assert!(log.iter().map(|event| event.revision).eq(1..=steps));
}

/// Makes the database give up two of three transactions, as it does with those that cannot be put into one
/// order with others. A sequence counts, as it does not go back with what is given up.
fn give_up_two_of_three(database: &Prepared, trigger: &str) {
    database.psql(
        "CREATE SEQUENCE public.tries; GRANT ALL ON public.tries TO public; \
         CREATE FUNCTION public.give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('public.tries') % 3 <> 0 THEN \
         RAISE EXCEPTION 'could not serialize access due to concurrent update' USING ERRCODE = 'serialization_failure'; \
         END IF; RETURN NULL; END $$",
    );
    database.psql(trigger);
}

fn tries(database: &Prepared) -> u64 {
    database.psql("SELECT last_value FROM public.tries").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_cannot_be_serialized_are_tried_again() {
    let database = Prepared::new();
    let store = database.store().await;
    give_up_two_of_three(
        &database,
        "CREATE TRIGGER give_up AFTER INSERT ON fermion.log FOR EACH STATEMENT EXECUTE FUNCTION public.give_up()",
    );
    commit_steps(&store, 12).await;
    assert_eq!(tries(&database), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_cannot_be_serialized_are_tried_again() {
    let database = Prepared::new();
    let store = database.store().await;
    // Deferred, it is the answer to COMMIT that says so.
    give_up_two_of_three(
        &database,
        "CREATE CONSTRAINT TRIGGER give_up AFTER INSERT ON fermion.log DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION public.give_up()",
    );
    commit_steps(&store, 12).await;
    assert_eq!(tries(&database), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_lose_no_update_where_transactions_are_serializable_by_default() {
    const SERVERS: usize = 3;
    const ROUNDS: usize = 20;
    let database = Prepared::new();
    database.psql(&format!("ALTER DATABASE {} SET default_transaction_isolation TO 'serializable'", database.name));
    let stores = join_all((0..SERVERS).map(|_| database.store())).await;
    let updates = count_up(&stores, SERVERS * 2, ROUNDS).await;
    for store in &stores {
        let log = events(&mut store.watch(Scope::all("pods"), 0).await.unwrap(), updates + 1).await;
        assert!(log.iter().map(|event| event.revision).eq(1..=updates as u64 + 1));
    }
}

/// Somebody else's transaction in the same database, one statement after another.
struct Outsider {
    psql: Child,
    statements: ChildStdin,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Outsider {
    fn new(database: &Prepared) -> Self {
        let mut command = Cluster::shared().psql_command(&database.name);
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (statements, answers) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
        Self { psql, statements, answers: BufReader::new(answers).lines() }
    }

    /// Sends a statement without waiting for it.
    fn send(&mut self, sql: &str) {
        writeln!(self.statements, "{sql};").unwrap();
    }

    /// Waits until everything that was sent is done.
    fn finish(&mut self) {
        self.send("SELECT 'finished'");
        assert!(self.answers.any(|line| line.unwrap() == "finished"), "psql ended");
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.psql.kill().unwrap();
        self.psql.wait().unwrap();
    }
}

/// Waits until so many sessions of the database wait for a lock.
async fn waiting(database: &Prepared, sessions: usize) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", database.name);
    within(async {
        while database.psql(&sql).trim() != sessions.to_string() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlock_with_somebody_else_is_a_pause() {
    let database = Prepared::new();
    let store = database.store().await;
    let leader = store.lead("controllers", "a", Duration::from_mins(1)).await.unwrap().unwrap();
    let mut outsider = Outsider::new(&database);
    // So it is the store's transaction that is given up, whoever waited first.
    outsider.send("SET deadlock_timeout TO '1min'; BEGIN; SELECT name FROM fermion.leases FOR UPDATE");
    outsider.finish();
    let commit = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(Commit { fence: Some(leader.fence()), ..step(0) }).await })
    };
    // The commit has the lock of the newest revision, and waits for the lease.
    waiting(&database, 1).await;
    outsider.send("SELECT value FROM fermion.marks WHERE name = 'revision' FOR UPDATE");
    // Given it once the store's transaction was given up.
    tokio::task::block_in_place(|| outsider.finish());
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{}'", database.name);
    outsider.send("COMMIT");
    assert_eq!(within(commit).await.unwrap().unwrap()[0].revision, 1);
    within(async {
        while database.psql(&deadlocks).trim() == "0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    write(&store, put(&pod("b"), Expect::Absent, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_that_somebody_else_keeps_too_long_is_waited_for_again() {
    let database = Prepared::new();
    let store = database.store().await;
    let mut outsider = Outsider::new(&database);
    outsider.send("BEGIN; SELECT value FROM fermion.marks WHERE name = 'revision' FOR UPDATE");
    outsider.finish();
    let commit = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(step(0)).await })
    };
    let waiter =
        format!("SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", database.name);
    waiting(&database, 1).await;
    let first: u32 = database.psql(&waiter).trim().parse().unwrap();
    // PostgreSQL ends the wait after a while; the store waits again, on a connection of its own.
    within(async {
        while [0, first].contains(&database.psql(&waiter).trim().parse().unwrap()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    outsider.send("COMMIT");
    assert_eq!(within(commit).await.unwrap().unwrap()[0].revision, 1);
}
