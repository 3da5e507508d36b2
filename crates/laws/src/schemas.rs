//! Schemas of kinds that users may define, mostly in order, and objects that mostly fit them.

use serde_json::{Map, Value, json};

use crate::input::{CONFUSING, Input};

/// Levels of a schema.
const LEVELS_MAX: usize = 4;
/// Fields of an object, entries of a list.
const ENTRIES_MAX: usize = 4;

/// Names of fields, some of which mean something as keywords, some to the rules.
const NAMES: &[&str] = &[
    "name",
    "port",
    "items",
    "properties",
    "a",
    "b",
    "a-b",
    "not",
    "nullable",
    "default",
    "kind",
    "metadata",
    "allOf",
    "namespace",
    "$ref",
];

const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maxLength",
    "nullable",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-validations",
    "description",
    "$ref",
    "example",
    "externalDocs",
    "title",
    "multipleOf",
    "uniqueItems",
];

const FORMATS: &[&str] = &["date-time", "int32", "int64", "byte", "uuid", "ipv4", "duration", "quantity", "int-or-string", "x", "double"];
const PATTERNS: &[&str] = &["^[a-z]*$", ".", "(", "a{2}", "\\d+"];

/// Rules, with places for the names of fields.
const RULES: &[&str] = &[
    "true",
    "self == oldSelf",
    "has(self.a)",
    "self.name.size() < 5",
    "self.all(x, x == x)",
    "self.size() >= 0",
    "self.port > 0 || true",
    "oldSelf == null",
    "self.",
    "self.map(x, x).size() == self.size()",
    "!has(self.b) || self.b == self.b",
    "type(self) == string",
];

/// The schema of a whole object.
pub(crate) fn of_object(input: &mut Input<'_>) -> Value {
    let mut schema = json!({"type": "object", "properties": {}});
    for name in ["spec", "status"] {
        schema["properties"][name] = any(input, LEVELS_MAX);
    }
    spoil(input, &mut schema);
    schema
}

fn any(input: &mut Input<'_>, levels: usize) -> Value {
    let choices = if levels == 0 { 5 } else { 10 };
    let mut schema = match input.below(choices) {
        0 => text(input),
        1 => number(input),
        2 => json!({"type": "boolean"}),
        3 => json!({"x-kubernetes-int-or-string": true}),
        4 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        5 | 6 => object(input, levels - 1),
        7 => {
            let mut map = json!({"type": "object", "additionalProperties": any(input, levels - 1)});
            if input.once_in(4) {
                map["x-kubernetes-map-type"] = "atomic".into();
            }
            map
        }
        8 => keyed_list(input, levels - 1),
        _ => list(input, levels - 1),
    };
    if input.once_in(8) {
        schema["nullable"] = true.into();
    }
    if input.once_in(6) {
        schema["default"] = fitting(input, &schema);
    }
    if input.once_in(10) {
        schema["description"] = input.pick(&CONFUSING).into();
    }
    if input.once_in(6) {
        schema["x-kubernetes-validations"] = json!([{"rule": input.pick(RULES), "message": "it does not hold"}]);
    }
    if input.once_in(12) {
        let alternatives: Vec<Value> = (0..=input.below(2)).map(|_| restriction(input, &schema)).collect();
        schema[input.pick(&["allOf", "anyOf", "oneOf"])] = alternatives.into();
    }
    if input.once_in(16) {
        schema["not"] = restriction(input, &schema);
    }
    spoil(input, &mut schema);
    schema
}

/// Now and then something that does not belong there.
fn spoil(input: &mut Input<'_>, schema: &mut Value) {
    if input.once_in(20) {
        schema[input.pick(KEYWORDS)] = input.json(KEYWORDS);
    }
}

fn text(input: &mut Input<'_>) -> Value {
    let mut schema = json!({"type": "string"});
    match input.below(8) {
        0..3 => {}
        3 => schema["format"] = input.pick(FORMATS).into(),
        4 => schema["pattern"] = input.pick(PATTERNS).into(),
        5 => schema["enum"] = json!([input.pick(&CONFUSING), "a", "b"]),
        6 => schema["minLength"] = input.below(3).into(),
        _ => schema["maxLength"] = input.byte().into(),
    }
    schema
}

fn number(input: &mut Input<'_>) -> Value {
    let mut schema = json!({"type": input.pick(&["integer", "number"])});
    match input.below(8) {
        0..3 => {}
        3 => schema["format"] = input.pick(FORMATS).into(),
        4 => schema["minimum"] = input.number(),
        5 => schema["maximum"] = input.number(),
        6 => schema["multipleOf"] = input.number(),
        _ => schema["enum"] = json!([1, input.number()]),
    }
    schema
}

fn object(input: &mut Input<'_>, levels: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..input.below(ENTRIES_MAX + 1) {
        properties.insert(input.pick(NAMES).to_owned(), any(input, levels));
    }
    let mut schema = json!({"type": "object"});
    let required: Vec<&String> = properties.keys().filter(|_| input.once_in(5)).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["properties"] = properties.into();
    if input.once_in(10) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if input.once_in(12) {
        schema["x-kubernetes-embedded-resource"] = true.into();
    }
    schema
}

fn list(input: &mut Input<'_>, levels: usize) -> Value {
    let mut schema = json!({"type": "array", "items": any(input, levels)});
    match input.below(6) {
        0 => schema["x-kubernetes-list-type"] = "set".into(),
        1 => schema["x-kubernetes-list-type"] = "atomic".into(),
        2 => schema["maxItems"] = input.below(10).into(),
        3 => schema["minItems"] = input.below(3).into(),
        _ => {}
    }
    schema
}

fn keyed_list(input: &mut Input<'_>, levels: usize) -> Value {
    let mut item = object(input, levels);
    item["properties"]["name"] = json!({"type": "string"});
    let mut keys = vec!["name"];
    if input.once_in(3) {
        item["properties"]["port"] = json!({"type": "integer", "default": 80});
        keys.push("port");
    }
    item["required"] = json!(["name"]);
    json!({"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
}

/// What `anyOf` and the like may hold: values, no structure.
fn restriction(input: &mut Input<'_>, of: &Value) -> Value {
    match input.below(5) {
        0 => json!({"minLength": 1}),
        1 => json!({"maximum": input.number()}),
        2 => json!({"enum": [input.json(NAMES)]}),
        3 => of["properties"]
            .as_object()
            .and_then(|fields| fields.keys().next())
            .map_or_else(|| json!({}), |name| json!({"required": [name]})),
        _ => json!({"pattern": input.pick(PATTERNS)}),
    }
}

/// A value that mostly fits a schema.
pub(crate) fn fitting(input: &mut Input<'_>, schema: &Value) -> Value {
    if input.once_in(24) {
        return input.json(NAMES);
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.is_empty()) {
        return allowed[input.below(allowed.len())].clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "string" if schema["format"].is_string() => {
            input.pick(&["2026-01-02T03:04:05Z", "1h", "10.0.0.1", "AQID", "01234567-89ab-cdef-0123-456789abcdef", "1.5Gi"]).into()
        }
        "string" => input.pick(&["a", "b", "", "aa", "7"]).into(),
        "integer" => input.below(100).into(),
        "number" => json!(1.5),
        "boolean" => input.once_in(2).into(),
        "array" => (0..input.below(ENTRIES_MAX)).map(|_| fitting(input, &schema["items"])).collect(),
        "object" => {
            let mut fields = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let is_required = schema["required"].as_array().is_some_and(|required| required.contains(&Value::from(name.as_str())));
                if is_required || input.below(3) > 0 {
                    fields.insert(name.clone(), fitting(input, property));
                }
            }
            if schema["additionalProperties"].is_object() {
                for _ in 0..input.below(ENTRIES_MAX) {
                    fields.insert(input.pick(NAMES).to_owned(), fitting(input, &schema["additionalProperties"]));
                }
            }
            if schema["x-kubernetes-preserve-unknown-fields"] == true {
                fields.extend(input.object(NAMES));
            }
            Value::Object(fields)
        }
        _ => input.pick(&[json!(5), json!("50%")].each_ref()).clone(),
    }
}
