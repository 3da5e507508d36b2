//! The pods of an InferenceService, and the revision they belong to.

use std::collections::BTreeMap;

use fermion_api::ai::InferenceService;
use fermion_api::ai::inference_service::{Engine, MODEL_MOUNT_PATH};
use fermion_api::ai::workload::PodSet;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, LifecycleHandler, PersistentVolumeClaimVolumeSource, PodSpec, Probe,
    ResourceRequirements, SleepAction, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

/// The pod set of a revision; short, because it is part of the pods' host names.
pub(super) const SET: &str = "server";
const MODEL_VOLUME: &str = "fermion-model";
const LLAMA_IMAGE: &str = "fermion.dev/llm:latest";
const LLAMA_PROGRAM: &str = "fermion-llm-serve";
const LLAMA_HEALTH_PATH: &str = "/health";
/// What a small model needs; larger ones say so in the template.
const LLAMA_CPU: &str = "500m";
const LLAMA_MEMORY: &str = "512Mi";
const LLAMA_MEMORY_LIMIT: &str = "1Gi";
/// Hexadecimal digits of a revision's name.
const REVISION_LENGTH: usize = 8;
/// A replica that leaves serves on for this long before it is told to stop: until then the
/// gateway has heard of it and sends nothing new.
const LEAVE_DELAY_S: i64 = 2;
const TERMINATION_GRACE_S: i64 = 30;
const READINESS_PERIOD_S: i32 = 2;
const LIVENESS_PERIOD_S: i32 = 10;
const LIVENESS_TIMEOUT_S: i32 = 5;
/// How long a model may take to load before the container is started again: 600 looks, one
/// each second.
const STARTUP_LOOKS: i32 = 600;

/// Name of the revision: a hash of what the person asked for. It does not depend on what this
/// version of the program makes of it, so that a new version replaces no pods.
pub(super) fn revision(service: &InferenceService) -> String {
    let spec = &service.spec;
    // Of the typed fields, whose order is fixed, unlike that of a JSON map.
    let asked = serde_json::to_vec(&(&spec.template, spec.engine, &spec.model, spec.port)).expect("fields of the API are JSON");
    let digest = Sha256::digest(asked);
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(REVISION_LENGTH)
        .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0'))
        .collect()
}

/// The pod set of the present revision with that many replicas.
pub(super) fn pod_set(service: &InferenceService, replicas: i32) -> PodSet {
    let mut template = service.spec.template.clone().unwrap_or_default();
    let mut spec = template.spec.take().unwrap_or_default();
    spec.restart_policy = Some("Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(TERMINATION_GRACE_S);
    if spec.containers.is_empty() {
        spec.containers.push(Container { name: SET.to_owned(), ..Container::default() });
    }
    mount_model(service, &mut spec);
    if let Some(container) = spec.containers.first_mut() {
        if service.spec.engine == Engine::LlamaCpp {
            serve_with_llama(service, container);
        }
        serve(service, container);
    }
    template.spec = Some(spec);
    sized(PodSet { name: SET.to_owned(), replicas, min_replicas: None, template }, replicas)
}

/// The set with another number of replicas. One of them is enough to begin.
pub(super) fn sized(set: PodSet, replicas: i32) -> PodSet {
    PodSet { replicas, min_replicas: Some(replicas.min(1)), ..set }
}

fn mount_model(service: &InferenceService, spec: &mut PodSpec) {
    let Some(claim_name) = service.spec.model.as_ref().and_then(|model| model.claim_name.clone()) else { return };
    let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: Some(true) };
    spec.volumes.get_or_insert_default().push(Volume {
        name: MODEL_VOLUME.to_owned(),
        persistent_volume_claim: Some(claim),
        ..Volume::default()
    });
    let Some(container) = spec.containers.first_mut() else { return };
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: MODEL_VOLUME.to_owned(),
        mount_path: MODEL_MOUNT_PATH.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
}

/// Where the container finds the model: in the volume, or in the image.
fn model_path(service: &InferenceService) -> Option<String> {
    let model = service.spec.model.as_ref()?;
    let path = model.path.as_deref()?;
    Some(match model.claim_name {
        Some(_) => format!("{MODEL_MOUNT_PATH}/{}", path.trim_start_matches('/')),
        None => path.to_owned(),
    })
}

/// Fills in what the llama.cpp preset stands for, where the template leaves it out.
fn serve_with_llama(service: &InferenceService, container: &mut Container) {
    let port = service.spec.port;
    if container.image.as_deref().unwrap_or_default().is_empty() {
        container.image = Some(LLAMA_IMAGE.to_owned());
    }
    if container.command.is_none() && container.args.is_none() {
        let mut command = vec![LLAMA_PROGRAM.to_owned(), "--port".to_owned(), port.to_string()];
        if let Some(path) = model_path(service) {
            command.extend(["--model".to_owned(), path]);
        }
        if let Some(model) = &service.spec.model {
            command.extend(["--name".to_owned(), model.name.clone()]);
        }
        container.command = Some(command);
    }
    container.resources.get_or_insert_with(|| {
        let amount = |text: &str| Quantity(text.to_owned());
        ResourceRequirements {
            requests: Some(BTreeMap::from([("cpu".to_owned(), amount(LLAMA_CPU)), ("memory".to_owned(), amount(LLAMA_MEMORY))])),
            limits: Some(BTreeMap::from([("memory".to_owned(), amount(LLAMA_MEMORY_LIMIT))])),
            ..ResourceRequirements::default()
        }
    });
    let health = || Probe {
        http_get: Some(HTTPGetAction {
            path: Some(LLAMA_HEALTH_PATH.to_owned()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    };
    container.startup_probe.get_or_insert_with(|| Probe { period_seconds: Some(1), failure_threshold: Some(STARTUP_LOOKS), ..health() });
    container.readiness_probe.get_or_insert_with(|| Probe { period_seconds: Some(READINESS_PERIOD_S), ..health() });
    container.liveness_probe.get_or_insert_with(|| Probe {
        period_seconds: Some(LIVENESS_PERIOD_S),
        timeout_seconds: Some(LIVENESS_TIMEOUT_S),
        ..health()
    });
}

/// What every serving container gets: its variables, its port, a readiness probe and an
/// orderly end.
fn serve(service: &InferenceService, container: &mut Container) {
    let port = service.spec.port;
    let mut variables = vec![
        ("FERMION_SERVICE_NAME", service.name_any()),
        ("FERMION_NAMESPACE", service.namespace().unwrap_or_default()),
        ("PORT", port.to_string()),
    ];
    if let Some(model) = &service.spec.model {
        variables.push(("FERMION_MODEL_NAME", model.name.clone()));
    }
    variables.extend(model_path(service).map(|path| ("FERMION_MODEL_PATH", path)));
    let ours = variables.into_iter().map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), value_from: None });
    container.env.get_or_insert_default().splice(0..0, ours);

    let ports = container.ports.get_or_insert_default();
    if !ports.iter().any(|declared| declared.container_port == port) {
        ports.push(ContainerPort { container_port: port, ..ContainerPort::default() });
    }
    container.readiness_probe.get_or_insert_with(|| Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
        period_seconds: Some(READINESS_PERIOD_S),
        ..Probe::default()
    });
    let wait = || LifecycleHandler { sleep: Some(SleepAction { seconds: LEAVE_DELAY_S }), ..LifecycleHandler::default() };
    container.lifecycle.get_or_insert_default().pre_stop.get_or_insert_with(wait);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> InferenceService {
        let object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService",
            "metadata": {"name": "chat", "namespace": "examples", "uid": "u"},
            "spec": spec,
        });
        serde_json::from_value(object).expect("a service")
    }

    #[test]
    fn the_llama_preset_needs_nothing_more() {
        insta::assert_yaml_snapshot!(pod_set(&service(json!({"engine": "LlamaCpp"})), 2));
    }

    #[test]
    fn a_model_comes_from_its_volume() {
        let service = service(json!({
            "model": {"name": "digits", "claimName": "models", "path": "digits/model.joblib"},
            "port": 9000,
            "template": {"spec": {"containers": [{"name": "main", "image": "x", "readinessProbe": {"httpGet": {"path": "/", "port": 9000}}}]}},
        }));
        insta::assert_yaml_snapshot!(pod_set(&service, 1));
    }

    #[test]
    fn a_revision_stands_for_what_was_asked() {
        let base = json!({"engine": "LlamaCpp", "replicas": 1});
        let scaled = json!({"engine": "LlamaCpp", "replicas": 5, "priority": 3});
        let moved = json!({"engine": "LlamaCpp", "port": 9000});
        assert_eq!(revision(&service(base.clone())), revision(&service(scaled)));
        assert_ne!(revision(&service(base.clone())), revision(&service(moved)));
        assert_eq!(revision(&service(base)).len(), REVISION_LENGTH);
    }
}
