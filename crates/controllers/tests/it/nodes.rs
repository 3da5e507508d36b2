use std::time::Duration;

use fermion_api::ai::TrainingJob;
use fermion_controllers::Options;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::stage::{Stage, template};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_a_node_that_falls_silent_starts_over_elsewhere() {
    let silent_after = Duration::from_secs(3);
    let stage = Stage::with(Options { node_silent_after: silent_after, node_lost_after: silent_after * 2, ..Options::default() }).await;
    let spec = json!({
        "roles": [{"name": "worker", "template": template("1")}],
        "runPolicy": {"retries": {"limit": 1}},
    });
    stage.create("TrainingJob", "travels", spec).await;
    let nodes: Api<Node> = Api::all(stage.client.clone());
    stage
        .wait_for("the node to be unknown", || async {
            let node = nodes.get("local").await.expect("a node");
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
        })
        .await;
    let job = stage.until::<TrainingJob>("travels", |job| job.status.as_ref().is_some_and(|status| status.attempt == 1)).await;
    let told = job.status.and_then(|status| fermion_api::conditions::find(&status.conditions, "Restarting").cloned()).expect("a condition");
    assert!(told.message.contains("NodeLost"), "{}", told.message);

    // A node that has just come can run it, before it falls silent as well.
    stage.add_node("other", "4").await;
    let pod = stage.until::<Pod>("travels-worker-0", |pod| pod.labels()[fermion_api::labels::ATTEMPT] == "1").await;
    stage.until::<Pod>(&pod.name_any(), |pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("other"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stops_when_asked_to() {
    let mut stage = Stage::new().await;
    stage.create("Workload", "one", json!({"podSets": [{"name": "worker", "replicas": 1, "template": template("1")}]})).await;
    stage.until::<Pod>("one-worker-0", |pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).await;
    stage.stop().await.expect("in order");
}
