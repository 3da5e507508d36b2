use super::*;
use crate::pod::state::{BackOff, Facts, Health, Observed, PodFailure, SandboxSeen};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn seen(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> ContainerSeen {
    ContainerSeen {
        id: format!("{name}{attempt}"),
        sandbox_id: "s0".to_owned(),
        name: name.to_owned(),
        attempt,
        state,
        started_at: Some(at(10)),
        finished_at: (state == ContainerState::Exited).then(|| at(20)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        image_ref: "sha256:1".to_owned(),
        ends_before: attempt,
    }
}

fn observed(containers: &[ContainerSeen]) -> Observed {
    let sandbox = SandboxSeen { id: "s0".to_owned(), attempt: 0, ready: true, created_at: at(0), ips: vec!["10.0.0.2".to_owned()] };
    Observed { sandboxes: vec![sandbox], containers: containers.to_vec() }
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod")
}

fn one(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]}))
}

fn status_of(pod: &Pod, observed: &Observed, facts: &Facts, now: i64) -> PodStatus {
    let spec = pod.spec.clone().expect("a spec");
    let input = Input { pod, spec: &spec, observed, facts, back_off: BackOff::default(), now: at(now) };
    status(&input, "192.0.2.1")
}

fn first(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().expect("statuses")[0]
}

fn waiting_of(status: &PodStatus) -> (String, String) {
    let waiting = first(status).state.as_ref().and_then(|state| state.waiting.clone()).expect("it waits");
    (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_).expect("the condition")
}

fn failure(reason: &'static str, count: u32) -> Failure {
    Failure { reason, message: "why".to_owned(), retry_at: at(500), count }
}

#[test]
fn phases_follow_the_containers() {
    use ContainerState::{Exited, Running};
    for (policy, containers, expected) in [
        ("Always", vec![], "Pending"),
        ("Always", vec![seen("a", 0, Running, 0)], "Running"),
        ("Always", vec![seen("a", 0, Exited, 1)], "Running"),
        ("OnFailure", vec![seen("a", 0, Exited, 0)], "Succeeded"),
        ("OnFailure", vec![seen("a", 0, Exited, 1)], "Running"),
        ("Never", vec![seen("a", 0, Exited, 0)], "Succeeded"),
        ("Never", vec![seen("a", 0, Exited, 1)], "Failed"),
    ] {
        let status = status_of(&one(policy), &observed(&containers), &Facts::default(), 21);
        assert_eq!(status.phase.as_deref(), Some(expected), "{policy} {containers:?}");
    }
}

#[test]
fn a_pod_is_not_terminal_while_something_of_it_runs() {
    let failed = PodFailure { reason: "DeadlineExceeded".to_owned(), message: "late".to_owned() };
    let facts = Facts { failed: Some(failed), ..Facts::default() };
    let running = status_of(&one("Never"), &observed(&[seen("a", 0, ContainerState::Running, 0)]), &facts, 21);
    assert_eq!(running.phase.as_deref(), Some("Running"));
    let over = status_of(&one("Never"), &observed(&[seen("a", 0, ContainerState::Exited, 143)]), &facts, 21);
    assert_eq!((over.phase.as_deref(), over.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
}

#[test]
fn waiting_reasons_name_the_nearest_cause() {
    let pod = one("Always");
    let empty = observed(&[]);
    let reason = |facts: &Facts| waiting_of(&status_of(&pod, &empty, facts, 100));
    let pair = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
    assert_eq!(reason(&Facts::default()), pair("ContainerCreating", ""));
    let with_image = |step| Facts { images: [("a".to_owned(), step)].into(), ..Facts::default() };
    assert_eq!(reason(&with_image(Step::Failed(failure("ErrImagePull", 1)))), pair("ErrImagePull", "why"));
    assert_eq!(reason(&with_image(Step::Failed(failure("ErrImagePull", 2)))), pair("ImagePullBackOff", "why"));
    assert_eq!(reason(&with_image(Step::Failed(failure("ErrImageNeverPull", 2)))), pair("ErrImageNeverPull", "why"));
    let building = Facts { image_progress: [("a".to_owned(), "step 2 of 5".to_owned())].into(), ..Facts::default() };
    assert_eq!(reason(&building), pair("ContainerCreating", "step 2 of 5"));
    let volumes = Facts { volumes: Step::Failed(failure("FailedMount", 1)), ..Facts::default() };
    assert_eq!(reason(&volumes), pair("ContainerCreating", "why"));
    let config = Facts { starts: [("a".to_owned(), failure("CreateContainerConfigError", 1))].into(), ..Facts::default() };
    assert_eq!(reason(&config), pair("CreateContainerConfigError", "why"));
    let peers = Facts { peers: Peers::Awaited { missing: vec!["q".to_owned()], until: at(130) }, ..Facts::default() };
    let text = "waiting up to 30 s for the addresses of the other pods of the workload: q";
    assert_eq!(reason(&peers), pair("ContainerCreating", text));
}

#[test]
fn a_crash_loop_shows_the_last_end() {
    let pod = one("Always");
    let crashed = seen("a", 2, ContainerState::Exited, 3);
    let status = status_of(&pod, &observed(&[crashed]), &Facts::default(), 21);
    let container = first(&status);
    assert_eq!(waiting_of(&status).0, "CrashLoopBackOff");
    assert_eq!(container.restart_count, 2);
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref()).expect("a last state");
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    let running = seen("a", 3, ContainerState::Running, 0);
    let status = status_of(&pod, &observed(&[running, seen("a", 2, ContainerState::Exited, 3)]), &Facts::default(), 21);
    let last = first(&status).last_state.as_ref().and_then(|last| last.terminated.as_ref()).expect("a last state");
    assert_eq!(last.exit_code, 3);
}

#[test]
fn ends_are_told_with_reason_signal_and_words() {
    let end = |exit_code, reason: &str| {
        let mut container = seen("a", 0, ContainerState::Exited, exit_code);
        reason.clone_into(&mut container.reason);
        let words = [("a0".to_owned(), "last words".to_owned())].into();
        let facts = Facts { termination_messages: words, ..Facts::default() };
        let status = status_of(&one("Never"), &observed(&[container]), &facts, 21);
        first(&status).state.clone().and_then(|state| state.terminated).expect("it ended")
    };
    let text = |terminated: &ContainerStateTerminated| terminated.reason.clone().unwrap_or_default();
    assert_eq!((text(&end(0, "")), end(0, "").signal), ("Completed".to_owned(), None));
    assert_eq!((text(&end(1, "")), end(1, "").signal), ("Error".to_owned(), None));
    assert_eq!((text(&end(137, "OOMKilled")), end(137, "OOMKilled").signal), ("OOMKilled".to_owned(), Some(9)));
    assert_eq!(end(1, "").message.as_deref(), Some("last words"));
}

#[test]
fn readiness_needs_every_container() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let running = |name| seen(name, 0, ContainerState::Running, 0);
    let both = observed(&[running("a"), running("b")]);
    let mut facts = Facts::default();
    facts.health.insert("a0".to_owned(), Health { started: true, ready: true, unhealthy: None });
    let status = status_of(&pod, &both, &facts, 21);
    let ready = condition(&status, "Ready");
    assert_eq!(ready.status, "False");
    assert_eq!(ready.message.as_deref(), Some("containers not ready: b"));
    facts.health.insert("b0".to_owned(), Health { started: true, ready: true, unhealthy: None });
    assert_eq!(condition(&status_of(&pod, &both, &facts, 21), "Ready").status, "True");
    // While its postStart hook runs a container is not ready.
    facts.in_flight.insert(Operation::Start("b".to_owned()));
    assert_eq!(condition(&status_of(&pod, &both, &facts, 21), "Ready").status, "False");
}

#[test]
fn conditions_of_others_and_transition_times_are_kept() {
    let mut pod = one("Always");
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(at(1))),
        ..PodCondition::default()
    };
    pod.status = Some(PodStatus { conditions: Some(vec![scheduled.clone()]), ..PodStatus::default() });
    let first_status = status_of(&pod, &observed(&[]), &Facts::default(), 30);
    assert_eq!(*condition(&first_status, "PodScheduled"), scheduled);
    pod.status = Some(first_status.clone());
    let again = status_of(&pod, &observed(&[]), &Facts::default(), 40);
    assert_eq!(again, first_status, "the same state at a later time is the same status");
}

#[test]
fn an_unreachable_runtime_is_said_and_nothing_else_changes() {
    let mut pod = one("Always");
    let running = observed(&[seen("a", 0, ContainerState::Running, 0)]);
    pod.status = Some(status_of(&pod, &running, &Facts::default(), 30));
    let facts = Facts { runtime_error: Some("no containerd".to_owned()), ..Facts::default() };
    let status = status_of(&pod, &running, &facts, 40);
    assert_eq!(condition(&status, RUNTIME_REACHABLE).message.as_deref(), Some("no containerd"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    pod.status = Some(status);
    let back = status_of(&pod, &running, &Facts::default(), 50);
    assert!(back.conditions.iter().flatten().all(|condition| condition.type_ != RUNTIME_REACHABLE));
}

#[test]
fn a_container_containerd_lost_is_reported_as_ended() {
    let mut pod = one("Never");
    let running = observed(&[seen("a", 0, ContainerState::Running, 0)]);
    pod.status = Some(status_of(&pod, &running, &Facts::default(), 30));
    let status = status_of(&pod, &Observed::default(), &Facts::default(), 40);
    let ended = first(&status).state.as_ref().and_then(|state| state.terminated.as_ref()).expect("it ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(ended.finished_at, Some(Time(at(40))));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    // Said once, it does not move with time.
    pod.status = Some(status.clone());
    assert_eq!(status_of(&pod, &Observed::default(), &Facts::default(), 50), status);
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    for (resources, expected) in [
        (json!([{}]), "BestEffort"),
        (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}]), "Guaranteed"),
        (json!([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}]), "Burstable"),
        (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
        (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}]), "Burstable"),
        (json!([{"limits": {"gpu.fermion.dev/a100": "1"}}]), "BestEffort"),
    ] {
        let list: Vec<Value> = resources.as_array().expect("a list").iter().map(|r| json!({"name": "a", "resources": r})).collect();
        let pod = pod(json!({"containers": list}));
        assert_eq!(qos_class(&pod.spec.expect("a spec")), expected, "{resources}");
    }
}
