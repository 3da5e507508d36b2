use fermion_api::ai::{TrainingJob, Workload};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::stage::{Stage, phase, template};

async fn running_job(stage: &Stage) {
    stage.create("TrainingJob", "job", json!({"roles": [{"name": "worker", "replicas": 2, "template": template("1")}]})).await;
    for index in 0..2 {
        stage.until::<Pod>(&format!("job-worker-{index}"), |pod| phase(pod) == "Running").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_owns_goes_after_it() {
    let stage = Stage::new().await;
    running_job(&stage).await;
    stage.delete::<TrainingJob>("job", &DeleteParams::background()).await;
    assert!(stage.get::<TrainingJob>("job").await.is_none(), "it does not wait");
    stage.until_gone::<Workload>("job").await;
    stage.wait_for("its pods to go", || async { stage.names::<Pod>().await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_in_the_foreground_goes_last() {
    let stage = Stage::new().await;
    running_job(&stage).await;
    stage.delete::<TrainingJob>("job", &DeleteParams::foreground()).await;
    stage.until_gone::<TrainingJob>("job").await;
    assert!(stage.get::<Workload>("job").await.is_none());
    assert!(stage.names::<Pod>().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaned_pods_live_on() {
    let stage = Stage::new().await;
    stage.create("Workload", "parent", json!({"podSets": [{"name": "worker", "replicas": 1, "template": template("1")}]})).await;
    stage.until::<Pod>("parent-worker-0", |pod| phase(pod) == "Running").await;
    stage.delete::<Workload>("parent", &DeleteParams::orphan()).await;
    stage.until_gone::<Workload>("parent").await;
    stage.until_quiet().await;
    let pod = stage.get::<Pod>("parent-worker-0").await.expect("alive");
    assert!(pod.metadata.deletion_timestamp.is_none() && pod.metadata.owner_references.unwrap_or_default().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_is_emptied_first() {
    let stage = Stage::new().await;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "lab"}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("made");
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), "lab");
    stage.wait_for("the service account", || async { accounts.get_opt("default").await.expect("an answer").is_some() }).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), "lab");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "map"}})).expect("a map");
    maps.create(&PostParams::default(), &map).await.expect("made");
    let workloads: Api<Workload> = Api::namespaced(stage.client.clone(), "lab");
    let workload = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "w"},
        "spec": {"podSets": [{"name": "worker", "replicas": 2, "template": template("1")}]},
    });
    workloads.create(&PostParams::default(), &serde_json::from_value(workload).expect("a workload")).await.expect("made");
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "lab");
    stage
        .wait_for("the pods", || async {
            pods.list(&Default::default()).await.expect("a list").items.iter().filter(|pod| phase(pod) == "Running").count() == 2
        })
        .await;

    namespaces.delete("lab", &DeleteParams::default()).await.expect("deleted");
    stage.wait_for("the namespace to go", || async { namespaces.get_opt("lab").await.expect("an answer").is_none() }).await;
    assert!(pods.list(&Default::default()).await.expect("a list").items.is_empty());
    assert!(maps.list(&Default::default()).await.expect("a list").items.is_empty());
}
