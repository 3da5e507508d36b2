use fermion_api::ai::training_job::Phase;
use fermion_api::ai::workload::Phase as WorkloadPhase;
use fermion_api::ai::{TrainingJob, Workload};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::stage::{Stage, template};

fn workers(replicas: i32, cpu: &str, more: Value) -> Value {
    let mut spec = json!({"roles": [{"name": "worker", "replicas": replicas, "template": template(cpu)}]});
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    spec
}

fn in_phase(phase: Phase) -> impl Fn(&TrainingJob) -> bool {
    move |job| job.status.as_ref().is_some_and(|status| status.phase == phase)
}

fn attempt(pod: &Pod) -> &str {
    &pod.labels()[fermion_api::labels::ATTEMPT]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_its_pods_and_succeeds_with_them() {
    let stage = Stage::new().await;
    stage.create("TrainingJob", "digits", workers(2, "1", json!({}))).await;
    let job = stage.until("digits", in_phase(Phase::Running)).await;
    assert_eq!(job.status.and_then(|status| status.ready).as_deref(), Some("2/2"));
    let pod = stage.get::<Pod>("digits-worker-1").await.expect("a pod");
    assert_eq!(pod.spec.as_ref().and_then(|spec| spec.hostname.as_deref()), Some("digits-worker-1"));
    assert_eq!(pod.labels()[fermion_api::labels::TRAINING_JOB], "digits");

    stage.end_pod("digits-worker-0", 0).await;
    stage.end_pod("digits-worker-1", 0).await;
    let job = stage.until("digits", in_phase(Phase::Succeeded)).await;
    let status = job.status.expect("a status");
    assert_eq!(status.exit_code, Some(0));
    assert!(status.started_at.is_some() && status.finished_at.is_some());
    stage
        .until::<Workload>("digits", |workload| workload.status.as_ref().is_some_and(|status| status.phase == WorkloadPhase::Succeeded))
        .await;
    assert_eq!(stage.names::<Pod>().await, ["digits-worker-0", "digits-worker-1"], "kept for their logs");
    stage
        .wait_for("the event", || async {
            let events = stage.api::<Event>().list(&Default::default()).await.expect("a list").items;
            events
                .iter()
                .any(|event| event.reason.as_deref() == Some("Succeeded") && event.involved_object.kind.as_deref() == Some("TrainingJob"))
        })
        .await;
    stage.until_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retryable_failure_starts_all_pods_over() {
    let stage = Stage::new().await;
    let spec = workers(2, "1", json!({"runPolicy": {"retries": {"limit": 1}}}));
    stage.create("TrainingJob", "shaky", spec).await;
    stage.until("shaky", in_phase(Phase::Running)).await;
    stage.end_pod("shaky-worker-0", 137).await;
    for index in 0..2 {
        stage.until::<Pod>(&format!("shaky-worker-{index}"), |pod| attempt(pod) == "1").await;
    }
    let job = stage
        .until::<TrainingJob>("shaky", |job| in_phase(Phase::Running)(job) && job.status.as_ref().is_some_and(|status| status.attempt == 1))
        .await;
    assert_eq!(job.status.map(|status| status.retries), Some(1));

    stage.end_pod("shaky-worker-1", 137).await;
    let job = stage.until("shaky", in_phase(Phase::Failed)).await;
    let status = job.status.expect("a status");
    assert_eq!(status.exit_code, Some(137));
    let failed = fermion_api::conditions::find(&status.conditions, "Failed").expect("the condition");
    assert_eq!(failed.reason, "RetriesExhausted");
    stage.until_gone::<Pod>("shaky-worker-0").await;
    assert_eq!(stage.names::<Pod>().await, ["shaky-worker-1"], "what still ran was stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_gives_its_room_to_the_next_and_comes_back() {
    let stage = Stage::new().await;
    stage.create("TrainingJob", "first", workers(1, "3", json!({}))).await;
    stage.until("first", in_phase(Phase::Running)).await;
    stage.create("TrainingJob", "second", workers(1, "3", json!({}))).await;
    let waiting =
        stage.until::<Workload>("second", |workload| workload.status.as_ref().is_some_and(|status| status.waiting.is_some())).await;
    let waiting = waiting.status.and_then(|status| status.waiting).expect("a wait");
    assert_eq!(
        (waiting.reason.as_str(), waiting.resource.as_deref(), waiting.missing.as_deref()),
        ("InsufficientResources", Some("cpu"), Some("2"))
    );

    stage.change::<TrainingJob>("first", json!({"suspend": true})).await;
    stage.until("second", in_phase(Phase::Running)).await;
    stage.until("first", in_phase(Phase::Suspended)).await;
    stage
        .until::<Workload>("second", |workload| {
            workload.status.as_ref().is_some_and(|status| status.waiting.is_none() && status.admitted_at.is_some())
        })
        .await;

    stage.end_pod("second-worker-0", 0).await;
    stage.change::<TrainingJob>("first", json!({"suspend": false})).await;
    stage.until("first", in_phase(Phase::Running)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_mode_gives_the_same_pods_another_entry_point() {
    let stage = Stage::new().await;
    stage.create("TrainingJob", "puzzle", workers(1, "1", json!({}))).await;
    stage.until("puzzle", in_phase(Phase::Running)).await;
    stage.change::<TrainingJob>("puzzle", json!({"debug": {"command": ["sleep", "1d"]}})).await;
    let pod = stage.until::<Pod>("puzzle-worker-0", |pod| attempt(pod) == "1").await;
    assert_eq!(pod.spec.and_then(|spec| spec.containers[0].command.clone()), Some(vec!["sleep".to_owned(), "1d".to_owned()]));
    stage.until("puzzle", in_phase(Phase::Running)).await;
    stage.change::<TrainingJob>("puzzle", json!({"debug": null})).await;
    let pod = stage.until::<Pod>("puzzle-worker-0", |pod| attempt(pod) == "2").await;
    assert_eq!(pod.spec.and_then(|spec| spec.containers[0].command.clone()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_job_deletes_itself_when_its_time_is_over() {
    let stage = Stage::new().await;
    let spec = workers(1, "1", json!({"runPolicy": {"cleanUp": {"pods": "All", "ttlAfterFinished": "1s"}}}));
    stage.create("TrainingJob", "brief", spec).await;
    stage.end_pod("brief-worker-0", 0).await;
    stage.until_gone::<TrainingJob>("brief").await;
    stage.until_gone::<Workload>("brief").await;
    stage.until_gone::<Pod>("brief-worker-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_a_job_reach_its_status() {
    for source in [json!({"file": "/data/metrics.jsonl"}), json!({})] {
        let stage = Stage::new().await;
        stage.files.send_replace("starting\n{\"epoch\": 1, \"loss\": 0.5}\n".to_owned());
        stage.create("TrainingJob", "digits", workers(1, "1", json!({"metrics": source}))).await;
        let metric = |name: &'static str, value: Value| {
            move |job: &TrainingJob| job.status.as_ref().and_then(|status| status.metrics.as_ref()?.get(name)) == Some(&value)
        };
        stage.until("digits", metric("epoch", json!(1))).await;
        // What is written last is read once more when the job ends.
        stage.files.send_replace("{\"epoch\": 1, \"loss\": 0.5}\n{\"epoch\": 2, \"accuracy\": 0.97}\n".to_owned());
        stage.end_pod("digits-worker-0", 0).await;
        let job = stage.until("digits", in_phase(Phase::Succeeded)).await;
        assert!(metric("accuracy", json!(0.97))(&job) && metric("loss", json!(0.5))(&job));
        assert_eq!(job.status.map(|status| status.metrics_history.len()), Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_without_its_numbers() {
    let stage = Stage::new().await;
    stage.create("TrainingJob", "mute", workers(1, "1", json!({"metrics": {"file": "/nowhere"}}))).await;
    stage.end_pod("mute-worker-0", 0).await;
    let job = stage.until("mute", in_phase(Phase::Succeeded)).await;
    assert!(job.status.is_some_and(|status| status.metrics.is_none()));
}
