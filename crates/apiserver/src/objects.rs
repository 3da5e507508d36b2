//! What happens to an object's metadata, spec and status when it is made or changed, as pure
//! functions over JSON. The rules are those of Kubernetes:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use fermion_api::Invalid;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::catalog::Resource;

/// Metadata that only the server sets.
const SERVER_OWNED: [&str; 6] = ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// How times are written in metadata: whole seconds, UTC.
pub(crate) fn time_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether the object is on its way out.
pub(crate) fn is_being_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Metadata of a new object. `object` has passed the schema.
pub(crate) fn begin(resource: &Resource, object: &mut Value, uid: &str, now: Timestamp, creator: &str, creator_is_component: bool) {
    let metadata = &mut object["metadata"];
    if let Some(metadata) = metadata.as_object_mut() {
        for field in SERVER_OWNED.iter().chain(&["resourceVersion", "managedFields"]) {
            metadata.remove(*field);
        }
    }
    metadata["uid"] = uid.into();
    metadata["creationTimestamp"] = time_text(now).into();
    if resource.counts_generations() {
        metadata["generation"] = 1.into();
    }
    let mark = fermion_api::labels::CREATED_BY;
    let given = metadata["annotations"].get(mark).is_some_and(Value::is_string);
    if resource.custom || resource.is_core("pods") {
        // Parts of the platform pass on for whom they act; nobody else may claim to be another.
        if !(creator_is_component && given) {
            metadata["annotations"][mark] = creator.into();
        }
    }
    drop_empty(metadata);
    // As in Kubernetes: whoever makes a node may say at once what it has.
    if resource.has_status()
        && !resource.is_core("namespaces")
        && !resource.is_core("nodes")
        && let Some(object) = object.as_object_mut()
    {
        object.remove("status");
    }
}

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// Only the status (and nothing of the metadata but annotations and labels of nodes).
    Status,
}

/// The object that results from writing `new` over `old`: fields a client may not change stay as
/// they were. Who owns which fields afterwards is for [`crate::tracking`] to say.
pub(crate) fn merge(resource: &Resource, part: Part, old: &Value, mut new: Value) -> Value {
    let old_metadata = &old["metadata"];
    match part {
        Part::Status => {
            let mut result = old.clone();
            match new.get_mut("status") {
                Some(status) => result["status"] = status.take(),
                None => {
                    result.as_object_mut().map(|object| object.remove("status"));
                }
            }
            return result;
        }
        Part::Main => {
            if resource.has_status() {
                match old.get("status") {
                    Some(status) => new["status"] = status.clone(),
                    None => {
                        new.as_object_mut().map(|object| object.remove("status"));
                    }
                }
            }
        }
    }
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    let metadata = &mut new["metadata"];
    for field in SERVER_OWNED.iter().chain(&["resourceVersion", "name", "namespace", "generateName"]) {
        match old_metadata.get(field) {
            Some(value) => metadata[*field] = value.clone(),
            None => {
                metadata.as_object_mut().map(|metadata| metadata.remove(*field));
            }
        }
    }
    let mark = fermion_api::labels::CREATED_BY;
    match old_metadata["annotations"].get(mark) {
        Some(creator) => metadata["annotations"][mark] = creator.clone(),
        None => {
            metadata.get_mut("annotations").and_then(Value::as_object_mut).map(|annotations| annotations.remove(mark));
        }
    }
    new["apiVersion"] = old["apiVersion"].clone();
    new["kind"] = old["kind"].clone();
    drop_empty(&mut new["metadata"]);
    new
}

/// An object that a hook changed, with what only the server sets as it was before: its own metadata
/// and, but for a write of the status, the status; for a write of the status everything else.
pub(crate) fn keep_what_the_server_sets(resource: &Resource, part: Part, mut before: Value, mut after: Value) -> Value {
    let status = |object: &mut Value| object.as_object_mut().and_then(|object| object.remove("status"));
    let (from, to) = match part {
        Part::Status => (&mut after, &mut before),
        Part::Main => (&mut before, &mut after),
    };
    if resource.has_status() {
        match status(from) {
            Some(value) => to["status"] = value,
            None => drop(status(to)),
        }
    }
    if part == Part::Status {
        return before;
    }
    for field in SERVER_OWNED.iter().chain(&["managedFields", "generateName"]) {
        match before["metadata"].get(field) {
            Some(value) => after["metadata"][*field] = value.clone(),
            None => {
                after["metadata"].as_object_mut().map(|metadata| metadata.remove(*field));
            }
        }
    }
    after
}

/// Counts a change of what is asked for. `new` has its defaults: writing one out is no change.
pub(crate) fn count_generation(resource: &Resource, old: &Value, new: &mut Value) {
    if resource.counts_generations() && !asks_the_same(old, new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
}

/// Empty maps and lists in metadata mean the same as none.
fn drop_empty(metadata: &mut Value) {
    if let Some(metadata) = metadata.as_object_mut() {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            let empty = match metadata.get(field) {
                Some(Value::Object(map)) => map.is_empty(),
                Some(Value::Array(list)) => list.is_empty(),
                Some(Value::Null) => true,
                _ => false,
            };
            if empty {
                metadata.remove(field);
            }
        }
    }
}

/// Whether both ask for the same: everything but metadata and status.
fn asks_the_same(old: &Value, new: &Value) -> bool {
    same_fields(old, new, &["metadata", "status"])
}

/// Whether two versions differ in nothing that is kept.
pub(crate) fn same(old: &Value, new: &Value) -> bool {
    same_fields(old, new, &["metadata"]) && same_fields(&old["metadata"], &new["metadata"], &["resourceVersion"])
}

/// Whether two objects have the same fields with the same values, some left aside.
fn same_fields(old: &Value, new: &Value, aside: &[&str]) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let counts = |object: &Map<String, Value>| object.keys().filter(|name| !aside.contains(&name.as_str())).count();
    counts(old) == counts(new) && old.iter().all(|(name, value)| aside.contains(&name.as_str()) || new.get(name) == Some(value))
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Deletion {
    /// It goes now.
    Remove,
    /// It is marked and stays until somebody finishes the work.
    Mark(Box<Value>),
    /// It is marked already; nothing changes.
    Unchanged,
}

/// How dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Finalizers by which the garbage collector is asked for one of these.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Decides a deletion. `propagation` and `grace_s` are what the caller asked for. Who says nothing
/// of dependents leaves to the object's finalizers what becomes of them; who does replaces them.
pub(crate) fn delete(resource: &Resource, old: &Value, propagation: Option<Propagation>, grace_s: Option<u64>, now: Timestamp) -> Deletion {
    let mut new = old.clone();
    let metadata = &mut new["metadata"];
    if let Some(propagation) = propagation {
        let wanted = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        let mut kept: Vec<&str> = finalizers(old).filter(|name| !matches!(*name, FOREGROUND | ORPHAN) || Some(*name) == wanted).collect();
        kept.extend(wanted.filter(|wanted| !finalizers(old).any(|name| name == *wanted)));
        metadata["finalizers"] = json!(kept);
        drop_empty(metadata);
    }
    let grace_s = if resource.is_core("pods") { Some(pod_grace(old, grace_s)) } else { None };
    let finalized = metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
        && (!resource.is_core("namespaces") || old["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty));
    if finalized && grace_s.is_none_or(|grace_s| grace_s == 0) {
        return Deletion::Remove;
    }
    let already = is_being_deleted(old);
    let shorter = grace_s.is_some_and(|grace_s| metadata["deletionGracePeriodSeconds"].as_u64().is_none_or(|before| grace_s < before));
    if !already || shorter {
        let grace_s = grace_s.unwrap_or(0);
        let ends_at = now + std::time::Duration::from_secs(grace_s);
        metadata["deletionTimestamp"] = time_text(ends_at).into();
        metadata["deletionGracePeriodSeconds"] = grace_s.into();
    }
    if !already && resource.counts_generations() {
        let generation = metadata["generation"].as_i64().unwrap_or(0) + 1;
        metadata["generation"] = generation.into();
    }
    if resource.is_core("namespaces") {
        new["status"]["phase"] = "Terminating".into();
    }
    if same(old, &new) { Deletion::Unchanged } else { Deletion::Mark(Box::new(new)) }
}

/// The most grace anybody may ask for, in seconds: a day.
const GRACE_MAX_S: u64 = 24 * 3600;

/// Seconds a pod gets: none when it was never placed or has ended.
fn pod_grace(pod: &Value, asked_s: Option<u64>) -> u64 {
    let placed = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !placed || ended {
        return 0;
    }
    asked_s
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_u64())
        .unwrap_or(crate::core_kinds::pod::GRACE_PERIOD_DEFAULT_S)
        .min(GRACE_MAX_S)
}

/// What the rules of metadata say against a change.
pub(crate) fn check_change(old: &Value, new: &Value) -> Vec<Invalid> {
    let added: Vec<&str> = finalizers(new).filter(|name| !finalizers(old).any(|before| before == *name)).collect();
    if is_being_deleted(old) && !added.is_empty() {
        let what = "no new finalizers can be added if the object is being deleted, found new finalizers";
        let listed: Vec<String> = added.iter().map(|name| format!("\"{}\"", name.escape_default())).collect();
        let what = format!("Forbidden: {what} []string{{{}}}", listed.join(", "));
        return vec![Invalid::new("metadata.finalizers", what)];
    }
    Vec::new()
}

/// What is wrong with the owners an object names.
pub(crate) fn check_owners(object: &Value) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let owners = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, owner) in owners.iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                problems.push(Invalid::new(format!("metadata.ownerReferences[{index}].{field}"), "must not be empty"));
            }
        }
        if owner["kind"] == "Event" && matches!(owner["apiVersion"].as_str(), Some("v1" | "events.k8s.io/v1")) {
            problems.push(Invalid::new(format!("metadata.ownerReferences[{index}]"), "an Event is disallowed from being an owner"));
        }
    }
    if owners.iter().filter(|owner| owner["controller"] == true).count() > 1 {
        problems.push(Invalid::new("metadata.ownerReferences", "only one reference can have controller set to true"));
    }
    problems
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn deletion_is_done(resource: &Resource, object: &Value) -> bool {
    is_being_deleted(object)
        && finalizers(object).next().is_none()
        && (!resource.is_core("pods") || object["metadata"]["deletionGracePeriodSeconds"].as_u64() == Some(0))
        && (!resource.is_core("namespaces") || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty))
}
