//! OpenAPI v2 (Swagger) out of the documents of v3.
//!
//! Version 2 has no alternatives (`oneOf`, `anyOf`, `not`) and no `nullable`; what used them is
//! described without. Bodies are parameters there, and schemas stand under `definitions`.

pub(super) mod protobuf;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Keywords of schemas that version 2 does not have.
const UNKNOWN: [&str; 4] = ["anyOf", "not", "nullable", "oneOf"];

/// One document of all.
pub(super) fn document<'a>(documents: impl Iterator<Item = &'a Bytes>) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for body in documents {
        // These are documents that this program wrote.
        let Ok(mut document) = serde_json::from_slice::<Value>(body) else { continue };
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            for (name, schema) in schemas {
                definitions.entry(name).or_insert_with(|| self::schema(schema));
            }
        }
        if let Value::Object(found) = document["paths"].take() {
            paths.extend(found.into_iter().map(|(address, operations)| (address, path(operations))));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Fermion", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header",
            "description": "Bearer Token authentication"}},
        "security": [{"BearerToken": []}],
    })
}

/// A schema of version 3, as far as version 2 can say it.
pub(super) fn schema(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            // A reference with a description around it: version 2 has only the reference.
            if let Some(Value::Array(parts)) = fields.get("allOf")
                && let [Value::Object(only)] = parts.as_slice()
                && let Some(Value::String(target)) = only.get("$ref")
            {
                let reference = json!(renamed(target));
                let description = fields.remove("description");
                let mut fields = Map::from_iter([("$ref".to_owned(), reference)]);
                fields.extend(description.map(|description| ("description".to_owned(), description)));
                return Value::Object(fields);
            }
            fields.retain(|keyword, _| !UNKNOWN.contains(&keyword.as_str()));
            // Clients that check objects by this document refuse every property that it does not name.
            if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
                fields.remove("properties");
            }
            // And they read no document in which a list does not say what it holds.
            if fields.get("type").is_some_and(|of| *of == "array") && !fields.contains_key("items") {
                fields.remove("type");
            }
            let converted = fields.into_iter().map(|(keyword, value)| match (keyword.as_str(), value) {
                ("$ref", Value::String(target)) => (keyword, renamed(&target).into()),
                ("properties", Value::Object(properties)) => {
                    (keyword, properties.into_iter().map(|(name, property)| (name, schema(property))).collect())
                }
                // Values, not schemas.
                ("default" | "enum" | "example", value) => (keyword, value),
                (_, value) => (keyword, schema(value)),
            });
            Value::Object(converted.collect())
        }
        Value::Array(items) => items.into_iter().map(schema).collect(),
        scalar => scalar,
    }
}

fn renamed(reference: &str) -> String {
    reference.replacen("#/components/schemas/", "#/definitions/", 1)
}

fn path(operations: Value) -> Value {
    let Value::Object(operations) = operations else { return operations };
    let converted = operations.into_iter().map(|(method, operation)| match method.as_str() {
        "parameters" => (method, parameters(operation)),
        _ => (method, self::operation(operation)),
    });
    Value::Object(converted.collect())
}

/// A parameter's schema stands beside its name in version 2.
fn parameters(parameters: Value) -> Value {
    let Value::Array(parameters) = parameters else { return parameters };
    let flat = parameters.into_iter().map(|mut parameter| {
        if let Value::Object(schema) = parameter["schema"].take()
            && let Value::Object(fields) = &mut parameter
        {
            fields.remove("schema");
            fields.extend(schema);
        }
        parameter
    });
    flat.collect()
}

fn operation(mut operation: Value) -> Value {
    let Value::Object(fields) = &mut operation else { return operation };
    let mut listed = match fields.remove("parameters").map(parameters) {
        Some(Value::Array(listed)) => listed,
        _ => Vec::new(),
    };
    if let Some(Value::Object(mut body)) = fields.remove("requestBody") {
        let content = body.remove("content").unwrap_or_default();
        let is_required = body.get("required") == Some(&Value::Bool(true));
        let media: Vec<&String> = content.as_object().into_iter().flatten().map(|(media, _)| media).collect();
        fields.insert("consumes".to_owned(), json!(media));
        let first = content.as_object().and_then(|content| content.values().next()).map(|media| media["schema"].clone());
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema(first.unwrap_or_default())});
        if is_required {
            parameter["required"] = true.into();
        }
        listed.push(parameter);
    }
    if !listed.is_empty() {
        fields.insert("parameters".to_owned(), listed.into());
    }
    let mut produces = Vec::new();
    if let Some(Value::Object(responses)) = fields.get_mut("responses") {
        for response in responses.values_mut() {
            let content = response["content"].take();
            if let Value::Object(response) = response {
                response.remove("content");
                if let Some((media, first)) = content.as_object().and_then(|content| content.iter().next()) {
                    response.insert("schema".to_owned(), schema(first["schema"].clone()));
                    if !produces.contains(media) {
                        produces.push(media.clone());
                    }
                }
            }
        }
    }
    fields.insert("produces".to_owned(), json!(produces));
    fields.insert("schemes".to_owned(), json!(["https"]));
    operation
}
