//! The kinds of Kubernetes that are served as they are: names, schemas, and what the
//! platform fills in and checks beyond the schema.

mod checks;
pub(crate) mod pod;
mod rbac;

use fermion_api::Invalid;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::schemars::JsonSchema;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use serde_json::{Value, json};

use crate::admission::limits;
use crate::admission::webhook::configuration;
use crate::catalog::{ALL_VERBS, Described, METRIC_VERBS, REVIEW_VERBS, Resource, Source};
use crate::definitions;
use crate::managed_fields;
use crate::patch::MergeStrategy;
use crate::quota;
use crate::schema::{self, Validator};
use crate::selector::selectable_fields;
use crate::table::Columns;

/// What the table of core kinds says of one.
struct Entry {
    plural: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    subresources: &'static [&'static str],
    source: Source,
    set_defaults: fn(Value) -> Result<Value, Vec<Invalid>>,
    check: fn(&Value, Option<&Value>) -> Vec<Invalid>,
}

const STORED: Entry = Entry {
    plural: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: &ALL_VERBS,
    subresources: &[],
    source: Source::Objects,
    set_defaults: Ok,
    check: |_, _| Vec::new(),
};

const REVIEW: Entry = Entry { namespaced: false, verbs: &REVIEW_VERBS, source: Source::Review, ..STORED };

const WEBHOOKS: Entry = Entry {
    categories: &["api-extensions"],
    namespaced: false,
    set_defaults: configuration::set_defaults,
    check: configuration::check,
    ..STORED
};

pub(crate) fn resources() -> anyhow::Result<Vec<Described>> {
    Ok(vec![
        of::<Namespace>(Entry {
            plural: "namespaces",
            short_names: &["ns"],
            namespaced: false,
            subresources: &["status", "finalize"],
            set_defaults: namespace_defaults,
            ..STORED
        })?,
        of::<Node>(Entry { plural: "nodes", short_names: &["no"], namespaced: false, subresources: &["status"], ..STORED })?,
        of::<Pod>(Entry {
            plural: "pods",
            short_names: &["po"],
            categories: &["all"],
            subresources: &["status", "binding", "log", "exec", "attach", "portforward", "file", "eviction"],
            set_defaults: pod::set_defaults,
            check: pod::check,
            ..STORED
        })?,
        of::<ConfigMap>(Entry { plural: "configmaps", short_names: &["cm"], check: checks::config_map, ..STORED })?,
        of::<Secret>(Entry { plural: "secrets", set_defaults: secret_defaults, check: checks::secret, ..STORED })?,
        of::<Service>(Entry {
            plural: "services",
            short_names: &["svc"],
            categories: &["all"],
            subresources: &["status"],
            set_defaults: service_defaults,
            check: checks::service,
            ..STORED
        })?,
        of::<Endpoints>(Entry {
            plural: "endpoints",
            short_names: &["ep"],
            set_defaults: endpoints_defaults,
            check: checks::endpoints,
            ..STORED
        })?,
        of::<PersistentVolumeClaim>(Entry {
            plural: "persistentvolumeclaims",
            short_names: &["pvc"],
            subresources: &["status"],
            set_defaults: claim_defaults,
            check: checks::claim,
            ..STORED
        })?,
        of::<Event>(Entry { plural: "events", short_names: &["ev"], check: checks::event, ..STORED })?,
        of::<ResourceQuota>(Entry {
            plural: "resourcequotas",
            short_names: &["quota"],
            subresources: &["status"],
            check: quota::kind::check,
            ..STORED
        })?,
        of::<LimitRange>(Entry {
            plural: "limitranges",
            short_names: &["limits"],
            set_defaults: limits::range_defaults,
            check: limits::check_range,
            ..STORED
        })?,
        of::<ServiceAccount>(Entry { plural: "serviceaccounts", short_names: &["sa"], subresources: &["token"], ..STORED })?,
        of::<Lease>(Entry { plural: "leases", check: checks::lease, ..STORED })?,
        of::<MutatingWebhookConfiguration>(Entry { plural: "mutatingwebhookconfigurations", ..WEBHOOKS })?,
        of::<ValidatingWebhookConfiguration>(Entry { plural: "validatingwebhookconfigurations", ..WEBHOOKS })?,
        of::<CustomResourceDefinition>(Entry {
            plural: definitions::PLURAL,
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            namespaced: false,
            subresources: &["status"],
            set_defaults: definitions::with_defaults,
            ..STORED
        })?,
        of::<Role>(Entry { plural: "roles", check: rbac::check_role, ..STORED })?,
        of::<ClusterRole>(Entry { plural: "clusterroles", namespaced: false, check: rbac::check_cluster_role, ..STORED })?,
        of::<RoleBinding>(Entry {
            plural: "rolebindings",
            set_defaults: rbac::binding_defaults,
            check: rbac::check_role_binding,
            ..STORED
        })?,
        of::<ClusterRoleBinding>(Entry {
            plural: "clusterrolebindings",
            namespaced: false,
            set_defaults: rbac::binding_defaults,
            check: rbac::check_cluster_role_binding,
            ..STORED
        })?,
        of::<TokenReview>(Entry { plural: "tokenreviews", ..REVIEW })?,
        of::<SelfSubjectReview>(Entry { plural: "selfsubjectreviews", ..REVIEW })?,
        of::<SubjectAccessReview>(Entry { plural: "subjectaccessreviews", ..REVIEW })?,
        of::<LocalSubjectAccessReview>(Entry { plural: "localsubjectaccessreviews", namespaced: true, ..REVIEW })?,
        of::<SelfSubjectAccessReview>(Entry { plural: "selfsubjectaccessreviews", ..REVIEW })?,
        of::<SelfSubjectRulesReview>(Entry { plural: "selfsubjectrulesreviews", ..REVIEW })?,
        metrics("NodeMetrics", "nodes", false)?,
        metrics("PodMetrics", "pods", true)?,
    ])
}

fn of<K: k8s_openapi::Resource + JsonSchema>(entry: Entry) -> anyhow::Result<Described> {
    build(K::GROUP, K::VERSION, K::KIND, schema::for_core::<K>(), entry)
}

/// The kinds `kubectl top` asks for.
fn metrics(kind: &str, plural: &'static str, namespaced: bool) -> anyhow::Result<Described> {
    let schema = json!({
        "type": "object",
        "description": "What a node or a pod uses now, as its node measured it.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "timestamp": {"type": "string", "format": "date-time"},
            "window": {"type": "string"},
            "usage": {"type": "object", "additionalProperties": {"type": "string"}},
            "containers": {"type": "array", "items": {"type": "object", "properties": {
                "name": {"type": "string"},
                "usage": {"type": "object", "additionalProperties": {"type": "string"}},
            }}},
        },
    });
    build("metrics.k8s.io", "v1beta1", kind, schema, Entry { plural, namespaced, verbs: &METRIC_VERBS, source: Source::Metrics, ..STORED })
}

fn build(group: &str, version: &str, kind: &str, mut schema: Value, entry: Entry) -> anyhow::Result<Described> {
    // Kubernetes' own kinds may hold items with the same keys: what tells them apart matters for
    // merging, and is no rule.
    let validator = Validator::compile(&schema)?;
    let resource = Resource {
        validator: validator.into(),
        field_types: managed_fields::core_kind(group, kind, &mut schema).into(),
        columns: Columns::for_core(group, kind),
        strategy: MergeStrategy::for_kind(group, kind),
        selectable: selectable_fields(group, kind).iter().map(|field| (*field).to_owned()).collect(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: entry.plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: entry.short_names.iter().map(|name| (*name).to_owned()).collect(),
        categories: entry.categories.iter().map(|name| (*name).to_owned()).collect(),
        namespaced: entry.namespaced,
        verbs: entry.verbs,
        subresources: entry.subresources.to_vec(),
        scale: None,
        source: entry.source,
        custom: false,
        set_defaults: entry.set_defaults,
        check: entry.check,
        form: None,
        stored_as: if group.is_empty() { entry.plural.into() } else { format!("{}.{group}", entry.plural).into() },
    };
    Ok(Described { resource, schema })
}

/// Holds at compile time that what is served namespaced is namespaced in Kubernetes.
#[allow(dead_code, reason = "only its bounds matter")]
fn namespaced_kinds_are_namespaced() {
    fn check<K: Metadata<Scope = NamespaceResourceScope>>() {}
    check::<Pod>();
    check::<Lease>();
}

fn namespace_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let finalizers = &mut object["spec"]["finalizers"];
    if finalizers.is_null() {
        // Removed by the garbage collector once the namespace is empty.
        *finalizers = json!(["kubernetes"]);
    }
    let phase = &mut object["status"]["phase"];
    if phase.is_null() {
        *phase = "Active".into();
    }
    Ok(object)
}

fn secret_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    use base64::Engine as _;
    if let Some(Value::Object(texts)) = object.as_object_mut().and_then(|object| object.remove("stringData")) {
        for (name, text) in texts {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
            object["data"][name] = encoded.into();
        }
    }
    if object["type"].is_null() {
        object["type"] = "Opaque".into();
    }
    Ok(object)
}

/// What Kubernetes fills in but addresses: services have none of their own here.
fn service_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let spec = &mut object["spec"];
    fill(spec, "type", || "ClusterIP".into());
    fill(spec, "sessionAffinity", || "None".into());
    if spec["clusterIP"] == "None" {
        fill(spec, "clusterIPs", || json!(["None"]));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(port, "protocol", || "TCP".into());
        let number = port["port"].clone();
        if port["targetPort"].is_null() || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = number;
        }
    }
    fill(&mut object["status"], "loadBalancer", || json!({}));
    Ok(object)
}

fn endpoints_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        for port in subset.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            fill(port, "protocol", || "TCP".into());
        }
    }
    Ok(object)
}

/// Sets a field that is unset.
fn fill(object: &mut Value, field: &str, default: impl FnOnce() -> Value) {
    let value = &mut object[field];
    if value.is_null() {
        *value = default();
    }
}

fn claim_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    if object["status"].is_null() {
        object["status"] = json!({"phase": "Pending"});
    }
    if object["spec"]["accessModes"].is_null() {
        object["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
    }
    Ok(object)
}
