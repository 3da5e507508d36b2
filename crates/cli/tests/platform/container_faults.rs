//! What happens to running containers when the server or containerd is killed, when memory
//! runs out, when an image does not exist, and when there is no room.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use fermion_testkit::{Http, Kubectl, Node, Platform, eventually, eventually_within};
use serde_json::{Value, json};

use crate::FERMION;
use crate::accounts::{assert_accounted_once, records};
use crate::manifests::{claim, claim_volume, pod, python, shell, with};

/// How long a first container may take: its image is unpacked before.
const FIRST_START: Duration = Duration::from_secs(180);
/// How long a platform may take to be as it was after something was killed.
const RECOVERY: Duration = Duration::from_secs(120);

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The folder of a claim's data on this machine.
fn data_folder(platform: &Platform, claim: &str) -> PathBuf {
    let uid = platform.kubectl().field("default", &format!("pvc/{claim}"), "{.metadata.uid}").expect("a uid");
    platform.home().join("volumes/default").join(uid)
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until a file has more lines than it has now.
#[track_caller]
fn grows(file: &Path) {
    let before = lines(file).len();
    eventually(&format!("{} to grow", file.display()), || {
        let now = lines(file).len();
        if now > before { Ok(()) } else { Err(format!("{now} lines")) }
    });
}

/// A container that says once that it starts, then goes on saying that it is there until the
/// file `go` exists.
fn ticking(name: &str) -> Value {
    let program = format!("echo {name} >> /data/starts; until [ -e /data/go ]; do echo tick >> /data/{name}; sleep 0.1; done");
    with(shell(&program), json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}))
}

/// What must stay the same of every pod: its uid, containers and restarts.
fn containers(kubectl: &Kubectl, selector: &str) -> BTreeMap<String, String> {
    let list: Value = serde_json::from_str(&kubectl.run(&["get", "pods", "-l", selector, "-o", "json"]).ok()).expect("JSON");
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
            (name, format!("{} {} {}", pod["metadata"]["uid"], status["containerID"], status["restartCount"]))
        })
        .collect()
}

/// Sends a request and reads the answer as it comes.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    fn open(http: &Http, path: &str) -> Self {
        let mut socket = TcpStream::connect(http.address()).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", http.token());
        socket.write_all(head.as_bytes()).expect("the request is sent");
        Self { socket, text: String::new() }
    }

    /// Reads until the text has come that often; false if the stream ended before.
    fn read_until(&mut self, wanted: &str, times: usize) -> bool {
        let mut buffer = [0; 4096];
        while self.text.matches(wanted).count() < times {
            match self.socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("{error}; so far: {}", self.text),
            }
        }
        true
    }
}

/// Streams a word every 50 ms, as a chat does, and appends a line to /data/streams when it ends.
const STREAMER: &str = r#"
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        words = 5 if self.path == "/short" else 2000
        try:
            for number in range(words):
                data = f"data: word-{number}\n\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            with open("/data/streams", "a") as file:
                print("broken off", file=file)
            self.close_connection = True
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

fn streamer() -> String {
    let more = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}], "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}});
    let template = json!({"spec": {"terminationGracePeriodSeconds": 1, "containers": [with(python(STREAMER), more)], "volumes": [claim_volume("data")]}});
    json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "chat"}, "spec": {"template": template}}).to_string()
}

/// Creates short pods until the server is gone, each of which says that it starts. Answers
/// the names of those that were acknowledged.
fn burst(http: &Http, round: usize, writer: usize, acknowledged: &Mutex<BTreeSet<String>>) {
    for index in 0..PODS_PER_WRITER_MAX {
        let name = format!("burst-{round}-{writer}-{index}");
        let container =
            with(shell(&format!("echo {name} >> /data/starts")), json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}));
        let spec = json!({"restartPolicy": "Never", "containers": [container], "volumes": [claim_volume("data")]});
        let body = pod(&name, spec).replace(&format!(r#""app":"{name}""#), r#""app":"burst""#);
        match http.request("POST", PODS, &[("Content-Type", "application/json")], body.as_bytes()) {
            Ok(answer) if answer.code == 201 => drop(acknowledged.lock().expect("whole").insert(name)),
            // The server is being killed.
            _ => return,
        }
    }
}

/// The most pods of one writer: small, as all of them run on this machine.
const PODS_PER_WRITER_MAX: usize = 6;

#[test]
fn killing_the_server_stops_no_container_and_starts_none_twice() {
    let mut platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    kubectl.apply(&claim("data"));
    let template = json!({"spec": {"containers": [ticking("$(FERMION_JOB_NAME)-$(FERMION_RANK)")], "volumes": [claim_volume("data")]}});
    let job = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "steady"},
        "spec": {"roles": [{"name": "worker", "replicas": 2, "template": template}]},
    });
    kubectl.apply(&job.to_string());
    kubectl.apply(&streamer());
    kubectl.wait_field_within(FIRST_START, "default", "tj/steady", "{.status.ready}", "2/2");
    kubectl.wait_field_within(FIRST_START, "default", "isvc/chat", "{.status.ready}", "1/1");
    let data = data_folder(&platform, "data");
    let selector = "app!=burst";
    let before = containers(&kubectl, selector);
    assert_eq!(before.len(), 3, "{before:?}");

    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..3 {
        let http = platform.http();
        let mut stream = Stream::open(&http, "/services/default/chat/long");
        assert!(stream.read_until("word-", 5), "the stream ended early: {}", stream.text);
        let enough = acknowledged.lock().expect("whole").len() + 2 + round;
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (http, acknowledged) = (&http, &acknowledged);
                scope.spawn(move || burst(http, round, writer, acknowledged));
            }
            eventually("pods to be acknowledged", || match acknowledged.lock().expect("whole").len() {
                count if count >= enough => Ok(()),
                count => Err(format!("{count} pods")),
            });
            platform.kill();
        });
        // The stream breaks off, it does not hang; nobody takes it for whole.
        assert!(!stream.read_until("\r\n0\r\n\r\n", 1), "the stream seems whole");
        for rank in 0..2 {
            grows(&data.join(format!("steady-{rank}")));
        }
        platform.restart();
        kubectl.wait_field_within(RECOVERY, "default", "isvc/chat", "{.status.ready}", "1/1");
        let mut short = eventually("the service to answer", || {
            let mut stream = Stream::open(&platform.http(), "/services/default/chat/short");
            if stream.read_until("word-", 5) { Ok(stream) } else { Err(stream.text) }
        });
        assert!(short.read_until("\r\n0\r\n\r\n", 1), "{}", short.text);
        assert_eq!(containers(&kubectl, selector), before, "round {round}");
    }
    eventually("the pod to notice that its callers are gone", || match lines(&data.join("streams")).len() {
        3 => Ok(()),
        count => Err(format!("{count} streams broken off")),
    });

    // Every pod that was acknowledged runs, once; so does everything else.
    let acknowledged = acknowledged.into_inner().expect("whole");
    let made = eventually_within(RECOVERY, "every pod of the bursts to end well", || {
        let list = platform.http().get(&format!("{PODS}?labelSelector=app%3Dburst")).json();
        let pods = list["items"].as_array().expect("items");
        // One that failed will not end well any more.
        let failed: Vec<String> = pods.iter().filter(|pod| pod["status"]["phase"] == "Failed").map(Value::to_string).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let left: Vec<String> = pods.iter().filter(|pod| pod["status"]["phase"] != "Succeeded").map(name).collect();
        if left.is_empty() { Ok(pods.iter().map(name).collect::<BTreeSet<_>>()) } else { Err(format!("{left:?} are left")) }
    });
    assert!(made.is_superset(&acknowledged), "lost: {:?}", acknowledged.difference(&made));
    std::fs::write(data.join("go"), "").expect("the job is told to end");
    kubectl.wait_field_within(RECOVERY, "default", "tj/steady", "{.status.phase}", "Succeeded");
    assert_eq!(kubectl.field("default", "tj/steady", "{.status.attempt} {.status.retries}"), Ok("0 0".to_owned()));
    let mut starts: Vec<String> = lines(&data.join("starts"));
    starts.sort();
    let mut expected: Vec<String> = made.iter().cloned().chain(["steady-0".to_owned(), "steady-1".to_owned()]).collect();
    expected.sort();
    assert_eq!(starts, expected, "each container starts once");
    each_pod_is_accounted_once(&platform);
}

/// Every pod that ended has one record, with the times of its container; those that run have an
/// open one.
fn each_pod_is_accounted_once(platform: &Platform) {
    let http = platform.http();
    let (records, pods) = (records(&http), http.get(PODS).json());
    for pod in pods["items"].as_array().expect("items") {
        if pod["status"]["phase"] == "Running" {
            let own: Vec<&Value> = records.iter().filter(|record| record["podUid"] == pod["metadata"]["uid"]).collect();
            assert!(own.len() == 1 && own[0]["open"] == true, "{own:?}");
        } else {
            assert_accounted_once(&records, pod);
        }
    }
}

#[test]
fn pods_go_on_when_containerd_is_killed() {
    let mut platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    kubectl.apply(&claim("data"));
    let spec = |container: Value| json!({"restartPolicy": "Never", "containers": [container], "volumes": [claim_volume("data")]});
    let code = with(
        shell("until [ -e /data/end-it ]; do sleep 0.1; done; exit 7"),
        json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    );
    kubectl.apply(&pod("steady", spec(ticking("steady"))));
    kubectl.apply(&pod("ending", spec(code)));
    for name in ["steady", "ending"] {
        kubectl.wait_field_within(FIRST_START, "default", &format!("pod/{name}"), "{.status.phase}", "Running");
    }
    let data = data_folder(&platform, "data");
    let before = containers(&kubectl, "app=steady");
    let recovered = |former: u32| {
        eventually_within(RECOVERY, "another containerd", || match platform.containerd() {
            Some(pid) if pid != former => Ok(()),
            other => Err(format!("{other:?} after {former}")),
        });
        // The server never went away.
        assert_eq!(platform.http().get("/readyz").code, 200);
        eventually_within(RECOVERY, "a command to run inside again", || match kubectl.run(&["exec", "steady", "--", "echo", "here"]) {
            output if output.stdout == "here\n" => Ok(()),
            output => Err(format!("{output:?}")),
        });
        assert_eq!(containers(&kubectl, "app=steady"), before);
        assert_eq!(lines(&data.join("starts")), ["steady"]);
    };
    let former = platform.kill_containerd();
    // What ends meanwhile is noticed, with its code.
    std::fs::write(data.join("end-it"), "").expect("a file");
    grows(&data.join("steady"));
    recovered(former);
    let ended = "{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}";
    kubectl.wait_field_within(RECOVERY, "default", "pod/ending", ended, "Failed 7");
    // New pods run as before.
    kubectl.apply(&pod("new", json!({"restartPolicy": "Never", "containers": [shell("echo new")]})));
    kubectl.wait_field_within(RECOVERY, "default", "pod/new", "{.status.phase}", "Succeeded");
    kubectl.run(&["delete", "pod", "new", "ending", "--timeout=60s"]).ok();

    // Both at the same time, as when memory runs out on the machine.
    platform.kill_containerd();
    platform.kill();
    grows(&data.join("steady"));
    platform.restart();
    let kubectl = platform.kubectl();
    eventually_within(RECOVERY, "a command to run inside again", || match kubectl.run(&["exec", "steady", "--", "echo", "here"]) {
        output if output.stdout == "here\n" => Ok(()),
        output => Err(format!("{output:?}")),
    });
    assert_eq!(containers(&kubectl, "app=steady"), before);
    std::fs::write(data.join("go"), "").expect("a file");
    kubectl.wait_field_within(RECOVERY, "default", "pod/steady", "{.status.phase}", "Succeeded");
    assert_eq!(lines(&data.join("starts")), ["steady"]);
}

#[test]
fn what_cannot_run_says_why() {
    let platform = Platform::start(FERMION, Node::Local);
    let kubectl = platform.kubectl();
    missing_images_are_named(&kubectl);
    memory_that_runs_out_is_told(&kubectl);
    too_much_waits_and_says_what_is_missing(&kubectl);
    room_that_is_freed_is_used(&kubectl);
}

fn missing_images_are_named(kubectl: &Kubectl) {
    let with_image = |image: &str| json!({"containers": [{"name": "main", "image": image}]});
    kubectl.apply(&pod("nowhere", with_image("registry.invalid/nothing:1")));
    kubectl.apply(&pod("misspelt", with_image("fermion.dev/pyhton:latest")));
    let waiting = |name: &str, field: &str| {
        kubectl
            .field("default", &format!("pod/{name}"), &format!("{{.status.containerStatuses[0].state.waiting.{field}}}"))
            .unwrap_or_default()
    };
    eventually("the pull to fail", || match waiting("nowhere", "reason") {
        reason if ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()) => Ok(()),
        reason => Err(reason),
    });
    kubectl.wait_field("default", "pod/nowhere", "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff");
    let message = waiting("nowhere", "message");
    assert!(message.contains("registry.invalid/nothing:1"), "{message}");
    kubectl.wait_field("default", "pod/misspelt", "{.status.containerStatuses[0].state.waiting.reason}", "InvalidImageName");
    let message = waiting("misspelt", "message");
    for word in ["fermion.dev/pyhton:latest", "not an official image", "base", "python", "llm"] {
        assert!(message.contains(word), "{message}");
    }
    let row = kubectl.run(&["get", "pod", "nowhere", "misspelt", "--no-headers"]).ok();
    assert!(row.contains("ImagePullBackOff") || row.contains("ErrImagePull"), "{row}");
    assert!(row.contains("InvalidImageName"), "{row}");
    eventually("an event", || {
        let text = kubectl.run(&["describe", "pod", "nowhere"]).ok();
        if text.contains("Failed") && text.contains("cannot pull image registry.invalid/nothing:1") { Ok(()) } else { Err(text) }
    });
    assert!(kubectl.run(&["logs", "nowhere"]).refused().contains("registry.invalid/nothing:1"));
    kubectl.run(&["delete", "pod", "nowhere", "misspelt", "--timeout=60s"]).ok();
}

fn memory_that_runs_out_is_told(kubectl: &Kubectl) {
    let greedy = with(python("kept = []\nwhile True: kept.append(b'x' * 1000000)"), json!({"resources": {"limits": {"memory": "48Mi"}}}));
    kubectl.apply(&pod("greedy", json!({"restartPolicy": "Never", "containers": [greedy.clone()]})));
    let template = json!({"spec": {"containers": [greedy]}});
    let job = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "hungry"},
        "spec": {"roles": [{"name": "worker", "template": template}], "runPolicy": {"retries": {"limit": 1}}},
    });
    kubectl.apply(&job.to_string());
    kubectl.wait_field_within(FIRST_START, "default", "pod/greedy", "{.status.phase}", "Failed");
    let ended = "{.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(kubectl.field("default", "pod/greedy", ended), Ok("OOMKilled 137".to_owned()));
    let row = kubectl.run(&["get", "pod", "greedy", "--no-headers"]).ok();
    assert!(row.contains("OOMKilled"), "{row}");
    // Running out of memory is worth another try, which ends the same way here.
    kubectl.wait_field_within(FIRST_START, "default", "tj/hungry", "{.status.phase}", "Failed");
    assert_eq!(kubectl.field("default", "tj/hungry", "{.status.retries} {.status.exitCode}"), Ok("1 137".to_owned()));
    let why = kubectl.field("default", "tj/hungry", r#"{.status.conditions[?(@.type=="Complete")].message}"#).expect("a sentence");
    assert!(why.contains("memory") || why.contains("OOMKilled"), "{why}");
}

fn too_much_waits_and_says_what_is_missing(kubectl: &Kubectl) {
    let asking = |resources: Value| with(shell("sleep infinity"), json!({"resources": {"requests": resources}}));
    kubectl.apply(&pod("whale", json!({"containers": [asking(json!({"memory": "10Ti"}))]})));
    let message = eventually("the pod to say why it waits", || {
        let path = r#"{.status.conditions[?(@.type=="PodScheduled")].message}"#;
        match kubectl.field("default", "pod/whale", path) {
            Ok(message) if !message.is_empty() => Ok(message),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(message.contains("10Ti memory") && message.contains("too little"), "{message}");
    assert_eq!(kubectl.field("default", "pod/whale", "{.status.phase}"), Ok("Pending".to_owned()));
    kubectl.run(&["delete", "pod", "whale", "--timeout=60s"]).ok();
    let template = json!({"spec": {"containers": [asking(json!({"cpu": "1000"}))]}});
    let job = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "whales"},
        "spec": {"roles": [{"name": "worker", "replicas": 2, "template": template}]},
    });
    kubectl.apply(&job.to_string());
    kubectl.wait_field("default", "workload/whales", "{.status.waiting.reason}", "ExceedsCapacity");
    let waiting: Value =
        serde_json::from_str(&kubectl.field("default", "workload/whales", "{.status.waiting}").expect("why")).expect("JSON");
    assert_eq!((&waiting["resource"], &waiting["position"]), (&json!("cpu"), &json!(1)), "{waiting}");
    let milli = |quantity: &str| match quantity.strip_suffix('m') {
        Some(milli) => milli.parse::<i64>().expect("a number"),
        None => quantity.parse::<i64>().expect("a number") * 1000,
    };
    // Exactly as much as the machine cannot give.
    let can_give = milli(&kubectl.field("default", "node/local", "{.status.allocatable.cpu}").expect("an amount"));
    let missing = milli(waiting["missing"].as_str().expect("an amount"));
    assert!([1_000_000 - can_give, 2_000_000 - can_give].contains(&missing), "{waiting} with {can_give}");
    // The job says it too, and none of its pods has a place.
    eventually("the job to say why it waits", || {
        let text = kubectl.run(&["describe", "tj", "whales"]).ok();
        if text.contains("cpu") && text.contains("too little") { Ok(()) } else { Err(text) }
    });
    let nodes = kubectl.run(&["get", "pods", "-l", "fermion.dev/training-job=whales", "-o", "jsonpath={.items[*].spec.nodeName}"]).ok();
    assert!(nodes.is_empty(), "{nodes}");
    kubectl.run(&["delete", "tj", "whales", "--timeout=60s"]).ok();
}

fn room_that_is_freed_is_used(kubectl: &Kubectl) {
    // More than half of the machine, so that one has room and two have not.
    let cpu = kubectl.field("default", "node/local", "{.status.allocatable.cpu}").expect("an amount");
    let milli: i64 =
        cpu.strip_suffix('m').map_or_else(|| cpu.parse::<i64>().expect("a number") * 1000, |milli| milli.parse().expect("a number"));
    let half = with(shell("sleep infinity"), json!({"resources": {"requests": {"cpu": format!("{}m", milli / 2 + 100)}}}));
    kubectl.apply(&pod("first", json!({"containers": [half.clone()]})));
    kubectl.wait_field_within(FIRST_START, "default", "pod/first", "{.status.phase}", "Running");
    kubectl.apply(&pod("second", json!({"containers": [half]})));
    let path = r#"{.status.conditions[?(@.type=="PodScheduled")].message}"#;
    let message = eventually("the second to wait", || match kubectl.field("default", "pod/second", path) {
        Ok(message) if !message.is_empty() => Ok(message),
        other => Err(format!("{other:?}")),
    });
    let missing = 2 * (milli / 2 + 100) - milli;
    assert!(message.contains(&format!("{missing}m cpu too little")), "{message}");
    kubectl.run(&["delete", "pod", "first", "--timeout=60s"]).ok();
    kubectl.wait_field("default", "pod/second", "{.status.phase}", "Running");
}
