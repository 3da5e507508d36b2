use std::borrow::Cow;

use serde_json::{Value, json};

use super::*;

mod documented;
mod properties;

pub(super) const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:05:00Z";

/// A kind with one of everything.
pub(super) fn types() -> FieldTypes {
    let text = json!({"type": "string"});
    FieldTypes::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {
                "replicas": {"type": "integer"},
                "image": text,
                "labels": {"type": "object", "additionalProperties": text},
                "selector": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
                "args": {"type": "array", "items": text},
                "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
                "policy": {"type": "object", "properties": {"limit": {"type": "integer"}, "when": text}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "ports": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {"type": "object", "properties": {
                        "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": text,
                    }},
                },
                "containers": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {
                        "name": text, "image": text,
                        "env": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "properties": {"name": text, "value": text}},
                        },
                    }},
                },
            }},
            "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
        },
    }))
}

fn writer(manager: &str, operation: Operation) -> Writer<'_> {
    Writer { manager: Cow::Borrowed(manager), operation, api_version: Cow::Borrowed("v1"), subresource: Cow::Borrowed("") }
}

/// An object and who owns it, through a story of writes.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) types: std::rc::Rc<FieldTypes>,
    pub(super) object: Value,
    pub(super) managed: ManagedFields,
}

impl Story {
    pub(super) fn new() -> Self {
        Self::of(types())
    }

    pub(super) fn of(types: FieldTypes) -> Self {
        Self { types: std::rc::Rc::new(types), object: json!({}), managed: ManagedFields::default() }
    }

    pub(super) fn try_apply(&mut self, manager: &str, configuration: Value, force: bool) -> Result<(), ApplyError> {
        let writer = writer(manager, Operation::Apply);
        let (object, managed) = apply(&self.types, &self.object, self.managed.clone(), &configuration, force, &writer, NOW)?;
        self.object = object;
        self.managed = managed;
        Ok(())
    }

    #[track_caller]
    pub(super) fn apply(&mut self, manager: &str, configuration: Value) {
        self.try_apply(manager, configuration, false).expect("no conflict");
    }

    #[track_caller]
    pub(super) fn force(&mut self, manager: &str, configuration: Value) {
        self.try_apply(manager, configuration, true).expect("no problem");
    }

    #[track_caller]
    pub(super) fn conflict(&mut self, manager: &str, configuration: Value) -> String {
        let before = self.object.clone();
        let error = self.try_apply(manager, configuration, false).expect_err("a conflict");
        assert_eq!(self.object, before);
        error.to_string()
    }

    pub(super) fn update(&mut self, manager: &str, new: Value) {
        let writer = writer(manager, Operation::Update);
        let stored = self.managed.to_value().unwrap_or_default();
        self.managed = update(&self.types, self.managed.clone(), &self.object, &new, &writer, &FieldSet::default(), LATER);
        // The shorter way comes to the same.
        let again = update_stored(&self.types, &stored, &self.object, &new, &writer, LATER).expect("readable");
        assert_eq!(again.filter(|value| !value.is_null()), self.managed.to_value());
        self.object = new;
    }

    /// The paths an applier owns.
    pub(super) fn applied(&self, manager: &str) -> Vec<String> {
        self.managed.of(&writer(manager, Operation::Apply)).map(FieldSet::paths).unwrap_or_default()
    }

    /// The paths a manager owns by updates.
    pub(super) fn updated(&self, manager: &str) -> Vec<String> {
        self.managed.of(&writer(manager, Operation::Update)).map(FieldSet::paths).unwrap_or_default()
    }
}

fn spec(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn a_configuration_is_owned_path_by_path() {
    let set = extract(
        &types(),
        &json!({"apiVersion": "v1", "metadata": {"name": "a", "labels": {"x": "1"}, "finalizers": ["f/x"]}, "spec": {
            "replicas": 1,
            "labels": {"a": "1"},
            "selector": {"a": "1"},
            "args": ["x"],
            "tags": ["t"],
            "policy": {"limit": 1},
            "free": {"deep": {"er": 1}, "list": [{"a": 1}]},
            "ports": [{"port": 80, "name": "http"}, {"port": 80, "protocol": "UDP"}],
            "containers": [{"name": "c", "env": [{"name": "E", "value": "1"}]}],
        }}),
    )
    .expect("a set");
    assert_eq!(
        set.to_value(),
        json!({
            "f:apiVersion": {},
            "f:metadata": {"f:name": {}, "f:labels": {"f:x": {}}, "f:finalizers": {"v:\"f/x\"": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:labels": {"f:a": {}},
                "f:selector": {},
                "f:args": {},
                "f:tags": {"v:\"t\"": {}},
                "f:policy": {"f:limit": {}},
                "f:free": {"f:deep": {".": {}, "f:er": {}}, "f:list": {}},
                "f:ports": {
                    "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}},
                    "k:{\"port\":80,\"protocol\":\"UDP\"}": {".": {}, "f:port": {}, "f:protocol": {}},
                },
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:env": {"k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}},
                }},
            },
        })
    );
}

#[test]
fn what_is_empty_is_owned_where_it_says_something() {
    let set = extract(&types(), &spec(json!({"replicas": null, "labels": {}, "policy": {}, "selector": {}, "args": [], "tags": []})));
    let paths = set.expect("a set").paths();
    assert_eq!(paths, [".spec.args", ".spec.labels", ".spec.policy", ".spec.replicas", ".spec.selector"]);
}

#[test]
fn lists_with_unclear_items_are_no_configuration() {
    for (list, sentence) in [
        (
            json!({"containers": [{"image": "x"}]}),
            ".spec.containers[0]: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (json!({"containers": [{"name": "a"}, {"name": "a"}]}), ".spec.containers: duplicate entries for key [name=\"a\"]"),
        (json!({"containers": ["a"]}), ".spec.containers[0]: associative list with keys may not have non-map elements"),
        (json!({"containers": [{"name": {}}]}), ".spec.containers[0]: key field \"name\" must be a plain value"),
        (json!({"tags": [{}]}), ".spec.tags[0]: a set holds plain values only"),
        (json!({"tags": ["a", "a"]}), ".spec.tags: duplicate entries for key [=\"a\"]"),
    ] {
        assert_eq!(extract(&types(), &spec(list)), Err(vec![sentence.to_owned()]));
    }
}

#[test]
fn two_versions_are_compared_path_by_path() {
    let cases: [(Value, Value, &[&str], &[&str]); 17] = [
        (json!({}), json!({}), &[], &[]),
        (json!({"replicas": 1}), json!({"replicas": 1}), &[], &[]),
        (json!({"replicas": 1}), json!({"replicas": 2}), &[".spec.replicas"], &[]),
        (json!({"replicas": 1}), json!({"replicas": 1.0}), &[], &[]),
        (json!({}), json!({"replicas": 2}), &[".spec.replicas"], &[]),
        (json!({"replicas": 1}), json!({}), &[], &[".spec.replicas"]),
        (
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({"labels": {"a": "2", "c": "3"}}),
            &[".spec.labels.a", ".spec.labels.c"],
            &[".spec.labels.b"],
        ),
        (json!({}), json!({"labels": {"a": "1"}}), &[".spec.labels", ".spec.labels.a"], &[]),
        (json!({"labels": {}}), json!({"labels": {"a": "1"}}), &[".spec.labels.a"], &[]),
        (json!({"selector": {"a": "1"}}), json!({"selector": {"a": "1", "b": "1"}}), &[".spec.selector"], &[]),
        (json!({"args": ["a"]}), json!({"args": ["a", "b"]}), &[".spec.args"], &[]),
        (json!({"tags": ["a", "b"]}), json!({"tags": ["c", "b"]}), &[".spec.tags[=\"c\"]"], &[".spec.tags[=\"a\"]"]),
        (
            json!({"containers": [{"name": "a", "image": "1"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a", "image": "2"}]}),
            &[".spec.containers[name=\"a\"].image", ".spec.containers[name=\"b\"]", ".spec.containers[name=\"b\"].name"],
            &[],
        ),
        (
            json!({"ports": [{"port": 1}]}),
            json!({"ports": [{"port": 1, "protocol": "TCP"}]}),
            &[".spec.ports[port=1,protocol=\"TCP\"].protocol"],
            &[],
        ),
        (
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "a", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "a", "image": "3"}]}),
            &[".spec.containers[name=\"a\"]"],
            &[],
        ),
        (json!({"containers": [{"image": "1"}]}), json!({"containers": [{"image": "2"}]}), &[".spec.containers"], &[]),
        (json!({"free": {"a": {"b": 1}}}), json!({"free": {"a": 1}}), &[".spec.free.a"], &[".spec.free.a.b"]),
    ];
    for (old, new, changed, removed) in cases {
        let comparison = compare(&types(), &spec(old.clone()), &spec(new.clone()));
        assert_eq!((comparison.changed.paths(), comparison.removed.paths()), (texts(changed), texts(removed)), "{old} and {new}");
    }
}

fn texts(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn what_is_always_there_belongs_to_nobody() {
    let mut schema = crate::schema::for_core::<k8s_openapi::api::core::v1::Pod>();
    let types = core_kind("", "Pod", &mut schema);
    let pod = json!({"spec": {"containers": [{"name": "c", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}, "status": {"phase": "Pending"}});
    assert_eq!(
        compare(&types, &json!({}), &pod).changed.to_value(),
        json!({
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}, "f:ports": {
                ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}},
            }}}},
            "f:status": {"f:phase": {}},
        })
    );
    assert!(compare(&types, &json!({"spec": {}, "status": {}}), &json!({})).is_empty());
}

#[test]
fn applied_lists_keep_the_order_of_the_configuration() {
    let tags = |list: &[&str]| spec(json!({"tags": list}));
    for (live, set, expected) in [
        (&["a", "b"][..], &["c"][..], &["a", "b", "c"][..]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["x", "a"], &["x", "a", "b"]),
        (&["b", "a"], &["x", "a"], &["b", "x", "a"]),
        (&["a", "b"], &["a", "x"], &["a", "b", "x"]),
        (&[], &["b", "a"], &["b", "a"]),
        (&["a"], &[], &["a"]),
    ] {
        assert_eq!(merge(&types(), &tags(live), &tags(set)), tags(expected), "{live:?} and {set:?}");
    }
}

#[test]
fn a_field_that_one_manager_stops_applying_goes() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"replicas": 1, "policy": {"limit": 1}, "containers": [{"name": "x", "image": "1"}, {"name": "y"}]})));
    story.apply("a", spec(json!({"containers": [{"name": "x"}]})));
    assert_eq!(story.object, spec(json!({"containers": [{"name": "x"}]})));
}

#[test]
fn a_shared_field_stays_until_its_last_owner_leaves_it() {
    let mut story = Story::new();
    let both = spec(json!({"image": "x", "tags": ["t"], "containers": [{"name": "c"}]}));
    story.apply("a", both.clone());
    story.apply("b", both.clone());
    assert_eq!(story.applied("a"), story.applied("b"));
    story.apply("a", json!({}));
    assert_eq!(story.object, both);
    assert!(story.applied("a").is_empty());
    story.apply("b", json!({}));
    assert_eq!(story.object, json!({}));
    assert!(story.managed.is_empty());
}

#[test]
fn parts_of_an_item_have_owners_of_their_own() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"containers": [{"name": "c", "image": "1"}]})));
    story.apply("b", spec(json!({"containers": [{"name": "c", "env": [{"name": "E", "value": "1"}]}]})));
    story.apply("a", json!({}));
    assert_eq!(story.object, spec(json!({"containers": [{"name": "c", "env": [{"name": "E", "value": "1"}]}]})));
    let conflict = story.conflict("a", spec(json!({"containers": [{"name": "c", "env": [{"name": "E", "value": "2"}]}]})));
    assert_eq!(conflict, "Apply failed with 1 conflict: conflict with \"b\": .spec.containers[name=\"c\"].env[name=\"E\"].value");
}

#[test]
fn what_updates_set_is_not_removed_by_an_apply() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"labels": {"a": "1"}})));
    story.update("edit", spec(json!({"labels": {"a": "1", "b": "2"}, "replicas": 3})));
    story.apply("a", json!({}));
    assert_eq!(story.object, spec(json!({"labels": {"b": "2"}, "replicas": 3})));
    assert_eq!(story.updated("edit"), [".spec.labels.b", ".spec.replicas"]);
}

#[test]
fn what_nobody_owns_goes_with_the_object_that_holds_it() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"replicas": 1, "policy": {"limit": 1}})));
    // A default, written by the server.
    story.object["spec"]["policy"]["when"] = json!("Always");
    story.apply("a", spec(json!({"replicas": 1})));
    assert_eq!(story.object, spec(json!({"replicas": 1})));
}

#[test]
fn an_update_takes_fields_from_their_owners_and_gives_up_what_it_removes() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"replicas": 1, "image": "x"})));
    story.update("edit", spec(json!({"replicas": 2, "image": "x"})));
    assert_eq!((story.applied("a"), story.updated("edit")), (texts(&[".spec.image"]), texts(&[".spec.replicas"])));
    story.update("other", spec(json!({"image": "x"})));
    assert!(story.updated("edit").is_empty() && story.updated("other").is_empty());
    story.update("edit", spec(json!({"image": "x"})));
    assert_eq!(story.managed.entries().len(), 1);
}

#[test]
fn conflicts_are_told_by_manager_and_field() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"replicas": 1})));
    story.update("edit", spec(json!({"replicas": 1, "image": "x", "labels": {"l": "1"}})));
    let wanted = spec(json!({"replicas": 2, "image": "y", "labels": {"l": "2"}}));
    assert_eq!(
        story.conflict("b", wanted.clone()),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .spec.replicas\nconflicts with \"edit\" using v1:\n- .spec.image\n- .spec.labels.l"
    );
    story.force("b", wanted.clone());
    assert_eq!(story.object, wanted);
    assert_eq!(story.applied("b"), [".spec.image", ".spec.labels.l", ".spec.replicas"]);
    assert_eq!(story.updated("edit"), [".spec.labels"], "the map is still there by it");
}

#[test]
fn agreeing_with_an_owner_is_no_conflict() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"selector": {"a": "1"}, "args": ["x"]})));
    story.apply("b", spec(json!({"selector": {"a": "1"}})));
    assert_eq!(
        story.conflict("b", spec(json!({"selector": {"b": "1"}}))),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.selector"
    );
}

#[test]
fn an_object_of_before_ownership_belongs_to_its_past() {
    let mut story = Story::new();
    story.object = spec(json!({"replicas": 1, "image": "x"}));
    assert_eq!(
        story.conflict("a", spec(json!({"replicas": 2}))),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.replicas"
    );
    story.apply("a", spec(json!({"replicas": 1})));
    assert_eq!(story.updated("before-first-apply"), [".spec", ".spec.image", ".spec.replicas"]);
}

#[test]
fn only_so_many_managers_that_update_are_told_apart() {
    let mut story = Story::new();
    story.apply("a", spec(json!({"replicas": 1})));
    let mut labels = serde_json::Map::new();
    for n in 0..15 {
        labels.insert(format!("l{n:02}"), json!("x"));
        story.update(&format!("m{n:02}"), spec(json!({"replicas": 1, "labels": labels})));
    }
    let updates = story.managed.entries().iter().filter(|entry| entry.writer.operation == Operation::Update).count();
    assert_eq!(updates, UPDATE_MANAGERS_MAX);
    let old = story.updated("ancient-changes");
    assert_eq!(old.first().map(String::as_str), Some(".spec.labels"));
    assert_eq!(old.last().map(String::as_str), Some(".spec.labels.l05"));
    assert_eq!(story.updated("m06"), [".spec.labels.l06"]);
    assert_eq!(story.applied("a"), [".spec.replicas"]);
}

#[test]
fn entries_are_written_as_kubernetes_writes_them() {
    let mut story = Story::new();
    story.update("edit", json!({"apiVersion": "v1", "kind": "T", "metadata": {"name": "n", "uid": "u"}, "spec": {"replicas": 1}}));
    story.update("edit", story.object.clone());
    let scale = Writer { subresource: Cow::Borrowed("scale"), ..writer("edit", Operation::Apply) };
    let (_, managed) = apply(&story.types, &story.object, story.managed, &spec(json!({"replicas": 1})), false, &scale, NOW).expect("fine");
    let value = managed.to_value().expect("entries");
    assert_eq!(
        value,
        json!([
            {"manager": "edit", "operation": "Apply", "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1", "subresource": "scale",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "edit", "operation": "Update", "apiVersion": "v1", "time": LATER, "fieldsType": "FieldsV1",
             "fieldsV1": {"f:spec": {".": {}, "f:replicas": {}}}},
        ])
    );
    assert!(ManagedFields::parse(&value).expect("readable").same_owners(&managed));
}

#[test]
fn malformed_entries_are_refused() {
    let good = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
    assert!(ManagedFields::parse(&json!([good])).is_ok());
    for (field, value) in [
        ("operation", json!("Delete")),
        ("operation", Value::Null),
        ("fieldsType", json!("FieldsV2")),
        ("fieldsV1", json!([])),
        ("fieldsV1", json!({"f:a": 1})),
        ("fieldsV1", json!({"k:x": {}})),
    ] {
        let mut entry = good.clone();
        entry[field] = value;
        assert!(ManagedFields::parse(&json!([entry])).is_err(), "{entry}");
    }
    assert!(ManagedFields::parse(&json!({})).is_err());
    let many: Vec<Value> = (0..=ENTRIES_MAX).map(|_| good.clone()).collect();
    assert!(ManagedFields::parse(&json!(many)).is_err());
    let mut deep = json!({});
    for _ in 0..120 {
        deep = json!({"f:a": deep});
    }
    assert_eq!(FieldSet::parse(&deep), Err(FieldSetError::TooDeep));
}

#[test]
fn kinds_of_elements_that_are_unknown_are_skipped() {
    let set = FieldSet::parse(&json!({"x:new": {"f:a": {}}, "f:b": {"y:c": {}}, "f:d": {}})).expect("a set");
    assert_eq!(set.paths(), [".d"]);
}

#[test]
fn an_uncanonical_set_is_put_in_order() {
    let set = FieldSet::parse(&json!({"k:{\"b\":1,\"a\":2}": {"f:x": {}}, "k:{\"a\":2,\"b\":1}": {"f:y": {}}})).expect("a set");
    assert_eq!(set.to_value(), json!({"k:{\"a\":2,\"b\":1}": {"f:x": {}, "f:y": {}}}));
}

#[test]
fn recursive_and_endless_schemas_come_to_an_end() {
    let recursive = json!({
        "properties": {"spec": {"$ref": "#/$defs/Node"}},
        "$defs": {"Node": {"properties": {
            "child": {"$ref": "#/$defs/Node"},
            "other": {"x-kubernetes-map-type": "atomic", "allOf": [{"$ref": "#/$defs/Node"}]},
            "children": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"$ref": "#/$defs/Node"}},
            "name": {"type": "string"},
        }}, "Loop": {"$ref": "#/$defs/Loop"}},
    });
    let types = FieldTypes::compile(&recursive);
    let set = extract(&types, &spec(json!({"child": {"children": [{"name": "a", "child": {"name": "b"}}]}, "other": {"name": "x"}})))
        .expect("a set");
    let path = ".spec.child.children[name=\"a\"]";
    assert_eq!(set.paths(), [path, &format!("{path}.child.name"), &format!("{path}.name"), ".spec.other"].map(str::to_owned));
    FieldTypes::compile(&json!({"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}}));
    FieldTypes::compile(&json!("not a schema"));
}
