//! Defaults must be what the schema accepts: they are filled in where nobody looks at them again.

use serde_json::Value;

use super::{Problems, Schema, properties};
use crate::schema::{Problem, Validator};

pub(super) fn check(path: &str, schema: &Schema, problems: &mut Problems) {
    if let Some(default) = schema.get("default").filter(|_| path.ends_with("openAPIV3Schema")) {
        problems.invalid(format!("{path}.default"), default, "must not be set at the root");
    }
    walk(path, schema, problems);
}

fn walk(path: &str, schema: &Schema, problems: &mut Problems) {
    if let Some(default) = schema.get("default") {
        one(path, schema, default, problems);
    }
    if let Some(Value::Object(items)) = schema.get("items") {
        walk(&format!("{path}.items"), items, problems);
    }
    if let Some(Value::Object(additional)) = schema.get("additionalProperties") {
        walk(&format!("{path}.additionalProperties"), additional, problems);
    }
    for (name, property) in properties(schema) {
        walk(&format!("{path}.properties[{name}]"), property, problems);
    }
}

fn one(path: &str, schema: &Schema, default: &Value, problems: &mut Problems) {
    let at = format!("{path}.default");
    // The schema compiled as a whole, so this part of it does.
    let Ok(validator) = Validator::compile_value(&Value::Object(schema.clone())) else { return };
    for error in validator.validate(default) {
        let at = if error.path == "(root)" { at.clone() } else { format!("{at}.{}", error.path) };
        match error.problem {
            Problem::Unknown => problems.invalid(at, default, "must not have unknown fields"),
            _ => problems.invalid(at, default, error.detail),
        }
    }
    for error in validator.check_rules(default, None) {
        problems.invalid(at.clone(), default, error.detail);
    }
}
