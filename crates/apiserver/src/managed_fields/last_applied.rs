//! The change from client-side to server-side apply: `kubectl apply` keeps what it applied in an
//! annotation, and may take those fields over when it applies by the server.

use serde_json::{Map, Value};

use super::compare::compare;
use super::extract::extract_stored;
use super::field_set::FieldSet;
use super::types::FieldTypes;

/// The manager for which the annotation is kept: `kubectl apply --server-side`.
pub(super) const MANAGER: &str = "kubectl";
/// Where `kubectl apply` keeps what it applied.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most bytes of all annotations; a longer configuration is not kept.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

/// The fields that client-side apply set and that still are as it set them.
pub(super) fn owned(types: &FieldTypes, live: &Value, api_version: &str) -> Option<FieldSet> {
    let text = live["metadata"]["annotations"][ANNOTATION].as_str()?;
    let configuration: Value = serde_json::from_str(text).ok()?;
    if configuration["apiVersion"] != api_version {
        return None;
    }
    let differing = compare(types.root(), &configuration, live);
    Some(extract_stored(types.root(), &configuration).difference(&differing.changed).difference(&differing.removed))
}

/// Keeps the annotation true when kubectl applies by the server, so that one may go back to
/// client-side apply. An object without the annotation gets none.
pub(super) fn keep(object: &mut Value, manager: &str, configuration: &Value) {
    if manager != MANAGER {
        return;
    }
    let Some(annotations) = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")).and_then(Value::as_object_mut)
    else {
        return;
    };
    if !annotations.contains_key(ANNOTATION) {
        return;
    }
    let mut configuration = configuration.clone();
    if let Some(own) = configuration.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")).and_then(Value::as_object_mut)
    {
        own.remove(ANNOTATION);
    }
    let text = configuration.to_string() + "\n";
    let others: usize = size_of_all(annotations);
    if others + text.len() <= ANNOTATION_BYTES_MAX {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    } else {
        annotations.remove(ANNOTATION);
    }
}

fn size_of_all(annotations: &Map<String, Value>) -> usize {
    annotations.iter().filter(|(name, _)| *name != ANNOTATION).map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
}
