//! A bounded map whose entries all live equally long.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Because every entry lives equally long, the order of insertion is the order of expiry:
/// making room is popping from the front.
///
/// Invariant: every key of `entries` stands in `order` with the time it was put there, and
/// `entries` never holds more than `entries_max`.
pub(crate) struct Expiring<K, V> {
    entries: HashMap<K, (Instant, V)>,
    order: VecDeque<(Instant, K)>,
    entries_max: usize,
    lifetime: Duration,
}

impl<K: Hash + Eq + Clone, V> Expiring<K, V> {
    pub(crate) fn new(entries_max: usize, lifetime: Duration) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), entries_max, lifetime }
    }

    /// The value, unless it expired.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (inserted_at, value) = self.entries.get(key)?;
        (now.duration_since(*inserted_at) < self.lifetime).then_some(value)
    }

    /// Puts a value in; the oldest entry leaves when there is no room.
    pub(crate) fn insert(&mut self, key: K, value: V, now: Instant) {
        self.expire(now);
        while self.order.len() >= self.entries_max {
            self.pop_oldest();
        }
        self.entries.insert(key.clone(), (now, value));
        self.order.push_back((now, key));
    }

    /// Takes a value out, unless it expired.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: Instant) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (inserted_at, value) = self.entries.remove(key)?;
        (now.duration_since(inserted_at) < self.lifetime).then_some(value)
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.lifetime) {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            // A key that was put in again since has a later time, and stays.
            && self.entries.get(&key).is_some_and(|(inserted_at, _)| *inserted_at == at)
        {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_gone_after_its_lifetime() {
        let start = Instant::now();
        let mut map = Expiring::new(4, Duration::from_secs(5));
        map.insert("a", 1, start);
        assert_eq!(map.get("a", start + Duration::from_secs(4)), Some(&1));
        assert_eq!(map.get("a", start + Duration::from_secs(5)), None);
        map.insert("b", 2, start + Duration::from_secs(6));
        assert_eq!(map.entries.len(), 1);
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let start = Instant::now();
        let mut map = Expiring::new(2, Duration::from_secs(5));
        for (second, key) in ["a", "b", "a", "c"].into_iter().enumerate() {
            map.insert(key, second, start + Duration::from_millis(second as u64));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!((map.get("a", now), map.get("b", now), map.get("c", now)), (Some(&2), None, Some(&3)));
        assert!(map.order.len() <= 2 && map.entries.len() <= 2);
    }

    #[test]
    fn a_removed_entry_is_gone_and_its_place_is_freed_in_time() {
        let start = Instant::now();
        let mut map = Expiring::new(2, Duration::from_secs(5));
        map.insert("a", 1, start);
        assert_eq!(map.remove("a", start), Some(1));
        assert_eq!(map.remove("a", start), None);
        map.insert("b", 2, start);
        map.insert("c", 3, start);
        assert_eq!(map.get("b", start), Some(&2));
    }
}
