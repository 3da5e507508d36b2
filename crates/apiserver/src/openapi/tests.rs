use std::collections::HashSet;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

use super::{OpenApi, OpenApiKind};
use crate::schema::for_core;

const ALL_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn core_kinds() -> Vec<OpenApiKind> {
    let core = |kind: &str, plural: &str, schema: Value, subresources: &[&str]| OpenApiKind {
        group: String::new(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        namespaced: true,
        schema,
        subresources: strings(subresources),
        verbs: strings(&ALL_VERBS),
    };
    vec![
        core("Pod", "pods", for_core::<Pod>(), &["status", "exec", "log", "binding", "eviction"]),
        core("ConfigMap", "configmaps", for_core::<ConfigMap>(), &[]),
    ]
}

/// The documents of some core kinds and of all our own.
fn documents() -> OpenApi {
    let own = fermion_api::registry::kinds().into_iter().map(|kind| OpenApiKind {
        group: kind.group,
        version: kind.version,
        list_kind: format!("{}List", kind.kind),
        kind: kind.kind,
        plural: kind.plural,
        namespaced: kind.namespaced,
        schema: kind.schema,
        subresources: strings(&["status", "scale"]),
        verbs: strings(&ALL_VERBS),
    });
    OpenApi::new(core_kinds().into_iter().chain(own).collect())
}

fn parsed(documents: &OpenApi, path: &str) -> Value {
    serde_json::from_slice(&documents.document(path).unwrap()).unwrap()
}

#[test]
fn the_index_names_every_document_by_its_content() {
    let documents = documents();
    let index: Value = serde_json::from_slice(&documents.index()).unwrap();
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1"));
    assert!(paths.contains_key("apis/ai.fermion.dev/v1alpha1"));
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let hash = url.strip_prefix(&format!("/openapi/v3/{path}?hash=")).unwrap();
        assert_eq!(hash.len(), 64);
        assert!(documents.document(path).is_some());
    }
    assert_eq!(documents.document("apis/nothing/v1"), None);
    let core = OpenApi::new(core_kinds());
    assert_eq!(core.document("api/v1"), documents.document("api/v1"), "the same kinds make the same documents");
}

#[test]
fn every_reference_leads_to_a_schema_and_every_operation_has_its_own_id() {
    let documents = documents();
    for path in ["api/v1", "apis/ai.fermion.dev/v1alpha1", "apis/compute.fermion.dev/v1alpha1"] {
        let document = parsed(&documents, path);
        let mut open = vec![&document];
        let mut ids = HashSet::new();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{path}: {reference}");
                        assert_eq!(fields.len(), 1, "{path}: {fields:?}");
                    }
                    if let Some(Value::String(id)) = fields.get("operationId") {
                        assert!(ids.insert(id), "{path}: {id}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(!ids.is_empty());
    }
}

#[test]
fn patches_name_their_kind_and_say_that_fields_are_validated() {
    let documents = documents();
    for (document, path, group, version, kind) in [
        ("api/v1", "/api/v1/namespaces/{namespace}/pods/{name}", "", "v1", "Pod"),
        (
            "apis/ai.fermion.dev/v1alpha1",
            "/apis/ai.fermion.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}",
            "ai.fermion.dev",
            "v1alpha1",
            "TrainingJob",
        ),
        (
            "apis/compute.fermion.dev/v1alpha1",
            "/apis/compute.fermion.dev/v1alpha1/queues/{name}",
            "compute.fermion.dev",
            "v1alpha1",
            "Queue",
        ),
    ] {
        let document = parsed(&documents, document);
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": group, "version": version, "kind": kind}), "{path}");
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"), "{path}");
        let strategic = patch["requestBody"]["content"].get("application/strategic-merge-patch+json");
        assert_eq!(strategic.is_some(), group.is_empty(), "{path}");
    }
}

#[test]
fn every_kind_has_its_paths() {
    let document = parsed(&OpenApi::new(core_kinds()), "api/v1");
    let methods = |path: &str| -> Vec<String> {
        let entry = document["paths"][path].as_object().unwrap_or_else(|| panic!("no {path}"));
        entry.keys().filter(|key| *key != "parameters").cloned().collect()
    };
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods"), ["delete", "get", "post"]);
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods/{name}"), ["delete", "get", "patch", "put"]);
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods/{name}/status"), ["get", "patch", "put"]);
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods/{name}/exec"), ["get", "post"]);
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods/{name}/log"), ["get"]);
    assert_eq!(methods("/api/v1/namespaces/{namespace}/pods/{name}/binding"), ["post"]);
    assert_eq!(methods("/api/v1/pods"), ["get"]);
}

#[test]
fn kinds_can_be_found_by_their_name_and_explained() {
    let document = parsed(&documents(), "apis/ai.fermion.dev/v1alpha1");
    let schemas = &document["components"]["schemas"];
    let job = &schemas["dev.fermion.ai.v1alpha1.TrainingJob"];
    assert_eq!(job["x-kubernetes-group-version-kind"], json!([{"group": "ai.fermion.dev", "version": "v1alpha1", "kind": "TrainingJob"}]));
    assert!(job["properties"]["spec"]["properties"]["roles"]["description"].is_string());
    assert_eq!(
        job["properties"]["metadata"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
    );
    assert_eq!(job["description"], job["properties"]["spec"]["description"]);
    let list = &schemas["dev.fermion.ai.v1alpha1.TrainingJobList"];
    assert_eq!(list["properties"]["items"]["items"], json!({"$ref": "#/components/schemas/dev.fermion.ai.v1alpha1.TrainingJob"}));
}

#[test]
fn pod_templates_inside_own_kinds_have_their_name_and_stand_there_once() {
    let documents = documents();
    let document = parsed(&documents, "apis/ai.fermion.dev/v1alpha1");
    let schemas = &document["components"]["schemas"];
    let template =
        &schemas["dev.fermion.ai.v1alpha1.TrainingJob"]["properties"]["spec"]["properties"]["roles"]["items"]["properties"]["template"];
    let reference = json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"});
    assert!(template == &reference || template["allOf"] == json!([reference]), "{}", &template.to_string()[..500]);
    let limits = &schemas["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"];
    assert_eq!(limits["additionalProperties"], json!({"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}));
    let bytes = documents.document("apis/ai.fermion.dev/v1alpha1").unwrap().len();
    assert!(bytes < 400_000, "{bytes}");
}

#[test]
fn documents_of_custom_kinds_are_shared_while_their_kinds_stay() {
    let custom = |plural: &str| {
        std::sync::Arc::new(OpenApiKind {
            group: "example.org".to_owned(),
            version: "v1".to_owned(),
            kind: "Widget".to_owned(),
            list_kind: "Widgets".to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
            schema: json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"not": {"type": "string"}}}}}),
            subresources: Vec::new(),
            verbs: strings(&ALL_VERBS),
        })
    };
    let core = OpenApi::new(core_kinds());
    let one = custom("widgets");
    let first = core.with(std::slice::from_ref(&one), None);
    let hash = first.hash("apis/example.org/v1").unwrap().to_owned();
    assert!(String::from_utf8(first.index().to_vec()).unwrap().contains(&format!("/openapi/v3/apis/example.org/v1?hash={hash}")));
    let again = core.with(&[one], Some(&first));
    let body = |documents: &OpenApi, path: &str| documents.document(path).unwrap().as_ptr();
    assert_eq!(body(&again, "apis/example.org/v1"), body(&first, "apis/example.org/v1"), "nothing is made twice");
    assert_eq!(body(&again, "api/v1"), body(&core, "api/v1"));
    let changed = core.with(&[custom("gadgets")], Some(&again));
    assert_ne!(changed.hash("apis/example.org/v1"), Some(hash.as_str()));
    assert!(changed.document("apis/example.org/v1").is_some() && core.document("apis/example.org/v1").is_none());
}

#[test]
fn version_2_is_one_document_without_what_it_does_not_know() {
    let document: Value = serde_json::from_slice(&documents().version_2().0).unwrap();
    assert_eq!(document["swagger"], "2.0");
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let name = reference.strip_prefix("#/definitions/").unwrap_or_else(|| panic!("{reference}"));
                    assert!(document["definitions"].get(name).is_some(), "{reference}");
                }
                assert!(!fields.contains_key("requestBody") && !fields.contains_key("content"), "{fields:?}");
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    let create = &document["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"];
    let body = create["parameters"].as_array().unwrap().iter().find(|parameter| parameter["in"] == "body").unwrap();
    assert_eq!(body["schema"], json!({"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}));
    assert_eq!(create["responses"]["201"]["schema"], json!({"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}));
    assert!(document["definitions"]["dev.fermion.ai.v1alpha1.TrainingJob"]["properties"]["spec"]["properties"]["roles"].is_object());
}

/// What kubectl asks of every schema before it reads any of them: kube-openapi's `pkg/util/proto/document.go`.
#[test]
fn version_2_is_a_document_that_kubectl_reads() {
    let documents = documents();
    let document: Value = serde_json::from_slice(&documents.version_2().0).unwrap();
    let definitions = document["definitions"].as_object().unwrap();
    let mut open: Vec<(String, &Value)> = definitions.iter().map(|(name, schema)| (name.clone(), schema)).collect();
    while let Some((at, schema)) = open.pop() {
        let fields = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema}"));
        if fields.contains_key("$ref") {
            assert!(!fields.contains_key("type") && !fields.contains_key("properties"), "{at}: {schema}");
            continue;
        }
        match fields.get("type") {
            None => {}
            Some(Value::String(of)) if of == "array" => assert!(fields.get("items").is_some_and(Value::is_object), "{at}: {schema}"),
            Some(Value::String(of)) => {
                assert!(["object", "string", "number", "integer", "boolean"].contains(&of.as_str()), "{at}: {schema}");
            }
            Some(other) => panic!("{at}: {other} is no type"),
        }
        for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            open.push((format!("{at}.{name}"), property));
        }
        for part in ["items", "additionalProperties"] {
            open.extend(fields.get(part).filter(|part| part.is_object()).map(|schema| (format!("{at}.{part}"), schema)));
        }
    }
    let (protobuf, hash) = documents.version_2_protobuf();
    assert!(protobuf.starts_with(b"\x0a\x032.0"), "it begins with its version");
    assert_ne!(hash, documents.version_2().1);
    assert_eq!(protobuf.as_ptr(), documents.version_2_protobuf().0.as_ptr(), "it is made once");
}
