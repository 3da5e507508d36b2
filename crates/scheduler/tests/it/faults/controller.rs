//! The scheduler's hands, as crates/controllers has them: what it saw, what it sent and does not see
//! yet, and whom it stops others for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fermion_scheduler::{Gang, Member, MemberSet, Past, PlacedMember, Plan, Pool, Queue, Snapshot, Subject, Wait, Whom, plan_after};

use super::{CARD, CARDS_PER_NODE, Job, News, Pod, Rules, Seat};
use crate::{amounts, node};

pub(super) struct Controller {
    nodes: Vec<bool>,
    jobs: Vec<Option<Vec<Pod>>>,
    assumed: HashMap<u64, usize>,
    evicted: HashSet<u64>,
    pub claims: BTreeSet<usize>,
    past: Past,
}

/// Job, place and number of a pod, by its id.
pub(super) fn parse(member: &str) -> (usize, usize, u64) {
    let mut parts = member[1..].split('-').map(|part| part.parse::<u64>().expect("a number"));
    let mut next = || parts.next().expect("three parts");
    (next() as usize, next() as usize, next())
}

impl Controller {
    pub(super) fn new(nodes: usize, jobs: usize) -> Self {
        Self {
            nodes: vec![true; nodes],
            jobs: vec![None; jobs],
            assumed: HashMap::new(),
            evicted: HashSet::new(),
            claims: BTreeSet::new(),
            past: Past::default(),
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Node(node, ready) => self.nodes[node] = ready,
            News::Job(job, pods) => self.jobs[job] = pods,
        }
    }

    /// The API did not take a bind.
    pub(super) fn refused(&mut self, uid: u64) {
        self.assumed.remove(&uid);
    }

    pub(super) fn round(&mut self, rules: &Rules, jobs: &[Job], now: i64) -> Plan {
        let seen = || self.jobs.iter().flatten().flatten();
        let unbound: HashSet<u64> = seen().filter(|pod| pod.seat == Seat::Nowhere).map(|pod| pod.uid).collect();
        let staying: HashSet<u64> = seen().filter(|pod| !matches!(pod.seat, Seat::Leaving(..))).map(|pod| pod.uid).collect();
        self.assumed.retain(|uid, _| unbound.contains(uid));
        self.evicted.retain(|uid| staying.contains(uid));
        let (plan, past) = plan_after(&self.snapshot(rules, jobs, now), &self.past);
        self.past = past;
        for bind in &plan.binds {
            self.assumed.insert(parse(&bind.member).2, bind.node[1..].parse().expect("nodes are numbered"));
        }
        self.evicted.extend(plan.evictions.iter().flat_map(|eviction| &eviction.members).map(|member| parse(member).2));
        let claims = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. }));
        self.claims = claims.map(|waiting| waiting.gang[1..].parse().expect("gangs are numbered")).collect();
        plan
    }

    fn snapshot(&self, rules: &Rules, jobs: &[Job], now: i64) -> Snapshot {
        let card = |count: i128| amounts(&[(CARD, count)]);
        let mut used: BTreeMap<usize, i128> = BTreeMap::new();
        let mut gangs = Vec::new();
        for (index, pods) in self.jobs.iter().enumerate() {
            let Some(pods) = pods else { continue };
            let job = &jobs[index];
            let (mut placed, mut pending) = (Vec::new(), Vec::new());
            let mut staying = 0;
            for (number, pod) in pods.iter().enumerate() {
                let id = format!("j{index}-{number}-{}", pod.uid);
                let (on, leaves_at) = match pod.seat {
                    Seat::On(node) => (Some(node), self.evicted.contains(&pod.uid).then_some(now + super::GRACE_MS)),
                    Seat::Leaving(node, until) => (Some(node), Some(until)),
                    Seat::Nowhere => (self.assumed.get(&pod.uid).copied(), None),
                };
                let Some(on) = on else {
                    pending.push(Member { id, requests: card(job.cards), ..Member::default() });
                    continue;
                };
                *used.entry(on).or_default() += job.cards;
                let spare = leaves_at.is_none() && staying >= job.min;
                staying += usize::from(leaves_at.is_none());
                placed.push(PlacedMember {
                    id,
                    node: format!("n{on}"),
                    requests: card(job.cards),
                    spare,
                    leaves_at,
                    ..PlacedMember::default()
                });
            }
            gangs.push(Gang {
                id: format!("j{index}"),
                queue: format!("q{}", job.queue),
                priority: job.priority,
                created_at: job.submitted_at,
                started_at: now,
                run_ms: job.told.then_some(job.run_ms),
                sets: vec![MemberSet { name: "worker".into(), min: job.min as u32, settled: staying as u32, pending }],
                placed,
                preemptible: job.preemptible,
                claims: self.claims.contains(&index),
                owner: Whom { project: "lab".into(), user: format!("u{}", job.user), ..Whom::default() },
                ..Gang::default()
            });
        }
        let queue = |(index, (guarantee, limit)): (usize, &(i128, Option<i128>))| Queue {
            name: format!("q{index}"),
            pool: "local".into(),
            guaranteed: if *guarantee > 0 { card(*guarantee) } else { BTreeMap::new() },
            limit: limit.map(card).unwrap_or_default(),
            ..Queue::default()
        };
        let nodes = (0..rules.nodes).map(|index| {
            let mut node = node(&format!("n{index}"), &[(CARD, CARDS_PER_NODE)]);
            node.ready = self.nodes[index];
            node.used = card(used.get(&index).copied().unwrap_or(0));
            node
        });
        let mut snapshot = Snapshot {
            queues: rules.queues.iter().enumerate().map(queue).collect(),
            nodes: nodes.collect(),
            gangs,
            now,
            ..Snapshot::default()
        };
        let half_life_ms = Some(60_000);
        snapshot.pools = vec![Pool { name: "local".into(), preemption: rules.preemption, half_life_ms, ..Pool::default() }];
        let ceilings =
            rules.ceilings.iter().enumerate().filter_map(|(user, most)| Some((Subject::Person(format!("u{user}")), card((*most)?))));
        snapshot.rules.ceilings = ceilings.collect();
        snapshot
    }
}
