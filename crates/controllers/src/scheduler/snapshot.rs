//! From what the API shows to what the scheduler plans on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::compute::queue;
use fermion_api::compute::{Queue, pool};
use fermion_api::{labels, pod, quantity};
use fermion_scheduler as plan;
use fermion_scheduler::device::Model;
use fermion_scheduler::gang::Topology;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeSelectorTerm, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use super::affinity::{self, Neighbours};
use super::cards::{self, Catalogue};
use super::moving::Moves;
use super::rules::{self, Owners, Ruling};
use super::run_times::RunTimes;
use super::spread::{self, Spread, Spreading};
use crate::quarantine;
use crate::workload::{is_member, pods, workload_of};

/// Pods a node takes when it does not say, as the kubelet does.
const PODS_PER_NODE_DEFAULT: plan::Milli = 110_000;
/// What the ids of gangs that are one pod begin with; no namespace does.
const BARE: &str = "pod ";
/// Names by which a pod may ask for this scheduler.
const SCHEDULER_NAMES: [&str; 2] = ["default-scheduler", "fermion"];

/// What the API shows, and binds that it may not show yet.
pub(super) struct Sight<'a> {
    pub queues: &'a [Arc<Queue>],
    pub nodes: &'a [Arc<Node>],
    pub pods: &'a [Arc<Pod>],
    pub workloads: &'a [Arc<Workload>],
    /// Node and cards by uid of a pod.
    pub assumed: &'a HashMap<String, Assumed>,
    pub catalogue: &'a Catalogue,
    /// Pods that were told to stop, by uid, whether it is seen yet or not.
    pub evicted: &'a HashSet<String>,
    /// Gangs for which places are kept: others are being stopped for them, or they were moved.
    pub claims: &'a HashSet<String>,
    /// How much was moved of late in each pool, and where work may be.
    pub moves: &'a Moves,
    pub moving_pools: &'a BTreeSet<String>,
    pub ruling: Ruling<'a>,
    pub owners: &'a Owners,
    pub run_times: &'a RunTimes,
    pub now: Timestamp,
    /// Labels of the levels of each pool, the widest first.
    pub levels: &'a HashMap<String, Vec<String>>,
}

/// What a pod holds of its node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub amounts: plan::Amounts,
    pub cards: Vec<plan::CardHeld>,
}

/// What a pod was just given.
#[derive(Clone, Debug, Default)]
pub(super) struct Assumed {
    pub node: String,
    pub cards: Vec<plan::CardHeld>,
}

/// What the scheduler plans on, and the objects behind its names.
#[derive(Clone, Default)]
pub(super) struct Scene {
    pub pools: Vec<plan::Pool>,
    pub queues: Vec<plan::Queue>,
    pub rules: plan::Rules,
    pub models: Vec<Model>,
    /// By name.
    pub nodes: BTreeMap<String, plan::Node>,
    /// By id.
    pub gangs: BTreeMap<String, Arc<plan::Gang>>,
    pub now: i64,
    /// The queue of pods that belong to no Workload.
    pub bare_pods_queue: String,
    /// Pods by member id.
    pub members: BTreeMap<String, Arc<Pod>>,
    /// What nodes that are not ready say of it, by their names.
    pub troubles: HashMap<String, String>,
    /// What pods that are to be spread may do, by member id.
    pub spreads: BTreeMap<String, Spread>,
}

impl Scene {
    /// What plans are made from.
    pub(super) fn snapshot(&self) -> plan::Snapshot {
        plan::Snapshot {
            pools: self.pools.clone(),
            queues: self.queues.clone(),
            rules: self.rules.clone(),
            models: self.models.clone(),
            nodes: self.nodes.values().cloned().collect(),
            gangs: self.gangs.values().map(|gang| plan::Gang::clone(gang)).collect(),
            now: self.now,
        }
    }

    pub(super) fn queue_of(&self, gang: &str) -> Option<&str> {
        self.gangs.get(gang).map(|gang| gang.queue.as_str())
    }

    pub(super) fn pool_of(&self, gang: &str) -> Option<&str> {
        let queue = self.queue_of(gang)?;
        self.queues.iter().find(|each| each.name == queue).map(|queue| queue.pool.as_str())
    }
}

/// The Workload of a gang's id; `None` for a pod of its own.
pub(super) fn workload_of_gang(id: &str) -> Option<(&str, &str)> {
    id.split_once('/').filter(|(namespace, _)| !namespace.starts_with(BARE))
}

/// Namespace and name of the pod that is this gang.
pub(super) fn pod_of_gang(id: &str) -> Option<(String, String)> {
    let (namespace, name) = id.strip_prefix(BARE)?.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}

/// The gang of a pod that belongs to no Workload.
pub(super) fn gang_of_pod(namespace: &str, name: &str) -> String {
    format!("{BARE}{namespace}/{name}")
}

/// `namespace/name`.
pub(super) fn id(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

impl Sight<'_> {
    /// The node that a pod has or was just given.
    pub(super) fn node_of<'p>(&'p self, pod: &'p Pod) -> Option<&'p str> {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        bound.or_else(|| self.assumed.get(pod.metadata.uid.as_deref()?).map(|assumed| assumed.node.as_str()))
    }

    /// The cards that a pod has or was just given.
    fn cards_of(&self, pod: &Pod) -> Vec<plan::CardHeld> {
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let assumed = pod.metadata.uid.as_deref().and_then(|uid| self.assumed.get(uid));
        match assumed {
            Some(assumed) if !bound => assumed.cards.clone(),
            _ => cards::held_by(pod),
        }
    }

    /// Lays out everything.
    pub(super) fn scene(&self) -> Scene {
        let mut scene = Scene { now: self.now.as_millisecond(), ..Scene::default() };
        scene.bare_pods_queue = queue::default_of(self.queues.iter().map(AsRef::as_ref));
        scene.queues = self.ruling.queues(self.queues);
        scene.pools = self.ruling.pools(self.moves);
        scene.troubles = self.nodes.iter().filter_map(|node| Some((node.name_any(), trouble(node)?))).collect();
        let around = self.neighbours();
        self.lay_out_gangs(around.as_ref(), &mut scene);
        let placed: HashSet<&str> = scene.gangs.values().flat_map(|gang| &gang.placed).map(|member| member.id.as_str()).collect();
        let mut on_node: HashMap<&str, Vec<Held>> = HashMap::new();
        for pod in self.pods {
            if let Some((node, mut held)) = self.held(pod) {
                if placed.contains(id(&**pod).as_str()) {
                    held.cards.clear();
                }
                on_node.entry(node).or_default().push(held);
            }
        }
        for node in self.nodes {
            let name = node.name_any();
            let held = on_node.remove(name.as_str()).unwrap_or_default();
            scene.nodes.insert(name, self.node(node, held.iter()));
        }
        scene.models = self.catalogue.models(scene.nodes.values());
        scene.rules = self.ruling.rules(scene.gangs.values().map(|gang| &gang.owner), self.now);
        scene
    }

    /// Lays out the gangs of these workloads and pods.
    pub(super) fn lay_out_gangs(&self, around: Option<&Neighbours<'_>>, scene: &mut Scene) {
        let mut of_workload: HashMap<(String, String), Vec<&Arc<Pod>>> = HashMap::new();
        for pod in self.pods {
            match workload_of(pod) {
                Some(workload) => of_workload.entry((pod.namespace().unwrap_or_default(), workload)).or_default().push(pod),
                None if self.waits(pod) => self.add_bare(pod, around, scene),
                None => {}
            }
        }
        for workload in self.workloads {
            let key = (workload.namespace().unwrap_or_default(), workload.name_any());
            let mut members = of_workload.remove(&key).unwrap_or_default();
            members.retain(|pod| is_member(pod, workload));
            self.add_workload(workload, &members, around, scene);
        }
        // Pods with the label of a Workload by somebody's hand.
        let owned = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "Workload");
        for pod in of_workload.into_values().flatten().filter(|pod| !owned(pod) && self.waits(pod)) {
            self.add_bare(pod, around, scene);
        }
    }

    /// What a pod holds, and where, unless it has no node or has ended.
    pub(super) fn held<'p>(&'p self, pod: &'p Pod) -> Option<(&'p str, Held)> {
        let node = self.node_of(pod).filter(|_| !pod::ended(pod))?;
        Some((node, Held { amounts: self.catalogue.asked(pod).0, cards: self.cards_of(pod) }))
    }

    /// A node on which pods hold this, cards of gangs left out.
    pub(super) fn node<'h>(&self, node: &Node, held: impl Iterator<Item = &'h Held>) -> plan::Node {
        let (mut used, mut cards) = (plan::Amounts::new(), Vec::new());
        for held in held {
            pod::add(&mut used, &held.amounts);
            cards.extend(held.cards.iter().cloned());
        }
        self::node(node, used, cards, domains(node, self.levels.get(&pool_of(node))))
    }

    /// Whether a pod has yet to be given a node.
    fn waits(&self, pod: &Pod) -> bool {
        let spec = pod.spec.as_ref();
        let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).is_none_or(|name| SCHEDULER_NAMES.contains(&name));
        let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
        ours && !gated && self.node_of(pod).is_none() && !pod::ended(pod) && pod.metadata.deletion_timestamp.is_none()
    }

    /// When a pod that was told to stop will have done so.
    fn leaves_at(&self, pod: &Pod) -> Option<i64> {
        let told = pod.metadata.uid.as_ref().is_some_and(|uid| self.evicted.contains(uid));
        let at = pod.metadata.deletion_timestamp.as_ref().map(|at| at.0.as_millisecond());
        at.or_else(|| told.then(|| self.now.as_millisecond()))
    }

    /// Who stands where, if anybody minds.
    pub(super) fn neighbours(&self) -> Option<Neighbours<'_>> {
        let there = self.pods.iter().filter(|pod| !pod::ended(pod));
        let waiting = self.pods.iter().filter(|pod| spread::depends(pod) && self.waits(pod)).count();
        let spreading = (waiting > 0).then(|| self.spreading(waiting));
        Neighbours::of(self.nodes, self.ruling.namespaces, there.map(|pod| (&**pod, self.node_of(pod))), spreading)
    }

    /// Nodes with what is free on them, and the pods that stay there.
    fn spreading(&self, waiting: usize) -> Spreading<'_> {
        let mut on_node: HashMap<&str, Vec<Held>> = HashMap::new();
        for (node, held) in self.pods.iter().filter_map(|pod| self.held(pod)) {
            on_node.entry(node).or_default().push(held);
        }
        let nodes = self.nodes.iter().map(|node| self.node(node, on_node.get(node.name_any().as_str()).into_iter().flatten())).collect();
        let namespaces = affinity::by_name(self.ruling.namespaces);
        let staying = self.pods.iter().filter(|pod| !pod::ended(pod) && self.leaves_at(pod).is_none());
        Spreading::new(waiting, nodes, namespaces, staying.filter_map(|pod| Some((&**pod, self.node_of(pod)?))))
    }

    fn add_workload(&self, workload: &Arc<Workload>, members: &[&Arc<Pod>], around: Option<&Neighbours<'_>>, scene: &mut Scene) {
        let spec = &workload.spec;
        if spec.suspend || spec.closed.is_some() || workload.metadata.deletion_timestamp.is_some() {
            return;
        }
        let pool = self.queues.iter().find(|queue| queue.name_any() == spec.queue).map(|queue| queue.spec.pool.as_str());
        let moves = spec.scheduling.preemptible && pool.is_some_and(|pool| self.moving_pools.contains(pool));
        let mut sets = Vec::new();
        let mut placed = Vec::new();
        for set in &spec.pod_sets {
            let mut pending: Vec<(i32, &Arc<Pod>)> = Vec::new();
            let mut settled = 0_u32;
            let mut staying: Vec<(i32, &Arc<Pod>)> = Vec::new();
            for pod in members {
                let Some((name, index)) = pods::place(pod) else { continue };
                if name != set.name || index >= set.replicas || pods::attempt(pod) != Some(spec.attempt) {
                    continue;
                }
                if self.waits(pod) {
                    pending.push((index, pod));
                } else if pod::ended(pod) || (self.node_of(pod).is_some() && self.leaves_at(pod).is_none()) {
                    settled += 1;
                }
                let Some(node) = self.node_of(pod).filter(|_| !pod::ended(pod)) else { continue };
                let leaves_at = self.leaves_at(pod);
                if leaves_at.is_none() {
                    staying.push((index, pod));
                }
                scene.members.insert(id(&***pod), Arc::clone(pod));
                placed.push(plan::PlacedMember {
                    id: id(&***pod),
                    node: node.to_owned(),
                    requests: self.catalogue.asked(pod).0,
                    cards: self.cards_of(pod),
                    spare: false,
                    again: (moves && !spread::is_bound(pod)).then(|| Arc::new(self.member(pod, &spec.queue, around, false, scene))),
                    leaves_at,
                });
            }
            // The last of those beyond the minimum are the ones it can be without.
            staying.sort_by_key(|(index, _)| *index);
            let beyond = settled.saturating_sub(u32::try_from(pods::min_of(set)).unwrap_or(0)) as usize;
            for (_, pod) in staying.iter().rev().take(beyond) {
                let spare = id(&***pod);
                placed.iter_mut().filter(|member| member.id == spare).for_each(|member| member.spare = true);
            }
            pending.sort_by_key(|(index, _)| *index);
            for (_, pod) in &pending {
                scene.members.insert(id(&***pod), Arc::clone(pod));
            }
            let min = u32::try_from(pods::min_of(set)).unwrap_or(0);
            let pending = pending.iter().map(|(_, pod)| self.member(pod, &spec.queue, around, false, scene)).collect();
            sets.push(plan::MemberSet { name: set.name.clone(), min, settled, pending });
        }
        if placed.is_empty() && sets.iter().all(|set| set.pending.is_empty()) {
            return;
        }
        let id = id(&**workload);
        let levels = pool.and_then(|pool| self.levels.get(pool));
        let admitted_at = workload.status.as_ref().and_then(|status| status.admitted_at.as_ref());
        // What has no places has not begun, and is the same in every round.
        let started_at = if placed.is_empty() { 0 } else { admitted_at.map_or(self.now, |at| at.0).as_millisecond() };
        let run = self.run_times.of(workload, (started_at > 0).then(|| self.now.as_millisecond().saturating_sub(started_at)));
        let gang = plan::Gang {
            queue: spec.queue.clone(),
            priority: spec.priority,
            created_at: created_at(&**workload),
            sets,
            placed,
            started_at,
            run_ms: run.map(|(run_ms, _)| run_ms),
            run_basis: run.map(|(_, basis)| basis).unwrap_or_default(),
            topology: topology(workload, members, levels),
            owner: self.owners.of(&**workload),
            environment: rules::environment(spec.environment),
            deadline_at: spec.scheduling.deadline.as_ref().map(|at| at.0.as_millisecond()),
            urgent: spec.scheduling.urgent,
            preemptible: spec.scheduling.preemptible,
            oversubscribe: spec.scheduling.oversubscribe,
            claims: self.claims.contains(&id),
            id: id.clone(),
        };
        scene.gangs.insert(id, Arc::new(gang));
    }

    /// Adds a pod that belongs to no Workload, as a gang of one.
    fn add_bare(&self, pod: &Arc<Pod>, around: Option<&Neighbours<'_>>, scene: &mut Scene) {
        let queue = scene.bare_pods_queue.clone();
        let pending = vec![self.member(pod, &queue, around, true, scene)];
        let set = plan::MemberSet { name: String::new(), min: 1, settled: 0, pending };
        let id = gang_of_pod(&pod.namespace().unwrap_or_default(), &pod.name_any());
        scene.members.insert(self::id(&**pod), Arc::clone(pod));
        let gang = plan::Gang {
            claims: self.claims.contains(&id),
            id: id.clone(),
            queue,
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            created_at: created_at(&**pod),
            sets: vec![set],
            owner: self.owners.of(&**pod),
            ..plan::Gang::default()
        };
        scene.gangs.insert(id, Arc::new(gang));
    }

    /// A queue with a resource group gives out the nodes of that group alone, which their label says. `alone`
    /// says that the pod is all of its gang.
    fn member(&self, pod: &Pod, queue: &str, around: Option<&Neighbours<'_>>, alone: bool, scene: &mut Scene) -> plan::Member {
        let spec = pod.spec.clone().unwrap_or_default();
        let (requests, part) = self.catalogue.asked(pod);
        let mut demanded = around.map(|around| around.requirements(pod)).unwrap_or_default();
        let queue = self.queues.iter().find(|one| one.name_any() == queue);
        let group = queue.and_then(|queue| queue.spec.resource_group.clone());
        let (affinity, preferred, tolerations) = (affinity(&spec), preferred(&spec), tolerations(&spec));
        let mut node_selector = spec.node_selector.unwrap_or_default();
        if let Some(group) = group {
            // Who selects another one suits no node.
            let before = node_selector.insert(labels::RESOURCE_GROUP.to_owned(), group.clone());
            if before.is_some_and(|before| before != group) {
                node_selector.insert(labels::RESOURCE_GROUP.to_owned(), String::new());
            }
        }
        let is_alone = affinity::is_alone(pod);
        let mut member = plan::Member { id: id(pod), requests, part, affinity, preferred, alone: is_alone, tolerations, node_selector };
        if let Some(spreading) = around.and_then(|around| around.spreading.as_ref()).filter(|_| self.waits(pod)) {
            let pool = queue.map(|queue| queue.spec.pool.as_str()).unwrap_or_default();
            let choice = spreading.choose(pod, &member, &demanded, pool, alone);
            member.preferred.extend(choice.preferred);
            demanded.extend(choice.requirements);
            scene.spreads.extend(choice.spread.map(|spread| (member.id.clone(), spread)));
        }
        member.affinity = and(member.affinity, &demanded);
        member
    }
}

/// A level that the pool does not have is one that no node is in. Members that want to be near each
/// other are in one domain of the level that they name, if the pool has it.
fn topology(workload: &Workload, members: &[&Arc<Pod>], levels: Option<&Vec<String>>) -> Topology {
    let level = |key: &String| levels.and_then(|levels| levels.iter().position(|level| level == key));
    let gathered = members.iter().filter_map(|pod| affinity::gathers_by(pod)).filter_map(|key| level(&key)).max();
    let Some(topology) = &workload.spec.scheduling.topology else { return Topology { required: gathered, preferred: None } };
    let required = topology.required.as_ref().map(|key| level(key).unwrap_or(usize::MAX));
    Topology { required: required.max(gathered), preferred: topology.preferred.as_ref().and_then(level) }
}

/// The values of a node's labels for these levels, as far as it has them.
fn domains(node: &Node, levels: Option<&Vec<String>>) -> Vec<String> {
    levels.into_iter().flatten().map_while(|key| node.labels().get(key).cloned()).collect()
}

pub(super) fn created_at(object: &impl kube::ResourceExt) -> i64 {
    object.meta().creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_millisecond())
}

/// The pool a node belongs to.
pub(super) fn pool_of(node: &Node) -> String {
    node.labels().get(labels::POOL).cloned().unwrap_or_else(|| pool::LOCAL.to_owned())
}

/// Whether the node says that it can run pods.
pub(crate) fn is_ready(node: &Node) -> bool {
    readiness(node).is_some_and(|condition| condition.status == "True")
}

/// Why a node cannot run pods, in its own words.
pub(super) fn trouble(node: &Node) -> Option<String> {
    let unready = readiness(node).filter(|condition| condition.status != "True").and_then(|condition| condition.message.clone());
    unready.filter(|message| !message.is_empty()).or_else(|| quarantine::story(node)).or_else(|| {
        let story = "it is in an HPC partition and not authorised to be used; its Partition says `authorized: true` of those that are";
        is_unauthorized(node).then(|| story.to_owned())
    })
}

/// Whether the node is in an HPC partition, and nobody has said that it may be used.
fn is_unauthorized(node: &Node) -> bool {
    node.labels().get(labels::HPC_AUTHORIZED).is_some_and(|authorized| authorized == "false")
}

fn readiness(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

/// What pods may use of a node, as it reports it.
fn allocatable(node: &Node) -> Option<&BTreeMap<String, Quantity>> {
    let status = node.status.as_ref()?;
    status.allocatable.as_ref().or(status.capacity.as_ref())
}

fn node(node: &Node, used: plan::Amounts, cards: Vec<plan::CardHeld>, domains: Vec<String>) -> plan::Node {
    let mut amounts: plan::Amounts =
        allocatable(node).into_iter().flatten().map(|(name, amount)| (name.clone(), quantity::milli(amount))).collect();
    // What a node has that has just registered is not known yet.
    if !amounts.is_empty() {
        amounts.entry("pods".to_owned()).or_insert(PODS_PER_NODE_DEFAULT);
    }
    let spec = node.spec.clone().unwrap_or_default();
    let effect = |effect: &str| match effect {
        "NoSchedule" => Some(plan::Effect::NoSchedule),
        "NoExecute" => Some(plan::Effect::NoExecute),
        // PreferNoSchedule only asks.
        _ => None,
    };
    // One in quarantine is closed, which says why it is.
    let taints = spec.taints.into_iter().flatten().filter(|taint| taint.key != labels::QUARANTINE);
    let taints = taints
        .filter_map(|taint| Some(plan::Taint { effect: effect(&taint.effect)?, key: taint.key, value: taint.value.unwrap_or_default() }));
    plan::Node {
        name: node.name_any(),
        pool: pool_of(node),
        ready: is_ready(node) && node.metadata.deletion_timestamp.is_none(),
        schedulable: !spec.unschedulable.unwrap_or(false) && quarantine::story(node).is_none() && !is_unauthorized(node),
        labels: node.labels().clone(),
        taints: taints.collect(),
        allocatable: amounts,
        used,
        cards,
        domains,
    }
}

fn tolerations(spec: &PodSpec) -> Vec<plan::Toleration> {
    let tolerations = spec.tolerations.iter().flatten().map(|toleration| plan::Toleration {
        key: toleration.key.clone().filter(|key| !key.is_empty()),
        value: (toleration.operator.as_deref() != Some("Exists")).then(|| toleration.value.clone().unwrap_or_default()),
        effect: match toleration.effect.as_deref() {
            Some("NoSchedule") => Some(plan::Effect::NoSchedule),
            Some("NoExecute") => Some(plan::Effect::NoExecute),
            _ => None,
        },
    });
    // One for PreferNoSchedule alone tolerates nothing that keeps pods away.
    let soft: Vec<_> =
        spec.tolerations.iter().flatten().map(|toleration| toleration.effect.as_deref() == Some("PreferNoSchedule")).collect();
    tolerations.zip(soft).filter(|(_, soft)| !soft).map(|(toleration, _)| toleration).collect()
}

fn affinity(spec: &PodSpec) -> Vec<plan::Term> {
    let node_affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node_affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.into_iter().flat_map(|selector| &selector.node_selector_terms).map(term).collect()
}

/// Terms of node affinity with their weights. One without requirements is of no weight, as in Kubernetes.
fn preferred(spec: &PodSpec) -> Vec<plan::Preferred> {
    let node_affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = node_affinity.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred = terms.into_iter().flatten().map(|one| plan::Preferred { weight: one.weight, term: term(&one.preference) });
    preferred.filter(|one| one.term != plan::Term::default()).collect()
}

/// Terms that each demand these of labels as well.
pub(super) fn and(mut terms: Vec<plan::Term>, demanded: &[plan::Requirement]) -> Vec<plan::Term> {
    if demanded.is_empty() {
        return terms;
    }
    if terms.is_empty() {
        return vec![plan::Term { labels: demanded.to_vec(), names: Vec::new() }];
    }
    // A term without requirements matches no node, and goes on so.
    for term in terms.iter_mut().filter(|term| !term.labels.is_empty() || !term.names.is_empty()) {
        term.labels.extend_from_slice(demanded);
    }
    terms
}

fn term(term: &NodeSelectorTerm) -> plan::Term {
    let read = |requirement: &k8s_openapi::api::core::v1::NodeSelectorRequirement| plan::Requirement {
        key: requirement.key.clone(),
        operator: match requirement.operator.as_str() {
            "In" => plan::Operator::In,
            "NotIn" => plan::Operator::NotIn,
            "Exists" => plan::Operator::Exists,
            "DoesNotExist" => plan::Operator::DoesNotExist,
            "Gt" => plan::Operator::Gt,
            "Lt" => plan::Operator::Lt,
            // Admission refuses others; one that slips through matches nothing.
            _ => plan::Operator::In,
        },
        values: requirement.values.clone().unwrap_or_default(),
    };
    plan::Term {
        labels: term.match_expressions.iter().flatten().map(read).collect(),
        names: term.match_fields.iter().flatten().map(read).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(suspend: bool) -> Arc<Workload> {
        let template = json!({"spec": {"containers": [{"name": "main", "image": "x"}]}});
        let object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": "w", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"suspend": suspend, "attempt": 1, "podSets": [{"name": "worker", "replicas": 11, "template": template}]},
        });
        Arc::new(serde_json::from_value(object).expect("a workload"))
    }

    fn pod(index: i32, attempt: i32, node: Option<&str>, phase: &str) -> Arc<Pod> {
        let object = json!({
            "metadata": {
                "name": format!("w-worker-{index}"), "namespace": "n", "uid": format!("p{index}"),
                "labels": {"fermion.dev/workload": "w", "fermion.dev/role": "worker", "fermion.dev/index": index.to_string(), "fermion.dev/attempt": attempt.to_string()},
                "ownerReferences": [{"apiVersion": "a", "kind": "Workload", "name": "w", "uid": "u", "controller": true}],
            },
            "spec": {"nodeName": node, "containers": [{"name": "main", "resources": {"requests": {"cpu": "500m"}}}]},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn scene_of(nodes: &[Arc<Node>], pods: &[Arc<Pod>], workloads: &[Arc<Workload>], assumed: &HashMap<String, Assumed>) -> Scene {
        static NOBODY: std::sync::LazyLock<HashSet<String>> = std::sync::LazyLock::new(HashSet::new);
        static LEVELS: std::sync::LazyLock<HashMap<String, Vec<String>>> = std::sync::LazyLock::new(HashMap::new);
        static CATALOGUE: std::sync::LazyLock<Catalogue> = std::sync::LazyLock::new(|| Catalogue::new(&[]));
        Sight {
            catalogue: &CATALOGUE,
            queues: &[],
            nodes,
            pods,
            workloads,
            assumed,
            evicted: &NOBODY,
            claims: &NOBODY,
            moves: &Moves::new(),
            moving_pools: &BTreeSet::new(),
            ruling: NOTHING,
            owners: &NOTHING.owners(),
            run_times: &RunTimes::of_all(workloads.iter().map(AsRef::as_ref)),
            now: Timestamp::UNIX_EPOCH,
            levels: &LEVELS,
        }
        .scene()
    }

    const NOTHING: Ruling<'static> =
        Ruling { policies: &[], pools: &[], quotas: &[], resource_policies: &[], tickets: &[], windows: &[], users: &[], namespaces: &[] };

    fn scene(workloads: &[Arc<Workload>], pods: &[Arc<Pod>], assumed: &HashMap<String, Assumed>) -> Scene {
        let node = json!({
            "metadata": {"name": "local"},
            "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let node = Arc::new(serde_json::from_value(node).expect("a node"));
        scene_of(&[node], pods, workloads, assumed)
    }

    #[test]
    fn members_are_counted_by_what_they_hold() {
        let pods = [
            pod(10, 1, None, "Pending"),
            pod(2, 1, None, "Pending"),
            pod(0, 1, Some("local"), "Running"),
            pod(1, 1, Some("local"), "Succeeded"),
            pod(3, 0, Some("local"), "Running"),
        ];
        let scene = scene(&[workload(false)], &pods, &HashMap::new());
        let set = &scene.gangs["n/w"].sets[0];
        assert_eq!((set.min, set.settled), (11, 2));
        assert_eq!(set.pending.iter().map(|member| member.id.as_str()).collect::<Vec<_>>(), ["n/w-worker-2", "n/w-worker-10"]);
        let node = &scene.nodes["local"];
        assert_eq!(
            (node.used["cpu"], node.used["pods"], node.allocatable["pods"]),
            (1000, 2000, 110_000),
            "ended pods hold nothing, old ones do"
        );
        assert_eq!((node.pool.as_str(), node.ready), ("local", true));
    }

    #[test]
    fn a_node_that_could_not_start_is_of_unknown_size_and_says_why() {
        let node = json!({
            "metadata": {"name": "new"},
            "status": {"conditions": [{"type": "Ready", "status": "False", "message": "containerd did not start"}]},
        });
        let node = Arc::new(serde_json::from_value(node).expect("a node"));
        let nobody = HashMap::new();
        let scene = scene_of(&[node], &[], &[], &nobody);
        assert!(!scene.nodes["new"].is_known());
        assert_eq!(scene.troubles["new"], "containerd did not start");
    }

    #[test]
    fn binds_that_are_on_their_way_count() {
        let assumed = HashMap::from([("p0".to_owned(), Assumed { node: "local".to_owned(), cards: Vec::new() })]);
        let scene = scene(&[workload(false)], &[pod(0, 1, None, "Pending")], &assumed);
        let gang = &scene.gangs["n/w"];
        assert!(gang.sets[0].pending.is_empty());
        assert_eq!((gang.placed[0].node.as_str(), gang.placed[0].requests["cpu"]), ("local", 500));
        assert_eq!(scene.nodes["local"].used["cpu"], 500);
    }

    #[test]
    fn work_that_says_nothing_is_taken_to_run_as_long_as_the_last_of_its_person() {
        let of_ada = |name: &str, status: serde_json::Value| {
            let mut object = (*workload(false)).clone();
            object.metadata.name = Some(name.to_owned());
            object.metadata.annotations = Some(BTreeMap::from([(labels::CREATED_BY.to_owned(), "ada".to_owned())]));
            object.status = serde_json::from_value(status).expect("a status");
            Arc::new(object)
        };
        let over = json!({"type": "Admitted", "status": "False", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:01:30Z"});
        let before = of_ada("before", json!({"phase": "Succeeded", "admittedAt": "2026-01-01T00:01:00Z", "conditions": [over]}));
        let now = of_ada("w", json!(null));
        let runs = [pod(0, 1, Some("local"), "Running")];
        let known = |workloads: &[Arc<Workload>]| {
            let gang = Arc::clone(&scene(workloads, &runs, &HashMap::new()).gangs["n/w"]);
            (gang.run_ms, gang.run_basis)
        };
        assert_eq!(known(&[before, Arc::clone(&now)]), (Some(30_000), plan::Basis::Learned));
        assert_eq!(known(&[now]), (None, plan::Basis::default()));
    }

    #[test]
    fn suspended_workloads_are_left_out_and_strays_are_left_alone() {
        assert!(scene(&[workload(true)], &[pod(0, 1, None, "Pending")], &HashMap::new()).gangs.is_empty());
        assert!(scene(&[], &[pod(0, 1, None, "Pending")], &HashMap::new()).gangs.is_empty());
    }

    #[test]
    fn a_pod_of_nobody_is_a_gang_of_one() {
        let mut bare = (*pod(0, 0, None, "Pending")).clone();
        bare.metadata.labels = None;
        bare.metadata.owner_references = None;
        let scene = scene(&[], &[Arc::new(bare)], &HashMap::new());
        assert_eq!(scene.gangs["pod n/w-worker-0"].queue, "default");
    }
}
