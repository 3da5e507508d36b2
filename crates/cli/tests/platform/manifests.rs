//! Objects that several tests make.

use serde_json::{Value, json};

/// The smallest official image: a shell, Python and the usual tools.
pub(crate) const BASE: &str = "fermion.dev/base:latest";

/// A container `main` that runs a shell script.
pub(crate) fn shell(script: &str) -> Value {
    json!({"name": "main", "image": BASE, "command": ["bash", "-c", script]})
}

/// A container `main` that runs a Python program.
pub(crate) fn python(program: &str) -> Value {
    json!({"name": "main", "image": BASE, "command": ["python3", "-uc", program]})
}

/// Adds fields to an object, in place of those it has.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    let fields = object.as_object_mut().expect("an object");
    for (name, value) in more.as_object().expect("an object") {
        fields.insert(name.clone(), value.clone());
    }
    object
}

/// A pod with the label `app: NAME`. Its containers end at once when they are told to, unless
/// the spec says otherwise.
pub(crate) fn pod(name: &str, spec: Value) -> String {
    let spec = with(json!({"terminationGracePeriodSeconds": 1}), spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}).to_string()
}

/// A volume that stays.
pub(crate) fn claim(name: &str) -> String {
    let spec = json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "64Mi"}}});
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// The entry of `spec.volumes` for a claim, under the claim's name.
pub(crate) fn claim_volume(name: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
}
