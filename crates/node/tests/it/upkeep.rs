//! The node's own upkeep: its object, lease, statistics, logs and what it clears away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{Bench, shell};
use crate::sandbox::wait_for;

#[tokio::test]
async fn the_node_registers_and_keeps_its_lease() {
    let bench = Bench::with(|config| config.limits.lease_renewal = Duration::from_millis(200)).await;
    let node = wait_for("the node is ready", || async {
        let node = bench.api.get("/api/v1/nodes/local")?;
        let ready = node["status"]["conditions"].as_array()?.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then_some(node)
    })
    .await;
    assert_eq!(node["metadata"]["labels"]["fermion.dev/pool"], "local");
    for amount in ["cpu", "memory", "pods"] {
        assert!(node["status"]["allocatable"][amount].is_string(), "{node:#}");
    }
    let runtime = node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().expect("a version");
    assert!(runtime.starts_with("containerd://"), "{runtime}");
    assert!(bench.api.get("/api/v1/namespaces/fermion-system").is_some());
    let renewed = || bench.api.get("/apis/coordination.k8s.io/v1/namespaces/fermion-system/leases/local");
    let first = wait_for("a lease", || async { renewed() }).await;
    wait_for("the lease is renewed", || async { renewed().filter(|lease| lease["spec"]["renewTime"] != first["spec"]["renewTime"]) }).await;
    bench.tear_down().await;
}

#[tokio::test]
async fn statistics_show_who_works() {
    let bench = Bench::start().await;
    bench
        .api
        .create_pod("busy", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", "while true; do :; done")]}}));
    bench.api.create_pod("idle", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", "sleep 600")]}}));
    bench.pod_in_phase("busy", "Running").await;
    bench.pod_in_phase("idle", "Running").await;
    let (code, text) = bench.get("/stats/summary").await;
    assert_eq!(code, 200);
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    let pod = |name: &str| {
        let pods = summary["pods"].as_array().expect("pods");
        pods.iter().find(|pod| pod["podRef"]["name"] == name).expect("the pod").clone()
    };
    let cores = |pod: &Value| pod["cpu"]["usageNanoCores"].as_u64().expect("a number");
    assert!(cores(&pod("busy")) > 100_000_000, "{:#}", pod("busy"));
    assert!(cores(&pod("idle")) < cores(&pod("busy")));
    assert!(pod("idle")["memory"]["workingSetBytes"].as_u64().expect("a number") > 0);
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().expect("a number") > 0);
    bench.tear_down().await;
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_pod() {
    let bench = Bench::with(|config| config.limits.pod_processes_max = 40).await;
    let script = "for i in $(seq 100); do sleep 5 & done; echo all of them";
    bench.api.create_pod("bomb", json!({"spec": {"restartPolicy": "Never", "containers": [shell("main", script)]}}));
    bench.pod_in_phase("bomb", "Failed").await;
    let (_, text) = bench.logs("bomb", "main", "").await;
    assert!(text.contains("can't fork") && !text.contains("all of them"), "{text}");
    bench.tear_down().await;
}

#[tokio::test]
async fn a_pod_over_its_scratch_limit_is_evicted() {
    let bench = Bench::with(|config| config.limits.housekeeping = Duration::from_millis(300)).await;
    let mut main = shell("main", "dd if=/dev/zero of=/scratch/large bs=1k count=512; sleep 600");
    main["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    let volumes = json!([{"name": "scratch", "emptyDir": {"sizeLimit": "64Ki"}}]);
    bench.api.create_pod("large", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [main], "volumes": volumes}}));
    let pod = bench.pod_in_phase("large", "Failed").await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().expect("a message");
    assert!(message.contains("emptyDir scratch holds") && message.contains("sizeLimit of 64Ki"), "{message}");
    bench.tear_down().await;
}

#[tokio::test]
async fn draining_takes_no_more_pods_and_waits_for_those_here() {
    let bench = Bench::start().await;
    wait_for("the node is registered", || async { bench.api.get("/api/v1/nodes/local") }).await;
    bench.api.create_pod("busy", json!({"spec": {"terminationGracePeriodSeconds": 1, "containers": [shell("main", "sleep 600")]}}));
    bench.pod_in_phase("busy", "Running").await;
    bench.drain().await;
    assert!(bench.api.pod("busy").is_none());
    assert_eq!(bench.api.get("/api/v1/nodes/local").expect("the node")["spec"]["unschedulable"], true);
    bench.tear_down().await;
}

#[tokio::test]
async fn logs_are_rotated_and_read_across_files() {
    let bench = Bench::with(|config| {
        config.limits.housekeeping = Duration::from_millis(300);
        config.limits.log_file_bytes_max = 4 << 10;
        config.limits.log_files_max = 3;
    })
    .await;
    let script = "i=0; until [ -e /tmp/enough ]; do i=$((i+1)); echo line $i; sleep 0.005; done; touch /tmp/silent; sleep 600";
    let pod = bench.api.create_pod("chatty", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", script)]}}));
    bench.pod_in_phase("chatty", "Running").await;
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let directory = bench.sandbox.home.join(format!("logs/pods/test_chatty_{uid}/main"));
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let first = wait_for("three files", || async { (names().len() == 3).then(names) }).await;
    wait_for("the oldest file goes", || async { (!names().contains(&first[1])).then_some(()) }).await;
    let silence = "touch /tmp/enough; until [ -e /tmp/silent ]; do sleep 0.01; done";
    crate::stream::exec(&bench, "chatty", "main", &["sh", "-c", silence], None).await;
    // Once the last file is small and stays as it is, no more rotation can come.
    let mut before = None;
    wait_for("all is written and the last file is small", || {
        let size = std::fs::metadata(directory.join(names().remove(0))).ok().map(|file| file.len());
        let quiet = size == before && size.is_some_and(|size| size < 4 << 10);
        before = size;
        async move { quiet.then_some(()) }
    })
    .await;
    let files = names();
    assert_eq!(files.len(), 3, "{files:?}");
    let kept: usize = files.iter().map(|name| std::fs::read_to_string(directory.join(name)).expect("a log file").lines().count()).sum();
    let (_, text) = bench.logs("chatty", "main", "").await;
    let numbers: Vec<u64> = text.lines().map(|line| line[5..].parse().expect("a number")).collect();
    assert_eq!(numbers.len(), kept, "every line of every file is read");
    assert!(numbers[0] > 1, "the oldest lines are gone");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is missing between files");
    bench.tear_down().await;
}

#[tokio::test]
async fn what_nobody_needs_is_cleared_away() {
    let bench = Bench::with(|config| config.limits.housekeeping = Duration::from_millis(300)).await;
    let home = &bench.sandbox.home;
    for stale in ["pods/uid-stale/volumes/v", "logs/pods/test_stale_uid-stale/main"] {
        std::fs::create_dir_all(home.join(stale)).expect("made");
    }
    bench.api.create_pod("crash", json!({"spec": {"containers": [shell("main", "exit 1")]}}));
    bench.pod_when("crash", "restarted often", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(3)).await;
    wait_for("only two attempts are kept", || async {
        let request = fermion_node::cri::v1::ListContainersRequest::default();
        let list = bench.sandbox.runtime().cri().list_containers(request).await.ok()?.containers;
        (list.len() <= 2).then_some(())
    })
    .await;
    wait_for("stale directories are gone", || async {
        let stale = ["pods/uid-stale", "logs/pods/test_stale_uid-stale"].iter().any(|path| home.join(path).exists());
        (!stale).then_some(())
    })
    .await;
    assert!(home.join("logs/containerd.log").exists(), "what is not a pod's stays");
    let uid = bench.api.pod("crash").expect("a pod")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    bench.api.delete_pod("crash", 0);
    let cgroup = format!("/sys/fs/cgroup/memory{}/pod{uid}", bench.sandbox.runtime().cgroup_parent());
    wait_for("cgroups and containers are gone", || async {
        let request = fermion_node::cri::v1::ListPodSandboxRequest::default();
        let sandboxes = bench.sandbox.runtime().cri().list_pod_sandbox(request).await.ok()?.items;
        (sandboxes.is_empty() && !std::path::Path::new(&cgroup).exists()).then_some(())
    })
    .await;
    bench.tear_down().await;
}
