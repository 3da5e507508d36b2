//! Webhooks: asked over HTTPS, whatever they answer.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::webhook_server::{Reaction, WebhookServer};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"color": "blue"}})
}

async fn register(stage: &Stage, kind: &str, configuration: &Value) {
    stage.post(&format!("{CONFIGURATIONS}/{}s", kind.to_lowercase()), configuration).await.ok();
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_webhook() {
    let stage = Stage::new().await;
    let server = WebhookServer::start(|asked| {
        if asked["object"]["data"]["color"] == "red" { Reaction::Deny("red is not allowed") } else { Reaction::Warn("blue will go") }
    })
    .await;
    register(&stage, VALIDATING, &server.configuration(VALIDATING, "colors", |_| ())).await;
    let answer = stage.post(MAPS, &map("a")).await;
    assert_eq!(answer.warnings(), [r#"299 - "blue will go""#]);
    answer.ok();
    let refused = stage.merge(&format!("{MAPS}/a"), &json!({"data": {"color": "red"}})).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(refused.message(), "admission webhook \"colors.example.com\" denied the request: red is not allowed");
    assert_eq!(refused.json()["reason"], "Forbidden");
    assert_eq!(stage.get(&format!("{MAPS}/a")).await.ok()["data"]["color"], "blue");

    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0]["operation"], "CREATE");
    assert_eq!(seen[0]["userInfo"]["username"], "admin");
    assert_eq!(seen[0]["namespace"], "default");
    assert_eq!(seen[0]["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(seen[0]["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(seen[0]["oldObject"], Value::Null);
    assert_eq!(seen[1]["operation"], "UPDATE");
    assert_eq!((&seen[1]["object"]["data"]["color"], &seen[1]["oldObject"]["data"]["color"]), (&json!("red"), &json!("blue")));
    assert_ne!(seen[0]["uid"], seen[1]["uid"]);
}

#[tokio::test]
async fn deletions_are_asked_about_with_the_object_that_goes() {
    let stage = Stage::new().await;
    stage.post(MAPS, &map("kept")).await.ok();
    let server =
        WebhookServer::start(|asked| if asked["operation"] == "DELETE" { Reaction::Deny("it is kept") } else { Reaction::Allow }).await;
    register(&stage, VALIDATING, &server.configuration(VALIDATING, "keep", |_| ())).await;
    assert_eq!(stage.delete(&format!("{MAPS}/kept")).await.code, StatusCode::FORBIDDEN);
    assert_eq!(stage.delete(MAPS).await.code, StatusCode::FORBIDDEN);
    stage.get(&format!("{MAPS}/kept")).await.ok();
    let seen = server.seen();
    assert_eq!((&seen[0]["object"], &seen[0]["oldObject"]["data"]), (&Value::Null, &json!({"color": "blue"})));
    // The configuration itself can always be removed, whatever a webhook says.
    stage.delete(&format!("{CONFIGURATIONS}/validatingwebhookconfigurations/keep")).await.ok();
    stage.delete(&format!("{MAPS}/kept")).await.ok();
}

#[tokio::test]
async fn a_mutation_is_stored_and_seen_by_the_webhooks_after_it() {
    let stage = Stage::new().await;
    let first = WebhookServer::start(|_| Reaction::Patch(json!([{"op": "add", "path": "/data/first", "value": "1"}]))).await;
    let second = WebhookServer::start(|asked| {
        assert_eq!(asked["object"]["data"]["first"], "1");
        Reaction::Patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"second": "2"}}]))
    })
    .await;
    // Order is that of names, not of registration.
    register(&stage, MUTATING, &second.configuration(MUTATING, "b-second", |_| ())).await;
    let again = |webhook: &mut Value| webhook["reinvocationPolicy"] = "IfNeeded".into();
    register(&stage, MUTATING, &first.configuration(MUTATING, "a-first", again)).await;
    let made = stage.post(MAPS, &map("a")).await.ok();
    assert_eq!((&made["data"]["first"], &made["metadata"]["labels"]["second"]), (&json!("1"), &json!("2")));
    assert_eq!(stage.get(&format!("{MAPS}/a")).await.ok(), made);
    assert_eq!((first.seen().len(), second.seen().len()), (2, 1), "the first is asked again, since the second changed the object");
    assert_eq!(first.seen()[1]["object"]["metadata"]["labels"]["second"], "2");

    // A dry run is told to webhooks, and is as good as the real thing but for storing.
    let tried = stage.post(&format!("{MAPS}?dryRun=All"), &map("b")).await.ok();
    assert_eq!(tried["data"]["first"], "1");
    assert_eq!(first.seen().last().map(|asked| asked["dryRun"].clone()), Some(json!(true)));
    assert_eq!(stage.get(&format!("{MAPS}/b")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_mutation_makes_must_be_valid_and_the_same_object() {
    let stage = Stage::new().await;
    let server = WebhookServer::start(|asked| {
        Reaction::Patch(match asked["name"].as_str() {
            Some("invalid") => json!([{"op": "replace", "path": "/data", "value": "text"}]),
            Some("renamed") => json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]),
            Some("absent") => json!([{"op": "remove", "path": "/nothing"}]),
            Some("owned") => json!([{"op": "add", "path": "/metadata/generation", "value": 99}]),
            _ => json!({"op": "add"}),
        })
    })
    .await;
    register(&stage, MUTATING, &server.configuration(MUTATING, "odd", |_| ())).await;
    assert_eq!(stage.post(MAPS, &map("invalid")).await.code, StatusCode::UNPROCESSABLE_ENTITY);
    for (name, why) in [("renamed", "changes metadata.name"), ("absent", "cannot be applied"), ("no-list", "cannot be applied")] {
        let refused = stage.post(MAPS, &map(name)).await;
        assert_eq!(refused.code, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.message().contains(why), "{refused:?}");
    }
    assert!(stage.post(MAPS, &map("owned")).await.ok()["metadata"]["generation"].is_null());
}

#[tokio::test]
async fn a_webhook_that_fails_blocks_or_is_passed_over_as_its_policy_says() {
    let stage = Stage::new().await;
    for (name, reaction) in [
        ("hang", (|| Reaction::Hang) as fn() -> Reaction),
        ("garbage", || Reaction::Raw(b"<html>it works!</html>".to_vec())),
        ("empty", || Reaction::Raw(Vec::new())),
        ("other-uid", || {
            Reaction::Raw(
                br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x","allowed":true}}"#.to_vec(),
            )
        }),
        ("huge", || Reaction::Huge(16 * 1024 * 1024)),
        ("broken", || Reaction::Code(StatusCode::INTERNAL_SERVER_ERROR)),
        ("redirect", || Reaction::Redirect("https://127.0.0.1:1/".to_owned())),
    ] {
        let server = WebhookServer::start(move |_| reaction()).await;
        let policy = |policy: &'static str| {
            move |webhook: &mut Value| {
                webhook["failurePolicy"] = policy.into();
                webhook["timeoutSeconds"] = 1.into();
            }
        };
        let mut strict = server.configuration(VALIDATING, "strict", policy("Fail"));
        register(&stage, VALIDATING, &strict).await;
        let refused = stage.post(MAPS, &map("a")).await;
        assert_eq!((refused.code, &refused.json()["reason"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("InternalError")), "{name}");
        assert!(
            refused.message().starts_with("Internal error occurred: failed calling webhook \"strict.example.com\": "),
            "{name}: {refused:?}"
        );
        assert!(!refused.message().contains("it works"), "what a webhook answers is not shown: {refused:?}");
        strict["webhooks"][0]["failurePolicy"] = "Ignore".into();
        let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/strict");
        stage.merge(&path, &json!({"webhooks": strict["webhooks"]})).await.ok();
        register(&stage, MUTATING, &server.configuration(MUTATING, "lenient", policy("Ignore"))).await;
        stage.post(MAPS, &map("a")).await.ok();
        stage.delete(&path).await.ok();
        stage.delete(&format!("{CONFIGURATIONS}/mutatingwebhookconfigurations/lenient")).await.ok();
        stage.delete(&format!("{MAPS}/a")).await.ok();
    }
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_of_its_authority() {
    let stage = Stage::new().await;
    let (server, other) = (WebhookServer::start(|_| Reaction::Allow).await, WebhookServer::start(|_| Reaction::Allow).await);
    let wrong = server.configuration(VALIDATING, "wrong", |webhook| webhook["clientConfig"]["caBundle"] = other.ca_bundle.clone().into());
    register(&stage, VALIDATING, &wrong).await;
    let refused = stage.post(MAPS, &map("a")).await;
    assert!(refused.message().contains("invalid peer certificate"), "{refused:?}");
    // The machine's authorities do not know it either.
    stage.delete(&format!("{CONFIGURATIONS}/validatingwebhookconfigurations/wrong")).await.ok();
    let none = server.configuration(VALIDATING, "none", |webhook| webhook["clientConfig"]["caBundle"] = Value::Null);
    register(&stage, VALIDATING, &none).await;
    assert_eq!(stage.post(MAPS, &map("a")).await.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn selectors_and_rules_decide_what_a_webhook_sees() {
    let stage = Stage::new().await;
    let server = WebhookServer::start(|_| Reaction::Deny("seen")).await;
    let narrow = server.configuration(VALIDATING, "narrow", |webhook| {
        webhook["namespaceSelector"] = json!({"matchLabels": {"guarded": "yes"}});
        webhook["objectSelector"] = json!({"matchExpressions": [{"key": "free", "operator": "DoesNotExist"}]});
        webhook["rules"][0]["operations"] = json!(["CREATE"]);
    });
    register(&stage, VALIDATING, &narrow).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "guarded", "labels": {"guarded": "yes"}}});
    stage.post("/api/v1/namespaces", &namespace).await.ok();
    stage.post(MAPS, &map("a")).await.ok();
    let guarded = "/api/v1/namespaces/guarded/configmaps";
    assert_eq!(stage.post(guarded, &map("a")).await.code, StatusCode::FORBIDDEN);
    let mut free = map("a");
    free["metadata"]["labels"] = json!({"free": "yes"});
    stage.post(guarded, &free).await.ok();
    stage.merge(&format!("{guarded}/a"), &json!({"metadata": {"labels": null}})).await.ok();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    stage.post("/api/v1/namespaces/guarded/secrets", &secret).await.ok();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn status_and_scale_are_subresources_to_webhooks() {
    let stage = Stage::new().await;
    let server = WebhookServer::start(|asked| {
        match asked["subResource"].as_str() {
            Some("scale") => assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})),
            Some("status") => {
                return Reaction::Patch(json!([
                    {"op": "add", "path": "/status/phase", "value": "Failed"},
                    {"op": "add", "path": "/metadata/labels", "value": {"sneaked": "in"}},
                ]));
            }
            other => panic!("subresource {other:?}"),
        }
        Reaction::Deny("not so many")
    })
    .await;
    let services = "/apis/ai.fermion.dev/v1alpha1/namespaces/default/inferenceservices";
    let pods = "/api/v1/namespaces/default/pods";
    let configuration = server.configuration(MUTATING, "parts", |webhook| {
        webhook["rules"] = json!([
            {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/scale", "pods/status"], "operations": ["UPDATE"]},
        ]);
    });
    let service = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x:1"}]}}},
    });
    stage.post(services, &service).await.ok();
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}});
    stage.post(pods, &pod).await.ok();
    register(&stage, MUTATING, &configuration).await;
    let refused = stage.merge(&format!("{services}/a/scale"), &json!({"spec": {"replicas": 9}})).await;
    assert_eq!(refused.message(), "admission webhook \"parts.example.com\" denied the request: not so many");
    let pod = stage.merge(&format!("{pods}/a/status"), &json!({"status": {"phase": "Running"}})).await.ok();
    assert_eq!((&pod["status"]["phase"], &pod["metadata"]["labels"]), (&json!("Failed"), &Value::Null));
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let stage = Stage::new().await;
    let server = WebhookServer::start(|_| Reaction::Allow).await;
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let service = server.configuration(VALIDATING, "a", |webhook| {
        webhook["clientConfig"] = json!({"service": {"name": "hooks", "namespace": "default"}});
    });
    let refused = stage.post(&path, &service).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.message().contains("services have no addresses on this platform yet"), "{refused:?}");
    let plain = server.configuration(VALIDATING, "a", |webhook| webhook["clientConfig"]["url"] = "http://127.0.0.1/".into());
    assert!(stage.post(&path, &plain).await.message().contains("must begin with https://"));
    // Where the address leads is looked at when it is dialled.
    let metadata = server.configuration(VALIDATING, "metadata", |webhook| {
        webhook["clientConfig"]["url"] = "https://169.254.169.254/latest".into();
    });
    stage.post(&path, &metadata).await.ok();
    assert!(stage.post(MAPS, &map("a")).await.message().contains("metadata service"));
    let printed = stage.call(Method::GET, &path, "", "").await.ok();
    assert_eq!(printed["items"][0]["webhooks"][0]["failurePolicy"], "Fail");
    assert_eq!(printed["items"][0]["webhooks"][0]["timeoutSeconds"], 10);
}

/// A kind in two versions.
fn widgets() -> Value {
    let version = |name: &str, storage: bool| {
        let spec = json!({"type": "object", "properties": {"color": {"type": "string"}}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        json!({"name": name, "served": true, "storage": storage, "schema": schema})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", true), version("v2", false)],
        },
    })
}

#[tokio::test]
async fn a_kind_is_shown_in_the_version_that_the_rules_name() {
    let stage = Stage::new().await;
    stage.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &widgets()).await.ok();
    let server = WebhookServer::start(|_| Reaction::Patch(json!([{"op": "add", "path": "/spec/color", "value": "blue"}]))).await;
    let rules =
        json!([{"apiGroups": ["example.org"], "apiVersions": ["v1"], "resources": ["widgets"], "operations": ["CREATE", "UPDATE"]}]);
    let configuration = |name: &str, policy: &str| {
        server.configuration(MUTATING, name, |webhook| {
            webhook["rules"] = rules.clone();
            webhook["matchPolicy"] = policy.into();
        })
    };
    register(&stage, MUTATING, &configuration("exact", "Exact")).await;
    let address = "/apis/example.org/v2/namespaces/default/widgets";
    let widget = |name: &str| json!({"apiVersion": "example.org/v2", "kind": "Widget", "metadata": {"name": name}, "spec": {}});
    assert_eq!(stage.post(address, &widget("plain")).await.ok()["spec"], json!({}));
    assert!(server.seen().is_empty(), "its rules are about the other version only");

    register(&stage, MUTATING, &configuration("equivalent", "Equivalent")).await;
    let made = stage.post(address, &widget("painted")).await.ok();
    assert_eq!((&made["spec"]["color"], &made["apiVersion"]), (&json!("blue"), &json!("example.org/v2")));
    stage.merge(&format!("{address}/painted"), &json!({"spec": {"color": "red"}})).await.ok();
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for asked in &seen {
        assert_eq!(asked["kind"], json!({"group": "example.org", "version": "v1", "kind": "Widget"}));
        assert_eq!(asked["resource"], json!({"group": "example.org", "version": "v1", "resource": "widgets"}));
        assert_eq!(asked["requestKind"]["version"], "v2");
        assert_eq!(asked["requestResource"]["version"], "v2");
        assert_eq!(asked["object"]["apiVersion"], "example.org/v1");
    }
    assert_eq!(seen[1]["oldObject"]["apiVersion"], "example.org/v1");
}
