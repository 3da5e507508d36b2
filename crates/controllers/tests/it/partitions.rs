//! Nodes in partitions and resource groups, and tickets that run out.

use fermion_api::compute::{Partition, ResourceTicket};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_carry_the_labels_of_where_they_are() {
    let stage = Stage::new().await;
    stage.add_node("n1", "4").await;
    stage.add_node("n2", "4").await;
    let nodes: Api<Node> = Api::all(stage.client.clone());
    let label = async |node: &str, label: &str| nodes.get(node).await.expect("a node").labels().get(label).cloned();
    const PARTITION: &str = "compute.fermion.dev/partition";
    const GROUP: &str = "compute.fermion.dev/resource-group";
    stage.create("Partition", "hpc", json!({"type": "HPC", "nodes": [{"name": "n1", "authorized": true}, {"name": "n2"}]})).await;
    stage.create("ResourceGroup", "batch", json!({"partition": "hpc", "nodes": ["n1"]})).await;
    stage.wait_for("the labels", async || label("n1", GROUP).await.as_deref() == Some("batch")).await;
    stage.wait_for("the labels", async || label("n2", PARTITION).await.as_deref() == Some("hpc")).await;
    let partitions: Api<Partition> = Api::all(stage.client.clone());
    stage
        .wait_for("the counts", async || {
            let status = partitions.get("hpc").await.expect("it is there").status.unwrap_or_default();
            (status.nodes, status.ready, status.authorized, status.grouped) == (2, 2, 1, 1)
        })
        .await;
    // What somebody else writes there is put right.
    let wrong = Patch::Merge(json!({"metadata": {"labels": {PARTITION: "mine", "other": "stays"}}}));
    nodes.patch("n2", &PatchParams::default(), &wrong).await.expect("changed");
    stage.wait_for("the label to come back", async || label("n2", PARTITION).await.as_deref() == Some("hpc")).await;
    assert_eq!(label("n2", "other").await.as_deref(), Some("stays"));
    let fewer = Patch::Merge(json!({"spec": {"nodes": [{"name": "n1", "authorized": true}]}}));
    partitions.patch("hpc", &PatchParams::default(), &fewer).await.expect("changed");
    stage.wait_for("the label to go", async || label("n2", PARTITION).await.is_none()).await;
    stage.until_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_holds_from_its_approval_to_its_end() {
    use fermion_api::compute::resource_ticket::Phase;
    let stage = Stage::new().await;
    let until = jiff::Timestamp::now().saturating_add(std::time::Duration::from_secs(3)).expect("in range");
    stage.create("ResourceTicket", "more", json!({"user": "ann", "asked": {"resources": {"cpu": "8"}}, "span": {"until": until}})).await;
    let is = |phase: Phase| move |ticket: &ResourceTicket| ticket.status.as_ref().is_some_and(|status| status.phase == phase);
    stage.until("more", is(Phase::Requested)).await;
    let decision = Patch::Merge(json!({"status": {"decision": {"verdict": "Approved"}}}));
    stage.api::<ResourceTicket>().patch_status("more", &PatchParams::default(), &decision).await.expect("decided");
    stage.until("more", is(Phase::Active)).await;
    stage.until("more", is(Phase::Expired)).await;
}
