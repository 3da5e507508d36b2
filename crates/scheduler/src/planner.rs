//! A scheduler that keeps its state between rounds.
//!
//! It is told what changed: nodes, gangs, queues, rules. A round then costs what changed and
//! what can start, and a look at each gang that waits; clusters with their indices, sums of
//! queues and accounts, and the order of waiting gangs stay as they are. What a round decides is
//! taken back at its end: it becomes true when it is told as a change.
//!
//! What is seldom new (nodes, queues, rules, names of resources, people) has all laid out anew.
//!
//! Invariant: a plan is that of a planner that was just made from the same nodes, gangs, rules
//! and [`Past`], however they came about (held by a property test). So numbers that decide ties
//! go by names, and cards on a node are given anew to all that run there when one of them changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::device::Model;
use crate::engine::{Members, WorkId};
use crate::environment::Environment;
use crate::gang::Topology;
use crate::plan::{Memory, Plan, round};
use crate::rules::{Rules, Whom};
use crate::scoring::{Mix, Shape};
use crate::snapshot::{Amounts, Gang, Member, Node, Pool, Queue, Snapshot};
use crate::table::Table;
use crate::titles::{Charge, Past, Titles};

/// The part of what waits that decides which shapes are usual.
const USUAL: f64 = 0.95;
/// What is usual is as it was until this part of it has changed, so that not every arrival
/// changes the score of every node.
const MIX_CHANGE_MIN: f64 = 0.1;
/// More kinds of gangs than this times the gangs, and some, are a sign that most are of the past.
const KINDS_KEPT: usize = 4;

/// What there is, by slots and places.
#[derive(Default)]
pub(crate) struct World {
    pub pools: Vec<Pool>,
    pub queues: Vec<Queue>,
    pub rules: Rules,
    /// What is known of models of cards.
    pub models: Vec<Model>,
    /// Sorted by name; a place is an index here and in the two lists after.
    pub nodes: Vec<Node>,
    /// What is free.
    pub free: Vec<Amounts>,
    /// What the nodes could give if nothing ran on them.
    pub empty: Vec<Amounts>,
    gangs: Vec<Option<Kept>>,
    by_id: BTreeMap<Arc<str>, usize>,
    pub now: i64,
}

/// A gang and what was made of it.
pub(crate) struct Kept {
    pub gang: Arc<Gang>,
    name: Arc<str>,
    /// What it needs and has no place, by kinds of members.
    pub needed: Option<Needed>,
    /// Gangs with the same number are served alike.
    pub kind: Option<usize>,
    /// Members that have no place, by shape.
    shapes: Vec<Shape>,
    parts: Vec<WorkId>,
    charge: Option<Charge>,
    /// Where it waits.
    waits_in: Option<String>,
}

impl Kept {
    /// What runs of it, in order.
    pub(crate) fn parts(&self) -> &[WorkId] {
        &self.parts
    }
}

/// Members that are placed together.
pub(crate) struct Needed {
    pub sets: Vec<Members>,
    /// Places of the members of each set among those needed.
    pub places: Vec<Vec<usize>>,
}

/// What decides how a gang without places is served, apart from its turn.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    queue: String,
    owner: Whom,
    environment: Environment,
    priority: i32,
    sets: Vec<Members>,
    topology: Topology,
}

impl World {
    pub(crate) fn gang(&self, slot: usize) -> &Gang {
        &self.kept(slot).gang
    }

    pub(crate) fn kept(&self, slot: usize) -> &Kept {
        self.gangs[slot].as_ref().expect("slots that are handed out are in use")
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.place(name).map(|place| &self.nodes[place])
    }

    /// The place of a node.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).ok()
    }

    /// Gangs by id, with their slots.
    pub(crate) fn gangs(&self) -> impl Iterator<Item = (usize, &Gang)> {
        self.by_id.values().map(|slot| (*slot, self.gang(*slot)))
    }

    /// The slot of a gang that is there.
    pub(crate) fn slot(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    fn measure(&mut self, place: usize) {
        let node = &self.nodes[place];
        let mut free = node.allocatable.clone();
        crate::placement::take(&mut free, &node.used, 1);
        self.free[place] = free;
        self.empty[place].clone_from(&node.allocatable);
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Planner {
    world: World,
    free_slots: Vec<usize>,
    /// `None` while all is to be laid out anew.
    laid_out: Option<(Table, Titles)>,
    past: Past,
    /// How many members without a place have each shape.
    shapes: BTreeMap<Shape, u64>,
    mix: Mix,
    kinds: HashMap<Kind, usize>,
    /// Gangs whose queue is not there.
    lost: BTreeSet<(Arc<str>, usize)>,
    /// Gangs for which places are kept.
    claimants: BTreeSet<(Arc<str>, usize)>,
    /// Gangs that hold places for some of the members they need and not for all.
    halves: BTreeSet<(Arc<str>, usize)>,
    memory: Memory,
    /// Whether gangs that wait are told what would help.
    quiet: bool,
    /// The only gang that is told what would help, if there is one.
    asking: Option<String>,
}

impl Planner {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that knows what is in a snapshot.
    pub fn of(snapshot: &Snapshot, past: &Past) -> Self {
        let mut planner = Self { past: past.clone(), ..Self::default() };
        planner.set_pools(&snapshot.pools);
        planner.set_queues(&snapshot.queues);
        planner.set_rules(&snapshot.rules);
        planner.set_models(&snapshot.models);
        for node in &snapshot.nodes {
            planner.set_node(node.clone());
        }
        for gang in &snapshot.gangs {
            planner.set_gang(gang.clone());
        }
        planner
    }

    /// Is shown all there is now; finds out itself what of it changed.
    pub fn show(&mut self, snapshot: &Snapshot) {
        self.set_pools(&snapshot.pools);
        self.set_queues(&snapshot.queues);
        self.set_rules(&snapshot.rules);
        self.set_models(&snapshot.models);
        let nodes: HashSet<&str> = snapshot.nodes.iter().map(|node| node.name.as_str()).collect();
        let gangs: HashSet<&str> = snapshot.gangs.iter().map(|gang| gang.id.as_str()).collect();
        let gone: Vec<String> = self.nodes().filter(|node| !nodes.contains(node.name.as_str())).map(|node| node.name.clone()).collect();
        for name in gone {
            self.remove_node(&name);
        }
        let gone: Vec<String> = self.gangs().filter(|gang| !gangs.contains(gang.id.as_str())).map(|gang| gang.id.clone()).collect();
        for id in gone {
            self.remove_gang(&id);
        }
        for node in &snapshot.nodes {
            if self.world.place(&node.name).is_none_or(|place| self.world.nodes[place] != *node) {
                self.set_node(node.clone());
            }
        }
        for gang in &snapshot.gangs {
            if self.gang(&gang.id) != Some(gang) {
                self.set_gang(gang.clone());
            }
        }
    }

    /// Leaves out what would help those that wait; finding it takes a good part of a round.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// What would help is found for this gang, wherever it stands, and for no other.
    pub fn set_asking(&mut self, gang: &str) {
        self.asking = Some(gang.to_owned());
    }

    pub fn set_pools(&mut self, pools: &[Pool]) {
        let mut pools = pools.to_vec();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        if self.world.pools != pools {
            self.world.pools = pools;
            self.lay_out_anew();
        }
    }

    pub fn set_queues(&mut self, queues: &[Queue]) {
        let mut queues = queues.to_vec();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        if self.world.queues != queues {
            self.world.queues = queues;
            self.lay_out_anew();
        }
    }

    pub fn set_rules(&mut self, rules: &Rules) {
        if self.world.rules != *rules {
            self.world.rules = rules.clone();
            self.lay_out_anew();
        }
    }

    /// What is known of models of cards, by whose names nodes have some.
    pub fn set_models(&mut self, models: &[Model]) {
        if self.world.models != models {
            self.world.models = models.to_vec();
            self.lay_out_anew();
        }
    }

    /// A node that is new or has changed.
    pub fn set_node(&mut self, node: Node) {
        let world = &mut self.world;
        let place = match world.nodes.binary_search_by(|other| other.name.cmp(&node.name)) {
            Err(place) => {
                world.nodes.insert(place, node);
                world.free.insert(place, Amounts::new());
                world.empty.insert(place, Amounts::new());
                world.measure(place);
                return self.lay_out_anew();
            }
            Ok(place) => place,
        };
        let before = &world.nodes[place];
        if *before == node {
            return;
        }
        let elsewhere = before.pool != node.pool || before.allocatable != node.allocatable || before.domains != node.domains;
        world.nodes[place] = node;
        world.measure(place);
        match &mut self.laid_out {
            Some((table, _)) if !elsewhere => table.change_node(&self.world.nodes[place]),
            _ => self.lay_out_anew(),
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(place) = self.world.place(name) {
            self.world.nodes.remove(place);
            self.world.free.remove(place);
            self.world.empty.remove(place);
            self.lay_out_anew();
        }
    }

    /// Names of the nodes that are known.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.world.nodes.iter()
    }

    /// The gang of this id.
    pub fn gang(&self, id: &str) -> Option<&Gang> {
        self.world.by_id.get(id).map(|slot| self.world.gang(*slot))
    }

    /// All gangs, by id.
    pub fn gangs(&self) -> impl Iterator<Item = &Gang> {
        self.world.gangs().map(|(_, gang)| gang)
    }

    /// A gang that is new or has changed.
    pub fn set_gang(&mut self, gang: impl Into<Arc<Gang>>) {
        let gang = gang.into();
        let slot = match self.world.by_id.get(gang.id.as_str()) {
            Some(slot) if *self.world.gang(*slot) == *gang => return,
            Some(slot) => {
                let slot = *slot;
                self.detach(slot);
                self.world.gangs[slot].as_mut().expect("it was found by its id").gang = gang;
                slot
            }
            None => {
                let slot = self.free_slots.pop().unwrap_or(self.world.gangs.len());
                let name: Arc<str> = Arc::from(gang.id.as_str());
                self.world.by_id.insert(Arc::clone(&name), slot);
                let kept =
                    Kept { gang, name, needed: None, kind: None, shapes: Vec::new(), parts: Vec::new(), charge: None, waits_in: None };
                if slot == self.world.gangs.len() {
                    self.world.gangs.push(None);
                }
                self.world.gangs[slot] = Some(kept);
                slot
            }
        };
        self.attach(slot);
    }

    pub fn remove_gang(&mut self, id: &str) {
        if let Some(slot) = self.world.by_id.get(id).copied() {
            self.detach(slot);
            self.world.by_id.remove(id);
            self.world.gangs[slot] = None;
            self.free_slots.push(slot);
        }
    }

    /// Decides for every gang, at this moment.
    pub fn plan(&mut self, now: i64) -> Plan {
        self.world.now = now;
        if self.kinds.len() > KINDS_KEPT * self.world.by_id.len() + 1024 {
            self.lay_out_anew();
        }
        if self.laid_out.is_none() {
            self.lay_out();
        }
        let (mut table, mut titles) = self.laid_out.take().expect("laid out above");
        let usual = Mix::typical_of(&self.shapes, USUAL);
        if !usual.shapes.is_empty() && usual.distance(&self.mix) > MIX_CHANGE_MIN {
            table.set_mix(&self.world.pools, &usual);
            self.mix = usual;
        }
        table.begin(&self.world);
        titles.begin(now, self.past.at);
        self.past.at = Some(now);
        let mut free = std::mem::take(&mut self.world.free);
        let slots = |gangs: &BTreeSet<(Arc<str>, usize)>| gangs.iter().map(|(_, slot)| *slot).collect::<Vec<_>>();
        let (lost, claimants, halves) = (slots(&self.lost), slots(&self.claimants), slots(&self.halves));
        // One that is not there asks nothing.
        let asking = self.asking.as_ref().map(|gang| self.world.by_id.get(gang.as_str()).copied().unwrap_or(usize::MAX));
        let told = round::Told { quiet: self.quiet, asking };
        let round = round::Round::new(&self.world, &mut table, &mut titles, &mut free, &mut self.memory, told);
        let plan = round.serve_all(&lost, &claimants, &halves);
        self.world.free = free;
        self.laid_out = Some((table, titles));
        plan
    }

    /// What a planner that takes over from this one should know.
    pub fn past(&self) -> Past {
        let Some((table, titles)) = &self.laid_out else { return self.past.clone() };
        Past { at: self.past.at, averages: titles.past(table), mix: table.named(&self.mix) }
    }

    fn lay_out_anew(&mut self) {
        self.past = self.past();
        self.laid_out = None;
    }

    /// Lays out everything.
    fn lay_out(&mut self) {
        let world = &self.world;
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let rules = world.rules.ceilings.iter().map(|(_, amounts)| amounts);
        let queues = world.queues.iter().flat_map(|queue| [&queue.guaranteed, &queue.limit]);
        let nodes = world.nodes.iter().flat_map(|node| [&node.allocatable, &node.used]);
        let gangs = world.gangs().flat_map(|(_, gang)| requests(gang));
        names.extend(rules.chain(queues).chain(nodes).chain(gangs).flat_map(|amounts| amounts.keys().map(String::as_str)));
        names.extend(self.past.averages.values().flatten().map(|(name, _)| name.as_str()));
        let models: Vec<String> = self
            .past
            .mix
            .iter()
            .filter_map(|shape| shape.3.as_ref())
            .flatten()
            .map(|model| format!("{}{model}", crate::table::CARDS))
            .collect();
        names.extend(models.iter().map(String::as_str));
        let mut table = Table::of(&world.pools, &world.queues, &world.nodes, &world.models, &names);
        let mut people: Vec<&Whom> = world.gangs().map(|(_, gang)| &gang.owner).collect();
        people.sort_by_key(|whom| (&whom.tenant, &whom.organization, &whom.project, &whom.user, &whom.groups));
        people.dedup();
        let titles = Titles::of(world, &people, &table, &self.past);
        self.mix = table.numbered(&self.past.mix);
        table.set_mix(&world.pools, &self.mix);
        self.memory = Memory::default();
        self.kinds.clear();
        self.shapes.clear();
        self.lost.clear();
        self.claimants.clear();
        self.halves.clear();
        self.laid_out = Some((table, titles));
        let slots: Vec<usize> = self.world.by_id.values().copied().collect();
        for slot in slots {
            self.attach(slot);
        }
    }

    /// Makes of a gang what rounds need of it.
    fn attach(&mut self, slot: usize) {
        let gang = &self.world.kept(slot).gang;
        let Some((table, titles)) = &mut self.laid_out else { return };
        if !titles.knows(&gang.owner) || !table.knows(requests(gang).flat_map(Amounts::keys)) {
            return self.lay_out_anew();
        }
        let kept = self.world.gangs[slot].as_mut().expect("slots that are handed out are in use");
        let gang = &kept.gang;
        kept.parts = table.put(slot, gang);
        kept.charge = titles.hold(gang, table.held(gang));
        if gang.claims {
            self.claimants.insert((Arc::clone(&kept.name), slot));
        }
        let pending = || gang.sets.iter().flat_map(|set| &set.pending);
        if pending().next().is_none() {
            return;
        }
        let sharing = table.sharing(slot, gang);
        let needed = round::needed(gang);
        let (sets, places) = table.kinds(&needed, sharing);
        let extras: Vec<&Member> = gang.sets.iter().flat_map(|set| &set.pending[set.needed().min(set.pending.len())..]).collect();
        let (more, others) = table.kinds(&extras, sharing);
        kept.shapes = shapes(&sets, &places).chain(shapes(&more, &others)).collect();
        for shape in &kept.shapes {
            *self.shapes.entry(*shape).or_default() += 1;
        }
        if gang.placed.is_empty() && extras.is_empty() {
            let kind = Kind {
                queue: gang.queue.clone(),
                owner: gang.owner.clone(),
                environment: gang.environment,
                priority: gang.priority,
                sets: sets.clone(),
                topology: gang.topology,
            };
            let next = self.kinds.len();
            kept.kind = Some(*self.kinds.entry(kind).or_insert(next));
        }
        kept.needed = Some(Needed { sets, places });
        kept.waits_in = titles.enqueue(WorkId(slot as u64), &kept.name, gang, pending().map(round::cards).sum::<i64>() / 1000);
        if kept.waits_in.is_none() {
            self.lost.insert((Arc::clone(&kept.name), slot));
        }
        if round::is_half(gang) {
            self.halves.insert((Arc::clone(&kept.name), slot));
        }
    }

    /// Undoes what [`Planner::attach`] did.
    fn detach(&mut self, slot: usize) {
        let kept = self.world.gangs[slot].as_mut().expect("slots that are handed out are in use");
        let parts = std::mem::take(&mut kept.parts);
        let (charge, waits_in) = (kept.charge.take(), kept.waits_in.take());
        (kept.needed, kept.kind) = (None, None);
        self.lost.remove(&(Arc::clone(&kept.name), slot));
        self.claimants.remove(&(Arc::clone(&kept.name), slot));
        self.halves.remove(&(Arc::clone(&kept.name), slot));
        for shape in std::mem::take(&mut kept.shapes) {
            if let Some(count) = self.shapes.get_mut(&shape) {
                *count -= 1;
                if *count == 0 {
                    self.shapes.remove(&shape);
                }
            }
        }
        let Some((table, titles)) = &mut self.laid_out else { return };
        table.take(&kept.gang, &parts);
        if let Some(charge) = charge {
            titles.let_go(&charge);
        }
        if let Some(pool) = waits_in {
            titles.dequeue(WorkId(slot as u64), &pool);
        }
    }
}

/// The shape of each member.
fn shapes<'m>(sets: &'m [Members], places: &'m [Vec<usize>]) -> impl Iterator<Item = Shape> + 'm {
    sets.iter().zip(places).flat_map(|(set, places)| places.iter().map(|_| Shape::of(&set.request)))
}

/// What each member of a gang asks for.
fn requests(gang: &Gang) -> impl Iterator<Item = &Amounts> {
    let pending = gang.sets.iter().flat_map(|set| &set.pending).map(|member| &member.requests);
    pending.chain(gang.placed.iter().map(|member| &member.requests))
}
