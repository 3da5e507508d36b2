//! The schemas of a document.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Status};
use serde_json::{Map, Value, json};

use super::{OpenApiKind, names, shared};
use crate::schema::for_core;

/// Where a schema keeps its definitions, and how its references begin.
const DEFINITIONS: &str = "$defs";
const DEFINITION_PREFIX: &str = "#/$defs/";

/// What the addresses of every kind speak of. Derived once: every document has them.
static OF_EVERYTHING: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let mut all = known::<ObjectMeta>(names::OBJECT_META);
    all.extend(known::<ListMeta>(names::LIST_META));
    all.extend(known::<DeleteOptions>(names::DELETE_OPTIONS));
    all.extend(known::<Status>(names::STATUS));
    all
});
static SCALE: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| known::<Scale>(names::SCALE));
static BINDING: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| known::<Binding>(names::BINDING));
static TOKEN_REQUEST: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| known::<TokenRequest>(names::TOKEN_REQUEST));
static EVICTION: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| known::<Eviction>(names::EVICTION));

/// Schemas by name.
#[derive(Default)]
pub(super) struct Components {
    schemas: BTreeMap<String, Value>,
}

impl Components {
    pub(super) fn add_kind(&mut self, kind: OpenApiKind) {
        let (is_core, subresources) = (kind.group.is_empty(), kind.subresources.clone());
        self.add_own(kind);
        self.add_known(&OF_EVERYTHING);
        self.schemas.entry(names::PATCH.to_owned()).or_insert_with(|| {
            json!({"type": "object", "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."})
        });
        for subresource in &subresources {
            match subresource.as_str() {
                "scale" => self.add_known(&SCALE),
                "binding" => self.add_known(&BINDING),
                "token" if is_core => self.add_known(&TOKEN_REQUEST),
                "eviction" => self.add_known(&EVICTION),
                _ => {}
            }
        }
    }

    /// Adds the schemas that are there for this kind alone, and Kubernetes' types inside them.
    pub(super) fn add_own(&mut self, kind: OpenApiKind) {
        let name = names::schema(&kind.group, &kind.version, &kind.kind);
        let named = |kind_name: &str| json!([{"group": kind.group, "version": kind.version, "kind": kind_name}]);
        let list_kind = kind.list_kind.clone();
        if kind.verbs.iter().any(|verb| verb == "list") {
            let list = list_schema(&list_kind, &name, &named(&list_kind));
            self.schemas.insert(names::schema(&kind.group, &kind.version, &list_kind), list);
        }
        let gvk = named(&kind.kind);
        let mut schema = take_definitions(kind.schema, &mut self.schemas);
        if !names::is_built_in(&kind.group) {
            schema = shared::share(schema, &mut self.schemas);
            join_lines(&mut schema);
        }
        if let Some(fields) = schema.as_object_mut() {
            describe_object(fields);
            fields.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
            complete_object(fields);
        }
        self.schemas.insert(name, schema);
    }

    pub(super) fn into_schemas(self) -> Map<String, Value> {
        self.schemas.into_iter().collect()
    }

    fn add_known(&mut self, known: &BTreeMap<String, Value>) {
        for (name, schema) in known {
            if !self.schemas.contains_key(name) {
                self.schemas.insert(name.clone(), schema.clone());
            }
        }
    }
}

/// The schema of one of Kubernetes' types by its name, and those that it refers to.
fn known<T: schemars::JsonSchema>(name: &str) -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    let schema = take_definitions(for_core::<T>(), &mut schemas);
    schemas.insert(name.to_owned(), schema);
    schemas
}

/// Moves a schema's definitions to the document's, and its references along.
fn take_definitions(mut schema: Value, schemas: &mut BTreeMap<String, Value>) -> Value {
    let definitions = schema.as_object_mut().and_then(|fields| fields.remove(DEFINITIONS));
    if let Some(Value::Object(definitions)) = definitions {
        for (name, definition) in definitions {
            schemas.entry(name).or_insert_with(|| with_document_references(definition));
        }
    }
    with_document_references(schema)
}

/// OpenAPI 3.0 ignores what stands beside a `$ref`, so the description moves around it.
pub(super) fn with_document_references(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> = fields.into_iter().map(|(key, value)| (key, with_document_references(value))).collect();
            let target = fields
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.strip_prefix(DEFINITION_PREFIX))
                .map(names::reference);
            let Some(target) = target else { return Value::Object(fields) };
            fields.remove("$ref");
            let reference = json!({"$ref": target});
            if fields.is_empty() {
                return reference;
            }
            fields.insert("allOf".to_owned(), json!([reference]));
            Value::Object(fields)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(with_document_references).collect()),
        scalar => scalar,
    }
}

/// Doc comments are broken into lines where the source is; clients break lines themselves.
/// Paragraphs and lists stay.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "description" => *text = joined(text),
                    other => join_lines(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let begins_anew = line.is_empty() || line.starts_with(['-', '*', '`', ' ', '|', '#']);
        if !joined.is_empty() {
            joined.push(if begins_anew || joined.ends_with('\n') { '\n' } else { ' ' });
        }
        joined.push_str(line);
    }
    joined
}

/// A derived kind is described by its `spec`; of the whole it says only that it was derived.
fn describe_object(schema: &mut Map<String, Value>) {
    let says_nothing = schema.get("description").and_then(Value::as_str).is_none_or(|text| text.starts_with("Auto-generated derived type"));
    let described = schema.get("properties").and_then(|properties| properties.get("spec")).and_then(|spec| spec.get("description"));
    if let Some(description) = described.cloned().filter(|_| says_nothing) {
        schema.insert("description".to_owned(), description);
    }
}

/// Own kinds' schemas leave out what every object has.
fn complete_object(schema: &mut Map<String, Value>) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    for (name, description) in
        [("apiVersion", "Group and version of the API that this object is written in."), ("kind", "Kind of the object.")]
    {
        properties.entry(name).or_insert_with(|| json!({"type": "string", "description": description}));
    }
    let says_nothing = properties
        .get("metadata")
        .is_none_or(|metadata| ["properties", "allOf", "$ref"].iter().all(|keyword| metadata.get(keyword).is_none()));
    if says_nothing {
        let metadata = json!({
            "description": "Name, labels and what else every object has.",
            "allOf": [{"$ref": names::reference(names::OBJECT_META)}],
        });
        properties.insert("metadata".to_owned(), metadata);
    }
}

fn list_schema(kind: &str, item: &str, gvk: &Value) -> Value {
    json!({
        "type": "object",
        "description": format!("{kind} is a list of objects."),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of the API that this list is written in."},
            "kind": {"type": "string", "description": "Kind of the list."},
            "metadata": {
                "description": "Revision of the list, and where it goes on.",
                "allOf": [{"$ref": names::reference(names::LIST_META)}],
            },
            "items": {
                "type": "array",
                "description": "The objects.",
                "items": {"$ref": names::reference(item)},
            },
        },
        "x-kubernetes-group-version-kind": gvk,
    })
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn lines_are_joined_and_paragraphs_kept() {
        for (text, expected) in [
            ("one line", "one line"),
            ("two\nlines", "two lines"),
            ("first\nparagraph\n\nsecond\none", "first paragraph\n\nsecond one"),
            ("a list:\n- one\n- two", "a list:\n- one\n- two"),
        ] {
            assert_eq!(joined(text), expected);
        }
    }
}
