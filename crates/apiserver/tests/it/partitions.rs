//! Nodes in partitions and resource groups: who may leave what.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::stage::{Answer, Stage};

const COMPUTE: &str = "/apis/compute.fermion.dev/v1alpha1";
const NODES: &str = "/api/v1/nodes";

async fn make(stage: &Stage, kind: &str, name: &str, spec: Value) -> Answer {
    let object = json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    stage.post(&format!("{COMPUTE}/{}s", kind.to_lowercase()), &object).await
}

async fn change(stage: &Stage, plural: &str, name: &str, spec: Value) -> Answer {
    stage.merge(&format!("{COMPUTE}/{plural}/{name}"), &json!({"spec": spec})).await
}

#[track_caller]
fn refused(answer: Answer, words: &str) {
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.message().ends_with(words), "{}", answer.message());
}

#[tokio::test]
async fn a_node_in_use_stays_where_it_is() {
    let stage = Stage::new().await;
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": [{"type": "Hostname", "address": name}]}});
    for name in ["n1", "n2"] {
        let made = stage.post(NODES, &node(name)).await.ok();
        assert_eq!(made["status"]["addresses"][0]["address"], name, "who makes a node may say what it has");
    }
    make(&stage, "Partition", "hpc", json!({"type": "HPC", "nodes": [{"name": "n1"}, {"name": "n2"}]})).await.ok();
    refused(
        make(&stage, "Partition", "ai", json!({"type": "AI", "nodes": [{"name": "n1"}]})).await,
        "node \"n1\" is in partition \"hpc\"; take it out there first",
    );
    let group = json!({"partition": "hpc", "nodes": ["n1"]});
    refused(make(&stage, "ResourceGroup", "batch", group.clone()).await, "set its `authorized` to true there first");
    let authorized = json!({"nodes": [{"name": "n1", "authorized": true}, {"name": "n2"}]});
    change(&stage, "partitions", "hpc", authorized.clone()).await.ok();
    make(&stage, "ResourceGroup", "batch", group.clone()).await.ok();
    refused(make(&stage, "ResourceGroup", "other", group).await, "node \"n1\" is in resource group \"batch\"; take it out there first");
    refused(make(&stage, "ResourceGroup", "third", json!({"partition": "hpc", "nodes": ["n3"]})).await, "put it there first");

    let in_group = "node \"n1\" is in resource group \"batch\", whose queues use it; take it out there first";
    refused(change(&stage, "partitions", "hpc", json!({"nodes": [{"name": "n2"}]})).await, in_group);
    refused(change(&stage, "partitions", "hpc", json!({"nodes": [{"name": "n1"}, {"name": "n2"}]})).await, in_group);
    refused(stage.delete(&format!("{COMPUTE}/partitions/hpc")).await, in_group);
    change(&stage, "resourcegroups", "batch", json!({"nodes": []})).await.ok();
    refused(
        change(&stage, "partitions", "hpc", json!({"nodes": [{"name": "n2"}]})).await,
        "node \"n1\" is authorised for HPC; set its `authorized` to false first",
    );
    refused(stage.delete(&format!("{NODES}/n1")).await, "it is in partition \"hpc\"; take it out there first");
    change(&stage, "partitions", "hpc", json!({"nodes": [{"name": "n1"}, {"name": "n2"}]})).await.ok();
    change(&stage, "partitions", "hpc", json!({"nodes": [{"name": "n2"}]})).await.ok();
    stage.delete(&format!("{NODES}/n1")).await.ok();
    // Neither its purpose nor its partition can change.
    assert_eq!(change(&stage, "partitions", "hpc", json!({"type": "AI"})).await.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(change(&stage, "resourcegroups", "batch", json!({"partition": "ai"})).await.code, StatusCode::UNPROCESSABLE_ENTITY);
}
