//! Pods from their creation to their end.

use serde_json::{Value, json};

use crate::bench::{Bench, shell};
use crate::sandbox::wait_for;

fn container(pod: &Value, index: usize) -> &Value {
    &pod["status"]["containerStatuses"][index]
}

#[tokio::test]
async fn a_pod_runs_to_its_end_and_says_so() {
    let bench = Bench::start().await;
    // The two streams are two pipes: only time puts their lines in order.
    let mut main = shell("main", "echo out; sleep 1; echo err >&2; echo result > /dev/termination-log");
    main["env"] = json!([{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    bench.api.create_pod("once", json!({"spec": {"restartPolicy": "Never", "containers": [main]}}));
    let pod = bench.pod_in_phase("once", "Succeeded").await;
    let ended = &container(&pod, 0)["state"]["terminated"];
    assert_eq!(ended["exitCode"], 0);
    assert_eq!(ended["reason"], "Completed");
    assert_eq!(ended["message"], "result\n");
    assert!(pod["status"]["podIP"].is_string(), "{pod:#}");
    assert_eq!(bench.logs("once", "main", "").await, (200, "out\nerr\n".to_owned()));
    assert_eq!(bench.logs("once", "main", "tailLines=1").await.1, "err\n");
    let reasons = wait_for("events", || async {
        let reasons = bench.api.event_reasons("once");
        (reasons.len() >= 2).then_some(reasons)
    })
    .await;
    assert!(reasons.contains(&"Created".to_owned()) && reasons.contains(&"Started".to_owned()), "{reasons:?}");
    bench.api.delete_pod("once", 30);
    bench.pod_is_gone("once").await;
    let directory = bench.pod_directory(&pod);
    wait_for("the pod's directory is gone", || async { (!directory.exists()).then_some(()) }).await;
    bench.tear_down().await;
}

#[tokio::test]
async fn failures_restart_with_back_off_and_keep_the_previous_log() {
    let bench = Bench::start().await;
    bench.api.create_pod("crash", json!({"spec": {"containers": [shell("main", "echo try; exit 3")]}}));
    let pod = bench
        .pod_when("crash", "backs off", |pod| {
            container(pod, 0)["state"]["waiting"]["reason"] == "CrashLoopBackOff" && container(pod, 0)["restartCount"].as_i64() >= Some(2)
        })
        .await;
    assert_eq!(pod["status"]["phase"], "Running");
    let last = &container(&pod, 0)["lastState"]["terminated"];
    assert_eq!((last["exitCode"].as_i64(), last["reason"].as_str()), (Some(3), Some("Error")));
    assert_eq!(bench.logs("crash", "main", "previous=true").await, (200, "try\n".to_owned()));
    let (code, text) = bench.logs("crash", "other", "").await;
    assert_eq!(code, 400);
    assert!(text.contains("container other is not in pod crash; it has main"), "{text}");
    wait_for("the back-off is told", || async { bench.api.event_reasons("crash").contains(&"BackOff".to_owned()).then_some(()) }).await;
    bench.tear_down().await;
}

#[tokio::test]
async fn out_of_memory_is_told_as_such() {
    let bench = Bench::start().await;
    let mut main = shell("main", "tail /dev/zero");
    main["resources"] = json!({"limits": {"memory": "32Mi"}});
    bench.api.create_pod("greedy", json!({"spec": {"restartPolicy": "Never", "containers": [main]}}));
    let pod = bench.pod_in_phase("greedy", "Failed").await;
    let ended = &container(&pod, 0)["state"]["terminated"];
    assert_eq!((ended["exitCode"].as_i64(), ended["reason"].as_str()), (Some(137), Some("OOMKilled")), "{ended:#}");
    // Said once and for all: no earlier status told of another cause.
    for status in bench.api.pod_history("greedy") {
        let reason = &status["containerStatuses"][0]["state"]["terminated"]["reason"];
        assert!(reason.is_null() || reason == "OOMKilled", "{status:#}");
    }
    bench.tear_down().await;
}

#[tokio::test]
async fn init_containers_run_before_and_share_volumes() {
    let bench = Bench::start().await;
    let mounts = json!([{"name": "shared", "mountPath": "/shared"}]);
    let mut first = shell("first", "echo one >> /shared/file");
    let mut second = shell("second", "echo two >> /shared/file");
    let mut main = shell("main", "cat /shared/file; df -k /shared | tail -1");
    for container in [&mut first, &mut second, &mut main] {
        container["volumeMounts"] = mounts.clone();
    }
    bench.api.create_pod(
        "steps",
        json!({"spec": {
            "restartPolicy": "Never",
            "initContainers": [first, second],
            "containers": [main],
            "volumes": [{"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}],
        }}),
    );
    bench.pod_in_phase("steps", "Succeeded").await;
    let (_, text) = bench.logs("steps", "main", "").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["one", "two"]);
    assert_eq!(lines[2].split_whitespace().take(2).collect::<Vec<_>>(), ["tmpfs", "8192"]);
    bench.tear_down().await;
}

#[tokio::test]
async fn images_that_cannot_be_had_are_named() {
    let bench = Bench::start().await;
    let pod = |image: &str, policy: &str| json!({"spec": {"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]}});
    bench.api.create_pod("never", pod("example.invalid/x:1", "Never"));
    bench.api.create_pod("nowhere", pod("127.0.0.1:1/x:1", "IfNotPresent"));
    bench.api.create_pod("unknown", pod("fermion.dev/nothing:latest", "IfNotPresent"));
    for (name, reason, text) in [
        ("never", "ErrImageNeverPull", "is not on this machine"),
        ("nowhere", "ImagePullBackOff", "cannot pull image 127.0.0.1:1/x:1"),
        ("unknown", "InvalidImageName", "there is no recipe for fermion.dev/nothing:latest"),
    ] {
        let pod = bench.pod_when(name, reason, |pod| container(pod, 0)["state"]["waiting"]["reason"] == reason).await;
        let message = container(&pod, 0)["state"]["waiting"]["message"].as_str().expect("a message");
        assert!(message.contains(text), "{message}");
        let (code, log) = bench.logs(name, "main", "").await;
        assert!(code == 400 && log.contains("is waiting to start"), "{code} {log}");
        bench.api.delete_pod(name, 0);
    }
    bench.tear_down().await;
}

#[tokio::test]
async fn pods_that_reach_out_or_ask_too_much_are_refused() {
    let bench = Bench::start().await;
    let mut privileged = shell("main", "true");
    privileged["securityContext"] = json!({"privileged": true});
    let mut large = shell("main", "true");
    large["resources"] = json!({"requests": {"cpu": "1000"}});
    for (name, spec, reason) in [
        ("privileged", json!({"containers": [privileged]}), "Refused"),
        ("network", json!({"hostNetwork": true, "containers": [shell("main", "true")]}), "Refused"),
        ("large", json!({"containers": [large]}), "OutOfCpu"),
    ] {
        bench.api.create_pod(name, json!({"spec": spec}));
        let pod = bench.pod_in_phase(name, "Failed").await;
        assert_eq!(pod["status"]["reason"], reason, "{pod:#}");
        assert!(container(&pod, 0)["state"]["running"].is_null());
    }
    bench.tear_down().await;
}

#[tokio::test]
async fn deletion_gives_the_grace_and_reports_the_end() {
    let bench = Bench::start().await;
    let script = "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.1; done";
    let mut main = shell("main", script);
    main["lifecycle"] = json!({"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo stopping > /proc/1/fd/1"]}}});
    bench.api.create_pod("service", json!({"spec": {"containers": [main]}}));
    bench.pod_in_phase("service", "Running").await;
    wait_for("it is up", || async { (bench.logs("service", "main", "").await.1 == "up\n").then_some(()) }).await;
    bench.api.delete_pod("service", 20);
    bench.pod_is_gone("service").await;
    let history = bench.api.pod_history("service");
    let last = history.last().expect("a status");
    let ended = &last["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 7, "{last:#}");
    assert_eq!(last["phase"], "Failed");
    assert!(ended["startedAt"].is_string() && ended["finishedAt"].is_string());
    bench.tear_down().await;
}

#[tokio::test]
async fn a_container_is_ready_only_after_its_start_hook() {
    let bench = Bench::start().await;
    let mut main = shell("main", "sleep 600");
    let hook = "until [ -e /tmp/go ]; do sleep 0.05; done";
    main["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/sh", "-c", hook]}}});
    let mut bad = shell("main", "sleep 600");
    bad["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/sh", "-c", "echo no luck; exit 9"]}}});
    let pod =
        |container: &Value| json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}});
    bench.api.create_pod("hooked", pod(&main));
    let running = |pod: &Value| container(pod, 0)["state"]["running"].is_object();
    let seen = bench.pod_when("hooked", "runs", running).await;
    assert_eq!(container(&seen, 0)["ready"], false);
    crate::stream::exec(&bench, "hooked", "main", &["touch", "/tmp/go"], None).await;
    bench.pod_when("hooked", "is ready", |pod| container(pod, 0)["ready"] == true).await;
    bench.api.create_pod("unlucky", pod(&bad));
    bench.pod_in_phase("unlucky", "Failed").await;
    let told = wait_for("the failed hook is told", || async {
        let events = bench.api.list("/api/v1/events");
        events.into_iter().find(|event| event["reason"] == "FailedPostStartHook")
    })
    .await;
    assert!(told["message"].as_str().expect("a message").contains("no luck"), "{told:#}");
    bench.tear_down().await;
}

#[tokio::test]
async fn probes_gate_readiness_and_restart_the_sick() {
    let owned = Bench::start().await;
    let script = "mkdir /www; echo hi > /www/index.html; httpd -f -p 8080 -h /www";
    let mut main = shell("main", script);
    main["ports"] = json!([{"name": "web", "containerPort": 8080}]);
    main["startupProbe"] = json!({"tcpSocket": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 30});
    main["readinessProbe"] = json!({"httpGet": {"port": "web", "path": "/index.html"}, "periodSeconds": 1});
    main["livenessProbe"] = json!({
        "exec": {"command": ["/bin/sh", "-c", "test ! -e /tmp/sick || { echo is sick; exit 1; }"]},
        "periodSeconds": 1, "failureThreshold": 2,
    });
    let ready = |pod: &Value| {
        pod["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
    };
    owned.api.create_pod("web", json!({"spec": {"terminationGracePeriodSeconds": 1, "containers": [main]}}));
    owned.pod_when("web", "is ready", ready).await;
    let bench = &owned;
    let exec = |script: &'static str| async move { crate::stream::exec(bench, "web", "main", &["/bin/sh", "-c", script], None).await };
    exec("mv /www/index.html /www/away").await;
    bench.pod_when("web", "is not ready", |pod| !ready(pod)).await;
    exec("mv /www/away /www/index.html; touch /tmp/sick").await;
    let pod = bench.pod_when("web", "was restarted and is ready", |pod| container(pod, 0)["restartCount"] == 1 && ready(pod)).await;
    let last = &container(&pod, 0)["lastState"]["terminated"];
    let message = last["message"].as_str().expect("a message");
    assert!(message.contains("liveness probe failed") && message.contains("is sick"), "{message}");
    owned.tear_down().await;
}

#[tokio::test]
async fn a_deadline_ends_the_pod() {
    let bench = Bench::start().await;
    let spec = json!({"activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 0, "containers": [shell("main", "sleep 600")]});
    bench.api.create_pod("slow", json!({"spec": spec}));
    let pod = bench.pod_in_phase("slow", "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(container(&pod, 0)["state"]["terminated"]["exitCode"], 137);
    bench.tear_down().await;
}

#[tokio::test]
async fn gang_members_know_each_other_before_they_start() {
    let bench = Bench::start().await;
    let member = |name: &str, script: &str| {
        let labels = json!({"fermion.dev/workload": "gang", "fermion.dev/gang-size": "2"});
        let spec = json!({"restartPolicy": "Never", "hostname": name, "subdomain": "gang", "containers": [shell("main", script)]});
        bench.api.create_pod(name, json!({"metadata": {"labels": labels}, "spec": spec}))
    };
    member("one", "until echo hello | nc -w 5 two.gang 7777; do sleep 0.1; done");
    let pod = bench
        .pod_when("one", "waits for its peer", |pod| {
            container(pod, 0)["state"]["waiting"]["message"].as_str().is_some_and(|text| text.contains("not placed yet"))
        })
        .await;
    assert!(pod["status"]["podIP"].is_string(), "the address is there before the containers: {pod:#}");
    // A listener whose input ends closes its side, and the other may then give up before it speaks.
    member("two", "grep -c one.gang /etc/hosts; mkfifo /open; nc -l -p 7777 <>/open");
    bench.pod_in_phase("two", "Succeeded").await;
    assert_eq!(bench.logs("two", "main", "").await.1, "1\nhello\n");
    bench.tear_down().await;
}
