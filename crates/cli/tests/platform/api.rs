//! kubectl against objects: every verb that needs no running container.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use fermion_testkit::{Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, labels: {tier: web}}\ndata: {color: blue}\n";

fn job(name: &str) -> String {
    format!(
        "apiVersion: ai.fermion.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: {name}}}\nspec:\n  suspend: true\n  roles:\n  - name: worker\n    replicas: 2\n    template:\n      spec:\n        containers:\n        - {{name: main, image: 'fermion.dev/python:latest', command: [python3, -c, 'print(1)']}}\n"
    )
}

#[test]
fn kubectl_finds_and_explains_every_kind() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let resources = kubectl.run(&["api-resources", "--no-headers"]).ok();
    for kind in [
        "TrainingJob",
        "DevEnvironment",
        "InferenceService",
        "Workload",
        "Pool",
        "Queue",
        "Image",
        "UsageRecord",
        "Pod",
        "Node",
        "Lease",
        "Event",
    ] {
        assert!(resources.lines().any(|line| line.split_whitespace().last() == Some(kind)), "{kind} in\n{resources}");
    }
    let field = kubectl.run(&["explain", "trainingjob.spec.runPolicy.retries.limit"]).ok();
    assert!(field.contains("KIND:       TrainingJob") && field.contains("How many times the job may be started over"), "{field}");
    let tree = kubectl.run(&["explain", "--recursive", "pods.spec.containers"]).ok();
    assert!(tree.contains("livenessProbe"), "{tree}");
    assert!(kubectl.run(&["explain", "trainingjob.spec.nothing"]).refused().contains("field \"nothing\" does not exist"));
    assert!(kubectl.run(&["get", "unicorns"]).refused().contains("the server doesn't have a resource type \"unicorns\""));
    let version = kubectl.run(&["version", "-o", "json"]).ok();
    assert!(
        serde_json::from_str::<Value>(&version).expect("JSON")["serverVersion"]["gitVersion"]
            .as_str()
            .expect("a version")
            .contains("fermion")
    );
}

#[test]
fn kubectl_makes_changes_and_removes_objects() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    // create, with the typed commands that send protobuf
    kubectl.run(&["create", "namespace", "lab"]).ok();
    kubectl.run(&["create", "configmap", "typed", "-n", "lab", "--from-literal=a=1"]).ok();
    kubectl.run(&["create", "secret", "generic", "hidden", "-n", "lab", "--from-literal=password=abc"]).ok();
    kubectl.run(&["create", "serviceaccount", "robot", "-n", "lab"]).ok();
    assert_eq!(kubectl.field("lab", "secret/hidden", "{.data.password}").expect("a field"), "YWJj");
    assert!(kubectl.run(&["create", "namespace", "lab"]).refused().contains("AlreadyExists"));
    kubectl.run_with(&["create", "-n", "lab", "-f", "-"], CONFIG).ok();
    // get in every form
    let table = kubectl.run(&["get", "configmap", "settings", "-n", "lab"]).ok();
    assert!(table.starts_with("NAME       DATA   AGE\nsettings   1"), "{table}");
    assert!(kubectl.run(&["get", "-n", "lab", "-o", "yaml", "cm/settings"]).ok().contains("color: blue"));
    let list: Value = serde_json::from_str(&kubectl.run(&["get", "cm", "-A", "-o", "json"]).ok()).expect("JSON");
    assert!(list["items"].as_array().expect("items").len() >= 2);
    assert!(kubectl.run(&["get", "cm", "-n", "lab", "-l", "tier in (web, db)", "-o", "name"]).ok().contains("configmap/settings"));
    assert_eq!(kubectl.run(&["get", "cm", "-n", "lab", "-l", "tier notin (web)", "-o", "name"]).ok(), "configmap/typed\n");
    assert_eq!(kubectl.run(&["get", "cm", "-n", "lab", "--field-selector", "metadata.name=typed", "-o", "name"]).ok(), "configmap/typed\n");
    assert!(kubectl.run(&["get", "cm", "-n", "lab", "-o", "wide"]).ok().contains("settings"));
    // label, annotate, patch in three ways
    kubectl.run(&["label", "cm", "settings", "-n", "lab", "owner=ann"]).ok();
    kubectl.run(&["annotate", "cm", "settings", "-n", "lab", "note=first"]).ok();
    kubectl.run(&["patch", "cm", "settings", "-n", "lab", "--type", "merge", "-p", r#"{"data":{"size":"3"}}"#]).ok();
    kubectl
        .run(&["patch", "cm", "settings", "-n", "lab", "--type", "json", "-p", r#"[{"op":"replace","path":"/data/color","value":"red"}]"#])
        .ok();
    kubectl.run(&["patch", "cm", "settings", "-n", "lab", "-p", r#"{"data":{"size":null}}"#]).ok();
    assert_eq!(kubectl.field("lab", "cm/settings", "{.data}").expect("data"), r#"{"color":"red"}"#);
    // apply, again, and with a change that takes a field away
    kubectl.run_with(&["apply", "-n", "lab", "-f", "-"], &job("net")).ok();
    kubectl.run(&["wait", "tj/net", "-n", "lab", "--for=jsonpath={.status.phase}=Suspended", "--timeout=60s"]).ok();
    let generation = kubectl.field("lab", "tj/net", "{.metadata.generation}");
    kubectl.run_with(&["apply", "-n", "lab", "-f", "-"], &job("net")).ok();
    assert_eq!(kubectl.field("lab", "tj/net", "{.metadata.generation}"), generation, "applying the same again changes nothing");
    let changed = job("net").replace("suspend: true", "suspend: true\n  priority: 5");
    assert!(kubectl.run_with(&["apply", "-n", "lab", "-f", "-"], &changed).ok().contains("configured"));
    assert_eq!(kubectl.field("lab", "tj/net", "{.spec.priority}").expect("a field"), "5");
    kubectl.run_with(&["apply", "-n", "lab", "-f", "-"], &job("net")).ok();
    assert_eq!(kubectl.field("lab", "tj/net", "{.spec.priority}").expect("a field"), "0");
    let described = kubectl.run(&["describe", "tj", "net", "-n", "lab"]).ok();
    assert!(described.lines().any(|line| line.split_whitespace().eq(["Suspend:", "true"])), "{described}");
    // replace needs the version that was read
    let current = kubectl.run(&["get", "cm", "settings", "-n", "lab", "-o", "json"]).ok();
    kubectl.run_with(&["replace", "-f", "-"], &current.replace("red", "green")).ok();
    assert!(kubectl.run_with(&["replace", "-f", "-"], &current.replace("red", "gray")).refused().contains("the object has been modified"));
    // delete, one and many
    kubectl.run(&["delete", "cm", "settings", "-n", "lab"]).ok();
    assert!(kubectl.run(&["get", "cm", "settings", "-n", "lab"]).refused().contains("NotFound"));
    kubectl.run(&["delete", "secrets,serviceaccounts", "--all", "-n", "lab"]).ok();
    assert!(kubectl.run(&["get", "secrets", "-n", "lab", "-o", "name"]).ok().is_empty());
}

#[test]
fn strategic_patches_merge_lists_of_core_kinds_by_key() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, name: http}]}\n");
    kubectl.run(&["patch", "svc", "web", "-p", r#"{"spec":{"ports":[{"port":443,"name":"https"}]}}"#]).ok();
    assert_eq!(kubectl.field("default", "svc/web", "{.spec.ports[*].port}").map(|ports| ports.split(' ').count()), Ok(2));
    kubectl.apply("apiVersion: compute.fermion.dev/v1alpha1\nkind: Queue\nmetadata: {name: night}\nspec: {}\n");
    let refused = kubectl.run(&["patch", "queue", "night", "--type", "strategic", "-p", "{}"]).refused();
    assert!(refused.contains("strategic merge patch"), "{refused}");
}

#[test]
fn scale_reaches_the_replicas_of_a_service() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply(
        "apiVersion: ai.fermion.dev/v1alpha1\nkind: InferenceService\nmetadata: {name: web}\nspec:\n  suspend: true\n  template: {spec: {containers: [{name: main, image: 'x:1'}]}}\n",
    );
    kubectl.run(&["scale", "isvc", "web", "--replicas=3"]).ok();
    assert_eq!(kubectl.field("default", "isvc/web", "{.spec.replicas}"), Ok("3".to_owned()));
    assert!(kubectl.run(&["scale", "isvc", "web", "--replicas=99999"]).refused().contains("spec.replicas"));
    kubectl.apply(&job("net"));
    assert!(kubectl.run(&["scale", "tj", "net", "--replicas=1"]).refused().contains("could not find the requested resource"));
}

#[test]
fn unknown_fields_and_bad_values_are_refused_with_their_path() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let typo = job("net").replace("replicas: 2", "replicsa: 2");
    let refused = kubectl.run_with(&["create", "-f", "-"], &typo).refused();
    assert!(refused.contains("unknown field \"spec.roles[0].replicsa\""), "{refused}");
    let wrong = job("net").replace("replicas: 2", "replicas: two");
    let refused = kubectl.run_with(&["create", "-f", "-"], &wrong).refused();
    assert!(refused.contains("spec.roles[0].replicas"), "{refused}");
    let low = job("net").replace("replicas: 2", "replicas: 0");
    let refused = kubectl.run_with(&["create", "-f", "-"], &low).refused();
    assert!(refused.contains("spec.roles[0].replicas: must lie between 1 and 10000"), "{refused}");
    let unnamed = kubectl.run_with(&["create", "-f", "-"], &job("Net_1")).refused();
    assert!(unnamed.contains("metadata.name"), "{unnamed}");
    assert!(kubectl.run_with(&["create", "-n", "nowhere", "-f", "-"], CONFIG).refused().contains("namespaces \"nowhere\" not found"));
}

#[test]
fn a_watch_shows_changes_as_they_happen() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply(CONFIG);
    let mut watching = kubectl
        .command(&["get", "configmaps", "-w", "--no-headers", "-o", "custom-columns=NAME:.metadata.name,COLOR:.data.color"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("a line").expect("text").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(next(), "settings blue");
    kubectl.run(&["patch", "cm", "settings", "--type", "merge", "-p", r#"{"data":{"color":"red"}}"#]).ok();
    assert_eq!(next(), "settings red");
    kubectl.run(&["create", "configmap", "other"]).ok();
    assert_eq!(next(), "other <none>");
    watching.kill().expect("a signal");
    watching.wait().expect("an end");
}

#[test]
fn finalizers_hold_an_object_and_owners_take_dependents_along() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.org/wait]}\n");
    kubectl.run(&["delete", "cm", "held", "--wait=false"]).ok();
    assert!(!kubectl.field("default", "cm/held", "{.metadata.deletionTimestamp}").expect("still there").is_empty());
    kubectl.run(&["patch", "cm", "held", "--type", "merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).ok();
    assert!(kubectl.run(&["get", "cm", "held"]).refused().contains("NotFound"));

    kubectl.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owner}\n");
    let uid = kubectl.field("default", "cm/owner", "{.metadata.uid}").expect("a uid");
    kubectl.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: dependent\n  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]\n"
    ));
    kubectl.run(&["delete", "cm", "owner"]).ok();
    eventually("the dependent to go", || match kubectl.field("default", "cm/dependent", "{.metadata.name}") {
        Err(error) if error.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.run(&["create", "namespace", "lab"]).ok();
    kubectl.run_with(&["create", "-n", "lab", "-f", "-"], CONFIG).ok();
    kubectl.run_with(&["create", "-n", "lab", "-f", "-"], &job("net")).ok();
    kubectl.run(&["delete", "namespace", "lab", "--timeout=60s"]).ok();
    assert!(kubectl.run(&["get", "namespace", "lab"]).refused().contains("NotFound"));
    kubectl.run(&["create", "namespace", "lab"]).ok();
    assert!(kubectl.run(&["get", "tj,cm", "-n", "lab", "-o", "name"]).ok().is_empty());
    assert!(kubectl.run(&["delete", "namespace", "default"]).refused().contains("may not be deleted"));
}

#[test]
fn waiting_for_a_condition_ends_when_it_holds() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply(&job("net"));
    kubectl.run(&["wait", "tj/net", "--for=jsonpath={.status.phase}=Suspended", "--timeout=60s"]).ok();
    kubectl.run(&["delete", "tj", "net", "--wait=false"]).ok();
    kubectl.run(&["wait", "tj/net", "--for=delete", "--timeout=60s"]).ok();
}

#[test]
fn callers_are_known_and_denied_by_default() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    assert!(kubectl.run(&["auth", "whoami"]).ok().contains("admin"));
    assert_eq!(kubectl.run(&["auth", "can-i", "delete", "nodes"]).ok().trim(), "yes");
    let http = platform.http();
    let nobody = http.anonymous();
    for path in
        ["/api", "/apis", "/version", "/openapi/v3", "/api/v1/pods", "/apps/default/a/b/", "/services/default/a/", "/metrics", "/nothing"]
    {
        assert_eq!(nobody.get(path).code, 401, "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(nobody.get(path).code, 200, "{path}");
    }
    let forged = http.anonymous().request("GET", "/api", &[("Authorization", "Bearer fermion_wrong")], b"").expect("an answer");
    assert_eq!(forged.code, 401);
    // a review never repeats the token
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": http.token()}});
    let answer = http.post("/apis/authentication.k8s.io/v1/tokenreviews", &review);
    assert_eq!((answer.code, &answer.json()["status"]["user"]["username"]), (201, &json!("admin")));
    assert!(!answer.text().contains(http.token()));
    assert!(!platform.log().contains(http.token()), "a token is in the log");
}

#[test]
fn the_first_password_signs_in_and_wrong_ones_lock_the_name() {
    let platform = Platform::start(FERMION, Node::None);
    let announced = std::fs::read_to_string(platform.home().join("announcement")).expect("the announcement");
    let password = announced.lines().find_map(|line| line.strip_prefix("password: ")).expect("a password").to_owned();
    let nobody = platform.http().anonymous();
    let sign_in = |password: &str| nobody.post("/auth/sign-in", &json!({"username": "admin", "password": password}));
    let token = sign_in(&password).json()["token"].as_str().expect("a token").to_owned();
    let header = format!("Bearer {token}");
    assert_eq!(nobody.request("GET", "/api", &[("Authorization", &header)], b"").expect("an answer").code, 200);
    for _ in 0..5 {
        assert_eq!(sign_in("wrong").code, 401);
    }
    assert_eq!(sign_in(&password).code, 429);
    assert!(!platform.log().contains(&password), "the password is in the log");
}

#[test]
fn pages_of_a_list_are_of_one_moment() {
    let platform = Platform::start(FERMION, Node::None);
    let http = platform.http();
    let path = "/api/v1/namespaces/default/configmaps";
    for index in 0..7 {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{index}")}});
        assert_eq!(http.post(path, &object).code, 201);
    }
    let first = http.get(&format!("{path}?limit=3")).json();
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    assert_eq!(http.request("DELETE", &format!("{path}/c5"), &[], b"").expect("an answer").code, 200);
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        names.extend(
            page["items"].as_array().expect("items").iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()),
        );
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = http.get(&format!("{path}?limit=3&continue={token}")).json();
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
}
