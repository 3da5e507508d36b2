//! As much of the API as a node sees: objects by path, merge patches, watches, graceful deletion.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Default)]
struct Inner {
    /// By path, such as `/api/v1/namespaces/default/pods/web`.
    objects: BTreeMap<String, Value>,
    /// Every change: revision, type, collection, object.
    log: Vec<(u64, &'static str, String, Value)>,
    /// Answered to writes while set, as if the API were down.
    refuse_writes: bool,
}

/// A handle to the objects; the router serves them.
#[derive(Clone)]
pub(crate) struct FakeApi {
    inner: Arc<Mutex<Inner>>,
    revision: Arc<watch::Sender<u64>>,
}

/// A path taken apart: collection without namespace, namespace, name, subresource.
struct Target {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

fn parse(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => (format!("/api/{version}"), rest),
        ["apis", group, version, rest @ ..] => (format!("/apis/{group}/{version}"), rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, rest) = rest.split_first()?;
    Some(Target {
        collection: format!("{group}/{plural}"),
        namespace,
        name: rest.first().map(|&name| name.to_owned()),
        status: rest.get(1) == Some(&"status"),
    })
}

impl Target {
    fn key(&self, name: &str) -> String {
        format!("{}|{}|{name}", self.collection, self.namespace.as_deref().unwrap_or(""))
    }
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    (code, axum::Json(body)).into_response()
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().expect("made so above");
    for (name, value) in patch {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::default(), revision: Arc::new(watch::Sender::new(1)) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let router = Router::new().fallback(serve).with_state(self.clone());
        kube::Client::new(router, "default")
    }

    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.inner.lock().expect("not poisoned").refuse_writes = refuse;
    }

    fn store(&self, inner: &mut Inner, target: &Target, name: &str, kind: &'static str, mut object: Value) -> Value {
        let mut stored = Value::Null;
        self.revision.send_modify(|revision| {
            *revision += 1;
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            let key = target.key(name);
            if kind == "DELETED" {
                inner.objects.remove(&key);
            } else {
                inner.objects.insert(key, object.clone());
            }
            inner.log.push((*revision, kind, target.collection.clone(), object.clone()));
            stored = object;
        });
        stored
    }

    /// Adds an object as its creator would, and gives it a uid.
    pub(crate) fn create(&self, path: &str, mut object: Value) -> Value {
        let target = parse(path).expect("a path of the API");
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut inner = self.inner.lock().expect("not poisoned");
        let uid = format!("uid-{}-{}", name, *self.revision.borrow());
        object["metadata"]["uid"] = json!(uid);
        if let Some(namespace) = &target.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.store(&mut inner, &target, &name, "ADDED", object)
    }

    /// Adds a pod that is bound to the node `local`.
    pub(crate) fn create_pod(&self, name: &str, mut pod: Value) -> Value {
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["nodeName"] = json!("local");
        self.create("/api/v1/namespaces/test/pods", pod)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let target = parse(path).expect("a path of the API");
        let name = target.name.clone().expect("a name");
        self.inner.lock().expect("not poisoned").objects.get(&target.key(&name)).cloned()
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        self.get(&format!("/api/v1/namespaces/test/pods/{name}"))
    }

    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let prefix = format!("{collection}|");
        let inner = self.inner.lock().expect("not poisoned");
        inner.objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone()).collect()
    }

    /// The statuses a pod has had, in order, the last one last.
    pub(crate) fn pod_history(&self, name: &str) -> Vec<Value> {
        let inner = self.inner.lock().expect("not poisoned");
        let of_pod =
            |(_, _, collection, object): &&(u64, &str, String, Value)| collection == "/api/v1/pods" && object["metadata"]["name"] == name;
        inner.log.iter().filter(of_pod).map(|(.., object)| object["status"].clone()).collect()
    }

    pub(crate) fn event_reasons(&self, pod: &str) -> Vec<String> {
        self.list("/api/v1/events")
            .into_iter()
            .filter(|event| event["involvedObject"]["name"] == pod)
            .filter_map(|event| event["reason"].as_str().map(str::to_owned))
            .collect()
    }

    /// Deletes as `kubectl delete` does; with a grace of 0 the object goes at once.
    pub(crate) fn delete_pod(&self, name: &str, grace: i64) {
        let path = format!("/api/v1/namespaces/test/pods/{name}");
        let target = parse(&path).expect("a path");
        self.delete(&target, name, Some(grace), None);
    }

    pub(crate) fn patch(&self, path: &str, patch: &Value) {
        let target = parse(path).expect("a path of the API");
        let name = target.name.clone().expect("a name");
        let mut inner = self.inner.lock().expect("not poisoned");
        let mut object = inner.objects.get(&target.key(&name)).cloned().expect("the object is there");
        merge(&mut object, patch);
        self.store(&mut inner, &target, &name, "MODIFIED", object);
    }

    fn delete(&self, target: &Target, name: &str, grace: Option<i64>, uid: Option<&str>) -> Response {
        let mut inner = self.inner.lock().expect("not poisoned");
        let Some(mut object) = inner.objects.get(&target.key(name)).cloned() else {
            return refusal(StatusCode::NOT_FOUND, "NotFound", "no such object");
        };
        if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
            return refusal(StatusCode::CONFLICT, "Conflict", "another object has the name");
        }
        let is_pod = target.collection == "/api/v1/pods";
        let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if is_pod && grace != Some(0) && !ended {
            let grace = grace.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
            object["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            let object = self.store(&mut inner, target, name, "MODIFIED", object);
            return axum::Json(object).into_response();
        }
        let object = self.store(&mut inner, target, name, "DELETED", object);
        axum::Json(object).into_response()
    }
}

async fn serve(State(api): State<FakeApi>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(target) = parse(parts.uri.path()) else {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "no such path");
    };
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body: Bytes = body.collect().await.expect("an in-process body").to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_write = parts.method != Method::GET;
    if is_write && api.inner.lock().expect("not poisoned").refuse_writes {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the disk is full");
    }
    match (parts.method, target.name.clone()) {
        (Method::GET, Some(name)) => {
            let inner = api.inner.lock().expect("not poisoned");
            match inner.objects.get(&target.key(&name)) {
                Some(object) => axum::Json(object.clone()).into_response(),
                None => refusal(StatusCode::NOT_FOUND, "NotFound", "no such object"),
            }
        }
        (Method::GET, None) if query.contains("watch=true") => watch_collection(&api, target, &query),
        (Method::GET, None) => list(&api, &target, &query),
        (Method::POST, None) => {
            let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let exists = api.inner.lock().expect("not poisoned").objects.contains_key(&target.key(&name));
            if exists {
                return refusal(StatusCode::CONFLICT, "AlreadyExists", "it exists");
            }
            let path = match &target.namespace {
                Some(namespace) => {
                    let (group, plural) = target.collection.rsplit_once('/').expect("a collection");
                    format!("{group}/namespaces/{namespace}/{plural}")
                }
                None => target.collection.clone(),
            };
            (StatusCode::CREATED, axum::Json(api.create(&path, body))).into_response()
        }
        (Method::PATCH, Some(name)) => {
            let mut inner = api.inner.lock().expect("not poisoned");
            let Some(mut object) = inner.objects.get(&target.key(&name)).cloned() else {
                return refusal(StatusCode::NOT_FOUND, "NotFound", "no such object");
            };
            let uid = &body["metadata"]["uid"];
            if !uid.is_null() && *uid != object["metadata"]["uid"] {
                return refusal(StatusCode::CONFLICT, "Conflict", "another object has the name");
            }
            let patch = if target.status { json!({ "status": body["status"] }) } else { body };
            let before = object.clone();
            merge(&mut object, &patch);
            let object = if before == object { object } else { api.store(&mut inner, &target, &name, "MODIFIED", object) };
            axum::Json(object).into_response()
        }
        (Method::DELETE, Some(name)) => {
            let grace = body["gracePeriodSeconds"].as_i64();
            api.delete(&target, &name, grace, body["preconditions"]["uid"].as_str())
        }
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not here"),
    }
}

/// Whether an object is in the collection asked for; of selectors only `spec.nodeName` is known.
fn selects(target: &Target, query: &str, object: &Value) -> bool {
    let in_namespace = target.namespace.as_deref().is_none_or(|namespace| object["metadata"]["namespace"] == namespace);
    let on_node = !query.contains("spec.nodeName") || object["spec"]["nodeName"] == "local";
    in_namespace && on_node
}

fn list(api: &FakeApi, target: &Target, query: &str) -> Response {
    let inner = api.inner.lock().expect("not poisoned");
    let prefix = format!("{}|", target.collection);
    let items: Vec<&Value> = inner
        .objects
        .iter()
        .filter(|(key, object)| key.starts_with(&prefix) && selects(target, query, object))
        .map(|(_, object)| object)
        .collect();
    let revision = api.revision.borrow().to_string();
    axum::Json(json!({
        "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": revision }, "items": items,
    }))
    .into_response()
}

fn watch_collection(api: &FakeApi, target: Target, query: &str) -> Response {
    let from: u64 = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).and_then(|text| text.parse().ok()).unwrap_or(0);
    let query = query.to_owned();
    let state = (api.clone(), api.revision.subscribe(), from);
    let stream = futures::stream::unfold(state, move |(api, mut changes, mut seen)| {
        let (target, query) = (
            Target { name: None, status: false, collection: target.collection.clone(), namespace: target.namespace.clone() },
            query.clone(),
        );
        async move {
            loop {
                let mut lines = String::new();
                {
                    let inner = api.inner.lock().expect("not poisoned");
                    for (revision, kind, collection, object) in &inner.log {
                        if *revision > seen && *collection == target.collection && selects(&target, &query, object) {
                            lines.push_str(&json!({ "type": kind, "object": object }).to_string());
                            lines.push('\n');
                        }
                    }
                    seen = (*changes.borrow_and_update()).max(seen);
                }
                if !lines.is_empty() {
                    return Some((Ok::<_, std::convert::Infallible>(lines), (api, changes, seen)));
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        }
    });
    Body::from_stream(stream).into_response()
}
