//! The pod of a DevEnvironment, and what it needs beside it.

use std::collections::BTreeMap;

use fermion_api::ai::DevEnvironment;
use fermion_api::ai::dev_environment::{App, AppKind, app_path, apps_secret_name, home_claim_name};
use fermion_api::ai::scheduling::Scheduling;
use fermion_api::ai::workload::PodSet;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, PodSpec, Probe,
    SecretKeySelector, TCPSocketAction, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::{children, owner};

/// The pod set of an environment.
pub(super) const SET: &str = "main";
/// The volume of the pod that holds the home.
const HOME_VOLUME: &str = "fermion-home";
/// Keeps a container open to work in by hand, and ends at once when it is asked to: a plain
/// `sleep` as the first process would ignore the signal.
const STAY_OPEN: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep infinity & wait"];
/// Seconds between two looks at Jupyter's port.
const PROBE_PERIOD_S: i32 = 2;

/// The pod set of an environment.
pub(super) fn pod_set(environment: &DevEnvironment) -> PodSet {
    let mut template = environment.spec.template.clone();
    let mut spec = template.spec.take().unwrap_or_default();
    spec.restart_policy = Some("Always".to_owned());
    mount_home(environment, &mut spec);
    if let Some(container) = spec.containers.first_mut() {
        enter(environment, container);
    }
    template.spec = Some(spec);
    PodSet { name: SET.to_owned(), replicas: 1, min_replicas: None, template }
}

fn mount_home(environment: &DevEnvironment, spec: &mut PodSpec) {
    let Some(home) = &environment.spec.home else { return };
    let claim = PersistentVolumeClaimVolumeSource { claim_name: home_claim_name(&environment.name_any()), read_only: None };
    spec.volumes.get_or_insert_default().push(Volume {
        name: HOME_VOLUME.to_owned(),
        persistent_volume_claim: Some(claim),
        ..Volume::default()
    });
    let Some(container) = spec.containers.first_mut() else { return };
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: HOME_VOLUME.to_owned(),
        mount_path: home.mount_path.clone(),
        ..VolumeMount::default()
    });
    container.working_dir.get_or_insert_with(|| home.mount_path.clone());
    // So that settings and what tools keep for a person outlive the container.
    let variable = EnvVar { name: "HOME".to_owned(), value: Some(home.mount_path.clone()), value_from: None };
    container.env.get_or_insert_default().insert(0, variable);
}

/// Decides what the container starts.
fn enter(environment: &DevEnvironment, container: &mut Container) {
    let apps = &environment.spec.apps;
    if let Some(app) = apps.iter().find(|app| app.kind == AppKind::Jupyter) {
        start_jupyter(environment, app, container);
    } else if container.command.is_none() && container.args.is_none() && !apps.iter().any(|app| app.kind == AppKind::Web) {
        // With a web app, the image's own entry point is what starts it.
        container.command = Some(STAY_OPEN.map(str::to_owned).to_vec());
    }
}

/// Starts JupyterLab under the address that people see, behind a proxy of another host name.
/// Its own sign-in stays on: only the proxy knows the token, and sends it.
fn start_jupyter(environment: &DevEnvironment, app: &App, container: &mut Container) {
    let Some(port) = app.port() else { return };
    let base = app_path(&environment.namespace().unwrap_or_default(), &environment.name_any(), &app.name);
    let mut command: Vec<String> = ["jupyter", "lab", "--no-browser", "--allow-root", "--ip=0.0.0.0"].map(str::to_owned).to_vec();
    command.extend([
        format!("--port={port}"),
        "--ServerApp.port_retries=0".to_owned(),
        format!("--ServerApp.base_url={base}"),
        "--ServerApp.allow_remote_access=True".to_owned(),
        "--ServerApp.trust_xheaders=True".to_owned(),
    ]);
    if let Some(home) = &environment.spec.home {
        command.push(format!("--ServerApp.root_dir={}", home.mount_path));
    }
    container.command = Some(command);
    container.args = None;
    let secret = SecretKeySelector { name: apps_secret_name(&environment.name_any()), key: app.name.clone(), optional: None };
    container.env.get_or_insert_default().insert(
        0,
        EnvVar {
            name: "JUPYTER_TOKEN".to_owned(),
            value: None,
            value_from: Some(EnvVarSource { secret_key_ref: Some(secret), ..EnvVarSource::default() }),
        },
    );
    container.readiness_probe.get_or_insert_with(|| Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
        period_seconds: Some(PROBE_PERIOD_S),
        ..Probe::default()
    });
}

/// The claim of the home volume.
pub(super) fn home_claim(environment: &DevEnvironment) -> Option<PersistentVolumeClaim> {
    let home = environment.spec.home.as_ref()?;
    let requests = BTreeMap::from([("storage".to_owned(), home.size.clone())]);
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(home_claim_name(&environment.name_any())),
            namespace: environment.namespace(),
            owner_references: owner::references(environment),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

/// What the scheduler is told of an environment.
pub(super) fn scheduling(environment: &DevEnvironment) -> Scheduling {
    children::scheduling(&environment.spec.scheduling, environment.spec.max_duration.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(spec: serde_json::Value) -> DevEnvironment {
        let mut object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "DevEnvironment",
            "metadata": {"name": "lab", "namespace": "examples", "uid": "u"},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
        });
        for (name, value) in spec.as_object().expect("an object") {
            object["spec"][name] = value.clone();
        }
        serde_json::from_value(object).expect("an environment")
    }

    fn command(environment: &DevEnvironment) -> Option<Vec<String>> {
        pod_set(environment).template.spec.expect("a spec").containers[0].command.clone()
    }

    #[test]
    fn jupyter_starts_behind_the_proxy_with_its_token() {
        let environment = environment(json!({"apps": [{"name": "jupyter", "kind": "Jupyter"}], "home": {"size": "1Gi"}}));
        insta::assert_yaml_snapshot!(pod_set(&environment));
        insta::assert_yaml_snapshot!(home_claim(&environment));
    }

    #[test]
    fn without_anything_to_start_the_container_stays_open() {
        let terminal = json!({"apps": [{"name": "shell", "kind": "Terminal"}]});
        assert_eq!(command(&environment(terminal)), Some(STAY_OPEN.map(str::to_owned).to_vec()));
        assert_eq!(command(&environment(json!({"apps": [{"name": "code", "kind": "Web", "port": 8000}]}))), None);
        let own = json!({"template": {"spec": {"containers": [{"name": "main", "image": "x", "command": ["mine"]}]}}});
        assert_eq!(command(&environment(own)), Some(vec!["mine".to_owned()]));
    }
}
