use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Validator;
use super::check;

/// One of everything that derived schemas are made of.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, JsonSchema)]
#[kube(group = "test.fermion.dev", version = "v1", kind = "Sample", namespaced, status = "SampleStatus")]
#[serde(rename_all = "camelCase")]
struct SampleSpec {
    #[serde(default = "one")]
    replicas: u16,
    name: Option<String>,
    mode: Mode,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default)]
    limits: BTreeMap<String, Quantity>,
    /// A field's own words replace its type's.
    #[serde(default)]
    size_limit: Option<Quantity>,
    #[serde(default)]
    surge: Option<IntOrString>,
    #[serde(default)]
    anything: Option<Value>,
    #[schemars(length(max = 3), inner(regex(pattern = "^[a-z]+$")))]
    #[serde(default)]
    words: Vec<String>,
    #[serde(flatten)]
    flat: Flat,
    #[serde(default)]
    template: Option<PodTemplateSpec>,
}

fn one() -> u16 {
    1
}

#[derive(Serialize, Deserialize, Clone, Debug, JsonSchema)]
enum Mode {
    Fast,
    /// Documented variants derive a different schema.
    Careful,
}

#[derive(Serialize, Deserialize, Clone, Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Source {
    Path(String),
    Remote { url: String, depth: Option<u8> },
}

#[derive(Serialize, Deserialize, Clone, Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Flat {
    #[serde(default)]
    flat_field: bool,
}

#[derive(Serialize, Deserialize, Clone, Debug, JsonSchema)]
struct SampleStatus {
    phase: String,
}

fn validator() -> Validator {
    let crd = serde_json::to_value(Sample::crd()).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    Validator::compile(schema).unwrap()
}

fn sample(spec: Value) -> Value {
    json!({"apiVersion": "test.fermion.dev/v1", "kind": "Sample", "metadata": {"name": "s"}, "spec": spec})
}

#[test]
fn what_the_type_accepts_passes() {
    let validator = validator();
    for spec in [
        json!({"mode": "Fast"}),
        json!({"mode": "Careful", "name": null, "replicas": 3, "source": {"path": "/x"}}),
        json!({"mode": "Fast", "source": {"remote": {"url": "u", "depth": 200}}}),
        json!({"mode": "Fast", "limits": {"cpu": "1", "gpu": 2}, "sizeLimit": "1Gi", "surge": "25%", "flatField": true}),
        json!({"mode": "Fast", "anything": {"a": [1, {"b": null}]}, "words": ["a", "b"]}),
        json!({"mode": "Fast", "template": {"metadata": {"creationTimestamp": null, "labels": {"a": "b"}},
               "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": 1}}}]}}}),
    ] {
        let object = sample(spec);
        check(&validator, &object, &[]);
        serde_json::from_value::<Sample>(object).unwrap();
    }
}

#[test]
fn what_the_type_refuses_has_an_exact_path() {
    let validator = validator();
    for (spec, expected) in [
        (json!({}), &["spec.mode: Required"][..]),
        (json!({"mode": "Slow"}), &["spec.mode: Enum"]),
        (json!({"mode": "Fast", "replicas": 70_000}), &["spec.replicas: Range"]),
        (json!({"mode": "Fast", "replicas": -1}), &["spec.replicas: Range"]),
        (json!({"mode": "Fast", "replicas": "1"}), &["spec.replicas: integer, not string"]),
        (json!({"mode": "Fast", "source": {}}), &["spec.source: Form"]),
        (json!({"mode": "Fast", "source": {"path": 1}}), &["spec.source.path: string, not integer"]),
        (json!({"mode": "Fast", "source": {"path": "a", "remote": {"url": "u"}}}), &["spec.source: Form"]),
        (
            json!({"mode": "Fast", "source": {"remote": {"urll": "u"}}}),
            &["spec.source.remote.url: Required", "spec.source.remote.urll: Unknown"],
        ),
        (json!({"mode": "Fast", "limits": {"cpu": "lots"}}), &["spec.limits.cpu: Format"]),
        (json!({"mode": "Fast", "sizeLimit": "1GB"}), &["spec.sizeLimit: Format"]),
        (json!({"mode": "Fast", "surge": true}), &["spec.surge: integer or string, not boolean"]),
        (json!({"mode": "Fast", "words": ["A"]}), &["spec.words[0]: Pattern"]),
        (json!({"mode": "Fast", "words": ["a", "b", "c", "d"]}), &["spec.words: Count"]),
        (json!({"mode": "Fast", "flatFeild": true}), &["spec.flatFeild: Unknown"]),
        (
            json!({"mode": "Fast", "template": {"spec": {"containers": [{"name": "c", "imgae": "x"}]}}}),
            &["spec.template.spec.containers[0].imgae: Unknown"],
        ),
        (
            json!({"mode": "Fast", "template": {"spec": {"containers": [{"name": "c",
            "resources": {"limits": {"cpu": "lots"}}, "readinessProbe": {"httpGet": {"port": "A B"}}}]}}}),
            &["spec.template.spec.containers[0].resources.limits.cpu: Format"],
        ),
    ] {
        check(&validator, &sample(spec), expected);
    }
    let mut object = sample(json!({"mode": "Fast"}));
    object["status"] = json!({"phase": 1, "extra": 1});
    check(&validator, &object, &["status.extra: Unknown", "status.phase: string, not integer"]);
}

#[test]
fn defaults_of_the_type_are_filled() {
    let mut object = sample(json!({"mode": "Fast", "replicas": null}));
    validator().default(&mut object);
    assert_eq!(object["spec"]["replicas"], json!(1));
    assert_eq!(object["spec"]["flatField"], json!(false));
    assert_eq!(object["spec"].get("words"), Some(&json!([])));
}

#[test]
fn a_small_object_is_checked_in_microseconds() {
    let validator = validator();
    let object = sample(json!({"mode": "Fast", "template": {"spec": {"containers": [
        {"name": "c", "image": "i", "command": ["a", "b"], "env": [{"name": "A", "value": "1"}]}]}}}));
    let rounds = 1_000;
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        assert!(validator.validate(&object).is_empty());
    }
    let each = started.elapsed() / rounds;
    // The bound holds for debug builds on a loaded machine; optimised it is below ten microseconds.
    assert!(each < std::time::Duration::from_millis(1), "{each:?}");
}
