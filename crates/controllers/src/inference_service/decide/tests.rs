use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().expect("a time")
}

fn service(spec: Value, status: Option<InferenceServiceStatus>) -> InferenceService {
    let mut object = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService",
        "metadata": {"name": "s", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"engine": "LlamaCpp", "replicas": 2},
    });
    for (name, value) in spec.as_object().expect("an object") {
        object["spec"][name] = value.clone();
    }
    let mut service: InferenceService = serde_json::from_value(object).expect("a service");
    service.status = status;
    service
}

fn pod(index: i32, state: &str) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("s-server-{index}"), "labels": {"fermion.dev/role": "server", "fermion.dev/index": index.to_string()}},
        "status": {"phase": "Running"},
    });
    match state {
        "ready" => pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]),
        "starting" => {}
        "leaving" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        "crashing" => {
            let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
            pod["status"]["containerStatuses"] =
                json!([{"name": "m", "image": "", "imageID": "", "ready": false, "restartCount": 4, "state": waiting}]);
        }
        other => panic!("what is `{other}`?"),
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// The revision that `service` stands for, asking for `replicas`, with pods in these states.
fn revision(service: &InferenceService, replicas: i32, states: &[&str]) -> Revision {
    let name = format!("s-{}", render::revision(service));
    let decision = decide(&Seen { service, revisions: &[], now: time("00:00:00") });
    let mut workload = Workload::new(&name, decision.workload);
    workload.spec.pod_sets[0] = render::sized(workload.spec.pod_sets[0].clone(), replicas);
    let pods = states.iter().zip(0..).map(|(state, index)| pod(index, state)).collect();
    Revision { workload: Arc::new(workload), pods }
}

fn replicas(decision: &Decision) -> i32 {
    decision.workload.pod_sets[0].replicas
}

#[test]
fn a_service_is_ready_when_all_replicas_are() {
    let service = service(json!({}), None);
    for (states, phase, ready) in [
        (vec![], Phase::Starting, "0/2"),
        (vec!["starting", "starting"], Phase::Starting, "0/2"),
        (vec!["ready", "starting"], Phase::Progressing, "1/2"),
        (vec!["ready", "ready"], Phase::Ready, "2/2"),
        (vec!["ready", "crashing"], Phase::Degraded, "1/2"),
        (vec!["leaving", "ready"], Phase::Progressing, "1/2"),
    ] {
        let decision = decide(&Seen { service: &service, revisions: &[revision(&service, 2, &states)], now: time("00:00:00") });
        assert_eq!((decision.status.phase, decision.status.ready.as_deref()), (phase, Some(ready)), "{states:?}");
        assert_eq!(decision.status.endpoint.as_deref(), Some("/services/n/s/"));
    }
}

#[test]
fn a_changed_template_takes_over_one_by_one() {
    let before = service(json!({}), None);
    let mut after = service(json!({"port": 9000}), None);
    after.status =
        Some(decide(&Seen { service: &before, revisions: &[revision(&before, 2, &["ready", "ready"])], now: time("00:00:00") }).status);
    let now = time("00:10:00");

    let start = decide(&Seen { service: &after, revisions: &[revision(&before, 2, &["ready", "ready"])], now });
    assert_eq!((replicas(&start), start.status.phase), (1, Phase::Progressing));
    assert_eq!(start.shrink[0].1.pod_sets[0].replicas, 2);
    assert_eq!(start.status.revision_started_at, Some(Time(now)));
    assert_eq!(start.notices[0].reason, "NewRevision");

    let through = [revision(&after, 2, &["ready", "ready"]), revision(&before, 0, &["leaving"])];
    let leaving = decide(&Seen { service: &after, revisions: &through, now });
    assert!(leaving.delete.is_empty(), "its last pod still answers what it was asked");
    let through = [revision(&after, 2, &["ready", "ready"]), revision(&before, 0, &[])];
    let gone = decide(&Seen { service: &after, revisions: &through, now });
    assert_eq!(gone.delete.len(), 1);
}

#[test]
fn what_takes_too_long_is_degraded() {
    let mut service = service(json!({"progressDeadline": "5m"}), None);
    let at = |service: &InferenceService, now: &str| {
        decide(&Seen { service, revisions: &[revision(service, 2, &["ready", "starting"])], now: time(now) })
    };
    let first = at(&service, "00:00:00");
    assert_eq!((first.status.phase, first.look_again_at), (Phase::Progressing, Some(time("00:05:00"))));
    service.status = Some(first.status);
    let late = at(&service, "00:05:00");
    assert_eq!(late.status.phase, Phase::Degraded);
    let ready = conditions::find(&late.status.conditions, READY).expect("always there");
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        (reason::PROGRESS_DEADLINE_EXCEEDED, "1 of 2 replicas became ready within 5m")
    );

    // A replica lost hours later has its own time to come back.
    service.status = Some(late.status);
    let well = decide(&Seen { service: &service, revisions: &[revision(&service, 2, &["ready", "ready"])], now: time("01:00:00") });
    assert_eq!(well.status.phase, Phase::Ready);
    service.status = Some(well.status);
    let lost = at(&service, "09:00:00");
    assert_eq!((lost.status.phase, lost.look_again_at), (Phase::Progressing, Some(time("09:05:00"))));
}

#[test]
fn suspending_stops_all_revisions() {
    let old = service(json!({"port": 1}), None);
    let service = service(json!({"suspend": true}), None);
    let revisions = [revision(&service, 2, &["ready", "ready"]), revision(&old, 1, &["ready"])];
    let decision = decide(&Seen { service: &service, revisions: &revisions, now: time("00:00:00") });
    assert_eq!((decision.status.phase, decision.workload.suspend, decision.delete.len()), (Phase::Suspended, true, 1));
}

#[test]
fn scaling_touches_only_the_number() {
    let small = service(json!({}), None);
    let large = service(json!({"replicas": 5}), None);
    let decision = decide(&Seen { service: &large, revisions: &[revision(&small, 2, &["ready", "ready"])], now: time("00:00:00") });
    assert_eq!(replicas(&decision), 5);
    assert!(decision.shrink.is_empty() && decision.delete.is_empty());
    assert_eq!(decision.workload.pod_sets[0].min_replicas, Some(1));
}

#[test]
fn the_same_sight_decides_nothing_new() {
    let mut service = service(json!({}), None);
    let revisions = [revision(&service, 2, &["ready", "ready"])];
    let first = decide(&Seen { service: &service, revisions: &revisions, now: time("00:00:00") });
    service.status = Some(first.status.clone());
    let again = decide(&Seen { service: &service, revisions: &revisions, now: time("03:00:00") });
    assert_eq!(again.status, first.status);
    assert_eq!(again.workload, revisions[0].workload.spec);
    assert!(again.notices.is_empty());
}
