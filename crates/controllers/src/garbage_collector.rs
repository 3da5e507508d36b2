//! Garbage collector: what an object owns goes with it.
//!
//! Deletion in the background: once the owner is gone, its dependents are deleted. In the
//! foreground (finalizer `foregroundDeletion`): the owner waits for them. Orphaning
//! (finalizer `orphan`): they live on without it. Meaning as in
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::graph::{Graph, Item, Task};
use crate::error::{Error, chain};
use crate::kinds::{self, Kind};
use crate::{Options, Shutdown};

/// How many messages of the watches wait for the graph.
const MESSAGES_MAX: usize = 1_024;
/// How many requests are under way at the same time.
const REQUESTS_AT_ONCE: usize = 16;
/// Wait before an object is looked at again after a failed request.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const PAGE_SIZE: u32 = 500;

enum Message {
    Listed(usize, Vec<Item>),
    Seen(Item),
    Gone(String),
}

/// Runs the collector until shutdown.
pub(crate) async fn run(client: Client, options: Options, shutdown: Shutdown) {
    // Events own nothing and are owned by nothing.
    let watched = kinds::all().into_iter().filter(|kind| kind.resource.kind != CoreEvent::kind(&()));
    let kinds: Arc<Vec<Kind>> = Arc::new(watched.collect());
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let watches =
        kinds.iter().enumerate().map(|(place, kind)| watch(client.clone(), place, kind.clone(), sender.clone(), shutdown.clone()));
    let watches = futures::future::join_all(watches.collect::<Vec<_>>());
    drop(sender);
    let collector = Collector { client, kinds, graph: Graph::default(), due: BTreeSet::new(), later: BTreeMap::new() };
    futures::future::join(watches, collector.collect(receiver, options.sweep, shutdown)).await;
}

/// Tells the collector what happens to the objects of one kind.
async fn watch(client: Client, place: usize, kind: Kind, sender: mpsc::Sender<Message>, shutdown: Shutdown) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind.resource);
    let events = watcher(api, watcher::Config::default().page_size(PAGE_SIZE)).default_backoff();
    let mut events = std::pin::pin!(events.take_until(shutdown.requested()));
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        let message = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(Item::new(place, object.metadata));
                continue;
            }
            Ok(watcher::Event::InitDone) => Some(Message::Listed(place, std::mem::take(&mut listed))),
            Ok(watcher::Event::Apply(object)) => Item::new(place, object.metadata).map(Message::Seen),
            Ok(watcher::Event::Delete(object)) => object.metadata.uid.map(Message::Gone),
            Err(error) => {
                tracing::warn!(kind = kind.resource.kind, error = chain(&error), "watch interrupted; watching again");
                None
            }
        };
        if let Some(message) = message
            && sender.send(message).await.is_err()
        {
            return;
        }
    }
}

struct Collector {
    client: Client,
    kinds: Arc<Vec<Kind>>,
    graph: Graph,
    /// Uids to look at.
    due: BTreeSet<String>,
    /// Uids to look at again, and when.
    later: BTreeMap<String, Instant>,
}

impl Collector {
    async fn collect(mut self, mut messages: mpsc::Receiver<Message>, sweep: Duration, shutdown: Shutdown) {
        // Before every kind was listed once, an owner may exist and not be known.
        let mut unlisted: BTreeSet<usize> = (0..self.kinds.len()).collect();
        let mut next_sweep = Instant::now() + sweep;
        while !shutdown.is_requested() {
            let wake = self.later.values().copied().chain([next_sweep]).min().unwrap_or(next_sweep);
            tokio::select! {
                () = shutdown.requested() => return,
                message = messages.recv() => match message {
                    None => return,
                    Some(message) => self.take(message, &mut unlisted),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            while let Ok(message) = messages.try_recv() {
                self.take(message, &mut unlisted);
            }
            if !unlisted.is_empty() {
                continue;
            }
            let now = Instant::now();
            if now >= next_sweep {
                next_sweep = now + sweep;
                self.due.extend(self.graph.all());
            }
            let ripe: Vec<String> = self.later.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| uid.clone()).collect();
            for uid in ripe {
                self.later.remove(&uid);
                self.due.insert(uid);
            }
            self.work().await;
        }
    }

    fn take(&mut self, message: Message, unlisted: &mut BTreeSet<usize>) {
        let touched = match message {
            Message::Listed(kind, items) => {
                unlisted.remove(&kind);
                self.graph.replace(kind, items)
            }
            Message::Seen(item) => self.graph.put(item),
            Message::Gone(uid) => self.graph.remove(&uid),
        };
        self.due.extend(touched);
    }

    /// Does what is due. What it changes comes back through the watches.
    async fn work(&mut self) {
        let due = std::mem::take(&mut self.due);
        let tasks: Vec<(String, Task)> =
            due.into_iter().flat_map(|uid| self.graph.tasks(&uid).into_iter().map(move |task| (uid.clone(), task))).collect();
        let (client, kinds) = (&self.client, &self.kinds);
        let perform = |(uid, task): (String, Task)| async move {
            let answer = perform(client, kinds, &task).await;
            (uid, answer)
        };
        let answers: Vec<_> = futures::stream::iter(tasks).map(perform).buffer_unordered(REQUESTS_AT_ONCE).collect().await;
        for (uid, answer) in answers {
            if let Err(error) = answer {
                if let Error::Conflict { .. } = error {
                    tracing::debug!(uid, "changed meanwhile; looking again");
                } else {
                    tracing::warn!(uid, error = chain(&error), "cannot collect an object; trying again");
                }
                self.later.insert(uid, Instant::now() + RETRY_DELAY);
            }
        }
    }
}

fn api_of(client: &Client, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) if kind.namespaced => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        _ => Api::all_with(client.clone(), &kind.resource),
    }
}

fn describe(kind: &Kind, item: &Item) -> String {
    let namespace = item.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("{} {namespace}{}", kind.resource.kind, item.name)
}

async fn perform(client: &Client, kinds: &[Kind], task: &Task) -> Result<(), Error> {
    match task {
        Task::DeleteIfOrphaned(item) => {
            for owner in &item.owners {
                if exists(client, kinds, item, owner).await? {
                    return Ok(());
                }
            }
            delete(client, kinds, item, DeleteParams::background()).await
        }
        Task::Delete { item, foreground: true } => delete(client, kinds, item, DeleteParams::foreground()).await,
        Task::Delete { item, foreground: false } => delete(client, kinds, item, DeleteParams::background()).await,
        Task::Release { item, owner } => {
            change(client, kinds, item, |object| {
                object.metadata.owner_references.get_or_insert_default().retain(|reference| reference.uid != *owner);
                json!({"ownerReferences": object.metadata.owner_references})
            })
            .await
        }
        Task::RemoveFinalizer { item, finalizer } => {
            change(client, kinds, item, |object| {
                object.metadata.finalizers.get_or_insert_default().retain(|other| other != finalizer);
                json!({"finalizers": object.metadata.finalizers})
            })
            .await
        }
    }
}

/// Whether an owner is there, asked of the API itself. One of a kind that is not known here is
/// taken to be there: what cannot be judged is left alone.
async fn exists(client: &Client, kinds: &[Kind], item: &Item, owner: &OwnerReference) -> Result<bool, Error> {
    let Some(kind) = kinds.iter().find(|kind| kind.is_meant_by(&owner.api_version, &owner.kind)) else { return Ok(true) };
    if kind.namespaced && item.namespace.is_none() {
        return Ok(true);
    }
    let api = api_of(client, kind, item.namespace.as_deref());
    let found = api.get_metadata_opt(&owner.name).await;
    let found = found.map_err(Error::api("read", format!("{} {}", owner.kind, owner.name)))?;
    Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str())))
}

async fn delete(client: &Client, kinds: &[Kind], item: &Item, parameters: DeleteParams) -> Result<(), Error> {
    let kind = &kinds[item.kind];
    let preconditions = Preconditions { uid: Some(item.uid.clone()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..parameters };
    match api_of(client, kind, item.namespace.as_deref()).delete(&item.name, &parameters).await {
        // Gone, or a new one has its name.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other.map(drop).map_err(Error::api("delete", describe(kind, item))),
    }
}

/// Changes metadata of an object, of exactly the version that is read for it.
async fn change(
    client: &Client,
    kinds: &[Kind],
    item: &Item,
    edit: impl FnOnce(&mut PartialObjectMeta<DynamicObject>) -> serde_json::Value,
) -> Result<(), Error> {
    let kind = &kinds[item.kind];
    let api = api_of(client, kind, item.namespace.as_deref());
    let object = api.get_metadata_opt(&item.name).await.map_err(Error::api("read", describe(kind, item)))?;
    let Some(mut object) = object.filter(|object| object.metadata.uid.as_deref() == Some(item.uid.as_str())) else { return Ok(()) };
    let mut metadata = edit(&mut object);
    metadata["resourceVersion"] = json!(object.metadata.resource_version);
    let answer = api.patch_metadata(&item.name, &PatchParams::default(), &Patch::Merge(json!({"metadata": metadata}))).await;
    match answer {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Error::api("change", describe(kind, item))),
    }
}
