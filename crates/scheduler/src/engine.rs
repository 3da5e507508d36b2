//! Rounds of placement in time: what starts now, and what is kept free for whom.
//!
//! Work is looked at in the order it is given. What fits is seated. What does not holds a
//! *reservation*: the moment from which, by the expected ends of what runs, all its members
//! have a place, and those places card by card. Work after it is seated only where that does
//! not delay it: it leaves the reserved places free, or it is expected to end before.
//!
//! EASY backfilling keeps one reservation (Lifka, JSSPP 1995), conservative backfilling
//! several (Mu'alem and Feitelson, IEEE TPDS 2001).
//!
//! Invariants
//! - A reservation is never passed over by work whose expected end lies after its start and
//!   that would take what it holds.
//! - What no end of running work could give room to holds nothing.
//! - The same cluster, running work and order give the same round.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::cluster::{Cluster, NodeId};
use crate::device::{Grant, Held};
use crate::gang::{self, Placed, Set, Topology};
use crate::node::Seat;
use crate::request::Request;
use crate::resource::{Demand, ResourceId, Vector};
use crate::sharing::Sharing;

/// Milliseconds: since the epoch, or of a duration.
pub type Millis = i64;

/// A workload, by its number at the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u64);

/// Work of which nothing is known about its run time is expected to go on for as long as it
/// has run, and at least this long. (A run time with a heavy tail behaves so: Harchol-Balter
/// and Downey, ACM TOCS 1997.)
const REMAINS_MIN_MS: Millis = 60_000;
/// How many reservations conservative backfilling keeps.
pub const RESERVATIONS_MAX: usize = 16;
/// How many blocked gangs are tried for a reservation in a round.
const RESERVATIONS_TRIED_MAX: usize = 2 * RESERVATIONS_MAX;

/// A workload as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub id: WorkId,
    /// Members that must be seated together.
    pub sets: Vec<Members>,
    pub topology: Topology,
    /// How long it is expected to run once it has started; `None` when nothing is known.
    pub run_ms: Option<Millis>,
    /// Whether a place is kept for it while it waits. Members beyond a minimum take what is
    /// there, or nothing.
    pub waits: bool,
}

impl Work {
    /// Work that may be anywhere, of which nothing is known.
    pub fn new(id: WorkId, sets: Vec<Members>) -> Self {
        Self { id, sets, topology: Topology::default(), run_ms: None, waits: true }
    }
}

/// Equal members of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Members {
    pub request: Request,
    pub count: u32,
    /// The most of them on one node.
    pub per_node_max: Option<u32>,
}

/// How work may pass work that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backfill {
    /// Not at all: nothing starts behind the first that waits.
    None,
    /// Where it does not delay the first that waits.
    #[default]
    Easy,
    /// Where it does not delay any of the first [`RESERVATIONS_MAX`] that wait.
    Conservative,
}

impl Backfill {
    fn reservations(self) -> usize {
        match self {
            Self::None | Self::Easy => 1,
            Self::Conservative => RESERVATIONS_MAX,
        }
    }
}

/// Work that has its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub placed: Vec<Placed>,
    pub started_at: Millis,
    /// When it is expected to end.
    pub ends_at: Option<Millis>,
    /// The work it is a member of, when it is one beyond the minimum.
    pub parent: Option<WorkId>,
}

impl Running {
    /// When it is expected to end, seen from `now`; later than `now`.
    pub fn expected_end(&self, now: Millis) -> Millis {
        match self.ends_at {
            Some(end) if end > now => end,
            // It runs over: expect as much again as it has done so.
            Some(end) => now + (now - end).max(REMAINS_MIN_MS),
            None => now + (now - self.started_at).max(REMAINS_MIN_MS),
        }
    }
}

/// Places kept for work that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub work: WorkId,
    /// From when on all its members have a place.
    pub start_at: Millis,
    /// When it will have ended, if that is known.
    pub end_at: Option<Millis>,
    pub placed: Vec<Placed>,
    /// Whether others were stopped for it. Such a place is kept beside those that
    /// [`Backfill`] counts.
    claimed: bool,
    /// Work that is expected to end by then.
    freed: Vec<WorkId>,
    /// What of those places is to be kept free now, by node: all but what that work frees and
    /// no reservation before this one counts on.
    needs: Vec<(NodeId, Seat)>,
    /// What is taken in the cluster for it at this moment.
    applied: Vec<(NodeId, Seat)>,
}

impl Reservation {
    /// Running work that is expected to end before it starts.
    pub fn awaits(&self) -> &[WorkId] {
        &self.freed
    }
}

/// Work that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub work: WorkId,
    pub placed: Vec<Placed>,
}

/// A cluster with what runs on it and what is reserved.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) cluster: Cluster,
    backfill: Backfill,
    pub(crate) running: BTreeMap<WorkId, Running>,
    /// Members beyond the minimum, by the work they belong to.
    pub(crate) members: BTreeMap<WorkId, BTreeSet<WorkId>>,
    reservations: Vec<Reservation>,
    /// Whether what is asked for has no room on empty nodes, as long as they stay what they are.
    hopeless: HashMap<Vec<Set>, bool>,
    turns: Turns,
}

/// What came about in the present round.
#[derive(Clone, Debug, Default)]
struct Turns {
    now: Millis,
    /// By what is asked: the shortest run time that was of no help.
    failed: HashMap<(Vec<Set>, Topology), Millis>,
    /// What no end of running work gives room to.
    waits_in_vain: HashSet<(Vec<Set>, Topology)>,
    /// How many were tried for a reservation.
    tried: usize,
}

/// Something that changes what is free, in a look ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Ends(WorkId),
    ReservedEnds(usize),
    ReservedStarts(usize),
}

impl Engine {
    pub fn new(cluster: Cluster, backfill: Backfill) -> Self {
        Self {
            cluster,
            backfill,
            running: BTreeMap::new(),
            members: BTreeMap::new(),
            reservations: Vec::new(),
            hopeless: HashMap::new(),
            turns: Turns::default(),
        }
    }

    /// The cluster, with reservations not counted as taken. It may be changed: nodes added,
    /// closed, grown.
    pub fn cluster(&mut self) -> &mut Cluster {
        self.drop_reservations();
        self.hopeless.clear();
        &mut self.cluster
    }

    pub fn running(&self) -> &BTreeMap<WorkId, Running> {
        &self.running
    }

    /// Those of the last round, first come first.
    pub fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    pub fn set_backfill(&mut self, backfill: Backfill) {
        self.backfill = backfill;
    }

    /// Takes in work that runs already. Seats on nodes that are not there are passed over.
    pub fn restore(&mut self, id: WorkId, running: Running) {
        self.drop_reservations();
        put(&mut self.cluster, &running.placed);
        if let Some(parent) = running.parent {
            self.members.entry(parent).or_default().insert(id);
        }
        self.running.insert(id, running);
    }

    pub(crate) fn drop_member(&mut self, parent: WorkId, id: WorkId) {
        if let Some(members) = self.members.get_mut(&parent) {
            members.remove(&id);
            if members.is_empty() {
                self.members.remove(&parent);
            }
        }
    }

    /// Frees what ended; with it end its members beyond the minimum.
    pub fn finish(&mut self, id: WorkId) -> Option<Running> {
        self.drop_reservations();
        let running = self.running.remove(&id)?;
        gang::unseat(&mut self.cluster, &running.placed);
        if let Some(parent) = running.parent {
            self.drop_member(parent, id);
        }
        for member in self.members.remove(&id).unwrap_or_default() {
            if let Some(running) = self.running.remove(&member) {
                gang::unseat(&mut self.cluster, &running.placed);
            }
        }
        Some(running)
    }

    /// Takes note of when running work is expected to end: it was told to stop, or more is
    /// known of it.
    pub fn expect_end(&mut self, id: WorkId, at: Option<Millis>) {
        if let Some(running) = self.running.get_mut(&id) {
            running.ends_at = at;
        }
    }

    /// Takes a node away. Answers who lost members by it; they are ended as a whole.
    pub fn lose_node(&mut self, id: NodeId) -> Vec<WorkId> {
        self.drop_reservations();
        let lost: Vec<WorkId> =
            self.running.iter().filter(|(_, running)| running.placed.iter().any(|one| one.node == id)).map(|(work, _)| *work).collect();
        for work in &lost {
            self.finish(*work);
        }
        self.cluster.remove(id);
        self.hopeless.clear();
        lost
    }

    /// Seats what can start now, in the order given, and makes the reservations of those that
    /// cannot.
    pub fn round<'w>(&mut self, now: Millis, pending: impl IntoIterator<Item = &'w Work>) -> Vec<Start> {
        self.begin_round(now);
        let mut starts = Vec::new();
        for work in pending {
            if let Some(placed) = self.offer(work) {
                starts.push(Start { work: work.id, placed });
            } else if self.backfill == Backfill::None && !self.reservations.is_empty() {
                break;
            }
        }
        starts
    }

    /// Begins a round: nothing is kept for anybody until it is offered its turn.
    pub fn begin_round(&mut self, now: Millis) {
        self.drop_reservations();
        if self.cluster.is_crowded() {
            self.cluster.forget_classes();
            self.hopeless.clear();
        }
        self.turns = Turns { now, ..Turns::default() };
    }

    /// Offers work its turn in the round that was begun: it starts now, or it is kept a place
    /// for where that is possible.
    pub fn offer(&mut self, work: &Work) -> Option<Vec<Placed>> {
        let key = (self.sets(work), work.topology);
        let run_ms = work.run_ms.unwrap_or(Millis::MAX);
        let now = self.turns.now;
        // In strict order nothing passes what waits.
        if self.backfill == Backfill::None && !self.reservations.is_empty() {
            return None;
        }
        let futile = self.turns.failed.get(&key).is_some_and(|shortest| run_ms >= *shortest);
        if !futile && let Some(placed) = self.try_start(now, work, &key.0) {
            self.run(work, &placed);
            return Some(placed);
        }
        let kept = self.reservations.iter().filter(|reservation| !reservation.claimed).count();
        let reserves = kept < self.backfill.reservations() && self.turns.tried < RESERVATIONS_TRIED_MAX;
        if work.waits && reserves && !self.turns.waits_in_vain.contains(&key) && !self.is_hopeless(&key.0) {
            self.turns.tried += 1;
            match self.reserve(now, work, &key.0) {
                Some(reservation) => {
                    self.reservations.push(reservation);
                    self.keep(self.reservations.len() - 1);
                }
                None => {
                    self.turns.waits_in_vain.insert(key.clone());
                }
            }
        }
        if !futile {
            self.turns.failed.insert(key, run_ms);
        }
        None
    }

    /// Whether members have no room even where nothing runs. Looks at every node, once for what
    /// asks for the same.
    fn is_hopeless(&mut self, sets: &[Set]) -> bool {
        if let Some(known) = self.hopeless.get(sets) {
            return *known;
        }
        let hopeless = sets.iter().any(|set| self.cluster.room_when_empty(set.class, None) < set.count);
        self.hopeless.insert(sets.to_vec(), hopeless);
        hopeless
    }

    /// Starts work that has room, whatever waits.
    pub fn start_now(&mut self, work: &Work) -> Option<Vec<Placed>> {
        let sets = self.sets(work);
        let placed = gang::seat(&mut self.cluster, &sets, work.topology)?;
        self.run(work, &placed);
        Some(placed)
    }

    fn run(&mut self, work: &Work, placed: &[Placed]) {
        let now = self.turns.now;
        let ends_at = work.run_ms.map(|run| now.saturating_add(run));
        self.running.insert(work.id, Running { placed: placed.to_vec(), started_at: now, ends_at, parent: None });
    }

    /// Keeps a place for work once those who leave are gone, in place of what it was kept
    /// before. They were told to stop, and are expected to do so at once. Answers whether that is enough for it to start.
    pub fn claim(&mut self, work: &Work, leaving: &BTreeSet<WorkId>) -> bool {
        let soon = self.turns.now.saturating_add(1);
        let mut before = Vec::new();
        for id in leaving {
            if let Some(running) = self.running.get_mut(id) {
                before.push((*id, running.ends_at.replace(soon)));
            }
        }
        if let Some(own) = self.reservations.iter().position(|reservation| reservation.work == work.id) {
            for place in own..self.reservations.len() {
                self.lift(place);
            }
            self.reservations.remove(own);
            for place in own..self.reservations.len() {
                self.keep(place);
            }
        }
        let sets = self.sets(work);
        let found = self.reserve(self.turns.now, work, &sets);
        // A place that another claimant has until it ends is not there when those who leave are gone.
        let at_once = |found: &Reservation| found.start_at <= soon && found.freed.iter().all(|id| leaving.contains(id));
        let Some(reservation) = found.filter(at_once) else {
            // Nobody leaves for it.
            for (id, ends_at) in before {
                self.expect_end(id, ends_at);
            }
            return false;
        };
        self.reservations.push(Reservation { claimed: true, ..reservation });
        self.keep(self.reservations.len() - 1);
        true
    }

    /// Does something with those who leave gone, and those for whom they leave in their places.
    pub(crate) fn when_gone<T>(&mut self, leaving: &BTreeSet<WorkId>, act: impl FnOnce(&mut Self) -> T) -> T {
        let claimed: Vec<Vec<Placed>> =
            self.reservations.iter().filter(|reservation| reservation.claimed).map(|reservation| reservation.placed.clone()).collect();
        self.without_reservations(|engine| {
            let gone: Vec<(WorkId, Running)> = leaving.iter().filter_map(|id| Some((*id, engine.running.remove(id)?))).collect();
            for (_, running) in &gone {
                gang::unseat(&mut engine.cluster, &running.placed);
            }
            for placed in &claimed {
                put(&mut engine.cluster, placed);
            }
            let answer = act(engine);
            for placed in claimed.iter().rev() {
                gang::unseat(&mut engine.cluster, placed);
            }
            for (id, running) in gone {
                put(&mut engine.cluster, &running.placed);
                engine.running.insert(id, running);
            }
            answer
        })
    }

    /// For whom a place is kept that this work could have otherwise: of several the last in
    /// order that is in its way.
    pub fn held_by(&mut self, work: &Work) -> Option<WorkId> {
        let mut holder = None;
        let mut lifted = 0;
        while !self.fits(work) {
            if lifted == self.reservations.len() {
                holder = None;
                break;
            }
            holder = Some(self.reservations[lifted].work);
            self.lift(lifted);
            lifted += 1;
        }
        for place in 0..lifted {
            self.keep(place);
        }
        holder
    }

    /// The reservation the work would get behind those there are.
    pub(crate) fn look_ahead(&mut self, now: Millis, work: &Work) -> Option<Reservation> {
        let sets = self.sets(work);
        self.reserve(now, work, &sets)
    }

    pub(crate) fn sets(&mut self, work: &Work) -> Vec<Set> {
        let cluster = &mut self.cluster;
        work.sets
            .iter()
            .map(|members| Set { class: cluster.class(&members.request), count: members.count, per_node_max: members.per_node_max })
            .collect()
    }

    fn try_start(&mut self, now: Millis, work: &Work, sets: &[Set]) -> Option<Vec<Placed>> {
        if let Some(placed) = gang::seat(&mut self.cluster, sets, work.topology) {
            return Some(placed);
        }
        let end = now.saturating_add(work.run_ms?);
        let harmless: Vec<usize> = (0..self.reservations.len()).filter(|place| self.reservations[*place].start_at >= end).collect();
        if harmless.is_empty() {
            return None;
        }
        for place in &harmless {
            self.lift(*place);
        }
        let placed = gang::seat(&mut self.cluster, sets, work.topology);
        for place in harmless {
            self.keep(place);
        }
        placed
    }

    /// Looks ahead to the first moment at which the work has room, reservations made before it
    /// being kept.
    fn reserve(&mut self, now: Millis, work: &Work, sets: &[Set]) -> Option<Reservation> {
        let mut turns: Vec<(Millis, Turn)> =
            self.running.iter().map(|(id, running)| (running.expected_end(now), Turn::Ends(*id))).collect();
        for (place, reservation) in self.reservations.iter().enumerate() {
            turns.push((reservation.start_at, Turn::ReservedStarts(place)));
            turns.extend(reservation.end_at.map(|end| (end, Turn::ReservedEnds(place))));
        }
        turns.sort_unstable();
        let mut done = 0;
        let mut found = None;
        while done < turns.len() {
            let at = turns[done].0;
            for place in 0..self.reservations.len() {
                self.lift(place);
            }
            while done < turns.len() && turns[done].0 == at {
                self.turn(turns[done].1);
                done += 1;
            }
            self.keep_at(at, &turns[..done]);
            if let Some(placed) = gang::seat(&mut self.cluster, sets, work.topology) {
                gang::unseat(&mut self.cluster, &placed);
                found = Some((at, placed));
                break;
            }
        }
        for place in 0..self.reservations.len() {
            self.lift(place);
        }
        for (_, turn) in turns[..done].iter().rev() {
            self.turn_back(*turn);
        }
        for place in 0..self.reservations.len() {
            self.keep(place);
        }
        let (start_at, placed) = found?;
        let freed: Vec<WorkId> = ended(&turns[..done]).collect();
        // What two count on can be had by one of them only; the first in order has it.
        let mut counted: BTreeSet<WorkId> = self.reservations.iter().flat_map(|reservation| reservation.freed.iter().copied()).collect();
        let needs = self.needs(&placed, &newly(&freed, &mut counted));
        let end_at = work.run_ms.map(|run| start_at.saturating_add(run));
        Some(Reservation { work: work.id, start_at, end_at, placed, claimed: false, freed, needs, applied: Vec::new() })
    }

    /// In a look ahead, at a later moment: reservations that have not started by then need
    /// more kept for them, as part of what they count on is free already.
    fn keep_at(&mut self, at: Millis, done: &[(Millis, Turn)]) {
        if self.reservations.is_empty() {
            return;
        }
        let mut counted: BTreeSet<WorkId> = ended(done).collect();
        for place in 0..self.reservations.len() {
            let reservation = &self.reservations[place];
            if reservation.start_at <= at {
                continue;
            }
            let freed = newly(&reservation.freed, &mut counted);
            let needs = self.needs(&reservation.placed, &freed);
            self.apply(place, &needs);
        }
    }

    /// Makes a turn of the look ahead.
    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Ends(id) => gang::unseat(&mut self.cluster, &self.running[&id].placed),
            Turn::ReservedEnds(place) => gang::unseat(&mut self.cluster, &self.reservations[place].placed),
            Turn::ReservedStarts(place) => put(&mut self.cluster, &self.reservations[place].placed),
        }
    }

    /// Takes a turn back; as with turns, what reservations keep is lifted meanwhile.
    fn turn_back(&mut self, turn: Turn) {
        match turn {
            Turn::Ends(id) => put(&mut self.cluster, &self.running[&id].placed),
            Turn::ReservedEnds(place) => put(&mut self.cluster, &self.reservations[place].placed),
            Turn::ReservedStarts(place) => gang::unseat(&mut self.cluster, &self.reservations[place].placed),
        }
    }

    /// What of the places is to be kept free now, node by node: all of it but what those who
    /// end before will free there.
    fn needs(&self, placed: &[Placed], freed: &[WorkId]) -> Vec<(NodeId, Seat)> {
        let mut by_node: BTreeMap<NodeId, (Vector, BTreeMap<u8, Held>, Sharing)> = BTreeMap::new();
        for one in placed {
            let (amounts, cards, sharing) = by_node.entry(one.node).or_default();
            amounts.add(&one.seat.demand);
            if let Sharing::Node { .. } = one.seat.sharing {
                *sharing = one.seat.sharing;
            }
            for held in &one.seat.grant {
                let sum = cards.entry(held.device).or_insert(Held { device: held.device, compute: 0, memory_mib: 0, slices: 0 });
                sum.compute = sum.compute.saturating_add(held.compute);
                sum.memory_mib = sum.memory_mib.saturating_add(held.memory_mib);
                sum.slices |= held.slices;
            }
        }
        for one in freed.iter().filter_map(|id| self.running.get(id)).flat_map(|running| &running.placed) {
            let Some((amounts, cards, _)) = by_node.get_mut(&one.node) else { continue };
            amounts.subtract(&one.seat.demand);
            if let Sharing::Cores { .. } = one.seat.sharing {
                // Others may still be on the same processors: more is kept rather than less.
                amounts[ResourceId::CPU] += one.seat.demand.get(ResourceId::CPU);
            }
            for held in &one.seat.grant {
                if let Some(sum) = cards.get_mut(&held.device) {
                    sum.compute = sum.compute.saturating_sub(held.compute);
                    sum.memory_mib = sum.memory_mib.saturating_sub(held.memory_mib);
                    sum.slices &= !held.slices;
                }
            }
        }
        by_node
            .into_iter()
            .map(|(node, (amounts, cards, sharing))| {
                let grant: Grant = cards.into_values().filter(|held| held.compute > 0 || held.memory_mib > 0 || held.slices != 0).collect();
                (node, kept_seat(amounts.iter().collect(), grant, sharing))
            })
            .collect()
    }

    /// Takes what is needed for a reservation, as far as it is free.
    fn apply(&mut self, place: usize, needs: &[(NodeId, Seat)]) {
        let mut applied = Vec::new();
        for (id, need) in needs {
            let Some(node) = self.cluster.node(*id) else { continue };
            let demand = need.demand.iter().map(|(resource, amount)| (resource, amount.min(node.free.get(resource)))).collect();
            let grant = need
                .grant
                .iter()
                .map(|held| {
                    let device = &node.devices[usize::from(held.device)];
                    // A card that is cut, or is used as it is, by others is of no use before that ends,
                    // and nobody is to take what is left of it and put that off.
                    let otherwise = if held.slices == 0 { device.sliced != 0 } else { device.sliced == 0 && !device.is_idle() };
                    if otherwise {
                        return Held { compute: device.free, memory_mib: device.memory_free_mib, slices: 0, ..*held };
                    }
                    Held {
                        compute: held.compute.min(device.free),
                        memory_mib: held.memory_mib.min(device.memory_free_mib),
                        slices: held.slices & !device.sliced,
                        ..*held
                    }
                })
                .collect();
            applied.push((*id, kept_seat(demand, grant, need.sharing)));
        }
        for (id, seat) in &applied {
            self.cluster.put(*id, seat);
        }
        self.reservations[place].applied = applied;
    }

    fn keep(&mut self, place: usize) {
        let needs = std::mem::take(&mut self.reservations[place].needs);
        self.apply(place, &needs);
        self.reservations[place].needs = needs;
    }

    fn lift(&mut self, place: usize) {
        for (id, seat) in std::mem::take(&mut self.reservations[place].applied) {
            self.cluster.give_back(id, &seat);
        }
    }

    /// Does something with no place kept for anybody.
    pub(crate) fn without_reservations<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        for place in 0..self.reservations.len() {
            self.lift(place);
        }
        let reservations = std::mem::take(&mut self.reservations);
        let answer = act(self);
        self.reservations = reservations;
        for place in 0..self.reservations.len() {
            self.keep(place);
        }
        answer
    }

    /// Does something with nothing running and no place kept.
    pub(crate) fn when_empty<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.without_reservations(|engine| {
            for running in engine.running.values() {
                gang::unseat(&mut engine.cluster, &running.placed);
            }
            let answer = act(engine);
            for running in engine.running.values() {
                put(&mut engine.cluster, &running.placed);
            }
            answer
        })
    }

    fn drop_reservations(&mut self) {
        for place in 0..self.reservations.len() {
            self.lift(place);
        }
        self.reservations.clear();
    }
}

/// What is kept of a node for somebody who is to have it.
fn kept_seat(demand: Demand, grant: Grant, sharing: Sharing) -> Seat {
    let tenant = sharing != Sharing::Own || !grant.is_empty() || demand.iter().any(|(_, amount)| amount > 0);
    Seat { demand, grant, manner: 0, sharing, tenant }
}

/// Those of `freed` that were not counted before; now they are.
fn newly(freed: &[WorkId], counted: &mut BTreeSet<WorkId>) -> Vec<WorkId> {
    freed.iter().copied().filter(|id| counted.insert(*id)).collect()
}

/// Who ends in these turns.
fn ended(turns: &[(Millis, Turn)]) -> impl Iterator<Item = WorkId> + '_ {
    turns.iter().filter_map(|(_, turn)| match turn {
        Turn::Ends(id) => Some(*id),
        Turn::ReservedEnds(_) | Turn::ReservedStarts(_) => None,
    })
}

pub(crate) fn put(cluster: &mut Cluster, placed: &[Placed]) {
    for one in placed {
        cluster.put(one.node, &one.seat);
    }
}
