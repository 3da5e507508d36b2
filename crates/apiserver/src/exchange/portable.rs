//! What of an object is exported, and what of a file is written.
//!
//! Left out is what only the server sets, what ties the object to others of this cluster, and the
//! values of Secrets. An import leaves all of it as it is stored.

use serde_json::{Map, Value, json};

use crate::catalog::Resource;

/// The metadata that files hold.
pub(super) const METADATA: [&str; 4] = ["namespace", "name", "labels", "annotations"];
/// Annotations that are not exported and that no import changes: who made the object, which the
/// server writes, and the copies of whole objects that `kubectl apply` and `fermion apply` keep,
/// those of Secrets among them.
const OWN_ANNOTATIONS: [&str; 2] = [fermion_api::labels::CREATED_BY, "kubectl.kubernetes.io/last-applied-configuration"];
/// What a Secret keeps.
const SECRET_VALUES: [&str; 2] = ["data", "stringData"];

impl Resource {
    /// Whether a field at the top of an object is left out of exports because it is secret.
    pub(super) fn is_secret_field(&self, name: &str) -> bool {
        self.is_core("secrets") && SECRET_VALUES.contains(&name)
    }

    /// Whether a field at the top of an object is for an import to write.
    pub(super) fn is_imported_field(&self, name: &str) -> bool {
        match name {
            "apiVersion" | "kind" | "metadata" => false,
            "status" => !self.has_status(),
            _ => true,
        }
    }
}

/// The object without what is secret and what means nothing elsewhere, for a file of JSON. Its
/// status stays, to be read; an import passes over it.
pub(super) fn for_json(resource: &Resource, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| !resource.is_secret_field(name));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        without_own_annotations(metadata);
    }
    object
}

/// Only what a table has columns for: the metadata of [`METADATA`] and what can be imported.
pub(super) fn for_table(resource: &Resource, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| name == "metadata" || (resource.is_imported_field(name) && !resource.is_secret_field(name)));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, _| METADATA.contains(&name.as_str()));
        without_own_annotations(metadata);
    }
    object
}

fn without_own_annotations(metadata: &mut Map<String, Value>) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// Gives an object that is about to be written the annotations which no import changes, as they are
/// in `stored`, and no others of theirs.
pub(super) fn keep_own_annotations(stored: &Value, object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for name in OWN_ANNOTATIONS {
        let kept = stored["metadata"]["annotations"].get(name);
        match (metadata.get_mut("annotations"), kept) {
            (Some(Value::Object(annotations)), Some(value)) => _ = annotations.insert(name.to_owned(), value.clone()),
            (Some(Value::Object(annotations)), None) => _ = annotations.remove(name),
            (None, Some(value)) => _ = metadata.insert("annotations".to_owned(), json!({name: value})),
            // The schema refuses annotations that are something else.
            (Some(_) | None, _) => {}
        }
    }
}

/// An object of a file of JSON over what is stored (or over the beginning of a new one): what the
/// file does not mention stays, field by field at the top and in the metadata.
pub(super) fn over(resource: &Resource, stored: &Value, item: &Value) -> Value {
    let mut object = stored.clone();
    for (name, value) in item.as_object().into_iter().flatten().filter(|(name, _)| resource.is_imported_field(name)) {
        object[name] = value.clone();
    }
    for name in ["labels", "annotations"] {
        if let Some(value) = item["metadata"].get(name) {
            object["metadata"][name] = value.clone();
        }
    }
    keep_own_annotations(stored, &mut object);
    object
}
