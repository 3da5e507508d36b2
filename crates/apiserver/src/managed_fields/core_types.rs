//! Which lists and maps of Kubernetes' own types are merged: what its OpenAPI document says in
//! `x-kubernetes-list-type` and the like, and the schemas made from the Rust types leave out.
//!
//! The tables follow the markers of Kubernetes' API types (1.33). A list that stands in none is
//! atomic; a map or object that stands in none is merged field by field.

use serde_json::{Map, Value, json};

/// Lists whose items are told apart by keys: type, field, keys.
const MAP_LISTS: [(&str, &str, &[&str]); 42] = [
    ("CSINodeSpec", "drivers", &["name"]),
    ("Container", "env", &["name"]),
    ("Container", "ports", &["containerPort", "protocol"]),
    ("Container", "volumeDevices", &["devicePath"]),
    ("Container", "volumeMounts", &["mountPath"]),
    ("ContainerStatus", "allocatedResourcesStatus", &["name"]),
    ("ContainerStatus", "volumeMounts", &["mountPath"]),
    ("CustomResourceDefinitionStatus", "conditions", &["type"]),
    ("DaemonSetStatus", "conditions", &["type"]),
    ("DeploymentStatus", "conditions", &["type"]),
    ("EphemeralContainer", "env", &["name"]),
    ("EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("JobStatus", "conditions", &["type"]),
    ("JSONSchemaProps", "x-kubernetes-validations", &["rule"]),
    ("NamespaceStatus", "conditions", &["type"]),
    ("NodeStatus", "addresses", &["type"]),
    ("NodeStatus", "conditions", &["type"]),
    ("ObjectMeta", "ownerReferences", &["uid"]),
    ("PersistentVolumeClaimStatus", "conditions", &["type"]),
    ("PodDisruptionBudgetStatus", "conditions", &["type"]),
    ("PodSpec", "containers", &["name"]),
    ("PodSpec", "ephemeralContainers", &["name"]),
    ("PodSpec", "hostAliases", &["ip"]),
    ("PodSpec", "imagePullSecrets", &["name"]),
    ("PodSpec", "initContainers", &["name"]),
    ("PodSpec", "resourceClaims", &["name"]),
    ("PodSpec", "schedulingGates", &["name"]),
    ("PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("PodSpec", "volumes", &["name"]),
    ("PodStatus", "conditions", &["type"]),
    ("PodStatus", "hostIPs", &["ip"]),
    ("PodStatus", "podIPs", &["ip"]),
    ("PodStatus", "resourceClaimStatuses", &["name"]),
    ("ReplicaSetStatus", "conditions", &["type"]),
    ("ResourceRequirements", "claims", &["name"]),
    ("ResourceStatus", "resources", &["resourceID"]),
    ("ServiceAccount", "secrets", &["name"]),
    ("ServiceSpec", "ports", &["port", "protocol"]),
    ("ServiceStatus", "conditions", &["type"]),
    ("StatefulSetStatus", "conditions", &["type"]),
];

/// Lists that are sets of values: type, field.
const SET_LISTS: [(&str, &str); 4] = [
    ("CSIDriverSpec", "volumeLifecycleModes"),
    ("NodeSpec", "podCIDRs"),
    ("ObjectMeta", "finalizers"),
    ("PodFailurePolicyOnExitCodesRequirement", "values"),
];

/// Types that have one owner as a whole.
const ATOMIC_TYPES: [&str; 21] = [
    "ConfigMapKeySelector",
    "EndpointAddress",
    "EndpointPort",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "RoleRef",
    "ScopeSelector",
    "ScopedResourceSelectorRequirement",
    "SecretKeySelector",
    "SecretReference",
    "Subject",
    "TopologySelectorTerm",
    "TypedLocalObjectReference",
    "TypedObjectReference",
];

/// Maps that have one owner as a whole: type, field.
const ATOMIC_MAPS: [(&str, &str); 4] =
    [("PodSpec", "nodeSelector"), ("ReplicationControllerSpec", "selector"), ("Scheduling", "nodeSelector"), ("ServiceSpec", "selector")];

/// Keys that may be left out, with what counts then: type of the item, field, default.
const KEY_DEFAULTS: [(&str, &str, &str); 2] = [("ContainerPort", "protocol", "TCP"), ("ServicePort", "protocol", "TCP")];

/// What is there in every object of a kind, as Kubernetes' own types have it, so that whoever
/// makes an object does not own its existence: group, kind, fields.
const ALWAYS_THERE: [(&str, &str, &[&str]); 14] = [
    ("", "Event", &["source"]),
    ("", "Namespace", &["spec", "status"]),
    ("", "Node", &["spec", "status", "status.daemonEndpoints", "status.daemonEndpoints.kubeletEndpoint", "status.nodeInfo"]),
    ("", "PersistentVolume", &["spec", "status"]),
    ("", "PersistentVolumeClaim", &["spec", "spec.resources", "status"]),
    ("", "Pod", &["spec", "spec.containers", "status"]),
    ("", "PodTemplate", &["template", "template.spec", "template.spec.containers"]),
    ("", "ResourceQuota", &["spec", "status"]),
    ("", "Service", &["spec", "status", "status.loadBalancer"]),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        &["spec", "spec.names", "spec.versions", "status", "status.acceptedNames", "status.conditions", "status.storedVersions"],
    ),
    ("coordination.k8s.io", "Lease", &["spec"]),
    ("policy", "PodDisruptionBudget", &["spec", "status"]),
    ("rbac.authorization.k8s.io", "ClusterRole", &["rules"]),
    ("rbac.authorization.k8s.io", "Role", &["rules"]),
];

/// The fields that are there in every object of a built-in kind.
pub(super) fn always_there(group: &str, kind: &str) -> &'static [&'static str] {
    ALWAYS_THERE.iter().find(|(g, k, _)| (*g, *k) == (group, kind)).map_or(&[], |(_, _, fields)| fields)
}

/// Writes what the tables say into the schema of a type of that name and into its definitions
/// (`$defs`, by their full names such as `io.k8s.api.core.v1.PodSpec`).
pub(super) fn annotate(name: &str, schema: &mut Value) {
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (full_name, definition) in definitions {
            let name = full_name.rsplit('.').next().unwrap_or_default().to_owned();
            annotate_type(&name, definition);
        }
    }
    annotate_type(name, schema);
}

fn annotate_type(name: &str, schema: &mut Value) {
    if ATOMIC_TYPES.contains(&name) {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let of_type = |table_name: &&str| *table_name == name;
    for (_, field, keys) in MAP_LISTS.iter().filter(|(table_name, ..)| of_type(table_name)) {
        set(properties, field, &[("x-kubernetes-list-type", json!("map")), ("x-kubernetes-list-map-keys", json!(keys))]);
    }
    for (_, field) in SET_LISTS.iter().filter(|(table_name, _)| of_type(table_name)) {
        set(properties, field, &[("x-kubernetes-list-type", json!("set"))]);
    }
    for (_, field) in ATOMIC_MAPS.iter().filter(|(table_name, _)| of_type(table_name)) {
        set(properties, field, &[("x-kubernetes-map-type", json!("atomic"))]);
    }
    for (_, field, default) in KEY_DEFAULTS.iter().filter(|(table_name, ..)| of_type(table_name)) {
        set(properties, field, &[("default", json!(default))]);
    }
    for property in properties.values_mut() {
        if property["type"] == "array" && property.get("x-kubernetes-list-type").is_none() {
            property["x-kubernetes-list-type"] = json!("atomic");
        }
    }
}

fn set(properties: &mut Map<String, Value>, field: &str, keywords: &[(&str, Value)]) {
    if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
        for (keyword, value) in keywords {
            property.insert((*keyword).to_owned(), value.clone());
        }
    }
}

/// Kubernetes' types by fields that only they have: where a schema is inlined into that of one
/// of our kinds, it loses its name.
const INLINED: [(&str, &[&str]); 10] = [
    ("ConfigMapKeySelector", &["key", "name", "optional"]),
    ("Container", &["image", "terminationMessagePath", "volumeMounts", "stdinOnce"]),
    ("ContainerPort", &["containerPort", "hostPort", "protocol"]),
    ("LabelSelector", &["matchExpressions", "matchLabels"]),
    ("NodeSelectorTerm", &["matchExpressions", "matchFields"]),
    ("ObjectFieldSelector", &["apiVersion", "fieldPath"]),
    ("PodSpec", &["containers", "initContainers", "nodeSelector", "schedulerName"]),
    ("ResourceFieldSelector", &["containerName", "divisor", "resource"]),
    ("ResourceRequirements", &["claims", "limits", "requests"]),
    ("TypedLocalObjectReference", &["apiGroup", "kind", "name"]),
];

/// What the items of a list of conditions have, in Kubernetes and in our kinds.
const CONDITION: [&str; 5] = ["lastTransitionTime", "message", "reason", "status", "type"];

/// Schemas nested more deeply are left as they are.
const DEPTH_MAX: usize = 100;

/// Writes what the tables say into the schema of one of our kinds, in which Kubernetes' types are
/// inlined. What the kind says itself counts first.
pub(super) fn annotate_inlined(schema: &mut Value) {
    annotate_within(schema, 0);
}

fn annotate_within(schema: &mut Value, depth: usize) {
    if depth > DEPTH_MAX || !schema.is_object() {
        return;
    }
    let has = |schema: &Value, fields: &[&str]| {
        schema
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|properties| fields.iter().all(|field| properties.contains_key(*field)))
    };
    // A type may have all the fields of a smaller one and more; only its own count is its.
    let name = INLINED.iter().find(|(name, fields)| has(schema, fields) && (is_open_ended(name) || count(schema) == fields.len()));
    if let Some((name, _)) = name {
        annotate_type(name, schema);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(part) {
            annotate_within(inner, depth + 1);
        }
    }
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let conditions = property["type"] == "array" && property.get("items").is_some_and(|items| has(items, &CONDITION));
        if conditions && property.get("x-kubernetes-list-type").is_none() {
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(["type"]);
        }
        annotate_within(property, depth + 1);
    }
}

/// Types that grow with versions of Kubernetes are known by some of their fields, small ones by
/// all of them.
fn is_open_ended(name: &str) -> bool {
    matches!(name, "Container" | "ContainerPort" | "PodSpec")
}

fn count(schema: &Value) -> usize {
    schema.get("properties").and_then(Value::as_object).map_or(0, Map::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};

    fn definition<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
        let definitions = schema["$defs"].as_object()?;
        definitions.iter().find(|(full_name, _)| full_name.rsplit('.').next() == Some(name)).map(|(_, schema)| schema)
    }

    /// A name in a table that no type has would be a rule that never counts.
    #[test]
    fn every_row_about_a_served_type_names_a_field_of_it() {
        let schemas = [
            ("Pod", crate::schema::for_core::<Pod>()),
            ("Node", crate::schema::for_core::<Node>()),
            ("Service", crate::schema::for_core::<Service>()),
            ("ServiceAccount", crate::schema::for_core::<ServiceAccount>()),
            ("Namespace", crate::schema::for_core::<Namespace>()),
            ("PersistentVolumeClaim", crate::schema::for_core::<PersistentVolumeClaim>()),
        ];
        let mut seen = 0;
        let rows = MAP_LISTS.iter().map(|(name, field, _)| (name, field)).chain(SET_LISTS.iter().map(|(name, field)| (name, field)));
        for (name, field) in rows.chain(ATOMIC_MAPS.iter().map(|(name, field)| (name, field))) {
            for (root, schema) in &schemas {
                let found = if root == name { Some(schema) } else { definition(schema, name) };
                if let Some(found) = found {
                    assert!(found["properties"].get(*field).is_some(), "{name}.{field}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn types_that_lost_their_names_are_known_by_their_fields() {
        let kinds = fermion_api::registry::kinds();
        let mut schema = kinds.into_iter().find(|kind| kind.kind == "TrainingJob").expect("a kind").schema;
        annotate_inlined(&mut schema);
        let role = &schema["properties"]["spec"]["properties"]["roles"]["items"]["properties"];
        let pod = &role["template"]["properties"]["spec"]["properties"];
        assert_eq!(pod["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(pod["nodeSelector"]["x-kubernetes-map-type"], "atomic");
        let container = &pod["containers"]["items"]["properties"];
        assert_eq!(container["env"]["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(container["ports"]["items"]["properties"]["protocol"]["default"], "TCP");
        assert_eq!(container["args"]["x-kubernetes-list-type"], "atomic");
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    }
}
