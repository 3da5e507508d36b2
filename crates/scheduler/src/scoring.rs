//! Which of the nodes with room a member goes to, and which of their cards it gets.
//!
//! Every policy gives a node a number from what is free on it and what is asked, nothing
//! else; so a number stays true until the node changes.

mod fragmentation;
mod mix;
mod scarcity;

use smallvec::SmallVec;

pub use self::mix::{Mix, Shape};
use crate::device::{self, DeviceRequest, Each, Models};
use crate::node::{Node, manner};
use crate::request::Request;
use crate::resource::ResourceId;

/// How nodes are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// The least used node, so that load is even. (kube-scheduler's `LeastAllocated`.)
    Spread,
    /// Any node with room, each as likely as the others.
    Random,
    /// The node whose free amounts point least in the direction of what is asked: Tetris'
    /// alignment score as the FGD paper uses it, small products first
    /// (Grandl et al., SIGCOMM 2014).
    DotProduct,
    /// Members that use cards alike go together (Gandiva: Xiao et al., OSDI 2018).
    Clustering,
    /// Cards in use before idle cards before idle nodes (Weng et al., NSDI 2022).
    Packing,
    /// The node with least left over.
    BestFit,
    /// The node whose idle cards become unusable least, by the mix of what is usually asked
    /// for (FGD: Weng et al., USENIX ATC 2023).
    FragmentationGradient,
    /// The gradient, and a price on cards of models that others can do with alone.
    #[default]
    Scarcity,
}

/// The cards chosen for a member.
pub type Cards = SmallVec<[u8; 8]>;

/// Scores nodes by a policy.
#[derive(Clone, Debug)]
pub struct Scorer {
    placement: Placement,
    mix: Mix,
    /// What the largest nodes have.
    largest: Largest,
    /// Cards by model, of all nodes.
    supply: Vec<u32>,
    /// What a card of each model costs beyond the cheapest, for those who could do with
    /// another; see [`prices`](scarcity::prices).
    prices: Vec<f64>,
}

/// The most of each resource that any one node has; scores are relative to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    pub cpu: i64,
    pub memory: i64,
    pub cards: i64,
}

/// A hundred, the range of scores in the papers.
const FULL: f64 = 100.0;

impl Scorer {
    pub fn new(placement: Placement, mix: Mix) -> Self {
        Self { placement, mix, largest: Largest::default(), supply: Vec::new(), prices: Vec::new() }
    }

    pub fn placement(&self) -> Placement {
        self.placement
    }

    pub fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Takes note of all nodes there are, to which scores are relative.
    pub fn survey<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) {
        self.largest = Largest::default();
        self.supply.clear();
        for node in nodes {
            let all = &node.facts.allocatable;
            self.largest.cpu = self.largest.cpu.max(all.get(ResourceId::CPU));
            self.largest.memory = self.largest.memory.max(all.get(ResourceId::MEMORY));
            self.largest.cards = self.largest.cards.max(node.devices.len() as i64 * i64::from(device::WHOLE));
            for device in &node.devices {
                let model = usize::from(device.model.0);
                if self.supply.len() <= model {
                    self.supply.resize(model + 1, 0);
                }
                self.supply[model] += 1;
            }
        }
        self.prices = scarcity::prices(&self.mix, &self.supply);
    }

    /// The score of a node that has room; more is better.
    pub fn score(&self, node: &Node, request: &Request, models: &Models) -> u32 {
        match self.placement {
            Placement::Random => 0,
            Placement::Spread => spread(node, request),
            Placement::DotProduct => self.dot_product(node, request),
            Placement::Clustering => self.clustering(node, request),
            Placement::Packing => packing(node, request, models),
            Placement::BestFit => self.best_fit(node, request),
            Placement::FragmentationGradient => self.gradient(node, request, models).0,
            Placement::Scarcity => self.scarcity(node, request, models).0,
        }
    }

    /// The cards a member gets on a node that has room. `random` is used by
    /// [`Placement::Random`] alone.
    pub fn cards(&self, node: &Node, request: &Request, models: &Models, random: u64) -> Cards {
        let Some(devices) = request.devices else { return Cards::new() };
        if devices.count > 1 || devices.each == Each::Whole {
            return device::choose_linked(&node.devices, devices, models).expect("cards are chosen only where there is room");
        }
        let card = match self.placement {
            Placement::FragmentationGradient => self.gradient(node, request, models).1,
            Placement::Scarcity => self.scarcity(node, request, models).1,
            Placement::Random => any(node, devices, models, random),
            _ => None,
        };
        let card = card.or_else(|| tightest(node, devices, models)).expect("cards are chosen only where there is room");
        Cards::from_slice(&[card])
    }

    /// What is left of the largest node's size once the member is there, as the mean over the
    /// resources that matter: of 0 to 1.
    fn left_over(&self, node: &Node, request: &Request) -> f64 {
        let part = |left: i64, whole: i64| if whole == 0 { 0.0 } else { left as f64 / whole as f64 };
        let cpu = part(node.free.get(ResourceId::CPU) - request.demand.get(ResourceId::CPU), self.largest.cpu);
        if self.largest.cards > 0 {
            return 0.5 * cpu + 0.5 * part(node.cards_free() - request.cards(), self.largest.cards);
        }
        0.5 * cpu + 0.5 * part(node.free.get(ResourceId::MEMORY) - request.demand.get(ResourceId::MEMORY), self.largest.memory)
    }

    fn best_fit(&self, node: &Node, request: &Request) -> u32 {
        ((1.0 - self.left_over(node, request)) * FULL) as u32
    }

    fn dot_product(&self, node: &Node, request: &Request) -> u32 {
        let part = |amount: i64, whole: i64| if whole == 0 { 0.0 } else { amount as f64 / whole as f64 };
        let cpu = part(node.free.get(ResourceId::CPU), self.largest.cpu) * part(request.demand.get(ResourceId::CPU), self.largest.cpu);
        let cards = part(node.cards_free(), self.largest.cards) * part(request.cards(), self.largest.cards);
        ((1.0 - f64::midpoint(cpu, cards)) * FULL).max(0.0) as u32
    }

    fn clustering(&self, node: &Node, request: &Request) -> u32 {
        let own = manner(request.devices);
        if own == 0 {
            return 0;
        }
        let mut others = node.manners.iter().filter(|entry| entry.0 != 0 && entry.0 != own);
        let alike = node.manners.iter().any(|entry| entry.0 == own);
        let base = match (alike, others.next().is_some()) {
            (true, false) => 75,
            (true, true) => 50,
            (false, false) => 25,
            (false, true) => 0,
        };
        let used = (self.largest.cards - node.cards_free()).max(0);
        base + if self.largest.cards == 0 { 0 } else { (25 * used / self.largest.cards) as u32 }
    }
}

/// Of cards with room for a share or slice, the one with least left; the first of equals.
fn tightest(node: &Node, request: DeviceRequest, models: &Models) -> Option<u8> {
    let cards = node.devices.iter().enumerate();
    let fit = cards.filter(|(_, device)| request.models.holds(device.model) && device.room_for(request.each, models) > 0);
    fit.min_by_key(|(_, device)| (device.free, device.memory_free_mib)).map(|(place, _)| place as u8)
}

/// One of the cards with room.
fn any(node: &Node, request: DeviceRequest, models: &Models, random: u64) -> Option<u8> {
    let fits = |device: &device::Device| request.models.holds(device.model) && device.room_for(request.each, models) > 0;
    let fit: Cards = (0..node.devices.len()).filter(|&place| fits(&node.devices[place])).map(|place| place as u8).collect();
    let nth = (u128::from(random) * fit.len() as u128) >> 64;
    fit.get(nth as usize).copied()
}

fn packing(node: &Node, request: &Request, models: &Models) -> u32 {
    let Some(devices) = request.devices else { return 0 };
    let idle = node.devices.iter().filter(|device| device.is_idle()).count() as u32;
    if idle as usize == node.devices.len() {
        return 33_u32.saturating_sub(idle).max(idle);
    }
    let mut fit: SmallVec<[u16; 16]> =
        node.devices.iter().filter(|device| device.room_for(devices.each, models) > 0).map(|device| device.free).collect();
    fit.sort_unstable();
    fit.truncate(usize::from(devices.count));
    let whole = fit.iter().filter(|free| **free == device::WHOLE).count() as u32;
    if whole > 0 {
        return 50_u32.saturating_sub(whole).max(33);
    }
    let free: u32 = fit.iter().map(|free| u32::from(*free) / 10).sum();
    100_u32.saturating_sub(free / 10).max(50)
}

/// The free part of what the node has, of the resource that will be scarcest.
fn spread(node: &Node, request: &Request) -> u32 {
    let part = |left: i64, whole: i64| if whole <= 0 { 1.0 } else { left.max(0) as f64 / whole as f64 };
    let mut least = 1.0_f64;
    for (id, amount) in request.demand.iter() {
        least = least.min(part(node.free.get(id) - amount, node.facts.allocatable.get(id)));
    }
    if request.devices.is_some() {
        let whole = node.devices.len() as i64 * i64::from(device::WHOLE);
        least = least.min(part(node.cards_free() - request.cards(), whole));
    }
    (least * 1e6) as u32
}
