mod core_kinds;
mod keywords;
mod own_kinds;
mod rules;

use serde_json::{Value, json};

use super::{Problem, Validator};

/// The problems found, as `path: sort`.
fn problems(validator: &Validator, object: &Value) -> Vec<String> {
    let mut found: Vec<String> = validator
        .validate(object)
        .into_iter()
        .map(|error| {
            let sort = match error.problem {
                Problem::Type { expected, found } => format!("{expected}, not {found}"),
                other => format!("{other:?}"),
            };
            format!("{}: {sort}", error.path)
        })
        .collect();
    found.sort();
    found
}

#[track_caller]
fn check(validator: &Validator, object: &Value, expected: &[&str]) {
    assert_eq!(problems(validator, object), expected, "{object}");
}

fn from_yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn parts_that_say_the_same_are_kept_once() {
    let probe = json!({"type": "object", "properties": {"port": {"type": "integer"}, "path": {"type": "string"}}, "required": ["port"]});
    let size = |probes: &[&str]| {
        let properties: serde_json::Map<String, Value> = probes.iter().map(|name| ((*name).to_owned(), probe.clone())).collect();
        Validator::compile(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}))
            .unwrap()
            .nodes
            .len()
    };
    assert_eq!(size(&["a"]), size(&["a", "b", "c"]));
    // What is shared is still checked wherever it stands.
    let schema = json!({"type": "object", "properties": {"one": probe, "two": probe}});
    let object = json!({"one": {"port": 1}, "two": {"path": 2}});
    check(&Validator::compile(&schema).unwrap(), &object, &["two.path: string, not integer", "two.port: Required"]);
}
