//! The pods of this node and their workers.
//!
//! Invariant: at most one worker per pod uid; it stays until nothing of the pod is left.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fermion_api::pod::Resources;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::hosts::{GangKey, Peer, gang_key};
use super::sandbox::{Identity, NODE, POD_NAME, POD_NAMESPACE, POD_UID};
use super::worker::{self, News};
use crate::cri::{TaskNews, v1};
use crate::shared::{Shared, stopped};
use crate::stats::VolumeStats;

/// News waiting for one worker; what does not fit is found by its sweep.
const INBOX_LENGTH: usize = 64;
/// Ended pods that are remembered.
const BURIED_MAX: usize = 1024;
/// How long to wait before listening to containerd again after it went away.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);
/// How long workers may take to let go when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

struct Entry {
    pod: Arc<Pod>,
    inbox: mpsc::Sender<News>,
}

#[derive(Default)]
struct Inner {
    /// By uid.
    workers: HashMap<String, Entry>,
    /// From the id of a container or sandbox to the uid of its pod.
    containers: HashMap<String, String>,
    /// Uids of the members of each gang.
    gangs: HashMap<GangKey, HashSet<String>>,
    /// What admitted pods have been promised, by uid.
    promised: BTreeMap<String, Resources>,
    /// What volumes took on disk when last measured, by uid.
    volume_use: HashMap<String, Vec<VolumeStats>>,
    /// The API has sent all pods of this node once.
    complete: bool,
    /// Pods whose worker has ended. The watch may still bring older news of them, which must not
    /// start them again.
    buried: VecDeque<String>,
}

/// Who is here; shared by workers, router and housekeeping.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is a single insert or remove, so a panic elsewhere leaves it whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods with a worker.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.lock().workers.values().map(|entry| Arc::clone(&entry.pod)).collect()
    }

    /// A pod by name; of several with one name, the one that is not going away.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let inner = self.lock();
        let same =
            |entry: &&Entry| entry.pod.metadata.namespace.as_deref() == Some(namespace) && entry.pod.metadata.name.as_deref() == Some(name);
        inner
            .workers
            .values()
            .filter(same)
            .min_by_key(|entry| entry.pod.metadata.deletion_timestamp.is_some())
            .map(|entry| Arc::clone(&entry.pod))
    }

    /// Whether every pod of this node is known, so that others are gone for sure.
    pub(crate) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    pub(crate) fn volume_use(&self, uid: &str) -> Vec<VolumeStats> {
        self.lock().volume_use.get(uid).cloned().unwrap_or_default()
    }

    pub(crate) fn set_volume_use(&self, uid: &str, found: Vec<VolumeStats>) {
        self.lock().volume_use.insert(uid.to_owned(), found);
    }

    /// Ends a pod that takes more than it may.
    pub(crate) fn evict(&self, uid: &str, message: String) {
        self.tell(uid, News::Evict("Evicted".to_owned(), message));
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.lock().workers.contains_key(uid)
    }

    /// Tells a worker something; a full inbox means that it looks again soon anyway.
    pub(crate) fn tell(&self, uid: &str, news: News) {
        if let Some(entry) = self.lock().workers.get(uid)
            && entry.inbox.try_send(news).is_err()
        {
            tracing::debug!(uid, "the worker is busy; it will look again by itself");
        }
    }

    fn tell_all(&self, news: impl Fn() -> News) {
        for entry in self.lock().workers.values() {
            // As in `tell`: a full inbox is looked at soon.
            let _ = entry.inbox.try_send(news());
        }
    }

    /// The other known members of a pod's gang.
    pub(crate) fn peers(&self, pod: &Pod) -> Vec<Peer> {
        let Some(key) = gang_key(pod) else { return Vec::new() };
        let inner = self.lock();
        let own = pod.metadata.uid.as_deref();
        let members = inner.gangs.get(&key).into_iter().flatten().filter(|uid| Some(uid.as_str()) != own);
        let mut peers: Vec<Peer> = members.filter_map(|uid| inner.workers.get(uid)).map(|entry| Peer::of(&entry.pod)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        peers
    }

    /// Notes what the worker has just made known of its pod, and wakes the gang if an address is
    /// new in it.
    pub(crate) fn update(&self, pod: &Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let ip = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let mut inner = self.lock();
        let Some(entry) = inner.workers.get_mut(&uid) else { return };
        let is_new = ip(&entry.pod) != ip(pod) || fermion_api::pod::ended(&entry.pod) != fermion_api::pod::ended(pod);
        entry.pod = Arc::clone(pod);
        if let Some(key) = gang_key(pod).filter(|_| is_new) {
            wake_gang(&inner, &key, &uid);
        }
    }

    /// Sends news of these containers to that pod from now on.
    pub(crate) fn route<'a>(&self, uid: &str, ids: impl Iterator<Item = &'a String>) {
        let mut inner = self.lock();
        for id in ids {
            if !inner.containers.contains_key(id) {
                inner.containers.insert(id.clone(), uid.to_owned());
            }
        }
    }

    /// Promises a pod its resources if they fit beside what others were promised.
    pub(crate) fn promise<E>(
        &self,
        uid: &str,
        asked: Resources,
        fits: impl FnOnce(&Resources, &Resources) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut inner = self.lock();
        let mut used = Resources::new();
        for (_, amount) in inner.promised.iter().filter(|(other, _)| *other != uid) {
            fermion_api::pod::add(&mut used, amount);
        }
        fits(&asked, &used)?;
        inner.promised.insert(uid.to_owned(), asked);
        Ok(())
    }

    /// Takes a promise back: the pod ended.
    pub(crate) fn release(&self, uid: &str) {
        self.lock().promised.remove(uid);
    }

    fn insert(&self, pod: &Arc<Pod>, uid: &str, inbox: mpsc::Sender<News>) {
        let mut inner = self.lock();
        if let Some(key) = gang_key(pod) {
            inner.gangs.entry(key.clone()).or_default().insert(uid.to_owned());
            wake_gang(&inner, &key, uid);
        }
        inner.workers.insert(uid.to_owned(), Entry { pod: Arc::clone(pod), inbox });
    }

    fn remove(&self, uid: &str) {
        let mut inner = self.lock();
        if inner.buried.len() >= BURIED_MAX {
            inner.buried.pop_front();
        }
        inner.buried.push_back(uid.to_owned());
        inner.promised.remove(uid);
        inner.volume_use.remove(uid);
        inner.containers.retain(|_, owner| owner != uid);
        if let Some(entry) = inner.workers.remove(uid)
            && let Some(key) = gang_key(&entry.pod)
        {
            if let Some(members) = inner.gangs.get_mut(&key) {
                members.remove(uid);
            }
            inner.gangs.retain(|_, members| !members.is_empty());
            wake_gang(&inner, &key, uid);
        }
    }
}

fn wake_gang(inner: &Inner, key: &GangKey, except: &str) {
    for uid in inner.gangs.get(key).into_iter().flatten().filter(|uid| uid.as_str() != except) {
        if let Some(entry) = inner.workers.get(uid) {
            // A full inbox means that the worker looks again soon.
            let _ = entry.inbox.try_send(News::Peers);
        }
    }
}

/// The running workers.
#[derive(Default)]
struct Workers {
    tasks: JoinSet<()>,
    /// Whose task it is.
    uids: HashMap<tokio::task::Id, String>,
    /// Pods whose worker panicked.
    dead: Vec<String>,
}

/// Follows the pods bound to this node and runs a worker for each, until told to stop.
/// Containers go on without us.
pub(crate) async fn watch_pods(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let mut stop_now = stop.clone();
    let mut sweep = tokio::time::interval(shared.limits.sweep);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let api: Api<Pod> = Api::all(shared.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.name));
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    let mut workers = Workers::default();
    let listener = tokio::spawn(listen(Arc::clone(&shared)));
    // Uids of a list that is being received.
    let mut listed: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.extend(pod.metadata.uid.clone());
                    apply(&shared, &mut workers, pod, &stop);
                }
                Some(Ok(Event::InitDone)) => {
                    for pod in shared.pods.pods() {
                        if let Some(uid) = pod.metadata.uid.as_ref().filter(|uid| !listed.contains(*uid)) {
                            deliver(&shared, uid, News::Gone).await;
                        }
                    }
                    shared.pods.lock().complete = true;
                    adopt_orphans(&shared, &mut workers, &stop).await;
                }
                Some(Ok(Event::Apply(pod))) => apply(&shared, &mut workers, pod, &stop),
                Some(Ok(Event::Delete(pod))) => {
                    if let Some(uid) = &pod.metadata.uid {
                        deliver(&shared, uid, News::Gone).await;
                    }
                }
                Some(Err(error)) => tracing::warn!(%error, "cannot watch the pods of this node; trying again"),
                None => break,
            },
            Some(ended) = workers.tasks.join_next_with_id(), if !workers.tasks.is_empty() => match ended {
                Ok((id, ())) => {
                    if let Some(uid) = workers.uids.remove(&id) {
                        shared.pods.remove(&uid);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "a pod's worker died; the next sweep starts it anew");
                    workers.dead.extend(workers.uids.remove(&error.id()));
                }
            },
            _ = sweep.tick() => {
                for uid in std::mem::take(&mut workers.dead) {
                    let pod = shared.pods.lock().workers.get(&uid).map(|entry| Arc::clone(&entry.pod));
                    if let Some(pod) = pod {
                        start(&shared, &mut workers, pod, uid, false, &stop);
                    }
                }
                if shared.pods.is_complete() {
                    adopt_orphans(&shared, &mut workers, &stop).await;
                }
            }
            () = stopped(&mut stop_now) => break,
        }
    }
    listener.abort();
    let all = async { while workers.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("some pods' workers did not end in time; their containers go on");
    }
}

/// As [`Registry::tell`], but for news that no sweep makes up for: waits for room.
async fn deliver(shared: &Shared, uid: &str, news: News) {
    let inbox = shared.pods.lock().workers.get(uid).map(|entry| entry.inbox.clone());
    if let Some(inbox) = inbox {
        // An error means that the worker has just ended: nothing is left of the pod.
        let _ = inbox.send(news).await;
    }
}

fn apply(shared: &Arc<Shared>, workers: &mut Workers, pod: Pod, stop: &watch::Receiver<bool>) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let identity = Identity::of(&pod, &shared.name);
    if ![&uid, &identity.name, &identity.namespace].into_iter().all(|name| crate::layout::is_component(name)) {
        tracing::error!(uid, name = identity.name, "the pod's name or uid cannot be part of a path; it is not run");
        return;
    }
    let inbox = shared.pods.lock().workers.get(&uid).map(|entry| entry.inbox.clone());
    let pod = Arc::new(pod);
    match inbox {
        Some(inbox) if !inbox.is_closed() => {
            if let Err(mpsc::error::TrySendError::Full(news)) = inbox.try_send(News::Pod(pod)) {
                tokio::spawn(async move { inbox.send(news).await });
            }
        }
        // Its worker died; the sweep starts another.
        Some(_) => {}
        None if shared.pods.lock().buried.contains(&uid) => {}
        None => start(shared, workers, pod, uid, false, stop),
    }
}

fn start(shared: &Arc<Shared>, workers: &mut Workers, pod: Arc<Pod>, uid: String, gone: bool, stop: &watch::Receiver<bool>) {
    let (sender, inbox) = mpsc::channel(INBOX_LENGTH);
    shared.pods.insert(&pod, &uid, sender.clone());
    let work = worker::run(Arc::clone(shared), pod, gone, inbox, sender, stop.clone());
    let task = workers.tasks.spawn(work);
    workers.uids.insert(task.id(), uid);
}

/// What containerd runs for pods of this node that the API no longer has is stopped and removed:
/// each gets a worker that was told that its pod is gone.
async fn adopt_orphans(shared: &Arc<Shared>, workers: &mut Workers, stop: &watch::Receiver<bool>) {
    let selector = HashMap::from([(NODE.to_owned(), shared.name.clone())]);
    let request = v1::ListPodSandboxRequest { filter: Some(v1::PodSandboxFilter { label_selector: selector, ..Default::default() }) };
    let sandboxes = match shared.cri.list_pod_sandbox(request).await {
        Ok(reply) => reply.items,
        Err(error) => {
            tracing::warn!(%error, "cannot look for containers of deleted pods now");
            return;
        }
    };
    for sandbox in sandboxes {
        let label = |name: &str| sandbox.labels.get(name).cloned();
        let (Some(uid), Some(name), Some(namespace)) = (label(POD_UID), label(POD_NAME), label(POD_NAMESPACE)) else {
            continue;
        };
        let fine = [&uid, &name, &namespace].into_iter().all(|part| crate::layout::is_component(part));
        if !fine || shared.pods.has(&uid) {
            continue;
        }
        tracing::info!(namespace, name, uid, "stopping a pod that was deleted meanwhile");
        let mut pod = Pod::default();
        pod.metadata.name = Some(name);
        pod.metadata.namespace = Some(namespace);
        pod.metadata.uid = Some(uid.clone());
        pod.spec = Some(Default::default());
        start(shared, workers, Arc::new(pod), uid, true, stop);
    }
}

/// Hands containerd's news to the workers they concern, for ever.
async fn listen(shared: Arc<Shared>) {
    loop {
        match shared.cri.task_events().await {
            Ok(events) => {
                // Whatever happened before we listened is looked up.
                shared.pods.tell_all(|| News::Look);
                let mut events = pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    let uid = shared.pods.lock().containers.get(&event.container_id).cloned();
                    if let Some(uid) = uid {
                        let news = match event.news {
                            TaskNews::Exited => News::Exited(event.container_id),
                            TaskNews::OutOfMemory => News::OutOfMemory(event.container_id),
                        };
                        shared.pods.tell(&uid, news);
                    }
                }
                tracing::warn!("containerd's event stream ended; listening again");
            }
            Err(error) => tracing::debug!(%error, "cannot listen to containerd"),
        }
        shared.pods.tell_all(|| News::Look);
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
