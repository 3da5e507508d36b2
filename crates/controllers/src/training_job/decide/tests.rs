use fermion_api::ai::training_job::CleanUpPods;
use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().expect("a time")
}

/// A job with a chief and two workers, changed by `spec`, with that status.
fn job(spec: Value, status: Value) -> TrainingJob {
    let template = json!({"spec": {"containers": [{"name": "main", "image": "x"}]}});
    let mut object = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": "j", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"roles": [{"name": "chief", "template": template}, {"name": "worker", "replicas": 2, "template": template}]},
        "status": status,
    });
    for (name, value) in spec.as_object().expect("an object") {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value(object).expect("a job")
}

/// The Workload that a decision asked for, as the API would show it.
fn workload(decision: &Decision, job: &TrainingJob) -> Workload {
    let mut workload = Workload::new("j", decision.workload.clone());
    workload.metadata.annotations = Some(render::annotations(job));
    workload
}

/// Reads `worker-0 Failed exit=3 at=00:10:00 oom reason=NodeLost attempt=1 deleting`.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split(' ');
    let place = words.next().expect("a name");
    let (role, index) = place.rsplit_once('-').expect("role-index");
    let mut pod = json!({
        "metadata": {"name": format!("j-{place}"), "namespace": "n", "uid": place,
            "labels": {"fermion.dev/role": role, "fermion.dev/index": index, "fermion.dev/attempt": "0"}},
        "spec": {"containers": []},
        "status": {"phase": "Pending"},
    });
    let mut exit = None;
    let (mut at, mut why) = ("00:10:00", "Error");
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("exit", code) => exit = Some(code.parse::<i32>().expect("a number")),
            ("at", when) => at = when,
            ("oom", _) => why = "OOMKilled",
            ("reason", reason) => pod["status"]["reason"] = json!(reason),
            ("attempt", attempt) => pod["metadata"]["labels"]["fermion.dev/attempt"] = json!(attempt),
            ("deleting", _) => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:10:00Z"),
            ("pulling", _) => {
                let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
                pod["status"]["containerStatuses"] = json!([container(&waiting)]);
            }
            (phase, _) => {
                pod["status"]["phase"] = json!(phase);
                if phase == "Running" {
                    pod["status"]["containerStatuses"] = json!([container(&json!({"running": {"startedAt": "2026-01-01T00:01:00Z"}}))]);
                }
            }
        }
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
    if exit.is_some() || phase == "Succeeded" {
        let ended = json!({"terminated": {
            "exitCode": exit.unwrap_or(0), "reason": why, "startedAt": "2026-01-01T00:01:00Z", "finishedAt": format!("2026-01-01T{at}Z"),
        }});
        pod["status"]["containerStatuses"] = json!([container(&ended)]);
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn container(state: &Value) -> Value {
    json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn run_at(job: &TrainingJob, workload: Option<&Workload>, pods: &[&str], now: &str) -> Decision {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    decide(&Seen { job, workload, pods: &pods, now: time(now) })
}

fn run(job: &TrainingJob, pods: &[&str]) -> Decision {
    run_at(job, None, pods, "00:20:00")
}

fn running() -> Value {
    json!({"phase": "Running", "startedAt": "2026-01-01T00:01:00Z"})
}

fn complete(decision: &Decision) -> (String, String) {
    let condition = conditions::find(&decision.status.conditions, COMPLETE).expect("always there");
    (condition.reason.clone(), condition.message.clone())
}

#[test]
fn a_job_runs_when_every_pod_does() {
    let job = job(json!({}), json!(null));
    let two = run(&job, &["chief-0 Running", "worker-0 Running", "worker-1"]);
    assert_eq!(two.status.phase, Phase::Pending);
    let all = run(&job, &["chief-0 Running", "worker-0 Running", "worker-1 Running"]);
    assert_eq!(all.status.phase, Phase::Running);
    assert_eq!(all.status.started_at, Some(Time(time("00:01:00"))));
}

#[test]
fn rules_decide_over_role_and_rank() {
    use Phase as P;
    let chief = json!({"role": "chief"});
    for (success, failure, pods, phase) in [
        (json!({}), json!(null), vec!["chief-0 Succeeded", "worker-0 Succeeded", "worker-1 Succeeded"], P::Succeeded),
        (json!({}), json!(null), vec!["chief-0 Succeeded", "worker-0 Succeeded", "worker-1 Running"], P::Running),
        (json!({}), json!(null), vec!["chief-0 Running", "worker-0 Running", "worker-1 Failed exit=1"], P::Failed),
        (chief.clone(), json!(null), vec!["chief-0 Succeeded", "worker-0 Running", "worker-1 Running"], P::Succeeded),
        (chief.clone(), json!(null), vec!["chief-0 Succeeded", "worker-0 Failed exit=1", "worker-1 Running"], P::Succeeded),
        (chief.clone(), chief.clone(), vec!["chief-0 Running", "worker-0 Failed exit=1", "worker-1 Running"], P::Running),
        (chief.clone(), chief.clone(), vec!["chief-0 Failed exit=1", "worker-0 Running", "worker-1 Running"], P::Failed),
        (
            json!({"role": "worker", "when": "Any"}),
            json!(null),
            vec!["chief-0 Running", "worker-0 Running", "worker-1 Succeeded"],
            P::Succeeded,
        ),
        (json!({"role": "worker", "rank": 0}), json!(null), vec!["chief-0 Running", "worker-0 Running", "worker-1 Succeeded"], P::Running),
        (
            json!({}),
            json!({"role": "worker", "when": "All"}),
            vec!["chief-0 Running", "worker-0 Failed exit=1", "worker-1 Running"],
            P::Running,
        ),
        (
            json!({}),
            json!({"role": "worker", "when": "All"}),
            vec!["chief-0 Running", "worker-0 Failed exit=1", "worker-1 Failed exit=1"],
            P::Failed,
        ),
        // Nothing can happen any more, and no rule holds.
        (chief.clone(), json!({"role": "worker"}), vec!["chief-0 Failed exit=1", "worker-0 Succeeded", "worker-1 Succeeded"], P::Failed),
    ] {
        let job = job(json!({"successPolicy": success, "failurePolicy": failure}), running());
        assert_eq!(run(&job, &pods).status.phase, phase, "{success} {failure} {pods:?}");
    }
}

#[test]
fn failures_are_tried_again_by_class() {
    use Phase as P;
    let retries = json!({"limit": 2, "retryableExitCodes": [3], "permanentExitCodes": [139], "userRequestedExitCodes": [42]});
    for (failed, used, phase, why) in [
        ("Failed exit=1", 0, P::Failed, reason::PERMANENT_FAILURE),
        ("Failed exit=3", 0, P::Restarting, reason::RETRYING),
        ("Failed exit=3", 2, P::Failed, reason::RETRIES_EXHAUSTED),
        ("Failed exit=139", 0, P::Failed, reason::PERMANENT_FAILURE),
        ("Failed exit=143", 1, P::Restarting, reason::RETRYING),
        ("Failed exit=1 oom", 0, P::Restarting, reason::RETRYING),
        ("Failed exit=1 reason=NodeLost", 0, P::Restarting, reason::RETRYING),
        ("Failed reason=Refused", 0, P::Failed, reason::PERMANENT_FAILURE),
        ("Failed exit=42", 2, P::Restarting, reason::USER_REQUESTED),
    ] {
        let mut status = running();
        status["retries"] = json!(used);
        status["attempt"] = json!(used);
        let job = job(json!({"runPolicy": {"retries": retries}}), status);
        let pods = [
            format!("chief-0 {failed} attempt={used}"),
            format!("worker-0 Running attempt={used}"),
            format!("worker-1 Running attempt={used}"),
        ];
        let decision = run(&job, &pods.each_ref().map(String::as_str));
        assert_eq!(decision.status.phase, phase, "{failed}");
        let told = decision.notices.last().expect("people are told").reason;
        assert_eq!(told, why, "{failed}");
        let again = phase == P::Restarting;
        assert_eq!(decision.status.attempt, used + i32::from(again), "{failed}");
        assert_eq!(decision.status.retries, used + i32::from(again && why == reason::RETRYING), "{failed}");
        assert_eq!(decision.workload.closed.is_some(), !again);
    }
}

#[test]
fn the_first_failure_decides() {
    let job = job(json!({"runPolicy": {"retries": {"limit": 1}}}), running());
    let decision = run(&job, &["chief-0 Failed exit=134 at=00:10:09", "worker-0 Failed exit=1 at=00:10:01", "worker-1 Running"]);
    assert_eq!((decision.status.phase, decision.status.exit_code), (Phase::Failed, Some(1)));
    assert_eq!(complete(&decision), (reason::PERMANENT_FAILURE.into(), "container main of pod j-worker-0 ended with exit code 1".into()));
}

#[test]
fn pods_of_other_attempts_and_pods_that_leave_do_not_count() {
    let mut status = running();
    status["attempt"] = json!(1);
    let job = job(json!({}), status);
    let decision = run(&job, &["chief-0 Failed exit=1", "worker-0 Failed exit=143 attempt=1 deleting"]);
    assert_eq!(decision.status.phase, Phase::Running);
}

#[test]
fn a_restart_goes_on_when_the_old_pods_are_gone_and_the_wait_is_over() {
    let mut job = job(json!({"runPolicy": {"retries": {"limit": 5}}}), running());
    let failed = ["chief-0 Failed exit=137", "worker-0 Running", "worker-1 Running"];
    let first = run_at(&job, None, &failed, "00:20:00");
    assert_eq!((first.status.phase, first.workload.attempt, first.workload.suspend), (Phase::Restarting, 1, false));

    job.status = Some(first.status.clone());
    let made = workload(&first, &job);
    let waiting = run_at(&job, Some(&made), &["worker-0 Running deleting"], "00:20:10");
    assert_eq!(waiting.status.phase, Phase::Restarting);
    let gone = run_at(&job, Some(&made), &[], "00:20:20");
    assert_eq!(gone.status.phase, Phase::Pending);
    assert!(!conditions::holds(&gone.status.conditions, RESTARTING));

    // The second retry waits: its Workload is held back until then.
    job.status = Some(TrainingJobStatus { phase: Phase::Running, ..gone.status });
    let failed = ["chief-0 Failed exit=137 attempt=1", "worker-0 Running attempt=1", "worker-1 Running attempt=1"];
    let second = run_at(&job, Some(&made), &failed, "00:30:00");
    assert_eq!((second.workload.attempt, second.workload.suspend), (2, true));
    job.status = Some(second.status.clone());
    let made = workload(&second, &job);
    let held = run_at(&job, Some(&made), &[], "00:30:04");
    assert_eq!((held.status.phase, held.look_again_at), (Phase::Restarting, Some(time("00:30:05"))));
    let due = run_at(&job, Some(&made), &[], "00:30:05");
    assert_eq!((due.status.phase, due.workload.suspend), (Phase::Pending, false));
}

#[test]
fn suspended_time_does_not_count() {
    let mut job = job(json!({"suspend": true, "runPolicy": {"maxDuration": "10m"}}), running());
    let stopped = run_at(&job, None, &["chief-0 Running", "worker-0 Running", "worker-1 Running"], "00:05:00");
    assert_eq!((stopped.status.phase, stopped.status.ran_s, stopped.workload.suspend), (Phase::Suspended, 240, true));
    assert!(stopped.status.started_at.is_none());

    job.spec.suspend = false;
    job.status = Some(stopped.status);
    let resumed = run_at(&job, None, &[], "08:00:00");
    assert_eq!((resumed.status.phase, resumed.workload.suspend), (Phase::Pending, false));

    job.status = Some(TrainingJobStatus { phase: Phase::Running, started_at: Some(Time(time("08:00:00"))), ..resumed.status });
    let all = ["chief-0 Running", "worker-0 Running", "worker-1 Running"];
    let fine = run_at(&job, None, &all, "08:05:59");
    assert_eq!((fine.status.phase, fine.look_again_at), (Phase::Running, Some(time("08:06:00"))));
    let over = run_at(&job, None, &all, "08:06:00");
    assert_eq!((over.status.phase, complete(&over).0.as_str()), (Phase::Failed, reason::MAX_DURATION_EXCEEDED));
    assert_eq!(over.workload.closed, Some(Closed { succeeded: false, delete_pods: CleanUpPods::Running }));
}

#[test]
fn switching_debug_mode_starts_the_pods_over() {
    let plain = job(json!({}), running());
    let all = ["chief-0 Running", "worker-0 Running", "worker-1 Running"];
    let made = workload(&run(&plain, &all), &plain);
    let mut debug = job(json!({"debug": {}}), running());
    debug.metadata.generation = Some(2);
    let decision = run_at(&debug, Some(&made), &all, "00:20:00");
    assert_eq!((decision.status.phase, decision.status.attempt, decision.status.retries), (Phase::Restarting, 1, 0));
    assert!(decision.rendered);
    let same = run_at(&plain, Some(&made), &all, "00:20:00");
    assert_eq!((same.status.phase, same.rendered), (Phase::Running, false));
}

#[test]
fn a_changed_priority_does_not_touch_the_pods() {
    let before = job(json!({}), running());
    let all = ["chief-0 Running", "worker-0 Running", "worker-1 Running"];
    let mut made = workload(&run(&before, &all), &before);
    made.spec.pod_sets[0].template.metadata = Some(Default::default());
    let mut after = job(json!({"priority": 7}), running());
    after.metadata.generation = Some(2);
    let decision = run_at(&after, Some(&made), &all, "00:20:00");
    assert_eq!(decision.workload.priority, 7);
    assert_eq!(decision.workload.pod_sets, made.spec.pod_sets, "as they are, whatever this version would make");
}

#[test]
fn an_ended_job_goes_when_its_time_is_over() {
    let status = json!({"phase": "Succeeded", "finishedAt": "2026-01-01T00:10:00Z"});
    let job = job(json!({"runPolicy": {"cleanUp": {"ttlAfterFinished": "1h", "pods": "All"}}}), status);
    let early = run_at(&job, None, &[], "01:09:59");
    assert_eq!((early.delete_job, early.look_again_at), (false, Some(time("01:10:00"))));
    assert_eq!(early.workload.closed, Some(Closed { succeeded: true, delete_pods: CleanUpPods::All }));
    assert!(run_at(&job, None, &[], "01:10:00").delete_job);
}

#[test]
fn waiting_jobs_say_what_for() {
    let job = job(json!({}), json!(null));
    assert_eq!(complete(&run(&job, &[])).1, "its pods are being made");
    let trouble = complete(&run(&job, &["chief-0 pulling"])).1;
    assert_eq!(trouble, "container main of pod j-chief-0 waits (ImagePullBackOff): no such image");
    let mut made = workload(&run(&job, &[]), &job);
    made.status =
        serde_json::from_value(json!({"waiting": {"reason": "InsufficientResources", "message": "it needs 4 cpu", "position": 2}}))
            .expect("a status");
    assert_eq!(complete(&run_at(&job, Some(&made), &[], "00:20:00")).1, "waits at place 2 of its queue: it needs 4 cpu");
}

#[test]
fn the_same_sight_decides_nothing_new() {
    let mut job = job(json!({"runPolicy": {"maxDuration": "1h"}}), json!(null));
    let all = ["chief-0 Running", "worker-0 Running", "worker-1 Running"];
    let first = run(&job, &all);
    job.status = Some(first.status.clone());
    let made = workload(&first, &job);
    let again = run_at(&job, Some(&made), &all, "00:21:00");
    assert_eq!(again.status, first.status);
    assert_eq!(again.workload, made.spec);
    assert!(again.notices.is_empty() && !again.rendered);
}
