//! The Workload that a TrainingJob asks for.

use std::collections::BTreeMap;

use fermion_api::ai::TrainingJob;
use fermion_api::ai::scheduling::Scheduling;
use fermion_api::ai::training_job::{Framework, RestartPolicy, Role, TrainingJobSpec};
use fermion_api::ai::workload::PodSet;
use fermion_api::duration;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};
use kube::ResourceExt as _;

use crate::children;
use crate::workload::pods;

/// Port of PyTorch's rendezvous when no port of the first role is named `master`.
const MASTER_PORT_DEFAULT: i32 = 29_500;
/// The most host names told in one variable; Linux bounds a variable at 128 KiB.
const HOSTS_MAX: i32 = 1_000;

/// The pod sets of a job: its roles, told who they are and who the others are.
pub(super) fn pod_sets(job: &TrainingJob) -> Vec<PodSet> {
    job.spec.roles.iter().map(|role| pod_set(job, role)).collect()
}

fn pod_set(job: &TrainingJob, role: &Role) -> PodSet {
    let mut template = role.template.clone();
    let mut spec = template.spec.take().unwrap_or_default();
    if role.restart_policy == RestartPolicy::OnFailure || spec.restart_policy.as_deref() == Some("OnFailure") {
        spec.restart_policy = Some("OnFailure".to_owned());
    } else {
        spec.restart_policy = Some("Never".to_owned());
    }
    if let Some(debug) = &job.spec.debug {
        for container in &mut spec.containers {
            look_around(container, &debug.command);
        }
    }
    let variables = variables(job, role);
    tell(&mut spec, &variables);
    template.spec = Some(spec);
    PodSet { name: role.name.clone(), replicas: role.replicas, min_replicas: None, template }
}

/// Gives a container the entry point of debug mode. Its probes ask about a program that does
/// not run then.
fn look_around(container: &mut Container, command: &[String]) {
    container.command = Some(command.to_vec());
    container.args = None;
    container.liveness_probe = None;
    container.readiness_probe = None;
    container.startup_probe = None;
}

/// The variables a role gets, in an order in which each may use those before it. Those that
/// differ from pod to pod (`FERMION_INDEX`, `FERMION_RANK`, `FERMION_ATTEMPT`) stand before
/// all of these: the Workload controller sets them.
fn variables(job: &TrainingJob, role: &Role) -> Vec<(String, String)> {
    let spec = &job.spec;
    let world: i64 = spec.roles.iter().map(|role| i64::from(role.replicas)).sum();
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| list.push((name.to_owned(), value));
    add("FERMION_JOB_NAME", job.name_any());
    add("FERMION_NAMESPACE", job.namespace().unwrap_or_default());
    add("FERMION_ROLE", role.name.clone());
    add("FERMION_ROLE_INDEX", "$(FERMION_INDEX)".to_owned());
    add("FERMION_WORLD_SIZE", world.to_string());
    for other in &spec.roles {
        let prefix = format!("FERMION_{}", upper(&other.name));
        add(&format!("{prefix}_REPLICAS"), other.replicas.to_string());
        if other.replicas <= HOSTS_MAX {
            let hosts: Vec<_> = (0..other.replicas).map(|index| pods::name(&job.name_any(), &other.name, index)).collect();
            add(&format!("{prefix}_HOSTS"), hosts.join(","));
        }
        for port in &other.ports {
            add(&format!("{prefix}_PORT_{}", upper(&port.name)), port.port.to_string());
        }
    }
    match spec.framework {
        Framework::Plain => {}
        Framework::PyTorch => {
            for (name, value) in pytorch(job) {
                add(name, value);
            }
        }
    }
    for (name, value) in checkpoint(spec) {
        add(name, value);
    }
    list
}

/// What `torch.distributed` reads from the environment.
///
/// Source: <https://pytorch.org/docs/stable/distributed.html#environment-variable-initialization>
fn pytorch(job: &TrainingJob) -> Vec<(&'static str, String)> {
    let Some(first) = job.spec.roles.first() else { return Vec::new() };
    let port = first.ports.iter().find(|port| port.name == "master").map_or(MASTER_PORT_DEFAULT, |port| port.port);
    vec![
        ("MASTER_ADDR", pods::name(&job.name_any(), &first.name, 0)),
        ("MASTER_PORT", port.to_string()),
        ("RANK", "$(FERMION_RANK)".to_owned()),
        ("WORLD_SIZE", "$(FERMION_WORLD_SIZE)".to_owned()),
        ("LOCAL_RANK", "0".to_owned()),
        ("NODE_RANK", "$(FERMION_RANK)".to_owned()),
    ]
}

fn checkpoint(spec: &TrainingJobSpec) -> Vec<(&'static str, String)> {
    let Some(checkpoint) = &spec.checkpoint else { return Vec::new() };
    let interval = checkpoint.interval.as_deref().and_then(|text| duration::parse(text).ok());
    let mut list = vec![("CHECKPOINT_DIR", checkpoint.directory.clone())];
    list.extend(interval.map(|interval| ("CHECKPOINT_INTERVAL_SECONDS", interval.as_secs().to_string())));
    list.extend(checkpoint.keep.map(|keep| ("CHECKPOINT_KEEP", keep.to_string())));
    list
}

/// A name as part of a variable's name.
fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// Sets the variables in every container before its own ones, so that `$(NAME)` in those and
/// in commands expands.
fn tell(spec: &mut PodSpec, variables: &[(String, String)]) {
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let ours = variables.iter().map(|(name, value)| EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None });
        container.env.get_or_insert_default().splice(0..0, ours);
    }
}

/// What the scheduler is told of a job.
pub(super) fn scheduling(job: &TrainingJob) -> Scheduling {
    children::scheduling(&job.spec.scheduling, job.spec.run_policy.max_duration.as_deref())
}

/// What the ENTRY_POINT annotation of the job's Workload must say: the entry point of debug
/// mode, or nothing.
pub(super) fn entry_point(job: &TrainingJob) -> Option<String> {
    job.spec.debug.as_ref().map(|debug| debug.command.join(" "))
}

/// Annotations of the Workload, beside what others wrote there.
pub(super) fn annotations(job: &TrainingJob) -> BTreeMap<String, String> {
    use fermion_api::labels;
    let generation = job.metadata.generation.unwrap_or_default().to_string();
    let mut annotations = BTreeMap::from([(labels::RENDERED_GENERATION.to_owned(), generation)]);
    annotations.extend(entry_point(job).map(|command| (labels::ENTRY_POINT.to_owned(), command)));
    annotations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(more: serde_json::Value) -> TrainingJob {
        let mut object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "digits", "namespace": "examples", "generation": 3},
            "spec": {
                "framework": "PyTorch",
                "roles": [
                    {"name": "chief", "ports": [{"name": "master", "port": 3333}], "template": {"spec": {"containers": [
                        {"name": "main", "image": "x", "args": ["a"], "livenessProbe": {"tcpSocket": {"port": 1}}, "env": [{"name": "MINE", "value": "$(RANK)"}]},
                    ]}}},
                    {"name": "log-reader", "replicas": 2, "restartPolicy": "OnFailure", "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
                ],
                "checkpoint": {"directory": "/data/c", "interval": "10m", "keep": 3},
            },
        });
        for (name, value) in more.as_object().expect("an object") {
            object["spec"][name] = value.clone();
        }
        serde_json::from_value(object).expect("a job")
    }

    #[test]
    fn every_pod_knows_itself_and_its_peers() {
        insta::assert_yaml_snapshot!(pod_sets(&job(json!({}))));
    }

    #[test]
    fn debug_mode_changes_the_entry_point_and_nothing_else() {
        let debug = pod_sets(&job(json!({"debug": {}})));
        let mut expected = pod_sets(&job(json!({})));
        for set in &mut expected {
            for container in &mut set.template.spec.as_mut().expect("a spec").containers {
                container.command = Some(vec!["sleep".into(), "infinity".into()]);
                container.args = None;
                container.liveness_probe = None;
            }
        }
        assert_eq!(debug, expected);
        assert_eq!(entry_point(&job(json!({"debug": {}}))).as_deref(), Some("sleep infinity"));
    }
}
