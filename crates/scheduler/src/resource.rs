//! Resources by number, and amounts of them.
//!
//! Amounts are integers in one unit for each resource: `cpu` in thousandths of a core, `memory`
//! and `storage` in bytes, `pods` in pods, cards of an accelerator model in thousandths of a
//! card, everything else in units.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use smallvec::SmallVec;

/// The place of a resource in [`Resources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u16);

impl ResourceId {
    pub const CPU: Self = Self(0);
    pub const MEMORY: Self = Self(1);
    pub const STORAGE: Self = Self(2);
    pub const PODS: Self = Self(3);

    fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// Names of resources; a name keeps its number for as long as this lives.
#[derive(Clone, Debug)]
pub struct Resources {
    names: Vec<String>,
    ids: HashMap<String, ResourceId>,
}

impl Default for Resources {
    fn default() -> Self {
        let mut resources = Self { names: Vec::new(), ids: HashMap::new() };
        for name in ["cpu", "memory", "ephemeral-storage", "pods"] {
            resources.intern(name);
        }
        resources
    }
}

impl Resources {
    /// The most names that are told apart. A cluster has some tens; those who name resources
    /// are users, so there must be an end.
    pub const MAX: usize = 4096;

    /// The number of a name, a new one if it has none.
    ///
    /// # Panics
    /// With more than [`Resources::MAX`] names; ask [`Resources::id`] or count before.
    pub fn intern(&mut self, name: &str) -> ResourceId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        assert!(self.names.len() < Self::MAX, "more than {} names of resources", Self::MAX);
        let id = ResourceId(self.names.len() as u16);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    pub fn id(&self, name: &str) -> Option<ResourceId> {
        self.ids.get(name).copied()
    }

    pub fn name(&self, id: ResourceId) -> &str {
        &self.names[id.place()]
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: four names are always there.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What something asks for: amounts above zero, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand(SmallVec<[(ResourceId, i64); 4]>);

impl Demand {
    pub fn iter(&self) -> impl Iterator<Item = (ResourceId, i64)> + '_ {
        self.0.iter().copied()
    }

    pub fn get(&self, id: ResourceId) -> i64 {
        self.0.binary_search_by_key(&id, |entry| entry.0).map_or(0, |place| self.0[place].1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This many times as much; saturates.
    #[must_use]
    pub fn times(&self, count: i64) -> Self {
        self.iter().map(|(id, amount)| (id, amount.saturating_mul(count))).collect()
    }

    /// Adds another demand; saturates.
    pub fn add(&mut self, other: &Self) {
        *self = self.iter().chain(other.iter()).collect();
    }
}

/// Amounts of the same resource are summed, those not above zero left out.
impl FromIterator<(ResourceId, i64)> for Demand {
    fn from_iter<I: IntoIterator<Item = (ResourceId, i64)>>(pairs: I) -> Self {
        let mut sums: SmallVec<[(ResourceId, i64); 4]> = SmallVec::new();
        for (id, amount) in pairs {
            match sums.binary_search_by_key(&id, |entry| entry.0) {
                Ok(place) => sums[place].1 = sums[place].1.saturating_add(amount),
                Err(place) => sums.insert(place, (id, amount)),
            }
        }
        sums.retain(|entry| entry.1 > 0);
        Self(sums)
    }
}

/// An amount of every resource. One that was never named counts as zero.
#[derive(Clone, Debug, Default)]
pub struct Vector(Vec<i64>);

impl Vector {
    pub fn get(&self, id: ResourceId) -> i64 {
        self.0.get(id.place()).copied().unwrap_or(0)
    }

    pub fn set(&mut self, id: ResourceId, amount: i64) {
        self[id] = amount;
    }

    pub fn add(&mut self, demand: &Demand) {
        for (id, amount) in demand.iter() {
            self[id] = self[id].saturating_add(amount);
        }
    }

    pub fn subtract(&mut self, demand: &Demand) {
        for (id, amount) in demand.iter() {
            self[id] = self[id].saturating_sub(amount);
        }
    }

    /// Whether all of the demand is there.
    pub fn covers(&self, demand: &Demand) -> bool {
        demand.iter().all(|(id, amount)| self.get(id) >= amount)
    }

    /// How many times the demand is there; `None` when it asks for nothing, so without end.
    pub fn count(&self, demand: &Demand) -> Option<i64> {
        demand.iter().map(|(id, amount)| self.get(id).max(0) / amount).min()
    }

    /// Resources with an amount other than zero.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceId, i64)> + '_ {
        self.0.iter().enumerate().filter(|(_, amount)| **amount != 0).map(|(place, amount)| (ResourceId(place as u16), *amount))
    }
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Vector {}

impl Index<ResourceId> for Vector {
    type Output = i64;

    fn index(&self, id: ResourceId) -> &i64 {
        self.0.get(id.place()).unwrap_or(&0)
    }
}

impl IndexMut<ResourceId> for Vector {
    fn index_mut(&mut self, id: ResourceId) -> &mut i64 {
        if self.0.len() <= id.place() {
            self.0.resize(id.place() + 1, 0);
        }
        &mut self.0[id.place()]
    }
}

impl FromIterator<(ResourceId, i64)> for Vector {
    fn from_iter<I: IntoIterator<Item = (ResourceId, i64)>>(pairs: I) -> Self {
        let mut vector = Self::default();
        for (id, amount) in pairs {
            vector[id] = vector[id].saturating_add(amount);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_sum_equal_names_and_keep_their_order() {
        let demand: Demand =
            [(ResourceId::PODS, 1), (ResourceId::CPU, 500), (ResourceId::PODS, 2), (ResourceId::MEMORY, 0)].into_iter().collect();
        assert_eq!(demand.iter().collect::<Vec<_>>(), [(ResourceId::CPU, 500), (ResourceId::PODS, 3)]);
        assert_eq!((demand.get(ResourceId::CPU), demand.get(ResourceId::MEMORY)), (500, 0));
        assert_eq!(demand.times(2).get(ResourceId::PODS), 6);
    }

    #[test]
    fn what_is_there_is_counted_in_whole_demands() {
        let demand: Demand = [(ResourceId::CPU, 500), (ResourceId::MEMORY, 10)].into_iter().collect();
        let mut free: Vector = [(ResourceId::CPU, 1700), (ResourceId::MEMORY, 25)].into_iter().collect();
        assert_eq!(free.count(&demand), Some(2));
        free.subtract(&demand.times(2));
        assert!(!free.covers(&demand));
        free.add(&demand);
        assert!(free.covers(&demand));
        assert_eq!(free.count(&Demand::default()), None);
    }

    #[test]
    fn a_vector_is_equal_whatever_zeros_it_ends_with() {
        let mut long: Vector = [(ResourceId(9), 1)].into_iter().collect();
        long.set(ResourceId(9), 0);
        assert_eq!(long, Vector::default());
    }
}
