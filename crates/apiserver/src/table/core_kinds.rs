//! The columns that Kubernetes prints for its own kinds.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::duration::age;
use super::{Column, pod, rbac};

pub(super) const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";
const UNSET: &str = "<unset>";

const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

type Row = fn(&Value, Timestamp) -> Vec<Value>;

pub(super) fn name_column() -> Column {
    let mut column = column("Name", "string", 0, "Name must be unique within a namespace.");
    "name".clone_into(&mut column.format);
    column
}

fn column(name: &str, type_: &str, priority: i32, description: &str) -> Column {
    Column { name: name.to_owned(), type_: type_.to_owned(), format: String::new(), description: description.to_owned(), priority }
}

/// (heading, type, priority, description) of the columns after the name.
type Headings = &'static [(&'static str, &'static str, i32, &'static str)];

const AGE: (&str, &str, i32, &str) = ("Age", "string", 0, "Time since the object was created.");

/// The columns of a kind, and the function that makes a row's cells.
pub(super) fn columns(group: &str, kind: &str) -> (Vec<Column>, Row) {
    let (headings, row): (Headings, Row) = match (group, kind) {
        ("", "Pod") => (
            &[
                ("Ready", "string", 0, "Containers that are ready, of all."),
                ("Status", "string", 0, "What the pod does, or what keeps it from it."),
                ("Restarts", "string", 0, "How often its containers were started again."),
                AGE,
                ("IP", "string", 1, "Address of the pod."),
                ("Node", "string", 1, "Node that runs the pod."),
                ("Nominated Node", "string", 1, "Node that makes room for the pod."),
                ("Readiness Gates", "string", 1, "Further conditions that hold, of those the pod waits for."),
            ],
            pod::row,
        ),
        ("", "Node") => (
            &[
                ("Status", "string", 0, "Whether the node takes pods."),
                ("Roles", "string", 0, "Roles of the node."),
                AGE,
                ("Version", "string", 0, "Version of the node's software."),
                ("Internal-IP", "string", 1, "Address within the cluster."),
                ("External-IP", "string", 1, "Address from outside."),
                ("OS-Image", "string", 1, "Operating system."),
                ("Kernel-Version", "string", 1, "Kernel."),
                ("Container-Runtime", "string", 1, "Container runtime and its version."),
            ],
            node,
        ),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => (&[("Created At", "date", 0, "When the definition was made.")], definition),
        ("", "Namespace") => (&[("Status", "string", 0, "Active, or Terminating while it is emptied."), AGE], namespace),
        ("", "ConfigMap") => (&[("Data", "string", 0, "Number of entries."), AGE], config_map),
        ("", "Secret") => (&[("Type", "string", 0, "What the secret is for."), ("Data", "string", 0, "Number of entries."), AGE], secret),
        ("", "ServiceAccount") => (&[("Secrets", "string", 0, "Number of secrets that belong to it."), AGE], service_account),
        ("", "Service") => (
            &[
                ("Type", "string", 0, "How the service is reached."),
                ("Cluster-IP", "string", 0, "Address within the cluster."),
                ("External-IP", "string", 0, "Address from outside."),
                ("Port(s)", "string", 0, "Ports and protocols."),
                AGE,
                ("Selector", "string", 1, "Labels of the pods behind it."),
            ],
            service,
        ),
        ("", "Endpoints") => (&[("Endpoints", "string", 0, "Addresses that are ready."), AGE], endpoints),
        ("", "PersistentVolumeClaim") => (
            &[
                ("Status", "string", 0, "Pending until there is a volume, then Bound."),
                ("Volume", "string", 0, "Name of the volume."),
                ("Capacity", "string", 0, "Size of the volume."),
                ("Access Modes", "string", 0, "How the volume can be mounted."),
                ("StorageClass", "string", 0, "Class of storage."),
                ("VolumeAttributesClass", "string", 0, "Class of the volume's attributes."),
                AGE,
                ("VolumeMode", "string", 1, "File system or block device."),
            ],
            claim,
        ),
        ("" | "events.k8s.io", "Event") => (
            &[
                ("Last Seen", "string", 0, "Time since it last happened."),
                ("Type", "string", 0, "Normal or Warning."),
                ("Reason", "string", 0, "Short reason, for machines."),
                ("Object", "string", 0, "What it happened to."),
                ("Subobject", "string", 1, "Part of the object."),
                ("Source", "string", 1, "Who reports it."),
                ("Message", "string", 0, "What happened, for people."),
                ("First Seen", "string", 1, "Time since it first happened."),
                ("Count", "string", 1, "How often it happened."),
                ("Name", "string", 1, "Name of the event."),
            ],
            event,
        ),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => (&[("Created At", "date", 0, "When the role was made.")], rbac::role),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => (
            &[
                ("Role", "string", 0, "Role that is given."),
                AGE,
                ("Users", "string", 1, "Users who have it."),
                ("Groups", "string", 1, "Groups that have it."),
                ("ServiceAccounts", "string", 1, "Service accounts that have it."),
            ],
            rbac::binding,
        ),
        ("coordination.k8s.io", "Lease") => (&[("Holder", "string", 0, "Who holds the lease."), AGE], lease),
        ("", "ResourceQuota") => (
            &[
                ("Request", "string", 0, "What is used of what may be requested."),
                ("Limit", "string", 0, "What is used of what limits may amount to."),
                AGE,
            ],
            resource_quota,
        ),
        ("", "LimitRange") => (&[("Created At", "date", 0, "Time when the object was created.")], |object, _| {
            vec![name(object), text(object, "/metadata/creationTimestamp").unwrap_or(UNKNOWN).into()]
        }),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            (&[("Webhooks", "integer", 0, "Number of webhooks."), AGE], webhooks)
        }
        _ => (&[AGE], |object, now| vec![name(object), created(object, now)]),
    };
    let own = headings.iter().map(|(name, type_, priority, description)| column(name, type_, *priority, description));
    // Events are told by time, not by name, which is the last of their columns.
    let columns = if kind == "Event" { own.collect() } else { std::iter::once(name_column()).chain(own).collect() };
    (columns, row)
}

/// A text that is there and not empty.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> Option<&'v str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

pub(super) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn map<'v>(object: &'v Value, pointer: &str) -> Option<&'v Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

pub(super) fn name(object: &Value) -> Value {
    json!(text(object, "/metadata/name").unwrap_or_default())
}

pub(super) fn created(object: &Value, now: Timestamp) -> Value {
    json!(age(text(object, "/metadata/creationTimestamp").unwrap_or_default(), now))
}

pub(super) fn or_none(text: Option<&str>) -> Value {
    json!(text.unwrap_or(NONE))
}

fn or_empty(text: Option<&str>) -> Value {
    json!(text.unwrap_or_default())
}

fn entries(object: &Value, pointers: &[&str]) -> Value {
    let count: usize = pointers.iter().filter_map(|pointer| map(object, pointer)).map(Map::len).sum();
    json!(count)
}

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match list(node, "/status/conditions").iter().find(|condition| text(condition, "/type") == Some("Ready")) {
        Some(condition) if text(condition, "/status") == Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&json!(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = map(node, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(|(label, value)| match label.strip_prefix(ROLE_LABEL_PREFIX) {
            Some(role) => Some(role),
            None if label == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() { NONE.to_owned() } else { roles.join(",") };
    let address = |wanted: &str| {
        let addresses = list(node, "/status/addresses");
        or_none(addresses.iter().find(|address| text(address, "/type") == Some(wanted)).and_then(|address| text(address, "/address")))
    };
    let info = |field: &str| json!(text(node, &format!("/status/nodeInfo/{field}")).unwrap_or(UNKNOWN));
    vec![
        name(node),
        json!(status),
        json!(roles),
        created(node, now),
        or_empty(text(node, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn definition(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(object), object["metadata"]["creationTimestamp"].clone()]
}

fn namespace(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(namespace), or_empty(text(namespace, "/status/phase")), created(namespace, now)]
}

fn config_map(config_map: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(config_map), entries(config_map, &["/data", "/binaryData"]), created(config_map, now)]
}

fn secret(secret: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(secret), or_empty(text(secret, "/type")), entries(secret, &["/data"]), created(secret, now)]
}

fn service_account(account: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(account), json!(list(account, "/secrets").len()), created(account, now)]
}

fn resource_quota(quota: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let used = quota.pointer("/status/used").and_then(|used| used.get(resource)).and_then(Value::as_str).unwrap_or("0");
        let list = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
        list.push(format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default()));
    }
    vec![name(quota), requests.join(", ").into(), limits.join(", ").into(), created(quota, now)]
}

fn webhooks(configuration: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(configuration), json!(list(configuration, "/webhooks").len()), created(configuration, now)]
}

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
            let protocol = text(port, "/protocol").unwrap_or("TCP");
            match number("nodePort") {
                0 => format!("{}/{protocol}", number("port")),
                node_port => format!("{}:{node_port}/{protocol}", number("port")),
            }
        })
        .collect();
    let mut selector: Vec<String> = map(service, "/spec/selector")
        .into_iter()
        .flatten()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
        .collect();
    selector.sort_unstable();
    let or_none_joined = |texts: &[String]| json!(if texts.is_empty() { NONE.to_owned() } else { texts.join(",") });
    vec![
        name(service),
        json!(text(service, "/spec/type").unwrap_or("ClusterIP")),
        or_none(text(service, "/spec/clusterIP")),
        json!(external_address(service)),
        or_none_joined(&ports),
        created(service, now),
        or_none_joined(&selector),
    ]
}

/// The most addresses that are shown.
const SHOWN_MAX: usize = 3;

fn endpoints(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let subsets = list(endpoints, "/subsets");
    let ready = subsets.iter().flat_map(|subset| {
        let addresses = list(subset, "/addresses").iter().filter_map(|address| text(address, "/ip"));
        let ports: Vec<Option<i64>> = list(subset, "/ports").iter().map(|port| port["port"].as_i64()).collect();
        // Services without an address of their own may have no ports.
        let ports = if ports.is_empty() { vec![None] } else { ports };
        let addresses: Vec<&str> = addresses.collect();
        ports.into_iter().flat_map(move |port| addresses.clone().into_iter().map(move |ip| at_port(ip, port)))
    });
    let ready: Vec<String> = ready.collect();
    let shown = ready[..ready.len().min(SHOWN_MAX)].join(",");
    let shown = match ready.len() {
        _ if subsets.is_empty() => NONE.to_owned(),
        count if count > SHOWN_MAX => format!("{shown} + {} more...", count - SHOWN_MAX),
        _ => shown,
    };
    vec![name(endpoints), json!(shown), created(endpoints, now)]
}

fn at_port(ip: &str, port: Option<i64>) -> String {
    match port {
        None => ip.to_owned(),
        Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
        Some(port) => format!("{ip}:{port}"),
    }
}

fn external_address(service: &Value) -> String {
    let fixed: Vec<&str> = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(service, "/spec/type").unwrap_or("ClusterIP") {
        "ExternalName" => text(service, "/spec/externalName").unwrap_or_default().to_owned(),
        "LoadBalancer" => {
            let given = list(service, "/status/loadBalancer/ingress")
                .iter()
                .filter_map(|ingress| text(ingress, "/ip").or_else(|| text(ingress, "/hostname")));
            let all: Vec<&str> = given.chain(fixed).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if fixed.is_empty() => NONE.to_owned(),
        _ => fixed.join(","),
    }
}

fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let is_deleted = claim.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    let status = if is_deleted { Some("Terminating") } else { text(claim, "/status/phase") };
    let modes: Vec<&str> = list(claim, "/status/accessModes")
        .iter()
        .filter_map(Value::as_str)
        .map(|mode| match mode {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        })
        .collect();
    vec![
        name(claim),
        or_empty(status),
        or_empty(text(claim, "/spec/volumeName")),
        or_empty(text(claim, "/status/capacity/storage")),
        json!(modes.join(",")),
        or_empty(text(claim, "/spec/storageClassName")),
        json!(text(claim, "/spec/volumeAttributesClassName").unwrap_or(UNSET)),
        created(claim, now),
        json!(text(claim, "/spec/volumeMode").unwrap_or(UNSET)),
    ]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = text(event, "/firstTimestamp").or_else(|| text(event, "/eventTime"));
    let last = text(event, "/series/lastObservedTime").or_else(|| text(event, "/lastTimestamp")).or(first);
    let count =
        event.pointer("/series/count").or_else(|| event.get("count")).and_then(Value::as_i64).filter(|count| *count > 0).unwrap_or(1);
    let kind = text(event, "/involvedObject/kind").unwrap_or_default().to_lowercase();
    let object = match text(event, "/involvedObject/name") {
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    };
    let component = text(event, "/source/component").or_else(|| text(event, "/reportingComponent"));
    let instance = text(event, "/source/host").or_else(|| text(event, "/reportingInstance"));
    let source: Vec<&str> = component.into_iter().chain(instance).collect();
    let since = |time: Option<&str>| json!(age(time.unwrap_or_default(), now));
    vec![
        since(last),
        or_empty(text(event, "/type")),
        or_empty(text(event, "/reason")),
        json!(object),
        or_empty(text(event, "/involvedObject/fieldPath")),
        json!(source.join(", ")),
        or_empty(text(event, "/message").map(str::trim)),
        since(first),
        json!(count),
        name(event),
    ]
}

fn lease(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(lease), or_empty(text(lease, "/spec/holderIdentity")), created(lease, now)]
}
