//! The examples of <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::*;

fn config_map() -> Story {
    let mut schema = crate::schema::for_core::<ConfigMap>();
    Story::of(core_kind("", "ConfigMap", &mut schema))
}

fn deployment() -> Story {
    let mut schema = crate::schema::for_core::<Deployment>();
    Story::of(core_kind("apps", "Deployment", &mut schema))
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-cm", "namespace": "default", "labels": {"test-label": "test"}}, "data": data})
}

fn nginx(spec: Value) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx-deployment", "labels": {"app": "nginx"}},
        "spec": {
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx:1.14.2"}]}},
        },
    });
    for (name, value) in spec.as_object().expect("fields") {
        deployment["spec"][name] = value.clone();
    }
    deployment
}

#[test]
fn ownership_follows_apply_and_update() {
    let mut story = config_map();
    story.apply("kubectl", map(json!({"key": "some value"})));
    assert_eq!(
        story.managed.to_value(),
        Some(json!([{
            "manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:test-label": {}}}, "f:data": {"f:key": {}}},
        }]))
    );
    story.update("kube-controller-manager", map(json!({"key": "new value"})));
    assert_eq!(story.applied("kubectl"), [".metadata.labels.test-label"]);
    assert_eq!(story.updated("kube-controller-manager"), [".data.key"]);
    assert_eq!(
        story.conflict("kubectl", map(json!({"key": "some value"}))),
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .data.key"
    );
}

#[test]
fn a_conflict_is_solved_by_force_by_giving_up_or_by_sharing() {
    let mut start = config_map();
    start.apply("kubectl", map(json!({"key": "some value"})));
    start.update("controller", map(json!({"key": "new value"})));

    let mut forced = start.clone();
    forced.force("kubectl", map(json!({"key": "some value"})));
    assert_eq!(forced.object["data"]["key"], "some value");
    assert!(forced.updated("controller").is_empty());

    let mut given_up = start.clone();
    given_up.apply("kubectl", map(json!({})));
    assert_eq!(given_up.object["data"]["key"], "new value");

    let mut shared = start;
    shared.apply("kubectl", map(json!({"key": "new value"})));
    assert_eq!(shared.updated("controller"), [".data.key"]);
    assert_eq!(shared.applied("kubectl"), [".data.key", ".metadata.labels.test-label"]);
}

#[test]
fn replicas_are_handed_over_to_an_autoscaler() {
    let mut story = deployment();
    story.apply("user", nginx(json!({"replicas": 3})));
    // The autoscaler writes what it wants, and so owns it.
    story.update("kube-controller-manager", nginx(json!({"replicas": 5})));
    assert_eq!(story.updated("kube-controller-manager"), [".spec.replicas"]);
    story.apply("user", nginx(json!({})));
    assert_eq!(story.object["spec"]["replicas"], 5);
    assert_eq!(
        story.conflict("user", nginx(json!({"replicas": 3}))),
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .spec.replicas"
    );
}

#[test]
fn replicas_that_were_handed_over_too_early_fall_back_to_their_default() {
    let mut story = deployment();
    story.apply("user", nginx(json!({"replicas": 3})));
    story.apply("user", nginx(json!({})));
    assert!(story.object["spec"].get("replicas").is_none());
}

#[test]
fn a_handover_by_a_manager_in_between_loses_nothing() {
    let mut story = deployment();
    story.apply("user", nginx(json!({"replicas": 3})));
    let only_replicas =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx-deployment"}, "spec": {"replicas": 3}});
    story.apply("handover-to-hpa", only_replicas);
    story.apply("user", nginx(json!({})));
    assert_eq!(story.object["spec"]["replicas"], 3);
    story.update("hpa", nginx(json!({"replicas": 7})));
    assert!(story.applied("handover-to-hpa").is_empty());
    assert_eq!(story.object["spec"]["replicas"], 7);
}

#[test]
fn two_appliers_share_a_pod_by_container() {
    let mut story = deployment();
    story.apply("user", nginx(json!({})));
    let sidecar = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx-deployment"},
        "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "proxy:1"}]}}}});
    story.apply("mesh", sidecar);
    let names = |story: &Story| -> Vec<Value> {
        let containers = story.object["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
        containers.iter().map(|container| container["name"].clone()).collect()
    };
    assert_eq!(names(&story), ["nginx", "proxy"]);
    story.apply("user", nginx(json!({"paused": true})));
    assert_eq!(names(&story), ["nginx", "proxy"]);
    story.apply("mesh", json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx-deployment"}}));
    assert_eq!(names(&story), ["nginx"]);
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[test]
fn kubectl_goes_over_from_client_side_to_server_side_apply() {
    let mut story = config_map();
    let configuration = map(json!({"key": "1", "other": "1"}));
    let mut live = configuration.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: configuration.to_string()});
    story.update("kubectl-client-side-apply", live.clone());
    // Another manager changed one of the fields since.
    live["data"]["other"] = json!("2");
    story.update("edit", live);

    let wanted = map(json!({"key": "2", "other": "2"}));
    assert!(story.clone().try_apply("someone", wanted.clone(), false).is_err(), "only kubectl may");
    assert_eq!(
        story.conflict("kubectl", map(json!({"key": "2", "other": "3"}))),
        "Apply failed with 1 conflict: conflict with \"edit\" using v1: .data.other"
    );
    story.apply("kubectl", wanted.clone());
    assert_eq!(story.object["data"], json!({"key": "2", "other": "2"}));
    keep_last_applied(&mut story.object, "kubectl", &wanted);
    let kept: Value = serde_json::from_str(story.object["metadata"]["annotations"][LAST_APPLIED].as_str().expect("a text")).expect("JSON");
    assert_eq!(kept, wanted);
}

#[test]
fn a_note_of_kubectl_is_kept_only_where_there_is_one() {
    let configuration = map(json!({"key": "1"}));
    let mut without = configuration.clone();
    keep_last_applied(&mut without, "kubectl", &configuration);
    assert_eq!(without, configuration);
    let mut with = configuration.clone();
    with["metadata"]["annotations"] = json!({LAST_APPLIED: "{}"});
    let mut foreign = with.clone();
    keep_last_applied(&mut foreign, "other", &configuration);
    assert_eq!(foreign, with);
    let large = map(json!({"key": "x".repeat(300 * 1024)}));
    keep_last_applied(&mut with, "kubectl", &large);
    assert!(with["metadata"]["annotations"].get(LAST_APPLIED).is_none(), "a note that does not fit is none");
}
