//! One task per pod: look at what containerd has, decide, act, report; then wait for news.
//!
//! Steps run beside the loop, so that a slow image or a long grace never keeps the pod from being
//! looked after. All the worker knows can be lost at any time: containerd, the disk and the stored
//! status tell a new one enough to carry on.

mod act;
mod report;
mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::decide::{Action, Decision, Input, decide};
use super::image::Missing;
use super::sandbox::Identity;
use super::state::{ContainerState, Facts, Health, Observed, Operation, PodFailure, Step, containers};
use super::steps::{SandboxError, StepError};
use super::volumes::{self, Places};
use super::{admit, reference};
use crate::events::Severity;
use crate::shared::{Shared, stopped};

/// After containerd announced an exit, its CRI part may need a moment to know of it.
const EXIT_RECHECK: Duration = Duration::from_millis(20);
/// How long an announced exit is waited for.
const EXIT_SETTLE: Duration = Duration::from_secs(3);
/// How long a container killed by SIGKILL may turn out to have run out of memory.
const OOM_SETTLE: Duration = Duration::from_millis(300);
/// A pod that has ended is looked at that much less often.
const SWEEP_FACTOR_ENDED: u32 = 20;
/// How much of a log's end is kept as last words, in bytes and lines.
const LAST_WORDS_BYTES: u64 = 2048;
const LAST_WORDS_LINES: usize = 80;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum News {
    /// The object changed.
    Pod(Arc<Pod>),
    /// The object is gone.
    Gone,
    /// Something may have happened.
    Look,
    Exited(String),
    OutOfMemory(String),
    /// A peer got an address.
    Peers,
    /// What probes say of a container.
    Health(String, Health),
    /// Progress of a container's image.
    Progress(String, String),
    /// The pod must end.
    Evict(String, String),
}

/// How a step ended.
enum Outcome {
    Volumes(Result<(Places, bool), String>),
    Sandbox(u32, Result<(), SandboxError>),
    Image(Result<bool, Missing>),
    Start(Result<(), StepError>),
    Kill(Result<(), String>),
    StopSandbox(Result<(), String>),
    Cleanup(Result<(), String>),
    Finalize(Result<(), String>),
}

/// Works until nothing is left of the pod, or the node stops.
pub(crate) async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    gone: bool,
    mut inbox: mpsc::Receiver<News>,
    own_inbox: mpsc::Sender<News>,
    mut stop: watch::Receiver<bool>,
) {
    let mut worker = Worker::new(shared, pod, gone, own_inbox);
    loop {
        if worker.turn().await == Turn::Done {
            return;
        }
        let wake_at = worker.wake_at;
        tokio::select! {
            news = inbox.recv() => {
                let Some(news) = news else { return };
                worker.hear(news);
                // One look answers everything that has come in.
                while let Ok(news) = inbox.try_recv() {
                    worker.hear(news);
                }
            }
            Some(done) = worker.steps.join_next(), if !worker.steps.is_empty() => worker.finish(done),
            Some(done) = worker.writes.join_next(), if !worker.writes.is_empty() => worker.written(done),
            () = tokio::time::sleep_until(wake_at) => worker.stale = true,
            () = stopped(&mut stop) => return,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Done,
}

struct Worker {
    shared: Arc<Shared>,
    identity: Identity,
    pod: Pod,
    spec: PodSpec,
    observed: Observed,
    facts: Facts,
    places: Places,
    steps: JoinSet<(Operation, Outcome)>,
    step_handles: BTreeMap<Operation, AbortHandle>,
    /// The status write under way, at most one.
    writes: JoinSet<(PodStatus, Result<(), kube::Error>)>,
    /// What the API has last acknowledged.
    acknowledged: Option<PodStatus>,
    write_failures: u32,
    write_not_before: Instant,
    probers: HashMap<String, Prober>,
    /// Announced exits that containerd's CRI part does not know of yet.
    exits_expected: HashMap<String, Instant>,
    /// When the containers killed by SIGKILL were first seen to have ended.
    killed_since: HashMap<String, Instant>,
    oom: BTreeSet<String>,
    peers_until: Timestamp,
    refresh_at: Instant,
    /// Restarts that people were told are delayed: container and attempt.
    back_off_announced: BTreeSet<(String, u32)>,
    /// Steps that failed and are not taken before that time.
    not_before: BTreeMap<Operation, Instant>,
    own_inbox: mpsc::Sender<News>,
    /// containerd must be asked again.
    stale: bool,
    wake_at: Instant,
}

struct Prober {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, pod: Arc<Pod>, gone: bool, own_inbox: mpsc::Sender<News>) -> Self {
        let now = Timestamp::now();
        let identity = Identity::of(&pod, &shared.name);
        let pod = Arc::unwrap_or_clone(pod);
        let spec = pod.spec.clone().unwrap_or_default();
        let begun = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
        let peers_until = begun.saturating_add(shared.limits.peers_wait).unwrap_or(Timestamp::MAX);
        let refresh_at = Instant::now() + shared.limits.refresh;
        let mut worker = Self {
            identity,
            acknowledged: pod.status.clone(),
            pod,
            spec,
            observed: Observed::default(),
            facts: Facts { gone, ..Facts::default() },
            places: Places::new(),
            steps: JoinSet::new(),
            step_handles: BTreeMap::new(),
            writes: JoinSet::new(),
            write_failures: 0,
            write_not_before: Instant::now(),
            probers: HashMap::new(),
            exits_expected: HashMap::new(),
            killed_since: HashMap::new(),
            oom: BTreeSet::new(),
            peers_until,
            refresh_at,
            back_off_announced: BTreeSet::new(),
            not_before: BTreeMap::new(),
            own_inbox,
            stale: true,
            wake_at: Instant::now(),
            shared,
        };
        worker.admit();
        worker
    }

    /// Decides once whether the pod may run here at all.
    fn admit(&mut self) {
        if self.facts.gone || fermion_api::pod::ended(&self.pod) {
            return;
        }
        let names = containers(&self.spec).map(|(_, container)| &container.name);
        let names = names.chain(self.spec.volumes.iter().flatten().map(|volume| &volume.name));
        let bad_name = names
            .into_iter()
            .find(|name| !crate::layout::is_component(name))
            .map(|name| PodFailure { reason: "Refused".to_owned(), message: format!("`{name}` cannot name a container or volume") });
        // What already runs is not thrown out for the sake of a rule that changed meanwhile, and it
        // has its resources whether or not they fit.
        let began = fermion_api::pod::run_interval(&self.pod).0.is_some();
        let mut asked = fermion_api::cards::counted(fermion_api::pod::requests(&self.spec), fermion_api::cards::known);
        asked.insert("pods".to_owned(), 1000);
        let allocatable = &self.shared.machine.allocatable;
        let fits = |asked: &_, used: &_| match admit::fit(asked, used, allocatable) {
            Some(failure) if !began => Err(failure),
            _ => Ok(()),
        };
        let refusal = bad_name.or_else(|| admit::refuse(&self.spec, self.shared.access)).filter(|_| !began);
        let refusal = refusal.or_else(|| self.shared.pods.promise(&self.identity.uid, asked, fits).err());
        if let Some(failure) = refusal {
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: PodFailure) {
        tracing::info!(pod = self.identity.name, namespace = self.identity.namespace, reason = failure.reason, "pod fails");
        let reason = match failure.reason.as_str() {
            "Evicted" => "Evicted",
            "DeadlineExceeded" => "DeadlineExceeded",
            "Refused" => "Refused",
            _ => "Failed",
        };
        self.event(None, Severity::Warning, reason, failure.message.clone());
        self.facts.failed = Some(failure);
    }

    fn event(&self, container: Option<&str>, severity: Severity, reason: &'static str, message: String) {
        self.shared.events.record(reference(&self.pod, container), severity, reason, message);
    }

    fn input(&self, now: Timestamp) -> Input<'_> {
        Input { pod: &self.pod, spec: &self.spec, observed: &self.observed, facts: &self.facts, back_off: self.shared.limits.restart, now }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Pod(pod) => self.take_object(&pod),
            News::Gone => self.facts.gone = true,
            News::Look => self.stale = true,
            News::Peers => {}
            News::Exited(id) => {
                self.stale = true;
                self.exits_expected.insert(id, Instant::now() + EXIT_SETTLE);
            }
            News::OutOfMemory(id) => {
                self.stale = true;
                self.oom.insert(id);
            }
            News::Health(id, health) => {
                self.facts.health.insert(id, health);
            }
            News::Progress(container, text) => {
                self.facts.image_progress.insert(container, text);
            }
            News::Evict(reason, message) => {
                if self.facts.failed.is_none() && self.input(Timestamp::now()).ended().is_none() {
                    self.fail(PodFailure { reason, message });
                }
            }
        }
    }

    /// Takes over a newer object. Its status is ours to know, but for conditions that others set.
    fn take_object(&mut self, pod: &Pod) {
        let mut own = self.pod.status.take().unwrap_or_default();
        let stored = pod.status.clone().unwrap_or_default();
        let mut conditions = own.conditions.take().unwrap_or_default();
        for condition in stored.conditions.iter().flatten() {
            let ours = conditions.iter().any(|known| known.type_ == condition.type_);
            if !ours && condition.type_ != super::status::RUNTIME_REACHABLE {
                conditions.push(condition.clone());
            }
        }
        own.conditions = Some(conditions);
        if own.phase.is_none() {
            own = stored;
        }
        self.pod = pod.clone();
        self.pod.status = Some(own);
        self.spec = self.pod.spec.clone().unwrap_or_default();
    }

    /// Looks, decides, acts and reports once.
    async fn turn(&mut self) -> Turn {
        if self.stale {
            self.look().await;
        }
        let now = Timestamp::now();
        self.settle();
        self.know_peers(now);
        self.report(now);
        let decision = if self.facts.runtime_error.is_some() { Decision::default() } else { decide(&self.input(now)) };
        for action in decision.actions {
            if action == Action::Forget {
                return Turn::Done;
            }
            self.act(action);
        }
        self.announce_back_off(now);
        self.refresh_files();
        self.plan_wake(decision.wake_at, now);
        Turn::Again
    }

    /// When to look again if nothing happens before.
    fn plan_wake(&mut self, wake_at: Option<Timestamp>, now: Timestamp) {
        let instant = Instant::now();
        let mut wait = self.shared.limits.sweep;
        if fermion_api::pod::ended(&self.pod) && self.facts.in_flight.is_empty() {
            wait *= SWEEP_FACTOR_ENDED;
        }
        self.not_before.retain(|_, at| *at > instant);
        if let Some(at) = self.not_before.values().min() {
            wait = wait.min(*at - instant);
        }
        if let Some(at) = wake_at {
            wait = wait.min(Duration::try_from(at.duration_since(now)).unwrap_or_default());
        }
        if self.facts.runtime_error.is_some() {
            wait = wait.min(self.shared.limits.retry.base);
        }
        if !self.exits_expected.is_empty() {
            wait = wait.min(EXIT_RECHECK);
        }
        if self.killed_since.values().any(|since| instant < *since + OOM_SETTLE) {
            wait = wait.min(OOM_SETTLE);
        }
        if self.writes.is_empty() && instant < self.write_not_before {
            wait = wait.min(self.write_not_before - instant);
        }
        self.wake_at = instant + wait.max(Duration::from_millis(1));
    }

    /// Brings files made from ConfigMaps and Secrets up to date, now and then.
    fn refresh_files(&mut self) {
        let running = self.observed.containers.iter().any(|seen| seen.state == ContainerState::Running);
        let due = Instant::now() >= self.refresh_at;
        if due && running && volumes::follows_objects(&self.spec) && self.facts.volumes != Step::Pending {
            self.act(Action::MountVolumes);
        }
        if due {
            self.refresh_at = Instant::now() + self.shared.limits.refresh;
        }
    }
}
