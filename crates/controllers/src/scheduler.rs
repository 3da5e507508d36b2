//! The scheduler's hands: makes a snapshot of what the API shows, asks the pure scheduler for
//! a plan, binds pods and tells everyone who waits why.
//!
//! A round runs shortly after something changed and, anyway, once per sweep. Binds that the
//! caches do not show yet are remembered, so that no room is given away twice.

mod affinity;
mod cards;
mod eviction;
pub(crate) mod foresight;
mod keeper;
mod moving;
mod order;
mod past;
mod rules;
mod run_times;
mod sentence;
mod snapshot;
mod spread;
mod suggestion;
mod telling;
mod totals;
pub(crate) mod view;
mod writes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Waiting;
use fermion_api::compute::pool::{self, PoolKind, PoolSpec};
use fermion_api::compute::queue::{self, QueueSpec};
use fermion_api::compute::{Pool, Queue, Quota, ResourcePolicy, ResourceTicket, SchedulingPolicy, TimeWindow};
use fermion_api::iam::User;
use fermion_api::{labels, reason};
use fermion_scheduler::{self as plan, Past, Plan, Wait};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::foresight::{Ask, Known};
use self::keeper::Keeper;
use self::moving::Moving;
use self::order::Order;
use self::snapshot::Assumed;
pub(crate) use self::snapshot::is_ready;
use self::telling::Telling;
use self::view::{Copies, News, Own, View};
use self::writes::{Done, Writes};
use crate::cache::{Cache, Key, key};
use crate::counts::{Counts, Step};
use crate::error::{Error, chain, describe};
use crate::events::Recorder;
use crate::{Caches, Options, Shutdown, status};

/// How long changes are gathered before a round.
const GATHER: Duration = Duration::from_millis(5);
/// How many sums are being written at the same time.
const SUMS_AT_ONCE: usize = 16;
/// A plan holds so long where nothing changes but the time.
const REPLAN_AFTER: Duration = Duration::from_secs(1);
/// Where many wait, what would help each of them is found out this often at most,
const LOUD_INTERVAL: Duration = Duration::from_millis(250);
/// and takes no more than one in so many parts of the time.
const LOUD_PART: u32 = 8;
/// How long a bind is remembered that the cache does not show.
const ASSUMED_FOR: Duration = Duration::from_secs(30);
/// How often the sums of pools and queues are written at most.
const SUMS_INTERVAL: Duration = Duration::from_secs(1);
/// How often is kept what everybody used.
const PAST_INTERVAL: Duration = Duration::from_mins(1);
/// How long keeping it may hold up the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pods of a new Workload are made one after the other; that some are missing is worth a word
/// only when it lasts.
const MISSING_TOLD_AFTER: Duration = Duration::from_secs(2);
/// Wait before the first objects are made again when the API is not ready.
const SEED_RETRY: Duration = Duration::from_secs(1);
/// How many may wait to be told what the scheduler knows; more are never answered at the same time.
const ASKS_KEPT: usize = 16;

struct Runner {
    client: Client,
    /// Who wants to be told what this one knows.
    asks: mpsc::Receiver<Ask>,
    caches: Caches,
    copies: Copies,
    /// What the caches show, as plans are made from it.
    view: View,
    /// Is told when a cache changed.
    wake: Arc<Notify>,
    recorder: Recorder,
    /// Node and cards of binds that were sent, by uid of the pod, until the cache shows them.
    assumed: HashMap<String, Assumed>,
    /// Whose they are, and when they were sent.
    sent: HashMap<String, (Key, Instant)>,
    /// Pods that were told to stop for others, by uid, and when.
    evicted: HashMap<String, (Key, Instant)>,
    /// Gangs for which places are kept, as others are being stopped for them or they were moved; `None` before the
    /// first round, when it is read from what Workloads say.
    claims: Option<HashSet<String>>,
    /// Gangs that were moved so that others have room.
    moving: Moving,
    /// Plans, and keeps what rounds hand on to each other.
    keeper: Keeper,
    /// The last plan's, by gang.
    waits: Vec<plan::Waiting>,
    planned_at: Option<Instant>,
    /// Whether what was planned could not all be done.
    unfinished: bool,
    /// When those who wait were last told all, and how long finding it out took.
    loud: Option<(Instant, Duration)>,
    /// What was told to whom, and when the next words are due.
    telling: Telling,
    /// Since when members of a gang are missing, by gang.
    missing: HashMap<String, Instant>,
    /// When sums were last written, and whether there was something to sum up since.
    summed: Option<Instant>,
    sums_due: bool,
    /// When was last kept what everybody used, and whether something was used since.
    past_kept: Instant,
    is_past_new: bool,
    /// What is being written.
    writes: Writes,
    /// Binds that wait until others were told to stop.
    order: Order<Bind>,
    counts: Counts,
}

/// A pod that is given a place, and what of its cards is written there.
struct Bind {
    pod: Arc<Pod>,
    node: String,
    cards: Option<String>,
}

/// Copies of what rules.
#[derive(Clone)]
struct RulingCaches {
    policies: Cache<SchedulingPolicy>,
    quotas: Cache<Quota>,
    resource_policies: Cache<ResourcePolicy>,
    tickets: Cache<ResourceTicket>,
    windows: Cache<TimeWindow>,
    users: Cache<User>,
    namespaces: Cache<Namespace>,
}

impl RulingCaches {
    fn new() -> Self {
        Self {
            policies: Cache::new(|_| None),
            quotas: Cache::new(|_| None),
            resource_policies: Cache::new(|_| None),
            tickets: Cache::new(|_| None),
            windows: Cache::new(|_| None),
            users: Cache::new(|_| None),
            namespaces: Cache::new(|_| None),
        }
    }

    /// Keeps them up to date until shutdown.
    async fn run(self, client: Client, shutdown: Shutdown) {
        let new = || (client.clone(), shutdown.clone());
        let ((one, first), (two, second), (three, third), (four, fourth)) = (new(), new(), new(), new());
        let people = futures::future::join3(
            self.tickets.run(one, first),
            self.windows.run(two, second),
            futures::future::join(self.users.run(three, third), self.namespaces.run(four, fourth)),
        );
        let ((one, first), (two, second), (three, third)) = (new(), new(), new());
        let amounts =
            futures::future::join3(self.policies.run(one, first), self.quotas.run(two, second), self.resource_policies.run(three, third));
        Box::pin(futures::future::join(people, amounts)).await;
    }

    /// Waits until all are filled.
    async fn filled(&self) -> Result<(), Error> {
        self.policies.filled().await?;
        self.quotas.filled().await?;
        self.resource_policies.filled().await?;
        self.tickets.filled().await?;
        self.windows.filled().await?;
        self.users.filled().await?;
        self.namespaces.filled().await
    }
}

/// Runs rounds until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let copies = Copies::new(&caches, nodes);
    let watches = futures::future::join3(
        copies.queues.clone().run(client.clone(), shutdown.clone()),
        copies.pools.clone().run(client.clone(), shutdown.clone()),
        copies.ruling.clone().run(client.clone(), shutdown.clone()),
    );
    let wake = Arc::new(Notify::new());
    // Who asks what would become of work is answered by this one as long as it runs.
    let (ask, asks) = mpsc::channel(ASKS_KEPT);
    let _leads = options.reviewer.as_ref().map(|reviewer| reviewer.lead(copies.clone(), ask));
    let runner = Runner {
        asks,
        recorder: Recorder::new(client.clone(), "scheduler"),
        client,
        caches,
        view: View::new(copies.clone(), &wake),
        copies,
        wake,
        assumed: HashMap::new(),
        sent: HashMap::new(),
        evicted: HashMap::new(),
        claims: None,
        moving: Moving::default(),
        keeper: Keeper::new(options.counts.clone()),
        waits: Vec::new(),
        planned_at: None,
        unfinished: false,
        loud: None,
        telling: Telling::default(),
        missing: HashMap::new(),
        summed: None,
        sums_due: false,
        past_kept: Instant::now(),
        is_past_new: false,
        writes: Writes::default(),
        order: Order::default(),
        counts: options.counts,
    };
    futures::future::join(Box::pin(watches), Box::pin(runner.rounds(options.sweep, shutdown))).await;
}

impl Runner {
    async fn rounds(mut self, sweep: Duration, shutdown: Shutdown) {
        let (client, copies) = (self.client.clone(), self.copies.clone());
        let filled = async {
            seed(client).await;
            copies.nodes.filled().await.and(copies.queues.filled().await).and(copies.pools.filled().await).and(copies.ruling.filled().await)
        };
        tokio::select! {
            () = shutdown.requested() => return,
            filled = filled => {
                if let Err(error) = filled {
                    tracing::error!(error = chain(&error), "the scheduler cannot start");
                    return;
                }
            }
        }
        tokio::select! {
            () = shutdown.requested() => return,
            past = remember(self.client.clone()) => self.keeper.begin_with(past),
        }
        while !shutdown.is_requested() {
            self.round();
            self.keep_past();
            let due = Instant::now() + self.next_due(sweep);
            loop {
                tokio::select! {
                    () = shutdown.requested() => break,
                    () = self.wake.notified() => {
                        tokio::time::sleep(GATHER).await;
                        break;
                    }
                    done = self.writes.next() => {
                        self.settle(done);
                        if self.unfinished {
                            tokio::time::sleep(GATHER).await;
                            break;
                        }
                    }
                    Some(ask) = self.asks.recv() => {
                        // Who does not wait for it any more misses nothing.
                        let _ = ask.send(self.known());
                    }
                    () = tokio::time::sleep_until(due) => break,
                }
            }
            // What was told meanwhile is looked at in this round.
            let _ = self.wake.notified().now_or_never();
        }
        if self.is_past_new {
            let write = past::write(self.client.clone(), self.keeper.past());
            match tokio::time::timeout(LAST_WORDS, write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = chain(&error), "what was used in the last minute is not kept"),
                Err(_) => tracing::warn!("what was used in the last minute is not kept: writing it took too long"),
            }
        }
    }

    /// Keeps what everybody used, now and then.
    fn keep_past(&mut self) {
        if self.past_kept.elapsed() < PAST_INTERVAL {
            return;
        }
        self.past_kept = Instant::now();
        let runs = self.view.scene().gangs.values().any(|gang| !gang.placed.is_empty());
        if std::mem::replace(&mut self.is_past_new, runs) || runs {
            let write = past::write(self.client.clone(), self.keeper.past());
            self.writes.add(async move { Done::Kept { answer: write.await } });
        }
    }

    /// What no object says.
    fn known(&self) -> Known {
        Known {
            assumed: self.assumed.clone(),
            evicted: self.evicted.keys().cloned().collect(),
            claims: self.claims.clone().unwrap_or_default(),
            moves: self.moving.moves(Instant::now()),
            past: self.keeper.past(),
        }
    }

    /// How long the next round can wait if nothing changes.
    fn next_due(&self, sweep: Duration) -> Duration {
        let in_a_while = |at: Instant, after: Duration| (at + after).saturating_duration_since(Instant::now()).max(GATHER);
        let mut wait = if self.sums_due { SUMS_INTERVAL.min(sweep) } else { sweep };
        if let Some(at) = self.planned_at.filter(|_| self.unfinished || !self.waits.is_empty()) {
            wait = wait.min(in_a_while(at, REPLAN_AFTER));
        }
        self.telling.due_at().map_or(wait, |at| wait.min(at.saturating_duration_since(Instant::now()).max(GATHER)))
    }

    fn round(&mut self) {
        while let Some(done) = self.writes.done() {
            self.settle(done);
        }
        self.forget_binds();
        let mut clock = self.counts.clock();
        let claims = self.claims.take().unwrap_or_else(|| {
            let workloads = self.caches.workloads.all();
            self.moving.remember(&workloads);
            claims_told(&workloads).into_iter().chain(self.moving.gangs().cloned()).collect()
        });
        let evicted: HashSet<String> = self.evicted.keys().cloned().collect();
        let moves = self.moving.moves(Instant::now());
        let own = Own { assumed: &self.assumed, evicted: &evicted, claims: &claims, moves: &moves, now: Timestamp::now() };
        let news = self.view.update(own);
        clock.passed(Step::Look);
        let is_old = self.planned_at.is_none_or(|at| at.elapsed() >= REPLAN_AFTER);
        let mut is_new = false;
        if news == News::Nothing && !is_old && !self.unfinished {
            self.claims = Some(claims);
        } else {
            self.decide(&news, &evicted, &claims);
            is_new = true;
        }
        if self.is_loud() && (is_new || self.telling.due_at().is_some_and(|at| at <= Instant::now())) {
            self.tell_workloads(false);
            self.tell_pods();
        }
        let mut clock = self.counts.clock();
        self.sums_due = self.writes.is_summing() || self.summed.is_some_and(|at| at.elapsed() < SUMS_INTERVAL);
        if !self.sums_due {
            self.sum_up();
            self.summed = Some(Instant::now());
        }
        clock.passed(Step::Tell);
    }

    /// Plans on what is in view, and does what is planned.
    fn decide(&mut self, news: &News, evicted: &HashSet<String>, claims: &HashSet<String>) {
        let mut clock = self.counts.clock();
        let begun = Instant::now();
        let pause = self.loud.map_or(Duration::ZERO, |(_, took)| LOUD_INTERVAL.max(took * LOUD_PART));
        let loud = telling::is_few(self.waits.len()) || self.loud.is_none_or(|(at, _)| at.elapsed() >= pause);
        let mut plan = self.keeper.plan(self.view.scene(), news, !loud);
        if !plan.binds.is_empty() && self.view.has_demands() {
            let moves = self.moving.moves(Instant::now());
            let own = Own { assumed: &self.assumed, evicted, claims, moves: &moves, now: Timestamp::now() };
            self.view.with_sight(own, |sight| {
                if let Some(around) = sight.neighbours() {
                    affinity::together(self.view.scene(), around, &mut plan);
                }
            });
        }
        let took = begun.elapsed();
        clock.passed(Step::Plan);
        self.planned_at = Some(Instant::now());
        let evicting = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. }));
        let mut claims: HashSet<String> = evicting.map(|waiting| waiting.gang.clone()).collect();
        let scene = self.view.scene();
        let workloads = &self.caches.workloads;
        let workload = |gang: &str| snapshot::workload_of_gang(gang).and_then(|(namespace, name)| workloads.get(namespace, name));
        self.moving.forget(scene, workload);
        self.moving.note(scene, &plan, Instant::now());
        claims.extend(self.moving.gangs().cloned());
        self.claims = Some(claims);
        self.unfinished = false;
        self.is_past_new |= !plan.binds.is_empty();
        self.evict(&plan);
        self.bind(&plan);
        clock.passed(Step::Act);
        self.waits = plan.waits;
        self.loud = if loud { Some((Instant::now(), took)) } else { self.loud };
        if !loud {
            // A restart reads from these words whom others are stopped for; the rest is told later.
            self.tell_workloads(true);
        }
    }

    /// Whether what the last plan says of those that wait is all that can be said.
    fn is_loud(&self) -> bool {
        self.loud.zip(self.planned_at).is_some_and(|((loud, _), planned)| loud >= planned)
    }

    /// What became of a write.
    fn settle(&mut self, done: Done) {
        match done {
            Done::Evicted { number, kept } => self.evicted(number, &kept),
            Done::Bound { pod, answer } => {
                let Err(error) = answer else { return };
                self.forget_bind(&pod);
                self.unfinished = true;
                match &error {
                    // Gone, or bound by then: the cache will say.
                    kube::Error::Api(status) if status.is_not_found() || status.is_conflict() => {}
                    _ => tracing::warn!(pod = describe(&*pod), error = chain(&error), "cannot bind a pod; trying again"),
                }
            }
            Done::ToldWorkload { workload, answer } => {
                let Err(error) = answer else { return };
                if let Some(uid) = &workload.metadata.uid {
                    self.telling.failed(uid);
                }
                log(&describe(&*workload), &error);
            }
            Done::ToldPod { answer } => {
                if let Err(error) = answer {
                    log("a pod that waits", &error);
                }
            }
            Done::Kept { answer } => {
                if let Err(error) = answer {
                    tracing::warn!(error = chain(&error), "cannot keep what was used; trying again in a minute");
                    self.is_past_new = true;
                }
            }
            Done::Summed => {}
        }
    }

    /// Drops binds that the cache shows, whose pods are gone, or that are too old to matter; the
    /// same for pods that were told to stop.
    fn forget_binds(&mut self) {
        let pods = &self.copies.pods;
        let found = |uid: &str, key: &Key| pods.get(&key.0, &key.1).filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
        let view = &mut self.view;
        self.evicted.retain(|uid, (key, at)| {
            let stays = found(uid, key).is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) && at.elapsed() < ASSUMED_FOR;
            if !stays {
                view.touch(key.clone());
            }
            stays
        });
        let assumed = &mut self.assumed;
        self.sent.retain(|uid, (key, at)| {
            let unbound = found(uid, key).is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()));
            let stays = unbound && at.elapsed() < ASSUMED_FOR;
            if !stays {
                assumed.remove(uid);
                view.touch(key.clone());
            }
            stays
        });
    }

    fn bind(&mut self, plan: &Plan) {
        for bind in &plan.binds {
            let Some(pod) = self.view.scene().members.get(&bind.member).map(Arc::clone) else { continue };
            let given = Assumed { node: bind.node.clone(), cards: bind.cards.clone() };
            let catalogue = self.view.catalogue();
            let cards = (!given.cards.is_empty()).then(|| cards::told(&given.cards, catalogue.asked(&pod).1.as_ref())).flatten();
            if let Some(uid) = &pod.metadata.uid {
                self.assumed.insert(uid.clone(), given);
                self.sent.insert(uid.clone(), (key(&*pod), Instant::now()));
                self.view.touch(key(&*pod));
            }
            if let Some(bind) = self.order.put(Bind { pod, node: bind.node.clone(), cards }) {
                self.send_bind(bind);
            }
        }
    }

    fn send_bind(&mut self, bind: Bind) {
        let client = self.client.clone();
        self.writes.add(async move {
            let answer = bind_pod(client, &bind.pod, &bind.node, bind.cards).await;
            Done::Bound { pod: bind.pod, answer }
        });
    }

    /// Plans from now on as if this pod had not been given a place.
    fn forget_bind(&mut self, pod: &Pod) {
        if let Some(uid) = &pod.metadata.uid {
            self.assumed.remove(uid);
            self.sent.remove(uid);
        }
        self.view.touch(key(pod));
    }

    /// The Workload of a gang.
    fn workload(&self, gang: &str) -> Option<Arc<Workload>> {
        let (namespace, name) = snapshot::workload_of_gang(gang)?;
        self.caches.workloads.get(namespace, name)
    }

    /// Writes why each Workload waits, and takes it away from those that no longer do; or only of those
    /// for whom others are stopped.
    fn tell_workloads(&mut self, only_claims: bool) {
        let scene = self.view.scene();
        let missing = self.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::MembersMissing { .. }));
        let since = |gang: &String| self.missing.get(gang).copied().unwrap_or_else(Instant::now);
        self.missing = missing.map(|waiting| (waiting.gang.clone(), since(&waiting.gang))).collect();
        let passing = |gang: &str| self.missing.get(gang).is_some_and(|since| since.elapsed() < MISSING_TOLD_AFTER);
        let mut writes = Vec::new();
        self.telling.begin(Instant::now(), self.waits.len(), only_claims);
        let mut waiting_ones: HashSet<Key> = HashSet::new();
        for waiting in self.waits.iter().filter(|waiting| !passing(&waiting.gang)) {
            let claims = matches!(waiting.wait, Wait::Evicting { .. });
            let Some(workload) = self.workload(&waiting.gang) else { continue };
            waiting_ones.insert(key(&*workload));
            let Some(uid) = workload.metadata.uid.as_deref() else { continue };
            let shown = workload.status.as_ref().and_then(|status| status.waiting.as_ref());
            if only_claims && !claims && !shown.is_some_and(telling::is_claim) {
                continue;
            }
            if !self.telling.may_be_due(uid, shown, sentence::code(&waiting.wait)) {
                continue;
            }
            let words = Some(sentence::waiting(waiting, &scene.troubles, spread::story(scene, &waiting.gang).as_deref()));
            if self.telling.is_due(uid, shown, words.as_ref()) {
                let shown = shown.cloned();
                writes.push((workload, shown, words));
            }
        }
        for workload in self.view.showing() {
            let Some(uid) = workload.metadata.uid.as_deref().filter(|_| !waiting_ones.contains(&key(&*workload))) else { continue };
            let shown = workload.status.as_ref().and_then(|status| status.waiting.as_ref());
            let concerns = !only_claims || shown.is_some_and(telling::is_claim);
            if concerns && self.telling.is_due(uid, shown, None) {
                let shown = shown.cloned();
                writes.push((workload, shown, None));
            }
        }
        for (workload, shown, now) in writes {
            let client = self.client.clone();
            self.writes.add(async move {
                let answer = tell_workload(client, &workload, shown, now).await;
                Done::ToldWorkload { workload, answer }
            });
        }
    }

    /// Says in the pods of waiting gangs that they have no place, as Kubernetes does.
    fn tell_pods(&mut self) {
        let now = Timestamp::now();
        let scene = self.view.scene();
        let mut writes = Vec::new();
        for waiting in &self.waits {
            // Passes by itself, and at once.
            if matches!(waiting.wait, Wait::MembersMissing { .. }) {
                continue;
            }
            let mut message = None;
            let members = scene.gangs.get(&waiting.gang).into_iter().flat_map(|gang| &gang.sets).flat_map(|set| &set.pending);
            for pod in members.filter_map(|member| scene.members.get(&member.id)) {
                let Some(uid) = pod.metadata.uid.as_deref() else { continue };
                // Those that were just given a place wait no more.
                if self.assumed.contains_key(uid) || !self.telling.may_pod_be_due(uid) {
                    continue;
                }
                let message: &String = message
                    .get_or_insert_with(|| sentence::whole(waiting, &scene.troubles, spread::story(scene, &waiting.gang).as_deref()));
                let Some(conditions) = unscheduled(pod, message, now) else { continue };
                if self.telling.is_pod_due(uid) {
                    writes.push((Arc::clone(pod), conditions));
                }
            }
        }
        self.telling.end();
        for (pod, conditions) in writes {
            let client = self.client.clone();
            self.writes.add(async move {
                let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
                let body = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": {"conditions": conditions}});
                let answer = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
                Done::ToldPod { answer: answer.map(drop).map_err(Error::api("write the status of", describe(&*pod))) }
            });
        }
    }

    /// Writes the sums of pools and queues.
    fn sum_up(&mut self) {
        let now = Timestamp::now();
        let scene = self.view.scene();
        let pools = totals::pools(&self.copies.pools.all(), scene.nodes.values(), now);
        let queues = totals::queues(&self.copies.queues.all(), &self.caches.workloads.all(), &self.waits);
        let client = self.client.clone();
        self.writes.add_sums(async move {
            let (of_pools, of_queues): (Api<Pool>, Api<Queue>) = (Api::all(client.clone()), Api::all(client));
            let (of_pools, of_queues) = (&of_pools, &of_queues);
            futures::stream::iter(pools)
                .for_each_concurrent(SUMS_AT_ONCE, |(pool, new)| async move {
                    if let Err(error) = status::write(of_pools, &*pool, pool.status.as_ref(), &new).await {
                        log(&describe(&*pool), &error);
                    }
                })
                .await;
            futures::stream::iter(queues)
                .for_each_concurrent(SUMS_AT_ONCE, |(queue, new)| async move {
                    if let Err(error) = status::write(of_queues, &*queue, queue.status.as_ref(), &new).await {
                        log(&describe(&*queue), &error);
                    }
                })
                .await;
            Done::Summed
        });
    }
}

/// Makes the first pool and queue, if they are missing.
async fn seed(client: Client) {
    let pool = Pool::new(pool::LOCAL, PoolSpec::of_kind(PoolKind::Local));
    let queue = Queue::new(queue::DEFAULT, QueueSpec::default());
    let pools: Api<Pool> = Api::all(client.clone());
    let queues: Api<Queue> = Api::all(client.clone());
    loop {
        let pool = exists(pools.create(&PostParams::default(), &pool).await);
        let queue = exists(queues.create(&PostParams::default(), &queue).await);
        let Err(error) = pool.and(queue) else { return };
        tracing::warn!(error = chain(&error), "cannot make the first pool and queue; trying again");
        tokio::time::sleep(SEED_RETRY).await;
    }
}

/// What a scheduler before this one kept.
async fn remember(client: Client) -> Past {
    loop {
        match past::read(client.clone(), Timestamp::now().as_millisecond()).await {
            Ok(past) => return past,
            Err(error) => tracing::warn!(error = chain(&error), "cannot read what was used before; trying again"),
        }
        tokio::time::sleep(SEED_RETRY).await;
    }
}

/// Gangs for which others were being stopped when this began, as their Workloads say.
fn claims_told(workloads: &[Arc<Workload>]) -> HashSet<String> {
    let waits = |workload: &&Arc<Workload>| {
        let waiting = workload.status.as_ref().and_then(|status| status.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason == reason::WAITING_FOR_EVICTIONS)
    };
    let name = |workload: &Arc<Workload>| format!("{}/{}", workload.namespace().unwrap_or_default(), workload.name_any());
    workloads.iter().filter(waits).map(name).collect()
}

/// A write that failed is tried in the next round; a conflict is no news.
fn log(object: &str, error: &Error) {
    match error {
        Error::Conflict { .. } => tracing::debug!(object, "changed meanwhile; deciding again"),
        Error::Api { source: kube::Error::Api(status), .. } if status.is_not_found() => tracing::debug!(object, "is gone"),
        _ => tracing::warn!(object, error = chain(error), "cannot tell what the scheduler decided; trying again"),
    }
}

fn exists<K>(answer: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

async fn bind_pod(client: Client, pod: &Pod, node: &str, cards: Option<String>) -> Result<(), kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let binding = Binding {
        // With the uid, a namesake made in the meantime is not bound by mistake.
        metadata: ObjectMeta {
            name: Some(pod.name_any()),
            namespace: Some(namespace),
            uid: pod.metadata.uid.clone(),
            // Those of a binding become the pod's, in the same write as its node.
            annotations: cards.map(|cards| [(labels::CARDS.to_owned(), cards)].into()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let answer: Result<Status, _> = api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    answer.map(drop)
}

async fn tell_workload(client: Client, workload: &Workload, shown: Option<Waiting>, now: Option<Waiting>) -> Result<(), Error> {
    let json =
        |waiting: Option<Waiting>| serde_json::to_value(waiting).map_err(|source| Error::Json { object: describe(workload), source });
    let Some(patch) = status::merge_patch(&json(shown)?, &json(now)?) else { return Ok(()) };
    let api: Api<Workload> = Api::namespaced(client, &workload.namespace().unwrap_or_default());
    let body = json!({"metadata": {"resourceVersion": workload.resource_version()}, "status": {"waiting": patch}});
    let answer = api.patch_status(&workload.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
    answer.map(drop).map_err(Error::api("write the status of", describe(workload)))
}

/// The pod's conditions with PodScheduled False for that reason; `None` if they say so already.
fn unscheduled(pod: &Pod, message: &str, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let found = conditions.iter().position(|condition| condition.type_ == "PodScheduled");
    let mut since = Time(now);
    if let Some(place) = found {
        let old = conditions.remove(place);
        if old.status == "False" {
            if old.message.as_deref() == Some(message) {
                return None;
            }
            since = old.last_transition_time.unwrap_or(since);
        }
    }
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since),
        ..PodCondition::default()
    });
    Some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_once_why_they_wait() {
        let pod = Pod::default();
        let now = Timestamp::from_second(100).expect("in range");
        let conditions = unscheduled(&pod, "no room", now).expect("news");
        let status = k8s_openapi::api::core::v1::PodStatus { conditions: Some(conditions), ..Default::default() };
        let pod = Pod { status: Some(status), ..pod };
        let later = Timestamp::from_second(200).expect("in range");
        assert!(unscheduled(&pod, "no room", later).is_none());
        let conditions = unscheduled(&pod, "no node", later).expect("news");
        assert_eq!(conditions[0].last_transition_time, Some(Time(now)));
    }
}
