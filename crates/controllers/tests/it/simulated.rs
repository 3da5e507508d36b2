//! Pools of nodes that exist only as objects.

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Phase;
use fermion_api::compute::Pool;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::stage::{Stage, phase};

fn pool(count: i32) -> Value {
    let group = json!({
        "name": "gpu", "count": count, "cpu": "64", "memory": "512Gi", "accelerators": {"h100-sxm5-80gb": 8}, "nodesPerRack": 4,
    });
    json!({"kind": "Fake", "fake": {"groups": [group]}})
}

/// Pods that take all cards of a node each and run for a time.
fn gang(replicas: i32, annotations: &Value) -> Value {
    let requests = json!({"cpu": "32", "gpu.fermion.dev/h100-sxm5-80gb": "8"});
    let containers = json!([{"name": "main", "image": "x", "resources": {"requests": requests, "limits": requests}}]);
    let template = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}});
    json!({"queue": "sim", "podSets": [{"name": "worker", "replicas": replicas, "template": template}]})
}

async fn count(stage: &Stage) -> usize {
    let nodes: Api<Node> = Api::all(stage.client.clone());
    let nodes = nodes.list(&Default::default()).await.expect("a list");
    nodes.items.iter().filter(|node| node.name_any().starts_with("sim-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn gangs_run_and_end_on_nodes_that_do_not_exist() {
    let stage = Stage::with(fermion_controllers::Options::default()).await;
    stage.create("Pool", "sim", pool(40)).await;
    stage.create("Queue", "sim", json!({"pool": "sim"})).await;
    stage.wait_for("the nodes", || async { count(&stage).await == 40 }).await;
    stage.until_quiet().await;

    stage.create("Workload", "lasting", gang(30, &json!({}))).await;
    stage.until::<Workload>("lasting", |workload| workload.status.as_ref().is_some_and(|status| status.phase == Phase::Running)).await;
    stage.create("Workload", "failing", gang(1, &json!({"fermion.dev/fake-run-time": "1s", "fermion.dev/fake-exit-code": "3"}))).await;
    stage.create("Workload", "large", gang(11, &json!({"fermion.dev/fake-run-time": "1s"}))).await;
    stage.until::<Pod>("failing-worker-0", |pod| phase(pod) == "Failed").await;
    stage.until::<Workload>("large", |workload| workload.status.as_ref().is_some_and(|status| status.waiting.is_some())).await;
    stage.delete::<Workload>("lasting", &DeleteParams::default()).await;
    stage.until_gone::<Pod>("lasting-worker-29").await;
    stage.until::<Workload>("large", |workload| workload.status.as_ref().is_some_and(|status| status.phase == Phase::Succeeded)).await;
    stage.until_quiet().await;

    let pools: Api<Pool> = Api::all(stage.client.clone());
    pools.patch("sim", &PatchParams::default(), &Patch::Merge(json!({"spec": pool(3)}))).await.expect("changed");
    stage.wait_for("the surplus to go", || async { count(&stage).await == 3 }).await;
    let sums = pools.get("sim").await.expect("it is there").status.expect("a status");
    assert!(sums.capacity.contains_key("gpu.fermion.dev/h100-sxm5-80gb"), "{sums:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_nodes_need_no_signs_of_life_and_can_be_taken_down() {
    use std::time::Duration;
    let options = fermion_controllers::Options {
        node_silent_after: Duration::from_millis(100),
        node_lost_after: Duration::from_millis(200),
        ..fermion_controllers::Options::default()
    };
    let stage = Stage::with(options).await;
    stage.create("Pool", "sim", pool(2)).await;
    let nodes: Api<Node> = Api::all(stage.client.clone());
    let ready = |name: &'static str, expected: &'static str| {
        let nodes = nodes.clone();
        move || {
            let nodes = nodes.clone();
            async move {
                let node = nodes.get_opt(name).await.expect("an answer");
                let conditions = node.and_then(|node| node.status?.conditions).unwrap_or_default();
                conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == expected)
            }
        }
    };
    // The real node of the stage sends no signs of life, so it is marked; the simulated ones are not.
    stage.wait_for("the silent node to be marked", ready("local", "Unknown")).await;
    stage.wait_for("the simulated node", ready("sim-gpu-0", "True")).await;
    let down = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {"fermion.dev/fake-node-down": value}}}));
    nodes.patch("sim-gpu-1", &PatchParams::default(), &down(json!("a test"))).await.expect("changed");
    stage.wait_for("the node to go down", ready("sim-gpu-1", "False")).await;
    nodes.patch("sim-gpu-1", &PatchParams::default(), &down(Value::Null)).await.expect("changed");
    stage.wait_for("the node to come up", ready("sim-gpu-1", "True")).await;
}
