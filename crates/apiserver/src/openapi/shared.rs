//! Kubernetes' own types inside the schemas of other kinds.
//!
//! A derived schema holds every type it uses inline, so a pod template is repeated in each kind
//! that has one: 300 KB each time, without names. Here the copies are recognised and become
//! references again, which makes the documents much smaller and lets `kubectl explain` say
//! `<PodTemplateSpec>`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use serde_json::{Map, Value, json};

use super::names;
use super::schemas::with_document_references;
use crate::schema::for_core;

/// What a field may say of a type that it holds.
const BESIDE: [&str; 3] = ["default", "description", "nullable"];

static KNOWN: LazyLock<Known> = LazyLock::new(Known::new);

/// The types that are recognised.
struct Known {
    /// As they stand in a document, by name.
    definitions: BTreeMap<String, Value>,
    /// The names of the object types by what they look like.
    names: HashMap<String, String>,
}

impl Known {
    fn new() -> Self {
        let mut definitions = BTreeMap::new();
        for (name, schema) in [
            ("io.k8s.api.core.v1.PodTemplateSpec", for_core::<PodTemplateSpec>()),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.Condition", for_core::<Condition>()),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", for_core::<LabelSelector>()),
        ] {
            let Value::Object(mut fields) = schema else { continue };
            if let Some(Value::Object(parts)) = fields.remove("$defs") {
                for (part, definition) in parts {
                    definitions.entry(part).or_insert_with(|| with_document_references(definition));
                }
            }
            definitions.insert(name.to_owned(), with_document_references(Value::Object(fields)));
        }
        let mut known = Self { definitions, names: HashMap::new() };
        known.names =
            known.definitions.iter().filter_map(|(name, definition)| Some((known.looks(definition.as_object()?)?, name.clone()))).collect();
        known
    }

    fn name_of(&self, schema: &Map<String, Value>) -> Option<&str> {
        self.names.get(&self.looks(schema)?).map(String::as_str)
    }

    /// What tells an object type from others: everything but what the field that holds it says of
    /// it. None for what is no object type.
    fn looks(&self, schema: &Map<String, Value>) -> Option<String> {
        schema.get("properties")?;
        let mut bare = schema.clone();
        for beside in BESIDE {
            bare.remove(beside);
        }
        Some(self.alike(&Value::Object(bare)).to_string())
    }

    /// One form for the ways in which a part can be written: scalar types as derived schemas
    /// inline them, references with a description beside them.
    fn alike(&self, schema: &Value) -> Value {
        let fields = match schema {
            Value::Object(fields) => fields,
            Value::Array(items) => return items.iter().map(|item| self.alike(item)).collect(),
            scalar => return scalar.clone(),
        };
        let Some(target) = target_of(fields) else {
            // Derived schemas say of some optional scalars that they may be null, and of some not.
            let told = fields.iter().filter(|(key, value)| *key != "nullable" || !value.is_boolean());
            return Value::Object(told.map(|(key, value)| (key.clone(), self.alike(value))).collect());
        };
        let mut alike = match self.definitions.get(target) {
            Some(Value::Object(definition)) if definition.contains_key("properties") => {
                let description = definition.get("description").map(|text| ("description".to_owned(), text.clone()));
                description.into_iter().chain([("$ref".to_owned(), json!(target))]).collect()
            }
            Some(Value::Object(scalar)) => as_derived(scalar),
            _ => Map::from_iter([("$ref".to_owned(), json!(target))]),
        };
        let beside = fields.iter().filter(|(key, _)| ["default", "description"].contains(&key.as_str()));
        alike.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(alike)
    }
}

/// A scalar type without what [`for_core`] adds to it.
fn as_derived(scalar: &Map<String, Value>) -> Map<String, Value> {
    let mut derived = scalar.clone();
    derived.remove("x-kubernetes-preserve-unknown-fields");
    if derived.contains_key("x-kubernetes-int-or-string") {
        derived.remove("format");
    }
    derived
}

/// The name of the schema that a reference leads to, alone or with a description around it.
fn target_of(fields: &Map<String, Value>) -> Option<&str> {
    let reference = match fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref"),
        _ => fields.get("$ref"),
    };
    reference?.as_str()?.rsplit('/').next()
}

/// Puts references in the place of known types, and adds what they refer to to `schemas`.
pub(super) fn share(schema: Value, schemas: &mut BTreeMap<String, Value>) -> Value {
    match schema {
        Value::Object(fields) => {
            // From the inside out: a known type is one whose parts are known.
            let fields: Map<String, Value> = fields.into_iter().map(|(key, value)| (key, share(value, schemas))).collect();
            match KNOWN.name_of(&fields) {
                Some(name) => reference(&fields, name, schemas),
                None => Value::Object(fields),
            }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| share(item, schemas)).collect()),
        scalar => scalar,
    }
}

fn reference(fields: &Map<String, Value>, name: &str, schemas: &mut BTreeMap<String, Value>) -> Value {
    add_with_parts(name, schemas);
    let reference = json!({"$ref": names::reference(name)});
    let own_description = KNOWN.definitions.get(name).and_then(|definition| definition.get("description"));
    let mut around: Map<String, Value> = BESIDE
        .iter()
        .filter_map(|keyword| Some(((*keyword).to_owned(), fields.get(*keyword)?.clone())))
        .filter(|(keyword, value)| keyword != "description" || Some(value) != own_description)
        .collect();
    if around.is_empty() {
        return reference;
    }
    around.insert("allOf".to_owned(), json!([reference]));
    Value::Object(around)
}

fn add_with_parts(name: &str, schemas: &mut BTreeMap<String, Value>) {
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let Some(definition) = KNOWN.definitions.get(&name).filter(|_| !schemas.contains_key(&name)) else { continue };
        add_references(definition, &mut open);
        schemas.insert(name, definition.clone());
    }
}

fn add_references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            found.extend(target_of(fields).map(str::to_owned));
            fields.values().for_each(|value| add_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| add_references(item, found)),
        _ => {}
    }
}
