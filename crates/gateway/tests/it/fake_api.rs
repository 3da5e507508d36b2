//! As much of the platform's API as the gateway calls.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How many watches the gateway keeps.
const GATEWAY_WATCHES: usize = 4;

/// Namespace and name.
type Name = (String, String);

#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Shared>);

struct Shared {
    state: Mutex<Known>,
    /// The newest revision.
    revision: watch::Sender<u64>,
    /// Up to which revision each open watch has taken everything.
    taken: watch::Sender<BTreeMap<usize, u64>>,
    watches: AtomicUsize,
    down: AtomicBool,
    patches: watch::Sender<Vec<(Name, Value)>>,
    token_reviews: AtomicUsize,
    execs: watch::Sender<Vec<String>>,
}

#[derive(Default)]
struct Known {
    objects: BTreeMap<(String, Name), Value>,
    log: Vec<(u64, String, &'static str, Value)>,
    /// User names by token.
    tokens: HashMap<String, String>,
    /// Who may use what: user, plural, namespace, name.
    permissions: HashSet<(String, String, String, String)>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            revision: watch::Sender::new(1),
            taken: watch::Sender::new(BTreeMap::new()),
            watches: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            patches: watch::Sender::new(Vec::new()),
            token_reviews: AtomicUsize::new(0),
            execs: watch::Sender::new(Vec::new()),
        }))
    }

    pub(crate) fn router(&self) -> Router {
        let ours = "/apis/ai.fermion.dev/v1alpha1";
        Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(token_review))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(access_review))
            .route("/api/v1/{plural}", get(list))
            .route(&format!("{ours}/{{plural}}"), get(list))
            .route("/api/v1/namespaces/{namespace}/secrets/{name}", get(secret))
            .route(&format!("{ours}/namespaces/{{namespace}}/devenvironments/{{name}}/status"), patch(patch_status))
            .route("/api/v1/namespaces/{namespace}/pods/{name}/exec", get(exec))
            .with_state(self.clone())
    }

    pub(crate) fn add_token(&self, token: &str, user: &str) {
        self.0.state.lock().unwrap().tokens.insert(token.to_owned(), user.to_owned());
    }

    pub(crate) fn revoke_token(&self, token: &str) {
        self.0.state.lock().unwrap().tokens.remove(token);
    }

    pub(crate) fn allow(&self, user: &str, plural: &str, namespace: &str, name: &str) {
        let permission = (user.to_owned(), plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.state.lock().unwrap().permissions.insert(permission);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn token_reviews(&self) -> usize {
        self.0.token_reviews.load(Ordering::SeqCst)
    }

    /// Creates or replaces an object, and waits until every watch has taken the change.
    pub(crate) async fn put(&self, plural: &str, object: Value) {
        self.change(plural, object, false);
        self.settled().await;
    }

    pub(crate) async fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), (namespace.to_owned(), name.to_owned()));
        let object = self.0.state.lock().unwrap().objects[&key].clone();
        self.change(plural, object, true);
        self.settled().await;
    }

    fn change(&self, plural: &str, mut object: Value, gone: bool) {
        let mut state = self.0.state.lock().unwrap();
        let revision = *self.0.revision.borrow() + 1;
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), (text("namespace"), text("name")));
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let kind = if gone {
            state.objects.remove(&key);
            "DELETED"
        } else if state.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.log.push((revision, plural.to_owned(), kind, object));
        self.0.revision.send_replace(revision);
    }

    /// Waits until every open watch has taken all there is. A watch asks for more only when
    /// its reader has dealt with what it got before.
    async fn settled(&self) {
        let revision = *self.0.revision.borrow();
        let mut taken = self.0.taken.subscribe();
        taken.wait_for(|taken| taken.len() == GATEWAY_WATCHES && taken.values().all(|taken| *taken >= revision)).await.unwrap();
    }

    /// Waits until statuses of that environment were patched that often, and returns them.
    pub(crate) async fn patches(&self, name: &str, least: usize) -> Vec<Value> {
        let of = |patches: &[(Name, Value)]| {
            patches.iter().filter(|((_, found), _)| found == name).map(|(_, patch)| patch.clone()).collect::<Vec<_>>()
        };
        let mut patches = self.0.patches.subscribe();
        let patches = patches.wait_for(|patches| of(patches).len() >= least).await.unwrap();
        of(&patches)
    }

    /// The queries of all execs.
    pub(crate) fn execs(&self) -> Vec<String> {
        self.0.execs.borrow().clone()
    }
}

async fn token_review(State(api): State<FakeApi>, Json(review): Json<Value>) -> Response {
    api.0.token_reviews.fetch_add(1, Ordering::SeqCst);
    if api.0.down.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let token = review["spec"]["token"].as_str().unwrap();
    let user = api.0.state.lock().unwrap().tokens.get(token).cloned();
    let status = match user {
        Some(user) => json!({"authenticated": true, "user": {"username": user, "groups": ["people"]}}),
        None => json!({"authenticated": false, "error": "unknown token"}),
    };
    answer(StatusCode::CREATED, json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status}))
}

async fn access_review(State(api): State<FakeApi>, Json(review): Json<Value>) -> Response {
    if api.0.down.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let spec = &review["spec"];
    let asked = &spec["resourceAttributes"];
    assert_eq!((&asked["group"], &asked["subresource"], &asked["verb"]), (&json!("ai.fermion.dev"), &json!("proxy"), &json!("create")));
    assert_eq!(spec["groups"], json!(["people"]));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let permission = (text(&spec["user"]), text(&asked["resource"]), text(&asked["namespace"]), text(&asked["name"]));
    let allowed = api.0.state.lock().unwrap().permissions.contains(&permission);
    let status = json!({"allowed": allowed, "reason": if allowed { "" } else { "no role grants it" }});
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}, "status": status});
    answer(StatusCode::CREATED, body)
}

async fn list(State(api): State<FakeApi>, Path(plural): Path<String>, Query(query): Query<HashMap<String, String>>) -> Response {
    let label = query.get("labelSelector").cloned();
    let matches = move |object: &Value| label.as_ref().is_none_or(|label| object["metadata"]["labels"].get(label).is_some());
    if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
        let since = query["resourceVersion"].parse().unwrap();
        return watch_stream(api, plural, since, matches);
    }
    let state = api.0.state.lock().unwrap();
    let items =
        state.objects.iter().filter(|((kind, _), object)| *kind == plural && matches(object)).map(|(_, object)| object).collect::<Vec<_>>();
    let (version, kind) = match plural.as_str() {
        "pods" => ("v1", "PodList"),
        "devenvironments" => ("ai.fermion.dev/v1alpha1", "DevEnvironmentList"),
        _ => ("ai.fermion.dev/v1alpha1", "InferenceServiceList"),
    };
    let revision = api.0.revision.borrow().to_string();
    answer(StatusCode::OK, json!({"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": revision}, "items": items}))
}

fn watch_stream(api: FakeApi, plural: String, since: u64, matches: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Response {
    let id = api.0.watches.fetch_add(1, Ordering::SeqCst);
    let revisions = api.0.revision.subscribe();
    let matches = Arc::new(matches);
    let stream = futures::stream::unfold((since, revisions), move |(mut seen, mut revisions)| {
        let (api, plural, matches) = (api.clone(), plural.clone(), Arc::clone(&matches));
        async move {
            loop {
                let next = {
                    let state = api.0.state.lock().unwrap();
                    let latest = *revisions.borrow_and_update();
                    let fits = |entry: &&(u64, String, &str, Value)| entry.0 > seen && entry.1 == plural && matches(&entry.3);
                    let next = state.log.iter().find(fits).cloned();
                    if next.is_none() {
                        seen = latest;
                        api.0.taken.send_modify(|taken| {
                            taken.insert(id, latest);
                        });
                    }
                    next
                };
                if let Some((revision, _, kind, object)) = next {
                    let line = format!("{}\n", json!({"type": kind, "object": object}));
                    return Some((Ok::<_, Infallible>(line), (revision, revisions)));
                }
                revisions.changed().await.ok()?;
            }
        }
    });
    Body::from_stream(stream).into_response()
}

async fn secret(State(api): State<FakeApi>, Path((namespace, name)): Path<Name>) -> Response {
    match api.0.state.lock().unwrap().objects.get(&("secrets".to_owned(), (namespace, name))) {
        Some(secret) => answer(StatusCode::OK, secret.clone()),
        None => answer(
            StatusCode::NOT_FOUND,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}),
        ),
    }
}

async fn patch_status(State(api): State<FakeApi>, Path(key): Path<Name>, Json(patch): Json<Value>) -> Response {
    let object = api.0.state.lock().unwrap().objects[&("devenvironments".to_owned(), key.clone())].clone();
    api.0.patches.send_modify(|patches| patches.push((key, patch)));
    answer(StatusCode::OK, object)
}

/// A shell that answers what it is sent in capitals, says its size when that changes, and
/// ends with code 3 when told to.
async fn exec(State(api): State<FakeApi>, RawQuery(query): RawQuery, upgrade: WebSocketUpgrade) -> Response {
    api.0.execs.send_modify(|execs| execs.push(query.unwrap_or_default()));
    upgrade.protocols(["v5.channel.k8s.io"]).on_upgrade(shell)
}

async fn shell(mut socket: WebSocket) {
    let message = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    while let Some(Ok(received)) = socket.recv().await {
        let Message::Binary(bytes) = received else { continue };
        match bytes.split_first() {
            Some((0, b"exit\r")) => {
                let status = json!({
                    "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
                });
                socket.send(message(1, b"bye")).await.unwrap();
                socket.send(message(3, status.to_string().as_bytes())).await.unwrap();
                break;
            }
            Some((0, input)) => socket.send(message(1, &input.to_ascii_uppercase())).await.unwrap(),
            Some((4, size)) => {
                let size = serde_json::from_slice::<Value>(size).unwrap();
                let text = format!("[{}x{}]", size["Width"], size["Height"]);
                socket.send(message(1, text.as_bytes())).await.unwrap();
            }
            _ => {}
        }
    }
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}
