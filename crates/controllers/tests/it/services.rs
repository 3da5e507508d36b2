use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fermion_api::ai::inference_service::Phase;
use fermion_api::ai::{InferenceService, Workload};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::stage::{Stage, phase, template};

fn service(replicas: i32, more: Value) -> Value {
    let mut spec = json!({"replicas": replicas, "port": 8000, "template": template("500m")});
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    spec
}

fn ready(replicas: i32) -> impl Fn(&InferenceService) -> bool {
    move |service| {
        let settled = service
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Phase::Ready && status.ready_replicas == replicas && status.replicas == replicas);
        settled && service.status.as_ref().and_then(|status| status.observed_generation) == service.metadata.generation
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_serves_scales_and_replaces_what_ends() {
    let stage = Stage::new().await;
    stage.create("InferenceService", "digits", service(2, json!({}))).await;
    let made = stage.until("digits", ready(2)).await;
    let status = made.status.expect("a status");
    assert_eq!(status.endpoint.as_deref(), Some("/services/default/digits/"));

    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    stage.api::<InferenceService>().patch_scale("digits", &PatchParams::default(), &scale).await.expect("scaled");
    stage.until("digits", ready(3)).await;
    stage.change::<InferenceService>("digits", json!({"replicas": 1})).await;
    stage.until("digits", ready(1)).await;

    let name = stage.names::<Pod>().await.remove(0);
    let before = stage.get::<Pod>(&name).await.expect("a pod");
    stage.end_pod(&name, 1).await;
    stage.until::<Pod>(&name, |pod| phase(pod) == "Running" && pod.metadata.uid != before.metadata.uid).await;
    stage.until("digits", ready(1)).await;
    stage.until_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_never_has_fewer_ready_replicas() {
    let stage = Arc::new(Stage::new().await);
    stage.create("InferenceService", "chat", service(3, json!({}))).await;
    let before = stage.until("chat", ready(3)).await;

    let done = Arc::new(AtomicBool::new(false));
    let observer = tokio::spawn({
        let (stage, done) = (Arc::clone(&stage), Arc::clone(&done));
        async move {
            let mut fewest = usize::MAX;
            while !done.load(Ordering::Relaxed) {
                let pods =
                    stage.api::<Pod>().list(&ListParams::default().labels("fermion.dev/inference-service=chat")).await.expect("a list");
                fewest = fewest.min(pods.items.iter().filter(|pod| fermion_api::pod::ready(pod)).count());
                tokio::task::yield_now().await;
            }
            fewest
        }
    });
    stage.change::<InferenceService>("chat", json!({"port": 9000})).await;
    let revision = before.status.and_then(|status| status.revision);
    let after = stage
        .until::<InferenceService>("chat", |service| {
            ready(3)(service) && service.status.as_ref().is_some_and(|status| status.revision != revision)
        })
        .await;
    done.store(true, Ordering::Relaxed);
    assert!(observer.await.expect("an answer") >= 3);
    let name = format!("chat-{}", after.status.and_then(|status| status.revision).expect("a revision"));
    stage.wait_for("the old revision to go", || async { stage.names::<Workload>().await == [name.clone()] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_never_gets_ready_leaves_the_old_replicas_in_place() {
    let stage = Stage::new().await;
    stage.create("InferenceService", "chat", service(2, json!({"progressDeadline": "2s"}))).await;
    stage.until("chat", ready(2)).await;
    let mut slow = template("500m");
    slow["metadata"] = json!({"labels": {"slow": "yes"}});
    stage.change::<InferenceService>("chat", json!({"template": slow})).await;
    let stuck = stage
        .until::<InferenceService>("chat", |service| service.status.as_ref().is_some_and(|status| status.phase == Phase::Degraded))
        .await;
    let status = stuck.status.expect("a status");
    assert_eq!((status.ready_replicas, status.updated_replicas, status.replicas), (2, 1, 3));
    stage.until_quiet().await;

    // Going back needs nothing new: the old revision is still there.
    stage.change::<InferenceService>("chat", json!({"template": {"metadata": null}})).await;
    let back = stage.until("chat", ready(2)).await;
    assert!(
        stage.get::<Workload>(&format!("chat-{}", back.status.and_then(|status| status.revision).expect("a revision"))).await.is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_service_stops_and_comes_back() {
    let stage = Stage::new().await;
    stage.create("InferenceService", "chat", service(1, json!({}))).await;
    stage.until("chat", ready(1)).await;
    stage.change::<InferenceService>("chat", json!({"suspend": true})).await;
    stage
        .until::<InferenceService>("chat", |service| {
            service.status.as_ref().is_some_and(|status| status.phase == Phase::Suspended && status.replicas == 0)
        })
        .await;
    stage.change::<InferenceService>("chat", json!({"suspend": false})).await;
    let service = stage.until("chat", ready(1)).await;
    assert_eq!(service.name_any(), "chat");
}
