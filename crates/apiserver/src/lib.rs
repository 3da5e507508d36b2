//! The resource API over HTTP, in the conventions of Kubernetes: `kubectl`, kube-rs and every
//! other client of that API work against it unchanged.
//!
//! Start with [`dispatch`]: it takes every request through authentication, authorization and
//! the verb that is asked. What is served stands in [`catalog`]; the rules of objects, as pure
//! functions, in [`objects`]; the rest is one file per verb or protocol.
//!
//! Invariants
//! - Every address is authenticated and authorised; deny is the default.
//! - Nothing is written that has not passed schema, defaults and rules of its kind.
//! - An answer to a write means that it is on disk.
//! - The bodies of Secrets are in no log and no error, and reach the store sealed.

mod admission;
mod apply;
mod authorize;
mod catalog;
mod clock;
mod core_kinds;
mod definitions;
mod discovery;
mod dispatch;
mod encryption;
mod error;
mod exchange;
mod expiry;
mod fairness;
mod field_path;
mod field_validation;
mod follow;
mod iam;
mod identity;
mod in_process;
#[doc(hidden)]
pub mod inside;
pub mod json_path;
mod key_locks;
mod list_body;
pub mod managed_fields;
mod metrics;
mod names;
mod node_proxy;
mod objects;
pub mod openapi;
pub mod patch;
mod peoples_list;
mod platform_keys;
pub mod protobuf;
mod quota;
mod read;
mod request;
mod review;
mod rotate_key;
mod scale;
pub mod schema;
pub mod selector;
mod sign_in;
pub mod table;
mod token_request;
mod tracking;
mod usage;
mod watch;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::Router;
use fermion_store::Store;

pub use clock::{Clock, ManualClock, SystemClock};
pub use encryption::{KeySource, Keyring, KeyringError, Resealed, RotationError};
pub use identity::{ADMINISTRATORS, AUTHENTICATED, COMPONENTS, Identity, TokenSigner};
pub use platform_keys::{PlatformKeys, PlatformKeysError};
pub use review::foresight::{Foreseen, Foresight, Unforeseen};

use admission::entitlements::Entitlements;
use admission::webhook::{TargetPolicy, Webhooks};
use admission::{cards, lifecycle, limits, partitions, queues};
use authorize::follow::Access;
use catalog::Catalog;
use definitions::Definitions;
use encryption::SealedStore;
use fairness::Fairness;
use follow::Followed;
use identity::credentials::Credentials;
use quota::Quotas;

/// Measurements of a part, in Prometheus' text format.
pub type MetricsText = Box<dyn Fn() -> String + Send + Sync>;

/// The API server: everything it needs to answer a request.
pub struct Api {
    store: SealedStore,
    /// What is served now. Requests take the catalog once and keep it.
    catalog: RwLock<Arc<Catalog>>,
    definitions: Definitions,
    credentials: Credentials,
    access: Access,
    webhooks: Webhooks,
    namespaces: Followed<lifecycle::Phase>,
    limit_ranges: Followed<serde_json::Value>,
    queues: Followed<fermion_api::compute::Queue>,
    models: Followed<fermion_api::compute::AcceleratorModel>,
    entitlements: Entitlements,
    partitions: Followed<fermion_api::compute::Partition>,
    resource_groups: Followed<fermion_api::compute::ResourceGroup>,
    quotas: Quotas,
    fairness: Fairness,
    /// Shared by all watches.
    readings: Arc<watch::Readings>,
    key_locks: Arc<key_locks::KeyLocks>,
    /// Held while the keys of Secrets are replaced.
    rotating: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
    /// The HTTP interfaces of the nodes, by name: logs, exec and the like are passed on to them.
    nodes: RwLock<HashMap<String, Router>>,
    /// Tells what would become of work.
    foresight: OnceLock<Box<dyn Foresight>>,
    /// Texts in Prometheus' format that other parts add to `/metrics`.
    metrics: RwLock<Vec<MetricsText>>,
    shutdown: tokio::sync::watch::Receiver<bool>,
    started: std::sync::atomic::AtomicBool,
}

/// What an operator decides.
#[derive(Debug)]
pub struct Options {
    /// Seals and opens Secrets.
    pub keys: Arc<Keyring>,
    /// Webhooks may have loopback and link-local addresses.
    pub allow_local_webhooks: bool,
    /// Kinds beside those of the platform, for a program that serves its own.
    pub more_kinds: Vec<fermion_api::registry::Kind>,
}

impl Api {
    /// As [`Api::with_options`], with a key of Secrets that is kept nowhere: for a store that does
    /// not outlive the process.
    ///
    /// # Errors
    /// When a kind's schema cannot be compiled, which is a mistake in the program.
    pub fn new(store: Store, clock: Arc<dyn Clock>, shutdown: tokio::sync::watch::Receiver<bool>) -> anyhow::Result<Arc<Self>> {
        let options = Options { keys: Arc::new(Keyring::ephemeral()?), allow_local_webhooks: false, more_kinds: Vec::new() };
        Self::with_options(store, clock, shutdown, options)
    }

    /// Prepares everything served. Takes a while: schemas are compiled here.
    ///
    /// `shutdown` turns true when the server stops; open watches end then.
    ///
    /// # Errors
    /// When a kind's schema cannot be compiled, which is a mistake in the program.
    pub fn with_options(
        store: Store,
        clock: Arc<dyn Clock>,
        shutdown: tokio::sync::watch::Receiver<bool>,
        options: Options,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            catalog: RwLock::new(Arc::new(Catalog::new(options.more_kinds)?)),
            definitions: Definitions::default(),
            credentials: Credentials::new(),
            access: Access::new(),
            webhooks: Webhooks::new(TargetPolicy { allow_local: options.allow_local_webhooks }),
            namespaces: Followed::new(lifecycle::NAMESPACES, lifecycle::read),
            limit_ranges: Followed::new(limits::LIMIT_RANGES, limits::read),
            queues: Followed::new(queues::QUEUES, queues::read),
            models: Followed::new(cards::MODELS, cards::read),
            entitlements: Entitlements::new(),
            partitions: Followed::new(partitions::PARTITIONS, partitions::read),
            resource_groups: Followed::new(partitions::RESOURCE_GROUPS, partitions::read),
            quotas: Quotas::new(),
            fairness: Fairness::new(),
            readings: Arc::default(),
            key_locks: Arc::default(),
            rotating: tokio::sync::Mutex::default(),
            store: SealedStore::new(store, options.keys),
            clock,
            nodes: RwLock::default(),
            foresight: OnceLock::new(),
            metrics: RwLock::default(),
            shutdown,
            started: std::sync::atomic::AtomicBool::new(false),
        }))
    }

    /// What is served at this moment.
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }

    /// Checks that every stored Secret can be opened, and seals those anew that are not sealed with
    /// the newest key. To be called before anything is served.
    ///
    /// # Errors
    /// When one cannot be opened, for want of its key or because it was changed. Nothing is lost
    /// then, and nothing was changed.
    pub async fn seal_secrets(&self) -> Result<Resealed, RotationError> {
        let _alone = self.rotating.lock().await;
        self.store.reseal().await
    }

    /// Makes the namespaces every platform has. Clients may count on them once the server is
    /// ready.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn ensure_namespaces(&self) -> anyhow::Result<()> {
        let caller = Identity::component("apiserver");
        let resource = self.catalog().find("", "v1", "namespaces").expect("namespaces are served").clone();
        for name in ["default", fermion_api::labels::SYSTEM_NAMESPACE] {
            let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            match self.create(&caller, &resource, None, object, &write::WriteOptions::of_server()).await {
                Err(error) if error.reason != "AlreadyExists" => anyhow::bail!("cannot make namespace {name}: {}", error.message),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a node's HTTP interface reachable under the node's name.
    pub fn attach_node(&self, name: &str, interface: Router) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), interface);
    }

    fn node(&self, name: &str) -> Option<Router> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds a part's measurements to `/metrics`.
    pub fn add_metrics(&self, text: MetricsText) {
        self.metrics.write().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn metrics_text(&self) -> String {
        let own = self.fairness.metrics_text();
        let others = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(own).chain(others.iter().map(|text| text())).collect()
    }

    /// Says that everything behind the API runs; `/readyz` answers 200 from now on.
    pub fn set_ready(&self) {
        self.started.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Why this server should be sent no requests now, if there is a reason.
    fn unready(&self) -> Option<&'static str> {
        if !self.started.load(std::sync::atomic::Ordering::Acquire) {
            return Some("starting");
        }
        (!self.store.is_reached()).then_some("the database cannot be reached")
    }
}
