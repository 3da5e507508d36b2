use fermion_api::ai::Workload;
use fermion_api::ai::workload::EstimateBasis;
use fermion_api::compute::{Pool, Queue};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stage::{Stage, phase, template};

fn waiting(reason: &'static str) -> impl Fn(&Workload) -> bool {
    move |workload| {
        let waiting = workload.status.as_ref().and_then(|status| status.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason == reason)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_that_does_not_fit_gets_nothing_and_says_why() {
    let stage = Stage::new().await;
    stage.create("Workload", "large", json!({"podSets": [{"name": "worker", "replicas": 3, "template": template("2")}]})).await;
    let workload = stage.until("large", waiting("ExceedsCapacity")).await;
    let waiting = workload.status.and_then(|status| status.waiting).expect("a wait");
    assert_eq!((waiting.missing.as_deref(), waiting.place.as_deref(), waiting.position), (Some("2"), Some("local"), 1));
    let pod = stage.until::<Pod>("large-worker-2", |pod| pod.status.as_ref().is_some_and(|status| status.conditions.is_some())).await;
    let scheduled = pod.status.and_then(|status| status.conditions).unwrap_or_default().remove(0);
    assert_eq!(
        (scheduled.type_.as_str(), scheduled.status.as_str(), scheduled.reason.as_deref()),
        ("PodScheduled", "False", Some("Unschedulable"))
    );
    assert_eq!(scheduled.message.as_deref(), Some(waiting.message.as_str()));
    stage.until_quiet().await;

    stage.add_node("second", "4").await;
    stage.until::<Pod>("large-worker-2", |pod| phase(pod) == "Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_pods_are_placed_too() {
    let stage = Stage::new().await;
    let pod = json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "main", "image": "fermion.dev/base:latest"}]}});
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    stage.api::<Pod>().create(&PostParams::default(), &pod).await.expect("made");
    stage.until::<Pod>("bare", |pod| phase(pod) == "Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_missing_or_down_are_named() {
    let stage = Stage::new().await;
    let spec = json!({"queue": "night", "podSets": [{"name": "worker", "replicas": 1, "template": template("1")}]});
    stage.create("Workload", "late", spec).await;
    stage.until("late", waiting("QueueNotFound")).await;
    stage.create("Queue", "night", json!({"state": "DOWN"})).await;
    stage.until("late", waiting("QueueClosed")).await;
    let queues: Api<Queue> = Api::all(stage.client.clone());
    let up = kube::api::Patch::Merge(json!({"spec": {"state": "UP"}}));
    queues.patch("night", &Default::default(), &up).await.expect("changed");
    stage.until::<Pod>("late-worker-0", |pod| phase(pod) == "Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_queues_sum_up_what_they_hold() {
    let stage = Stage::new().await;
    stage.create("Workload", "one", json!({"podSets": [{"name": "worker", "replicas": 1, "template": template("1500m")}]})).await;
    let pools: Api<Pool> = Api::all(stage.client.clone());
    stage
        .wait_for("the pool's sums", || async {
            // The scheduler makes it when it starts.
            let Some(pool) = pools.get_opt("local").await.expect("an answer") else { return false };
            let status = pool.status.unwrap_or_default();
            status.nodes == 1 && status.free.get("cpu").is_some_and(|free| free == "2500m")
        })
        .await;
    let queues: Api<Queue> = Api::all(stage.client.clone());
    stage
        .wait_for("the queue's sums", || async {
            let queue = queues.get_opt("default").await.expect("an answer");
            queue.and_then(|queue| queue.status).is_some_and(|status| status.admitted == 1)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_taken_away_is_made_again() {
    let stage = Stage::new().await;
    stage.create("Workload", "steady", json!({"podSets": [{"name": "worker", "replicas": 1, "template": template("1")}]})).await;
    let first = stage.until::<Pod>("steady-worker-0", |pod| phase(pod) == "Running").await;
    stage.delete::<Pod>("steady-worker-0", &DeleteParams::default()).await;
    let second = stage.until::<Pod>("steady-worker-0", |pod| phase(pod) == "Running" && pod.metadata.uid != first.metadata.uid).await;
    assert!(second.metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_does_not_hide_what_was_learned_of_earlier_jobs() {
    let stage = Stage::new().await;
    // Ran for an hour, long ago.
    let spec =
        json!({"environment": "Training", "suspend": true, "podSets": [{"name": "worker", "replicas": 1, "template": template("3")}]});
    stage.create_of("ada", "Workload", "past", spec).await;
    let ended =
        json!({"type": "Admitted", "status": "False", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T01:00:00Z"});
    let status = json!({"status": {"phase": "Succeeded", "admittedAt": "2026-01-01T00:00:00Z", "conditions": [ended]}});
    stage.api::<Workload>().patch_status("past", &PatchParams::default(), &Patch::Merge(status)).await.expect("written");

    let job =
        |limit: &str| json!({"roles": [{"name": "worker", "replicas": 1, "template": template("3")}], "runPolicy": {"maxDuration": limit}});
    stage.create_of("ada", "TrainingJob", "first", job("8h")).await;
    stage.until::<Pod>("first-worker-0", |pod| phase(pod) == "Running").await;
    stage.create_of("ada", "TrainingJob", "second", job("8h")).await;
    let workload = stage.until("second", |workload: &Workload| estimate(workload).is_some()).await;
    assert_eq!(estimate(&workload), Some(EstimateBasis::LearnedRunTimes));
    assert_eq!(workload.spec.owner_max_duration.as_deref(), Some("8h"));

    // Of work of somebody else nothing is known but its limit.
    stage.delete::<fermion_api::ai::TrainingJob>("first", &DeleteParams::default()).await;
    stage.delete::<fermion_api::ai::TrainingJob>("second", &DeleteParams::default()).await;
    stage.until_gone::<Pod>("second-worker-0").await;
    stage.create_of("bob", "TrainingJob", "third", job("8h")).await;
    stage.until::<Pod>("third-worker-0", |pod| phase(pod) == "Running").await;
    stage.create_of("ada", "TrainingJob", "fourth", job("8h")).await;
    let workload = stage.until("fourth", |workload: &Workload| estimate(workload).is_some()).await;
    assert_eq!(estimate(&workload), Some(EstimateBasis::TimeLimits));
}

fn estimate(workload: &Workload) -> Option<EstimateBasis> {
    workload.status.as_ref()?.waiting.as_ref()?.estimate_basis
}

#[tokio::test(flavor = "multi_thread")]
async fn who_used_much_goes_behind_after_a_restart_too() {
    let mut stage = Stage::new().await;
    stage.create("SchedulingPolicy", "fair", json!({"halfLife": "10m"})).await;
    let pools: Api<Pool> = Api::all(stage.client.clone());
    pools.patch("local", &PatchParams::default(), &Patch::Merge(json!({"spec": {"schedulingPolicy": "fair"}}))).await.expect("changed");
    stage.create("Queue", "shared", json!({"jobOrder": "FairShare"})).await;
    let work = || json!({"queue": "shared", "podSets": [{"name": "worker", "replicas": 1, "template": template("3")}]});
    stage.create_of("ada", "Workload", "first", work()).await;
    stage.until::<Pod>("first-worker-0", |pod| phase(pod) == "Running").await;
    // Long enough to count for something.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    stage.end_pod("first-worker-0", 0).await;
    stage.create_of("cyd", "Workload", "second", work()).await;
    stage.until::<Pod>("second-worker-0", |pod| phase(pod) == "Running").await;

    stage.stop().await.expect("they stop in order");
    stage.start();
    stage.create_of("ada", "Workload", "early", work()).await;
    stage.until("early", |workload: &Workload| place(workload) == Some(1)).await;
    stage.create_of("bob", "Workload", "late", work()).await;
    stage.until("late", |workload: &Workload| place(workload) == Some(1)).await;
    stage.until("early", |workload: &Workload| place(workload) == Some(2)).await;
}

fn place(workload: &Workload) -> Option<i32> {
    Some(workload.status.as_ref()?.waiting.as_ref()?.position)
}
