//! A planner that is kept from round to round, beside one that is made anew for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fermion_scheduler::device::{Model, Profile};
use fermion_scheduler::engine::Backfill;
use fermion_scheduler::gang::Topology;
use fermion_scheduler::queue::{JobOrder, Mode, OverSubscribe, State as QueueState};
use fermion_scheduler::{
    Amounts, CardHeld, CardPart, Cause, Consolidation, Gang, Member, MemberSet, Operator, PartSize, Past, PlacedMember, Plan, Planner,
    Pool, Preferred, Queue, Requirement, Snapshot, Subject, Term, Wait, Whom, plan_after,
};
use proptest::prelude::*;

use crate::{amounts, node};

const JOBS: usize = 8;
const NODES: usize = 4;
const QUEUES: usize = 4;

/// A job, as somebody submitted it.
#[derive(Clone, Debug)]
struct Job {
    id: String,
    queue: usize,
    user: usize,
    priority: i32,
    pods: usize,
    min: usize,
    shape: usize,
    run_ms: Option<i64>,
    preemptible: bool,
    urgent: bool,
    rack: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Arrives(usize),
    Ends(usize),
    OpensOrCloses(usize),
    ComesOrGoes(usize),
    IsMarked(usize),
    Limit(usize, Option<i128>),
    Ceiling(usize, Option<i128>),
    Closes(usize),
    Pool { preemption: bool, conservative: bool, moves: bool },
}

/// Node of a pod, whether it is being stopped, and its cards.
type Seat = (String, bool, Vec<CardHeld>);

impl Job {
    fn asks_to_share(&self) -> bool {
        self.pods.is_multiple_of(2)
    }

    fn member(&self, id: String) -> Member {
        Member { id, requests: shape(self.shape), part: part(self.shape), preferred: self.preferred(), ..Member::default() }
    }

    /// Some would rather have a marked node, and some rather not.
    fn preferred(&self) -> Vec<Preferred> {
        let weight = [0, 10, -10][self.user];
        let labels = vec![Requirement { key: "marked".into(), operator: Operator::Exists, values: Vec::new() }];
        if weight == 0 { Vec::new() } else { vec![Preferred { weight, term: Term { labels, names: Vec::new() } }] }
    }
}

/// What there is.
#[derive(Clone, Debug)]
struct World {
    jobs: Vec<Job>,
    there: Vec<bool>,
    pods: Vec<Vec<Option<Seat>>>,
    started_at: Vec<i64>,
    nodes: Vec<(bool, bool, bool)>,
    limits: Vec<Option<i128>>,
    guarantees: Vec<i128>,
    closed: BTreeSet<usize>,
    ceilings: Vec<Option<i128>>,
    pool: Pool,
    /// Of each queue.
    sharing: Vec<OverSubscribe>,
    claims: BTreeSet<String>,
    /// Who was moved and has no place yet.
    moved: BTreeSet<String>,
}

fn shape(number: usize) -> Amounts {
    match number {
        0 => amounts(&[("gpu.fermion.dev/a100", 1), ("cpu", 2)]),
        1 => amounts(&[("gpu.fermion.dev/a100", 3), ("cpu", 1)]),
        2 => amounts(&[("gpu.fermion.dev/h100", 2)]),
        3 => amounts(&[("cpu", 3)]),
        // Of a card.
        4 => [("gpu.fermion.dev/a100".to_owned(), 400), ("cpu".to_owned(), 1000)].into(),
        5 => [("gpu.fermion.dev/a100".to_owned(), 142)].into(),
        _ => amounts(&[("cpu", 1), ("example.com/licence", 1)]),
    }
}

/// The part of a card that is asked for.
fn part(shape: usize) -> Option<CardPart> {
    let size = match shape {
        4 => PartSize::Share { compute: 400, memory_mib: 15_000 },
        5 => PartSize::Slice("mig-1g".into()),
        _ => return None,
    };
    Some(CardPart { model: "a100".into(), size })
}

fn models() -> Vec<Model> {
    let profile = Profile { name: "mig-1g".into(), width: 1, starts: (0..7).collect(), compute: 142 };
    vec![Model { name: "a100".into(), memory_mib: 40_000, profiles: vec![profile] }]
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let whose = (0..QUEUES + 1, 0..3_usize, 0..3_i32);
    let size = (1..4_usize, 0..3_usize, 0..7_usize, prop::option::of(1..5_i64));
    let marks = (prop::bool::weighted(0.85), prop::bool::weighted(0.2), prop::bool::weighted(0.2), 0..9_u8);
    let job =
        (whose, size, marks).prop_map(|((queue, user, priority), (pods, spare, shape, run), (preemptible, urgent, rack, letter))| Job {
            id: format!("j{letter}"),
            queue,
            user,
            priority,
            pods,
            min: pods.saturating_sub(spare).max(1),
            shape,
            run_ms: run.map(|run| run * 2500),
            preemptible,
            urgent,
            rack,
        });
    prop::collection::vec(job, JOBS).prop_map(|mut jobs| {
        for (number, job) in jobs.iter_mut().enumerate() {
            job.id = format!("{}-{number}", job.id);
        }
        jobs
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..JOBS).prop_map(Event::Arrives),
        4 => (0..JOBS).prop_map(Event::Ends),
        1 => (0..NODES).prop_map(Event::OpensOrCloses),
        1 => (0..NODES).prop_map(Event::ComesOrGoes),
        1 => (0..NODES).prop_map(Event::IsMarked),
        1 => (0..QUEUES, prop::option::of(3..9_i128)).prop_map(|(queue, limit)| Event::Limit(queue, limit)),
        1 => (0..3_usize, prop::option::of(1..9_i128)).prop_map(|(user, most)| Event::Ceiling(user, most)),
        1 => (0..QUEUES).prop_map(Event::Closes),
        1 => any::<(bool, bool, bool)>().prop_map(|(preemption, conservative, moves)| Event::Pool { preemption, conservative, moves }),
    ]
}

impl World {
    fn new(jobs: Vec<Job>, guarantees: Vec<i128>, sharing: Vec<OverSubscribe>, fair: bool) -> Self {
        let pool = Pool { name: "local".into(), half_life_ms: fair.then_some(3000), patience_ms: Some(20_000), ..Pool::default() };
        Self {
            there: vec![false; jobs.len()],
            pods: jobs.iter().map(|job| vec![None; job.pods]).collect(),
            started_at: vec![0; jobs.len()],
            nodes: vec![(true, true, false); NODES],
            limits: vec![None; QUEUES],
            guarantees,
            closed: BTreeSet::new(),
            ceilings: vec![None; 3],
            pool,
            sharing,
            claims: BTreeSet::new(),
            moved: BTreeSet::new(),
            jobs,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Arrives(job) => self.there[job] = true,
            Event::Ends(job) => {
                self.there[job] = false;
                self.pods[job].fill(None);
            }
            Event::OpensOrCloses(node) => self.nodes[node].1 ^= true,
            Event::IsMarked(node) => self.nodes[node].2 ^= true,
            Event::ComesOrGoes(node) => {
                self.nodes[node].0 ^= true;
                let name = format!("n{node}");
                for pods in &mut self.pods {
                    if pods.iter().flatten().any(|(there, ..)| *there == name) {
                        pods.fill(None);
                    }
                }
            }
            Event::Limit(queue, limit) => self.limits[queue] = limit.map(|limit| limit.max(self.guarantees[queue])),
            Event::Ceiling(user, most) => self.ceilings[user] = most,
            Event::Closes(queue) => {
                if !self.closed.remove(&queue) {
                    self.closed.insert(queue);
                }
            }
            Event::Pool { preemption, conservative, moves } => {
                let consolidation = Consolidation { moves_max: 2, moves_left: 100, run_ms_min: 2000 };
                self.pool.consolidation = moves.then_some(consolidation);
                self.pool.preemption = preemption;
                self.pool.backfill = if conservative { Backfill::Conservative } else { Backfill::Easy };
            }
        }
    }

    fn gang(&self, number: usize, now: i64) -> Gang {
        let job = &self.jobs[number];
        let mut placed: Vec<PlacedMember> = Vec::new();
        let mut pending = Vec::new();
        let mut staying = 0;
        for (pod, place) in self.pods[number].iter().enumerate() {
            let id = format!("{}-{pod}", job.id);
            match place {
                Some((node, leaving, cards)) => {
                    let spare = !leaving && staying >= job.min;
                    staying += usize::from(!leaving);
                    let leaves_at = leaving.then_some(now + 10);
                    let (requests, cards) = (shape(job.shape), cards.clone());
                    let again = self.pool.consolidation.map(|_| Arc::new(job.member(id.clone())));
                    placed.push(PlacedMember { id, node: node.clone(), requests, cards, spare, again, leaves_at });
                }
                None => pending.push(job.member(id)),
            }
        }
        Gang {
            queue: format!("q{}", job.queue),
            priority: job.priority,
            created_at: number as i64 / 3,
            sets: vec![MemberSet { name: "worker".into(), min: job.min as u32, settled: staying as u32, pending }],
            placed,
            started_at: self.started_at[number],
            run_ms: job.run_ms,
            topology: Topology { required: job.rack.then_some(0), preferred: None },
            preemptible: job.preemptible,
            urgent: job.urgent,
            oversubscribe: job.asks_to_share(),
            deadline_at: job.urgent.then_some(60_000),
            claims: self.claims.contains(&job.id) || self.moved.contains(&job.id),
            owner: Whom {
                tenant: "acme".into(),
                project: format!("lab{}", job.user % 2),
                user: format!("u{}", job.user),
                ..Whom::default()
            },
            id: job.id.clone(),
            ..Gang::default()
        }
    }

    fn snapshot(&self, now: i64) -> Snapshot {
        let card = |count: i128| amounts(&[("gpu.fermion.dev/a100", count)]);
        let orders = [JobOrder::Priority, JobOrder::FairShare, JobOrder::Fifo, JobOrder::ShortestFirst];
        let queue = |number: usize| Queue {
            name: format!("q{number}"),
            pool: "local".into(),
            guaranteed: if self.guarantees[number] > 0 { card(self.guarantees[number]) } else { Amounts::new() },
            limit: self.limits[number].map(card).unwrap_or_default(),
            job_order: orders[number % orders.len()],
            oversubscribe: self.sharing[number],
            state: if self.closed.contains(&number) { QueueState::Down } else { QueueState::Up },
            ..Queue::default()
        };
        let mut nodes = Vec::new();
        for (number, (there, open, marked)) in self.nodes.iter().enumerate().filter(|(_, node)| node.0) {
            assert!(there);
            let model = if number == 3 { "gpu.fermion.dev/h100" } else { "gpu.fermion.dev/a100" };
            let mut one = node(&format!("n{number}"), &[(model, 4), ("cpu", 6), ("example.com/licence", 1)]);
            one.schedulable = *open;
            one.domains = vec![format!("r{}", number % 2)];
            if *marked {
                one.labels.insert("marked".into(), "yes".into());
            }
            nodes.push(one);
        }
        let gangs: Vec<Gang> = (0..self.jobs.len()).filter(|number| self.there[*number]).map(|number| self.gang(number, now)).collect();
        for member in gangs.iter().flat_map(|gang| &gang.placed) {
            let node = nodes.iter_mut().find(|node| node.name == member.node).expect("a node");
            for (name, amount) in &member.requests {
                *node.used.entry(name.clone()).or_default() += amount;
            }
        }
        let (pools, queues) = (vec![self.pool.clone()], (0..QUEUES).map(queue).collect());
        let mut snapshot = Snapshot { pools, queues, nodes, gangs, now, models: models(), ..Snapshot::default() };
        let ceilings = self.ceilings.iter().enumerate();
        snapshot.rules.ceilings = ceilings.filter_map(|(user, most)| Some((Subject::Person(format!("u{user}")), card((*most)?)))).collect();
        snapshot
    }

    /// No card is given twice, neither its compute, nor its memory, nor a slice of it.
    fn check_cards(&self) {
        let mut used: BTreeMap<(&str, &str, u8), (u32, u32, u8)> = BTreeMap::new();
        for (node, _, cards) in self.pods.iter().flatten().flatten() {
            for card in cards {
                let sum = used.entry((node, &card.model, card.index)).or_default();
                assert_eq!(sum.2 & card.slices, 0, "a slice of {card:?} on {node} is given twice");
                assert!((sum.2 == 0) == (card.slices == 0) || sum.0 == 0, "slices beside others on {card:?} of {node}");
                *sum = (sum.0 + u32::from(card.compute), sum.1.saturating_add(card.memory_mib), sum.2 | card.slices);
            }
        }
        for (at, (compute, memory_mib, _)) in used {
            // Of models nothing is known of, memory is not counted.
            assert!(compute <= 1000 && (at.1 != "a100" || memory_mib <= 40_000), "{at:?} is given twice: {compute}, {memory_mib} MiB");
        }
    }

    /// On no processor are more jobs than may share it, and who has a node alone is alone there.
    fn check_processors(&self) {
        for node in (0..NODES).map(|node| format!("n{node}")) {
            let mut own = 0;
            let mut shared: BTreeMap<usize, (Vec<i128>, u32)> = BTreeMap::new();
            let (mut here, mut alone) = (0, 0);
            for (job, pods) in self.jobs.iter().zip(&self.pods) {
                let members = pods.iter().flatten().filter(|(at, ..)| *at == node).count() as i128;
                if members == 0 {
                    continue;
                }
                let asked = shape(job.shape).get("cpu").copied().unwrap_or(0) * members;
                let sharing = self.sharing[job.queue];
                here += 1;
                alone += usize::from(sharing == OverSubscribe::Exclusive);
                if sharing.shares(job.asks_to_share()) {
                    let group = shared.entry(job.queue).or_insert((Vec::new(), sharing.jobs_per_core_max()));
                    group.0.push(asked);
                } else {
                    own += asked;
                }
            }
            assert!(alone == 0 || here == 1, "{here} jobs are on {node}, {alone} of them to have it alone");
            for (asked, count) in shared.values() {
                let sum: i128 = asked.iter().sum();
                let count = i128::from(*count);
                own += asked.iter().copied().max().unwrap_or(0).max((sum + count - 1) / count);
            }
            assert!(own <= 6000, "{own} of 6000 on {node}");
        }
    }

    /// Does what was decided.
    fn apply(&mut self, plan: &Plan, now: i64) {
        let places: BTreeMap<String, usize> = self.jobs.iter().enumerate().map(|(place, job)| (job.id.clone(), place)).collect();
        let pod_of = |member: &str| member.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()).expect("a pod");
        for pod in self.pods.iter_mut().flatten() {
            if pod.as_ref().is_some_and(|(_, leaving, _)| *leaving) {
                *pod = None;
            }
        }
        for eviction in &plan.evictions {
            for member in &eviction.members {
                self.pods[places[&eviction.gang]][pod_of(member)].as_mut().expect("only who runs is stopped").1 = true;
            }
        }
        let moved = plan.evictions.iter().filter(|eviction| eviction.cause == Cause::Moved);
        self.moved.extend(moved.map(|eviction| eviction.gang.clone()));
        for bind in &plan.binds {
            self.moved.remove(&bind.gang);
            let job = places[&bind.gang];
            self.pods[job][pod_of(&bind.member)] = Some((bind.node.clone(), false, bind.cards.clone()));
            self.started_at[job] = now;
        }
        let claims = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. }));
        self.claims = claims.map(|waiting| waiting.gang.clone()).collect();
    }
}

fn sharing() -> impl Strategy<Value = Vec<OverSubscribe>> {
    let of = |mode, count| OverSubscribe::new(mode, count).expect("a choice");
    let one = prop_oneof![
        4 => Just(OverSubscribe::No),
        1 => (1..4_u32).prop_map(move |count| of(Mode::Yes, Some(count))),
        1 => (1..4_u32).prop_map(move |count| of(Mode::Force, Some(count))),
        1 => Just(OverSubscribe::Exclusive),
    ];
    prop::collection::vec(one, QUEUES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happened before, a planner that was kept decides as one that was just made.
    #[test]
    fn a_planner_that_was_kept_decides_as_a_new_one(
        jobs in jobs(),
        guarantees in prop::collection::vec(0..4_i128, QUEUES),
        fair in any::<bool>(),
        sharing in sharing(),
        rounds in prop::collection::vec((prop::collection::vec(event(), 0..4), 1..4000_i64), 1..14),
    ) {
        let mut world = World::new(jobs, guarantees, sharing, fair);
        let mut planner = Planner::new();
        let mut past = Past::default();
        let mut now = 10_000;
        for (events, passes) in rounds {
            now += passes;
            for event in &events {
                world.happen(event);
            }
            let snapshot = world.snapshot(now);
            planner.show(&snapshot);
            let kept = planner.plan(now);
            let (anew, next) = plan_after(&snapshot, &past);
            prop_assert_eq!(&kept, &anew);
            past = next;
            prop_assert_eq!(&planner.past(), &past);
            world.apply(&kept, now);
            world.check_cards();
            world.check_processors();
        }
    }

    /// A round leaves no trace: asked again, the planner says the same.
    #[test]
    fn a_round_is_only_a_question(jobs in jobs(), sharing in sharing(), events in prop::collection::vec(event(), 1..12)) {
        let mut world = World::new(jobs, vec![0, 2, 0, 3], sharing, false);
        let mut planner = Planner::new();
        for event in &events {
            world.happen(event);
        }
        planner.show(&world.snapshot(10_000));
        let first = planner.plan(10_000);
        prop_assert_eq!(planner.plan(10_000), first);
    }
}
