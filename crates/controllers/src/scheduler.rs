//! The scheduler's hands: makes a snapshot of what the API shows, asks the pure scheduler for
//! a plan, binds pods and tells everyone who waits why.
//!
//! A round runs shortly after something changed and, anyway, once per sweep. Binds that the
//! caches do not show yet are remembered, so that no room is given away twice.

mod affinity;
mod cards;
mod eviction;
mod keeper;
mod rules;
mod run_times;
mod sentence;
mod snapshot;
mod suggestion;
mod telling;
mod totals;

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
use fermion_scheduler::{self as plan, Plan, Wait};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use self::cards::Catalogue;
use self::keeper::Keeper;
use self::rules::Ruling;
pub(crate) use self::snapshot::is_ready;
use self::snapshot::{Assumed, Scene, Sight};
use self::telling::Telling;
use crate::cache::{Cache, Cached};
use crate::error::{Error, chain, describe};
use crate::events::Recorder;
use crate::{Caches, Options, Shutdown, status};

/// How long changes are gathered before a round.
const GATHER: Duration = Duration::from_millis(5);
/// How many requests of a round are under way at the same time: they share transactions of the store.
const REQUESTS_AT_ONCE: usize = 128;
/// How long a bind is remembered that the cache does not show.
const ASSUMED_FOR: Duration = Duration::from_secs(30);
/// How often the sums of pools and queues are written at most.
const SUMS_INTERVAL: Duration = Duration::from_secs(1);
/// Pods of a new Workload are made one after the other; that some are missing is worth a word
/// only when it lasts.
const MISSING_TOLD_AFTER: Duration = Duration::from_secs(2);
/// Wait before the first objects are made again when the API is not ready.
const SEED_RETRY: Duration = Duration::from_secs(1);

struct Runner {
    client: Client,
    caches: Caches,
    nodes: Cache<Node>,
    queues: Cache<Queue>,
    pools: Cache<Pool>,
    ruling: RulingCaches,
    recorder: Recorder,
    /// Node, cards and time of binds that were sent, by uid of the pod.
    assumed: HashMap<String, (Assumed, Instant)>,
    /// When pods were told to stop for others, by uid.
    evicted: HashMap<String, Instant>,
    /// Gangs for which others are being stopped; `None` before the first round, when it is read
    /// from what Workloads say.
    claims: Option<HashSet<String>>,
    /// Plans, and keeps what rounds hand on to each other.
    keeper: Keeper,
    /// What was told to whom, and when the next words are due.
    telling: Telling,
    /// Since when members of a gang are missing, by gang.
    missing: HashMap<String, Instant>,
    /// When sums were last written, and whether there was something to sum up since.
    summed: Option<Instant>,
    sums_due: bool,
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

    fn signals(&self) -> [futures::stream::BoxStream<'static, ()>; 7] {
        [
            signals(&self.policies),
            signals(&self.quotas),
            signals(&self.resource_policies),
            signals(&self.tickets),
            signals(&self.windows),
            signals(&self.users),
            signals(&self.namespaces),
        ]
    }
}

/// Runs rounds until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let queues: Cache<Queue> = Cache::new(|_| None);
    let pools: Cache<Pool> = Cache::new(|_| None);
    let ruling = RulingCaches::new();
    let watches = futures::future::join3(
        queues.clone().run(client.clone(), shutdown.clone()),
        pools.clone().run(client.clone(), shutdown.clone()),
        ruling.clone().run(client.clone(), shutdown.clone()),
    );
    let runner = Runner {
        recorder: Recorder::new(client.clone(), "scheduler"),
        client,
        caches,
        nodes,
        queues,
        pools,
        ruling,
        assumed: HashMap::new(),
        evicted: HashMap::new(),
        claims: None,
        keeper: Keeper::new(options.counts.clone()),
        telling: Telling::default(),
        missing: HashMap::new(),
        summed: None,
        sums_due: false,
    };
    futures::future::join(Box::pin(watches), Box::pin(runner.rounds(options.sweep, shutdown))).await;
}

/// A stream of nothing but the fact that something changed.
fn signals<K: Cached>(cache: &Cache<K>) -> futures::stream::BoxStream<'static, ()> {
    cache.changes().map(|_| ()).boxed()
}

impl Runner {
    async fn rounds(mut self, sweep: Duration, shutdown: Shutdown) {
        let own = [
            signals(&self.caches.pods),
            signals(&self.caches.workloads),
            signals(&self.caches.models),
            signals(&self.nodes),
            signals(&self.queues),
            signals(&self.pools),
        ];
        let mut changes = futures::stream::select_all(own.into_iter().chain(self.ruling.signals()));
        let filled = async {
            self.seed().await;
            let all = (self.nodes.filled(), self.queues.filled(), self.pools.filled(), self.ruling.filled());
            futures::future::join4(all.0, all.1, all.2, all.3).await
        };
        tokio::select! {
            () = shutdown.requested() => return,
            (nodes, queues, pools, ruling) = filled => {
                if let Err(error) = nodes.and(queues).and(pools).and(ruling) {
                    tracing::error!(error = chain(&error), "the scheduler cannot start");
                    return;
                }
            }
        }
        while !shutdown.is_requested() {
            self.round().await;
            let wait = if self.sums_due { SUMS_INTERVAL.min(sweep) } else { sweep };
            let words_due = self.telling.due_at().map_or(sweep, |at| at.saturating_duration_since(Instant::now()));
            let wait = wait.min(words_due.max(GATHER));
            tokio::select! {
                () = shutdown.requested() => return,
                _ = changes.next() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(Some(())) = changes.next().now_or_never() {}
        }
    }

    /// Makes the first pool and queue, if they are missing.
    async fn seed(&self) {
        let pool = Pool::new(pool::LOCAL, PoolSpec::of_kind(PoolKind::Local));
        let queue = Queue::new(queue::DEFAULT, QueueSpec::default());
        let pools: Api<Pool> = Api::all(self.client.clone());
        let queues: Api<Queue> = Api::all(self.client.clone());
        loop {
            let pool = exists(pools.create(&PostParams::default(), &pool).await);
            let queue = exists(queues.create(&PostParams::default(), &queue).await);
            let Err(error) = pool.and(queue) else { return };
            tracing::warn!(error = chain(&error), "cannot make the first pool and queue; trying again");
            tokio::time::sleep(SEED_RETRY).await;
        }
    }

    async fn round(&mut self) {
        let pods = self.caches.pods.all();
        let workloads = self.caches.workloads.all();
        self.forget_binds(&pods);
        let assumed = self.assumed.iter().map(|(uid, (assumed, _))| (uid.clone(), assumed.clone())).collect();
        let catalogue = Catalogue::new(&self.caches.models.all());
        let (queues, nodes) = (self.queues.all(), self.nodes.all());
        let pools = self.pools.all();
        let levels = pools.iter().map(|pool| (pool.name_any(), pool.spec.topology_levels.clone())).collect();
        let evicted: HashSet<String> = self.evicted.keys().cloned().collect();
        let claims = self.claims.take().unwrap_or_else(|| claims_told(&workloads));
        let rules = &self.ruling;
        let (policies, quotas, resource_policies) = (rules.policies.all(), rules.quotas.all(), rules.resource_policies.all());
        let (tickets, windows, users, namespaces) = (rules.tickets.all(), rules.windows.all(), rules.users.all(), rules.namespaces.all());
        let ruling = Ruling {
            policies: &policies,
            pools: &pools,
            quotas: &quotas,
            resource_policies: &resource_policies,
            tickets: &tickets,
            windows: &windows,
            users: &users,
            namespaces: &namespaces,
        };
        let sight = Sight {
            queues: &queues,
            nodes: &nodes,
            pods: &pods,
            workloads: &workloads,
            assumed: &assumed,
            catalogue: &catalogue,
            evicted: &evicted,
            claims: &claims,
            ruling: &ruling,
            now: Timestamp::now(),
            levels: &levels,
        };
        let scene = sight.scene();
        let mut plan = self.keeper.plan(&scene.snapshot);
        if !plan.binds.is_empty()
            && let Some(around) = sight.neighbours()
        {
            affinity::together(&scene, around, &mut plan);
        }
        let claims = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. }));
        self.claims = Some(claims.map(|waiting| waiting.gang.clone()).collect());
        // Binds count on what is stopped: without that they could take somebody beyond a limit.
        if self.evict(&scene, &plan, &workloads).await {
            self.bind(&scene, &plan, &catalogue).await;
        }
        self.tell_workloads(&scene, &plan, &workloads).await;
        self.tell_pods(&scene, &plan).await;
        self.sums_due = self.summed.is_some_and(|at| at.elapsed() < SUMS_INTERVAL);
        if !self.sums_due {
            self.sum_up(&scene, &plan, &workloads, &catalogue).await;
            self.summed = Some(Instant::now());
        }
    }

    /// Drops binds that the cache shows, whose pods are gone, or that are too old to matter; the
    /// same for pods that were told to stop.
    fn forget_binds(&mut self, pods: &[Arc<Pod>]) {
        if !self.evicted.is_empty() {
            let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let staying: HashSet<&str> = staying.filter_map(|pod| pod.metadata.uid.as_deref()).collect();
            self.evicted.retain(|uid, at| staying.contains(uid.as_str()) && at.elapsed() < ASSUMED_FOR);
        }
        if self.assumed.is_empty() {
            return;
        }
        let unbound = |pod: &&Arc<Pod>| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
        let waiting: std::collections::HashSet<&str> = pods.iter().filter(unbound).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.assumed.retain(|uid, (_, at)| waiting.contains(uid.as_str()) && at.elapsed() < ASSUMED_FOR);
    }

    async fn bind(&mut self, scene: &Scene, plan: &Plan, catalogue: &Catalogue) {
        let given = |bind: &plan::Bind| Assumed { node: bind.node.clone(), cards: bind.cards.clone() };
        let binds = plan.binds.iter().filter_map(|bind| Some((Arc::clone(scene.members.get(&bind.member)?), given(bind))));
        let binds: Vec<_> = binds.collect();
        for (pod, given) in &binds {
            if let Some(uid) = &pod.metadata.uid {
                self.assumed.insert(uid.clone(), (given.clone(), Instant::now()));
            }
        }
        let client = self.client.clone();
        let send = |(pod, given): (Arc<Pod>, Assumed)| {
            let client = client.clone();
            let cards = (!given.cards.is_empty()).then(|| cards::told(&given.cards, catalogue.asked(&pod).1.as_ref())).flatten();
            async move {
                let answer = bind(client, &pod, &given.node, cards).await;
                (pod, answer)
            }
        };
        let mut answers = futures::stream::iter(binds).map(send).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((pod, answer)) = answers.next().await {
            let Err(error) = answer else { continue };
            if let Some(uid) = &pod.metadata.uid {
                self.assumed.remove(uid);
            }
            match &error {
                // Gone, or bound by then: the cache will say.
                kube::Error::Api(status) if status.is_not_found() || status.is_conflict() => {}
                _ => tracing::warn!(pod = describe(&*pod), error = chain(&error), "cannot bind a pod; trying again"),
            }
        }
    }

    /// Writes why each Workload waits, and takes it away from those that no longer do.
    async fn tell_workloads(&mut self, scene: &Scene, plan: &Plan, workloads: &[Arc<Workload>]) {
        let missing = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::MembersMissing { .. }));
        let since = |gang: &String| self.missing.get(gang).copied().unwrap_or_else(Instant::now);
        self.missing = missing.map(|waiting| (waiting.gang.clone(), since(&waiting.gang))).collect();
        let passing = |gang: &str| self.missing.get(gang).is_some_and(|since| since.elapsed() < MISSING_TOLD_AFTER);
        let lasting = plan.waits.iter().filter(|waiting| !passing(&waiting.gang));
        let waiting: HashMap<&str, &plan::Waiting> = lasting.map(|waiting| (waiting.gang.as_str(), waiting)).collect();
        let mut writes = Vec::new();
        self.telling.begin(Instant::now(), plan.waits.len());
        for workload in workloads {
            let Some(uid) = workload.metadata.uid.as_deref() else { continue };
            let words =
                scene.gangs.get(uid).and_then(|id| waiting.get(id.as_str())).map(|waiting| sentence::waiting(waiting, &scene.troubles));
            let shown = workload.status.as_ref().and_then(|status| status.waiting.as_ref());
            if self.telling.is_due(uid, shown, words.as_ref()) {
                writes.push((Arc::clone(workload), shown.cloned(), words));
            }
        }
        let client = self.client.clone();
        let send = |(workload, shown, now): (Arc<Workload>, Option<Waiting>, Option<Waiting>)| {
            let client = client.clone();
            async move {
                let answer = tell_workload(client, &workload, shown, now).await;
                (workload, answer)
            }
        };
        let mut answers = futures::stream::iter(writes).map(send).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((workload, answer)) = answers.next().await {
            let Err(error) = answer else { continue };
            if let Some(uid) = &workload.metadata.uid {
                self.telling.failed(uid);
            }
            log(&describe(&*workload), &error);
        }
    }

    /// Says in the pods of waiting gangs that they have no place, as Kubernetes does.
    async fn tell_pods(&mut self, scene: &Scene, plan: &Plan) {
        let now = Timestamp::now();
        let bound: HashSet<&str> = plan.binds.iter().map(|bind| bind.member.as_str()).collect();
        let gangs: HashMap<&str, &plan::Gang> = scene.snapshot.gangs.iter().map(|gang| (gang.id.as_str(), gang)).collect();
        let mut writes = Vec::new();
        for waiting in &plan.waits {
            // Passes by itself, and at once.
            if matches!(waiting.wait, Wait::MembersMissing { .. }) {
                continue;
            }
            let message = sentence::sentence(&waiting.wait, &waiting.queue, &scene.troubles);
            let members = gangs.get(waiting.gang.as_str()).into_iter().flat_map(|gang| &gang.sets).flat_map(|set| &set.pending);
            for member in members.filter(|member| !bound.contains(member.id.as_str())) {
                let Some(pod) = scene.members.get(&member.id) else { continue };
                let Some(conditions) = unscheduled(pod, &message, now) else { continue };
                if pod.metadata.uid.as_deref().is_some_and(|uid| self.telling.is_pod_due(uid)) {
                    writes.push((Arc::clone(pod), conditions));
                }
            }
        }
        self.telling.end();
        let client = self.client.clone();
        let send = |(pod, conditions): (Arc<Pod>, Vec<PodCondition>)| {
            let client = client.clone();
            async move {
                let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
                let body = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": {"conditions": conditions}});
                let answer = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
                answer.map(drop).map_err(Error::api("write the status of", describe(&*pod)))
            }
        };
        let mut answers = futures::stream::iter(writes).map(send).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            if let Err(error) = answer {
                log("a pod that waits", &error);
            }
        }
    }

    /// Writes the sums of pools and queues.
    async fn sum_up(&self, scene: &Scene, plan: &Plan, workloads: &[Arc<Workload>], catalogue: &Catalogue) {
        let now = Timestamp::now();
        // What was just bound counts as used.
        let mut nodes = scene.snapshot.nodes.clone();
        let places: HashMap<&str, usize> =
            scene.snapshot.nodes.iter().enumerate().map(|(place, node)| (node.name.as_str(), place)).collect();
        for bind in &plan.binds {
            let pod = scene.members.get(&bind.member);
            if let (Some(pod), Some(place)) = (pod, places.get(bind.node.as_str())) {
                fermion_api::pod::add(&mut nodes[*place].used, &catalogue.asked(pod).0);
            }
        }
        let api: Api<Pool> = Api::all(self.client.clone());
        for pool in self.pools.all() {
            let new = totals::pool(&pool, &nodes, now);
            if let Err(error) = status::write(&api, &*pool, pool.status.as_ref(), &new).await {
                log(&describe(&*pool), &error);
            }
        }
        let api: Api<Queue> = Api::all(self.client.clone());
        for queue in self.queues.all() {
            let new = totals::queue(&queue, workloads, &plan.waits);
            if let Err(error) = status::write(&api, &*queue, queue.status.as_ref(), &new).await {
                log(&describe(&*queue), &error);
            }
        }
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

async fn bind(client: Client, pod: &Pod, node: &str, cards: Option<String>) -> Result<(), kube::Error> {
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
