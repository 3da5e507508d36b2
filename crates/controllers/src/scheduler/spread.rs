//! Pods that are spread over domains, and what pods would rather have of those around them.
//!
//! A domain is the nodes with the same value of a label. `topologySpreadConstraints` with
//! `DoNotSchedule` become requirements on the labels of nodes: before a plan is made each pod that waits
//! is tried on a node that has room, where the fewest of its like are, and from then on counts there for
//! those tried after it. So members of one gang keep the skew among themselves, and many pods can be
//! placed at once. The first of pods that stand alone may go wherever the skew allows it, so that one of
//! them can always go where Kubernetes would let it. What a plan would bind is held against the
//! constraints once more ([`super::affinity::together`]).
//!
//! `ScheduleAnyway`, preferred `podAffinity` and preferred `podAntiAffinity` become preferences, counted
//! in the same way.
//!
//! Meaning of the parts:
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>. Pods that are
//! about to end do not count, as there. Beyond it a domain counts only if it has nodes that the pod's
//! queue gives out.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use fermion_api::labels;
use fermion_scheduler::preference::level;
use fermion_scheduler::request::Constraints;
use fermion_scheduler::{self as plan, Amounts, Operator, Preferred, Requirement, Term as NodeTerm};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint};
use kube::ResourceExt as _;

use super::affinity::{self, Labels, Term};
use super::snapshot::Scene;

/// What the weights of `ScheduleAnyway` range over, as scores do in Kubernetes.
const FULL: i64 = 100;
/// How many nodes and pods are looked at before a round for those that wait; half of it for those that only
/// prefer something. Others go where there is room, if no constraint is broken by it.
const LOOKS_MAX: usize = 10_000_000;
/// To compare so many values with a label counts as one more look.
const VALUES_PER_LOOK: usize = 16;
/// How many domains a sentence names.
const NAMED_MAX: usize = 8;

/// Which pods are counted, by which label of which nodes.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    /// With what label keys add to the selector.
    term: PodAffinityTerm,
    namespace: String,
    /// `None` for all nodes that have the label.
    reach: Option<Reach>,
}

/// The nodes whose domains count.
#[derive(Clone, Debug, PartialEq)]
struct Reach {
    pool: String,
    constraints: Constraints,
    heeds_taints: bool,
    /// Labels that they have.
    keys: Vec<String>,
}

impl Reach {
    fn holds(&self, node: &plan::Node) -> bool {
        let open = node.ready && node.schedulable;
        let taints = if self.heeds_taints { &node.taints[..] } else { &[] };
        node.pool == self.pool
            && (open || !self.heeds_taints)
            && self.keys.iter().all(|key| node.labels.contains_key(key))
            && self.constraints.allow(&node.name, &node.labels, taints)
    }
}

/// A constraint that is kept.
#[derive(Clone, Debug, PartialEq)]
struct Hard {
    question: Question,
    skew_max: i64,
    domains_min: Option<usize>,
}

/// What the constraints of a pod that waits leave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spread {
    hard: Vec<Hard>,
    /// For each of them, the domains that it may go to, and how many there are.
    left: Vec<(BTreeSet<String>, usize)>,
}

/// What pods around it make of a pod that waits.
#[derive(Default)]
pub(super) struct Choice {
    pub requirements: Vec<Requirement>,
    pub preferred: Vec<Preferred>,
    /// If it has constraints that are kept.
    pub spread: Option<Spread>,
}

/// What a pod says of spreading, and of whom it would rather be near.
struct Rules {
    hard: Vec<Hard>,
    soft: Vec<Question>,
    weighted: Vec<(Question, i32)>,
}

fn constraints(pod: &Pod) -> impl Iterator<Item = &TopologySpreadConstraint> {
    pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten())
}

fn is_hard(constraint: &TopologySpreadConstraint) -> bool {
    constraint.when_unsatisfiable != "ScheduleAnyway"
}

/// Preferred terms on pods, with negative weights for those to be apart from.
fn weighted(pod: &Pod) -> impl Iterator<Item = (&PodAffinityTerm, i32)> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity.and_then(|all| all.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_ref());
    let apart = affinity.and_then(|all| all.pod_anti_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_ref());
    let near = near.into_iter().flatten().map(|one| (&one.pod_affinity_term, one.weight));
    let apart = apart.into_iter().flatten().map(|one| (&one.pod_affinity_term, one.weight.saturating_neg()));
    near.chain(apart)
}

/// Whether its constraints leave it only some places. It is not moved elsewhere while it runs: where it might
/// go is only known once it waits.
pub(super) fn is_bound(pod: &Pod) -> bool {
    constraints(pod).any(is_hard)
}

/// Whether where a pod that waits goes depends in such a way on those around it.
pub(super) fn depends(pod: &Pod) -> bool {
    let waits = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
    waits && (constraints(pod).next().is_some() || weighted(pod).next().is_some())
}

impl Rules {
    fn of(pod: &Pod, member: &plan::Member, pool: &str) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let keys = |hard: bool| constraints(pod).filter(move |one| is_hard(one) == hard).map(|one| one.topology_key.clone()).collect();
        let keys: [Vec<String>; 2] = [keys(false), keys(true)];
        let question = |one: &TopologySpreadConstraint| {
            let term = PodAffinityTerm {
                label_selector: one.label_selector.clone(),
                match_label_keys: one.match_label_keys.clone(),
                topology_key: one.topology_key.clone(),
                ..PodAffinityTerm::default()
            };
            let honors_affinity = one.node_affinity_policy.as_deref() != Some("Ignore");
            let heeds_taints = one.node_taints_policy.as_deref() == Some("Honor");
            let mut selector = member.node_selector.clone();
            if !honors_affinity {
                selector.retain(|key, _| key == labels::RESOURCE_GROUP);
            }
            let constraints = Constraints {
                selector,
                affinity: if honors_affinity { member.affinity.clone() } else { Vec::new() },
                tolerations: if heeds_taints { member.tolerations.clone() } else { Vec::new() },
            };
            let reach = Reach { pool: pool.to_owned(), constraints, heeds_taints, keys: keys[usize::from(is_hard(one))].clone() };
            Question { term: affinity::settled(&term, pod), namespace: namespace.clone(), reach: Some(reach) }
        };
        let hard = constraints(pod).filter(|one| is_hard(one)).map(|one| Hard {
            question: question(one),
            skew_max: i64::from(one.max_skew),
            domains_min: one.min_domains.and_then(|most| usize::try_from(most).ok()),
        });
        let around = weighted(pod).map(|(term, weight)| {
            let question = Question { term: affinity::settled(term, pod), namespace: namespace.clone(), reach: None };
            (question, weight)
        });
        Self {
            hard: hard.collect(),
            soft: constraints(pod).filter(|one| !is_hard(one)).map(question).collect(),
            weighted: around.collect(),
        }
    }
}

/// How many pods are in each domain.
struct Tally {
    question: Question,
    term: Term,
    /// Of each node, as a place in the lists after; none where the node does not count.
    domain_of: Vec<Option<usize>>,
    /// Sorted.
    domains: Vec<String>,
    counts: Vec<i64>,
    /// Whether it put a pod that waits somewhere.
    asked: bool,
}

impl Tally {
    /// The fewest in any domain, or none if there are fewer domains than there should be.
    fn least(&self, hard: &Hard) -> i64 {
        let few = hard.domains_min.is_some_and(|least| self.domains.len() < least);
        if few { 0 } else { self.counts.iter().copied().min().unwrap_or(0) }
    }

    /// Requirements, or preferences, name domains.
    fn named(&self, domains: impl Iterator<Item = usize>) -> Requirement {
        let values = domains.map(|domain| self.domains[domain].clone()).collect();
        Requirement { key: self.term.key.clone(), operator: Operator::In, values }
    }

    /// Domains with more than so many pods, by how many they have.
    fn above(&self, count: i64) -> BTreeMap<i64, Vec<usize>> {
        let mut by_count: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (domain, here) in self.counts.iter().enumerate().filter(|(_, here)| **here > count) {
            by_count.entry(*here).or_default().push(domain);
        }
        by_count
    }
}

/// A node, and what is free on it.
struct Host {
    node: plan::Node,
    free: Amounts,
}

/// Who stands where, and who was tried where.
pub(super) struct Spreading<'a> {
    waiting: usize,
    namespaces: HashMap<&'a str, &'a Labels>,
    standing: Vec<(&'a Pod, usize)>,
    places: HashMap<String, usize>,
    tried: RefCell<Tried>,
}

/// What changes with each pod that is tried.
struct Tried {
    /// Sorted by name.
    hosts: Vec<Host>,
    tallies: Vec<Tally>,
    /// Namespace, labels and node of pods that were tried.
    pods: Vec<(String, Labels, usize)>,
    /// The nodes that suit the last of them, as the next is often like it.
    suited: Option<Suited>,
    /// How many nodes and pods were looked at.
    looks: usize,
}

/// Nodes that suit a member whatever is free and wherever others are.
struct Suited {
    constraints: Constraints,
    pool: String,
    requests: Amounts,
    /// With the number of kinds of cards and other devices that it does not ask for.
    nodes: Vec<(usize, usize)>,
}

impl Tried {
    /// The node with room, open and permitted, that such a member likes most; of equals that with the fewest
    /// of its like in its domains, and then with the fewest cards and other devices it does not ask for.
    fn best_for(&mut self, member: &plan::Member, pool: &str, tallies: &[usize], permitted: &[Vec<bool>]) -> Option<usize> {
        let constraints = Constraints {
            selector: member.node_selector.clone(),
            affinity: member.affinity.clone(),
            tolerations: member.tolerations.clone(),
        };
        let like = |known: &Suited| known.constraints == constraints && known.pool == pool && known.requests == member.requests;
        let suited = match self.suited.take().filter(like) {
            Some(known) => known,
            None => self.suited(member, constraints, pool),
        };
        let values: usize = member.preferred.iter().flat_map(|one| &one.term.labels).map(|label| label.values.len()).sum();
        self.looks += suited.nodes.len() * (1 + values / VALUES_PER_LOOK);
        let all = &self.tallies;
        let domains = |place: usize| tallies.iter().map(move |tally| (&all[*tally], all[*tally].domain_of[place]));
        let has_room = |(place, _): &&(usize, usize)| {
            let Host { free, .. } = &self.hosts[*place];
            domains(*place).zip(permitted).all(|((_, domain), permitted)| domain.is_some_and(|domain| permitted[domain]))
                && member.requests.iter().all(|(name, amount)| *amount <= 0 || free.get(name).is_some_and(|free| amount <= free))
        };
        let worth = |(place, devices): &&(usize, usize)| {
            let node = &self.hosts[*place].node;
            let likes: Vec<i64> = domains(*place).filter_map(|(tally, domain)| Some(tally.counts[domain?])).collect();
            (Reverse(level(&member.preferred, &node.labels, &node.name)), likes, *devices)
        };
        let best = suited.nodes.iter().filter(has_room).min_by_key(worth).map(|(place, _)| *place);
        self.suited = Some(suited);
        best
    }

    /// Looks at all nodes.
    fn suited(&mut self, member: &plan::Member, constraints: Constraints, pool: &str) -> Suited {
        self.looks += self.hosts.len();
        let suits = |node: &plan::Node| {
            let open = node.ready && node.schedulable && node.pool == pool;
            open && constraints.allow(&node.name, &node.labels, &node.taints)
        };
        let asked = |name: &String| member.requests.get(name).is_some_and(|amount| *amount > 0);
        let devices =
            |node: &plan::Node| node.allocatable.iter().filter(|(name, amount)| name.contains('/') && **amount > 0 && !asked(name)).count();
        let nodes = self.hosts.iter().enumerate().filter(|(_, host)| suits(&host.node));
        let nodes = nodes.map(|(place, host)| (place, devices(&host.node))).collect();
        Suited { constraints, pool: pool.to_owned(), requests: member.requests.clone(), nodes }
    }
}

impl<'a> Spreading<'a> {
    /// Of pods with their nodes those that stay there; so many pods wait for which it matters.
    pub(super) fn new(
        waiting: usize,
        mut nodes: Vec<plan::Node>,
        namespaces: HashMap<&'a str, &'a Labels>,
        standing: impl Iterator<Item = (&'a Pod, &'a str)>,
    ) -> Self {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let places: HashMap<String, usize> = nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
        let standing = standing.filter_map(|(pod, node)| Some((pod, *places.get(node)?))).collect();
        let host = |node: plan::Node| {
            let mut free = node.allocatable.clone();
            for (name, amount) in &node.used {
                *free.entry(name.clone()).or_default() -= amount;
            }
            Host { node, free }
        };
        let hosts = nodes.into_iter().map(host).collect();
        Self {
            waiting,
            namespaces,
            standing,
            places,
            tried: RefCell::new(Tried { hosts, tallies: Vec::new(), pods: Vec::new(), suited: None, looks: 0 }),
        }
    }

    /// Tries a pod that waits. `alone` says that it is all that is placed together.
    pub(super) fn choose(&self, pod: &Pod, member: &plan::Member, demanded: &[Requirement], pool: &str, alone: bool) -> Choice {
        if !depends(pod) {
            return Choice::default();
        }
        let rules = Rules::of(pod, member, pool);
        let mut tried = self.tried.borrow_mut();
        let tried = &mut *tried;
        if tried.looks > if rules.hard.is_empty() { LOOKS_MAX / 2 } else { LOOKS_MAX } {
            let spread = (!rules.hard.is_empty()).then_some(Spread { hard: rules.hard, left: Vec::new() });
            return Choice { spread, ..Choice::default() };
        }
        let (soft, gathered) = self.preferences(tried, &rules);
        let tallies: Vec<usize> = rules.hard.iter().map(|hard| self.tally(tried, &hard.question)).collect();
        let leads = alone && tallies.iter().all(|tally| !tried.tallies[*tally].asked);
        let is_permitted = |(hard, tally): (&Hard, &usize)| {
            let tally = &tried.tallies[*tally];
            permitted(tally, hard, self.selects(&tally.term, pod))
        };
        let permitted: Vec<Vec<bool>> = rules.hard.iter().zip(&tallies).map(is_permitted).collect();
        let preferred = member.preferred.iter().chain(&gathered).cloned().collect();
        let affinity = super::snapshot::and(member.affinity.clone(), demanded);
        let wanted = plan::Member { affinity, preferred, ..member.clone() };
        let place = tried.best_for(&wanted, pool, &tallies, &permitted);
        let mut choice = Choice { preferred: gathered, ..Choice::default() };
        // Where many go at once, where it was tried is preferred to what is as good, so that those after
        // it are where they should be beside it.
        if let Some(place) = place.filter(|_| self.waiting > 1) {
            let own = soft.iter().filter_map(|tally| Some((tally, tried.tallies[*tally].domain_of[place]?)));
            choice.preferred.extend(own.map(|(tally, domain)| preferring(1, tried.tallies[*tally].named([domain].into_iter()))));
        }
        let mut left = Vec::new();
        for (tally, permitted) in tallies.iter().zip(&permitted) {
            let tally = &mut tried.tallies[*tally];
            tally.asked |= place.is_some();
            let own = place.filter(|_| !leads).and_then(|place| tally.domain_of[place]);
            let requirement = match own {
                Some(domain) => tally.named([domain].into_iter()),
                None => tally.named((0..tally.domains.len()).filter(|domain| permitted[*domain])),
            };
            left.push((requirement.values.iter().cloned().collect(), tally.domains.len()));
            choice.requirements.push(requirement);
        }
        if let Some(place) = place {
            for (name, amount) in &member.requests {
                *tried.hosts[place].free.entry(name.clone()).or_default() -= amount;
            }
            let namespace = pod.namespace().unwrap_or_default();
            self.count(tried, &namespace, pod.labels(), place, 1);
            tried.pods.push((namespace, pod.labels().clone(), place));
        }
        choice.spread = (!rules.hard.is_empty()).then_some(Spread { hard: rules.hard, left });
        choice
    }

    /// The answers by which a pod has preferences, and these.
    fn preferences(&self, tried: &mut Tried, rules: &Rules) -> (Vec<usize>, Vec<Preferred>) {
        let (mut tallies, mut preferred) = (Vec::new(), Vec::new());
        for question in &rules.soft {
            let tally = self.tally(tried, question);
            preferred.extend(spread_anyway(&tried.tallies[tally]));
            tallies.push(tally);
        }
        for (question, weight) in &rules.weighted {
            let tally = self.tally(tried, question);
            preferred.extend(by_count(&tried.tallies[tally], *weight));
            tallies.push(tally);
        }
        (tallies, preferred)
    }

    fn selects(&self, term: &Term, pod: &Pod) -> bool {
        term.selects(&pod.namespace().unwrap_or_default(), pod.labels(), &self.namespaces)
    }

    /// The place of the answer to this question.
    fn tally(&self, tried: &mut Tried, question: &Question) -> usize {
        if let Some(known) = tried.tallies.iter().position(|tally| tally.question == *question) {
            return known;
        }
        tried.looks += tried.hosts.len() + self.standing.len();
        let value = |host: &Host| {
            let counts = question.reach.as_ref().is_none_or(|reach| reach.holds(&host.node));
            host.node.labels.get(&question.term.topology_key).filter(|_| counts).cloned()
        };
        let values: Vec<Option<String>> = tried.hosts.iter().map(value).collect();
        let domains: Vec<String> = values.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let domain_of = values.iter().map(|value| domains.binary_search(value.as_ref()?).ok()).collect();
        let counts = vec![0; domains.len()];
        let term = Term::settled(&question.term, &question.namespace);
        let mut tally = Tally { question: question.clone(), term, domain_of, domains, counts, asked: false };
        let standing = self.standing.iter().filter(|(pod, _)| self.selects(&tally.term, pod)).map(|(_, place)| *place);
        let before = tried.pods.iter().filter(|(namespace, labels, _)| tally.term.selects(namespace, labels, &self.namespaces));
        let all: Vec<usize> = standing.chain(before.map(|(_, _, place)| *place)).filter_map(|place| tally.domain_of[place]).collect();
        for domain in all {
            tally.counts[domain] += 1;
        }
        tried.tallies.push(tally);
        tried.tallies.len() - 1
    }

    /// Counts a pod on a node in, or out.
    fn count(&self, tried: &mut Tried, namespace: &str, labels: &Labels, place: usize, by: i64) {
        for tally in &mut tried.tallies {
            if let Some(domain) = tally.domain_of[place]
                && tally.term.selects(namespace, labels, &self.namespaces)
            {
                tally.counts[domain] += by;
            }
        }
    }

    /// Counts pods that a plan would bind on their nodes, if all of their constraints hold then.
    pub(super) fn admit(&mut self, pods: &[Bound<'_, '_>]) -> bool {
        self.stand(pods, true);
        let holds = self.broken(pods).is_empty();
        if !holds {
            self.stand(pods, false);
        }
        holds
    }

    /// Of pods that a plan would bind, the last one that is not needed and stands against its constraints.
    pub(super) fn in_the_way(&mut self, pods: &[Bound<'_, '_>], needed: &BTreeSet<&str>) -> Option<usize> {
        self.stand(pods, true);
        let broken = self.broken(pods);
        self.stand(pods, false);
        broken.into_iter().rev().find(|number| !needed.contains(pods[*number].member))
    }

    fn stand(&mut self, pods: &[Bound<'_, '_>], there: bool) {
        let mut tried = self.tried.borrow_mut();
        for hard in pods.iter().filter_map(|bound| bound.spread).flat_map(|spread| &spread.hard) {
            self.tally(&mut tried, &hard.question);
        }
        for bound in pods {
            let Some(place) = self.places.get(bound.node).copied() else { continue };
            let namespace = bound.pod.namespace().unwrap_or_default();
            self.count(&mut tried, &namespace, bound.pod.labels(), place, if there { 1 } else { -1 });
            if there {
                tried.pods.push((namespace, bound.pod.labels().clone(), place));
            } else {
                tried.pods.pop();
            }
        }
    }

    /// Those of these pods, which stand on their nodes, that are there against their constraints.
    fn broken(&self, pods: &[Bound<'_, '_>]) -> Vec<usize> {
        let mut tried = self.tried.borrow_mut();
        let is_broken = |number: &usize| {
            let bound = &pods[*number];
            let place = self.places.get(bound.node).copied();
            bound.spread.into_iter().flat_map(|spread| &spread.hard).any(|hard| {
                let tally = self.tally(&mut tried, &hard.question);
                let tally = &tried.tallies[tally];
                let domain = place.and_then(|place| tally.domain_of[place]);
                domain.is_none_or(|domain| tally.counts[domain] - tally.least(hard) > hard.skew_max)
            })
        };
        (0..pods.len()).filter(is_broken).collect()
    }
}

/// A pod that a plan would bind.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a, 'n> {
    pub pod: &'a Pod,
    pub node: &'n str,
    /// Its id.
    pub member: &'n str,
    pub spread: Option<&'a Spread>,
}

/// Whether one more pod may go to each domain.
fn permitted(tally: &Tally, hard: &Hard, is_like: bool) -> Vec<bool> {
    let least = tally.least(hard);
    tally.counts.iter().map(|count| count + i64::from(is_like) - least <= hard.skew_max).collect()
}

/// Domains with fewer pods rather than those with more: of the full weight those have all that have the
/// fewest.
fn spread_anyway(tally: &Tally) -> Vec<Preferred> {
    let most = tally.counts.iter().copied().max().unwrap_or(0);
    let least = tally.counts.iter().copied().min().unwrap_or(0);
    let there = Requirement { key: tally.term.key.clone(), operator: Operator::Exists, values: Vec::new() };
    let mut preferred = vec![preferring(FULL, there)];
    for (count, domains) in tally.above(least) {
        preferred.push(preferring(-FULL * (count - least) / most, tally.named(domains.into_iter())));
    }
    preferred
}

/// Each pod adds the weight to its domain.
fn by_count(tally: &Tally, weight: i32) -> Vec<Preferred> {
    let each = |(count, domains): (i64, Vec<usize>)| preferring(i64::from(weight).saturating_mul(count), tally.named(domains.into_iter()));
    tally.above(0).into_iter().map(each).collect()
}

fn preferring(weight: i64, requirement: Requirement) -> Preferred {
    let bound = i64::from(i32::MAX);
    let weight = i32::try_from(weight.clamp(-bound, bound)).expect("it was clamped");
    Preferred { weight, term: NodeTerm { labels: vec![requirement], names: Vec::new() } }
}

/// What constraints of its pods leave a gang that waits, in words.
pub(super) fn story(scene: &Scene, gang: &str) -> Option<String> {
    let pending = scene.gangs.get(gang)?.sets.iter().flat_map(|set| &set.pending);
    let mut left: BTreeMap<(&str, i64), (BTreeSet<&str>, usize, usize)> = BTreeMap::new();
    for spread in pending.filter_map(|member| scene.spreads.get(&member.id)) {
        for (hard, (domains, all)) in spread.hard.iter().zip(&spread.left) {
            let entry = left.entry((&hard.question.term.topology_key, hard.skew_max)).or_default();
            entry.0.extend(domains.iter().map(String::as_str));
            entry.1 = *all;
            entry.2 += 1;
        }
    }
    let told = left.into_iter().filter(|(_, (domains, all, pods))| domains.len() < *all || *all == 0 || *pods > 1);
    let words = told.map(|((key, skew_max), (domains, all, _))| {
        let named: Vec<String> = domains.iter().take(NAMED_MAX).map(|domain| format!("`{domain}`")).collect();
        let more = domains.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} others") } else { String::new() };
        let where_to = match domains.len() {
            0 if all == 0 => format!("nowhere, as no node that it may run on has label `{key}`"),
            0 => "nowhere now".to_owned(),
            _ => format!("to {}{more} only", named.join(", ")),
        };
        format!("by topologySpreadConstraints (maxSkew {skew_max} over `{key}`) it may go {where_to}")
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join("; "))
}

#[cfg(test)]
mod tests;
