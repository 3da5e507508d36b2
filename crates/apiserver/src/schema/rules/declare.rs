//! From a schema to the type that rules see, with the largest size of each value.
//!
//! What the schema does not bound is bounded by the size of a request: a list of numbers can have
//! one entry for every two bytes. The arithmetic is that of Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use fermion_cel::{Field, ListKind, Object, Type, Typed, escape_property};
use serde_json::{Map, Value};

use crate::schema::SCHEMA_DEPTH_MAX;

/// The size of a request, in bytes, that the estimates count with.
const REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// The longest text that fits into a request.
const TEXT_MAX: u64 = REQUEST_BYTES - 2;

/// The type of the values that a schema accepts. `is_object` says that they are whole objects,
/// with type and metadata.
pub(super) fn declare(schema: &Map<String, Value>, is_object: bool, depth: usize) -> Typed {
    let anything = || Typed::new(Type::Dyn, TEXT_MAX);
    if depth > SCHEMA_DEPTH_MAX || flag(schema, "x-kubernetes-int-or-string") {
        return anything();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => Type::Bool.into(),
        Some("integer") => Type::Int.into(),
        Some("number") => Type::Double.into(),
        Some("string") => text(schema),
        Some("array") => {
            let item = child(schema.get("items"), depth);
            let kind = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => ListKind::Set,
                Some("map") => {
                    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    ListKind::Map(keys.into_iter().flatten().filter_map(Value::as_str).map(Box::from).collect())
                }
                _ => ListKind::Atomic,
            };
            Typed::new(Type::List(Arc::new(item), kind), items_max(schema))
        }
        _ if is_object || flag(schema, "x-kubernetes-embedded-resource") => object(schema, true, depth),
        Some("object") => match (schema.get("additionalProperties"), schema.get("properties")) {
            (Some(Value::Object(_) | Value::Bool(true)), _) => {
                let value = child(schema.get("additionalProperties"), depth);
                let key = Typed::new(Type::Text, TEXT_MAX);
                Typed::new(Type::Map(Arc::new(key), Arc::new(value)), properties_max(schema))
            }
            (_, Some(Value::Object(_))) => object(schema, false, depth),
            _ if flag(schema, "x-kubernetes-preserve-unknown-fields") => anything(),
            _ => object(schema, false, depth),
        },
        _ => anything(),
    }
}

fn child(schema: Option<&Value>, depth: usize) -> Typed {
    match schema {
        Some(Value::Object(schema)) => declare(schema, false, depth + 1),
        _ => Typed::new(Type::Dyn, TEXT_MAX),
    }
}

fn object(schema: &Map<String, Value>, is_whole: bool, depth: usize) -> Typed {
    let mut fields: BTreeMap<Box<str>, Field> = BTreeMap::new();
    for (property, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(name) = escape_property(property) {
            fields.insert(name.into(), Field { property: property.as_str().into(), typed: child(Some(schema), depth) });
        }
    }
    if is_whole {
        /// The longest name of an object, and of a kind with its group.
        const NAME_MAX: u64 = 253;
        let name = |property: &str| (Box::from(property), Field { property: property.into(), typed: Typed::new(Type::Text, NAME_MAX) });
        fields.extend([name("apiVersion"), name("kind")]);
        // Of the metadata rules see the names only.
        let metadata = Object { name: "metadata".to_owned(), fields: [name("name"), name("generateName")].into_iter().collect() };
        fields.insert("metadata".into(), Field { property: "metadata".into(), typed: Type::Object(Arc::new(metadata)).into() });
    }
    Type::Object(Arc::new(Object { name: "object".to_owned(), fields })).into()
}

fn text(schema: &Map<String, Value>) -> Typed {
    match schema.get("format").and_then(Value::as_str) {
        Some("byte") => return Typed::new(Type::Bytes, number(schema, "maxLength").unwrap_or(TEXT_MAX)),
        Some("duration") => return Type::Duration.into(),
        Some("date" | "date-time") => return Type::Timestamp.into(),
        _ => {}
    }
    let longest =
        schema.get("enum").and_then(Value::as_array).and_then(|values| values.iter().filter_map(Value::as_str).map(str::len).max());
    let max = number(schema, "maxLength").or(longest.map(|length| length as u64)).unwrap_or(TEXT_MAX);
    Typed::new(Type::Text, max.min(TEXT_MAX))
}

/// The most items a list can have.
pub(crate) fn items_max(schema: &Map<String, Value>) -> u64 {
    let fits = || (REQUEST_BYTES - 2) / (bytes_min(schema.get("items"), 0) + 1);
    number(schema, "maxItems").unwrap_or_else(fits)
}

/// The most entries a map can have: each takes quotes, a colon, a comma and some key.
pub(crate) fn properties_max(schema: &Map<String, Value>) -> u64 {
    let fits = || (REQUEST_BYTES - 2) / (bytes_min(schema.get("additionalProperties"), 0) + 6);
    number(schema, "maxProperties").unwrap_or_else(fits)
}

/// The fewest bytes that a value takes in JSON.
fn bytes_min(schema: Option<&Value>, depth: usize) -> u64 {
    let Some(Value::Object(schema)) = schema else { return 1 };
    if depth > SCHEMA_DEPTH_MAX {
        return 1;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => 4,
        Some("string") => match schema.get("format").and_then(Value::as_str) {
            Some("date") => 12,
            Some("date-time") => 22,
            Some("duration") => 3,
            _ => 2 + number(schema, "minLength").unwrap_or(0),
        },
        Some("array") => {
            let items = number(schema, "minItems").unwrap_or(0);
            items.saturating_mul(bytes_min(schema.get("items"), depth + 1).saturating_add(1)).saturating_add(2)
        }
        Some("object") => {
            let properties = schema.get("properties");
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            required.fold(2, |bytes: u64, name| {
                let value = properties.and_then(|properties| properties.get(name));
                bytes.saturating_add(name.len() as u64 + 4).saturating_add(bytes_min(value, depth + 1))
            })
        }
        _ => 1,
    }
}

fn number(schema: &Map<String, Value>, keyword: &str) -> Option<u64> {
    schema.get(keyword).and_then(Value::as_u64)
}

fn flag(schema: &Map<String, Value>, keyword: &str) -> bool {
    schema.get(keyword) == Some(&Value::Bool(true))
}
