//! Nodes with an index over them: which has room for a member, and which is the best.
//!
//! Members with the same [`Request`] make a class. For each class there is a tournament over
//! all nodes in the order of their domains, so that the best node of the cluster, of a zone or
//! of a rack is found in logarithmic time, and so is how many members have room there. A
//! change to a node is written into a log; a class reads what it has missed when it is asked
//! next, so a decision costs as much as what has changed, not as much as there is.
//!
//! Invariants
//! - A leaf of an up-to-date class is what [`Scorer::score`] and [`Node::room`] say of the
//!   node now (held by a property test against a scan).
//! - A node that a request prefers goes before all others; equal scores go to the node that
//!   comes first by name.

use std::collections::HashMap;
use std::ops::Range;

use crate::device::{Device, Models};
use crate::node::{Facts, Node, Seat};
use crate::preference;
use crate::request::Request;
use crate::scoring::{Mix, Placement, Scorer};
use crate::tournament::{Key, Tournament};

/// A node, by its place in the cluster. Not used again after the node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    fn place(self) -> usize {
        self.0 as usize
    }
}

/// A class of members with equal requests. Good until [`Cluster::forget_classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u32);

/// More classes than this are a sign that requests hardly ever agree; see
/// [`Cluster::is_crowded`].
const CLASSES_MAX: usize = 4096;
/// The most leaves of all tournaments; each takes 24 bytes.
const LEAVES_MAX: usize = 1 << 25;
/// No node is asked whether it has room for more members than this.
pub(crate) const ROOM_MAX: u32 = 1 << 16;

/// A run of nodes in the order of domains.
pub type Run = Range<usize>;

/// A domain of some level: a zone, a block, a rack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its names from the widest level down to its own.
    pub path: Vec<String>,
    pub run: Run,
}

/// Nodes, what is free on them, and the index over it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub models: Models,
    scorer: Scorer,
    nodes: Vec<Option<Node>>,
    by_name: HashMap<String, NodeId>,
    layout: Option<Layout>,
    classes: Vec<Class>,
    class_ids: HashMap<Request, ClassId>,
    /// Nodes that changed, in order; `log_start` is the number of the first entry.
    log: Vec<NodeId>,
    log_start: u64,
    /// Number of the last log entry of each node.
    changed_at: Vec<u64>,
    /// Number of the last log entry of each node by which its facts changed.
    facts_at: Vec<u64>,
    /// Use of classes, counted; tells which was not needed longest.
    uses: u64,
    leaves: usize,
    random: u64,
}

/// The order of nodes.
#[derive(Clone, Debug)]
struct Layout {
    /// Nodes by leaf.
    order: Vec<NodeId>,
    /// Leaf of each node.
    leaf: Vec<u32>,
    /// Place of each node by name.
    rank: Vec<u32>,
    by_rank: Vec<NodeId>,
    /// Domains of each level, the widest level first.
    levels: Vec<Vec<Domain>>,
}

#[derive(Clone, Debug)]
struct Class {
    request: Request,
    tree: Option<Tree>,
    used_at: u64,
}

#[derive(Clone, Debug)]
struct Tree {
    tournament: Tournament,
    /// What the request thinks of the node, by leaf.
    likings: Vec<Liking>,
    /// Log entries read.
    read: u64,
}

impl Cluster {
    pub fn new(placement: Placement, mix: Mix) -> Self {
        Self {
            models: Models::default(),
            scorer: Scorer::new(placement, mix),
            nodes: Vec::new(),
            by_name: HashMap::new(),
            layout: None,
            classes: Vec::new(),
            class_ids: HashMap::new(),
            log: Vec::new(),
            log_start: 0,
            changed_at: Vec::new(),
            facts_at: Vec::new(),
            uses: 0,
            leaves: 0,
            random: 0,
        }
    }

    /// Fixes what [`Placement::Random`] chooses from here on.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// Another policy, or another mix. Every score is made anew.
    pub fn set_scorer(&mut self, placement: Placement, mix: Mix) {
        self.scorer = Scorer::new(placement, mix);
        self.layout = None;
    }

    pub fn placement(&self) -> Placement {
        self.scorer.placement()
    }

    /// A new node.
    ///
    /// # Panics
    /// When its name is taken.
    pub fn add(&mut self, facts: Facts, devices: Vec<Device>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer nodes than numbers"));
        let before = self.by_name.insert(facts.name.clone(), id);
        assert!(before.is_none(), "node {} is there already", facts.name);
        self.nodes.push(Some(Node::new(facts, devices)));
        self.changed_at.push(0);
        self.facts_at.push(0);
        self.layout = None;
        id
    }

    /// Takes a node away; whoever ran there has lost their seat.
    pub fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.nodes[id.place()].take() {
            self.by_name.remove(&node.facts.name);
            self.layout = None;
        }
    }

    /// Opens or closes a node for new members.
    pub fn set_open(&mut self, id: NodeId, open: bool) {
        let Some(node) = &mut self.nodes[id.place()] else { return };
        if node.facts.open != open {
            node.facts.open = open;
            self.changed(id);
        }
    }

    /// Replaces what a node is; what runs there goes on. Cards can only change their health.
    pub fn set_facts(&mut self, id: NodeId, facts: Facts) {
        let Some(node) = &mut self.nodes[id.place()] else { return };
        if node.facts == facts {
            return;
        }
        if node.facts.name != facts.name || node.facts.domains != facts.domains {
            self.by_name.remove(&node.facts.name);
            self.by_name.insert(facts.name.clone(), id);
            self.layout = None;
        }
        if node.facts.allocatable != facts.allocatable {
            for (resource, amount) in node.facts.allocatable.iter() {
                node.free[resource] -= amount;
            }
            for (resource, amount) in facts.allocatable.iter() {
                node.free[resource] += amount;
            }
            // Scores are relative to the largest node, which may be another one now.
            self.layout = None;
        }
        node.facts = facts;
        self.changed(id);
        self.facts_at[id.place()] = self.changed_at[id.place()];
    }

    pub fn set_healthy(&mut self, id: NodeId, card: u8, healthy: bool) {
        let Some(node) = &mut self.nodes[id.place()] else { return };
        if let Some(device) = node.devices.get_mut(usize::from(card)) {
            device.healthy = healthy;
            self.changed(id);
        }
    }

    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The node, while it is there.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.place()).and_then(Option::as_ref)
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((NodeId(place as u32), node.as_ref()?)))
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The class of members with this request.
    pub fn class(&mut self, request: &Request) -> ClassId {
        if let Some(id) = self.class_ids.get(request) {
            return *id;
        }
        let id = ClassId(self.classes.len() as u32);
        self.classes.push(Class { request: request.clone(), tree: None, used_at: 0 });
        self.class_ids.insert(request.clone(), id);
        id
    }

    pub fn request(&self, class: ClassId) -> &Request {
        &self.classes[class.0 as usize].request
    }

    /// Whether so many classes were made that it is time for [`Cluster::forget_classes`].
    pub fn is_crowded(&self) -> bool {
        self.classes.len() > CLASSES_MAX
    }

    /// Forgets all classes; their ids are void.
    pub fn forget_classes(&mut self) {
        self.classes.clear();
        self.class_ids.clear();
        self.leaves = 0;
    }

    /// The best node with room for a member of the class, of all or of a run.
    pub fn best(&mut self, class: ClassId, within: Option<&Run>) -> Option<NodeId> {
        self.refresh(class);
        let tree = self.classes[class.0 as usize].tree.as_ref().expect("refreshed");
        let layout = self.layout.as_ref().expect("refreshed");
        if self.scorer.placement() == Placement::Random && self.classes[class.0 as usize].request.preferred.is_empty() {
            let run = within.cloned().unwrap_or(0..layout.order.len());
            let open = tree.tournament.total_in(&run);
            if open == 0 {
                return None;
            }
            self.random = self.random.wrapping_add(STEP);
            let nth = (u128::from(mixed(self.random)) * u128::from(open)) >> 64;
            return tree.tournament.nth(&run, nth as u32).map(|leaf| layout.order[leaf]);
        }
        let key = within.map_or_else(|| tree.tournament.best(), |run| tree.tournament.best_in(run));
        (key > 0).then(|| layout.by_rank[(u32::MAX - key as u32) as usize])
    }

    /// How many members of the class have room, in all or in a run. With
    /// [`Placement::Random`], how many nodes have room for one.
    pub fn room(&mut self, class: ClassId, within: Option<&Run>) -> u32 {
        self.refresh(class);
        let tree = self.classes[class.0 as usize].tree.as_ref().expect("refreshed");
        within.map_or_else(|| tree.tournament.total(), |run| tree.tournament.total_in(run))
    }

    /// How many members of the class have room on one node.
    pub fn room_on(&mut self, class: ClassId, node: NodeId) -> u32 {
        self.refresh(class);
        let tree = self.classes[class.0 as usize].tree.as_ref().expect("refreshed");
        let layout = self.layout.as_ref().expect("refreshed");
        layout.leaf.get(node.place()).filter(|leaf| **leaf != u32::MAX).map_or(0, |leaf| tree.tournament.count(*leaf as usize))
    }

    /// How many members of the class would have room if nothing ran anywhere; closed nodes
    /// not counted. Looks at every node.
    pub fn room_when_empty(&mut self, class: ClassId, within: Option<&Run>) -> u32 {
        self.lay_out();
        let layout = self.layout.as_ref().expect("laid out");
        let order = within.map_or(&layout.order[..], |run| &layout.order[run.clone()]);
        let request = &self.classes[class.0 as usize].request;
        let nodes = order.iter().filter_map(|id| self.nodes[id.place()].as_ref());
        let open =
            nodes.filter(|node| node.facts.open && request.constraints.allow(&node.facts.name, &node.facts.labels, &node.facts.taints));
        open.map(|node| node.room_when_empty(request, &self.models, ROOM_MAX)).fold(0, u32::saturating_add)
    }

    /// Domains of a level, the widest level being 0; empty when there is no such level.
    pub fn domains(&mut self, level: usize) -> &[Domain] {
        self.lay_out();
        self.layout.as_ref().expect("laid out").levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// Nodes of a run, in its order.
    pub fn nodes_in(&mut self, run: &Run) -> &[NodeId] {
        self.lay_out();
        &self.layout.as_ref().expect("laid out").order[run.clone()]
    }

    /// Seats a member of the class on a node that has room for it.
    pub fn take(&mut self, class: ClassId, id: NodeId) -> Seat {
        let request = &self.classes[class.0 as usize].request;
        let node = self.nodes[id.place()].as_mut().expect("members are seated on nodes that are there");
        self.random = self.random.wrapping_add(STEP);
        let cards = self.scorer.cards(node, request, &self.models, mixed(self.random));
        let seat = node.take(request, &cards, &self.models);
        self.changed(id);
        seat
    }

    /// Seats a member that runs there already.
    pub fn put(&mut self, id: NodeId, seat: &Seat) {
        if let Some(node) = &mut self.nodes[id.place()] {
            node.put(seat);
            self.changed(id);
        }
    }

    /// Frees a seat. Of a node that is gone there is nothing to free.
    pub fn give_back(&mut self, id: NodeId, seat: &Seat) {
        if let Some(node) = &mut self.nodes[id.place()] {
            node.give_back(seat);
            self.changed(id);
        }
    }

    fn changed(&mut self, id: NodeId) {
        // Beyond that a class is better made anew than brought up to date.
        if self.log.len() > 4 * self.nodes.len() + 64 {
            let half = self.log.len() / 2;
            self.log.drain(..half);
            self.log_start += half as u64;
        }
        self.log.push(id);
        self.changed_at[id.place()] = self.log_start + self.log.len() as u64;
    }

    fn drop_trees(&mut self) {
        for class in &mut self.classes {
            class.tree = None;
        }
        self.leaves = 0;
    }

    fn lay_out(&mut self) {
        if self.layout.is_some() {
            return;
        }
        self.drop_trees();
        self.scorer.survey(self.nodes.iter().flatten());
        let count = self.nodes.len();
        let present = |id: &NodeId| self.nodes[id.place()].as_ref().expect("listed because it is there");
        let mut by_rank: Vec<NodeId> = (0..count as u32).map(NodeId).filter(|id| self.nodes[id.place()].is_some()).collect();
        by_rank.sort_by(|a, b| present(a).facts.name.cmp(&present(b).facts.name));
        let mut rank = vec![u32::MAX; count];
        for (place, id) in by_rank.iter().enumerate() {
            rank[id.place()] = place as u32;
        }
        let mut order = by_rank.clone();
        // Stable: names order the nodes of a domain.
        order.sort_by(|a, b| present(a).facts.domains.cmp(&present(b).facts.domains));
        let mut leaf = vec![u32::MAX; count];
        for (place, id) in order.iter().enumerate() {
            leaf[id.place()] = place as u32;
        }
        let depth = order.iter().map(|id| present(id).facts.domains.len()).max().unwrap_or(0);
        let mut levels = Vec::with_capacity(depth);
        for level in 0..depth {
            let mut domains: Vec<Domain> = Vec::new();
            for (place, id) in order.iter().enumerate() {
                let Some(path) = present(id).facts.domains.get(..=level) else { continue };
                match domains.last_mut() {
                    Some(domain) if domain.path == path => domain.run.end = place + 1,
                    _ => domains.push(Domain { path: path.to_vec(), run: place..place + 1 }),
                }
            }
            levels.push(domains);
        }
        self.layout = Some(Layout { order, leaf, rank, by_rank, levels });
    }

    /// Brings the tournament of a class up to date.
    fn refresh(&mut self, class: ClassId) {
        self.lay_out();
        self.uses += 1;
        let now = self.log_start + self.log.len() as u64;
        let entry = &mut self.classes[class.0 as usize];
        entry.used_at = self.uses;
        let stale = entry.tree.as_ref().is_none_or(|tree| tree.read < self.log_start || now - tree.read > self.nodes.len() as u64);
        if stale {
            self.build(class, now);
            return;
        }
        let layout = self.layout.as_ref().expect("laid out above");
        let tree = entry.tree.as_mut().expect("not stale");
        for number in tree.read..now {
            let id = self.log[(number - self.log_start) as usize];
            // A later entry of the same node will do.
            if self.changed_at[id.place()] != number + 1 {
                continue;
            }
            let Some(node) = &self.nodes[id.place()] else { continue };
            let leaf = layout.leaf[id.place()] as usize;
            if self.facts_at[id.place()] > tree.read {
                tree.likings[leaf] = liking(&entry.request, &node.facts);
            }
            let (key, count) = leaf_of(&self.scorer, &self.models, node, &entry.request, tree.likings[leaf], layout.rank[id.place()]);
            tree.tournament.set(leaf, key, count);
        }
        tree.read = now;
    }

    fn build(&mut self, class: ClassId, now: u64) {
        let leaves = self.by_name.len().next_power_of_two() * 2;
        if self.classes[class.0 as usize].tree.take().is_some() {
            self.leaves -= leaves;
        }
        while self.leaves + leaves > LEAVES_MAX && self.leaves > 0 {
            let oldest = self.classes.iter_mut().filter(|class| class.tree.is_some()).min_by_key(|class| class.used_at);
            oldest.expect("leaves belong to trees").tree = None;
            self.leaves -= leaves;
        }
        self.leaves += leaves;
        let layout = self.layout.as_ref().expect("laid out before");
        let request = &self.classes[class.0 as usize].request;
        let at = |id: &NodeId| self.nodes[id.place()].as_ref().expect("the layout holds nodes that are there");
        let likings: Vec<Liking> = layout.order.iter().map(|id| liking(request, &at(id).facts)).collect();
        let keys = layout
            .order
            .iter()
            .zip(&likings)
            .map(|(id, liking)| leaf_of(&self.scorer, &self.models, at(id), request, *liking, layout.rank[id.place()]));
        let tournament = Tournament::new(keys);
        self.classes[class.0 as usize].tree = Some(Tree { tournament, likings, read: now });
    }
}

/// How much a request prefers a node; `None` where its constraints do not allow it.
type Liking = Option<u16>;

fn liking(request: &Request, facts: &Facts) -> Liking {
    let allowed = request.constraints.allow(&facts.name, &facts.labels, &facts.taints);
    allowed.then(|| preference::level(&request.preferred, &facts.labels, &facts.name))
}

/// Where the level of preference begins in a key.
const LEVEL_SHIFT: u32 = 53;
/// The highest score, by one, that leaves the level as it is. All policies stay below it.
const SCORE_MAX: Key = (1 << (LEVEL_SHIFT - 32)) - 1;

/// Key and room of a node for a request. The key is the level of preference above the score above
/// the rank by name, the first name the highest.
fn leaf_of(scorer: &Scorer, models: &Models, node: &Node, request: &Request, liking: Liking, rank: u32) -> (Key, u32) {
    let Some(level) = liking.filter(|_| node.facts.open) else { return (0, 0) };
    let room = node.room(request, models, ROOM_MAX);
    if room == 0 {
        return (0, 0);
    }
    let score = (Key::from(scorer.score(node, request, models)) + 1).min(SCORE_MAX);
    let key = Key::from(level) << LEVEL_SHIFT | score << 32 | Key::from(u32::MAX - rank);
    (key, if scorer.placement() == Placement::Random { 1 } else { room })
}

/// What the counter behind random numbers grows by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles a counter into a random number (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
