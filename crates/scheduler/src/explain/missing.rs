//! How much is missing of something, and where it would be needed.

use super::{Asked, Constraint, asking_no, without};
use crate::cluster::{NodeId, Run};
use crate::device::{Device, DeviceRequest, Each, WHOLE};
use crate::engine::{Engine, Work};
use crate::node::Node;
use crate::request::Request;

/// No more members than this are counted on a node.
const MEMBERS_MAX: u32 = 1 << 16;

/// The least that would have to be added for the gang to fit, everything else being as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// In the unit of the resource; cards in thousandths of a card.
    pub amount: i64,
    /// Where it would be added.
    pub nodes: Vec<Room>,
}

/// An addition to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub node: NodeId,
    pub amount: i64,
}

/// A node that could take more members if it had more of what is asked.
struct Place {
    node: NodeId,
    /// Members it takes as it is.
    now: u32,
    /// Members it takes when there is no end of what is asked.
    most: u32,
    /// What the first member beyond `now` lacks; each after it lacks all it asks for.
    first: i64,
}

impl Engine {
    /// What is missing for a gang of equal members, with these constraints lifted. `None` for
    /// others.
    pub(super) fn missing(&mut self, work: &Work, lifted: &[Constraint], asked: Asked) -> Option<Missing> {
        let work = without(work, lifted);
        let [set] = &work.sets[..] else { return None };
        let each = match asked {
            Asked::Amount(id) => set.request.demand.get(id),
            Asked::Cards => set.request.cards(),
        };
        let opened = if lifted.contains(&Constraint::Closed) { self.open_all() } else { Vec::new() };
        let all: Run = 0..self.cluster.len();
        let runs: Vec<Run> = match work.topology.required {
            None => Vec::from([all]),
            Some(level) => self.cluster.domains(level).iter().map(|domain| domain.run.clone()).collect(),
        };
        let per_node_max = set.per_node_max.unwrap_or(MEMBERS_MAX);
        let mut best: Option<Missing> = None;
        for run in runs {
            let nodes = self.cluster.nodes_in(&run).to_vec();
            let places = nodes.into_iter().filter_map(|id| self.place(id, &set.request, asked, each, per_node_max)).collect();
            if let Some(missing) = least(places, set.count, each)
                && best.as_ref().is_none_or(|best| missing.amount < best.amount)
            {
                best = Some(missing);
            }
        }
        for node in opened {
            self.cluster.set_open(node, false);
        }
        best
    }

    fn place(&self, id: NodeId, request: &Request, asked: Asked, each: i64, per_node_max: u32) -> Option<Place> {
        let node = self.cluster.node(id)?;
        let facts = &node.facts;
        if !facts.open || !request.constraints.allow(&facts.name, &facts.labels, &facts.taints) {
            return None;
        }
        let models = &self.cluster.models;
        let now = node.room(request, models, per_node_max);
        let most = node.room(&asking_no(request, asked), models, per_node_max);
        let spare = match asked {
            Asked::Amount(resource) => node.free.get(resource).max(0) - i64::from(now) * each,
            Asked::Cards => spare_cards(node, request.devices?, now),
        };
        Some(Place { node: id, now, most, first: each - spare.clamp(0, each) })
    }
}

/// What is free of cards that a member beyond `now` could make use of, in thousandths.
fn spare_cards(node: &Node, request: DeviceRequest, now: u32) -> i64 {
    let usable = |device: &&Device| device.healthy && request.models.holds(device.model);
    let used = i64::from(now) * i64::from(request.count);
    match request.each {
        Each::Whole => {
            let idle = node.devices.iter().filter(usable).filter(|device| device.is_idle()).count() as i64;
            (idle - used) * i64::from(WHOLE)
        }
        Each::Share { .. } if now == 0 && request.count == 1 => {
            node.devices.iter().filter(usable).filter(|device| device.sliced == 0).map(|device| i64::from(device.free)).max().unwrap_or(0)
        }
        // After members on several cards, what is left of each is not followed up.
        Each::Share { .. } | Each::Slice { .. } => 0,
    }
}

/// The cheapest additions for `count` members that ask for `each`.
fn least(mut places: Vec<Place>, count: u32, each: i64) -> Option<Missing> {
    let now = places.iter().map(|place| place.now).fold(0, u32::saturating_add);
    let mut left = count.saturating_sub(now);
    // The first member more on a node may lack little; those after it lack everything.
    places.retain(|place| place.most > place.now);
    places.sort_by_key(|place| (place.first, place.node));
    let mut missing = Missing::default();
    for place in &mut places {
        if left == 0 {
            break;
        }
        missing.nodes.push(Room { node: place.node, amount: place.first });
        place.now += 1;
        left -= 1;
    }
    for place in &places {
        let more = left.min(place.most - place.now);
        if more == 0 {
            continue;
        }
        let amount = each.saturating_mul(i64::from(more));
        match missing.nodes.iter_mut().find(|room| room.node == place.node) {
            Some(room) => room.amount += amount,
            None => missing.nodes.push(Room { node: place.node, amount }),
        }
        left -= more;
    }
    missing.amount = missing.nodes.iter().map(|room| room.amount).sum();
    (left == 0).then_some(missing)
}
