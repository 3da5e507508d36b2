use fermion_api::ai::dev_environment::Phase;
use fermion_api::ai::{DevEnvironment, Workload};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, Patch};
use serde_json::{Value, json};

use crate::stage::{Stage, template};

fn lab() -> Value {
    json!({"apps": [{"name": "jupyter", "kind": "Jupyter"}], "home": {"size": "1Gi"}, "template": template("1")})
}

fn in_phase(phase: Phase) -> impl Fn(&DevEnvironment) -> bool {
    move |environment| environment.status.as_ref().is_some_and(|status| status.phase == phase)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_stops_and_starts_and_keeps_its_home() {
    let stage = Stage::new().await;
    stage.create("DevEnvironment", "lab", lab()).await;
    let environment = stage.until("lab", in_phase(Phase::Running)).await;
    let status = environment.status.expect("a status");
    assert_eq!((status.pod_name.as_deref(), status.apps[0].path.as_str()), (Some("lab-main-0"), "/apps/default/lab/jupyter/"));
    let secret = stage.get::<Secret>("lab-apps").await.expect("a secret");
    let token = secret.data.expect("data").remove("jupyter").expect("a token");
    assert!(token.0.len() == 64 && token.0.iter().all(u8::is_ascii_hexdigit));
    let home = stage.get::<PersistentVolumeClaim>("lab-home").await.expect("a claim");

    stage.change::<DevEnvironment>("lab", json!({"suspend": true})).await;
    stage.until("lab", in_phase(Phase::Stopped)).await;
    assert!(stage.names::<Pod>().await.is_empty());
    stage.change::<DevEnvironment>("lab", json!({"suspend": false, "home": {"size": "2Gi"}})).await;
    stage.until("lab", in_phase(Phase::Running)).await;
    let again = stage.get::<PersistentVolumeClaim>("lab-home").await.expect("a claim");
    assert_eq!(again.metadata.uid, home.metadata.uid);
    stage
        .until::<PersistentVolumeClaim>("lab-home", |claim| {
            let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
            requests.is_some_and(|requests| requests["storage"].0 == "2Gi")
        })
        .await;
    stage.until_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_nobody_uses_stops_itself() {
    let stage = Stage::new().await;
    let mut spec = lab();
    spec["idleStopAfter"] = json!("3s");
    stage.create("DevEnvironment", "idle", spec).await;
    stage.until("idle", in_phase(Phase::Running)).await;
    // Used now, as the gateway would say it.
    let used = Timestamp::now() + SignedDuration::from_secs(1);
    let body = Patch::Merge(json!({"status": {"lastActivityAt": used}}));
    stage.api::<DevEnvironment>().patch_status("idle", &Default::default(), &body).await.expect("written");
    let stopped = stage.until("idle", in_phase(Phase::Stopped)).await;
    assert!(Timestamp::now().duration_since(used) >= SignedDuration::from_secs(3));
    assert!(stopped.spec.suspend);
    let status = stopped.status.expect("a status");
    assert!(fermion_api::conditions::holds(&status.conditions, "Idle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_environment_takes_everything_along() {
    let stage = Stage::new().await;
    stage.create("DevEnvironment", "lab", lab()).await;
    stage.until("lab", in_phase(Phase::Running)).await;
    stage.delete::<DevEnvironment>("lab", &DeleteParams::default()).await;
    stage.until_gone::<Workload>("lab").await;
    stage.until_gone::<Pod>("lab-main-0").await;
    stage.until_gone::<Secret>("lab-apps").await;
    stage.until_gone::<PersistentVolumeClaim>("lab-home").await;
}
