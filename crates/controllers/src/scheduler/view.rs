//! What the scheduler plans on, kept up to date by what changed.
//!
//! A [`Scene`] from nothing reads every pod, Workload and node. Here a round reads those whose names the
//! caches collected since the last one, and what depends on them, so that it costs what changed and not
//! what there is. What seldom changes and reaches everything (levels of pools, owners, models of cards),
//! and pods that demand something of pods around them, have all laid out anew.
//!
//! Invariant: the scene is the one that [`Sight::scene`] makes from nothing of the same objects at the
//! same time (held by a property test, and looked at now and then while it runs).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::compute::{Pool, Queue, Quota, ResourcePolicy, ResourceTicket, SchedulingPolicy, TimeWindow, queue};
use fermion_api::iam::User;
use fermion_scheduler::{self as plan, Basis};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::ResourceExt as _;
use tokio::sync::Notify;

use super::RulingCaches;
use super::affinity;
use super::cards::Catalogue;
use super::moving::Moves;
use super::rules::{Owners, Ruling};
use super::run_times::RunTimes;
use super::snapshot::{self, Assumed, Held, Scene, Sight};
use crate::Caches;
use crate::cache::{Cache, Changed, Key, key};
use crate::workload::workload_of;

/// Rules are made anew this often, as tickets, policies and hours begin and end; in milliseconds.
const RULES_INTERVAL_MS: i64 = 1_000;
/// Rounds from one look at all there is to the next.
const CHECK_ROUNDS: u32 = 64;
/// With more pods, Workloads and nodes than this a look at all of them would hold up the rounds.
const CHECK_SIZE_MAX: usize = 4_096;

/// The copies of objects that scenes are made of.
#[derive(Clone)]
pub(crate) struct Copies {
    pub(crate) pods: Cache<Pod>,
    pub(crate) workloads: Cache<Workload>,
    pub(super) nodes: Cache<Node>,
    pub(super) queues: Cache<Queue>,
    pub(super) pools: Cache<Pool>,
    pub(super) models: Cache<fermion_api::compute::AcceleratorModel>,
    pub(super) ruling: RulingCaches,
}

impl Copies {
    pub(super) fn new(caches: &Caches, nodes: Cache<Node>) -> Self {
        Self {
            pods: caches.pods.clone(),
            workloads: caches.workloads.clone(),
            nodes,
            queues: Cache::new(|_| None),
            pools: Cache::new(|_| None),
            models: caches.models.clone(),
            ruling: RulingCaches::new(),
        }
    }
}

/// What scheduler itself knows beside the objects.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// What pods were just given, by uid.
    pub assumed: &'a HashMap<String, Assumed>,
    /// Uids of pods that were told to stop.
    pub evicted: &'a HashSet<String>,
    /// Gangs for which places are kept: others are being stopped for them, or they were moved.
    pub claims: &'a HashSet<String>,
    /// How much was moved of late in each pool.
    pub moves: &'a Moves,
    pub now: Timestamp,
}

/// What is new in a scene.
#[derive(Debug, Default, PartialEq)]
pub(super) enum News {
    /// Everything may be.
    All,
    #[default]
    Nothing,
    /// These, by id and name; `heads` are pools, queues, rules and models.
    Some { gangs: BTreeSet<String>, nodes: BTreeSet<String>, heads: bool },
}

/// Names of what changed.
struct Collected {
    pods: Changed,
    workloads: Changed,
    nodes: Changed,
    queues: Changed,
    pools: Changed,
    models: Changed,
    /// Of kinds that rule.
    ruling: Vec<Changed>,
}

impl Collected {
    fn of(copies: &Copies, wake: &Arc<Notify>) -> Self {
        let ruling = &copies.ruling;
        Self {
            pods: copies.pods.collect(wake),
            workloads: copies.workloads.collect(wake),
            nodes: copies.nodes.collect(wake),
            queues: copies.queues.collect(wake),
            pools: copies.pools.collect(wake),
            models: copies.models.collect(wake),
            ruling: vec![
                ruling.policies.collect(wake),
                ruling.quotas.collect(wake),
                ruling.resource_policies.collect(wake),
                ruling.tickets.collect(wake),
                ruling.windows.collect(wake),
                ruling.users.collect(wake),
                ruling.namespaces.collect(wake),
            ],
        }
    }
}

/// What rules, as it was when it last changed.
#[derive(Default)]
pub(super) struct Ruled {
    queues: Vec<Arc<Queue>>,
    pools: Vec<Arc<Pool>>,
    policies: Vec<Arc<SchedulingPolicy>>,
    quotas: Vec<Arc<Quota>>,
    resource_policies: Vec<Arc<ResourcePolicy>>,
    tickets: Vec<Arc<ResourceTicket>>,
    windows: Vec<Arc<TimeWindow>>,
    users: Vec<Arc<User>>,
    namespaces: Vec<Arc<Namespace>>,
    reach: Reach,
    catalogue: Catalogue,
}

/// What of it reaches all gangs and nodes.
#[derive(Default, PartialEq)]
struct Reach {
    owners: Owners,
    levels: HashMap<String, Vec<String>>,
    moving_pools: BTreeSet<String>,
    pool_of_queue: BTreeMap<String, String>,
    group_of_queue: BTreeMap<String, Option<String>>,
    bare_pods_queue: String,
}

impl Ruled {
    pub(super) fn of(copies: &Copies) -> Self {
        let ruling = &copies.ruling;
        let mut all = Self {
            queues: copies.queues.all(),
            pools: copies.pools.all(),
            policies: ruling.policies.all(),
            quotas: ruling.quotas.all(),
            resource_policies: ruling.resource_policies.all(),
            tickets: ruling.tickets.all(),
            windows: ruling.windows.all(),
            users: ruling.users.all(),
            namespaces: ruling.namespaces.all(),
            reach: Reach::default(),
            catalogue: Catalogue::new(&copies.models.all()),
        };
        all.reach = Reach {
            owners: all.ruling().owners(),
            levels: all.pools.iter().map(|pool| (pool.name_any(), pool.spec.topology_levels.clone())).collect(),
            moving_pools: all.ruling().moving_pools(),
            pool_of_queue: all.queues.iter().map(|queue| (queue.name_any(), queue.spec.pool.clone())).collect(),
            group_of_queue: all.queues.iter().map(|queue| (queue.name_any(), queue.spec.resource_group.clone())).collect(),
            bare_pods_queue: queue::default_of(all.queues.iter().map(AsRef::as_ref)),
        };
        all
    }

    /// These objects, seen by these rules.
    pub(super) fn sight<'s>(
        &'s self,
        own: Own<'s>,
        run_times: &'s RunTimes,
        pods: &'s [Arc<Pod>],
        workloads: &'s [Arc<Workload>],
        nodes: &'s [Arc<Node>],
    ) -> Sight<'s> {
        Sight {
            queues: &self.queues,
            nodes,
            pods,
            workloads,
            assumed: own.assumed,
            catalogue: &self.catalogue,
            evicted: own.evicted,
            claims: own.claims,
            moves: own.moves,
            moving_pools: &self.reach.moving_pools,
            ruling: self.ruling(),
            owners: &self.reach.owners,
            run_times,
            now: own.now,
            levels: &self.reach.levels,
        }
    }

    fn ruling(&self) -> Ruling<'_> {
        Ruling {
            policies: &self.policies,
            pools: &self.pools,
            quotas: &self.quotas,
            resource_policies: &self.resource_policies,
            tickets: &self.tickets,
            windows: &self.windows,
            users: &self.users,
            namespaces: &self.namespaces,
        }
    }
}

/// What is known of a pod.
struct Looked {
    /// The Workload that its label names.
    workload: Option<String>,
    held: Option<(String, Arc<Held>)>,
}

/// A scene, and what is needed to keep it.
pub(super) struct View {
    copies: Copies,
    collected: Collected,
    ruled: Ruled,
    scene: Scene,
    /// False until the first look, and while what changed reaches everything.
    is_laid_out: bool,
    run_times: RunTimes,
    pods: HashMap<Key, Looked>,
    /// What pods hold, by node.
    on_node: HashMap<String, BTreeMap<Key, Arc<Held>>>,
    /// Members of gangs that have a place.
    placed: HashSet<String>,
    /// Pods that demand something of those around them.
    demanding: BTreeSet<Key>,
    /// Workloads whose status says that they wait.
    showing: BTreeSet<Key>,
    /// How many gangs somebody has in a project.
    people: BTreeMap<(String, String), (plan::Whom, usize)>,
    /// Workloads that look otherwise as time goes on.
    again: BTreeSet<Key>,
    /// When work will have run as long as was learned.
    learned: BTreeSet<(i64, Key)>,
    /// Pods of which the scheduler itself knows something new.
    touched: BTreeSet<Key>,
    claims: HashSet<String>,
    moves: Moves,
    rules_at: i64,
    people_changed: bool,
    rounds: u32,
}

impl View {
    /// One that has seen nothing yet, and wakes `wake` when there is something to see.
    pub(super) fn new(copies: Copies, wake: &Arc<Notify>) -> Self {
        Self {
            collected: Collected::of(&copies, wake),
            copies,
            ruled: Ruled::default(),
            scene: Scene::default(),
            is_laid_out: false,
            run_times: RunTimes::default(),
            pods: HashMap::new(),
            on_node: HashMap::new(),
            placed: HashSet::new(),
            demanding: BTreeSet::new(),
            showing: BTreeSet::new(),
            people: BTreeMap::new(),
            again: BTreeSet::new(),
            learned: BTreeSet::new(),
            touched: BTreeSet::new(),
            claims: HashSet::new(),
            moves: Moves::new(),
            rules_at: i64::MIN,
            people_changed: false,
            rounds: 0,
        }
    }

    pub(super) fn scene(&self) -> &Scene {
        &self.scene
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.ruled.catalogue
    }

    /// Workloads whose status says that they wait.
    pub(super) fn showing(&self) -> impl Iterator<Item = Arc<Workload>> {
        self.showing.iter().filter_map(|(namespace, name)| self.copies.workloads.get(namespace, name))
    }

    /// Whether some pod demands something of those around it.
    pub(super) fn has_demands(&self) -> bool {
        !self.demanding.is_empty()
    }

    /// Answers with everything there is as the scheduler sees it.
    pub(super) fn with_sight<T>(&self, own: Own<'_>, answer: impl FnOnce(&Sight<'_>) -> T) -> T {
        let (pods, workloads, nodes) = (self.copies.pods.all(), self.copies.workloads.all(), self.copies.nodes.all());
        answer(&self.sight(own, &pods, &workloads, &nodes))
    }

    /// What a look at everything shows, as a controller that has just started would see it.
    fn scene_from_nothing(&self, own: Own<'_>) -> Scene {
        let (pods, workloads, nodes) = (self.copies.pods.all(), self.copies.workloads.all(), self.copies.nodes.all());
        self.sight(own, &pods, &workloads, &nodes).scene()
    }

    fn sight<'s>(&'s self, own: Own<'s>, pods: &'s [Arc<Pod>], workloads: &'s [Arc<Workload>], nodes: &'s [Arc<Node>]) -> Sight<'s> {
        self.ruled.sight(own, &self.run_times, pods, workloads, nodes)
    }

    /// Looks at what changed since the last time.
    pub(super) fn update(&mut self, own: Own<'_>) -> News {
        let (mut pods, mut workloads, mut nodes) =
            (self.collected.pods.take(), self.collected.workloads.take(), self.collected.nodes.take());
        let heads = self.update_ruled() || *own.moves != self.moves;
        self.moves.clone_from(own.moves);
        for name in &pods {
            let demands = self.copies.pods.get(&name.0, &name.1).is_some_and(|pod| affinity::demands(&pod));
            if demands {
                self.demanding.insert(name.clone())
            } else {
                self.demanding.remove(name)
            };
        }
        for name in std::mem::take(&mut workloads) {
            let workload = self.copies.workloads.get(&name.0, &name.1);
            if workload.as_deref().is_some_and(shows) {
                self.showing.insert(name.clone())
            } else {
                self.showing.remove(&name)
            };
            workloads.extend(self.run_times.note(&name, workload.as_deref()));
            workloads.insert(name);
        }
        pods.append(&mut self.touched);
        for gang in own.claims.symmetric_difference(&self.claims) {
            pods.extend(snapshot::pod_of_gang(gang));
            workloads.extend(snapshot::workload_of_gang(gang).map(|(namespace, name)| (namespace.to_owned(), name.to_owned())));
        }
        if *own.claims != self.claims {
            self.claims.clone_from(own.claims);
        }
        if !self.is_laid_out || !self.demanding.is_empty() {
            self.lay_out(own);
            // Who demands nothing any more leaves nothing behind only if all is looked at once more.
            self.is_laid_out = self.demanding.is_empty();
            return News::All;
        }
        let now = own.now.as_millisecond();
        workloads.append(&mut self.again);
        let over: Vec<_> = self.learned.iter().take_while(|(at, _)| *at <= now).cloned().collect();
        for due in over {
            self.learned.remove(&due);
            workloads.insert(due.1);
        }
        self.scene.now = now;
        let gangs = self.update_gangs(own, pods, workloads, &mut nodes);
        let nodes = self.update_nodes(own, nodes);
        let heads = self.update_rules(own.now, heads) | self.update_models(&nodes);
        let news = News::Some { gangs, nodes, heads };
        self.rounds += 1;
        if self.rounds >= CHECK_ROUNDS && self.pods.len() + self.scene.nodes.len() + self.scene.gangs.len() <= CHECK_SIZE_MAX {
            self.rounds = 0;
            if !self.is_as_from_nothing(own) {
                self.lay_out(own);
                return News::All;
            }
        }
        if news == (News::Some { gangs: BTreeSet::new(), nodes: BTreeSet::new(), heads: false }) { News::Nothing } else { news }
    }

    /// Whether what is kept is what a look at everything shows.
    fn is_as_from_nothing(&mut self, own: Own<'_>) -> bool {
        // Changes that came in meanwhile are for the next round.
        let newer = !self.collected.pods.is_empty() || !self.collected.workloads.is_empty() || !self.collected.nodes.is_empty();
        let whole = self.scene_from_nothing(own);
        let newer = newer || !self.collected.pods.is_empty() || !self.collected.workloads.is_empty() || !self.collected.nodes.is_empty();
        let same = newer || (whole.gangs == self.scene.gangs && whole.nodes == self.scene.nodes && whole.troubles == self.scene.troubles);
        if !same {
            tracing::warn!("what the scheduler kept of nodes and gangs is not what there is; it looks at everything anew");
        }
        same
    }

    /// Looks at what rules, if it changed. Answers whether pools and queues may have.
    fn update_ruled(&mut self) -> bool {
        let taken = [&self.collected.queues, &self.collected.pools, &self.collected.models].into_iter().chain(&self.collected.ruling);
        let changed: Vec<bool> = taken.map(|changed| !changed.take().is_empty()).collect();
        if self.is_laid_out && !changed.contains(&true) {
            return false;
        }
        let models_changed = changed[2];
        let ruled = Ruled::of(&self.copies);
        if models_changed || ruled.reach != self.ruled.reach {
            self.is_laid_out = false;
        }
        self.ruled = ruled;
        self.rules_at = i64::MIN;
        true
    }

    /// The scheduler knows something new of a pod.
    pub(super) fn touch(&mut self, pod: Key) {
        self.touched.insert(pod);
    }

    /// Looks at everything.
    fn lay_out(&mut self, own: Own<'_>) {
        let (pods, workloads, nodes) = (self.copies.pods.all(), self.copies.workloads.all(), self.copies.nodes.all());
        self.run_times = RunTimes::of_all(workloads.iter().map(AsRef::as_ref));
        let sight = self.sight(own, &pods, &workloads, &nodes);
        let scene = sight.scene();
        let looked: Vec<_> = pods.iter().map(|pod| (key(&**pod), looked(&sight, pod))).collect();
        (self.pods, self.on_node, self.placed, self.people) = Default::default();
        (self.again, self.learned) = Default::default();
        for (name, looked) in looked {
            if let Some((node, held)) = &looked.held {
                self.on_node.entry(node.clone()).or_default().insert(name.clone(), Arc::clone(held));
            }
            self.pods.insert(name, looked);
        }
        let members: HashMap<Key, Vec<Arc<Pod>>> = grouped(&pods);
        for gang in scene.gangs.values() {
            self.count(gang, true);
        }
        for workload in &workloads {
            let members = members.get(&key(&**workload)).map(Vec::as_slice).unwrap_or_default();
            self.plan_again(own, workload, scene.gangs.get(&snapshot::id(&**workload)).map(AsRef::as_ref), members);
        }
        self.showing = workloads.iter().filter(|workload| shows(workload)).map(|workload| key(&**workload)).collect();
        self.demanding = pods.iter().filter(|pod| affinity::demands(pod)).map(|pod| key(&**pod)).collect();
        self.scene = scene;
        self.rules_at = own.now.as_millisecond();
        self.people_changed = false;
        self.is_laid_out = true;
    }

    /// Counts a gang's people and places in, or out.
    fn count(&mut self, gang: &plan::Gang, added: bool) {
        let person = (gang.owner.user.clone(), gang.owner.project.clone());
        if added {
            self.placed.extend(gang.placed.iter().map(|member| member.id.clone()));
            let (_, count) = self.people.entry(person).or_insert_with(|| {
                self.people_changed = true;
                (gang.owner.clone(), 0)
            });
            *count += 1;
            return;
        }
        for member in &gang.placed {
            self.placed.remove(&member.id);
        }
        if let Some((_, count)) = self.people.get_mut(&person) {
            *count -= 1;
            if *count == 0 {
                self.people.remove(&person);
                self.people_changed = true;
            }
        }
    }

    /// Remembers a Workload whose gang looks otherwise as time goes on, though nothing changes.
    fn plan_again(&mut self, own: Own<'_>, workload: &Workload, gang: Option<&plan::Gang>, members: &[Arc<Pod>]) {
        let Some(gang) = gang.filter(|gang| !gang.placed.is_empty()) else { return };
        let told = |pod: &Arc<Pod>| {
            let told = pod.metadata.uid.as_ref().is_some_and(|uid| own.evicted.contains(uid));
            told && pod.metadata.deletion_timestamp.is_none()
        };
        let is_admitted = workload.status.as_ref().is_some_and(|status| status.admitted_at.is_some());
        if !is_admitted || members.iter().any(told) {
            self.again.insert(key(workload));
        } else if let (Basis::Learned, Some(run_ms)) = (gang.run_basis, gang.run_ms) {
            self.learned.insert((gang.started_at.saturating_add(run_ms), key(workload)));
        }
    }

    /// Looks at these pods and Workloads, and what depends on them. Answers which gangs are new, other
    /// or gone, and adds the nodes on which something is.
    fn update_gangs(
        &mut self,
        own: Own<'_>,
        pods: BTreeSet<Key>,
        mut workloads: BTreeSet<Key>,
        nodes: &mut BTreeSet<Key>,
    ) -> BTreeSet<String> {
        let mut seen: Vec<Arc<Pod>> = Vec::new();
        let mut before: BTreeMap<String, Option<Arc<plan::Gang>>> = BTreeMap::new();
        for name in pods {
            let pod = self.copies.pods.get(&name.0, &name.1);
            let new = pod.as_deref().map(|pod| looked(&self.sight(own, &[], &[], &[]), pod));
            let label = |looked: &Looked| looked.workload.clone().map(|workload| (name.0.clone(), workload));
            let old = self.pods.remove(&name);
            workloads.extend(old.as_ref().and_then(label));
            workloads.extend(new.as_ref().and_then(label));
            let (was, is) = (old.and_then(|looked| looked.held), new.as_ref().and_then(|looked| looked.held.clone()));
            if was != is {
                if let Some((node, _)) = was {
                    nodes.insert((String::new(), node.clone()));
                    if let Some(held) = self.on_node.get_mut(&node) {
                        held.remove(&name);
                        if held.is_empty() {
                            self.on_node.remove(&node);
                        }
                    }
                }
                if let Some((node, held)) = is {
                    nodes.insert((String::new(), node.clone()));
                    self.on_node.entry(node).or_default().insert(name.clone(), held);
                }
            }
            before.insert(snapshot::gang_of_pod(&name.0, &name.1), None);
            if let Some(new) = new {
                if new.workload.is_none() {
                    seen.extend(pod);
                }
                self.pods.insert(name, new);
            }
        }
        let mut these = Vec::new();
        for (namespace, name) in &workloads {
            let members = self.copies.pods.group(namespace, name);
            before.insert(format!("{namespace}/{name}"), None);
            before.extend(members.iter().map(|pod| (snapshot::gang_of_pod(namespace, &pod.name_any()), None)));
            seen.extend(members);
            these.extend(self.copies.workloads.get(namespace, name));
        }
        for (id, gang) in &mut before {
            *gang = self.scene.gangs.remove(id);
        }
        let mut part = Scene { bare_pods_queue: self.ruled.reach.bare_pods_queue.clone(), ..Scene::default() };
        self.sight(own, &seen, &these, &[]).lay_out_gangs(None, &mut part);
        let members = grouped(&seen);
        for workload in &these {
            let members = members.get(&key(&**workload)).map(Vec::as_slice).unwrap_or_default();
            self.plan_again(own, workload, part.gangs.get(&snapshot::id(&**workload)).map(AsRef::as_ref), members);
        }
        let mut changed = BTreeSet::new();
        for (id, old) in before {
            let new = part.gangs.remove(&id);
            let same = old == new;
            for member in old.iter().flat_map(|gang| members_of(gang)) {
                self.scene.members.remove(member);
            }
            if same {
                // As one object it is told apart from another at once.
                self.scene.gangs.extend(old.map(|gang| (id, gang)));
                continue;
            }
            for member in old.iter().chain(&new).flat_map(|gang| &gang.placed).filter(|member| !member.cards.is_empty()) {
                nodes.insert((String::new(), member.node.clone()));
            }
            if let Some(old) = old {
                self.count(&old, false);
            }
            if let Some(new) = new {
                self.count(&new, true);
                self.scene.gangs.insert(id.clone(), new);
            }
            changed.insert(id);
        }
        debug_assert!(part.gangs.is_empty(), "gangs come from what was looked at");
        self.scene.members.append(&mut part.members);
        changed
    }

    /// Looks at these nodes, and what pods hold of them. Answers which of them are new, other or gone.
    fn update_nodes(&mut self, own: Own<'_>, names: BTreeSet<Key>) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (_, name) in names {
            let Some(node) = self.copies.nodes.get("", &name) else {
                self.scene.troubles.remove(&name);
                if self.scene.nodes.remove(&name).is_some() {
                    changed.insert(name);
                }
                continue;
            };
            match snapshot::trouble(&node) {
                Some(trouble) => self.scene.troubles.insert(name.clone(), trouble),
                None => self.scene.troubles.remove(&name),
            };
            let mut on_node: Vec<(&Key, &Arc<Held>)> = self.on_node.get(&name).into_iter().flatten().collect();
            on_node.sort_by_key(|(key, _)| *key);
            let placed = |key: &Key| self.placed.contains(&format!("{}/{}", key.0, key.1));
            let of_nobody = |(key, held): &(&Key, &Arc<Held>)| {
                let cards = if held.cards.is_empty() || placed(key) { Vec::new() } else { held.cards.clone() };
                Held { amounts: held.amounts.clone(), cards }
            };
            let held: Vec<Held> = on_node.iter().map(of_nobody).collect();
            let new = self.sight(own, &[], &[], &[]).node(&node, held.iter());
            if self.scene.nodes.get(&name) != Some(&new) {
                self.scene.nodes.insert(name.clone(), new);
                changed.insert(name);
            }
        }
        changed
    }

    /// Makes rules anew where they may have changed. Answers whether they, pools or queues did.
    fn update_rules(&mut self, now: Timestamp, heads: bool) -> bool {
        let mut changed = false;
        if heads {
            let mut new = Scene::default();
            lay_out_heads(&self.ruled, &self.moves, &mut new);
            changed = new.queues != self.scene.queues || new.pools != self.scene.pools;
            (self.scene.queues, self.scene.pools) = (new.queues, new.pools);
            self.scene.bare_pods_queue = new.bare_pods_queue;
        }
        let at = now.as_millisecond();
        if heads || self.people_changed || at < self.rules_at || at.saturating_sub(self.rules_at) >= RULES_INTERVAL_MS {
            let rules = self.ruled.ruling().rules(self.people.values().map(|(whom, _)| whom), now);
            changed |= rules != self.scene.rules;
            self.scene.rules = rules;
            self.rules_at = at;
            self.people_changed = false;
        }
        changed
    }

    /// Looks at what models of cards nodes have, if nodes changed.
    fn update_models(&mut self, nodes: &BTreeSet<String>) -> bool {
        let has_cards = |name: &String| {
            let node = self.scene.nodes.get(name);
            node.is_none_or(|node| node.allocatable.keys().any(|name| name.starts_with(fermion_api::labels::ACCELERATOR_PREFIX)))
        };
        if !nodes.iter().any(has_cards) {
            return false;
        }
        let models = self.ruled.catalogue.models(self.scene.nodes.values());
        let changed = models != self.scene.models;
        self.scene.models = models;
        changed
    }
}

fn looked(sight: &Sight<'_>, pod: &Pod) -> Looked {
    let held = sight.held(pod).map(|(node, held)| (node.to_owned(), Arc::new(held)));
    Looked { workload: workload_of(pod), held }
}

fn shows(workload: &Workload) -> bool {
    workload.status.as_ref().is_some_and(|status| status.waiting.is_some())
}

/// Pods by the Workload that their label names.
fn grouped(pods: &[Arc<Pod>]) -> HashMap<Key, Vec<Arc<Pod>>> {
    let mut groups: HashMap<Key, Vec<Arc<Pod>>> = HashMap::new();
    for pod in pods {
        if let Some(workload) = workload_of(pod) {
            groups.entry((pod.namespace().unwrap_or_default(), workload)).or_default().push(Arc::clone(pod));
        }
    }
    groups
}

/// Ids of a gang's members that are in a scene.
fn members_of(gang: &plan::Gang) -> impl Iterator<Item = &String> {
    let pending = gang.sets.iter().flat_map(|set| &set.pending).map(|member| &member.id);
    pending.chain(gang.placed.iter().map(|member| &member.id))
}

fn lay_out_heads(ruled: &Ruled, moves: &Moves, scene: &mut Scene) {
    scene.bare_pods_queue.clone_from(&ruled.reach.bare_pods_queue);
    scene.queues = ruled.ruling().queues(&ruled.queues);
    scene.pools = ruled.ruling().pools(moves);
}

#[cfg(test)]
mod tests {
    use fermion_api::labels;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn copies() -> Copies {
        Copies {
            pods: Cache::new(workload_of),
            workloads: Cache::new(|_| None),
            nodes: Cache::new(|_| None),
            queues: Cache::new(|_| None),
            pools: Cache::new(|_| None),
            models: Cache::new(|_| None),
            ruling: RulingCaches::new(),
        }
    }

    /// Something that happens; numbers choose among few names.
    #[derive(Clone, Debug)]
    enum Event {
        Pod { name: u8, of: Option<u8>, owned: bool, node: Option<u8>, phase: u8, leaves: bool, demands: bool, cards: bool },
        NoPod(u8),
        Workload { name: u8, suspended: bool, attempt: i32, phase: u8, queue: u8, user: u8, waits: bool },
        NoWorkload(u8),
        Node { name: u8, ready: bool, closed: bool, pool: u8 },
        NoNode(u8),
        Queue { name: u8, pool: u8, limit: Option<u8> },
        User { name: u8, group: u8 },
        Assume { pod: u8, node: Option<u8> },
        Evict { pod: u8, told: bool },
        Claim { workload: u8, claims: bool },
        Time(u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        let few = || 0_u8..4;
        let bool = any::<bool>;
        let rarely = || prop::bool::weighted(0.03);
        let pod = (0_u8..8, prop::option::of(few()), bool(), prop::option::of(few()), few(), bool(), rarely(), bool());
        let workload = (few(), rarely(), 0_i32..2, few(), few(), few(), bool());
        prop_oneof![
            8 => pod.prop_map(|(name, of, owned, node, phase, leaves, demands, cards)| Event::Pod { name, of, owned, node, phase, leaves, demands, cards }),
            2 => (0_u8..8).prop_map(Event::NoPod),
            6 => workload.prop_map(|(name, suspended, attempt, phase, queue, user, waits)| Event::Workload { name, suspended, attempt, phase, queue, user, waits }),
            1 => few().prop_map(Event::NoWorkload),
            3 => (few(), bool(), rarely(), few()).prop_map(|(name, ready, closed, pool)| Event::Node { name, ready, closed, pool }),
            1 => few().prop_map(Event::NoNode),
            1 => (few(), few(), prop::option::of(few())).prop_map(|(name, pool, limit)| Event::Queue { name, pool, limit }),
            1 => (few(), few()).prop_map(|(name, group)| Event::User { name, group }),
            3 => (0_u8..8, prop::option::of(few())).prop_map(|(pod, node)| Event::Assume { pod, node }),
            2 => (0_u8..8, bool()).prop_map(|(pod, told)| Event::Evict { pod, told }),
            2 => (few(), bool()).prop_map(|(workload, claims)| Event::Claim { workload, claims }),
            2 => (0_u32..40_000).prop_map(Event::Time),
        ]
    }

    fn uid(name: u8) -> String {
        format!("uid{name}")
    }

    /// What the scheduler itself knows.
    struct Knowledge {
        assumed: HashMap<String, Assumed>,
        evicted: HashSet<String>,
        claims: HashSet<String>,
        moves: Moves,
        now: Timestamp,
    }

    impl Knowledge {
        fn own(&self) -> Own<'_> {
            Own { assumed: &self.assumed, evicted: &self.evicted, claims: &self.claims, moves: &self.moves, now: self.now }
        }
    }

    const BEGIN: &str = "2026-06-01T00:00:00Z";

    fn happen(event: Event, copies: &Copies, view: &mut View, known: &mut Knowledge) {
        let key = |name: &str| ("n".to_owned(), name.to_owned());
        match event {
            Event::Pod { name, of, owned, node, phase, leaves, demands, cards } => {
                let labels = of.map(|of| json!({labels::WORKLOAD: format!("w{of}"), labels::ROLE: "worker", labels::INDEX: name.to_string(), labels::ATTEMPT: "1"}));
                let owners = of.filter(|_| owned).map(|of| json!([{"apiVersion": "a", "kind": "Workload", "name": format!("w{of}"), "uid": format!("w{of}"), "controller": true}]));
                let held = json!([{"model": "H100", "index": name}]).to_string();
                let annotations = (cards && node.is_some()).then(|| json!({labels::CARDS: held}));
                let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}, "topologyKey": "kubernetes.io/hostname"}]}});
                let spread = json!([{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": if name < 4 { "DoNotSchedule" } else { "ScheduleAnyway" }, "labelSelector": {}}]);
                let (apart, spreads) = (demands && name % 2 == 0, demands && name % 2 == 1);
                let phase = ["Pending", "Pending", "Running", "Succeeded"][usize::from(phase)];
                copies.pods.apply(object(json!({
                    "metadata": {"namespace": "n", "name": format!("p{name}"), "uid": uid(name), "labels": labels, "ownerReferences": owners, "annotations": annotations,
                        "creationTimestamp": BEGIN, "deletionTimestamp": (leaves && name % 4 == 0).then_some("2026-06-01T00:00:09Z")},
                    "spec": {"nodeName": node.map(|node| format!("node{node}")), "affinity": apart.then_some(affinity), "topologySpreadConstraints": spreads.then_some(spread),
                        "containers": [{"name": "main", "resources": {"requests": {"cpu": format!("{}", 1 + name), "gpu.fermion.dev/H100": "1"}}}]},
                    "status": {"phase": phase},
                })));
            }
            Event::NoPod(name) => {
                if let Some(pod) = copies.pods.get("n", &format!("p{name}")) {
                    copies.pods.remove((*pod).clone());
                }
            }
            Event::Workload { name, suspended, attempt, phase, queue, user, waits } => {
                let over = json!([{"type": "Admitted", "status": "False", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-06-01T00:00:20Z"}]);
                let admitted = (phase > 0).then_some(BEGIN);
                let waiting = waits.then(|| json!({"reason": "X", "message": "", "position": 1}));
                let phase = ["Pending", "Running", "Running", "Succeeded"][usize::from(phase)];
                copies.workloads.apply(object(json!({
                    "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
                    "metadata": {"namespace": "n", "name": format!("w{name}"), "uid": format!("w{name}"), "creationTimestamp": format!("2026-06-01T00:00:{:02}Z", name * 9),
                        "annotations": {labels::CREATED_BY: format!("user{user}")}},
                    "spec": {"suspend": suspended, "attempt": attempt, "queue": format!("q{queue}"),
                        "podSets": [{"name": "worker", "replicas": 6, "minReplicas": 2, "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}}]},
                    "status": {"phase": phase, "admittedAt": admitted, "conditions": over, "waiting": waiting},
                })));
            }
            Event::NoWorkload(name) => {
                if let Some(workload) = copies.workloads.get("n", &format!("w{name}")) {
                    copies.workloads.remove((*workload).clone());
                }
            }
            Event::Node { name, ready, closed, pool } => copies.nodes.apply(object(json!({
                "metadata": {"name": format!("node{name}"), "labels": {labels::POOL: format!("pool{pool}"), "rack": format!("r{}", name % 2)}},
                "spec": {"unschedulable": closed},
                "status": {"allocatable": {"cpu": "64", "gpu.fermion.dev/H100": "8"},
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "message": "the disk is full"}]},
            }))),
            Event::NoNode(name) => {
                if let Some(node) = copies.nodes.get("", &format!("node{name}")) {
                    copies.nodes.remove((*node).clone());
                }
            }
            Event::Queue { name, pool, limit } => {
                let limit = limit.map_or_else(|| json!({}), |limit| json!({"cpu": limit.to_string()}));
                copies.queues.apply(object(json!({
                    "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": format!("q{name}")},
                    "spec": {"pool": format!("pool{pool}"), "limit": limit},
                })));
            }
            Event::User { name, group } => copies.ruling.users.apply(object(json!({
                "apiVersion": "iam.fermion.dev/v1alpha1", "kind": "User", "metadata": {"name": format!("user{name}")},
                "spec": {"groups": [format!("g{group}")]},
            }))),
            Event::Assume { pod, node } => {
                match node {
                    Some(node) => known.assumed.insert(uid(pod), Assumed { node: format!("node{node}"), cards: Vec::new() }),
                    None => known.assumed.remove(&uid(pod)),
                };
                view.touch(key(&format!("p{pod}")));
            }
            Event::Evict { pod, told } => {
                if told { known.evicted.insert(uid(pod)) } else { known.evicted.remove(&uid(pod)) };
                view.touch(key(&format!("p{pod}")));
            }
            Event::Claim { workload, claims } => {
                let id = format!("n/w{workload}");
                if claims { known.claims.insert(id) } else { known.claims.remove(&id) };
            }
            Event::Time(ms) => known.now = known.now.checked_add(jiff::SignedDuration::from_millis(i64::from(ms))).expect("in range"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

        #[test]
        fn what_is_kept_is_what_there_is(rounds in prop::collection::vec(prop::collection::vec(event(), 0..6), 1..24)) {
            let copies = copies();
            let wake = Arc::new(Notify::new());
            let mut view = View::new(copies.clone(), &wake);
            let mut known = Knowledge { assumed: HashMap::new(), evicted: HashSet::new(), claims: HashSet::new(), moves: Moves::new(), now: BEGIN.parse().expect("a time") };
            let mut planner = plan::Planner::new();
            for events in rounds {
                for event in events {
                    happen(event, &copies, &mut view, &mut known);
                }
                known.now = known.now.checked_add(jiff::SignedDuration::from_millis(1)).expect("in range");
                let news = view.update(known.own());
                let whole = view.scene_from_nothing(known.own());
                let kept = view.scene();
                prop_assert_eq!(&kept.gangs, &whole.gangs);
                prop_assert_eq!(&kept.nodes, &whole.nodes);
                prop_assert_eq!(&kept.troubles, &whole.troubles);
                prop_assert_eq!(&kept.spreads, &whole.spreads);
                prop_assert_eq!(&kept.queues, &whole.queues);
                prop_assert_eq!(&kept.pools, &whole.pools);
                prop_assert_eq!(&kept.models, &whole.models);
                prop_assert_eq!(&kept.rules, &whole.rules);
                prop_assert_eq!(kept.members.keys().collect::<Vec<_>>(), whole.members.keys().collect::<Vec<_>>());
                prop_assert!(kept.members.iter().all(|(id, pod)| Arc::ptr_eq(pod, &whole.members[id])), "an old pod is kept");
                let from_nothing = RunTimes::of_all(copies.workloads.all().iter().map(AsRef::as_ref));
                for workload in copies.workloads.all() {
                    prop_assert_eq!(view.run_times.of(&workload, None), from_nothing.of(&workload, None));
                }
                // Told what is new, a planner knows what there is.
                super::super::keeper::show(&mut planner, kept, &news);
                prop_assert_eq!(planner.gangs().cloned().collect::<Vec<_>>(), whole.gangs.values().map(|gang| plan::Gang::clone(gang)).collect::<Vec<_>>());
                prop_assert_eq!(planner.nodes().cloned().collect::<Vec<_>>(), whole.nodes.values().cloned().collect::<Vec<_>>());
            }
        }
    }
}
