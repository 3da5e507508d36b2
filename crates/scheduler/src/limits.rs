//! Bounds on amounts, where having no bound and a bound of zero are different things.

use smallvec::SmallVec;

use crate::resource::ResourceId;

/// An amount for some resources, nothing said about the others. Amounts are not negative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits(SmallVec<[(ResourceId, i64); 4]>);

impl Limits {
    /// What is said of this resource.
    pub fn get(&self, resource: ResourceId) -> Option<i64> {
        self.0.binary_search_by_key(&resource, |entry| entry.0).ok().map(|place| self.0[place].1)
    }

    /// Says something else; `None` takes back what was said. An amount below zero is zero.
    pub fn set(&mut self, resource: ResourceId, amount: Option<i64>) {
        match (self.0.binary_search_by_key(&resource, |entry| entry.0), amount) {
            (Ok(place), Some(amount)) => self.0[place].1 = amount.max(0),
            (Ok(place), None) => drop(self.0.remove(place)),
            (Err(place), Some(amount)) => self.0.insert(place, (resource, amount.max(0))),
            (Err(_), None) => {}
        }
    }

    /// In the order of resources.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceId, i64)> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The last word on a resource counts.
impl FromIterator<(ResourceId, i64)> for Limits {
    fn from_iter<I: IntoIterator<Item = (ResourceId, i64)>>(pairs: I) -> Self {
        let mut limits = Self::default();
        for (resource, amount) in pairs {
            limits.set(resource, Some(amount));
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_a_limit_and_nothing_said_is_none() {
        let mut limits: Limits = [(ResourceId::MEMORY, 0), (ResourceId::CPU, -5), (ResourceId::MEMORY, 7)].into_iter().collect();
        assert_eq!(limits.iter().collect::<Vec<_>>(), [(ResourceId::CPU, 0), (ResourceId::MEMORY, 7)]);
        assert_eq!((limits.get(ResourceId::CPU), limits.get(ResourceId::PODS)), (Some(0), None));
        limits.set(ResourceId::CPU, None);
        limits.set(ResourceId::MEMORY, None);
        assert!(limits.is_empty());
    }
}
