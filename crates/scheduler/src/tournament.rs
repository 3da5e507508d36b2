//! A tournament over places in a row: the best of all, or of any run of them, and the sum of
//! their counts, in time logarithmic in their number.
//!
//! A complete binary tree in an array: the leaves hold the keys, every inner place the
//! larger key of its two children and the sum of their counts.

use std::ops::Range;

/// What a leaf holds. Zero loses against everything.
pub(crate) type Key = u64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tournament {
    leaves: usize,
    keys: Vec<Key>,
    counts: Vec<u32>,
}

impl Tournament {
    pub(crate) fn new(leaves: impl ExactSizeIterator<Item = (Key, u32)>) -> Self {
        let size = leaves.len().next_power_of_two();
        let mut tree = Self { leaves: size, keys: vec![0; 2 * size], counts: vec![0; 2 * size] };
        for (place, (key, count)) in leaves.enumerate() {
            tree.keys[size + place] = key;
            tree.counts[size + place] = count;
        }
        for place in (1..size).rev() {
            tree.settle(place);
        }
        tree
    }

    fn settle(&mut self, place: usize) {
        self.keys[place] = self.keys[2 * place].max(self.keys[2 * place + 1]);
        self.counts[place] = self.counts[2 * place].saturating_add(self.counts[2 * place + 1]);
    }

    pub(crate) fn set(&mut self, leaf: usize, key: Key, count: u32) {
        let mut place = self.leaves + leaf;
        if self.keys[place] == key && self.counts[place] == count {
            return;
        }
        self.keys[place] = key;
        self.counts[place] = count;
        while place > 1 {
            place /= 2;
            let before = (self.keys[place], self.counts[place]);
            self.settle(place);
            if before == (self.keys[place], self.counts[place]) {
                return;
            }
        }
    }

    /// The best key of all; zero when there is none.
    pub(crate) fn best(&self) -> Key {
        self.keys.get(1).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u32 {
        self.counts.get(1).copied().unwrap_or(0)
    }

    /// The best key in a run of leaves.
    pub(crate) fn best_in(&self, run: &Range<usize>) -> Key {
        self.fold(run, 0, |best, place| best.max(self.keys[place]))
    }

    /// The sum of counts in a run of leaves.
    pub(crate) fn total_in(&self, run: &Range<usize>) -> u32 {
        self.fold(run, 0_u32, |sum, place| sum.saturating_add(self.counts[place]))
    }

    /// The leaf that holds the `nth` of all that are counted in the run, from zero.
    pub(crate) fn nth(&self, run: &Range<usize>, nth: u32) -> Option<usize> {
        let before = self.total_in(&(0..run.start));
        let mut left = before.saturating_add(nth);
        if left >= self.total_in(&(0..run.end)) {
            return None;
        }
        let mut place = 1;
        while place < self.leaves {
            place *= 2;
            if left >= self.counts[place] {
                left -= self.counts[place];
                place += 1;
            }
        }
        Some(place - self.leaves)
    }

    pub(crate) fn count(&self, leaf: usize) -> u32 {
        self.counts[self.leaves + leaf]
    }

    /// Visits the fewest inner places that make up the run.
    fn fold<T>(&self, run: &Range<usize>, start: T, mut with: impl FnMut(T, usize) -> T) -> T {
        let (mut low, mut high) = (self.leaves + run.start, self.leaves + run.end);
        let mut value = start;
        while low < high {
            if low % 2 == 1 {
                value = with(value, low);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                value = with(value, high);
            }
            low /= 2;
            high /= 2;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_answer_as_a_scan_does(
            leaves in prop::collection::vec((0_u64..50, 0_u32..9), 1..40),
            changes in prop::collection::vec((0_usize..40, 0_u64..50, 0_u32..9), 0..60),
            low in 0_usize..40, high in 0_usize..40,
        ) {
            let mut plain = leaves.clone();
            let mut tree = Tournament::new(leaves.into_iter());
            for (place, key, count) in changes {
                let place = place % plain.len();
                plain[place] = (key, count);
                tree.set(place, key, count);
            }
            let run = low.min(plain.len())..high.clamp(low.min(plain.len()), plain.len());
            prop_assert_eq!(tree.best(), plain.iter().map(|leaf| leaf.0).max().unwrap_or(0));
            prop_assert_eq!(tree.total(), plain.iter().map(|leaf| leaf.1).sum::<u32>());
            prop_assert_eq!(tree.best_in(&run), plain[run.clone()].iter().map(|leaf| leaf.0).max().unwrap_or(0));
            prop_assert_eq!(tree.total_in(&run), plain[run].iter().map(|leaf| leaf.1).sum::<u32>());
        }
    }
}
