//! What a node takes up again: its own end, containerd's, and an API that refuses.

use serde_json::{Value, json};

use crate::bench::{Bench, shell};
use crate::sandbox::wait_for;

fn container_id(pod: &Value) -> String {
    pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("an id").to_owned()
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().expect("a count")
}

async fn containers(bench: &Bench) -> usize {
    let request = fermion_node::cri::v1::ListContainersRequest::default();
    bench.sandbox.runtime().cri().list_containers(request).await.expect("a list").containers.len()
}

#[tokio::test]
async fn a_new_process_adopts_what_runs_and_ends_what_was_deleted() {
    let mut bench = Bench::start().await;
    let mut probed = shell("main", "sleep 600");
    probed["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    bench.api.create_pod("lasting", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [probed]}}));
    bench.api.create_pod("ending", json!({"spec": {"restartPolicy": "Never", "containers": [shell("main", "sleep 600")]}}));
    bench.api.create_pod("vanishing", json!({"spec": {"containers": [shell("main", "sleep 600")]}}));
    let is_ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let before = bench.pod_when("lasting", "is ready", is_ready).await;
    let ending = bench.pod_in_phase("ending", "Running").await;
    bench.pod_in_phase("vanishing", "Running").await;
    bench.stop_node().await;
    // Meanwhile one container ends and one pod is deleted by force.
    let id = container_id(&ending).replace("containerd://", "");
    bench.sandbox.runtime().cri().stop_container(&id, std::time::Duration::ZERO).await.expect("it stops");
    bench.api.delete_pod("vanishing", 0);
    let history = bench.api.pod_history("lasting").len();
    bench.start_node();
    bench.pod_in_phase("ending", "Failed").await;
    wait_for("the deleted pod's container is gone", || async { (containers(&bench).await == 2).then_some(()) }).await;
    let after = bench.pod_when("lasting", "is ready", is_ready).await;
    assert_eq!(container_id(&after), container_id(&before));
    assert_eq!(restarts(&after), 0);
    for status in bench.api.pod_history("lasting").split_off(history) {
        assert_eq!(status["containerStatuses"][0]["ready"], true, "it was ready all along: {status:#}");
    }
    bench.tear_down().await;
}

#[tokio::test]
async fn no_pod_starts_twice_however_often_the_process_ends() {
    let mut bench = Bench::start().await;
    for number in 0..4 {
        let script = format!("echo {number}; sleep 600");
        let spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [shell("main", &script)]});
        bench.api.create_pod(&format!("pod-{number}"), json!({"spec": spec}));
    }
    // The process ends at arbitrary points of the start, and each time another takes over.
    for step in 0..6_u64 {
        let until = std::time::Duration::from_millis(60 * step);
        let started = tokio::time::Instant::now();
        wait_for("some time passed", || async { (started.elapsed() >= until).then_some(()) }).await;
        bench.stop_node().await;
        bench.start_node();
    }
    for number in 0..4 {
        let pod = bench.pod_in_phase(&format!("pod-{number}"), "Running").await;
        assert_eq!(restarts(&pod), 0);
    }
    assert_eq!(containers(&bench).await, 4);
    bench.tear_down().await;
}

#[tokio::test]
async fn a_killed_containerd_is_told_and_waited_for() {
    let bench = Bench::start().await;
    bench.api.create_pod("lasting", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", "sleep 600")]}}));
    let before = bench.pod_in_phase("lasting", "Running").await;
    let unreachable = |status: &Value| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == "fermion.dev/RuntimeReachable")
    };
    // It is started anew at once, and may be back before the node looks; so it is killed as often
    // as it takes to be missed.
    let mut killed = None;
    wait_for("the pod's conditions tell of it", || {
        if let Some(pid) = bench.sandbox.containerd_pid_now().filter(|pid| killed != Some(*pid)) {
            let process = rustix::process::Pid::from_raw(pid).expect("a pid");
            rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it runs");
            killed = Some(pid);
        }
        let told = bench.api.pod_history("lasting").iter().any(unreachable);
        async move { told.then_some(()) }
    })
    .await;
    // A pod that is made meanwhile waits and then runs.
    bench.api.create_pod("new", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", "sleep 600")]}}));
    bench.pod_in_phase("new", "Running").await;
    let after = bench.pod_when("lasting", "is well", |pod| !unreachable(&pod["status"])).await;
    assert_eq!(container_id(&after), container_id(&before));
    assert_eq!(restarts(&after), 0);
    bench.tear_down().await;
}

#[tokio::test]
async fn a_status_the_api_refused_is_written_later() {
    let bench = Bench::start().await;
    let gate = "until [ -e /tmp/go ]; do sleep 0.05; done";
    bench.api.create_pod("late", json!({"spec": {"restartPolicy": "Never", "containers": [shell("main", gate)]}}));
    bench.pod_in_phase("late", "Running").await;
    bench.api.refuse_writes(true);
    crate::stream::exec(&bench, "late", "main", &["touch", "/tmp/go"], None).await;
    wait_for("the container has ended", || async {
        let request = fermion_node::cri::v1::ListContainersRequest::default();
        let list = bench.sandbox.runtime().cri().list_containers(request).await.ok()?.containers;
        (list[0].state() == fermion_node::cri::v1::ContainerState::ContainerExited).then_some(())
    })
    .await;
    assert_eq!(bench.api.pod("late").expect("a pod")["status"]["phase"], "Running");
    bench.api.refuse_writes(false);
    bench.pod_in_phase("late", "Succeeded").await;
    bench.tear_down().await;
}
