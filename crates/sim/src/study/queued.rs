//! Work of several queues in virtual time, decided by the server's own rounds.
//!
//! At each arrival and each end the [`Planner`] is asked, as the server asks it, until it stops
//! nobody more. What it stops begins again with what it had done, and a restart's time more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use anyhow::{Result, ensure};
use fermion_scheduler::engine::{Backfill, Millis};
use fermion_scheduler::{
    Amounts, Eviction, Gang, Member, MemberSet, Node, Past, PlacedMember, Plan, Planner, Pool, Queue, Snapshot, Wait, Whom,
};

use super::RESTART_MS;
use super::description::Nodes;
use super::queues::{self, Course};
use crate::simulator::{Fate, Moment};
use crate::trace::jobs::Owned;

const POOL: &str = "described";
/// What cards of every model are asked for by.
const CARDS: &str = "gpu.fermion.dev/card";
/// Rounds at one moment: one that stops others, one that starts those who claimed, and as many
/// again for what was stopped.
const ROUNDS_MAX: usize = 8;

/// What came of it, in the order of the jobs.
pub(super) struct Outcome {
    pub fates: Vec<Fate>,
    pub moments: Vec<Moment>,
    pub courses: Vec<Course>,
}

/// A member that has a node.
type Seat = (usize, u32);

struct World<'a> {
    jobs: &'a [Owned],
    /// What the scheduler is told of run times, by place.
    told: &'a [Option<Millis>],
    node_cards: u32,
    snapshot: Snapshot,
    planner: Planner,
    /// Gangs and nodes, by their places, of which the planner was not told how they are now.
    news: (BTreeSet<usize>, BTreeSet<usize>),
    nodes: HashMap<String, usize>,
    fates: Vec<Fate>,
    /// What is left to run, by place.
    left: Vec<Millis>,
    seats: Vec<Vec<Seat>>,
    /// Ends to come; those of an earlier start than the last are none.
    ends: BinaryHeap<Reverse<(Millis, usize, u32)>>,
    /// For each queue of a course, those it counts for.
    counts_for: BTreeMap<String, Vec<usize>>,
    courses: Vec<Course>,
}

/// Runs the jobs, which are in the order of their submission.
///
/// # Errors
/// When a job names a queue that is not there.
pub(super) fn run(nodes: &Nodes, jobs: &[Owned], told: &[Option<Millis>]) -> Result<Outcome> {
    let mut world = World::new(nodes, jobs, told)?;
    let mut moments = Vec::new();
    let mut next = 0;
    loop {
        let arrival = jobs.get(next).map(|owned| owned.job.submitted_at);
        let end = world.ends.peek().map(|entry| entry.0.0);
        let Some(now) = arrival.into_iter().chain(end).min() else { break };
        world.snapshot.now = now;
        while let Some(&Reverse((at, place, start))) = world.ends.peek()
            && at <= now
        {
            world.ends.pop();
            if world.fates[place].stops == start {
                world.end(place);
            }
        }
        while jobs.get(next).is_some_and(|owned| owned.job.submitted_at <= now) {
            world.submit(next);
            next += 1;
        }
        for _ in 0..ROUNDS_MAX {
            if !world.round() {
                break;
            }
        }
        moments.push(world.observe());
    }
    Ok(Outcome { fates: world.fates, moments, courses: world.courses })
}

fn amount(cards: u32) -> Amounts {
    [(CARDS.to_owned(), i128::from(cards) * 1000)].into_iter().collect()
}

fn name(place: usize) -> String {
    format!("{place:08}")
}

fn place(gang: &str) -> usize {
    gang.parse().expect("gangs are named by their places")
}

impl<'a> World<'a> {
    fn new(nodes: &Nodes, jobs: &'a [Owned], told: &'a [Option<Millis>]) -> Result<Self> {
        let described = &nodes.queues;
        let mut courses: Vec<Course> = described
            .iter()
            .map(|queue| Course { name: queue.name.clone(), guarantee: queues::promised(described, &queue.name), ..Course::default() })
            .collect();
        let above = |queue: &queues::Queue| {
            let parent =
                |place: &usize| described[*place].parent.as_deref().and_then(|name| described.iter().position(|one| one.name == name));
            let first = described.iter().position(|one| one.name == queue.name);
            (queue.name.clone(), std::iter::successors(first, parent).collect())
        };
        let counts_for: BTreeMap<String, Vec<usize>> = described.iter().map(above).collect();
        for (place, owned) in jobs.iter().enumerate() {
            let counted = counts_for.get(&owned.queue);
            ensure!(counted.is_some(), "job {place} of the trace belongs to the queue `{}`, which the cluster does not have", owned.queue);
            for course in counted.into_iter().flatten() {
                courses[*course].work.push(place);
            }
        }
        let queue = |queue: &queues::Queue| Queue {
            name: queue.name.clone(),
            pool: POOL.to_owned(),
            parent: queue.parent.clone(),
            priority: queue.priority,
            guaranteed: queue.guarantee.map(amount).unwrap_or_default(),
            limit: queue.limit.map(amount).unwrap_or_default(),
            ..Queue::default()
        };
        let node = |(facts, devices): &(fermion_scheduler::node::Facts, Vec<_>)| Node {
            name: facts.name.clone(),
            pool: POOL.to_owned(),
            ready: true,
            schedulable: true,
            allocatable: amount(devices.len() as u32),
            used: amount(0),
            domains: facts.domains.clone(),
            ..Node::default()
        };
        let nodes_of: Vec<Node> = nodes.nodes.iter().filter(|node| !node.1.is_empty()).map(node).collect();
        let pool = Pool { name: POOL.to_owned(), backfill: Backfill::Easy, preemption: true, ..Pool::default() };
        let places = nodes_of.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
        let snapshot =
            Snapshot { pools: vec![pool], queues: described.iter().map(queue).collect(), nodes: nodes_of, ..Snapshot::default() };
        let mut planner = Planner::of(&snapshot, &Past::default());
        // Nobody reads what would help.
        planner.set_quiet(true);
        Ok(Self {
            jobs,
            told,
            node_cards: nodes.cards_of_a_node(),
            nodes: places,
            snapshot,
            planner,
            news: Default::default(),
            fates: jobs.iter().map(|owned| Fate { submitted_at: owned.job.submitted_at, ..Fate::default() }).collect(),
            left: jobs.iter().map(|owned| owned.job.run_ms).collect(),
            seats: vec![Vec::new(); jobs.len()],
            ends: BinaryHeap::new(),
            counts_for,
            courses,
        })
    }

    /// Whole nodes and one part of a node, all of which it needs.
    fn sets(&self, place: usize) -> Vec<MemberSet> {
        let cards = self.jobs[place].job.cards;
        let mut sets = Vec::new();
        for (set, count, each) in [("whole", cards / self.node_cards, self.node_cards), ("rest", 1, cards % self.node_cards)] {
            if count > 0 && each > 0 {
                let member = |number| Member { id: format!("{}-{set}-{number}", name(place)), requests: amount(each), ..Member::default() };
                sets.push(MemberSet { name: set.to_owned(), min: count, settled: 0, pending: (0..count).map(member).collect() });
            }
        }
        sets
    }

    fn submit(&mut self, place: usize) {
        self.news.0.insert(place);
        let Owned { job, queue, user, priority } = &self.jobs[place];
        self.snapshot.gangs.push(Gang {
            id: name(place),
            queue: queue.clone(),
            priority: *priority,
            created_at: job.submitted_at,
            sets: self.sets(place),
            run_ms: self.told[place],
            owner: Whom { user: user.clone(), ..Whom::default() },
            ..Gang::default()
        });
    }

    /// Where a gang is in the snapshot.
    fn find(&self, place: usize) -> Option<usize> {
        let name = name(place);
        self.snapshot.gangs.binary_search_by(|gang| gang.id.as_str().cmp(&name)).ok()
    }

    /// A gang, to be changed.
    fn gang(&mut self, place: usize) -> &mut Gang {
        let found = self.find(place).expect("it was submitted and has not ended");
        self.news.0.insert(place);
        &mut self.snapshot.gangs[found]
    }

    /// Cards of a node come into use, or are free again.
    fn use_cards(&mut self, node: usize, cards: i128) {
        *self.snapshot.nodes[node].used.entry(CARDS.to_owned()).or_default() += cards * 1000;
        self.news.1.insert(node);
    }

    /// Gives back what it holds.
    fn leave(&mut self, place: usize) {
        for (node, cards) in std::mem::take(&mut self.seats[place]) {
            self.use_cards(node, -i128::from(cards));
        }
    }

    fn end(&mut self, place: usize) {
        self.leave(place);
        self.fates[place].ended_at = Some(self.snapshot.now);
        if let Some(found) = self.find(place) {
            self.snapshot.gangs.remove(found);
        }
        self.news.0.insert(place);
    }

    /// One round of the scheduler; whether another one is due.
    fn round(&mut self) -> bool {
        let (gangs, nodes) = std::mem::take(&mut self.news);
        for place in gangs {
            match self.find(place) {
                Some(found) => self.planner.set_gang(self.snapshot.gangs[found].clone()),
                None => self.planner.remove_gang(&name(place)),
            }
        }
        for node in nodes {
            self.planner.set_node(self.snapshot.nodes[node].clone());
        }
        let plan = self.planner.plan(self.snapshot.now);
        let Plan { binds, waits, evictions, .. } = plan;
        for bind in &binds {
            self.bind(place(&bind.gang), &bind.member, &bind.node);
        }
        let evicting: BTreeSet<&str> =
            waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. })).map(|waiting| waiting.gang.as_str()).collect();
        for gang in &mut self.snapshot.gangs {
            let claims = evicting.contains(gang.id.as_str());
            if gang.claims != claims {
                gang.claims = claims;
                self.news.0.insert(place(&gang.id));
            }
        }
        for eviction in &evictions {
            self.stop(eviction);
        }
        !evictions.is_empty()
    }

    fn bind(&mut self, place: usize, member: &str, node: &str) {
        let (now, left) = (self.snapshot.now, self.left[place]);
        let gang = self.gang(place);
        let mut cards = 0;
        for set in &mut gang.sets {
            if let Some(found) = set.pending.iter().position(|one| one.id == member) {
                let Member { id, requests, .. } = set.pending.remove(found);
                cards = (requests[CARDS] / 1000) as u32;
                set.settled += 1;
                gang.placed.push(PlacedMember { id, node: node.to_owned(), requests, ..PlacedMember::default() });
            }
        }
        gang.started_at = now;
        let runs = gang.sets.iter().all(|set| set.pending.is_empty());
        let node = self.nodes[node];
        self.use_cards(node, i128::from(cards));
        self.seats[place].push((node, cards));
        if runs {
            self.fates[place].started_at.get_or_insert(now);
            self.ends.push(Reverse((now + left, place, self.fates[place].stops)));
        }
    }

    fn stop(&mut self, eviction: &Eviction) {
        let stopped = place(&eviction.gang);
        let sets = self.sets(stopped);
        let now = self.snapshot.now;
        self.leave(stopped);
        let gang = self.gang(stopped);
        let ran = now - gang.started_at;
        gang.sets = sets;
        gang.placed.clear();
        gang.run_ms = gang.run_ms.map(|told| (told - ran).max(1) + RESTART_MS);
        self.left[stopped] = (self.left[stopped] - ran).max(0) + RESTART_MS;
        self.fates[stopped].stops += 1;
    }

    fn observe(&mut self) -> Moment {
        let mut moment = Moment { now: self.snapshot.now, waiting: 0, running: 0, cards: 0 };
        let mut cards = vec![(0, 0); self.courses.len()];
        for gang in &self.snapshot.gangs {
            let size = self.jobs[place(&gang.id)].job.cards;
            let runs = gang.sets.iter().all(|set| set.pending.is_empty());
            if runs {
                moment.running += 1;
                moment.cards += i64::from(size) * 1000;
            } else {
                moment.waiting += 1;
            }
            for course in &self.counts_for[&gang.queue] {
                let (used, asked) = &mut cards[*course];
                *(if runs { used } else { asked }) += size;
            }
        }
        for (course, cards) in self.courses.iter_mut().zip(cards) {
            course.cards.push(cards);
        }
        moment
    }
}
