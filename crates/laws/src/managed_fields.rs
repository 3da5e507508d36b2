//! Ownership of fields: what is stored reads as it was written, and the rules of server-side apply
//! hold for every kind and every story of writes.

use std::borrow::Cow;

use fermion_apiserver::managed_fields::{
    ApplyError, FieldSet, FieldTypes, ManagedFields, Operation, Writer, apply, compare, extract, merge, remove, update, update_stored,
};
use serde_json::{Value, json};

use crate::input::Input;
use crate::schemas;

const NOW: &str = "2026-01-02T03:04:05Z";

/// Writes in one story.
const WRITES_MAX: usize = 6;

const MANAGERS: [&str; 3] = ["a", "b", "kubectl-client-side-apply"];

/// Elements of `fieldsV1`, in order and not.
const ELEMENTS: &[&str] = &[
    "f:spec",
    "f:a",
    "f:items",
    "f:",
    "k:{\"name\":\"a\"}",
    "k:{\"name\":\"b\",\"port\":80}",
    "k:{}",
    "k:[",
    "v:\"x\"",
    "v:1",
    "v:1.0",
    "v:null",
    "v:",
    "i:0",
    "i:-1",
    "i:99999999999999999999",
    ".",
    "x:y",
    "",
    "f:.",
    "v:{\"a\":1}",
    "v:[1]",
    "k:{\"b\":1,\"a\":2}",
    "k:{\"a\":2,\"b\":1}",
];

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.once_in(3) {
        return sets(&mut input);
    }
    let schema = schemas::of_object(&mut input);
    let types = FieldTypes::compile(&schema);
    let mut story = Story { types, schema, object: json!({}), managed: ManagedFields::default(), told: Vec::new() };
    for _ in 0..=input.below(WRITES_MAX) {
        story.write(&mut input);
    }
}

/// Sets of paths as clients send them.
fn sets(input: &mut Input<'_>) {
    let values = [input.json(ELEMENTS), input.json(ELEMENTS), input.json(ELEMENTS)];
    let [Ok(one), Ok(two), Ok(three)] = values.each_ref().map(FieldSet::parse) else { return };
    let about = || format!("{}, {} and {}", values[0], values[1], values[2]);
    assert_eq!(FieldSet::parse(&one.to_value()).as_ref(), Ok(&one), "{}", about());
    assert_eq!(one.len(), one.paths().len(), "{}", about());
    assert_eq!(one.union(&two), two.union(&one), "{}", about());
    assert_eq!(one.union(&two).union(&three), one.union(&two.union(&three)), "{}", about());
    assert_eq!(one.intersection(&two), two.intersection(&one), "{}", about());
    assert_eq!(one.difference(&two).union(&one.intersection(&two)), one, "{}", about());
    assert!(one.difference(&two).intersection(&two).is_empty(), "{}", about());
    assert_eq!(one.overlaps(&two), !one.intersection(&two).is_empty(), "{}", about());
    assert_eq!(one.is_within(&two), one.difference(&two).is_empty(), "{}", about());
    assert_eq!(one.union(&two).len() + one.intersection(&two).len(), one.len() + two.len(), "{}", about());
    let entry = |manager: &str, operation: &str, fields: &Value| json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1", "fieldsV1": fields});
    let stored = json!([entry("a", "Apply", &values[0]), entry("b", "Update", &values[1]), entry("a", "Apply", &values[2])]);
    let managed = ManagedFields::parse(&stored).unwrap_or_else(|error| panic!("{error}: {}", about()));
    let again = ManagedFields::parse(&managed.to_value().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {}", about()));
    assert!(again.same_owners(&managed), "{}", about());
    // Nothing that a set names keeps an object from being taken apart.
    let object = input.json(&["spec", "a", "items", "name", "port", "", "."]);
    let types = FieldTypes::untyped();
    remove(&types, &json!({"spec": object, "a": object}), &one);
}

fn writer(manager: &str, operation: Operation) -> Writer<'_> {
    Writer { manager: Cow::Borrowed(manager), operation, api_version: Cow::Borrowed("v1"), subresource: Cow::Borrowed("") }
}

/// An object and its owners through some writes.
struct Story {
    types: FieldTypes,
    schema: Value,
    object: Value,
    managed: ManagedFields,
    /// What was written, for whoever reads why a law is broken.
    told: Vec<String>,
}

impl Story {
    fn write(&mut self, input: &mut Input<'_>) {
        let manager = input.pick(&MANAGERS);
        let what = input.below(4);
        let mut object = schemas::fitting(input, &self.schema);
        if !object.is_object() {
            object = json!({"spec": object});
        }
        without_nothing(&mut object);
        self.told.push(format!("{manager} {} {object}", ["updates to", "applies", "forces", "adds"][what]));
        match what {
            0 => self.update(manager, object),
            1 => self.apply(manager, &object, false),
            2 => self.apply(manager, &object, true),
            _ => {
                let merged = merge(&self.types, &self.object, &object);
                self.update(manager, merged);
            }
        }
        let stored = self.managed.to_value().unwrap_or_default();
        let again = ManagedFields::parse(&stored).unwrap_or_else(|error| panic!("{error}: {}", self.about()));
        assert!(again.same_owners(&self.managed), "{}", self.about());
        assert!(compare(&self.types, &self.object, &self.object).is_empty(), "{}", self.about());
    }

    fn about(&self) -> String {
        format!("{}\nby {}\n{} is owned {:?}", self.told.join("\n"), self.schema, self.object, self.managed.to_value())
    }

    fn update(&mut self, manager: &str, new: Value) {
        // What cannot be taken apart, such as a list with two items of one key, is not stored.
        if extract(&self.types, &new).is_err() {
            return;
        }
        let writer = writer(manager, Operation::Update);
        let stored = self.managed.to_value().unwrap_or_default();
        let comparison = compare(&self.types, &self.object, &new);
        let managed = update(&self.types, self.managed.clone(), &self.object, &new, &writer, &FieldSet::default(), NOW);
        let again = update_stored(&self.types, &stored, &self.object, &new, &writer, NOW).expect("it was written here");
        assert_eq!(again.filter(|value| !value.is_null()), managed.to_value(), "the shorter way comes to the same: {}", self.about());
        for entry in managed.entries() {
            let others = entry.writer.operation == Operation::Apply || entry.writer.manager != manager;
            assert!(!others || !entry.fields.overlaps(&comparison.changed), "what was changed is its writer's alone: {}", self.about());
            assert!(!entry.fields.overlaps(&comparison.removed), "what is gone is nobody's: {}", self.about());
        }
        self.managed = managed;
        self.object = new;
    }

    fn apply(&mut self, manager: &str, configuration: &Value, force: bool) {
        let writer = writer(manager, Operation::Apply);
        let try_apply = |object: &Value, managed: &ManagedFields, force| {
            apply(&self.types, object, managed.clone(), configuration, force, &writer, NOW)
        };
        let (object, managed) = match try_apply(&self.object, &self.managed, force) {
            Ok(applied) => applied,
            Err(ApplyError::Configuration(problems)) => {
                assert!(extract(&self.types, configuration).is_err() && !problems.is_empty(), "{}", self.about());
                return;
            }
            Err(ApplyError::Conflicts(conflicts)) => {
                assert!(!force && conflicts.iter().next().is_some(), "{}", self.about());
                // Whoever is in the way can be overruled.
                assert!(try_apply(&self.object, &self.managed, true).is_ok(), "{}", self.about());
                return;
            }
        };
        if managed.is_empty() {
            // An empty list is nobody's, as in Kubernetes; an object that nobody owns anything of is
            // taken for one of before ownership was kept.
            self.object = object;
            self.managed = managed;
            return;
        }
        let (again, owners) = match try_apply(&object, &managed, false) {
            Ok(applied) => applied,
            Err(error) => panic!("what was applied is in conflict with itself: {error}: {object} {}", self.about()),
        };
        assert_eq!(again, object, "twice is once: {}", self.about());
        assert!(owners.same_owners(&managed), "twice is once: {:?} and {:?}: {}", managed.to_value(), owners.to_value(), self.about());
        self.object = object;
        self.managed = managed;
    }
}

/// Nulls mean "unset" and are gone before ownership is looked at. Empty lists and maps mean the same
/// as none: nobody owns them, as in Kubernetes, and so they may go with what stood beside them.
fn without_nothing(value: &mut Value) {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(without_nothing);
            fields.retain(|_, field| !is_nothing(field));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(without_nothing);
            items.retain(|item| !is_nothing(item));
        }
        _ => {}
    }
}
