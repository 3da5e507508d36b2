//! The platform without containers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use fermion_api::compute::{Pool, Queue};
use fermion_apiserver::{Api as Server, Identity, SystemClock};
use fermion_controllers::{Options, Shutdown};
use fermion_store::Store;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest wait for anything. Everything here takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often the controllers look at everything without a change.
const SWEEP: Duration = Duration::from_millis(300);

pub(crate) const NAMESPACE: &str = "default";

/// A running platform, stopped when it goes.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) store: Store,
    stop: watch::Sender<bool>,
    stop_controllers: watch::Sender<bool>,
    options: Options,
    /// What every file on the node holds, and every container printed.
    pub(crate) files: watch::Sender<String>,
    controllers: Option<JoinHandle<Result<(), fermion_controllers::Error>>>,
    _directory: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop_controllers.send_replace(true);
        self.stop.send_replace(true);
    }
}

/// Kinds that live in namespaces and are handled by their types.
pub(crate) trait Known:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static> Known for K {}

impl Stage {
    /// Starts everything, with one node of 4 cores.
    pub(crate) async fn new() -> Self {
        // The stand-in sends no signs of life, and a busy machine may need its time.
        Self::with(Options { node_silent_after: Duration::from_hours(1), ..Options::default() }).await
    }

    /// The same with other settings.
    pub(crate) async fn with(options: Options) -> Self {
        // What is logged shows when a test fails. A second test of the same process keeps it.
        let _ = tracing_subscriber::fmt().with_env_filter("fermion=debug,kube=info,warn").with_test_writer().try_init();
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), fermion_store::Options::default()).expect("a store");
        let (stop, stopped) = watch::channel(false);
        let server = Server::new(store.clone(), Arc::new(SystemClock), stopped.clone()).expect("a server");
        let client = server.client(Identity::component("controllers"));
        let (files, file) = watch::channel(String::new());
        server.attach_node("local", node_interface(file));
        let options = Options { sweep: SWEEP, ..options };
        let mut stage = Self {
            client,
            store,
            stop,
            stop_controllers: watch::channel(false).0,
            options,
            files,
            controllers: None,
            _directory: directory,
        };
        stage.start();
        stage
            .wait_for("the first namespaces, pool and queue", || async {
                let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(stage.client.clone());
                let (pools, queues) = (Api::<Pool>::all(stage.client.clone()), Api::<Queue>::all(stage.client.clone()));
                namespaces.get_opt("fermion-system").await.expect("an answer").is_some()
                    && pools.get_opt("local").await.expect("an answer").is_some()
                    && queues.get_opt("default").await.expect("an answer").is_some()
            })
            .await;
        stage.add_node("local", "4").await;
        tokio::spawn(act_as_node(stage.client.clone()));
        stage
    }

    /// Starts controllers that know nothing of those before them.
    pub(crate) fn start(&mut self) {
        let stopped;
        (self.stop_controllers, stopped) = watch::channel(false);
        self.controllers = Some(tokio::spawn(fermion_controllers::run(self.client.clone(), self.options.clone(), Shutdown::new(stopped))));
    }

    /// Asks the controllers to stop and waits until they have.
    pub(crate) async fn stop(&mut self) -> Result<(), fermion_controllers::Error> {
        self.stop_controllers.send_replace(true);
        let controllers = self.controllers.take().expect("stopped once");
        let ended = tokio::time::timeout(PATIENCE, controllers).await.expect("they stop");
        ended.expect("no part panicked")
    }

    pub(crate) async fn add_node(&self, name: &str, cpu: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"fermion.dev/pool": "local"}}, "spec": {}});
        let node: Node = serde_json::from_value(node).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("made");
        let now = Timestamp::now();
        let status = json!({"status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Up", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}],
        }});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("written");
    }

    pub(crate) fn api<K: Known>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes an object of ours in the test's namespace.
    pub(crate) async fn create(&self, kind: &str, name: &str, spec: Value) {
        self.create_of("", kind, name, spec).await;
    }

    /// The same as work of somebody.
    pub(crate) async fn create_of(&self, user: &str, kind: &str, name: &str, spec: Value) {
        let of_cluster = matches!(kind, "Queue" | "Pool" | "Partition" | "ResourceGroup" | "SchedulingPolicy");
        let group = if of_cluster || kind == "ResourceTicket" { "compute.fermion.dev" } else { "ai.fermion.dev" };
        let plural = format!("{}s", kind.to_lowercase()).replace("policys", "policies");
        let resource = ApiResource::from_gvk_with_plural(&kube::core::GroupVersionKind::gvk(group, "v1alpha1", kind), &plural);
        let mut object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
        if !user.is_empty() {
            object.annotations_mut().insert(fermion_api::labels::CREATED_BY.to_owned(), user.to_owned());
        }
        let api: Api<DynamicObject> = match kind {
            _ if of_cluster => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), NAMESPACE, &resource),
        };
        api.create(&PostParams::default(), &object).await.expect("made");
    }

    /// Changes the spec of an object.
    pub(crate) async fn change<K: Known>(&self, name: &str, spec: Value) {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.expect("changed");
    }

    pub(crate) async fn get<K: Known>(&self, name: &str) -> Option<K> {
        self.api().get_opt(name).await.expect("an answer")
    }

    pub(crate) async fn names<K: Known>(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.api::<K>().list(&Default::default()).await.expect("a list").items.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    }

    /// Waits until the object is as it should be, and answers it.
    pub(crate) async fn until<K: Known>(&self, name: &str, what: impl Fn(&K) -> bool) -> K {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let objects = watcher(self.api::<K>(), config).applied_objects();
        let mut objects = std::pin::pin!(objects);
        let last = std::sync::Mutex::new(None);
        let found = async {
            while let Some(object) = objects.try_next().await.expect("a watch") {
                if what(&object) {
                    return object;
                }
                last.lock().expect("alone").replace(object);
            }
            panic!("the watch ended")
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("{} {name} stays {:#?}", K::kind(&()), last.lock().expect("alone")))
    }

    /// Waits until something holds.
    pub(crate) async fn wait_for<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let look = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "waited in vain for {what}");
    }

    pub(crate) async fn until_gone<K: Known>(&self, name: &str) {
        self.wait_for(&format!("{name} to go"), || async { self.get::<K>(name).await.is_none() }).await;
    }

    /// Waits until nothing was written for several sweeps.
    pub(crate) async fn until_quiet(&self) {
        let quiet = async {
            loop {
                let before = self.store.revision();
                tokio::time::sleep(SWEEP * 4).await;
                if self.store.revision() == before {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, quiet).await.is_ok(), "somebody keeps writing");
    }

    /// Lets the only container of a pod end.
    pub(crate) async fn end_pod(&self, name: &str, exit_code: i32) {
        let pod = self.until::<Pod>(name, |pod| phase(pod) == "Running").await;
        let now = Timestamp::now();
        let ended = json!({"terminated": {"exitCode": exit_code, "reason": if exit_code == 0 { "Completed" } else { "Error" }, "startedAt": now, "finishedAt": now}});
        let status = json!({"phase": if exit_code == 0 { "Succeeded" } else { "Failed" }, "conditions": [], "containerStatuses": [container(&pod, &ended)]});
        let body = json!({"status": status});
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await.expect("written");
    }

    /// Deletes an object.
    pub(crate) async fn delete<K: Known>(&self, name: &str, parameters: &DeleteParams) {
        self.api::<K>().delete(name, parameters).await.expect("deleted");
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn container(pod: &Pod, state: &Value) -> Value {
    let name = pod.spec.as_ref().map(|spec| spec.containers[0].name.clone());
    let running = state.get("running").is_some();
    json!({"name": name, "image": "x", "imageID": "", "ready": running, "restartCount": 0, "state": state})
}

/// What the API server forwards to a node: a file, and the output of a container.
fn node_interface(file: watch::Receiver<String>) -> Router {
    let read = get(move |Query(query): Query<HashMap<String, String>>| async move {
        // The example's file is there; others are not.
        let found = query.get("path").is_none_or(|path| path == "/data/metrics.jsonl");
        if found { Ok(file.borrow().clone()) } else { Err(StatusCode::NOT_FOUND) }
    });
    Router::new().route("/files/{namespace}/{pod}/{container}", read.clone()).route("/containerLogs/{namespace}/{pod}/{container}", read)
}

/// Runs every bound pod, as far as its status goes, and lets go of those that are deleted. A
/// pod with the label `slow` never becomes ready by itself.
async fn act_as_node(client: Client) {
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).applied_objects();
    let mut pods = std::pin::pin!(pods);
    let mut addresses = (1..=255).cycle();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { return };
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        // Whatever fails here fails because the pod changed; then it is seen again.
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.delete(&pod.name_any(), &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
        } else if phase(&pod) == "Pending" {
            let now = Timestamp::now();
            let ready = if pod.labels().contains_key("slow") { "False" } else { "True" };
            let ip = format!("192.0.2.{}", addresses.next().unwrap_or_default());
            let status = json!({
                "phase": "Running", "podIP": ip, "startTime": now,
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
                "containerStatuses": [container(&pod, &json!({"running": {"startedAt": now}}))],
            });
            let body = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": status});
            let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
        }
    }
}

/// A pod template whose container asks for that many cores.
pub(crate) fn template(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": {"cpu": cpu}}}]}})
}
