use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::stage::{Stage, phase};

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

async fn add_pod(stage: &Stage, name: &str, labels: Value) -> String {
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "ports": [{"name": "http", "containerPort": 8080}]}]);
    let pod: Pod = object(json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "local", "containers": containers}}));
    stage.api::<Pod>().create(&PostParams::default(), &pod).await.expect("made");
    let running = stage.until::<Pod>(name, |pod| phase(pod) == "Running").await;
    running.status.and_then(|status| status.pod_ip).expect("an address")
}

/// The pods that are ready, those that are not, and the ports.
fn told(endpoints: &Endpoints) -> (Vec<String>, Vec<String>, Vec<i32>) {
    let subsets = || endpoints.subsets.iter().flatten();
    let ready = subsets().flat_map(|subset| subset.addresses.iter().flatten()).map(|address| address.ip.clone());
    let others = subsets().flat_map(|subset| subset.not_ready_addresses.iter().flatten()).map(|address| address.ip.clone());
    let ports = subsets().flat_map(|subset| subset.ports.iter().flatten()).map(|port| port.port);
    (ready.collect(), others.collect(), ports.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods_behind_a_service() {
    let stage = Stage::new().await;
    let service: Service = object(json!({
        "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }));
    stage.api::<Service>().create(&PostParams::default(), &service).await.expect("made");
    let empty = stage.until::<Endpoints>("web", |_| true).await;
    assert_eq!(told(&empty), (vec![], vec![], vec![]));
    assert_eq!((&*empty.labels()["team"], &*empty.labels()["service.kubernetes.io/headless"]), ("a", ""));

    let first = add_pod(&stage, "first", json!({"app": "web"})).await;
    let slow = add_pod(&stage, "slow", json!({"app": "web", "slow": "yes"})).await;
    add_pod(&stage, "other", json!({"app": "other"})).await;
    let both = (vec![first.clone()], vec![slow.clone()], vec![8080]);
    stage.until::<Endpoints>("web", |endpoints| told(endpoints) == both).await;

    // What somebody else writes there does not stay.
    let nothing = Patch::Merge(json!({"subsets": null}));
    stage.api::<Endpoints>().patch("web", &PatchParams::default(), &nothing).await.expect("written");
    stage.until::<Endpoints>("web", |endpoints| told(endpoints) == both).await;

    let others = Patch::Merge(json!({"metadata": {"labels": {"app": "other"}}}));
    stage.api::<Pod>().patch("slow", &PatchParams::default(), &others).await.expect("written");
    stage.until::<Endpoints>("web", |endpoints| told(endpoints) == (vec![first.clone()], vec![], vec![8080])).await;
    stage.delete::<Pod>("first", &DeleteParams::default()).await;
    stage.until::<Endpoints>("web", |endpoints| told(endpoints) == (vec![], vec![], vec![])).await;

    stage.delete::<Service>("web", &DeleteParams::default()).await;
    stage.until_gone::<Endpoints>("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_a_service_without_a_selector_are_left_alone() {
    let stage = Stage::new().await;
    let service: Service = object(json!({"metadata": {"name": "outside"}, "spec": {"clusterIP": "None", "ports": [{"port": 443}]}}));
    stage.api::<Service>().create(&PostParams::default(), &service).await.expect("made");
    let written: Endpoints = object(json!({
        "metadata": {"name": "outside"},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 8443}]}],
    }));
    let made = stage.api::<Endpoints>().create(&PostParams::default(), &written).await.expect("made");
    stage.until_quiet().await;
    assert_eq!(stage.get::<Endpoints>("outside").await, Some(made));
}
