//! Rows of roles and bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::core_kinds::{created, list, name, text};

/// Roles say when they were made to the second, as kubectl shows it.
pub(super) fn role(role: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(role), json!(text(role, "/metadata/creationTimestamp").unwrap_or_default())]
}

pub(super) fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(binding, "/roleRef/kind").unwrap_or_default(), text(binding, "/roleRef/name").unwrap_or_default());
    let of = |kind: &str, names: fn(&Value) -> String| -> Value {
        let subjects = list(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == Some(kind));
        json!(subjects.map(names).collect::<Vec<_>>().join(", "))
    };
    let plain: fn(&Value) -> String = |subject| text(subject, "/name").unwrap_or_default().to_owned();
    let placed: fn(&Value) -> String =
        |subject| format!("{}/{}", text(subject, "/namespace").unwrap_or_default(), text(subject, "/name").unwrap_or_default());
    vec![name(binding), json!(role), created(binding, now), of("User", plain), of("Group", plain), of("ServiceAccount", placed)]
}
