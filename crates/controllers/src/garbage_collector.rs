//! Garbage collector: what an object owns goes with it.
//!
//! Deletion in the background: once the owner is gone, its dependents are deleted. In the
//! foreground (finalizer `foregroundDeletion`): the owner waits for them. Orphaning
//! (finalizer `orphan`): they live on without it. An owner reaches only into its own namespace; a
//! reference from another one counts as one to nothing, and an Event says so. Meaning as in
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>.

mod graph;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event as CoreEvent, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource as _};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::graph::{Graph, Item, Judgement, Task, Verdict};
use crate::error::{Error, chain};
use crate::events::{Notice, Recorder};
use crate::kinds::{self, Kind};
use crate::{Options, Shutdown};

/// How many messages of the watches wait for the graph.
const MESSAGES_MAX: usize = 1_024;
/// How many requests are under way at the same time.
const REQUESTS_AT_ONCE: usize = 16;
/// Wait before an object is looked at again after a failed request.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const PAGE_SIZE: u32 = 500;
/// How long the first list of a kind is waited for. One kind that cannot be listed must not keep
/// everything else from being collected.
const LIST_PATIENCE: Duration = Duration::from_mins(1);
/// How many owners in other namespaces are remembered as told of; beyond, they are told again.
const REPORTED_MAX: usize = 10_000;
/// The reason of the event about an owner in another namespace, as in Kubernetes.
const FOREIGN_OWNER: &str = "OwnerRefInvalidNamespace";

enum Message {
    Listed(usize, Vec<Item>),
    Seen(Item),
    Gone(String),
}

/// Runs the collector until shutdown.
pub(crate) async fn run(client: Client, options: Options, shutdown: Shutdown) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let watches = Watches { client: client.clone(), sender, shutdown: shutdown.clone(), kinds: Vec::new(), running: JoinSet::new() };
    let collector = Collector {
        events: Recorder::new(client.clone(), "garbage-collector"),
        client,
        watches,
        graph: Graph::default(),
        unlisted: BTreeMap::new(),
        due: BTreeSet::new(),
        later: BTreeMap::new(),
        reported: HashSet::new(),
    };
    collector.collect(receiver, options.sweep, shutdown).await;
}

/// The kinds that are watched. People make kinds while the platform runs, and take them away.
struct Watches {
    client: Client,
    sender: mpsc::Sender<Message>,
    shutdown: Shutdown,
    /// Every kind there ever was, by the place that stands for it; those that are gone have no
    /// way to end their watch any more.
    kinds: Vec<(Kind, Option<watch::Sender<bool>>)>,
    running: JoinSet<()>,
}

impl Watches {
    /// Watches the kinds that are served now; answers the places of new ones and of those that
    /// are gone.
    fn follow(&mut self, served: Vec<Kind>) -> (Vec<usize>, Vec<usize>) {
        let mut gone = Vec::new();
        for (place, (kind, stop)) in self.kinds.iter_mut().enumerate() {
            // Dropping the sender ends the watch.
            if stop.is_some() && !served.contains(kind) {
                *stop = None;
                gone.push(place);
            }
        }
        let mut new = Vec::new();
        for kind in served {
            if self.kinds.iter().any(|(known, stop)| *known == kind && stop.is_some()) {
                continue;
            }
            let place = self.kinds.len();
            let (stop, stopped) = watch::channel(false);
            self.kinds.push((kind.clone(), Some(stop)));
            self.running.spawn(watch_kind(self.client.clone(), place, kind, self.sender.clone(), stopped, self.shutdown.clone()));
            new.push(place);
        }
        // Ended ones are only counted.
        while self.running.try_join_next().is_some() {}
        (new, gone)
    }

    fn kind(&self, place: usize) -> &Kind {
        &self.kinds[place].0
    }

    /// The kind an owner reference means, if it is watched.
    fn meant_by(&self, owner: &OwnerReference) -> Option<&Kind> {
        let watched = self.kinds.iter().filter(|(_, stop)| stop.is_some()).map(|(kind, _)| kind);
        watched.into_iter().find(|kind| kind.is_meant_by(&owner.api_version, &owner.kind))
    }
}

/// Tells the collector what happens to the objects of one kind.
async fn watch_kind(
    client: Client,
    place: usize,
    kind: Kind,
    sender: mpsc::Sender<Message>,
    mut stopped: watch::Receiver<bool>,
    shutdown: Shutdown,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind.resource);
    let events = watcher(api, watcher::Config::default().page_size(PAGE_SIZE)).default_backoff();
    let end = async {
        tokio::select! {
            () = shutdown.requested() => {}
            // An error says that the sender is gone, which is how a watch is ended.
            _ = stopped.changed() => {}
        }
    };
    let mut events = std::pin::pin!(events.take_until(end));
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
    events: Recorder,
    watches: Watches,
    graph: Graph,
    /// Kinds of which no list is in yet, and how long to wait for it. Until it is, what an object
    /// owns may exist and not be known.
    unlisted: BTreeMap<usize, Instant>,
    /// Uids to look at.
    due: BTreeSet<String>,
    /// Uids to look at again, and when.
    later: BTreeMap<String, Instant>,
    /// Objects and owners in other namespaces of which an event tells, by uid.
    reported: HashSet<(String, String)>,
}

impl Collector {
    async fn collect(mut self, mut messages: mpsc::Receiver<Message>, sweep: Duration, shutdown: Shutdown) {
        self.discover().await;
        let mut next_sweep = Instant::now() + sweep;
        while !shutdown.is_requested() {
            let wake = self.later.values().chain(self.unlisted.values()).copied().min().map_or(next_sweep, |at| at.min(next_sweep));
            tokio::select! {
                () = shutdown.requested() => return,
                message = messages.recv() => match message {
                    None => return,
                    Some(message) => self.take(message),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            while let Ok(message) = messages.try_recv() {
                self.take(message);
            }
            let now = Instant::now();
            if now >= next_sweep {
                next_sweep = now + sweep;
                self.discover().await;
                self.due.extend(self.graph.all());
            }
            self.unlisted.retain(|place, until| {
                if *until <= now {
                    let kind = &self.watches.kind(*place).resource.kind;
                    tracing::warn!(kind, "cannot be listed; collecting without what it may own");
                }
                *until > now
            });
            if !self.unlisted.is_empty() {
                continue;
            }
            let ripe: Vec<String> = self.later.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| uid.clone()).collect();
            for uid in ripe {
                self.later.remove(&uid);
                self.due.insert(uid);
            }
            self.work().await;
        }
    }

    /// Follows the kinds that are served.
    async fn discover(&mut self) {
        let mut served = match kinds::served(&self.client).await {
            Ok(served) => served,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot tell which kinds there are; going on with those known");
                if !self.watches.kinds.is_empty() {
                    return;
                }
                kinds::all()
            }
        };
        // Events own nothing and are owned by nothing.
        served.retain(|kind| kind.resource.kind != CoreEvent::kind(&()));
        let (new, gone) = self.watches.follow(served);
        let until = Instant::now() + LIST_PATIENCE;
        self.unlisted.extend(new.into_iter().map(|place| (place, until)));
        for place in gone {
            self.unlisted.remove(&place);
            let touched = self.graph.replace(place, Vec::new());
            self.due.extend(touched);
        }
    }

    fn take(&mut self, message: Message) {
        let touched = match message {
            // What a watch said before it was ended.
            Message::Listed(kind, _) | Message::Seen(Item { kind, .. }) if self.watches.kinds[kind].1.is_none() => Vec::new(),
            Message::Listed(kind, items) => {
                self.unlisted.remove(&kind);
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
        let tasks: Vec<(String, Task)> = due
            .into_iter()
            .flat_map(|uid| self.graph.tasks(&uid).into_iter().map(move |task| (uid.clone(), task)))
            .filter(|(_, task)| is_news(&mut self.reported, task))
            .collect();
        let (client, watches, events) = (&self.client, &self.watches, &self.events);
        let perform = |(uid, task): (String, Task)| async move {
            let answer = perform(client, watches, events, &task).await;
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

/// Whether a task is not one to tell what was told already.
fn is_news(reported: &mut HashSet<(String, String)>, task: &Task) -> bool {
    let Task::ReportForeignOwner { item, owner } = task else { return true };
    if reported.len() >= REPORTED_MAX {
        reported.clear();
    }
    reported.insert((item.uid.clone(), owner.uid.clone()))
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

async fn perform(client: &Client, watches: &Watches, events: &Recorder, task: &Task) -> Result<(), Error> {
    match task {
        Task::Judge(judgement) => judge(client, watches, judgement).await,
        Task::Release { item, owner } => {
            change(client, watches, item, |object| {
                object.metadata.owner_references.get_or_insert_default().retain(|reference| reference.uid != *owner);
                json!({"ownerReferences": object.metadata.owner_references})
            })
            .await
        }
        Task::RemoveFinalizer { item, finalizer } => {
            change(client, watches, item, |object| {
                object.metadata.finalizers.get_or_insert_default().retain(|other| other != finalizer);
                json!({"finalizers": object.metadata.finalizers})
            })
            .await
        }
        Task::ReportForeignOwner { item, owner } => {
            let kind = watches.kind(item.kind);
            let namespace = item.namespace.as_deref().unwrap_or_default();
            let OwnerReference { api_version, kind: owner_kind, name, uid, .. } = owner;
            let message = format!(
                "ownerRef [{api_version}/{owner_kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
            );
            let object = ObjectReference {
                api_version: Some(kind.resource.api_version.clone()),
                kind: Some(kind.resource.kind.clone()),
                name: Some(item.name.clone()),
                namespace: item.namespace.clone(),
                uid: Some(item.uid.clone()),
                ..ObjectReference::default()
            };
            events.tell_about(object, &Notice::warning(FOREIGN_OWNER, message)).await;
            Ok(())
        }
    }
}

/// Finds out which owners there are, and does what follows.
async fn judge(client: &Client, watches: &Watches, judgement: &Judgement) -> Result<(), Error> {
    let item = &judgement.item;
    let mut absent = BTreeSet::new();
    for owner in &judgement.unknown {
        if !exists(client, watches, item, owner).await? {
            absent.insert(owner.uid.clone());
        }
    }
    match judgement.decide(&absent) {
        Verdict::Keep => Ok(()),
        Verdict::Release(owners) => {
            change(client, watches, item, |object| {
                object.metadata.owner_references.get_or_insert_default().retain(|reference| !owners.contains(&reference.uid));
                json!({"ownerReferences": object.metadata.owner_references})
            })
            .await
        }
        Verdict::Delete { foreground, unblock } => {
            if unblock {
                change(client, watches, item, |object| {
                    for reference in object.metadata.owner_references.iter_mut().flatten() {
                        reference.block_owner_deletion = Some(false);
                    }
                    json!({"ownerReferences": object.metadata.owner_references})
                })
                .await?;
            }
            delete(client, watches, item, if foreground { DeleteParams::foreground() } else { DeleteParams::background() }).await
        }
    }
}

/// Whether an owner is there, asked of the API itself. One of a kind that is not known here is
/// taken to be there: what cannot be judged is left alone.
async fn exists(client: &Client, watches: &Watches, item: &Item, owner: &OwnerReference) -> Result<bool, Error> {
    let Some(kind) = watches.meant_by(owner) else { return Ok(true) };
    if kind.namespaced && item.namespace.is_none() {
        return Ok(true);
    }
    let api = api_of(client, kind, item.namespace.as_deref());
    let found = api.get_metadata_opt(&owner.name).await;
    let found = found.map_err(Error::api("read", format!("{} {}", owner.kind, owner.name)))?;
    Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str())))
}

/// Deletes an object if its owners are those that were judged: somebody may have adopted it.
async fn delete(client: &Client, watches: &Watches, item: &Item, parameters: DeleteParams) -> Result<(), Error> {
    let kind = watches.kind(item.kind);
    let api = api_of(client, kind, item.namespace.as_deref());
    let found = api.get_metadata_opt(&item.name).await.map_err(Error::api("read", describe(kind, item)))?;
    let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(item.uid.as_str())) else { return Ok(()) };
    let uids = |owners: &[OwnerReference]| owners.iter().map(|owner| owner.uid.clone()).collect::<BTreeSet<_>>();
    if uids(found.metadata.owner_references.as_deref().unwrap_or_default()) != uids(&item.owners) {
        return Err(Error::Conflict { object: describe(kind, item) });
    }
    let preconditions = Preconditions { uid: Some(item.uid.clone()), resource_version: found.metadata.resource_version };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..parameters };
    match api.delete(&item.name, &parameters).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Error::api("delete", describe(kind, item))),
    }
}

/// Changes metadata of an object, of exactly the version that is read for it.
async fn change(
    client: &Client,
    watches: &Watches,
    item: &Item,
    edit: impl FnOnce(&mut PartialObjectMeta<DynamicObject>) -> serde_json::Value,
) -> Result<(), Error> {
    let kind = watches.kind(item.kind);
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
