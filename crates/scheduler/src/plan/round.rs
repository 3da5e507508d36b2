//! One pass over all gangs.

mod claims;
mod moving;
mod reasons;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::remedy::{Names, Remedy};
use super::{Bind, Plan, Ruling, Start, Wait, Waiting};
use crate::admission::Blocker;
use crate::cards::CardHeld;
use crate::device::WHOLE;
use crate::engine::{Members, Work, WorkId};
use crate::gang::{Placed, Topology};
use crate::placement::{self, take};
use crate::planner::World;
use crate::policy::{Breach, Rule};
use crate::preemption::Candidate;
use crate::queue::Reason;
use crate::resource::Demand;
use crate::rules::Subject;
use crate::snapshot::{Amounts, Basis, Gang, Member, MemberSet, Node, Queue};
use crate::table::{CARDS, Table};
use crate::titles::Titles;

/// How many gangs that wait for room are told in a round what would help: finding that out tries
/// every change.
const REMEDIES_TOLD_MAX: usize = 8;
/// How many gangs may have others stopped for them in a round.
const CLAIMS_MAX: usize = 64;
/// For how many gangs it is looked whom to stop in a round: that looks at all that runs.
const CLAIMS_TRIED_MAX: usize = 64;

/// What work asks for, by pool.
type Asked = (String, Vec<Members>, Topology);

/// What was found out in rounds before, and holds until nodes or what runs on them change.
#[derive(Default)]
pub(crate) struct Memory {
    version: u64,
    reasons: HashMap<Asked, Wait>,
    changes: HashMap<Asked, Vec<crate::explain::Change>>,
}

/// How a gang was served that speaks for all of its kind, as long as nobody is stopped and no more
/// is kept for anybody: what starts only takes from them.
struct Spoken {
    /// How many gangs were stopped, and how many places kept.
    at: (usize, usize),
    /// The shortest run time that was of no help.
    run_ms: i64,
    wait: Wait,
    remedies: Vec<Remedy>,
    /// Whether room was what it lacked.
    lacks_room: bool,
}

/// Who is told what would help.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Nobody is.
    pub quiet: bool,
    /// Nobody but the gang at this place, if there is one.
    pub asking: Option<usize>,
}

/// How many members were given a place, how many gangs stopped, and how many places kept.
type Stamp = (usize, usize, usize);

/// Members that have no place.
struct Missed {
    wait: Wait,
    start: Option<Start>,
    remedies: Vec<Remedy>,
}

impl Missed {
    fn new(wait: Wait) -> Box<Self> {
        Box::new(Self { wait, start: None, remedies: Vec::new() })
    }
}

/// One pass over the gangs.
pub(crate) struct Round<'a> {
    world: &'a World,
    queues: HashMap<&'a str, &'a Queue>,
    /// What is free, less what this plan gave out.
    free: &'a mut Vec<Amounts>,
    /// What it gave out, and where.
    given_out: Vec<(usize, &'a Amounts)>,
    /// Sorted by name; a place is an index here and in the other lists.
    nodes: Vec<&'a Node>,
    table: &'a mut Table,
    titles: &'a mut Titles,
    memory: &'a mut Memory,
    /// Gangs for which places are kept.
    holders: BTreeMap<WorkId, &'a str>,
    /// Running work that was told to stop, now or before.
    leaving: BTreeSet<WorkId>,
    /// Work that was given places, by pool.
    started: Vec<(String, WorkId)>,
    /// Gangs that were stopped in this round, and for whom, by their places.
    stopped: BTreeMap<usize, &'a str>,
    /// Gangs that were given something in this round; they are not stopped in it.
    given: BTreeSet<&'a str>,
    positions: BTreeMap<&'a str, u32>,
    /// Why work that asks for this has no room, and after how much was given, taken and kept.
    reasons: HashMap<Asked, (Stamp, Wait)>,
    spoken: HashMap<usize, Spoken>,
    /// By pool, whether anybody could have a right to stop somebody.
    may_evict: BTreeMap<String, bool>,
    to_tell: Told,
    told: usize,
    claims: usize,
    claims_tried: usize,
    plan: Plan,
}

impl<'a> Round<'a> {
    pub(crate) fn new(
        world: &'a World,
        table: &'a mut Table,
        titles: &'a mut Titles,
        free: &'a mut Vec<Amounts>,
        memory: &'a mut Memory,
        to_tell: Told,
    ) -> Self {
        if memory.version != table.version() {
            *memory = Memory { version: table.version(), ..Memory::default() };
        }
        Self {
            world,
            queues: world.queues.iter().map(|queue| (queue.name.as_str(), queue)).collect(),
            holders: BTreeMap::new(),
            free,
            given_out: Vec::new(),
            leaving: table.parts().iter().filter(|(_, part)| part.leaving).map(|(id, _)| *id).collect(),
            started: Vec::new(),
            nodes: world.nodes.iter().collect(),
            stopped: BTreeMap::new(),
            given: BTreeSet::new(),
            positions: BTreeMap::new(),
            reasons: HashMap::new(),
            spoken: HashMap::new(),
            may_evict: BTreeMap::new(),
            to_tell,
            told: 0,
            claims: 0,
            claims_tried: 0,
            plan: Plan::default(),
            table,
            titles,
            memory,
        }
    }

    /// Serves every gang; `lost` have no queue, for `claimants` others are being stopped, and
    /// `halves` hold places for some of the members they need alone; all by id. Then takes back what was tried in table, titles and what is free.
    pub(crate) fn serve_all(mut self, lost: &[usize], claimants: &[usize], halves: &[usize]) -> Plan {
        let world = self.world;
        for slot in lost {
            let gang = world.gang(*slot);
            self.plan.served.push(gang.id.clone());
            self.wait(gang, *Missed::new(Wait::QueueNotFound));
        }
        for pool in self.titles.pools_waiting() {
            let in_pool = |slot: &usize| self.queues.get(world.gang(*slot).queue.as_str()).is_some_and(|queue| queue.pool == pool);
            let claimants: Vec<usize> = claimants.iter().copied().filter(in_pool).collect();
            let halves: Vec<usize> = halves.iter().copied().filter(in_pool).collect();
            let moved = self.charge_moved(&pool, &claimants);
            let mut served = self.serve_claims(&pool, &claimants);
            self.keep_for_moved(&pool, moved);
            served.extend(self.complete(&pool, halves.into_iter().filter(|place| !served.contains(place))));
            let mut order = self.titles.take_order(&pool);
            if !served.is_empty() {
                self.titles.settle_order(&mut order, &pool);
            }
            let mut pass = order.pass();
            while let Some(id) = self.titles.next(&mut pass, &pool) {
                let place = id.0 as usize;
                if served.contains(&place) {
                    continue;
                }
                let gang = world.gang(place);
                self.plan.served.push(gang.id.clone());
                let binds = self.plan.binds.len();
                let evictions = self.plan.evictions.len();
                self.serve(place, &pool);
                if binds != self.plan.binds.len() || evictions != self.plan.evictions.len() {
                    self.titles.reorder(&mut pass, &pool, gang);
                }
            }
            drop(pass);
            self.titles.put_order(&pool, order);
        }
        for (place, amounts) in self.given_out.iter().rev() {
            take(&mut self.free[*place], amounts, -1);
        }
        self.table.roll_back(&self.started, &self.leaving);
        self.titles.roll_back();
        self.plan
    }

    fn wait(&mut self, gang: &'a Gang, missed: Missed) {
        let position = self.positions.entry(&gang.queue).or_default();
        *position += 1;
        let (gang, queue) = (gang.id.clone(), gang.queue.clone());
        let Missed { wait, start, remedies } = missed;
        self.plan.waits.push(Waiting { gang, queue, position: *position, wait, start, remedies });
    }

    /// Gives gangs that lost members, or were given only some of them before the scheduler ended, the
    /// rest, the oldest first: what they hold is of no use without it. Answers who was served.
    fn complete(&mut self, pool: &str, places: impl Iterator<Item = usize>) -> Vec<usize> {
        let world = self.world;
        let mut half: Vec<usize> = places.collect();
        half.sort_by_key(|place| world.gang(*place).created_at);
        for place in &half {
            self.plan.served.push(world.gang(*place).id.clone());
            self.serve(*place, pool);
        }
        half
    }

    fn serve(&mut self, place: usize, pool: &str) {
        let gang = self.world.gang(place);
        if !self.queues[gang.queue.as_str()].state.starts() {
            self.wait(gang, *Missed::new(Wait::QueueClosed));
            return;
        }
        if let Some(claimant) = self.stopped.get(&place) {
            let ahead = (*claimant).to_owned();
            self.wait(gang, *Missed::new(Wait::BehindOthers { ahead }));
            return;
        }
        if !present(gang) {
            let present: usize = gang.sets.iter().map(|set| set.pending.len().min(set.needed())).sum();
            let wanted: usize = gang.sets.iter().map(MemberSet::needed).sum();
            self.wait(gang, *Missed::new(Wait::MembersMissing { present, wanted }));
            return;
        }
        // Who asks is answered for itself.
        let kind = self.world.kept(place).kind.filter(|_| self.to_tell.asking != Some(place));
        if let Some(missed) = kind.and_then(|kind| self.as_spoken(kind, place, gang, pool)) {
            self.wait(gang, missed);
            return;
        }
        let needed = needed(gang);
        let told = self.told;
        if !needed.is_empty()
            && let Err(missed) = self.place(place, gang, &needed, pool, true)
        {
            if let Some(kind) = kind {
                let lacks_room = !matches!(missed.wait, Wait::Ruled(_) | Wait::QueueClosed);
                // One that was not to be told speaks for those who are not either.
                let holds = !matches!(missed.wait, Wait::Evicting { .. });
                let untold = told >= REMEDIES_TOLD_MAX || self.to_tell.asking.is_some();
                if holds && (!lacks_room || self.told > told || untold) {
                    let at = self.kept_at(pool);
                    let (wait, remedies) = (missed.wait.clone(), missed.remedies.clone());
                    let run_ms = gang.run_ms.unwrap_or(i64::MAX);
                    self.spoken.insert(kind, Spoken { at, run_ms, wait, remedies, lacks_room });
                }
            }
            if is_half(gang) && lasts(&missed.wait) {
                self.give_up(place, gang, pool);
            }
            self.wait(gang, *missed);
            return;
        }
        self.serve_extras(gang, pool);
    }

    /// How many gangs were stopped, and how many places are kept.
    fn kept_at(&mut self, pool: &str) -> (usize, usize) {
        (self.plan.evictions.len(), self.table.pool(pool).map_or(0, |engine| engine.reservations().len()))
    }

    /// What was found for one of the same kind, if it holds for this one.
    fn as_spoken(&mut self, kind: usize, place: usize, gang: &Gang, pool: &str) -> Option<Missed> {
        let at = self.kept_at(pool);
        let spoken = self.spoken.get(&kind).filter(|spoken| spoken.at == at && gang.run_ms.unwrap_or(i64::MAX) >= spoken.run_ms)?;
        let wait = self.named(place, gang, spoken.wait.clone());
        let tells = !spoken.lacks_room || self.told < REMEDIES_TOLD_MAX;
        let remedies = if tells { spoken.remedies.clone() } else { Vec::new() };
        self.told += usize::from(spoken.lacks_room && tells);
        Some(Missed { wait, start: None, remedies })
    }

    /// A reason that another gang with equal members has, with the name of this one's member.
    fn named(&self, place: usize, gang: &Gang, wait: Wait) -> Wait {
        let Wait::NoMatchingNode { pool, member } = wait else { return wait };
        let suits =
            |one: &&&Member| !self.nodes.iter().any(|node| node.pool == pool && node.is_known() && crate::matching::suits(one, node));
        let needed = needed(gang);
        let firsts = self.world.kept(place).needed.iter().flat_map(|needed| &needed.places).map(|places| places[0]);
        let firsts: Vec<&Member> = firsts.map(|place| needed[place]).collect();
        let member = firsts.iter().find(suits).map_or(member, |one| one.id.clone());
        Wait::NoMatchingNode { pool, member }
    }

    /// Members beyond the minimum. One that found no place speaks for those like it.
    fn serve_extras(&mut self, gang: &'a Gang, pool: &str) {
        let mut left: Vec<(&Member, Wait)> = Vec::new();
        for extra in gang.sets.iter().flat_map(|set| &set.pending[set.needed()..]) {
            if left.iter().any(|(other, _)| placement::same(other, extra)) {
                continue;
            }
            let place = usize::MAX;
            if let Err(missed) = self.place(place, gang, &[extra], pool, false) {
                left.push((extra, missed.wait));
            }
        }
        if let Some((_, wait)) = left.into_iter().next() {
            self.wait(gang, *Missed::new(wait));
        }
    }

    /// Members as work. It has the number of its gang where it is all of it. With it, the ids of
    /// each kind of member in turn.
    fn work(&mut self, place: usize, pool: &str, gang: &Gang, members: &[&'a Member], waits: bool) -> Option<(Work, Vec<Vec<&'a str>>)> {
        if !self.table.has_pool(pool) {
            return None;
        }
        let own = WorkId(place as u64);
        let id = if waits && !self.table.parts().contains_key(&own) { own } else { self.table.fresh() };
        let known = if waits { self.world.kept(place).needed.as_ref() } else { None };
        let made = || {
            let slot = self.world.slot(&gang.id).unwrap_or(place);
            self.table.kinds(members, self.table.sharing(slot, gang))
        };
        let (sets, places) = known.map_or_else(made, |needed| (needed.sets.clone(), needed.places.clone()));
        let topology = if waits { gang.topology } else { Topology::default() };
        let ids = places.iter().map(|places| places.iter().map(|place| members[*place].id.as_str()).collect()).collect();
        Some((Work { run_ms: gang.run_ms, topology, waits, ..Work::new(id, sets) }, ids))
    }

    /// Gives all of these members their nodes, or none and says why, and when they will have
    /// them where that can be told.
    fn place(&mut self, place: usize, gang: &'a Gang, members: &[&'a Member], pool: &str, waits: bool) -> Result<(), Box<Missed>> {
        let Some((work, ids)) = self.work(place, pool, gang, members, waits) else {
            return Err(Missed::new(self.reason(gang, members, pool, None)));
        };
        let demand = self.table.asked(members);
        let blockers = self.titles.blockers(gang, &demand, members.len() as u32);
        if !blockers.is_empty() {
            return Err(self.ruled(gang, &work, &demand, pool, &blockers));
        }
        let engine = self.table.pool(pool).expect("work was made for it");
        if let Some(placed) = engine.offer(&work) {
            self.started.push((pool.to_owned(), work.id));
            self.titles.charge(pool, gang, &demand);
            self.bind_placed(gang, members, pool, &ids, &placed);
            return Ok(());
        }
        // Who is moved goes on; who is stopped may wait long.
        let stopped = |round: &mut Self| {
            let moved = round.move_for(gang, &work, &demand, pool);
            moved.or_else(|| round.evict_for(gang, &work, &demand, pool, &BTreeSet::new()))
        };
        if waits && let Some(count) = stopped(self) {
            return Err(Missed::new(Wait::Evicting { members: count }));
        }
        let engine = self.table.pool(pool).expect("work was made for it");
        let reservation = engine.reservations().iter().find(|reservation| reservation.work == work.id);
        let found = reservation.map(|found| (found.start_at, engine.is_certain(found), found.awaits().to_vec()));
        let start = found.map(|(at, known, after)| Start { at, known, basis: self.basis(&after) });
        if start.is_some() {
            self.holders.insert(work.id, &gang.id);
        }
        let wait = self.reason_of(gang, members, &work, pool);
        let remedies = if waits { self.remedies(place, &work, pool) } else { Vec::new() };
        Err(Box::new(Missed { wait, start, remedies }))
    }

    /// The weakest of what the run times of this work stand on.
    fn basis(&self, works: &[WorkId]) -> Basis {
        let gangs = works.iter().filter_map(|id| self.table.parts().get(id)).map(|part| self.world.gang(part.gang));
        gangs.map(|gang| gang.run_basis).max().unwrap_or_default()
    }

    /// What is in the way beside room. What others have of a limit above the queue that they
    /// were not promised is taken back for it.
    fn ruled(&mut self, gang: &'a Gang, work: &Work, demand: &Demand, pool: &str, blockers: &[Blocker]) -> Box<Missed> {
        let only_queues =
            blockers.iter().all(|blocker| matches!(blocker, Blocker::Queue(shortage) if matches!(shortage.reason, Reason::Limit(_))));
        if only_queues
            && work.waits
            && let Some(first) = self.reclaimed(gang, demand)
            && let Some(count) = self.evict_for(gang, work, demand, pool, &first)
        {
            return Missed::new(Wait::Evicting { members: count });
        }
        let rulings: Vec<Ruling> = blockers.iter().filter_map(|blocker| self.ruling(gang, blocker)).collect();
        if rulings.is_empty() {
            return Missed::new(Wait::QueueClosed);
        }
        let members = work.sets.iter().map(|set| set.count).sum();
        let engine = self.table.pool(pool).expect("work was made for it");
        // Only what is the last thing in the way is worth changing.
        let mut remedies = Vec::new();
        if let [blocker] = blockers
            && engine.fits(work)
        {
            let changes = self.titles.changes(gang, demand, members, blocker);
            let names = Names { table: self.table, titles: self.titles, gang_of: &|_| None, node_of: &|_| String::new() };
            remedies = changes.into_iter().filter_map(|change| names.of_rule(change)).collect();
        }
        Box::new(Missed { wait: Wait::Ruled(rulings), start: None, remedies })
    }

    fn ruling(&self, gang: &Gang, blocker: &Blocker) -> Option<Ruling> {
        let subject = |id| self.titles.subject(id).cloned().unwrap_or_else(|| Subject::Person(gang.owner.user.clone()));
        let amount = |resource, missing| (self.table.name(resource).to_owned(), self.table.milli(resource, missing));
        Some(match blocker {
            Blocker::NotAllowed => Ruling::NotAllowed { queue: gang.queue.clone() },
            Blocker::Policy(Breach { account, rule: Rule::Running { environment, running, max } }) => {
                Ruling::Running { subject: subject(*account), environment: *environment, running: *running, max: *max }
            }
            Blocker::Window { opens_at } => Ruling::Window { opens_at: *opens_at },
            Blocker::Entitlement(shortage) => {
                let (resource, missing) = amount(shortage.resource, shortage.missing);
                Ruling::Ceiling { subject: Subject::Person(gang.owner.user.clone()), resource, missing }
            }
            Blocker::Quota(shortage) => {
                let (resource, missing) = amount(shortage.resource, shortage.missing);
                Ruling::Ceiling { subject: subject(shortage.account), resource, missing }
            }
            Blocker::Queue(shortage) => {
                let queue = match shortage.reason {
                    Reason::Limit(id) | Reason::MayNotBorrow(id) => self.titles.queue_tree().config(id).name.clone(),
                    Reason::NothingToBorrow => gang.queue.clone(),
                };
                let (resource, missing) = amount(shortage.resource, shortage.missing);
                Ruling::QueueLimit { queue, resource, missing }
            }
            // Rules of submission, and states that are told apart.
            Blocker::QueueNotFound | Blocker::QueueState(_) | Blocker::TimeLimit { .. } | Blocker::Policy(_) => return None,
        })
    }

    /// What would let the work have room.
    fn remedies(&mut self, place: usize, work: &Work, pool: &str) -> Vec<Remedy> {
        let is_due = self.to_tell.asking.map_or(self.told < REMEDIES_TOLD_MAX, |asking| asking == place);
        if !is_due {
            return Vec::new();
        }
        self.told += 1;
        let engine = self.table.pool(pool).expect("work was made for it");
        if self.to_tell.quiet || engine.fits(work) {
            return Vec::new();
        }
        let changes = self.changes(work, pool);
        let engine = self.table.pool(pool).expect("work was made for it");
        let nodes: HashMap<_, String> = changes
            .iter()
            .filter_map(|change| match change {
                crate::explain::Change::Open(node) => Some((*node, engine.node_name(*node).to_owned())),
                _ => None,
            })
            .collect();
        let cards = self.fewer_cards(work, pool);
        let gang_of = |id: WorkId| self.table.parts().get(&id).map(|part| self.world.gang(part.gang).id.clone());
        let node_of = |id| nodes.get(&id).cloned().unwrap_or_default();
        let names = Names { table: self.table, titles: self.titles, gang_of: &gang_of, node_of: &node_of };
        changes.into_iter().filter_map(|change| names.of_place(change)).chain(cards).collect()
    }

    /// Changes of which each alone would make room, with nothing kept for others. What was found
    /// before anything was given or taken holds for rounds after.
    fn changes(&mut self, work: &Work, pool: &str) -> Vec<crate::explain::Change> {
        let clean = self.plan.binds.is_empty() && self.plan.evictions.is_empty();
        let key = (pool.to_owned(), work.sets.clone(), work.topology);
        if clean && let Some(known) = self.memory.changes.get(&key) {
            return known.clone();
        }
        let mut running: Vec<(&str, usize, WorkId)> =
            self.table.parts().iter().map(|(id, part)| (self.world.gang(part.gang).id.as_str(), part.turn, *id)).collect();
        running.sort_unstable();
        let running: Vec<Candidate> = running.into_iter().map(|(_, _, work)| Candidate { work, tier: 0 }).collect();
        let engine = self.table.pool(pool).expect("work was made for it");
        let changes = engine.changes_for(work, &running);
        if clean {
            self.memory.changes.insert(key, changes.clone());
        }
        changes
    }

    /// The most cards each member could ask for to have room now.
    fn fewer_cards(&mut self, work: &Work, pool: &str) -> Option<Remedy> {
        let [set] = &work.sets[..] else { return None };
        let asked = set.request.devices?.count;
        let models: Vec<_> = set.request.demand.iter().map(|(id, _)| id).filter(|id| self.table.name(*id).starts_with(CARDS)).collect();
        let engine = self.table.pool(pool)?;
        let fewer = |count: u8| {
            let mut work = work.clone();
            let request = &mut work.sets[0].request;
            if let Some(devices) = &mut request.devices {
                devices.count = count;
            }
            let amount = |id, amount| if models.contains(&id) { i64::from(count) * i64::from(WHOLE) } else { amount };
            request.demand = request.demand.iter().map(|(id, before)| (id, amount(id, before))).collect();
            work
        };
        let cards = (1..asked).rev().find(|count| engine.fits(&fewer(*count)))?;
        Some(Remedy::FewerCards { cards })
    }

    fn bind_placed(&mut self, gang: &'a Gang, members: &[&'a Member], pool: &str, ids: &[Vec<&'a str>], placed: &[Placed]) {
        let engine = self.table.pool(pool).expect("work was placed there");
        self.given.insert(&gang.id);
        let mut next = vec![0; ids.len()];
        let places: Vec<(&str, String, Vec<CardHeld>)> = placed
            .iter()
            .map(|one| {
                next[one.set] += 1;
                let cards = engine.cards_of(one.node, &one.seat.grant);
                (ids[one.set][next[one.set] - 1], engine.node_name(one.node).to_owned(), cards)
            })
            .collect();
        let requests: BTreeMap<&str, &'a Amounts> = members.iter().map(|member| (member.id.as_str(), &member.requests)).collect();
        for (member, node, cards) in places {
            let place = self.nodes.partition_point(|other| other.name < node);
            take(&mut self.free[place], requests[member], 1);
            self.given_out.push((place, requests[member]));
            self.plan.binds.push(Bind { gang: gang.id.clone(), member: member.to_owned(), node, cards });
        }
    }
}

/// Members that a gang needs and that have no place.
pub(crate) fn needed(gang: &Gang) -> Vec<&Member> {
    gang.sets.iter().flat_map(|set| &set.pending[..set.needed().min(set.pending.len())]).collect()
}

/// Whether all members are there that a gang needs.
fn present(gang: &Gang) -> bool {
    gang.sets.iter().all(|set| set.pending.len() >= set.needed())
}

/// Whether a gang holds places for some of the members it needs and not for all, and no place of its
/// own is about to be free.
pub(crate) fn is_half(gang: &Gang) -> bool {
    !gang.placed.is_empty() && gang.placed.iter().all(|member| member.leaves_at.is_none()) && !needed(gang).is_empty() && present(gang)
}

/// Whether what is in the way is there for as long as it is, and has not its hours. Work of a queue
/// that is closed goes on as it is.
fn lasts(wait: &Wait) -> bool {
    match wait {
        Wait::QueueNotFound | Wait::QueueClosed | Wait::MembersMissing { .. } | Wait::Evicting { .. } => false,
        Wait::NoReadyNode { .. }
        | Wait::NoMatchingNode { .. }
        | Wait::ExceedsCapacity(_)
        | Wait::InsufficientResources(_)
        | Wait::BehindOthers { .. }
        | Wait::NoArrangement { .. }
        | Wait::NoDomain { .. }
        | Wait::NotSpread { .. }
        | Wait::NoCard(_)
        | Wait::NoEmptyNode { .. }
        | Wait::TooFewNodes { .. } => true,
        Wait::Ruled(rulings) => rulings.iter().all(|ruling| !matches!(ruling, Ruling::NotAllowed { .. } | Ruling::Window { .. })),
    }
}

/// Cards a member asks for, in thousandths.
pub(crate) fn cards(member: &Member) -> i64 {
    let cards = member.requests.iter().filter(|(name, _)| name.starts_with(CARDS)).map(|(_, amount)| *amount).sum::<i128>();
    i64::try_from(cards).unwrap_or(i64::MAX)
}
