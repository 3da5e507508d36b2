//! Definitions of kinds: what passes the checks can be served, described in both versions of
//! OpenAPI, and its objects can be checked.

use fermion_apiserver::inside::{OwnSchemas, Served, try_definition};
use fermion_apiserver::openapi::OpenApi;
use fermion_apiserver::schema::Problem;
use serde_json::{Map, Value, json};

use crate::input::Input;
use crate::schemas;

/// Objects that are held against one schema.
const OBJECTS: usize = 3;

/// One input in so many has its whole documents looked at, those that bytes of this sum choose.
/// They are megabytes of text, of which all but the kind's own schemas is the same each time.
const WHOLE_ONCE_IN: u32 = 32;

/// Keywords of schemas that version 2 does not have.
const NOT_IN_VERSION_2: [&str; 4] = ["anyOf", "not", "nullable", "oneOf"];

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let schema = schemas::of_object(&mut input);
    let Ok(served) = try_definition(definition(&mut input, &schema)) else { return };
    if bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>().is_multiple_of(WHOLE_ONCE_IN) {
        describe(&served, &schema);
    }
    for served in &served {
        describe_alone(served, &schema);
        for _ in 0..OBJECTS {
            let mut object = schemas::fitting(&mut input, &schema);
            hold(served, &mut object, &mut input, &schema);
        }
    }
}

/// A definition with this schema.
pub(crate) fn definition(input: &mut Input<'_>, schema: &Value) -> Value {
    let mut version = json!({
        "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
    });
    if input.once_in(2) {
        version["subresources"]["status"] = json!({});
    }
    if input.once_in(4) {
        version["subresources"]["scale"] = json!({"specReplicasPath": ".spec.a", "statusReplicasPath": ".status.a"});
    }
    if input.once_in(4) {
        version["additionalPrinterColumns"] =
            json!([{"name": "A", "type": "string", "jsonPath": input.pick(&[".spec.a", ".spec[0]", "x["])}]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.example.org", "generation": 1},
        "spec": {
            "group": "example.org",
            "names": {"plural": "probes", "kind": "Probe"},
            "scope": input.pick(&["Namespaced", "Cluster"]),
            "versions": [version],
        },
    })
}

/// Holds the kind's own schemas against what OpenAPI says of itself.
fn describe_alone(served: &Served, schema: &Value) {
    let OwnSchemas { version_3, version_2, protobuf } = OwnSchemas::of(served.openapi.clone());
    refer_among(&version_3, "#/components/schemas/", schema);
    refer_among(&version_2, "#/definitions/", schema);
    assert!(version_3.keys().eq(version_2.keys()), "{schema}");
    assert!(!protobuf.is_empty(), "{schema}");
    for (name, definition) in &version_2 {
        known_in_version_2(definition, name, schema);
    }
}

/// Every reference leads to one of the schemas, or to one that every document has.
fn refer_among(schemas: &Map<String, Value>, prefix: &str, schema: &Value) {
    let mut open: Vec<&Value> = schemas.values().collect();
    while let Some(value) = open.pop() {
        if let Some(reference) = value.get("$ref") {
            let target = reference.as_str().and_then(|target| target.strip_prefix(prefix));
            let leads = target.is_some_and(|target| schemas.contains_key(target) || OwnSchemas::SHARED.contains(&target));
            assert!(leads, "{reference} leads nowhere: {schema}");
        }
        open.extend(parts(value));
    }
}

/// Holds the documents against what OpenAPI says of itself.
fn describe(served: &[Served], schema: &Value) {
    let documents = OpenApi::new(served.iter().map(|served| served.openapi.clone()).collect());
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("a document is JSON");
    let version_3 = parse(&documents.document("apis/example.org/v1").expect("a document of the group"));
    closed(&version_3, "#/components/schemas/", schema);
    let version_2 = parse(&documents.version_2().0);
    assert!(!documents.version_2_protobuf().0.is_empty(), "{schema}");
    closed(&version_2, "#/definitions/", schema);
    let definitions = version_2["definitions"].as_object().expect("definitions");
    assert_eq!(definitions.len(), version_3["components"]["schemas"].as_object().map_or(0, serde_json::Map::len), "{schema}");
    for (name, definition) in definitions {
        known_in_version_2(definition, name, schema);
    }
    assert_eq!(
        version_2["paths"].as_object().map(|paths| paths.keys().collect::<Vec<_>>()),
        version_3["paths"].as_object().map(|paths| paths.keys().collect::<Vec<_>>()),
        "{schema}"
    );
}

/// Every reference of a schema leads to another one of the document.
fn closed(document: &Value, prefix: &str, schema: &Value) {
    let mut open: Vec<&Value> = schemas_of(document);
    while let Some(value) = open.pop() {
        if let Some(reference) = value.get("$ref") {
            let target = reference.as_str().filter(|target| target.starts_with(prefix)).and_then(|target| document.pointer(&target[1..]));
            assert!(target.is_some(), "{reference} leads nowhere: {schema}");
        }
        open.extend(parts(value));
    }
}

/// All schemas at the top of a document, and in its paths.
fn schemas_of(document: &Value) -> Vec<&Value> {
    let named = [&document["components"]["schemas"], &document["definitions"]];
    let mut found: Vec<&Value> = named.into_iter().filter_map(Value::as_object).flatten().map(|(_, schema)| schema).collect();
    let mut open = vec![&document["paths"]];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "schema" { found.push(value) } else { open.push(value) }
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

/// The schemas right inside of a schema.
fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let maps = ["properties"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_object()).flatten().map(|(_, schema)| schema);
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_array()).flatten();
    let single = ["items", "additionalProperties", "not"].into_iter().filter_map(|keyword| schema.get(keyword));
    maps.chain(lists).chain(single)
}

fn known_in_version_2(definition: &Value, name: &str, schema: &Value) {
    let mut open = vec![definition];
    while let Some(value) = open.pop() {
        for keyword in NOT_IN_VERSION_2 {
            assert!(value.get(keyword).is_none(), "{name} has {keyword} in version 2: {value} of {schema}");
        }
        open.extend(parts(value));
    }
}

/// Takes an object through what a write of it goes through.
fn hold(served: &Served, object: &mut Value, input: &mut Input<'_>, schema: &Value) {
    if !object.is_object() {
        return;
    }
    object["apiVersion"] = "example.org/v1".into();
    object["kind"] = "Probe".into();
    object["metadata"] = json!({"name": "probe"});
    let validator = &served.validator;
    let sent = object.clone();
    let about = || format!("{sent} by {schema}");
    validator.default(object);
    let once = object.clone();
    validator.default(object);
    assert_eq!(*object, once, "defaults are filled in once: {}", about());
    let before = validator.validate(object);
    let dropped = validator.prune(object);
    if before.iter().all(|error| error.problem == Problem::Unknown) {
        assert_eq!(dropped.len(), before.len(), "what is unknown is dropped: {dropped:?}: {}", about());
    }
    let problems = validator.validate(object);
    assert!(problems.iter().all(|error| error.problem != Problem::Unknown), "{problems:?}: {}", about());
    let pruned = object.clone();
    assert!(validator.prune(object).is_empty() && *object == pruned, "{}", about());
    // Objects that a client sends without defaults are as good as those that it got.
    validator.default(object);
    if !dropped.is_empty() {
        return;
    }
    assert_eq!(*object, pruned, "{}", about());
    if problems.is_empty() {
        let old = schemas::fitting(input, schema);
        let broken = validator.check_rules(object, None);
        assert_eq!(broken.len(), validator.check_rules(object, None).len(), "{}", about());
        if old.is_object() && validator.validate(&old).is_empty() {
            validator.check_rules(object, Some(&old));
        }
        validator.check_rules(object, Some(object));
    }
}
