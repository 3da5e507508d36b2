//! One task per pod: look at what containerd has, decide, act, report; then wait for news.
//!
//! Steps run beside the loop, so that a slow image or a long grace never keeps the pod from being
//! looked after. All the worker knows can be lost at any time: containerd, the disk and the stored
//! status tell a new one enough to carry on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState as ContainerStateField, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::decide::{Action, Decision, Input, Next, decide};
use super::handler::Target;
use super::hosts;
use super::image::{self, Missing};
use super::observe::{may_become_oom, observe};
use super::probes;
use super::sandbox::Identity;
use super::state::{ContainerState, Facts, Failure, Health, Observed, Operation, Peers, PodFailure, Step, containers, prior_status};
use super::status::{TERMINATION_MESSAGE_BYTES_MAX, status};
use super::steps::{self, SandboxError, StartInput, StepError};
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
        let refusal = bad_name.or_else(|| admit::refuse(&self.spec, self.shared.access)).or_else(|| {
            let asked = fermion_api::pod::requests(&self.spec);
            let allocatable = &self.shared.machine.allocatable;
            let fits = |asked: &_, used: &_| admit::fit(asked, used, allocatable).map_or(Ok(()), Err);
            let mut asked = asked;
            asked.insert("pods".to_owned(), 1000);
            self.shared.pods.promise(&self.identity.uid, asked, fits).err()
        });
        // What already runs is not thrown out for the sake of a rule that changed meanwhile.
        let began = fermion_api::pod::run_interval(&self.pod).0.is_some();
        if let Some(failure) = refusal.filter(|_| !began) {
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

    async fn look(&mut self) {
        match observe(&self.shared.cri, &self.identity.uid, &self.observed).await {
            Ok(observed) => {
                self.observed = observed;
                self.stale = false;
                if self.facts.runtime_error.take().is_some() {
                    tracing::info!(pod = self.identity.name, "containerd answers again");
                }
            }
            Err(error) => {
                if self.facts.runtime_error.is_none() {
                    tracing::warn!(pod = self.identity.name, %error, "cannot look at the pod's containers");
                }
                self.facts.runtime_error = Some(error.to_string());
            }
        }
        let sandboxes = self.observed.sandboxes.iter().map(|sandbox| &sandbox.id);
        let ids = sandboxes.chain(self.observed.containers.iter().map(|seen| &seen.id));
        self.shared.pods.route(&self.identity.uid, ids);
    }

    /// Follows from what was seen: probes run for running containers, last words are read, and an
    /// exit that is not wholly known yet counts as not yet happened.
    fn settle(&mut self) {
        let now = Instant::now();
        let running = |seen: &super::state::ContainerSeen| seen.state == ContainerState::Running;
        let observed = &self.observed;
        self.exits_expected.retain(|id, until| *until > now && observed.containers.iter().any(|seen| seen.id == *id && running(seen)));
        for seen in &mut self.observed.containers {
            if !may_become_oom(seen) {
                continue;
            }
            if self.oom.contains(&seen.id) {
                "OOMKilled".clone_into(&mut seen.reason);
                continue;
            }
            let since = *self.killed_since.entry(seen.id.clone()).or_insert(now);
            if now < since + OOM_SETTLE && self.facts.failed.is_none() && !self.facts.kills.contains_key(&seen.id) {
                seen.state = ContainerState::Running;
            }
        }
        let ids: BTreeSet<String> = self.observed.containers.iter().map(|seen| seen.id.clone()).collect();
        self.killed_since.retain(|id, _| ids.contains(id));
        self.oom.retain(|id| ids.contains(id));
        self.facts.health.retain(|id, _| ids.contains(id));
        self.facts.kills.retain(|id, _| ids.contains(id));
        self.facts.termination_messages.retain(|id, _| ids.contains(id));
        self.tend_probers();
        self.read_last_words();
    }

    fn tend_probers(&mut self) {
        let live: BTreeSet<&String> =
            self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Running).map(|seen| &seen.id).collect();
        self.probers.retain(|id, _| live.contains(id));
        let ip = self.observed.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        let mut fresh = Vec::new();
        for seen in self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Running) {
            let starting = self.facts.in_flight.contains(&Operation::Start(seen.name.clone()));
            if starting || self.probers.contains_key(&seen.id) {
                continue;
            }
            let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == seen.name) else {
                continue;
            };
            let ip = if self.spec.host_network == Some(true) { self.shared.address.clone() } else { ip.clone() };
            let target = Target { cri: self.shared.cri.clone(), container_id: seen.id.clone(), container: container.clone(), ip };
            let mut health = probes::initial(&target);
            // A container that was ready before this process started stays so until a probe fails.
            let known = prior_status(&self.pod, &seen.name)
                .filter(|prior| prior.container_id.as_deref() == Some(&format!("containerd://{}", seen.id)));
            if let Some(known) = known {
                health.started |= known.started == Some(true);
                health.ready |= known.ready && health.started;
            }
            fresh.push((seen.id.clone(), seen.name.clone(), seen.started_at.unwrap_or_default(), target, health));
        }
        for (id, name, started_at, target, health) in fresh {
            self.facts.health.insert(id.clone(), health.clone());
            self.probers.insert(id.clone(), self.start_prober(id, name, started_at, target, health));
        }
    }

    fn start_prober(&self, id: String, name: String, started_at: Timestamp, target: Target, health: Health) -> Prober {
        let (sender, mut receiver) = watch::channel(health);
        let inbox = self.own_inbox.clone();
        let recorder = self.shared.events.clone();
        let about = reference(&self.pod, Some(&name));
        let task = tokio::spawn(async move {
            let complain = |message: String| recorder.record(about.clone(), Severity::Warning, "Unhealthy", message);
            let forward = async {
                while receiver.changed().await.is_ok() {
                    let health = receiver.borrow_and_update().clone();
                    if inbox.send(News::Health(id.clone(), health)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(probes::watch(target, started_at, sender, complain), forward);
        });
        Prober { task }
    }

    fn read_last_words(&mut self) {
        let mut found = Vec::new();
        for seen in self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Exited) {
            if self.facts.termination_messages.contains_key(&seen.id) {
                continue;
            }
            let path = self.shared.layout.termination_file(&self.identity.uid, &seen.name, seen.attempt);
            let mut text = crate::logs::read_head(&path, TERMINATION_MESSAGE_BYTES_MAX as u64).unwrap_or_default();
            let fall_back = containers(&self.spec).any(|(_, container)| {
                container.name == seen.name && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
            });
            if text.is_empty() && fall_back && seen.exit_code != 0 {
                let log = self.shared.layout.pod_logs(&self.identity).join(super::container::log_path(&seen.name, seen.attempt));
                text = crate::logs::last_words(&log, LAST_WORDS_BYTES, LAST_WORDS_LINES).unwrap_or_default();
            }
            found.push((seen.id.clone(), text));
        }
        self.facts.termination_messages.extend(found);
    }

    /// Learns the addresses of the gang and keeps `/etc/hosts` up to date.
    fn know_peers(&mut self, now: Timestamp) {
        let Some(sandbox) = self.observed.sandbox().filter(|sandbox| sandbox.ready) else { return };
        if self.facts.gone {
            return;
        }
        let peers = self.shared.pods.peers(&self.pod);
        if self.spec.host_network != Some(true) {
            let ip = sandbox.ips.first().map(String::as_str);
            let text = hosts::content(&self.identity, &self.pod, ip, &peers);
            let path = self.shared.layout.hosts_file(&self.identity.uid);
            if let Err(error) = hosts::write(&path, &text) {
                self.event(None, Severity::Warning, "FailedMount", format!("cannot write /etc/hosts: {error}"));
            }
        }
        self.facts.peers = if hosts::gang_key(&self.pod).is_some() {
            hosts::readiness(hosts::gang_size(&self.pod), &peers, self.peers_until, now)
        } else {
            Peers::Known
        };
    }

    /// Computes the status and writes it if the API has another.
    fn report(&mut self, now: Timestamp) {
        if self.facts.gone {
            return;
        }
        let status = status(&self.input(now), &self.shared.address);
        if fermion_api::pod::ended(&self.pod) {
            self.shared.pods.release(&self.identity.uid);
        }
        if self.pod.status.as_ref() != Some(&status) {
            self.pod.status = Some(status.clone());
            self.shared.pods.update(&Arc::new(self.pod.clone()));
        }
        let known = self.acknowledged.as_ref() == Some(&status);
        if known || !self.writes.is_empty() || Instant::now() < self.write_not_before {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.identity.namespace);
        let (name, uid) = (self.identity.name.clone(), self.identity.uid.clone());
        self.writes.spawn(async move {
            let patch = status_patch(&uid, &status);
            let result = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            (status, result.map(drop))
        });
    }

    fn written(&mut self, done: Result<(PodStatus, Result<(), kube::Error>), tokio::task::JoinError>) {
        match done {
            Ok((status, Ok(()))) => {
                self.acknowledged = Some(status);
                self.write_failures = 0;
            }
            Ok((_, Err(kube::Error::Api(status)))) if status.code == 404 || status.code == 409 => {
                // No such pod, or another one of that name: ours is gone.
                self.facts.gone = true;
            }
            Ok((_, Err(error))) => self.write_failed(&error),
            Err(error) => self.write_failed(&error),
        }
    }

    fn write_failed(&mut self, error: &dyn std::fmt::Display) {
        self.write_failures += 1;
        tracing::warn!(pod = self.identity.name, %error, "cannot write the pod's status; trying again");
        self.write_not_before = Instant::now() + self.shared.limits.retry.delay(self.write_failures);
    }

    fn announce_back_off(&mut self, now: Timestamp) {
        let input = self.input(now);
        let delayed: Vec<(String, u32)> = containers(&self.spec)
            .filter(|(role, container)| matches!(input.next(*role, container), Next::BackOff { .. }))
            .filter_map(|(_, container)| Some((container.name.clone(), self.observed.container(&container.name)?.attempt)))
            .collect();
        if input.ended().is_some() {
            return;
        }
        for (name, attempt) in delayed {
            if self.back_off_announced.insert((name.clone(), attempt)) {
                let message = format!("Back-off restarting failed container {name}");
                self.event(Some(&name), Severity::Warning, "BackOff", message);
            }
        }
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

    /// Whether a step failed so recently that it is not taken again yet.
    fn must_wait(&self, operation: &Operation) -> bool {
        self.not_before.get(operation).is_some_and(|at| *at > Instant::now())
    }

    fn spawn(&mut self, operation: Operation, step: impl Future<Output = Outcome> + Send + 'static) {
        self.facts.in_flight.insert(operation.clone());
        let key = operation.clone();
        let handle = self.steps.spawn(async move { (operation, step.await) });
        self.step_handles.insert(key, handle);
    }

    fn act(&mut self, action: Action) {
        let shared = Arc::clone(&self.shared);
        let identity = self.identity.clone();
        match action {
            Action::FailPod(failure) => {
                self.fail(failure);
                self.wake_soon();
            }
            Action::MountVolumes => {
                if self.facts.in_flight.contains(&Operation::Volumes) {
                    return;
                }
                let pod = self.pod.clone();
                self.spawn(Operation::Volumes, async move {
                    let made = volumes::make(&shared, &identity, &pod).await;
                    Outcome::Volumes(made.map_err(|error| error.to_string()))
                });
            }
            Action::CreateSandbox { attempt } => {
                let spec = self.spec.clone();
                self.spawn(Operation::Sandbox, async move {
                    Outcome::Sandbox(attempt, steps::create_sandbox(&shared, &identity, &spec, attempt).await)
                });
            }
            Action::EnsureImage { container } => self.ensure_image(container),
            Action::StartContainer(start) => self.start_container(start),
            Action::KillContainer { id, name, grace, why } => self.kill_container(id, &name, grace, &why),
            Action::Abort(operation) => {
                if let Some(handle) = self.step_handles.get(&operation) {
                    handle.abort();
                }
            }
            Action::StopSandbox { id } => {
                if self.must_wait(&Operation::StopSandbox(id.clone())) {
                    return;
                }
                self.spawn(Operation::StopSandbox(id.clone()), async move {
                    Outcome::StopSandbox(steps::stop_sandbox(&shared, &id).await.map_err(|error| error.to_string()))
                });
            }
            Action::Cleanup => {
                if self.must_wait(&Operation::Cleanup) {
                    return;
                }
                let sandboxes: Vec<String> = self.observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
                self.spawn(Operation::Cleanup, async move { Outcome::Cleanup(steps::clean_up(&shared, &identity, &sandboxes).await) });
            }
            Action::Finalize => {
                // The last status is written first: usage is counted from it.
                let unwritten = !self.writes.is_empty() || self.acknowledged != self.pod.status;
                if unwritten || self.must_wait(&Operation::Finalize) {
                    return;
                }
                self.spawn(Operation::Finalize, async move {
                    Outcome::Finalize(steps::finalize(&shared, &identity).await.map_err(|error| error.to_string()))
                });
            }
            Action::Forget => {}
        }
    }

    fn wake_soon(&self) {
        // A full inbox wakes the worker just as well.
        let _ = self.own_inbox.try_send(News::Peers);
    }

    fn ensure_image(&mut self, name: String) {
        let shared = Arc::clone(&self.shared);
        let (namespace, spec) = (self.identity.namespace.clone(), self.spec.clone());
        let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == name) else { return };
        let container = container.clone();
        let about = reference(&self.pod, Some(&name));
        let inbox = self.own_inbox.clone();
        let told = name.clone();
        let tell: crate::official::Progress = Arc::new(move |text: &str| {
            // Progress is worth nothing when the worker is busy.
            let _ = inbox.try_send(News::Progress(told.clone(), text.to_owned()));
        });
        self.spawn(Operation::Image(name), async move {
            let image = container.image.clone().unwrap_or_default();
            let announce = || {
                shared.events.record(about.clone(), Severity::Normal, "Pulling", format!("Pulling image {image}"));
            };
            let result = image::ensure(&shared, &namespace, &spec, &container, tell, announce).await;
            match &result {
                Ok(true) => {
                    shared.events.record(about, Severity::Normal, "Pulled", format!("Image {image} is here now"));
                }
                Ok(false) => {}
                Err(missing) => {
                    shared.events.record(about, Severity::Warning, "Failed", missing.message.clone());
                }
            }
            Outcome::Image(result)
        });
    }

    fn start_container(&mut self, start: super::decide::Start) {
        let shared = Arc::clone(&self.shared);
        let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == start.container) else {
            return;
        };
        let sandbox = self.observed.sandbox();
        let input = StartInput {
            identity: self.identity.clone(),
            pod: self.pod.clone(),
            spec: self.spec.clone(),
            container: container.clone(),
            sandbox_attempt: sandbox.map_or(0, |sandbox| sandbox.attempt),
            pod_ips: sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default(),
            places: self.places.clone(),
            start,
        };
        self.spawn(Operation::Start(input.container.name.clone()), async move {
            Outcome::Start(Box::pin(steps::start_container(&shared, input)).await)
        });
    }

    fn kill_container(&mut self, id: String, name: &str, grace: Duration, why: &str) {
        let operation = Operation::Kill(id.clone());
        if self.must_wait(&operation) {
            return;
        }
        let again = self.step_handles.get(&operation).map(AbortHandle::abort).is_some();
        if !again {
            self.event(Some(name), Severity::Normal, "Killing", format!("Stopping container {name}: {why}"));
        }
        self.facts.kills.insert(id.clone(), grace);
        let shared = Arc::clone(&self.shared);
        let container = containers(&self.spec).find(|(_, container)| container.name == name).map(|(_, container)| container.clone());
        let pod = self.pod.clone();
        let ip = self.observed.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        self.spawn(operation, async move {
            let killed = steps::kill_container(&shared, &pod, container.as_ref(), &id, ip, grace).await;
            Outcome::Kill(killed.map_err(|error| error.to_string()))
        });
    }

    /// Takes note of how a step ended.
    fn finish(&mut self, done: Result<(Operation, Outcome), tokio::task::JoinError>) {
        self.stale = true;
        let Ok((operation, outcome)) = done else {
            // Aborted, or it panicked: whatever it was no longer runs.
            let handles = &mut self.step_handles;
            handles.retain(|_, handle| !handle.is_finished());
            self.facts.in_flight.retain(|operation| handles.contains_key(operation));
            return;
        };
        // A kill that was replaced by a quicker one leaves the newer handle in place.
        if self.step_handles.get(&operation).is_some_and(AbortHandle::is_finished) {
            self.step_handles.remove(&operation);
            self.facts.in_flight.remove(&operation);
        }
        match (operation, outcome) {
            (_, Outcome::Volumes(Ok((places, _)))) => {
                self.places = places;
                self.facts.volumes = Step::Done;
            }
            (_, Outcome::Volumes(Err(message))) => {
                self.event(None, Severity::Warning, "FailedMount", message.clone());
                // Files that cannot be refreshed stay as they are.
                if !self.facts.volumes.is_done() {
                    self.facts.volumes = self.failed(self.facts.volumes.failure(), "FailedMount", message);
                }
            }
            (_, Outcome::Sandbox(_, Ok(()))) => self.facts.sandbox = Step::Done,
            (_, Outcome::Sandbox(attempt, Err(error))) => {
                if error.name_taken {
                    self.facts.sandbox_attempt_min = attempt + 1;
                }
                self.event(None, Severity::Warning, "FailedCreatePodSandBox", error.message.clone());
                self.facts.sandbox = self.failed(self.facts.sandbox.failure(), "FailedCreatePodSandBox", error.message);
            }
            (Operation::Image(name), Outcome::Image(result)) => {
                self.facts.image_progress.remove(&name);
                let step = match result {
                    Ok(_) => Step::Done,
                    Err(missing) => {
                        let before = self.facts.images.get(&name).and_then(Step::failure).cloned();
                        self.failed(before.as_ref(), missing.reason, missing.message)
                    }
                };
                self.facts.images.insert(name, step);
            }
            (Operation::Start(name), Outcome::Start(result)) => {
                // The next start looks at the image afresh.
                self.facts.images.remove(&name);
                match result {
                    Ok(()) => {
                        self.facts.starts.remove(&name);
                    }
                    Err(error) => {
                        if error.reason == "CreateContainerConfigError" {
                            self.event(Some(&name), Severity::Warning, "Failed", error.message.clone());
                        }
                        let before = self.facts.starts.get(&name).cloned();
                        if let Step::Failed(failure) = self.failed(before.as_ref(), error.reason, error.message) {
                            self.facts.starts.insert(name, failure);
                        }
                    }
                }
            }
            (_, Outcome::Cleanup(Ok(()))) => self.facts.cleaned = true,
            (_, Outcome::Finalize(Ok(()))) => self.facts.gone = true,
            (operation, Outcome::Kill(result) | Outcome::StopSandbox(result) | Outcome::Cleanup(result) | Outcome::Finalize(result)) => {
                if let Err(message) = result {
                    self.not_before.insert(operation.clone(), Instant::now() + self.shared.limits.retry.base);
                    tracing::warn!(pod = self.identity.name, ?operation, message, "a step failed; it is taken again");
                    self.event(None, Severity::Warning, "FailedKillPod", message);
                }
            }
            (_, Outcome::Image(_) | Outcome::Start(_)) => {}
        }
    }

    fn failed(&self, before: Option<&Failure>, reason: &'static str, message: String) -> Step {
        let count = before.map_or(0, |before| before.count) + 1;
        let delay = self.shared.limits.retry.delay(count);
        Step::Failed(Failure { reason, message, retry_at: Timestamp::now().saturating_add(delay).unwrap_or(Timestamp::MAX), count })
    }
}

/// Writes when a container started and ended as exactly as the runtime told it: usage is counted
/// from these times, and the usual form of a Time drops fractions of a second.
fn exact_times(fields: &mut serde_json::Value, state: Option<&ContainerStateField>) {
    let Some(state) = state else { return };
    let mut write = |kind: &str, field: &str, time: Option<&Time>| {
        if let Some(Time(time)) = time {
            fields[kind][field] = time.to_string().into();
        }
    };
    if let Some(running) = &state.running {
        write("running", "startedAt", running.started_at.as_ref());
    }
    if let Some(terminated) = &state.terminated {
        write("terminated", "startedAt", terminated.started_at.as_ref());
        write("terminated", "finishedAt", terminated.finished_at.as_ref());
    }
}

/// The merge patch that makes the stored status this one: fields that went are named as null.
fn status_patch(uid: &str, status: &PodStatus) -> serde_json::Value {
    let mut fields = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        for name in ["message", "reason", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    let lists = [("initContainerStatuses", &status.init_container_statuses), ("containerStatuses", &status.container_statuses)];
    for (list, containers) in lists {
        for (index, container) in containers.iter().flatten().enumerate() {
            exact_times(&mut fields[list][index]["state"], container.state.as_ref());
            exact_times(&mut fields[list][index]["lastState"], container.last_state.as_ref());
        }
    }
    serde_json::json!({ "metadata": { "uid": uid }, "status": fields })
}
