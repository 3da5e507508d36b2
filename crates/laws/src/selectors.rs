//! Selectors: the database selects what the selector says, whatever the objects hold.

use fermion_apiserver::inside::database_filter;
use fermion_apiserver::selector::{FieldSelector, LabelSelector};
use fermion_store::{Commit, Error, Expect, Key, ListQuery, Options, Scope, Store, Write};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::input::{CONFUSING, Input};

/// What label selectors are made of.
const LABEL_WORDS: &[&str] = &[
    "app",
    "tier",
    "gen",
    "example.org/pool",
    "x",
    "in",
    "notin",
    " in (",
    " notin (",
    "(",
    ")",
    ",",
    "!",
    "=",
    "==",
    "!=",
    ">",
    "<",
    " ",
    "a",
    "b",
    "A",
    "1",
    "7",
    "-5",
    "true",
    "null",
    "a.b",
    "a_b",
    "0",
    "é",
    "9223372036854775807",
    "9223372036854775808",
    "-",
    "!app",
    "app=a",
    "tier!=b",
    "gen>6",
    "gen<8",
    "/",
];

/// What field selectors are made of.
const FIELD_WORDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.hostNetwork",
    "spec.unschedulable",
    "spec.count",
    "spec.deep.name",
    "status.phase",
    "source",
    "=",
    "==",
    "!=",
    ",",
    "\\,",
    "\\=",
    "\\\\",
    "true",
    "false",
    "null",
    "1",
    "1.0",
    "1e3",
    "-5",
    "a",
    "A",
    "[",
    "{}",
    "\"a\"",
    "é",
    "0",
    "1000.0",
    "18446744073709551615",
    "o1",
    "laws",
];

/// The fields that the kind of these objects can be selected by.
const FIELDS: &[&str] =
    &["spec.nodeName", "spec.hostNetwork", "spec.unschedulable", "spec.count", "spec.deep.name", "status.phase", "source"];

/// Keys of labels.
const LABELS: &[&str] = &["app", "tier", "gen", "example.org/pool", "x", "0"];

/// Objects that an input brings.
const OBJECTS: usize = 4;
/// Values in one selector beyond which a list is refused.
const VALUES_MAX: usize = 1_000;
/// Revisions that the log keeps, so that a long run does not fill the disk.
const REVISIONS_MAX: u64 = 4_000;

const RESOURCE: &str = "laws";
const NAMESPACE: &str = "laws";

/// A store of its own.
pub(crate) struct Database {
    runtime: Runtime,
    store: Store,
    _directory: TempDir,
}

impl Database {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { keep_revisions_min: REVISIONS_MAX / 2, keep_revisions_max: REVISIONS_MAX, ..Options::default() };
        let store = {
            let _inside = runtime.enter();
            Store::open(directory.path(), options).expect("a store")
        };
        Self { runtime, store, _directory: directory }
    }

    pub(crate) fn check(&mut self, bytes: &[u8]) {
        let mut input = Input::new(bytes);
        let labels = LabelSelector::parse(&input.text(LABEL_WORDS));
        let fields = FieldSelector::parse(&input.text(FIELD_WORDS), FIELDS);
        // How errors are told must not fail either.
        let (Ok(labels), Ok(fields)) = (labels.map_err(|error| error.to_string()), fields.map_err(|error| error.to_string())) else {
            return;
        };
        let objects: Vec<Value> = (0..OBJECTS).map(|index| object(&mut input, index)).collect();
        let (filter, exact) = database_filter(&labels, &fields);
        let query = ListQuery { filter: filter.clone(), count: true, ..ListQuery::all(Scope::all(RESOURCE)) };
        let found = self.runtime.block_on(async {
            let writes = objects.iter().map(|object| Write::Put {
                key: Key::new(RESOURCE, NAMESPACE, object["metadata"]["name"].as_str().expect("a name")),
                expect: Expect::Any,
                object: object.clone(),
            });
            self.store.commit(Commit { writes: writes.collect(), ..Commit::default() }).await.expect("it is written");
            self.store.list(query).await
        });
        let page = match found {
            Ok(page) => page,
            Err(Error::Invalid { .. }) => {
                let values = labels.requirements().iter().map(|requirement| requirement.values.len().max(1)).sum::<usize>();
                assert!(values + fields.requirements().len() > VALUES_MAX, "refused: {labels:?} {fields:?}");
                return;
            }
            Err(error) => panic!("{labels:?} {fields:?}: {error}"),
        };
        assert_eq!(page.total, Some(page.items.len() as u64), "{labels:?} {fields:?}");
        for object in &objects {
            let name = object["metadata"]["name"].as_str().expect("a name");
            let is_found = page.items.iter().any(|item| &*item.key.name == name);
            let is_meant = labels.matches(object) && fields.matches(object);
            let about = || format!("{labels:?} {fields:?} on {object}");
            assert_eq!(is_found, filter.matches(object), "the database and the filter: {}", about());
            if exact {
                assert_eq!(is_found, is_meant, "the database and the selector: {}", about());
            } else {
                assert!(is_found || !is_meant, "what is selected is found: {}", about());
            }
        }
    }
}

/// An object with labels and fields of every type.
fn object(input: &mut Input<'_>, index: usize) -> Value {
    let mut labels = Map::new();
    for _ in 0..input.below(4) {
        labels.insert(input.pick(LABELS).to_owned(), value(input, LABEL_WORDS));
    }
    let mut object = json!({"metadata": {"name": format!("o{index}"), "namespace": NAMESPACE}});
    match input.below(8) {
        0 => {}
        1 => object["metadata"]["labels"] = input.json(LABELS),
        _ => object["metadata"]["labels"] = labels.into(),
    }
    for _ in 0..input.below(6) {
        let value = value(input, FIELD_WORDS);
        match input.below(8) {
            0 => object["spec"]["nodeName"] = value,
            1 => object["spec"]["hostNetwork"] = value,
            2 => object["spec"]["unschedulable"] = value,
            3 => object["spec"]["count"] = value,
            4 => object["spec"]["deep"] = json!({"name": value}),
            5 => object["spec"]["deep"] = value,
            6 => object["status"] = json!({"phase": value}),
            _ => object["source"] = json!({"component": value}),
        }
    }
    object
}

fn value(input: &mut Input<'_>, words: &[&str]) -> Value {
    match input.below(8) {
        0 => input.json(LABELS),
        1 => input.number(),
        2 => Value::Bool(input.once_in(2)),
        3 | 4 => input.pick(&CONFUSING).into(),
        _ => input.pick(words).into(),
    }
}
