//! The history checker: clients of one or several servers, while servers are killed and paused and
//! their connections cut; then everything they were told is held against the log.
//!
//! It runs for `FERMION_CHECK_SECONDS`, and prints the seed of its choices, which
//! `FERMION_CHECK_SEED` repeats. What is found wrong is told in sentences. `cargo xtask check-history`
//! sets both, and shows what is printed.
#![allow(clippy::print_stdout, reason = "the seed and what was done are told where the test is")]

mod check;
mod linear;
pub(crate) mod server;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fermion_store::{FactQuery, ListQuery, Options, Scope};
use fermion_testkit::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

use self::check::{History, Listed, Seen};
use self::linear::{Asked, Operation, Told};
use self::server::{RESOURCE, SERVE, Server, event_json};
use crate::proxy::{Mode, Proxy};
use crate::scratch::{Database, On, Place, events, within};

/// How long it runs if nobody says.
const SECONDS: u64 = 6;
/// Clients of each server.
const CLIENTS: usize = 3;
/// Objects that are written to at one time.
const NAMES: u64 = 3;
/// Operations after which other objects are written to, so that a search over one stays short.
const OPERATIONS_PER_NAME: u64 = 16;
/// How long a client waits for an answer before it goes on without.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);
/// How long everything may take to be seen once all is well again.
const SETTLE: Duration = Duration::from_mins(2);

/// Steele, Lea and Flood's SplitMix64 (2014): all choices follow from one seed.
#[derive(Clone)]
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// What clients, watchers and the source of faults share.
struct Stage {
    servers: Vec<RwLock<Server>>,
    addresses: Vec<String>,
    proxies: Vec<Proxy>,
    test: &'static str,
    out_of_order: bool,
    ended: AtomicBool,
    /// Ticks at everything that is told or asked.
    clock: AtomicU64,
    values: AtomicU64,
    /// The newest revision, once nobody writes any more.
    last: AtomicU64,
    history: Mutex<History>,
}

impl Stage {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits for the time to pass, and says now and then how far it is.
    async fn tell_progress(&self, duration: Duration) {
        let (began, end) = (Instant::now(), Instant::now() + duration);
        while Instant::now() + PROGRESS_EVERY < end {
            sleep(PROGRESS_EVERY).await;
            let history = self.history.lock().unwrap().summary();
            println!("{}: {} of {} s: {history}", self.test, began.elapsed().as_secs(), duration.as_secs());
        }
        sleep(end - Instant::now()).await;
    }

    async fn ask(&self, server: usize, question: Value) -> Option<Value> {
        let answer = self.servers[server].read().await.ask(question);
        timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// One client, one operation after another.
    async fn act(&self, server: usize, mut choices: Choices) {
        let mut known: Option<(String, u64)> = None;
        while !self.ended() {
            let value = self.values.fetch_add(1, Ordering::SeqCst) + 1;
            let name = format!("n{}-{}", value / (OPERATIONS_PER_NAME * NAMES), choices.below(NAMES));
            let expected = known.take().filter(|(of, _)| *of == name).map(|(_, revision)| revision);
            let (asked, question) = match (choices.below(10), expected) {
                (0, _) => {
                    self.list(server).await;
                    continue;
                }
                (1..=3, _) => (Asked::Get, json!({"do": "get", "name": name})),
                (4, _) => (Asked::Delete, json!({"do": "delete", "name": name, "value": value})),
                (5, _) => (Asked::Create, json!({"do": "put", "name": name, "value": value, "expect": true})),
                (6..=8, Some(expected)) => {
                    (Asked::Replace { expected }, json!({"do": "put", "name": name, "value": value, "expect": expected}))
                }
                _ => (Asked::Put, json!({"do": "put", "name": name, "value": value})),
            };
            let began = self.tick();
            let answer = self.ask(server, question).await;
            let told = told(answer.as_ref());
            let ended = if told == Told::Unknown { u64::MAX } else { self.tick() };
            if let Told::Found { revision, .. } | Told::Written { revision } = told {
                known = Some((name.clone(), revision));
            }
            let operation = Operation { asked, value, learned: None, told, began, ended };
            self.history.lock().unwrap().operations.entry(name).or_default().push(operation);
        }
    }

    async fn list(&self, server: usize) {
        let began = self.tick();
        let Some(answer) = self.ask(server, json!({"do": "list"})).await else { return };
        let ended = self.tick();
        if let Some(revision) = answer["revision"].as_u64() {
            let items = answer["items"].as_object().unwrap();
            let items = items.iter().map(|(name, item)| (name.clone(), seen_version(item))).collect();
            self.history.lock().unwrap().lists.push(Listed { revision, items, began, ended });
        }
    }

    /// One watcher of a server: it resumes from what it has seen, on whatever process serves next.
    async fn watch(&self, server: usize) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        let mut since = 0;
        let all_seen = |seen: &[Seen]| {
            let last = self.last.load(Ordering::SeqCst);
            last > 0 && seen.last().is_some_and(|event| event.revision >= last)
        };
        while !all_seen(&seen) {
            let mut events = self.servers[server].read().await.watch(since);
            while !all_seen(&seen) {
                match timeout(Duration::from_millis(200), events.recv()).await {
                    Ok(Some(said)) if said["event"].is_object() => {
                        let event = seen_event(&said["event"]);
                        since = event.revision;
                        seen.push(event);
                    }
                    // It ended: with its process, or with an error.
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
        seen
    }

    /// Kills, pauses and cuts, until it is time.
    async fn harm(&self, mut choices: Choices) {
        while !self.ended() {
            sleep(Duration::from_millis(300 + choices.below(1_200))).await;
            let server = choices.below(self.servers.len() as u64) as usize;
            match choices.below(if self.proxies.is_empty() { 2 } else { 4 }) {
                0 => {
                    let mut victim = self.servers[server].write().await;
                    victim.child.kill().await.unwrap();
                    *victim = Server::start(self.test, &self.addresses[server], self.out_of_order).await;
                    self.history.lock().unwrap().kills += 1;
                }
                1 => {
                    let pid = self.servers[server].read().await.child.id().unwrap();
                    let pid = Pid::from_raw(pid as i32).unwrap();
                    kill_process(pid, Signal::STOP).unwrap();
                    // Sometimes for longer than the database waits for it.
                    sleep(Duration::from_millis(if choices.below(4) == 0 { 6_500 } else { choices.below(1_500) })).await;
                    kill_process(pid, Signal::CONT).unwrap();
                    self.history.lock().unwrap().pauses += 1;
                }
                fault => {
                    let proxy = &self.proxies[server];
                    proxy.set(if fault == 2 { Mode::Cut } else { Mode::Swallow });
                    sleep(Duration::from_millis(choices.below(800))).await;
                    proxy.set(Mode::Pass);
                    proxy.swallow_answer_after(choices.below(5) as i64);
                    self.history.lock().unwrap().cuts += 1;
                }
            }
        }
    }
}

fn told(answer: Option<&Value>) -> Told {
    let Some(answer) = answer else { return Told::Unknown };
    let number = |name: &str| answer[name].as_u64();
    match (number("written"), number("conflict"), number("revision")) {
        (Some(revision), ..) => Told::Written { revision },
        (_, Some(actual), _) => Told::Conflict { actual },
        (.., Some(revision)) => Told::Found { revision, value: answer["value"].as_u64().unwrap() },
        _ if answer["exists"] == true => Told::Exists,
        _ if answer["nothing"] == true => Told::Nothing,
        _ => Told::Unknown,
    }
}

fn seen_version(value: &Value) -> (u64, u64) {
    (value["revision"].as_u64().unwrap(), value["value"].as_u64().unwrap())
}

fn seen_event(event: &Value) -> Seen {
    Seen {
        revision: event["revision"].as_u64().unwrap(),
        kind: event["kind"].as_str().unwrap().to_owned(),
        name: event["name"].as_str().unwrap().to_owned(),
        value: event["value"].as_u64().unwrap(),
        previous: event["previous"].is_object().then(|| seen_version(&event["previous"])),
    }
}

/// Runs clients against `servers` on one database, and gives what is wrong with what they saw.
fn run(test: &'static str, on: On, servers: usize, out_of_order: bool) -> Vec<String> {
    let seed = setting("FERMION_CHECK_SEED").unwrap_or_else(|| {
        u64::from(std::process::id()) ^ u64::from(Instant::now().elapsed().subsec_nanos()) ^ {
            use std::hash::{BuildHasher as _, Hasher as _};
            std::collections::hash_map::RandomState::new().build_hasher().finish()
        }
    });
    println!("{test}: FERMION_CHECK_SEED={seed}");
    let duration = Duration::from_secs(setting("FERMION_CHECK_SECONDS").unwrap_or(SECONDS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(perform(test, on, servers, out_of_order, Choices(seed), duration))
}

async fn perform(test: &'static str, on: On, count: usize, out_of_order: bool, mut choices: Choices, duration: Duration) -> Vec<String> {
    let place = Place::new(on);
    let (mut servers, mut addresses, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let address = match &place {
            Place::Directory(_) => place.address(),
            Place::Database(Database(name)) => {
                let proxy = Proxy::to(Cluster::shared().port()).await;
                let url = Cluster::tcp_url(name, &[proxy.port]);
                proxies.push(proxy);
                url
            }
        };
        servers.push(RwLock::new(Server::start(test, &address, out_of_order).await));
        addresses.push(address);
    }
    let stage = Arc::new(Stage {
        servers,
        addresses,
        proxies,
        test,
        out_of_order,
        ended: AtomicBool::new(false),
        clock: AtomicU64::new(0),
        values: AtomicU64::new(0),
        last: AtomicU64::new(0),
        history: Mutex::default(),
    });
    let mut watchers = Vec::new();
    let mut clients = Vec::new();
    for server in 0..count {
        let for_watcher = stage.clone();
        watchers.push(tokio::spawn(async move { for_watcher.watch(server).await }));
        for _ in 0..CLIENTS {
            let (stage, choices) = (stage.clone(), Choices(choices.next()));
            clients.push(tokio::spawn(async move { stage.act(server, choices).await }));
        }
    }
    let harm = {
        let (stage, choices) = (stage.clone(), Choices(choices.next()));
        tokio::spawn(async move { stage.harm(choices).await })
    };
    stage.tell_progress(duration).await;
    stage.ended.store(true, Ordering::SeqCst);
    harm.await.unwrap();
    for client in clients {
        client.await.unwrap();
    }
    // Whatever was still under way when its client gave up has ended with its server, or ends now.
    for (server, address) in stage.servers.iter().zip(&stage.addresses) {
        let mut server = server.write().await;
        server.child.kill().await.unwrap();
        *server = Server::start(test, address, out_of_order).await;
    }
    settle(&stage, &place, on, watchers).await
}

/// Waits until every watcher has seen everything, reads the log, and holds all against it.
async fn settle(stage: &Arc<Stage>, place: &Place, on: On, watchers: Vec<tokio::task::JoinHandle<Vec<Seen>>>) -> Vec<String> {
    let revision = within(async {
        loop {
            if let Some(answer) = stage.ask(0, json!({"do": "list"})).await
                && let Some(revision) = answer["revision"].as_u64()
            {
                return revision;
            }
        }
    })
    .await;
    stage.last.store(revision, Ordering::SeqCst);
    let mut history = std::mem::take(&mut *stage.history.lock().unwrap());
    for (watcher, server) in watchers.into_iter().zip(0..) {
        match timeout(SETTLE, watcher).await {
            Ok(seen) => history.watches.push(seen.unwrap()),
            Err(_) => history.problems.push(format!("the watcher of server {server} has not seen revision {revision}")),
        }
    }
    // On SQLite one process at a time has the store.
    for server in &stage.servers {
        if on == On::Sqlite {
            server.write().await.child.kill().await.unwrap();
        }
    }
    let store = place.open(Options { keep_revisions_min: u64::MAX, ..Options::default() }).await.unwrap();
    let mut watch = store.watch(Scope::all(RESOURCE), 0).await.unwrap();
    history.log = events(&mut watch, revision as usize).await.iter().map(|event| seen_event(&event_json(event))).collect();
    let page = store.list(ListQuery::all(Scope::all(RESOURCE))).await.unwrap();
    if page.revision != revision {
        history.problems.push(format!("revision {} came after everybody had stopped at {revision}", page.revision));
    }
    let mut query = FactQuery { kind: "operation".to_owned(), ..FactQuery::default() };
    loop {
        let page = store.facts(query.clone()).await.unwrap();
        history.facts.extend(page.items.iter().map(|fact| fact.idempotency_key.parse::<u64>().unwrap()));
        let Some(next) = page.next else { break };
        query.after_id = Some(next);
    }
    store.close().await;
    println!("{}: {}, {} revisions; checking", stage.test, history.summary(), history.log.len());
    let problems = history.check();
    println!("{}: {} problems", stage.test, problems.len());
    problems
}

/// Serves, if this is the process of a server.
pub(crate) fn serves() -> bool {
    let Some(address) = std::env::var_os(SERVE) else { return false };
    server::serve(&address.into_string().unwrap());
    true
}

#[test]
fn history_of_one_server_on_sqlite_is_sound() {
    if !serves() {
        assert_eq!(run("history::history_of_one_server_on_sqlite_is_sound", On::Sqlite, 1, false), [""; 0]);
    }
}

#[test]
fn history_of_one_server_on_postgres_is_sound() {
    if !serves() {
        assert_eq!(run("history::history_of_one_server_on_postgres_is_sound", On::Postgres, 1, false), [""; 0]);
    }
}

#[test]
fn history_of_three_servers_on_postgres_is_sound() {
    if !serves() {
        assert_eq!(run("history::history_of_three_servers_on_postgres_is_sound", On::Postgres, 3, false), [""; 0]);
    }
}

#[test]
fn broken_order_of_three_servers_is_found() {
    if !serves() {
        let problems = run("history::broken_order_of_three_servers_is_found", On::Postgres, 3, true);
        assert!(problems.iter().any(|problem| problem.contains("never saw revision")), "{problems:?}");
    }
}
