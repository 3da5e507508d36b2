//! A node as the scheduler sees it: what it is, and what is free on it.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::device::{self, Device, DeviceRequest, Each, Grant, Models};
use crate::request::Request;
use crate::resource::{Demand, ResourceId, Vector};
use crate::sharing::{Shared, Sharing};
use crate::snapshot::Taint;

/// What a node is, apart from its load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Whether pods may be placed on it: ready and not cordoned.
    pub open: bool,
    /// What pods may ask for in all; cards apart.
    pub allocatable: Vector,
    /// Where it stands, from the widest domain to the narrowest (zone, block, rack). Shorter
    /// than others' where that is not known.
    pub domains: Vec<String>,
}

/// A node and what is free on it.
#[derive(Clone, Debug)]
pub struct Node {
    pub facts: Facts,
    pub free: Vector,
    pub devices: Vec<Device>,
    /// How many members of each manner of using cards it runs; see [`manner`].
    pub manners: SmallVec<[(u8, u32); 4]>,
    /// How many members it runs.
    pub members: u32,
    /// Who shares its processors, and who has it alone.
    pub shared: Shared,
}

/// A member's place, with all that must be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub demand: Demand,
    pub grant: Grant,
    pub manner: u8,
    pub sharing: Sharing,
    /// Whether it is one of a job, which who wants the node alone cannot be beside.
    pub tenant: bool,
}

/// How a member uses cards: 0 not at all, 1 a share or slice, `1 + n` n whole ones.
pub fn manner(devices: Option<DeviceRequest>) -> u8 {
    match devices {
        None => 0,
        Some(DeviceRequest { each: Each::Whole, count, .. }) => count.saturating_add(1),
        Some(_) => 1,
    }
}

/// How many members with this request have room in what is free, at most `most`.
pub fn room(free: &Vector, devices: &[Device], request: &Request, models: &Models, most: u32) -> u32 {
    let room = free.count(&request.demand).map_or(most, |count| u32::try_from(count).unwrap_or(most).min(most));
    match request.devices {
        Some(cards) if room > 0 => device::room(devices, cards, models, room),
        _ => room,
    }
}

/// The same beside those who are there.
pub(crate) fn room_beside(free: &Vector, devices: &[Device], shared: &Shared, request: &Request, models: &Models, most: u32) -> u32 {
    if !shared.admits(request.sharing) {
        return 0;
    }
    let Sharing::Cores { group, count, job } = request.sharing else { return room(free, devices, request, models, most) };
    let asked = request.demand.get(ResourceId::CPU);
    let by_cores = shared.room(free.get(ResourceId::CPU), asked, (group, count, job), most);
    let mut free = free.clone();
    free[ResourceId::CPU] = i64::MAX;
    room(&free, devices, request, models, by_cores)
}

/// Takes what a seat has apart from cards.
pub(crate) fn charge(free: &mut Vector, shared: &mut Shared, seat: &Seat) {
    free.subtract(&seat.demand);
    if seat.tenant {
        let asked = seat.demand.get(ResourceId::CPU);
        free[ResourceId::CPU] += asked - shared.add(seat.sharing, asked);
    }
}

/// Gives it back.
pub(crate) fn release(free: &mut Vector, shared: &mut Shared, seat: &Seat) {
    free.add(&seat.demand);
    if seat.tenant {
        let asked = seat.demand.get(ResourceId::CPU);
        free[ResourceId::CPU] += shared.remove(seat.sharing, asked) - asked;
    }
}

impl Node {
    /// A node that runs nothing.
    pub fn new(facts: Facts, devices: Vec<Device>) -> Self {
        assert!(devices.len() <= device::DEVICES_MAX, "node {} has {} cards", facts.name, devices.len());
        Self { free: facts.allocatable.clone(), facts, devices, manners: SmallVec::new(), members: 0, shared: Shared::default() }
    }

    /// Thousandths of cards that are free, over all healthy cards.
    pub fn cards_free(&self) -> i64 {
        self.devices.iter().filter(|device| device.healthy).map(|device| i64::from(device.free)).sum()
    }

    /// Whether one member has room. Constraints are not looked at.
    pub fn fits(&self, request: &Request, models: &Models) -> bool {
        self.room(request, models, 1) == 1
    }

    /// How many members with this request have room, at most `most`.
    pub fn room(&self, request: &Request, models: &Models, most: u32) -> u32 {
        room_beside(&self.free, &self.devices, &self.shared, request, models, most)
    }

    /// Thousandths of processors that members who share so can still have here; `None` where nobody shares, and
    /// all have what others do not ask for.
    pub fn cores_beside(&self, sharing: Sharing) -> Option<i64> {
        let free = self.free.get(ResourceId::CPU);
        self.shared.is_shared().then(|| match sharing {
            Sharing::Own | Sharing::Node { .. } => free,
            Sharing::Cores { group, count, job } => self.shared.cores_for(free, (group, count, job)),
        })
    }

    /// How many members with this request would have room if nothing ran here.
    pub fn room_when_empty(&self, request: &Request, models: &Models, most: u32) -> u32 {
        let mut devices = self.devices.clone();
        for device in &mut devices {
            device.clear();
        }
        room(&self.facts.allocatable, &devices, request, models, most)
    }

    /// Seats a member on these cards.
    ///
    /// # Panics
    /// When a card has no room for it.
    pub fn take(&mut self, request: &Request, cards: &[u8], models: &Models) -> Seat {
        let each = request.devices.map(|devices| devices.each);
        let grant = cards
            .iter()
            .map(|&place| {
                device::take(&mut self.devices[usize::from(place)], place, each.expect("only a request for cards is given some"), models)
            })
            .collect();
        let manner = manner(request.devices);
        let seat = Seat { demand: request.demand.clone(), grant, manner, sharing: request.sharing, tenant: true };
        self.charge(&seat);
        seat
    }

    /// Seats a member whose cards are known, such as one that ran before the scheduler did.
    pub fn put(&mut self, seat: &Seat) {
        self.charge(seat);
        for held in &seat.grant {
            let device = &mut self.devices[usize::from(held.device)];
            device.free = device.free.saturating_sub(held.compute);
            device.memory_free_mib = device.memory_free_mib.saturating_sub(held.memory_mib);
            device.sliced |= held.slices;
        }
    }

    pub fn give_back(&mut self, seat: &Seat) {
        release(&mut self.free, &mut self.shared, seat);
        for held in &seat.grant {
            device::give_back(&mut self.devices[usize::from(held.device)], *held);
        }
        self.count_manner(seat.manner, false);
    }

    fn charge(&mut self, seat: &Seat) {
        charge(&mut self.free, &mut self.shared, seat);
        self.count_manner(seat.manner, true);
    }

    fn count_manner(&mut self, manner: u8, more: bool) {
        self.members = if more { self.members + 1 } else { self.members - 1 };
        match self.manners.iter_mut().find(|entry| entry.0 == manner) {
            Some(entry) if more => entry.1 += 1,
            Some(entry) => entry.1 -= 1,
            None => self.manners.push((manner, 1)),
        }
        self.manners.retain(|entry| entry.1 > 0);
    }
}
