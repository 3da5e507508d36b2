//! How much of a node's idle cards is of no use to what is usually asked for, and how much
//! more of it would be if a member came.
//!
//! Weng, Yang, Yu et al.: Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
//! Fragmentation Gradient Descent. USENIX ATC 2023.

use smallvec::SmallVec;

use super::{FULL, Scorer};
use crate::device::{Each, ModelId, Models};
use crate::node::Node;
use crate::request::Request;
use crate::resource::ResourceId;

/// What is free of a node's healthy cards, and its cores.
struct Idle {
    cpu: i64,
    /// Thousandths of each card, beside its model; cut cards are left out.
    cards: SmallVec<[(ModelId, u16); 8]>,
}

impl Idle {
    fn of(node: &Node) -> Self {
        let cards = node.devices.iter().map(|device| (device.model, if device.healthy && device.sliced == 0 { device.free } else { 0 }));
        Self { cpu: node.free.get(ResourceId::CPU), cards: cards.collect() }
    }
}

impl Scorer {
    /// The part of the idle cards, in thousandths of a card, that a member drawn from the mix
    /// could not use; in the mean.
    fn fragment(&self, idle: &Idle) -> f64 {
        let all: u32 = idle.cards.iter().map(|card| u32::from(card.1)).sum();
        if all == 0 {
            return 0.0;
        }
        let mut sum = 0.0;
        for (shape, weight) in &self.mix.shapes {
            let mut useless = 0_u32;
            let mut fit = 0_u8;
            for &(model, free) in &idle.cards {
                if shape.models.holds(model) && free >= shape.compute {
                    fit += 1;
                } else {
                    useless += u32::from(free);
                }
            }
            let none = shape.cards == 0 || fit < shape.cards || idle.cpu < shape.cpu;
            sum += weight * f64::from(if none { all } else { useless });
        }
        sum
    }

    /// The best score over the cards the member could get, and that card when it asks for a
    /// part of one.
    pub(super) fn best_gradient(&self, node: &Node, request: &Request, models: &Models, score: impl Fn(f64) -> u32) -> (u32, Option<u8>) {
        let mut idle = Idle::of(node);
        let before = self.fragment(&idle);
        idle.cpu -= request.demand.get(ResourceId::CPU);
        let Some(devices) = request.devices else { return (score(before - self.fragment(&idle)), None) };
        let part = match devices.each {
            Each::Share { compute, .. } if devices.count == 1 => compute,
            // A slice opens or fills a card that no share can use then.
            Each::Slice { .. } if devices.count == 1 => return (score(before - self.fragment(&idle)), None),
            _ => {
                for place in super::device::choose_linked(&node.devices, devices, models).unwrap_or_default() {
                    let taken = match devices.each {
                        Each::Whole | Each::Slice { .. } => idle.cards[usize::from(place)].1,
                        Each::Share { compute, .. } => compute,
                    };
                    idle.cards[usize::from(place)].1 -= taken;
                }
                return (score(before - self.fragment(&idle)), None);
            }
        };
        let mut best: Option<(u32, u8)> = None;
        let mut tried: SmallVec<[(ModelId, u16, u32); 8]> = SmallVec::new();
        for (place, device) in node.devices.iter().enumerate() {
            let look = (device.model, device.free, device.memory_free_mib);
            if !devices.models.holds(device.model) || device.room_for(devices.each, models) == 0 || tried.contains(&look) {
                continue;
            }
            tried.push(look);
            idle.cards[place].1 -= part;
            let score = score(before - self.fragment(&idle));
            idle.cards[place].1 += part;
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, place as u8));
            }
        }
        best.map_or((0, None), |(score, place)| (score, Some(place)))
    }

    /// The paper's score.
    pub(super) fn gradient(&self, node: &Node, request: &Request, models: &Models) -> (u32, Option<u8>) {
        self.best_gradient(node, request, models, hundredths)
    }
}

/// A sigmoid of thousandths of a card, in whole hundredths. The rounding is part of the
/// method: it makes nodes equal, and the first of equals is taken, which keeps the others
/// whole.
pub(super) fn hundredths(less: f64) -> u32 {
    (FULL / (1.0 + (-less / 1000.0).exp())) as u32
}
