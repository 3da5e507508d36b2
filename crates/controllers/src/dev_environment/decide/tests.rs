use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().expect("a time")
}

fn environment(spec: Value, status: Value) -> DevEnvironment {
    let mut object = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "DevEnvironment",
        "metadata": {"name": "lab", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {
            "apps": [{"name": "jupyter", "kind": "Jupyter"}],
            "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}},
        },
        "status": status,
    });
    for (name, value) in spec.as_object().expect("an object") {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value(object).expect("an environment")
}

/// Reads words out of `ready`, `leaving`, `failed`, `crashing`.
fn pod(words: &str) -> Arc<Pod> {
    let mut pod = json!({"metadata": {"name": "lab-main-0"}, "status": {"phase": "Running"}});
    for word in words.split_whitespace() {
        match word {
            "ready" => pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]),
            "leaving" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "failed" => pod["status"]["phase"] = json!("Failed"),
            "crashing" => {
                let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
                let container = json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 4, "state": waiting});
                pod["status"]["containerStatuses"] = json!([container]);
            }
            other => panic!("what is `{other}`?"),
        }
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn run_at(environment: &DevEnvironment, pods: &[&str], now: &str) -> Decision {
    let pods: Vec<_> = pods.iter().map(|words| pod(words)).collect();
    decide(&Seen { environment, workload: None, pods: &pods, now: time(now) })
}

#[test]
fn phases_follow_the_pod_and_the_wish() {
    for (suspend, before, pods, after) in [
        (false, "Starting", vec![], Phase::Starting),
        (false, "Starting", vec![""], Phase::Starting),
        (false, "Starting", vec!["ready"], Phase::Running),
        (false, "Running", vec![""], Phase::Starting),
        (false, "Running", vec!["crashing"], Phase::Failed),
        (false, "Running", vec!["failed"], Phase::Failed),
        (false, "Failed", vec!["ready"], Phase::Running),
        (false, "Running", vec!["leaving ready"], Phase::Starting),
        (true, "Running", vec!["ready"], Phase::Stopping),
        (true, "Stopping", vec!["leaving ready"], Phase::Stopping),
        (true, "Stopping", vec![], Phase::Stopped),
        (true, "Starting", vec![], Phase::Stopped),
        (false, "Stopped", vec![], Phase::Starting),
        (false, "Stopping", vec!["leaving ready"], Phase::Starting),
    ] {
        let environment = environment(json!({"suspend": suspend}), json!({"phase": before}));
        let decision = run_at(&environment, &pods, "00:00:00");
        assert_eq!(decision.status.phase, after, "{suspend} {before} {pods:?}");
        assert_eq!(decision.workload.suspend, suspend);
    }
}

#[test]
fn apps_have_their_addresses() {
    let decision = run_at(&environment(json!({}), json!(null)), &[], "00:00:00");
    assert_eq!(decision.status.apps, [AppStatus { name: "jupyter".into(), path: "/apps/n/lab/jupyter/".into() }]);
}

#[test]
fn it_stops_when_nobody_used_it_for_the_set_time() {
    let spec = json!({"idleStopAfter": "30m"});
    let status = |used: &str| json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "lastActivityAt": used});
    let at = |used: &str, now: &str| run_at(&environment(spec.clone(), status(used)), &["ready"], now);

    let fine = at("2026-01-01T01:00:00Z", "01:29:59");
    assert_eq!((fine.stop, fine.look_again_at), (false, Some(time("01:30:00"))));
    let idle = at("2026-01-01T01:00:00Z", "01:30:00");
    assert!(idle.stop && conditions::holds(&idle.status.conditions, IDLE));
    assert_eq!(idle.notices[0].reason, reason::IDLE);
    // What was used before this start says nothing about this start.
    assert!(!at("2025-12-31T00:00:00Z", "00:10:00").stop);

    let mut stopped = environment(json!({"idleStopAfter": "30m", "suspend": true}), Value::Null);
    stopped.status = Some(DevEnvironmentStatus { phase: Phase::Stopping, ..idle.status });
    let stopped = run_at(&stopped, &[], "01:31:00");
    let ready = conditions::find(&stopped.status.conditions, READY).expect("always there");
    assert_eq!((stopped.status.phase, ready.reason.as_str()), (Phase::Stopped, reason::IDLE));

    let mut again = environment(spec, Value::Null);
    again.status = Some(stopped.status);
    let again = run_at(&again, &["ready"], "02:00:00");
    assert_eq!(again.status.started_at, Some(Time(time("02:00:00"))));
    assert!(!again.stop && !conditions::holds(&again.status.conditions, IDLE));
}

#[test]
fn it_stops_when_its_time_is_over_though_it_is_used() {
    let status = json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "lastActivityAt": "2026-01-01T07:59:00Z"});
    let environment = environment(json!({"idleStopAfter": "30m", "maxDuration": "8h"}), status);
    let fine = run_at(&environment, &["ready"], "07:59:59");
    assert_eq!((fine.stop, fine.look_again_at), (false, Some(time("08:00:00"))));
    let over = run_at(&environment, &["ready"], "08:00:00");
    assert!(over.stop && conditions::holds(&over.status.conditions, EXPIRED) && !conditions::holds(&over.status.conditions, IDLE));
    assert_eq!(over.notices[0].reason, reason::MAX_DURATION_EXCEEDED);
}

#[test]
fn a_change_takes_effect_at_the_next_start() {
    let mut environment = environment(json!({}), json!({"phase": "Running"}));
    let first = run_at(&environment, &["ready"], "00:00:00");
    let mut made = Workload::new("lab", first.workload.clone());
    environment.metadata.generation = Some(2);
    environment.spec.apps.clear();
    let decide_on = |environment: &DevEnvironment, workload: &Workload| {
        decide(&Seen { environment, workload: Some(workload), pods: &[pod("ready")], now: time("00:01:00") })
    };
    let running = decide_on(&environment, &made);
    assert_eq!((running.workload.pod_sets, running.rendered), (first.workload.pod_sets.clone(), false));
    made.spec.suspend = true;
    let stopped = decide_on(&environment, &made);
    assert!(stopped.rendered && stopped.workload.pod_sets != first.workload.pod_sets);
}
