use kube::ResourceExt;
use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

/// A job-like Workload with 1 chief and 2 workers.
fn workload(spec: serde_json::Value, status: serde_json::Value) -> Workload {
    let template =
        json!({"spec": {"containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}});
    let mut object = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
        "metadata": {"name": "w", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"podSets": [
            {"name": "chief", "replicas": 1, "template": template},
            {"name": "worker", "replicas": 2, "template": template},
        ]},
        "status": status,
    });
    for (name, value) in spec.as_object().expect("an object") {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value(object).expect("a workload")
}

#[test]
fn what_runs_longer_than_it_may_fails_and_stops() {
    let status = json!({"phase": "Running", "admittedAt": "2026-01-01T00:00:00Z"});
    let seen_at = |limit: &str, status: serde_json::Value| {
        let workload = workload(json!({"maxDuration": limit}), status);
        let pods = ["chief-0 Succeeded node", "worker-0 Running node", "worker-1 Running node"].map(pod);
        decide(&Seen {
            workload: &workload,
            pods: &pods,
            taken: &|_| false,
            models: &fermion_api::cards::known,
            now: NOW.parse().expect("a time"),
        })
    };
    let fine = seen_at("1h1s", status.clone());
    assert_eq!((fine.status.phase, fine.look_again_at), (Phase::Running, Some("2026-01-01T01:00:01Z".parse().expect("a time"))));
    assert!(fine.delete.is_empty());
    let over = seen_at("1h", status);
    assert_eq!(over.status.phase, Phase::Failed);
    assert_eq!(over.delete.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), ["w-worker-0", "w-worker-1"]);
    let why = conditions::find(&over.status.conditions, ADMITTED).expect("always there");
    assert_eq!(why.reason, reason::MAX_DURATION_EXCEEDED);
    let later = seen_at("1h", serde_json::to_value(&over.status).expect("JSON"));
    assert_eq!((later.status.phase, later.delete.len(), later.create.len()), (Phase::Failed, 2, 0), "it stays so until the pods are gone");
}

/// A service-like Workload of `replicas` pods.
fn service(replicas: i32, status: serde_json::Value) -> Workload {
    let template = json!({"spec": {"containers": [{"name": "main", "image": "x"}]}});
    workload(
        json!({"endedPods": "Replace", "podSets": [{"name": "server", "replicas": replicas, "minReplicas": 1, "template": template}]}),
        status,
    )
}

#[test]
fn what_was_stopped_is_back_with_pods_that_got_their_nodes_since() {
    let evicted = json!({
        "type": EVICTED, "status": "True", "reason": reason::INCOMPLETE, "message": "", "lastTransitionTime": "2026-01-01T00:30:00Z",
    });
    let is_back = |before: &str, pods: [&str; 3]| {
        let decision = run(&workload(json!({}), json!({"phase": before, "conditions": [evicted]})), &pods);
        assert_eq!(decision.status.phase, Phase::Running);
        let evicted = conditions::find(&decision.status.conditions, EVICTED).expect("it stays");
        assert_eq!(evicted.reason, if evicted.status == "True" { reason::INCOMPLETE } else { reason::RETURNED });
        evicted.status == "False"
    };
    let new = ["chief-0 Running made=00:30:01 placed=00:30:05", "worker-0 Running made=00:30:01 placed=00:30:05"];
    let with = |last: &'static str| [new[0], new[1], last];
    assert!(is_back("Pending", with("worker-1 Running made=00:30:01 placed=00:30:05")));
    // It was there already and waited: it was not stopped, as it had nothing.
    assert!(is_back("Pending", with("worker-1 Running made=00:29:59 placed=00:30:05")));
    assert!(is_back("Pending", with("worker-1 Running made=00:29:59 node started=00:30:06")));
    assert!(is_back("Running", with("worker-1 Running made=00:29:59 placed=00:30:05")));
    // Of the same second: of before, or new.
    assert!(is_back("Pending", with("worker-1 Running made=00:29:59 placed=00:30:00")));
    assert!(!is_back("Running", with("worker-1 Running made=00:29:59 placed=00:30:00")));
    // Of before: that it is being stopped is not seen yet.
    assert!(!is_back("Pending", with("worker-1 Running made=00:20:00 placed=00:20:01")));
    assert!(!is_back("Pending", with("worker-1 Running made=00:20:00 node started=00:20:02")));
}

/// Reads `worker-0 Running ready node deleting attempt=1 ended=00:59:00 ready-since=00:10:00`.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split(' ');
    let place = words.next().expect("a name");
    let (role, index) = place.rsplit_once('-').expect("role-index");
    let mut pod = json!({
        "metadata": {
            "name": format!("w-{place}"), "namespace": "n", "uid": place,
            "labels": {"fermion.dev/workload": "w", "fermion.dev/role": role, "fermion.dev/index": index, "fermion.dev/attempt": "0"},
        },
        "spec": {"containers": []},
        "status": {"phase": "Pending"},
    });
    let time = |time: &str| format!("2026-01-01T{time}Z");
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("node", _) => pod["spec"]["nodeName"] = json!("local"),
            ("ready", _) => pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]),
            ("ready-since", at) => {
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": time(at)}]);
            }
            ("made", at) => pod["metadata"]["creationTimestamp"] = json!(time(at)),
            ("placed", at) => {
                pod["spec"]["nodeName"] = json!("local");
                pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": time(at)}]);
            }
            ("started", at) => pod["status"]["startTime"] = json!(time(at)),
            ("deleting", _) => pod["metadata"]["deletionTimestamp"] = json!(NOW),
            ("attempt", attempt) => pod["metadata"]["labels"]["fermion.dev/attempt"] = json!(attempt),
            ("ended", at) => {
                let ended = json!({"exitCode": 1, "startedAt": time("00:00:00"), "finishedAt": time(at)});
                pod["status"]["containerStatuses"] = json!([
                    {"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}}
                ]);
            }
            (phase, _) => pod["status"]["phase"] = json!(phase),
        }
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn run(workload: &Workload, pods: &[&str]) -> Decision {
    run_beside(workload, pods, &[])
}

fn run_beside(workload: &Workload, pods: &[&str], taken: &[&str]) -> Decision {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let taken = |name: &str| taken.contains(&name);
    decide(&Seen { workload, pods: &pods, taken: &taken, models: &fermion_api::cards::known, now: NOW.parse().expect("a time") })
}

fn created(decision: &Decision) -> Vec<String> {
    decision.create.iter().map(ResourceExt::name_any).collect()
}

fn deleted(decision: &Decision) -> Vec<String> {
    decision.delete.iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn a_new_workload_gets_all_its_pods() {
    let decision = run(&workload(json!({}), json!(null)), &[]);
    assert_eq!(created(&decision), ["w-chief-0", "w-worker-0", "w-worker-1"]);
    assert_eq!(decision.status.phase, Phase::Pending);
    assert_eq!(decision.status.requests, [("cpu".to_owned(), "1500m".to_owned()), ("memory".to_owned(), "3Gi".to_owned())].into());
}

#[test]
fn phases_follow_the_pods() {
    let all = |state: &str| -> Vec<String> { ["chief-0", "worker-0", "worker-1"].iter().map(|name| format!("{name} {state}")).collect() };
    for (before, pods, after) in [
        ("Pending", all("node"), Phase::Admitted),
        ("Pending", all("Running node"), Phase::Running),
        ("Admitted", all("Running node"), Phase::Running),
        ("Running", all("Succeeded node"), Phase::Succeeded),
        ("Running", vec!["chief-0 Running node".into(), "worker-0 Running node".into()], Phase::Pending),
        ("Running", vec!["chief-0 Running node".into(), "worker-0 Running node".into(), "worker-1 Failed node".into()], Phase::Failed),
        ("Succeeded", vec![], Phase::Succeeded),
        ("Suspended", all("node"), Phase::Admitted),
    ] {
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let decision = run(&workload(json!({}), json!({"phase": before})), &pods);
        assert_eq!(decision.status.phase, after, "{before} with {pods:?}");
    }
}

#[test]
fn the_same_sight_decides_nothing_new() {
    let pods = ["chief-0 Running node", "worker-0 Running node ready", "worker-1 Running node"];
    let first = run(&workload(json!({}), json!(null)), &pods);
    let again = run(&workload(json!({}), serde_json::to_value(&first.status).expect("json")), &pods);
    assert_eq!(again.status, first.status);
    assert!(again.create.is_empty() && again.delete.is_empty() && again.notices.is_empty());
}

#[test]
fn an_owner_decides_itself_what_counts_as_failed() {
    let mut owned = workload(json!({}), json!({"phase": "Running"}));
    owned.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({"apiVersion": "a", "kind": "b", "name": "c", "uid": "d", "controller": true})).expect("a reference"),
    ]);
    let decision = run(&owned, &["chief-0 Running node", "worker-0 Running node", "worker-1 Failed node"]);
    assert_eq!(decision.status.phase, Phase::Running);
}

#[test]
fn suspension_stops_what_runs_and_keeps_what_ended() {
    let decision = run(
        &workload(json!({"suspend": true}), json!({"phase": "Running"})),
        &["chief-0 Succeeded", "worker-0 Running", "worker-1 Running deleting"],
    );
    assert_eq!(decision.status.phase, Phase::Suspended);
    assert_eq!(deleted(&decision), ["w-worker-0"]);
    assert!(created(&decision).is_empty());
}

#[test]
fn resuming_makes_only_what_is_missing() {
    let decision = run(&workload(json!({}), json!({"phase": "Suspended"})), &["chief-0 Succeeded node", "worker-0 Running node deleting"]);
    assert_eq!(decision.status.phase, Phase::Pending);
    assert_eq!(created(&decision), ["w-worker-1"], "worker-0 still leaves");
}

#[test]
fn a_new_attempt_begins_when_the_last_pod_of_the_old_one_is_gone() {
    let workload = workload(json!({"attempt": 1}), json!({"phase": "Running", "admittedAt": NOW}));
    let decision = run(&workload, &["chief-0 Failed node", "worker-0 Running node", "worker-1 Running node deleting"]);
    assert_eq!(deleted(&decision), ["w-chief-0", "w-worker-0"]);
    assert!(created(&decision).is_empty());
    assert_eq!((decision.status.phase, decision.status.observed_attempt, decision.status.admitted_at.is_none()), (Phase::Pending, 1, true));

    let decision = run(&workload, &[]);
    assert_eq!(created(&decision), ["w-chief-0", "w-worker-0", "w-worker-1"]);
    assert_eq!(decision.create[0].labels()[fermion_api::labels::ATTEMPT], "1");
}

#[test]
fn an_ended_workload_starts_over_with_a_new_attempt_only() {
    assert!(created(&run(&workload(json!({}), json!({"phase": "Succeeded"})), &[])).is_empty());
    let again = run(&workload(json!({"attempt": 1}), json!({"phase": "Succeeded"})), &[]);
    assert_eq!(created(&again).len(), 3);
}

#[test]
fn a_closed_workload_cleans_up_as_told() {
    let pods = ["chief-0 Succeeded", "worker-0 Running", "worker-1 Failed"];
    for (which, gone) in [("Running", vec!["w-worker-0"]), ("All", vec!["w-chief-0", "w-worker-0", "w-worker-1"]), ("None", vec![])] {
        let decision = run(&workload(json!({"closed": {"succeeded": true, "deletePods": which}}), json!({"phase": "Running"})), &pods);
        assert_eq!(deleted(&decision), gone, "{which}");
        assert_eq!(decision.status.phase, Phase::Succeeded);
        assert!(created(&decision).is_empty());
    }
    let failed = run(&workload(json!({"closed": {"succeeded": false}}), json!({"phase": "Running"})), &["chief-0 Failed"]);
    assert_eq!(failed.status.phase, Phase::Failed);
    assert!(created(&failed).is_empty());
}

#[test]
fn scaling_down_removes_the_highest_indexes() {
    let decision =
        run(&service(1, json!({"phase": "Running"})), &["server-0 Running node", "server-1 Running node", "server-2 Running node"]);
    assert_eq!(deleted(&decision), ["w-server-1", "w-server-2"]);
}

#[test]
fn the_first_replacement_comes_at_once_and_the_next_ones_later() {
    let ended = "server-0 Failed node ended=00:59:55";
    let first = run(&service(1, json!({"phase": "Running"})), &[ended]);
    assert_eq!(deleted(&first), ["w-server-0"]);
    assert_eq!(first.status.pod_sets[0].replaced, 1);

    let status = json!({"phase": "Running", "podSets": [{"name": "server", "replicas": 1, "scheduled": 1, "running": 0, "ready": 0, "succeeded": 0, "failed": 0, "replaced": 1}]});
    let second = run(&service(1, status.clone()), &[ended]);
    assert!(deleted(&second).is_empty());
    assert_eq!(second.look_again_at, Some("2026-01-01T01:00:05Z".parse().expect("a time")));

    let calm = run(&service(1, status), &["server-0 Running node ready-since=00:40:00"]);
    assert_eq!(calm.status.pod_sets[0].replaced, 0);
}

#[test]
fn a_foreign_pod_in_the_way_is_named() {
    let decision = run_beside(&workload(json!({}), json!(null)), &[], &["w-worker-0"]);
    assert_eq!(created(&decision), ["w-chief-0", "w-worker-1"]);
    let condition = conditions::find(&decision.status.conditions, MEMBERS_MADE).expect("the condition");
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "NameTaken"));
}
