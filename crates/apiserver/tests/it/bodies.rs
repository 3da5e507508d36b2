//! Bodies of writes: in JSON and YAML, and what is told of them.

use axum::http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::stage::{Answer, Stage};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const YAML: &str = "application/yaml";

async fn post(stage: &Stage, query: &str, media: &str, body: &str) -> Answer {
    stage.call(Method::POST, &format!("{MAPS}{query}"), media, body.to_owned()).await
}

#[tokio::test]
async fn every_write_takes_yaml() {
    let stage = Stage::new().await;
    let map = |size: u8| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  size: '{size}'\n");
    assert_eq!(post(&stage, "", YAML, &map(1)).await.ok()["data"], json!({"size": "1"}));
    let address = format!("{MAPS}/a");
    let replaced = stage.call(Method::PUT, &address, "application/yaml; charset=utf-8", map(2)).await.ok();
    assert_eq!(replaced["data"], json!({"size": "2"}));
    let options = "preconditions: {uid: another}\n";
    assert_eq!(stage.call(Method::DELETE, &address, YAML, options).await.code, StatusCode::CONFLICT);

    // Nothing can be hidden in it, and it cannot be made to grow.
    let twice = post(&stage, "", YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {a: '1', a: '2'}\n").await;
    assert_eq!(twice.code, StatusCode::BAD_REQUEST);
    let bomb: String = (0..9).fold("a0: &a0 x\n".to_owned(), |text, level| {
        format!("{text}a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 10].join(", "))
    });
    assert_eq!(post(&stage, "", YAML, &bomb).await.code, StatusCode::BAD_REQUEST);
    assert_eq!(post(&stage, "", YAML, &format!("a: '{}'", "x".repeat(300_000))).await.code, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post(&stage, "", "text/yaml", &map(1)).await.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn fields_given_twice_are_told_as_unknown_ones_are() {
    let stage = Stage::new().await;
    let map = |name: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"dtaa":1,"data":{{"a":"1"}},"data":{{"b":"2","b":"3"}}}}"#
        )
    };
    let json = "application/json";
    let refused = post(&stage, "?fieldValidation=Strict", json, &map("strict")).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dtaa\", \
         duplicate field \"data.b\", duplicate field \"data\""
    );
    for (query, name) in [("", "usual"), ("?fieldValidation=Warn", "warned")] {
        let warned = post(&stage, query, json, &map(name)).await;
        let told = [r#"299 - "unknown field \"dtaa\"""#, r#"299 - "duplicate field \"data.b\"""#, r#"299 - "duplicate field \"data\"""#];
        assert_eq!(warned.warnings(), told);
        assert_eq!(warned.ok()["data"], json!({"b": "3"}), "the last one counts");
    }
    let ignored = post(&stage, "?fieldValidation=Ignore", json, &map("ignored")).await;
    assert!(ignored.warnings().is_empty());
    ignored.ok();

    let address = format!("{MAPS}/usual");
    let patch = async |query: &str, media: &str, patch: &str| {
        stage.call(Method::PATCH, &format!("{address}{query}"), media, patch.to_owned()).await
    };
    let merge = r#"{"data":{"c":"1","c":"2"}}"#;
    assert_eq!(patch("?fieldValidation=Strict", "application/merge-patch+json", merge).await.code, StatusCode::BAD_REQUEST);
    assert_eq!(patch("", "application/merge-patch+json", merge).await.warnings(), [r#"299 - "duplicate field \"data.c\"""#]);
    let operations = r#"[{"op":"add","path":"/data/d","value":"1","value":"2"}]"#;
    assert_eq!(patch("?fieldValidation=Strict", "application/json-patch+json", operations).await.code, StatusCode::BAD_REQUEST);
    // An apply says what somebody owns: nothing is guessed there.
    let applied = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"e":"1","e":"2"}}"#;
    assert_eq!(patch("?fieldManager=me", "application/apply-patch+yaml", applied).await.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn fields_are_told_in_bodies_that_are_not_stored_too() {
    let stage = Stage::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let containers = json!([{"name": "a", "image": "x:1"}]);
    stage.post(pods, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": containers}})).await.ok();
    let services = "/apis/ai.fermion.dev/v1alpha1/namespaces/default/inferenceservices";
    let service = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "a"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}},
    });
    stage.post(services, &service).await.ok();
    stage
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}),
        )
        .await
        .ok();
    let merge = "application/merge-patch+json";
    let json = "application/json";
    for (method, path, media, body, kind, told) in [
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            json,
            r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"resourceAttributes":{"verb":"get","verb":"list","resource":"pods"}},"spce":{}}"#,
            "SelfSubjectAccessReview",
            vec!["unknown field \"spce\"", "duplicate field \"spec.resourceAttributes.verb\""],
        ),
        (
            Method::PUT,
            format!("{services}/a/scale"),
            json,
            r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"a"},"spec":{"replicas":3,"replicas":2,"replica":1}}"#,
            "Scale",
            vec!["unknown field \"spec.replica\"", "duplicate field \"spec.replicas\""],
        ),
        (
            Method::PATCH,
            format!("{services}/a/scale"),
            merge,
            r#"{"spec":{"replicas":3,"replicas":2}}"#,
            "Scale",
            vec!["duplicate field \"spec.replicas\""],
        ),
        (
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts/a/token".to_owned(),
            json,
            r#"{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":{"expirationSeconds":600,"expirationSeconds":601}}"#,
            "TokenRequest",
            vec!["duplicate field \"spec.expirationSeconds\""],
        ),
        (
            Method::POST,
            format!("{pods}/a/binding"),
            json,
            r#"{"kind":"Binding","apiVersion":"v1","metadata":{"name":"a"},"target":{"kind":"Node","name":"m","name":"n"}}"#,
            "Binding",
            vec!["duplicate field \"target.name\""],
        ),
        (
            Method::POST,
            format!("{pods}/a/eviction"),
            json,
            r#"{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"a","name":"a"},"deleteOption":{}}"#,
            "Eviction",
            vec!["unknown field \"deleteOption\"", "duplicate field \"metadata.name\""],
        ),
    ] {
        let call = async |validation: &str| {
            stage.call(method.clone(), &format!("{path}?fieldValidation={validation}&dryRun=All"), media, body).await
        };
        let strict = call("Strict").await;
        assert_eq!(strict.code, StatusCode::BAD_REQUEST, "{path}: {strict:?}");
        let list = told.join(", ");
        assert_eq!(strict.message(), format!("{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: {list}"));
        let warned = call("Warn").await;
        let warnings: Vec<String> = told.iter().map(|what| format!("299 - \"{}\"", what.replace('"', "\\\""))).collect();
        assert_eq!(warned.warnings(), warnings, "{path}");
        warned.ok();
        let ignored = call("Ignore").await;
        assert!(ignored.warnings().is_empty(), "{path}: {ignored:?}");
        ignored.ok();
    }
    let scaled = stage.call(Method::PATCH, &format!("{services}/a/scale"), merge, r#"{"spec":{"replicas":3,"replicas":2}}"#).await;
    assert_eq!(scaled.ok()["spec"]["replicas"], 2, "the last one counts");
}

#[tokio::test]
async fn namespaces_that_are_needed_stay() {
    let stage = Stage::new().await;
    for name in ["default", "fermion-system"] {
        let refused = stage.delete(&format!("/api/v1/namespaces/{name}")).await;
        assert_eq!(refused.code, StatusCode::FORBIDDEN);
        assert_eq!(refused.message(), format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"));
        assert_eq!(refused.json()["details"], json!({"name": name, "kind": "namespaces"}));
    }
}

#[tokio::test]
async fn generations_are_counted_where_kubernetes_counts_them() {
    let stage = Stage::new().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["example.org/wait"]}});
    let address = format!("{MAPS}/a");
    assert_eq!(stage.post(MAPS, &map).await.ok()["metadata"]["generation"], Value::Null);
    assert_eq!(stage.merge(&address, &json!({"data": {"a": "1"}})).await.ok()["metadata"]["generation"], Value::Null);
    assert_eq!(stage.delete(&address).await.ok()["metadata"]["generation"], Value::Null);
    let queues = "/apis/compute.fermion.dev/v1alpha1/queues";
    let queue = json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "counted"}, "spec": {}});
    assert_eq!(stage.post(queues, &queue).await.ok()["metadata"]["generation"], 1);
    let address = format!("{queues}/counted");
    assert_eq!(stage.merge(&address, &json!({"metadata": {"labels": {"a": "b"}}})).await.ok()["metadata"]["generation"], 1);
    let pods = "/api/v1/namespaces/default/pods";
    let spec = json!({"containers": [{"name": "main", "image": "x:1"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "counted"}, "spec": spec});
    assert_eq!(stage.post(pods, &pod).await.ok()["metadata"]["generation"], 1);
    let sooner = json!({"spec": {"terminationGracePeriodSeconds": 1}});
    assert_eq!(stage.merge(&format!("{pods}/counted"), &sooner).await.ok()["metadata"]["generation"], 2);
}

#[tokio::test]
async fn patches_are_refused_as_kubernetes_refuses_them() {
    let stage = Stage::new().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    stage.post(MAPS, &map).await.ok();
    let address = format!("{MAPS}/a");
    let other = "00000000-0000-0000-0000-000000000000";
    let refused = stage.merge(&address, &json!({"metadata": {"uid": other}})).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    let cause = json!({"reason": "FieldValueInvalid", "field": "metadata.uid", "message": format!("Invalid value: \"{other}\": field is immutable")});
    assert_eq!(refused.json()["details"]["causes"], json!([cause]));
    let mut whole = map.clone();
    whole["metadata"]["uid"] = other.into();
    let replaced = stage.call(Method::PUT, &address, "application/json", whole.to_string()).await;
    assert_eq!(replaced.code, StatusCode::CONFLICT, "who replaces another object is told that it is one");
    // What is wrong is the request, not a field of the object.
    let refused = stage.call(Method::PATCH, &address, "application/json-patch+json", r#"[{"op":"remove","path":"/data/a"}]"#).await;
    assert_eq!((refused.code, &refused.json()["details"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!({})));
    assert!(refused.message().starts_with("operation 0 of the patch"), "{}", refused.message());
}

#[tokio::test]
async fn services_say_what_they_leave_to_defaults() {
    let stage = Stage::new().await;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}, {"name": "b", "port": 81, "targetPort": "named", "protocol": "UDP"}]},
    });
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(stage.post(services, &service).await.code, StatusCode::UNPROCESSABLE_ENTITY, "several ports have names");
    let mut service = service;
    service["spec"]["ports"][0]["name"] = "a".into();
    let made = stage.post(services, &service).await.ok();
    let expected = json!({
        "clusterIP": "None",
        "clusterIPs": ["None"],
        "ports": [
            {"name": "a", "port": 80, "protocol": "TCP", "targetPort": 80},
            {"name": "b", "port": 81, "protocol": "UDP", "targetPort": "named"},
        ],
        "selector": {"app": "web"},
        "sessionAffinity": "None",
        "type": "ClusterIP",
    });
    assert_eq!((&made["spec"], &made["status"]), (&expected, &json!({"loadBalancer": {}})));
    let pods = "/api/v1/namespaces/default/pods";
    let spec = json!({"containers": [{"name": "main", "image": "x:1", "imagePullPolicy": "Maybe"}]});
    let refused = stage.post(pods, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})).await;
    assert!(refused.message().contains("spec.containers[0].imagePullPolicy"), "{}", refused.message());
}

#[tokio::test]
async fn openapi_of_version_2_is_sent_as_what_is_asked_for() {
    let stage = Stage::new().await;
    let ask = async |accept: &str| stage.accepting("/openapi/v2", accept).await;
    let protobuf = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    for (accept, sent) in [
        (protobuf, protobuf),
        ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", protobuf),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html, application/json;q=0.5", "application/json"),
    ] {
        let answer = ask(accept).await;
        assert_eq!((answer.code, &answer.headers["content-type"]), (StatusCode::OK, &HeaderValue::from_static(sent)), "{accept}");
        assert!(answer.headers.contains_key("etag"));
    }
    assert_eq!(ask("text/html").await.code, StatusCode::NOT_ACCEPTABLE);
}
