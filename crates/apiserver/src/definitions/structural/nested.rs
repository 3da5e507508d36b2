//! What stands inside `allOf`, `anyOf`, `oneOf` and `not`: it restricts values, and declares
//! nothing.

use serde_json::Value;

use super::{Problems, SCHEMA_LEVELS_MAX, Schema, properties};

/// Keywords that declare something, and what is said of them here.
const DECLARING: [(&str, &str); 13] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Checks the parts of a declared schema.
pub(super) fn check(path: &str, schema: &Schema, problems: &mut Problems) {
    let is_int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    for (at, part) in parts(path, schema) {
        if is_int_or_string && is_type_choice(schema, &at, path) {
            continue;
        }
        walk(&at, part, schema, 0, problems);
    }
}

/// The parts with their paths.
fn parts<'s>(path: &str, schema: &'s Schema) -> Vec<(String, &'s Schema)> {
    let mut found = Vec::new();
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (index, part) in schema.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Value::Object(part) = part {
                found.push((format!("{path}.{keyword}[{index}]"), part));
            }
        }
    }
    if let Some(Value::Object(part)) = schema.get("not") {
        found.push((format!("{path}.not"), part));
    }
    found
}

/// The one place where a part may name a type: an int-or-string says so in words, too.
fn is_type_choice(schema: &Schema, at: &str, path: &str) -> bool {
    let choice = serde_json::json!([{"type": "integer"}, {"type": "string"}]);
    let in_any_of = schema.get("anyOf") == Some(&choice) && at.starts_with(&format!("{path}.anyOf["));
    let first = schema.get("allOf").and_then(|all_of| all_of.get(0));
    let in_all_of = first.and_then(|first| first.get("anyOf")) == Some(&choice) && at == format!("{path}.allOf[0]");
    in_any_of || in_all_of
}

/// `declared` is the schema that declares the values that the part is about.
fn walk(path: &str, part: &Schema, declared: &Schema, depth: usize, problems: &mut Problems) {
    if depth > SCHEMA_LEVELS_MAX {
        problems.forbidden(path, format!("schemas may be nested {SCHEMA_LEVELS_MAX} levels deep"));
        return;
    }
    for (keyword, message) in DECLARING {
        let says = part.get(keyword).is_some_and(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        });
        if says {
            problems.forbidden(format!("{path}.{keyword}"), message);
        }
    }
    for (name, property) in properties(part) {
        let at = format!("{path}.properties[{name}]");
        if name == "metadata" {
            problems.forbidden(at, "must not be specified in a nested context");
            continue;
        }
        let outside =
            declared.get("properties").and_then(|properties| properties.get(name)).or_else(|| declared.get("additionalProperties"));
        match outside.and_then(Value::as_object) {
            Some(outside) => walk(&at, property, outside, depth + 1, problems),
            None if declared.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) => {}
            None => {
                problems.required(at.clone(), &format!("must be declared outside of the value validation, because it is defined in {at}"));
            }
        }
    }
    if let Some(Value::Object(items)) = part.get("items") {
        let at = format!("{path}.items");
        match declared.get("items").and_then(Value::as_object) {
            Some(outside) => walk(&at, items, outside, depth + 1, problems),
            None => {
                problems.required(at.clone(), &format!("must be declared outside of the value validation, because it is defined in {at}"));
            }
        }
    }
    for (at, inner) in parts(path, part) {
        walk(&at, inner, declared, depth + 1, problems);
    }
}
