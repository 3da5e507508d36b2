//! Accelerators inside a node: whole cards, shares of a card, and slices.
//!
//! A card is used in one way at a time: whole by one, in shares (compute and memory are two
//! amounts, both kept), or cut into slices by the vendor's means. Slices follow the placement
//! rules of NVIDIA's MIG: a profile takes a run of memory slices that may start at certain
//! places only (<https://docs.nvidia.com/datacenter/tesla/mig-user-guide/>).

use smallvec::SmallVec;

/// A whole card, in thousandths.
pub const WHOLE: u16 = 1000;

/// The most cards of a node; more are not counted by any vendor's box.
pub const DEVICES_MAX: usize = 64;

/// An accelerator model, by its place in [`Models`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u8);

/// Accelerator models that a cluster has or that are asked for.
#[derive(Clone, Debug, Default)]
pub struct Models(Vec<Model>);

/// What the scheduler needs to know of an accelerator model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    /// The memory of a card; zero when it is not known.
    pub memory_mib: u32,
    /// How a card can be cut; empty where it cannot.
    pub profiles: Vec<Profile>,
}

/// A size of slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// How many of the card's memory slices it takes, side by side; at most eight.
    pub width: u8,
    /// Where the run may start.
    pub starts: Vec<u8>,
    /// Its part of the card's compute, in thousandths; what it is accounted as.
    pub compute: u16,
}

impl Models {
    /// The most models told apart, so that a set of them is one word.
    pub const MAX: usize = 128;

    /// The number of a model, a new one if its name is not known. `None` beyond
    /// [`Models::MAX`].
    pub fn intern(&mut self, name: &str) -> Option<ModelId> {
        let known = self.id(name);
        if known.is_some() || self.0.len() == Self::MAX {
            return known;
        }
        self.0.push(Model { name: name.to_owned(), ..Model::default() });
        Some(ModelId((self.0.len() - 1) as u8))
    }

    pub fn id(&self, name: &str) -> Option<ModelId> {
        self.0.iter().position(|model| model.name == name).map(|place| ModelId(place as u8))
    }

    pub fn get(&self, id: ModelId) -> &Model {
        &self.0[usize::from(id.0)]
    }

    /// Takes in what is known of a model.
    pub fn describe(&mut self, model: &Model) {
        if let Some(id) = self.intern(&model.name) {
            self.0[usize::from(id.0)] = model.clone();
        }
    }

    pub fn set_profiles(&mut self, id: ModelId, profiles: Vec<Profile>) {
        self.0[usize::from(id.0)].profiles = profiles;
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A set of models; [`ModelSet::ANY`] holds also those not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelSet(u128);

impl ModelSet {
    pub const ANY: Self = Self(u128::MAX);

    pub fn holds(self, model: ModelId) -> bool {
        self.0 >> model.0 & 1 == 1
    }
}

impl ModelSet {
    /// Those of it that have a number.
    pub(crate) fn ids(self) -> impl Iterator<Item = ModelId> {
        (0..Models::MAX as u8).map(ModelId).filter(move |id| self.holds(*id))
    }
}

impl FromIterator<ModelId> for ModelSet {
    fn from_iter<I: IntoIterator<Item = ModelId>>(models: I) -> Self {
        Self(models.into_iter().fold(0, |set, model| set | 1 << model.0))
    }
}

/// The cards one member asks for, all on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceRequest {
    pub models: ModelSet,
    /// How many cards; above zero.
    pub count: u8,
    /// What of each.
    pub each: Each,
}

/// What is asked of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Each {
    Whole,
    /// A part: thousandths of its compute, and MiB of its memory.
    Share {
        compute: u16,
        memory_mib: u32,
    },
    /// A slice, by the place of its profile in the model.
    Slice {
        profile: u8,
    },
}

/// A card of a node and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub model: ModelId,
    /// Thousandths of its compute that are free.
    pub free: u16,
    pub memory_mib: u32,
    pub memory_free_mib: u32,
    /// Memory slices in use, a bit each.
    pub sliced: u8,
    /// Cards with the same number reach each other over a fast link.
    pub island: u8,
    pub numa: u8,
    /// False when it is not to be given out.
    pub healthy: bool,
}

impl Device {
    /// A free card.
    pub fn new(model: ModelId, memory_mib: u32) -> Self {
        Self { model, free: WHOLE, memory_mib, memory_free_mib: memory_mib, sliced: 0, island: 0, numa: 0, healthy: true }
    }

    /// Makes it free, whoever held it.
    pub fn clear(&mut self) {
        (self.free, self.memory_free_mib, self.sliced) = (WHOLE, self.memory_mib, 0);
    }

    pub fn is_idle(&self) -> bool {
        self.healthy && self.free == WHOLE && self.sliced == 0 && self.memory_free_mib == self.memory_mib
    }

    /// How many more requests like this it can hold.
    pub fn room_for(&self, each: Each, models: &Models) -> u32 {
        if !self.healthy {
            return 0;
        }
        match each {
            Each::Whole => u32::from(self.is_idle()),
            Each::Share { compute, memory_mib } => {
                if self.sliced != 0 {
                    return 0;
                }
                let by_compute = self.free.checked_div(compute).map_or(u32::MAX, u32::from);
                let by_memory = self.memory_free_mib.checked_div(memory_mib).unwrap_or(u32::MAX);
                by_compute.min(by_memory)
            }
            Each::Slice { profile } => {
                let Some(profile) = models.get(self.model).profiles.get(usize::from(profile)) else { return 0 };
                if self.sliced == 0 && !self.is_idle() {
                    return 0;
                }
                // What is kept of it for a share or the whole card is kept in compute alone.
                let most = self.free.checked_div(profile.compute).map_or(u32::MAX, u32::from);
                let mut used = self.sliced;
                let mut count = 0;
                while count < most
                    && let Some(start) = slot(profile, used)
                {
                    used |= mask(profile.width, start);
                    count += 1;
                }
                count
            }
        }
    }
}

/// The first place where a slice fits; starts are tried from the last, which leaves the low
/// ones to the wider profiles, as NVIDIA's own driver does.
fn slot(profile: &Profile, used: u8) -> Option<u8> {
    profile.starts.iter().rev().copied().find(|start| used & mask(profile.width, *start) == 0)
}

fn mask(width: u8, start: u8) -> u8 {
    (((1_u16 << width) - 1) << start) as u8
}

/// A part of one card that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The card's place in its node.
    pub device: u8,
    pub compute: u16,
    pub memory_mib: u32,
    /// Memory slices, a bit each; zero when it is no slice.
    pub slices: u8,
}

/// The cards one member holds.
pub type Grant = SmallVec<[Held; 2]>;

/// Takes one request from a card that has room for it.
///
/// # Panics
/// When it has none.
pub fn take(device: &mut Device, place: u8, each: Each, models: &Models) -> Held {
    assert!(device.room_for(each, models) > 0, "a card is given out only while it has room");
    match each {
        Each::Whole => {
            let held = Held { device: place, compute: device.free, memory_mib: device.memory_free_mib, slices: 0 };
            device.free = 0;
            device.memory_free_mib = 0;
            held
        }
        Each::Share { compute, memory_mib } => {
            device.free -= compute;
            device.memory_free_mib -= memory_mib;
            Held { device: place, compute, memory_mib, slices: 0 }
        }
        Each::Slice { profile } => {
            let profile = &models.get(device.model).profiles[usize::from(profile)];
            let start = slot(profile, device.sliced).expect("room was counted by the same search");
            let slices = mask(profile.width, start);
            device.sliced |= slices;
            let compute = profile.compute.min(device.free);
            device.free -= compute;
            Held { device: place, compute, memory_mib: 0, slices }
        }
    }
}

/// Gives back what was taken.
pub fn give_back(device: &mut Device, held: Held) {
    debug_assert!(device.free + held.compute <= WHOLE && device.memory_free_mib + held.memory_mib <= device.memory_mib);
    device.free += held.compute;
    device.memory_free_mib += held.memory_mib;
    device.sliced &= !held.slices;
}

/// How many members with this request the cards of a node can serve, and no more than `most`.
pub fn room(devices: &[Device], request: DeviceRequest, models: &Models, most: u32) -> u32 {
    let fit = devices.iter().filter(|device| request.models.holds(device.model));
    let count = u32::from(request.count);
    if count == 1 {
        return fit.fold(0_u32, |sum, device| sum.saturating_add(device.room_for(request.each, models))).min(most);
    }
    // Members take `count` different cards each. With r_i the room of card i, m members fit if
    // and only if the sum of min(r_i, m) reaches m * count (Gale-Ryser for equal columns).
    let rooms: SmallVec<[u32; 16]> = fit.map(|device| device.room_for(request.each, models)).filter(|room| *room > 0).collect();
    let possible =
        |members: u32| rooms.iter().map(|room| u64::from((*room).min(members))).sum::<u64>() >= u64::from(members) * u64::from(count);
    let mut members = 0;
    while members < most && possible(members + 1) {
        members += 1;
    }
    members
}

/// Cards for a request of several, or of one whole: those of one island if there is one with
/// enough, the one with the fewest to spare; inside it, of one NUMA node where that goes.
/// `None` when there are not enough.
pub fn choose_linked(devices: &[Device], request: DeviceRequest, models: &Models) -> Option<SmallVec<[u8; 8]>> {
    let count = usize::from(request.count);
    let fit: SmallVec<[u8; 16]> = (0..devices.len() as u8)
        .filter(|&place| {
            let device = &devices[usize::from(place)];
            request.models.holds(device.model) && device.room_for(request.each, models) > 0
        })
        .collect();
    if fit.len() < count {
        return None;
    }
    let group = |key: fn(&Device) -> u8, among: &[u8]| {
        let mut groups: SmallVec<[(u8, SmallVec<[u8; 16]>); 4]> = SmallVec::new();
        for &place in among {
            let of = key(&devices[usize::from(place)]);
            match groups.iter_mut().find(|group| group.0 == of) {
                Some(group) => group.1.push(place),
                None => groups.push((of, SmallVec::from_slice(&[place]))),
            }
        }
        groups
    };
    let tightest = |groups: &[(u8, SmallVec<[u8; 16]>)]| {
        groups.iter().filter(|group| group.1.len() >= count).min_by_key(|group| group.1.len()).map(|group| group.1.clone())
    };
    let islands = group(|device| device.island, &fit);
    if let Some(island) = tightest(&islands) {
        let cards = tightest(&group(|device| device.numa, &island)).unwrap_or(island);
        return Some(cards[..count].iter().copied().collect());
    }
    // Over as few islands as possible: the fullest supply first.
    let mut islands = islands;
    islands.sort_by_key(|group| std::cmp::Reverse(group.1.len()));
    Some(islands.iter().flat_map(|group| group.1.iter().copied()).take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a100() -> (Models, ModelId) {
        let mut models = Models::default();
        let id = models.intern("a100").expect("the first model");
        let profile = |name: &str, width, starts: &[u8], compute| Profile { name: name.into(), width, starts: starts.to_vec(), compute };
        models.set_profiles(
            id,
            vec![
                profile("1g.5gb", 1, &[0, 1, 2, 3, 4, 5, 6], 142),
                profile("2g.10gb", 2, &[0, 2, 4], 285),
                profile("3g.20gb", 4, &[0, 4], 428),
                profile("7g.40gb", 8, &[0], 1000),
            ],
        );
        (models, id)
    }

    #[test]
    fn shares_are_bounded_in_compute_and_in_memory() {
        let (models, id) = a100();
        let mut device = Device::new(id, 40_000);
        let each = Each::Share { compute: 200, memory_mib: 15_000 };
        assert_eq!(device.room_for(each, &models), 2);
        let held = take(&mut device, 0, each, &models);
        assert_eq!((device.room_for(each, &models), device.room_for(Each::Whole, &models)), (1, 0));
        give_back(&mut device, held);
        assert!(device.is_idle());
    }

    #[test]
    fn slices_keep_to_the_places_of_their_profile() {
        let (models, id) = a100();
        let device = Device::new(id, 40_000);
        let rooms = [0, 1, 2, 3].map(|profile| device.room_for(Each::Slice { profile }, &models));
        assert_eq!(rooms, [7, 3, 2, 1]);
        let mut device = device;
        let small = take(&mut device, 0, Each::Slice { profile: 0 }, &models);
        // The small one went to the far end, so half a card is still in one piece.
        assert_eq!(device.room_for(Each::Slice { profile: 2 }, &models), 1);
        assert_eq!(device.room_for(Each::Share { compute: 1, memory_mib: 0 }, &models), 0);
        give_back(&mut device, small);
        assert!(device.is_idle());
    }

    #[test]
    fn several_cards_come_from_one_island_and_leave_the_larger_one_whole() {
        let (models, id) = a100();
        let mut devices: Vec<Device> = (0..8).map(|_| Device::new(id, 1)).collect();
        for (place, device) in devices.iter_mut().enumerate() {
            device.island = u8::from(place >= 4);
        }
        devices[1].free = 0;
        let request = DeviceRequest { models: ModelSet::ANY, count: 2, each: Each::Whole };
        assert_eq!(choose_linked(&devices, request, &models).expect("there is room").as_slice(), [0, 2]);
        let request = DeviceRequest { count: 5, ..request };
        assert_eq!(choose_linked(&devices, request, &models).expect("there is room").as_slice(), [4, 5, 6, 7, 0]);
        assert_eq!(room(&devices, DeviceRequest { count: 3, ..request }, &models, 9), 2);
    }

    #[test]
    fn members_of_several_shares_take_different_cards() {
        let (models, id) = a100();
        let devices: Vec<Device> = (0..3).map(|_| Device::new(id, 0)).collect();
        let request = DeviceRequest { models: ModelSet::ANY, count: 2, each: Each::Share { compute: 500, memory_mib: 0 } };
        assert_eq!(room(&devices, request, &models, 99), 3);
        assert_eq!(room(&devices, DeviceRequest { count: 4, ..request }, &models, 99), 0);
    }
}
