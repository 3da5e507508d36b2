//! A client for Rust programs: Fermion's API is one of Kubernetes' make, so this is kube-rs with the
//! platform's kinds as types, the ways in that a Fermion has, and what programs otherwise write
//! again and again: waiting until something is done, with the reason if it will not be; logs across
//! restarts; commands in containers; questions to what a service serves; lists that are searched,
//! sorted and paged.
//!
//! What kube-rs does well is not wrapped: [`Client::api`] gives its [`Api`], and its watchers,
//! reflectors and controllers work on it.
//!
//! ```
//! # fermion_testkit::with_server(async |server| {
//! # let home = server.home();
//! use std::time::Duration;
//!
//! use fermion_client::kinds::TrainingJob;
//! use fermion_client::{Client, Goal};
//! use kube::api::PostParams;
//!
//! // `Client::connect()` finds the login of whoever runs the program.
//! let client = Client::from_home(home).await?;
//! let job: TrainingJob = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "digits"},
//!     "spec": {"roles": [{"name": "worker", "template": {"spec": {"containers": [
//!         {"name": "main", "image": "fermion.dev/python:latest", "command": ["python", "train.py"]},
//!     ]}}}]},
//! }))?;
//! client.jobs().create(&PostParams::default(), &job).await?;
//! # server.settle::<TrainingJob>("digits", serde_json::json!({"phase": "Failed", "conditions": [{
//! #     "type": "Failed", "status": "True", "reason": "PermanentFailure", "message": "worker-0 ended with exit code 2",
//! #     "lastTransitionTime": "2026-01-01T00:00:00Z"}]})).await?;
//!
//! let done = fermion_client::wait(&client.jobs(), "digits", &Goal::of_job(), Duration::from_secs(60)).await;
//! // A failure says why.
//! assert_eq!(done.unwrap_err().to_string(), "digits will not become Complete: PermanentFailure: worker-0 ended with exit code 2");
//! # Ok(()) });
//! ```
//!
//! Changes by server-side apply say what is wanted and keep what others want:
//!
//! ```
//! # fermion_testkit::with_server(async |server| {
//! # let client = fermion_client::Client::from_home(server.home()).await?;
//! use fermion_client::kinds::Queue;
//! use kube::api::{Patch, PatchParams};
//!
//! let queue = serde_json::json!({
//!     "apiVersion": "compute.fermion.dev/v1alpha1",
//!     "kind": "Queue",
//!     "metadata": {"name": "night"},
//!     "spec": {"priority": 3},
//! });
//! let applied = client.all::<Queue>().patch("night", &PatchParams::apply("my-program"), &Patch::Apply(&queue)).await?;
//! assert_eq!(applied.spec.priority, 3);
//! # Ok(()) });
//! ```
//!
//! A reflector keeps a copy of everything of a kind up to date:
//!
//! ```
//! # fermion_testkit::with_server(async |server| {
//! # let client = fermion_client::Client::from_home(server.home()).await?;
//! use fermion_client::kinds::TrainingJob;
//! use futures::StreamExt as _;
//! use kube::runtime::{WatchStreamExt as _, reflector, watcher};
//!
//! let (jobs, writer) = reflector::store::<TrainingJob>();
//! let changes = reflector::reflector(writer, watcher(client.jobs(), watcher::Config::default()).default_backoff());
//! let following = tokio::spawn(changes.for_each(|_| std::future::ready(())));
//! jobs.wait_until_ready().await?;
//! assert_eq!(jobs.len(), 0);
//! # following.abort();
//! # Ok(()) });
//! ```
//!
//! Invariants
//! - A token goes over TLS, or does not leave this machine.
//! - Nothing is asked again without end: every wait has a bound that the caller gives, or a named one.
//!
//! Start with [`Client`]; [`wait`](mod@wait), [`logs`], [`exec`](mod@exec), [`service`] and [`list`] stand beside each
//! other.

mod connect;
pub mod containers;
pub mod exec;
pub mod list;
pub mod logs;
pub mod service;
pub mod wait;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Resource};

pub use connect::{ConnectError, LOGIN_FILE, SERVER_FILE, home, is_loopback, travels_safely};
pub use exec::exec;
pub use kube;
pub use list::{Found, Search, search};
pub use logs::Log;
pub use service::{AskError, Service};
pub use wait::{Goal, WaitError, wait};

/// The kinds of the platform as types. Those of Kubernetes are in `k8s_openapi`.
pub mod kinds {
    pub use fermion_api::ai::{DevEnvironment, InferenceService, TrainingJob, Workload};
    pub use fermion_api::assets::Image;
    pub use fermion_api::compute::{Pool, Queue};
    pub use fermion_api::iam::{ApiKey, User};
    pub use fermion_api::observe::UsageRecord;
    pub use fermion_api::{ai, assets, compute, conditions, iam, labels, observe, reason};
}

/// The namespace (project) where none is named.
pub const NAMESPACE_DEFAULT: &str = "default";

/// A server, an identity there, and the namespace that is worked in. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    namespace: String,
}

impl Client {
    /// Over any client of kube-rs.
    pub fn new(kube: kube::Client, namespace: impl Into<String>) -> Self {
        Self { kube, namespace: namespace.into() }
    }

    /// The client of kube-rs, for what is not here.
    pub fn kube(&self) -> kube::Client {
        self.kube.clone()
    }

    /// The namespace that is worked in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same server and identity in another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Self {
        Self { kube: self.kube.clone(), namespace: namespace.into() }
    }

    /// The objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// The objects of a kind that has no namespaces: queues, pools, users.
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.kube.clone())
    }

    /// Training jobs.
    pub fn jobs(&self) -> Api<kinds::TrainingJob> {
        self.api()
    }

    /// Development environments.
    pub fn environments(&self) -> Api<kinds::DevEnvironment> {
        self.api()
    }

    /// Inference services.
    pub fn services(&self) -> Api<kinds::InferenceService> {
        self.api()
    }

    /// Pods, in which everything runs.
    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
