//! Random histories, compared with a model that keeps everything in plain collections.

use std::collections::{BTreeMap, BTreeSet};

use fermion_store::{Commit, Error, EventKind, Expect, Fact, FactQuery, Key, ListQuery, Options, Scope, Write};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::scratch::{On, Scratch, delete, events, put, spec};

#[derive(Clone, Debug)]
enum Op {
    Commit { writes: Vec<PlannedWrite>, fact: Option<u8> },
    List { scope: Scope, limit: usize, at: u8 },
    Watch { scope: Scope, since: u8 },
    Compact { at: u8 },
    Reopen,
}

#[derive(Clone, Debug)]
struct PlannedWrite {
    key: Key,
    expect: PlannedExpect,
    delete: bool,
}

#[derive(Clone, Copy, Debug)]
enum PlannedExpect {
    Absent,
    Any,
    Newest,
    Stale,
}

fn any_key() -> impl Strategy<Value = Key> {
    (select(vec!["pods", "nodes"]), select(vec!["", "a", "a-b", "b"]), select(vec!["x", "y", "z"]))
        .prop_map(|(resource, namespace, name)| Key::new(resource, namespace, name))
}

fn any_scope() -> impl Strategy<Value = Scope> {
    (any_key(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(key, namespaced, named)| Scope {
        resource: key.resource,
        namespace: namespaced.then_some(key.namespace),
        name: named.then_some(key.name),
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let expect = prop_oneof![
        3 => Just(PlannedExpect::Any),
        2 => Just(PlannedExpect::Absent),
        2 => Just(PlannedExpect::Newest),
        1 => Just(PlannedExpect::Stale),
    ];
    let write = (any_key(), expect, prop::bool::weighted(0.3)).prop_map(|(key, expect, delete)| PlannedWrite { key, expect, delete });
    let writes = prop::collection::vec(write, 1..4);
    prop_oneof![
        12 => (writes, prop::option::weighted(0.3, 0_u8..6))
            .prop_map(|(writes, fact)| Op::Commit { writes, fact }),
        4 => (any_scope(), 0_usize..5, any::<u8>())
            .prop_map(|(scope, limit, at)| Op::List { scope, limit, at }),
        3 => (any_scope(), any::<u8>()).prop_map(|(scope, since)| Op::Watch { scope, since }),
        1 => any::<u8>().prop_map(|at| Op::Compact { at }),
        1 => Just(Op::Reopen),
    ]
}

type State = BTreeMap<Key, (u64, u64)>;

/// What one write did: the key, its value (none if deleted) and what was there before.
#[derive(Clone)]
struct Entry {
    key: Key,
    value: Option<u64>,
    before: Option<(u64, u64)>,
}

/// Values are (revision, spec).
#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    compacted: u64,
    facts: BTreeSet<String>,
    values: u64,
}

#[derive(Debug, PartialEq)]
enum Refused {
    Conflict,
    AlreadyExists,
    NotFound,
}

impl Model {
    fn newest(&self) -> u64 {
        self.log.len() as u64
    }

    fn state_at(&self, revision: u64) -> State {
        let mut state = State::new();
        for (entry, revision) in self.log[..revision as usize].iter().zip(1..) {
            match entry.value {
                Some(value) => state.insert(entry.key.clone(), (revision, value)),
                None => state.remove(&entry.key),
            };
        }
        state
    }

    /// A revision the choice may mean: sometimes one that is compacted or in the future.
    fn revision(&self, choice: u8) -> u64 {
        u64::from(choice) % (self.newest() + 2)
    }

    fn write(&self, planned: &PlannedWrite, state: &State, value: u64) -> Write {
        let expect = match planned.expect {
            PlannedExpect::Absent if planned.delete => Expect::Any,
            PlannedExpect::Absent => Expect::Absent,
            PlannedExpect::Any => Expect::Any,
            PlannedExpect::Newest => Expect::Revision(state.get(&planned.key).map_or(1, |(revision, _)| *revision)),
            PlannedExpect::Stale => Expect::Revision(self.newest() + 100),
        };
        if planned.delete { delete(&planned.key, expect) } else { put(&planned.key, expect, value) }
    }

    /// What the store should answer; changes the model if it accepts.
    fn commit(&mut self, commit: &Commit) -> Result<(), Refused> {
        let mut state = self.state_at(self.newest());
        let mut log = self.log.clone();
        for write in &commit.writes {
            let key = write.key().clone();
            let before = state.get(&key).copied();
            let (Write::Put { expect, .. } | Write::Delete { expect, .. }) = write;
            match (expect, before) {
                (Expect::Absent, Some(_)) => return Err(Refused::AlreadyExists),
                (Expect::Revision(_), None) => return Err(Refused::NotFound),
                (Expect::Revision(expected), Some((actual, _))) if *expected != actual => {
                    return Err(Refused::Conflict);
                }
                _ => {}
            }
            let revision = log.len() as u64 + 1;
            let value = match write {
                Write::Put { object, .. } => {
                    let value = object["spec"].as_u64().unwrap();
                    state.insert(key.clone(), (revision, value));
                    Some(value)
                }
                Write::Delete { .. } => {
                    if state.remove(&key).is_none() {
                        return Err(Refused::NotFound);
                    }
                    None
                }
            };
            log.push(Entry { key, value, before });
        }
        self.log = log;
        self.facts.extend(commit.facts.iter().map(|fact| fact.idempotency_key.clone()));
        Ok(())
    }
}

/// So little memory that most watches begin on disk.
fn options() -> Options {
    Options { recent_events_max: 5, ..Options::default() }
}

async fn commit(scratch: &Scratch, model: &mut Model, writes: &[PlannedWrite], fact: Option<u8>) {
    let state = model.state_at(model.newest());
    let first = model.values;
    model.values += writes.len() as u64;
    let commit = Commit {
        writes: writes.iter().zip(first..).map(|(planned, value)| model.write(planned, &state, value)).collect(),
        facts: fact
            .map(|fact| Fact {
                kind: "usage",
                idempotency_key: fact.to_string(),
                namespace: String::new(),
                at: Timestamp::UNIX_EPOCH,
                body: json!(first),
            })
            .into_iter()
            .collect(),
        ..Commit::default()
    };
    let start = model.newest();
    let expected = model.commit(&commit);
    match (scratch.store.commit(commit).await, expected) {
        (Ok(stored), Ok(())) => {
            let new = &model.log[start as usize..];
            assert_eq!(stored.len(), new.len());
            for ((stored, entry), revision) in stored.iter().zip(new).zip(start + 1..) {
                assert_eq!((stored.revision, &stored.key), (revision, &entry.key));
                let value = entry.value.or(entry.before.map(|(_, value)| value));
                assert_eq!(spec(stored).as_u64(), value);
            }
        }
        (Err(Error::Conflict { .. }), Err(Refused::Conflict))
        | (Err(Error::AlreadyExists { .. }), Err(Refused::AlreadyExists))
        | (Err(Error::NotFound { .. }), Err(Refused::NotFound)) => {}
        (outcome, expected) => panic!("{outcome:?} where the model says {expected:?}"),
    }
    assert_eq!(scratch.store.revision(), model.newest());
    let state = model.state_at(model.newest());
    for planned in writes {
        let stored = scratch.store.get(&planned.key).await.unwrap();
        let stored = stored.map(|stored| (stored.revision, spec(&stored).as_u64().unwrap()));
        assert_eq!(stored, state.get(&planned.key).copied());
    }
}

async fn list(scratch: &Scratch, model: &Model, scope: &Scope, limit: usize, at: u64) {
    let mut query = ListQuery { limit: Some(limit), at_revision: Some(at), ..ListQuery::all(scope.clone()) };
    if refused(scratch.store.list(query.clone()).await.err(), model, at) {
        return;
    }
    let expected: Vec<_> = model
        .state_at(at)
        .into_iter()
        .filter(|(key, _)| scope.contains(key))
        .map(|(key, (revision, value))| (key, revision, value))
        .collect();
    let mut found = Vec::new();
    loop {
        let page = scratch.store.list(query.clone()).await.unwrap();
        assert_eq!(page.revision, at);
        assert!(limit == 0 || page.items.len() <= limit);
        found.extend(page.items.iter().map(|stored| (stored.key.clone(), stored.revision, spec(stored).as_u64().unwrap())));
        let remaining = (expected.len() - found.len()) as u64;
        assert_eq!(page.remaining, (remaining > 0).then_some(remaining));
        assert_eq!(page.next.is_some(), remaining > 0);
        let Some(next) = page.next else { break };
        query.start_after = Some(next);
    }
    assert_eq!(found, expected);
}

async fn watch(scratch: &Scratch, model: &Model, scope: &Scope, since: u64) {
    let mut watch = match scratch.store.watch(scope.clone(), since).await {
        Ok(watch) => watch,
        Err(error) => {
            assert!(refused(Some(error), model, since));
            return;
        }
    };
    assert!(!refused(None, model, since));
    let expected: Vec<_> = model.log.iter().zip(1..).filter(|(entry, revision)| *revision > since && scope.contains(&entry.key)).collect();
    let events = events(&mut watch, expected.len()).await;
    for (event, (entry, revision)) in events.iter().zip(expected) {
        assert_eq!((event.revision, &event.object.key), (revision, &entry.key));
        let before = event.previous.as_ref().map(|p| (p.revision, spec(p).as_u64().unwrap()));
        assert_eq!(before, entry.before);
        let kind = match (entry.value, entry.before) {
            (None, _) => EventKind::Deleted,
            (Some(_), None) => EventKind::Added,
            (Some(_), Some(_)) => EventKind::Modified,
        };
        assert_eq!(event.kind, kind);
        let value = entry.value.or(entry.before.map(|(_, value)| value));
        assert_eq!(spec(&event.object).as_u64(), value);
    }
    let next = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut watch));
    assert!(next.is_none(), "{next:?} is no event of the model");
}

/// Whether the model refuses `revision`; the store must have said the same.
fn refused(error: Option<Error>, model: &Model, revision: u64) -> bool {
    match error {
        Some(Error::Compacted { oldest }) => {
            assert_eq!(oldest, model.compacted);
            assert!(revision < model.compacted);
            true
        }
        Some(Error::Future { newest, .. }) => {
            assert_eq!(newest, model.newest());
            assert!(revision > model.newest());
            true
        }
        Some(error) => panic!("{error}"),
        None => {
            assert!((model.compacted..=model.newest()).contains(&revision));
            false
        }
    }
}

async fn run(on: On, ops: Vec<Op>) {
    let mut scratch = Scratch::with(on, options()).await;
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Commit { writes, fact } => commit(&scratch, &mut model, &writes, fact).await,
            Op::List { scope, limit, at } => {
                list(&scratch, &model, &scope, limit, model.revision(at)).await;
            }
            Op::Watch { scope, since } => {
                watch(&scratch, &model, &scope, model.revision(since)).await;
            }
            Op::Compact { at } => {
                let at = model.revision(at);
                match scratch.store.compact(at).await {
                    Ok(()) => model.compacted = model.compacted.max(at),
                    Err(error) => assert!(refused(Some(error), &model, at)),
                }
            }
            Op::Reopen => scratch = scratch.reopen(options()).await,
        }
    }
    for scope in ["pods", "nodes"].map(Scope::all) {
        list(&scratch, &model, &scope, 0, model.newest()).await;
        watch(&scratch, &model, &scope, model.compacted).await;
    }
    let query = FactQuery { kind: "usage".to_owned(), ..FactQuery::default() };
    let facts = scratch.store.facts(query).await.unwrap().items;
    let found: BTreeSet<String> = facts.iter().map(|f| f.idempotency_key.clone()).collect();
    assert_eq!((facts.len(), found), (model.facts.len(), model.facts));
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn store_on_sqlite_does_what_the_model_does(ops in prop::collection::vec(any_op(), 1..60)) {
        block_on(run(On::Sqlite, ops));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn store_on_postgres_does_what_the_model_does(ops in prop::collection::vec(any_op(), 1..60)) {
        block_on(run(On::Postgres, ops));
    }
}
