//! Ownership of fields as `kubectl` and other clients see it.

use fermion_testkit::{Http, Kubectl, Node, Platform};
use serde_json::{Value, json};

use crate::FERMION;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared, namespace: default, labels: {{tier: web}}}}\ndata: {{{data}}}\n")
}

fn apply(kubectl: &Kubectl, manager: &str, manifest: &str) -> fermion_testkit::Output {
    kubectl.run_with(&["apply", "--server-side", "--field-manager", manager, "-f", "-"], manifest)
}

fn get(kubectl: &Kubectl, object: &str) -> Value {
    serde_json::from_str(&kubectl.run(&["get", object, "-o", "json", "--show-managed-fields"]).ok()).expect("JSON")
}

/// The entry of a manager.
fn entry<'a>(object: &'a Value, manager: &str, operation: &str) -> Option<&'a Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    entries.iter().find(|entry| entry["manager"] == manager && entry["operation"] == operation)
}

fn patch(http: &Http, path: &str, media: &str, body: &str) -> (u16, Value) {
    let answer = http.request("PATCH", path, &[("Content-Type", media), ("User-Agent", "probe/1.0")], body.as_bytes()).expect("an answer");
    (answer.code, answer.json())
}

const APPLY: &str = "application/apply-patch+yaml";

#[test]
fn two_managers_share_an_object_and_are_told_of_conflicts() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    assert!(apply(&kubectl, "ann", &map("color: blue, size: '1'")).ok().contains("serverside-applied"));
    let first = get(&kubectl, "cm/shared");
    let ann = entry(&first, "ann", "Apply").expect("an entry");
    assert_eq!(ann["fieldsV1"], json!({"f:data": {"f:color": {}, "f:size": {}}, "f:metadata": {"f:labels": {"f:tier": {}}}}));
    assert_eq!((&ann["apiVersion"], &ann["fieldsType"]), (&json!("v1"), &json!("FieldsV1")));

    // Another one adds a field of its own and agrees about one.
    apply(&kubectl, "bob", &map("size: '1', shape: round")).ok();
    let refused = apply(&kubectl, "bob", &map("size: '2', shape: round")).refused();
    assert!(refused.contains("conflict with \"ann\": .data.size"), "{refused}");
    kubectl
        .run_with(&["apply", "--server-side", "--field-manager", "bob", "--force-conflicts", "-f", "-"], &map("size: '2', shape: round"))
        .ok();
    let forced = get(&kubectl, "cm/shared");
    assert_eq!(forced["data"], json!({"color": "blue", "size": "2", "shape": "round"}));
    assert_eq!(entry(&forced, "ann", "Apply").expect("an entry")["fieldsV1"]["f:data"], json!({"f:color": {}}));

    // The same again is no write.
    apply(&kubectl, "bob", &map("size: '2', shape: round")).ok();
    assert_eq!(get(&kubectl, "cm/shared")["metadata"]["resourceVersion"], forced["metadata"]["resourceVersion"]);

    // What a manager no longer applies goes, unless it is somebody else's too.
    apply(&kubectl, "bob", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, namespace: default}\n").ok();
    let left = get(&kubectl, "cm/shared");
    assert_eq!((&left["data"], &left["metadata"]["labels"]), (&json!({"color": "blue"}), &json!({"tier": "web"})));
    assert!(entry(&left, "bob", "Apply").is_none());
}

#[test]
fn updates_and_patches_take_fields_under_the_name_of_their_client() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.run_with(&["create", "-f", "-"], &map("color: blue")).ok();
    kubectl.run(&["label", "cm", "shared", "owner=ann"]).ok();
    kubectl.run(&["patch", "cm", "shared", "--type", "merge", "-p", r#"{"data":{"color":"red"}}"#]).ok();
    let object = get(&kubectl, "cm/shared");
    let fields = |manager: &str| entry(&object, manager, "Update").map(|entry| entry["fieldsV1"].clone());
    assert_eq!(fields("kubectl-create"), Some(json!({"f:data": {}, "f:metadata": {"f:labels": {".": {}, "f:tier": {}}}})));
    assert_eq!(fields("kubectl-label"), Some(json!({"f:metadata": {"f:labels": {"f:owner": {}}}})));
    assert_eq!(fields("kubectl-patch"), Some(json!({"f:data": {"f:color": {}}})));
    let (code, _) = patch(&platform.http(), &format!("{MAPS}/shared"), "application/merge-patch+json", r#"{"data":{"size":"1"}}"#);
    assert_eq!(code, 200);
    assert_eq!(entry(&get(&kubectl, "cm/shared"), "probe", "Update").expect("an entry")["fieldsV1"], json!({"f:data": {"f:size": {}}}));
    // The platform's parts have names, too.
    let namespace = get(&kubectl, "ns/default");
    assert!(entry(&namespace, "fermion-apiserver", "Update").is_some(), "{}", namespace["metadata"]);
}

#[test]
fn a_status_and_a_scale_have_owners_of_their_own() {
    let platform = Platform::start(FERMION, Node::None);
    let (kubectl, http) = (platform.kubectl(), platform.http());
    let service = |replicas: &str| {
        format!(
            "apiVersion: ai.fermion.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: web, namespace: default}}\nspec:\n  suspend: true\n{replicas}  template: {{spec: {{containers: [{{name: main, image: 'x:1'}}]}}}}\n"
        )
    };
    apply(&kubectl, "ann", &service("  replicas: 2\n")).ok();
    let path = "/apis/ai.fermion.dev/v1alpha1/namespaces/default/inferenceservices/web";
    let scale = |replicas: u32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas}}).to_string()
    };
    let (code, status) = patch(&http, &format!("{path}/scale?fieldManager=scaler"), APPLY, &scale(3));
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (409, &json!(".spec.replicas")), "{status}");
    let (code, scaled) = patch(&http, &format!("{path}/scale?fieldManager=scaler&force=true"), APPLY, &scale(3));
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(3)), "{scaled}");
    let object = get(&kubectl, "isvc/web");
    let scaler = entry(&object, "scaler", "Apply").expect("an entry");
    assert_eq!((&scaler["subresource"], &scaler["fieldsV1"]), (&json!("scale"), &json!({"f:spec": {"f:replicas": {}}})));
    let refused = apply(&kubectl, "ann", &service("  replicas: 2\n")).refused();
    assert!(refused.contains("conflict with \"scaler\" with subresource \"scale\": .spec.replicas"), "{refused}");
    apply(&kubectl, "ann", &service("")).ok();
    assert_eq!(kubectl.field("default", "isvc/web", "{.spec.replicas}"), Ok("3".to_owned()));

    // The controller's status is its own; an apply of the object does not reach it.
    kubectl.run(&["wait", "isvc/web", "--for=jsonpath={.status.phase}=Suspended", "--timeout=60s"]).ok();
    let controller = get(&kubectl, "isvc/web");
    let own = entry(&controller, "fermion-controllers", "Update").expect("an entry");
    assert_eq!(own["subresource"], "status");
    let body = "apiVersion: ai.fermion.dev/v1alpha1\nkind: InferenceService\nmetadata: {name: web}\nstatus: {phase: Failed}\n";
    let (code, status) = patch(&http, &format!("{path}/status?fieldManager=ann"), APPLY, body);
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (409, &json!(".status.phase")), "{status}");
    let (code, _) = patch(&http, &format!("{path}x/status?fieldManager=ann"), APPLY, &body.replace("web", "webx"));
    assert_eq!(code, 404, "a status makes no object");
    assert!(entry(&get(&kubectl, "isvc/web"), "ann", "Apply").expect("an entry")["fieldsV1"].get("f:status").is_none());
}

#[test]
fn applies_that_cannot_be_are_refused_as_kubernetes_refuses_them() {
    let platform = Platform::start(FERMION, Node::None);
    let http = platform.http();
    let path = format!("{MAPS}/shared");
    let good = map("color: blue");
    let refused = |query: &str, body: &str| {
        let (code, status) = patch(&http, &format!("{path}{query}"), APPLY, body);
        (code, status["reason"].as_str().unwrap_or_default().to_owned(), status["message"].as_str().unwrap_or_default().to_owned())
    };
    let (code, reason, message) = refused("", &good);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(message, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch");
    let managed = good.replace("labels:", "managedFields: [], labels:");
    assert_eq!(refused("?fieldManager=a", &managed), (400, "BadRequest".to_owned(), "metadata.managedFields must be nil".to_owned()));
    let (code, _, message) = refused("?fieldManager=a", &good.replace("\ndata:", "\ndota:"));
    assert_eq!(code, 400);
    assert_eq!(message, "failed to create typed patch object (default/shared; v1, Kind=ConfigMap): .dota: field not declared in schema");
    assert_eq!(refused("?fieldManager=a", &good.replace("kind: ConfigMap", "kind: Secret")).0, 400);
    assert_eq!(refused("?fieldManager=a", &good.replace("name: shared", "name: other")).0, 400);
    assert_eq!(refused("?fieldManager=a", "a: [").0, 400);
    assert_eq!(refused("?fieldManager=a", "- 1").0, 400);
    assert_eq!(refused(&format!("?fieldManager={}", "a".repeat(129)), &good).0, 422);
    let versioned = good.replace("labels:", "resourceVersion: '1', labels:");
    assert_eq!(refused("?fieldManager=a", &versioned).1, "Conflict");
    assert_eq!(http.get(&path).code, 404, "nothing was made");
    let (code, status) = patch(&http, &format!("{path}?force=true"), "application/merge-patch+json", "{}");
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));

    // A dry run answers what would be and keeps nothing.
    let (code, made) = patch(&http, &format!("{path}?fieldManager=a&dryRun=All"), APPLY, &good);
    assert_eq!((code, &made["data"]["color"]), (201, &json!("blue")), "{made}");
    assert_eq!(http.get(&path).code, 404);
    let (code, _) = patch(&http, &format!("{path}?fieldManager=a"), APPLY, &good);
    assert_eq!(code, 201);
    let (code, answer) = patch(&http, &format!("{path}?fieldManager=a&dryRun=All"), APPLY, &map("color: red"));
    assert_eq!((code, &answer["data"]["color"]), (200, &json!("red")));
    assert_eq!(http.get(&path).json()["data"]["color"], "blue");
    let (code, _) = patch(&http, &format!("{path}?fieldManager=a"), APPLY, &versioned);
    assert_eq!(code, 409, "another version was meant");
}

#[test]
fn clients_may_forget_and_hand_over_owners() {
    let platform = Platform::start(FERMION, Node::None);
    let (kubectl, http) = (platform.kubectl(), platform.http());
    let path = format!("{MAPS}/shared");
    apply(&kubectl, "ann", &map("color: blue")).ok();
    let put = |object: &Value| {
        let answer =
            http.request("PUT", &path, &[("Content-Type", "application/json"), ("User-Agent", "probe")], object.to_string().as_bytes());
        answer.expect("an answer").json()
    };
    let mut object = http.get(&path).json();
    let version = object["metadata"]["resourceVersion"].clone();
    // A client that knows nothing of owners leaves them as they are.
    object["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    assert_eq!(put(&object)["metadata"]["resourceVersion"], version);
    object["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    assert_eq!(put(&object)["metadata"]["resourceVersion"], version, "what is malformed says nothing");
    // One that does may give them to another.
    let mut handed = http.get(&path).json();
    handed["metadata"]["managedFields"][0]["manager"] = json!("bob");
    let handed = put(&handed);
    assert!(entry(&handed, "bob", "Apply").is_some() && entry(&handed, "ann", "Apply").is_none());
    object["metadata"]["resourceVersion"] = handed["metadata"]["resourceVersion"].clone();
    object["metadata"]["managedFields"] = json!([{}]);
    let forgotten = put(&object);
    assert!(forgotten["metadata"].get("managedFields").is_none(), "{forgotten}");
    // From here on nobody keeps owners, until the next apply.
    patch(&http, &path, "application/merge-patch+json", r#"{"data":{"size":"1"}}"#);
    assert!(http.get(&path).json()["metadata"].get("managedFields").is_none());
    let refused = apply(&kubectl, "ann", &map("color: red")).refused();
    assert!(refused.contains("conflict with \"before-first-apply\" using v1: .data.color"), "{refused}");
}

#[test]
fn client_side_apply_becomes_server_side_apply() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply(&map("color: blue, size: '1'"));
    assert!(entry(&get(&kubectl, "cm/shared"), "kubectl-client-side-apply", "Update").is_some());
    kubectl.run_with(&["apply", "--server-side", "-f", "-"], &map("color: red")).ok();
    let object = get(&kubectl, "cm/shared");
    assert_eq!(object["data"], json!({"color": "red"}), "what client-side apply set and nobody applies is gone");
    assert!(entry(&object, "kubectl-client-side-apply", "Update").is_none(), "{}", object["metadata"]["managedFields"]);
    // And back.
    kubectl.apply(&map("color: green"));
    assert_eq!(get(&kubectl, "cm/shared")["data"], json!({"color": "green"}));
}

#[test]
fn diff_tells_what_apply_would_change() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    apply(&kubectl, "kubectl", &map("color: blue")).ok();
    let same = kubectl.run_with(&["diff", "--server-side", "-f", "-"], &map("color: blue"));
    assert_eq!(same.code, 0, "{}{}", same.stdout, same.stderr);
    for arguments in [&["diff", "--server-side", "-f", "-"][..], &["diff", "-f", "-"]] {
        let different = kubectl.run_with(arguments, &map("color: red"));
        assert_eq!(different.code, 1, "{}", different.stderr);
        assert!(different.stdout.contains("-  color: blue") && different.stdout.contains("+  color: red"), "{}", different.stdout);
    }
    assert_eq!(kubectl.field("default", "cm/shared", "{.data.color}"), Ok("blue".to_owned()));
}

#[test]
fn prune_removes_what_is_no_longer_in_the_manifests() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let named =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{app: demo}}}}\ndata: {{a: '1'}}\n");
    let both = format!("{}---\n{}", named("one"), named("two"));
    let arguments = ["apply", "--prune", "-l", "app=demo", "--prune-allowlist", "core/v1/ConfigMap", "-f", "-"];
    kubectl.run_with(&arguments, &both).ok();
    let pruned = kubectl.run_with(&arguments, &named("one")).ok();
    assert!(pruned.contains("configmap/two pruned"), "{pruned}");
    assert_eq!(kubectl.run(&["get", "cm", "-l", "app=demo", "-o", "name"]).ok(), "configmap/one\n");
}

#[test]
fn a_pods_containers_are_shared_by_name() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let pod = |fields: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: default, labels: {{a: '1'}}}}\n{fields}");
    apply(&kubectl, "ann", &pod("spec: {containers: [{name: main, image: 'x:1', resources: {requests: {cpu: 1}}}]}\n")).ok();
    let object = get(&kubectl, "pod/p");
    assert_eq!(
        entry(&object, "ann", "Apply").expect("an entry")["fieldsV1"]["f:spec"],
        json!({"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:name": {}, "f:image": {}, "f:resources": {"f:requests": {"f:cpu": {}}}}}}),
        "defaults belong to nobody"
    );
    // An amount that is written another way is the same amount.
    apply(&kubectl, "bob", &pod("spec: {containers: [{name: main, image: 'x:1', resources: {requests: {cpu: 1}}}]}\n")).ok();
    let refused = apply(&kubectl, "bob", &pod("spec: {containers: [{name: main, image: 'x:2'}]}\n")).refused();
    assert!(refused.contains(".spec.containers[name=\"main\"].image"), "{refused}");
}
