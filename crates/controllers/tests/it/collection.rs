use fermion_api::ai::{TrainingJob, Workload};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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

/// Makes a ConfigMap and answers a reference to it as an owner that is waited for.
async fn map(stage: &Stage, name: &str, owners: &[&Value], finalizers: &[&str]) -> Value {
    let object = json!({"metadata": {"name": name, "ownerReferences": owners, "finalizers": finalizers}});
    let object: ConfigMap = serde_json::from_value(object).expect("a map");
    let made = stage.api::<ConfigMap>().create(&PostParams::default(), &object).await.expect("made");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made.uid(), "blockOwnerDeletion": true})
}

fn with(reference: &Value, field: &str, value: Value) -> Value {
    let mut reference = reference.clone();
    reference[field] = value;
    reference
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_nothing_that_is_there_goes() {
    let stage = Stage::new().await;
    let owner = map(&stage, "owner", &[], &[]).await;
    let never = with(&with(&owner, "name", json!("never")), "uid", json!("00000000-0000-0000-0000-000000000000"));
    let namesake = with(&owner, "uid", json!("00000000-0000-0000-0000-000000000001"));
    let unknown_kind = with(&with(&owner, "kind", json!("Unicorn")), "apiVersion", json!("zoo.example.com/v1"));
    map(&stage, "of-nothing", &[&never], &[]).await;
    map(&stage, "of-a-namesake", &[&namesake], &[]).await;
    map(&stage, "of-a-unicorn", &[&with(&unknown_kind, "uid", json!("2"))], &[]).await;
    map(&stage, "of-the-owner", &[&owner, &never], &[]).await;
    stage.until_gone::<ConfigMap>("of-nothing").await;
    stage.until_gone::<ConfigMap>("of-a-namesake").await;
    let kept = stage.until::<ConfigMap>("of-the-owner", |map| map.owner_references().len() == 1).await;
    assert_eq!(kept.owner_references()[0].name, "owner", "only the reference to nothing is removed");
    stage.until_quiet().await;
    assert!(stage.get::<ConfigMap>("of-a-unicorn").await.is_some(), "what cannot be judged is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_another_namespace_owns_nothing_and_an_event_says_so() {
    let stage = Stage::new().await;
    let other: Api<ConfigMap> = Api::namespaced(stage.client.clone(), "fermion-system");
    let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "far"}})).expect("a map");
    let far = other.create(&PostParams::default(), &object).await.expect("made");
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "far", "uid": far.uid()});
    let near = map(&stage, "near", &[&reference], &["example.com/hold"]).await;
    stage.until::<ConfigMap>("near", |map| map.metadata.deletion_timestamp.is_some()).await;
    let events: Api<Event> = Api::namespaced(stage.client.clone(), crate::stage::NAMESPACE);
    stage
        .wait_for("an event", || async {
            let events = events.list(&Default::default()).await.expect("a list").items;
            events.iter().any(|event| {
                event.reason.as_deref() == Some("OwnerRefInvalidNamespace")
                    && event.involved_object.uid.as_deref() == near["uid"].as_str()
                    && event.message.as_deref().is_some_and(|message| message.ends_with("does not exist in namespace \"default\""))
            })
        })
        .await;
    assert!(other.get_opt("far").await.expect("an answer").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_waits_for_those_that_block_it_and_no_others() {
    let stage = Stage::new().await;
    let owner = map(&stage, "owner", &[], &[]).await;
    map(&stage, "blocking", &[&owner], &["example.com/hold"]).await;
    map(&stage, "loose", &[&with(&owner, "blockOwnerDeletion", json!(false))], &["example.com/hold"]).await;
    stage.delete::<ConfigMap>("owner", &DeleteParams::foreground()).await;
    stage.until::<ConfigMap>("blocking", |map| map.metadata.deletion_timestamp.is_some()).await;
    stage.until_quiet().await;
    let waiting = stage.get::<ConfigMap>("owner").await.expect("still there");
    assert_eq!(waiting.finalizers(), ["foregroundDeletion"]);
    let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    stage.api::<ConfigMap>().patch("blocking", &PatchParams::default(), &released).await.expect("released");
    stage.until_gone::<ConfigMap>("owner").await;
    assert!(stage.get::<ConfigMap>("blocking").await.is_none(), "it went before its owner");
    assert!(stage.get::<ConfigMap>("loose").await.is_some(), "nobody waited for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_own_stays_until_both_are_gone() {
    let stage = Stage::new().await;
    let one = map(&stage, "one", &[], &[]).await;
    let two = map(&stage, "two", &[], &[]).await;
    map(&stage, "shared", &[&one, &two], &[]).await;
    stage.delete::<ConfigMap>("one", &DeleteParams::foreground()).await;
    stage.until_gone::<ConfigMap>("one").await;
    let shared = stage.until::<ConfigMap>("shared", |map| map.owner_references().len() == 1).await;
    assert!(shared.metadata.deletion_timestamp.is_none());
    stage.delete::<ConfigMap>("two", &DeleteParams::background()).await;
    stage.until_gone::<ConfigMap>("shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_lose_their_owner_before_it_goes() {
    let stage = Stage::new().await;
    let owner = map(&stage, "owner", &[], &[]).await;
    map(&stage, "child", &[&owner], &[]).await;
    stage.delete::<ConfigMap>("owner", &DeleteParams::orphan()).await;
    stage.until_gone::<ConfigMap>("owner").await;
    let child = stage.get::<ConfigMap>("child").await.expect("alive");
    assert!(child.metadata.deletion_timestamp.is_none() && child.owner_references().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_own_each_other_can_be_deleted_in_the_foreground() {
    let stage = Stage::new().await;
    let one = map(&stage, "one", &[], &[]).await;
    let two = map(&stage, "two", &[&one], &[]).await;
    let circle = Patch::Merge(json!({"metadata": {"ownerReferences": [two]}}));
    stage.api::<ConfigMap>().patch("one", &PatchParams::default(), &circle).await.expect("changed");
    stage.delete::<ConfigMap>("one", &DeleteParams::foreground()).await;
    stage.until_gone::<ConfigMap>("one").await;
    stage.until_gone::<ConfigMap>("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_and_finalizers_that_cannot_be_are_refused() {
    let stage = Stage::new().await;
    let owner = map(&stage, "owner", &[], &["example.com/hold"]).await;
    let api = stage.api::<ConfigMap>();
    for (owners, field) in [
        (json!([with(&owner, "uid", json!(""))]), "metadata.ownerReferences[0].uid"),
        (json!([with(&owner, "kind", json!("Event"))]), "metadata.ownerReferences[0]"),
        (
            json!([with(&owner, "controller", json!(true)), with(&with(&owner, "controller", json!(true)), "uid", json!("2"))]),
            "metadata.ownerReferences",
        ),
    ] {
        let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "child", "ownerReferences": owners}})).expect("a map");
        let refused = api.create(&PostParams::default(), &object).await.expect_err("refused").to_string();
        assert!(refused.contains(field), "{refused}");
    }
    stage.delete::<ConfigMap>("owner", &DeleteParams::background()).await;
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    let refused = api.patch("owner", &PatchParams::default(), &more).await.expect_err("refused").to_string();
    assert!(refused.contains("no new finalizers can be added"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_goes_when_its_time_is_over() {
    let stage = Stage::new().await;
    let policy = json!({"cleanUp": {"ttlAfterFinished": "1s"}});
    let roles = json!([{"name": "worker", "replicas": 1, "template": template("1")}]);
    stage.create("TrainingJob", "job", json!({"roles": roles, "runPolicy": policy})).await;
    stage.end_pod("job-worker-0", 0).await;
    stage.until_gone::<TrainingJob>("job").await;
    stage.until_gone::<Workload>("job").await;
    stage.until_gone::<Pod>("job-worker-0").await;
}
