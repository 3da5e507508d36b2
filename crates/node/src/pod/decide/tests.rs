use super::*;
use crate::pod::state::{Failure, Health};
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn pod(value: Value) -> Pod {
    let mut value = value;
    value["metadata"] = match value["metadata"].take() {
        Value::Null => json!({"name": "p", "namespace": "n", "uid": "u"}),
        given => given,
    };
    serde_json::from_value(value).expect("a pod")
}

fn sandbox(attempt: u32, ready: bool) -> SandboxSeen {
    SandboxSeen { id: format!("s{attempt}"), attempt, ready, created_at: at(0), ips: vec!["10.0.0.2".to_owned()] }
}

fn container(name: &str, attempt: u32, state: ContainerState) -> ContainerSeen {
    ContainerSeen {
        id: format!("{name}{attempt}"),
        sandbox_id: "s0".to_owned(),
        name: name.to_owned(),
        attempt,
        state,
        started_at: Some(at(10)),
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image_ref: String::new(),
        ends_before: 0,
    }
}

fn ended(name: &str, attempt: u32, exit_code: i32) -> ContainerSeen {
    ContainerSeen { exit_code, finished_at: Some(at(20)), ..container(name, attempt, ContainerState::Exited) }
}

/// Volumes are made and the images of `a`, `b` and `c` are present.
fn prepared() -> Facts {
    let images = ["a", "b", "c"].map(|name| (name.to_owned(), Step::Done));
    Facts { volumes: Step::Done, images: images.into(), ..Facts::default() }
}

fn decide_at(pod: &Pod, observed: &Observed, facts: &Facts, now: i64) -> Decision {
    let spec = pod.spec.clone().expect("a spec");
    decide(&Input { pod, spec: &spec, observed, facts, back_off: BackOff::default(), now: at(now) })
}

/// The actions in short.
fn actions(pod: &Pod, observed: &Observed, facts: &Facts) -> Vec<String> {
    short(&decide_at(pod, observed, facts, 100))
}

fn short(decision: &Decision) -> Vec<String> {
    decision
        .actions
        .iter()
        .map(|action| match action {
            Action::FailPod(failure) => format!("fail {}", failure.reason),
            Action::MountVolumes => "volumes".to_owned(),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::EnsureImage { container } => format!("image {container}"),
            Action::StartContainer(start) => match &start.created {
                Some(id) => format!("start {} {} created {id}", start.container, start.attempt),
                None => format!("start {} {}", start.container, start.attempt),
            },
            Action::KillContainer { id, grace, .. } => format!("kill {id} {}", grace.as_secs()),
            Action::Abort(operation) => format!("abort {operation:?}"),
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::Cleanup => "cleanup".to_owned(),
            Action::Finalize => "finalize".to_owned(),
            Action::Forget => "forget".to_owned(),
        })
        .collect()
}

fn observed(sandboxes: &[SandboxSeen], containers: &[ContainerSeen]) -> Observed {
    Observed { sandboxes: sandboxes.to_vec(), containers: containers.to_vec() }
}

fn with_policy(policy: &str) -> Pod {
    pod(json!({"spec": {"restartPolicy": policy, "containers": [{"name": "a"}]}}))
}

#[test]
fn a_new_pod_gets_volumes_sandbox_and_image_at_once() {
    let pod = pod(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}));
    let nothing = Observed::default();
    assert_eq!(actions(&pod, &nothing, &Facts::default()), ["volumes", "sandbox 0", "image a", "image b"]);
    let mut facts = Facts::default();
    facts.in_flight.extend([Operation::Volumes, Operation::Sandbox, Operation::Image("a".to_owned()), Operation::Image("b".to_owned())]);
    assert_eq!(actions(&pod, &nothing, &facts), Vec::<String>::new());
}

#[test]
fn a_container_starts_only_with_all_it_needs() {
    let pod = with_policy("Always");
    let ready = observed(&[sandbox(0, true)], &[]);
    assert_eq!(actions(&pod, &ready, &prepared()), ["start a 0"]);
    let no_sandbox = Observed::default();
    assert_eq!(actions(&pod, &no_sandbox, &prepared()), ["sandbox 0"]);
    let no_volumes = Facts { volumes: Step::Pending, ..prepared() };
    assert_eq!(actions(&pod, &ready, &no_volumes), ["volumes"]);
    let mut starting = prepared();
    starting.in_flight.insert(Operation::Start("a".to_owned()));
    assert_eq!(actions(&pod, &ready, &starting), Vec::<String>::new());
    let peers = Peers::Awaited { missing: vec!["q".to_owned()], until: at(130) };
    let waiting = decide_at(&pod, &ready, &Facts { peers, ..prepared() }, 100);
    assert_eq!((short(&waiting), waiting.wake_at), (vec![], Some(at(130))));
}

#[test]
fn a_lost_reply_is_made_good_by_name() {
    let pod = with_policy("Always");
    let created = observed(&[sandbox(0, true)], &[container("a", 2, ContainerState::Created)]);
    assert_eq!(actions(&pod, &created, &prepared()), ["start a 2 created a2"]);
    // One made in a sandbox that is gone is not used.
    let elsewhere = observed(&[sandbox(1, true), sandbox(0, false)], &[container("a", 2, ContainerState::Created)]);
    assert_eq!(actions(&pod, &elsewhere, &prepared()), ["start a 3"]);
    let taken = Facts { sandbox_attempt_min: 4, ..prepared() };
    assert_eq!(actions(&pod, &Observed::default(), &taken), ["sandbox 4"]);
}

#[test]
fn init_containers_run_one_after_another() {
    let pod = pod(json!({"spec": {
        "initContainers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "c"}],
    }}));
    let ready = sandbox(0, true);
    let running = container("a", 0, ContainerState::Running);
    for (containers, expected) in [
        (vec![], vec!["start a 0"]),
        (vec![running], vec![]),
        (vec![ended("a", 0, 0)], vec!["start b 0"]),
        (vec![ended("a", 0, 0), ended("b", 0, 0)], vec!["start c 0"]),
        (vec![ended("a", 0, 1)], vec!["start a 1"]),
        // The main container began here, so what came before is through.
        (vec![ended("c", 0, 1)], vec!["start c 1"]),
    ] {
        let seen = observed(std::slice::from_ref(&ready), &containers);
        assert_eq!(actions(&pod, &seen, &prepared()), expected, "{containers:?}");
    }
    // A new sandbox begins from the first.
    let anew = observed(&[sandbox(1, true), sandbox(0, false)], &[ended("a", 0, 0), ended("b", 0, 0)]);
    assert_eq!(actions(&pod, &anew, &prepared()), ["start a 1"]);
}

#[test]
fn sidecars_start_in_order_and_end_last() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a", "restartPolicy": "Always"}],
        "containers": [{"name": "c"}],
    });
    let pod = pod(json!({"spec": spec}));
    let ready = sandbox(0, true);
    let side = container("a", 0, ContainerState::Running);
    let seen = observed(std::slice::from_ref(&ready), std::slice::from_ref(&side));
    assert_eq!(actions(&pod, &seen, &prepared()), Vec::<String>::new());
    let mut started = prepared();
    started.health.insert("a0".to_owned(), Health { started: true, ready: true, unhealthy: None });
    assert_eq!(actions(&pod, &seen, &started), ["start c 0"]);
    // The main container has ended: the sidecar goes, then the sandbox.
    let over = observed(std::slice::from_ref(&ready), &[side, ended("c", 0, 0)]);
    assert_eq!(actions(&pod, &over, &started), ["kill a0 30"]);
    let over = observed(&[ready], &[ended("a", 0, 143), ended("c", 0, 0)]);
    assert_eq!(actions(&pod, &over, &started), ["stop s0"]);
}

#[test]
fn restart_policy_decides_what_an_end_means() {
    for (policy, exit_code, expected) in [
        ("Always", 0, vec!["start a 1"]),
        ("Always", 1, vec!["start a 1"]),
        ("OnFailure", 0, vec!["stop s0"]),
        ("OnFailure", 1, vec!["start a 1"]),
        ("Never", 0, vec!["stop s0"]),
        ("Never", 1, vec!["stop s0"]),
    ] {
        let seen = observed(&[sandbox(0, true)], &[ended("a", 0, exit_code)]);
        assert_eq!(actions(&with_policy(policy), &seen, &prepared()), expected, "{policy} {exit_code}");
    }
}

#[test]
fn restarts_back_off_and_recover() {
    let pod = with_policy("Always");
    // ends before, ran from 10 to …, now -> starts again at
    for (ends_before, finished, expected) in [(0, 20, 20), (1, 20, 30), (2, 20, 40), (6, 20, 320), (60, 20, 320), (6, 610, 610)] {
        let seen = ContainerSeen { ends_before, finished_at: Some(at(finished)), ..ended("a", ends_before, 1) };
        let seen = observed(&[sandbox(0, true)], &[seen]);
        let before = decide_at(&pod, &seen, &prepared(), expected - 1);
        assert_eq!((short(&before), before.wake_at), (vec![], Some(at(expected))), "{ends_before}");
        let then = decide_at(&pod, &seen, &prepared(), expected);
        assert_eq!(short(&then), [format!("start a {}", ends_before + 1)]);
        let Some(Action::StartContainer(start)) = then.actions.first() else { panic!("a start") };
        assert_eq!(start.ends_before, if finished == 610 { 1 } else { ends_before + 1 });
    }
}

#[test]
fn failures_are_tried_again_at_their_time() {
    let pod = with_policy("Always");
    let ready = observed(&[sandbox(0, true)], &[]);
    let failure = |retry_at| Failure { reason: "ErrImagePull", message: String::new(), retry_at: at(retry_at), count: 1 };
    let mut facts = prepared();
    facts.images.insert("a".to_owned(), Step::Failed(failure(150)));
    let decision = decide_at(&pod, &ready, &facts, 100);
    assert_eq!((short(&decision), decision.wake_at), (vec![], Some(at(150))));
    assert_eq!(short(&decide_at(&pod, &ready, &facts, 150)), ["image a"]);
    let mut facts = prepared();
    facts.starts.insert("a".to_owned(), failure(150));
    assert_eq!(decide_at(&pod, &ready, &facts, 100).wake_at, Some(at(150)));
    assert_eq!(short(&decide_at(&pod, &ready, &facts, 150)), ["start a 0"]);
    let facts = Facts { sandbox: Step::Failed(failure(150)), ..prepared() };
    assert_eq!(decide_at(&pod, &Observed::default(), &facts, 100).wake_at, Some(at(150)));
    assert_eq!(short(&decide_at(&pod, &Observed::default(), &facts, 150)), ["sandbox 0"]);
}

#[test]
fn a_dead_sandbox_is_replaced_if_the_policy_allows() {
    let dead = observed(&[sandbox(0, false)], &[ended("a", 0, 255)]);
    assert_eq!(actions(&with_policy("Always"), &dead, &prepared()), ["sandbox 1"]);
    let two = pod(json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}}));
    assert_eq!(actions(&two, &dead, &prepared()), ["fail SandboxLost"]);
    // Nothing of it ran yet: no harm in another sandbox.
    let early = observed(&[sandbox(0, false)], &[]);
    assert_eq!(actions(&two, &early, &prepared()), ["sandbox 1"]);
    // A container that runs without its sandbox is killed first.
    let stray = observed(&[sandbox(0, false)], &[container("a", 0, ContainerState::Running)]);
    assert_eq!(actions(&with_policy("Always"), &stray, &prepared()), ["kill a0 2"]);
}

#[test]
fn unhealthy_containers_are_killed_once() {
    let pod = pod(json!({"spec": {
        "terminationGracePeriodSeconds": 7,
        "containers": [{"name": "a"}, {"name": "b", "livenessProbe": {"terminationGracePeriodSeconds": 3}}],
    }}));
    let running = |name| container(name, 0, ContainerState::Running);
    let seen = observed(&[sandbox(0, true)], &[running("a"), running("b")]);
    let sick = Health { started: true, ready: false, unhealthy: Some("no".to_owned()) };
    let mut facts = prepared();
    facts.health.insert("a0".to_owned(), sick.clone());
    facts.health.insert("b0".to_owned(), sick);
    assert_eq!(actions(&pod, &seen, &facts), ["kill a0 7", "kill b0 3"]);
    for id in ["a0", "b0"] {
        facts.in_flight.insert(Operation::Kill(id.to_owned()));
        facts.kills.insert(id.to_owned(), Duration::from_secs(3));
    }
    assert_eq!(actions(&pod, &seen, &facts), Vec::<String>::new());
}

#[test]
fn deletion_stops_cleans_and_lets_go_in_that_order() {
    let pod = pod(json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u",
            "deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5,
        },
        "spec": {"containers": [{"name": "a"}]},
    }));
    let running = observed(&[sandbox(0, true)], &[container("a", 0, ContainerState::Running)]);
    assert_eq!(actions(&pod, &running, &prepared()), ["kill a0 5"]);
    // A kill with a longer grace is under way: a shorter one replaces it.
    let mut facts = prepared();
    facts.in_flight.insert(Operation::Kill("a0".to_owned()));
    facts.kills.insert("a0".to_owned(), Duration::from_secs(30));
    assert_eq!(actions(&pod, &running, &facts), ["kill a0 5"]);
    facts.kills.insert("a0".to_owned(), Duration::from_secs(5));
    assert_eq!(actions(&pod, &running, &facts), Vec::<String>::new());
    let stopped = observed(&[sandbox(0, true)], &[ended("a", 0, 143)]);
    assert_eq!(actions(&pod, &stopped, &prepared()), ["stop s0"]);
    let quiet = observed(&[sandbox(0, false)], &[ended("a", 0, 143)]);
    assert_eq!(actions(&pod, &quiet, &prepared()), ["cleanup"]);
    let clean = Facts { cleaned: true, ..prepared() };
    assert_eq!(actions(&pod, &Observed::default(), &clean), ["finalize"]);
    let gone = Facts { gone: true, ..clean };
    assert_eq!(actions(&pod, &Observed::default(), &gone), ["forget"]);
}

#[test]
fn deletion_waits_for_what_is_being_made_and_aborts_a_pull() {
    let pod = pod(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "a"}]},
    }));
    let mut facts = Facts::default();
    facts.in_flight.extend([Operation::Sandbox, Operation::Image("a".to_owned())]);
    assert_eq!(actions(&pod, &Observed::default(), &facts), ["abort Image(\"a\")"]);
    facts.in_flight.remove(&Operation::Image("a".to_owned()));
    assert_eq!(actions(&pod, &Observed::default(), &facts), Vec::<String>::new());
}

#[test]
fn a_vanished_object_takes_its_containers_along() {
    let pod = with_policy("Always");
    let running = observed(&[sandbox(0, true)], &[container("a", 0, ContainerState::Running)]);
    let facts = Facts { gone: true, ..prepared() };
    assert_eq!(actions(&pod, &running, &facts), ["kill a0 2"]);
}

#[test]
fn a_deadline_ends_the_pod() {
    let pod = pod(json!({
        "spec": {"activeDeadlineSeconds": 30, "containers": [{"name": "a"}]},
        "status": {"startTime": "1970-01-01T00:01:30Z"},
    }));
    let running = observed(&[sandbox(0, true)], &[container("a", 0, ContainerState::Running)]);
    assert_eq!(decide_at(&pod, &running, &prepared(), 100).wake_at, Some(at(120)));
    assert_eq!(short(&decide_at(&pod, &running, &prepared(), 120)), ["fail DeadlineExceeded"]);
    let failed = PodFailure { reason: "DeadlineExceeded".to_owned(), message: String::new() };
    let facts = Facts { failed: Some(failed), ..prepared() };
    assert_eq!(actions(&pod, &running, &facts), ["kill a0 30"]);
}

#[test]
fn an_ended_pod_stays_ended_for_a_new_process() {
    for phase in ["Succeeded", "Failed"] {
        let pod = pod(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": phase}}));
        assert_eq!(actions(&pod, &Observed::default(), &Facts::default()), Vec::<String>::new());
        let running = observed(&[sandbox(0, true)], &[container("a", 0, ContainerState::Running)]);
        assert_eq!(actions(&pod, &running, &Facts::default()), ["kill a0 30"]);
    }
}

#[test]
fn containers_that_vanished_from_containerd_count_as_ended() {
    let status = |state: Value| {
        json!({"containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 3, "state": state,
        }]})
    };
    let running = json!({"running": {"startedAt": "2024-01-01T00:00:00Z"}});
    let done = json!({"terminated": {"exitCode": 0}});
    for (policy, state, expected) in [
        ("Always", &running, vec!["sandbox 0"]),
        ("Never", &running, vec![]),
        ("OnFailure", &running, vec!["sandbox 0"]),
        ("OnFailure", &done, vec![]),
        ("Always", &done, vec!["sandbox 0"]),
    ] {
        let pod = pod(json!({
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}]},
            "status": status(state.clone()),
        }));
        assert_eq!(actions(&pod, &Observed::default(), &prepared()), expected, "{policy} {state}");
    }
    let pod = pod(json!({"spec": {"containers": [{"name": "a"}]}, "status": status(running)}));
    let ready = observed(&[sandbox(0, true)], &[]);
    assert_eq!(actions(&pod, &ready, &prepared()), ["start a 4"]);
}

#[test]
fn the_same_input_gives_the_same_answer() {
    let pod = with_policy("Always");
    let seen = observed(&[sandbox(0, true)], &[ended("a", 0, 1)]);
    assert_eq!(decide_at(&pod, &seen, &prepared(), 100), decide_at(&pod, &seen, &prepared(), 100));
}
