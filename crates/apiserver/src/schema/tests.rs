mod core_kinds;
mod keywords;
mod own_kinds;
mod rules;

use serde_json::Value;

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
