//! Who must stop so that a gang can start: as few as possible, of those who may be stopped.
//!
//! For a gang of equal members the search goes node by node. What it costs to make room for
//! one member more on a node is the smallest set of running work there whose end frees it;
//! the cheapest node is taken until the gang has room. Work that runs on several nodes is
//! stopped as a whole, so once it is chosen its other places are free at no further cost.
//! Gangs of several kinds of members take candidates in their order until all have room.
//! In both cases, whoever turns out not to be needed is kept, so that no victim is in vain.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use crate::cluster::{NodeId, ROOM_MAX, Run};
use crate::device::give_back;
use crate::engine::{Engine, Work, WorkId, put};
use crate::gang::{self, Set, Topology};
use crate::node::{Node, Seat, charge, release, room_beside};
use crate::request::Request;

/// The most domains a gang with a required one is tried in.
const DOMAINS_TRIED_MAX: usize = 256;
/// The most victims of a mixed gang of which each is tried whether it can be kept.
const KEPT_TRIED_MAX: usize = 512;

/// Running work that may be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub work: WorkId,
    /// All of a lower tier are stopped before one of a higher is.
    pub tier: u32,
}

/// Why nobody is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Even on empty nodes there is room for this many members only, of the set and in the
    /// best of the domains that are allowed.
    TooLarge { set: usize, room: u32 },
    /// All candidates together would not free enough.
    NotEnough,
}

/// What it takes to make room for one more member on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    /// The highest tier among the victims.
    tier: u32,
    /// How many members are stopped, on all nodes.
    members: usize,
    /// How many of them on this node; the fewer, the more is freed elsewhere beside.
    here: usize,
    /// Place of the victims in the order of candidates, the one to be stopped last first.
    order: Vec<usize>,
    node: NodeId,
    /// What was chosen when this was made; newer choices may have changed it.
    version: u32,
}

struct Search<'e> {
    engine: &'e Engine,
    candidates: &'e [Candidate],
    request: Request,
    per_node_max: u32,
    /// Candidates that have members on a node, in their order.
    on_node: HashMap<NodeId, Vec<usize>>,
    chosen: BTreeSet<usize>,
    version: HashMap<NodeId, u32>,
}

impl Engine {
    /// The victims by whose end the work has room, those to be stopped first coming first.
    /// `candidates` are in the order in which one would rather stop them.
    ///
    /// # Errors
    /// When it has no room even so.
    pub fn victims(&mut self, work: &Work, candidates: &[Candidate]) -> Result<Vec<WorkId>, Refusal> {
        self.without_reservations(|engine| engine.choose_victims(work, candidates))
    }

    fn choose_victims(&mut self, work: &Work, candidates: &[Candidate]) -> Result<Vec<WorkId>, Refusal> {
        let sets = self.sets(work);
        self.check_capacity(&sets, work.topology)?;
        let mut candidates: Vec<Candidate> = candidates.iter().copied().filter(|one| self.running.contains_key(&one.work)).collect();
        candidates.sort_by_key(|candidate| candidate.tier);
        if let [set] = sets[..] {
            return self.victims_for_equals(set, work.topology, &candidates).ok_or(Refusal::NotEnough);
        }
        self.victims_in_order(&sets, work.topology, &candidates).ok_or(Refusal::NotEnough)
    }

    fn check_capacity(&mut self, sets: &[Set], topology: Topology) -> Result<(), Refusal> {
        for (place, set) in sets.iter().enumerate() {
            let runs = self.runs(topology);
            let most = runs.iter().map(|run| self.cluster.room_when_empty(set.class, run.as_ref())).max().unwrap_or(0);
            if most < set.count {
                return Err(Refusal::TooLarge { set: place, room: most });
            }
        }
        Ok(())
    }

    /// The domains the gang may be in; `None` stands for all nodes.
    fn runs(&mut self, topology: Topology) -> Vec<Option<Run>> {
        match topology.required {
            None => vec![None],
            Some(level) => self.cluster.domains(level).iter().map(|domain| Some(domain.run.clone())).collect(),
        }
    }

    fn victims_for_equals(&mut self, set: Set, topology: Topology, candidates: &[Candidate]) -> Option<Vec<WorkId>> {
        let mut best: Option<((u32, usize), Vec<usize>)> = None;
        for run in self.runs(topology).into_iter().take(DOMAINS_TRIED_MAX) {
            let room = self.room_within(set, run.as_ref());
            let nodes: Option<BTreeSet<NodeId>> = run.as_ref().map(|run| self.cluster.nodes_in(run).iter().copied().collect());
            let mut search = Search::new(self, set, candidates, nodes.as_ref());
            if !search.choose(set.count, room) {
                continue;
            }
            let chosen: Vec<usize> = search.chosen.into_iter().collect();
            let cost = cost(self, candidates, &chosen);
            if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
                continue;
            }
            let kept = self.keep_the_needless(set, topology, run.as_ref(), candidates, chosen)?;
            best = Some((cost, kept));
        }
        best.map(|(_, chosen)| chosen.into_iter().map(|place| candidates[place].work).collect())
    }

    fn room_within(&mut self, set: Set, within: Option<&Run>) -> u32 {
        let Some(most) = set.per_node_max else { return self.cluster.room(set.class, within) };
        let all = 0..self.cluster.len();
        let nodes = self.cluster.nodes_in(within.unwrap_or(&all)).to_vec();
        nodes.into_iter().map(|node| self.cluster.room_on(set.class, node).min(most)).fold(0, u32::saturating_add)
    }

    /// Leaves out victims without whom there is room still, those one would stop last first.
    /// `None` if there is no room even with all of them gone.
    fn keep_the_needless(
        &mut self,
        set: Set,
        topology: Topology,
        within: Option<&Run>,
        candidates: &[Candidate],
        mut chosen: Vec<usize>,
    ) -> Option<Vec<usize>> {
        let placed = |engine: &Self, place: usize| engine.running[&candidates[place].work].placed.clone();
        for place in &chosen {
            let seats = placed(self, *place);
            gang::unseat(&mut self.cluster, &seats);
        }
        let fits = |engine: &mut Self| match set.per_node_max {
            None => engine.cluster.room(set.class, within) >= set.count,
            Some(_) => {
                let seated = gang::seat(&mut engine.cluster, &[set], topology);
                seated.is_some_and(|seated| {
                    gang::unseat(&mut engine.cluster, &seated);
                    true
                })
            }
        };
        let enough = fits(self);
        let mut back = BTreeSet::new();
        for place in chosen.iter().rev().copied() {
            let seats = placed(self, place);
            put(&mut self.cluster, &seats);
            if enough && fits(self) {
                back.insert(place);
            } else if enough {
                gang::unseat(&mut self.cluster, &seats);
            }
        }
        chosen.retain(|place| !back.contains(place));
        if !enough {
            return None;
        }
        for place in &chosen {
            let seats = placed(self, *place);
            put(&mut self.cluster, &seats);
        }
        Some(chosen)
    }

    /// For gangs of several kinds of members.
    fn victims_in_order(&mut self, sets: &[Set], topology: Topology, candidates: &[Candidate]) -> Option<Vec<WorkId>> {
        let fits = |engine: &mut Self| {
            gang::seat(&mut engine.cluster, sets, topology).is_some_and(|placed| {
                gang::unseat(&mut engine.cluster, &placed);
                true
            })
        };
        let mut gone: Vec<WorkId> = Vec::new();
        let mut enough = fits(self);
        for candidate in candidates {
            if enough {
                break;
            }
            let placed = self.running[&candidate.work].placed.clone();
            gang::unseat(&mut self.cluster, &placed);
            gone.push(candidate.work);
            enough = fits(self);
        }
        let mut needed = Vec::new();
        for (tried, work) in gone.iter().rev().enumerate() {
            let placed = self.running[work].placed.clone();
            put(&mut self.cluster, &placed);
            if enough && (tried >= KEPT_TRIED_MAX || !fits(self)) {
                gang::unseat(&mut self.cluster, &placed);
                needed.push(*work);
            }
        }
        for work in &needed {
            let placed = self.running[work].placed.clone();
            put(&mut self.cluster, &placed);
        }
        needed.reverse();
        enough.then_some(needed)
    }
}

/// Highest tier, then members that are stopped.
fn cost(engine: &Engine, candidates: &[Candidate], chosen: &[usize]) -> (u32, usize) {
    let tier = chosen.iter().map(|place| candidates[*place].tier).max().unwrap_or(0);
    (tier, chosen.iter().map(|place| engine.running[&candidates[*place].work].placed.len()).sum())
}

impl<'e> Search<'e> {
    fn new(engine: &'e Engine, set: Set, candidates: &'e [Candidate], nodes: Option<&BTreeSet<NodeId>>) -> Self {
        let request = engine.cluster.request(set.class).clone();
        let mut on_node: HashMap<NodeId, Vec<usize>> = HashMap::new();
        for (place, candidate) in candidates.iter().enumerate() {
            for one in &engine.running[&candidate.work].placed {
                if nodes.is_some_and(|nodes| !nodes.contains(&one.node)) {
                    continue;
                }
                let here = on_node.entry(one.node).or_default();
                if here.last() != Some(&place) {
                    here.push(place);
                }
            }
        }
        let allowed = |id: &NodeId| {
            engine
                .cluster
                .node(*id)
                .is_some_and(|node| node.facts.open && request.constraints.allow(&node.facts.name, &node.facts.labels, &node.facts.taints))
        };
        on_node.retain(|id, _| allowed(id));
        let per_node_max = set.per_node_max.unwrap_or(ROOM_MAX);
        Self { engine, candidates, request, per_node_max, on_node, chosen: BTreeSet::new(), version: HashMap::new() }
    }

    /// Chooses victims until `count` members have room; answers whether that came about.
    fn choose(&mut self, count: u32, mut room: u32) -> bool {
        let mut rooms: BTreeMap<NodeId, u32> = self.on_node.keys().map(|id| (*id, self.room_on(*id))).collect();
        let mut offers: BinaryHeap<Reverse<Offer>> = rooms.keys().copied().filter_map(|id| self.offer(id)).map(Reverse).collect();
        while room < count {
            let Some(Reverse(offer)) = offers.pop() else { return false };
            // There is a newer one of the same node.
            if offer.version != self.version_of(offer.node) {
                continue;
            }
            let mut touched: BTreeSet<NodeId> = [offer.node].into();
            for place in &offer.order {
                self.chosen.insert(*place);
                touched.extend(self.engine.running[&self.candidates[*place].work].placed.iter().map(|one| one.node));
            }
            for id in touched {
                let Some(before) = rooms.get_mut(&id) else { continue };
                *self.version.entry(id).or_default() += 1;
                let now = self.room_on(id);
                room = room.saturating_add(now.saturating_sub(*before));
                *before = now;
                offers.extend(self.offer(id).map(Reverse));
            }
        }
        true
    }

    fn version_of(&self, id: NodeId) -> u32 {
        self.version.get(&id).copied().unwrap_or(0)
    }

    /// The node with the seats of those who were chosen free.
    fn bare(&self, id: NodeId) -> Bare {
        let node = self.engine.cluster.node(id).expect("only nodes that are there were listed");
        let mut bare = Bare::of(node);
        for place in self.on_node[&id].iter().filter(|place| self.chosen.contains(place)) {
            bare.free(self.seats(*place, id));
        }
        bare
    }

    fn seats(&self, place: usize, id: NodeId) -> impl Iterator<Item = &'e Seat> {
        let placed = &self.engine.running[&self.candidates[place].work].placed;
        placed.iter().filter(move |one| one.node == id).map(|one| &one.seat)
    }

    fn room_in(&self, bare: &Bare) -> u32 {
        room_beside(&bare.free, &bare.devices, &bare.shared, &self.request, &self.engine.cluster.models, self.per_node_max)
    }

    fn room_on(&self, id: NodeId) -> u32 {
        self.room_in(&self.bare(id))
    }

    /// The cheapest way to one more member on a node.
    fn offer(&self, id: NodeId) -> Option<Offer> {
        let mut bare = self.bare(id);
        let wanted = self.room_in(&bare) + 1;
        if wanted > self.per_node_max {
            return None;
        }
        let mut gone: Vec<usize> = Vec::new();
        for place in self.on_node[&id].iter().copied().filter(|place| !self.chosen.contains(place)) {
            bare.free(self.seats(place, id));
            gone.push(place);
            if self.room_in(&bare) >= wanted {
                break;
            }
        }
        if self.room_in(&bare) < wanted {
            return None;
        }
        // The last was needed; of those before, whoever is not stays, the dearest first.
        let mut needed = vec![gone.pop()?];
        while let Some(place) = gone.pop() {
            let mut without = bare.clone();
            without.take(self.seats(place, id));
            if self.room_in(&without) >= wanted {
                bare = without;
            } else {
                needed.push(place);
            }
        }
        let tier = needed.iter().map(|place| self.candidates[*place].tier).max().unwrap_or(0);
        let members = needed.iter().map(|place| self.engine.running[&self.candidates[*place].work].placed.len()).sum();
        let here = needed.iter().map(|place| self.seats(*place, id).count()).sum();
        Some(Offer { tier, members, here, order: needed, node: id, version: self.version_of(id) })
    }
}

/// What is free on a node, apart from all else.
#[derive(Clone)]
struct Bare {
    free: crate::resource::Vector,
    devices: Vec<crate::device::Device>,
    shared: crate::sharing::Shared,
}

impl Bare {
    fn of(node: &Node) -> Self {
        Self { free: node.free.clone(), devices: node.devices.clone(), shared: node.shared.clone() }
    }

    fn free<'s>(&mut self, seats: impl Iterator<Item = &'s Seat>) {
        for seat in seats {
            release(&mut self.free, &mut self.shared, seat);
            for held in &seat.grant {
                give_back(&mut self.devices[usize::from(held.device)], *held);
            }
        }
    }

    fn take<'s>(&mut self, seats: impl Iterator<Item = &'s Seat>) {
        for seat in seats {
            charge(&mut self.free, &mut self.shared, seat);
            for held in &seat.grant {
                let device = &mut self.devices[usize::from(held.device)];
                device.free -= held.compute;
                device.memory_free_mib -= held.memory_mib;
                device.sliced |= held.slices;
            }
        }
    }
}
