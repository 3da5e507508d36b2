//! What has to be done before what, without waiting for it.
//!
//! Who is bound may count on somebody who is told to stop: bound before that, they could take their queue
//! beyond a limit. So what is put in line after something goes ahead when all that was begun before it
//! came to its end, and is given back where one of these failed.

use std::collections::{BTreeSet, VecDeque};

/// Things under way, by number, and what waits in line behind them.
#[derive(Debug)]
pub(super) struct Order<T> {
    last: u64,
    under_way: BTreeSet<u64>,
    /// What waits, each with the last number begun before it; the numbers never fall.
    line: VecDeque<(u64, T)>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { last: 0, under_way: BTreeSet::new(), line: VecDeque::new() }
    }
}

impl<T> Order<T> {
    /// Begins something that what is put in line from now on waits for.
    pub(super) fn begin(&mut self) -> u64 {
        self.last += 1;
        self.under_way.insert(self.last);
        self.last
    }

    /// Puts something in line; gives it back where there is nothing to wait for.
    pub(super) fn put(&mut self, next: T) -> Option<T> {
        if self.under_way.is_empty() {
            return Some(next);
        }
        self.line.push_back((self.last, next));
        None
    }

    /// What goes ahead now that this one came to its end.
    pub(super) fn ended(&mut self, number: u64) -> Vec<T> {
        self.under_way.remove(&number);
        let first = self.under_way.first().copied().unwrap_or(u64::MAX);
        let count = self.line.partition_point(|(after, _)| *after < first);
        self.line.drain(..count).map(|(_, next)| next).collect()
    }

    /// What counted on this one, which failed. What was put in line before it began stays there.
    pub(super) fn failed(&mut self, number: u64) -> Vec<T> {
        let count = self.line.partition_point(|(after, _)| *after < number);
        self.line.drain(count..).map(|(_, next)| next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_where_nothing_is_under_way() {
        let mut order = Order::default();
        assert_eq!(order.put('a'), Some('a'));
        let one = order.begin();
        assert_eq!(order.ended(one), Vec::<char>::new());
        assert_eq!(order.put('b'), Some('b'));
    }

    #[test]
    fn each_waits_for_all_that_began_before_it_and_for_nothing_later() {
        let mut order = Order::default();
        let (one, two) = (order.begin(), order.begin());
        assert_eq!(order.put('a'), None);
        let three = order.begin();
        assert_eq!(order.put('b'), None);
        assert_eq!(order.ended(two), vec![]);
        assert_eq!(order.ended(one), vec!['a']);
        assert_eq!(order.ended(three), vec!['b']);
    }

    #[test]
    fn what_counted_on_one_that_failed_is_given_back() {
        let mut order = Order::default();
        let one = order.begin();
        assert_eq!(order.put('a'), None);
        let two = order.begin();
        assert_eq!(order.put('b'), None);
        assert_eq!(order.failed(two), vec!['b']);
        assert_eq!(order.ended(two), vec![]);
        assert_eq!(order.ended(one), vec!['a']);
    }
}
