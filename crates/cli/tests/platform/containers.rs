//! kubectl on running pods, and what a pod finds inside: its limits, volumes and settings.

use std::process::Command;
use std::time::Duration;

use fermion_testkit::{Kubectl, Node, Platform, Running, eventually};
use serde_json::{Value, json};

use crate::FERMION;
use crate::manifests::{BASE, claim, claim_volume, pod, shell, with};

/// How long a first container may take: its image is unpacked before.
const FIRST_START: Duration = Duration::from_secs(180);

/// Waits until a pod is ready.
#[track_caller]
fn wait_ready(kubectl: &Kubectl, name: &str) {
    kubectl.wait_field_within(FIRST_START, "default", &format!("pod/{name}"), r#"{.status.conditions[?(@.type=="Ready")].status}"#, "True");
}

/// What a command prints that is run inside a pod.
#[track_caller]
fn inside(kubectl: &Kubectl, pod: &str, script: &str) -> String {
    kubectl.run(&["exec", pod, "--", "bash", "-c", script]).ok()
}

#[test]
fn kubectl_works_on_running_pods() {
    let platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    let talker = "echo first; sleep 1; echo second >&2; sleep 2; echo third; sleep infinity";
    kubectl.apply(&pod("talker", json!({"containers": [shell(talker)]})));
    let crasher = "n=$(cat /kept/starts 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /kept/starts; echo start $n; [ $n = 1 ] && exit 3; sleep infinity";
    let mount = json!({"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]});
    kubectl.apply(&pod("crasher", json!({"containers": [with(shell(crasher), mount)], "volumes": [{"name": "kept", "emptyDir": {}}]})));
    let web = "cd /tmp; head -c 2000000 /dev/urandom > data; sha256sum data | cut -d' ' -f1 > sum; exec python3 -m http.server 8000";
    let probe = json!({"readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}});
    kubectl.apply(&pod("web", json!({"containers": [with(shell(web), probe)]})));
    for name in ["talker", "crasher", "web"] {
        wait_ready(&kubectl, name);
    }
    pods_are_shown(&kubectl);
    logs_are_followed_cut_and_kept(&kubectl);
    commands_run_inside(&kubectl);
    files_are_copied_both_ways(&kubectl);
    ports_are_forwarded(&kubectl);
    a_command_can_be_run_in_a_pod_of_its_own(&kubectl);
    deleted_pods_get_their_grace(&kubectl);
}

fn pods_are_shown(kubectl: &Kubectl) {
    let ip = kubectl.field("default", "pod/talker", "{.status.podIP}").expect("an address");
    let table = kubectl.run(&["get", "pods", "-o", "wide", "-l", "app=talker"]).ok();
    let cells: Vec<_> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(cells[..4], ["talker", "1/1", "Running", "0"], "{table}");
    assert_eq!(cells[5..7], [ip.as_str(), "local"], "{table}");
    kubectl.run(&["wait", "pod", "-l", "app=talker", "--for=condition=Ready", "--timeout=60s"]).ok();
    eventually("the pod's events", || {
        let text = kubectl.run(&["describe", "pod", "talker"]).ok();
        let told = ["Scheduled", "Created container main", "Started container main"].iter().all(|word| text.contains(word));
        if told && text.contains(&format!("Image:         {BASE}")) { Ok(()) } else { Err(text) }
    });
    let on_node = kubectl.run(&["describe", "node", "local"]).ok();
    assert!(on_node.contains("talker"), "{on_node}");
}

fn logs_are_followed_cut_and_kept(kubectl: &Kubectl) {
    eventually("three lines", || match kubectl.run(&["logs", "talker"]).ok() {
        text if text == "first\nsecond\nthird\n" => Ok(()),
        text => Err(text),
    });
    assert_eq!(kubectl.run(&["logs", "talker", "--tail=1"]).ok(), "third\n");
    assert_eq!(kubectl.run(&["logs", "talker", "--since=1h"]).ok(), "first\nsecond\nthird\n");
    eventually("old lines to be left out", || match kubectl.run(&["logs", "talker", "--since=1s"]).ok() {
        text if text.is_empty() => Ok(()),
        text => Err(text),
    });
    let stamped = kubectl.run(&["logs", "talker", "--timestamps", "--tail=1"]).ok();
    let (time, text) = stamped.trim_end().split_once(' ').expect("a time and a text");
    assert_eq!(text, "third");
    // Times are sent as whole seconds; the lines are two seconds apart.
    assert_eq!(kubectl.run(&["logs", "talker", &format!("--since-time={time}")]).ok(), "third\n");
    // What is written while somebody listens arrives, and nothing twice.
    let mut following = kubectl.start(&["logs", "-f", "talker"]);
    following.line_with("third");
    inside(kubectl, "talker", "echo fourth > /proc/1/fd/1");
    following.line_with("fourth");
    drop(following);
    assert_eq!(kubectl.run(&["logs", "talker", "--limit-bytes=5"]).ok(), "first");

    assert_eq!(kubectl.run(&["logs", "crasher"]).ok(), "start 2\n");
    assert_eq!(kubectl.run(&["logs", "crasher", "--previous"]).ok(), "start 1\n");
    let ended = "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(kubectl.field("default", "pod/crasher", ended), Ok("1 3".to_owned()));
    assert!(kubectl.run(&["logs", "talker", "--previous"]).refused().contains("did not run before"));
    assert!(kubectl.run(&["logs", "talker", "-c", "other"]).refused().contains("other"));
}

fn commands_run_inside(kubectl: &Kubectl) {
    let failed = kubectl.run(&["exec", "talker", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (7, "out\n"));
    assert!(failed.stderr.starts_with("err\n"), "{}", failed.stderr);
    assert_eq!(inside(kubectl, "talker", "hostname").trim(), "talker");
    // A megabyte there, its end noticed, and the answer back.
    let text = "0123456789abcde\n".repeat(65_536);
    assert_eq!(kubectl.run_with(&["exec", "-i", "talker", "--", "cat"], &text).ok(), text);
    let missing = kubectl.run(&["exec", "talker", "--", "no-such-program"]);
    assert!(missing.code != 0 && missing.stderr.contains("no-such-program"), "{missing:?}");
    assert!(kubectl.run(&["exec", "nobody", "--", "true"]).refused().contains("\"nobody\" not found"));
    // With a terminal of a given size, as `script` makes one. The size is sent after the start.
    let line = format!(
        "stty rows 33 cols 101; {} exec -it talker -- bash -c 'tty; until stty size | grep 101; do sleep 0.1; done; exit 5'",
        kubectl.program().display()
    );
    let mut command = kubectl.command(&[]);
    let environment: Vec<_> = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in environment {
        command.env(name, value.expect("a value"));
    }
    let (code, said) = Running::start(&mut command).end_within(Duration::from_secs(60));
    assert!(code == 5 && said.contains("/dev/pts/") && said.contains("33 101"), "{code}: {said}");
}

fn files_are_copied_both_ways(kubectl: &Kubectl) {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&there, &bytes).expect("a file");
    kubectl.run(&["cp", there.to_str().expect("text"), "talker:/tmp/copied"]).ok();
    assert_eq!(inside(kubectl, "talker", "stat -c %s /tmp/copied").trim(), "3000000");
    kubectl.run(&["cp", "talker:/tmp/copied", back.to_str().expect("text")]).ok();
    assert!(std::fs::read(&back).expect("the copy") == bytes, "the copy differs");
}

fn ports_are_forwarded(kubectl: &Kubectl) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}});
    kubectl.apply(&service.to_string());
    for (target, ports) in [("pod/web", ":8000"), ("service/web", ":80")] {
        let mut forwarding = kubectl.start(&["port-forward", target, ports]);
        let line = forwarding.line_with("Forwarding from 127.0.0.1:");
        let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        // Several at a time, each whole.
        let sum = inside(kubectl, "web", "cat /tmp/sum");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let command = format!("curl -sSf http://127.0.0.1:{port}/data | sha256sum | cut -d' ' -f1");
                    let output = Command::new("bash").args(["-c", &command]).output().expect("bash runs");
                    assert_eq!(String::from_utf8_lossy(&output.stdout), sum, "{output:?}");
                });
            }
        });
    }
    // Nobody listens on that one; whoever connects is told, and the forwarding says why.
    let mut forwarding = kubectl.start(&["port-forward", "pod/web", ":8001"]);
    let line = forwarding.line_with("Forwarding from 127.0.0.1:");
    let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
    let refused = Command::new("curl").args(["-sS", &format!("http://127.0.0.1:{port}/")]).output().expect("curl runs");
    assert!(!refused.status.success(), "{refused:?}");
    forwarding.line_with("an error occurred forwarding");
}

fn a_command_can_be_run_in_a_pod_of_its_own(kubectl: &Kubectl) {
    let image = format!("--image={BASE}");
    let output = kubectl
        .run_with(&["run", "once", &image, "--rm", "-i", "--quiet", "--restart=Never", "--", "bash", "-c", "cat; exit 4"], "echoed\n");
    assert_eq!((output.code, output.stdout.lines().next()), (4, Some("echoed")), "{output:?}");
    assert!(kubectl.run(&["get", "pod", "once"]).refused().contains("NotFound"));
}

fn deleted_pods_get_their_grace(kubectl: &Kubectl) {
    kubectl.apply(&claim("witness"));
    let polite = "trap 'sleep 1; date +%s > /witness/ended; exit 0' TERM; echo trapped; while true; do sleep 0.1; done";
    let mount = json!({"volumeMounts": [{"name": "witness", "mountPath": "/witness"}]});
    let spec = |script: &str, grace: u32| json!({"terminationGracePeriodSeconds": grace, "containers": [with(shell(script), mount.clone())], "volumes": [claim_volume("witness")]});
    kubectl.apply(&pod("polite", spec(polite, 60)));
    kubectl.apply(&pod("stubborn", spec("trap '' TERM; echo trapped; while true; do sleep 0.1; done", 120)));
    kubectl.apply(&pod("reader", spec("sleep infinity", 1)));
    for name in ["polite", "stubborn"] {
        eventually("the trap to be set", || match kubectl.run(&["logs", name]) {
            output if output.stdout == "trapped\n" => Ok(()),
            output => Err(format!("{output:?}")),
        });
    }
    wait_ready(kubectl, "reader");
    let begun = std::time::Instant::now();
    kubectl.run(&["delete", "pod", "polite", "--timeout=50s"]).ok();
    assert!(kubectl.run(&["get", "pod", "polite"]).refused().contains("NotFound"));
    assert!(!inside(kubectl, "reader", "cat /witness/ended").is_empty(), "it could not say good-bye");
    kubectl.run(&["delete", "pod", "stubborn", "--grace-period=1", "--timeout=50s"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(60), "the grace asked for is not kept: {:?}", begun.elapsed());
    // Without waiting, it is shown as going.
    kubectl.apply(&pod("polite", spec(polite, 60)));
    wait_ready(kubectl, "polite");
    kubectl.run(&["delete", "pod", "polite", "--wait=false"]).ok();
    let table = kubectl.run(&["get", "pod", "polite", "--no-headers", "--ignore-not-found"]).ok();
    assert!(table.is_empty() || table.contains("Terminating"), "{table}");
    kubectl.run(&["wait", "pod/polite", "--for=delete", "--timeout=60s"]).ok();
    kubectl.run(&["delete", "pod", "reader", "--force", "--grace-period=0"]).ok();
}

#[test]
fn pods_get_their_limits_probes_volumes_and_settings() {
    let platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    kubectl.apply(&pod("plain", json!({"containers": [shell("sleep infinity")]})));
    wait_ready(&kubectl, "plain");
    limits_hold(&kubectl);
    probes_restart_and_withdraw(&kubectl);
    init_containers_come_first(&kubectl);
    volumes_show_what_they_hold(&kubectl);
    claims_keep_what_pods_leave(&kubectl);
    pods_that_reach_past_themselves_are_refused(&kubectl);
}

fn limits_hold(kubectl: &Kubectl) {
    let resources = json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}});
    kubectl.apply(&pod("boxed", json!({"containers": [with(shell("sleep infinity"), json!({"resources": resources}))]})));
    wait_ready(kubectl, "boxed");
    // The second generation of control groups, or the first.
    let memory = inside(kubectl, "boxed", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true");
    assert_eq!(memory.trim(), (64 << 20).to_string());
    let cpu = inside(kubectl, "boxed", "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null; true");
    assert!(["20000 100000", "20000"].contains(&cpu.trim()), "{cpu}");
    // And they hold: two seconds of work take at least as long as a fifth of a core allows.
    let burn = "import time\nbegun = time.monotonic()\nwhile time.process_time() < 0.6: pass\nprint(time.process_time() / (time.monotonic() - begun))";
    let share: f64 = kubectl.run(&["exec", "boxed", "--", "python3", "-c", burn]).ok().trim().parse().expect("a number");
    assert!(share < 0.3, "it got {share} of a core");
    assert_eq!(kubectl.field("default", "pod/boxed", "{.status.qosClass}"), Ok("Burstable".to_owned()));
}

fn probes_restart_and_withdraw(kubectl: &Kubectl) {
    let probe = |script: &str| json!({"exec": {"command": ["bash", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1});
    let probes = json!({"livenessProbe": probe("test ! -e /tmp/sick"), "readinessProbe": probe("test -e /tmp/ready")});
    kubectl.apply(&pod("probed", json!({"containers": [with(shell("sleep infinity"), probes)]})));
    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    let count = "{.status.containerStatuses[0].restartCount}";
    kubectl.wait_field("default", "pod/probed", "{.status.phase}", "Running");
    assert_eq!(kubectl.field("default", "pod/probed", ready), Ok("False".to_owned()));
    inside(kubectl, "probed", "touch /tmp/ready");
    kubectl.wait_field("default", "pod/probed", ready, "True");
    inside(kubectl, "probed", "rm /tmp/ready");
    kubectl.wait_field("default", "pod/probed", ready, "False");
    assert_eq!(kubectl.field("default", "pod/probed", count), Ok("0".to_owned()));
    inside(kubectl, "probed", "touch /tmp/sick");
    kubectl.wait_field("default", "pod/probed", count, "1");
    // The new container has a fresh file system, so it is well again.
    kubectl.wait_field("default", "pod/probed", "{.status.containerStatuses[0].state.running.startedAt}{.status.phase}", &{
        let started = eventually("the second start", || {
            match kubectl.field("default", "pod/probed", "{.status.containerStatuses[0].state.running.startedAt}") {
                Ok(time) if !time.is_empty() => Ok(time),
                other => Err(format!("{other:?}")),
            }
        });
        format!("{started}Running")
    });
    eventually("an event that says why", || {
        let text = kubectl.run(&["describe", "pod", "probed"]).ok();
        if text.contains("Unhealthy") && text.contains("Liveness probe failed") { Ok(()) } else { Err(text) }
    });
}

fn init_containers_come_first(kubectl: &Kubectl) {
    let mount = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let step = |name: &str, script: &str| with(with(shell(script), mount.clone()), json!({"name": name}));
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [step("one", "echo one >> /shared/order"), step("two", "echo two >> /shared/order")],
        "containers": [step("main", "echo main >> /shared/order; cat /shared/order")],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    kubectl.apply(&pod("ordered", spec));
    kubectl.wait_field("default", "pod/ordered", "{.status.phase}", "Succeeded");
    assert_eq!(kubectl.run(&["logs", "ordered"]).ok(), "one\ntwo\nmain\n");
    let failing = json!({"restartPolicy": "Never", "initContainers": [step("one", "exit 9")], "containers": [shell("echo never")], "volumes": [{"name": "shared", "emptyDir": {}}]});
    kubectl.apply(&pod("unprepared", failing));
    kubectl.wait_field("default", "pod/unprepared", "{.status.phase}", "Failed");
    assert_eq!(
        kubectl.field("default", "pod/unprepared", "{.status.initContainerStatuses[0].state.terminated.exitCode}"),
        Ok("9".to_owned())
    );
    assert_eq!(kubectl.field("default", "pod/unprepared", "{.status.containerStatuses[0].state.terminated}"), Ok(String::new()));
}

fn volumes_show_what_they_hold(kubectl: &Kubectl) {
    kubectl.run(&["create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=size=3"]).ok();
    kubectl.run(&["create", "secret", "generic", "hidden", "--from-literal=password=s3cret"]).ok();
    let container = json!({
        "env": [
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
            {"name": "MY_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"prefix": "ALL_", "configMapRef": {"name": "settings"}}],
        "volumeMounts": [
            {"name": "settings", "mountPath": "/settings"},
            {"name": "settings", "mountPath": "/etc/one-file", "subPath": "size"},
            {"name": "hidden", "mountPath": "/hidden", "readOnly": true},
            {"name": "fast", "mountPath": "/fast"},
        ],
    });
    let spec = json!({
        "containers": [with(shell("sleep infinity"), container)],
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 256}},
            {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        ],
    });
    kubectl.apply(&pod("furnished", spec));
    wait_ready(kubectl, "furnished");
    let see = |script: &str| inside(kubectl, "furnished", script).trim().to_owned();
    assert_eq!(see("echo $COLOR $PASSWORD $MY_NODE $ALL_color $ALL_size"), "blue s3cret local blue 3");
    assert_eq!(see("cat /settings/color /settings/size /etc/one-file /hidden/password"), "blue33s3cret");
    assert_eq!(see("stat -L -c %a /hidden/password"), "400");
    assert_eq!(see("stat -f -c %T /fast"), "tmpfs");
    assert_eq!(see("head -c 8M /dev/zero > /fast/big 2>/dev/null || echo full"), "full");
    assert_eq!(see("touch /hidden/x 2>/dev/null || echo read-only"), "read-only");
    // What is not there keeps a pod from starting, and it says so.
    let asking = json!({"envFrom": [{"configMapRef": {"name": "absent"}}]});
    kubectl.apply(&pod("unfurnished", json!({"containers": [with(shell("sleep infinity"), asking)]})));
    kubectl.wait_field("default", "pod/unfurnished", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError");
    let message = kubectl.field("default", "pod/unfurnished", "{.status.containerStatuses[0].state.waiting.message}").expect("a message");
    assert!(message.contains("absent"), "{message}");
    kubectl.run(&["create", "configmap", "absent"]).ok();
    wait_ready(kubectl, "unfurnished");
}

fn claims_keep_what_pods_leave(kubectl: &Kubectl) {
    kubectl.apply(&claim("data"));
    let spec = |script: &str, sub_path: Option<&str>| {
        let mount = json!({"name": "data", "mountPath": "/data", "subPath": sub_path});
        json!({"restartPolicy": "Never", "containers": [with(shell(script), json!({"volumeMounts": [mount]}))], "volumes": [claim_volume("data")]})
    };
    kubectl.apply(&pod("writer", spec("mkdir /data/runs; echo kept > /data/runs/result", None)));
    kubectl.wait_field("default", "pod/writer", "{.status.phase}", "Succeeded");
    assert_eq!(kubectl.field("default", "pvc/data", "{.status.phase}"), Ok("Bound".to_owned()));
    kubectl.run(&["delete", "pod", "writer"]).ok();
    kubectl.apply(&pod("part", spec("cat /data/result; ls -A /data | wc -l", Some("runs"))));
    kubectl.wait_field("default", "pod/part", "{.status.phase}", "Succeeded");
    assert_eq!(kubectl.run(&["logs", "part"]).ok(), "kept\n1\n");
    // A link that points out of the volume leads nowhere.
    kubectl.apply(&pod("liar", spec("ln -s /etc /data/way-out", None)));
    kubectl.wait_field("default", "pod/liar", "{.status.phase}", "Succeeded");
    kubectl.apply(&pod("escapee", spec("cat /data/shadow", Some("way-out"))));
    eventually("the link to be refused", || {
        let status: Value = serde_json::from_str(&kubectl.run(&["get", "pod", "escapee", "-o", "json"]).ok()).expect("JSON");
        let waiting = &status["status"]["containerStatuses"][0]["state"]["waiting"];
        if waiting["message"].as_str().is_some_and(|text| text.contains("way-out")) { Ok(()) } else { Err(status["status"].to_string()) }
    });
}

fn pods_that_reach_past_themselves_are_refused(kubectl: &Kubectl) {
    let privileged = with(shell("sleep infinity"), json!({"securityContext": {"privileged": true}}));
    let cases = [
        (
            "host-files",
            json!({"containers": [shell("cat /host/shadow")], "volumes": [{"name": "host", "hostPath": {"path": "/etc"}}]}),
            "hostPath",
        ),
        ("host-network", json!({"hostNetwork": true, "containers": [shell("sleep infinity")]}), "hostNetwork"),
        ("host-power", json!({"containers": [privileged]}), "privileged"),
    ];
    for (name, spec, word) in cases {
        kubectl.apply(&pod(name, spec));
        kubectl.wait_field("default", &format!("pod/{name}"), "{.status.phase}{.status.reason}", "FailedRefused");
        let message = kubectl.field("default", &format!("pod/{name}"), "{.status.message}").expect("a message");
        assert!(message.contains(word), "{message}");
    }
}
