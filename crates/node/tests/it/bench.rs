//! A node of a test's own: real containerd, fake API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fermion_node::{BackOff, ImageError, ImageProvider, Node, NodeConfig, Progress};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::busybox;
use crate::fake_api::FakeApi;
use crate::sandbox::{Sandbox, wait_for};

/// Makes no image: the tests' one is imported before.
struct NoImages;

impl ImageProvider for NoImages {
    fn ensure<'a>(&'a self, reference: &'a str, progress: Progress) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async move {
            progress("looking for a recipe");
            Err(ImageError { message: format!("there is no recipe for {reference}"), retry: false })
        })
    }
}

/// What a test changes of the node's settings.
pub(crate) type Tune = fn(&mut NodeConfig);

pub(crate) struct Bench {
    pub(crate) api: FakeApi,
    // Before the sandbox, so that a failed test drops it first.
    node: Option<Node>,
    pub(crate) sandbox: Sandbox,
    tune: Tune,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(tune: Tune) -> Self {
        let sandbox = Sandbox::start().await;
        busybox::import(&sandbox.runtime().socket(), &sandbox.home);
        let mut bench = Self { api: FakeApi::new(), sandbox, node: None, tune };
        bench.start_node();
        bench
    }

    pub(crate) fn start_node(&mut self) {
        let mut config = NodeConfig::new(&self.sandbox.home, self.api.client(), &self.sandbox.runtime().socket(), Arc::new(NoImages));
        self.sandbox.runtime().cgroup_parent().clone_into(&mut config.cgroup_parent);
        let quick = |base| BackOff { base, cap: Duration::from_secs(2), reset_after: Duration::from_mins(10) };
        config.limits.restart = quick(Duration::from_millis(500));
        config.limits.retry = quick(Duration::from_millis(100));
        config.limits.sweep = Duration::from_secs(2);
        config.limits.refresh = Duration::from_millis(500);
        (self.tune)(&mut config);
        self.node = Some(Node::start(config).expect("the node starts"));
    }

    pub(crate) fn router(&self) -> axum::Router {
        self.node.as_ref().expect("the node runs").router()
    }

    pub(crate) async fn drain(&self) {
        self.node.as_ref().expect("the node runs").drain().await.expect("it drains");
    }

    /// As the end of the server's process: containers go on.
    pub(crate) async fn stop_node(&mut self) {
        self.node.take().expect("the node runs").stop().await;
    }

    pub(crate) async fn tear_down(mut self) {
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
        self.sandbox.tear_down().await;
    }

    /// Waits until the pod is as wanted and answers it.
    pub(crate) async fn pod_when(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            let pod = self.api.pod(name)?;
            wanted(&pod).then_some(pod)
        };
        let patient = tokio::spawn({
            let (api, name) = (self.api.clone(), name.to_owned());
            async move {
                tokio::time::sleep(crate::sandbox::PATIENCE.saturating_sub(Duration::from_secs(2))).await;
                let status = api.pod(&name).map(|pod| pod["status"].clone());
                eprintln!("pod {name} is {status:#?}\nevents: {:#?}", api.list("/api/v1/events"));
            }
        });
        let pod = wait_for(&format!("pod {name} {what}"), look).await;
        patient.abort();
        pod
    }

    pub(crate) async fn pod_in_phase(&self, name: &str, phase: &str) -> Value {
        self.pod_when(name, &format!("is {phase}"), |pod| pod["status"]["phase"] == phase).await
    }

    pub(crate) async fn pod_is_gone(&self, name: &str) {
        wait_for(&format!("pod {name} is gone"), || async { self.api.pod(name).is_none().then_some(()) }).await;
    }

    /// What a container wrote, as `kubectl logs` shows it.
    pub(crate) async fn logs(&self, pod: &str, container: &str, query: &str) -> (u16, String) {
        self.get(&format!("/containerLogs/test/{pod}/{container}?{query}")).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        use http_body_util::BodyExt as _;
        use tower::ServiceExt as _;
        let request = http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let response = self.router().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) fn pod_directory(&self, pod: &Value) -> PathBuf {
        self.sandbox.home.join("pods").join(pod["metadata"]["uid"].as_str().expect("a uid"))
    }
}

/// A container of the test image that runs a shell script.
pub(crate) fn shell(name: &str, script: &str) -> Value {
    serde_json::json!({ "name": name, "image": busybox::IMAGE, "command": ["/bin/sh", "-c", script] })
}
