//! Schemas of the built-in kinds, made from their Rust types.

use serde_json::{Map, Value, json};

/// What the derived schemas do not say: definitions by name, and the keywords to add.
///
/// The validator and `kubectl explain` know quantities by their format; the others are objects
/// with any fields, which the derived schema leaves bare.
const ADDITIONS: [(&str, &str, &str); 5] = [
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "format", "quantity"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "format", "int-or-string"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "x-kubernetes-preserve-unknown-fields", ""),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "x-kubernetes-preserve-unknown-fields", ""),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "x-kubernetes-preserve-unknown-fields", ""),
];

/// A value of any type.
const ANY_VALUE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// The schema of a built-in kind, with descriptions: self-contained, its parts in `$defs` under
/// their Kubernetes names (`io.k8s.api.core.v1.PodSpec`) and referred to by `$ref`, so that
/// `kubectl explain` can name them.
pub fn for_core<T: schemars::JsonSchema>() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    let Some(root) = schema.as_object_mut() else {
        return schema;
    };
    root.remove("$schema");
    root.remove("title");
    // Every object has metadata in the end; a client need not send an empty one.
    if let Some(Value::Array(required)) = root.get_mut("required") {
        required.retain(|name| name != "metadata");
        if required.is_empty() {
            root.remove("required");
        }
    }
    if let Some(Value::Object(definitions)) = root.get_mut("$defs") {
        add_what_is_missing(definitions);
        // The derived schema takes any value for an object.
        if let Some(Value::Object(definition)) = definitions.get_mut(ANY_VALUE) {
            definition.remove("type");
        }
    }
    schema
}

fn add_what_is_missing(definitions: &mut Map<String, Value>) {
    for (name, keyword, text) in ADDITIONS {
        if let Some(Value::Object(definition)) = definitions.get_mut(name) {
            let value = if text.is_empty() { json!(true) } else { json!(text) };
            definition.insert(keyword.to_owned(), value);
        }
    }
}
