//! The pods of a Workload: their names, and how each is made from its pod set's template.

use std::collections::BTreeMap;

use fermion_api::ai::Workload;
use fermion_api::ai::workload::{EndedPods, PodSet};
use fermion_api::labels;
use k8s_openapi::api::core::v1::{EnvVar, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use crate::owner;

/// The longest name that can be a host name.
const HOST_NAME_LENGTH_MAX: usize = 63;
/// Labels of a Workload that its pods carry too: what it serves.
const INHERITED_LABELS: [&str; 4] = [labels::TRAINING_JOB, labels::DEV_ENVIRONMENT, labels::INFERENCE_SERVICE, labels::REVISION];

/// A pod that a Workload wants.
pub(crate) struct Wanted<'a> {
    pub set: &'a PodSet,
    pub index: i32,
    /// Number of the pod over all sets, in their order.
    pub rank: i64,
    pub name: String,
}

/// The name of a pod, which is its host name too.
pub(crate) fn name(workload: &str, set: &str, index: i32) -> String {
    format!("{workload}-{set}-{index}")
}

/// How many pods of a set must be placed together.
pub(crate) fn min_of(set: &PodSet) -> i32 {
    set.min_replicas.unwrap_or(set.replicas)
}

/// Every pod a Workload wants while it is neither suspended nor over.
pub(crate) fn wanted(workload: &Workload) -> Vec<Wanted<'_>> {
    let owner = workload.name_any();
    let mut all = Vec::new();
    let mut offset: i64 = 0;
    for set in &workload.spec.pod_sets {
        let wants = |index| Wanted { set, index, rank: offset + i64::from(index), name: name(&owner, &set.name, index) };
        all.extend((0..set.replicas).map(wants));
        offset += i64::from(set.replicas.max(0));
    }
    all
}

/// The attempt of the Workload that made a pod.
pub(crate) fn attempt(pod: &Pod) -> Option<i32> {
    pod.labels().get(labels::ATTEMPT)?.parse().ok()
}

/// The pod set and index of a pod.
pub(crate) fn place(pod: &Pod) -> Option<(&str, i32)> {
    let labels = pod.labels();
    Some((labels.get(labels::ROLE)?, labels.get(labels::INDEX)?.parse().ok()?))
}

/// Makes a pod.
pub(crate) fn make(workload: &Workload, wanted: &Wanted<'_>) -> Pod {
    let template = &wanted.set.template;
    let template_meta = template.metadata.clone().unwrap_or_default();
    let attempt = workload.spec.attempt.to_string();

    let mut pod_labels = template_meta.labels.unwrap_or_default();
    for name in INHERITED_LABELS {
        if let Some(value) = workload.labels().get(name) {
            pod_labels.insert(name.to_owned(), value.clone());
        }
    }
    pod_labels.extend([
        (labels::WORKLOAD.to_owned(), workload.name_any()),
        (labels::ROLE.to_owned(), wanted.set.name.clone()),
        (labels::INDEX.to_owned(), wanted.index.to_string()),
        (labels::ATTEMPT.to_owned(), attempt.clone()),
    ]);

    let mut annotations = template_meta.annotations.unwrap_or_default();
    if let Some(creator) = workload.annotations().get(labels::CREATED_BY) {
        annotations.insert(labels::CREATED_BY.to_owned(), creator.clone());
    }
    if let Some(size) = gang_size(workload) {
        annotations.insert(labels::GANG_SIZE.to_owned(), size.to_string());
    }

    let mut spec = template.spec.clone().unwrap_or_default();
    if wanted.name.len() <= HOST_NAME_LENGTH_MAX {
        spec.hostname = Some(wanted.name.clone());
        spec.subdomain = Some(workload.name_any());
    }
    spec.restart_policy.get_or_insert_with(|| match workload.spec.ended_pods {
        EndedPods::Keep => "Never".to_owned(),
        EndedPods::Replace => "Always".to_owned(),
    });
    let variables = BTreeMap::from([
        ("FERMION_INDEX", wanted.index.to_string()),
        ("FERMION_RANK", wanted.rank.to_string()),
        ("FERMION_ATTEMPT", attempt),
    ]);
    tell(&mut spec, &variables);

    Pod {
        metadata: ObjectMeta {
            name: Some(wanted.name.clone()),
            namespace: workload.namespace(),
            labels: Some(pod_labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: owner::references(workload),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// How many pods start together and know each other; `None` where each stands alone.
fn gang_size(workload: &Workload) -> Option<i64> {
    let size: i64 = workload.spec.pod_sets.iter().map(|set| i64::from(min_of(set))).sum();
    (workload.spec.ended_pods == EndedPods::Keep && size > 1).then_some(size)
}

/// Sets variables in every container, before its own ones, so that `$(NAME)` in those expands.
fn tell(spec: &mut PodSpec, variables: &BTreeMap<&str, String>) {
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let ours = variables.iter().map(|(name, value)| EnvVar { name: (*name).to_owned(), value: Some(value.clone()), value_from: None });
        container.env.get_or_insert_default().splice(0..0, ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {
                "name": "digits", "namespace": "examples", "uid": "u",
                "labels": {"fermion.dev/training-job": "digits", "other": "stays"},
                "annotations": {"fermion.dev/created-by": "ada"},
            },
            "spec": {"attempt": 2, "podSets": [
                {"name": "chief", "replicas": 1, "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
                {"name": "worker", "replicas": 2, "template": {
                    "metadata": {"labels": {"team": "vision"}},
                    "spec": {
                        "restartPolicy": "OnFailure",
                        "initContainers": [{"name": "before", "image": "x"}],
                        "containers": [{"name": "main", "image": "x", "env": [{"name": "A", "value": "$(FERMION_RANK)"}]}],
                    },
                }},
            ]},
        }))
        .expect("a workload")
    }

    #[test]
    fn pods_carry_what_they_belong_to() {
        let workload = workload();
        let wanted = wanted(&workload);
        assert_eq!(
            wanted.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(),
            ["digits-chief-0", "digits-worker-0", "digits-worker-1"]
        );
        insta::assert_yaml_snapshot!(make(&workload, &wanted[2]));
    }

    #[test]
    fn pods_of_jobs_end_and_pods_of_services_go_on() {
        let mut workload = workload();
        let policy = |workload: &Workload| make(workload, &wanted(workload)[0]).spec.and_then(|spec| spec.restart_policy);
        assert_eq!(policy(&workload).as_deref(), Some("Never"));
        workload.spec.ended_pods = EndedPods::Replace;
        assert_eq!(policy(&workload).as_deref(), Some("Always"));
        assert!(!make(&workload, &wanted(&workload)[0]).annotations().contains_key(labels::GANG_SIZE));
    }
}
