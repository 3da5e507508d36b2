//! Structural schemas: every field is declared once, outside of what only restricts values, so
//! that unknown fields can be told and dropped and defaults filled in.
//!
//! The rules are those of
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

mod defaults;
mod nested;
mod validations;

use serde_json::{Map, Value};

use super::check::Problems;
use crate::error::CAUSES_MAX;
use crate::schema::{SchemaError, Validator};

/// The most levels of a schema: that many levels of an object can be told by their path.
pub(crate) const SCHEMA_LEVELS_MAX: usize = 40;

type Schema = Map<String, Value>;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Notes what is wrong with the schema of a version at `path`.
pub(super) fn check(path: &str, schema: &Schema, problems: &mut Problems) {
    let before = problems.causes.len();
    invariants(path, schema, Level::Root, 0, problems);
    if problems.causes.len() > before {
        return;
    }
    // What follows stands on a structural schema.
    let whole = Value::Object(schema.clone());
    match Validator::compile_structure(&whole) {
        Ok(_) => {}
        Err(SchemaError::Malformed { path: pointer, keyword, detail }) => {
            let value = whole.pointer(pointer.trim_start_matches('#')).and_then(|schema| schema.get(&keyword));
            problems.invalid(format!("{path}{}.{keyword}", below(&pointer)), value.unwrap_or(&Value::Null), detail);
        }
        Err(error) => problems.invalid(path, &Value::Null, error.to_string()),
    }
    if problems.causes.len() > before {
        return;
    }
    defaults::check(path, schema, problems);
    validations::check(path, schema, problems);
}

/// `#/properties/spec/items` as `.properties[spec].items`.
fn below(pointer: &str) -> String {
    let mut path = String::new();
    let mut steps = pointer.trim_start_matches('#').split('/').skip(1);
    while let Some(step) = steps.next() {
        path.push('.');
        path.push_str(step);
        if step == "properties" {
            path.extend(["[", steps.next().unwrap_or_default(), "]"]);
        }
    }
    path
}

fn flag(schema: &Schema, keyword: &str) -> bool {
    schema.get(keyword) == Some(&Value::Bool(true))
}

fn type_of(schema: &Schema) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn properties(schema: &Schema) -> impl Iterator<Item = (&String, &Schema)> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(name, schema)| Some((name, schema.as_object()?)))
}

/// Keywords that OpenAPI or JSON Schema have and definitions may not use.
const REFUSED: [&str; 7] = ["$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties", "$schema"];

fn invariants(path: &str, schema: &Schema, level: Level, depth: usize, problems: &mut Problems) {
    if depth > SCHEMA_LEVELS_MAX {
        problems.forbidden(path, format!("schemas may be nested {SCHEMA_LEVELS_MAX} levels deep"));
        return;
    }
    if problems.causes.len() >= CAUSES_MAX {
        return;
    }
    for keyword in REFUSED {
        if schema.get(keyword).is_some_and(|value| !value.is_null()) {
            problems.forbidden(format!("{path}.{keyword}"), format!("{keyword} is not supported"));
        }
    }
    if flag(schema, "uniqueItems") {
        problems
            .forbidden(format!("{path}.uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    types(path, schema, level, problems);
    extensions(path, schema, problems);
    list_type(path, schema, problems);
    children(path, schema, level, depth, problems);
    whole_objects(path, schema, level, problems);
    nested::check(path, schema, problems);
}

fn types(path: &str, schema: &Schema, level: Level, problems: &mut Problems) {
    let ty = type_of(schema);
    let at = format!("{path}.type");
    if ty.is_empty() {
        let needs_none = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
        if flag(schema, "x-kubernetes-embedded-resource") {
            problems.required(at, "must be object if x-kubernetes-embedded-resource is true");
        } else if !needs_none {
            problems.required(
                at,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            );
        }
        return;
    }
    if !matches!(ty, "array" | "boolean" | "integer" | "number" | "object" | "string") {
        if ty == "null" {
            problems.forbidden(at, "type cannot be set to null, use nullable as an alternative");
        } else {
            problems.unsupported(at, &ty.into(), &["array", "boolean", "integer", "number", "object", "string"]);
        }
    } else if level == Level::Root && ty != "object" {
        problems.invalid(at, &ty.into(), "must be object at the root");
    } else if flag(schema, "x-kubernetes-embedded-resource") && ty != "object" {
        problems.invalid(at, &ty.into(), "must be object if x-kubernetes-embedded-resource is true");
    }
    if ty == "array" && !schema.get("items").is_some_and(|items| items.is_object() || items.is_array()) {
        problems.required(format!("{path}.items"), "must be specified");
    }
    if level == Level::Root && flag(schema, "nullable") {
        problems.forbidden(format!("{path}.nullable"), "nullable cannot be true at the root");
    }
}

fn extensions(path: &str, schema: &Schema, problems: &mut Problems) {
    let at = |keyword: &str| format!("{path}.x-kubernetes-{keyword}");
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        problems.invalid(at("preserve-unknown-fields"), &Value::Bool(false), "must be true or undefined");
    }
    if flag(schema, "x-kubernetes-int-or-string") {
        for other in ["preserve-unknown-fields", "embedded-resource"] {
            if flag(schema, &format!("x-kubernetes-{other}")) {
                problems.invalid(at(other), &Value::Bool(true), "must be false if x-kubernetes-int-or-string is true");
            }
        }
        if !type_of(schema).is_empty() {
            problems.forbidden(format!("{path}.type"), "must be empty if x-kubernetes-int-or-string is true");
        }
    }
    if let Some(map_type) = schema.get("x-kubernetes-map-type").filter(|value| !value.is_null()) {
        if type_of(schema) != "object" {
            problems.invalid(format!("{path}.type"), &type_of(schema).into(), "must be object if x-kubernetes-map-type is specified");
        }
        if map_type != "atomic" && map_type != "granular" {
            problems.unsupported(at("map-type"), map_type, &["atomic", "granular"]);
        }
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        if schema.get("additionalProperties").is_some_and(|value| !value.is_null()) {
            problems.forbidden(format!("{path}.additionalProperties"), "must not be used if x-kubernetes-embedded-resource is set");
        }
        if !flag(schema, "x-kubernetes-preserve-unknown-fields") && properties(schema).next().is_none() {
            problems.required(
                format!("{path}.properties"),
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            );
        }
    }
}

fn list_type(path: &str, schema: &Schema, problems: &mut Problems) {
    let keys: Vec<&Value> = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten().collect();
    let at_type = format!("{path}.x-kubernetes-list-type");
    let at_keys = format!("{path}.x-kubernetes-list-map-keys");
    let list_type = schema.get("x-kubernetes-list-type").filter(|value| !value.is_null());
    if !keys.is_empty() && list_type.is_none_or(|list_type| list_type != "map") {
        match list_type {
            None => problems.required(at_type.clone(), "must be map if x-kubernetes-list-map-keys is non-empty"),
            Some(other) => problems.invalid(at_type.clone(), other, "must be map if x-kubernetes-list-map-keys is non-empty"),
        }
    }
    let Some(list_type) = list_type else { return };
    if type_of(schema) != "array" {
        let message = "must be array if x-kubernetes-list-type is specified";
        if type_of(schema).is_empty() {
            problems.required(format!("{path}.type"), message);
        } else {
            problems.invalid(format!("{path}.type"), &type_of(schema).into(), message);
        }
        return;
    }
    let items = schema.get("items").and_then(Value::as_object);
    match list_type.as_str() {
        Some("atomic") => {}
        Some("set") => {
            let is_atomic = items.is_none_or(|items| match type_of(items) {
                "array" => items.get("x-kubernetes-list-type").is_none_or(|list_type| list_type == "atomic"),
                "object" => items.get("x-kubernetes-map-type").is_some_and(|map_type| map_type == "atomic"),
                _ => true,
            });
            if !is_atomic {
                problems.invalid(format!("{path}.items"), &Value::Null, "must be atomic as item of a list with x-kubernetes-list-type=set");
            }
        }
        Some("map") => {
            let Some(items) = items else {
                problems.required(format!("{path}.items"), "must have a schema if x-kubernetes-list-type is map");
                return;
            };
            if type_of(items) != "object" {
                problems.invalid(
                    format!("{path}.items.type"),
                    &type_of(items).into(),
                    "must be object if parent array's x-kubernetes-list-type is map",
                );
            }
            if flag(items, "nullable") {
                problems.forbidden(format!("{path}.items.nullable"), "cannot be nullable when x-kubernetes-list-type is map");
            }
            if keys.is_empty() {
                problems.required(at_keys.clone(), "must not be empty if x-kubernetes-list-type is map");
            }
            map_keys(path, &at_keys, items, &keys, problems);
        }
        _ => problems.unsupported(at_type, list_type, &["atomic", "map", "set"]),
    }
}

fn map_keys(path: &str, at_keys: &str, items: &Schema, keys: &[&Value], problems: &mut Problems) {
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            problems.invalid(at_keys, key, "must not contain duplicate entries");
            continue;
        }
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items.get("properties").and_then(|properties| properties.get(name)).and_then(Value::as_object) else {
            problems.invalid(at_keys, key, "entries must all be names of item properties");
            continue;
        };
        let at = format!("{path}.items.properties[{name}]");
        if matches!(type_of(property), "array" | "object") {
            problems.invalid(
                format!("{at}.type"),
                &type_of(property).into(),
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            );
        }
        if flag(property, "nullable") {
            problems.forbidden(format!("{at}.nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
        }
        let is_required = items.get("required").and_then(Value::as_array).is_some_and(|required| required.contains(key));
        if !is_required && property.get("default").is_none_or(Value::is_null) {
            problems.required(
                format!("{at}.default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
    }
}

fn children(path: &str, schema: &Schema, level: Level, depth: usize, problems: &mut Problems) {
    match schema.get("items") {
        Some(Value::Object(items)) => invariants(&format!("{path}.items"), items, Level::Item, depth + 1, problems),
        Some(Value::Array(_)) => problems.forbidden(format!("{path}.items"), "items must be a schema object and not an array"),
        _ => {}
    }
    for (name, property) in properties(schema) {
        invariants(&format!("{path}.properties[{name}]"), property, Level::Field, depth + 1, problems);
    }
    let at = format!("{path}.additionalProperties");
    let Some(additional) = schema.get("additionalProperties").filter(|value| !value.is_null()) else { return };
    if level == Level::Root {
        problems.forbidden(at.clone(), "must not be used at the root");
    }
    if additional == &Value::Bool(false) {
        problems.forbidden(at.clone(), "additionalProperties cannot be set to false");
    }
    if properties(schema).next().is_some() {
        problems.forbidden(at.clone(), "additionalProperties and properties are mutual exclusive");
    }
    if let Value::Object(additional) = additional {
        invariants(&at, additional, Level::Field, depth + 1, problems);
    }
}

/// Of the metadata of a whole object only the names may be restricted.
fn whole_objects(path: &str, schema: &Schema, level: Level, problems: &mut Problems) {
    if level != Level::Root && !flag(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    for (name, property) in properties(schema) {
        let at = format!("{path}.properties[{name}]");
        match name.as_str() {
            "kind" | "apiVersion" if type_of(property) != "string" => {
                problems.invalid(format!("{at}.type"), &type_of(property).into(), "must be string");
            }
            "metadata" => {
                if type_of(property) != "object" {
                    problems.invalid(format!("{at}.type"), &type_of(property).into(), "must be object");
                }
                let is_known = |keyword: &String| matches!(keyword.as_str(), "type" | "description" | "properties");
                let only_names = properties(property).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
                if level == Level::Root && (!only_names || !property.keys().all(is_known)) {
                    problems
                        .forbidden(at, "must not specify anything other than name and generateName, but metadata is implicitly specified");
                }
            }
            _ => {}
        }
    }
}
