//! A store in a process of its own, that can be killed and paused.
//!
//! It is the test's own program run again. Questions come in and answers go out as lines of JSON; answers
//! begin with [`MARK`], among what the test harness prints.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fermion_store::{Commit, Error, EventKind, Expect, Fact, Fence, Key, ListQuery, Options, Scope, Store, Stored, Write};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use crate::scratch::open;

const MARK: char = '@';
/// Where the store is, for the process that serves it; unset in the test itself.
pub(crate) const SERVE: &str = "FERMION_STORE_HISTORY_TEST_SERVE";
/// Set for a server that shows events in a wrong order.
pub(crate) const OUT_OF_ORDER: &str = "FERMION_STORE_HISTORY_TEST_OUT_OF_ORDER";
/// What is written to.
pub(crate) const RESOURCE: &str = "pods";
/// What servers lead by, when they are asked to.
const LEASE: &str = "controllers";

/// Serves until it is killed or its input ends.
pub(crate) fn serve(address: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options {
            out_of_order: std::env::var_os(OUT_OF_ORDER).is_some(),
            // Few, so that watchers who come back read the log from disk.
            recent_events_max: 64,
            // The whole log is what everything is held against in the end, however long it ran.
            keep_revisions_min: u64::MAX,
            ..Options::default()
        };
        let store = open(address, options).await.unwrap();
        say(&json!({"ready": true}));
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            let question: Value = serde_json::from_str(&line).unwrap();
            tokio::spawn(answer(store.clone(), question));
        }
    });
}

#[allow(clippy::print_stdout, reason = "standard output is how the parent learns of it")]
fn say(value: &Value) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{MARK}{value}").and_then(|()| output.flush()).unwrap();
}

async fn answer(store: Store, question: Value) {
    let id = &question["id"];
    if question["do"] == "watch" {
        follow(&store, id, question["since"].as_u64().unwrap()).await;
        return;
    }
    match act(&store, &question).await {
        Ok(told) => say(&json!({"id": id, "told": told})),
        Err(Error::AlreadyExists { .. }) => say(&json!({"id": id, "told": {"exists": true}})),
        Err(Error::NotFound { .. }) => say(&json!({"id": id, "told": {"nothing": true}})),
        Err(Error::Conflict { actual, .. }) => say(&json!({"id": id, "told": {"conflict": actual}})),
        Err(Error::Fenced { newest, .. }) => say(&json!({"id": id, "told": {"fenced": newest}})),
        Err(error) => say(&json!({"id": id, "told": {"unknown": error.to_string()}})),
    }
}

async fn act(store: &Store, question: &Value) -> Result<Value, Error> {
    let name = question["name"].as_str().unwrap_or_default();
    let key = Key::new(RESOURCE, "default", name);
    let object = json!({"metadata": {"name": name}, "spec": question["value"]});
    let expect = match &question["expect"] {
        Value::Number(revision) => Expect::Revision(revision.as_u64().unwrap()),
        Value::Bool(_) => Expect::Absent,
        _ => Expect::Any,
    };
    let write = match question["do"].as_str().unwrap() {
        "get" => {
            let found = store.get(&key).await?;
            return Ok(found.map_or(json!({"nothing": true}), |stored| version(&stored)));
        }
        "list" => {
            let page = store.list(ListQuery::all(Scope::all(RESOURCE))).await?;
            let items: HashMap<&str, Value> = page.items.iter().map(|stored| (&*stored.key.name, version(stored))).collect();
            return Ok(json!({"revision": page.revision, "items": items}));
        }
        "lead" => {
            let ttl = Duration::from_millis(question["ttl_ms"].as_u64().unwrap());
            let holder = std::process::id().to_string();
            return Ok(json!({"token": store.lead(LEASE, &holder, ttl).await?.map(|leadership| leadership.token)}));
        }
        "put" => Write::Put { key, expect, object },
        _ => Write::Delete { key, expect },
    };
    let fact = Fact {
        kind: "operation",
        idempotency_key: question["value"].to_string(),
        namespace: String::new(),
        at: Timestamp::UNIX_EPOCH,
        body: json!({}),
    };
    let fence = question["fence"].as_u64().map(|token| Fence { name: LEASE.to_owned(), token });
    let stored = store.commit(Commit { facts: vec![fact], fence, ..Commit::of(write) }).await?;
    Ok(json!({"written": stored[0].revision}))
}

fn version(stored: &Stored) -> Value {
    let object: Value = serde_json::from_slice(&stored.body).unwrap();
    json!({"revision": stored.revision, "value": object["spec"]})
}

async fn follow(store: &Store, id: &Value, since: u64) {
    let mut watch = match store.watch(Scope::all(RESOURCE), since).await {
        Ok(watch) => watch,
        Err(error) => return say(&json!({"id": id, "ended": error.to_string()})),
    };
    while let Some(next) = watch.next().await {
        match next {
            Ok(event) => say(&json!({"id": id, "event": event_json(&event)})),
            Err(error) => return say(&json!({"id": id, "ended": error.to_string()})),
        }
    }
}

pub(crate) fn event_json(event: &fermion_store::Event) -> Value {
    let kind = match event.kind {
        EventKind::Added => "added",
        EventKind::Modified => "modified",
        EventKind::Deleted => "deleted",
    };
    json!({
        "revision": event.revision, "kind": kind, "name": &*event.object.key.name,
        "value": version(&event.object)["value"], "previous": event.previous.as_deref().map(version),
    })
}

/// A server process, as the test has it.
pub(crate) struct Server {
    pub(crate) child: Child,
    questions: mpsc::UnboundedSender<String>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Value>>,
    watches: HashMap<u64, mpsc::UnboundedSender<Value>>,
    ended: bool,
}

impl Server {
    /// Starts one and waits until it serves.
    pub(crate) async fn start(test: &str, address: &str, out_of_order: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(SERVE, address).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if out_of_order {
            command.env(OUT_OF_ORDER, "yes");
        }
        let mut child = command.spawn().unwrap();
        let (questions, mut to_send) = mpsc::unbounded_channel::<String>();
        let mut input = child.stdin.take().unwrap();
        tokio::spawn(async move {
            while let Some(line) = to_send.recv().await {
                // It may have been killed; then nobody is answered.
                if input.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (ready, is_ready) = oneshot::channel();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let shared = waiting.clone();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            while let Ok(Some(line)) = output.next_line().await {
                let Some(said) = line.split_once(MARK).and_then(|(_, json)| serde_json::from_str::<Value>(json).ok()) else { continue };
                if said["ready"] == true
                    && let Some(ready) = ready.take()
                {
                    let _ = ready.send(());
                    continue;
                }
                let mut waiting = shared.lock().unwrap();
                let id = said["id"].as_u64().unwrap();
                if let Some(watch) = waiting.watches.get(&id) {
                    // Whoever watched may have stopped.
                    let _ = watch.send(said);
                } else if let Some(asker) = waiting.answers.remove(&id) {
                    let _ = asker.send(said["told"].clone());
                }
            }
            // Nobody who still waits is answered.
            let mut waiting = shared.lock().unwrap();
            waiting.answers.clear();
            waiting.watches.clear();
            waiting.ended = true;
        });
        is_ready.await.expect("the server starts");
        Self { child, questions, waiting }
    }

    /// Asks, and waits for the answer; `None` if the server ended without one.
    pub(crate) fn ask(&self, mut question: Value) -> impl Future<Output = Option<Value>> + use<> {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.next += 1;
            question["id"] = waiting.next.into();
            let id = waiting.next;
            if !waiting.ended {
                waiting.answers.insert(id, sender);
            }
        }
        let _ = self.questions.send(format!("{question}\n"));
        async move { answer.await.ok() }
    }

    /// Watches from a revision, until the server ends.
    pub(crate) fn watch(&self, since: u64) -> mpsc::UnboundedReceiver<Value> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut waiting = self.waiting.lock().unwrap();
        waiting.next += 1;
        let question = json!({"id": waiting.next, "do": "watch", "since": since});
        let id = waiting.next;
        if !waiting.ended {
            waiting.watches.insert(id, sender);
        }
        let _ = self.questions.send(format!("{question}\n"));
        events
    }
}
