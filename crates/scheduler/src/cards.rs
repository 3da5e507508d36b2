//! Cards as snapshots and plans name them: by model, and by their place among the node's cards
//! of that model. In the engine they are [`Device`]s, by their place among all of the node.

use std::collections::BTreeSet;

use crate::device::{DEVICES_MAX, Device, DeviceRequest, Each, Grant, Held, ModelId, ModelSet, Models, WHOLE};
use crate::node::Node;
use crate::snapshot::{Amounts, Member, Milli};

/// What names of accelerators begin with.
pub(crate) const CARDS: &str = "gpu.fermion.dev/";
/// Thousandths in a unit.
const UNIT: Milli = 1000;

/// A part of one card, which a member asks for in place of whole ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CardPart {
    pub model: String,
    pub size: PartSize,
}

/// How much of a card.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PartSize {
    /// Thousandths of its compute, and MiB of its memory.
    Share { compute: u16, memory_mib: u32 },
    /// A slice, by the name of its profile.
    Slice(String),
}

/// What somebody has of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardHeld {
    pub model: String,
    /// Its place among the node's cards of the model, from 0.
    pub index: u8,
    /// Thousandths of its compute.
    pub compute: u16,
    pub memory_mib: u32,
    /// Places of memory slices it takes, a bit each; zero when it is no slice.
    pub slices: u8,
}

/// How many cards, or how much of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardsAsked {
    Whole(u8),
    Part(PartSize),
}

/// What is asked of cards that no node can give although there is enough in sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCard {
    pub model: String,
    pub asked: CardsAsked,
    /// The node that comes nearest, and what it has: whole cards, or the rest of one. `None`
    /// for a slice, and where no node has any.
    pub nearest: Option<(String, CardsAsked)>,
}

/// The cards a member asks for. Of several models the first by name is placed card by card.
pub(crate) fn asked(member: &Member, models: &Models) -> Option<DeviceRequest> {
    if let Some(part) = &member.part {
        let id = models.id(&part.model);
        let each = match &part.size {
            PartSize::Share { compute, memory_mib } => Each::Share { compute: *compute, memory_mib: *memory_mib },
            // One that the model does not have fits nowhere.
            PartSize::Slice(name) => {
                let place = id.and_then(|id| models.get(id).profiles.iter().position(|profile| profile.name == *name));
                Each::Slice { profile: place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX) }
            }
        };
        return Some(DeviceRequest { models: id.into_iter().collect(), count: 1, each });
    }
    let mut cards = member.requests.iter().filter_map(|(name, amount)| Some((name.strip_prefix(CARDS)?, *amount)));
    cards.find_map(|(model, amount)| {
        let count = u8::try_from(amount / UNIT).ok().filter(|count| usize::from(*count) <= DEVICES_MAX && *count > 0)?;
        let models: ModelSet = models.id(model).into_iter().collect();
        Some(DeviceRequest { models, count, each: Each::Whole })
    })
}

/// The cards of a node, in the order of their models' names.
pub(crate) fn devices(amounts: &Amounts, models: &Models) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for (name, amount) in amounts {
        let model: Option<ModelId> = name.strip_prefix(CARDS).and_then(|model| models.id(model));
        let Some(model) = model else { continue };
        let count = usize::try_from(*amount / UNIT).unwrap_or(0).min(DEVICES_MAX - devices.len());
        devices.extend(std::iter::repeat_n(Device::new(model, models.get(model).memory_mib), count));
    }
    devices
}

/// Places among the node's cards that these are at.
pub(crate) fn places(devices: &[Device], models: &Models, cards: &[CardHeld]) -> BTreeSet<u8> {
    cards.iter().filter_map(|card| place(devices, models, card)).collect()
}

fn place(devices: &[Device], models: &Models, card: &CardHeld) -> Option<u8> {
    let model = models.id(&card.model)?;
    let mut of_model = devices.iter().enumerate().filter(|(_, device)| device.model == model);
    of_model.nth(usize::from(card.index)).map(|(place, _)| place as u8)
}

/// What is taken from the cards of a node by somebody who holds these amounts and, as far as is
/// known, these cards. For the rest any idle cards are taken, but not those that others are known
/// to have. Never more than is free: what was given twice by hand counts once.
pub(crate) fn grant(devices: &[Device], models: &Models, amounts: &Amounts, cards: &[CardHeld], others: &BTreeSet<u8>) -> Grant {
    let mut grant = Grant::new();
    for card in cards {
        let Some(place) = place(devices, models, card) else { continue };
        let device = &devices[usize::from(place)];
        let at = grant.iter().position(|held| held.device == place).unwrap_or_else(|| {
            grant.push(Held { device: place, compute: 0, memory_mib: 0, slices: 0 });
            grant.len() - 1
        });
        let sum = &mut grant[at];
        sum.compute = sum.compute.saturating_add(card.compute).min(device.free);
        sum.memory_mib = sum.memory_mib.saturating_add(card.memory_mib).min(device.memory_free_mib);
        sum.slices |= card.slices & !device.sliced;
    }
    let own: BTreeSet<u8> = grant.iter().map(|held| held.device).collect();
    for (name, amount) in amounts {
        let Some(model) = name.strip_prefix(CARDS).and_then(|model| models.id(model)) else { continue };
        let known: Milli = cards.iter().filter(|card| models.id(&card.model) == Some(model)).map(|card| Milli::from(card.compute)).sum();
        let count = usize::try_from((*amount - known + UNIT - 1) / UNIT).unwrap_or(0);
        let idle = devices.iter().enumerate().filter(|(place, device)| {
            let place = *place as u8;
            device.model == model && device.is_idle() && !own.contains(&place) && !others.contains(&place)
        });
        let taken: Vec<Held> = idle
            .take(count)
            .map(|(place, device)| Held { device: place as u8, compute: WHOLE, memory_mib: device.memory_mib, slices: 0 })
            .collect();
        grant.extend(taken);
    }
    grant
}

/// A grant by names.
pub(crate) fn held(node: &Node, models: &Models, grant: &Grant) -> Vec<CardHeld> {
    let name = |held: &Held| {
        let model = node.devices[usize::from(held.device)].model;
        let index = node.devices[..usize::from(held.device)].iter().filter(|device| device.model == model).count();
        CardHeld {
            model: models.get(model).name.clone(),
            index: index as u8,
            compute: held.compute,
            memory_mib: held.memory_mib,
            slices: held.slices,
        }
    };
    let mut cards: Vec<CardHeld> = grant.iter().map(name).collect();
    cards.sort_by(|a, b| (&a.model, a.index).cmp(&(&b.model, b.index)));
    cards
}

/// What of the cards asked for no node has, with the one that comes nearest.
pub(crate) fn lack<'n>(nodes: impl Iterator<Item = &'n Node>, models: &Models, request: DeviceRequest) -> Option<NoCard> {
    let model = (0..models.len()).map(|place| ModelId(place as u8)).find(|id| request.models.holds(*id))?;
    let of_model = |node: &'n Node| node.devices.iter().filter(move |device| device.model == model && device.healthy);
    let asked = match request.each {
        Each::Whole => CardsAsked::Whole(request.count),
        Each::Share { compute, memory_mib } => CardsAsked::Part(PartSize::Share { compute, memory_mib }),
        Each::Slice { profile } => CardsAsked::Part(PartSize::Slice(models.get(model).profiles.get(usize::from(profile))?.name.clone())),
    };
    let mut nearest: Option<((u64, u64), &Node, CardsAsked)> = None;
    for node in nodes {
        let best = match request.each {
            Each::Whole => {
                let idle = of_model(node).filter(|device| device.is_idle()).count() as u8;
                Some(((u64::from(idle), 0), CardsAsked::Whole(idle)))
            }
            Each::Share { compute, memory_mib } => {
                // How far it goes towards what is asked, in the dimension that is shorter.
                let part = |free: u64, asked: u64| (free * 1000).checked_div(asked).unwrap_or(1000).min(1000);
                let reach = |device: &Device| {
                    let (by_compute, by_memory) =
                        (part(device.free.into(), compute.into()), part(device.memory_free_mib.into(), memory_mib.into()));
                    (by_compute.min(by_memory), by_compute + by_memory)
                };
                let best = of_model(node).filter(|device| device.sliced == 0).max_by_key(|device| reach(device));
                best.map(|device| {
                    let size = PartSize::Share { compute: device.free, memory_mib: device.memory_free_mib };
                    (reach(device), CardsAsked::Part(size))
                })
            }
            Each::Slice { .. } => None,
        };
        // The first of equals stays.
        if let Some((reach, what)) = best.filter(|(reach, _)| nearest.as_ref().is_none_or(|(most, ..)| reach > most)) {
            nearest = Some((reach, node, what));
        }
    }
    let nearest = nearest.map(|(_, node, what)| (node.facts.name.clone(), what));
    Some(NoCard { model: models.get(model).name.clone(), asked, nearest })
}
