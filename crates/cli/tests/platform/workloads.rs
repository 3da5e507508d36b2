//! Training jobs, environments and services, in real containers from start to end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fermion_testkit::{Http, Kubectl, Node, Platform, eventually, eventually_within};
use serde_json::{Value, json};

use crate::FERMION;
use crate::accounts::{assert_accounted_once, records, records_of};
use crate::manifests::{claim, claim_volume, pod, python, shell, with};

/// How long a first container may take: its image is unpacked before.
const FIRST_START: Duration = Duration::from_secs(180);

/// A TrainingJob of one role `worker` whose pods mount the claim `data` at `/data`.
fn job(name: &str, replicas: u32, container: Value, more: Value) -> String {
    let container = with(
        container,
        json!({
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        }),
    );
    let template = json!({"spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [claim_volume("data")]}});
    let spec = with(json!({"roles": [{"name": "worker", "replicas": replicas, "template": template}]}), more);
    json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// An object as JSON.
#[track_caller]
fn get(kubectl: &Kubectl, object: &str) -> Value {
    serde_json::from_str(&kubectl.run(&["get", object, "-o", "json"]).ok()).expect("JSON")
}

/// Waits until a job has ended in a phase, and answers its status.
#[track_caller]
fn wait_job(kubectl: &Kubectl, name: &str, phase: &str) -> Value {
    kubectl.wait_field_within(FIRST_START, "default", &format!("tj/{name}"), "{.status.phase}", phase);
    get(kubectl, &format!("tj/{name}"))["status"].clone()
}

/// What the pods of a job left in a file on the claim `data`, read by a job of its own.
#[track_caller]
fn read(kubectl: &Kubectl, name: &str, path: &str) -> String {
    kubectl.apply(&job(name, 1, shell(&format!("cat {path}")), json!({})));
    wait_job(kubectl, name, "Succeeded");
    kubectl.run(&["logs", &format!("{name}-worker-0")]).ok()
}

#[test]
fn training_jobs_run_talk_fail_and_are_accounted() {
    let platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    kubectl.apply(&claim("data"));
    one_worker_trains_and_its_numbers_are_read(&platform, &kubectl);
    two_workers_know_each_other_and_talk(&platform, &kubectl);
    failures_are_tried_again_by_their_class(&platform, &kubectl);
    a_suspended_job_leaves_and_comes_back(&platform, &kubectl);
    the_command_line_runs_a_command_as_a_job(&platform);
}

fn one_worker_trains_and_its_numbers_are_read(platform: &Platform, kubectl: &Kubectl) {
    let train = "import json\nfor epoch in range(1, 61):\n  print(json.dumps({'epoch': epoch, 'loss': 1 / epoch}))\nprint('done')";
    kubectl.apply(&job("alone", 1, python(train), json!({"metrics": {}})));
    let status = wait_job(kubectl, "alone", "Succeeded");
    assert_eq!(status["exitCode"], 0, "{status}");
    eventually("the last numbers", || {
        let status = get(kubectl, "tj/alone")["status"].clone();
        let whole = status["metrics"] == json!({"epoch": 60, "loss": 1.0 / 60.0});
        if whole && status["metricsHistory"].as_array().is_some_and(|lines| lines.len() == 50 && lines[0]["epoch"] == 11) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(kubectl.run(&["logs", "alone-worker-0", "--tail=1"]).ok(), "done\n");
    let row = kubectl.run(&["get", "tj", "alone", "--no-headers"]).ok();
    assert!(row.split_whitespace().nth(1) == Some("Succeeded"), "{row}");
    used_once(platform, kubectl, "alone-worker-0");
}

/// The pod has one record, with its container's own times and what it asked for.
fn used_once(platform: &Platform, kubectl: &Kubectl, name: &str) {
    let pod = get(kubectl, &format!("pod/{name}"));
    let record = assert_accounted_once(&records(&platform.http()), &pod);
    assert_eq!(record["requests"], json!({"cpu": "50m", "memory": "32Mi"}));
    assert_eq!((&record["createdBy"], &record["node"]), (&json!("admin"), &json!("local")), "{record}");
    let owner = pod["metadata"]["labels"]["fermion.dev/training-job"].as_str().expect("a label");
    assert_eq!(record["owner"], format!("TrainingJob/{owner}"));
}

fn two_workers_know_each_other_and_talk(platform: &Platform, kubectl: &Kubectl) {
    // Rank 0 adds up what the others send it and tells them the sum.
    let program = r#"
import json, os, socket, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
names = {name: os.environ[name] for name in ("FERMION_ROLE", "FERMION_WORKER_HOSTS", "FERMION_RANK", "LOCAL_RANK")}
if rank == 0:
    total = 1
    with socket.create_server(("", address[1])) as server:
        peers = [server.accept()[0] for _ in range(world - 1)]
    for peer in peers:
        total += int(peer.makefile().readline())
    for peer in peers:
        peer.sendall(f"{total}\n".encode())
    with open("/data/sum.jsonl", "w") as file:
        print(json.dumps({"sum": total}), file=file)
else:
    while True:
        try:
            peer = socket.create_connection(address, timeout=60)
            break
        except OSError:
            time.sleep(0.1)
    peer.sendall(f"{rank * 100}\n".encode())
    total = int(peer.makefile().readline())
print(json.dumps({"rank": rank, "world": world, "total": total, "at": socket.gethostname(), **names}))
"#;
    let more = json!({"framework": "PyTorch", "metrics": {"file": "/data/sum.jsonl"}});
    kubectl.apply(&job("pair", 2, python(program), more));
    wait_job(kubectl, "pair", "Succeeded");
    for rank in 0..2 {
        let said: Value = serde_json::from_str(&kubectl.run(&["logs", &format!("pair-worker-{rank}")]).ok()).expect("JSON");
        let expected = json!({
            "rank": rank, "world": 2, "total": 101, "at": format!("pair-worker-{rank}"), "LOCAL_RANK": "0",
            "FERMION_ROLE": "worker", "FERMION_WORKER_HOSTS": "pair-worker-0,pair-worker-1", "FERMION_RANK": rank.to_string(),
        });
        assert_eq!(said, expected);
        used_once(platform, kubectl, &format!("pair-worker-{rank}"));
    }
    eventually("the numbers of the file", || match &get(kubectl, "tj/pair")["status"]["metrics"] {
        metrics if *metrics == json!({"sum": 101}) => Ok(()),
        metrics => Err(metrics.to_string()),
    });
    let addresses: Vec<_> =
        (0..2).map(|rank| kubectl.field("default", &format!("pod/pair-worker-{rank}"), "{.status.podIP}").expect("an address")).collect();
    assert_ne!(addresses[0], addresses[1]);
}

fn failures_are_tried_again_by_their_class(platform: &Platform, kubectl: &Kubectl) {
    // Ends with a code the first time and well the second time.
    let once = |name: &str, code: i32| shell(&format!("echo start >> /data/{name}; [ $(wc -l < /data/{name}) -gt 1 ] || exit {code}"));
    let policy = |retries: Value| json!({"runPolicy": {"retries": retries}});
    kubectl.apply(&job("lost", 1, once("lost", 143), policy(json!({"limit": 1}))));
    kubectl.apply(&job("listed", 1, once("listed", 17), policy(json!({"limit": 1, "retryableExitCodes": [17]}))));
    kubectl.apply(&job("asking", 1, once("asking", 42), policy(json!({"userRequestedExitCodes": [42]}))));
    kubectl.apply(&job("wrong", 1, once("wrong", 3), policy(json!({"limit": 5}))));
    kubectl.apply(&job("hopeless", 1, shell("echo start >> /data/hopeless; exit 143"), policy(json!({"limit": 1}))));
    let ended = |name: &str, phase: &str| {
        let status = wait_job(kubectl, name, phase);
        (status["attempt"].as_i64(), status["retries"].as_i64(), status["exitCode"].as_i64())
    };
    assert_eq!(ended("lost", "Succeeded"), (Some(1), Some(1), Some(0)));
    assert_eq!(ended("listed", "Succeeded"), (Some(1), Some(1), Some(0)));
    assert_eq!(ended("asking", "Succeeded"), (Some(1), Some(0), Some(0)));
    assert_eq!(ended("wrong", "Failed"), (Some(0), Some(0), Some(3)));
    assert_eq!(ended("hopeless", "Failed"), (Some(1), Some(1), Some(143)));
    let why = |name: &str| get(kubectl, &format!("tj/{name}"))["status"]["conditions"].to_string();
    assert!(why("wrong").contains("wrong-worker-0") && why("wrong").contains('3'), "{}", why("wrong"));
    let starts = read(kubectl, "count", "/data/lost /data/listed /data/asking /data/wrong /data/hopeless");
    assert_eq!(starts.lines().count(), 2 + 2 + 2 + 1 + 2);
    // Each try held resources for a time of its own.
    for (name, tries) in [("lost", 2), ("wrong", 1), ("hopeless", 2)] {
        let records = records_of(&platform.http(), &format!("{name}-worker-0"));
        let pods: std::collections::BTreeSet<_> = records.iter().map(|record| record["podUid"].to_string()).collect();
        assert_eq!((records.len(), pods.len()), (tries, tries), "{records:?}");
        assert!(records.iter().all(|record| record["open"] == false), "{records:?}");
    }
}

fn a_suspended_job_leaves_and_comes_back(platform: &Platform, kubectl: &Kubectl) {
    let program = "echo start >> /data/paused; until [ -e /data/go ]; do sleep 0.1; done";
    kubectl.apply(&job("paused", 1, shell(program), json!({})));
    wait_job(kubectl, "paused", "Running");
    kubectl.wait_field("default", "pod/paused-worker-0", "{.status.phase}", "Running");
    let suspend =
        |on: bool| kubectl.run(&["patch", "tj", "paused", "--type=merge", "-p", &format!(r#"{{"spec":{{"suspend":{on}}}}}"#)]).ok();
    suspend(true);
    wait_job(kubectl, "paused", "Suspended");
    eventually("its pod to go", || match kubectl.run(&["get", "pods", "-l", "fermion.dev/training-job=paused", "-o", "name"]).ok() {
        names if names.is_empty() => Ok(()),
        names => Err(names),
    });
    let first = records_of(&platform.http(), "paused-worker-0");
    assert!(first.len() == 1 && first[0]["open"] == false, "{first:?}");
    suspend(false);
    wait_job(kubectl, "paused", "Running");
    kubectl.wait_field("default", "pod/paused-worker-0", "{.status.phase}", "Running");
    kubectl.run(&["exec", "paused-worker-0", "--", "touch", "/data/go"]).ok();
    let status = wait_job(kubectl, "paused", "Succeeded");
    assert_eq!((&status["attempt"], &status["retries"]), (&json!(0), &json!(0)), "{status}");
    assert_eq!(read(kubectl, "starts", "/data/paused"), "start\nstart\n");
    let both = records_of(&platform.http(), "paused-worker-0");
    assert!(both.len() == 2 && both.contains(&first[0]), "{both:?}");
}

fn the_command_line_runs_a_command_as_a_job(platform: &Platform) {
    let image = ["run", "--image", crate::manifests::BASE];
    let words = |more: &[&'static str]| image.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let output = platform.run(&words(&["--name", "answer", "--", "python3", "-c", "print(6 * 7)"]));
    assert!(output.stdout.contains("42"), "{output:?}");
    output.ok();
    assert_eq!(platform.run(&words(&["--name", "sour", "--", "sh", "-c", "exit 7"])).code, 7);
    assert!(platform.run(&["logs", "job/answer"]).ok().contains("42"));
    let table = platform.run(&["usage"]).ok();
    assert!(table.contains("TrainingJob/answer") || table.contains("answer"), "{table}");
}

#[test]
fn jupyterlab_runs_a_cell_through_the_proxy_and_its_files_stay() {
    let platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    let environment = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "DevEnvironment", "metadata": {"name": "lab"},
        "spec": {
            "apps": [{"name": "jupyter", "kind": "Jupyter"}, {"name": "terminal", "kind": "Terminal"}],
            "home": {"size": "64Mi"},
            "template": {"spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "main", "image": "fermion.dev/python:latest"}]}},
        },
    });
    kubectl.apply(&environment.to_string());
    let running = || kubectl.wait_field_within(FIRST_START, "default", "dev/lab", "{.status.phase}", "Running");
    running();
    let cell = |code: &str| platform.run(&["notebook", "run", "lab", code]);
    assert_eq!(cell("import sklearn.datasets as d\nprint(d.load_digits().data.shape)").ok(), "(1797, 64)\n");
    assert_eq!(cell("6 * 7").ok().trim(), "42");
    assert!(cell("1 / 0").refused().contains("ZeroDivisionError"));
    cell("open('kept.txt', 'w').write('still here')").ok();
    let activity = kubectl.field("default", "dev/lab", "{.status.lastActivityAt}").expect("a field");
    assert!(!activity.is_empty(), "no activity is seen");

    // Nobody comes in without a credential, and Jupyter's own token is nobody's to know.
    let (http, nobody) = (platform.http(), platform.http().anonymous());
    let path = "/apps/default/lab/jupyter";
    assert_eq!(http.get(&format!("{path}/api/kernels")).code, 200);
    for rest in ["/", "/lab", "/api/kernels", "/api/contents/kept.txt", "/api/kernels/x/channels"] {
        assert_eq!(nobody.get(&format!("{path}{rest}")).code, 401, "{rest}");
    }
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    assert_eq!(nobody.request("GET", &format!("{path}/api/kernels/x/channels"), &upgrade, b"").expect("an answer").code, 401);
    assert_eq!(nobody.request("GET", "/apps/default/lab/terminal/", &upgrade, b"").expect("an answer").code, 401);
    let page = http.get(&format!("{path}/lab"));
    assert!(page.code == 200 && page.text().contains("JupyterLab"), "{}", page.code);
    // Beside the proxy the pod's port answers, but asks for the token that only the proxy has.
    let ip = kubectl.field("default", "pod/lab-main-0", "{.status.podIP}").expect("an address");
    let url = format!("http://{ip}:8888{path}/api/kernels");
    let direct =
        std::process::Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]).output().expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&direct.stdout), "403");
    let shell = platform.run(&["exec", "env/lab", "--", "sh", "-c", "cat kept.txt; exit 3"]);
    assert_eq!((shell.code, shell.stdout.as_str()), (3, "still here"), "{shell:?}");

    // Stopped it holds nothing but its home; started again it goes on.
    let suspend = |on: bool| kubectl.run(&["patch", "dev", "lab", "--type=merge", "-p", &format!(r#"{{"spec":{{"suspend":{on}}}}}"#)]).ok();
    suspend(true);
    kubectl.wait_field("default", "dev/lab", "{.status.phase}", "Stopped");
    assert!(kubectl.run(&["get", "pods", "-o", "name"]).ok().is_empty());
    let stopped = http.get(&format!("{path}/lab"));
    assert!(stopped.code == 503 || stopped.code == 409, "{} {}", stopped.code, stopped.text());
    suspend(false);
    running();
    assert_eq!(cell("print(open('kept.txt').read())").ok(), "still here\n");
    let records = records_of(&http, "lab-main-0");
    assert_eq!((records.len(), records.iter().filter(|record| record["open"] == true).count()), (2, 1), "{records:?}");
    the_digits_example_passes_its_own_tests(&kubectl);
}

/// The example's tests, in the image that the example runs in.
fn the_digits_example_passes_its_own_tests(kubectl: &Kubectl) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits");
    let files = [
        ("train.py", "train.py"),
        ("serve.py", "serve.py"),
        ("init", "tests/__init__.py"),
        ("test_train.py", "tests/test_train.py"),
        ("test_serve.py", "tests/test_serve.py"),
    ];
    let mut words = vec!["create".to_owned(), "configmap".to_owned(), "digits".to_owned()];
    words.extend(files.iter().map(|(key, path)| format!("--from-file={key}={folder}/{path}")));
    kubectl.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let items: Vec<Value> = files.iter().map(|(key, path)| json!({"key": key, "path": path})).collect();
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "main",
            "image": "fermion.dev/python:latest",
            "workingDir": "/digits",
            "command": ["python3", "-m", "unittest", "--verbose"],
            "volumeMounts": [{"name": "digits", "mountPath": "/digits"}],
        }],
        "volumes": [{"name": "digits", "configMap": {"name": "digits", "items": items}}],
    });
    kubectl.apply(&pod("digits", spec));
    eventually_within(FIRST_START, "the example's tests end", || {
        match kubectl.field("default", "pod/digits", "{.status.phase}")?.as_str() {
            phase @ ("Succeeded" | "Failed") => Ok(phase.to_owned()),
            phase => Err(format!("phase {phase}")),
        }
    });
    let log = kubectl.run(&["logs", "digits"]).ok();
    assert_eq!(kubectl.field("default", "pod/digits", "{.status.phase}").as_deref(), Ok("Succeeded"), "{log}");
    assert!(log.contains("\nOK\n") && !log.contains("Ran 0 tests"), "{log}");
}

/// Answers with its version and its pod's name, and takes a moment for it, as models do. Once
/// it is told to end it is not ready, and goes on to answer for a while.
const SERVER: &str = r#"
import http.server, os, signal, threading, time
ending = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(503 if ending.is_set() else 200, "")
        time.sleep(0.02)
        self.answer(200, os.environ["VERSION"] + " " + os.uname().nodename)
    def answer(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64
server = Server(("", 8080), Handler)
def end():
    ending.wait()
    time.sleep(2)
    server.shutdown()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
threading.Thread(target=end).start()
server.serve_forever(0.05)
os._exit(0)
"#;

fn service(version: &str) -> String {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
    let container = with(
        python(SERVER),
        json!({
            "env": [{"name": "VERSION", "value": version}],
            "readinessProbe": probe,
            "livenessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 2, "failureThreshold": 5},
            "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        }),
    );
    json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 20, "containers": [container]}}},
    })
    .to_string()
}

/// The most requests a test sends while something else happens.
const REQUESTS_MAX: usize = 20_000;

/// Sends requests from several clients while `meanwhile` runs, and counts the answers by text.
/// Every request must be answered well.
fn answers_while(http: &Http, path: &str, meanwhile: impl FnOnce()) -> BTreeMap<String, usize> {
    let counts: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..REQUESTS_MAX {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let said = match http.request("GET", path, &[], b"") {
                        Ok(answer) if answer.code == 200 => answer.text(),
                        Ok(answer) => format!("failed: {} {}", answer.code, answer.text()),
                        Err(error) => format!("failed: {error}"),
                    };
                    *counts.lock().expect("whole").entry(said).or_default() += 1;
                }
            });
        }
        // The others end also when this one fails.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    counts.into_inner().expect("whole")
}

fn failed(counts: &BTreeMap<String, usize>) -> Vec<(&String, &usize)> {
    counts.iter().filter(|(said, _)| said.starts_with("failed")).collect()
}

#[test]
fn services_spread_requests_and_change_without_a_failed_one() {
    let platform = Platform::start(FERMION, Node::Local);
    let (kubectl, http) = (platform.kubectl(), platform.http());
    kubectl.apply(&service("one"));
    let path = "/services/default/web/";
    let wait_ready = || kubectl.wait_field_within(FIRST_START, "default", "isvc/web", "{.status.phase} {.status.ready}", "Ready 2/2");
    wait_ready();
    assert_eq!(http.anonymous().get(path).code, 401);
    assert_eq!(kubectl.field("default", "isvc/web", "{.status.endpoint}"), Ok(path.to_owned()));

    // Both replicas get their share.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..40 {
        let answer = http.get(path);
        assert_eq!(answer.code, 200, "{}", answer.text());
        *counts.entry(answer.text()).or_default() += 1;
    }
    assert!(counts.len() == 2 && counts.values().all(|count| *count >= 8), "{counts:?}");

    // A new version takes over while requests go on.
    let counts = answers_while(&http, path, || {
        kubectl.apply(&service("two"));
        eventually_within(FIRST_START, "the new version everywhere", || {
            let status = get(&kubectl, "isvc/web")["status"].clone();
            let done = status["phase"] == "Ready" && status["updatedReplicas"] == 2 && status["replicas"] == 2;
            if done && http.get(path).text().starts_with("two ") { Ok(()) } else { Err(status.to_string()) }
        });
    });
    assert_eq!(failed(&counts), [], "{counts:?}");
    for version in ["one ", "two "] {
        assert!(counts.keys().any(|said| said.starts_with(version)), "{counts:?}");
    }

    // A replica that goes is replaced; the other answers meanwhile.
    let pods = || {
        let names =
            kubectl.run(&["get", "pods", "-l", "fermion.dev/inference-service=web", "-o", "jsonpath={.items[*].metadata.uid}"]).ok();
        names.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = pods();
    assert_eq!(before.len(), 2);
    let name = kubectl.run(&["get", "pods", "-l", "fermion.dev/inference-service=web", "-o", "jsonpath={.items[0].metadata.name}"]).ok();
    let counts = answers_while(&http, path, || {
        kubectl.run(&["delete", "pod", &name]).ok();
        eventually("another pod", || {
            let now = pods();
            let other = now.iter().any(|uid| !before.contains(uid));
            if other && get(&kubectl, "isvc/web")["status"]["ready"] == "2/2" { Ok(()) } else { Err(format!("{now:?}")) }
        });
        wait_ready();
    });
    assert_eq!(failed(&counts), [], "{counts:?}");

    // One that is killed restarts in its place and is sent requests again.
    let name = kubectl.run(&["get", "pods", "-l", "fermion.dev/inference-service=web", "-o", "jsonpath={.items[0].metadata.name}"]).ok();
    kubectl.run(&["exec", &name, "--", "python3", "-c", "import os; os.kill(1, 9)"]);
    kubectl.run(&["exec", &name, "--", "bash", "-c", "kill -TERM 1"]);
    kubectl.wait_field("default", &format!("pod/{name}"), "{.status.containerStatuses[0].restartCount}", "1");
    wait_ready();
    eventually("answers from the restarted replica", || match http.get(path) {
        answer if answer.text() == format!("two {name}") => Ok(()),
        answer => Err(answer.text()),
    });
}
